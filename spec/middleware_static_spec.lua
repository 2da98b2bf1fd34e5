local fd = require "moonpool.fd"
local harness = require "server"
local http = require "moonpool.http"
local http_date = require "moonpool.http_date"
local lfs = require "lfs"
local process = require "native.process"
local static = require "moonpool.middleware.static"
local test = require "moonpool.test"

local BIRTH, NEVER = 784111777, 4102444800
local CSS = "body { margin: 0 }\n"
local DATA = {}
for i = 1, 2000 do DATA[i] = ("%05d"):format(i * 7919 % 100000) end
DATA = table.concat(DATA) -- 10,000 bytes, of which no two places are alike

local open = fd.open

describe("static", function()
  local outside, root

  require "tidy" (before_each, after_each)

  local function write(name, text)
    harness.write_file(root .. "/" .. name, text)
    assert(lfs.touch(root .. "/" .. name, BIRTH))
  end

  before_each(function()
    outside = harness.directory()
    root = outside .. "/root"
    for _, name in ipairs { "", "/docs", "/bare", "/.git", "/.well-known", "/my docs" } do
      assert(lfs.mkdir(root .. name))
    end
    harness.write_file(outside .. "/secret.txt", "secret")
    for name, text in pairs {
      ["index.html"] = "<h1>root</h1>", ["docs/index.html"] = "<h1>docs</h1>",
      ["my docs/index.html"] = "<h1>mine</h1>", ["style.css"] = CSS, ["data.png"] = DATA,
      ["empty.txt"] = "", ["bare/file.txt"] = "bare", [".hidden"] = "hidden",
      [".git/config"] = "git", [".well-known/security.txt"] = "well known",
      ["sp ace.txt"] = "space", ["a+b.txt"] = "plus",
      ["r\u{e9}sum\u{e9}.txt"] = "unicode",
      ["back\\slash"] = "backslash", ["100%.txt"] = "percent", ["...txt"] = "dots",
      ["docs/.htaccess"] = "deny", ["no-extension"] = "bytes",
    } do
      write(name, text)
    end
  end)

  after_each(function()
    collectgarbage "restart"
    fd.open = open
    assert(os.execute("rm -rf " .. outside))
  end)

  -- A client of an app with static files in front of a route for all that is left.
  local function serve(options, prefix)
    options = options or {}
    options.root = options.root or root
    local app = http.app()
    if prefix then app:use(prefix, static(options)) else app:use(static(options)) end
    app:on_error(function(err, _, res) res:status(500):send(err) end)
    app:any("/*path", function(req, res) res:status(418):send("next " .. req.path) end)
    return test.connect(app)
  end

  -- The next answer: .status, .body, .fields by lower-case names, repeated ones joined.
  local function take(client, method)
    local status = tonumber(client:read():match "^HTTP/1%.1 (%d+)")
    local answer = { status = status, fields = {} }
    for line in client:lines() do
      if line == "" then break end
      local name, value = line:match "^([^:]+): (.*)$"
      local before = answer.fields[name:lower()]
      answer.fields[name:lower()] = before and before .. ", " .. value or value
    end
    local length = tonumber(answer.fields["content-length"]) or 0
    answer.body = length > 0 and method ~= "HEAD" and client:read(length) or ""
    return answer
  end

  local function ask(client, method, target, fields)
    local lines = { ("%s %s HTTP/1.1"):format(method, target), "Host: spec" }
    for name, value in pairs(fields or {}) do
      lines[#lines + 1] = name .. ": " .. value
    end
    client:write(table.concat(lines, "\r\n"), "\r\n\r\n")
    return take(client, method)
  end

  local function get(client, target, fields)
    return ask(client, "GET", target, fields)
  end

  -- The outcome of each target with the status of each.
  local function check(client, cases)
    for target, expected in pairs(cases) do
      local answer = get(client, target)
      assert.same(expected, { answer.status, answer.body }, target)
    end
  end

  local function goes_on(path) return { 418, "next " .. path } end

  describe("a file", function()
    it("is sent with what it is and what validates it", function()
      local client <close> = serve()
      local answer = get(client, "/data.png")
      local fields = answer.fields
      assert.equal(200, answer.status)
      assert.is_true(answer.body == DATA)
      assert.matches('^"%x+%-2710%-%x+"$', fields.etag)
      fields.etag, fields.date = nil, nil
      assert.same({ ["content-type"] = "image/png", ["content-length"] = "10000",
        ["last-modified"] = "Sun, 06 Nov 1994 08:49:37 GMT", ["accept-ranges"] = "bytes",
        ["x-content-type-options"] = "nosniff", ["cache-control"] = "max-age=0" }, fields)
    end)

    it("is sent to HEAD as to GET, without its content (RFC 9110 9.3.2)", function()
      local client <close> = serve()
      for _, target in ipairs { "/data.png", "/style.css", "/empty.txt", "/docs/" } do
        local whole, head = get(client, target), ask(client, "HEAD", target)
        whole.fields.date, head.fields.date = nil, nil
        assert.same({ 200, whole.fields }, { head.status, head.fields }, target)
      end
    end)

    it("may be empty", function()
      local client <close> = serve()
      local answer = get(client, "/empty.txt")
      assert.same({ 200, "", "0", "text/plain; charset=utf-8" }, { answer.status,
        answer.body, answer.fields["content-length"], answer.fields["content-type"] })
    end)

    it("has the type of its name, and text its charset (RFC 9110 8.3)", function()
      local client <close> = serve { types = { txt = "text/x-own" } }
      for target, expected in pairs {
        ["/style.css"] = "text/css; charset=utf-8", ["/a+b.txt"] = "text/x-own",
        ["/docs/"] = "text/html; charset=utf-8", ["/no-extension"] =
        "application/octet-stream",
      } do
        assert.equal(expected, get(client, target).fields["content-type"], target)
      end
    end)

    it("is found by its decoded name", function()
      local client <close> = serve()
      check(client, {
        ["/sp%20ace.txt"] = { 200, "space" },
        ["/r%C3%A9sum%c3%a9.txt"] = { 200, "unicode" },
        ["/a+b.txt"] = { 200, "plus" }, ["/a%2bb.txt"] = { 200, "plus" },
        ["/100%25.txt"] = { 200, "percent" }, ["/%73tyle.css"] = { 200, CSS },
        ["/style.css?v=2&x=/../y"] = { 200, CSS }, ["/style.css?%2F"] = { 200, CSS },
        ["/docs/../style.css"] = { 200, CSS }, ["/./style.css"] = { 200, CSS },
        ["http://other/style.css"] = { 200, CSS },
      })
    end)

    it("that is replaced has another entity-tag, whatever its time and size", function()
      local client <close> = serve()
      local before = get(client, "/style.css").fields.etag
      assert.equal(before, get(client, "/style.css").fields.etag)
      write("new.css", (CSS:gsub("0", "1")))
      assert(os.rename(root .. "/new.css", root .. "/style.css"))
      assert.equal(#CSS, lfs.attributes(root .. "/style.css", "size"))
      local after = get(client, "/style.css").fields.etag
      assert.not_equal(before, after)
      assert(os.execute("touch -d @784111777.000000001 " .. root .. "/style.css"))
      assert.not_equal(after, get(client, "/style.css").fields.etag)
    end)

    it("of the future was modified now (8.8.2.1)", function()
      local client <close> = serve()
      assert(lfs.touch(root .. "/style.css", NEVER))
      local fields = get(client, "/style.css").fields
      local modified, date = fields["last-modified"], fields.date
      assert.is_true(http_date.parse(modified) <= http_date.parse(date))
      assert.equal(200, get(client, "/style.css", { ["If-Modified-Since"] =
        "Sun, 06 Nov 1994 08:49:37 GMT" }).status)
    end)
  end)

  describe("what is no file", function()
    it("goes on to what comes next", function()
      local client <close> = serve()
      check(client, {
        ["/missing"] = goes_on "/missing", ["/style.css/"] = goes_on "/style.css/",
        ["/style.css/x"] = goes_on "/style.css/x", ["/docs/missing"] =
        goes_on "/docs/missing", ["/style.cs"] = goes_on "/style.cs",
        ["/STYLE.CSS"] = goes_on "/STYLE.CSS", ["/" .. ("x"):rep(300)] =
        goes_on("/" .. ("x"):rep(300)),
      })
    end)

    it("is answered with 404 if nothing is to come next", function()
      local client <close> = serve { fallthrough = false }
      check(client, { ["/missing"] = { 404, "Not Found\n" },
        ["/.hidden"] = { 404, "Not Found\n" }, ["/style.css"] = { 200, CSS } })
      assert.equal(418, ask(client, "POST", "/missing").status)
    end)

    it("goes on by other methods, even if it is one", function()
      local client <close> = serve()
      for _, method in ipairs { "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get" } do
        assert.equal(418, ask(client, method, "/style.css").status, method)
      end
    end)

    it("that may not be read is forbidden, and other trouble is no 404", function()
      for code, expected in pairs {
        EACCES = { 403, "Forbidden\n" }, EMFILE = { 500, "style.css: told by the spec" },
        ENFILE = { 500, "style.css: told by the spec" },
        ENOMEM = { 500, "style.css: told by the spec" },
        EIO = { 500, "style.css: told by the spec" },
      } do
        local client <close> = serve()
        fd.open = function() return nil, "told by the spec", code end
        local answer = get(client, "/style.css")
        answer.body = answer.body:gsub("^%S+:%d+: ", "")
        assert.same(expected, { answer.status, answer.body }, code)
        fd.open = open
        assert.equal(200, get(client, "/style.css").status)
      end
    end)
  end)

  describe("a name", function()
    it("leads nowhere out of the root", function()
      local client <close> = serve()
      for _, target in ipairs {
        "/..", "/../secret.txt", "/docs/../../secret.txt", "/%2e%2e/secret.txt",
        "/%2E%2E/secret.txt", "/.%2e/secret.txt", "/docs/%2e%2e/%2e%2e/secret.txt",
        "/%2e%2e%2fsecret.txt", "/docs/..%2f..%2fsecret.txt", "/style.css%00",
        "/style.css%00.png", "/%00", "http://spec/../secret.txt",
      } do
        assert.equal(400, get(client, target).status, target)
      end
      for _, target in ipairs {
        "//" .. outside .. "/secret.txt", "//etc/passwd", "/" .. outside .. "/secret.txt",
        "/%2fetc/passwd", "/..%5csecret.txt", "/..\\secret.txt",
        "/%5c..%5c..%5csecret.txt", "/%252e%252e/secret.txt",
        "/%c0%ae%c0%ae/secret.txt", "/....//secret.txt", "/..;/secret.txt",
        "/docs/..;/style.css",
      } do
        assert.equal(418, get(client, target).status, target)
      end
    end)

    it("has no boundary but a slash that is one (RFC 3986 2.2)", function()
      local client <close> = serve()
      for _, target in ipairs {
        "/docs%2findex.html", "/docs%2Findex.html", "/docs%2F", "/%2Fstyle.css",
        "/back%5cslash", "/back\\slash", "//style.css", "/docs//index.html", "/docs//",
        "//", "//docs/index.html", "/docs/.//index.html",
      } do
        assert.equal(418, get(client, target).status, target)
      end
    end)

    it("does not begin with a dot", function()
      local client <close> = serve()
      for _, target in ipairs {
        "/.hidden", "/%2ehidden", "/.git/config", "/.git/", "/.git", "/docs/.htaccess",
        "/.well-known/security.txt", "/...txt", "/...", "/.missing",
      } do
        assert.equal(418, get(client, target).status, target)
      end
    end)

    it("may begin with .well-known in the root, by option (RFC 8615)", function()
      local client <close> = serve { well_known = true }
      assert(lfs.mkdir(root .. "/docs/.well-known"))
      write("docs/.well-known/x", "x")
      write(".well-known/.hidden", "hidden")
      check(client, { ["/.well-known/security.txt"] = { 200, "well known" },
        ["/%2Ewell-known/security.txt"] = { 200, "well known" } })
      for _, target in ipairs { "/.well-known", "/.well-known/", "/.well-knownx",
        "/.well-known/.hidden", "/.well-known//security.txt", "/.hidden", "/.git/config",
        "/docs/.well-known/x", "/.well-known/.well-known/x", "/docs/../.hidden" } do
        assert.equal(418, get(client, target).status, target)
      end
    end)

    it("may be that of a symlink which stays in the root", function()
      local client <close> = serve()
      for name, target in pairs {
        inside = "style.css", up = "../secret.txt", far = "/etc/passwd", loop = "loop",
        roundabout = root .. "/style.css", dangling = "nowhere", parent = "..",
        directory = "docs", null = "/dev/null",
      } do
        assert(lfs.link(target, root .. "/" .. name, true))
      end
      assert(lfs.link("../style.css", root .. "/docs/back", true))
      check(client, { ["/inside"] = { 200, CSS }, ["/docs/back"] = { 200, CSS },
        ["/directory/"] = { 200, "<h1>docs</h1>" } })
      for _, target in ipairs { "/up", "/far", "/loop", "/roundabout", "/dangling",
        "/parent/secret.txt", "/parent/", "/parent", "/null" } do
        assert.equal(418, get(client, target).status, target)
      end
    end)

    it("of a fifo is none, and nobody waits for its writer", function()
      local client <close> = serve()
      assert(os.execute("mkfifo " .. root .. "/fifo " .. root .. "/style.css.gz "
        .. root .. "/bare/index.html"))
      check(client, { ["/fifo"] = goes_on "/fifo", ["/bare/"] = goes_on "/bare/",
        ["/bare"] = goes_on "/bare" })
      local answer = get(client, "/style.css", { ["Accept-Encoding"] = "gzip" })
      assert.same({ 200, CSS }, { answer.status, answer.body })
    end)
  end)

  describe("a root", function()
    it("may be replaced while it is served", function()
      assert(lfs.mkdir(outside .. "/release"))
      harness.write_file(outside .. "/release/style.css", "new")
      assert(lfs.link("root", outside .. "/current", true))
      local client <close> = serve { root = outside .. "/current" }
      check(client, { ["/style.css"] = { 200, CSS } })
      assert(lfs.link("release", outside .. "/next", true))
      assert(os.rename(outside .. "/next", outside .. "/current"))
      check(client, { ["/style.css"] = { 200, "new" } })
      assert(os.remove(outside .. "/current"))
      check(client, { ["/style.css"] = goes_on "/style.css" })
    end)

    it("is below a prefix", function()
      local client <close> = serve({}, "/as sets/v1")
      check(client, {
        ["/as%20sets/v1/style.css"] = { 200, CSS },
        ["/as%20sets/v%31/sp%20ace.txt"] = { 200, "space" },
        ["/as%20sets/v1/"] = { 200, "<h1>root</h1>" },
        ["/style.css"] = goes_on "/style.css",
        ["/as%20sets/v1x/style.css"] = goes_on "/as sets/v1x/style.css",
        ["/as%20sets/v1/../style.css"] = goes_on "/as sets/style.css",
      })
      assert.equal("./v1/", get(client, "/as%20sets/v1").fields.location)
      assert.equal("./docs/", get(client, "/as%20sets/v1/docs").fields.location)
    end)

    it("is below the prefixes of mounted apps", function()
      local inner = http.app():use("/assets", static(root)):get("/", function(_, res)
        res:send "inner"
      end)
      local client <close> = test.connect(http.app():mount("/site", inner))
      check(client, { ["/site/assets/style.css"] = { 200, CSS },
        ["/site/"] = { 200, "inner" }, ["/assets/style.css"] = { 404, "Not Found\n" } })
    end)
  end)

  describe("a directory", function()
    it("is its index", function()
      local client <close> = serve()
      check(client, { ["/"] = { 200, "<h1>root</h1>" },
        ["/docs/"] = { 200, "<h1>docs</h1>" }, ["/docs/?x"] = { 200, "<h1>docs</h1>" },
        ["/docs/."] = { 200, "<h1>docs</h1>" },
        ["/my%20docs/"] = { 200, "<h1>mine</h1>" }, ["/bare/"] = goes_on "/bare/" })
    end)

    it("is redirected to where links in its index are right (RFC 9110 15.4.2)", function()
      local client <close> = serve()
      for target, location in pairs {
        ["/docs"] = "./docs/", ["/docs?"] = "./docs/?",
        ["/docs?a=/b&c"] = "./docs/?a=/b&c",
        ["/my%20docs"] = "./my%20docs/", ["/%64ocs"] = "./%64ocs/",
        ["/docs/../docs"] = "./docs/", ["http://other/docs?x"] = "./docs/?x",
      } do
        local answer = get(client, target)
        assert.same({ 301, location, "" },
          { answer.status, answer.fields.location, answer.body }, target)
      end
      assert.equal(301, ask(client, "HEAD", "/docs").status)
    end)

    it("is never redirected to another host", function()
      local client <close> = serve()
      assert(lfs.mkdir(root .. "/evil.com"))
      write("evil.com/index.html", "evil")
      for _, target in ipairs { "//evil.com", "///evil.com", "/\\evil.com",
        "//evil.com/..", "/%2fevil.com", "/%5cevil.com", "//evil.com/%2e%2e",
        "//docs" } do
        assert.is_nil(get(client, target).fields.location, target)
      end
      assert.equal("./evil.com/", get(client, "/evil.com").fields.location)
    end)

    it("without an index is none", function()
      local client <close> = serve()
      check(client, { ["/bare"] = goes_on "/bare" })
      assert(lfs.mkdir(root .. "/bare/index.html"))
      check(client, { ["/bare"] = goes_on "/bare", ["/bare/"] = goes_on "/bare/" })
    end)

    it("may have an index of another name, or none at all", function()
      local other <close> = serve { index = "style.css" }
      check(other, { ["/"] = { 200, CSS }, ["/docs"] = goes_on "/docs" })
      local none <close> = serve { index = false }
      check(none, { ["/"] = goes_on "/", ["/docs"] = goes_on "/docs",
        ["/docs/"] = goes_on "/docs/", ["/docs/index.html"] = { 200, "<h1>docs</h1>" } })
    end)
  end)

  describe("a condition", function()
    local AT, BEFORE = "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:36 GMT"

    it("is answered as RFC 9110 13.2.2 says", function()
      local client <close> = serve()
      local etag = get(client, "/style.css").fields.etag
      for i, case in ipairs {
        { 304, { ["If-None-Match"] = etag } }, { 304, { ["If-None-Match"] = "*" } },
        { 304, { ["If-None-Match"] = "W/" .. etag } },
        { 304, { ["If-None-Match"] = '"x", ' .. etag } },
        { 200, { ["If-None-Match"] = '"x"' } },
        { 200, { ["If-None-Match"] = '"x"', ["If-Modified-Since"] = AT } },
        { 304, { ["If-Modified-Since"] = AT } },
        { 200, { ["If-Modified-Since"] = BEFORE } },
        { 304, { ["If-Modified-Since"] = "Sunday, 06-Nov-94 08:49:37 GMT" } },
        { 304, { ["If-Modified-Since"] = "Sun Nov  6 08:49:37 1994" } },
        { 200, { ["If-Modified-Since"] = "not a date" } },
        { 200, { ["If-Match"] = etag } }, { 412, { ["If-Match"] = '"x"' } },
        { 412, { ["If-Match"] = "W/" .. etag } },
        { 412, { ["If-Match"] = '"x"', ["If-None-Match"] = etag } },
        { 200, { ["If-Unmodified-Since"] = AT } },
        { 412, { ["If-Unmodified-Since"] = BEFORE } },
        { 200, { ["If-Match"] = etag, ["If-Unmodified-Since"] = BEFORE } },
        { 304, { ["If-None-Match"] = etag, Range = "bytes=0-1" } }, -- 14.2
        { 412, { ["If-Match"] = '"x"', Range = "bytes=0-1" } },
      } do
        for _, method in ipairs { "GET", "HEAD" } do
          assert.equal(case[1], ask(client, method, "/style.css", case[2]).status,
            method .. " of case " .. i)
        end
      end
    end)

    it("that is met by what the client has gets what updates that (15.4.5)", function()
      local client <close> = serve { max_age = 60, headers = { ["X-Own"] = "own" } }
      local whole = get(client, "/style.css").fields
      local answer = get(client, "/style.css", { ["If-None-Match"] = whole.etag })
      answer.fields.date = nil
      assert.same({ etag = whole.etag, vary = "Accept-Encoding", ["x-own"] = "own",
        ["last-modified"] = whole["last-modified"], ["cache-control"] = "max-age=60" },
        answer.fields)
      assert.equal("", answer.body)
    end)

    it("that fails gets no content, and the connection goes on (15.5.13)", function()
      local client <close> = serve()
      local answer = get(client, "/style.css", { ["If-Match"] = '"x"' })
      assert.same({ 412, "Precondition Failed\n" }, { answer.status, answer.body })
      assert.is_nil(answer.fields.etag)
      check(client, { ["/style.css"] = { 200, CSS } })
    end)

    it("is ignored where there is nothing (13.2.1)", function()
      local client <close> = serve()
      for target, status in pairs { ["/missing"] = 418, ["/docs"] = 301 } do
        assert.equal(status, get(client, target, { ["If-None-Match"] = "*" }).status)
        assert.equal(status, get(client, target, { ["If-Match"] = '"x"' }).status)
      end
    end)
  end)

  describe("a range", function()
    local function range(client, text, fields)
      fields = fields or {}
      fields.Range = text
      return get(client, "/data.png", fields)
    end

    it("is sent alone (RFC 9110 15.3.7.1)", function()
      local client <close> = serve()
      local whole = get(client, "/data.png").fields
      for text, part in pairs {
        ["bytes=0-0"] = { 0, 0 }, ["bytes=100-199"] = { 100, 199 },
        ["bytes=9000-"] = { 9000, 9999 }, ["bytes=-10"] = { 9990, 9999 },
        ["bytes=9990-99999"] = { 9990, 9999 }, ["bytes=0-"] = { 0, 9999 },
        ["bytes=-99999"] = { 0, 9999 }, ["Bytes=5-5"] = { 5, 5 },
        ["bytes=0-9,5-19"] = { 0, 19 }, ["bytes=20000-,3-4"] = { 3, 4 },
      } do
        local answer = range(client, text)
        assert.equal(206, answer.status, text)
        assert.equal(DATA:sub(part[1] + 1, part[2] + 1), answer.body, text)
        assert.equal(("bytes %d-%d/10000"):format(part[1], part[2]),
          answer.fields["content-range"])
        answer.fields.date, answer.fields["content-range"] = nil, nil
        local expected = {}
        for name, value in pairs(whole) do expected[name] = value end
        expected.date, expected["content-length"] = nil, tostring(part[2] - part[1] + 1)
        assert.same(expected, answer.fields, text)
      end
    end)

    it("that is not there is answered with the length (15.5.17)", function()
      local client <close> = serve()
      for _, text in ipairs { "bytes=10000-", "bytes=-0", "bytes=10000-10001,20000-" } do
        local answer = range(client, text)
        assert.same({ 416, "bytes */10000", "Range Not Satisfiable\n" },
          { answer.status, answer.fields["content-range"], answer.body }, text)
        assert.is_nil(answer.fields.etag)
        assert.is_nil(answer.fields["accept-ranges"])
      end
    end)

    it("that is none, or of other units, or too many, is ignored (14.2)", function()
      local client <close> = serve()
      for _, text in ipairs { "bytes=5-4", "bytes=x", "lines=1-2", "bytes", "bytes=0-1,x",
        "bytes=" .. ("0-0,"):rep(65) } do
        local answer = range(client, text)
        assert.equal(200, answer.status, text)
        assert.is_nil(answer.fields["content-range"])
        assert.is_true(answer.body == DATA)
      end
      local empty = get(client, "/empty.txt", { Range = "bytes=0-9" })
      assert.same({ 200, "" }, { empty.status, empty.body })
    end)

    it("is for GET alone (14.2)", function()
      local client <close> = serve()
      local answer = ask(client, "HEAD", "/data.png", { Range = "bytes=0-9" })
      assert.same({ 200, "10000" }, { answer.status, answer.fields["content-length"] })
      answer = ask(client, "HEAD", "/data.png", { Range = "bytes=20000-" })
      assert.equal(200, answer.status)
    end)

    it("may depend on what the client has of it (13.1.5)", function()
      local client <close> = serve()
      local whole = get(client, "/data.png").fields
      for text, status in pairs {
        [whole.etag] = 206, [whole["last-modified"]] = 206, ["W/" .. whole.etag] = 200,
        ['"x"'] = 200, ["Sun, 06 Nov 1994 08:49:36 GMT"] = 200, ["*"] = 200,
        ["Sun Nov  6 08:49:37 1994"] = 206, ["Mon, 07 Nov 1994 08:49:37 GMT"] = 200,
      } do
        local answer = range(client, "bytes=0-9", { ["If-Range"] = text })
        assert.equal(status, answer.status, text)
      end
      local answer = range(client, "bytes=20000-", { ["If-Range"] = '"x"' })
      assert.same({ 200, "10000" }, { answer.status, answer.fields["content-length"] })
    end)
  end)

  describe("several ranges", function()
    -- What a multipart/byteranges is made of (14.6): { type, range, bytes } each.
    local function parts_of(answer)
      local boundary = answer.fields["content-type"]:match
        "^multipart/byteranges; boundary=(%x+)$"
      local list, at = {}, 1
      while true do
        local mark = (at > 1 and "\r\n--" or "--") .. boundary
        assert.equal(mark, answer.body:sub(at, at + #mark - 1))
        at = at + #mark
        if answer.body:sub(at) == "--\r\n" then return list end
        local media, range, first, last, stop = answer.body:match(
          "^\r\nContent%-Type: (.-)\r\n"
          .. "Content%-Range: (bytes (%d+)%-(%d+)/%d+)\r\n\r\n()", at)
        at = stop + last - first + 1
        list[#list + 1] = { media, range, answer.body:sub(stop, at - 1) }
      end
    end

    it("are sent as parts, in the order of the request (15.3.7.2)", function()
      local client <close> = serve()
      for _ = 1, 2 do
        local answer = get(client, "/data.png",
          { Range = "bytes=5000-5099,0-9,20000-,-1" })
        assert.equal(206, answer.status)
        assert.is_nil(answer.fields["content-range"])
        assert.same({
          { "image/png", "bytes 5000-5099/10000", DATA:sub(5001, 5100) },
          { "image/png", "bytes 0-9/10000", DATA:sub(1, 10) },
          { "image/png", "bytes 9999-9999/10000", DATA:sub(-1) },
        }, parts_of(answer))
      end
    end)

    it("are bounded in number, and add up to no more than there is", function()
      local client <close> = serve()
      local list = {}
      for i = 0, 63 do list[#list + 1] = ("%d-%d"):format(i * 150, i * 150) end
      local function ask_all() return "bytes=" .. table.concat(list, ",") end
      local parts = parts_of(get(client, "/data.png", { Range = ask_all() }))
      assert.equal(64, #parts)
      for i, part in ipairs(parts) do
        assert.equal(DATA:sub(i * 150 - 149, i * 150 - 149), part[3])
      end
      list[65] = "9999-9999"
      local answer = get(client, "/data.png", { Range = ask_all() })
      assert.same({ 200, "10000" }, { answer.status, answer.fields["content-length"] })
    end)
  end)

  describe("a coded sibling", function()
    before_each(function()
      write("style.css.gz", "gzip of it")
      write("style.css.br", "br of it")
      write("data.png.gz", "gzip of it")
      write("docs/index.html.gz", "gzip of docs")
    end)

    local function accepting(client, text, target, fields)
      fields = fields or {}
      fields["Accept-Encoding"] = text
      return get(client, target or "/style.css", fields)
    end

    it("is sent to whom it is for (RFC 9110 12.5.3)", function()
      local client <close> = serve()
      for text, expected in pairs {
        ["gzip, deflate, br, zstd"] = "br", ["gzip"] = "gzip",
        ["gzip, br;q=0.9"] = "gzip",
        ["br;q=0, gzip"] = "gzip", ["*"] = "br", ["*;q=0"] = "", ["identity"] = "",
        ["gzip;q=0"] = "", ["gzip;q=0.5, identity"] = "", ["zstd"] = "", [""] = "",
        ["identity;q=0"] = "",
      } do
        local answer = accepting(client, text)
        assert.equal(200, answer.status, text)
        assert.equal(expected, answer.fields["content-encoding"] or "", text)
        assert.equal(expected == "" and CSS or expected .. " of it", answer.body, text)
        assert.equal("text/css; charset=utf-8", answer.fields["content-type"])
        assert.equal("Accept-Encoding", answer.fields.vary)
      end
    end)

    it("of an index is sent too", function()
      local client <close> = serve()
      local answer = accepting(client, "gzip", "/docs/")
      assert.same({ "gzip of docs", "text/html; charset=utf-8" },
        { answer.body, answer.fields["content-type"] })
    end)

    it("is a representation of its own (8.8.3.3)", function()
      local client <close> = serve()
      local etags = {}
      for _, coding in ipairs { "gzip", "br", "identity" } do
        etags[coding] = accepting(client, coding).fields.etag
      end
      for coding, etag in pairs(etags) do
        assert.equal(coding ~= "identity" and coding or nil, etag:match "%-(%l+)\"$")
        for other in pairs(etags) do
          local answer = accepting(client, other, nil, { ["If-None-Match"] = etag })
          assert.equal(other == coding and 304 or 200, answer.status)
          assert.equal("Accept-Encoding", answer.fields.vary)
          answer = accepting(client, other, nil,
            { ["If-Range"] = etag, Range = "bytes=0-1" })
          assert.equal(other == coding and 206 or 200, answer.status)
        end
      end
    end)

    it("has ranges of its own (14.2)", function()
      local client <close> = serve()
      local answer = accepting(client, "gzip", nil, { Range = "bytes=-2" })
      assert.same({ 206, "it", "bytes 8-9/10", "gzip" }, { answer.status, answer.body,
        answer.fields["content-range"], answer.fields["content-encoding"] })
      answer = accepting(client, "gzip", nil, { Range = "bytes=10-" })
      assert.same({ 416, "bytes */10" },
        { answer.status, answer.fields["content-range"] })
      assert.is_nil(answer.fields["content-encoding"])
    end)

    it("is itself when it is asked for by its own name", function()
      local client <close> = serve()
      local answer = accepting(client, "gzip", "/style.css.gz")
      assert.same({ "gzip of it", "application/gzip" },
        { answer.body, answer.fields["content-type"] })
      assert.is_nil(answer.fields["content-encoding"])
      assert.is_nil(answer.fields.vary)
    end)

    it("is none that is older than the file, or is no file", function()
      local client <close> = serve()
      assert(lfs.touch(root .. "/style.css", BIRTH + 1))
      assert.equal(CSS, accepting(client, "br, gzip").body)
      assert(lfs.touch(root .. "/style.css.gz", BIRTH + 1))
      assert.equal("gzip of it", accepting(client, "br, gzip").body)
      assert(os.remove(root .. "/style.css.gz"))
      assert(lfs.mkdir(root .. "/style.css.gz"))
      assert.equal(CSS, accepting(client, "gzip").body)
      assert(os.remove(root .. "/style.css.gz"))
      assert(lfs.link("../secret.txt", root .. "/style.css.gz", true))
      assert.equal(CSS, accepting(client, "gzip").body)
    end)

    it("without the file itself is none", function()
      local client <close> = serve()
      assert(os.remove(root .. "/style.css"))
      assert.equal(418, accepting(client, "gzip").status)
    end)

    it("is looked for only where it can be worth it", function()
      local client <close> = serve()
      local answer = accepting(client, "gzip", "/data.png")
      assert.is_true(answer.body == DATA)
      assert.is_nil(answer.fields.vary)
      local without <close> = serve { precompressed = false }
      answer = accepting(without, "gzip")
      assert.same({ CSS }, { answer.body, answer.fields.vary })
    end)
  end)

  it("keeps no descriptor, whatever it answers", function()
    write("style.css.gz", "gzip of it")
    write("docs/index.html.br", "br of it")
    write("docs/index.html.gz", "older")
    assert(lfs.touch(root .. "/docs/index.html.gz", BIRTH - 1))
    assert(os.execute("mkfifo " .. root .. "/fifo"))
    local client <close> = serve()
    local etag = get(client, "/data.png").fields.etag
    collectgarbage()
    collectgarbage "stop"
    local before = harness.descriptors(process.pid())
    for _, case in ipairs {
      { 200, "/data.png" }, { 200, "/style.css", { ["Accept-Encoding"] = "gzip" } },
      { 200, "/docs/", { ["Accept-Encoding"] = "br, gzip" } },
      { 200, "/docs/", { ["Accept-Encoding"] = "gzip" } }, { 301, "/docs" },
      { 418, "/bare" }, { 418, "/bare/" }, { 418, "/fifo" }, { 418, "/missing" },
      { 304, "/data.png", { ["If-None-Match"] = etag } },
      { 412, "/data.png", { ["If-Match"] = '"x"' } },
      { 206, "/data.png", { Range = "bytes=0-1" } },
      { 206, "/data.png", { Range = "bytes=0-1,9000-" } },
      { 416, "/data.png", { Range = "bytes=10000-" } },
    } do
      assert.equal(case[1], get(client, case[2], case[3]).status, case[2])
      assert.equal(before, harness.descriptors(process.pid()), case[2])
    end
  end)

  describe("an option", function()
    it("says how long an answer is fresh (RFC 9111 5.2.2, RFC 8246)", function()
      for _, case in ipairs {
        { "max-age=0", {} }, { "max-age=3600", { max_age = 3600 } },
        { "max-age=60, immutable", { max_age = 60, immutable = true } },
        { "max-age=31536000, immutable", { immutable = true } },
        { "none", { max_age = false } },
        { "none", { max_age = false, immutable = true } },
      } do
        local client <close> = serve(case[2])
        assert.equal(case[1], get(client, "/style.css").fields["cache-control"] or "none")
      end
    end)

    it("adds fields to what is sent, in place of others", function()
      local client <close> = serve { headers = { ["X-Own"] = "own",
        ["Cache-Control"] = "public, max-age=9" } }
      local fields = get(client, "/style.css").fields
      assert.same({ "own", "public, max-age=9" },
        { fields["x-own"], fields["cache-control"] })
      assert.equal("own",
        get(client, "/data.png", { Range = "bytes=0-1" }).fields["x-own"])
      for target, status in pairs { ["/missing"] = 418, ["/docs"] = 301 } do
        local answer = get(client, target)
        assert.same({ status }, { answer.status, answer.fields["x-own"] })
      end
      local answer = get(client, "/data.png", { Range = "bytes=20000-" })
      assert.same({ 416 }, { answer.status, answer.fields["x-own"] })
    end)

    it("is a function that adds them by the name", function()
      local client <close> = serve({ headers = function(res, name)
        res:header("X-Name", name)
      end }, "/a")
      assert.equal("style.css", get(client, "/a/style.css").fields["x-name"])
      assert.equal("docs/index.html", get(client, "/a/docs/").fields["x-name"])
    end)

    it("is checked", function()
      for message, options in pairs {
        ['static: root "/nowhere": No such file or directory'] = "/nowhere",
        ['static: root nil: No such file or directory'] = {},
        ['static has no option "maxage"'] = { root = root, maxage = 1 },
        ["static has no option 1"] = { root },
        ["static: max_age must be a number"] = { root = root, max_age = "1h" },
        ["static: max_age is negative"] = { root = root, max_age = -1 },
        ["static: valid is negative"] = { root = root, valid = -0.1 },
        ["static: cache_size is negative"] = { root = root, cache_size = -1 },
        ["static: valid must be a number"] = { root = root, valid = true },
        ["static: index must be a string"] = { root = root, index = true },
        ["static: types must be a table"] = { root = root, types = "text/plain" },
        ["static: headers must be a table"] = { root = root, headers = 1 },
        ["static: fallthrough must be a boolean"] = { root = root, fallthrough = 0 },
      } do
        local ok, why = pcall(static, options)
        assert.is_false(ok)
        assert.equal(message, (why:gsub("^%S+:%d+: ", "")))
      end
      assert.is_false(pcall(static, root .. "/style.css"))
    end)
  end)

  describe("what is kept", function()
    local BIG = DATA:rep(7) -- too much to be held in memory
    local opened

    before_each(function()
      opened = 0
      write("big.png", BIG)
      fd.open = function(directory, name)
        if name ~= "." then opened = opened + 1 end
        return open(directory, name)
      end
    end)

    local function descriptors() return harness.descriptors(process.pid()) end

    local function sends(client, target, body, fields)
      local answer = get(client, target, fields)
      assert.equal(200, answer.status, target)
      assert.is_true(answer.body == body, target)
      return answer
    end

    -- How many files are opened meanwhile.
    local function opens(count, fn, ...)
      opened = 0
      fn(...)
      assert.equal(count, opened)
    end

    it("is sent again without being opened, in whatever way", function()
      local client <close> = serve()
      local other <close> = serve()
      for _, case in ipairs { { "/data.png", DATA }, { "/big.png", BIG },
        { "/empty.txt", "" }, { "/docs/", "<h1>docs</h1>" } } do
        local target, body = case[1], case[2]
        local first
        opens(1, function() first = sends(client, target, body) end)
        opens(0, function()
          assert.same(first, sends(client, target, body))
          sends(client, target .. "?v=2", body)
          assert.equal(#body, tonumber(ask(client, "HEAD", target).fields
            ["content-length"]))
          assert.equal(304, get(client, target,
            { ["If-None-Match"] = first.fields.etag }).status)
          assert.equal(412, get(client, target, { ["If-Match"] = '"x"' }).status)
          local part = get(client, target, { Range = "bytes=1-3" })
          assert.equal(#body > 0 and body:sub(2, 4) or "", part.body)
        end)
        opens(1, sends, other, target, body)
      end
    end)

    it("is looked at before it is sent: a client sees what there is now", function()
      local client <close> = serve()
      for _, case in ipairs { { "style.css", CSS }, { "big.png", BIG } } do
        local name, body = case[1], case[2]
        local path = root .. "/" .. name
        sends(client, "/" .. name, body)
        write("new", "replaced")
        assert(os.rename(root .. "/new", path))
        sends(client, "/" .. name, "replaced")
        write(name, body:sub(1, -2) .. "!") -- in place, as long as before
        sends(client, "/" .. name, body:sub(1, -2) .. "!")
        assert(os.execute("truncate -s 3 " .. path))
        sends(client, "/" .. name, body:sub(1, 3))
        assert(os.execute("printf more >> " .. path))
        sends(client, "/" .. name, body:sub(1, 3) .. "more")
        local etag = get(client, "/" .. name).fields.etag
        assert(lfs.touch(path, BIRTH + 1))
        local answer = sends(client, "/" .. name, body:sub(1, 3) .. "more",
          { ["If-None-Match"] = etag })
        assert.equal("Sun, 06 Nov 1994 08:49:38 GMT", answer.fields["last-modified"])
        assert(os.remove(path))
        check(client, { ["/" .. name] = goes_on("/" .. name) })
        write(name, body)
        sends(client, "/" .. name, body)
        assert(os.remove(path))
        assert(lfs.mkdir(path))
        check(client, { ["/" .. name] = goes_on("/" .. name) })
      end
    end)

    it("goes with its directory", function()
      local client <close> = serve()
      sends(client, "/docs/index.html", "<h1>docs</h1>")
      assert(os.rename(root .. "/docs", root .. "/moved"))
      check(client, { ["/docs/index.html"] = goes_on "/docs/index.html",
        ["/moved/index.html"] = { 200, "<h1>docs</h1>" } })
      assert(os.rename(root .. "/moved", outside .. "/moved"))
      check(client, { ["/moved/index.html"] = goes_on "/moved/index.html" })
    end)

    it("is opened anew, and perhaps refused, when it is for others to read", function()
      local client <close> = serve()
      sends(client, "/style.css", CSS)
      assert(os.execute("chmod 000 " .. root .. "/style.css"))
      fd.open = function() return nil, "told by the spec", "EACCES" end
      check(client, { ["/style.css"] = { 403, "Forbidden\n" } })
    end)

    it("is opened anew after a second, whatever was seen of it", function()
      local client <close> = serve()
      opens(1, sends, client, "/docs/index.html", "<h1>docs</h1>")
      assert(os.rename(root .. "/docs", outside .. "/docs"))
      assert(lfs.link("../docs", root .. "/docs", true)) -- leads out of the root
      test.advance(0.9)
      opens(0, sends, client, "/docs/index.html", "<h1>docs</h1>")
      test.advance(0.1)
      check(client, { ["/docs/index.html"] = goes_on "/docs/index.html" })
    end)

    it("is not looked at for as long as is said", function()
      local client <close> = serve { valid = 5 }
      sends(client, "/style.css", CSS)
      test.advance(3)
      sends(client, "/data.png", DATA)
      write("style.css", "new")
      assert(os.remove(root .. "/data.png"))
      test.advance(1.9)
      opens(0, function()
        sends(client, "/style.css", CSS)
        sends(client, "/data.png", DATA)
      end)
      test.advance(0.1)
      check(client, { ["/style.css"] = { 200, "new" },
        ["/data.png"] = goes_on "/data.png" })
    end)

    it("is not looked at, but at what the client says of it", function()
      local client <close> = serve { valid = 5, headers = { ["X-Own"] = "yes" } }
      local function answer_to(fields, method)
        local answer = ask(client, method or "GET", "/style.css", fields)
        assert.equal("yes", answer.fields["x-own"])
        return { answer.status, answer.body }
      end
      write("style.css.gz", "zipped")
      local etag = sends(client, "/style.css", CSS).fields.etag
      opens(0, function()
        assert.same({ 304, "" }, answer_to { ["If-None-Match"] = etag })
        assert.same({ 206, CSS:sub(1, 4) }, answer_to { Range = "bytes=0-3" })
        assert.same({ 200, "" }, answer_to({}, "HEAD"))
        check(client, { ["/style.css?v=1"] = { 200, CSS },
          ["/x/../style%2Ecss"] = { 200, CSS },
          ["/%2Fstyle.css"] = goes_on "//style.css" })
      end)
      assert.equal(412, get(client, "/style.css", { ["If-Match"] = '"other"' }).status)
      opens(2, sends, client, "/style.css", "zipped", { ["Accept-Encoding"] = "gzip" })
      opens(0, sends, client, "/style.css", "zipped", { ["Accept-Encoding"] = "gzip" })
      opens(0, sends, client, "/style.css", CSS)
      assert.equal(418, ask(client, "POST", "/style.css").status)
    end)

    it("has the length that is said even if nobody looks at its name", function()
      local client <close> = serve { valid = 5 }
      sends(client, "/big.png", BIG)
      assert(os.execute("truncate -s 3 " .. root .. "/big.png"))
      sends(client, "/big.png", BIG:sub(1, 3))
      harness.write_file(root .. "/big.png", BIG .. "more")
      test.advance(5)
      sends(client, "/big.png", BIG .. "more")
      write("new", "new")
      assert(os.rename(root .. "/new", root .. "/big.png"))
      sends(client, "/big.png", "new") -- because the one that is open lost its name
    end)

    it("keeps large files open, for no longer than that", function()
      local client <close> = serve()
      get(client, "/missing")
      local before = descriptors()
      sends(client, "/style.css", CSS)
      assert.equal(before, descriptors())
      sends(client, "/big.png", BIG)
      sends(client, "/big.png", BIG)
      assert.equal(before + 1, descriptors())
      write("new", BIG .. "new")
      assert(os.rename(root .. "/new", root .. "/big.png"))
      sends(client, "/big.png", BIG .. "new")
      assert.equal(before + 1, descriptors())
      assert(os.remove(root .. "/big.png"))
      get(client, "/big.png")
      assert.equal(before, descriptors())
      write("big.png", BIG)
      sends(client, "/big.png", BIG)
      test.advance(1)
      assert.equal(before, descriptors())
    end)

    it("stays open for who is still receiving it", function()
      local huge = DATA:rep(300)
      write("huge.png", huge)
      local slow <close>, before = serve(), descriptors()
      slow:write "GET /huge.png HTTP/1.1\r\nHost: spec\r\n\r\n"
      assert.equal("HTTP/1.1 200 OK", slow:read())
      local now = descriptors()
      test.advance(2)
      assert.equal(now, descriptors())
      assert(os.remove(root .. "/huge.png"))
      repeat until slow:read() == ""
      assert.is_true(slow:read(1000000) == huge:sub(1, 1000000))
      assert.is_true(slow:read(1000000) == huge:sub(1000001, 2000000))
      assert.is_true(slow:read(1000000) == huge:sub(2000001))
      test.settle()
      assert.equal(before, descriptors())
    end)

    it("is bounded, and the rest is sent too", function()
      local client <close> = serve { cache_size = 3 * (10000 + 3000) }
      for i = 1, 5 do write(i .. ".png", DATA) end
      local function all()
        for i = 1, 5 do sends(client, ("/%d.png"):format(i), DATA) end
        sends(client, "/big.png", BIG)
      end
      opens(6, all)
      opens(3, all)
      local before = descriptors()
      sends(client, "/big.png", BIG)
      assert.equal(before, descriptors())
      test.advance(1)
      opens(6, all)
      opens(3, all)
      assert(os.remove(root .. "/1.png")) -- and what is dropped makes room
      get(client, "/1.png")
      opens(3, function() for i = 2, 5 do sends(client, ("/%d.png"):format(i), DATA) end
        sends(client, "/big.png", BIG) end)
      opens(2, function() for i = 2, 5 do sends(client, ("/%d.png"):format(i), DATA) end
        sends(client, "/big.png", BIG) end)
      local without <close> = serve { cache_size = 0 }
      opens(2, function() for _ = 1, 2 do sends(without, "/style.css", CSS) end end)
    end)

    it("is for each coding its own, with the siblings there are now", function()
      local client <close> = serve()
      local function accepted(text, body, coding)
        local answer = sends(client, "/style.css", body,
          { ["Accept-Encoding"] = text })
        assert.equal(coding, answer.fields["content-encoding"])
      end
      write("style.css.gz", "gzip of it")
      for i = 1, 2 do
        opened = 0
        accepted("gzip, br", "gzip of it", "gzip")
        accepted("gzip", "gzip of it", "gzip")
        accepted("br", CSS)
        sends(client, "/style.css", CSS)
        assert.equal(i == 1 and 3 + 2 + 2 + 1 or 0, opened)
      end
      write("style.css.br", "br of it")
      accepted("gzip, br", "br of it", "br")
      accepted("br", "br of it", "br")
      accepted("gzip", "gzip of it", "gzip")
      assert(os.remove(root .. "/style.css.br"))
      accepted("gzip, br", "gzip of it", "gzip")
      assert(lfs.touch(root .. "/style.css", BIRTH + 1)) -- and both are older
      accepted("gzip, br", CSS)
      accepted("gzip", CSS)
    end)

    it("is found by no name but its own", function()
      local client <close> = serve({ well_known = true }, "/.a")
      for _ = 1, 2 do
        check(client, { ["/.a/docs/index.html"] = { 200, "<h1>docs</h1>" },
          ["/.a/d%6Fcs/index.html"] = { 200, "<h1>docs</h1>" },
          ["/.a/docs%2Findex.html"] = goes_on "/.a/docs/index.html",
          ["/.a/docs/index.html%00gzip"] = { 400, "the path hides what it names\n" },
          ["/.a/.well-known/security.txt"] = { 200, "well known" },
          ["/.a/docs/index.html?%2F"] = { 200, "<h1>docs</h1>" } })
      end
    end)

    it("is that of the path, if it is rewritten or has several prefixes too", function()
      write("docs/style.css", "docs' own")
      local files = static(root)
      local app = http.app():use(function(req, _, go_on)
        req.path = req:header "X-Path" or req.path
        go_on()
      end)
      app:use("/docs", files):use(files)
      local client <close> = test.connect(app)
      for _ = 1, 2 do
        sends(client, "/style.css", CSS)
        sends(client, "/docs/style.css", CSS)
        sends(client, "/data.png", CSS, { ["X-Path"] = "/style.css" })
        sends(client, "/data.png", DATA)
        assert(os.rename(root .. "/style.css", root .. "/hidden"))
        sends(client, "/docs/style.css", "docs' own")
        assert(os.rename(root .. "/hidden", root .. "/style.css"))
      end
    end)

    it("has fields that are made for each answer", function()
      local n = 0
      local client <close> = serve { headers = function(res, name)
        n = n + 1
        res:header("X-Name", name .. n)
      end }
      for i = 1, 2 do
        assert.equal("style.css" .. i, get(client, "/style.css").fields["x-name"])
      end
    end)

    it("is not what changed while it was read", function()
      local client <close> = serve()
      local read = fd.read
      finally(function() fd.read = read end)
      for _, text in ipairs { "shorter", CSS:upper(), CSS .. "longer" } do
        write("style.css", CSS)
        fd.read = function(file)
          local all = read(file)
          harness.write_file(root .. "/style.css", text)
          return all
        end
        assert.equal(text, get(client, "/style.css").body)
        fd.read = read
        sends(client, "/style.css", text)
      end
      fd.read = function() return nil, "told by the spec", "EIO" end
      write("style.css", CSS)
      sends(client, "/style.css", CSS)
    end)
  end)

  describe("a file that changes while it is sent", function()
    local BIG = DATA:rep(300)

    before_each(function() write("big.png", BIG) end)

    local function start(client, range)
      client:write("GET /big.png HTTP/1.1\r\nHost: spec\r\n", range or "", "\r\n")
      local length
      for line in client:lines() do
        if line == "" then return length end
        length = tonumber(line:match "^Content%-Length: (%d+)$") or length
      end
    end

    -- All that comes until the connection ends.
    local function rest(client)
      local list, n = {}, 0
      for piece in function() return (client:readsome(1 << 20)) end do
        list[#list + 1] = piece
        n = n + #piece
      end
      return table.concat(list), n
    end

    it("and becomes shorter ends the connection", function()
      local client <close> = serve()
      assert.equal(#BIG, start(client))
      harness.write_file(root .. "/big.png", "short")
      local bytes, n = rest(client)
      assert.is_true(n < #BIG)
      assert.is_true(bytes == BIG:sub(1, n))
    end)

    local function read(client, length)
      local list = {}
      while length > 0 do
        list[#list + 1] = assert(client:readsome(length))
        length = length - #list[#list]
      end
      return table.concat(list)
    end

    it("and becomes longer is sent as it was announced", function()
      local client <close> = serve()
      assert.equal(#BIG, start(client))
      harness.write_file(root .. "/big.png", BIG .. "more")
      client:write "GET /style.css HTTP/1.1\r\nHost: spec\r\n\r\n"
      assert.is_true(read(client, #BIG) == BIG)
      assert.equal("HTTP/1.1 200 OK", client:read())
    end)

    it("and is replaced is sent as it was", function()
      local client <close> = serve()
      assert.equal(#BIG, start(client))
      write("new", "new")
      assert(os.rename(root .. "/new", root .. "/big.png"))
      assert.is_true(read(client, #BIG) == BIG)
      assert.equal("new", get(client, "/big.png").body)
    end)

    it("before it is sent is not sent as something else", function()
      local client <close> = serve { headers = function()
        harness.write_file(root .. "/big.png", DATA:sub(1, 50))
      end }
      assert.equal(100, start(client, "Range: bytes=0-99\r\n"))
      assert.equal(DATA:sub(1, 50), (rest(client)))
    end)

    it("in ranges ends with the last that was whole", function()
      local client <close> = serve()
      local length = start(client, "Range: bytes=0-2000000,2999000-\r\n")
      assert.is_true(length > 2001000)
      harness.write_file(root .. "/big.png", BIG:sub(1, 2500000))
      local bytes, n = rest(client)
      assert.is_true(n < length)
      local head = bytes:match "^.-\r\n\r\n"
      assert.is_true(bytes == head .. BIG:sub(1, 2000001))
    end)

    it("ends when its client does", function()
      local client = serve()
      start(client)
      client:close() -- and tidy sees that the file is closed
      local other = serve()
      start(other, "Range: bytes=0-2000000,2999000-\r\n")
      other:close()
    end)
  end)
end)
