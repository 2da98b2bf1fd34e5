-- Files: the directory that servers live in, and what is left in the end.

local cjson = require "cjson"
local lfs = require "lfs"
local plots = require "bench.plots"
local program = require "bench.program"
local report = require "bench.report"

local function write(path, text)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
end

local function remove(path)
  if lfs.symlinkattributes(path, "mode") ~= "directory" then return os.remove(path) end
  for name in lfs.dir(path) do
    if name ~= "." and name ~= ".." then remove(path .. "/" .. name) end
  end
  lfs.rmdir(path)
end

--- A directory for servers, with the files that they serve; closing it removes it, and so
-- does the next run where this one was killed.
-- @return { path = }
local function temporary(path)
  local self = setmetatable({ path = path }, { __close = function() remove(path) end })
  remove(path)
  assert(lfs.mkdir(path))
  assert(lfs.mkdir(path .. "/files"))
  write(path .. "/files/hello.txt", "Hello, world!\n")
  write(path .. "/files/1k.txt", ("x"):rep(1 << 10))
  write(path .. "/files/1m.txt", ("x"):rep(1 << 20))
  return self
end

-- Calls fn(outcome, peer) for all, which returns a list of lines.
local function lines_of(results, fn)
  local lines = {}
  for _, outcome in ipairs(results.outcomes) do
    for _, peer in ipairs(outcome.order) do
      local more = fn(outcome, peer)
      table.move(more, 1, #more, #lines + 1, lines)
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

-- One line of JSON for each run, with all that it is made of.
local function runs_of(outcome, peer)
  local lines = {}
  for round, run in ipairs(outcome.runs[peer]) do
    lines[round] = cjson.encode { case = outcome.case.name, peer = peer, round = round,
      run = run, far = outcome.far[peer][round], slices = outcome.found[peer][round] }
  end
  return lines
end

local function commands_of(outcome, peer)
  local lines = {}
  for role, command in pairs(outcome.commands[peer] or {}) do
    lines[#lines + 1] = ("%s, %s, %s: %s"):format(outcome.case.name, peer, role, command)
  end
  return lines
end

local function draw(make, what, directory, name)
  local base = directory .. "/" .. name
  local text = make(what, base .. ".svg")
  if not text then return end
  write(base .. ".gnuplot", text)
  local ok, why = program.run({ "gnuplot", base .. ".gnuplot" }, { core = "0" })
  if not ok then io.stderr:write("bench: no plot: ", why, "\n") end
end

local function remove_plots(directory)
  for name in lfs.dir(directory) do
    if name:find "%.svg$" or name:find "%.gnuplot$" then
      os.remove(directory .. "/" .. name)
    end
  end
end

--- Writes everything to a directory, which is made if it is not there.
local function write_all(results, directory)
  lfs.mkdir(directory)
  remove_plots(directory)
  write(directory .. "/results.txt", report.text(results))
  write(directory .. "/results.md", report.page(results))
  write(directory .. "/summary.md", report.summary(results))
  write(directory .. "/runs.jsonl", lines_of(results, runs_of))
  write(directory .. "/commands.txt", lines_of(results, commands_of))
  draw(plots.overview, results, directory, "overview")
  for _, outcome in ipairs(results.outcomes) do
    draw(plots.case_plot, outcome, directory, outcome.case.name)
  end
end

return { temporary = temporary, write_all = write_all }
