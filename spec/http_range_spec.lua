local http_range = require "moonpool.http_range"

-- "0-9 20-29", "" of what cannot be satisfied, nil of what is ignored.
local function read(text, size)
  local parts = http_range.read(text, size)
  if not parts then return nil end
  for i, part in ipairs(parts) do
    assert(math.type(part.first) == "integer" and math.type(part.last) == "integer")
    parts[i] = part.first .. "-" .. part.last
  end
  return table.concat(parts, " ")
end

describe("a Range field", function()
  local function check(cases, size)
    for text, expected in pairs(cases) do
      assert.equal(expected, read(text, size), text)
    end
  end

  it("asks for the first, the last, or all after a byte (RFC 9110 14.1.2)", function()
    check({
      ["bytes=0-499"] = "0-499", ["bytes=500-999"] = "500-999", ["bytes=0-0"] = "0-0",
      ["bytes=-500"] = "9500-9999", ["bytes=9500-"] = "9500-9999",
      ["bytes=0-"] = "0-9999",
      ["bytes=-1"] = "9999-9999", ["bytes=9999-"] = "9999-9999",
      ["bytes=9000-20000"] = "9000-9999", ["bytes=-20000"] = "0-9999",
      ["BYTES=1-2"] = "1-2", ["bytes= 1-2 "] = "1-2", ["bytes=001-002"] = "1-2",
    }, 10000)
  end)

  it("may have numbers of any length", function()
    local long = ("9"):rep(5000)
    check({
      ["bytes=1-18446744073709551617"] = "1-9", ["bytes=-18446744073709551617"] = "0-9",
      ["bytes=18446744073709551617-"] = "", ["bytes=9223372036854775807-"] = "",
      ["bytes=0-9223372036854775807"] = "0-9", ["bytes=9223372036854775808-1"] = nil,
      ["bytes=0-" .. long] = "0-9", ["bytes=-" .. long] = "0-9",
      ["bytes=" .. long .. "-"] = "", ["bytes=" .. ("0"):rep(5000) .. "1-1"] = "1-1",
    }, 10)
  end)

  it("cannot be satisfied beyond the end (14.1.2, 15.5.17)", function()
    check({ ["bytes=10-"] = "", ["bytes=10-10"] = "", ["bytes=-0"] = "",
      ["bytes=10-,-0, 50-60"] = "" }, 10)
  end)

  it("may ask for several, of which those count that there are", function()
    check({
      ["bytes=0-9,1000-1009"] = "0-9 1000-1009",
      ["bytes=0-9 , 1000-1009,\t-10"] = "0-9 1000-1009 9990-9999",
      ["bytes=,,0-9,,1000-1009,"] = "0-9 1000-1009", -- 5.6.1.2
      ["bytes=10000-,0-9"] = "0-9", ["bytes=-0,5-6"] = "5-6",
      ["bytes=5000-5009,0-9"] = "5000-5009 0-9", -- in their order (15.3.7.2)
    }, 10000)
  end)

  it("has what overlaps or nearly touches joined (15.3.7.2)", function()
    check({
      ["bytes=0-9,5-19"] = "0-19", ["bytes=5-19,0-9"] = "0-19",
      ["bytes=0-9,10-19"] = "0-19",
      ["bytes=0-,0-,0-,0-"] = "0-9999", ["bytes=0-99,10-20"] = "0-99",
      ["bytes=0-0,128-300"] = "0-300", ["bytes=128-300,0-0"] = "0-300",
      ["bytes=0-0,129-300"] = "0-0 129-300", ["bytes=129-300,0-0"] = "129-300 0-0",
      ["bytes=9000-9009,0-9,4000-4009,5-4005"] = "9000-9009 0-4009",
      ["bytes=0-9,9000-9009,-1,500-8990"] = "0-9 500-9009 9999-9999",
      ["bytes=0-9,1000-1009,500-509,5-999"] = "0-1009",
    }, 10000)
  end)

  it("is ignored where it is malformed or of other units (14.2)", function()
    for _, text in ipairs {
      "", "bytes", "bytes=", "bytes=,", "bytes= , ", "bytes=-", "bytes=a-b", "bytes=1-b",
      "bytes=5-4", "bytes=0-1,5-4", "bytes=1", "bytes=1-2-3", "bytes=--1", "bytes=1--2",
      "bytes=0x1-0x2", "bytes=1.0-2", "bytes=1e1-", "bytes=+1-2", "bytes=1 -2",
      "bytes=0-1;2-3", "bytes 0-1", "bytes:0-1", " bytes=0-1", "octets=0-1", "items=0-5",
      "=0-1", "none",
    } do
      assert.is_nil(read(text, 10), text)
    end
  end)

  it("is ignored of nothing, which has no range", function()
    for _, text in ipairs { "bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0" } do
      assert.is_nil(read(text, 0))
    end
  end)

  it("is ignored where it asks for too many (17.15)", function()
    local function many(count)
      local list = {}
      for i = 1, count do list[i] = ("%d-%d"):format(i * 1000, i * 1000) end
      return "bytes=" .. table.concat(list, ",")
    end
    assert.equal(64, select(2, read(many(64), 1 << 20):gsub("%S+", "")))
    assert.is_nil(read(many(65), 1 << 20))
    assert.is_nil(read(many(65), 10)) -- of which there are none
    assert.is_nil(read("bytes=" .. ("0-,"):rep(65), 10))
    assert.equal("0-9", read("bytes=" .. (","):rep(5000) .. "0-", 10))
  end)

  it("never yields parts that overlap, whatever is asked", function()
    math.randomseed(7)
    for _ = 1, 2000 do
      local list, wanted = {}, {}
      for i = 1, math.random(8) do
        local first = math.random(0, 3000)
        local last = first + math.random(0, 400)
        list[i] = first .. "-" .. last
        for byte = first, last do wanted[byte] = true end
      end
      local parts = http_range.read("bytes=" .. table.concat(list, ","), 4000)
      local seen = {}
      for _, part in ipairs(parts) do
        for byte = part.first, part.last do
          assert(not seen[byte])
          seen[byte] = true
        end
      end
      for byte in pairs(wanted) do assert(seen[byte]) end
      for i, part in ipairs(parts) do
        for j = i + 1, #parts do
          local other = parts[j]
          assert(part.first - other.last > 128 or other.first - part.last > 128)
        end
      end
    end
  end)
end)
