local lua_pack = require "native.lua_pack"

local pack, unpack = lua_pack.pack, lua_pack.unpack

local function round_trip(value)
  local ok, copy = unpack(assert(pack(value)))
  assert.is_true(ok)
  return copy
end

local function nested(n, inner)
  local value = inner
  for _ = 1, n do value = { value } end
  return value
end

-- A value with every kind in it, another one each time.
local function random_value(depth)
  local kind = math.random(depth < 4 and 7 or 5)
  if kind == 1 then return math.random(math.mininteger, math.maxinteger) end
  if kind == 2 then return math.random() * 10.0 ^ math.random(-300, 300) end
  if kind == 3 then return math.random() < 0.5 end
  if kind == 4 then return ("x"):rep(math.random(0, 40)) end
  if kind == 5 then return ("\0\255\n"):rep(math.random(0, 3)) end
  local t = {}
  for i = 1, math.random(0, 5) do
    t[kind == 6 and i or random_value(9)] = random_value(depth + 1)
  end
  return t
end

describe("a packed value", function()
  it("comes back as it was", function()
    for _, value in ipairs {
      false, true, 0, -1, math.maxinteger, math.mininteger, 0.5, -0.0, 1e308, math.huge,
      -math.huge, 2 ^ 53, "", "text", "\0\255", ("x"):rep(100000), {}, { 1, 2, 3 },
      { a = 1, [2] = "b", [false] = true, [1.5] = {} }, { { { "deep" } } },
    } do
      assert.same(value, round_trip(value))
    end
    assert.same({ true, nil }, { unpack(assert(pack(nil))) })
    assert.equal(2, select("#", unpack(assert(pack(nil)))))
  end)

  it("keeps integers and floats apart, and NaN", function()
    assert.equal("integer", math.type(round_trip(3)))
    assert.equal("float", math.type(round_trip(3.0)))
    assert.equal(-math.huge, 1 / round_trip(-0.0))
    local nan = round_trip(0 / 0)
    assert.is_true(nan ~= nan)
  end)

  it("is a copy, of what is in it twice too", function()
    local shared = { 1 }
    local copy = round_trip { shared, shared }
    assert.same({ { 1 }, { 1 } }, copy)
    assert.not_equal(copy[1], copy[2])
  end)

  it("may be as deep as is allowed and as long as its limit", function()
    assert.same(nested(100), round_trip(nested(100)))
    local bytes = pack(("x"):rep(100))
    assert.equal(bytes, pack(("x"):rep(100), #bytes))
    assert.is_nil((pack(("x"):rep(100), #bytes - 1)))
    assert.equal("n", pack(nil, 1))
    assert.is_nil((pack(nil, 0)))
  end)
end)

describe("what cannot be packed", function()
  local function why(value, limit)
    local bytes, sentence = pack(value, limit)
    assert.is_nil(bytes)
    return sentence
  end

  it("is said with the path to it", function()
    local loop = { a = { b = {} } }
    loop.a.b.c = loop.a
    for sentence, value in pairs {
      ["state is a function"] = print,
      ["state is a thread"] = coroutine.create(print),
      ["state is a userdata"] = io.stdout,
      ["state.on_end is a function"] = { on_end = print },
      ["state.rooms[3].file is a userdata"] = { rooms = { 1, 2, { file = io.stdout } } },
      ['state["a b"].x is a function'] = { ["a b"] = { x = print } },
      ['state["1a"] is a function'] = { ["1a"] = print },
      ['state[""] is a function'] = { [""] = print },
      ["state[true][1.5][-2] is a function"] = { [true] = { [1.5] = { [-2] = print } } },
      ["state.a.b.c is a table inside itself"] = loop,
      ["state.object is a table with a metatable"] = { object = setmetatable({}, {}) },
      ["state.x has a table for a key"] = { x = { [{}] = 1 } },
      ["state.x has a function for a key"] = { x = { [print] = 1 } },
    } do
      assert.equal(sentence, why(value))
    end
  end)

  it("is said of what is too deep, too, and of a key that is long", function()
    assert.equal("state" .. ("[1]"):rep(100) .. " is nested too deep", why(nested(101)))
    assert.equal('state["' .. ("k"):rep(32) .. '..."] is a function',
      why { [("k"):rep(33)] = print })
  end)

  it("is said of what is too long", function()
    assert.equal("state.text makes it more than 50 bytes",
      why({ text = ("x"):rep(100) }, 50))
    assert.matches("^state%S* makes it more than 5 bytes$", why({ 1 }, 5))
  end)

  it("leaves other values alone", function()
    local value = { 1, print }
    why(value)
    assert.same({ 1, print }, value)
  end)
end)

describe("bytes that nobody packed", function()
  it("are refused", function()
    for _, bytes in ipairs {
      "", "x", "nn", "{", "}", "{}}", "{n", "{nn}", "{t}", "{{}t}", "i", "i1234567",
      "s", "s\1\0\0\0\0\0\0\0", "s\255\255\255\255\255\255\255\255x", "ttt",
      "{d" .. string.pack("=d", 0 / 0) .. "t}", ("{t"):rep(101) .. "t" .. ("}"):rep(101),
      ("{t"):rep(100000),
    } do
      assert.is_false((unpack(bytes)))
    end
    assert.is_true((unpack(("{t"):rep(100) .. "t" .. ("}"):rep(100))))
  end)

  it("are refused at every cut", function()
    local bytes = pack { a = { 1, 2.5, "text", true }, b = false }
    for n = 0, #bytes - 1 do assert.is_false((unpack(bytes:sub(1, n)))) end
    assert.is_true((unpack(bytes)))
    assert.is_false((unpack(bytes .. "n")))
  end)

  it("never do more than be refused", function()
    math.randomseed(5)
    local accepted = 0
    for _ = 1, 2000 do
      local value = random_value(1)
      local bytes = assert(pack(value))
      assert.same(value, select(2, unpack(bytes)))
      local at = math.random(#bytes)
      local broken = bytes:sub(1, at - 1) .. string.char(math.random(0, 255))
        .. bytes:sub(at + 1)
      local ok, other = unpack(broken)
      if ok then -- then it is a value like any other
        accepted = accepted + 1
        assert(pack(other))
      end
    end
    assert.is_true(accepted > 0 and accepted < 2000)
  end)
end)
