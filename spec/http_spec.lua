local child = require "child"
local core = require "moonpool.core"
local harness = require "server"
local http = require "moonpool.http"
local process = require "native.process"
local test = require "moonpool.test"

local task = core.task

local BODY_LIMIT = 1 << 20
local HEAD_SECONDS, KEEP_ALIVE_SECONDS, IDLE_SECONDS = 10, 60, 30
local SLACK = harness.is_sanitized and 32 << 20 or 4 << 20 -- a sanitizer frees late

require "tidy" (before_each, after_each)

-- A client of an application whose routes fn(app) has made.
local function serve(fn)
  local app = http.app()
  fn(app)
  return test.connect(app)
end

-- A client of an application that answers every GET and POST with one handler.
local function answering(handler)
  return serve(function(app) app:get("/*path", handler):post("/*path", handler) end)
end

local function request(method, target, fields, body)
  local lines = { ("%s %s HTTP/1.1"):format(method, target), "Host: spec" }
  for _, field in ipairs(fields or {}) do lines[#lines + 1] = field end
  if body then lines[#lines + 1] = "Content-Length: " .. #body end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

local function get(target, ...)
  return request("GET", target or "/", { ... })
end

-- The next answer: its status, fields (names in lower case) and body.
local function take(client, is_head)
  local version, status, reason = (client:read() or "nothing"):match "^(%S+) (%d+) (.*)$"
  local answer = { version = version, status = tonumber(status), reason = reason,
    fields = {}, names = {} }
  if not status then return answer end
  for line in client:lines "L" do
    assert(line:sub(-2) == "\r\n")
    if line == "\r\n" then break end
    local name, value = line:match "^([^:%s]+): (.*)\r\n$"
    answer.fields[name:lower()] = value
    answer.names[#answer.names + 1] = name
  end
  local length = tonumber(answer.fields["content-length"])
  answer.body = length and length > 0 and not is_head and client:read(length) or ""
  return answer
end

local function ask(client, ...)
  client:write(request(...))
  return take(client, ... == "HEAD")
end

local function body_of(client, ...)
  return ask(client, ...).body
end

local function assert_closed(client)
  assert.same({ nil, "closed", "EOF" }, { client:read(1) })
end

local function assert_open(client)
  client:settimeout(0)
  assert.same({ nil, "timeout", "ETIMEDOUT" }, { client:read(1) })
  client:settimeout(nil)
end

local function say(text)
  return function(_, res) res:send(text) end
end

describe("a route", function()
  local function names_of(params)
    local list = {}
    for name, value in pairs(params or {}) do list[#list + 1] = name .. "=" .. value end
    table.sort(list)
    return table.concat(list, " ")
  end

  local function show(name)
    return function(req, res) res:send(name .. " " .. names_of(req.params)) end
  end

  it("is static, or has parameters, or takes the rest, in this order", function()
    local client <close> = serve(function(app)
      app:get("/files/*path", show "rest")
      app:get("/files/:name", show "param")
      app:get("/files/readme", show "static")
      app:get("/files/:dir/:name", show "two")
      app:get("/", show "root")
      app:get("/:lang/about", show "about")
    end)
    for target, expected in pairs {
      ["/"] = "root ",
      ["/files/readme"] = "static ",
      ["/files/other"] = "param name=other",
      ["/files/readme/x"] = "two dir=readme name=x",
      ["/files/a/b"] = "two dir=a name=b",
      ["/files/a/b/c"] = "rest path=a/b/c",
      ["/files/"] = "rest path=",
      ["/files//x"] = "rest path=/x",
      ["/files/a/"] = "rest path=a/",
      ["/en/about"] = "about lang=en",
      ["/files/about"] = "param name=about",
      ["/files/readme?query=x"] = "static ",
      ["http://spec/files/readme"] = "static ",
    } do
      assert.equal(expected, body_of(client, "GET", target), target)
    end
    for _, target in ipairs { "/files", "/en", "//about", "/en/about/", "/en/about/x" } do
      assert.equal(404, ask(client, "GET", target).status, target)
    end
  end)

  it("tells a path with a slash at its end from one without", function()
    local client <close> = serve(function(app)
      app:get("/a", say "a"):get("/b/", say "b/")
    end)
    assert.equal("a", body_of(client, "GET", "/a"))
    assert.equal("b/", body_of(client, "GET", "/b/"))
    assert.equal(404, ask(client, "GET", "/a/").status)
    assert.equal(404, ask(client, "GET", "/b").status)
  end)

  it("has handlers by method, and what else there is is told", function()
    local client <close> = serve(function(app)
      app:get("/x", say "get"):put("/x", say "put"):delete("/x", say "delete")
      app:patch("/y", say "patch"):post("/y", say "post")
      app:route("PURGE", "/y", say "purge")
      app:post("/y/:id", say "post")
    end)
    for method, target in pairs { GET = "/x", PUT = "/x", DELETE = "/x", PATCH = "/y",
      POST = "/y", PURGE = "/y" } do
      assert.equal(method:lower(), body_of(client, method, target))
    end
    local refused = ask(client, "POST", "/x")
    assert.equal(405, refused.status)
    assert.equal("DELETE, GET, HEAD, PUT", refused.fields.allow)
    assert.equal("PATCH, POST, PURGE", ask(client, "GET", "/y").fields.allow)
    assert.equal("POST", ask(client, "get", "/y/1").fields.allow)
    assert.equal(404, ask(client, "GET", "/z").status)
    assert.equal("Not Found\n", body_of(client, "GET", "/z"))
  end)

  it("is looked up with its path decoded", function()
    local client <close> = answering(function(req, res)
      res:send(("%s|%s|%s|%s"):format(req.path, req.params.path, req.target, req.query))
    end)
    for target, expected in pairs {
      ["/a%20b/%C3%A9?x=%20y"] = "/a b/\xC3\xA9|a b/\xC3\xA9|/a%20b/%C3%A9?x=%20y|x=%20y",
      ["/%41%6a%4A"] = "/AjJ|AjJ|/%41%6a%4A|",
      ["/%25%34%31"] = "/%41|%41|/%25%34%31|",
      ["/+?"] = "/+|+|/+?|",
    } do
      assert.equal(expected, body_of(client, "GET", target))
    end
  end)

  it("must be a path and a function", function()
    local app = http.app()
    assert.has_error(function() app:get("/x") end, "the handler must be a function")
    assert.has_error(function() app:get("x", print) end, 'a path begins with "/"')
    assert.has_error(function() app:get("/a/*rest/b", print) end,
      "nothing may follow a *name: it takes the rest")
  end)
end)

describe("a request", function()
  it("has its parts", function()
    local parts, one, two
    local client <close> = answering(function(req)
      parts = { req.method, req.path, req.target, req.query, req.version, req.peer,
        req.headers.host, req.headers["x-one"], req.headers["X-ONE"], req.host,
        req.headers.absent or "-", req:header "absent" or "-", req:body(), req.nothing }
      one, two = req:header "X-One"
    end)
    client:write(get("/p%61th?q=1", "X-One:  first ", "x-one: second"))
    take(client)
    assert.same({ "GET", "/path", "/p%61th?q=1", "q=1", "1.1", "unix:", "spec",
      "first, second", "first, second", "spec", "-", "-", "", nil }, parts)
    assert.same({ "first", "second" }, { one, two })
  end)

  it("has its fields one by one", function()
    local fields
    local client <close> = answering(function(req)
      fields = {}
      for name, value in pairs(req.headers) do fields[name] = value end
    end)
    client:write(get("/", "Cookie: a=1", "X-LIST: 1", "cookie: b=2", "X-List: 2"))
    take(client)
    assert.same({ host = "spec", cookie = "a=1; b=2", ["x-list"] = "1, 2" }, fields)
  end)

  it("has fields and parameters that are no table of the script's", function()
    local app = http.app():get("/:a/:b", function(req, res)
      local headers, params = req.headers, req.params
      assert(params == req.params and params.a == "1" and params.b == "2/")
      for _, view in ipairs { headers, req.trailers, res.headers } do
        assert(not pcall(function() return view[{}] end))
        assert(not pcall(getmetatable(view).__index, req, "host"))
        assert(not pcall(getmetatable(view).__index, {}, "host"))
        assert(not pcall(req.header, view, "host"))
      end
      assert(not pcall(function() headers.host = "mine" end))
      assert(not pcall(function() res.headers[{}] = "mine" end))
      req.params = "mine"
      res:send(req.params .. " " .. headers.host)
    end)
    local client <close> = test.connect(app)
    assert.equal("mine spec", body_of(client, "GET", "/1/2%2F"))
  end)

  it("says whether it has one of several", function()
    local client <close> = answering(function(req, res)
      res:send(table.concat({ tostring(req:has "x-list"), tostring(req:has("a", "HOST")),
        tostring(req:has("a", "X-Lis", "X-List2")), tostring(req:has()) }, " "))
    end)
    client:write(get("/", "X-List: 1"))
    assert.equal("true true false false", take(client).body)
  end)

  it("says what a GET or HEAD asks for", function()
    local client <close> = serve(function(app)
      app:any("/*path", function(req, res)
        if req:has "X-Path" then req.path = req:header "X-Path" end
        local path, codings, selects = req:asks()
        res:header("X-Asks", ("%s %s %s"):format(path, codings, selects)):send()
      end)
    end)
    local function asks(expected, method, target, ...)
      local answer = ask(client, method, target, { ... })
      assert.equal(expected, answer.fields["x-asks"], method .. " " .. target)
    end
    for _, method in ipairs { "GET", "HEAD" } do
      asks("/ nil false", method, "/")
      asks("/a b/c nil false", method, "/x/../a%20b/c?d=%2F", "Accept: */*",
        "If-Range: a")
      asks("/100% nil false", method, "http://there/100%25")
      asks("/mine gzip false", method, "/", "X-Path: /mine", "accept-ENCODING: gzip")
      asks("/ br true", method, "/", "Accept-Encoding: br", "Range: x",
        "Accept-Encoding: gzip")
      for _, name in ipairs { "Range", "If-Match", "If-None-Match", "If-Modified-Since",
        "If-Unmodified-Since" } do
        asks("/ nil true", method, "/", "Accept: */*", name .. ": x")
        asks("/ nil false", method, "/", "X" .. name:sub(2) .. ": x")
      end
      for _, target in ipairs { "/a%2Fb", "/%2f", "/a%20%2fb", "/a%2Fb/../c" } do
        asks("nil nil nil", method, target)
        asks("nil nil nil", method, target, "X-Path: /mine")
      end
    end
    for _, method in ipairs { "POST", "get", "GETS", "OPTIONS", "HEAP" } do
      asks("nil nil nil", method, "/")
    end
  end)

  it("has the host of its target before that of its field", function()
    local client <close> = answering(function(req, res) res:send(req.host) end)
    assert.equal("there:81", body_of(client, "GET", "http://there:81/"))
    assert.equal("spec", body_of(client, "GET", "/"))
  end)

  it("has header fields with long names", function()
    local name = "X-" .. ("long"):rep(50)
    local client <close> = answering(function(req, res)
      res:send(req.headers[name] .. req:header(name:upper()))
    end)
    assert.equal("yesyes", body_of(client, "GET", "/", { name .. ": yes" }))
  end)

  it("keeps what the handler puts into it, for as long as it lasts", function()
    local client <close> = serve(function(app)
      app:get("/:id", function(req, res)
        assert(req.user == nil)
        req.user = { name = "ada" }
        req.path = "mine"
        res:send(req.user.name .. " " .. req.path .. " " .. req.params.id)
      end)
    end)
    for i = 1, 2 do
      assert.equal("ada mine " .. i, body_of(client, "GET", "/" .. i))
    end
  end)

  it("cannot be used when it is over, nor its response", function()
    local kept = {}
    local app = http.app():get("/", function(req, res)
      kept[#kept + 1] = { req = req, res = res, headers = req.headers }
      if #kept < 3 then return res:send "kept" end
      for i = 1, 2 do
        local req_i, res_i, headers = kept[i].req, kept[i].res, kept[i].headers
        for _, use in ipairs {
          function() return req_i.path end,
          function() return req_i.method end,
          function() return headers.host end,
          function() req_i.mine = 1 end,
          function() return req_i:header "host" end,
          function() return req_i:body() end,
          function() return res_i.sent end,
          function() res_i:status(200) end,
          function() res_i:header("a", "b") end,
          function() res_i:send "x" end,
          function() res_i.mine = 1 end,
          function() res_i:length(1) end,
          function() res_i:trailer("a", "b") end,
          function() res_i:upgrade "x" end,
        } do
          local ok, why = pcall(use)
          assert(not ok and why:find("this request is over", 1, true), why)
        end
      end
      res:send "all raised"
    end)
    local serve_app = core.handler(app)
    local one <close> = test.client(serve_app())
    local other <close> = test.client(serve_app())
    assert.equal("kept", body_of(one, "GET", "/"))
    assert.equal("kept", body_of(other, "GET", "/"))
    assert.equal("all raised", body_of(one, "GET", "/"))
    assert.is_false(pcall(function() return kept[3].req.path end))
  end)

  it("that is over is told to a detached task that waits for its body", function()
    local ok, why
    local client <close> = answering(function(req, res)
      task.spawn(function() ok, why = pcall(req.body, req) end):detach()
      task.sleep(1)
      res:send "no more"
    end)
    client:write "POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: 10\r\n\r\nhalf"
    assert.equal("no more", take(client).body)
    test.settle()
    assert.is_false(ok)
    assert.matches("this request is over", why)
  end)

  it("is waited for by one task at a time", function()
    local ok, why
    local client <close> = answering(function(req, res)
      task.spawn(function() ok, why = pcall(req.body, req) end)
      res:send(("x"):rep(1 << 20))
    end)
    client:write "POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: 10\r\n\r\nhalf"
    assert.is_false(ok)
    assert.matches("another task is waiting for this request", why)
    assert.equal(1 << 20, #take(client).body)
  end)

  it("may be any function's that C calls, which cannot wait", function()
    local client <close> = answering(function(req, res)
      local ok, why = pcall(string.gsub, "x", "x", function() req:body() end)
      res:send(tostring(ok) .. (why:match "cannot wait here" or why) .. req:body())
    end)
    client:write(request("POST", "/", {}, "0123456789"):sub(1, -2))
    client:write "9"
    assert.equal("falsecannot wait here0123456789", take(client).body)
  end)
end)

describe("a response", function()
  it("has a status, fields and a length", function()
    local client <close> = answering(function(_, res)
      assert(res.sent == false)
      local returned = res:status(201):header("X-One", "1"):header("X-One", "two")
        :header("X-Empty", ""):send "made"
      assert(returned == res and res.sent == true)
    end)
    local answer = ask(client, "GET", "/")
    assert.same({ "HTTP/1.1", 201, "Created", "made" },
      { answer.version, answer.status, answer.reason, answer.body })
    assert.same({ "Date", "Content-Type", "X-One", "X-One", "X-Empty", "Content-Length" },
      answer.names)
    assert.matches("^%a+, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$", answer.fields.date)
    assert.equal("text/plain; charset=utf-8", answer.fields["content-type"])
    assert.equal("4", answer.fields["content-length"])
    assert.equal("two", answer.fields["x-one"])
  end)

  it("has the type that the handler says", function()
    local client <close> = answering(function(_, res)
      res:header("content-TYPE", "text/html"):send "<p>"
    end)
    local answer = ask(client, "GET", "/")
    assert.same({ "Date", "content-TYPE", "Content-Length" }, answer.names)
    assert.equal("text/html", answer.fields["content-type"])
  end)

  it("is 200 and empty when the handler sends nothing", function()
    local client <close> = answering(function() return "ignored" end)
    local answer = ask(client, "GET", "/")
    assert.same({ 200, "0", "" },
      { answer.status, answer.fields["content-length"], answer.body })
    assert_open(client)
  end)

  it("takes numbers for text, and nothing else", function()
    local client <close> = answering(function(_, res)
      for _, wrong in ipairs { {}, true } do assert(not pcall(res.send, res, wrong)) end
      res:send(42)
    end)
    assert.equal("42", body_of(client, "GET", "/"))
  end)

  it("to HEAD is that to GET without its content", function()
    local client <close> = serve(function(app)
      app:get("/", function(req, res) res:header("X", req.method):send "content" end)
      app:get("/own", say "GET"):route("HEAD", "/own", function(_, res)
        res:header("X", "own"):send ""
      end)
    end)
    local head = ask(client, "HEAD", "/")
    assert.same({ 200, "7", "HEAD" },
      { head.status, head.fields["content-length"], head.fields.x })
    assert.equal("own", ask(client, "HEAD", "/own").fields.x)
    local missing = ask(client, "HEAD", "/none")
    assert.same({ 404, "10" }, { missing.status, missing.fields["content-length"] })
    assert.equal("content", body_of(client, "GET", "/"))
  end)

  it("without content has no length either", function()
    local client <close> = serve(function(app)
      app:get("/:status", function(req, res)
        res:status(tonumber(req.params.status)):send "content"
      end)
    end)
    for _, status in ipairs { 204, 304 } do
      local answer = ask(client, "GET", "/" .. status)
      assert.same({ status, nil, "" },
        { answer.status, answer.fields["content-length"], answer.body })
    end
    assert.equal("content", body_of(client, "GET", "/599"))
  end)

  it("is sent once", function()
    local client <close> = answering(function(_, res)
      res:send "first"
      for _, again in ipairs {
        function() res:send "second" end,
        function() res:send() end,
        function() res:status(500) end,
        function() res:header("X", "y") end,
      } do
        local ok, why = pcall(again)
        assert(not ok and why:find("the response has been sent already", 1, true), why)
      end
    end)
    assert.equal("first", body_of(client, "GET", "/"))
    assert.equal("first", body_of(client, "GET", "/"))
  end)

  it("takes no field that would forge another", function()
    local refused = 0
    local client <close> = answering(function(_, res)
      for _, field in ipairs {
        { "X", "a\r\nSet-Cookie: b" }, { "X", "a\nb" }, { "X", "a\rb" }, { "X", "a\0b" },
        { "X", "a\127b" }, { "X\r\nY", "a" }, { "X: y\r\nZ", "a" }, { "X\0\r\nZ", "a" },
        { "", "a" }, { "X Y", "a" }, { "X:", "a" }, { "X\1", "a" }, { "\xC3\xA9", "a" },
        { "Content-Length", "1" }, { "content-length", "1" },
        { "Transfer-Encoding", "chunked" },
      } do
        if not pcall(res.header, res, field[1], field[2]) then refused = refused + 1 end
      end
      for _, status in ipairs { 100, 199, 600, 0, -1, 200.5, "x" } do
        if not pcall(res.status, res, status) then refused = refused + 1 end
      end
      res:header("X-1_.!#$%&'*+-^`|~", "tab\tand \xC3\xA9"):send "ok"
    end)
    local answer = ask(client, "GET", "/")
    assert.equal(16 + 7, refused)
    assert.same({ "Date", "Content-Type", "X-1_.!#$%&'*+-^`|~", "Content-Length" },
      answer.names)
    assert.equal("tab\tand \xC3\xA9", answer.fields["x-1_.!#$%&'*+-^`|~"])
    assert.equal("ok", answer.body)
  end)

  it("takes fields that were checked once for many", function()
    local fields = http.fields("X-One", "1", "x-two", "", "X-One", "3")
    local none = http.fields()
    local client <close> = answering(function(_, res)
      res:header("X-Zero", "0"):header(fields):header(none)
      res.headers["X-TWO"] = "2"
      res:send "ok"
      assert.is_false(pcall(res.header, res, fields))
    end)
    for _ = 1, 2 do
      local answer = ask(client, "GET", "/")
      assert.same({ "Date", "Content-Type", "X-Zero", "X-One", "X-One", "X-TWO",
        "Content-Length" }, answer.names)
      assert.equal("2", answer.fields["x-two"])
    end
    for message, arguments in pairs {
      ["#1 .*not a header name %(RFC 9110 5.6.2%)"] = { "X Y", "1" },
      ["#4 .*control characters in a header value"] = { "X", "1", "Y", "\n" },
      ["#3 .*a name without a value"] = { "X", "1", "Y" },
      ["#1 .*that is said of each response"] = { "connection", "close" },
      ["the length is computed"] = { "Content-Length", "1" },
    } do
      local ok, why = pcall(http.fields, table.unpack(arguments))
      assert.is_false(ok)
      assert.matches(message, why)
    end
  end)

  it("knows of date, type and upgrade among such, and of those taken away", function()
    local names = { "DATE", "content-TYPE", "Upgrade" }
    local fields = http.fields("DATE", "now", "content-TYPE", "a/b", "Upgrade", "c")
    local taken
    local client <close> = answering(function(_, res)
      res:header("X", "1"):header(fields):default_type "text/never"
      for _, name in ipairs(taken) do res.headers[name:upper()] = nil end
      if taken[1] then res:default_type "text/own" end
      res:send "ok"
    end)
    taken = {}
    local answer = ask(client, "GET", "/")
    assert.same({ "Connection", "X", "DATE", "content-TYPE", "Upgrade",
      "Content-Length" }, answer.names)
    taken = names
    answer = ask(client, "GET", "/")
    assert.same({ "Date", "X", "Content-Type", "Content-Length" }, answer.names)
    assert.equal("text/own", answer.fields["content-type"])
  end)

  it("may have fields of any length", function()
    local client <close> = answering(function(req, res)
      local length = tonumber(req.path:sub(2))
      res:header("X-Long", ("x"):rep(length)):send "ok"
    end)
    for _, length in ipairs { 0, 200, 383, 384, 385, 512, 1000, 5000, 20000 } do
      local answer = ask(client, "GET", "/" .. length)
      assert.equal(length, #answer.fields["x-long"])
      assert.equal("ok", answer.body)
    end
  end)

  it("says date, type and upgrade once, whatever the case of the handler's", function()
    local client <close> = answering(function(_, res)
      res:header("DATE", "now"):header("Content-TYPE", "a/b"):header("Dat", "x")
      res:header("Dates", "y"):header("upgradE", "z"):send "ok"
    end)
    local answer = ask(client, "GET", "/")
    assert.same({ "Connection", "DATE", "Content-TYPE", "Dat", "Dates", "upgradE",
      "Content-Length" }, answer.names)
    assert.equal("upgrade", answer.fields.connection)
  end)

  it("of 5 MB waits for a slow reader", function()
    local text = ("0123456789abcdef"):rep(5 << 16)
    local sent = false
    local client <close> = answering(function(_, res)
      assert(res:send(text) == res)
      sent = true
    end)
    client:write(get())
    test.settle()
    assert.is_false(sent)
    while client:read "L" ~= "\r\n" do end -- luacheck: ignore 542
    for i = 1, #text, 1 << 16 do
      assert.is_true(client:read(1 << 16) == text:sub(i, i + (1 << 16) - 1))
    end
    assert.is_true(sent)
    assert_open(client)
  end)
end)

describe("a connection", function()
  it("is kept by 1.1, and closed when one of them says so", function()
    local client <close> = answering(function(req, res)
      if req.path == "/close" then res:header("Connection", "close") end
      res:send(req.version)
    end)
    for _ = 1, 3 do
      local answer = ask(client, "GET", "/")
      assert.same({ "1.1", nil }, { answer.body, answer.fields.connection })
    end
    assert.equal("close", ask(client, "GET", "/close").fields.connection)
    assert_closed(client)
    local other <close> = answering(say "bye")
    local last = ask(other, "GET", "/", { "Connection: close" })
    assert.equal("close", last.fields.connection)
    assert_closed(other)
  end)

  it("is closed at once, where the client has nothing more to say", function()
    local client <close> = answering(say "bye")
    local before = harness.descriptors(process.pid())
    ask(client, "GET", "/", { "Connection: close" })
    assert.equal(before - 1, harness.descriptors(process.pid()))
    local other <close> = answering(say "bye")
    other:write(request("GET", "/", { "Connection: close" }) .. get "/more")
    assert.equal("bye", take(other).body)
    assert.equal(before + 1, harness.descriptors(process.pid())) -- it lingers
  end)

  it("is closed by 1.0, and kept when the client asks for it", function()
    local client <close> = answering(function(req, res) res:send(req.version) end)
    for _ = 1, 2 do
      client:write "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
      local answer = take(client)
      assert.same({ "HTTP/1.1", "1.0", "keep-alive" },
        { answer.version, answer.body, answer.fields.connection })
    end
    client:write "GET / HTTP/1.0\r\n\r\n"
    assert.equal("close", take(client).fields.connection)
    assert_closed(client)
  end)

  it("may be taken over from a handler, with what it has not read", function()
    local app = http.app():get("/", say "from the application")
    local client <close> = test.connect(function(conn)
      assert(conn:read() == "prologue")
      app(conn)
      assert(not pcall(conn.read, conn))
    end)
    client:write("prologue\n", get())
    assert.equal("from the application", take(client).body)
    assert.equal("from the application", body_of(client, "GET", "/"))
  end)

  it("for which a task waits is not taken over", function()
    local app = http.app()
    local ok, why
    local client <close> = test.connect(function(conn)
      task.spawn(conn.read, conn)
      task.sleep(1)
      ok, why = pcall(app, conn)
    end)
    test.advance(1)
    assert.is_false(ok)
    assert.matches("a task waits for it", why)
    assert_closed(client)
  end)

  it("keeps its application", function()
    local client <close> = answering(say "still here")
    collectgarbage()
    collectgarbage()
    assert.equal("still here", body_of(client, "GET", "/"))
  end)

  it("leaves others their turn, however many requests are there at once", function()
    local app, order = http.app(), {}
    app:get("/*path", function(req, res)
      order[#order + 1] = req.path
      res:send()
    end)
    local server = core.handler(app)
    local first <close> = test.client(server())
    local many <close> = test.client(server())
    local last <close> = test.client(server())
    test.run(function()
      first.conn:write(get "/first")
      many.conn:write(get("/many"):rep(300))
      last.conn:write(get "/last")
    end)
    test.settle()
    assert.equal(302, #order)
    order = table.concat(order, "", 1, 50)
    assert.truthy(order:find "/first" and order:find "/last")
  end)

  it("answers requests in a row in their order", function()
    local running, most = 0, 0
    local client <close> = serve(function(app)
      app:post("/:seconds", function(req, res)
        running = running + 1
        most = math.max(most, running)
        task.sleep(tonumber(req.params.seconds))
        running = running - 1
        res:send(req.params.seconds .. req:body())
      end)
    end)
    local all = {}
    for i, seconds in ipairs { 3, 0, 2, 1 } do
      all[i] = request("POST", "/" .. seconds, {}, (" body %d"):format(i))
    end
    client:write(table.concat(all))
    client:shutdown()
    for i, seconds in ipairs { 3, 0, 2, 1 } do
      assert.equal(("%d body %d"):format(seconds, i), take(client).body)
    end
    assert.equal(1, most)
    assert_closed(client)
  end)

  it("gives the same answers however the requests are cut", function()
    local input = request("POST", "/a?b", { "X: y" }, "some\r\n\r\nbody")
      .. get "/second" .. request("HEAD", "/third", { "Connection: close" })
    local function handler(req, res)
      res:header("X", req.headers.x or "-")
      res:send(("%s %s %s"):format(req.method, req.target, req:body()))
    end
    local function answers(client)
      local first, second, third = take(client), take(client), take(client, true)
      assert_closed(client)
      for _, answer in ipairs { first, second, third } do answer.fields.date = nil end
      return { first, second, third }
    end
    local expected
    for cut = 0, #input do
      local client <close> = answering(handler)
      client:write(input:sub(1, cut))
      client:write(input:sub(cut + 1))
      local got = answers(client)
      expected = expected or got
      assert.same(expected, got)
    end
    assert.equal("POST /a?b some\r\n\r\nbody", expected[1].body)
    assert.equal("GET /second ", expected[2].body)
    assert.equal("12", expected[3].fields["content-length"])
    local client <close> = answering(handler)
    for byte in input:gmatch "." do client:write(byte) end
    assert.same(expected, answers(client))
  end)

  for where, handler in pairs {
    body = function(req, res) res:send(("x"):rep(1000) .. req.params.n) end,
    head = function(req, res)
      res:header("X-Long", ("x"):rep(1000)):header("X-N", req.params.n):send()
    end,
  } do
    it("keeps little of ten thousand answers with a long " .. where, function()
      local served = 0
      local client <close> = serve(function(app)
        app:get("/:n", function(req, res)
          served = served + 1
          handler(req, res)
        end)
      end)
      collectgarbage()
      local lua, resident = collectgarbage "count", harness.memory(process.pid())
      task.spawn(function()
        for i = 1, 10000 do client.conn:write(get("/" .. i)) end
      end)
      test.settle()
      collectgarbage()
      assert.is_true(served > 100 and served < 2000)
      assert.is_true(collectgarbage "count" - lua < 1024)
      assert.is_true(harness.memory(process.pid()) - resident < SLACK)
      test.run(function()
        local conn = client.conn
        for i = 1, 10000 do
          assert(conn:read() == "HTTP/1.1 200 OK")
          local length, n
          for line in conn:lines() do
            if line == "" then break end
            length = line:match "^Content%-Length: (%d+)$" or length
            n = line:match "^X%-N: (%d+)$" or n
          end
          n = n or conn:read(tonumber(length)):match "^x+(%d+)$"
          assert(n == tostring(i))
        end
      end)
      assert.equal(10000, served)
      assert_open(client)
    end)
  end
end)

describe("a body", function()
  local function echo(req, res) res:send(req:body()) end

  it("comes at any pace, and can be read again", function()
    local client <close> = answering(function(req, res)
      local body = req:body()
      assert(body == req:body())
      task.sleep(1)
      res:send(body)
    end)
    local text = request("POST", "/", {}, "0123456789")
    for byte in text:gmatch "." do
      client:write(byte)
      test.advance(0.1)
    end
    assert.equal("0123456789", take(client).body)
    assert.equal("another", body_of(client, "POST", "/", {}, "another"))
  end)

  it("of any bytes, up to the limit", function()
    local client <close> = answering(echo)
    local large = ("\0\r\n\r\n\xFF"):rep(150000)
    task.spawn(function() client.conn:write(request("POST", "/", {}, large)) end)
    assert.is_true(take(client).body == large)
    assert_open(client)
  end)

  it("that has come at once is as one that comes in two pieces", function()
    local client <close> = answering(echo)
    local body = ("\0\r\n\r\n\xFF"):rep(3000)
    local text = request("POST", "/", {}, body)
    for _, cut in ipairs { #text, #text - #body, #text - #body + 1, #text - 1 } do
      client:write(text:sub(1, cut))
      test.settle()
      client:write(text:sub(cut + 1), text) -- and the next is no part of it
      assert.is_true(take(client).body == body, cut)
      assert.is_true(take(client).body == body, cut)
    end
  end)

  local too_long = ("POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: %d\r\n\r\n")
    :format(BODY_LIMIT + 1)

  it("that is too long is refused before any of it is read", function()
    local got
    local client <close> = answering(function(req) got = table.pack(req:read()) end)
    client:write(too_long)
    local answer = take(client)
    assert.same({ nil, "the body is too long", "EMSGSIZE", n = 3 }, got)
    assert.same({ 413, "close", "the body is too long\n" },
      { answer.status, answer.fields.connection, answer.body })
    assert_closed(client)
  end)

  it("that is too long does not matter to who does not read it", function()
    local client <close> = answering(say "hello")
    client:write(too_long)
    local answer = take(client)
    assert.same({ 200, "close", "hello" },
      { answer.status, answer.fields.connection, answer.body })
    assert_closed(client)
  end)

  it("has the limit that the handler sets", function()
    local client <close> = answering(function(req, res)
      res:send(tostring(#assert(req:limit(tonumber(req.query)):body())))
    end)
    local long = ("x"):rep(BODY_LIMIT + 1)
    task.spawn(function() client.conn:write(request("POST", "/?2000000", {}, long)) end)
    assert.equal(tostring(#long), take(client).body)
    assert.equal("5", body_of(client, "POST", "/?5", {}, "five!"))
    assert.equal(413, ask(client, "POST", "/?4", {}, "five!").status)
  end)

  it("that nobody reads is skipped if it has come", function()
    local client <close> = answering(say "not interested")
    client:write(request("POST", "/", {}, get "/smuggled"), get "/next")
    assert.equal("not interested", take(client).body)
    assert.equal("not interested", take(client).body)
    assert_open(client)
  end)

  it("that nobody reads, and has not come, is skipped as it comes", function()
    local client <close> = answering(say "not interested")
    client:write(request("POST", "/", {}, ("x"):rep(100)):sub(1, -50))
    assert.equal("not interested", take(client).body)
    client:write(("x"):rep(49), get "/next")
    assert.equal("not interested", take(client).body)
    assert_open(client)
  end)

  it("that nobody reads ends the connection if it does not come", function()
    local client <close> = answering(say "not interested")
    client:write(request("POST", "/", {}, ("x"):rep(100)):sub(1, -50))
    assert.equal("not interested", take(client).body)
    test.advance(IDLE_SECONDS)
    assert_closed(client)
  end)

  it("that nobody reads, and is long, ends the connection: it says so", function()
    local client <close> = answering(say "not interested")
    client:write(request("POST", "/", {}, ("x"):rep(70000)):sub(1, 1000))
    local answer = take(client)
    assert.same({ "not interested", "close" }, { answer.body, answer.fields.connection })
    client:write(("x"):rep(49), get "/smuggled")
    assert_closed(client)
  end)

  it("that comes after the answer does not destroy it", function()
    local server <close> = harness.run { script = [[
      return require("moonpool.http").app():post("/", function(_, res) res:send "no" end)
    ]] }
    local client <close> = server:connect()
    client:write "POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: 200000\r\n\r\n"
    local conn = client.conn
    harness.eventually(function() -- the answer has left, and is not read yet
      return test.run(conn.read, conn, 0)
    end)
    for _ = 1, 20 do assert(client:write(("x"):rep(10000))) end
    assert.equal("no", take(client).body)
    assert_closed(client)
  end)

  it("that the client waits to be asked for, and is not, ends the connection", function()
    local client <close> = answering(say "not interested")
    client:write(request("POST", "/", { "Expect: 100-continue", "Content-Length: 3" }))
    local answer = take(client)
    assert.same({ "not interested", "close" }, { answer.body, answer.fields.connection })
    assert_closed(client)
  end)

  it("is asked for when the client waits to be asked", function()
    local client <close> = answering(function(req, res)
      task.sleep(1)
      res:send(req:body() .. req:body())
    end)
    client:write(request("POST", "/", { "Expect: 100-continue" }, "body"):sub(1, -5))
    assert_open(client)
    test.advance(1)
    assert.same({ "HTTP/1.1 100 Continue", "" }, { client:read("l", "l") })
    assert_open(client)
    client:write "body"
    local answer = take(client)
    assert.same({ 200, "bodybody" }, { answer.status, answer.body })
    assert.equal("body2body2", body_of(client, "POST", "/", {}, "body2"))
  end)

  it("is not asked for by a handler that does not want it", function()
    local client <close> = answering(function(_, res) res:status(403):send "no" end)
    client:write(request("POST", "/", { "Expect: 100-continue" }, "body"):sub(1, -5))
    local answer = take(client)
    assert.same({ 403, "no", "close" },
      { answer.status, answer.body, answer.fields.connection })
    assert_closed(client)
  end)

  it("whose end does not come is a failure of the handler's reading", function()
    local got
    local client = answering(function(req) got = table.pack(req:body()) end)
    client:write(request("POST", "/", {}, "0123456789"):sub(1, -5))
    assert.is_nil(got)
    client:close()
    assert.same({ nil, "closed", "EOF", n = 3 }, got)
  end)
end)

describe("a time limit", function()
  it("ends a head that does not arrive, however it drips", function()
    local client <close> = answering(say "late")
    local text = get()
    test.advance(30)
    for i = 1, 4 do
      client:write(text:sub(i, i))
      test.advance(HEAD_SECONDS / 4 - 0.01)
    end
    assert_open(client)
    test.advance(0.05)
    client:settimeout(0)
    local answer = take(client)
    assert.same({ 408, "Request Timeout", "close" },
      { answer.status, answer.reason, answer.fields.connection })
    assert_closed(client)
  end)

  it("is counted from the beginning of each head", function()
    local client <close> = answering(say "in time")
    local half = #get() // 2
    for _ = 1, 3 do
      client:write(get():sub(1, half))
      test.advance(HEAD_SECONDS - 0.1)
      client:write(get():sub(half + 1))
      assert.equal("in time", take(client).body)
      test.advance(HEAD_SECONDS * 2)
    end
  end)

  it("ends a connection that asks nothing, without a word", function()
    local client <close> = answering(say "hello")
    test.advance(KEEP_ALIVE_SECONDS - 1)
    for _ = 1, 2 do
      assert.equal("hello", body_of(client, "GET", "/"))
      test.advance(KEEP_ALIVE_SECONDS - 0.1)
      assert_open(client)
    end
    test.advance(0.2)
    client:settimeout(0)
    assert_closed(client)
    local silent <close> = answering(say "hello")
    silent:settimeout(0)
    test.advance(KEEP_ALIVE_SECONDS + 0.1)
    assert_closed(silent)
  end)

  it("is none of a handler's", function()
    local client <close> = answering(function(req, res)
      task.sleep(1000)
      res:send(req.path)
    end)
    client:write(get "/at-last")
    test.advance(1000)
    assert.equal("/at-last", take(client).body)
    test.advance(KEEP_ALIVE_SECONDS - 1)
    assert_open(client)
  end)
end)

describe("what is no request", function()
  it("is answered and ends the connection", function()
    for text, status in pairs {
      ["garbage\r\n\r\n"] = 400,
      ["\0\1\2\3\r\n"] = 400,
      ["GET / HTTP/1.1\r\n\r\n"] = 400,
      ["GET  / HTTP/1.1\r\nHost: x\r\n\r\n"] = 400,
      ["GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"] = 400,
      ["GET / HTTP/2.0\r\nHost: x\r\n\r\n"] = 505,
      [("GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"):format(("x"):rep(9000))] = 414,
      [("GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n"):format(("x"):rep(17000))] = 431,
    } do
      local reached = false
      local client <close> = answering(function() reached = true end)
      client:write(text, get())
      local answer = take(client)
      assert.same({ status, "close" }, { answer.status, answer.fields.connection })
      assert.equal(tostring(#answer.body), answer.fields["content-length"])
      assert.matches("^%C+\n$", answer.body)
      assert.not_nil(answer.fields.date)
      assert_closed(client)
      assert.is_false(reached)
    end
  end)

  it("comes after the answers to what was one", function()
    local client <close> = answering(function(req, res)
      task.sleep(1)
      res:send(req.path)
    end)
    client:write(get "/1", get "/2", "garbage\r\n\r\n")
    assert.equal("/1", take(client).body)
    assert.equal("/2", take(client).body)
    assert.equal(400, take(client).status)
    assert_closed(client)
  end)

  it("may be nothing at all", function()
    local client <close> = answering(say "hello")
    client:shutdown()
    assert_closed(client)
    local half <close> = answering(say "hello")
    half:write "GET / HT"
    half:shutdown()
    assert_closed(half)
  end)
end)

describe("a client", function()
  it("may leave in the middle of anything", function()
    local function handler(req, res)
      local body = req:body()
      task.sleep(1)
      return body and res:send(("x"):rep(1 << 20))
    end
    local text = request("POST", "/", {}, "body")
    for _, cut in ipairs { 0, 1, #text // 2, #text - 2, #text } do
      local client = answering(handler)
      client:write(text:sub(1, cut))
      client:close()
      test.advance(2)
    end
    local client = answering(handler)
    client:write(text)
    test.advance(2)
    client:read(10)
    client:close()
  end)

  it("that leaves is told to a handler that sends", function()
    local got
    local client = answering(function(_, res)
      task.sleep(30)
      got = table.pack(res:send(("x"):rep(1 << 20)))
    end)
    client:write(get())
    client:close()
    test.advance(30)
    assert.same({ nil, "closed", "EPIPE", n = 3 }, got)
  end)
end)

describe("a handler of requests", function()
  it("that fails is answered with 500, in the log, and harms nobody else", function()
    local output, how, code = child [[
      local core = require "moonpool.core"
      local http = require "moonpool.http"
      local test = require "moonpool.test"
      local app = http.app()
      app:get("/fail", function() error "in the handler" end)
      app:get("/late", function(_, res) res:send "sent\n" error "after sending" end)
      app:get("/good", function(_, res) res:send "good\n" end)
      local serve = core.handler(app)
      local good = test.client(serve())
      local function ask(client, method, path)
        client:write(method, " ", path, " HTTP/1.1\r\nHost: x\r\n\r\n")
        if client == good then
          repeat local line = client:read() until line == ""
          return print(client:read())
        end
        print((client:read("a"):gsub("\r", ""):gsub("Date: .-\n", "")))
      end
      ask(good, "GET", "/good")
      ask(test.client(serve()), "GET", "/fail")
      ask(test.client(serve()), "HEAD", "/fail")
      ask(test.client(serve()), "GET", "/late")
      ask(good, "GET", "/good")
    ]]
    assert.same({ "exit", 0 }, { how, code })
    assert.equal(2, select(2, output:gsub("error: [^\n]*in the handler\n", "")))
    assert.equal(1, select(2, output:gsub("error: [^\n]*after sending\n", "")))
    assert.matches("stack traceback", output)
    local answers = output:match "(good\n.*)$":gsub("[^\n]*error: .-\n%f[^\n ]", "")
    local refusal = "HTTP/1.1 500 Internal Server Error\nContent-Type: text/plain\n"
      .. "Content-Length: 22\nConnection: close\n\n"
    assert.equal("good\n" .. refusal .. "Internal Server Error\n\n" .. refusal .. "\n"
      .. "HTTP/1.1 200 OK\nContent-Type: text/plain; charset=utf-8\nContent-Length: 5\n\n"
      .. "sent\n\ngood\n", answers)
  end)

  it("that is cancelled has failed, and ends its connection", function()
    local client <close> = answering(function(_, res)
      task.current():cancel()
      task.sleep(1)
      res:send "never"
    end)
    client:write(get())
    local answer = take(client)
    assert.same({ 500, "close" }, { answer.status, answer.fields.connection })
    assert_closed(client)
  end)

  it("takes its tasks along when it returns", function()
    local ticks = 0
    local client <close> = answering(function(_, res)
      task.spawn(function()
        while true do
          task.sleep(1)
          ticks = ticks + 1
        end
      end)
      task.sleep(2.5)
      res:send "done"
    end)
    client:write(get())
    test.advance(10)
    assert.equal("done", take(client).body)
    assert.equal(2, ticks)
  end)

  it("that waits holds up nobody else", function()
    local app = http.app()
    app:get("/slow", function(_, res)
      task.sleep(10)
      res:send "slow"
    end)
    app:get("/quick", say "quick")
    local connect = core.handler(app)
    local slow <close> = test.client(connect())
    local quick <close> = test.client(connect())
    slow:write(get "/slow")
    assert.equal("quick", body_of(quick, "GET", "/quick"))
    assert_open(slow)
    assert.equal("slow", take(slow).body)
  end)

  it("leaves no application behind that nobody has any more", function()
    local dropped = setmetatable({}, { __mode = "k" })
    do
      local app
      app = http.app { answered = function() dropped[app] = true end }
      app:get("/", function(_, res) res:send(tostring(app)) end)
      local client <close> = test.client(assert(core.handler(app)()))
      ask(client, "GET", "/")
    end
    assert.is_not_nil(next(dropped))
    test.advance(KEEP_ALIVE_SECONDS)
    for _ = 1, 3 do collectgarbage() end -- what has finalizers goes one after the other
    assert.is_nil(next(dropped))
  end)

  it("that is at work, or whose client waits, at the end of the program is no leak",
    function()
      assert.same({ "", "exit", 0 }, { child [[
        local core = require "moonpool.core"
        local http = require "moonpool.http"
        local test = require "moonpool.test"
        local app = http.app()
        app:post("/", function(req, res) res:send(req:body()) end)
        app:get("/", function(_, res) res:send(("x"):rep(1 << 20)) end)
        local serve = core.handler(app)
        kept = {}
        for i, text in ipairs { "", "GE", "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
          "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n" } do
          kept[i] = test.client(serve())
          kept[i]:write(text)
        end
      ]] })
    end)
end)
