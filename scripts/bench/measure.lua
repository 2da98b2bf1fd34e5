-- Measures a case: starts those who take part, and lets each run once in every round, in
-- slices that they take in turn, so that what drifts hits all of them. At the end of a
-- round slices in which the cores were not near are repeated, and those again; but in all
-- no more than there were to be slices up to then.

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

-- The figures of a run: of those of its slices in which the cores were so.
local function run_of(kind, found, cores, state)
  local list = {}
  for _, slice in ipairs(found) do
    if slice.failed then return {} end
    if cores:state(slice.before, slice.after) == state then list[#list + 1] = slice end
  end
  if not list[1] then return {} end
  return kind.sum and kind.sum(list) or list[1]
end

--- Makes runs of what was found, by all that is known about the cores by now.
local function sum_up(outcome, cores)
  local kind = kinds[outcome.case.kind]
  for peer, rounds in pairs(outcome.found) do
    for round, found in ipairs(rounds) do
      outcome.runs[peer][round] = run_of(kind, found, cores, "near")
      outcome.far[peer][round] = run_of(kind, found, cores, "far")
    end
  end
end

-- The cores' distance, for kinds that have slices.
local function probe(course)
  return course.kind.sum and course.setup.cores:probe() or nil
end

-- A slice of each of these peers; a probe between two is for both.
local function turn(course, round, list)
  local outcome, kind = course.outcome, course.kind
  course.turns = course.turns + 1
  for _, peer in ipairs(slices.order(list, course.turns)) do
    local slice, why = run_with[kind.server](kind, outcome, peer, course.setup,
      course.running)
    slice = slice or { failed = why }
    slice.before, slice.after = course.distance, probe(course)
    course.distance = slice.after
    table.insert(outcome.found[peer][round], slice)
  end
end

-- Those of whom there are fewer slices of near cores than there are to be.
local function lacking(course, round)
  local list, cores = {}, course.setup.cores
  for _, peer in ipairs(course.present) do
    local near = 0
    for _, slice in ipairs(course.outcome.found[peer][round]) do
      local is_near = cores:state(slice.before, slice.after) == "near"
      if is_near or slice.failed then near = near + 1 end
    end
    if near < course.count then list[#list + 1] = peer end
  end
  return list
end

local function run_round(course, round)
  for _, peer in ipairs(course.present) do course.outcome.found[peer][round] = {} end
  course.distance = probe(course)
  for _ = 1, course.count do turn(course, round, course.present) end
  if course.setup.quick then return end
  course.spare = course.spare + course.count * #course.present
  local again = lacking(course, round)
  while again[1] and course.spare >= #again do
    course.spare = course.spare - #again
    turn(course, round, again)
    again = lacking(course, round)
  end
end

-- The rounds of a case: who is present, .count of slices in a round, how many turns they
-- have taken, and how many slices they may still repeat.
local function new_course(outcome, setup, running)
  local course = { outcome = outcome, kind = kinds[outcome.case.kind], running = running,
    present = {}, turns = 0, spare = 0 }
  course.count, course.setup = slices.of(outcome.case, setup)
  for _, peer in ipairs(outcome.order) do
    if not outcome.absent[peer] then table.insert(course.present, peer) end
  end
  return course
end

-- Whom the targets are for: without them there is nothing to be measured.
local function is_possible(outcome)
  local target = outcome.case.targets[1]
  local subject = target and target.who or "moonpool"
  return not outcome.case.missing and not outcome.absent[subject]
end

--- Measures a case.
-- @param setup as of server.lua, and kinds.lua's client_core, seconds; cores, rounds,
-- quick (nothing is repeated), installed, help
-- @return an outcome, see results.lua; .commands[peer] are those of its last run
local function measure(case, setup)
  local outcome = { case = case, order = plan.participants(case, setup), found = {},
    runs = {}, far = {}, absent = {}, commands = {} }
  for _, peer in ipairs(outcome.order) do
    outcome.found[peer], outcome.runs[peer], outcome.far[peer] = {}, {}, {}
    outcome.absent[peer] = packages.absence(peers[peer], setup.installed, setup.help)
  end
  if not is_possible(outcome) then return outcome end
  local running <close> = start_all(outcome, setup)
  warm_up(outcome, setup, running)
  local course = new_course(outcome, setup, running)
  for round = 1, setup.rounds do run_round(course, round) end
  sum_up(outcome, setup.cores)
  return outcome
end

return { measure = measure, sum_up = sum_up }
