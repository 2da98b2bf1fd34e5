--- What requests say in their query, their fields and their bodies.
--
--     local http = require "moonpool.http"
--     local name = http.args(req).name
--     local user, why, code = http.json(req)
--     if why then return res:status(code == "ENOTSUP" and 415 or 400):send(why) end
--
-- These are functions whose first argument is the request: they cost nothing until they
-- are called, wrap nothing, and work with anything that has the fields of a request.
--
-- @module moonpool.http_request

local decode = require("moonpool.http_path").decode
local json_codec = require "moonpool.json"

local FIELDS = 1000 -- of a query or a form; each costs some hundred bytes

--- Reads "a=1&b=2" (application/x-www-form-urlencoded): "+" is a space, "%XX" a byte.
-- @return the first value of each name; the list of all values of each; or nil, message,
-- "EINVAL" of more than 1,000
local function parse_query(text)
  local first, all, count = {}, {}, 0
  for pair in text:gmatch "[^&]+" do
    count = count + 1
    if count > FIELDS then return nil, "too many fields", "EINVAL" end
    local name, value = pair:gsub("%+", " "):match "^([^=]*)=?(.*)$"
    name, value = decode(name), decode(value)
    if first[name] then
      table.insert(all[name], value)
    else
      first[name], all[name] = value, { value }
    end
  end
  return first, all
end

--- The query's values, decoded; they are read once and kept in req.args and req.args_all.
-- @return as parse_query does
local function args(req)
  if req.args then return req.args, req.args_all end
  local first, all, code = parse_query(req.query)
  if not first then return nil, all, code end
  req.args, req.args_all = first, all
  return first, all
end

--- The value of a cookie, as it was sent, without the quotes around it (RFC 6265 4.1.1).
-- Of several with one name it is the first, which is the nearest path's (5.4).
-- @return a string or nil
local function cookie(req, name)
  for pair in (req:header "Cookie" or ""):gmatch "[^;]+" do
    local key, value = pair:match "^%s*([^=]-)%s*=%s*(.-)%s*$"
    if key == name then return value:match '^"(.*)"$' or value end
  end
  return nil
end

-- RFC 9110 8.3.1: the type without its parameters; its case does not matter.
local function media_type(req)
  local text = req:header "Content-Type" or ""
  return text:match "^[^;%s]*":lower()
end

--- The fields of a body that is application/x-www-form-urlencoded.
-- @return as parse_query does; or nil, message, code: "ENOTSUP" for a body of another
-- type (415), "EINVAL" for one of too many fields (400), or what reading it failed with
local function form(req)
  if media_type(req) ~= "application/x-www-form-urlencoded" then
    return nil, "the body is not a form", "ENOTSUP"
  end
  local body, message, code = req:body()
  if not body then return nil, message, code end
  return parse_query(body)
end

--- The value of a JSON body (see json.lua); as the value may be false, ask for the
-- message to know a failure.
-- @return the value; or nil, message, code: "ENOTSUP" for a body of another type (415),
-- "EINVAL" for one that is not JSON (400), or what reading it failed with
local function json(req)
  local kind = media_type(req)
  if kind ~= "application/json" and not kind:find "^application/[^/]+%+json$" then
    return nil, "the body is not JSON", "ENOTSUP"
  end
  local body, message, code = req:body()
  if not body then return nil, message, code end
  return json_codec.decode(body)
end

--- Sends a value as JSON; an empty table is an object. What JSON cannot say raises.
-- @return as res:send does
local function send_json(res, value)
  local text = json_codec.encode(value)
  return res:header("Content-Type", "application/json"):send(text)
end

return {
  parse_query = parse_query,
  args = args,
  cookie = cookie,
  form = form,
  json = json,
  send_json = send_json,
}
