-- What a whole server makes of the raw requests of http_vectors: one in this process, fed
-- in two parts, cut in every place, and the real program over TCP, fed in one and in
-- three. It answers what the parser alone reads, and neither more nor less.

local harness = require "server"
local test = require "moonpool.test"
local vectors = require "http_vectors"

require "tidy" (setup, teardown)

local BODY_LIMIT = 1 << 20
local AT_ONCE = 128 -- connections

-- An application that answers with what it was asked, as Lua.
local APP = [[
local http = require "moonpool.http"

local function quote(fields)
  local list = {}
  for name, value in pairs(fields) do
    list[#list + 1] = ("[%q] = %q"):format(name, value)
  end
  return "{ " .. table.concat(list, ", ") .. " }"
end

local function echo(req, res)
  local content = req:body()
  if not content then return end -- the server answers what is wrong with it
  res:send(("return { method = %q, target = %q, query = %q, host = %q, minor = %q,"
    .. "upgrade = %q, fields = %s, trailers = %s, content = %q }"):format(
    req.method, req.target, req.query, req.host, tonumber(req.version:sub(-1)),
    req.upgrade ~= nil, quote(req.headers), quote(req.trailers), content))
end

local function app(limits)
  return http.app { head_limit = limits.head, target_limit = limits.target,
    header_limit = limits.headers }:use(echo)
end
]]

-- Scripts: with the usual limits, and with such as a first line says.
local PLAIN = APP .. "return app {}"
local LIMITED = APP .. [[
return function(conn)
  local limits = {}
  for name, n in conn:read():gmatch "(%a+)=(%d+)" do limits[name] = tonumber(n) end
  return app(limits)(conn)
end
]]

local function limits_line(limits)
  local words = {}
  for name, n in pairs(limits) do words[#words + 1] = name .. "=" .. n end
  return table.concat(words, " ") .. "\n"
end

-- What is to be -------------------------------------------------------------------------
-- A case is { name, bytes, cuts, prelude, answers, open, ended }. Each answer is a status
-- or a table of what the application saw; open: whether the connection is, after them;
-- ended: one more status, when the client ends in the middle of what it has announced.

local AGAIN = "GET /again HTTP/1.1\r\nHost: a\r\n\r\n"
local again = { method = "GET", target = "/again" }

local function new_case(name, bytes)
  return { name = name, bytes = bytes, cuts = vectors.cuts(bytes), answers = {},
    open = false }
end

-- Another request follows, which is answered if the connection is open.
local function ask_again(case)
  case.bytes = case.bytes .. AGAIN
  if case.open then case.answers[2] = again end
end

-- "A: b\r\na: c" -> { a = "b, c" } (9110 5.3)
local function fields_of(text)
  local fields = {}
  for name, value in text:gmatch "([^:\r\n]+):[ \t]*([^\r\n]*)" do
    name = name:lower()
    fields[name] = fields[name] and fields[name] .. ", " .. value or value
  end
  return fields
end

local SEEN = { "method", "target", "query", "host", "minor", "upgrade" }

-- What an application sees of a head.
local function seen_of(head, content)
  local seen = { content = content,
    fields = head.fields and fields_of(table.concat(head.fields, "\r\n")) }
  for _, name in ipairs(SEEN) do seen[name] = head[name] end
  return head.answer or seen
end

-- What is missing of the content that a head has announced, and all of it, decoded.
local function content_of(head)
  local rest = head.rest or ""
  if head.body == "chunked" then return ("0\r\n\r\n"):sub(#rest + 1), "" end
  local missing = ("x"):rep((head.length or 0) - #rest)
  return missing, rest .. missing
end

local function stays_open(bytes, head)
  if head.keep_alive ~= nil then return head.keep_alive end
  return not bytes:find("HTTP/1.0\r\n", 1, true)
end

-- A head that is answered, then with another request, or with what is in the vector.
local function add_request(case, head, limits)
  local has_content = head.body or head.length
  local missing, content = content_of(head)
  if not has_content then missing, content = "", "" end
  case.bytes = case.bytes .. missing
  case.answers = { seen_of(head, content), head.after }
  case.open = stays_open(case.bytes, head) and not head.after
  if not limits and (has_content or not head.rest) then ask_again(case) end
end

local function head_case(name, bytes, head, limits)
  local case = new_case(name, bytes)
  case.prelude = limits and limits_line(limits)
  if type(head) == "number" then
    case.answers = { head }
  elseif head == "more" then
    case.open = true
  elseif (head.length or 0) > BODY_LIMIT then
    case.answers = { 413 }
  else
    add_request(case, head, limits)
  end
  return case
end

local function chunked_case(name, bytes, outcome)
  local case = new_case(name, bytes)
  case.bytes = vectors.stream(bytes)
  for i, cut in ipairs(case.cuts) do case.cuts[i] = cut + #case.bytes - #bytes end
  if type(outcome) == "number" then
    case.answers = { outcome }
  else
    case.open = true
    case.answers = { outcome.content and { content = outcome.content,
      trailers = outcome.trailers and fields_of(outcome.trailers) } }
    case.ended = outcome == "more" and 400
    if outcome.content and not outcome.rest then ask_again(case) end
  end
  return case
end

local function conversation_case(name, bytes, outcome)
  local case = new_case(name, bytes)
  case.open = not outcome.closed
  case.ended = #outcome == 0 and 400
  for i, answer in ipairs(outcome) do
    if type(answer) == "string" then
      local method, target, content = answer:match "^(%S+) (%S+) (.*)$"
      case.answers[i] = { method = method, target = target, content = content }
    else
      case.answers[i] = answer
      case.open = false
    end
  end
  return case
end

local cases = {}
for _, group in ipairs(vectors.heads) do
  for _, vector in ipairs(group[2]) do
    cases[#cases + 1] = head_case(table.unpack(vector, 1, 4))
  end
end
for _, vector in ipairs(vectors.chunked) do
  cases[#cases + 1] = chunked_case(table.unpack(vector, 1, 3))
end
for _, vector in ipairs(vectors.conversations) do
  cases[#cases + 1] = conversation_case(table.unpack(vector, 1, 3))
end

-- What is ------------------------------------------------------------------------------

-- Without what depends on the time, or on whether content has waited to be asked for.
local function normal(text)
  return (text:gsub("\r\nDate: [^\r]*", ""):gsub("HTTP/1.1 100 Continue\r\n\r\n", ""))
end

-- { { status, body, closes }, ... }
local function answers_in(text)
  local answers, at = {}, 1
  while at <= #text do
    local head, past = text:match("^(HTTP/1.1 %d%d%d .-\r\n\r\n)()", at)
    assert(head, "no answer: " .. text:sub(at))
    local length = tonumber(head:match "Content%-Length: (%d+)" or 0)
    at = past + length
    answers[#answers + 1] = { status = tonumber(head:match " (%d+) "),
      body = text:sub(past, at - 1), closes = head:find "Connection: close" ~= nil }
  end
  return answers
end

local function check_answer(expected, answer)
  local is_seen = type(expected) == "table"
  assert.equal(is_seen and 200 or expected, answer.status, answer.body)
  local seen = is_seen and load(answer.body)()
  for name, value in pairs(is_seen and expected or {}) do
    assert.same(value, seen[name], name)
  end
end

local function check(answers, open, text)
  local given = answers_in(text)
  assert.equal(#answers, #given, text)
  for i, expected in ipairs(answers) do check_answer(expected, given[i]) end
  if #given > 0 then assert.equal(not open, given[#given].closes, text) end
end

describe("a server in this process", function()
  local plain, limited = load(PLAIN)(), load(LIMITED)()

  -- What has come, and whether more may come.
  local function received(client)
    local text = client:read "a"
    return text or client:unread(), text == nil
  end

  -- All that is answered to the bytes, cut in two, and whether more could be asked.
  local function answered(case, cut)
    local client <close> = test.connect(case.prelude and limited or plain)
    if case.prelude then client:write(case.prelude) end
    client:settimeout(0)
    client:write(case.bytes:sub(1, cut))
    local first, open = received(client)
    client:write(case.bytes:sub(cut + 1)) -- to nobody, if it was closed
    local second, still_open = received(client)
    return normal(first .. second), open and still_open
  end

  for _, case in ipairs(cases) do
    it(case.name, function()
      local whole, open = answered(case, 0)
      check(case.answers, case.open, whole)
      assert.equal(case.open, open)
      for _, cut in ipairs(case.cuts) do
        local text, still_open = answered(case, cut)
        if text ~= whole then assert.equal(whole, text, "cut at " .. cut) end
        assert.equal(open, still_open, "cut at " .. cut)
      end
    end)
  end
end)

describe("a server over TCP", function()
  local ways = { ["in one piece"] = 1, ["in three pieces"] = 3 }
  local texts = {} -- [way][case]: what it is answered before both sides have ended

  -- The worker has read all that was written before: it has been round its loop.
  local function let_it_read(watch)
    for _ = 1, 2 do
      watch:write(AGAIN)
      local length
      repeat
        local line = watch:read()
        length = tonumber(line:match "^Content%-Length: (%d+)") or length
      until line == ""
      watch:read(length)
    end
  end

  local function write_pieces(clients, batch, pieces, watch)
    for piece = 1, pieces do
      for i, case in ipairs(batch) do
        local size = #case.bytes / pieces
        local first, last = size * (piece - 1) // 1 + 1, size * piece // 1
        clients[i]:write(case.bytes:sub(first, last))
      end
      let_it_read(watch)
    end
  end

  local function ask(server, batch, way)
    local clients = server:connect_many(#batch)
    local watch <close> = server:connect()
    if batch[1].prelude then watch:write "\n" end
    for i, case in ipairs(batch) do
      if case.prelude then clients[i]:write(case.prelude) end
    end
    write_pieces(clients, batch, ways[way], watch)
    for i, case in ipairs(batch) do
      clients[i]:shutdown()
      texts[way][case] = normal(clients[i]:read "a" or clients[i]:unread())
    end
    harness.close_all(clients)
  end

  local function ask_all(server, list, way)
    for i = 1, #list, AT_ONCE do
      ask(server, table.move(list, i, math.min(i + AT_ONCE - 1, #list), 1, {}), way)
    end
  end

  local function run(script, list)
    local server <close> = harness.run { script = script }
    for way in pairs(ways) do ask_all(server, list, way) end
  end

  setup(function()
    local plain, limited = {}, {}
    for _, case in ipairs(cases) do
      local list = case.prelude and limited or plain
      list[#list + 1] = case
    end
    for way in pairs(ways) do texts[way] = {} end
    run(PLAIN, plain)
    run(LIMITED, limited)
  end)

  for way in pairs(ways) do
    describe(way, function()
      for _, case in ipairs(cases) do
        it(case.name, function()
          local answers = table.move(case.answers, 1, #case.answers, 1, {})
          answers[#answers + 1] = case.ended or nil
          check(answers, case.open and not case.ended, texts[way][case])
        end)
      end
    end)
  end
end)
