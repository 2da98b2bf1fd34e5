-- Hands over open descriptors to another program: a file, a pipe, and its own client.
--
--     build/moonpool serve --config examples/handover/pools.lua
--     printf 'ada\nand the rest\n' | nc -q 1 127.0.0.1 8080
--
-- The giver reads the client's name and passes everything to the taker (taker.lua), which
-- answers the client in its place: the same connection, another process. What both see
-- stands in the log. A descriptor that is passed is the same open file: equal in device
-- and inode, and with one offset for both.

local fd = require "moonpool.fd"
local moonpool = require "moonpool"
local net = require "moonpool.net"

local here = debug.getinfo(1, "S").source:match "^@(.*)/"
local log = moonpool.log

local function give(taker, label, thing)
  log.info("giving the %s: %s %d:%d", label, thing:kind(), thing:identity())
  assert(taker:sendfd(thing, label .. "\n"))
end

return function(client)
  local name = client:read()
  if not name then return end
  local letter <close> = assert(fd.open(here, "letter.txt"))
  local pipe <close>, mouth = assert(fd.pipe())
  mouth:file("w"):write("It is ", name, ".\n"):close()

  local taker <close> = assert(net.connect(os.getenv "TAKER", 5))
  give(taker, "letter", letter)
  give(taker, "pipe", pipe)
  log.info("giving the client %s", client:peer())
  local unread = client:unread() -- what came along with the name is the taker's too
  assert(taker:sendfd(client, "client\n"))
  taker:write(unread):shutdown()

  assert(taker:read()) -- it has read its line of the letter
  local file <close> = letter:file()
  log.info("my offset in the letter is now %d, and there it says: %s", file:seek(),
    file:read())
end
