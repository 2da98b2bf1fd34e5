local wire = require "native.wire"

local function settings(changes)
  local s = {
    pool = "hello", pools = "chat, hello", workers = 4,
    app = "/srv/hello/app.lua", lua = "/usr/share/lua/5.4",
    number = 3, cell = 2, generation = 7, log_level = 1,
    read_limit = 1 << 20, write_limit = 1 << 16, state_limit = 1 << 15,
    max_requests = 1000, memory_limit = 1 << 30, memory_soft_limit = 1 << 29,
    idle_timeout = 60.0, handler_timeout = 10.0, drain = 30.0,
    dev = 1, survive = 1,
  }
  for name, value in pairs(changes or {}) do s[name] = value end
  return s
end

-- What a worker reads that is started with these: argv[0] and "worker" are not its.
local function arguments(changes)
  return table.move(wire.write(settings(changes), "x"), 3, 64, 1, {})
end

local function round_trip(changes)
  return wire.read(arguments(changes))
end

describe("a worker's settings", function()
  it("are an argument vector", function()
    local argv = wire.write(settings(), "/usr/bin/moonpool")
    assert.equal("/usr/bin/moonpool", argv[1])
    assert.equal("worker", argv[2])
    assert.matches("^version=%d+$", argv[3])
    for i = 4, #argv do assert.matches("^[%w_]+=.", argv[i]) end
  end)

  it("come back as they were", function()
    assert.same(settings(), round_trip())
  end)

  it("come back each by itself, at the ends of its range", function()
    local longest = ("/x"):rep(2000)
    local u32, u64 = { 0, 1, 0x7fffffff, 0xffffffff }, { 0, 1 << 32, math.maxinteger, -1 }
    local seconds = { 0.0, 0.1, 1 / 3, 1e-9, 1e15, 4.9e-324, math.huge }
    local values = {
      pool = { "", "a b", longest }, pools = { "", "a, b", longest }, workers = u32,
      app = { "", longest }, lua = { "", longest },
      number = u32, cell = u32, generation = u64, log_level = u32,
      read_limit = u32, write_limit = u32, state_limit = u32, max_requests = u32,
      memory_limit = u64, memory_soft_limit = u64, idle_timeout = seconds,
      handler_timeout = seconds, drain = seconds,
      dev = u32, survive = u32,
    }
    for name in pairs(settings()) do
      assert(values[name], name)
      for _, value in ipairs(values[name]) do
        assert.same(settings { [name] = value }, round_trip { [name] = value })
      end
    end
  end)

  it("may have any character in them", function()
    for _, text in ipairs {
      "a=b", "=", "pool=x", "version=1", "a b\tc", "line\nbreak", "'\"\\$`;&|", "%s%n%d",
      "-x", "--", "\u{e9}\u{1f319}", "\xff\xfe", "\1\127",
    } do
      local odd = { pool = text, pools = text, app = "/" .. text, lua = text }
      assert.same(settings(odd), round_trip(odd))
    end
  end)

  it("are refused if they are another version's", function()
    local argv = arguments()
    local version = tonumber(argv[1]:match "^version=(%d+)$")
    for _, other in ipairs { version + 1, version - 1, version * 10, "", "x", "-1" } do
      argv[1] = "version=" .. other
      assert.is_nil(wire.read(argv))
    end
    argv[1] = "version=" .. version
    assert.is_not_nil(wire.read(argv))
  end)

  it("are refused if they are more, fewer, in disorder or by another name", function()
    local argv = arguments()
    for i = 1, #argv do
      local fewer = { table.unpack(argv) }
      table.remove(fewer, i)
      assert.is_nil(wire.read(fewer))
      local renamed = { table.unpack(argv) }
      renamed[i] = "x" .. renamed[i]
      assert.is_nil(wire.read(renamed))
      local cut = { table.unpack(argv) }
      cut[i] = cut[i]:match "^[^=]*"
      assert.is_nil(wire.read(cut))
      if i > 1 then
        local swapped = { table.unpack(argv) }
        swapped[i], swapped[i - 1] = swapped[i - 1], swapped[i]
        assert.is_nil(wire.read(swapped))
      end
    end
    argv[#argv + 1] = "more=1"
    assert.is_nil(wire.read(argv))
    assert.is_nil(wire.read {})
  end)
end)

describe("a message", function()
  it("is a header and what follows", function()
    local bytes = string.pack("=I4I4I8", 6, 4000000000, 1 << 40) .. "text\0more"
    assert.same({ 6, 4000000000, 1 << 40, "text\0more" }, { wire.parse(bytes) })
    assert.same({ 6, 4000000000, 1 << 40, "" }, { wire.parse(bytes:sub(1, 16)) })
  end)

  it("is none if it is shorter than a header", function()
    for length = 0, 15 do assert.is_nil(wire.parse(("\1"):rep(length))) end
  end)
end)

describe("the bit of a topic", function()
  local function is_power(n) return n ~= 0 and n & (n - 1) == 0 end

  it("is exactly one, and always the same", function()
    for _, topic in ipairs { "", "a", "news", "\0", "\255", ("long"):rep(10000) } do
      assert.is_true(is_power(wire.topic_bit(topic)))
      assert.equal(wire.topic_bit(topic), wire.topic_bit(topic))
    end
  end)

  it("is of all bytes of the name, the last and those behind a zero too", function()
    for _, format in ipairs { "room/%d", "a\0%d", "%d/messages" } do
      local seen, bits = {}, 0
      for i = 10, 19 do
        local bit = wire.topic_bit(format:format(i))
        if not seen[bit] then bits = bits + 1 end
        seen[bit] = true
      end
      assert.is_true(bits >= 5, format)
    end
  end)

  it("is spread over all 64 by names that are alike", function()
    local counts, bits = {}, 0
    for i = 1, 6400 do
      local bit = wire.topic_bit("room/" .. i)
      assert.is_true(is_power(bit))
      if not counts[bit] then bits = bits + 1 end
      counts[bit] = (counts[bit] or 0) + 1
    end
    assert.equal(64, bits)
    for _, count in pairs(counts) do assert.is_true(count > 20 and count < 400) end
  end)
end)
