-- The real program, for Moonpool's own specs: test.spawn (lua/moonpool/test_spawn.lua),
-- and what only they need.
--
--     local server <close> = harness.run { workers = 1, script = [[ ... ]] }
--     local client = server:connect()

local core = require "moonpool.core"
local files = require "moonpool.test_files"
local lfs = require "lfs"
local proc = require "moonpool.test_proc"
local spawn = require "moonpool.test_spawn"
local test = require "moonpool.test"

local build = os.getenv "MOONPOOL_BUILD" or "build"

local M = {
  build = build,
  is_sanitized = build:find "asan" ~= nil, -- it takes time, and frees memory late

  descriptors = proc.descriptors,
  memory = proc.memory,
  peak_memory = proc.peak_memory,
  state = proc.state,
  title = proc.title,

  eventually = spawn.eventually,
  remove = files.remove,
  write_file = spawn.write_file,
  start = spawn.start,
  launch = spawn.launch,
}

--- A directory that the spec removes itself.
function M.directory()
  local path = os.tmpname()
  os.remove(path)
  assert(lfs.mkdir(path))
  return path
end

--- As test.spawn; but what its workers have open at the end is not looked at: these specs
-- look for themselves, and stop servers in the midst of things.
function M.run(options)
  return spawn.spawn(setmetatable({ leaks = true }, { __index = options }))
end

--- How many connections wait in the backlog of a listening TCP address.
function M.queued(address)
  local port = ("%04X"):format(tonumber(address:match ":(%d+)$"))
  for line in io.lines "/proc/net/tcp" do
    local queue = line:match("^%s*%d+: %x+:" .. port .. " 0+:0000 0A %x+:(%x+)")
    if queue then return tonumber(queue, 16) end
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

--- Waits until condition() is true, beside other tasks; as eventually, which is for all
-- else.
function M.wait_for(condition, what)
  local deadline = core.task.now() + spawn.PATIENCE
  while not condition() do
    assert(core.task.now() < deadline, what)
    core.task.sleep(0.005)
  end
end

--- Waits until the server has these workers, and none that were to take their places.
function M.await_workers(server, workers)
  spawn.eventually(function()
    local now, n = server:workers(), 0
    for i, pid in pairs(now) do
      if workers[i] ~= pid then return false end
      n = n + 1
    end
    return n == #workers
  end, "the workers that there were")
end

--- A script that is not loaded before there is that file.
function M.when(file, script)
  return ([[while not io.open %q do os.execute "sleep 0.01" end ]]):format(file) .. script
end

function M.close_all(clients)
  for _, client in ipairs(clients) do client.conn:close() end
  test.settle()
end

--- Runs a shell command, whose $1, $2 ... are the other arguments, to its end.
-- @return what it has printed, its errors too; it is an error if it fails
function M.shell(command, ...)
  local program = spawn.launch { "timeout", tostring(spawn.PATIENCE - 1), "sh", "-c",
    command, "sh", ... }
  local how, code = program:wait()
  program:stop()
  if code ~= 0 then
    error(("%s %d of %s\n%s"):format(how, code, command, program.text), 2)
  end
  return program.text
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
