-- moonpool test [--watch] [--coverage] [PATH or option of busted ...]
--
-- Runs busted in this lua5.4, which finds Moonpool: without a path what .busted says,
-- else spec/. With --watch it runs again whenever a .lua file below this directory
-- changes; with --coverage it writes coverage/index.html.

local lfs = require "lfs"

local PAUSE = 0.3 -- seconds between two looks at the files

local function take_flag(arguments, flag)
  for i, argument in ipairs(arguments) do
    if argument == flag then
      table.remove(arguments, i)
      return true
    end
  end
  return false
end

--- Calls fn(path) for each .lua file below directory, hidden ones apart.
local function each_file(directory, fn)
  for name in lfs.dir(directory) do
    local path = directory .. "/" .. name
    local mode = name:sub(1, 1) ~= "." and lfs.attributes(path, "mode")
    if mode == "directory" then
      each_file(path, fn)
    elseif mode and name:find "%.lua$" then
      fn(path)
    end
  end
end

-- What changes when a file does.
local function look()
  local seen = {}
  local stamp = require("moonpool.core").fd.stamp
  each_file(".", function(path) seen[#seen + 1] = path .. " " .. (stamp(path) or "") end)
  table.sort(seen)
  return table.concat(seen, "\n")
end

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function run_again(arguments, program)
  local words = { quote(program), "test" }
  for _, argument in ipairs(arguments) do words[#words + 1] = quote(argument) end
  return os.execute(table.concat(words, " "))
end

local function watch(arguments, program)
  local loop = require("moonpool.core").loop
  loop.virtual(false)
  while true do
    local before = look()
    local _, how = run_again(arguments, program)
    if how == "signal" then return 1 end -- Ctrl-C is for both
    io.stderr:write "moonpool: waiting for a change; Ctrl-C ends\n"
    while look() == before do loop.wait(PAUSE) end
  end
end

local function is_there(path)
  return lfs.attributes(path, "mode") ~= nil
end

-- busted reads the global arg, and ends the process.
local function run(arguments)
  if not is_there ".busted" and not is_there "spec" and #arguments == 0 then
    io.stderr:write "moonpool: there is neither .busted nor spec/ here\n"
    return 2
  end
  local found, busted = pcall(require, "busted.runner")
  if not found then
    io.stderr:write("moonpool: there is no busted (Debian: lua-busted)\n", busted, "\n")
    return 1
  end
  arguments[0] = "moonpool test"
  _G.arg = arguments
  busted { standalone = false }
  return 0
end

return function(arguments, program)
  if take_flag(arguments, "--watch") then return watch(arguments, program) end
  if take_flag(arguments, "--coverage") then
    require("moonpool.coverage").start(each_file)
  end
  return run(arguments)
end
