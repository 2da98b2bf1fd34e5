--- Fields that are a word with parameters, as Content-Type and Content-Disposition are.
--
--     parse 'multipart/form-data; boundary="a b"'  --> "multipart/form-data",
--                                                      { boundary = "a b" }
--
-- @module moonpool.http_parameters

-- RFC 9110 5.6.6. An empty parameter is allowed; a value may be more than a token: the
-- boundaries of mail programs have "/" and "=".
local NAME = "^;[ \t]*([%w!#$%%&'*+.^_`|~-]+)=()"
local EMPTY = "^;[ \t]*()"
local UNQUOTED = '^([^ \t;"]+)()'

-- The quoted string that begins at `at` (RFC 9110 5.6.4), and where it is over. Browsers
-- send the backslashes of file names as they are: one counts before a quote and another.
local function quoted(text, at)
  local stop = at + 1
  while true do
    stop = text:find('["\\]', stop)
    if not stop then return nil end
    if text:sub(stop, stop) == '"' then break end
    stop = text:match('^\\["\\]()', stop) or stop + 1
  end
  return text:sub(at + 1, stop - 1):gsub('\\(["\\])', "%1"), stop + 1
end

local function value(text, at)
  if text:sub(at, at) ~= '"' then return text:match(UNQUOTED, at) end
  local found, stop = quoted(text, at)
  return found, stop
end

--- Reads a field's value.
-- @return the word, in lower case, and its parameters by their names in lower case; or
-- nil if it is malformed, or has a parameter twice
local function parse(text)
  local word, at = text:match "^[ \t]*([^ \t;]+)[ \t]*()"
  local parameters = {}
  while word and at <= #text do
    local name, from = text:match(NAME, at)
    if name then
      name = name:lower()
      if parameters[name] then return nil end
      parameters[name], at = value(text, from)
    else
      at = text:match(EMPTY, at)
    end
    if not at then return nil end
    at = text:match("^[ \t]*()", at)
  end
  return word and word:lower(), parameters
end

return { parse = parse }
