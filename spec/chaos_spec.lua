-- A bad minute: workers are killed, the program is reloaded and upgraded, handlers loop,
-- and some clients are slow; all at once, in an order that CHAOS_SEED repeats. The
-- length is CHAOS_SECONDS.
--
-- What may happen then: a request that a killed worker was in ends in a 502, a handler
-- that loops in a 503, and nothing else is noticed by anyone.

local core = require "moonpool.core"
local harness = require "server"
local process = require "native.process"
local scripts = require "scripts"
local test = require "moonpool.test"

local SEED = tonumber(os.getenv "CHAOS_SEED") or 1
local SECONDS = tonumber(os.getenv "CHAOS_SECONDS") or 15
local PATIENCE = 30
local CLIENTS = 40
local MEMORY = (harness.is_sanitized and 512 or 64) << 20 -- bytes, of the supervisor

local SITE = [[
  local moonpool = require "moonpool"
  local app = require("moonpool.http").app { idle_time = 60 }
  app:get("/sleep", function(_, res) moonpool.sleep(0.01) res:send "slept" end)
  app:get("/loop", function() while true do end end)
  app:get("/:id", function(req, res) res:send(req.params.id) end)
  app:post("/", function(req, res) res:send(req:body()) end)
  return app
]]

-- Numbers lines, and answers each once.
local COUNTER = scripts.numbers "again"

local POOLS = [[
  return { pools = {
    site = { app = "site.lua", listen = "127.0.0.1:0", workers = 2, survive = true,
      handler_timeout = 0.5 },
    counter = { app = "counter.lua", listen = "127.0.0.1:0", workers = 2,
      survive = true },
  } }
]]

local tally

local function count(what)
  tally[what] = tally[what] + 1
end

local function connect(server, pool)
  local address = server.text:match(pool .. ": listening on (%S+)")
  local conn = assert(core.net.connect(address, PATIENCE))
  conn:settimeout(PATIENCE)
  return conn
end

-- An answer's status and content; nil if the connection has ended before its first byte.
-- Whatever else is not a whole answer raises.
local function answer(conn)
  local first = conn:read "l"
  if not first then return nil end
  local status, length = assert(tonumber(first:match "^HTTP/1.1 (%d%d%d) "), first), nil
  repeat
    local line = assert(conn:read "l")
    length = line:match "^Content%-Length: (%d+)$" or length
  until line == ""
  return status, (assert(conn:read((assert(tonumber(length))))))
end

-- Each makes a request of a number, and says what is to be answered.
local requests = {
  function(i)
    return ("GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"):format(i), tostring(i)
  end,
  function() return "GET /sleep HTTP/1.1\r\nHost: x\r\n\r\n", "slept" end,
  function(i)
    local content = ("%d "):format(i):rep(500)
    return ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"):format(
      #content, content), content
  end,
}

-- One client's requests, one after the other, until it is over or one is interrupted.
local function visit(conn, random, is_over, pace)
  repeat
    local i = random(1, 1000000)
    local text, content = requests[random(1, 3)](i)
    pace(conn, text)
    count "asked"
    local got_status, got_content = answer(conn)
    if got_status == 502 then count "interrupted" return end
    assert(got_status, "a connection was closed without an answer")
    assert.equal(200, got_status)
    assert.equal(content, got_content)
    count "answered"
  until is_over()
end

local function at_once(conn, text)
  assert(conn:write(text))
end

-- In pieces, with pauses.
local function slowly(conn, text)
  local piece = #text // 3 + 1
  for at = 1, #text, piece do
    assert(conn:write(text:sub(at, at + piece - 1)))
    assert(conn:flush())
    core.task.sleep(0.02)
  end
end

local function loop(conn)
  at_once(conn, "GET /loop HTTP/1.1\r\nHost: x\r\n\r\n")
  count "loops"
  local status = answer(conn)
  assert(status == 503 or status == 502, "a loop's status")
end

local function count_lines(conn, random, is_over)
  local n = 0
  repeat
    n = n + 1
    local text = ("x"):rep(random(0, 200))
    assert(conn:write(text, "\n"))
    count "said"
    assert.equal(n .. " " .. text, (assert(conn:read "l")))
    count "echoed"
    if n % 8 == 0 then core.task.sleep(0.001 * random(0, 10)) end
  until is_over()
end

-- What happens to the server, one thing after the other.
local blows = {}

function blows.kill(server, random)
  local workers = {}
  for _, pool in ipairs { "site", "counter" } do
    for _, pid in pairs(server:workers(pool)) do workers[#workers + 1] = pid end
  end
  local pid = workers[random(1, #workers)]
  local crash = harness.is_sanitized and "ABRT" or "SEGV" -- of which ASan would speak
  if pid and process.kill(pid, random(1, 2) == 1 and "KILL" or crash) then
    count "kills"
  end
end

function blows.reload(server)
  server:kill "HUP"
  count "reloads"
end

function blows.upgrade(server)
  server:kill "USR2"
  count "upgrades"
end

local function strike(server, random, is_over)
  local names = { "kill", "kill", "kill", "reload", "upgrade" }
  repeat
    core.task.sleep(0.001 * random(20, 400))
    blows[names[random(1, #names)]](server, random)
  until is_over()
end

-- A loop now and then, each on a connection of its own.
local function loop_at_times(server, random, is_over)
  repeat
    core.task.sleep(random(1, 2))
    local conn <close> = connect(server, "site")
    loop(conn)
  until is_over()
end

-- Numbers that depend on the seed and on who asks, and on nothing else.
local function random_of(who)
  local state = SEED * 1000003 + who
  return function(from, to)
    state = state * 6364136223846793005 + 1442695040888963407
    return from + (state >> 33) % (to - from + 1)
  end
end

-- act(conn, random, is_over, ...) on one connection after the other.
local function client(pool, act, ...)
  local rest = table.pack(...)
  return function(server, random, is_over)
    repeat
      local conn <close> = connect(server, pool)
      act(conn, random, is_over, table.unpack(rest))
    until is_over()
  end
end

local clients = {
  client("site", visit, at_once), client("site", visit, at_once),
  client("site", visit, slowly), client("counter", count_lines),
}

-- Everybody at once, for as long as it takes.
local function crowd(server)
  local ends = core.task.now() + SECONDS
  local function is_over() return core.task.now() >= ends end
  harness.in_parallel(CLIENTS + 2, function(i)
    local act = clients[i % #clients + 1]
    if i == CLIENTS + 1 then act = strike elseif i > CLIENTS then act = loop_at_times end
    act(server, random_of(i), is_over)
  end)
end

local function start(directory)
  harness.write_file(directory .. "/site.lua", SITE)
  harness.write_file(directory .. "/counter.lua", COUNTER)
  harness.write_file(directory .. "/pools.lua", POOLS)
  local server = harness.start { "serve", "--config", directory .. "/pools.lua" }
  server:expect "ready: 4 workers"
  return server
end

describe("a bad minute", function()
  require "tidy" (before_each, after_each)

  it("costs nobody anything but what was being done by who was killed", function()
    local directory = harness.directory()
    local server <close> = start(directory)
    local count_before = server:descriptors()[1]
    tally = setmetatable({}, { __index = function() return 0 end })
    crowd(server)
    test.settle()
    print(("\nseed %d: %d requests, %d answered, %d interrupted; %d lines, %d echoed; "
      .. "%d kills, %d reloads, %d upgrades, %d loops"):format(SEED, tally.asked,
      tally.answered, tally.interrupted, tally.said, tally.echoed, tally.kills,
      tally.reloads, tally.upgrades, tally.loops))
    assert.equal(tally.asked, tally.answered + tally.interrupted)
    assert.equal(tally.said, tally.echoed)
    assert.is_true(tally.kills > SECONDS and tally.reloads > 0 and tally.upgrades > 0)
    assert.is_truthy(server.text:find "upgraded:")
    assert.is_nil(server.text:find "[1-9]%d* lost\n")
    assert.is_true(harness.memory(server.pid) < MEMORY)
    harness.eventually(function()
      return harness.descriptors(server.pid) == count_before and server:children() == 4
    end, "four workers, and the descriptors as before")
    server:stop()
    harness.remove(directory)
  end)
end)
