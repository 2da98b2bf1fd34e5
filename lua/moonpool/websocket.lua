--- WebSockets in HTTP applications (RFC 6455), with permessage-deflate (RFC 7692).
--
--     app:websocket("/echo", function(ws)
--       for message, kind in ws:messages() do ws:send(message, kind) end
--     end)
--
--     app:websocket("/count/:name", {
--       open = function(req) return { name = req.params.name, count = 0 } end,
--       serve = function(ws, state)
--         for _ in ws:messages() do
--           state.count = state.count + 1
--           ws:send(state.name .. " " .. state.count)
--         end
--       end,
--     })
--
-- What ws has stands in runtime/lua_websocket.h. When serve returns the connection is
-- closed with 1000, when it fails with 1011.
--
-- A WebSocket outlives its worker. Its state, plain values in a table, is kept as it is
-- each time that serve asks for a message; while it waits for one, the connection may
-- move to another worker. There serve is called anew, with that state and, as its third
-- argument, why: "reload", "recycle", "balance" or "crash". A message of which the client
-- has sent one half goes along.
--
-- If a worker is killed while serve is at a message, that message is gone: each is
-- delivered at most once. With redeliver = true it is given to serve again, and each is
-- delivered at least once.
--
-- A route is known in the new worker by its name, which is its path, unless it is given
-- one.
--
-- @module moonpool.websocket

local core = require "moonpool.core"
local log = require "moonpool.log"
local options = require "moonpool.options"

local KEY = "^[%w+/]+[AQgw]==$" -- of 16 bytes
local TOKEN = "^[%w!#$%%&'*+.^_`|~-]+$"

local kinds = { serve = "function", open = "function", name = "string",
  origins = "string table function", protocols = "table", compress = "boolean",
  idle = "number", message_limit = "number", redeliver = "boolean" }

---------------------------------------------------------------------------------------
-- The handshake (RFC 6455 4.2).

-- Asked for each handshake, so there is no iterator: it would be as big as all of a
-- WebSocket's state.
local function has_token(list, token)
  list = "," .. (list or ""):lower() .. ","
  return list:find(",%s*" .. token .. "%s*,") ~= nil
end

-- The parts of a list, without the white space around them.
local function each_of(list)
  return list:gmatch "[^,%s][^,]*%f[%s,\0]"
end

-- RFC 6455 4.2.1: nothing, or the status and what is wrong.
local function fault_of(req, headers)
  local key, second = req:header "Sec-WebSocket-Key"
  if not has_token(req.upgrade, "websocket") then
    return 426, "this is a WebSocket: ask for an upgrade (RFC 6455 4.1)"
  elseif headers["sec-websocket-version"] ~= "13" then
    return 426, "the version of WebSocket is 13"
  elseif not key or second or #key ~= 24 or not key:find(KEY) then
    return 400, "one Sec-WebSocket-Key is needed, of 16 bytes in Base64"
  end
end

-- RFC 6455 4.4
local function refuse(res, status, why)
  if status == 426 then
    res:header("Upgrade", "websocket"):header("Sec-WebSocket-Version", "13")
  end
  res:error(status, why)
end

-- RFC 6455 10.2. Programs need not say where they come from.
local function same_origin(origin, req)
  local host = origin:match "^https?://(.*)$"
  return host ~= nil and host:lower() == req.host:lower()
end

local function is_listed(list)
  return function(origin)
    for _, other in ipairs(list) do
      if origin:lower() == other:lower() then return true end
    end
    return false
  end
end

local function origin_check(origins)
  if origins == nil or origins == "same" then return same_origin end
  if origins == "*" then return function() return true end end
  if type(origins) == "function" then return origins end
  return is_listed(type(origins) == "table" and origins or { origins })
end

-- RFC 6455 4.2.2, 1.9: the first of ours that the client has; false if it asks wrongly.
local function choose_protocol(offered, ours)
  if not offered then return nil end
  local has = {}
  for name in each_of(offered) do
    if not name:find(TOKEN) then return false end
    has[name] = true
  end
  for _, name in ipairs(ours or {}) do
    if has[name] then return name end
  end
end

-- RFC 7692 7.1. A window that is smaller than usual is declined.
local parameters = {
  server_no_context_takeover = function(value) return value == nil end,
  client_no_context_takeover = function(value) return value == nil end,
  server_max_window_bits = function(value) return value == "15" end,
  client_max_window_bits = function(value)
    return value == nil or value:find "^[89]$" or value:find "^1[0-5]$"
  end,
}

-- Whether that can be agreed to, and the parameters.
local function read_offer(offer)
  local seen = {}
  if not offer:find "^permessage%-deflate%f[%s;\0]" then return false end
  for parameter in offer:gmatch ";%s*([^;]*)" do
    local name, value = parameter:match '^([%w_]+)%s*=%s*"?(%w+)"?%s*$'
    name = name or parameter:match "^([%w_]+)%s*$"
    local is_right = parameters[name]
    if not is_right or seen[name] or not is_right(value) then return false end
    seen[name] = true
  end
  return true, seen
end

-- What is agreed on: no context is kept from one message to the next, on either side, so
-- that the connection can go on in another worker.
local function choose_deflate(offers)
  for offer in each_of(offers or "") do
    local is_right, seen = read_offer(offer)
    if is_right then
      return "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        .. (seen.server_max_window_bits and "; server_max_window_bits=15" or "")
    end
  end
end

---------------------------------------------------------------------------------------
-- Routes.

-- What there is to know of a request, if nobody says what is wanted. It is kept for each
-- message: a route without parameters has no table for them.
local function usual_state(req, _, protocol)
  return { params = req.params, args = req:args() or {}, protocol = protocol }
end

local function upgrade(route, headers, res, state, protocol)
  local deflate = route.compress and choose_deflate(headers["sec-websocket-extensions"])
  res:header("Sec-WebSocket-Accept", core.websocket.accept(headers["sec-websocket-key"]))
  if protocol then res:header("Sec-WebSocket-Protocol", protocol) end
  if deflate then res:header("Sec-WebSocket-Extensions", deflate) end
  local ws, why = core.websocket.open(res, route.site, deflate, route.name, state)
  if not ws then return res:error(400, why) end
  core.websocket.start(ws, route.serve)
end

-- The handler of the route's path.
local function answer(route, req, res)
  local headers = req.headers
  local status, why = fault_of(req, headers)
  if status then return refuse(res, status, why) end
  local origin = headers.origin
  if origin and not route.check_origin(origin, req) then
    return res:error(403, "not from that origin")
  end
  local protocol = choose_protocol(headers["sec-websocket-protocol"], route.protocols)
  if protocol == false then return res:error(400, "a subprotocol's name is a token") end
  local state = route.open(req, res, protocol)
  if res.sent then return end
  if not state then return res:error(403) end
  upgrade(route, headers, res, state, protocol)
end

local function resume(route, conn, checkpoint, why)
  local ws = core.websocket.resume(route.site, conn, checkpoint)
  core.websocket.start(ws, route.serve, why)
end

--- Makes a route of a handler, for app:websocket.
-- @param path its name, where it has none
-- @param handler a function of (ws, state, why), or a table:
--
--     serve      that function
--     open       function(req, res, protocol) -> state; it may answer by itself instead,
--                or return nothing, which is a 403. Without it the state has params (of
--                the path, if it has some), args (of the query) and protocol
--     origins    "same" (as the Host is; usual), "*", one origin, a list of them, or a
--                function(origin, req). Requests without an Origin are no browser's
--     protocols  a list of subprotocols, the best first
--     compress   true: permessage-deflate, if the client wants it
--     idle       seconds of silence until a ping (30); after as many again it is cut
--     message_limit   bytes (1048576); a longer one is refused with 1009
--     redeliver  true: at least once, see above
--     name       what it is called in the state of a connection
local function new(path, handler)
  if type(handler) == "function" then handler = { serve = handler } end
  local given = options.check("websocket", handler, kinds)
  assert(given.serve, "websocket: serve, a function, is needed")
  local route = { name = given.name or path, serve = given.serve, resume = resume,
    open = given.open or usual_state, protocols = given.protocols,
    compress = given.compress or false, check_origin = origin_check(given.origins),
    site = core.websocket.site(given) }
  function route.answer(req, res) return answer(route, req, res) end
  return route
end

local nowhere = core.websocket.site {}

--- Goes on with a connection that has come with a checkpoint.
-- @param routes by their names
-- @return whether it was a WebSocket's
local function take_over(routes, conn, checkpoint, why)
  local name = core.websocket.label(checkpoint)
  if not name then return false end
  if routes[name] then
    routes[name]:resume(conn, checkpoint, why)
  else
    log.warn("there is no route " .. name .. " any more: its WebSocket is closed")
    core.websocket.resume(nowhere, conn, checkpoint):close(1012, "it is gone")
  end
  return true
end

return {
  new = new,
  take_over = take_over,
  frame = core.websocket.frame, -- (message, kind) -> frame, for many: ws:put(frame)
}
