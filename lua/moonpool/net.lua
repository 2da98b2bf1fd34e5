-- Connections that a script opens itself; what they can do stands in runtime/lua_conn.h.
-- Addresses are "127.0.0.1:80", "[::1]:80", "host:80", "unix:/path" or "unix:@name".

local net = require("moonpool.core").net

--- Connects, to the addresses of a host name one after the other.
-- Finding those of a name blocks this worker (getaddrinfo(3)).
-- @param seconds for each address; none if left out
-- @return conn, or nil, message, code of the last address
local function connect(address, seconds)
  local addresses, why, code = net.resolve(address)
  if not addresses then return nil, why, code end
  local conn
  for _, one in ipairs(addresses) do
    conn, why, code = net.connect(one, seconds)
    if conn then return conn end
  end
  return nil, why, code
end

return {
  connect = connect,

  --- Both ends of a unix socketpair: conn, conn.
  pair = net.pair,

  --- conn(fd [, unread]): a connection that takes over a moonpool.fd; unread, a string,
  -- is read before what comes. Returns conn, or nil, message, code.
  conn = net.conn,
}
