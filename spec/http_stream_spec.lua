-- Content that comes or goes piece by piece: req:read, req:body of chunks, res:write.

local core = require "moonpool.core"
local harness = require "server"
local http = require "moonpool.http"
local process = require "native.process"
local test = require "moonpool.test"

local task = core.task

-- A sanitizer keeps what has been freed for a while, up to 256 MiB.
local SLACK = harness.is_sanitized and 300 << 20 or 8 << 20

require "tidy" (before_each, after_each)

local function answering(handler)
  local app = http.app()
  app:get("/", handler):post("/", handler)
  return test.connect(app)
end

-- An application whose engine has settings of its own.
local function with_settings(settings, handler)
  local engine = core.http.engine(handler, settings)
  return test.connect(function(conn) core.http.serve(engine, conn) end)
end

local CHUNKED = "POST / HTTP/1.1\r\nHost: spec\r\nTransfer-Encoding: chunked\r\n\r\n"
local GET = "GET / HTTP/1.1\r\nHost: spec\r\n\r\n"

local function chunks(...)
  local list = {}
  for i, piece in ipairs { ... } do
    list[i] = ("%x\r\n%s\r\n"):format(#piece, piece)
  end
  return table.concat(list)
end

-- Status, fields with lower-case names, and the text that follows until the next blank.
local function take_head(client)
  local status, fields = (client:read() or ""):match "^HTTP/1%.1 (%d+)", {}
  for line in client:lines() do
    if line == "" then break end
    local name, value = line:match "^([^:]+): (.*)$"
    fields[name:lower()] = value
  end
  return tonumber(status), fields
end

local function take_chunks(client)
  local list = {}
  while true do
    local size = tonumber(client:read(), 16)
    if size == 0 then
      assert.equal("", client:read())
      return list
    end
    list[#list + 1] = client:read(size)
    assert.equal("", client:read())
  end
end

local function take_body(client)
  local status, fields = take_head(client)
  return client:read(tonumber(fields["content-length"])), status, fields
end

describe("a body in chunks", function()
  local function echo(req, res) res:send(req:body()) end

  it("is put together, and the next request follows it", function()
    local client <close> = answering(echo)
    client:write(CHUNKED, chunks("Hello, ", "world"), "0\r\n\r\n",
      CHUNKED, chunks "again", "0\r\nX-Trailer: dropped\r\n\r\n")
    assert.equal("Hello, world", (take_body(client)))
    assert.equal("again", (take_body(client)))
  end)

  it("is the same however it is cut", function()
    local text = CHUNKED .. chunks("one", ("x"):rep(20), "\r\n0\r\n\r\n")
      .. "0;last=1\r\nX: y\r\n\r\n"
    for cut = 1, #text - 1 do
      local client <close> = answering(echo)
      client:write(text:sub(1, cut))
      client:write(text:sub(cut + 1))
      assert.equal("one" .. ("x"):rep(20) .. "\r\n0\r\n\r\n", (take_body(client)))
    end
  end)

  it("may be empty", function()
    local client <close> = answering(function(req, res)
      local body = req:body()
      assert(body == "" and req:read() == nil and req:body() == "")
      res:send "nothing"
    end)
    client:write(CHUNKED, "0\r\n\r\n")
    assert.equal("nothing", (take_body(client)))
  end)

  it("that is malformed is the handler's to know, and answered with 400", function()
    local got
    local client <close> = answering(function(req) got = table.pack(req:body()) end)
    client:write(CHUNKED, chunks "good", "zzz\r\n")
    assert.same({ nil, "the body's chunks are malformed", "EBADMSG", n = 3 }, got)
    local status, fields = take_head(client)
    assert.same({ 400, "close" }, { status, fields.connection })
  end)

  it("that is too long is read no further, and answered with 413", function()
    local got
    local client <close> = with_settings({ body_limit = 10 }, function(req)
      got = table.pack(req:body())
    end)
    client:write(CHUNKED, chunks("12345", "67890", "!"))
    assert.same({ nil, "the body is too long", "EMSGSIZE", n = 3 }, got)
    assert.equal(413, (take_head(client)))
  end)

  it("that has failed is never sent on as if it were empty", function()
    local client <close> = with_settings({ body_limit = 10 }, function(req, res)
      res:send(req:body())
    end)
    client:write(CHUNKED, chunks("12345", "67890", "!"))
    assert.equal(413, (take_head(client)))
  end)

  it("that nobody reads is skipped", function()
    local client <close> = answering(function(_, res) res:send "no" end)
    for _ = 1, 2 do
      client:write(CHUNKED, chunks(GET))
      assert.equal("no", (take_body(client)))
      client:write(chunks "more", "0\r\nA: b\r\n\r\n")
    end
    client:write(CHUNKED, chunks(("x"):rep(60000), ("x"):rep(60000)))
    assert.equal("no", (take_body(client)))
    assert.same({ nil, "closed", "EOF" }, { client:read() })
  end)

  it("that nobody reads and that is malformed ends the connection", function()
    local client <close> = answering(function(_, res) res:send "no" end)
    client:write(CHUNKED, chunks(GET), "x\r\n")
    assert.equal("no", (take_body(client)))
    assert.same({ nil, "closed", "EOF" }, { client:read() })
  end)

  it("has trailers, which come with its end and stay apart", function()
    local got
    local client <close> = answering(function(req, res)
      got = { req.trailers["x-sum"] or "-", req:body(), req.trailers["X-Sum"],
        req.trailers.empty, req.trailers.absent or "-", req.headers["x-sum"] or "-" }
      got.all = {}
      for name, value in pairs(req.trailers) do got.all[name] = value end
      res:send()
    end)
    client:write(CHUNKED, chunks "content", "0\r\n",
      "X-Sum:  12 \r\nempty:\r\nx-sum: 3\r\n\r\n")
    assert.equal(200, (take_head(client)))
    assert.same({ "-", "content", "12, 3", "", "-", "-",
      all = { ["x-sum"] = "12, 3", empty = "" } }, got)
    client:write(CHUNKED, chunks "content", "0\r\n\r\n")
    assert.equal(200, (take_head(client)))
    assert.same({}, got.all)
  end)

  it("has no trailers before they are whole", function()
    local early, late
    local client <close> = answering(function(req, res)
      task.spawn(function()
        task.sleep(1)
        early = req.trailers["x-sum"] or "-"
      end)
      req:body()
      late = req.trailers["x-sum"]
      res:send()
    end)
    client:write(CHUNKED, chunks "content", "0\r\nA: b\r\nX-S")
    test.advance(1)
    client:write "um: 12\r\n\r\n"
    assert.equal(200, (take_head(client)))
    assert.same({ "-", "12" }, { early, late })
  end)

  it("leaves the head where it was", function()
    local client <close> = answering(function(req, res)
      req:body()
      res:send(req.method .. req.path .. req.headers["x-late"])
    end)
    client:write((CHUNKED:gsub("\r\n\r\n", "\r\nX-Late: yes\r\n\r\n")),
      chunks(("y"):rep(100000)), "0\r\n\r\n")
    assert.equal("POST/yes", (take_body(client)))
  end)
end)

describe("req:read", function()
  it("gives the content as it comes, then nothing", function()
    local pieces = {}
    local client <close> = answering(function(req, res)
      for piece in function() return req:read() end do pieces[#pieces + 1] = piece end
      assert(select("#", req:read()) == 0)
      res:send(table.concat(pieces))
    end)
    client:write "POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: 10\r\n\r\n"
    assert.same({}, pieces)
    client:write "12345"
    assert.same({ "12345" }, pieces)
    client:write "67890"
    assert.same({ "12345", "67890" }, pieces)
    assert.equal("1234567890", (take_body(client)))
  end)

  it("gives at most what is asked for, and body the rest", function()
    local client <close> = answering(function(req, res)
      res:send(req:read(3) .. "|" .. req:read(3) .. "|" .. req:body())
    end)
    client:write "POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: 10\r\n\r\n1234567890"
    assert.equal("123|456|7890", (take_body(client)))
  end)

  it("fails when the client goes", function()
    local got
    local client = answering(function(req)
      req:read()
      got = table.pack(req:read())
    end)
    client:write "POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: 10\r\n\r\n12345"
    client:close()
    assert.same({ nil, "closed", "EOF", n = 3 }, got)
  end)

  it("takes an upload far larger than the memory that it needs", function()
    local total, peak, largest = 0, 0, 0
    local client <close> = with_settings({ body_limit = 1 << 30 }, function(req, res)
      local before = harness.memory(process.pid())
      for piece in function() return req:read() end do
        total, largest = total + #piece, math.max(largest, #piece)
        peak = math.max(peak, harness.memory(process.pid()) - before)
      end
      res:send "done"
    end)
    local megabyte = ("x"):rep(1 << 20)
    client:write(("POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: %d\r\n\r\n")
      :format(64 << 20))
    for _ = 1, 64 do client:write(megabyte) end
    assert.equal("done", (take_body(client)))
    assert.equal(64 << 20, total)
    assert.is_true(largest <= 1 << 16)
    assert.is_true(peak < SLACK)
  end)
end)

describe("res:write", function()
  it("sends chunks as they are written, and an end when the handler returns", function()
    local client <close> = answering(function(_, res)
      res:header("Content-Type", "text/html"):write("one", 2)
      task.sleep(1)
      res:write("", "three")
      task.sleep(1)
    end)
    client:write(GET, GET)
    local status, fields = take_head(client)
    assert.same({ 200, "chunked", "text/html" },
      { status, fields["transfer-encoding"], fields["content-type"] })
    assert.is_nil(fields["content-length"])
    assert.equal("4", client:read())
    assert.equal("one2", client:read())
    test.advance(2)
    assert.same({ "three" }, take_chunks(client))
    take_head(client)
    test.advance(2)
    assert.same({ "one2", "three" }, take_chunks(client))
  end)

  it("ends with the connection for a client of 1.0", function()
    local client <close> = answering(function(_, res) res:write "one":write "two" end)
    client:write "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    local _, fields = take_head(client)
    assert.equal("close", fields.connection)
    assert.is_nil(fields["transfer-encoding"])
    assert.equal("onetwo", client:read "a")
  end)

  it("to HEAD sends the fields alone", function()
    local client <close> = answering(function(_, res) res:write "content" end)
    client:write("HEAD / HTTP/1.1\r\nHost: spec\r\n\r\n", GET)
    local _, fields = take_head(client)
    assert.equal("chunked", fields["transfer-encoding"])
    assert.equal(200, (take_head(client)))
    assert.same({ "content" }, take_chunks(client))
  end)

  it("with a status that has no content sends none", function()
    local client <close> = answering(function(_, res) res:status(204):write "content" end)
    client:write(GET, GET)
    local status, fields = take_head(client)
    assert.equal(204, status)
    assert.is_nil(fields["transfer-encoding"])
    assert.equal(204, (take_head(client)))
  end)

  it("waits for a slow reader", function()
    local written = 0
    local client <close> = answering(function(_, res)
      for _ = 1, 100 do
        res:write(("x"):rep(100000))
        written = written + 1
      end
    end)
    client:write(GET)
    assert.is_true(written < 20)
    take_head(client)
    local n = 0
    for _, piece in ipairs(take_chunks(client)) do n = n + #piece end
    assert.equal(10000000, n)
    assert.equal(100, written)
  end)

  it("cannot follow send, nor send it; headers come before", function()
    local errors = {}
    local function try(fn, ...)
      local ok, why = pcall(fn, ...)
      errors[#errors + 1] = not ok and why:match "already" or "none"
    end
    local client <close> = answering(function(req, res)
      if req.method == "POST" then
        res:send "sent"
        try(res.write, res, "more")
      else
        res:write "begun"
        try(res.send, res, "more")
        try(res.header, res, "X", "y")
        try(res.status, res, 404)
      end
    end)
    client:write("POST / HTTP/1.1\r\nHost: spec\r\n\r\n", GET)
    assert.equal("sent", (take_body(client)))
    take_head(client)
    assert.same({ "begun" }, take_chunks(client))
    assert.same({ "already", "already", "already", "already" }, errors)
  end)

  it("that is broken off by an error does not look whole", function()
    local client <close> = answering(function(_, res)
      res:write "half"
      task.current():cancel()
      task.sleep(1)
    end)
    client:write(GET)
    take_head(client)
    assert.equal("4\r\nhalf\r\n", client:read "a")
  end)

  it("fails when the client has gone, and the handler may see it", function()
    local got
    local client = answering(function(_, res)
      task.sleep(1)
      for _ = 1, 100 do
        got = table.pack(res:write(("x"):rep(100000)))
        if not got[1] then return end
      end
    end)
    client:write(GET)
    client:close()
    test.advance(1)
    assert.equal("closed", got[2])
  end)
end)

describe("res:sendfile", function()
  local content = ("0123456789"):rep(300000)
  local directory, path

  local function read_all(client, n)
    local list = {}
    while n > 0 do
      list[#list + 1] = client:readsome(n) or error "the end"
      n = n - #list[#list]
    end
    return table.concat(list)
  end

  before_each(function()
    directory = harness.directory()
    path = directory .. "/file"
    harness.write_file(path, content)
  end)

  after_each(function() harness.remove(directory) end)

  it("sends a file, or a part of it, and its length", function()
    local parts = { {}, { 10, 5 }, { 2999995 }, { 2999995, 100 }, { 5000000 } }
    for _, part in ipairs(parts) do
      local client <close> = answering(function(_, res)
        assert(res:sendfile(path, table.unpack(part)) == res)
      end)
      client:write(GET, GET)
      local from = part[1] or 0
      local expected = content:sub(from + 1, from + (part[2] or #content))
      for _ = 1, 2 do
        local _, fields = take_head(client)
        assert.equal(tostring(#expected), fields["content-length"])
        assert.is_true(read_all(client, #expected) == expected)
      end
    end
  end)

  it("leaves it to the handler what to say of a file that cannot be sent", function()
    local client <close> = answering(function(_, res)
      local ok, _, code = res:sendfile(directory .. "/missing")
      assert(not ok and code == "ENOENT")
      ok, _, code = res:sendfile(directory)
      assert(not ok and code == "EISDIR")
      res:status(404):send "not here"
    end)
    client:write(GET)
    local body, status = take_body(client)
    assert.same({ "not here", 404 }, { body, status })
  end)

  it("to HEAD sends the fields alone", function()
    local client <close> = answering(function(_, res) res:sendfile(path) end)
    client:write(("HEAD / HTTP/1.1\r\nHost: spec\r\n\r\n"):rep(2))
    for _ = 1, 2 do
      local _, fields = take_head(client)
      assert.equal("3000000", fields["content-length"])
    end
  end)

  it("of a file that becomes shorter meanwhile ends the connection", function()
    local client <close> = answering(function(_, res) res:sendfile(path) end)
    client:write(GET)
    take_head(client)
    harness.write_file(path, "short")
    assert.is_false((pcall(read_all, client, #content)))
    assert.same({ nil, "closed", "EOF" }, { client:read() })
  end)
end)

describe("a client that stands still", function()
  it("in the middle of a body is answered with 408", function()
    local got
    local client <close> = with_settings({ min_rate = 0 }, function(req)
      got = table.pack(req:body())
    end)
    client:write "POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: 10\r\n\r\n12345"
    test.advance(29)
    client:write "6" -- each byte begins the time anew
    test.advance(29)
    assert.is_nil(got)
    test.advance(1)
    assert.same({ nil, "timeout", "ETIMEDOUT", n = 3 }, got)
    local status, fields = take_head(client)
    assert.same({ 408, "close" }, { status, fields.connection })
  end)

  it("in the middle of an answer is given up", function()
    local got
    local client <close> = answering(function(_, res)
      repeat got = table.pack(res:write(("x"):rep(100000))) until not got[1]
    end)
    client:write(GET)
    test.advance(29)
    client:read(1000000)
    test.advance(30) -- by then it is seen that it has read, and the time begins anew
    assert.is_truthy(got[1])
    test.advance(30)
    assert.same({ nil, "timeout", "ETIMEDOUT", n = 3 }, got)
  end)

  it("and only asks, is given up too", function()
    local served = 0
    local client <close> = answering(function(_, res)
      served = served + 1
      res:send(("x"):rep(10000))
    end)
    task.spawn(function() client.conn:write(GET:rep(1000)) end)
    test.settle()
    assert.is_true(served > 1 and served < 1000)
    test.advance(45) -- 30 seconds, and some to be closed
    assert.equal("closed", (select(2, client:write "x")))
  end)

  it("while the handler is busy with something else is not", function()
    local client <close> = answering(function(req, res)
      task.sleep(100)
      res:send(req:body())
    end)
    client:write "POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: 2\r\n\r\nx"
    test.advance(100)
    client:write "y"
    assert.equal("xy", (take_body(client)))
  end)
end)

describe("settings", function()
  it("are the application's own", function()
    local client <close> = with_settings({ keep_alive = 5, head_time = 2 },
      function(_, res) res:send "x" end)
    client:write(GET)
    take_body(client)
    test.advance(4.9)
    client:settimeout(0)
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { client:read(1) })
    client:write "GET"
    test.advance(2)
    assert.equal(408, (take_head(client)))
  end)

  it("are checked", function()
    assert.has_error(function() core.http.engine(print, { keep_alive = -1 }) end)
    assert.has_error(function() core.http.engine(print, { body_limit = "much" }) end)
  end)
end)
