-- Moonpool for scripts: tasks, time, the log, and messages between the workers of a pool.
-- Connections are moonpool.net, HTTP is moonpool.http, descriptors are moonpool.fd.

local core = require "moonpool.core"
local bus = require "moonpool.bus"
local log = require "moonpool.log"
local task = core.task

--- Starts a task: fn(...) runs beside this one. It ends when the task that started it
-- ends (for a handler: with its connection), unless it is detached: task:detach().
-- @return the task, with task:cancel() and task:alive()
local spawn = task.spawn

--- Lets the current task wait.
-- @param seconds a number, fractions allowed
local sleep = task.sleep

--- Calls fn again and again, the first time after the given seconds. An error in it goes
-- to the log and the next call comes all the same.
-- @param seconds between the end of one call and the next
-- @return the task, with task:cancel()
local function every(seconds, fn, ...)
  return spawn(function(...)
    while true do
      sleep(seconds)
      local ok, err = xpcall(fn, debug.traceback, ...)
      if not ok then log.error(err) end
    end
  end, ...)
end

return {
  spawn = spawn,
  sleep = sleep,
  every = every,
  now = task.now, -- seconds of the clock that all timeouts go by; from no fixed beginning
  log = log,
  worker = core.worker, -- id (from 1), pid, pool, generation, dev (whether with --dev)
  publish = bus.publish,
  subscribe = bus.subscribe,
}
