-- mod_magnet runs this for each request; what it returns is the status.

local r = lighty.r
local path = r.req_attr["uri.path"]

local function send(body)
  r.resp_body:set { body }
  return 200
end

local routes = {}

routes["/hello"] = function()
  r.resp_header["Content-Type"] = "text/plain; charset=utf-8"
  return send "Hello, world!\n"
end

routes["/json"] = function()
  r.resp_header["Content-Type"] = "application/json"
  return send(require("cjson").encode { id = 42, name = "Ada Lovelace",
    mail = "ada@example.org", active = true })
end

routes["/echo"] = function()
  if not r.req_body.collect then return 0 end -- it runs again when all is there
  r.resp_header["Content-Type"] = "text/plain; charset=utf-8"
  return send(r.req_body.get)
end

local function item(id)
  local args, asked, answer = lighty.c.urldec_query(r.req_attr["uri.query"]),
    r.req_header, r.resp_header
  answer["Content-Type"] = "text/plain; charset=utf-8"
  answer["X-Item"] = id
  answer["X-Page"] = args.page
  answer["X-Request-Id"] = asked["X-Request-Id"]
  answer["Content-Language"] = asked["Accept-Language"]
  return send("item " .. id .. ", " .. args.q .. ", for " .. asked["User-Agent"] .. "\n")
end

local route = routes[path]
if route then return route() end
local id = path:match "^/items/([^/]+)$"
return id and item(id) or 404
