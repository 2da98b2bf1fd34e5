-- How a case is measured. A kind has .measure(server, case, setup), which makes one run
-- and returns its figures, or nil, message; and .server: one that is "shared" by all
-- runs, a "fresh" one for each, or one that measure has "launched" by server(port). Where
-- it has .sum too, what is measured is a slice: .sum(slices) are the figures of a run.
--
-- Figures: rate (requests/s), cpu and user (us of the server's processes per request),
-- per_cpu (requests per second of their time), p50 and p99 (us), errors, others (the part
-- of the server's core that was not the server's); and what a kind has of its own.

local core = require "moonpool.core"
local machine = require "bench.machine"
local program = require "bench.program"
local slices = require "bench.slices"

local SETTLE = 0.05 -- seconds for programs to finish what they have begun
local WRK_LOOKS = 0.1 -- seconds between its looks at whether it is over

---------------------------------------------------------------------------------------
-- Clients.

local function url(server, case)
  return ("http://127.0.0.1:%s%s"):format(server.port, case.request.path)
end

-- wrk is told whole seconds, but SIGINT ends it too, with all that it has to say.
local function wrk(server, case, setup)
  local argv = { "timeout", "--preserve-status", "-s", "INT",
    ("%.2f"):format(setup.seconds - WRK_LOOKS / 2), "wrk", "-t1",
    "-c" .. (case.clients or 64), ("-d%ds"):format(math.ceil(setup.seconds)), "-s",
    "scripts/bench/wrk.lua", url(server, case), "--" }
  local function add(name, value)
    if value then argv[#argv + 1] = name .. "=" .. value end
  end
  local request = case.request
  add("method", request.method)
  add("body", request.body)
  add("pipeline", case.pipeline)
  for _, field in ipairs(request.fields or {}) do
    add("header", (field:gsub(": ", ":", 1)))
  end
  return argv
end

local function path_of(case)
  return case.app == "line" and "-" or case.request.path
end

-- Those of load's who connect only once say so, and begin when they are told to.
local is_patient = { keep = true, line = true, ws = true, cast = true }

local function load(mode, server, case, setup)
  local argv = { setup.build .. "/bench/load", mode, "-c", tostring(case.clients or 64),
    "-d", tostring(setup.seconds) }
  if case.rate then table.move({ "-r", tostring(case.rate) }, 1, 2, #argv + 1, argv) end
  if is_patient[mode] then argv[#argv + 1] = "-w" end
  return table.move({ server.port, path_of(case) }, 1, 2, #argv + 1, argv)
end

local clients = {
  wrk = wrk,
  close = function(...) return load("close", ...) end,
  keep = function(...) return load("keep", ...) end,
  line = function(...) return load("line", ...) end,
  ws = function(...) return load("ws", ...) end,
  cast = function(...) return load("cast", ...) end,
}

---------------------------------------------------------------------------------------
-- Full load, or a rate.

-- What wrk.lua and load print.
local function parse(text)
  local told = {}
  for name, value in text:gmatch "(%w+)=([%d.]+)" do told[name] = tonumber(value) end
  if not told.requests or told.requests == 0 then
    return nil, "no request was answered"
  end
  return told
end

-- All clocks at once.
local function look(server, setup)
  local seen = machine.cpu(server:pids())
  seen.time, seen.busy = core.task.now(), machine.busy(setup.server_core)
  return seen
end

-- Until the server has finished what its clients have left: its clock stands still.
local function settle(server)
  local last
  program.eventually(function()
    local before = last
    last = machine.cpu(server:pids()).ns
    return last == before
  end, 1)
end

-- Lets the clients of the case run once: a slice.
local function slice(server, case, setup)
  local argv = clients[case.client](server, case, setup)
  server.client_argv = argv
  local client <close> = program.start(argv, { core = setup.client_core })
  if is_patient[case.client] then
    client:expect "ready=%d+"
    settle(server) -- it has accepted them all
  end
  local before = look(server, setup)
  if is_patient[case.client] then client:signal "USR1" end
  local text, message = client:finish()
  if not text then return nil, message end
  local found
  found, message = parse(text)
  if not found then return nil, message end
  settle(server)
  for name, value in pairs(look(server, setup)) do found[name] = value - before[name] end
  return found
end

-- A run of one slice.
local function drive(server, case, setup)
  local found, message = slice(server, case, setup)
  if not found then return nil, message end
  return slices.sum { found }
end

---------------------------------------------------------------------------------------
-- Connections that stay open.

-- Calls fn() while n connections are held that have had one answer each.
local function holding(server, case, setup, fn)
  local mode = case.app == "ws" and "hold-ws" or "hold"
  local holder <close> = program.start({ setup.build .. "/bench/load", mode,
    "-c", tostring(case.held), server.port, path_of(case) }, { core = setup.client_core })
  if not holder:expect "held=%d+" then return nil, holder.text end
  core.loop.wait(SETTLE)
  local result, message = fn()
  holder:stop()
  local open = tonumber(holder.text:match "open=(%d+)")
  if open ~= case.held then
    return nil, ("only %s of %d connections stayed open"):format(open, case.held)
  end
  return result, message
end

-- What they cost in memory, and the clients beside them in time. The server is new: what
-- it does only once is done before.
local function memory(server, case, setup)
  drive(server, case, setmetatable({ seconds = 1 }, { __index = setup }))
  local alone, message = drive(server, case, setup)
  if not alone then return nil, message end
  local before = machine.memory(server:pids())
  return holding(server, case, setup, function()
    local bytes = (machine.memory(server:pids()) - before) / case.held
    local run, why = drive(server, case, setup)
    if not run then return nil, why end
    run.bytes, run.slowdown = bytes, run.cpu / alone.cpu
    return run
  end)
end

local function descriptors_of(pids)
  local counts = {}
  for i, pid in ipairs(pids) do counts[i] = machine.descriptors(pid) end
  return counts
end

-- How they are divided between the workers, which are the server's children.
local function balance(server, case, setup)
  local pids = server:pids()
  table.remove(pids, 1)
  local before = descriptors_of(pids)
  return holding(server, case, setup, function()
    local most, least = 0, math.maxinteger
    for i, count in ipairs(descriptors_of(pids)) do
      most, least = math.max(most, count - before[i]), math.min(least, count - before[i])
    end
    return { most = most, least = least, imbalance = most / math.max(least, 1) }
  end)
end

-- A reload moves all that are held to new workers; one of none is taken off.
local function moving(server, case, setup)
  local function reload()
    local began = core.task.now()
    local text, message = program.run({ setup.build .. "/moonpool", "reload", "--control",
      server.directory .. "/control" }, { core = setup.client_core })
    return text and core.task.now() - began, message
  end
  local empty, message = reload()
  if not empty then return nil, message end
  return holding(server, case, setup, function()
    local full, why = reload()
    if not full then return nil, why end
    return { move = (full - empty) * 1e6 / case.held }
  end)
end

---------------------------------------------------------------------------------------
-- Others.

-- Connections in a message to a worker: perf(1) counts the supervisor's sendmsg(2).
local function batches(server, case, setup)
  local event = "syscalls:sys_enter_sendmsg"
  local argv = { "perf", "stat", "-x", ",", "-e", event,
    "-p", tostring(server:pids()[1]) }
  local client = clients[case.client](server, case, setup)
  local text, message = program.run(table.move(client, 1, #client, #argv + 1, argv),
    { core = setup.client_core })
  if not text then return nil, message end
  local told, why = parse(text)
  local messages = tonumber(text:match("(%d+),,?" .. event))
  if not told or not messages then return nil, why or text end
  return { rate = told.requests / told.seconds, batch = told.requests / messages }
end

-- From before its exec to its first answer, and a worker's memory when that is over. The
-- programs that pin and guard it are part of the time.
local function startup(launch, case, setup)
  local port = machine.free_port()
  local first <close> = program.start({ setup.build .. "/bench/load", "first",
    tostring(port), path_of(case) }, { core = setup.client_core })
  core.loop.wait(SETTLE)
  local began = core.task.now()
  local server <close> = launch(port)
  local at = first:expect "at=([%d.]+)"
  if not at then return nil, first.text .. server.program.text end
  core.loop.wait(SETTLE)
  local pids, sum = server:pids(), 0
  for i = 2, #pids do sum = sum + machine.pss(pids[i]) end
  return { ready = (at - began) * 1e3, pss = sum / math.max(#pids - 1, 1) / 2 ^ 20 }
end

-- Full load for case.seconds; memory after a tenth of that, and at the end.
local function soak(server, case, setup)
  local long = setmetatable({ seconds = case.seconds }, { __index = setup })
  local early
  core.task.spawn(function()
    core.task.sleep(case.seconds / 10)
    early = machine.memory(server:pids())
  end)
  local run, message = drive(server, case, long)
  if not run then return nil, message end
  local late = machine.memory(server:pids())
  run.early, run.late, run.growth = early / 2 ^ 20, late / 2 ^ 20, late / early
  return run
end

return {
  drive = { server = "shared", measure = slice, sum = slices.sum },
  batches = { server = "shared", measure = batches },
  memory = { server = "fresh", measure = memory },
  balance = { server = "fresh", measure = balance },
  moving = { server = "fresh", measure = moving },
  soak = { server = "fresh", measure = soak },
  startup = { server = "launched", measure = startup },
}
