local native = require "native.loop"

-- A clock, and start(name, at [, fn]): a timer that adds its name to fired.
local function new_clock(now)
  local clock, fired = native.clock(now), {}
  local function start(name, at, fn)
    local timer
    timer = clock:timer(function()
      fired[#fired + 1] = name
      if fn then fn(timer) end
    end)
    timer:start(at)
    return timer
  end
  return clock, start, fired
end

describe("a clock", function()
  it("fires what is due in order of time and says how many", function()
    local clock, start, fired = new_clock()
    start("c", 3)
    start("a", 1)
    start("d", 4)
    start("b", 2)
    assert.equal(0, clock:set(0.5))
    assert.equal(3, clock:set(3))
    assert.same({ "a", "b", "c" }, fired)
    assert.equal(4, clock:next())
    assert.equal(1, clock:set(100))
    assert.same({ "a", "b", "c", "d" }, fired)
    assert.equal(math.huge, clock:next())
  end)

  it("fires those of one instant in order of their start", function()
    local clock, start, fired = new_clock()
    local expected = {}
    for i = 1, 100 do
      start(i, 5)
      expected[i] = i
    end
    assert.equal(100, clock:set(5))
    assert.same(expected, fired)
  end)

  it("knows the time while it fires, which is the new one", function()
    local clock, start = new_clock(10)
    local seen
    start("a", 11, function() seen = clock:now() end)
    clock:set(15)
    assert.equal(15, seen)
  end)

  it("never goes backwards", function()
    local clock, start, fired = new_clock(10)
    start("a", 9)
    start("b", 11)
    assert.equal(1, clock:set(5))
    assert.same({ "a" }, fired)
    assert.equal(10, clock:now())
  end)

  it("moves a timer that is started again", function()
    local clock, start, fired = new_clock()
    local a, b = start("a", 1), start("b", 2)
    a:start(3)
    start("c", 3)
    assert.equal(2, clock:next())
    b:start(0.5)
    assert.equal(0.5, clock:next())
    clock:set(2.9)
    assert.same({ "b" }, fired)
    clock:set(3)
    assert.same({ "b", "a", "c" }, fired)
  end)

  it("puts a timer that is started again behind those of the same instant", function()
    local clock, start, fired = new_clock()
    local a = start("a", 1)
    start("b", 1)
    a:start(1)
    clock:set(1)
    assert.same({ "b", "a" }, fired)
  end)

  it("does not fire what is stopped, which may be done at any time", function()
    local clock, start, fired = new_clock()
    local a, b = start("a", 1), start("b", 1)
    a:stop()
    a:stop()
    assert.is_false(a:waits())
    assert.is_true(b:waits())
    clock:set(1)
    assert.same({ "b" }, fired)
    b:stop()
    a:start(2)
    clock:set(2)
    assert.same({ "b", "a" }, fired)
  end)

  it("lets a timer stop others that are due, and itself", function()
    local clock, start, fired = new_clock()
    local c
    start("a", 1, function(timer)
      assert.is_false(timer:waits())
      timer:stop()
      c:stop()
    end)
    start("b", 2)
    c = start("c", 3)
    assert.equal(2, clock:set(4))
    assert.same({ "a", "b" }, fired)
    assert.is_false(c:waits())
  end)

  it("lets a timer move others that are due", function()
    local clock, start, fired = new_clock()
    local b
    start("a", 1, function() b:start(10) end)
    b = start("b", 1)
    clock:set(1)
    assert.same({ "a" }, fired)
    assert.equal(1, clock:set(10))
  end)

  it("fires what is started meanwhile only when it is set again", function()
    local clock, start, fired = new_clock()
    start("a", 1, function(timer)
      start("soon", 1)
      start("past", 0)
      timer:start(1)
    end)
    assert.equal(1, clock:set(1))
    assert.same({ "a" }, fired)
    assert.equal(1, clock:next())
    assert.equal(3, clock:set(1))
    assert.same({ "a", "soon", "past", "a" }, fired)
  end)

  it("fires all that is due, even if a timer starts one for a past time", function()
    local clock, start, fired = new_clock()
    start("a", 1, function(timer) timer:start(1) end)
    start("b", 2)
    assert.equal(2, clock:set(3))
    assert.same({ "a", "b" }, fired)
  end)

  it("fires a timer that waited while thousands of millions of others passed", function()
    for _, passed in ipairs { 1 << 31, (1 << 31) + 1, 1 << 32 } do
      local clock, start, fired = new_clock()
      start("daily", 86400)
      clock:pass(passed)
      start("next", 86400)
      assert.equal(2, clock:set(86400))
      assert.same({ "daily", "next" }, fired)
    end
  end)

  it("stops all timers when it is cleared, and can be used again", function()
    local clock, start, fired = new_clock(7)
    local timers = {}
    for i = 1, 50 do timers[i] = start(i, 8 + i % 5) end
    clock:clear()
    for i = 1, 50 do assert.is_false(timers[i]:waits()) end
    assert.equal(math.huge, clock:next())
    assert.equal(7, clock:now())
    timers[3]:start(8)
    assert.equal(1, clock:set(20))
    assert.same({ 3 }, fired)
  end)
end)

-- What a clock must do, in the simplest way: look at all timers.
local function new_model()
  local model = { now = 0, count = 0, at = {}, order = {} }

  function model.start(i, at)
    model.count = model.count + 1
    model.at[i], model.order[i] = math.max(at, model.now), model.count
  end

  function model.stop(i) model.at[i] = nil end

  function model.next()
    local first
    for i, at in pairs(model.at) do
      local other = model.at[first]
      if not first or at < other
        or at == other and model.order[i] < model.order[first] then first = i end
    end
    return first, first and model.at[first] or math.huge
  end

  return model
end

describe("a clock with hundreds of timers", function()
  local SIZE <const> = 300

  -- Both do the same at random; the model says what must fire next, and when none.
  local function compare(seed, steps)
    math.randomseed(seed)
    local clock, model, timers = native.clock(), new_model(), {}
    local fired, limit = 0, nil
    local change

    for i = 1, SIZE do
      timers[i] = clock:timer(function()
        local first, at = model.next()
        assert(first == i and at <= model.now and model.order[i] <= limit)
        model.stop(i)
        fired = fired + 1
        for _ = 1, math.random(0, 2) do change() end
      end)
    end

    function change()
      local i = math.random(SIZE)
      if math.random(3) == 1 then
        timers[i]:stop()
        model.stop(i)
      else
        local at = model.now + math.random(-2, 20)
        timers[i]:start(at)
        model.start(i, at)
      end
    end

    for _ = 1, steps do
      for _ = 1, math.random(0, 8) do change() end
      model.now, limit = model.now + math.random(0, 2), model.count
      local before = fired
      assert.equal(clock:set(model.now), fired - before)
      local first, at = model.next()
      assert.equal(at, clock:next())
      assert.is_true(at > model.now or model.order[first] > limit)
    end
    return fired
  end

  it("does what the simplest one does", function()
    local fired = 0
    for seed = 1, 4 do fired = fired + compare(seed, 500) end
    assert.is_true(fired > 2000)
  end)
end)

describe("the system's time", function()
  it("is its monotonic clock, in seconds", function()
    local before, cpu = native.monotonic(), os.clock()
    while os.clock() - cpu < 0.02 do end -- luacheck: ignore 542
    local passed = native.monotonic() - before
    assert.is_true(passed > 0.019 and passed < 60)
  end)
end)
