-- HTTP applications: routes, and the function that they make of a connection.
--
--     local app = require("moonpool.http").app()
--     app:get("/hello/:name", function(req, res)
--       res:send("Hello, " .. req.params.name .. "!\n")
--     end)
--     return app
--
-- Requests and responses are described in runtime/lua_http.h.

local core = require "moonpool.core"

local methods = {}
local mt = { __name = "moonpool.http.app", __index = methods }

-- Routes are a tree of path segments. A node has .static[segment] and .param.node, which
-- are nodes, .handlers[method], and .rest.handlers[method] for what a "*name" takes.
local function new_node()
  return { static = {}, handlers = {} }
end

local function step(node, segment)
  local name = segment:match "^:([%a_][%w_]*)$"
  if not name then
    node.static[segment] = node.static[segment] or new_node()
    return node.static[segment]
  end
  node.param = node.param or { node = new_node() }
  return node.param.node, name
end

--- Adds a route. In the path, ":name" stands for one segment and a final "*name" for all
-- the rest; what they met is in req.params.
-- @param method "GET", "POST" ... case-sensitive (RFC 9110 9.1)
-- @param handler a function of (req, res)
function methods:route(method, path, handler)
  assert(type(handler) == "function", "the handler must be a function")
  assert(path:sub(1, 1) == "/", 'a path begins with "/"')
  assert(not path:find "/%*[%a_][%w_]*/", "nothing may follow a *name: it takes the rest")
  local node, names = self.root, {}
  for segment in path:sub(2):gmatch "[^/]*" do
    local rest = segment:match "^%*([%a_][%w_]*)$"
    if rest then
      node.rest = node.rest or { handlers = {} }
      node, names[#names + 1] = node.rest, rest
      break
    end
    local name
    node, name = step(node, segment)
    names[#names + 1] = name
  end
  node.handlers[method] = { call = handler, names = names }
  if #names == 0 then self.exact[path] = node.handlers end
  return self
end

for _, method in ipairs { "GET", "POST", "PUT", "PATCH", "DELETE" } do
  methods[method:lower()] = function(self, path, handler)
    return self:route(method, path, handler)
  end
end

-- The handlers for a path, its segments matched left to right; a static segment wins over
-- a parameter, a parameter over the rest. values collects what the names stand for.
local function find(node, path, at, values, depth)
  if at > #path + 1 then
    return next(node.handlers) and node.handlers or nil
  end
  local stop = path:find("/", at, true) or #path + 1
  local segment = path:sub(at, stop - 1)
  local static = node.static[segment]
  local found = static and find(static, path, stop + 1, values, depth)
  if not found and node.param and segment ~= "" then
    values[depth] = segment
    found = find(node.param.node, path, stop + 1, values, depth + 1)
  end
  if not found and node.rest then
    values[depth] = path:sub(at)
    found = node.rest.handlers
  end
  return found
end

local function match(self, path)
  local handlers = self.exact[path]
  if handlers then return handlers end
  local values = {}
  return find(self.root, path, 2, values, 1), values
end

-- RFC 9110 9.3.2: HEAD is GET without the content, which the engine leaves out.
local function choose(handlers, method)
  return handlers[method] or method == "HEAD" and handlers.GET or nil
end

local function allowed(handlers)
  local list = {}
  for method in pairs(handlers) do list[#list + 1] = method end
  if handlers.GET and not handlers.HEAD then list[#list + 1] = "HEAD" end
  table.sort(list)
  return table.concat(list, ", ")
end

local function params(route, values)
  local found = {}
  for i, name in ipairs(route.names) do found[name] = values[i] end
  return found
end

-- RFC 9110 15.5.5 and 15.5.6.
local function refuse(res, handlers)
  if not handlers then
    res:status(404):send "Not Found\n"
  else
    res:status(405):header("Allow", allowed(handlers)):send "Method Not Allowed\n"
  end
end

local function dispatcher(self)
  return function(req, res)
    local handlers, values = match(self, req.path)
    local route = handlers and choose(handlers, req.method)
    if not route then return refuse(res, handlers) end
    if values then req.params = params(route, values) end
    return route.call(req, res)
  end
end

--- The application is itself a handler: a function of one connection.
function mt:__call(conn)
  return core.http.serve(self.engine, conn)
end

--- A new application without routes.
local function app()
  local self = setmetatable({ root = new_node(), exact = {} }, mt)
  self.engine = core.http.engine(dispatcher(self))
  return self
end

return { app = app }
