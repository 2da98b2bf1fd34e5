--- What stands encoded in paths and queries (RFC 3986).
--
-- @module moonpool.http_path

local function byte_of(hex)
  return string.char(tonumber(hex, 16))
end

--- Decodes "%XX" (RFC 3986 2.1); a "%" without two hex digits stands for itself.
local function decode(text)
  if not text:find("%", 1, true) then return text end
  return (text:gsub("%%(%x%x)", byte_of))
end

--- Encodes all that is not unreserved (RFC 3986 2.3), for a segment of a path, a value
-- of a query or a file's name in a field (RFC 8187).
local function encode(text)
  return (text:gsub("[^%w._~-]", function(c) return ("%%%02X"):format(c:byte()) end))
end

return { decode = decode, encode = encode }
