--- What is sent of a file: the best of it and its coded siblings for a client, and what
-- an answer says of it.
--
--     local content, code = http_content.open(site, "css/site.css", "gzip, br")
--
-- A content is of one moment, whatever becomes of the file. It has
--
--     size, modified, etag    modified as os.time(), never later than now (8.8.2.1)
--     type, coding, varies    whether other clients may get another coding
--     text                    all of it, where it is small; or
--     file, stamp             the open file, and what file:stamp() was
--     fields, validators      of a 200, and of a 304 (http.fields)
--     looked_at               the paths that it was chosen from, each followed by its
--                             stamp, or by false where nothing could be opened
--     name                    that was asked for
--
-- The entity-tag is strong. It is made of the time of the last change in nanoseconds, the
-- size, and the inode, which tells apart files whose times a build has set to the same.
--
-- @module moonpool.http_content

local fd = require "moonpool.fd"
local fields = require("moonpool.core").http.fields
local http_accept = require "moonpool.http_accept"
local http_date = require "moonpool.http_date"
local mime_types = require "moonpool.mime_types"

local SMALL = 65536 -- bytes; sendfile(2) is cheaper for more
local CODINGS = { "br", "gzip" } -- the favourite first
local SUFFIXES = { br = ".br", gzip = ".gz" }

-- What fd.open says of names that stand for nothing here. All else is no answer to a
-- client: it is raised, and becomes a 500.
local NOT_HERE = { ENOENT = true, ENOTDIR = true, EXDEV = true, ELOOP = true,
  ENAMETOOLONG = true, EINVAL = true, ENXIO = true, ENODEV = true }

-- An open file and what fd:stat() says of it; or nil and the code.
local function open_file(site, name)
  local file, message, code = fd.open(site.root, name)
  if file then return file, file:stat() end
  if NOT_HERE[code] or code == "EACCES" then return nil, code end
  error(("%s: %s"):format(name, message))
end

local function is_regular(site, name)
  local file <close>, stat = open_file(site, name)
  return file ~= nil and stat.kind == "file"
end

local function push(list, a, b)
  list[#list + 1] = a
  list[#list + 1] = b
end

-- The sibling that is the file in the coding that the client wants most: it, its stat and
-- the coding. One that is older than the file was made of what the file used to be, and
-- one that cannot be opened, for whatever reason, is not needed.
local function open_coded(site, name, original, accepted, looked_at)
  for _, coding in ipairs(http_accept.codings(accepted, CODINGS)) do
    local sibling = name .. SUFFIXES[coding]
    local file = fd.open(site.root, sibling)
    local stat = file and file:stat()
    push(looked_at, site.root .. "/" .. sibling, stat and stat.stamp or false)
    if stat and stat.kind == "file" and stat.mtime >= original.mtime then
      return file, stat, coding
    end
    if file then file:close() end
  end
  return nil
end

local function etag_of(stat, coding)
  local suffix = coding and "-" .. coding or ""
  return ('"%x%08x-%x-%x%s"'):format(stat.mtime, stat.mtime_ns, stat.size, stat.inode,
    suffix)
end

-- RFC 9110 15.4.5 says what is in a 304.
local function prepare(site, content)
  local list = { "ETag", content.etag,
    "Last-Modified", http_date.format(content.modified) }
  if content.varies then push(list, "Vary", "Accept-Encoding") end
  if site.cache_control then push(list, "Cache-Control", site.cache_control) end
  content.validators = fields(table.unpack(list))
  push(list, "Accept-Ranges", "bytes")
  push(list, "X-Content-Type-Options", "nosniff")
  if content.coding then push(list, "Content-Encoding", content.coding) end
  push(list, "Content-Type", content.type)
  content.fields = fields(table.unpack(list))
end

-- What changes while it is read is sent as large files are.
local function read_small(content)
  if content.size > SMALL then return end
  local text = fd.read(content.file)
  if not text or content.file:stamp() ~= content.stamp then return end
  content.file:close()
  content.file, content.text = nil, text
end

-- Of an open file or its open sibling.
local function choose(site, name, file, stat, accepted)
  local media_type = mime_types.of(name, site.types)
  local varies = site.precompressed and mime_types.is_compressible(media_type)
  local looked_at = { site.root .. "/" .. name, stat.stamp }
  local sibling, sibling_stat, coding
  if varies and accepted then
    sibling, sibling_stat, coding = open_coded(site, name, stat, accepted, looked_at)
  end
  if sibling then
    file:close()
    file, stat = sibling, sibling_stat
  end
  return { name = name, file = file, stamp = stat.stamp, size = stat.size,
    modified = math.min(stat.mtime, os.time()), etag = etag_of(stat, coding),
    type = media_type, coding = coding, varies = varies, looked_at = looked_at }
end

--- Opens the file of that name, or the sibling of it that the client prefers. A small one
-- is read, another is for the caller to close.
-- @param site has root, precompressed, types and cache_control, as static's options
-- @param accepted (optional) the client's Accept-Encoding
-- @return the content; or nil and the code: "EISDIR", "EACCES", "ENOENT" ...
local function open(site, name, accepted)
  local file, stat = open_file(site, name)
  if not file then return nil, stat end
  if stat.kind ~= "file" then
    file:close()
    return nil, stat.kind == "directory" and "EISDIR" or "EINVAL"
  end
  local content = choose(site, name, file, stat, accepted)
  read_small(content)
  prepare(site, content)
  return content
end

--- Whether what a content was chosen from is all as it was.
local function is_current(content)
  local list = content.looked_at
  for i = 1, #list, 2 do
    if list[i + 1] ~= (fd.stamp(list[i]) or false) then return false end
  end
  return true
end

return { open = open, is_current = is_current, is_regular = is_regular }
