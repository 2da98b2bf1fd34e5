-- What luassert learns to say about answers and clients:
--
--     assert.response(answer).has.status(200)
--     assert.response(answer).has.header("Content-Type")              it is there
--     assert.response(answer).has.header("Content-Type", "text/html") and is this
--     assert.response(answer).has.no.header "Server"
--     assert.response(answer).has.body "Hello!\n"
--     assert.response(answer).has.body_matching "^Hello"
--     assert.response(answer).has.json { title = "Milk" }
--     assert.client(client).closes(30)       within 30 seconds, 60 if left out
--     assert.eventually(function() return #list == 3 end, 10)    likewise
--
-- All of response can be said one after the other: assert.response(app:get "/") keeps the
-- answer. Where there is none, what came in its place is said.

local assert = require "luassert"
local diff = require "moonpool.test_diff"
local say = require "say"
local time = require "moonpool.test_time"
local util = require "luassert.util"

local PATIENCE = 60 -- seconds

say:set("moonpool.said", "%s")

-- What is said when it fails, already as text.
local function explain(arguments, text)
  for i = 1, arguments.n or #arguments do arguments[i] = nil end
  arguments[1], arguments.n, arguments.nofmt = text, 1, { true }
end

local function register(name, check)
  assert:register("assertion", name, function(state, arguments)
    local holds, text, next_state = check(state, arguments[1], arguments[2])
    explain(arguments, text)
    return holds, next_state and { next_state }
  end, "moonpool.said", "moonpool.said")
end

-- Answers ------------------------------------------------------------------------------

local function head_of(answer)
  local lines = { ("HTTP/%s %d %s"):format(answer.version, answer.status, answer.reason) }
  for _, field in ipairs(answer.fields) do
    lines[#lines + 1] = field[1] .. ": " .. field[2]
  end
  return table.concat(lines, "\n")
end

local function whole(answer)
  local body = answer.body
  if #body > 2000 then body = body:sub(1, 2000) .. ("... (%d bytes)"):format(#body) end
  return head_of(answer) .. "\n\n" .. body
end

assert:register("modifier", "response", function(state, arguments, level)
  if not arguments then return state end
  local answer = arguments[1]
  if type(answer) ~= "table" or not answer.fields then
    error(("there is no answer: %s%s"):format(tostring(arguments[2] or answer),
      arguments[3] and " (" .. tostring(arguments[3]) .. ")" or ""), (level or 1) + 1)
  end
  rawset(state, "answer", answer)
  return state
end)

local function answer_of(state)
  return rawget(state, "answer") or error("assert.response(answer) comes first", 0)
end

-- Each can be followed by another.
local function about_answers(name, check)
  register(name, function(state, ...)
    local answer = answer_of(state)
    local holds, text = check(answer, ...)
    return holds, text, assert.response(answer)
  end)
end

about_answers("status", function(answer, expected)
  return answer.status == expected,
    ("expected %s %s, but the answer is\n%s"):format(
      answer.status == expected and "another status than" or "status",
      tostring(expected), whole(answer))
end)

about_answers("header", function(answer, name, expected)
  local value = answer.headers[name]
  local holds = value ~= nil and (expected == nil or value == tostring(expected))
  local what = expected and ("%s: %s"):format(name, tostring(expected)) or name
  return holds, ("expected %s field %s, but the answer has\n%s"):format(
    holds and "no" or "a", what, head_of(answer))
end)

about_answers("body", function(answer, expected)
  return answer.body == expected, answer.body == expected
    and "expected another body than\n" .. answer.body
    or "the body differs (- expected, + got):\n" .. diff.lines(expected, answer.body)
end)

about_answers("body_matching", function(answer, pattern)
  return answer.body:find(pattern) ~= nil,
    ("expected a body matching %q, but the answer is\n%s"):format(pattern, whole(answer))
end)

about_answers("json", function(answer, expected)
  local ok, value = pcall(function() return answer.json end)
  if not ok then return false, value end
  local holds = util.deepcompare(expected, value, true)
  return holds, holds and "expected other JSON than\n" .. diff.pretty(value)
    or "the JSON differs (- expected, + got):\n"
      .. diff.lines(diff.pretty(expected) .. "\n", diff.pretty(value) .. "\n")
end)

-- Clients ------------------------------------------------------------------------------

assert:register("modifier", "client", function(state, arguments)
  if arguments then rawset(state, "client", arguments[1]) end
  return state
end)

-- What comes until the end, or until the time is over.
local function read_to_end(client, seconds)
  client:settimeout(seconds + 1e-6) -- what happens just then counts
  local text, _, code = client:read "a"
  client:settimeout(nil)
  return code ~= "ETIMEDOUT", text or ""
end

register("closes", function(state, seconds)
  local client = rawget(state, "client") or error("assert.client(client) comes first", 0)
  local closed, text = read_to_end(client, seconds or PATIENCE)
  if closed then return true, "the connection was closed, after\n" .. text end
  return false, ("the connection was not closed within %g seconds\n%s"):format(
    seconds or PATIENCE, time.waiting())
end)

register("eventually", function(_, condition, seconds)
  local value, why = time.eventually(condition, seconds or PATIENCE)
  return value, ("this did not come true within %g seconds%s\n%s"):format(
    seconds or PATIENCE, why and ": " .. tostring(why) or "", time.waiting())
end)
