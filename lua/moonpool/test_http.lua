-- A client of HTTP, as a browser is one: it keeps its connection and its cookies.
--
--     local answer = client:get "/"                   answer.status .headers .body .json
--     client:post("/notes", { json = { title = "Milk" } })
--     client:post("/login", { form = { name = "ada" } })
--     client:post("/files", { files = { file = { name = "a.txt", content = "..." } } })
--
-- Options of a request:
--
--     headers = { name = value or a list of values }
--     body = text, or a function that returns one piece after the other, sent in chunks
--     json = value        form = fields        files = files (test_form.lua)
--     stream = true       the answer comes without its body: answer:read() has one piece
--                         after the other, nil at the end
--
-- What fails is nil, message, code. Answers are described in test_http_message.lua.

local cookies = require "moonpool.test_cookies"
local core = require "moonpool.core"
local form = require "moonpool.test_form"
local json = require "moonpool.json"
local message = require "moonpool.test_http_message"
local time = require "moonpool.test_time"

local methods = {}
local mt = { __name = "moonpool.test.http", __index = methods }

local HAS_CONTENT = { POST = true, PUT = true, PATCH = true }

-- Requests -----------------------------------------------------------------------------

local function content_of(options)
  if options.json ~= nil then return json.encode(options.json), "application/json" end
  if options.files then return form.multipart(options.form, options.files) end
  if options.form then return form.encode(options.form) end
  return options.body
end

local function has_field(fields, wanted)
  for _, field in ipairs(fields) do
    if field[1]:lower() == wanted:lower() then return true end
  end
  return false
end

-- A list of { name, value }, sorted by name.
local function listed(headers)
  local fields, names = {}, {}
  for name in pairs(headers or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = headers[name]
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      fields[#fields + 1] = { name, one }
    end
  end
  return fields
end

local function add_missing(fields, name, value)
  if value and not has_field(fields, name) then fields[#fields + 1] = { name, value } end
end

-- The fields of a request and its content, which is text, an iterator or nil.
local function prepare(self, method, target, options)
  local fields = listed(options.headers)
  local content, media_type = content_of(options)
  if HAS_CONTENT[method] then content = content or "" end
  if not has_field(fields, "Host") then
    table.insert(fields, 1, { "Host", "localhost" })
  end
  add_missing(fields, "Content-Type", media_type)
  add_missing(fields, "Cookie", self.cookies:header(target))
  if type(content) == "string" then
    add_missing(fields, "Content-Length", #content)
  elseif content then
    add_missing(fields, "Transfer-Encoding", "chunked")
  end
  return fields, content
end

local function write_chunk(conn, piece)
  return piece == "" or conn:write(("%x\r\n%s\r\n"):format(#piece, piece))
end

local function write_content(conn, content)
  if type(content) == "string" then return conn:write(content) end
  for piece in content do
    local ok, why, code = write_chunk(conn, piece)
    if not ok then return nil, why, code end
  end
  return conn:write "0\r\n\r\n"
end

-- What cannot be written need not be: the answer may have come already.
local function write_request(conn, method, target, fields, content)
  message.write_head(conn, method, target, fields)
  if content then write_content(conn, content) end
  return conn:flush()
end

-- Connections --------------------------------------------------------------------------

-- Whether it can take another request: nothing has come unasked, not even its end. It is
-- an error if the spec has closed it.
local function is_idle(conn)
  conn:settimeout(0)
  local _, _, code = conn:read(0)
  conn:settimeout(nil)
  return code == "ETIMEDOUT"
end

local function drop(self)
  if self.client then self.client:close() end
  self.client = nil
end

-- The raw client of the connection that is there, or of a new one.
local function need_client(self)
  if self.client then
    local ok, idle = pcall(time.run, is_idle, self.client.conn)
    if not (ok and idle) then drop(self) end
  end
  if not self.client then self.client = self.open() end
  return self.client
end

-- Answers ------------------------------------------------------------------------------

local function is_last(answer)
  local connection = (answer.headers.connection or ""):lower()
  return answer.closes or connection:find("close", 1, true) ~= nil
    or answer.version == "1.0" and not connection:find("keep-alive", 1, true)
end

local function read_answer(conn, method, stream)
  local answer, why, code = message.read_head(conn, method)
  if not answer then return nil, why, code end
  if stream or answer.status == 101 then return answer end
  local ok
  ok, why, code = message.read_body(conn, answer)
  if not ok then return nil, why, code end
  return answer
end

local function take_answer(self, target, answer, why, code)
  if not answer then
    drop(self)
    return nil, why, code
  end
  self.cookies:store(answer, target)
  if not answer.left and is_last(answer) then drop(self) end
  return answer
end

-- The pieces of what has not been read yet.
local function let_read(answer, conn)
  function answer:read()
    return time.run(message.read_piece, conn, self)
  end
  return answer
end

-- Methods ------------------------------------------------------------------------------

--- Sends a request and waits for its answer.
-- @param options (optional) as at the top of this file
-- @return the answer, or nil, message, code
function methods:request(method, target, options)
  options = options or {}
  local client = need_client(self)
  local fields, content = prepare(self, method, target, options)
  local answer, why, code = take_answer(self, target,
    time.run_as(method .. " " .. target, function()
      write_request(client.conn, method, target, fields, content)
      return read_answer(client.conn, method, options.stream)
    end))
  time.settle()
  if not answer then return nil, why, code end
  return options.stream and let_read(answer, client.conn) or answer
end

for _, method in ipairs { "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS" } do
  methods[method:lower()] = function(self, target, options)
    return self:request(method, target, options)
  end
end

-- A task beside the one that reads: a server may want to be read first.
local function write_all(self, conn, requests)
  for _, request in ipairs(requests) do
    local fields, content = prepare(self, request[1], request[2], request[3] or {})
    message.write_head(conn, request[1], request[2], fields)
    if content then write_content(conn, content) end
  end
  conn:flush()
end

--- Sends several requests at once, { method, target, options } each, and then reads the
-- answers: a list, in which those that did not come are missing.
function methods:pipeline(requests)
  local client = need_client(self)
  local answers = time.run(function()
    core.loop.spawn(write_all, self, client.conn, requests)
    local list = {}
    for i, request in ipairs(requests) do
      list[i] = read_answer(client.conn, request[1])
      if not list[i] then break end
    end
    return list
  end)
  for i, answer in ipairs(answers) do take_answer(self, requests[i][2], answer) end
  if #answers < #requests then drop(self) end
  time.settle()
  return answers
end

local Upload = {}
Upload.__index = Upload

--- Writes a piece of the content, and lets all that follows from it happen.
-- @return the upload, or nil, message, code
function Upload:write(piece)
  local ok, why, code = time.run(function()
    local ok, why, code = write_chunk(self.conn, piece)
    if ok then ok, why, code = self.conn:flush() end
    return ok, why, code
  end)
  time.settle()
  if not ok then return nil, why, code end
  return self
end

--- Ends the content and waits for the answer, as request does.
function Upload:finish()
  time.run(function()
    self.conn:write "0\r\n\r\n"
    return self.conn:flush()
  end)
  return self:answer()
end

--- Waits for the answer, which may come before the end of the content.
function Upload:answer()
  local conn, method = self.conn, self.method
  local answer, why, code = take_answer(self.http, self.target, time.run(function()
    return read_answer(conn, method, self.stream)
  end))
  if not answer then return nil, why, code end
  return self.stream and let_read(answer, conn) or answer
end

--- Begins a request whose content is written piece by piece: upload:write(piece), and
-- then upload:finish() for the answer.
function methods:start(method, target, options)
  options = options or {}
  local client = need_client(self)
  local fields = prepare(self, method, target,
    { headers = options.headers, body = function() end })
  time.run(function()
    message.write_head(client.conn, method, target, fields)
    return client.conn:flush()
  end)
  time.settle()
  return setmetatable({ http = self, conn = client.conn, method = method, target = target,
    stream = options.stream }, Upload)
end

--- Asks for another protocol.
-- @param protocol as the Upgrade field names it
-- @return the raw client, whose connection speaks it now, and the answer (101); or nil
-- and the answer that refuses it; or nil, message, code
function methods:upgrade(target, protocol, options)
  local headers = { Connection = "Upgrade", Upgrade = protocol }
  for name, value in pairs(options and options.headers or {}) do headers[name] = value end
  local answer, why, code = self:request("GET", target, { headers = headers })
  if not answer then return nil, why, code end
  if answer.status ~= 101 then return nil, answer end
  local client = self.client
  self.client = nil
  return client, answer
end

--- Closes its connection; the next request opens another. Its cookies stay.
function methods:close()
  drop(self)
end

mt.__close = methods.close

--- A client whose connections are what open() returns, raw test clients.
local function new(open)
  return setmetatable({ open = open, cookies = cookies.new() }, mt)
end

return { new = new, methods = methods }
