local channel = require "native.channel"
local endpoint = require "native.endpoint"
local harness = require "server"
local proc = require "moonpool.test_proc"
local process = require "native.process"
local scoreboard = require "native.scoreboard"
local ws_client = require "ws_client"

local FIELDS <const> = {
  "generation", "pool", "pid", "want_slot", "lost_messages", "received", "topics", "open",
  "pinned", "draining", "served", "requests", "errors", "lua_bytes", "heartbeat",
  "deciding", "holders_end",
}

local before
before_each(function() before = harness.descriptors(process.pid()) end)
after_each(function() assert.equal(before, harness.descriptors(process.pid())) end)

local function create(count) return assert(scoreboard.create(count)) end

describe("a scoreboard", function()
  it("is empty at first, in every cell", function()
    local board <close> = create(5)
    assert.equal(5, #board)
    for i = 1, #board do
      for _, field in ipairs(FIELDS) do assert.equal(0, board:get(i, field)) end
    end
  end)

  it("keeps each field of each cell apart", function()
    local board <close> = create(4)
    for i = 1, #board do
      for n, field in ipairs(FIELDS) do board:set(i, field, 100 * i + n) end
    end
    for i = 1, #board do
      for n, field in ipairs(FIELDS) do assert.equal(100 * i + n, board:get(i, field)) end
    end
  end)

  it("has fields that are wide enough", function()
    local board <close> = create(1)
    for _, field in ipairs {
      "generation", "lost_messages", "received", "topics", "served", "requests", "errors",
      "lua_bytes", "heartbeat", "deciding",
    } do
      board:set(1, field, 1 << 63)
      assert.equal(1 << 63, board:get(1, field))
    end
  end)

  it("is not inherited, and can be closed twice", function()
    local board = create(1)
    assert.is_true((channel.flags(board:fd())))
    board:close()
    assert.equal(-1, board:fd())
    board:close()
  end)

  it("costs the memory that is touched, and nothing of a core dump", function()
    local board <close> = create(100)
    for i = 1, 100 do board:set(i, "open", 1) end
    local maps <close> = io.open "/proc/self/smaps"
    local found = false
    for map in maps:read("a"):gmatch "/memfd:moonpool scoreboard.-\nVmFlags: [^\n]*" do
      if tonumber(map:match "\nSize: *(%d+) kB") > 800 << 10 then -- else another's
        found = true
        assert.is_true(tonumber(map:match "\nRss: *(%d+) kB") <= 400)
        assert.matches(" dd ", map:match "VmFlags:.*")
      end
    end
    assert.is_true(found)
  end)

  it("is shared by all who attach to its descriptor", function()
    local board <close> = create(3)
    local other <close> = assert(scoreboard.attach(channel.dup(board:fd())))
    assert.equal(3, #other)
    board:set(2, "received", 12)
    other:set(3, "open", 7)
    assert.equal(12, other:get(2, "received"))
    assert.equal(7, board:get(3, "open"))
  end)

  it("is shared with other processes, and stays when they are killed", function()
    local board <close> = create(2)
    board:set(1, "received", 5)
    local a, b = channel.pair()
    local pid = channel.fork(function()
      local mine = assert(scoreboard.attach(channel.dup(board:fd())))
      mine:set(2, "served", mine:get(1, "received") + 1)
      channel.send(b, "done")
      channel.pause()
    end)
    assert.is_true(channel.poll(a, 20))
    process.kill(pid, "KILL")
    process.wait(pid)
    assert.equal(6, board:get(2, "served"))
    channel.close(a, b)
  end)

  it("outlives its creator as long as somebody is attached", function()
    local board = create(1)
    board:set(1, "requests", 3)
    local other <close> = assert(scoreboard.attach(channel.dup(board:fd())))
    board:close()
    assert.equal(3, other:get(1, "requests"))
  end)

  it("is refused, and the descriptor left alone, where it is something else", function()
    local a, b = channel.pair()
    local empty = channel.file()
    for _, fd in ipairs { a, empty } do
      assert.is_nil((scoreboard.attach(fd)))
      assert.is_true((channel.flags(fd)))
    end
    assert.same({ nil, "EBADF" }, { scoreboard.attach(-1) })
    channel.close(a, b, empty)
  end)

  it("says why it cannot be created, and leaves nothing", function()
    assert.equal("EMFILE", endpoint.child(function()
      channel.limit(channel.lowest())
      local _, why = scoreboard.create(1)
      return why
    end))
    assert.is_nil((scoreboard.create(1 << 50)))
  end)
end)

describe("a crowded pool", function()
  it("is known to all, and is one of 64", function()
    local board <close> = create(3)
    local other <close> = assert(scoreboard.attach(channel.dup(board:fd())))
    for pool = 1, 64 do
      board:set_crowded(pool, true)
      board:set_crowded(pool, true)
      for i = 1, 64 do assert.equal(i == pool, other:is_crowded(i)) end
      assert.is_true(other:is_crowded(pool + 64))
      board:set_crowded(pool, false)
      assert.is_false(other:is_crowded(pool))
    end
    for i = 1, 3 do
      for _, field in ipairs(FIELDS) do assert.equal(0, board:get(i, field)) end
    end
  end)
end)

describe("a slot that is given back", function()
  local board
  before_each(function() board = create(2) end)
  after_each(function() board:close() end)

  it("is one connection less", function()
    board:set(1, "open", 2)
    board:set(2, "open", 9)
    board:give_back(1)
    assert.equal(1, board:get(1, "open"))
    assert.equal(9, board:get(2, "open"))
  end)

  it("is told once to who has asked, and to nobody else", function()
    board:set(1, "open", 5)
    assert.is_false(board:give_back(1))
    board:ask(1)
    board:ask(1)
    assert.is_true(board:give_back(1))
    assert.is_false(board:give_back(1))
    board:ask(1)
    assert.is_true(board:give_back(1))
    assert.is_false(board:give_back(1))
    assert.equal(0, board:get(1, "open"))
  end)

  it("is not told on behalf of another worker", function()
    board:set(1, "open", 1)
    board:set(2, "open", 1)
    board:ask(2)
    assert.is_false(board:give_back(1))
    assert.is_true(board:give_back(2))
  end)

  it("is told too where it was only counted twice, until its connection is received",
    function()
      board:set(1, "open", 1)
      assert.is_false(board:receive(1, 1))
      assert.equal(1, board:get(1, "received"))
      board:ask(1)
      assert.is_true(board:receive(1, 2))
      assert.is_false(board:receive(1, 3))
      assert.equal(3, board:get(1, "received"))
      assert.equal(1, board:get(1, "open"))
    end)

  it("while somebody asks is told or seen, always", function()
    local many <close> = create(2000)
    assert.equal(0, many:race(50))
  end)
end)

describe("the scoreboard of a server", function()
  local function board_of(server)
    for number, what in pairs(proc.list_descriptors(server.pid)) do
      if what:find "moonpool scoreboard" then
        return assert(scoreboard.open(("/proc/%d/fd/%s"):format(server.pid, number)))
      end
    end
  end

  it("counts what handlers fail with, of whatever kind", function()
    local server <close> = harness.run { workers = 1, script = [[
      local moonpool = require "moonpool"
      local app = require("moonpool.http").app()
      app:get("/", function() error "a request" end)
      app:get("/task", function(_, res)
        moonpool.spawn(error, "a task"):detach()
        res:send "started"
      end)
      app:websocket("/ws", function(ws) error(ws:receive()) end)
      app:events("/events", function() error "a stream" end)
      return app
    ]] }
    local board <close> = board_of(server)
    local function ask(path)
      local client = server:connect()
      client:write("GET ", path, " HTTP/1.1\r\nHost: spec\r\n\r\n")
      return client
    end
    local function say()
      local ws = ws_client.open(server:connect(), "/ws")
      return ws:send("a message").client
    end
    for i, fail in ipairs { ask, say, ask, ask } do
      local path = ({ "/", nil, "/task", "/events" })[i]
      local client = fail(path)
      harness.eventually(function() return board:get(1, "errors") == i end)
      client:close()
    end
  end)

  it("counts them where a stream or a WebSocket has come to as well", function()
    local server <close> = harness.run { control = true, workers = 1, script = [[
      local app = require("moonpool.http").app()
      app:websocket("/ws", function(ws, _, why)
        if why then error(why) end
        ws:receive()
      end)
      app:events("/events", function(stream, _, why)
        if why then error(why) end
        stream:wait()
      end)
      return app
    ]] }
    local board <close> = board_of(server)
    local ws <close> = ws_client.open(server:connect(), "/ws")
    local client <close> = server:connect()
    client:write "GET /events HTTP/1.1\r\nHost: spec\r\n\r\n"
    assert.equal("HTTP/1.1 200 OK", client:read "l")
    server:reload()
    harness.eventually(function()
      local sum = 0
      for i = 1, 4 do sum = sum + board:get(i, "errors") end
      return sum == 2
    end)
    assert.equal(1011, (select(2, ws:receive())))
  end)
end)
