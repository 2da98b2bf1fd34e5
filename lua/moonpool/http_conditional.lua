--- What a client says that it has already (RFC 9110 13), against what there is now.
--
--     local status = conditional.check(req, { etag = '"v7"', modified = 784111777 })
--     if status then return res:status(status):send() end     -- 304 or 412
--
-- A version has .etag, which begins with 'W/' where it is weak, or .modified, in seconds
-- as os.time(), or both. Ask only where the answer would be 2xx without it (13.2.1).
--
-- @module moonpool.http_conditional

local parse_date = require("moonpool.http_date").parse

-- 8.8.3.2. Weakly two are equal whose opaque parts are.
local function equal_weakly(a, b)
  return a == b or a:gsub("^W/", "") == b:gsub("^W/", "")
end

local function equal_strongly(a, b)
  return a == b and a:sub(1, 1) == '"'
end

-- 13.1.1, 13.1.2: "*" is whatever there is; an entity-tag may contain commas.
local function names(list, etag, equal)
  if list == etag then return equal(list, etag) end -- as it mostly is
  if list:find "^%s*%*%s*$" then return true end
  if not etag then return false end
  for weak, opaque in list:gmatch '(W?/?)("[^"]*")' do
    if equal(weak .. opaque, etag) then return true end
  end
  return false
end

-- 13.1.3, 13.1.4: what is no date is not there.
local function date_of(text)
  return text and parse_date(text)
end

-- Steps 1 and 2 of 13.2.2.
local function is_lost(fields, version)
  local list = fields["If-Match"]
  if list then return not names(list, version.etag, equal_strongly) end
  local date = date_of(fields["If-Unmodified-Since"])
  return date and version.modified and version.modified > date
end

-- Steps 3 and 4, of which the last is for reading alone.
local function is_known(fields, version, reads)
  local list = fields["If-None-Match"]
  if list then return names(list, version.etag, equal_weakly) end
  local date = reads and date_of(fields["If-Modified-Since"])
  return date and version.modified and version.modified <= date
end

--- Evaluates the conditions of a request, in the order of 13.2.2.
-- @return the status to answer with, or nil: the request is to be performed
local function check(req, version)
  local fields, method = req.headers, req.method
  local reads = method == "GET" or method == "HEAD"
  if is_lost(fields, version) then return 412 end
  if not is_known(fields, version, reads) then return nil end
  return reads and 304 or 412
end

--- Whether ranges are still wanted of this version (13.1.5): there is no If-Range, or it
-- names the version by a strong validator. A date is one when its second is over.
local function allows_range(req, version)
  local text = req.headers["If-Range"]
  if not text then return true end
  local date = parse_date(text)
  if date then return date == version.modified and date < os.time() end
  return version.etag ~= nil and equal_strongly(text, version.etag)
end

return { check = check, allows_range = allows_range }
