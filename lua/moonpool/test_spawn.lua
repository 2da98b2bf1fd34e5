-- The real thing in a spec: a server with its workers, on a free port, for real time.
--
--     local server <close> = test.spawn { app = "app.lua", workers = 2 }
--     local answer = server:get "/"                it is a client of HTTP (test_http.lua)
--     local client = server:connect()               raw ones
--     server:kill_worker(1)
--
-- It is ready when this returns. Closing it, or the end of the test that has started it,
-- stops it and checks what it leaves: no process, no descriptor in the spec, none more in
-- its workers than at first, nothing from a sanitizer in its output.

local client = require "moonpool.test_client"
local core = require "moonpool.core"
local files = require "moonpool.test_files"
local http = require "moonpool.test_http"
local lfs = require "lfs"
local proc = require "moonpool.test_proc"
local process = require("moonpool.test_native").process
local time = require "moonpool.test_time"

local PATIENCE = 20 -- seconds until what does not come true is a failure
local patience = PATIENCE
local NAME = "spec" -- of the pool

local methods = setmetatable({}, { __index = http.methods })
local mt = { __name = "moonpool.test.server", __index = methods }

local started -- those of this test, in their order; nil outside of tests

-- Waiting ------------------------------------------------------------------------------

--- Waits, for real, until condition() is true.
-- @param what it is, for the error if it never comes true
-- @return what it returned
local function eventually(condition, what)
  local deadline = core.task.now() + patience
  while true do
    local value = condition()
    if value then return value end
    if core.task.now() > deadline then
      error((what or "a condition") .. " did not come true", 2)
    end
    core.loop.wait(0.005)
  end
end

-- Files --------------------------------------------------------------------------------

local function write_file(path, text)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
end

-- Beside the module: build/lib/moonpool/core.so, or lib/lua/5.4/moonpool/core.so. Else
-- where the shell finds it.
local function find_program()
  local module = package.searchpath("moonpool.core", package.cpath) or ""
  for _, candidate in ipairs { module:gsub("lib/moonpool/core.so$", "moonpool"),
    module:gsub("lib/lua/5.4/moonpool/core.so$", "bin/moonpool") } do
    if lfs.attributes(candidate, "mode") == "file" then return candidate end
  end
  return "moonpool"
end

local program = os.getenv "MOONPOOL" or find_program()

-- Programs -----------------------------------------------------------------------------

-- The pipe's own task keeps self.text up to date.
local function watch_output(self, fd)
  local conn = assert(core.net.conn(fd))
  self.reader = core.loop.spawn(function()
    local _ <close> = conn
    while true do
      local ok = conn:read(0)
      local chunk = conn:unread()
      self.text = self.text .. chunk
      if not ok and chunk == "" then return end
    end
  end)
end

--- Starts any program, and does not wait for anything. What it prints is in server.text.
-- @param argv its name, or path, and arguments
-- @param options (optional) env, a list of "NAME=value"; fd_limit; listener
local function launch(argv, options)
  time.virtual(false)
  options = options or {}
  local before = proc.descriptors(process.pid())
  local pid, fd = assert(process.start(argv, options.env or {},
    options.fd_limit, options.listener))
  local self
  self = http.new(function() return self:connect() end)
  self.pid, self.text, self.before = pid, "", before
  setmetatable(self, mt)
  watch_output(self, fd)
  if started then started[#started + 1] = self end
  return self
end

--- Starts moonpool, or options.program, with these arguments, and does not wait for
-- anything.
local function start(arguments, options)
  return launch({ options and options.program or program, table.unpack(arguments) },
    options)
end

--- Waits until the output matches, and returns the captures.
function methods:expect(pattern)
  local ok = pcall(eventually, function() return self.text:find(pattern) end)
  if not ok then error(("no %q in the output:\n%s"):format(pattern, self.text), 2) end
  return self.text:match(pattern)
end

function methods:has_ended()
  if not self.how then self.how, self.code = process.wait(self.pid, true) end
  return self.how ~= nil
end

--- Waits for the end of the program: "exit" or "signal", and its number.
function methods:wait()
  eventually(function() return self:has_ended() end, "the end of the program")
  eventually(function() return not self.reader:alive() end, "the end of its output")
  return self.how, self.code
end

--- Sends a signal, by name: "TERM", "HUP" ...
function methods:kill(signal)
  assert(process.kill(self.pid, signal))
end

--- Number of processes that the program has, other than itself.
function methods:children()
  return #proc.children(self.pid)
end

--- Pids of the workers of a pool (its own, if left out), by their numbers.
function methods:workers(pool)
  local pids = {}
  for _, pid in ipairs(proc.children(self.pid)) do
    local title = proc.title(pid) or ""
    local name, number = title:match "^moonpool: worker (.*)/(%d+)"
    if name == (pool or self.name) then pids[tonumber(number)] = pid end
  end
  return pids
end

--- Sends a worker a signal.
function methods:signal_worker(number, signal)
  assert(process.kill(assert(self:workers()[number], "there is no such worker"), signal))
end

--- Kills a worker, as SIGKILL does, and waits until another is in its place.
-- @param number of the worker: 1, 2 ...
function methods:kill_worker(number)
  local pid = self:workers()[number]
  self:signal_worker(number, "KILL")
  eventually(function()
    local now = self:workers()[number]
    return now and now ~= pid
  end, "another worker " .. number)
end

--- The most memory that a worker has had so far, in bytes.
function methods:peak_memory(number)
  return proc.peak_memory(assert(self:workers()[number], "there is no such worker"))
end

-- The supervisor's number of open descriptors, and those of the workers.
local function count_descriptors(self)
  local counts = { proc.descriptors(self.pid) }
  for i, pid in ipairs(self:workers()) do counts[i + 1] = proc.descriptors(pid) end
  return counts
end

local function are_equal(counts, others)
  for i, n in ipairs(counts) do
    if others[i] ~= n then return false end
  end
  return true
end

--- The supervisor's number of open descriptors, and those of the workers, once none of
-- them is about to change it.
function methods:descriptors()
  local counts
  eventually(function()
    local before = counts
    counts = count_descriptors(self)
    return before and are_equal(before, counts)
  end, "descriptor counts that stay")
  return counts
end

--- Waits until all have as many descriptors as that again.
function methods:back_to(counts)
  eventually(function() return are_equal(counts, count_descriptors(self)) end,
    "descriptor counts as at the start")
end

--- Changes the script, where it was given inline: at once, as a worker may be reading it.
function methods:change(script)
  local path = self.directory .. "/app.lua"
  write_file(path .. ".new", script)
  assert(os.rename(path .. ".new", path))
end

local function ask(self, command)
  local one = start { command, "--control", self.directory .. "/control" }
  local _, code = one:wait()
  one:stop()
  return one.text, code
end

--- Runs moonpool reload, of a server with a control socket: its output and exit code.
function methods:reload()
  return ask(self, "reload")
end

--- The same of moonpool upgrade. (upgrade is a request's: test_http.)
function methods:replace_program()
  return ask(self, "upgrade")
end

--- A raw client of the first address, or of the given one.
function methods:connect(address)
  local conn = assert(time.run(core.net.connect, address or self.address, PATIENCE))
  conn:settimeout(PATIENCE)
  return client.new(conn)
end

--- Another client of HTTP, with its own connection and cookies.
function methods:browser()
  return http.new(function() return self:connect() end)
end

--- n clients, connected at the same time.
function methods:connect_many(n)
  local clients = {}
  for i = 1, n do clients[i] = self:connect() end
  return clients
end

-- The end ------------------------------------------------------------------------------

local function check_sanitizers(self)
  if self.text:find "Sanitizer" or self.text:find "runtime error:" then
    error("a sanitizer says: " .. self.text, 0)
  end
end

-- Of a worker that was there when the server was ready, and is still.
local function check_worker(pid, before)
  local ok = pcall(eventually, function()
    local now = proc.descriptors(pid)
    return not now or now <= before.count
  end)
  if ok then return end
  local left = {}
  for name, target in pairs(proc.list_descriptors(pid)) do
    if before.list[name] ~= target then left[#left + 1] = name .. ": " .. target end
  end
  error(("worker %d has left open:\n%s"):format(pid, table.concat(left, "\n")), 0)
end

-- A worker that has said that it is ready may still be about to close or open one.
local function remember_workers(self)
  local counts
  eventually(function()
    local before = counts
    counts = table.concat(self:descriptors(), " ")
    return counts == before
  end, "workers at rest")
  local known = {}
  for _, pid in pairs(self:workers()) do
    known[pid] = { count = proc.descriptors(pid), list = proc.list_descriptors(pid) }
  end
  return known
end

local function check_workers(self)
  for _, pid in pairs(self.known and not self.how and self:workers() or {}) do
    if self.known[pid] then check_worker(pid, self.known[pid]) end
  end
end

local function wait_for_workers(workers)
  eventually(function()
    for _, pid in pairs(workers) do
      if proc.state(pid) and proc.state(pid) ~= "Z" then return false end
    end
    return true
  end, "the end of the workers")
end

local function end_program(self)
  local workers = self.name and self:workers() or {}
  if not self.how then process.kill(self.pid, "TERM") end
  self:wait()
  check_sanitizers(self)
  wait_for_workers(workers)
  if self.directory then files.remove(self.directory) end
  eventually(function()
    collectgarbage() -- what the spec has dropped without closing
    return proc.descriptors(process.pid()) <= self.before
  end, "the spec's descriptors as before")
end

--- Stops the program and checks what it leaves.
function methods:stop()
  if self.stopped then return end
  self.stopped = true
  self:close()
  local ok, why = pcall(check_workers, self)
  end_program(self)
  if not ok then error(why, 2) end
end

-- A test that has failed has not come to closing what it has opened: what is told is why
-- it has failed, not that.
function mt.__close(self, failure)
  if failure ~= nil then self.known = nil end
  local ok, why = pcall(methods.stop, self)
  if not ok and failure == nil then error(why, 0) end
end

--- Stops what the test has started: what is wrong with what it leaves, or nil.
local function end_all()
  local list, first = started or {}, nil
  started = nil
  for i = #list, 1, -1 do
    local ok, why = pcall(list[i].stop, list[i])
    if not ok then first = first or why end
  end
  return first
end

local function served(options, directory)
  if options.config then return { "serve", "--config", options.config } end
  return { "serve", options.app or directory .. "/app.lua",
    "--name", options.name or NAME, "--listen", options.listen or "127.0.0.1:0",
    "--workers", tostring(options.workers or 1) }
end

local function arguments_of(options, directory)
  local arguments = served(options, directory)
  if options.control then
    table.move({ "--control", directory .. "/control" }, 1, 2, #arguments + 1, arguments)
  end
  local more = options.args or {}
  return table.move(more, 1, #more, #arguments + 1, arguments)
end

--- Starts a server and waits until it is ready.
-- @param options app (path) or script (text), with workers (1) and listen
--   ("127.0.0.1:0"); or config (path), with the name of the pool that is meant; args,
--   more flags; env, a list of "NAME=value"; control: with a control socket, for
--   server:reload; leaks = true: what its workers have open at the end is right
-- @return the server: address, pid, text (what it has printed)
local function spawn(options)
  local directory = (options.script or options.control) and files.directory()
  if options.script then write_file(directory .. "/app.lua", options.script) end
  local self = start(arguments_of(options, directory), options)
  self.directory, self.name = directory, options.name or NAME
  eventually(function()
    return self.text:find "ready: %d+ workers" or self:has_ended()
  end, "a ready server")
  if self.how then
    self:wait()
    error("the server did not start: " .. self.text, 2)
  end
  self.address = self:expect "listening on (%S+)"
  self.known = not options.leaks and remember_workers(self) or nil
  return self
end

return {
  spawn = spawn,
  start = start,
  launch = launch,
  eventually = eventually,
  write_file = write_file,
  PATIENCE = PATIENCE,
  set_patience = function(seconds) patience = seconds or PATIENCE end,
  begin = function() started = {} end, -- a test
  end_all = end_all,
}
