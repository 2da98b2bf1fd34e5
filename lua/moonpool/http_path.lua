--- What stands encoded in paths and queries (RFC 3986).
--
-- @module moonpool.http_path

--- Encodes all that is not unreserved (RFC 3986 2.3), for a segment of a path, a value
-- of a query or a file's name in a field (RFC 8187).
local function encode(text)
  return (text:gsub("[^%w._~-]", function(c) return ("%%%02X"):format(c:byte()) end))
end

return { encode = encode }
