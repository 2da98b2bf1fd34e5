local fd = require "native.fd"
local harness = require "server"
local parcel = require "native.parcel"
local process = require "native.process"

local function sample(fields)
  local whole = { why = "reload", counted = false, is_cut = false, crashes = 0,
    input = "", unsent = "" }
  for name, value in pairs(fields) do whole[name] = value end
  return whole
end

local samples = {
  sample {},
  sample { counted = true, input = "GET / HT" },
  sample { state = "", is_cut = true },
  sample { counted = true, input = "line\n\0", unsent = "half", state = "n",
    crashes = 2 },
  sample { input = ("x"):rep(1 << 20), unsent = ("z"):rep(3), state = ("y"):rep(70000) },
}

describe("a parcel", function()
  it("comes back as it was", function()
    for _, whole in ipairs(samples) do
      assert.same(whole, parcel.read(parcel.write(whole)))
    end
  end)

  it("is refused at every cut, and with more behind it", function()
    for i = 1, 4 do
      local bytes = parcel.write(samples[i])
      for n = 0, #bytes - 1 do assert.is_nil(parcel.read(bytes:sub(1, n))) end
      assert.is_nil(parcel.read(bytes .. "x"))
    end
  end)

  it("is refused if its head makes no sense", function()
    local good = { 0, 0, 0, 1, 0, 0, 1, 1, 1 }
    local function bytes(changes)
      local head = table.move(good, 1, 9, 1, {})
      for i, value in pairs(changes) do head[i] = value end
      return string.pack("=I4I4I4I4I4I4I8I8I8", table.unpack(head)) .. "ius"
    end
    assert.same(sample { input = "i", unsent = "u", state = "s" }, parcel.read(bytes {}))
    local lengths = { 0, 2, -1, -2, 1 << 32, math.mininteger }
    for i, bad in pairs { { 5, 99, 0xffffffff }, [3] = { 2 }, [4] = { 0, 2 }, [5] = { 2 },
      [6] = { 1 }, [7] = lengths, [8] = lengths, [9] = lengths } do
      for _, value in ipairs(bad) do assert.is_nil(parcel.read(bytes { [i] = value })) end
    end
    for i = 7, 9 do
      for j = 7, 9 do
        local wrong = bytes { [i] = 3, [j] = -1 }
        if i ~= j then assert.is_nil(parcel.read(wrong)) end
      end
    end
  end)

  it("of any length goes through a descriptor", function()
    local before = harness.descriptors(process.pid())
    for _, n in ipairs { 0, 1, 4096, 100000, 5 << 20 } do
      local text = ("z"):rep(n)
      local file <close> = fd.adopt(assert(parcel.store(text)))
      assert.is_true((fd.flags(file:fileno())))
      assert.equal(text, parcel.load(file:fileno()))
      assert.equal(text, parcel.load(file:fileno())) -- it has not been read away
    end
    assert.equal(before, harness.descriptors(process.pid()))
    assert.same({ nil, "EBADF" }, { parcel.load(-1) })
  end)
end)
