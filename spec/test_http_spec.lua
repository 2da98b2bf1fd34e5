local harness = require "server"
local http = require "moonpool.http"
local json = require "moonpool.json"
local moonpool = require "moonpool"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

-- Everything that is sent, as JSON: what a client of HTTP is tested with.
local function mirror()
  local app = http.app()
  app:any("/mirror", function(req, res)
    local headers = {}
    for name, value in pairs(req.headers) do headers[name:lower()] = value end
    res:json { method = req.method, headers = headers, body = req:body() }
  end)
  app:get("/cookies", function(req, res)
    res:header("Set-Cookie", req:args().set or "a=1")
    res:send(req.headers.cookie or "")
  end)
  app:get("/chunks", function(_, res)
    for n = 1, 3 do
      res:write("chunk ", n)
      moonpool.sleep(1)
    end
  end)
  app:get("/last", function(_, res) res:header("Connection", "close"):send "bye" end)
  app:post("/count", function(req, res)
    local pieces = 0
    for piece in req:chunks() do pieces = pieces + #piece end
    res:send(tostring(pieces))
  end)
  app:post("/form", function(req, res) res:json(req:form()) end)
  app:post("/files", function(req, res)
    local found = {}
    for part in req:multipart() do
      found[#found + 1] = ("%s|%s|%s"):format(part.name, part.filename or "",
        part:body())
    end
    res:json(found)
  end)
  app:get("/echo", function(_, res)
    local conn = res:upgrade "echo"
    for line in conn:lines "L" do conn:write(line:upper()) end
  end)
  return app
end

describe("a client of HTTP", function()
  local app

  before_each(function() app = test.app(mirror()) end)
  after_each(function() app:close() end)

  local function mirrored(method, options)
    return app:request(method, "/mirror", options).json
  end

  it("has a method for each", function()
    for _, method in ipairs { "get", "post", "put", "patch", "delete", "options" } do
      assert.equal(method:upper(), app[method](app, "/mirror").json.method)
    end
    local answer = app:head "/mirror"
    assert.same({ 200, "" }, { answer.status, answer.body })
    assert.equal("PURGE", mirrored("PURGE").method)
  end)

  it("sends fields, one or several of a name, and says which host", function()
    assert.same({ host = "localhost", a = "1", b = "2, 3" },
      mirrored("GET", { headers = { A = 1, B = { 2, 3 } } }).headers)
    local sent = mirrored("GET", { headers = { Host = "other" } })
    assert.same({ host = "other" }, sent.headers)
  end)

  it("sends text, JSON and forms", function()
    local sent = mirrored("POST", { body = "text" })
    assert.same({ "text", "4" }, { sent.body, sent.headers["content-length"] })
    sent = mirrored("PUT", { json = { a = json.array {} } })
    assert.same({ '{"a":[]}', "application/json" },
      { sent.body, sent.headers["content-type"] })
    assert.equal("", mirrored("POST").body)
    assert.same({ ["a b"] = "1&2", c = "é" },
      app:post("/form", { form = { ["a b"] = "1&2", c = "é" } }).json)
  end)

  it("sends files", function()
    local answer = app:post("/files", { form = { note = "x\r\ny" }, files = { file = {
      { name = 'a"b.txt', content = "\0\1" }, { name = "2", content = "two" } } } })
    assert.same({ "note||x\r\ny", 'file|a"b.txt|\0\1', "file|2|two" }, answer.json)
  end)

  it("sends a body piece by piece", function()
    local left = 3
    local answer = app:post("/count", { body = function()
      left = left - 1
      return left >= 0 and ("x"):rep(1000) or nil
    end })
    assert.equal("3000", answer.body)
    local upload = app:start("POST", "/count")
    for _ = 1, 5 do assert.equal(upload, upload:write "12345") end
    assert.equal("25", upload:finish().body)
  end)

  it("gives answers piece by piece, as they come", function()
    local answer = app:get("/chunks", { stream = true })
    local began = moonpool.now()
    assert.equal("chunk 1", answer:read())
    assert.equal(0, moonpool.now() - began)
    assert.equal("chunk 2", answer:read())
    assert.equal(1, moonpool.now() - began)
    assert.equal("chunk 3", answer:read())
    assert.is_nil(answer:read())
    assert.is_nil(answer:read())
    answer = app:get "/chunks"
    assert.same({ "chunk 1chunk 2chunk 3", 3 }, { answer.body, #answer.pieces })
  end)

  it("keeps its connection, until the server does not", function()
    for _ = 1, 3 do assert.equal(200, app:get("/mirror").status) end
    assert.equal(1, #app.clients)
    assert.equal("bye", app:get("/last").body)
    assert.equal(200, app:get("/mirror").status)
    assert.equal(2, #app.clients)
    test.advance(100) -- more than it may wait between two requests
    assert.equal(200, app:get("/mirror").status)
    assert.equal(3, #app.clients)
  end)

  it("asks for all at once, and is answered in order", function()
    local answers = app:pipeline { { "GET", "/mirror" }, { "POST", "/count",
      { body = "123" } }, { "HEAD", "/mirror" }, { "GET", "/nowhere" } }
    local seen = {}
    for i, answer in ipairs(answers) do seen[i] = { answer.status, answer.body } end
    assert.same({ { 200, answers[1].body }, { 200, "3" }, { 200, "" },
      { 404, "Not Found\n" } }, seen)
    assert.equal("GET", answers[1].json.method)
    answers = app:pipeline { { "GET", "/last" }, { "GET", "/mirror" } }
    assert.same({ 1, "bye" }, { #answers, answers[1].body })
  end)

  it("changes to another protocol", function()
    local client, answer = app:upgrade("/echo", "echo")
    assert.equal(101, answer.status)
    client:write "hello\n"
    assert.equal("HELLO", client:read())
    local refused
    client, refused = app:upgrade("/mirror", "echo")
    assert.is_nil(client)
    assert.equal(200, refused.status)
  end)

  it("says what went wrong", function()
    local raw = test.app(function(conn)
      conn:read "l"
      conn:write "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"
    end)
    local answer, why, code = raw:get "/"
    assert.same({ nil, "the answer was cut off: closed", "EOF" }, { answer, why, code })
    raw = test.app(function(conn)
      conn:read "l"
      conn:write "garbage\r\n"
    end)
    answer, why, code = raw:get "/"
    assert.same({ nil, 'no status line: "garbage"', "EPROTO" }, { answer, why, code })
    raw = test.app(function() end)
    answer, why, code = raw:get "/"
    assert.same({ nil, "closed", "EOF" }, { answer, why, code })
  end)

  it("understands what servers may send, and refuses what they may not", function()
    local sent
    local raw = test.app(function(conn)
      while conn:read "L" ~= "\r\n" do end -- luacheck: ignore 542
      conn:write(sent)
    end)
    local function get(text)
      sent = text
      return raw:get "/"
    end
    local answer = get "HTTP/1.0 200 Fine\r\nA:  b \r\na: c\r\n\r\nto the end"
    assert.same({ "to the end", "Fine", "b, c" },
      { answer.body, answer.reason, answer.headers.A })
    answer = get("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
      .. "Link: x\r\n\r\nHTTP/1.1 204 No Content\r\nX-One: 1\r\n\r\n")
    assert.same({ 204, 100, 103, "x", "1" }, { answer.status, answer.before[1].status,
      answer.before[2].status, answer.before[2].headers.link, answer.headers.x_one })
    answer = get("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      .. "3;x=y\r\nabc\r\n0\r\nTrailer: t\r\n\r\n")
    assert.same({ "abc", "t" }, { answer.body, answer.headers.trailer })
    for _, bad in ipairs { "HTTP/1.1 20 OK\r\n\r\n",
      "HTTP/1.1 200 OK\r\nno field\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "HTTP/1.1 200 OK\r\nA: b",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc" } do
      local found, _, code = get(bad)
      assert.is_nil(found, bad)
      assert.is_string(code)
    end
  end)

  it("reads JSON, or says what was there instead", function()
    assert.equal("GET", app:get("/mirror").json.method)
    local answer = app:get "/last"
    local ok, why = pcall(function() return answer.json end)
    assert.is_false(ok)
    assert.matches("^the body is no JSON: .*\nbye$", why)
  end)
end)

describe("a thousand requests", function()
  -- Of processor time, so that what else the machine does is in both.
  local function seconds(fn)
    local began = os.clock()
    for _ = 1, 1000 do fn() end
    return os.clock() - began
  end

  it("take as long as so many thousand switches of coroutines", function()
    local most = harness.is_sanitized and 10000 or 1000 -- there are about 180
    local app, best = test.app "examples/hello/app.lua", math.huge
    local switch = coroutine.wrap(function()
      while true do coroutine.yield() end
    end)
    for _ = 1, 3 do
      local requests = seconds(function() app:get "/hello/ada" end)
      best = math.min(best, requests / seconds(switch))
    end
    assert.is_true(best < most, best)
  end)
end)

describe("cookies", function()
  local app

  before_each(function() app = test.app(mirror()) end)
  after_each(function() app:close() end)

  local function set(text)
    return app:get("/cookies?set=" .. http.encode(text))
  end

  local function sent(target)
    return app:get(target or "/mirror").json.headers.cookie
  end

  it("are kept and sent", function()
    assert.equal("", set("a=1").body)
    assert.equal("a=1", sent())
    set "b=2; HttpOnly; Secure; SameSite=Lax; Path=/"
    set "a=3"
    assert.equal("b=2; a=3", sent())
    assert.same({ a = "3", b = "2" }, app.cookies.values)
  end)

  it("are sent where their path is", function()
    set "deep=1; Path=/mirror"
    set "other=1; Path=/mir"
    set "root=1; Path=/"
    assert.equal("deep=1; root=1", sent())
    assert.equal("root=1", app:get("/cookies").body)
  end)

  it("end when their time is over", function()
    test.at(1e9)
    set "short=1; Max-Age=10; Expires=Sun, 06 Nov 1994 08:49:37 GMT"
    set "until=1; Expires=Sun, 09 Sep 2001 01:47:00 GMT"
    set "old=1; Expires=Sun, 06 Nov 1994 08:49:37 GMT"
    set "always=1"
    assert.equal("short=1; until=1; always=1", sent())
    test.advance(10)
    assert.equal("until=1; always=1", sent())
    test.advance(10)
    assert.equal("always=1", sent())
    set "always=; Max-Age=0"
    assert.is_nil(sent())
  end)

  it("are each client's own, and gone with the test", function()
    set "a=1"
    local other = app:browser()
    assert.equal("", other:get("/cookies").body)
    assert.equal("a=1", other:get("/cookies").body)
    app:close()
    assert.is_nil(sent())
  end)

  it("can be set by the spec", function()
    app.cookies:set("session", "x")
    assert.equal("session=x", sent())
    app.cookies:clear()
    assert.is_nil(sent())
  end)
end)
