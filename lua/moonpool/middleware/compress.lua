--- Compresses what is sent to those who take gzip.
--
--     app:use(compress())
--
--     types    those that it pays for: names in which "*" stands for anything
--     minimum  bytes that a response of known length must have (1024)
--     level    from 1, fast, to 9, small (6)
--
-- What is written piece by piece is compressed piece by piece: each res:write is at the
-- client when it would have been without compression. A body given to res:send is
-- compressed in one go, some 50 MB a second, and then known by its new length; of files
-- the length is not known any more. A stream that is open costs 270 KB.
--
-- Left as they are: answers without content and parts of one (204, 304, 206), what has a
-- Content-Encoding already, what must not be changed (Cache-Control: no-transform).
--
-- Over TLS the length of a page that has both a secret and text that somebody else has
-- chosen gives the secret away (BREACH): do not compress such pages.
--
-- @module moonpool.middleware.compress

local accept = require "moonpool.http_accept"
local fd = require "moonpool.fd"
local options = require "moonpool.options"

local KINDS = { types = "table", minimum = "number", level = "number" }
local TYPES = { "text/*", "*/json", "*+json", "*/xml", "*+xml", "*/javascript",
  "*/x-javascript", "application/wasm", "application/x-ndjson", "font/otf", "font/ttf",
  "application/vnd.ms-fontobject", "image/bmp", "image/x-icon",
  "image/vnd.microsoft.icon" }
-- zlib through lua-zlib: kept, in Debian, and it can flush. These are its windowBits: the
-- format, and the largest window.
local GZIP = 16 + 15
local PIECE = 65536 -- bytes of a file at a time
local CODINGS = { "gzip" }
local NEVER = { [204] = true, [205] = true, [206] = true, [304] = true }

---------------------------------------------------------------------------------------
-- What a response is like.

-- "*/json" -> a Lua pattern
local function pattern_of(name)
  return "^" .. name:lower():gsub("[%-+.^$()%%%[%]?]", "%%%0"):gsub("%*", ".*") .. "$"
end

local function is_of_type(content_type, patterns)
  local kind = (content_type or "text/plain"):match "^[^;%s]*":lower()
  for _, pattern in ipairs(patterns) do
    if kind:find(pattern) then return true end
  end
  return false
end

-- Whether it may be compressed, so that the representation depends on the client.
local function varies(self, headers)
  local control = (headers["Cache-Control"] or ""):lower()
  return not NEVER[self.res:status()] and not headers["Content-Encoding"]
    and not control:find("no-transform", 1, true)
    and (self.must or is_of_type(headers["Content-Type"], self.types))
end

local function add_vary(res, headers)
  local fields = (headers.Vary or ""):lower()
  if fields:find("accept-encoding", 1, true) then return end
  res:header("Vary", "Accept-Encoding")
end

-- It is another representation: not the same bytes as the one that the tag was made for
-- (RFC 9110 8.8.1), nor are parts of it to be had.
local function weaken(headers)
  local etag = headers.ETag
  if etag and etag:sub(1, 2) ~= "W/" then headers.ETag = "W/" .. etag end
  headers["Accept-Ranges"] = nil
end

-- 15.4.5: the fields of a 304 are those of the 200 that the client has. Which one it has
-- is told by the tag that it sends.
local function answer_unchanged(self, headers)
  local etag, sent = headers.ETag, self.req:header "If-None-Match"
  add_vary(self.res, headers)
  if etag and sent and sent:find("W/" .. etag, 1, true) then weaken(headers) end
end

---------------------------------------------------------------------------------------
-- One response. self.plain has the methods of res that are replaced.

-- The function that compresses, or nil if that is not to be: which of them is decided
-- when the head is about to be sent. length is nil if it is not known.
local function deflater(self, length)
  local res = self.res
  if self.deflate or res.sent then return self.deflate end
  local headers = res.headers
  if res:status() == 304 then return answer_unchanged(self, headers) end
  if not varies(self, headers) then return nil end
  add_vary(res, headers)
  local least = self.must and 1 or self.minimum
  if not self.accepted or (length or least) < least then return nil end
  headers["Content-Encoding"] = "gzip"
  weaken(headers)
  self.is_coded, self.deflate = true, self.zlib.deflate(self.level, GZIP)
  return self.deflate
end

-- An error's page is written when this is over: nobody would end its stream.
local function stream_deflater(self, length)
  if self.is_over then return nil end
  return deflater(self, self.declared or length)
end

local function finish(self, data)
  local deflate = self.deflate
  self.deflate = nil
  return (deflate(data, "finish"))
end

-- What raised before it was sent, as in a function of res:before, did not happen.
local function undo(self)
  self.res.headers["Content-Encoding"] = nil
  self.is_coded, self.deflate, self.left = false, nil, nil
end

-- What is sent as it is: now its declared length counts.
local function begin_plain(self)
  local res = self.res
  if self.declared and not res.sent then self.plain.length(res, self.declared) end
end

-- The engine cannot know whether what was compressed had its declared length.
local function count(self, n)
  self.left = (self.left or self.declared or math.huge) - n
  if self.left < 0 then error("more than the length that was declared", 0) end
end

-- As res:write: strings, and numbers.
local function concat(...)
  for i = 1, select("#", ...) do
    local kind = type((select(i, ...)))
    if kind ~= "string" and kind ~= "number" then
      error(("bad argument #%d to 'write' (string expected, got %s)"):format(i, kind), 0)
    end
  end
  return table.concat { ... }
end

local replacements = {}

function replacements.length(self, n)
  local declared = math.tointeger(n)
  if self.res.sent or not declared or declared < 0 then
    return self.plain.length(self.res, n) -- which raises
  end
  self.declared = declared
  return self.res
end

function replacements.send(self, ...)
  local text = select("#", ...) == 0 and "" or ...
  if type(text) == "string" and deflater(self, #text) then
    return self.plain.send(self.res, finish(self, text))
  end
  return self.plain.send(self.res, ...) -- which raises what is no text
end

function replacements.write(self, ...)
  local deflate = stream_deflater(self)
  if not deflate then
    begin_plain(self)
    return self.plain.write(self.res, ...)
  end
  local data = concat(...)
  count(self, #data)
  return self.plain.write(self.res, (deflate(data, "sync")))
end

local function send_plain(self, ...)
  begin_plain(self)
  return self.plain.sendfile(self.res, ...)
end

-- From a piece on that has been read already, to the end or as many bytes as are left.
local function send_pieces(self, file, at, left, piece)
  while piece ~= "" do
    count(self, #piece)
    local ok, why, code = self.plain.write(self.res, (self.deflate(piece)))
    if not ok then return nil, why, code end
    at, left = at + #piece, left - #piece
    piece = assert(fd.read(file, at, math.min(left, PIECE)))
  end
  return self.plain.write(self.res, (self.deflate("", "sync")))
end

local function open_path(file)
  if type(file) ~= "string" then return false end
  return fd.open_path(file)
end

function replacements.sendfile(self, file, offset, length)
  if not self.deflate and not (self.accepted and varies(self, self.res.headers)) then
    stream_deflater(self) -- it is no, but it may depend on the client
    return send_plain(self, file, offset, length)
  end
  local opened <close>, why, code = open_path(file)
  if opened == nil then return nil, why, code end
  file = opened or file
  local at, left = offset or 0, length and length >= 0 and length or math.huge
  local piece, message, error_code =
    fd.read(file, at, math.min(left, math.max(PIECE, self.minimum)))
  if not piece then return nil, message, error_code end
  if not stream_deflater(self, #piece) then
    return send_plain(self, file, offset, length)
  end
  return send_pieces(self, file, at, left, self.is_head and "" or piece)
end

local function replace(self)
  local res = self.res
  for name, replacement in pairs(replacements) do
    self.plain[name] = res[name]
    res[name] = function(_, ...)
      if self.is_coded and not res.sent then undo(self) end
      return replacement(self, ...)
    end
  end
end

-- After the handler has returned.
local function complete(self)
  if self.declared and not self.deflate and not self.res.sent then self.res:write "" end
  if not self.deflate then return end
  if self.declared and not self.is_head and (self.left or self.declared) > 0 then
    error("less than the length that was declared", 0)
  end
  self.plain.write(self.res, finish(self, ""))
end

-- However it ends, zlib's memory does not wait for a collector that does not see it.
local function close(self)
  if self.deflate then finish(self, "") end
  self.is_over = true
end

---------------------------------------------------------------------------------------

local function check_range(name, value, least, most)
  if math.type(value) ~= "integer" or value < least or value > most then
    error(("compress: %s must be an integer from %d to %d"):format(name, least, most), 0)
  end
  return value
end

local function patterns_of(names)
  local patterns = {}
  for i, name in ipairs(names) do patterns[i] = pattern_of(name) end
  return patterns
end

return function(given)
  local wanted = options.check("compress", given, KINDS)
  local settings = {
    types = patterns_of(wanted.types or TYPES),
    minimum = check_range("minimum", wanted.minimum or 1024, 0, 1 << 30),
    level = check_range("level", wanted.level or 6, 1, 9),
    zlib = options.need("compress", "zlib", "lua-zlib"),
  }
  local mt = { __index = settings, __close = close }
  return function(req, res, next)
    local codings, must = accept.codings(req:header "Accept-Encoding", CODINGS)
    local self <close> = setmetatable({ req = req, res = res, plain = {},
      accepted = codings[1] ~= nil, must = must, is_head = req.method == "HEAD" }, mt)
    replace(self)
    next()
    complete(self)
  end
end
