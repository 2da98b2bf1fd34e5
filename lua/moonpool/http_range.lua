--- Parts of a representation, as the Range field asks for them (RFC 9110 14).
--
-- @module moonpool.http_range

local MOST = 64 -- range-specs; more is somebody who wants work to be done (17.15)
local GAP = 128 -- parts no further apart cost less together than the head of one does

-- One range-spec (14.1.1): its first and last byte, inclusive. Numbers may have any
-- length; what does not fit into an integer is a float, and beyond every end.
-- @return nil if it is malformed; false if there is nothing of it
local function read_spec(spec, size)
  local first, last = spec:match "^(%d*)%-(%d*)$"
  first, last = tonumber(first), tonumber(last)
  if not first and not last then return nil end
  if not first then
    return last > 0 and { first = size - math.min(last, size), last = size - 1 }
  end
  if last and last < first then return nil end
  return first < size and { first = first, last = math.min(last or size, size - 1) }
end

-- Joins a part to those it overlaps or nearly touches, in the place of the first (14.2,
-- 15.3.7.2); the others stay in the order in which they were asked for.
local function add(parts, part)
  local place = #parts + 1
  for i = #parts, 1, -1 do
    local other = parts[i]
    if part.first - other.last <= GAP and other.first - part.last <= GAP then
      part = { first = math.min(part.first, other.first),
        last = math.max(part.last, other.last) }
      table.remove(parts, i)
      place = i
    end
  end
  table.insert(parts, place, part)
end

-- The list of what is in a set; nil where one is malformed or they are too many.
local function read_set(set, size)
  local parts, count = {}, 0
  for element in set:gmatch "[^,]+" do
    local spec = element:match "^[ \t]*(.-)[ \t]*$"
    if spec ~= "" then -- an empty element counts for nothing (5.6.1.2)
      count = count + 1
      local part = read_spec(spec, size)
      if part == nil or count > MOST then return nil end
      if part then add(parts, part) end
    end
  end
  return count > 0 and parts or nil
end

--- Reads a Range field for a representation of size bytes.
-- @return the parts to send, each with .first and .last, which do not overlap; none (an
-- empty list) if it cannot be satisfied (416); nil if the field is to be ignored: it is
-- malformed, in other units than bytes, or asks for too many ranges, or the
-- representation is empty, of which no range can be told (14.2 leaves it to the server)
local function read(text, size)
  local unit, set = text:match "^([^=]*)=(.*)$"
  if not unit or unit:lower() ~= "bytes" or size == 0 then return nil end
  return read_set(set, size)
end

return { read = read }
