--- Raw frames and what becomes of them, for all who read frames: the reader alone
-- (ws_spec) and a whole server (websocket_vectors_spec).
--
-- A vector is { name, bytes, outcome, limits }. The name begins with the section of
-- RFC 6455 (or 7692, 3629) that decides it. The outcome is a list of what must be found,
-- in order: a message is its text, one of binary { binary = bytes }, a control frame is
-- { ping = data }, { pong = data } or { close = code, reason }. If the connection is to
-- be failed, refused is the code, and at the number of bytes after which it must be,
-- where that is before their end. more: what follows is not whole.

local zlib = require "zlib"

local KEY = "\x37\xfa\x21\x3d" -- of the examples in RFC 6455 5.7

local function xor(data, key)
  local out = {}
  for i = 1, #data do
    out[i] = string.char(data:byte(i) ~ key:byte((i - 1) % 4 + 1))
  end
  return table.concat(out)
end

local function length_of(n, size)
  size = size or (n < 126 and 0 or n < 65536 and 2 or 8)
  if size == 0 then return string.char(0x80 | n) end
  return string.char(0x80 | (size == 2 and 126 or 127)) .. string.pack(">I" .. size, n)
end

--- A frame of a client.
-- @param first its first byte
-- @param data the payload, which is masked here
-- @param o (optional) key; size: bytes of the extended length; length: one that is not
-- the payload's
local function frame(first, data, o)
  o = o or {}
  local key = o.key or KEY
  return string.char(first) .. length_of(o.length or #data, o.size) .. key
    .. xor(data, key)
end

local function text(data, o) return frame(0x81, data, o) end
local function binary(data, o) return frame(0x82, data, o) end
local function ping(data) return frame(0x89, data) end
local function pong(data) return frame(0x8a, data) end
local function close(code, reason)
  return frame(0x88, (code and string.pack(">I2", code) or "") .. (reason or ""))
end

-- The first fragment of text, one in the middle, the last.
local function first(data) return frame(0x01, data) end
local function middle(data) return frame(0x00, data) end
local function last(data) return frame(0x80, data) end

local ok = text "ok"

local frames = {
  { "5.7: a text message", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", { "Hello" } },
  { "5.7: a fragmented text message", first "Hel" .. last "lo", { "Hello" } },
  { "5.7: a ping", "\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
    { { ping = "Hello" } } },
  { "5.7: 256 bytes of binary", binary(("b"):rep(256)), { { binary = ("b"):rep(256) } } },
  { "5.7: 64 KiB of binary", binary(("b"):rep(65536)),
    { { binary = ("b"):rep(65536) } } },
  { "5.2: an empty text", text "", { "" } },
  { "5.2: an empty binary", binary "", { { binary = "" } } },
  { "5.2: one byte", text "x", { "x" } },
  { "5.2: 125 bytes", text(("x"):rep(125)), { ("x"):rep(125) } },
  { "5.2: 126 bytes", text(("x"):rep(126)), { ("x"):rep(126) } },
  { "5.2: 127 bytes", text(("x"):rep(127)), { ("x"):rep(127) } },
  { "5.2: 128 bytes", text(("x"):rep(128)), { ("x"):rep(128) } },
  { "5.2: 65,535 bytes", text(("x"):rep(65535)), { ("x"):rep(65535) } },
  { "5.2: 65,536 bytes", text(("x"):rep(65536)), { ("x"):rep(65536) } },
  { "5.2: 65,537 bytes", text(("x"):rep(65537)), { ("x"):rep(65537) } },
  { "5.2: two messages", text "one" .. text "two", { "one", "two" } },
  { "5.2: text and binary", text "t" .. binary "\xff\0", { "t", { binary = "\xff\0" } } },
  { "5.2: half a head", "\x81", { more = true } },
  { "5.2: a head without its mask", "\x81\x85\x37\xfa", { more = true } },
  { "5.2: half an extended length", "\x81\xfe\x01", { more = true } },
  { "5.2: a head alone", "\x81\x85" .. KEY, { more = true } },
  { "5.2: half a payload", text("Hello"):sub(1, -3), { more = true } },
  { "5.2: half a message after a whole one", ok .. text("Hello"):sub(1, -2),
    { "ok", more = true } },
  { "5.2: 125 bytes with a length of 16 bits", text("x", { size = 2, length = 125 }),
    { refused = 1002, at = 4 } },
  { "5.2: no bytes with a length of 16 bits", text("", { size = 2 }),
    { refused = 1002, at = 4 } },
  { "5.2: 126 bytes with a length of 64 bits", text("x", { size = 8, length = 126 }),
    { refused = 1002, at = 10 } },
  { "5.2: 65,535 bytes with a length of 64 bits", text("x", { size = 8, length = 65535 }),
    { refused = 1002, at = 10 } },
  { "5.2: the highest bit of a length", "\x81\xff\x80" .. ("\0"):rep(7) .. KEY,
    { refused = 1002, at = 10 } },
  { "5.2: all bits of a length", "\x82\xff" .. ("\xff"):rep(8) .. KEY,
    { refused = 1002, at = 10 } },
  { "5.2: RSV1", frame(0xc1, "x"), { refused = 1002, at = 1 } },
  { "5.2: RSV2", frame(0xa1, "x"), { refused = 1002, at = 1 } },
  { "5.2: RSV3", frame(0x91, "x"), { refused = 1002, at = 1 } },
  { "5.2: all reserved bits", frame(0xf1, "x"), { refused = 1002, at = 1 } },
  { "5.2: RSV1 of binary", frame(0xc2, "x"), { refused = 1002, at = 1 } },
  { "5.2: RSV1 of a ping", frame(0xc9, "x"), { refused = 1002, at = 1 } },
  { "5.2: RSV2 of a close", frame(0xa8, ""), { refused = 1002, at = 1 } },
  { "5.2: RSV3 of a continuation", first "x" .. frame(0x90, "x"),
    { refused = 1002, at = 8 } },
  { "5.2: a reserved bit after a message", ok .. frame(0xa1, "x"),
    { "ok", refused = 1002, at = 9 } },
  { "5.2: opcode 0 of no message", frame(0x80, "x"), { refused = 1002, at = 1 } },
  { "5.2: opcode 0, not the last, of no message", frame(0x00, "x"),
    { refused = 1002, at = 1 } },
  { "5.1: text that is not masked", "\x81\x05Hello", { refused = 1002, at = 2 } },
  { "5.1: an empty text that is not masked", "\x81\0", { refused = 1002, at = 2 } },
  { "5.1: a ping that is not masked", "\x89\0", { refused = 1002, at = 2 } },
  { "5.1: a close that is not masked", "\x88\x02\x03\xe8", { refused = 1002, at = 2 } },
  { "5.1: a continuation that is not masked", first "x" .. "\x80\x01x",
    { refused = 1002, at = 9 } },
  { "5.3: a mask of zeros", text("Hello", { key = "\0\0\0\0" }), { "Hello" } },
  { "5.3: a mask of ones", text("Hello", { key = "\xff\xff\xff\xff" }), { "Hello" } },
  { "5.3: a mask that makes zeros", binary("abcdabcdab", { key = "abcd" }),
    { { binary = "abcdabcdab" } } },
  { "5.3: another mask for each frame",
    text("one", { key = "wxyz" }) .. text("two", { key = "1234" }), { "one", "two" } },
  { "5.3: another mask for each fragment",
    frame(0x01, "one ", { key = "wxyz" }) .. frame(0x80, "two", { key = "1234" }),
    { "one two" } },
}

for length = 1, 20 do
  local data = ("abcdefghijklmnopqrst"):sub(1, length)
  frames[#frames + 1] = { ("5.3: the mask over %d bytes"):format(length), text(data),
    { data } }
end

for _, opcode in ipairs { 3, 4, 5, 6, 7, 11, 12, 13, 14, 15 } do
  frames[#frames + 1] = { ("5.2: opcode %d"):format(opcode), frame(0x80 | opcode, "x"),
    { refused = 1002, at = 1 } }
  frames[#frames + 1] = { ("5.4: opcode %d within a message"):format(opcode),
    first "x" .. frame(0x80 | opcode, "x"), { refused = 1002, at = 8 } }
end

local fragments = {
  { "5.4: three fragments", first "a" .. middle "b" .. last "c", { "abc" } },
  { "5.4: fragments of one byte", first "H" .. middle "e" .. middle "l" .. middle "l"
    .. last "o", { "Hello" } },
  { "5.4: an empty first", first "" .. last "x", { "x" } },
  { "5.4: an empty last", first "x" .. last "", { "x" } },
  { "5.4: an empty middle", first "x" .. middle "" .. last "y", { "xy" } },
  { "5.4: all are empty", first "" .. middle "" .. last "", { "" } },
  { "5.4: fragments of binary", frame(0x02, "\xff") .. last "\xfe",
    { { binary = "\xff\xfe" } } },
  { "5.4: two messages of fragments", first "a" .. last "b" .. first "c" .. last "d",
    { "ab", "cd" } },
  { "5.4: a fragment alone", first "x", { more = true } },
  { "5.4: a last fragment twice", first "a" .. last "b" .. last "c",
    { "ab", refused = 1002, at = 15 } },
  { "5.4: text within text", first "a" .. text "b", { refused = 1002, at = 8 } },
  { "5.4: binary within text", first "a" .. binary "b", { refused = 1002, at = 8 } },
  { "5.4: a first within text", first "a" .. first "b", { refused = 1002, at = 8 } },
  { "5.4: text within binary", frame(0x02, "a") .. text "b", { refused = 1002, at = 8 } },
  { "5.4: a ping between fragments", first "Hel" .. ping "?" .. last "lo",
    { { ping = "?" }, "Hello" } },
  { "5.4: pings between all fragments",
    ping "0" .. first "a" .. ping "1" .. middle "b" .. ping "2" .. last "c" .. ping "3",
    { { ping = "0" }, { ping = "1" }, { ping = "2" }, "abc", { ping = "3" } } },
  { "5.4: a pong between fragments", first "Hel" .. pong "!" .. last "lo",
    { { pong = "!" }, "Hello" } },
  { "5.4: a close between fragments", first "Hel" .. close(1000), { { close = 1000 } } },
  { "5.4: many fragments", first "0" .. middle("1"):rep(50) .. last "2",
    { "0" .. ("1"):rep(50) .. "2" } },
}

local control = {
  { "5.5: a ping without data", ping "", { { ping = "" } } },
  { "5.5: a ping of 125 bytes", ping(("p"):rep(125)), { { ping = ("p"):rep(125) } } },
  { "5.5: a ping of 126 bytes", ping(("p"):rep(126)), { refused = 1002, at = 2 } },
  { "5.5: a ping with a length of 64 bits", frame(0x89, "", { size = 8 }),
    { refused = 1002, at = 2 } },
  { "5.5: a pong of 126 bytes", pong(("p"):rep(126)), { refused = 1002, at = 2 } },
  { "5.5: a close of 126 bytes", frame(0x88, ("p"):rep(126)),
    { refused = 1002, at = 2 } },
  { "5.5: a fragmented ping", frame(0x09, "x"), { refused = 1002, at = 1 } },
  { "5.5: a fragmented pong", frame(0x0a, "x"), { refused = 1002, at = 1 } },
  { "5.5: a fragmented close", frame(0x08, ""), { refused = 1002, at = 1 } },
  { "5.5: half a ping", ping("Hello"):sub(1, -2), { more = true } },
  { "5.5.2: ten pings", ping("x"):rep(10), (function()
    local pings = {}
    for i = 1, 10 do pings[i] = { ping = "x" } end
    return pings
  end)() },
  { "5.5.2: a ping of binary data", ping "\xff\0\xfe", { { ping = "\xff\0\xfe" } } },
  { "5.5.3: a pong that nobody asked for", pong "x" .. ok, { { pong = "x" }, "ok" } },
  { "5.5.3: a pong without data", pong "", { { pong = "" } } },
  { "5.5.1: a close without a body", close(), { { close = 1005 } } },
  { "5.5.1: a close with half a code", frame(0x88, "\x03"), { refused = 1002 } },
  { "5.5.1: a close with a code", close(1000), { { close = 1000 } } },
  { "5.5.1: a close with a reason", close(1000, "bye"), { { close = 1000, "bye" } } },
  { "5.5.1: a reason of 123 bytes", close(1000, ("r"):rep(123)),
    { { close = 1000, ("r"):rep(123) } } },
  { "5.5.1: a reason in UTF-8", close(1000, "ciào"), { { close = 1000, "ciào" } } },
  { "5.5.1: a reason that is not UTF-8", close(1000, "\xff"), { refused = 1007 } },
  { "5.5.1: a reason that is cut in a character", close(1000, "\xce"),
    { refused = 1007 } },
}

for _, code in ipairs { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013,
  1014, 3000, 3999, 4000, 4999 } do
  control[#control + 1] = { ("7.4: close code %d"):format(code), close(code),
    { { close = code } } }
end

for _, code in ipairs { 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000,
  65535 } do
  control[#control + 1] = { ("7.4: close code %d, which must not be sent"):format(code),
    close(code), { refused = 1002 } }
end

-- A text that begins with good, and fails with the byte after it.
local function bad_text(name, good, bad)
  return { name, text(good .. bad), { refused = 1007, at = 6 + #good + 1 } }
end

local utf8_text = {
  { "8.1: two bytes", text "é", { "é" } },
  { "8.1: three bytes", text "€", { "€" } },
  { "8.1: four bytes", text "😀", { "😀" } },
  { "8.1: many alphabets", text "κόσμε Ω ß 日本 😀", { "κόσμε Ω ß 日本 😀" } },
  { "8.1: a character in two fragments", first "\xc3" .. last "\xa9", { "é" } },
  { "8.1: a character in four fragments",
    first "\xf0" .. middle "\x9f" .. middle "\x98" .. last "\x80", { "😀" } },
  { "8.1: a ping within a character", first "\xe2\x82" .. ping "?" .. last "\xac",
    { { ping = "?" }, "€" } },
  { "8.1: NUL", text "a\0b", { "a\0b" } },
  { "8.1: binary need not be", binary "\xff\xfe\xc0", { { binary = "\xff\xfe\xc0" } } },
  { "8.1: a byte order mark", text "\xef\xbb\xbfx", { "\xef\xbb\xbfx" } },
  { "3629 4: U+0080", text "\xc2\x80", { "\xc2\x80" } },
  { "3629 4: U+07FF", text "\xdf\xbf", { "\xdf\xbf" } },
  { "3629 4: U+0800", text "\xe0\xa0\x80", { "\xe0\xa0\x80" } },
  { "3629 4: U+D7FF", text "\xed\x9f\xbf", { "\xed\x9f\xbf" } },
  { "3629 4: U+E000", text "\xee\x80\x80", { "\xee\x80\x80" } },
  { "3629 4: U+FFFF", text "\xef\xbf\xbf", { "\xef\xbf\xbf" } },
  { "3629 4: U+10000", text "\xf0\x90\x80\x80", { "\xf0\x90\x80\x80" } },
  { "3629 4: U+10FFFF", text "\xf4\x8f\xbf\xbf", { "\xf4\x8f\xbf\xbf" } },
  bad_text("8.1: a continuation byte alone", "", "\x80"),
  bad_text("8.1: after good text", "Hello ", "\xff"),
  bad_text("8.1: at once, with more to come", "", "\xff" .. ("x"):rep(100)),
  bad_text("8.1: behind 16 bytes of ASCII", ("x"):rep(16), "\xff" .. ("x"):rep(16)),
  bad_text("3629 4: FE", "", "\xfe"),
  bad_text("3629 4: overlong NUL", "", "\xc0\x80"),
  bad_text("3629 4: C1", "", "\xc1\xbf"),
  bad_text("3629 4: overlong in three bytes", "\xe0", "\x9f\xbf"),
  bad_text("3629 4: overlong in four bytes", "\xf0", "\x8f\xbf\xbf"),
  bad_text("3629 3: the first surrogate", "\xed", "\xa0\x80"),
  bad_text("3629 3: the last surrogate", "\xed", "\xbf\xbf"),
  bad_text("3629 4: U+110000", "\xf4", "\x90\x80\x80"),
  bad_text("3629 4: F5", "", "\xf5\x80\x80\x80"),
  bad_text("3629 4: five bytes", "", "\xf8\x88\x80\x80\x80"),
  bad_text("3629 4: six bytes", "", "\xfc\x84\x80\x80\x80\x80"),
  bad_text("3629 4: ASCII in place of the second byte", "\xc3", "x"),
  bad_text("3629 4: ASCII in place of the last byte", "\xf0\x9f\x98", "x"),
  bad_text("3629 4: a character in place of the last byte", "\xe2\x82", "é"),
  { "8.1: the end within a character", text "\xe2\x82", { refused = 1007 } },
  { "8.1: the end within a character of fragments", first "\xe2" .. last "\x82",
    { refused = 1007 } },
  { "8.1: an empty last within a character", first "\xe2\x82" .. last "",
    { refused = 1007 } },
  { "8.1: in the second fragment", first "\xe2\x82" .. last "x\xac",
    { refused = 1007, at = 6 + 2 + 6 + 1 } },
  { "8.1: each message begins anew", text "é" .. text "\xa9",
    { "é", refused = 1007, at = 8 + 7 } },
}

local four = { frame = 4, message = 10 }

local limits = {
  { "7.4.1: a frame of the limit", text "1234", { "1234" }, four },
  { "7.4.1: a frame above it", text "12345", { refused = 1009, at = 2 }, four },
  { "7.4.1: a frame far above it", text("x", { size = 8, length = 1 << 40 }),
    { refused = 1009, at = 10 }, four },
  { "7.4.1: a message of the limit", first "1234" .. middle "1234" .. last "12",
    { "1234123412" }, four },
  { "7.4.1: a message above it", first "1234" .. middle "1234" .. last "123",
    { refused = 1009, at = 22 }, four },
  { "7.4.1: each message for itself", text("1234"):rep(9),
    { "1234", "1234", "1234", "1234", "1234", "1234", "1234", "1234", "1234" }, four },
  { "7.4.1: control frames do not count", first "1234" .. ping(("p"):rep(100))
    .. last "1234", { { ping = ("p"):rep(100) }, "12341234" }, four },
  { "7.4.1: the usual limit", text("x", { size = 8, length = (1 << 20) + 1 }),
    { refused = 1009, at = 10 } },
}

local deflate = { deflate = 1 }

-- The reader hands on what is compressed as it is.
local packed = {
  { "7692 6: RSV1 of text", frame(0xc1, "x"), { "x" }, deflate },
  { "7692 6: RSV1 of binary", frame(0xc2, "x"), { { binary = "x" } }, deflate },
  { "7692 6: none of it", text "x", { "x" }, deflate },
  { "7692 6.1: of the first fragment alone", frame(0x41, "x") .. last "y", { "xy" },
    deflate },
  { "7692 6.1: RSV1 of a continuation", frame(0x41, "x") .. frame(0xc0, "y"),
    { refused = 1002, at = 8 }, deflate },
  { "7692 6.1: RSV1 of a ping", frame(0xc9, ""), { refused = 1002, at = 1 }, deflate },
  { "7692 6.1: RSV1 of a close", frame(0xc8, ""), { refused = 1002, at = 1 }, deflate },
  { "7692 6: RSV2", frame(0xa1, "x"), { refused = 1002, at = 1 }, deflate },
  { "7692 6.2: what is compressed is no text yet", frame(0xc1, "\xff"), { "\xff" },
    deflate },
  { "7692 6.2: what is not is, in the next message", frame(0xc1, "\xff") .. text "\xff",
    { "\xff", refused = 1007, at = 14 }, deflate },
}

-- A message as permessage-deflate sends it, without the context of others (RFC 7692 7.2).
local function pack(message)
  return (zlib.deflate(9, -15)(message, "sync"):sub(1, -5))
end

local function unpack(bytes)
  return (zlib.inflate(-15)(bytes .. "\0\0\xff\xff"))
end

-- Where to cut bytes in two: everywhere, or, if they are many, near both ends and here
-- and there between.
local function cuts(bytes)
  local places = {}
  for at = 0, #bytes do
    local is_near_end = at <= 40 or at >= #bytes - 40
    if #bytes <= 1024 or is_near_end or at % 4093 == 0 then places[#places + 1] = at end
  end
  return places
end

return {
  groups = { { "frames", frames }, { "fragments", fragments }, { "control", control },
    { "UTF-8", utf8_text }, { "limits", limits }, { "compression", packed } },
  cuts = cuts,
  frame = frame, text = text, binary = binary, ping = ping, pong = pong, close = close,
  first = first, middle = middle, last = last,
  pack = pack, unpack = unpack,
}
