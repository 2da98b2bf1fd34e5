-- WebSockets that move from one worker's handler to another's, in this process: what goes
-- along, at every cut of what a client sends.

local http = require "moonpool.http"
local moonpool = require "moonpool"
local test = require "moonpool.test"
local vectors = require "ws_vectors"
local ws_client = require "ws_client"

-- Numbers each message, says in which worker it was, and how it came there.
local function counter(label, options)
  local app = http.app()
  local handler = {
    open = function() return { n = 0 } end,
    serve = function(ws, state, why)
      if why then ws:send(why .. " to " .. label) end
      for message, kind in ws:messages() do
        state.n = state.n + 1
        ws:send(("%s %d %s %s"):format(label, state.n, kind, message))
      end
    end,
  }
  for name, value in pairs(options or {}) do handler[name] = value end
  app:websocket("/", handler)
  return app
end

describe("a WebSocket", function()
  require "tidy" (before_each, after_each)

  it("goes on elsewhere with its state", function()
    local client <close> = test.connect(counter "a")
    local ws = ws_client.open(client, "/")
    ws:send "one"
    assert.equal("a 1 text one", (ws:receive()))
    assert.is_true(client:move(counter "b"))
    assert.equal("reload to b", (ws:receive()))
    ws:send "two"
    assert.equal("b 2 text two", (ws:receive()))
    for i = 1, 20 do
      assert.is_true(client:move(counter(tostring(i))))
      assert.equal("reload to " .. i, (ws:receive()))
    end
    ws:close(1000)
    assert.same({ nil, 1000, "" }, { ws:receive() })
    assert.is_true(ws:is_over())
  end)

  it("takes along what has come, at every cut", function()
    local bytes = vectors.text "one" .. vectors.first "h\xc3" .. vectors.ping "?"
      .. vectors.middle "\xa9" .. vectors.last "llo" .. vectors.binary(("x"):rep(130))
    for cut = 0, #bytes do
      local client <close> = test.connect(counter "-")
      local ws = ws_client.open(client, "/")
      ws:write(bytes:sub(1, cut))
      assert.is_true(client:move(counter "-"))
      ws:write(bytes:sub(cut + 1))
      local seen = {}
      while #seen < 4 do
        local payload = ws:frame()
        if payload ~= "reload to -" then seen[#seen + 1] = payload end
      end
      assert.same({ "- 1 text one", "?", "- 2 text héllo",
        "- 3 binary " .. ("x"):rep(130) }, seen, "cut at " .. cut)
    end
  end)

  it("takes along half a message of any length, byte by byte", function()
    local message = ("0123456789"):rep(30000)
    local client <close> = test.connect(counter "a")
    local ws = ws_client.open(client, "/")
    local frame = vectors.text(message)
    for i = 1, #frame, 50000 do
      ws:write(frame:sub(i, i + 49999))
      if i + 49999 < #frame then
        assert.is_true(client:move(counter "a"))
        assert.equal("reload to a", (ws:receive()))
      end
    end
    assert.equal("a 1 text " .. message, (ws:receive()))
  end)

  it("is refused for the same reasons after it has moved, at every cut", function()
    for _, vector in ipairs {
      { vectors.first "ab\xe2\x82" .. vectors.last "x", 1007 },
      { vectors.first "ab" .. vectors.text "c", 1002 },
      { vectors.first "12345" .. vectors.last "123456", 1009 },
    } do
      local bytes, code = vector[1], vector[2]
      local function script() return counter("-", { message_limit = 10 }) end
      for cut = 0, #bytes do
        local client <close> = test.connect(script())
        local ws = ws_client.open(client, "/")
        ws:write(bytes:sub(1, cut))
        local moved = client:move(script())
        ws:write(bytes:sub(cut + 1))
        if moved then assert.equal("reload to -", (ws:receive())) end
        assert.equal(code, (select(2, ws:receive())), "cut at " .. cut)
      end
    end
  end)

  it("is refused the rest of a message where less is taken than before", function()
    local client <close> = test.connect(counter "a")
    local ws = ws_client.open(client, "/")
    ws:write(vectors.first(("x"):rep(20)))
    assert.is_true(client:move(counter("b", { message_limit = 10 })))
    assert.equal("reload to b", (ws:receive()))
    ws:write(vectors.last "y")
    assert.equal(1009, (select(2, ws:receive())))
  end)

  it("stays while its handler does not wait for a message", function()
    local function script()
      return counter("a", { serve = function(ws)
        ws:send(ws:receive())
        moonpool.sleep(10)
        ws:receive()
      end })
    end
    local client <close> = test.connect(script())
    local ws = ws_client.open(client, "/")
    ws:send "x"
    assert.equal("x", (ws:receive()))
    assert.is_false(client:move(script()))
    test.advance(11)
    assert.is_true(client:move(script()))
  end)

  it("stays while another task waits to send, and when it is pinned", function()
    local client <close> = test.connect(counter("a", { serve = function(ws)
      moonpool.spawn(function()
        for _ = 1, 100 do ws:send(("x"):rep(100000)) end
      end)
      ws:receive()
      ws:pin()
      ws:receive()
    end }))
    local ws = ws_client.open(client, "/")
    assert.is_false(client:move())
    for _ = 1, 100 do assert.equal(100000, #ws:receive()) end
    assert.is_true(client:move())
    for _ = 1, 100 do assert.equal(100000, #ws:receive()) end
    ws:send "pin"
    assert.is_false(client:move())
  end)

  it("is left by all its tasks", function()
    local moved, closed
    local function serve(ws, _, why)
      if why then return end
      moonpool.spawn(function()
        local _ <close> = setmetatable({}, {
          __close = function() moved = ws:moved() end })
        moonpool.sleep(1000)
      end)
      local _ <close> = setmetatable({}, { __close = function()
        closed = { ws:moved(), ws:send "x" }
      end })
      ws:receive()
    end
    local client <close> = test.connect(counter("a", { serve = serve }))
    ws_client.open(client, "/")
    assert.is_true(client:move(counter "b"))
    assert.equal("reload", moved)
    assert.same({ "reload", nil, "Operation canceled", "ECANCELED" }, closed)
  end)

  it("has its state as it was when the message was asked for", function()
    local function script()
      return counter("a", { serve = function(ws, state, why)
        if why then return ws:send(tostring(state.n)) end
        state.n = 1
        moonpool.spawn(function() state.n = 2 end)
        ws:receive()
      end })
    end
    local client <close> = test.connect(script())
    local ws = ws_client.open(client, "/")
    assert.is_true(client:move(script()))
    assert.equal("1", (ws:receive()))
  end)

  it("needs a state of plain values", function()
    local client <close> = test.connect(counter("a", { serve = function(ws, state)
      state.fn = print
      ws:receive()
    end }))
    local ws = ws_client.open(client, "/")
    assert.same({ nil, 1011, "" }, { ws:receive() })
  end)

  it("is compressed afterwards as before", function()
    local function script(label) return counter(label, { compress = true }) end
    local client <close> = test.connect(script "a")
    local ws = ws_client.open(client, "/",
      { ["Sec-WebSocket-Extensions"] = "permessage-deflate" })
    assert.is_true(client:move(script "b"))
    assert.equal("reload to b", (ws:receive()))
    ws:send(("x"):rep(1000))
    local payload, kind, is_packed = ws:frame()
    assert.equal("text", kind)
    assert.is_true(is_packed)
    assert.is_true(#payload < 50)
  end)

  it("is found by its name, in an app that is mounted elsewhere", function()
    local function script(prefix, path)
      local inner, outer = http.app(), http.app()
      inner:websocket(path, { name = "talk", serve = function(ws, state)
        state.n = (state.n or 0) + 1
        ws:send(path .. state.n)
        ws:receive()
      end })
      return outer:mount(prefix, inner)
    end
    local client <close> = test.connect(script("/v1", "/a"))
    local ws = ws_client.open(client, "/v1/a")
    assert.equal("/a1", (ws:receive()))
    assert.is_true(client:move(script("/v2", "/b")))
    assert.equal("/b2", (ws:receive()))
  end)

  it("is closed with 1012 where its route is no more", function()
    local client <close> = test.connect(counter "a")
    local ws = ws_client.open(client, "/")
    local other = http.app()
    other:websocket("/other", function(socket) socket:receive() end)
    assert.is_true(client:move(other))
    assert.same({ nil, 1012, "it is gone" }, { ws:receive() })
  end)

  it("has a name that no other route has", function()
    local app, other = http.app(), http.app()
    app:websocket("/x", function() end)
    other:websocket("/x", function() end)
    app:mount("/other", other)
    local ok, why = pcall(test.connect, app)
    assert.is_false(ok)
    assert.matches("two routes are called /x", why)
  end)

  it("moves beside a script's own resume", function()
    local function script(label)
      return { serve = counter(label), resume = function() error "not this one" end }
    end
    local client <close> = test.connect(script "a")
    local ws = ws_client.open(client, "/")
    assert.is_true(client:move(script "b"))
    assert.equal("reload to b", (ws:receive()))
  end)
end)
