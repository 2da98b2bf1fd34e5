-- Where busted runs the specs: each test begins with nothing that another has left set,
-- and fails if its apps leave something behind.

local app = require "moonpool.test_app"
local explore = require "moonpool.test_explore"
local faults = require "moonpool.test_faults"
local files = require "moonpool.test_files"
local spawn = require "moonpool.test_spawn"
local time = require "moonpool.test_time"

local KEY = "moonpool.test"

local function reset()
  faults.clear()
  explore.clear()
  time.autojump(true)
  time.at(nil)
end

-- A test that has failed says enough.
local function finish(_, failed)
  reset()
  local wrong = spawn.end_all()
  time.virtual(true)
  local left = app.end_all()
  files.clear()
  if wrong and not failed then error(wrong, 0) end
  if left and not failed then error("left behind:\n" .. left, 0) end
end

-- busted forgets this module after each file, but not what has subscribed: that is done
-- once, and calls the one that is there.
local finisher = setmetatable({}, {
  __close = function(...) return debug.getregistry()[KEY].finish(...) end,
})

local function finished(run)
  return function(...)
    local _ <close> = finisher
    debug.getregistry()[KEY].begin()
    return run(...)
  end
end

local function install(busted)
  local registry = debug.getregistry()
  local is_first = not registry[KEY]
  registry[KEY] = { begin = spawn.begin, finish = finish }
  if not is_first then return end
  local wrapped = setmetatable({}, { __mode = "k" })
  busted.subscribe({ "test", "start" }, function(test)
    if not wrapped[test] then test.run = finished(test.run) end
    wrapped[test] = true
    return nil, true
  end)
end

return { install = install }
