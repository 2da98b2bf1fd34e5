-- The content of requests, as browsers make it of what people fill in.
--
--     form.encode(fields) -> content, type            application/x-www-form-urlencoded
--     form.multipart(fields, files) -> content, type  multipart/form-data (RFC 7578)
--
-- Fields are by name, a value or a list of such; files are by name, { name = "a.txt",
-- content = "...", type = "text/plain" } or a list of such. Names are sorted.

local http_path = require "moonpool.http_path"

local BOUNDARY = "moonpool-spec-boundary"

-- Each name with each of its values, by name.
local function each(fields)
  local names, pairs_found = {}, {}
  for name in pairs(fields or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = fields[name]
    local list = type(value) == "table" and not value.content and value or { value }
    for _, one in ipairs(list) do pairs_found[#pairs_found + 1] = { name, one } end
  end
  return ipairs(pairs_found)
end

local function encode(fields)
  local parts = {}
  for _, field in each(fields) do
    parts[#parts + 1] = http_path.encode(field[1]) .. "="
      .. http_path.encode(tostring(field[2]))
  end
  return table.concat(parts, "&"), "application/x-www-form-urlencoded"
end

-- As browsers escape it in a quoted string (HTML, "multipart/form-data").
local function quote(text)
  return (text:gsub('[\r\n"]', { ["\r"] = "%0D", ["\n"] = "%0A", ['"'] = "%22" }))
end

local function add_part(parts, name, content, filename, media_type)
  parts[#parts + 1] = ('--%s\r\nContent-Disposition: form-data; name="%s"'):format(
    BOUNDARY, quote(name))
  if filename then parts[#parts + 1] = ('; filename="%s"'):format(quote(filename)) end
  if media_type then parts[#parts + 1] = "\r\nContent-Type: " .. media_type end
  parts[#parts + 1] = "\r\n\r\n" .. content .. "\r\n"
end

local function multipart(fields, files)
  local parts = {}
  for _, field in each(fields) do add_part(parts, field[1], tostring(field[2])) end
  for _, field in each(files) do
    local file = field[2]
    add_part(parts, field[1], file.content, file.name,
      file.type or "application/octet-stream")
  end
  parts[#parts + 1] = "--" .. BOUNDARY .. "--\r\n"
  return table.concat(parts), "multipart/form-data; boundary=" .. BOUNDARY
end

return { encode = encode, multipart = multipart }
