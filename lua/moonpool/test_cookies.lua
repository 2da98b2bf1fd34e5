-- A cookie jar for one host (RFC 6265 5): what answers set, requests send, until it has
-- expired by core.time, which test.at sets. Secure cookies are sent too: what is in one
-- process is secure.
--
--     jar:store(answer, target)     takes its Set-Cookie fields
--     jar:header(target)            "a=1; b=2", or nil
--     jar.values                    name -> value, of all that have not expired

local core = require "moonpool.core"
local http_date = require "moonpool.http_date"

local methods = {}
local mt = { __name = "moonpool.test.cookies" }

-- 5.1.4: up to the last slash, without it.
local function default_path(target)
  local directory = target:match "^(/[^?]*)/[^/?]*" or target:match "^(/)[^/?]*"
  return directory or "/"
end

local function path_matches(path, target)
  local wanted = target:match "^[^?]*"
  return wanted == path or wanted:sub(1, #path) == path
    and (path:sub(-1) == "/" or wanted:sub(#path + 1, #path + 1) == "/")
end

-- When it is gone, as core.time has it; Max-Age counts before Expires (5.3).
local function expiry(attributes)
  local age = tonumber(attributes["max-age"])
  if age then return core.time() + age end
  local date = attributes.expires and http_date.parse(attributes.expires)
  return date or math.huge
end

local function parse(text, target)
  local name, value = text:match "^%s*([^=;]+)=([^;]*)"
  if not name then return nil end
  local attributes = {}
  for part in text:gmatch ";%s*([^;]*)" do
    local key, argument = part:match "^([^=]*)=?(.*)$"
    attributes[key:lower():match "^(.-)%s*$"] = argument
  end
  local path = attributes.path
  if not path or path:sub(1, 1) ~= "/" then path = default_path(target) end
  return { name = name:match "^(.-)%s*$", value = value:match "^%s*(.-)%s*$", path = path,
    expires = expiry(attributes), attributes = attributes }
end

--- Takes what an answer to a request for target sets.
function methods:store(answer, target)
  for _, field in ipairs(answer.fields) do
    local cookie = field[1]:lower() == "set-cookie" and parse(field[2], target)
    if cookie then self:set(cookie.name, cookie.value, cookie.path, cookie.expires) end
  end
end

--- Sets one, as an answer would.
-- @param path "/" if left out
-- @param expires seconds since 1970; never, if left out
function methods:set(name, value, path, expires)
  path = path or "/"
  for i, cookie in ipairs(self.list) do
    if cookie.name == name and cookie.path == path then
      table.remove(self.list, i)
      break
    end
  end
  self.list[#self.list + 1] =
    { name = name, value = value, path = path, expires = expires or math.huge }
end

local function fresh(self)
  local now, list = core.time(), {}
  for _, cookie in ipairs(self.list) do
    if cookie.expires > now then list[#list + 1] = cookie end
  end
  self.list = list
  return list
end

--- What a request for target sends: longer paths first (5.4).
function methods:header(target)
  local found = {}
  for i, cookie in ipairs(fresh(self)) do
    if path_matches(cookie.path, target) then
      found[#found + 1] = { cookie = cookie, at = i }
    end
  end
  if #found == 0 then return nil end
  table.sort(found, function(a, b)
    local longer, shorter = #a.cookie.path, #b.cookie.path
    if longer ~= shorter then return longer > shorter end
    return a.at < b.at
  end)
  for i, one in ipairs(found) do found[i] = one.cookie.name .. "=" .. one.cookie.value end
  return table.concat(found, "; ")
end

function methods:clear() self.list = {} end

function mt:__index(name)
  if name ~= "values" then return methods[name] end
  local values = {}
  for _, cookie in ipairs(fresh(self)) do values[cookie.name] = cookie.value end
  return values
end

local function new() return setmetatable({ list = {} }, mt) end

return { new = new }
