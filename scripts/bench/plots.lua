-- Plots of results, as gnuplot programs that write SVG.

local peers = require "bench.peers"
local results_of = require "bench.results"

local SETTINGS = [[
set terminal svg size %d,%d font "sans-serif,12" background "white"
set output "%s"
set title "%s" noenhanced
set style data histograms
set style fill solid 0.9 border -1
set boxwidth 0.8
set grid ytics
set yrange [0:*]
set ylabel "%s"
set xtics noenhanced
set key outside top center horizontal reverse Left noenhanced
]]

local COLOURS = { "#2a6f97", "#a9d6e5", "#f4a259", "#8cb369", "#9a8c98" }

local function settings(width, height, path, title, label)
  return SETTINGS:format(width, height, path, title, label)
end

-- rows of cells -> a data block
local function block(rows)
  local lines = { "$data << END" }
  for _, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do cells[i] = i == 1 and ("%q"):format(cell) or cell end
    lines[#lines + 1] = table.concat(cells, " ")
  end
  lines[#lines + 1] = "END\n"
  return table.concat(lines, "\n")
end

-- One series for each title; "?" is a value that is not there.
local function series(titles)
  local parts = {}
  for i, title in ipairs(titles) do
    parts[i] = ('$data using %d:xtic(1) title "%s" linecolor rgb "%s"'):format(i + 1,
      title, COLOURS[i])
  end
  return 'set datafile missing "?"\nplot ' .. table.concat(parts, ", \\\n  ") .. "\n"
end

local function number(value)
  return value and ("%.4f"):format(value) or "?"
end

--- CPU per request of a case's peers, user and system.
-- @return a program; nil where nothing was measured
local function case_plot(outcome, path)
  local rows = {}
  for _, peer in ipairs(outcome.order) do
    local cpu = results_of.figure(outcome, peer, "cpu")
    local user = results_of.figure(outcome, peer, "user")
    if cpu then
      rows[#rows + 1] = { peers[peer].title, number(user), number(cpu - (user or 0)) }
    end
  end
  if not rows[1] then return nil end
  return settings(180 + 80 * #rows, 400, path, outcome.case.title, "CPU us per request")
    .. "set style histogram rowstacked\nset xtics rotate by -30\n" .. block(rows)
    .. series { "user", "system" }
end

local SHOWN = { "moonpool", "floor", "nginx-lua", "lighttpd", "node" }
local BASES = { "nginx-lua", "nginx", "node" } -- the first of them that took part is 1

local function base_of(outcome)
  for _, peer in ipairs(BASES) do
    if results_of.figure(outcome, peer, "cpu") then return peer end
  end
end

-- Cases at full load; the others are about time.
local function overview_row(outcome)
  local case, base = outcome.case, base_of(outcome)
  local is_full = case.kind == "drive" and not case.rate and case.clients == 64
  if not is_full or not base then return nil end
  local note = base ~= BASES[1] and (" (%s = 1)"):format(base) or ""
  local row = { case.name .. note }
  for _, peer in ipairs(SHOWN) do
    row[#row + 1] = number(results_of.ratio(outcome, peer, base, "cpu"))
  end
  return row
end

--- CPU per request of all cases, in parts of nginx-lua's.
local function overview(results, path)
  local rows, titles = {}, {}
  for _, outcome in ipairs(results.outcomes) do
    rows[#rows + 1] = overview_row(outcome)
  end
  if not rows[1] then return nil end
  for i, peer in ipairs(SHOWN) do titles[i] = peers[peer].title end
  return settings(200 + 75 * #rows, 440, path,
      "CPU per request: nginx with Lua = 1, less is better", "")
    .. "set style histogram clustered gap 1\nset xtics rotate by -30\n" .. block(rows)
    .. series(titles)
end

return { case_plot = case_plot, overview = overview }
