local http = require "moonpool.http"
local moonpool = require "moonpool"
local net = require "moonpool.net"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local function upper(conn)
  for line in conn:lines() do conn:write(line:upper(), "\n") end
end

-- Counts lines over as many workers as it takes.
local function counting(conn, state)
  while true do
    conn:checkpoint(state)
    if not conn:read "l" then return end
    state.n = state.n + 1
    conn:write(state.n, "\n")
  end
end

local counter = {
  serve = function(conn) counting(conn, { n = 0 }) end,
  resume = function(conn, state) counting(conn, state) end,
}

local REQUEST = "POST /double HTTP/1.1\r\nHost: spec\r\nContent-Length: 3\r\n\r\nab\n"

local function doubling()
  local app = http.app()
  app:post("/double", function(req, res)
    moonpool.sleep(0.1)
    res:send(req:body():rep(2))
  end)
  return app
end

local function check_doubled(client)
  assert.equal("HTTP/1.1 200 OK", client:read())
  client:shutdown()
  assert.equal("ab\nab\n", client:read("a"):match "\r\n\r\n(.*)$")
end

describe("a request that is split", function()
  it("is the same request", function()
    test.every_split(test.app(doubling()), REQUEST, check_doubled)
    test.every_split(test.app(upper), "one\ntwo\n", function(client)
      assert.equal("ONE\nTWO\n", client:read(8))
    end)
  end)

  it("fails with the place where it matters", function()
    local careless = test.app(function(conn)
      if conn:readsome() == "hello\n" then conn:write "hi\n" end
    end)
    local ok, why = pcall(test.every_split, careless, "hello\n", function(client)
      assert.equal("hi", client:read())
    end)
    assert.is_false(ok)
    assert.matches("^split after byte 1 of 6: ", tostring(why))
  end)
end)

describe("system calls", function()
  local app

  before_each(function() app = test.app(doubling()) end)
  after_each(function() app:close() end)

  local function ask()
    local client <close> = app:connect()
    client:write(REQUEST)
    check_doubled(client)
  end

  for _, kind in ipairs { "EAGAIN", "EINTR", "short" } do
    it("that end with " .. kind .. ", at any place, make no difference", function()
      assert.is_true(test.every(kind, ask) >= 3)
    end)
  end

  it("that move one byte each, or fail every second time, make no difference", function()
    test.io({ most = 1 }, ask)
    test.io({ error = "EAGAIN", step = 2 }, ask)
    test.io({ most = 1, on = "write" }, ask)
    test.io({ error = "EINTR", step = 2, on = "read" }, ask)
  end)

  it("count for sendfile and for descriptors too", function()
    local path = os.tmpname()
    finally(function() os.remove(path) end)
    local text = ("0123456789"):rep(100000)
    local file <close> = assert(io.open(path, "w+"))
    file:write(text):flush()
    local function send()
      local client <close> = test.connect(function(conn) conn:sendfile(file, 0) end)
      assert.is_true(client:read "a" == text)
    end
    test.io({ most = 10000, on = "write" }, send)
    assert.is_true(test.every("EAGAIN", send) >= 2)
    test.every("short", function()
      local client <close> = test.connect(function(conn)
        local one, other = net.pair()
        conn:sendfd(one, "with it")
        other:close()
      end)
      assert.equal("with it", client:read(7))
      assert(client:recvfd()):close()
    end)
  end)

  it("are counted for handlers only", function()
    local client <close> = test.connect(upper)
    local places = test.fault("ECONNRESET", 1000, function()
      client:write "line\n"
      assert.equal("LINE", client:read())
    end)
    assert.equal(3, places) -- a read, another that finds nothing, and a write
  end)

  it("that fail for good end the connection, and nothing else", function()
    local codes
    local other <close> = test.connect(upper)
    test.settle() -- it waits for its client before anything goes wrong
    local places = test.every("ECONNRESET", function()
      codes = {}
      local client <close> = test.connect(function(conn)
        for i = 1, 3 do
          local ok, _, code = conn:read "l"
          if ok then ok, _, code = conn:write "x\n" end
          if ok then ok, _, code = conn:flush() end
          codes[i] = ok and "fine" or code
        end
      end)
      client:write "one\ntwo\n"
      client:shutdown()
      client:read "a"
      assert.is_true(codes[1] == "ECONNRESET" or codes[1] == "fine")
      assert.is_true(codes[3] == "ECONNRESET" or codes[3] == "EOF")
    end)
    assert.is_true(places >= 1)
    other:write "still\n"
    assert.equal("STILL", other:read())
  end)
end)

describe("an error in any wait of a handler", function()
  it("ends that request, and the next is served", function()
    local app = test.app(doubling())
    local places = test.every("error", function()
      local answer = app:post("/double", { body = "x" })
      assert(not answer or answer.status == 500 or answer.body == "xx")
    end)
    assert.is_true(places >= 1)
    assert.equal("xx", app:post("/double", { body = "x" }).body)
  end)

  it("closes what the handler has in <close> variables", function()
    local open = 0
    local function handler(conn)
      open = open + 1
      local _ <close> = setmetatable({}, { __close = function() open = open - 1 end })
      upper(conn)
    end
    local places = test.every("error", function()
      local client <close> = test.connect(handler)
      client:write "a\n"
      client:write "b\n"
    end)
    assert.is_true(places >= 3)
    assert.equal(0, open)
  end)

  it("is said with its place by what a check raises", function()
    local ok, why = pcall(test.every, "error", function()
      local client <close> = test.connect(upper)
      client:write "a\n"
      assert.equal("A", client:read())
    end)
    assert.is_false(ok)
    assert.matches("^error at place 1 of 1: ", tostring(why))
  end)
end)

describe("memory that fails at any place", function()
  it("fails that request, and the next is served", function()
    local app = test.app(doubling())
    local places = test.every("memory", function()
      local client <close> = app:connect()
      client:write(REQUEST)
      local status = client:read()
      assert(not status or status:find "^HTTP/1.1 [25]0[03] ", status)
    end)
    assert.is_true(places > 10)
    assert.equal("xx", app:post("/double", { body = "x" }).body)
  end)

  it("is not the spec's", function()
    test.connect(upper)
    local places = test.fault("memory", 1, function()
      return { ("x"):rep(100) .. os.time() }
    end)
    assert.equal(0, places)
  end)
end)

describe("a worker that dies in any wait", function()
  it("loses no connection that is at a checkpoint", function()
    local app = test.app(counter)
    local places = test.every("kill", function()
      local client <close> = app:connect()
      for n = 1, 3 do
        client:write "\n"
        assert.equal(tostring(n), client:read())
      end
    end)
    assert.equal(4, places) -- one before each line, and one for the end
  end)

  it("loses what is in a request, and none that waits for one", function()
    local app = test.app(doubling())
    local outcomes = {}
    local places = test.every("kill", function(n)
      local answer, _, code = app:post("/double", { body = "x" })
      outcomes[n] = answer and answer.body or code
      assert.equal(404, app:get("/other").status)
    end)
    assert.same({ 1, { "EOF", "xx" } }, { places, outcomes })
  end)
end)

describe("a connection that is moved at any step", function()
  local function talk(app)
    local client <close> = app:connect()
    for n = 1, 3 do
      client:write "\n"
      assert.equal(tostring(n), client:read())
    end
    test.advance(1)
  end

  it("goes on as if it had not been", function()
    assert.equal(4, test.every_move(test.app(counter), talk))
  end)

  it("fails with the step where its checkpoint was not enough", function()
    local forgetful = { serve = counter.serve, resume = counter.serve }
    local ok, why = pcall(test.every_move, test.app(forgetful), talk)
    assert.is_false(ok)
    assert.matches("^reloaded at each step: ", tostring(why))
    local late = {
      serve = counter.serve,
      resume = function(conn, state)
        state.n = state.n == 2 and 7 or state.n
        counting(conn, state)
      end,
    }
    local seen = {}
    ok, why = pcall(test.every_move, test.app(late), function(app)
      local client <close> = app:connect()
      client:write "\n\n"
      client:write "\n"
      seen[#seen + 1] = client:read(6)
      assert.equal("1\n2\n3\n", seen[#seen])
    end)
    assert.is_false(ok)
    assert.matches("expected", tostring(why):lower())
  end)

  it("takes HTTP along", function()
    test.every_move(test.app(doubling()), function(app)
      for _ = 1, 2 do
        assert.response(app:post("/double", { body = "x" })).has.body "xx"
      end
    end)
  end)
end)

describe("a clock that jumps", function()
  it("fires at once what was due in between", function()
    local times, began = {}, moonpool.now()
    for i = 1, 3 do
      moonpool.spawn(function()
        moonpool.sleep(i)
        times[i] = moonpool.now() - began
      end)
    end
    test.jump(2.5)
    assert.same({ 2.5, 2.5 }, times)
    test.advance(1)
    assert.same({ 2.5, 2.5, 3 }, times)
  end)

  it("does not go backwards, and is virtual", function()
    assert.is_false(pcall(test.jump, -1))
    test.virtual(false)
    assert.has_error(function() test.jump(1) end,
      "the clock is real: only a virtual one can jump")
  end)

  it("ends what has timed out, however far", function()
    local app = test.app(doubling())
    assert.equal(200, app:post("/double", { body = "" }).status)
    test.jump(1e6)
    assert.equal(200, app:post("/double", { body = "" }).status)
    assert.equal(2, #app.clients)
  end)
end)

describe("faults", function()
  it("end with the test", function()
    require("moonpool.test_native").fault.io { error = "ECONNRESET" }
  end)

  it("end with the test, really", function()
    local client <close> = test.connect(upper)
    client:write "line\n"
    assert.equal("LINE", client:read())
  end)

  it("have known names", function()
    assert.is_false(pcall(test.fault, "nonsense", 1, print))
    assert.is_false(pcall(test.io, { error = "ENOSUCH" }, print))
    assert.is_false(pcall(test.io, { on = "both" }, print))
    assert.is_false(pcall(test.io, { first = 0 }, print))
  end)
end)
