-- Takes over what the giver hands over, and goes on serving its client. See giver.lua.

local moonpool = require "moonpool"
local net = require "moonpool.net"

local log = moonpool.log

local function receive(giver)
  local label, thing = giver:read(), assert(giver:recvfd())
  log.info("got the %s: %s %d:%d", label, thing:kind(), thing:identity())
  return thing
end

-- The connection to the giver stays open to the end: it is what counts as this worker's.
return function(giver)
  local letter <close> = assert(receive(giver):file())
  local pipe <close> = assert(net.conn(receive(giver)))
  local client <close> = assert(net.conn(receive(giver), giver:read "a"))
  log.info("the client is %s", client:peer())

  letter:setvbuf "no" -- reads no further than it must
  log.info("the letter says: %s", letter:read())
  giver:write "done\n"

  client:write("Process ", moonpool.worker.pid, " serves you now. ", pipe:read "a")
  local text = client:readsome()
  while text do
    client:write(text:upper())
    text = client:readsome()
  end
end
