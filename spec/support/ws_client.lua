--- A WebSocket client for specs, over what test.connect or server:connect returns: it
-- shares nothing with what it tests.
--
--     local ws = ws_client.open(client, "/chat", { Origin = "http://spec" })
--     ws:send "hello"
--     assert.equal("hello", ws:receive())

local vectors = require "ws_vectors"

local KEY = "dGhlIHNhbXBsZSBub25jZQ==" -- of RFC 6455 1.3

local methods = {}
local mt = { __index = methods, __close = function(self) self.client:close() end }

--- Asks for an upgrade.
-- @param fields (optional) in place of the usual ones; false: without
-- @return status, fields of the answer by their names in lower case
local function ask(client, path, fields)
  local all = { Host = "spec", Upgrade = "websocket", Connection = "Upgrade",
    ["Sec-WebSocket-Key"] = KEY, ["Sec-WebSocket-Version"] = "13" }
  for name, value in pairs(fields or {}) do all[name] = value end
  local lines = { (all.method or "GET") .. " " .. path .. " HTTP/1.1" }
  all.method = nil
  for name, value in pairs(all) do
    if value then lines[#lines + 1] = name .. ": " .. value end
  end
  client:write(table.concat(lines, "\r\n"), "\r\n\r\n")
  local status, got = tonumber(client:read("l"):match "^HTTP/1.1 (%d+)"), {}
  for line in client:lines() do
    if line == "" then break end
    local name, value = line:match "^(.-): (.*)$"
    got[name:lower()] = value
  end
  return status, got
end

local names = { [1] = "text", [2] = "binary", [8] = "close", [9] = "ping", [10] = "pong" }

--- The next frame of the server, which is a whole one.
-- @return its payload and its kind, and whether it is compressed; nil at the end
function methods:frame()
  local head = self.client:read(2)
  if not head or #head < 2 then return nil end
  local first, length = head:byte(1, 2)
  assert(first & 0xb0 == 0x80 and first & 0x0f ~= 0, "not a whole frame")
  assert(length & 0x80 == 0, "a server does not mask")
  if length >= 126 then
    local size = length == 126 and 2 or 8
    length = string.unpack(">I" .. size, self.client:read(size))
  end
  local payload = length > 0 and self.client:read(length) or ""
  return payload, names[first & 0x0f], first & 0x40 ~= 0
end

--- The next message: text, "text"; or, for a Close frame, nil, code, reason.
function methods:receive()
  local payload, kind = self:frame()
  if kind ~= "close" then return payload, kind end
  if payload == "" then return nil, 1005, "" end
  return nil, (string.unpack(">I2", payload)), payload:sub(3)
end

function methods:send(data) return self:write(vectors.text(data)) end
function methods:binary(data) return self:write(vectors.binary(data)) end
function methods:ping(data) return self:write(vectors.ping(data)) end
function methods:close(code, reason) return self:write(vectors.close(code, reason)) end

--- Writes frames as they are.
function methods:write(...)
  self.client:write(...)
  return self
end

--- Whether the server has ended the connection.
function methods:is_over()
  return self.client:read(1) == nil
end

local function around(client)
  return setmetatable({ client = client }, mt)
end

local function open(client, path, fields)
  local status, got = ask(client, path, fields)
  assert(status == 101, "the handshake was answered " .. status)
  local self = around(client)
  self.fields = got
  return self
end

--- Sends "hé" in two fragments, with a ping between them, and interrupts it at each byte:
-- each in a WebSocket of its own.
-- @param new () -> the next of them
-- @param interrupt is called once, when each has sent its part
-- @return by where it was cut, a list: the answer to the ping, and then two messages
local function interrupt_each(new, interrupt)
  local half = vectors.first "h\xc3" .. vectors.ping "?"
  local bytes = half .. vectors.last "\xa9"
  local all, heard = {}, {}
  for cut = 0, #bytes - 1 do
    all[cut] = new():write(bytes:sub(1, cut))
    heard[cut] = { cut >= #half and all[cut]:frame() or nil }
  end
  interrupt()
  for cut = 0, #bytes - 1 do
    local ws <close> = all[cut]
    local news = ws:receive()
    ws:write(bytes:sub(cut + 1))
    heard[cut][1] = heard[cut][1] or ws:frame()
    table.move({ news, (ws:receive()) }, 1, 2, 2, heard[cut])
  end
  return heard
end

return { ask = ask, open = open, around = around, interrupt_each = interrupt_each }
