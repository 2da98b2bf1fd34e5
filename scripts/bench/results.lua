-- What the runs of a case say. An outcome has
--
--     case, order     the case, and the names of who takes part
--     runs[peer]      a run for each round: its figures, or { failed = why }
--     absent[peer]    why there are none
--
-- Ratios are taken within each round, so that what drifts between rounds is in none of
-- them; of those, as of all else, the median counts.

local function median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  local n = #sorted
  if n == 0 then return nil end
  return (sorted[(n + 1) // 2] + sorted[n // 2 + 1]) / 2
end

-- fn(run of a, run of b) of each round in which both have succeeded.
local function pairs_of(outcome, a, b, fn)
  local list = {}
  for round, run in ipairs(outcome.runs[a] or {}) do
    local other = (outcome.runs[b] or {})[round]
    list[#list + 1] = other and fn(run, other)
  end
  return list
end

--- The median of a peer's figure; nil if there is none.
local function figure(outcome, peer, name)
  return median(pairs_of(outcome, peer, peer, function(run) return run[name] end))
end

--- The median of the rounds' ratios of two peers' figures.
local function ratio(outcome, a, b, name)
  return median(pairs_of(outcome, a, b, function(x, y)
    return x[name] and y[name] and x[name] / y[name]
  end))
end

local function difference(outcome, a, b, name)
  return median(pairs_of(outcome, a, b, function(x, y)
    return x[name] and y[name] and x[name] - y[name]
  end))
end

local function best(outcome, peer, name, is_more)
  local list = pairs_of(outcome, peer, peer, function(run) return run[name] end)
  return list[1] and (is_more and math.max or math.min)(table.unpack(list))
end

--- Of a target that is a ratio, that of each one's best run: on a shared machine others
-- only add to what a run takes, at times as much as it does itself.
local function best_ratio(outcome, target)
  local is_more = target.at_least ~= nil
  local a = best(outcome, target.who or "moonpool", target.figure, is_more)
  local b = target.of and best(outcome, target.of, target.figure, is_more)
  return a and b and a / b
end

--- What became of a target.
-- @return the value, nil if it was not measured; whether it is met
local function judge(outcome, target)
  local who = target.who or "moonpool"
  local value
  if target.of then
    value = ratio(outcome, who, target.of, target.figure)
  elseif target.plus then
    value = difference(outcome, who, target.plus, target.figure)
  else
    value = figure(outcome, who, target.figure)
  end
  if not value then return nil, false end
  if target.at_most then return value, value <= target.at_most end
  return value, value >= target.at_least
end

local function first_line(text)
  return text:match "^[^\n]*":sub(1, 160)
end

--- Why a peer has no figures, or not all: a sentence; nil if it has all.
local function trouble(outcome, peer)
  if outcome.absent[peer] then return first_line(outcome.absent[peer]) end
  local errors = 0
  for _, run in ipairs(outcome.runs[peer] or {}) do
    if run.failed then return first_line(run.failed) end
    errors = errors + (run.errors or 0)
  end
  if errors > 0 then return ("%d requests failed"):format(errors) end
end

--- The part of the servers' core that others had: the median of all runs, and the most.
local function others(outcomes)
  local list = {}
  for _, outcome in ipairs(outcomes) do
    for _, runs in pairs(outcome.runs) do
      for _, run in ipairs(runs) do list[#list + 1] = run.others end
    end
  end
  return median(list), list[1] and math.max(table.unpack(list))
end

return { others = others, median = median, figure = figure, ratio = ratio,
  best_ratio = best_ratio, judge = judge, trouble = trouble }
