--- What an application makes of requests: the function for each route, with the
-- middleware before it and the error handlers around it.
--
-- A plan knows scopes, one for each prefix that middleware or a mounted app goes by, and
-- resources, one for each pattern: { routes = { [method] = route } }. Which of them a
-- path has is found in C (runtime/lua_routes.h), which asks here once for each
-- combination of scope, resource and method.
--
-- @module moonpool.http_plan

local core = require "moonpool.core"

local page = core.worker.dev and require "moonpool.http_error_page"

local ANY = "" -- where a method is a key; no request has it

---------------------------------------------------------------------------------------
-- Answers that nobody wrote a handler for.

-- RFC 9110 15.5.5
local function not_found(_, res)
  res:status(404):send "Not Found\n"
end

local function not_allowed(_, res)
  res:send "Method Not Allowed\n"
end

-- RFC 9110 9.3.7: "OPTIONS *" is about the server, and no path.
local function server_options(missing)
  return function(req, res)
    if req.target ~= "*" then return missing(req, res) end
    res:status(204):send()
  end
end

-- RFC 9110 10.2.1: those that have a handler, and HEAD, which is GET's.
local function allowed(routes)
  local list = {}
  for method in pairs(routes) do list[#list + 1] = method end
  if routes.GET and not routes.HEAD then list[#list + 1] = "HEAD" end
  table.sort(list)
  return table.concat(list, ", ")
end

-- RFC 9110 9.3.7
local function resource_options(resource)
  local allow = allowed(resource.routes)
  return function(_, res)
    res:status(204):header("Allow", allow):send()
  end
end

-- RFC 9110 15.5.6
local function resource_refusal(resource, refusing)
  local allow = allowed(resource.routes)
  return function(req, res)
    res:status(405):header("Allow", allow)
    refusing(req, res)
  end
end

---------------------------------------------------------------------------------------
-- Running.

local function nothing() end

-- A function that has returned has had its next(): another would lead where it must not.
-- The request is taken from next() then: less to be collected than a flag.
local function before(fn, rest)
  return function(req, res)
    fn(req, res, function()
      local asked = req or error("next() has been called before", 2)
      req = nil
      rest(asked, res, nothing)
    end)
    req = nil
  end
end

local function running(chain)
  local serve = chain[#chain]
  for i = #chain - 1, 1, -1 do serve = before(chain[i], serve) end
  return serve
end

local fault_mt = { __tostring = function(fault) return fault.traceback end }

-- A message handler: what was raised, and the stack of the place where it was first.
local function caught(err)
  if getmetatable(err) == fault_mt then return err end
  return setmetatable({ err = err, traceback = debug.traceback(tostring(err), 2),
    frames = page and page.frames(2) }, fault_mt)
end

-- The error handlers are asked in turn until one has answered; else the error goes on.
local function guarding(serve, handlers)
  return function(req, res)
    local ok, fault = xpcall(serve, caught, req, res, nothing)
    if ok then return end
    for _, failed in ipairs(handlers) do
      if res.sent then break end
      failed(fault.err, req, res, fault.traceback)
      if res.sent then return end
    end
    error(fault, 0)
  end
end

local function explain(fault, req, res)
  if not res.sent then page.answer(fault, req, res) end
end

-- In development: what nobody else has answered is explained, and goes on to the log.
local function explaining(serve)
  return function(req, res)
    local ok, fault = xpcall(serve, caught, req, res, nothing)
    if ok then return end
    pcall(explain, fault, req, res)
    error(fault, 0)
  end
end

-- What serves the handlers in a scope: as little as there is to do.
local function serving(scope, handlers)
  local chain = table.move(scope.middleware, 1, #scope.middleware, 1, {})
  table.move(handlers, 1, #handlers, #chain + 1, chain)
  local serve = running(chain)
  if scope.failed[1] then serve = guarding(serve, scope.failed) end
  return page and explaining(serve) or serve
end

---------------------------------------------------------------------------------------
-- Choosing.

-- RFC 9110 9.3.2: HEAD is GET without the content, which the engine leaves out.
local function route_of(resource, method)
  local routes = resource.routes
  return routes[method] or method == "HEAD" and routes.GET or routes[ANY]
end

-- The functions that serve a method, and the names in their pattern.
local function choose(scope, resource, method)
  if not resource then
    local missing = scope.missing or not_found
    return { method == "OPTIONS" and server_options(missing) or missing }
  end
  local route = route_of(resource, method)
  if route then return route.handlers, route.names end
  if method == "OPTIONS" then return { resource_options(resource) } end
  return { resource_refusal(resource, scope.refusing or not_allowed) }
end

-- Of these there are only so many; a client could think of any number of others.
local usual = { GET = true, HEAD = true, POST = true, PUT = true, PATCH = true,
  DELETE = true, OPTIONS = true }

local function resolving(plan)
  return function(prefix, pattern, method)
    local scope, resource = plan.scopes[prefix], plan.resources[pattern]
    local handlers, names = choose(scope, resource, method)
    local keep = usual[method] or resource and resource.routes[method] ~= nil
    return serving(scope, handlers), names or {}, keep
  end
end

---------------------------------------------------------------------------------------
-- Planning.

local function add_route(plan, path, entry)
  local number = plan.routes:pattern(path)
  local resource = plan.resources[number] or { routes = {} }
  plan.resources[number] = resource
  resource.routes[entry.method] = entry
end

local function add_middleware(plan, prefix, middleware)
  local function call(req, res, go_on) return middleware(req, res, go_on, prefix) end
  plan.prefixes[prefix] = true
  plan.middleware[#plan.middleware + 1] =
    { prefix = prefix, call = prefix == "" and middleware or call }
end

local function add_app(plan, prefix, app)
  local levels = plan.levels
  plan.prefixes[prefix] = true
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
  local scope = { middleware = {}, failed = {} }
  for _, it in ipairs(plan.middleware) do
    if is_under(path, it.prefix) then
      scope.middleware[#scope.middleware + 1] = it.call
    end
  end
  for _, level in ipairs(plan.levels) do
    if is_under(path, level.prefix) then
      scope.missing = scope.missing or level.app.missing
      scope.refusing = scope.refusing or level.app.refusing
      scope.failed[#scope.failed + 1] = level.app.failed
    end
  end
  return scope
end

local function deepest_first(a, b)
  if #a.prefix ~= #b.prefix then return #a.prefix > #b.prefix end
  return a.order > b.order
end

--- Plans what an app has registered by now.
-- @return routes (runtime/lua_routes.h)
local function new(app)
  local plan = { resources = {}, scopes = {}, levels = {}, middleware = {},
    prefixes = {} }
  plan.routes = core.http.routes(resolving(plan))
  add_app(plan, "", app)
  table.sort(plan.levels, deepest_first)
  for prefix in pairs(plan.prefixes) do
    plan.scopes[plan.routes:prefix(prefix)] = new_scope(plan, prefix)
  end
  return plan.routes
end

return { new = new, ANY = ANY }
