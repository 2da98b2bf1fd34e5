-- WebSockets of a whole server, while another program takes its place.

local harness = require "server"
local process = require "native.process"
local vectors = require "ws_vectors"
local ws_client = require "ws_client"

require "tidy" (before_each, after_each)

-- Each numbers what it hears, and says in its room what is for all.
local SCRIPT = [[
  local app = require("moonpool.http").app()
  local rooms = require("moonpool.rooms").open "chat"
  local function serve(ws, state, why)
    local room <close> = rooms:join("lobby", ws)
    if why then ws:send(why .. " " .. state.n) end
    for message in ws:messages() do
      state.n = state.n + 1
      local said = message:match "^all: (.*)"
      if said then room:publish(said) else ws:send(state.n .. " " .. message) end
    end
  end
  local function open() return { n = 0 } end
  app:websocket("/", { open = open, serve = serve, compress = true })
  return app
]]

local function run(args)
  return harness.run { script = SCRIPT, args = args, workers = 2, control = true }
end

local function open(server, fields)
  return ws_client.open(server:connect(), "/", fields)
end

local function open_packed(server)
  return open(server, { ["Sec-WebSocket-Extensions"] = "permessage-deflate" })
end

local function receive(ws)
  local payload, kind, is_packed = ws:frame()
  assert.equal("text", kind)
  return is_packed and vectors.unpack(payload) or payload
end

-- What it hears but for the news of its moves.
local function receive_said(ws)
  local text
  repeat text = receive(ws) until not text:find "^%l+ %d+$"
  return text
end

local function upgrade(server)
  local text, code = server:replace_program()
  assert.equal(0, code, text .. server.text)
end

for name, args in pairs { ["as it is"] = {}, ["that survives"] = { "--survive" } } do
  describe("a WebSocket of a pool " .. name .. ", in an upgrade", function()
    it("goes on with its state, time after time", function()
      local server <close> = run(args)
      local ws <close> = open(server)
      for i = 1, 5 do
        upgrade(server)
        assert.equal("reload " .. i - 1, receive(ws))
        ws:send "x"
        assert.equal(i .. " x", receive(ws))
      end
    end)

    it("takes along half a message, wherever it was cut", function()
      local server <close> = run(args)
      local heard = ws_client.interrupt_each(function() return open(server) end,
        function() upgrade(server) end)
      for cut, texts in pairs(heard) do
        assert.same({ "?", "reload 0", "1 hé" }, texts, "cut at " .. cut)
      end
    end)

    it("takes along half a message that is compressed, and compresses on", function()
      local server <close> = run(args)
      local message = ("all in one, and one in all; "):rep(20)
      local packed = vectors.pack(message)
      local half = #packed // 2
      local ws <close> = open_packed(server)
      ws:write(vectors.frame(0x41, packed:sub(1, half)))
      ws:ping "?"
      assert.equal("?", (ws:frame()))
      upgrade(server)
      assert.equal("reload 0", receive(ws))
      ws:write(vectors.frame(0x80, packed:sub(half + 1)))
      local payload, _, is_packed = ws:frame()
      assert.is_true(is_packed)
      assert.equal("1 " .. message, vectors.unpack(payload))
    end)

    it("hears all that is said meanwhile in its room, once and in one order", function()
      local server <close> = run(args)
      local all = { open(server), open_packed(server), open(server), open(server) }
      local said = 0
      local function say()
        said = said + 1
        all[said % #all + 1]:send("all: " .. said .. ".")
      end
      for i = 1, 3 do
        for _ = 1, 10 do say() end
        server:kill "USR2"
        for _ = 1, 10 do say() end
        server:expect(("upgraded:.-reloaded:.-"):rep(i))
        for _ = 1, 10 do say() end
      end
      local first
      for _, ws in ipairs(all) do
        local heard = {}
        for i = 1, said do heard[i] = receive_said(ws) end
        first = first or heard
        assert.same(first, heard)
        ws:send "the last"
        assert.matches("^%d+ the last$", receive_said(ws))
        ws.client:close()
      end
      local numbers = {}
      for _, text in ipairs(first) do numbers[tonumber(text)] = true end
      assert.equal(said, #numbers)
    end)

    it("stays with its worker where the new scripts do not load", function()
      local server <close> = run(args)
      local ws <close> = open(server)
      ws:write(vectors.first "a")
      server:change "error 'not today'"
      local _, code = server:replace_program()
      assert.equal(1, code)
      ws:write(vectors.last "b")
      assert.equal("1 ab", receive(ws))
      server:change(SCRIPT)
      upgrade(server)
      assert.equal("reload 1", receive(ws))
    end)
  end)
end

describe("a WebSocket whose worker is killed after an upgrade", function()
  it("goes on, as the program has what it needs of the one before", function()
    local server <close> = run { "--survive" }
    local ws <close> = open(server)
    ws:send "x"
    assert.equal("1 x", receive(ws))
    for i = 1, 3 do
      local workers = harness.eventually(function()
        local now = server:workers()
        return #now == 2 and now
      end)
      server:change "error 'not today'" -- so the workers are those of before
      server:replace_program()
      harness.await_workers(server, workers)
      server:change(SCRIPT)
      ws:write(vectors.first "y")
      for _, pid in pairs(workers) do assert(process.kill(pid, "KILL")) end
      assert.equal("crash " .. i, receive(ws))
      ws:write(vectors.last "y")
      assert.equal(i + 1 .. " yy", receive_said(ws)) -- it may have met two deaths
    end
  end)
end)
