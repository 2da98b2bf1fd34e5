-- What the runs of a case say. An outcome has
--
--     case, order     the case, and the names of who takes part
--     found[peer]     what was measured: for each round a list of slices, or of one run;
--                     those that failed have .failed = why
--     runs[peer]      for each round the figures while the cores were near (cores.lua),
--                     which may be none
--     far[peer]       likewise, while they were far
--     absent[peer]    why there is nothing
--
-- Ratios are taken within each round, so that what drifts between rounds is in none of
-- them; of those, as of all else, the median counts. What was never measured while the
-- cores were near is told of when they were far.

local function median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  local n = #sorted
  if n == 0 then return nil end
  return (sorted[(n + 1) // 2] + sorted[n // 2 + 1]) / 2
end

-- fn(run of a, run of b) of each round in which both have succeeded.
local function pairs_of(runs, a, b, fn)
  local list = {}
  for round, run in ipairs(runs[a] or {}) do
    local other = (runs[b] or {})[round]
    list[#list + 1] = other and fn(run, other)
  end
  return list
end

local function figure_of(runs, peer, name)
  return median(pairs_of(runs, peer, peer, function(run) return run[name] end))
end

local function ratio_of(runs, a, b, name)
  return median(pairs_of(runs, a, b, function(x, y)
    return x[name] and y[name] and x[name] / y[name]
  end))
end

local function difference_of(runs, a, b, name)
  return median(pairs_of(runs, a, b, function(x, y)
    return x[name] and y[name] and x[name] - y[name]
  end))
end

local function value_of(runs, target)
  local who = target.who or "moonpool"
  if target.of then return ratio_of(runs, who, target.of, target.figure) end
  if target.plus then return difference_of(runs, who, target.plus, target.figure) end
  return figure_of(runs, who, target.figure)
end

--- The median of a peer's figure; nil if there is none.
local function figure(outcome, ...)
  return figure_of(outcome.runs, ...) or figure_of(outcome.far, ...)
end

--- The median of the rounds' ratios of two peers' figures.
local function ratio(outcome, ...)
  return ratio_of(outcome.runs, ...) or ratio_of(outcome.far, ...)
end

--- What a target comes to while the cores are far; nil if they never were.
local function far_value(outcome, target)
  return value_of(outcome.far, target)
end

--- What became of a target.
-- @return the value, nil if it was not measured; whether it is met; whether that is
-- something of far cores only
local function judge(outcome, target)
  local near = value_of(outcome.runs, target)
  local value = near or far_value(outcome, target)
  if not value then return nil, false end
  local is_met = value <= (target.at_most or math.huge)
    and value >= (target.at_least or -math.huge)
  return value, is_met, not near
end

-- Whether the cores were far all the time.
local function is_only_far(outcome, peer)
  local function has_figures(runs)
    for _, run in ipairs(runs[peer] or {}) do
      if next(run) then return true end
    end
    return false
  end
  return has_figures(outcome.far) and not has_figures(outcome.runs)
end

local function first_line(text)
  return text:match "^[^\n]*":sub(1, 160)
end

--- Why a peer has no figures, or not all, or doubtful ones: a sentence; or nil.
local function trouble(outcome, peer)
  if outcome.absent[peer] then return first_line(outcome.absent[peer]) end
  local errors = 0
  for _, found in ipairs(outcome.found[peer] or {}) do
    for _, slice in ipairs(found) do
      if slice.failed then return first_line(slice.failed) end
      errors = errors + (slice.errors or 0)
    end
  end
  if errors > 0 then return ("%d requests failed"):format(errors) end
  if is_only_far(outcome, peer) then return "the cores were far all the time" end
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
  far_value = far_value, judge = judge, trouble = trouble }
