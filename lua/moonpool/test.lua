--- Handlers in specs: over real socketpairs, in the spec's own process, without a server,
-- on a clock that stands still.
--
--     local test = require "moonpool.test"
--
--     local app = test.app "app.lua"
--     local answer = app:get "/hello/ada"
--     assert.response(answer).has.status(200)
--
--     local client = test.connect(handler)
--     client:write "hello\n"
--     assert.equal("hello", client:read "l")
--
-- Time is test_time.lua, apps are test_app.lua, their clients test_client.lua and
-- test_http.lua, faults test_faults.lua, assertions test_assertions.lua, whole servers
-- test_spawn.lua. How to test what is in spec/README.md.
--
-- @module moonpool.test

local app = require "moonpool.test_app"
local client = require "moonpool.test_client"
local core = require "moonpool.core"
local explore = require "moonpool.test_explore"
local faults = require "moonpool.test_faults"
local files = require "moonpool.test_files"
local spawn = require "moonpool.test_spawn"
local time = require "moonpool.test_time"

faults.on_kill(app.kill)

if package.loaded.busted then
  require("moonpool.test_busted").install(package.loaded.busted)
end
if package.loaded.luassert then require "moonpool.test_assertions" end

return {
  app = app.new,
  connect = app.connect,
  spawn = spawn.spawn,
  start = spawn.start,
  directory = files.directory,
  client = client.new, -- (conn): the same methods as those of test.connect's, for a spec

  run = time.run,
  settle = time.settle,
  advance = time.advance,
  jump = time.jump,
  autojump = time.autojump,
  at = time.at,
  virtual = time.virtual,
  waiting = time.waiting,
  eventually = time.eventually,
  handler_timeout = core.loop.handler_timeout, -- (seconds) of real time; at first 0: none

  fault = faults.fault,
  every = faults.every,
  every_split = faults.every_split,
  every_move = faults.every_move,
  io = faults.io,

  explore = explore.explore,
  shuffle = explore.shuffle,
}
