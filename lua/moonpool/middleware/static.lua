--- The files of a directory, for GET and HEAD.
--
--     local static = require "moonpool.middleware.static"
--     app:use("/assets", static "public")
--     app:use(static { root = "public", max_age = 3600 })
--
-- It answers where the path, without the prefix, names a file below the root, or a
-- directory with an index; all other requests go on to what comes after it. It follows
-- RFC 9110 in what it makes of conditions (13), ranges (14) and codings (12.5.3).
--
-- No name leads out of the root, symlinks included (openat2(2), RESOLVE_BENEATH; absolute
-- ones always count as leading out). Names that begin with a dot are not served, and
-- nothing but regular files is. A root that is itself a symlink is followed anew for each
-- request, so a new release can be put in its place.
--
-- What was sent a moment ago is kept: small files whole, others open; whether the files
-- have changed is looked at for each request (http_content_cache.lua).
--
-- @module moonpool.middleware.static

local conditional = require "moonpool.http_conditional"
local core = require "moonpool.core"
local fd = require "moonpool.fd"
local http_content = require "moonpool.http_content"
local http_content_cache = require "moonpool.http_content_cache"
local http_range = require "moonpool.http_range"

local YEAR = 365 * 24 * 3600
local READS = { GET = true, HEAD = true }

-- To be found in a request by each is what most of a small file's time would go into.
local asks, header = core.http.req.asks, core.http.res.header

---------------------------------------------------------------------------------------
-- Names.

-- Segments that are empty or begin with a dot name nothing here, and neither does what
-- would be a boundary elsewhere: a backslash.
local function is_name(site, path)
  if site.well_known then path = path:gsub("^/%.well%-known/", "/") end -- RFC 8615
  return not path:find "/[/.]" and not path:find("\\", 1, true)
end

local function has_index(site, directory)
  return site.index and http_content.is_regular(site, directory .. site.index)
end

-- The content that a path stands for; or nil, and "EISDIR" if there is an index that
-- would be found with a "/" at the end, or "EACCES".
local function open(site, path, accepted)
  if path == "" then return nil, has_index(site, "") and "EISDIR" end
  local name = path:sub(2)
  if path:sub(-1) == "/" then
    if not site.index then return nil end
    name = name .. site.index
  end
  local content, code = http_content.open(site, name, accepted)
  if code == "EISDIR" then return nil, has_index(site, name .. "/") and code end
  return content, code
end

-- The same, by what it is to have in the cache, where most is.
local function find(site, cache, key, path, prefix, accepted)
  local kept = cache:get(key)
  if kept then return kept end
  if prefix then path = path:sub(#prefix + 1) end
  if not is_name(site, path) then return nil end
  local content, code = open(site, path, accepted)
  return content and cache:put(key, content), code
end

---------------------------------------------------------------------------------------
-- Answers.

local function content_range(part, size)
  return ("bytes %d-%d/%d"):format(part.first, part.last, size)
end

local function length_of(part)
  return part.last - part.first + 1
end

local function send_whole(site, res, content)
  header(res, content.fields)
  if site.add_fields then site.add_fields(res, content.name) end
  if content.text then return res:send(content.text) end
  res:sendfile(content.file)
end

-- Whether all of it was there: a file may have become shorter.
local function write_part(res, content, part)
  local text = content.text
  if text then return res:write(text:sub(part.first + 1, part.last + 1)) end
  return res:sendfile(content.file, part.first, length_of(part))
    and content.file:stat().size >= content.size
end

local function send_part(res, content, part)
  res:status(206):header("Content-Range", content_range(part, content.size))
  res:length(length_of(part))
  write_part(res, content, part)
end

-- RFC 9110 14.6: what precedes each part, what follows the last, and the length of all.
local function multipart(content, parts, boundary)
  local heads, tail = {}, ("\r\n--%s--\r\n"):format(boundary)
  local length = #tail
  for i, part in ipairs(parts) do
    heads[i] = ("%s--%s\r\nContent-Type: %s\r\nContent-Range: %s\r\n\r\n"):format(
      i > 1 and "\r\n" or "", boundary, content.type, content_range(part, content.size))
    length = length + #heads[i] + length_of(part)
  end
  return heads, tail, length
end

-- If the file becomes shorter, what follows would be out of place: it is left out, which
-- ends the connection.
local function send_parts(res, content, parts)
  local boundary = ("%016x%016x"):format(math.random(0), math.random(0))
  local heads, tail, length = multipart(content, parts, boundary)
  res.headers["Content-Type"] = "multipart/byteranges; boundary=" .. boundary
  res:status(206):length(length)
  for i, part in ipairs(parts) do
    res:write(heads[i])
    if not write_part(res, content, part) then return end
  end
  res:write(tail)
end

-- RFC 9110 15.5.17
local function send_unsatisfiable(res, content)
  res:header("Content-Range", "bytes */" .. content.size):error(416)
end

-- RFC 9110 14.2: ranges are for GET alone.
local function parts_of(req, content)
  local text = req:header "Range"
  if not text or req.method ~= "GET" then return nil end
  if not conditional.allows_range(req, content) then return nil end
  return http_range.read(text, content.size)
end

local function send_content(site, req, res, content)
  local parts = parts_of(req, content)
  if not parts then return send_whole(site, res, content) end
  if #parts == 0 then return send_unsatisfiable(res, content) end
  res:header(content.fields)
  if site.add_fields then site.add_fields(res, content.name) end
  if parts[2] then return send_parts(res, content, parts) end
  send_part(res, content, parts[1])
end

local function send_selected(site, req, res, content)
  local status = conditional.check(req, content)
  if not status then return send_content(site, req, res, content) end
  if status == 412 then return res:error(412) end
  res:header(content.validators)
  if site.add_fields then site.add_fields(res, content.name) end
  res:status(304):send()
end

-- RFC 9110 15.4.2. Relative to where the client is, the new place is the last segment and
-- a "/": so it is right behind a proxy that has mapped the path, and never another host.
local function redirect(req, res)
  local path, query = req.target:match "^([^?]*)(.*)$"
  res:redirect("./" .. path:match "[^/]*$" .. "/" .. query, 301)
end

local function send_nothing(site, req, res, go_on, why)
  if why == "EISDIR" then return redirect(req, res) end
  if why == "EACCES" then return res:error(403) end
  if site.fallthrough or not READS[req.method] then return go_on() end
  return res:error(404)
end

local function caches_of(site)
  return setmetatable({}, { __index = function(self, prefix)
    self[prefix] = http_content_cache.new(site.cache_size, site.valid)
    return self[prefix]
  end })
end

-- Each prefix has a cache, as it makes another path of req.path. A "/" that came encoded
-- would be a boundary elsewhere, so req:asks has no path then.
local function serving(site)
  local caches = caches_of(site)
  return function(req, res, go_on, prefix)
    local cache, path, accepted, selects = caches[prefix or ""], asks(req)
    if not path then return send_nothing(site, req, res, go_on) end
    local key = accepted and site.precompressed and path .. "\0" .. accepted or path
    local ready = not selects and cache.ready[key]
    if ready then return send_whole(site, res, ready) end
    local content, why = find(site, cache, key, path, prefix, accepted)
    if not content then return send_nothing(site, req, res, go_on, why) end
    local _ <close> = http_content_cache.hold(content)
    if selects then return send_selected(site, req, res, content) end
    send_whole(site, res, content)
  end
end

---------------------------------------------------------------------------------------
-- Options.

local DEFAULTS = { index = "index.html", precompressed = true, well_known = false,
  fallthrough = true, immutable = false, headers = {}, types = {}, valid = 0,
  cache_size = 8 << 20 }

local KINDS = { root = "string", index = "string", precompressed = "boolean",
  well_known = "boolean", fallthrough = "boolean", max_age = "number",
  immutable = "boolean", headers = "table", types = "table", valid = "number",
  cache_size = "number" }

local ALSO = { index = false, max_age = false } -- turned off

local function fits(name, value)
  return type(value) == KINDS[name] or value == ALSO[name]
    or name == "headers" and type(value) == "function"
end

local function check(options)
  for name, value in pairs(options) do
    if not KINDS[name] then error(("static has no option %q"):format(name), 3) end
    if not fits(name, value) then
      error(("static: %s must be a %s"):format(name, KINDS[name]), 3)
    end
    if math.type(value) and value < 0 then
      error(("static: %s is negative"):format(name), 3)
    end
  end
  local root, why = fd.open(options.root or "", ".")
  if not root then error(("static: root %q: %s"):format(options.root, why), 3) end
  root:close()
end

-- "public" would let a shared cache keep what a login protects (RFC 9111 3.5).
local function cache_control(options)
  local age = options.max_age
  if age == false then return nil end
  age = age or options.immutable and YEAR or 0
  local immutable = options.immutable and ", immutable" or "" -- RFC 8246
  return ("max-age=%.0f%s"):format(age, immutable)
end

-- What sets the fields of the option headers, if there are any.
local function adding(headers)
  if type(headers) == "function" then return headers end
  if next(headers) == nil then return nil end
  return function(res)
    local view = res.headers
    for name, value in pairs(headers) do view[name] = value end
  end
end

--- Makes the middleware.
-- @param options the root, or a table of
--
-- - root: the path of the directory
-- - index ("index.html"): what is sent of a directory; false for nothing
-- - precompressed (true): whether NAME.br or NAME.gz is sent, where the client accepts it
--   and it is not older, for a NAME of a type that is worth it
-- - fallthrough (true): whether what names no file goes on, or is answered with 404
-- - well_known (false): whether ".well-known" in the root is served (RFC 8615)
-- - max_age (0; a year if immutable): seconds for Cache-Control; false for none
-- - immutable (false): whether a file of this name never changes
-- - types: by extension without the dot, in lower case
-- - cache_size (8 MiB): bytes of content that a worker keeps for the next requests, an
--   open file counts as 64 KiB; 0 for none
-- - valid (0): seconds for which what is kept is sent without a look at the files; with 0
--   each request sees them as they are
-- - headers: more fields of 200, 206 and 304; or a function of (res, name) that sets
--   them, where name is the path below the root
--
-- @return a function for app:use; raises what is wrong with the options
local function new(options)
  if type(options) == "string" then options = { root = options } end
  check(options)
  local site = { cache_control = cache_control(options) }
  for name, value in pairs(DEFAULTS) do site[name] = value end
  for name, value in pairs(options) do site[name] = value end
  site.add_fields = adding(site.headers)
  return serving(site)
end

return new
