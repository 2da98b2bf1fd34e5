-- Requests and answers of HTTP/1.1 as a client sees them, over a connection. All that
-- reads or writes is for tasks.
--
--     message.write_head(conn, method, target, fields)
--     message.read_head(conn, method) -> answer | nil, message, code
--     message.read_piece(conn, answer) -> string; nil at the end | nil, message, code
--     message.read_body(conn, answer) -> true | nil, message, code
--
-- An answer has version, status, reason; fields, a list of { name, value } as they came;
-- headers, values by name in any case, several joined by ", "; body, and if it came in
-- chunks pieces.

local json = require "moonpool.json"

local headers_mt = {}

function headers_mt:__index(name)
  if type(name) ~= "string" then return nil end
  return rawget(self, name:lower():gsub("_", "-"))
end

local answer_mt = { __name = "moonpool.test.answer" }

--- answer.json: the body decoded; it is an error if it is no JSON.
function answer_mt:__index(name)
  if name ~= "json" then return nil end
  local value, why = json.decode(self.body)
  if value == nil and why then
    error(("the body is no JSON: %s\n%s"):format(why, self.body), 0)
  end
  return value
end

--- Writes what is before the content.
-- @param fields a list of { name, value }
local function write_head(conn, method, target, fields)
  local lines = { method .. " " .. target .. " HTTP/1.1\r\n" }
  for _, field in ipairs(fields) do
    lines[#lines + 1] = ("%s: %s\r\n"):format(field[1], field[2])
  end
  lines[#lines + 1] = "\r\n"
  return conn:write(table.concat(lines))
end

-- The next line without its end, or nil and an error.
local function read_line(conn)
  local line, why, code = conn:read "L"
  if not line then return nil, why, code end
  local text = line:match "^(.-)\r\n$"
  if not text then return nil, ("half a line: %q"):format(line), "EPROTO" end
  return text
end

local function add_field(answer, line)
  local name, value = line:match "^([^%s:]+):[ \t]*(.-)[ \t]*$"
  if not name then return nil, ("no field: %q"):format(line), "EPROTO" end
  answer.fields[#answer.fields + 1] = { name, value }
  local key = name:lower()
  local before = rawget(answer.headers, key)
  rawset(answer.headers, key, before and before .. ", " .. value or value)
  return true
end

local function read_fields(conn, answer)
  while true do
    local line, why, code = read_line(conn)
    if line == "" then return true end
    if line then line, why, code = add_field(answer, line) end
    if not line then return nil, why, code end
  end
end

local function read_one_head(conn)
  local line, why, code = read_line(conn)
  if not line then return nil, why, code end
  local version, status, reason = line:match "^HTTP/(%d%.%d) (%d%d%d) ?(.*)$"
  if not version then return nil, ("no status line: %q"):format(line), "EPROTO" end
  local answer = setmetatable({
    version = version, status = tonumber(status), reason = reason,
    fields = {}, headers = setmetatable({}, headers_mt), body = "",
  }, answer_mt)
  local ok
  ok, why, code = read_fields(conn, answer)
  if not ok then return nil, why, code end
  return answer
end

-- How the content ends (RFC 9112 6.3): nothing, "chunked", a number, or "close".
local function framing(answer, method)
  local status = answer.status
  if method == "HEAD" or status < 200 or status == 204 or status == 304
    or (method == "CONNECT" and status < 300) then return nil end
  local coding = answer.headers["transfer-encoding"]
  if coding then return coding:lower():find "chunked%s*$" and "chunked" or "close" end
  return tonumber(answer.headers["content-length"]) or "close"
end

--- Reads the head of the answer to a request with that method. What is before the answer
-- (1xx, but 101) is in answer.before, a list of such.
local function read_head(conn, method)
  local before = {}
  while true do
    local answer, why, code = read_one_head(conn)
    if not answer then return nil, why, code end
    if answer.status == 101 or answer.status >= 200 then
      answer.before, answer.left = before, framing(answer, method)
      return answer
    end
    before[#before + 1] = answer
  end
end

local function cut_off(why, code)
  return nil, "the answer was cut off: " .. (why or "closed"), code or "EOF"
end

local function read_chunk(conn, answer)
  local line, why, code = read_line(conn)
  if not line then return cut_off(why, code) end
  local size = tonumber(line:match "^%x+" or "none", 16)
  if not size then return nil, ("no chunk: %q"):format(line), "EPROTO" end
  if size == 0 then
    answer.left = nil
    local ok
    ok, why, code = read_fields(conn, answer)
    if not ok then return cut_off(why, code) end
    return nil
  end
  local piece
  piece, why, code = conn:read(size)
  if not piece or #piece < size then return cut_off(why, code) end
  conn:read(2)
  return piece
end

local function read_rest(conn, answer)
  local piece = conn:readsome()
  if not piece then answer.left = nil end
  return piece
end

local function read_counted(conn, answer)
  if answer.left == 0 then
    answer.left = nil
    return nil
  end
  local piece, why, code = conn:readsome(answer.left)
  if not piece then return cut_off(why, code) end
  answer.left = answer.left - #piece
  return piece
end

--- The next piece of the content, as it comes.
local function read_piece(conn, answer)
  if not answer.left then return nil end
  if answer.left == "chunked" then return read_chunk(conn, answer) end
  if answer.left == "close" then
    answer.closes = true
    return read_rest(conn, answer)
  end
  return read_counted(conn, answer)
end

--- Reads the content that is left into answer.body.
local function read_body(conn, answer)
  local pieces = {}
  local is_chunked = answer.left == "chunked"
  while true do
    local piece, why, code = read_piece(conn, answer)
    if not piece then
      answer.body = answer.body .. table.concat(pieces)
      if is_chunked then answer.pieces = pieces end
      if why then return nil, why, code end
      return true
    end
    pieces[#pieces + 1] = piece
  end
end

return {
  write_head = write_head,
  read_head = read_head,
  read_piece = read_piece,
  read_body = read_body,
}
