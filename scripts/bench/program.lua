-- Programs that the benchmark starts: pinned to a core, stopped by pid, and told by the
-- kernel to stop where the benchmark itself is killed.
--
--     local server <close> = program.start({ "nginx", "-c", path }, { core = 0 })
--     local output = program.run({ "wrk", url }, { core = 1 })
--     client:signal "USR1"
--
-- Options: core; env, a list of "NAME=value".

local core = require "moonpool.core"
local process = require "native.process"

local PATIENCE = 15 -- seconds for a program to end, or for what is waited for
local STEP = 0.005 -- seconds between two looks at it
local DESCRIPTORS = 32768 -- as far as the system lets them

local methods = {}
local mt = { __index = methods }

-- The output's own task keeps self.text up to date, until the program has closed it.
local function keep_output(self, fd)
  local conn = assert(core.net.conn(fd))
  self.reader = core.task.spawn(function()
    local _ <close> = conn
    while true do
      local ok = conn:read(0)
      local chunk = conn:unread()
      self.text = self.text .. chunk
      if not ok and chunk == "" then return end
    end
  end)
end

--- Starts a program; what it writes is in .text.
local function start(argv, options)
  local full = { "setpriv", "--pdeathsig", "TERM",
    "taskset", "-c", tostring(options.core) }
  table.move(argv, 1, #argv, #full + 1, full)
  local pid, fd = assert(process.start(full, options.env or {}, DESCRIPTORS))
  local self = setmetatable({ pid = pid, text = "", argv = argv }, mt)
  keep_output(self, fd)
  return self
end

--- Turns the loop until condition() is true, and returns that; nil if it never is.
local function eventually(condition, seconds)
  local deadline = core.task.now() + (seconds or PATIENCE)
  repeat
    local value = condition()
    if value then return value end
    core.loop.wait(STEP)
  until core.task.now() > deadline
  return nil
end

function methods:has_ended()
  if not self.how then self.how, self.code = process.wait(self.pid, true) end
  return self.how ~= nil
end

--- Waits until the output matches; the captures, or nil if the program ends before.
function methods:expect(pattern)
  eventually(function()
    return self.text:find(pattern) or not self.reader:alive()
  end)
  return self.text:match(pattern)
end

function methods:signal(name)
  return process.kill(self.pid, name)
end

--- This process and its descendants.
function methods:pids()
  local pids = { self.pid }
  for _, pid in ipairs(pids) do -- which grows on the way
    local path = ("/proc/%d/task/%d/children"):format(pid, pid)
    local file <close> = io.open(path)
    for child in (file and file:read "a" or ""):gmatch "%d+" do
      pids[#pids + 1] = tonumber(child)
    end
  end
  return pids
end

local function is_gone(pid)
  local file <close> = io.open(("/proc/%d/stat"):format(pid))
  return not file or (file:read "a" or ""):match "%) (%a)" == "Z"
end

--- Tells it to end, and sees to it that it and its descendants do.
function methods:stop()
  if self.how then return end
  local pids = self:pids()
  process.kill(self.pid, "TERM")
  if not eventually(function() return self:has_ended() end) then
    process.kill(self.pid, "KILL")
    self.how, self.code = process.wait(self.pid)
  end
  for i = 2, #pids do
    if not eventually(function() return is_gone(pids[i]) end, 2) then
      process.kill(pids[i], "KILL")
    end
  end
  eventually(function() return not self.reader:alive() end)
end

mt.__close = methods.stop

--- Waits until it ends by itself.
-- @return its output; or nil, message
function methods:finish()
  while self.reader:alive() do
    core.loop.wait(0.05)
    core.loop.turn() -- in which the reader gets what the wait has brought
  end
  eventually(function() return self:has_ended() end)
  if self.how == "exit" and self.code == 0 then return self.text end
  if self.text ~= "" then return nil, self.text end
  return nil, ("%s: %s %s"):format(self.argv[1]:match "[^/]*$", self.how, self.code)
end

--- Runs a program to its end.
-- @return its output; or nil, message
local function run(argv, options)
  local self <close> = start(argv, options)
  return self:finish()
end

return { start = start, run = run, eventually = eventually }
