local json = require "moonpool.json"
local lfs = require "lfs"
local test = require "moonpool.test"

local SIZE = 64 << 20

local TYPE = "multipart/form-data; boundary=xYzZy"

local function file(filename, value)
  return ('--xYzZy\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n'
    .. "Content-Type: image/png\r\n\r\n%s\r\n"):format(filename, value)
end

local END = "--xYzZy--\r\n"

describe("the upload example", function()
  local root

  before_each(function() root = test.directory() end)

  local function stored()
    local names = {}
    for name in lfs.dir(root) do
      if name ~= "." and name ~= ".." then names[#names + 1] = name end
    end
    return names
  end

  describe("in this process", function()
    local function load(limit)
      return test.app("examples/upload/app.lua",
        { env = { UPLOAD_ROOT = root, UPLOAD_LIMIT = limit } })
    end

    -- Status, fields and content of the answer.
    local function get(app, target)
      local answer = app:get(target)
      return answer.status, answer.headers, answer.body
    end

    local function post(app, content, kind, length)
      local answer = app:post("/files", { body = content, headers = {
        ["Content-Type"] = kind or TYPE, ["Content-Length"] = length } })
      return answer.status, answer.headers, answer.body
    end

    local function list(app)
      return json.decode((select(3, get(app, "/files")))).files
    end

    it("has a page, which runs nothing from elsewhere", function()
      local status, fields, page = get(load(), "/")
      assert.equal(200, status)
      assert.equal("text/html; charset=utf-8", fields["content-type"])
      assert.matches("^default%-src 'none';", fields["content-security-policy"])
      assert.matches("upload%.onprogress", page)
      assert.is_nil(page:find "https?://")
      assert.is_nil(page:find "innerHTML")
    end)

    it("keeps what is sent, lists it and gives it back", function()
      local app = load()
      assert.same({}, list(app))
      local status, _, body = post(app, file("a.png", "\0\r\n-") .. file("été.txt", "")
        .. END)
      assert.equal(201, status)
      local files = json.decode(body).files
      assert.same({ "a.png", 4, "été.txt", 0 },
        { files[1].name, files[1].size, files[2].name, files[2].size })
      assert.equal(2, #list(app))
      for _, known in ipairs(list(app)) do
        local first = known.name == "a.png"
        assert.same(first and files[1].url or files[2].url, known.url)
        local fields
        status, fields, body = get(app, known.url)
        assert.same({ 200, first and "\0\r\n-" or "" }, { status, body })
        assert.equal("application/octet-stream", fields["content-type"])
        assert.equal("nosniff", fields["x-content-type-options"])
        local plain, full = fields["content-disposition"]
          :match "^attachment; filename=\"(.*)\"; filename%*=UTF%-8''(.*)$"
        assert.equal(first and "a.png" or "__t__.txt", plain)
        assert.equal(first and "a.png" or "%C3%A9t%C3%A9.txt", full)
      end
    end)

    it("keeps files of one name apart", function()
      local app = load()
      for _, value in ipairs { "one", "two" } do post(app, file("same", value) .. END) end
      local files, values = list(app), {}
      for i, known in ipairs(files) do
        assert.equal("same", known.name)
        values[i] = select(3, get(app, known.url))
      end
      table.sort(values)
      assert.same({ "one", "two" }, values)
    end)

    it("takes names for names, not for paths", function()
      local app = load()
      for sent, name in pairs { ["../../evil"] = "evil", [".bashrc"] = "bashrc",
        ["C:\\x\\y.txt"] = "y.txt", ["<b>&amp;"] = "<b>&amp;", ["a%22b"] = 'a"b' } do
        local status, _, body = post(app, file(sent, "x") .. END)
        assert.equal(201, status)
        assert.equal(name, json.decode(body).files[1].name)
        assert.equal(200, (get(app, json.decode(body).files[1].url)))
      end
      assert.equal(5, #stored())
    end)

    it("keeps all of an upload or nothing", function()
      local app = load "1000"
      local half = file("a", "1") .. file("b", ("x"):rep(500))
      for _, case in ipairs {
        { 400, "the body ends before its parts do", half },
        { 400, "a part's header is malformed",
          file("a", "1") .. "--xYzZy\r\nX\r\n\r\n\r\n" .. END },
        { 400, "there is no file in this", END },
        { 400, "there is no file in this", file("", "") .. END },
        { 400, "there is no file in this", file("..", "x") .. END },
        { 413, "the body is too long", half .. file("c", ("x"):rep(1000)) .. END },
        { 415, "the body is not multipart/form-data", "{}", "application/json" },
      } do
        local status, _, body = post(app, case[3], case[4], case[5])
        assert.same({ case[1], case[2] }, { status, json.decode(body).error })
        assert.same({}, stored())
      end
      local client = app:connect()
      client:write("POST /files HTTP/1.1\r\nHost: spec\r\nContent-Type: ", TYPE,
        "\r\nContent-Length: ", #half + 10, "\r\n\r\n", half)
      client:shutdown()
      assert.matches("^HTTP/1.1 400 .*closed", client:read "a")
      assert.same({}, stored())
      assert.equal(201, (post(app, half .. END)))
    end)

    it("says that it cannot keep a file, and keeps none", function()
      local app = load()
      assert.same({}, list(app))
      lfs.rmdir(root)
      local status, _, body = post(app, file("a", "1") .. END)
      assert.same({ 500, "No such file or directory" },
        { status, json.decode(body).error })
      assert(lfs.mkdir(root))
    end)

    it("gives back what was sent here, and nothing else", function()
      local app = load()
      for _, name in ipairs { "plain", ".1-1.part" } do
        local other <close> = assert(io.open(root .. "/" .. name, "w"))
        other:write "x"
      end
      assert(lfs.link("/etc/passwd", root .. "/0123456789abcdef-passwd", true))
      assert(lfs.mkdir(root .. "/0123456789abcdef-directory"))
      local number = "0123456789abcdef-"
      for _, name in ipairs { "plain", ".1-1.part", number .. "passwd",
        number .. "directory", number .. "missing", number .. "..%2F..%2Fx", "..%2Fx",
        "%2Fetc%2Fpasswd", "x%00" } do
        local status = get(app, "/files/" .. name)
        assert.is_true(status == 404 or status == 400, name)
      end
    end)
  end)

  describe("over the network", function()
    -- A sanitizer keeps what has been freed for a while, by default 256 MiB of it.
    local function start()
      local server = test.spawn { app = "examples/upload/app.lua", env = {
        "UPLOAD_ROOT=" .. root, "ASAN_OPTIONS=detect_leaks=1:quarantine_size_mb=1" } }
      server.url = "http://" .. server.address
      return server
    end

    local function shell(command, ...)
      local pipe <close> = assert(io.popen("unset LD_PRELOAD; " .. command:format(...)))
      return pipe:read "a"
    end

    local function upload(server, path)
      local body = shell("curl -sm60 -F file=@%s %s/files", path, server.url)
      return json.decode(body).files[1]
    end

    it("is used by curl", function()
      local server <close> = start()
      local path = root .. "/random"
      shell("head -c 3000000 /dev/urandom >%s", path)
      local known = upload(server, path)
      assert.same({ "random", 3000000 }, { known.name, known.size })
      assert.equal("same\n", shell("curl -sm60 %s%s | cmp - %s && echo same",
        server.url, known.url, path))
      assert.equal("413", shell("truncate -s 5G %s; curl -sm60 -o /dev/null "
        .. "-w '%%{http_code}' -F file=@%s %s/files", path, path, server.url))
      assert.equal(2, #stored())
    end)

    it("needs little memory for large files", function()
      local server <close> = start()
      local path = root .. "/large"
      shell("truncate -s %d %s", SIZE, path)
      local known = upload(server, path)
      local size = shell("curl -sm60 -o /dev/null -w '%%{size_download}' %s%s",
        server.url, known.url)
      for _, name in ipairs(stored()) do os.remove(root .. "/" .. name) end
      assert.equal(SIZE, known.size)
      assert.equal(tostring(SIZE), size)

      assert.is_true(server:peak_memory(1) < 32 << 20)
    end)

    it("does not start without its directory", function()
      local server = test.start({ "serve", "examples/upload/app.lua", "--listen",
        "127.0.0.1:0" }, { env = { "UPLOAD_ROOT=/nowhere" } })
      assert.same({ "exit", 1 }, { server:wait() })
      assert.truthy(server.text:find("/nowhere must be a directory", 1, true))
      server:stop()
    end)
  end)
end)
