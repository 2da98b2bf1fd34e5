-- lua-http, which runs on cqueues. Debian has it for Lua 5.3 at best, and its fifo, which
-- is the same for all, only for 5.2.
--
--     lua5.3 lua-http.lua PORT

package.path = package.path .. ";/usr/share/lua/5.2/?.lua"

local headers = require "http.headers"
local server = require "http.server"

local TEXT = "text/plain; charset=utf-8"

local function send(stream, kind, body, more)
  local head = headers.new()
  head:append(":status", "200")
  head:append("content-type", kind)
  head:append("content-length", tostring(#body))
  for name, value in pairs(more or {}) do head:append(name, value) end
  assert(stream:write_headers(head, false))
  assert(stream:write_body_from_string(body))
end

local routes = {}

routes["/hello"] = function(stream)
  send(stream, TEXT, "Hello, world!\n")
end

routes["/json"] = function(stream)
  send(stream, "application/json", require("cjson").encode { id = 42,
    name = "Ada Lovelace", mail = "ada@example.org", active = true })
end

routes["/echo"] = function(stream)
  send(stream, TEXT, stream:get_body_as_string())
end

local function send_item(stream, asked, id, query)
  local args = {}
  for name, value in require("http.util").query_args(query) do args[name] = value end
  send(stream, TEXT, "item " .. id .. ", " .. args.q .. ", for "
    .. asked:get "user-agent" .. "\n", {
    ["x-item"] = id,
    ["x-page"] = args.page,
    ["x-request-id"] = asked:get "x-request-id",
    ["content-language"] = asked:get "accept-language",
  })
end

local function answer(_, stream)
  local asked = assert(stream:get_headers())
  local path, query = asked:get(":path"):match "^([^?]*)%??(.*)$"
  local route = routes[path]
  if route then return route(stream) end
  send_item(stream, asked, path:match "^/items/([^/]+)$", query)
end

local listener = assert(server.listen {
  host = "127.0.0.1", port = tonumber(arg[1]), tls = false, onstream = answer,
  onerror = function() end, max_concurrent = 20000,
})
assert(listener:listen())
assert(listener:loop())
