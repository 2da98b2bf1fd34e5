-- Frames of the WebSocket protocol. Every vector is fed whole, byte by byte and cut in
-- two in every place, and has one outcome; what is wrong is refused with the byte that
-- is.

local vectors = require "ws_vectors"
local ws = require "native.ws"

local function every_byte(bytes)
  local cuts = {}
  for i = 1, math.min(#bytes, 1024) do cuts[i] = i end
  return cuts
end

local names = { [1] = "text", [2] = "binary", [8] = "close", [9] = "ping", [10] = "pong" }

-- An event as one line, and a list of them as a text that is compared fast.
local function show_event(event)
  return ("%s %s %q"):format(names[event.opcode], event.code or "", event.data)
end

local function show(found, but_at)
  local lines = {}
  for i, event in ipairs(found) do lines[i] = show_event(event) end
  if found.refused then
    lines[#lines + 1] = ("refused %d %s"):format(found.refused, but_at and "" or found.at)
  end
  return table.concat(lines, "\n")
end

local function event_of(expected)
  if type(expected) == "string" then return { opcode = 1, data = expected } end
  if expected.close then
    return { opcode = 8, code = expected.close, data = expected[1] or "" }
  end
  for opcode, name in pairs(names) do
    if expected[name] then return { opcode = opcode, data = expected[name] } end
  end
end

local function show_expected(expected, bytes)
  local found = { refused = expected.refused, at = expected.at or #bytes }
  for i, event in ipairs(expected) do found[i] = event_of(event) end
  return show(found)
end

local function check(bytes, expected, limits)
  local found = ws.read(bytes, limits, every_byte(bytes))
  assert.equal(show_expected(expected, bytes), show(found), found.why)
  local shown = show(found, true)
  for _, cut in ipairs(vectors.cuts(bytes)) do
    local other = show(ws.read(bytes, limits, { cut }), true)
    if other ~= shown then assert.equal(shown, other, "cut at " .. cut) end
  end
  return found
end

for _, group in ipairs(vectors.groups) do
  describe("the reader of frames, " .. group[1], function()
    for _, vector in ipairs(group[2]) do
      it("RFC " .. vector[1], function()
        local name, bytes, expected, limits = table.unpack(vector)
        local found = check(bytes, expected, limits or {})
        if found.refused then assert.is_true(#found.why > 0, name) end
        if not expected.more and not found.refused then
          assert.equal(#bytes, found.used)
        end
      end)
    end
  end)
end

describe("the vectors", function()
  it("are enough, each with its section", function()
    local count = 0
    for _, group in ipairs(vectors.groups) do
      for _, vector in ipairs(group[2]) do
        assert.matches("^%d+[%d.]* ?[%d.]*: %S", vector[1])
        count = count + 1
      end
    end
    assert.is_true(count >= 120, count .. " of them")
  end)
end)

describe("what is written", function()
  it("has the shortest length, RFC 6455 5.2", function()
    for length, head in pairs {
      [0] = "\x81\0", [5] = "\x81\5", [125] = "\x81\x7d", [126] = "\x81\x7e\0\x7e",
      [65535] = "\x81\x7e\xff\xff", [65536] = "\x81\x7f\0\0\0\0\0\1\0\0",
      [1 << 40] = "\x81\x7f\0\0\1\0\0\0\0\0",
    } do
      assert.equal(head, ws.head(1, false, length))
    end
  end)

  it("has its opcode, and RSV1 where it is compressed", function()
    for opcode = 0, 10 do
      assert.equal(string.char(0x80 | opcode, 0), ws.head(opcode, false, 0))
      assert.equal(string.char(0xc0 | opcode, 0), ws.head(opcode, true, 0))
    end
  end)

  it("closes with a code and a reason of 123 bytes at most, RFC 6455 5.5.1", function()
    assert.equal("\x03\xe8", ws.close_payload(1000, ""))
    assert.equal("\x03\xeebye", ws.close_payload(1006, "bye"))
    assert.equal("\x03\xe8" .. ("x"):rep(123), ws.close_payload(1000, ("x"):rep(200)))
  end)

  it("cuts no reason in the middle of a character", function()
    assert.equal("\x03\xe8" .. ("x"):rep(122),
      ws.close_payload(1000, ("x"):rep(122) .. "é"))
    assert.equal("\x03\xe8" .. ("x"):rep(121) .. "é",
      ws.close_payload(1000, ("x"):rep(121) .. "éé"))
  end)
end)

describe("UTF-8", function()
  it("is what Lua's own check takes, of every two bytes", function()
    for a = 0, 255 do
      for b = 0, 255 do
        local bytes = string.char(a, b)
        if (utf8.len(bytes) ~= nil) ~= ws.is_utf8(bytes) then
          assert.equal(utf8.len(bytes) ~= nil, ws.is_utf8(bytes), ("%q"):format(bytes))
        end
      end
    end
  end)

  it("is what Lua's own check takes, of every character", function()
    for code = 0, 0x110010, 7 do
      local bytes = utf8.char(code)
      if (utf8.len(bytes) ~= nil) ~= ws.is_utf8(bytes) then
        assert.equal(utf8.len(bytes) ~= nil, ws.is_utf8(bytes), ("%X"):format(code))
      end
    end
  end)
end)

describe("SHA-1", function()
  local function hex(bytes)
    return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
  end

  it("is RFC 3174's, of its examples", function()
    assert.equal("a9993e364706816aba3e25717850c26c9cd0d89d", hex(ws.sha1 "abc"))
    assert.equal("84983e441c3bd26ebaae4aa1f95129e5e54670f1",
      hex(ws.sha1 "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"))
    assert.equal("34aa973cd4c4daa4f61eeb2bdbad27316534016f", hex(ws.sha1(("a"):rep(1e6))))
    assert.equal("da39a3ee5e6b4b0d3255bfef95601890afd80709", hex(ws.sha1 ""))
  end)

  it("is another library's, of every length up to two blocks", function()
    local digest = require "openssl.digest"
    for length = 0, 200 do
      local text = ("The quick brown fox. "):rep(10):sub(1, length)
      assert.equal(hex(digest.new("sha1"):final(text)), hex(ws.sha1(text)))
    end
  end)
end)
