-- What a response can have beside status and content, and what ends a connection: fields
-- that change, declared lengths, trailers, other protocols, limits, the hook of logs.

local core = require "moonpool.core"
local http = require "moonpool.http"
local test = require "moonpool.test"

local task = core.task

require "tidy" (before_each, after_each)

local function answering(handler, settings)
  local app = http.app(settings)
  app:any("/*path", handler)
  return test.connect(app)
end

local function get(...)
  local lines = { "GET / HTTP/1.1", "Host: spec", ... }
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

-- Status and fields (names in lower case, values of repeated ones in a list).
local function take_head(client)
  local status, fields = (client:read() or ""):match "^HTTP/1%.1 (%d+)", {}
  for line in client:lines() do
    if line == "" then break end
    local name, value = line:match "^([^:]+): (.*)$"
    name = name:lower()
    fields[name] = fields[name] and fields[name] .. " | " .. value or value
  end
  return tonumber(status), fields
end

local function ask(client, ...)
  client:write(get(...))
  return take_head(client)
end

local function assert_closed(client)
  assert.same({ nil, "closed", "EOF" }, { client:read(1) })
end

describe("res.headers", function()
  it("reads, replaces and removes what is set", function()
    local seen
    local client <close> = answering(function(_, res)
      local h = res.headers
      res:header("X-A", "1"):header("x-a", "2"):header("X-B", " padded ")
      h["Content-Type"] = "text/html"
      h["content-TYPE"] = "text/css"
      h["X-Gone"] = "here"
      h["x-gone"] = nil
      h["X-Number"] = 5
      h["X-List"] = { "one", "two" }
      seen = { h["x-A"], h["X-b"], h["content-type"], h["X-Gone"] or "-", h["X-L"] or "-",
        h["x-list"] }
      res:send "content"
    end)
    local status, fields = ask(client)
    assert.same({ "1", "padded", "text/css", "-", "-", "one" }, seen)
    fields.date = nil
    assert.equal(200, status)
    assert.same({ ["x-a"] = "1 | 2", ["x-b"] = " padded ", ["content-type"] = "text/css",
      ["x-number"] = "5", ["x-list"] = "one | two", ["content-length"] = "7" }, fields)
  end)

  it("takes nothing that would forge a field, or a length", function()
    local errors = {}
    local client <close> = answering(function(_, res)
      for i, case in ipairs {
        { "A", "b\r\nC: d" }, { "A\r\nB", "c" }, { "", "a" }, { "A:", "b" }, { "A", {
          "b", "c\nd" } }, { "Content-Length", "5" }, { "Transfer-Encoding", "chunked" },
        { "A", "b\0" }, { "A", {} , true },
      } do
        local ok = pcall(function() res.headers[case[1]] = case[2] end)
        errors[i] = ok == (case[3] or false)
      end
      res:send()
      errors[#errors + 1] = not pcall(function() res.headers.Late = "1" end)
    end)
    ask(client)
    assert.same({ true, true, true, true, true, true, true, true, true, true }, errors)
  end)

  it("finds whole names alone, whatever is in them or in values", function()
    local seen
    local client <close> = answering(function(_, res)
      local h = res.headers
      res:header("X-A", "b: c"):header("X-B", "d"):header("Y", "X-C: e")
      seen = { h["X-A: b"] or "-", h["X-A: b: c\r\nX-B"] or "-", h["X-C"] or "-",
        h["X"] or "-", h["X-"] or "-", h["-A"] or "-", h[""] or "-", h["Y: X-C"] or "-",
        h["y"] }
      h["X-B"], h["x-a"] = nil, nil
      res:send()
    end)
    local _, fields = ask(client)
    assert.same({ "-", "-", "-", "-", "-", "-", "-", "-", "X-C: e" }, seen)
    assert.same({ y = "X-C: e", ["content-length"] = "0", date = fields.date }, fields)
  end)

  it("takes every name and value that RFC 9110 has, and no other", function()
    local wrong = {}
    local client <close> = answering(function(_, res)
      for byte = 0, 255 do
        local c = string.char(byte)
        local is_token = c:find "^[%w!#$%%&'*+.^_`|~-]$" ~= nil
        local is_value = byte >= 32 and byte ~= 127 or c == "\t"
        for _, n in ipairs { 0, 1, 7, 8, 9, 15, 16 } do
          local before = ("x"):rep(n)
          if pcall(res.header, res, before .. c .. "y", "") ~= is_token
            or pcall(res.header, res, "A", before .. c .. "y") ~= is_value
            or pcall(res.header, res, "A", before .. c) ~= is_value then
            wrong[#wrong + 1] = ("%q"):format(c)
          end
        end
      end
      res.headers.A = nil
      res:send()
    end)
    ask(client)
    assert.same({}, wrong)
  end)

  it("has a type that is only a proposal", function()
    local client <close> = answering(function(req, res)
      res:header("X", "content-type: none")
      if req.headers.said then res:header("content-type", req.headers.said) end
      assert.equal(res, res:default_type "text/css")
      res:default_type "text/html"
      assert.is_false(pcall(res.default_type, res, "a\nb"))
      assert.is_false(pcall(res.default_type, res))
      res:send "x"
      assert.is_false(pcall(res.default_type, res, "text/css"))
    end)
    for field, type in pairs { ["Said: a/b"] = "a/b", ["No: x"] = "text/css" } do
      local status, fields = ask(client, field)
      assert.same({ 200, type, "x" }, { status, fields["content-type"], client:read(1) })
    end
  end)

  it("closes the connection when it is told to", function()
    local client <close> = answering(function(_, res)
      res.headers.Connection = "close"
      res:send "bye"
    end)
    local _, fields = ask(client)
    assert.equal("close", fields.connection)
    assert.equal("bye", client:read(3))
    assert_closed(client)
  end)
end)

describe("a response", function()
  it("tells its status", function()
    local statuses = {}
    local client <close> = answering(function(_, res)
      statuses[1] = res:status()
      res:status(404):send()
      statuses[2] = res:status()
    end)
    ask(client)
    assert.same({ 200, 404 }, statuses)
  end)

  it("keeps values of its own, which come before its methods", function()
    local client <close> = answering(function(_, res)
      local send = res.send
      function res:send(text)
        self.count = (self.count or 0) + 1
        return send(self, text:upper() .. self.count)
      end
      res:send "hello"
    end)
    for _ = 1, 2 do
      ask(client)
      assert.equal("HELLO1", client:read(6))
    end
  end)

  it("has the date that the handler says, and one only", function()
    local client <close> = answering(function(_, res)
      res:header("date", "Sun, 06 Nov 1994 08:49:37 GMT"):send()
    end)
    local _, fields = ask(client)
    assert.equal("Sun, 06 Nov 1994 08:49:37 GMT", fields.date)
  end)

  it("names Upgrade as an option of the connection where it offers one", function()
    local client <close> = answering(function(_, res)
      res:status(426):header("Upgrade", "websocket"):send()
    end)
    local _, fields = ask(client)
    assert.equal("upgrade", fields.connection)
    _, fields = ask(client, "Connection: close")
    assert.equal("close, upgrade", fields.connection)
  end)

  it("of 205 has no content and says so", function()
    local client <close> = answering(function(_, res) res:status(205):send "content" end)
    for _ = 1, 2 do
      local status, fields = ask(client)
      assert.same({ 205, "0" }, { status, fields["content-length"] })
    end
  end)
end)

describe("a declared length", function()
  it("goes with any number of pieces, from files too", function()
    local client <close> = answering(function(_, res)
      res:length(14)
      res:write("one", "two")
      res:sendfile("README.md", 0, 5)
      res:write "end"
    end)
    local file <close> = assert(io.open "README.md")
    local expected = "onetwo" .. file:read(5) .. "end"
    for _ = 1, 2 do
      local _, fields = ask(client)
      assert.equal("14", fields["content-length"])
      assert.is_nil(fields["transfer-encoding"])
      assert.equal(expected, client:read(14))
    end
  end)

  it("is HEAD's too", function()
    local client <close> = answering(function(_, res) res:length(5):write "12345" end)
    client:write "HEAD / HTTP/1.1\r\nHost: spec\r\n\r\n"
    local _, fields = take_head(client)
    assert.equal("5", fields["content-length"])
    assert.equal(200, (ask(client)))
  end)

  it("cannot be exceeded", function()
    local errors = {}
    local client <close> = answering(function(_, res)
      res:length(5)
      errors[1] = select(2, pcall(res.write, res, "123456"))
      res:write "123"
      errors[2] = select(2, pcall(res.write, res, "456"))
      errors[3] = select(2, pcall(res.sendfile, res, "README.md"))
      errors[4] = select(2, pcall(res.length, res, 6))
      res:write "45"
    end)
    ask(client)
    assert.equal("12345", client:read(5))
    for i = 1, 3 do assert.matches("more than the length that was", errors[i]) end
    assert.matches("has been sent already", errors[4])
    assert.equal(200, (ask(client)))
  end)

  it("that is not reached ends the connection, and is in the log", function()
    local client <close> = answering(function(_, res) res:length(5):write "123" end)
    ask(client)
    assert.equal("123", client:read(3))
    assert_closed(client)
  end)

  it("that nothing follows ends the connection too", function()
    local client <close> = answering(function(_, res) res:length(5) end)
    local _, fields = ask(client)
    assert.equal("5", fields["content-length"])
    assert_closed(client)
  end)
end)

describe("trailers of a response", function()
  local function handler(_, res)
    res:header("Trailer", "X-Sum")
    res:write "content"
    res:trailer("X-Sum", "12"):trailer("X-Other", "a b")
  end

  it("follow the content for who keeps them", function()
    local client <close> = answering(handler)
    for _ = 1, 2 do
      ask(client, "TE: gzip;q=0.5, trailers", "Connection: TE")
      assert.equal("7\r\ncontent\r\n0\r\nX-Sum: 12\r\nX-Other: a b\r\n\r\n",
        client:read(42))
    end
  end)

  it("are left out for who has not asked for them, or gets no chunks", function()
    local client <close> = answering(handler)
    ask(client)
    assert.equal("7\r\ncontent\r\n0\r\n\r\n", client:read(17))
    client:write "GET / HTTP/1.0\r\nTE: trailers\r\nConnection: keep-alive\r\n\r\n"
    take_head(client)
    assert.equal("content", client:read "a")
  end)

  it("are no fields that must come before", function()
    local ok = {}
    local client <close> = answering(function(_, res)
      local names = { "Content-Length", "transfer-encoding", "Set-Cookie", "A b" }
      for i, name in ipairs(names) do
        ok[i] = pcall(res.trailer, res, name, "1")
      end
      ok[5] = pcall(res.trailer, res, "X-Sum", "1\r\n\r\nHTTP/1.1 200 OK")
    end)
    ask(client, "TE: trailers")
    assert.same({ false, false, false, false, false }, ok)
  end)
end)

describe("another protocol", function()
  local UPGRADE = { "Connection: keep-alive, Upgrade", "Upgrade: echo, websocket" }

  local function echo(req, res)
    assert(req.upgrade == "echo, websocket")
    local conn = assert(res:header("X-Kept", "yes"):upgrade "echo")
    for line in conn:lines "L" do conn:write(line) end
  end

  it("takes over with what the client has sent since", function()
    local client <close> = answering(echo)
    client:write(get(table.unpack(UPGRADE)), "one\n", "two\n")
    local status, fields = take_head(client)
    fields.date = nil
    assert.equal(101, status)
    assert.same({ connection = "upgrade", upgrade = "echo", ["x-kept"] = "yes" }, fields)
    assert.same({ "one", "two" }, { client:read(), client:read() })
    client:write "GET / HTTP/1.1\r\n"
    assert.equal("GET / HTTP/1.1", client:read())
  end)

  it("may follow a request with content, once that was read", function()
    local codes = {}
    local client <close> = answering(function(req, res)
      codes[1] = select(3, res:upgrade "echo")
      codes[2] = req:body()
      res:upgrade("echo"):write "gone over"
    end)
    client:write("POST / HTTP/1.1\r\nHost: spec\r\nConnection: upgrade\r\n",
      "Upgrade: echo\r\nContent-Length: 4\r\n\r\nbody")
    assert.equal(101, (take_head(client)))
    assert.equal("gone over", client:read "a")
    assert.same({ "EBUSY", "body" }, codes)
  end)

  it("ends with its handler, whose request is over", function()
    local errors = {}
    local client <close> = answering(function(req, res)
      local conn = res:upgrade "echo"
      errors[1] = select(2, pcall(function() return req.path end))
      errors[2] = select(2, pcall(function() res:send "x" end))
      conn:write "bye"
    end)
    client:write(get(table.unpack(UPGRADE)))
    take_head(client)
    assert.equal("bye", client:read "a")
    for i = 1, 2 do assert.matches("this request is over", errors[i]) end
  end)

  it("fails alone: its error is in the log and the connection ends", function()
    local client <close> = answering(function(_, res)
      res:upgrade "echo"
      error "on purpose"
    end)
    client:write(get(table.unpack(UPGRADE)))
    assert.equal(101, (take_head(client)))
    assert_closed(client)
  end)

  it("is not for who has not asked for it", function()
    local ok, why
    local client <close> = answering(function(req, res)
      assert(req.upgrade == nil)
      ok, why = pcall(res.upgrade, res, "echo")
      res:send "plain"
    end)
    ask(client)
    assert.is_false(ok)
    assert.matches("has not asked to go over", why)
    assert.equal("plain", client:read(5))
  end)

  it("is a tunnel after CONNECT", function()
    local client <close> = answering(function() error "no route has it" end)
    client:close()
    local engine = core.http.engine(function(req, res)
      local target = req.target
      local conn = res:upgrade()
      conn:write(target)
    end)
    local tunnel <close> = test.connect(function(conn) core.http.serve(engine, conn) end)
    tunnel:write "CONNECT there:443 HTTP/1.1\r\nHost: there:443\r\n\r\n"
    local status, fields = take_head(tunnel)
    fields.date = nil
    assert.equal(200, status)
    assert.same({}, fields)
    assert.equal("there:443", tunnel:read "a")
  end)
end)

describe("a limit", function()
  it("is the number of requests on a connection", function()
    local client <close> = answering(function(_, res) res:send() end, { requests = 2 })
    local _, first = ask(client)
    local _, second = ask(client)
    assert.is_nil(first.connection)
    assert.equal("close", second.connection)
    assert_closed(client)
  end)

  for _, case in ipairs {
    { "head_limit", 100, get("A: " .. ("b"):rep(100)), 431 },
    { "target_limit", 10, "GET /12345678901 HTTP/1.1\r\nHost: spec\r\n\r\n", 414 },
    { "header_limit", 2, get("A: b", "C: d"), 431 },
    { "body_limit", 3, get "Content-Length: 4", 413 },
  } do
    local name, limit, request, status = table.unpack(case)

    it("is " .. name, function()
      local function handler(req, res) if req:body() then res:send "ok" end end
      local client <close> = answering(handler, { [name] = limit })
      client:write(request)
      assert.equal(status, (take_head(client)))
      local other <close> = answering(handler)
      other:write(request, "1234")
      assert.equal(200, (take_head(other)))
    end)
  end

  it("must make sense", function()
    for _, settings in ipairs { { idle_time = -1 }, { header_limit = 101 },
      { keep_alive = "long" }, { answered = 1 }, { min_rate = 0 / 0 } } do
      assert.is_false((pcall(http.app, settings)))
    end
  end)

  it("is how slow content may be, on an average", function()
    local got
    local client <close> = answering(function(req) got = table.pack(req:body()) end,
      { min_rate = 10, idle_time = 5 })
    client:write "POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: 1000\r\n\r\n"
    for _ = 1, 20 do -- 10 bytes a second, for as long as one likes
      client:write(("x"):rep(20))
      test.advance(2)
    end
    assert.is_nil(got)
    for _ = 1, 6 do -- but a byte a second does not do
      if not got then client:write "x" end
      test.advance(1)
    end
    assert.same({ nil, "timeout", "ETIMEDOUT", n = 3 }, got)
    assert.equal(408, (take_head(client)))
  end)

  it("does not count the time that the handler takes", function()
    local client <close> = answering(function(req, res)
      repeat
        local piece = req:read()
        task.sleep(100)
      until not piece
      res:send "all"
    end, { min_rate = 10, idle_time = 5 })
    client:write "POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: 30\r\n\r\n"
    for _ = 1, 3 do
      client:write "0123456789"
      test.advance(100)
    end
    assert.equal(200, (take_head(client)))
  end)

  it("is not reached by a client that reads slowly, but reads", function()
    local size, sent = 1 << 20, nil
    local client <close> = answering(function(_, res)
      res:length(size)
      sent = res:write(("x"):rep(size))
    end)
    client:write(get())
    take_head(client)
    local step = 1 << 16 -- what the client's own buffer takes at a time
    for _ = 1, size / step do
      assert.equal(step, #client:read(step))
      test.advance(14)
    end
    assert.is_truthy(sent)
  end)
end)

describe("the hook for logs", function()
  local function logging(handler, settings)
    local entries = {}
    settings = settings or {}
    settings.answered = function(entry) entries[#entries + 1] = entry end
    return answering(handler, settings), entries
  end

  it("hears of each answer, with what the request said", function()
    local client, entries = logging(function(req, res)
      req.user = "ada"
      task.sleep(0.5)
      res:status(201):send "12345"
    end)
    client:write("GET /a?b HTTP/1.1\r\nHost: spec\r\n",
      "Referer: there\r\nUser-Agent: me\r\n\r\n")
    take_head(client)
    client:read(5)
    client:close()
    assert.equal(1, #entries)
    assert.is_true(math.abs(entries[1].seconds - 0.5) < 0.01)
    entries[1].seconds = nil
    assert.same({ status = 201, bytes = 5, method = "GET", target = "/a?b",
      version = "HTTP/1.1", peer = "unix:", referer = "there", user_agent = "me",
      req = entries[1].req }, entries[1])
    assert.equal("ada", entries[1].req.user)
  end)

  it("hears of what was refused, by far as it was understood", function()
    local function entry_of(...)
      local client, entries = logging(function(req) req:body() end, { body_limit = 5 })
      client:write(...)
      test.advance(10)
      client:close()
      assert.equal(1, #entries)
      local e = entries[1]
      return { e.status, e.method or "-", e.target or "-", e.bytes > 0 }
    end
    assert.same({ 400, "-", "-", true }, entry_of "\x16\x03\x01")
    assert.same({ 400, "GET", "/x", true }, entry_of "GET /x HTTP/1.1\r\nA b\r\n")
    assert.same({ 408, "GET", "/x", true }, entry_of "GET /x HTTP/1.1\r\n")
    assert.same({ 413, "GET", "/", true }, entry_of(get "Content-Length: 6"))
  end)

  it("hears of failures, chunks and other protocols", function()
    local client, entries = logging(function(req, res)
      if req.path == "/fail" then error "on purpose" end
      if req.path == "/chunks" then res:write("1234", "5") res:write "6" end
      if req.path == "/over" then res:upgrade "x" end
    end)
    client:write("GET /chunks HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET /over HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    client:close()
    assert.same({ 200, 6, 101, 0 },
      { entries[1].status, entries[1].bytes, entries[2].status, entries[2].bytes })
    client, entries = logging(function() error "on purpose" end)
    client:write(get())
    client:close()
    assert.same({ 500, true }, { entries[1].status, entries[1].bytes > 0 })
  end)

  it("that fails is in the log and harms nobody", function()
    local client <close> = answering(function(_, res) res:send "fine" end,
      { answered = function() error "on purpose" end })
    for _ = 1, 2 do
      assert.equal(200, (ask(client)))
      assert.equal("fine", client:read(4))
    end
  end)
end)
