-- What Linux says about processes, proc(5).

local lfs = require "lfs"
local process = require("moonpool.test_native").process

local function read(path)
  local file <close> = io.open(path)
  return file and file:read "a" or nil
end

local function status_field(pid, name)
  local text = read(("/proc/%d/status"):format(pid))
  return text and text:match("\n" .. name .. ":%s*(%S+)")
end

--- Number of open descriptors of a process; nil if there is no such process.
local function descriptors(pid)
  local ok, iterate, state = pcall(lfs.dir, ("/proc/%d/fd"):format(pid))
  if not ok then return nil end
  local n = 0
  for name in iterate, state do
    if name ~= "." and name ~= ".." then n = n + 1 end
  end
  return pid == process.pid() and n - 1 or n -- the directory itself
end

--- The descriptors of a process: number -> what it is.
local function list_descriptors(pid)
  local found, directory = {}, ("/proc/%d/fd/"):format(pid)
  for name in lfs.dir(directory) do
    local target = lfs.symlinkattributes(directory .. name, "target")
    if target and not target:find "^/proc/%d+/fd" then found[name] = target end
  end
  return found
end

--- Pids of the processes that a process has started.
local function children(pid)
  local pids = {}
  local text = read(("/proc/%d/task/%d/children"):format(pid, pid)) or ""
  for child in text:gmatch "%d+" do pids[#pids + 1] = tonumber(child) end
  return pids
end

return {
  descriptors = descriptors,
  list_descriptors = list_descriptors,
  children = children,

  --- Resident memory in bytes, and the most that there has been.
  memory = function(pid) return tonumber(status_field(pid, "VmRSS")) * 1024 end,
  peak_memory = function(pid) return tonumber(status_field(pid, "VmHWM")) * 1024 end,

  --- "R", "S", "T" ...; nil if there is no such process.
  state = function(pid) return status_field(pid, "State") end,

  --- The first word of the command line; nil if there is no such process.
  title = function(pid)
    local text = read(("/proc/%d/cmdline"):format(pid))
    return text and text:match "^[^\0]*"
  end,
}
