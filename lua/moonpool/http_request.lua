--- What requests say in their fields and their content: methods of req, beside those of
-- runtime/lua_req.h.
--
--     local user, why, code = req:json()
--     if why then return res:error(http.status_of(code), why) end
--
-- @module moonpool.http_request

local core = require "moonpool.core"
local each = require "moonpool.http_each"
local http_multipart = require "moonpool.http_multipart"
local json = require "moonpool.json"

local methods = core.http.req

--- The value of a cookie, as it was sent, without the quotes around it (RFC 6265 4.1.1).
-- Of several with one name it is the first, which is the nearest path's (5.4).
-- @return a string or nil
function methods:cookie(name)
  for pair in (self.headers.cookie or ""):gmatch "[^;]+" do
    local key, value = pair:match "^%s*([^=]-)%s*=%s*(.-)%s*$"
    if key == name then return value:match '^"(.*)"$' or value end
  end
  return nil
end

--- Loops over the pieces of the content as they come: req:read in a loop. A failure is
-- false, message, code, once.
-- @param most (optional) bytes of a piece
function methods:chunks(most)
  return each(self.read, self, most)
end

-- RFC 9110 8.3.1: the type without its parameters; its case does not matter.
local function media_type(req)
  local text = req.headers["content-type"] or ""
  return text:match "^[^;%s]*":lower()
end

--- The fields of content that is application/x-www-form-urlencoded.
-- @return as req:args() does; or nil, message, code: "ENOTSUP" for content of another
-- type, "EINVAL" of too many fields, or what reading it failed with
function methods:form()
  if media_type(self) ~= "application/x-www-form-urlencoded" then
    return nil, "the body is not a form", "ENOTSUP"
  end
  local body, message, code = self:body()
  if not body then return nil, message, code end
  return core.http.parse_query(body)
end

--- The value of JSON content (json.lua); as it may be false, ask for the message to know
-- a failure.
-- @return the value; or nil, message, code: "ENOTSUP" for content of another type,
-- "EINVAL" for what is not JSON, or what reading it failed with
function methods:json()
  local kind = media_type(self)
  if kind ~= "application/json" and not kind:find "^application/[^/]+%+json$" then
    return nil, "the body is not JSON", "ENOTSUP"
  end
  local body, message, code = self:body()
  if not body then return nil, message, code end
  return json.decode(body)
end

--- Loops over the parts of multipart/form-data; see http_multipart.lua for what they have
-- and for the limits.
methods.multipart = http_multipart.parts

local STATUS = { -- RFC 9110 15.5
  EINVAL = 400, EBADMSG = 400, EOF = 400, ECONNRESET = 400, EPIPE = 400,
  ETIMEDOUT = 408, EMSGSIZE = 413, ENOTSUP = 415,
}

--- The status that says what was wrong with a request's content.
-- @param code the third result of req:json(), req:multipart() and the like
-- @return 400, 408, 413 or 415; 500 for a failure that is not the client's
local function status_of(code)
  return STATUS[code] or 500
end

return {
  status_of = status_of,
  safe_name = http_multipart.safe_name,
}
