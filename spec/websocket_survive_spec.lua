-- WebSockets of a whole server whose workers are killed or replaced.

local harness = require "server"
local process = require "native.process"
local vectors = require "ws_vectors"
local ws_client = require "ws_client"

require "tidy" (before_each, after_each)

-- Numbers messages. "die" kills the worker that got it, if no other was killed by it yet.
local SCRIPT = [[
  local app = require("moonpool.http").app()
  local function serve(ws, state, why)
    if why then ws:send(why .. " " .. state.n) end
    for message in ws:messages() do
      if message == "die" and why ~= "crash" then os.execute "kill -9 $PPID" end
      state.n = state.n + 1
      ws:send(state.n .. " " .. message)
    end
  end
  local function open() return { n = 0 } end
  app:websocket("/", { open = open, serve = serve })
  app:websocket("/again", { open = open, serve = serve, redeliver = true })
  return app
]]

local function run(options)
  options = options or {}
  options.script, options.args = SCRIPT, { "--survive" }
  return harness.run(options)
end

local function open(server, path)
  return ws_client.open(server:connect(), path or "/")
end

local function kill_all(server)
  for _, pid in pairs(server:workers()) do assert(process.kill(pid, "KILL")) end
end

describe("a WebSocket whose worker is killed", function()
  it("goes on with its state, again and again", function()
    local server <close> = run()
    local ws <close> = open(server)
    ws:send "a"
    assert.equal("1 a", (ws:receive()))
    for i = 1, 3 do
      kill_all(server)
      assert.equal("crash " .. i, (ws:receive()))
      ws:send "x"
      assert.equal(i + 1 .. " x", (ws:receive()))
    end
  end)

  it("has what had come of a message, wherever it was cut", function()
    local server <close> = run()
    local heard = ws_client.interrupt_each(function() return open(server) end,
      function() kill_all(server) end)
    for cut, texts in pairs(heard) do
      assert.same({ "?", "crash 0", "1 hé" }, texts, "cut at " .. cut)
    end
  end)

  it("has lost the message that killed it, as each is delivered at most once", function()
    local server <close> = run()
    local ws <close> = open(server)
    ws:write(vectors.text "a", vectors.text "die", vectors.text "b")
    assert.equal("1 a", (ws:receive()))
    assert.equal("crash 1", (ws:receive()))
    assert.equal("2 b", (ws:receive()))
  end)

  it("is given it again with redeliver, as each is delivered at least once", function()
    local server <close> = run()
    local ws <close> = open(server, "/again")
    ws:write(vectors.text "a", vectors.text "die", vectors.text "b")
    assert.equal("1 a", (ws:receive()))
    assert.equal("crash 1", (ws:receive()))
    assert.equal("2 die", (ws:receive()))
    assert.equal("3 b", (ws:receive()))
  end)

  it("does both with a message of fragments too", function()
    local server <close> = run()
    for path, after in pairs { ["/"] = { "1 b" }, ["/again"] = { "1 die", "2 b" } } do
      local ws <close> = open(server, path)
      ws:write(vectors.first "d", vectors.ping "?")
      assert.equal("?", (ws:frame())) -- the first fragment has been read
      ws:write(vectors.middle "i", vectors.last "e", vectors.text "b")
      assert.equal("crash 0", (ws:receive()))
      for _, expected in ipairs(after) do assert.equal(expected, (ws:receive())) end
    end
  end)

  it("is one of many", function()
    local server <close> = run { workers = 2 }
    local all = {}
    for i = 1, 100 do
      all[i] = open(server)
      all[i]:send "x"
      assert.equal("1 x", (all[i]:receive()))
    end
    kill_all(server)
    for i = 1, 100 do assert.equal("crash 1", (all[i]:receive())) end
    for i = 1, 100 do
      local text
      all[i]:send "y"
      repeat text = all[i]:receive() until text ~= "crash 1" -- it may have met two deaths
      assert.equal("2 y", text)
      all[i].client:close()
    end
  end)
end)

describe("a WebSocket of a server", function()
  it("moves at a reload", function()
    local server <close> = run { control = true }
    local ws <close> = open(server)
    for i = 1, 3 do
      local _, code = server:reload()
      assert.equal(0, code)
      assert.equal("reload 0", (ws:receive()), i)
    end
    ws:send "x"
    assert.equal("1 x", (ws:receive()))
  end)

  it("leaves nothing behind, and neither does what is no HTTP any more", function()
    local server <close> = harness.run { workers = 1, script = [[
      local app = require("moonpool.http").app()
      local known = setmetatable({}, { __mode = "k" })
      app:websocket("/ws", function(ws) known[ws] = true end)
      app:get("/raw", function(_, res) known[res:upgrade "raw"] = true end)
      app:get("/known", function(_, res)
        for _ = 1, 3 do collectgarbage() end
        res:send(next(known) and "some" or "none")
      end)
      return app
    ]] }
    for _ = 1, 10 do
      local ws = open(server, "/ws")
      assert.equal(1000, (select(2, ws:receive())))
      ws:close(1000).client:close()
      local client = server:connect()
      client:write("GET /raw HTTP/1.1\r\nHost: spec\r\nUpgrade: raw\r\n",
        "Connection: Upgrade\r\n\r\n")
      assert.matches("101", client:read "a")
      client:close()
    end
    local browser <close> = server:browser()
    harness.eventually(function() return browser:get("/known").body == "none" end)
  end)

  it("is told that the server stops", function()
    local server <close> = run()
    local ws <close> = open(server)
    server:kill "TERM"
    assert.same({ nil, 1001, "the server is stopping" }, { ws:receive() })
    ws:close(1001)
    assert.is_true(ws:is_over())
    assert.same({ "exit", 0 }, { server:wait() })
  end)
end)

describe("a room of a server", function()
  local CHAT = [[
    local app = require("moonpool.http").app()
    local rooms = require("moonpool.rooms").open "chat"
    app:websocket("/:room", { redeliver = true, serve = function(ws, state)
      local room <close> = rooms:join(state.params.room, ws)
      for message in ws:messages() do
        if message == "history" then
          ws:send("history " .. table.concat(room:history(), " "))
        else
          room:publish(message)
        end
      end
    end })
    return app
  ]]

  local function open_many(server, n)
    local all = {}
    for i = 1, n do all[i] = open(server, "/x") end
    return all
  end

  local function history(ws)
    ws:send "history"
    while true do
      local text = ws:receive()
      if text:find "^history " then return text end
    end
  end

  it("is heard in all workers, and loses nothing while they are killed", function()
    local server <close> = harness.run { script = CHAT, args = { "--survive" },
      workers = 3 }
    local all = open_many(server, 9)
    local said = 0
    local function say()
      said = said + 1
      all[said % 9 + 1]:send(tostring(said))
    end
    for _, pid in pairs(server:workers()) do
      for _ = 1, 20 do say() end
      assert(process.kill(pid, "KILL"))
      for _ = 1, 20 do say() end
      server:expect(("pid %d, died"):format(pid))
    end
    for _, ws in ipairs(all) do
      local seen, count = {}, 0
      while count < said do
        local text = ws:receive()
        if not seen[text] then count = count + 1 end
        seen[text] = true
      end
      ws.client:close()
    end
  end)

  it("is caught up with by who is killed again on the way", function()
    local server <close> = harness.run { args = { "--survive" }, script = [[
      local moonpool = require "moonpool"
      local app = require("moonpool.http").app()
      local rooms = require("moonpool.rooms").open "two"
      app:websocket("/", function(ws, _, why)
        local a <close> = rooms:join("a", ws)
        if why and moonpool.worker.generation == 2 then os.execute "kill -9 $PPID" end
        local b <close> = rooms:join("b", ws)
        for _ in ws:messages() do
          b:publish "said in b"
          a:publish "said in a"
          os.execute "kill -9 $PPID"
        end
      end)
      return app
    ]] }
    local ws <close> = open(server)
    ws:send "go"
    local heard = {}
    while not (heard["said in a"] and heard["said in b"]) do
      heard[ws:receive()] = true
    end
  end)

  it("has its history after a reload, and after a kill", function()
    local server <close> = harness.run { script = CHAT, args = { "--survive" },
      workers = 2, control = true }
    local ws <close> = open(server, "/x")
    for i = 1, 5 do
      ws:send(tostring(i))
      assert.equal(tostring(i), (ws:receive()))
    end
    server:reload()
    for _ = 1, 4 do
      local other <close> = open(server, "/x")
      assert.equal("history 1 2 3 4 5", history(other))
    end
    local pid = server:workers()[1]
    assert(process.kill(pid, "KILL"))
    harness.eventually(function()
      return server:workers()[1] and server:workers()[1] ~= pid
    end)
    for _ = 1, 4 do
      local other <close> = open(server, "/x")
      assert.equal("history 1 2 3 4 5", history(other))
    end
  end)
end)
