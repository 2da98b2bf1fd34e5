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
-- methods in http_request.lua and http_response.lua, patterns in http_router.lua.
--
-- The path chooses the route, then the method one of its handlers. Before them, even
-- where there is no route, runs all the middleware whose prefix the path has, in the
-- order of registration.
--
-- @module moonpool.http

local core = require "moonpool.core"
local http_path = require "moonpool.http_path"
local http_request = require "moonpool.http_request"
local http_router = require "moonpool.http_router"
require "moonpool.http_response"

local page = core.worker.dev and require "moonpool.http_error_page"

local ANY = "" -- where a method is a key; no request has it

local methods = {}
local mt = { __name = "moonpool.http.app", __index = methods }

---------------------------------------------------------------------------------------
-- What is registered. An app keeps it in order, and makes a plan of it when a request
-- comes: apps may be mounted before they are complete.

local registered = 0 -- in all apps: a plan that is older is made again

local function register(self, entry)
  registered = registered + 1
  self.entries[#self.entries + 1] = entry
  return self
end

local function check_function(fn, what)
  assert(type(fn) == "function", what .. " must be a function")
  return fn
end

-- "/admin" or "/admin/" -> "/admin"; "/" -> ""
local function check_prefix(prefix)
  assert(#http_router.names_of(prefix) == 0, "a prefix has no parameters")
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
    names = http_router.names_of(path) })
end

for _, method in ipairs { "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS" } do
  methods[method:lower()] = function(self, path, ...)
    return self:route(method, path, ...)
  end
end

--- Adds a route for the methods that have none of their own at this path.
function methods:any(path, ...)
  return self:route(ANY, path, ...)
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
  registered = registered + 1
  self.failed = check_function(fn, "the error handler")
  return self
end

--- Sets what answers, as a handler does, where no route has the path (plain 404).
function methods:not_found(fn)
  registered = registered + 1
  self.missing = check_function(fn, "the handler")
  return self
end

---------------------------------------------------------------------------------------
-- Answers that nobody wrote a handler for.

-- RFC 9110 15.5.5
local function not_found(_, res)
  res:status(404):send "Not Found\n"
end

-- RFC 9110 10.2.1: those that have a handler, and HEAD, which is GET's.
local function allowed(routes)
  local list = {}
  for method in pairs(routes) do list[#list + 1] = method end
  if routes.GET and not routes.HEAD then list[#list + 1] = "HEAD" end
  table.sort(list)
  return table.concat(list, ", ")
end

-- RFC 9110 9.3.7 and 15.5.6
local function add_defaults(resource)
  local allow = allowed(resource.routes)
  resource.options = { names = {}, handlers = { function(_, res)
    res:status(204):header("Allow", allow):send()
  end } }
  resource.refusal = { names = {}, handlers = { function(_, res)
    res:status(405):header("Allow", allow):send "Method Not Allowed\n"
  end } }
end

-- RFC 9110 9.3.2: HEAD is GET without the content, which the engine leaves out.
local function choose(resource, method)
  local routes = resource.routes
  return routes[method]
    or method == "HEAD" and routes.GET
    or routes[ANY]
    or method == "OPTIONS" and resource.options
    or resource.refusal
end

---------------------------------------------------------------------------------------
-- A plan has .router, which finds a resource: { routes = { [method] = route } }; and
-- .scopes[prefix], what goes for paths under it. Scopes are found through .tree, of the
-- segments of all prefixes. The chain of functions for a route in a scope is made once.

local function add_route(plan, path, entry)
  local resource = plan.router:at(path)
  resource.routes = resource.routes or {}
  resource.routes[entry.method] = entry
  plan.resources[#plan.resources + 1] = resource
end

local function add_prefix(plan, prefix)
  local node = plan.tree
  for segment in prefix:gmatch "/([^/]*)" do
    node.static[segment] = node.static[segment] or { static = {} }
    node = node.static[segment]
  end
  node.prefix = prefix
  plan.prefixes[prefix] = true
end

local function add_middleware(plan, prefix, middleware)
  local function call(req, res, go_on) return middleware(req, res, go_on, prefix) end
  add_prefix(plan, prefix)
  plan.middleware[#plan.middleware + 1] =
    { prefix = prefix, call = prefix == "" and middleware or call }
end

local function add_app(plan, prefix, app)
  add_prefix(plan, prefix)
  local levels = plan.levels
  levels[#levels + 1] = { prefix = prefix, order = #levels, app = app }
  for _, entry in ipairs(app.entries) do
    local under = prefix .. (entry.prefix or "")
    if entry.app then
      add_app(plan, under, entry.app)
    elseif entry.middleware then
      add_middleware(plan, under, entry.middleware)
    else
      add_route(plan, prefix .. entry.path, entry)
      if entry.path == "/" and prefix ~= "" then add_route(plan, prefix, entry) end
    end
  end
end

local function is_under(path, prefix)
  return path:sub(1, #prefix) == prefix
    and (#path == #prefix or path:sub(#prefix + 1, #prefix + 1) == "/")
end

-- The app whose prefix is longest has the first word about errors and what is missing.
local function new_scope(plan, path)
  local scope = { middleware = {}, failed = {}, chains = {}, missing = nil }
  for _, it in ipairs(plan.middleware) do
    if is_under(path, it.prefix) then
      scope.middleware[#scope.middleware + 1] = it.call
    end
  end
  for _, level in ipairs(plan.levels) do
    if is_under(path, level.prefix) then
      scope.missing = scope.missing or level.app.missing
      scope.failed[#scope.failed + 1] = level.app.failed
    end
  end
  scope.missing = { names = {}, handlers = { scope.missing or not_found } }
  return scope
end

local function new_plan(app)
  local plan = { age = registered, router = http_router.new(), resources = {},
    tree = { static = {} }, prefixes = {}, scopes = {}, levels = {}, middleware = {} }
  add_app(plan, "", app)
  for _, resource in ipairs(plan.resources) do add_defaults(resource) end
  table.sort(plan.levels, function(a, b)
    if #a.prefix ~= #b.prefix then return #a.prefix > #b.prefix end
    return a.order > b.order
  end)
  for prefix in pairs(plan.prefixes) do plan.scopes[prefix] = new_scope(plan, prefix) end
  plan.only_scope = next(plan.tree.static) == nil and plan.scopes[""] or nil
  return plan
end

local function scope_of(plan, path)
  if plan.only_scope then return plan.only_scope end
  local node, prefix = plan.tree, ""
  for segment in path:gmatch "/([^/]*)" do
    node = node.static[http_path.decode(segment)]
    if not node then break end
    prefix = node.prefix or prefix
  end
  return plan.scopes[prefix]
end

---------------------------------------------------------------------------------------
-- Requests.

local function chain_of(scope, route)
  local chain = scope.chains[route]
  if not chain then
    chain = table.move(scope.middleware, 1, #scope.middleware, 1, {})
    table.move(route.handlers, 1, #route.handlers, #chain + 1, chain)
    scope.chains[route] = chain
  end
  return chain
end

local function nothing() end

-- A function that has returned has had its next(): another would lead where it must not.
local function run(chain, req, res)
  if #chain == 1 then return chain[1](req, res, nothing) end
  local at = 0
  local function go_on()
    at = at + 1
    local fn = chain[at]
    if not fn then
      if at == #chain + 1 then return end -- the handler's own next
      error("next() has been called before", 2)
    end
    fn(req, res, go_on)
    at = #chain + 1
  end
  go_on()
end

local fault_mt = { __tostring = function(fault) return fault.traceback end }

-- A message handler: what was raised, and the stack of the place where it was first.
local function caught(err)
  if getmetatable(err) == fault_mt then return err end
  return setmetatable({ err = err, traceback = debug.traceback(tostring(err), 2),
    frames = page and page.frames(2) }, fault_mt)
end

local function run_guarded(scope, chain, req, res)
  local ok, fault = xpcall(run, caught, chain, req, res)
  if ok then return end
  for _, failed in ipairs(scope.failed) do
    if res.sent then break end
    failed(fault.err, req, res, fault.traceback)
    if res.sent then return end
  end
  error(fault, 0)
end

local function explain(fault, req, res)
  if not res.sent then page.answer(fault, req, res) end
end

-- In development: what nobody else has answered is explained, and goes on to the log.
local function explaining(serve)
  return function(req, res)
    local ok, fault = xpcall(serve, caught, req, res)
    if ok then return end
    pcall(explain, fault, req, res)
    error(fault, 0)
  end
end

local function params(names, values)
  local found = {}
  for i = 1, #names do found[names[i]] = values[i] end
  return found
end

local function dispatch(plan, req, res)
  local target, method = req.target, req.method
  local path, why = http_path.of_target(target)
  if not path then return res:status(400):send(why .. "\n") end
  if path == "*" and method == "OPTIONS" then return res:status(204):send() end
  if path ~= target and path:byte() == 0x2F then -- "/"
    local decoded = http_path.decode(path)
    if decoded ~= req.path then req.path = decoded end
  end
  local scope = scope_of(plan, path)
  local resource, values = plan.router:find(path)
  local route = resource and choose(resource, method) or scope.missing
  if route.names[1] then req.params = params(route.names, values) end
  local chain = chain_of(scope, route)
  if scope.failed[1] then return run_guarded(scope, chain, req, res) end
  return run(chain, req, res)
end

--- The application is itself a handler: a function of one connection.
function mt:__call(conn)
  return core.http.serve(self.engine, conn)
end

--- A new application without routes.
-- @param settings (optional) of the engine, see runtime/lua_http.h
local function app(settings)
  local self = setmetatable({ entries = {} }, mt)
  local plan = { age = -1 }
  local function serve(req, res)
    if plan.age ~= registered then plan = new_plan(self) end
    return dispatch(plan, req, res)
  end
  self.engine = core.http.engine(page and explaining(serve) or serve, settings)
  return self
end

return {
  app = app,
  parse_query = http_request.parse_query,
  args = http_request.args,
  form = http_request.form,
  cookie = http_request.cookie,
  json = http_request.json,
  send_json = http_request.send_json,
}
