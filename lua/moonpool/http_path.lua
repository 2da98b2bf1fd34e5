--- Paths of requests, as they came and decoded.
--
-- A path is taken apart while it is still encoded, so that "%2F" is a character of a
-- segment and not a boundary; what is found in it is decoded afterwards.
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

-- RFC 3986 5.2.4, but without a way out of the root; segments that are empty are kept.
local function without_dots(path)
  local kept, last = {}, nil
  for segment in path:gmatch "/([^/]*)" do
    last = segment:gsub("%%2[eE]", ".") -- 2.3: the same as a plain dot
    if last == ".." then
      if #kept == 0 then return nil, "the path leaves the root" end
      kept[#kept] = nil
    elseif last ~= "." then
      kept[#kept + 1] = segment
    end
  end
  if last == "." or last == ".." then kept[#kept + 1] = "" end
  return "/" .. table.concat(kept, "/")
end

-- What only an encoded "/" can hide from without_dots, and what C would cut a name at.
local function is_devious(path)
  local text = decode(path)
  return text:find("\0", 1, true) or (text .. "/"):find "/%.%.?/"
end

--- The path of a request-target (RFC 9112 3.2), still encoded, its dot segments removed.
-- @return a path that begins with "/", or "*", or "" of an authority; or nil and why it
-- is refused (400): it leaves the root, or would by an encoded "/", or has a "%00"
local function of_target(target)
  if target:byte() == 0x2F and not target:find "[?%%.]" then return target end
  local path = target:match "^[^?]*"
  if path:byte() ~= 0x2F then -- "/"
    local rest = path:match "^%a[%w+.-]*://[^/]*(.*)$"
    if not rest then return path == "*" and path or "" end
    path = rest == "" and "/" or rest
  end
  if not path:find("%", 1, true) and not path:find("/.", 1, true) then return path end
  local clean, why = without_dots(path)
  if clean and is_devious(clean) then return nil, "the path hides what it names" end
  return clean, why
end

return { decode = decode, of_target = of_target }
