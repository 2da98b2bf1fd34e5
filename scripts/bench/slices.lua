-- A run in slices. On a shared machine the same work may cost three times as much in one
-- second as in the next: its cores are near each other, or are moved apart. So those who
-- are compared take turns often, which lets that hit all of them, and a run is the sum of
-- the slices in which the cores were near (cores.lua); of those in which they were far
-- there is a sum too.
--
-- What a slice has found: of its client requests, seconds, errors and p50, p99 and max
-- (us; 0: unknown); of its server ns, user and system (ticks) on a processor; and the
-- time that went by, and how much of it the server's core was busy, if known (s). And the
-- cores' distances before and after (ns), if known.

local results = require "bench.results"

local SECONDS = 0.2

local function is_sliced(case)
  return case.kind == "drive" and not case.whole
end

--- How many slices a run of so many seconds has.
local function count(seconds)
  return math.floor(seconds / SECONDS + 0.5)
end

--- The slices of a case's run.
-- @return how many; and setup, with the seconds of one
local function of(case, setup)
  if not is_sliced(case) then return 1, setup end
  return count(setup.seconds), setmetatable({ seconds = SECONDS }, { __index = setup })
end

--- Who takes part in a slice: there and back, so that nobody always follows the same one.
local function order(peers, slice)
  if slice % 2 == 1 then return peers end
  local list = {}
  for i = #peers, 1, -1 do list[#list + 1] = peers[i] end
  return list
end

local function each(slices, name)
  local list = {}
  for i, slice in ipairs(slices) do list[i] = slice[name] end
  return list
end

local function total(slices, name)
  local sum = 0
  for _, value in ipairs(each(slices, name)) do sum = sum + value end
  return sum
end

-- wrk sometimes has none of pipelined requests.
local function median(slices, name)
  local known = {}
  for _, value in ipairs(each(slices, name)) do
    if value > 0 then known[#known + 1] = value end
  end
  return results.median(known)
end

-- Whoever else was busy on the server's core, while it waited or not.
local function others(slices)
  if not slices[1].busy then return nil end
  local foreign = total(slices, "busy") - total(slices, "ns") / 1e9
  return math.max(foreign, 0) / total(slices, "time")
end

--- What the slices of a run come to: its figures, see kinds.lua.
local function sum(slices)
  local requests, user = total(slices, "requests"), total(slices, "user")
  local cpu, ticks = total(slices, "ns") / 1e3 / requests, user + total(slices, "system")
  return {
    rate = requests / total(slices, "seconds"), requests = requests,
    errors = total(slices, "errors"), cpu = cpu, per_cpu = 1e6 / cpu,
    user = ticks > 0 and cpu * user / ticks or nil,
    p50 = median(slices, "p50"), p99 = median(slices, "p99"),
    max = math.max(table.unpack(each(slices, "max"))), others = others(slices),
  }
end

return { count = count, of = of, order = order, sum = sum }
