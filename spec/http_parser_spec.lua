-- The HTTP parser alone. Every vector is fed whole, byte by byte and cut in two in every
-- place, and has one outcome.

local http = require "native.http"
local vectors = require "http_vectors"

local make = vectors.make
local line, with, old, hex, bytes_of = make.line, make.with, make.old, make.hex,
  make.bytes_of
local last = "0\r\n\r\n"

-- A result as one string, fields in order, so that two are compared fast and shown well.
local function show(result)
  local names, lines = {}, {}
  for name in pairs(result) do
    if name ~= "headers" and name ~= "reason" then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    lines[#lines + 1] = ("%s = %s"):format(name, result[name])
  end
  for _, h in ipairs(result.headers or {}) do
    lines[#lines + 1] = ("header %q: %q"):format(h.name, h.value)
  end
  return table.concat(lines, "\n")
end

local function every_byte(bytes)
  local cuts = {}
  for i = 1, #bytes do cuts[i] = i end
  return cuts
end

-- feed(cuts) must give the same at every cut of bytes; returns what it gives.
local function same_at_every_cut(bytes, feed)
  local whole = feed(nil)
  local shown = show(whole)
  local function compare(how, result)
    local other = show(result)
    if other ~= shown then assert.equal(shown, other, how) end
  end
  compare("byte by byte", feed(every_byte(bytes)))
  for _, cut in ipairs(vectors.cuts(bytes)) do compare("cut at " .. cut, feed { cut }) end
  return whole
end

local not_of_the_head = { rest = true, after = true, answer = true }

local function check_fields(expected, got)
  local fields = {}
  for i, h in ipairs(got.headers) do fields[i] = h.name .. ": " .. h.value end
  for name, value in pairs(expected) do
    if name == "fields" then
      assert.same(value, fields)
    elseif not not_of_the_head[name] then
      assert.equal(value, got[name], name)
    end
  end
end

local function check_whole(bytes, expected, got, limits)
  assert.equal("whole", got.outcome, got.reason)
  assert.equal(#bytes - #(expected.rest or ""), got.head_len)
  assert.equal("more", http.parse(bytes:sub(1, got.head_len - 1), limits).outcome)
  check_fields(expected, got)
end

local function check_head(bytes, expected, limits)
  local got = same_at_every_cut(bytes, function(cuts)
    return http.parse(bytes, limits, cuts)
  end)
  if type(expected) == "table" then
    check_whole(bytes, expected, got, limits)
  elseif expected == "more" then
    assert.equal("more", got.outcome, got.reason)
  else
    assert.equal("refused", got.outcome)
    assert.equal(expected, got.status, got.reason)
    assert.truthy(#got.reason > 0)
  end
end

local function check_chunked(bytes, expected)
  local got = same_at_every_cut(bytes, function(cuts)
    return http.chunked(bytes, cuts)
  end)
  if type(expected) == "table" then
    assert.equal("over", got.outcome, got.reason)
    assert.equal(expected.content, got.content)
    assert.equal(expected.trailers or got.trailers, got.trailers)
    assert.equal(#bytes - #(expected.rest or ""), got.used)
  elseif expected == "more" then
    assert.equal("more", got.outcome, got.reason)
    assert.equal(#bytes, got.used)
  else
    assert.equal("refused", got.outcome)
    assert.equal(expected, got.status, got.reason)
  end
end

-- The content of a request whose head has been read: it and what follows; or nil and the
-- status, if it is refused.
local function content_of(request, bytes, cut)
  if request.body == "chunked" then
    local got = http.chunked(bytes, { cut })
    if got.outcome ~= "over" then return nil, got.status end
    return got.content, bytes:sub(got.used + 1)
  end
  if #bytes < request.length then return nil end
  return bytes:sub(1, request.length), bytes:sub(request.length + 1)
end

-- What is answered to the request at the front of bytes, and what follows it: nil if that
-- was the last to be read, false if because it said so; offset: of bytes in all of them.
local function answer_to(bytes, cut, offset)
  local content, rest
  local request = http.parse(bytes, nil, { cut - offset })
  if request.outcome ~= "whole" then return request.status end
  rest = bytes:sub(request.head_len + 1)
  content, rest = content_of(request, rest, cut - offset - request.head_len)
  if not content then return rest end
  return ("%s %s %s"):format(request.method, request.target, content),
    request.keep_alive and rest
end

local function answers_to(bytes, cut)
  local answers, rest = {}, bytes
  repeat
    answers[#answers + 1], rest = answer_to(rest, cut, #bytes - #rest)
  until not rest
  answers.closed = rest == false or nil
  return answers
end

describe("a request head", function()
  for _, group in ipairs(vectors.heads) do
    describe("(" .. group[1] .. ")", function()
      for _, vector in ipairs(group[2]) do
        local name, bytes, outcome, limits = table.unpack(vector, 1, 4)
        it(name, function() check_head(bytes, outcome, limits) end)
      end
    end)
  end

  it("has every control but HTAB refused in every place of a value", function()
    for _, control in ipairs { bytes_of(0, 8), bytes_of(10, 31), "\127" } do
      for c in control:gmatch "." do
        for at = 0, 20 do
          local value = ("x"):rep(at) .. c .. ("x"):rep(20 - at)
          assert.equal(400, http.parse(with("A: " .. value)).status)
        end
      end
    end
  end)

  it("is not held up by more than a method and a space can be", function()
    for b = 0, 255 do
      local c = string.char(b)
      local token = c:find "[%w!#$%%&'*+%-.^_`|~]" ~= nil
      assert.equal((token or c == "\r") and "more" or "refused", http.parse(c).outcome)
    end
  end)

  it("says it when a client speaks TLS", function()
    assert.equal("TLS on a plain port", http.parse("\x16\x03\x01").reason)
  end)

  it("can be found one after the other in pipelined requests", function()
    local input = line "GET /1 HTTP/1.1" .. with "A: b" .. line "GET /3 HTTP/1.0"
    local paths = {}
    while #input > 0 do
      local got = http.parse(input)
      paths[#paths + 1] = got.path
      input = input:sub(got.head_len + 1)
    end
    assert.same({ "/1", "/", "/3" }, paths)
  end)
end)

describe("a chunked body", function()
  for _, vector in ipairs(vectors.chunked) do
    local name, bytes, expected = table.unpack(vector, 1, 3)
    it(name, function() check_chunked(bytes, expected) end)
  end

  -- The two below are long: cut in every place they would take minutes.
  local function outcome_of(bytes)
    local whole, single = http.chunked(bytes), http.chunked(bytes, every_byte(bytes))
    assert.equal(show(whole), show(single))
    return whole.status or whole.outcome
  end

  it("9112 7.1.1: has extensions that do not outweigh its content by much", function()
    local function chunk(size, extension)
      return ("%x;%s\r\n%s\r\n"):format(size, ("e"):rep(extension - 1), ("c"):rep(size))
    end
    assert.equal("over", outcome_of(chunk(1, 200):rep(40) .. last))
    assert.equal(400, outcome_of(chunk(1, 200):rep(42) .. last))
    assert.equal("over", outcome_of(chunk(300, 200):rep(100) .. last))
  end)

  it("6585 5: has a trailer section of at most 8 KiB", function()
    local function trailers(size) return "A: " .. ("x"):rep(size - 7) .. "\r\n\r\n" end
    assert.equal("over", outcome_of("0\r\n" .. trailers(8192)))
    assert.equal(431, outcome_of("0\r\n" .. trailers(8193)))
    assert.equal(431, outcome_of("0\r\n" .. ("A: b\r\n"):rep(9999)))
  end)
end)

describe("a connection", function()
  for _, vector in ipairs(vectors.conversations) do
    local name, bytes, answers = table.unpack(vector, 1, 3)
    it(name, function()
      for _, cut in ipairs(vectors.cuts(bytes)) do
        assert.same(answers, answers_to(bytes, cut), "cut at " .. cut)
      end
    end)
  end
end)

describe("http_find", function()
  local bytes = with "Accept: a\r\nX-Two: 1\r\nx-two: 2\r\nEmpty:"

  it("finds the first of a name, in any case", function()
    assert.equal("a", http.find(bytes, "accept"))
    assert.equal("1", http.find(bytes, "x-two"))
    assert.equal("", http.find(bytes, "empty"))
  end)

  it("finds whole names only", function()
    assert.is_nil(http.find(bytes, "accep"))
    assert.is_nil(http.find(bytes, "accept-encoding"))
    assert.is_nil(http.find(bytes, ""))
  end)

  it("does not take a control byte for an upper case letter", function()
    assert.is_nil(http.find(with "X_Y: 1", "x\127y"))
    assert.is_nil(http.find(with "X^Y: 1", "x~y"))
  end)
end)

describe("http_phrase", function()
  it("knows the statuses", function()
    local known = {
      [100] = "Continue", [200] = "OK", [204] = "No Content", [304] = "Not Modified",
      [404] = "Not Found", [405] = "Method Not Allowed", [413] = "Content Too Large",
      [417] = "Expectation Failed", [431] = "Request Header Fields Too Large",
      [505] = "HTTP Version Not Supported", [511] = "Network Authentication Required",
    }
    for status, phrase in pairs(known) do assert.equal(phrase, http.phrase(status)) end
  end)

  it("has a word for all others", function()
    for _, status in ipairs { -1, 0, 99, 104, 199, 299, 306, 418, 512, 600, 1 << 30 } do
      assert.equal("Unknown", http.phrase(status))
    end
  end)
end)

-- A small fuzz, the same on each run: good input, spoilt a little, cut somewhere.
describe("whatever comes", function()
  local special = {
    "\0", "\t", "\n", "\r", "\r\n", " ", ",", ":", ";", "0", "f", "\127", "\xff",
    "chunked", "Transfer-Encoding: chunked\r\n", "Content-Length: 1\r\n", "Host: b\r\n",
  }

  local function spoil(bytes)
    local at = math.random(#bytes + 1)
    local past = math.min(#bytes + 1, at + math.random(0, 3))
    local piece = special[math.random(#special)]
    local kind = math.random(20)
    if kind == 1 then return bytes:sub(1, at) end
    if kind > 15 then piece = "" end
    if kind < 6 then piece = string.char(math.random(0, 255)) end
    if kind == 6 then piece = bytes:sub(at, past - 1):rep(2) end
    return bytes:sub(1, at - 1) .. piece .. bytes:sub(past)
  end

  local function fuzz(seeds, rounds, feed)
    math.randomseed(9112)
    local outcomes = {}
    for round = 1, rounds do
      local bytes = seeds[round % #seeds + 1]
      for _ = 1, math.random(3) do bytes = spoil(bytes) end
      local whole = feed(bytes, nil, round)
      local shown = show(whole)
      for _, cuts in ipairs { every_byte(bytes), { math.random(0, #bytes) } } do
        local other = show(feed(bytes, cuts, round))
        if other ~= shown then assert.equal(shown, other, ("%q"):format(bytes)) end
      end
      outcomes[whole.outcome] = (outcomes[whole.outcome] or 0) + 1
    end
    return outcomes
  end

  it("a head is read the same at every cut", function()
    local minimal = line "GET / HTTP/1.1"
    local seeds = { minimal, "\r\n" .. minimal, line "CONNECT b:443 HTTP/1.1",
      line "OPTIONS * HTTP/1.1", line "GET http://b:80/c?d HTTP/1.1",
      with "Content-Length: 3\r\nExpect: 100-continue" .. "abc",
      with "Connection: close, upgrade\r\nUpgrade: x\r\nA: \t\xff " .. minimal,
      with "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
      old "Connection: keep-alive" }
    local sizes = {
      false, { head = 48 }, { target = 4 }, { headers = 2, target = 8, head = 64 },
    }
    local outcomes = fuzz(seeds, 3000, function(bytes, cuts, round)
      return http.parse(bytes, sizes[round // #seeds % #sizes + 1], cuts)
    end)
    for _, outcome in ipairs { "whole", "more", "refused" } do
      assert.truthy(outcomes[outcome] > 100, outcome)
    end
  end)

  it("a chunked body is read the same at every cut", function()
    local seeds = { hex "hello" .. last, hex "a" .. hex "bc" .. "0\r\nA: b\r\n\r\n",
      "5;a=b\r\nhello\r\n" .. last, "5 ;a\r\nhello\r\n00;b\r\nC: d\r\nE:\r\n\r\nGET" }
    local outcomes = fuzz(seeds, 2000, http.chunked)
    for _, outcome in ipairs { "over", "more", "refused" } do
      assert.truthy(outcomes[outcome] > 100, outcome)
    end
  end)
end)
