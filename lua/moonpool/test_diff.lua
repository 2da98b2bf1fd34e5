-- How two texts differ, line by line, for people to read:
--
--     diff.lines(expected, got)    "  same\n- expected\n+ got\n", with few lines around
--     diff.pretty(value)           a value as JSON, a line for each part, keys sorted
--
-- What cannot be seen in a line is escaped.

local json = require "moonpool.json"

local CONTEXT, MOST = 3, 400 -- lines around a difference; lines that are compared

local function split(text)
  local lines = {}
  for line in (text:sub(-1) == "\n" and text or text .. "\n"):gmatch "([^\n]*)\n" do
    lines[#lines + 1] = line
  end
  if text ~= "" and text:sub(-1) ~= "\n" then
    lines[#lines] = lines[#lines] .. "  (no end of line)"
  end
  return text == "" and {} or lines
end

local function visible(line)
  return (line:gsub("[^%g \128-\255]", function(c) return ("\\%d"):format(c:byte()) end))
end

-- Lengths of the longest common subsequences of what begins at each pair of lines.
local function common(a, b)
  local lengths = {}
  for i = #a + 1, 1, -1 do
    lengths[i] = {}
    for j = #b + 1, 1, -1 do
      if i > #a or j > #b then
        lengths[i][j] = 0
      elseif a[i] == b[j] then
        lengths[i][j] = lengths[i + 1][j + 1] + 1
      else
        lengths[i][j] = math.max(lengths[i + 1][j], lengths[i][j + 1])
      end
    end
  end
  return lengths
end

-- A list of { mark, line }.
local function compare(a, b)
  local lengths, marked, i, j = common(a, b), {}, 1, 1
  while i <= #a or j <= #b do
    if i <= #a and j <= #b and a[i] == b[j] then
      marked[#marked + 1] = { " ", a[i] }
      i, j = i + 1, j + 1
    elseif j > #b or i <= #a and lengths[i + 1][j] >= lengths[i][j + 1] then
      marked[#marked + 1] = { "-", a[i] }
      i = i + 1
    else
      marked[#marked + 1] = { "+", b[j] }
      j = j + 1
    end
  end
  return marked
end

local function is_near(marked, at)
  for i = math.max(1, at - CONTEXT), math.min(#marked, at + CONTEXT) do
    if marked[i][1] ~= " " then return true end
  end
  return false
end

local function show(marked)
  local lines, is_gap = {}, false
  for i, one in ipairs(marked) do
    if is_near(marked, i) then
      lines[#lines + 1] = one[1] .. " " .. visible(one[2])
      is_gap = false
    elseif not is_gap then
      lines[#lines + 1] = "  ..."
      is_gap = true
    end
  end
  return table.concat(lines, "\n")
end

local function cut(lines)
  if #lines <= MOST then return lines end
  local first = table.move(lines, 1, MOST, 1, {})
  first[MOST + 1] = ("... and %d more lines"):format(#lines - MOST)
  return first
end

--- The lines of both texts that differ, "-" those expected, "+" those that are there.
local function lines(expected, got)
  return show(compare(cut(split(expected)), cut(split(got))))
end

local function sorted_keys(value)
  local keys = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  return keys
end

local function pretty(value, indent)
  indent = indent or ""
  if type(value) ~= "table" then
    local ok, text = pcall(json.encode, value)
    return ok and text or tostring(value)
  end
  local inner, parts = indent .. "  ", {}
  local is_list = #value > 0
  for _, key in ipairs(sorted_keys(value)) do
    local name = is_list and "" or json.encode(tostring(key)) .. ": "
    parts[#parts + 1] = inner .. name .. pretty(value[key], inner)
  end
  if #parts == 0 then return "{}" end
  return (is_list and "[\n" or "{\n") .. table.concat(parts, ",\n") .. "\n" .. indent
    .. (is_list and "]" or "}")
end

return { lines = lines, pretty = pretty }
