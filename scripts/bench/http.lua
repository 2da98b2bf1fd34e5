-- Requests of cases as text, and whether answers are what the case says.

-- A WebSocket's handshake, and what its answer must have (RFC 6455 1.3).
local HANDSHAKE = { "Upgrade: websocket", "Connection: Upgrade",
  "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==" }
local ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
local MESSAGE = 125 -- bytes, as in load.c

--- The bytes of a case's request; a line for raw TCP.
local function request_text(case)
  if case.app == "line" then return "a line\n" end
  local request = case.request
  if case.app == "ws" then request = { path = request.path, fields = HANDSHAKE } end
  local lines = { ("%s %s HTTP/1.1"):format(request.method or "GET", request.path),
    "Host: 127.0.0.1" }
  for _, field in ipairs(request.fields or {}) do lines[#lines + 1] = field end
  if case.closes then lines[#lines + 1] = "Connection: close" end
  if not request.body then return table.concat(lines, "\r\n") .. "\r\n\r\n" end
  lines[#lines + 1] = "Content-Length: " .. request.body
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. ("x"):rep(request.body)
end

--- Whether an answer has come to its end, by the length that it says.
local function is_whole(case, answer)
  if case.app == "line" then return answer:find "\n" ~= nil end
  if case.app == "ws" then return answer:find "\r\n\r\n" ~= nil end
  local head, body = answer:match "^(.-\r\n)\r\n(.*)$"
  local length = head and head:lower():match "\r\ncontent%-length: *(%d+)\r\n"
  return length ~= nil and #body >= tonumber(length)
end

--- What a client says again and again: a request; or, after the handshake, a message.
-- @return its bytes, and how many the answer has, where that is known
local function message_text(case)
  if case.app ~= "ws" then return request_text(case) end
  local mask = { 0x12, 0x34, 0x56, 0x78 }
  local bytes = { 0x81, 0x80 | MESSAGE, table.unpack(mask) }
  for i = 0, MESSAGE - 1 do bytes[#bytes + 1] = 120 ~ mask[i % 4 + 1] end
  return string.char(table.unpack(bytes)), 2 + MESSAGE
end

local function sorted(text)
  local bytes = { text:byte(1, -1) }
  table.sort(bytes)
  return string.char(table.unpack(bytes))
end

local function is_content(case, body)
  local expected = case.answer
  if case.any_order then
    return #body == #expected and sorted(body) == sorted(expected)
  end
  return body == expected
end

local function missing_field(head, fields)
  for name, value in pairs(fields or {}) do
    local line = ("\r\n%s: %s\r\n"):format(name, value):lower()
    if not head:lower():find(line, 1, true) then return name end
  end
end

--- Whether an answer is what the case expects: true; or nil, message.
local function check(case, answer)
  if answer == "" then return nil, "no answer" end
  if case.app == "line" then
    if answer == request_text(case) then return true end
    return nil, "another line"
  end
  local head, body = answer:match "^(.-\r\n)\r\n(.*)$"
  if not head then return nil, "no head" end
  if case.app == "ws" then
    if head:find("^HTTP/1.1 101 ") and head:find(ACCEPT, 1, true) then return true end
    return nil, head:match "^[^\r]*"
  end
  if not head:find "^HTTP/1.1 200 " then return nil, head:match "^[^\r]*" end
  if not is_content(case, body) then
    return nil, ("%d bytes that are not the answer"):format(#body)
  end
  local name = missing_field(head, case.answer_fields)
  if name then return nil, "no " .. name .. " as asked for" end
  return true
end

return { request_text = request_text, message_text = message_text, is_whole = is_whole,
  check = check }
