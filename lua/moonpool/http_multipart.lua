--- Reads multipart/form-data (RFC 7578, RFC 2046 5.1) part by part, as it comes: nothing
-- is kept that nobody asked for. Requests have it as req:multipart().
--
--     for part, why, code in req:multipart { parts = 10 } do
--       if not part then return res:error(http.status_of(code), why) end
--       if part.filename then part:save(path) else fields[part.name] = part:body() end
--     end
--
-- A part has .name, .filename (nil: a plain field; as it was sent, so it may be the name
-- of anything: see safe_name), .type ("image/png", without parameters) and .headers[name]
-- of any case. It is over when the loop goes on; what was not read of it is skipped then.
-- Failures are those of req:read, and "EINVAL" for what is malformed, "EMSGSIZE" for what
-- is beyond a limit, "ENOTSUP" for content of another type.
--
-- @module moonpool.http_multipart

local draft = require "moonpool.draft"
local each = require "moonpool.http_each"
local parse = require("moonpool.http_parameters").parse

local LIMITS = {
  parts = 1000,
  head_bytes = 8192,      -- of the header of one part
  body_bytes = 64 << 10,  -- that part:body takes
  file_bytes = math.huge, -- that part:save takes
}

---------------------------------------------------------------------------------------
-- A reader. What is before .at in .buffer is done with, what is before .stop is content
-- for sure. .closed says that a delimiter, "\r\n--boundary", begins at .stop.

local reader = {}
reader.__index = reader

local function new_reader(req, boundary, limits)
  return setmetatable({ req = req, delimiter = "\r\n--" .. boundary, limits = limits,
    buffer = "\r\n", at = 1, stop = 1, closed = false, count = 0 }, reader)
end

-- Once it has failed, it has always failed.
function reader:fail(message, code)
  self.message, self.code = message, code
  return nil, message, code
end

-- Gets more: true, or nil, message, code.
function reader:fill()
  if self.message then return nil, self.message, self.code end
  local piece, message, code = self.req:read()
  if message then return self:fail(message, code) end
  if not piece then return self:fail("the body ends before its parts do", "EINVAL") end
  self.buffer, self.at = self.buffer:sub(self.at) .. piece, 1
  return true
end

-- Finds out how much of the buffer is content: what may be the beginning of a delimiter
-- is not yet.
function reader:scan()
  local buffer, delimiter = self.buffer, self.delimiter
  local found = buffer:find(delimiter, self.at, true)
  self.closed = found ~= nil
  self.stop = found
    or buffer:find("\r", math.max(self.at, #buffer - #delimiter + 2), true)
    or #buffer + 1
end

-- The next piece of content, nothing before a delimiter, or nil, message, code.
function reader:read(most)
  while self.at == self.stop do
    if self.closed then return end
    local ok, message, code = self:fill()
    if not ok then return nil, message, code end
    self:scan()
  end
  local from = self.at
  self.at = most < self.stop - from and from + most or self.stop
  return self.buffer:sub(from, self.at - 1)
end

function reader:skip()
  local piece, message, code
  repeat
    piece, message, code = self:read(math.maxinteger)
  until not piece
  if message then return nil, message, code end
  return true
end

-- Takes what comes before `text`, and it too: what it took, or nil, message, code.
function reader:take_until(text, most)
  local seen = 0 -- bytes of the buffer that are before it for sure
  while true do
    local found = self.buffer:find(text, self.at + seen, true)
    seen = found and found - self.at or math.max(0, #self.buffer - self.at - #text + 2)
    if seen > most then return self:fail("a part's header is too long", "EMSGSIZE") end
    if found then
      self.at = found + #text
      return self.buffer:sub(found - seen, found - 1)
    end
    local ok, message, code = self:fill()
    if not ok then return nil, message, code end
  end
end

-- Whether `text` comes next, by no more of it than is needed; or nil, message, code.
function reader:sees(text)
  while true do
    local next_bytes = self.buffer:sub(self.at, self.at + #text - 1)
    if next_bytes ~= text:sub(1, #next_bytes) then return false end
    if #next_bytes == #text then return true end
    local ok, message, code = self:fill()
    if not ok then return nil, message, code end
  end
end

-- The blank line after a header may be the beginning of a delimiter: a part without
-- content need not have it (RFC 2046 5.1.1, body-part).
function reader:begin_content()
  self.at = self.at - 2
  local is_empty, message, code = self:sees(self.delimiter)
  if message then return nil, message, code end
  if not is_empty then self.at = self.at + 2 end
  self:scan()
  return true
end

-- The epilogue is nobody's (RFC 2046 5.1.1): nothing, or nil, message, code.
function reader:finish()
  local piece, message, code
  repeat
    piece, message, code = self.req:read()
  until not piece
  if message then return self:fail(message, code) end
end

---------------------------------------------------------------------------------------
-- Headers of parts.

local headers_mt = {}

function headers_mt:__index(name)
  return rawget(self, name:lower())
end

-- The fields by their names in lower case; nil if they are malformed or come twice. What
-- is before the first is the rest of the delimiter's line.
local function read_headers(block)
  local padding, rest = (block .. "\r\n"):match "^([ \t]*)\r\n(.*)$"
  local headers = setmetatable({}, headers_mt)
  if not padding then return nil end
  for line in rest:gmatch "(.-)\r\n" do
    local name, value = line:match "^([%w!#$%%&'*+.^_`|~-]+):[ \t]*(.-)[ \t]*$"
    if not name or line:find "[\0-\8\10-\31\127]" or headers[name] then return nil end
    headers[name:lower()] = value
  end
  return headers
end

-- What browsers make of quotes and ends of lines in names (HTML, multipart/form-data
-- encoding algorithm).
local ENCODED = { ["22"] = '"', ["0D"] = "\r", ["0A"] = "\n" }

local function decode_name(text)
  return text and text:gsub("%%([02][2DA])", ENCODED)
end

-- RFC 7578 4.7: nobody should send another, and it would be stored encoded.
local PLAIN = { ["7bit"] = true, ["8bit"] = true, binary = true }

---------------------------------------------------------------------------------------
-- Parts.

local part = {}
local part_mt = { __name = "moonpool.http.part", __index = part }

-- RFC 7578 4.2: filename* is not for forms, so it says nothing here.
local function new_part(self, block)
  local headers = read_headers(block)
  if not headers then return self:fail("a part's header is malformed", "EINVAL") end
  local word, parameters = parse(headers["content-disposition"] or "")
  if word ~= "form-data" or not parameters.name then
    return self:fail("a part has no name", "EINVAL")
  end
  if not PLAIN[(headers["content-transfer-encoding"] or "binary"):lower()] then
    return self:fail("a part is encoded", "ENOTSUP")
  end
  return setmetatable({
    reader = self,
    name = decode_name(parameters.name),
    filename = decode_name(parameters.filename),
    type = parse(headers["content-type"] or "text/plain") or "application/octet-stream",
    headers = headers,
  }, part_mt)
end

-- The next part, nothing after the last, or nil, message, code.
function reader:next_part()
  self.part = nil
  local ok, message, code = self:skip()
  if not ok then return nil, message, code end
  self.at, self.closed = self.stop + #self.delimiter, false
  local is_last
  is_last, message, code = self:sees "--"
  if message then return nil, message, code end
  if is_last then return self:finish() end
  return self:begin_part()
end

function reader:begin_part()
  self.count = self.count + 1
  if self.count > self.limits.parts then
    return self:fail("the body has too many parts", "EMSGSIZE")
  end
  local block, message, code = self:take_until("\r\n\r\n", self.limits.head_bytes)
  if not block then return nil, message, code end
  local ok
  ok, message, code = self:begin_content()
  if not ok then return nil, message, code end
  self.part, message, code = new_part(self, block)
  return self.part, message, code
end

--- The next piece of the part's content, of `most` bytes at most; nothing at its end, or
-- nil, message, code.
function part:read(most)
  if self.reader.part ~= self then error("this part is over: the loop has gone on", 2) end
  if most and most < 1 then error("positive count expected", 2) end
  return self.reader:read(most or math.maxinteger)
end

--- Loops over its pieces; a failure is false, message, code.
function part:chunks(most)
  return each(self.read, self, most)
end

--- All of the content that has not been read by pieces.
-- @param limit (optional) bytes, instead of body_bytes
-- @return a string; or nil, message, code: "EMSGSIZE" if it is longer
function part:body(limit)
  if self.whole then return self.whole end
  limit = limit or self.reader.limits.body_bytes
  local pieces, size = {}, 0
  for piece, message, code in self:chunks() do
    if not piece then return nil, message, code end
    size = size + #piece
    if size > limit then return nil, "a field is too long", "EMSGSIZE" end
    pieces[#pieces + 1] = piece
  end
  self.whole = table.concat(pieces)
  return self.whole
end

-- How many bytes it wrote; or nil, message, code.
local function pour(self, file, limit)
  local size = 0
  for piece, message, code in self:chunks() do
    if not piece then return nil, message, code end
    size = size + #piece
    if size > limit then return nil, "a file is too long", "EMSGSIZE" end
    local ok
    ok, message, code = file:write(piece)
    if not ok then return nil, message, code end
  end
  return size
end

--- Writes what has not been read of the content to a file, piece by piece. The file is
-- there when it is whole; if it cannot be, the path is as it was before.
-- @param path of the file, which is replaced if it exists
-- @param limit (optional) bytes, instead of file_bytes
-- @return its size in bytes; or nil, message, code: "EMSGSIZE" if it is longer, or what
-- the system says ("ENOSPC", "EACCES")
function part:save(path, limit)
  local file <close>, message, code = draft.new(path)
  if not file then return nil, message, code end
  local size, ok
  size, message, code = pour(self, file, limit or self.reader.limits.file_bytes)
  if not size then return nil, message, code end
  ok, message, code = file:keep()
  if not ok then return nil, message, code end
  return size
end

---------------------------------------------------------------------------------------
-- The module.

-- RFC 2046 5.1.1
local function boundary_of(content_type)
  local word, parameters = parse(content_type or "")
  if word ~= "multipart/form-data" then
    return nil, "the body is not multipart/form-data", "ENOTSUP"
  end
  local boundary = parameters.boundary or ""
  if #boundary < 1 or #boundary > 70 or boundary:find "[\0-\31\127-\255]" then
    return nil, "the body's type has no boundary", "EINVAL"
  end
  return boundary
end

local function check_limits(given)
  local limits = {}
  for name, value in pairs(LIMITS) do limits[name] = value end
  for name, value in pairs(given or {}) do
    if not LIMITS[name] then error("no such limit: " .. tostring(name), 3) end
    limits[name] = value
  end
  return limits
end

--- Loops over the parts of a request's content.
-- @param req anything with headers and read()
-- @param limits (optional) parts (1000 at most), head_bytes (8 KiB) of each one's header,
-- body_bytes (64 KiB) that part:body takes and file_bytes (no limit) that part:save does
-- @return an iterator: part, or once false, message, code
local function parts(req, limits)
  limits = check_limits(limits)
  local boundary, message, code = boundary_of(req.headers["content-type"])
  local self = new_reader(req, boundary or "", limits)
  if not boundary then self:fail(message, code) end
  return each(self.next_part, self)
end

local LONGEST = 200 -- bytes of a name; file systems have 255

-- Shortens a name that is too long, but not its ending, and not within a character.
local function shorten(name)
  if #name <= LONGEST then return name end
  local ending = name:match "%.%w+$" or ""
  if #ending > 20 then ending = "" end
  local stop = LONGEST - #ending
  while name:find("^[\x80-\xBF]", stop + 1) do stop = stop - 1 end
  return name:sub(1, stop) .. ending
end

--- Makes the name of a file of one that anybody sent: the last part of a path of either
-- system, without control characters, without dots and blanks at its ends, in UTF-8, of
-- 200 bytes at most.
-- @return the name, or nil if nothing is left of it
local function safe_name(name)
  name = name:match "[^/\\]*$":gsub("[%c\127]", ""):gsub("^[. ]+", ""):gsub("[. ]+$", "")
  if not utf8.len(name) then name = name:gsub("[\x80-\xFF]", "_") end
  if name == "" then return nil end
  return shorten(name)
end

return { parts = parts, safe_name = safe_name }
