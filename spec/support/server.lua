-- The real program, for black-box specs, on a free port or a socket in a directory of its
-- own, with the script inline:
--
--     local server <close> = harness.run { workers = 1, script = [[ ... ]] }
--     local client = server:connect()
--
-- Closing it stops the program and checks what it leaves: exit code 0, no process, the
-- descriptors of the spec as before, nothing from a sanitizer in its output.

local core = require "moonpool.core"
local lfs = require "lfs"
local process = require "native.process"
local test = require "moonpool.test"

local PATIENCE = 20 -- seconds until a condition that does not come true is a failure

local build = os.getenv "MOONPOOL_BUILD" or "build"

local M = {
  build = build,
  is_sanitized = build:find "asan" ~= nil, -- it takes time, and frees memory late
}

-- What /proc says --------------------------------------------------------------------

--- Number of open descriptors of a process; nil if there is no such process.
function M.descriptors(pid)
  local ok, iterate, state = pcall(lfs.dir, ("/proc/%d/fd"):format(pid))
  if not ok then return nil end
  local n = 0
  for name in iterate, state do
    if name ~= "." and name ~= ".." then n = n + 1 end
  end
  return pid == process.pid() and n - 1 or n -- the directory itself
end

local function status_field(pid, name)
  local file <close> = io.open(("/proc/%d/status"):format(pid))
  return file and file:read("a"):match("\n" .. name .. ":%s*(%S+)")
end

--- Resident memory of a process in bytes.
function M.memory(pid)
  return tonumber(status_field(pid, "VmRSS")) * 1024
end

--- The most resident memory that it has had so far, in bytes.
function M.peak_memory(pid)
  return tonumber(status_field(pid, "VmHWM")) * 1024
end

--- "R", "S", "T" ...; nil if there is no such process.
function M.state(pid)
  return status_field(pid, "State")
end

function M.title(pid)
  local file <close> = io.open(("/proc/%d/cmdline"):format(pid))
  local text = file and file:read "a" -- nil, too, if it ends just now
  return text and text:match "^[^\0]*"
end

--- How many connections wait in the backlog of a listening TCP address.
function M.queued(address)
  local port = ("%04X"):format(tonumber(address:match ":(%d+)$"))
  for line in io.lines "/proc/net/tcp" do
    local queue = line:match("^%s*%d+: %x+:" .. port .. " 0+:0000 0A %x+:(%x+)")
    if queue then return tonumber(queue, 16) end
  end
end

-- Waiting ------------------------------------------------------------------------------

--- Waits until condition() is true, turning the loop; returns what it returned.
function M.eventually(condition, what)
  local deadline = core.task.now() + PATIENCE
  while true do
    local value = condition()
    if value then return value end
    if core.task.now() > deadline then
      error((what or "a condition") .. " did not come true", 2)
    end
    core.loop.wait(0.005)
  end
end

--- Calls fn(1) ... fn(n) side by side, each as a task; an error of any is raised.
function M.in_parallel(n, fn)
  local done, failed = 0, nil
  test.run(function()
    local me = core.task.current()
    for i = 1, n do
      core.task.spawn(function()
        local ok, err = pcall(fn, i)
        if not ok then failed = failed or err end
        done = done + 1
        me:unpark()
      end)
    end
    while done < n do core.task.park() end
  end)
  if failed then error(failed, 0) end
end

-- Temporary directories ----------------------------------------------------------------

function M.directory()
  local path = os.tmpname()
  os.remove(path)
  assert(lfs.mkdir(path))
  return path
end

function M.remove(path)
  for name in lfs.dir(path) do
    if name ~= "." and name ~= ".." then os.remove(path .. "/" .. name) end
  end
  lfs.rmdir(path)
end

function M.write_file(path, text)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
end

-- The program --------------------------------------------------------------------------

local Server = {}
Server.__index = Server

-- The pipe's own task keeps self.text up to date.
local function watch_output(self, fd)
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

--- Waits until the output matches, and returns the captures.
function Server:expect(pattern)
  local ok = pcall(M.eventually, function() return self.text:find(pattern) end)
  if not ok then error(("no %q in the output:\n%s"):format(pattern, self.text), 2) end
  return self.text:match(pattern)
end

local function launch(argv, options)
  test.virtual(false)
  local before = M.descriptors(process.pid())
  local pid, fd = assert(process.start(argv, options.env or {},
    options.fd_limit, options.listener))
  local self = setmetatable({ pid = pid, text = "", before = before }, Server)
  watch_output(self, fd)
  return self
end

--- Starts the program with these arguments and does not wait for anything.
function M.start(arguments, options)
  local argv = { build .. "/moonpool" }
  table.move(arguments, 1, #arguments, 2, argv)
  return launch(argv, options or {})
end

function Server:has_ended()
  if not self.how then self.how, self.code = process.wait(self.pid, true) end
  return self.how ~= nil
end

--- Waits for the end of the program: "exit" or "signal", and its number.
function Server:wait()
  M.eventually(function() return self:has_ended() end, "the end of the program")
  M.eventually(function() return not self.reader:alive() end, "the end of its output")
  return self.how, self.code
end

function Server:kill(signal)
  assert(process.kill(self.pid, signal))
end

--- Number of processes that the program has, other than itself.
function Server:children()
  local path = ("/proc/%d/task/%d/children"):format(self.pid, self.pid)
  local file <close> = io.open(path)
  return select(2, (file and file:read "a" or ""):gsub("%d+", ""))
end

--- Pids of the workers of a pool ("spec"), by their numbers.
function Server:workers(pool)
  local pids = {}
  local path = ("/proc/%d/task/%d/children"):format(self.pid, self.pid)
  local file <close> = io.open(path)
  for pid in (file and file:read "a" or ""):gmatch "%d+" do
    local title = M.title(tonumber(pid)) or ""
    local name, number = title:match "^moonpool: worker (.*)/(%d+)"
    if name == (pool or self.name) then pids[tonumber(number)] = tonumber(pid) end
  end
  return pids
end

--- The supervisor's number of open descriptors, and those of the workers.
function Server:descriptors()
  local counts = { M.descriptors(self.pid) }
  for i, pid in ipairs(self:workers()) do counts[i + 1] = M.descriptors(pid) end
  return counts
end

--- Waits until all have as many descriptors as that again.
function Server:back_to(counts)
  M.eventually(function()
    local now = self:descriptors()
    for i, n in ipairs(counts) do
      if now[i] ~= n then return false end
    end
    return true
  end, "descriptor counts as at the start")
end

--- Changes the script, where it was given inline.
function Server:change(script)
  M.write_file(self.directory .. "/app.lua", script)
end

--- Runs moonpool reload, of a server with a control socket: its output and exit code.
function Server:reload()
  local program = M.start { "reload", "--control", self.directory .. "/control" }
  local _, code = program:wait()
  program:stop()
  return program.text, code
end

--- n clients, connected at the same time.
function Server:connect_many(n)
  local clients = {}
  for i = 1, n do clients[i] = self:connect() end
  return clients
end

--- A client of the first address, or of the given one.
function Server:connect(address)
  local conn = assert(test.run(core.net.connect, address or self.address, PATIENCE))
  conn:settimeout(PATIENCE)
  return test.client(conn)
end

local function check_sanitizers(self)
  if self.text:find "Sanitizer" or self.text:find "runtime error:" then
    error("a sanitizer says: " .. self.text, 0)
  end
end

--- Stops the program and checks what it leaves.
function Server:stop()
  if self.stopped then return end
  self.stopped = true
  local workers = self.name and self:workers() or {}
  if not self.how then process.kill(self.pid, "TERM") end
  self:wait()
  check_sanitizers(self)
  M.eventually(function()
    for _, pid in pairs(workers) do
      if M.state(pid) and M.state(pid) ~= "Z" then return false end
    end
    return true
  end, "the end of the workers")
  if self.directory then M.remove(self.directory) end
  M.eventually(function()
    collectgarbage() -- what the spec has dropped without closing
    return M.descriptors(process.pid()) <= self.before
  end, "the spec's descriptors as before")
end

Server.__close = Server.stop

function M.close_all(clients)
  for _, client in ipairs(clients) do client.conn:close() end
  test.settle()
end

--- Runs a shell command, whose $1, $2 ... are the other arguments, to its end.
-- @return what it has printed, its errors too; it is an error if it fails
function M.shell(command, ...)
  local program = launch({ "timeout", tostring(PATIENCE - 1), "sh", "-c", command, "sh",
    ... }, {})
  local how, code = program:wait()
  program:stop()
  if code ~= 0 then
    error(("%s %d of %s\n%s"):format(how, code, command, program.text), 2)
  end
  return program.text
end

--- Starts a server and waits until it is ready.
-- @param options script (text) or app (path); workers (1), listen ("127.0.0.1:0"), args;
--   control: with a control socket, for server:reload
function M.run(options)
  local directory = options.script and M.directory()
  local app = options.app
  if directory then
    app = directory .. "/app.lua"
    M.write_file(app, options.script)
  end
  local arguments = { "serve", app, "--name", options.name or "spec",
    "--listen", options.listen or "127.0.0.1:0",
    "--workers", tostring(options.workers or 1) }
  if options.control then
    table.move({ "--control", directory .. "/control" }, 1, 2, #arguments + 1, arguments)
  end
  table.move(options.args or {}, 1, #(options.args or {}), #arguments + 1, arguments)
  local self = M.start(arguments, options)
  self.directory, self.name = directory, options.name or "spec"
  M.eventually(function()
    return self.text:find "ready: %d+ workers" or self:has_ended()
  end, "a ready server")
  if self.how then error("the server did not start: " .. self.text, 2) end
  self.address = self:expect "listening on (%S+)"
  return self
end

--- Runs a server while fn(server) does, which may cost it no worker and no descriptor,
-- and leave no word in its log.
function M.unharmed(options, fn)
  local server <close> = M.run(options)
  local workers, counts, log = server:workers(), server:descriptors(), server.text
  fn(server)
  server:back_to(counts)
  local after = server:workers()
  for i, pid in ipairs(workers) do
    if after[i] ~= pid then error("worker " .. i .. " is another", 2) end
  end
  if server.text ~= log then error("in the log: " .. server.text:sub(#log + 1), 2) end
end

return M
