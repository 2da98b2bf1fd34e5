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

return { decode = decode }
