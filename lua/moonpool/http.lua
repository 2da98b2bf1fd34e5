--- HTTP applications: routes and middleware, and the function that they make of a
-- connection.
--
--     local app = require("moonpool.http").app()
--     app:get("/hello/:name", function(req, res)
--       res:send("Hello, " .. req.params.name .. "!\n")
--     end)
--     return app
--
-- Requests are described in runtime/lua_req.h, responses in lua_res.h, more of their
-- methods in http_request.lua and http_response.lua, patterns in router.h.
--
-- The path chooses the route, then the method one of its handlers. Before them, even
-- where there is no route, runs all the middleware whose prefix the path has, in the
-- order of registration.
--
-- @module moonpool.http

local core = require "moonpool.core"
local events = require "moonpool.events"
local http_path = require "moonpool.http_path"
local http_plan = require "moonpool.http_plan"
local http_request = require "moonpool.http_request"
local websocket = require "moonpool.websocket"
require "moonpool.http_response"

local methods = {}
local mt = { __name = "moonpool.http.app", __index = methods }

---------------------------------------------------------------------------------------
-- What is registered. An app keeps it in order, and makes a plan of it when a request
-- comes (http_plan.lua): apps may be mounted before they are complete.

local engines = setmetatable({}, { __mode = "k" }) -- of all apps

-- Another app may have this one's routes too.
local function changed(self)
  for engine in pairs(engines) do core.http.replan(engine) end
  return self
end

local function register(self, entry)
  self.entries[#self.entries + 1] = entry
  return changed(self)
end

local function check_function(fn, what)
  assert(type(fn) == "function", what .. " must be a function")
  return fn
end

-- The names in a pattern (runtime/router.h), in their order.
local function names_of(pattern)
  assert(type(pattern) == "string" and pattern:sub(1, 1) == "/", 'a path begins with "/"')
  assert(not pattern:find "/%*[%a_][%w_]*/",
    "nothing may follow a *name: it takes the rest")
  local names = {}
  for name in pattern:gmatch "/[:*]([%a_][%w_]*)%f[/\0]" do names[#names + 1] = name end
  assert(#names <= 32, "a path has 32 names at most")
  return names
end

-- "/admin" or "/admin/" -> "/admin"; "/" -> ""
local function check_prefix(prefix)
  assert(#names_of(prefix) == 0, "a prefix has no parameters")
  return (prefix:gsub("/$", ""))
end

--- Adds a route. In the path, which is written decoded, ":name" stands for one segment
-- and a final "*name" for all the rest; what they met is in req.params. The last route
-- of the same method and path counts.
-- @param method "GET", "POST" ... case-sensitive (RFC 9110 9.1)
-- @param ... functions of (req, res, next), of which the last is the handler
function methods:route(method, path, ...)
  local handlers = { ... }
  for i = 1, math.max(select("#", ...), 1) do
    check_function(handlers[i], "the handler")
  end
  return register(self, { method = method, path = path, handlers = handlers,
    names = names_of(path) })
end

for _, method in ipairs { "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS" } do
  methods[method:lower()] = function(self, path, ...)
    return self:route(method, path, ...)
  end
end

-- A route whose connections outlive its requests, and their worker.
local function register_live(self, path, route)
  self:get(path, route.answer)
  self.entries[#self.entries].live = route
  return self
end

--- Adds a route for WebSockets.
-- @param handler what becomes of one: see websocket.lua
function methods:websocket(path, handler)
  return register_live(self, path, websocket.new(path, handler))
end

--- Adds a route for streams of server-sent events.
-- @param handler what becomes of one: see events.lua
function methods:events(path, handler)
  return register_live(self, path, events.new(path, handler))
end

--- Adds a route for the methods that have none of their own at this path.
function methods:any(path, ...)
  return self:route(http_plan.ANY, path, ...)
end

--- Adds middleware: a function of (req, res, next, prefix), which calls next() for all
-- that comes after it to happen, or answers itself. The fourth argument is what req.path
-- begins with: the prefixes of mounted apps and this one; nil where there are none.
-- @param prefix (optional) whole segments; without it all paths of the app are meant
function methods:use(prefix, middleware)
  if middleware == nil then prefix, middleware = "/", prefix end
  return register(self, { prefix = check_prefix(prefix),
    middleware = check_function(middleware, "middleware") })
end

local function contains(self, other)
  if self == other then return true end
  for _, entry in ipairs(self.entries) do
    if entry.app and contains(entry.app, other) then return true end
  end
  return false
end

--- Puts another app's routes and middleware under a prefix. Its "/" is the prefix itself,
-- with and without a slash at the end. req.path stays the whole path.
function methods:mount(prefix, other)
  assert(getmetatable(other) == mt, "what is mounted must be an app")
  assert(not contains(other, self), "an app cannot be mounted in itself")
  return register(self, { prefix = check_prefix(prefix), app = other })
end

--- Sets what is called with (err, req, res, traceback) when a handler of this app, or
-- what runs before it, raises err. If it answers nothing, or the response had begun, the
-- error goes on: to the app around, and in the end to the log and a plain 500.
function methods:on_error(fn)
  self.failed = check_function(fn, "the error handler")
  return changed(self)
end

--- Sets what answers, as a handler does, where no route has the path (plain 404).
function methods:not_found(fn)
  self.missing = check_function(fn, "the handler")
  return changed(self)
end

--- Sets what answers, as a handler does, where the path has no handler for the method
-- (plain 405). The status and the Allow field are set already.
function methods:not_allowed(fn)
  self.refusing = check_function(fn, "the handler")
  return changed(self)
end

---------------------------------------------------------------------------------------

--- The application is itself a handler: a function of one connection.
function mt:__call(conn)
  return core.http.serve(self.engine, conn)
end

-- Routes by name, of this app and those mounted in it.
local function collect_live(self, routes)
  for _, entry in ipairs(self.entries) do
    if entry.app then collect_live(entry.app, routes) end
    local live = entry.live
    if live and routes[live.name] then
      error("two routes are called " .. live.name .. ": one needs another name", 0)
    elseif live then
      routes[live.name] = live
    end
  end
  return routes
end

--- What takes its connections without calling it for each: see runtime/handler.h.
function mt:__handler()
  local routes = collect_live(self, {})
  if next(routes) then
    core.http.resumes(self.engine, function(...)
      return websocket.take_over(routes, ...) or events.take_over(routes, ...)
    end)
  end
  return self.engine
end

--- A new application without routes.
-- @param settings (optional) of the engine, see runtime/lua_http.h
local function app(settings)
  local self = setmetatable({ entries = {} }, mt)
  self.engine = core.http.engine(nil, settings, function() return http_plan.new(self) end)
  engines[self.engine] = true
  return self
end

return {
  app = app,
  encode = http_path.encode,
  phrase = core.http.phrase, -- (status) -> "Not Found"
  parse_query = core.http.parse_query, -- (text) -> as req:args()
  fields = core.http.fields, -- (name, value, ...) -> what res:header takes in one go
  status_of = http_request.status_of,
  safe_name = http_request.safe_name,
}
