-- For specs in this process: each test begins with a clock that stands still and ends
-- with as many descriptors as it began with. Connections that a test has dropped are
-- closed when they are collected, and linger for some seconds of that clock.
--
--     require "tidy" (before_each, after_each)

local harness = require "server"
local process = require "native.process"
local test = require "moonpool.test"

local LINGER = 20 -- seconds, more than any connection takes to close

local function descriptors()
  return harness.descriptors(process.pid())
end

return function(before_each, after_each)
  local before

  before_each(function()
    test.virtual(true)
    before = descriptors()
  end)

  after_each(function()
    test.virtual(true)
    collectgarbage()
    collectgarbage()
    test.advance(LINGER)
    local after = descriptors()
    if after ~= before then
      error(("%d descriptors before the test, %d after it"):format(before, after), 0)
    end
  end)
end
