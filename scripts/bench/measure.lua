-- Measures a case: starts those who take part, and lets each run once in every round, in
-- slices that they take in turn, so that what drifts hits all of them.

local kinds = require "bench.kinds"
local packages = require "bench.packages"
local peers = require "bench.peers"
local plan = require "bench.plan"
local servers = require "bench.server"
local slices = require "bench.slices"

local function note_commands(outcome, peer, server)
  outcome.commands[peer] = { server = table.concat(server.argv, " "),
    client = table.concat(server.client_argv or {}, " ") }
end

-- Makes one run of one peer, or a slice of it, with a server as the kind wants it.
local run_with = {
  shared = function(kind, outcome, peer, setup, running)
    local run, why = kind.measure(running[peer], outcome.case, setup)
    note_commands(outcome, peer, running[peer])
    return run, why
  end,
  fresh = function(kind, outcome, peer, setup)
    local server, message = servers.start(peers[peer], outcome.case, setup)
    if not server then return nil, message end
    local _ <close> = server
    local run, why = kind.measure(server, outcome.case, setup)
    note_commands(outcome, peer, server)
    return run, why
  end,
  launched = function(kind, outcome, peer, setup)
    return kind.measure(function(port)
      local server = servers.launch(peers[peer], outcome.case, setup, port)
      note_commands(outcome, peer, server)
      return server
    end, outcome.case, setup)
  end,
}

-- The servers that run during all rounds; who does not start is absent.
local function start_all(outcome, setup)
  local running = setmetatable({}, { __close = function(self)
    for _, server in pairs(self) do server:stop() end
  end })
  if kinds[outcome.case.kind].server ~= "shared" then return running end
  for _, peer in ipairs(outcome.order) do
    if not outcome.absent[peer] then
      local server, why = servers.start(peers[peer], outcome.case, setup)
      running[peer], outcome.absent[peer] = server, why
    end
  end
  return running
end

-- For those who compile while they run; the short mode has no time for it.
local function warm_up(outcome, setup, running)
  if setup.quick then return end
  local short = setmetatable({ seconds = 1 }, { __index = setup })
  for _, peer in ipairs(outcome.order) do
    if running[peer] then kinds.drive.measure(running[peer], outcome.case, short) end
  end
end

-- What has become of a run: a list of what was measured, one after the other.
local function run_of(kind, found)
  for _, slice in ipairs(found) do
    if slice.failed then return slice end
  end
  return kind.sum and kind.sum(found) or found[1]
end

local function run_round(outcome, round, setup, running)
  local kind, found = kinds[outcome.case.kind], {}
  local count, short = slices.of(outcome.case, setup)
  for i = 1, count do
    for _, peer in ipairs(slices.order(outcome.order, (round - 1) * count + i)) do
      if not outcome.absent[peer] then
        local slice, why = run_with[kind.server](kind, outcome, peer, short, running)
        found[peer] = found[peer] or {}
        found[peer][i] = slice or { failed = why }
      end
    end
  end
  for peer, list in pairs(found) do outcome.runs[peer][round] = run_of(kind, list) end
end

-- Whom the targets are for: without them there is nothing to be measured.
local function is_possible(outcome)
  local target = outcome.case.targets[1]
  local subject = target and target.who or "moonpool"
  return not outcome.case.missing and not outcome.absent[subject]
end

--- Measures a case.
-- @param setup as of server.lua, and kinds.lua's client_core, seconds; rounds, quick,
-- installed, help
-- @return an outcome, see results.lua; .commands[peer] are those of its last run
local function measure(case, setup)
  local outcome = { case = case, order = plan.participants(case, setup), runs = {},
    absent = {}, commands = {} }
  for _, peer in ipairs(outcome.order) do
    outcome.runs[peer] = {}
    outcome.absent[peer] = packages.absence(peers[peer], setup.installed, setup.help)
  end
  if not is_possible(outcome) then return outcome end
  local running <close> = start_all(outcome, setup)
  warm_up(outcome, setup, running)
  for round = 1, setup.rounds do run_round(outcome, round, setup, running) end
  return outcome
end

return measure
