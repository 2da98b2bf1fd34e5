-- What /proc says about processes and about the machine.

local lfs = require "lfs"

local function read(path)
  local file <close> = io.open(path)
  return file and file:read "a"
end

local function entries(path)
  local list = {}
  local ok, iterate, state = pcall(lfs.dir, path)
  if not ok then return list end
  for name in iterate, state do
    if name:find "^%d+$" then list[#list + 1] = name end
  end
  return list
end

-- A process's time on a processor. The clock of its threads counts nanoseconds; the
-- split into user and system is what the kernel sampled.
local function cpu_of(pid)
  local ns = 0
  for _, thread in ipairs(entries(("/proc/%d/task"):format(pid))) do
    local text = read(("/proc/%d/task/%s/schedstat"):format(pid, thread))
    ns = ns + tonumber(text and text:match "^%d+" or 0)
  end
  local stat = read(("/proc/%d/stat"):format(pid)) or ""
  local user, system = stat:match("%) %a" .. (" %S+"):rep(10) .. " (%d+) (%d+)")
  return ns, tonumber(user or 0), tonumber(system or 0)
end

--- Time on a processor so far.
-- @return { ns =, user =, system = }, the latter in ticks
local function cpu(pids)
  local sum = { ns = 0, user = 0, system = 0 }
  for _, pid in ipairs(pids) do
    local ns, user, system = cpu_of(pid)
    sum.ns, sum.user, sum.system = sum.ns + ns, sum.user + user, sum.system + system
  end
  return sum
end

--- Seconds in which a core was not idle; nil for a list of cores. What a hypervisor took
-- away from it counts too.
local function busy(core)
  local line = (read "/proc/stat" or ""):match("\ncpu" .. core .. " ([^\n]*)")
  if not line then return nil end
  local user, nice, system, irq, softirq, steal =
    line:match "^(%d+) (%d+) (%d+) %d+ %d+ (%d+) (%d+) (%d+)"
  return (user + nice + system + irq + softirq + steal) / 100 -- ticks: USER_HZ
end

-- In bytes; pages that several processes share count in equal parts.
local function rollup(pid, name)
  local text = read(("/proc/%d/smaps_rollup"):format(pid)) or ""
  return 1024 * tonumber(text:match("\n" .. name .. ":%s*(%d+)") or 0)
end

--- Proportional resident memory of a process, in bytes.
local function pss(pid)
  return rollup(pid, "Pss")
end

--- The part of it that is no file's: what programs allocate, in bytes.
local function memory(pids)
  local sum = 0
  for _, pid in ipairs(pids) do sum = sum + pss(pid) - rollup(pid, "Pss_File") end
  return sum
end

local function descriptors(pid)
  return #entries(("/proc/%d/fd"):format(pid))
end

-- Ports that somebody listens on.
local function used_ports()
  local used = {}
  for _, path in ipairs { "/proc/net/tcp", "/proc/net/tcp6" } do
    for port in (read(path) or ""):gmatch ":(%x%x%x%x) %x+:0000 0A" do
      used[tonumber(port, 16)] = true
    end
  end
  return used
end

--- A port nobody listens on, below those that clients get.
local function free_port()
  local used = used_ports()
  for _ = 1, 1000 do
    local port = math.random(20000, 32000)
    if not used[port] then return port end
  end
  error "no free port"
end

--- { cpu =, cores =, kernel = } of this machine.
local function facts()
  local info = read "/proc/cpuinfo" or ""
  local _, cores = info:gsub("processor%s*:", "")
  return {
    cpu = info:match "model name%s*:%s*([^\n]*)" or "unknown processor",
    cores = cores,
    kernel = (read "/proc/sys/kernel/osrelease" or "?"):gsub("%s", ""),
  }
end

return { busy = busy, cpu = cpu, pss = pss, memory = memory, descriptors = descriptors,
  free_port = free_port, facts = facts }
