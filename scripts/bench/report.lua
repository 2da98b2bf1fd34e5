-- Results as text, as markdown, as data and as plots.
--
-- results: { date, quick, rounds, seconds, facts, versions = { { name, text } ... },
--            distances, see cores.lua, outcomes = { outcome ... }, see results.lua }

local peers = require "bench.peers"
local results_of = require "bench.results"
local slices = require "bench.slices"

-- figure -> its title and how it is written
local figures = {
  rate = { "req/s", "%.0f" },
  cpu = { "CPU us", "%.2f" },
  user = { "user us", "%.2f" },
  per_cpu = { "req/CPU s", "%.0f" },
  p50 = { "p50 us", "%.0f" },
  p99 = { "p99 us", "%.0f" },
  bytes = { "bytes each", "%.0f" },
  slowdown = { "CPU with them", "%.2f" },
  batch = { "in a message", "%.1f" },
  most = { "fullest", "%.0f" },
  least = { "emptiest", "%.0f" },
  imbalance = { "fullest/emptiest", "%.2f" },
  move = { "us each", "%.1f" },
  ready = { "ms", "%.1f" },
  pss = { "worker's PSS, MiB", "%.2f" },
  early = { "MiB after a tenth", "%.2f" },
  late = { "MiB at the end", "%.2f" },
  growth = { "growth", "%.3f" },
}

-- The columns of each kind's table.
local columns = {
  drive = { "rate", "cpu", "user", "p50", "p99" },
  memory = { "bytes", "slowdown", "cpu" },
  balance = { "most", "least", "imbalance" },
  batches = { "rate", "batch" },
  moving = { "move" },
  startup = { "ready", "pss" },
  soak = { "rate", "cpu", "early", "late", "growth" },
}

local function written(name, value)
  return value and figures[name][2]:format(value) or "-"
end

---------------------------------------------------------------------------------------
-- Tables: lists of rows, of strings.

-- One row for each peer; the last column is Moonpool's CPU in parts of the peer's.
local function peer_table(outcome)
  local names = columns[outcome.case.kind]
  local has_cpu = outcome.case.kind == "drive"
  local head = { "" }
  for _, name in ipairs(names) do head[#head + 1] = figures[name][1] end
  if has_cpu then head[#head + 1] = "Moonpool's CPU" end
  local rows = { head }
  for _, peer in ipairs(outcome.order) do
    local row = { peers[peer].title }
    for _, name in ipairs(names) do
      row[#row + 1] = written(name, results_of.figure(outcome, peer, name))
    end
    if has_cpu then
      row[#row + 1] = written("cpu", results_of.ratio(outcome, "moonpool", peer, "cpu"))
    end
    rows[#rows + 1] = row
  end
  return rows
end

-- Sentences about peers without figures, or with doubtful ones.
local function troubles(outcome)
  local list = {}
  for _, peer in ipairs(outcome.order) do
    local why = results_of.trouble(outcome, peer)
    if why then list[#list + 1] = ("%s: %s"):format(peers[peer].title, why) end
  end
  return list
end

local titles = {
  cpu = "CPU", user = "user us", per_cpu = "requests per CPU second", rate = "requests/s",
  slowdown = "CPU with them", ready = "ms",
}

local function bound_text(target)
  local bound = ("%s %g"):format(target.at_most and "at most" or "at least",
    target.at_most or target.at_least)
  local title = titles[target.figure] or figures[target.figure][1]
  if target.of then
    return ("%s %s of %s's"):format(title, bound, peers[target.of].title)
  elseif target.plus then
    return ("%s %s more than %s's"):format(title, bound, peers[target.plus].title)
  end
  return ("%s %s"):format(title, bound)
end

local function value_text(target, value)
  local is_absolute = not target.of and not target.plus
  return written(is_absolute and target.figure or "cpu", value)
end

local function verdict(outcome, target)
  local value, is_met, is_far = results_of.judge(outcome, target)
  if value then
    return value_text(target, value),
      (is_met and "met" or "not met") .. (is_far and ", cores far" or "")
  end
  return "-", results_of.trouble(outcome, target.who or "moonpool")
    or "no figure of " .. peers[target.of or target.plus or "moonpool"].title
end

local function far_text(outcome, target)
  local value = results_of.far_value(outcome, target)
  return value and value_text(target, value) or ""
end

local function target_table(outcomes)
  local rows = { { "case", "target", "measured", "cores far", "" } }
  for _, outcome in ipairs(outcomes) do
    for _, target in ipairs(outcome.case.targets) do
      local value, word = verdict(outcome, target)
      rows[#rows + 1] = { outcome.case.title, bound_text(target), value,
        far_text(outcome, target), word }
    end
    if outcome.case.missing then
      rows[#rows + 1] = { outcome.case.title, "", "-", "", outcome.case.missing }
    end
  end
  return rows
end

---------------------------------------------------------------------------------------
-- As text and as markdown.

local function widths_of(rows)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, #cell) end
  end
  return widths
end

-- Columns of numbers, by their last row, go to the right, others to the left.
local function aligned(rows)
  local widths, lines = widths_of(rows), {}
  for _, row in ipairs(rows) do
    local line = ""
    for i, cell in ipairs(row) do
      local space = (" "):rep(widths[i] - #cell)
      local is_number = rows[#rows][i]:find "^[%d.-]+$"
      line = line .. "  " .. (is_number and space .. cell or cell .. space)
    end
    lines[#lines + 1] = line:gsub("%s+$", "")
  end
  return table.concat(lines, "\n") .. "\n"
end

local function markdown(rows)
  local lines = {}
  for i, row in ipairs(rows) do
    lines[#lines + 1] = "| " .. table.concat(row, " | ") .. " |"
    if i == 1 then lines[2] = "|" .. (" --- |"):rep(#row) end
  end
  return table.concat(lines, "\n") .. "\n"
end

--- A case's tables, for people who wait.
local function case_text(outcome)
  local case = outcome.case
  local parts = { ("%s: %s\n"):format(case.name, case.title) }
  if case.missing then
    return parts[1] .. "  " .. case.missing .. "\n"
  end
  parts[#parts + 1] = aligned(peer_table(outcome))
  for _, line in ipairs(troubles(outcome)) do parts[#parts + 1] = "  " .. line .. "\n" end
  for _, target in ipairs(case.targets) do
    local value, word = verdict(outcome, target)
    parts[#parts + 1] = ("  %s: %s, %s\n"):format(bound_text(target), value, word)
  end
  return table.concat(parts)
end

-- How far the cores were from each other.
local function distances_text(results)
  local near, far = results.distances.near, results.distances.far
  if not near[1] then return "" end
  local text = (" A line of cache went from core to core and back in %.0f ns"):format(
    results_of.median(near))
  if not far[1] then return text .. "." end
  return text .. (" (near) or in %.0f ns (far, %.0f %% of the time)."):format(
    results_of.median(far), 100 * #far / (#near + #far))
end

-- When and where, and how much to trust it.
local function caption(results)
  local facts, others, most = results.facts, results_of.others(results.outcomes)
  local text = ("%s; %s, %d cores, Linux %s. "):format(results.date, facts.cpu,
    facts.cores, facts.kernel)
    .. ("Medians of %d runs of %g s, each of %d slices in turn%s."):format(
    results.rounds, results.seconds, slices.count(results.seconds),
    results.quick and " (short mode)" or "") .. distances_text(results)
  if not others then return text end
  return text .. (" Others had %.0f %% of the servers' core, at most %.0f %%."):format(
    100 * others, 100 * most)
end

local function versions_text(results)
  local list = {}
  for _, version in ipairs(results.versions) do
    list[#list + 1] = version.name .. " " .. version.text
  end
  return table.concat(list, ", ")
end

--- Everything as text.
local function text(results)
  local parts = { caption(results), "\n", versions_text(results), "\n\n" }
  for _, outcome in ipairs(results.outcomes) do
    parts[#parts + 1] = case_text(outcome) .. "\n"
  end
  parts[#parts + 1] = "targets\n" .. aligned(target_table(results.outcomes))
  return table.concat(parts)
end

--- What README shows: the targets.
local function summary(results)
  return markdown(target_table(results.outcomes)) .. "\n" .. caption(results) .. "\n"
end

--- Everything as markdown.
local function page(results)
  local parts = { "# Benchmark\n\n", caption(results), "\n", versions_text(results),
    ".\n\n", markdown(target_table(results.outcomes)),
    "\n![CPU per request](overview.svg)\n" }
  for _, outcome in ipairs(results.outcomes) do
    if not outcome.case.missing then
      parts[#parts + 1] = ("\n## %s\n\n"):format(outcome.case.title)
        .. markdown(peer_table(outcome))
      for _, line in ipairs(troubles(outcome)) do
        parts[#parts + 1] = "\n" .. line .. "\n"
      end
    end
  end
  return table.concat(parts)
end

return { case_text = case_text, text = text, summary = summary, page = page,
  figures = figures }
