local fd = require "native.fd"
local harness = require "server"
local parcel = require "native.parcel"
local process = require "native.process"

local samples = {
  { why = "reload", counted = false, input = "" },
  { why = "reload", counted = true, input = "GET / HT" },
  { why = "reload", counted = false, input = "", state = "" },
  { why = "reload", counted = true, input = "line\n\0", state = "n" },
  { why = "reload", counted = false, input = ("x"):rep(1 << 20),
    state = ("y"):rep(70000) },
}

describe("a parcel", function()
  it("comes back as it was", function()
    for _, sample in ipairs(samples) do
      assert.same(sample, parcel.read(parcel.write(sample)))
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
    local good = { 0, 0, 1, 0, 1, 1 }
    local function bytes(changes)
      local head = table.move(good, 1, 6, 1, {})
      for i, value in pairs(changes) do head[i] = value end
      return string.pack("=I4I4I4I4I8I8", table.unpack(head)) .. "is"
    end
    assert.same({ why = "reload", counted = false, input = "i", state = "s" },
      parcel.read(bytes {}))
    for i, bad in ipairs { { 3, 99, 0xffffffff }, { 2 }, { 0, 2 }, { 1 },
      { 0, 2, 3, -1, 1 << 32 }, { 0, 2, -1, -2, math.mininteger } } do
      for _, value in ipairs(bad) do assert.is_nil(parcel.read(bytes { [i] = value })) end
    end
    assert.is_nil(parcel.read(bytes { [5] = 2, [6] = -1 }))
    assert.is_nil(parcel.read(bytes { [5] = -1, [6] = 2 }))
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
