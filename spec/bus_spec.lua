local bus = require "moonpool.bus"
local child = require "child"
local core = require "moonpool.core"
local test = require "moonpool.test"

local task = core.task

local MESSAGE_MAX = 65536 -- bytes of topic and message
local QUEUE = 1024 -- messages that wait for a subscriber

require "tidy" (before_each, after_each)

-- A subscription that keeps what it gets in the table after it.
local function collect(topic)
  local got = {}
  return bus.subscribe(topic, function(message) got[#got + 1] = message end), got
end

describe("a message", function()
  it("reaches the subscribers of its topic, with its topic, and not at once", function()
    local got = {}
    local subscription <close> = bus.subscribe("news", function(...)
      got[#got + 1] = table.pack(...)
    end)
    local other <close>, others = collect "sports"
    assert.is_true(bus.publish("news", "hello"))
    assert.same({}, got)
    test.settle()
    assert.same({ { "hello", "news", n = 2 } }, got)
    assert.same({}, others)
    assert.equal(0, subscription.lost + other.lost)
  end)

  it("keeps its place, for every subscriber", function()
    local first <close>, one = collect "t"
    local second <close>, two = collect "t"
    local expected = {}
    for i = 1, 100 do
      expected[i] = tostring(i)
      bus.publish("t", expected[i])
      if i % 7 == 0 then test.settle() end
    end
    test.settle()
    assert.same(expected, one)
    assert.same(expected, two)
    assert.equal(0, first.lost + second.lost)
  end)

  it("may hold any bytes, or none", function()
    local subscription <close>, got = collect "\0\1"
    bus.publish("\0\1", "a\0b")
    bus.publish("\0\1", "")
    bus.publish("\0", "for another")
    test.settle()
    assert.same({ "a\0b", "" }, got)
    assert.equal("\0\1", subscription.topic)
  end)

  it("may be published by a subscriber", function()
    local got = {}
    local subscription <close> = bus.subscribe("t", function(message)
      got[#got + 1] = message
      if #message < 3 then bus.publish("t", message .. "x") end
    end)
    bus.publish("t", "")
    test.settle()
    assert.same({ "", "x", "xx", "xxx" }, got)
    assert.equal(0, subscription.lost)
  end)

  it("is not for those who subscribe later", function()
    bus.publish("t", "early")
    test.settle()
    local subscription <close>, got = collect "t"
    test.settle()
    assert.same({}, got)
    subscription:close()
  end)

  it("has a longest length, topic and all", function()
    local subscription <close>, got = collect "long"
    local text = ("x"):rep(MESSAGE_MAX - #"long")
    assert.same({ nil, "message too long", "EMSGSIZE" },
      { bus.publish("long", text .. "x") })
    assert.is_true(bus.publish("long", text))
    test.settle()
    assert.equal(1, #got)
    assert.is_true(got[1] == text)
    assert.equal(0, subscription.lost)
  end)

  it("must be a string, and so must its topic", function()
    for _, wrong in ipairs { {}, true, print } do
      assert.is_false(pcall(bus.publish, wrong, "message"))
      assert.is_false(pcall(bus.publish, "topic", wrong))
    end
    assert.is_false(pcall(bus.publish, "topic"))
    assert.is_false(pcall(bus.publish))
  end)

  it("that nobody has received is dropped at the end of the program", function()
    assert.same({ "", "exit", 0 }, { child [[
      local moonpool = require "moonpool"
      moonpool.subscribe("t", print)
      moonpool.publish("t", "unheard")
    ]] })
  end)
end)

describe("a subscription", function()
  it("wants a topic and a function", function()
    for _, wrong in ipairs { 1, {}, true } do
      assert.is_false(pcall(bus.subscribe, wrong, print))
      assert.is_false(pcall(bus.subscribe, "t", wrong))
    end
    assert.is_false(pcall(bus.subscribe, "t"))
  end)

  it("ends with close, and with it what still waits", function()
    local subscription, got = collect "t"
    local other <close>, others = collect "t"
    bus.publish("t", "1")
    test.settle()
    bus.publish("t", "2")
    subscription:close()
    subscription:close()
    bus.publish("t", "3")
    test.settle()
    assert.same({ "1" }, got)
    assert.same({ "1", "2", "3" }, others)
    assert.is_false(subscription.task:alive())
    assert.is_true(other.task:alive())
  end)

  it("can be closed by its own function", function()
    local subscription, n = nil, 0
    subscription = bus.subscribe("t", function()
      n = n + 1
      subscription:close()
    end)
    for _ = 1, 3 do bus.publish("t", "x") end
    test.settle()
    assert.equal(1, n)
    assert.is_false(subscription.task:alive())
  end)

  it("can be closed in the same moment as a message comes for it", function()
    local subscriptions, n = {}, 0
    for i = 1, 2 do
      subscriptions[i] = bus.subscribe("t", function()
        n = n + 1
        subscriptions[3 - i]:close()
      end)
    end
    bus.publish("t", "x")
    test.settle()
    assert.equal(1, n)
    for i = 1, 2 do subscriptions[i]:close() end
  end)

  it("can be made again", function()
    for _ = 1, 3 do
      local subscription <close>, got = collect "t"
      bus.publish("t", "x")
      test.settle()
      assert.same({ "x" }, got)
      assert.equal("t", subscription.topic)
    end
  end)

  it("ends with the task that made it", function()
    local got
    task.spawn(function()
      got = select(2, collect "t")
      task.sleep(10)
    end)
    test.settle()
    bus.publish("t", "in time")
    test.advance(10)
    bus.publish("t", "too late")
    test.settle()
    assert.same({ "in time" }, got)
  end)

  it("that is behind loses the oldest, and counts them", function()
    local got = {}
    local slow <close> = bus.subscribe("t", function(message)
      got[#got + 1] = message
      task.sleep(1)
    end)
    local quick <close>, all = collect "t"
    local n = 2 * QUEUE
    for i = 1, n do
      bus.publish("t", tostring(i))
      test.settle()
    end
    assert.same({ "1" }, got)
    assert.equal(n - 1 - QUEUE, slow.lost)
    assert.equal(0, quick.lost)
    assert.equal(n, #all)
    test.advance(n)
    assert.equal(1 + QUEUE, #got)
    assert.equal(tostring(n - QUEUE + 1), got[2])
    assert.equal(tostring(n), got[#got])
  end)

  it("of a function that fails ends, with a traceback, and the others go on", function()
    local output = child [[
      local moonpool = require "moonpool"
      local test = require "moonpool.test"
      moonpool.subscribe("t", function(message) error("cannot take " .. message) end)
      moonpool.subscribe("t", function(message) print("got " .. message) end)
      moonpool.publish("t", "one")
      moonpool.publish("t", "two")
      test.settle()
    ]]
    assert.matches("error: [^\n]*cannot take one\n.*stack traceback", output)
    assert.is_nil(output:find("cannot take two", 1, true))
    assert.matches("got one\n.*got two\n", output)
  end)
end)

describe("a subscription since a position", function()
  local function collect_since(topic, since)
    local got = {}
    return bus.subscribe(topic, function(message) got[#got + 1] = message end, since), got
  end

  it("has first what came after that, and each message once", function()
    local first <close>, one = collect "t"
    for i = 1, 5 do bus.publish("t", tostring(i)) end
    test.settle()
    local position = first.position
    for i = 6, 9 do bus.publish("t", tostring(i)) end
    bus.publish("other", "x")
    local second <close>, two = collect_since("t", position)
    bus.publish("t", "10")
    test.settle()
    bus.publish("t", "11")
    test.settle()
    assert.same({ "6", "7", "8", "9", "10", "11" }, two)
    assert.equal(11, #one)
    assert.equal(first.position, second.position)
    assert.is_false(second.has_gap)
    assert.equal(0, second.lost)
  end)

  it("has nothing twice, however many catch up at once", function()
    local first <close> = collect "t"
    local positions = { [0] = first.position }
    for i = 1, 20 do
      bus.publish("t", tostring(i))
      test.settle()
      positions[i] = first.position
    end
    local all = {}
    for i = 0, 20 do
      local subscription, got = collect_since("t", positions[i])
      all[i] = { subscription = subscription, got = got }
      if i % 5 == 0 then test.settle() end
      bus.publish("t", "more")
    end
    test.settle()
    for i = 0, 20 do
      local got = all[i].got
      for n = i + 1, 20 do assert.equal(tostring(n), table.remove(got, 1)) end
      assert.equal(21, #got)
      for _, message in ipairs(got) do assert.equal("more", message) end
      all[i].subscription:close()
    end
  end)

  it("says when some may be missing", function()
    local first <close> = collect "t"
    bus.publish("t", "early")
    test.settle()
    local position = first.position
    for _ = 1, 40 do bus.publish("other", ("x"):rep(40000)) end
    bus.publish("t", "late")
    local second <close>, got = collect_since("t", position - 1)
    test.settle()
    assert.same({ "late" }, got)
    assert.is_true(second.has_gap)
  end)

  it("may be closed before it has caught up", function()
    local first <close> = collect "t"
    local position = first.position
    bus.publish("t", "x")
    local second, got = collect_since("t", position)
    second:close()
    test.settle()
    assert.same({}, got)
  end)

  it("takes integers only", function()
    assert.error_matches(function() bus.subscribe("t", print, "1") end, "an integer")
    assert.error_matches(function() bus.subscribe("t", print, 1.5) end, "an integer")
  end)
end)
