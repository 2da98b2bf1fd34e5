--- The lines of a config file's keys, which a Lua table does not know: a scanner looks
-- for the constructor that the file returns, and in it for `name =` and `["name"] =`.
--
-- @module moonpool.config_lines

--- A key or another string as it would stand in Lua, on one line.
local function quoted(value)
  if type(value) ~= "string" then return tostring(value) end
  return (("%q"):format(value):gsub("\\\n", "\\n"))
end

local lexemes = {
  "^%s+", "^%-%-%[(=*)%[.-%]%1%]", "^%-%-[^\n]*", -- blanks and comments
  "^%[(=*)%[.-%]%1%]", "^[%a_][%w_]*", "^[=~<>]=", "^.",
}

-- Where the lexeme at `at` ends, in a source that Lua has accepted.
local function lexeme_end(source, at)
  local quote = source:match("^[\"']", at)
  if quote then
    local unescaped = "^[^\\" .. quote .. "]*()"
    at = source:match(unescaped, at + 1)
    while source:sub(at, at) == "\\" do at = source:match(unescaped, at + 2) end
    return at
  end
  for _, pattern in ipairs(lexemes) do
    local _, last = source:find(pattern, at)
    if last then return last end
  end
end

local function tokens(source)
  local list, at, line = {}, 1, 1
  while at <= #source do
    local last = lexeme_end(source, at)
    local token = source:sub(at, last)
    if not token:find("^%s") and not token:find("^%-%-") then
      list[#list + 1] = { text = token, line = line }
    end
    line = line + select(2, token:gsub("\n", ""))
    at = last + 1
  end
  return list
end

-- The key of the field whose "=" is token i; nil if it is no field's.
local function key_before(list, i)
  local key, before = list[i - 1].text, list[i - 2].text
  if key == "]" and before:find("^[\"'%[]") then
    key, before = load("return " .. before)(), list[i - 4].text
  end
  return before:find("^[{,;]$") and key
end

--- What a key is called: pools.web.workers, pools["my.app"].workers.
local function key_path(path, key)
  if type(key) ~= "string" or not key:find "^[%a_][%w_]*$" then
    return ("%s[%s]"):format(path, quoted(key))
  end
  return path == "" and key or path .. "." .. key
end

--- The line of every key of a source, by its path; "" is the whole table's.
local function key_lines(source)
  local list, lines = tokens(source), {}
  local open = {} -- per open bracket: the path of its table, or false if it is not ours
  local field -- the path of the field whose value comes next
  for i, token in ipairs(list) do
    local text, previous = token.text, i > 1 and list[i - 1].text
    if #open == 0 and text ~= ";" then lines = {} end -- what comes last is returned
    if text == "{" and #open == 0 and previous == "return" then
      open[1], lines[""] = "", token.line
    elseif text == "{" then
      open[#open + 1] = previous == "=" and field or false
    elseif text == "(" or text == "[" then
      open[#open + 1] = false
    elseif text == "}" or text == ")" or text == "]" then
      open[#open] = nil
    elseif text == "=" then
      local key = open[#open] and key_before(list, i)
      field = key and key_path(open[#open], key)
      if field then lines[field] = list[i - 1].line end
    end
  end
  return lines
end

return { quoted = quoted, key_path = key_path, key_lines = key_lines }
