-- What fn(writer) puts into a baton (native.baton), as bytes.

local baton = require "native.baton"
local channel = require "native.channel"
local parcel = require "native.parcel"

return function(fn)
  local writer = baton.new()
  fn(writer)
  local fd = writer:store()
  local text = parcel.load(fd) -- all that is in it
  channel.close(fd)
  return text
end
