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
-- The entity-tag is strong. It is made of the time of the last change in nanoseconds, the
-- size, and the inode, which tells apart files whose times a build has set to the same.
--
-- @module moonpool.middleware.static

local conditional = require "moonpool.http_conditional"
local fd = require "moonpool.fd"
local http_accept = require "moonpool.http_accept"
local http_date = require "moonpool.http_date"
local http_range = require "moonpool.http_range"
local mime_types = require "moonpool.mime_types"

local CODINGS = { "br", "gzip" } -- the favourite first
local SUFFIXES = { br = ".br", gzip = ".gz" }
local YEAR = 365 * 24 * 3600

-- What fd.open says of names that stand for nothing here. All else is no answer to a
-- client: it is raised, and becomes a 500.
local NOT_HERE = { ENOENT = true, ENOTDIR = true, EXDEV = true, ELOOP = true,
  ENAMETOOLONG = true, EINVAL = true, ENXIO = true, ENODEV = true }

---------------------------------------------------------------------------------------
-- Files. A cache of open ones would sit in open().

-- An open file and what fd:stat() says of it; or nil and the code.
local function open(site, name)
  local file, message, code = fd.open(site.root, name)
  if file then return file, file:stat() end
  if NOT_HERE[code] or code == "EACCES" then return nil, code end
  error(("%s: %s"):format(name, message))
end

local function is_regular(site, name)
  local file <close>, stat = open(site, name)
  return file ~= nil and stat.kind == "file"
end

-- Segments that are empty or begin with a dot name nothing here, and neither does what
-- would be a boundary elsewhere: a backslash, or a "/" that came encoded.
local function is_name(site, req, path)
  if site.well_known then path = path:gsub("^/%.well%-known/", "/") end -- RFC 8615
  return not path:find "/[/.]" and not path:find("\\", 1, true)
    and not req.target:find "^[^?]*%%2[fF]"
end

local function has_index(site, directory)
  return site.index and is_regular(site, directory .. site.index)
end

-- What a path stands for: an open regular file, its stat and its name; or nil, and
-- "EISDIR" if there is an index that would be found with a "/" at the end, or "EACCES".
local function find(site, req, path)
  if not is_name(site, req, path) then return nil end
  if path == "" then return nil, has_index(site, "") and "EISDIR" end
  local name = path:sub(2)
  if path:sub(-1) == "/" then
    if not site.index then return nil end
    name = name .. site.index
  end
  local file, stat = open(site, name)
  if not file or stat.kind == "file" then return file, stat, name end
  file:close()
  return nil, has_index(site, name .. "/") and "EISDIR"
end

-- The sibling that is the file in the coding that the client wants most: it, its stat and
-- the coding. One that is older than the file was made of what the file used to be.
local function find_coded(site, req, name, original)
  for _, coding in ipairs(http_accept.codings(req:header "Accept-Encoding", CODINGS)) do
    local file, stat = open(site, name .. SUFFIXES[coding])
    if file and stat.kind == "file" and stat.mtime >= original.mtime then
      return file, stat, coding
    end
    if file then file:close() end
  end
  return nil
end

---------------------------------------------------------------------------------------
-- Answers. What is sent is a content: a file, what validates it, and what it is.

local function etag_of(stat, coding)
  local suffix = coding and "-" .. coding or ""
  return ('"%x%08x-%x-%x%s"'):format(stat.mtime, stat.mtime_ns, stat.size, stat.inode,
    suffix)
end

-- The file itself or a coded sibling of it, which is closed with the second value. No
-- modification is later than now (RFC 9110 8.8.2.1).
local function choose(site, req, file, stat, name)
  local media_type = mime_types.of(name, site.types)
  local varies = site.precompressed and mime_types.is_compressible(media_type)
  local sibling, sibling_stat, coding
  if varies then sibling, sibling_stat, coding = find_coded(site, req, name, stat) end
  stat = sibling_stat or stat
  return { file = sibling or file, size = stat.size, etag = etag_of(stat, coding),
    modified = math.min(stat.mtime, os.time()), type = media_type, coding = coding,
    varies = varies }, sibling
end

-- What 200, 206 and 304 have in common (RFC 9110 15.4.5).
local function describe(site, res, content, name)
  res:header("ETag", content.etag)
  res:header("Last-Modified", http_date.format(content.modified))
  if content.varies then res:header("Vary", "Accept-Encoding") end
  if site.cache_control then res:header("Cache-Control", site.cache_control) end
  if type(site.headers) == "function" then return site.headers(res, name) end
  for field, value in pairs(site.headers) do res.headers[field] = value end
end

local function content_range(part, size)
  return ("bytes %d-%d/%d"):format(part.first, part.last, size)
end

local function length_of(part)
  return part.last - part.first + 1
end

local function send_part(res, content, part)
  res:status(206):header("Content-Type", content.type)
  res:header("Content-Range", content_range(part, content.size))
  res:length(length_of(part))
  res:sendfile(content.file, part.first, length_of(part))
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
  res:status(206):header("Content-Type", "multipart/byteranges; boundary=" .. boundary)
  res:length(length)
  for i, part in ipairs(parts) do
    res:write(heads[i])
    local sent = res:sendfile(content.file, part.first, length_of(part))
    if not sent or content.file:stat().size < content.size then return end
  end
  res:write(tail)
end

-- RFC 9110 15.5.17
local function send_unsatisfiable(res, content)
  res:header("Content-Range", "bytes */" .. content.size):error(416)
end

-- RFC 9110 14.2: ranges are for GET alone.
local function parts_of(req, content)
  local text = req.method == "GET" and req:header "Range"
  if not text or not conditional.allows_range(req, content) then return nil end
  return http_range.read(text, content.size)
end

local function send_content(site, req, res, content, name)
  local parts = parts_of(req, content)
  if parts and #parts == 0 then return send_unsatisfiable(res, content) end
  res:header("Accept-Ranges", "bytes")
  res:header("X-Content-Type-Options", "nosniff")
  if content.coding then res:header("Content-Encoding", content.coding) end
  describe(site, res, content, name)
  if parts and parts[2] then return send_parts(res, content, parts) end
  if parts then return send_part(res, content, parts[1]) end
  res:header("Content-Type", content.type)
  res:sendfile(content.file)
end

local function send(site, req, res, content, name)
  local status = conditional.check(req, content)
  if not status then return send_content(site, req, res, content, name) end
  if status == 412 then return res:error(412) end
  describe(site, res, content, name)
  res:status(304):send()
end

local function send_best(site, req, res, file, stat, name)
  local content, sibling = choose(site, req, file, stat, name)
  local _ <close> = sibling
  send(site, req, res, content, name)
end

-- RFC 9110 15.4.2. Relative to where the client is, the new place is the last segment and
-- a "/": so it is right behind a proxy that has mapped the path, and never another host.
local function redirect(req, res)
  local path, query = req.target:match "^([^?]*)(.*)$"
  res:redirect("./" .. path:match "[^/]*$" .. "/" .. query, 301)
end

local function serve(site, req, res, go_on, prefix)
  local method = req.method
  if method ~= "GET" and method ~= "HEAD" then return go_on() end
  local path = prefix and req.path:sub(#prefix + 1) or req.path
  local file <close>, what, name = find(site, req, path)
  if file then return send_best(site, req, res, file, what, name) end
  if what == "EISDIR" then return redirect(req, res) end
  if what == "EACCES" then return res:error(403) end
  if site.fallthrough then return go_on() end
  return res:error(404)
end

---------------------------------------------------------------------------------------
-- Options.

local DEFAULTS = { index = "index.html", precompressed = true, well_known = false,
  fallthrough = true, immutable = false, headers = {}, types = {} }

local KINDS = { root = "string", index = "string", precompressed = "boolean",
  well_known = "boolean", fallthrough = "boolean", max_age = "number",
  immutable = "boolean", headers = "table", types = "table" }

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
  if age < 0 then error("static: max_age is negative", 3) end
  local immutable = options.immutable and ", immutable" or "" -- RFC 8246
  return ("max-age=%.0f%s"):format(age, immutable)
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
  return function(req, res, go_on, prefix) return serve(site, req, res, go_on, prefix) end
end

return new
