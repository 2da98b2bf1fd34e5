-- A request of a client (moonpool.test or server:connect), and its answer taken apart:
--
--     local answer = ask(client, "GET", "/", { Origin = "https://a.example" })
--     answer.status    answer.body    answer.fields["content-type"]    answer.pieces
--
-- Fields have names in lower case and values joined by ", "; pieces are the chunks.

local function write(client, method, target, fields, body)
  local lines = { method .. " " .. target .. " HTTP/1.1", "Host: spec" }
  for name, value in pairs(fields or {}) do lines[#lines + 1] = name .. ": " .. value end
  if body then lines[#lines + 1] = "Content-Length: " .. #body end
  client:write(table.concat(lines, "\r\n"), "\r\n\r\n", body or "")
end

local function read_fields(client)
  local fields = {}
  for line in client:lines() do
    if line == "" then break end
    local name, value = line:match "^([^:]+): (.*)$"
    name = name:lower()
    fields[name] = fields[name] and fields[name] .. ", " .. value or value
  end
  return fields
end

local function read_chunks(client)
  local chunks = {}
  while true do
    local size = tonumber(client:read() or "none", 16)
    if not size then return chunks, "cut off" end
    if size == 0 then break end
    chunks[#chunks + 1] = client:read(size)
    client:read()
  end
  client:read()
  return chunks
end

local function has_content(method, status)
  return method ~= "HEAD" and status ~= 204 and status ~= 304
end

return function(client, method, target, ...)
  write(client, method, target, ...)
  local status = tonumber((client:read() or ""):match "^HTTP/1%.1 (%d+)")
  local answer = { status = status, fields = read_fields(client), body = "" }
  local length = tonumber(answer.fields["content-length"])
  if not has_content(method, status) then return answer end
  if answer.fields["transfer-encoding"] then
    answer.pieces, answer.failed = read_chunks(client)
    answer.body = table.concat(answer.pieces)
  elseif length and length > 0 then
    answer.body = client:read(length)
  end
  return answer
end
