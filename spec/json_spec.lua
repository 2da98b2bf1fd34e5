local json = require "moonpool.json"

-- How lua-cjson, which is not as exact and not as strict, sees what both accept.
local cjson = require "cjson"

-- A value with every kind in it, another one for each seed.
local function random_value(depth)
  local kind = math.random(depth < 4 and 7 or 5)
  if kind == 1 then return math.random(-100000, 100000) end
  if kind == 2 then return math.random(-999, 999) / 8 end
  if kind == 3 then return math.random() < 0.5 end
  if kind == 4 then return json.null end
  if kind == 5 then
    return (("x\"\\/\n\t\1é€😀"):rep(2):sub(1, math.random(0, 7)))
  end
  local t = {}
  for i = 1, math.random(4) do
    t[kind == 6 and i or "name " .. i] = random_value(depth + 1)
  end
  return t
end

-- What is wrong with a value: the end of what encode raises.
local function fault(value)
  local ok, why = pcall(json.encode, value)
  assert.is_false(ok)
  return (why:gsub("^%S+:%d+: ", ""))
end

local function nested(n, inner)
  local value = inner
  for _ = 1, n do value = { value } end
  return value
end

describe("JSON is written", function()
  it("with its words, numbers and strings", function()
    for text, value in pairs {
      ["true"] = true, ["false"] = false, ["null"] = json.null, ["0"] = 0, ["-12"] = -12,
      ['""'] = "", ['"a/é😀\127"'] = "a/é😀\127",
      ['"\\"\\\\\\b\\f\\n\\r\\t"'] = '"\\\b\f\n\r\t',
      ['"\\u0000\\u001f "'] = "\0\31 ",
    } do
      assert.equal(text, json.encode(value))
    end
  end)

  it("with integers as they are", function()
    for _, i in ipairs { 1 << 53, (1 << 53) + 1, -(1 << 53) - 1, 100000000000000,
      math.maxinteger, math.mininteger } do
      assert.equal(("%d"):format(i), json.encode(i))
      assert.equal(i, json.decode(json.encode(i)))
    end
  end)

  it("with names and strings that need escapes anywhere", function()
    for n = 0, 9 do
      local plain = ("x"):rep(n)
      for text, value in pairs { ["\\n"] = "\n", ["\\u0001"] = "\1", ['\\"'] = '"',
        ["é"] = "é", ["\\\\"] = "\\" } do
        local both = plain .. value .. plain .. value
        local expected = plain .. text .. plain .. text
        assert.equal(('"%s"'):format(expected), json.encode(both))
        assert.equal(('{"%s":[]}'):format(expected),
          json.encode { [both] = json.array() })
        assert.equal(both, json.decode('"' .. expected .. '"'))
      end
    end
  end)

  it("with floats that are read as the same", function()
    for text, value in pairs {
      ["0.1"] = 0.1, ["3"] = 3.0, ["-0"] = -0.0, ["0.30000000000000004"] = 0.1 + 0.2,
      ["9007199254740992"] = 2.0 ^ 53, ["1e+300"] = 1e300,
    } do
      assert.equal(text, json.encode(value))
    end
    for _, value in ipairs { 1 / 3, math.pi, 5e-324, 1.7976931348623157e308, 2 ^ 63 } do
      assert.equal(value, json.decode(json.encode(value)))
    end
  end)

  it("with arrays and objects", function()
    assert.equal('[1,[2,["x"]],{"a":{"b":[]}}]',
      json.encode { 1, { 2, { "x" } }, { a = { b = json.array {} } } })
    assert.equal("{}", json.encode {})
    local value = { a = 1, b = "x", [""] = false }
    assert.same(value, json.decode(json.encode(value)))
  end)

  it("without a look at metatables", function()
    local function never() error "called" end
    local strange = setmetatable({ a = 1 }, { __index = never, __len = never,
      __pairs = never, __name = "moonpool.json.array" })
    assert.equal('{"a":1}', json.encode(strange))
  end)

  it("never with what it cannot say; the error tells where that is", function()
    assert.equal("the value has no JSON: function", fault(print))
    assert.equal("the value.a[2].b has no JSON: thread",
      fault { a = { 1, { b = coroutine.create(print) } } })
    for _, number in ipairs { 1 / 0, -1 / 0, 0 / 0 } do
      assert.equal("the value[1] has no JSON: a number that is infinite or none",
        fault { number })
    end
    for _, t in ipairs { { 1, nil, 3 }, { 1, a = 2 }, json.array { a = 1 } } do
      assert.equal("the value has no JSON: an array with gaps, or with names", fault(t))
    end
    for _, t in ipairs { { [2] = 1 }, { [0] = 1 }, { [1.5] = 1 }, { [true] = 1 } } do
      assert.matches("the value has no JSON: an ", fault(t))
    end
    assert.equal("the value[1] has no JSON: userdata", fault { io.stdout })
    assert.is_false(pcall(json.encode))
  end)

  it("in UTF-8 alone, names too", function()
    for _, text in ipairs { "\x80", "a\xff", "\xc0\x80", "\xc3", "\xe2\x82",
      "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x9f\x98", "\xf0\x80\x80\x80",
      "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
      "\xc3(", "\xe2(\xa1", "\xe2\x82(", "\xf0(\x8c\xbc",
      "\xf0\x9f(\xbc", "\xf0\x9f\x98(" } do
      assert.matches("not UTF%-8$", fault(text))
      assert.matches("not UTF%-8$", fault { [text] = 1 })
      local _, why = json.decode('"' .. text .. '"')
      assert.matches("^not UTF%-8 at byte %d$", why)
    end
    for _, text in ipairs { "\u{80}", "\u{7ff}", "\u{800}", "\u{d7ff}", "\u{e000}",
      "\u{ffff}", "\u{10000}", "\u{10ffff}" } do
      assert.equal('"' .. text .. '"', json.encode(text))
      assert.equal(text, json.decode('"' .. text .. '"'))
    end
  end)

  it("to a depth", function()
    assert.equal(("["):rep(100) .. "1" .. ("]"):rep(100), json.encode(nested(100, 1)))
    assert.matches("too deep, or in itself$", fault(nested(101, 1)))
    local loop = {}
    loop.loop = loop
    assert.matches("too deep, or in itself$", fault(loop))
  end)

  it("to a length, which tables that are in many places reach", function()
    local text, list = ("x"):rep(1 << 20), {}
    for i = 1, 70 do list[i] = text end
    assert.matches("too long$", fault(list))
    local value = {}
    for i = 1, 500 do value[i] = math.maxinteger end
    for _ = 1, 60 do value = { value, value } end
    assert.matches("too long$", fault(value))
    assert.equal('["y"]', json.encode { "y" })
  end)

  it("also by a finalizer that runs meanwhile", function()
    local texts, expected = {}, '["' .. ("é"):rep(100) .. '"]'
    for i = 1, 2000 do
      setmetatable({}, { __gc = function() texts[i] = json.encode { i } end })
      assert.equal(expected, json.encode { ("é"):rep(100) })
    end
    collectgarbage()
    for i, text in pairs(texts) do assert.equal("[" .. i .. "]", text) end
    assert.is_truthy(texts[1])
  end)
end)

describe("JSON is read", function()
  it("with its words, numbers and strings", function()
    for text, value in pairs {
      [" true\n"] = true, ["\tfalse\r"] = false, ["null"] = json.null, ["0"] = 0,
      ["-0.0"] = -0.0, ["12"] = 12, ["-1.5e2"] = -150.0, ["1E+2"] = 100.0,
      ["1e-2"] = 0.01,
      ['""'] = "", ['"\\"\\\\\\/\\b\\f\\n\\r\\t"'] = '"\\/\b\f\n\r\t',
      ['"\\u0000\\u00e9\\u20AC\\ud83d\\uDE00x"'] = "\0é€😀x", ['"a\\nb\\nc"'] = "a\nb\nc",
      ['"\127"'] = "\127",
    } do
      local got, why = json.decode(text)
      assert.equal(value, got, text)
      assert.is_nil(why)
    end
  end)

  it("with integers where they are written so, and have 64 bits", function()
    for text, kind in pairs { ["7"] = "integer", ["7.0"] = "float", ["7e0"] = "float",
      ["-9223372036854775808"] = "integer", ["9223372036854775808"] = "float" } do
      assert.equal(kind, math.type(json.decode(text)), text)
    end
    assert.equal((1 << 53) + 1, json.decode "9007199254740993")
    local digits = ""
    for i = 1, 25 do
      digits = digits .. i % 10
      for _, text in ipairs { digits, "-" .. digits, "-" .. ("9"):rep(i),
        "1" .. ("0"):rep(i) } do
        local value = json.decode("[" .. text .. "]")[1]
        assert.equal(tonumber(text), value)
        assert.equal(math.type(tonumber(text)), math.type(value))
      end
    end
    assert.equal("integer", math.type(json.decode "-0"))
  end)

  it("with arrays and objects", function()
    local value = json.decode ' { "a" : [ 1 , { } , [ ] ] , "" : null } '
    assert.same({ a = { 1, {}, {} }, [""] = json.null }, value)
    assert.equal(json.null, cjson.null)
  end)

  it("strictly, and says where it is not JSON", function()
    for text, why in pairs {
      [""] = "a value expected at byte 1", ["  "] = "a value expected at byte 3",
      ["nul"] = "a value expected at byte 1", ["True"] = "a value expected at byte 1",
      ["NaN"] = "a value expected at byte 1", ["-Infinity"] = "not a number at byte 1",
      ["+1"] = "a value expected at byte 1", [".5"] = "a value expected at byte 1",
      ["\xEF\xBB\xBF1"] = "a value expected at byte 1",
      ["\f1"] = "a value expected at byte 1",
      ["01"] = "not a number at byte 1", ["-"] = "not a number at byte 1",
      ["[1.]"] = "not a number at byte 2", ["1e"] = "not a number at byte 1",
      ["1e+"] = "not a number at byte 1", ["-a"] = "not a number at byte 1",
      ["0x10"] = "something after the value at byte 2",
      ["1 2"] = "something after the value at byte 3",
      ["[1]\0"] = "something after the value at byte 4",
      ["[1]\0\n"] = "something after the value at byte 4",
      ["nullx"] = "something after the value at byte 5",
      ["1e999"] = "a number too large at byte 1",
      ["-1e999"] = "a number too large at byte 1",
      [("1"):rep(129)] = "a number of too many digits at byte 1",
      ["["] = "a value expected at byte 2", ["[1"] = '"," or "]" expected at byte 3',
      ["[1,]"] = "a value expected at byte 4", ["[1}"] = '"," or "]" expected at byte 3',
      ["[,1]"] = "a value expected at byte 2",
      ["[1 2]"] = '"," or "]" expected at byte 4',
      ["{"] = "a name in quotes expected at byte 2",
      ["{a:1}"] = "a name in quotes expected at byte 2",
      ["{1:1}"] = "a name in quotes expected at byte 2",
      ['{"a"}'] = '":" expected at byte 5', ['{"a" 1}'] = '":" expected at byte 6',
      ['{"a":}'] = "a value expected at byte 6",
      ['{"a":1,}'] = "a name in quotes expected at byte 8",
      ['{"a":1 "b"'] = '"," or "}" expected at byte 8',
      ['{"a":1]'] = '"," or "}" expected at byte 7',
      ['{"a":1,"\\u0061":2}'] = "a name that has been there before at byte 16",
      ['{"a":null,"a":2}'] = "a name that has been there before at byte 14",
      ['"abc'] = "a string without its end at byte 5",
      ['"abc\\'] = "no such escape at byte 6",
      ['"abc\\"'] = "a string without its end at byte 7",
      ['"a\0b"'] = "a control character at byte 3",
      ['"\n"'] = "a control character at byte 2",
      ['"\\n\n"'] = "a control character at byte 4",
      ['"\\x"'] = "no such escape at byte 3",
      ['"\\\0"'] = "no such escape at byte 3", ['"\\n\xff"'] = "not UTF-8 at byte 4",
      ['"\\u12g4"'] = "four hex digits expected at byte 6",
      ['"\\u12'] = "four hex digits expected at byte 6",
      ['"\\ud800"'] = "half of a surrogate pair at byte 8",
      ['"\\udc00"'] = "half of a surrogate pair at byte 8",
      ['"\\udc00\\udc00"'] = "half of a surrogate pair at byte 8",
      ['"\\ud800\\n"'] = "half of a surrogate pair at byte 8",
      ['"\\ud800\\u0041"'] = "half of a surrogate pair at byte 14",
      ["'a'"] = "a value expected at byte 1",
      ["[1]//"] = "something after the value at byte 4",
    } do
      assert.same({ nil, why, "EINVAL" }, { json.decode(text) }, text)
    end
  end)

  it("to a depth", function()
    local value = json.decode(("["):rep(100) .. ("]"):rep(100))
    assert.equal("table", type(value))
    assert.same({ nil, "too deep at byte 102", "EINVAL" },
      { json.decode(("["):rep(101)) })
    assert.same({ nil, "too deep at byte 502", "EINVAL" },
      { json.decode(('{"a":'):rep(101)) })
    assert.equal("EINVAL", select(3, json.decode(("["):rep(1000000))))
  end)

  it("as lua-cjson reads and writes it", function()
    for seed = 1, 500 do
      math.randomseed(seed)
      local value = random_value(0)
      local text = json.encode(value)
      assert.same(cjson.decode(text), json.decode(text))
      assert.same(value, json.decode(cjson.encode(value)))
      assert.same(value, json.decode(text))
    end
  end)

  it("or refused, however it is cut or changed, and never more than it says", function()
    local text = '{"a":[1,-2.5e3,"\\u00e9\\ud83d\\ude00é",true],"b":{"c":null}}'
    for cut = 0, #text - 1 do
      assert.equal("EINVAL", select(3, json.decode(text:sub(1, cut))), cut)
    end
    for at = 1, #text do
      for byte = 0, 255 do
        local changed = text:sub(1, at - 1) .. string.char(byte) .. text:sub(at + 1)
        local value, why = json.decode(changed)
        if why then assert.is_nil(value) else assert.equal("table", type(value)) end
      end
    end
  end)
end)

describe("an array", function()
  it("is one when it is empty, if it is marked", function()
    assert.equal("[]", json.encode(json.array()))
    local list = {}
    assert.equal(list, json.array(list))
    assert.equal(list, json.array(list))
    assert.equal('{"a":[]}', json.encode { a = list })
    list[1] = "x"
    assert.equal('["x"]', json.encode(list))
  end)

  it("stays one when it has been read", function()
    for _, text in ipairs { "[]", "{}", '{"a":[{},[]]}', "[[[]]]" } do
      assert.equal(text, json.encode(json.decode(text)))
    end
    local list = json.decode "[1]"
    list[1] = nil
    assert.equal("[]", json.encode(list))
    assert.is_true(json.is_array(list))
    for _, other in ipairs { {}, { 1 }, "[]", 1, json.null, json.decode "{}" } do
      assert.is_false(json.is_array(other))
    end
  end)

  it("has no other metatable, and is a table", function()
    assert.is_false(pcall(json.array, setmetatable({}, {})))
    assert.is_false(pcall(json.array, "x"))
  end)
end)
