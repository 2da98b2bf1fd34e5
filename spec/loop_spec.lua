local channel = require "native.channel"
local harness = require "server"
local native = require "native.loop"
local process = require "native.process"

local loop, before

before_each(function()
  before = harness.descriptors(process.pid())
  loop = native.new()
end)

after_each(function()
  loop:free()
  assert.equal(before, harness.descriptors(process.pid()))
end)

-- note(name, fn): a function that adds name to the list, and then does fn().
local function new_list()
  local list = {}
  return list, function(name, fn)
    return function()
      list[#list + 1] = name
      if fn then fn() end
    end
  end
end

local function settle()
  while loop:turn() do end -- luacheck: ignore 542
end

describe("a job", function()
  it("is done in the next turn, not at once", function()
    local list, note = new_list()
    loop:job(note "a"):soon()
    assert.same({}, list)
    assert.is_true(loop:turn())
    assert.same({ "a" }, list)
    assert.is_false(loop:turn())
    assert.same({ "a" }, list)
  end)

  it("is done in the order in which it was asked for, and once", function()
    local list, note = new_list()
    local a, b = loop:job(note "a"), loop:job(note "b")
    b:soon()
    a:soon()
    b:soon()
    loop:turn()
    assert.same({ "b", "a" }, list)
    b:last()
    a:last()
    b:last()
    a:soon()
    loop:turn()
    assert.same({ "b", "a", "b", "a" }, list)
  end)

  it("may ask for itself again while it is done", function()
    local list, note = new_list()
    local job
    job = loop:job(note("a", function()
      if #list < 3 then job:soon() end
    end))
    job:soon()
    loop:turn()
    assert.same({ "a", "a", "a" }, list)
  end)

  it("that is a last one waits for the others, and for those they ask for", function()
    local list, note = new_list()
    local c = loop:job(note "c")
    local b = loop:job(note("b", function() c:soon() end))
    local x, y = loop:job(note "x"), loop:job(note "y")
    x:last()
    y:last()
    loop:job(note("a", function() b:soon() end)):soon()
    loop:turn()
    assert.same({ "a", "b", "c", "x", "y" }, list)
  end)

  it("that a last one asks for is done in the same turn", function()
    local list, note = new_list()
    local b, y = loop:job(note "b"), loop:job(note "y")
    loop:job(note("x", function() b:soon() y:last() end)):last()
    loop:turn()
    table.sort(list)
    assert.same({ "b", "x", "y" }, list)
  end)

  it("that begets jobs for ever leaves descriptors and timers their turn", function()
    local a, b = channel.pair()
    local jobs, read, fired = 0, 0, 0
    local job
    job = loop:job(function()
      jobs = jobs + 1
      job:soon()
      assert(jobs < 100000, "starved")
      if read > 0 and fired > 0 then
        loop:stop()
        job = { soon = function() end }
      end
    end)
    local watch = loop:watch(b, function()
      channel.receive(b)
      read = read + 1
    end)
    loop:timer(function() fired = fired + 1 end):start(loop:now())
    channel.send(a, "x")
    job:soon()
    loop:run()
    assert.equal(1, read)
    assert.equal(1, fired)
    assert.is_true(jobs < 5000)
    watch:stop()
    channel.close(a, b)
  end)

  it("that is a last one and asks for itself for ever does not either", function()
    local a, b = channel.pair()
    local jobs, read = 0, 0
    local job
    job = loop:job(function()
      jobs = jobs + 1
      assert(jobs < 100000, "starved")
      if read == 0 then job:last() end
    end)
    local watch = loop:watch(b, function()
      channel.receive(b)
      read = read + 1
    end)
    channel.send(a, "x")
    job:last()
    settle()
    assert.equal(1, read)
    watch:stop()
    channel.close(a, b)
  end)

  it("is done without a wait, however many there are before it", function()
    local jobs = 0
    local job
    job = loop:job(function()
      jobs = jobs + 1
      if jobs < 5000 then job:soon() else loop:stop() end
    end)
    local limit = loop:timer(function() loop:stop() end)
    limit:start(loop:now() + 5)
    job:soon()
    loop:run()
    assert.equal(5000, jobs)
    assert.is_true(limit:waits())
  end)

  it("that is one for a rest is done in each turn, after all others", function()
    local list, note = new_list()
    local last = loop:job(note "last")
    loop:job(note "rest"):at_rest()
    last:last()
    loop:job(note("soon", function() loop:job(note "second"):soon() end)):soon()
    assert.is_true(loop:turn())
    assert.same({ "soon", "second", "last", "rest" }, list)
    assert.is_false(loop:turn())
    assert.same({ "soon", "second", "last", "rest", "rest" }, list)
  end)

  it("that one for a rest asks for is done before the loop waits", function()
    local done
    local limit = loop:timer(function() loop:stop() end)
    limit:start(loop:now() + 5)
    local job = loop:job(function()
      done = true
      loop:stop()
    end)
    loop:job(function() if not done then job:soon() end end):at_rest()
    loop:run()
    assert.is_true(done)
    assert.is_true(limit:waits())
  end)

  it("that is one for a rest waits while others beget others", function()
    local jobs, rests = 0, {}
    local job
    job = loop:job(function()
      jobs = jobs + 1
      if jobs < 2500 then job:soon() end
    end)
    loop:job(function() rests[#rests + 1] = jobs end):at_rest()
    job:soon()
    repeat loop:turn() until #rests > 0
    assert.same({ 2500 }, rests)
  end)

  it("is done before the loop is freed", function()
    local list, note = new_list()
    local b = loop:job(note "b")
    loop:job(note("a", function() b:last() end)):soon()
    loop:free()
    assert.same({ "a", "b" }, list)
  end)
end)

describe("memory to be freed later", function()
  it("is there until the jobs are done that may still hold it", function()
    local memory
    local function check()
      assert.equal(1, loop:unfreed())
      assert.equal(("x"):rep(64), native.peek(memory))
    end
    local last, soon = loop:job(check), loop:job(check)
    loop:job(function()
      memory = loop:free_later()
      soon:soon()
      last:last()
    end):soon()
    loop:turn()
    assert.equal(0, loop:unfreed())
  end)

  it("is there until the last of many jobs is done", function()
    local memory = loop:free_later()
    for _ = 1, 2500 do loop:job(function() end):soon() end
    local done
    loop:job(function()
      assert.equal(1, loop:unfreed())
      assert.equal(("x"):rep(64), native.peek(memory))
      done = true
    end):soon()
    settle()
    assert.is_true(done)
    assert.equal(0, loop:unfreed())
  end)

  it("is there until the turn's other callbacks are over", function()
    local a, b = channel.pair()
    local memory
    local function ready(end_)
      return function()
        channel.receive(end_)
        memory = memory or loop:free_later()
        assert.equal(("x"):rep(64), native.peek(memory))
      end
    end
    local one, two = loop:watch(a, ready(a)), loop:watch(b, ready(b))
    channel.send(a, "to b")
    channel.send(b, "to a")
    loop:turn()
    assert.is_not_nil(memory)
    loop:turn()
    assert.equal(0, loop:unfreed())
    one:stop()
    two:stop()
    channel.close(a, b)
  end)

  it("may be much, and is freed with the loop at the latest", function()
    for _ = 1, 1000 do loop:free_later() end
    assert.equal(1000, loop:unfreed())
    loop:turn()
    assert.equal(0, loop:unfreed())
    for _ = 1, 1000 do loop:free_later() end
  end) -- the leak check sees the rest
end)

describe("a virtual loop", function()
  before_each(function() loop:virtual(true) end)

  it("has a clock that stands still", function()
    local list, note = new_list()
    local now = loop:now()
    loop:timer(note "a"):start(now + 0.001)
    local start = native.monotonic()
    while native.monotonic() < start + 0.005 do loop:turn() end
    assert.equal(now, loop:now())
    assert.same({}, list)
  end)

  it("fires on the way, in order and each at its time", function()
    local start = loop:now()
    local times = {}
    for _, after in ipairs { 30, 10, 20, 31 } do
      local timer = loop:timer(function() times[#times + 1] = loop:now() - start end)
      timer:start(start + after)
    end
    loop:advance(30)
    assert.same({ 10, 20, 30 }, times)
    assert.equal(start + 30, loop:now())
    loop:advance(0.5)
    assert.equal(start + 30.5, loop:now())
    assert.equal(3, #times)
    loop:advance(1)
    assert.equal(4, #times)
  end)

  it("does the jobs before it fires the next", function()
    local list, note = new_list()
    local job = loop:job(note "job of the first")
    loop:timer(note("first", function() job:soon() end)):start(loop:now() + 1)
    loop:timer(note "second"):start(loop:now() + 2)
    loop:job(note "job before"):soon()
    loop:advance(5)
    assert.same({ "job before", "first", "job of the first", "second" }, list)
  end)

  it("fires what is started on the way, if it is due on the way", function()
    local times, start = {}, loop:now()
    local timer
    timer = loop:timer(function()
      times[#times + 1] = loop:now() - start
      timer:start(loop:now() + 10)
    end)
    timer:start(start + 10)
    loop:advance(35)
    assert.same({ 10, 20, 30 }, times)
  end)

  it("tells of descriptors on the way", function()
    local a, b = channel.pair()
    local list, note = new_list()
    local watch = loop:watch(b, note("read", function() channel.receive(b) end))
    loop:timer(note("sent", function() channel.send(a, "x") end)):start(loop:now() + 1)
    loop:timer(note "later"):start(loop:now() + 2)
    loop:advance(3)
    watch:stop()
    channel.close(a, b)
    local order = table.concat(list, " ")
    assert.is_true(order == "sent read later" or order == "sent later read", order)
  end)

  it("does not wait, whatever it is asked", function()
    local start = native.monotonic()
    loop:timer(function() end):start(loop:now() + 1000)
    loop:wait(0.5)
    assert.is_true(native.monotonic() < start + 0.4)
  end)
end)

describe("a real loop", function()
  it("goes by the system's time", function()
    assert.is_true(math.abs(loop:now() - native.monotonic()) < 1)
    local first = loop:now()
    while loop:now() == first do end -- luacheck: ignore 542
    assert.is_true(loop:now() > first)
  end)

  it("fires a timer when its time has come, and not before", function()
    local at, fired = loop:now() + 0.02, nil
    loop:timer(function()
      fired = loop:now()
      loop:stop()
    end):start(at)
    loop:timer(function() error "not yet" end):start(at + 3600)
    loop:run()
    assert.is_true(fired >= at and fired < at + 5)
  end)

  it("waits no longer than it is asked to, and leaves no timer behind", function()
    local start = loop:now()
    loop:wait(0.01)
    assert.is_true(loop:now() >= start + 0.009)
    assert.is_true(loop:now() < start + 5)
    assert.equal(math.huge, loop:next())
  end)

  it("stops waiting when something comes", function()
    local a, b = channel.pair()
    local got
    local watch = loop:watch(b, function() got = select(2, channel.receive(b)) end)
    channel.send(a, "x")
    local start = loop:now()
    loop:wait(20)
    assert.equal("x", got)
    assert.is_true(loop:now() < start + 10)
    watch:stop()
    channel.close(a, b)
  end)

  it("stops waiting for a timer that is started with less patience", function()
    local fired
    loop:timer(function() end):start(loop:now() + 20)
    loop:turn()
    loop:timer(function() fired = true end):start(loop:now() + 0.005)
    local start = loop:now()
    while not fired and loop:now() < start + 10 do loop:wait(20) end
    assert.is_true(loop:now() < start + 10)
  end)

  it("goes on from the time to which it was advanced", function()
    local start = loop:now()
    loop:virtual(true)
    loop:advance(1000)
    loop:virtual(false)
    assert.is_true(loop:now() >= start + 1000)
    assert.is_true(loop:now() < start + 1010)
  end)

  it("is on time after it was advanced beyond what it waited for", function()
    local fired
    loop:timer(function() end):start(loop:now() + 2)
    loop:turn() -- now it would wait for two seconds
    loop:virtual(true)
    loop:advance(100)
    loop:virtual(false)
    loop:timer(function() fired = true end):start(loop:now() + 0.005)
    local start = native.monotonic()
    while not fired do loop:wait(5) end
    assert.is_true(native.monotonic() < start + 1)
  end)
end)

-- The descriptors in the loop's epoll set, as the kernel tells.
local function epoll_set()
  local set = {}
  for line in io.lines("/proc/self/fdinfo/" .. loop:epoll()) do
    local fd = line:match "^tfd:%s*(%d+)"
    if fd then set[tonumber(fd)] = true end
  end
  return set
end

describe("a descriptor whose description lives on elsewhere", function()
  local a, b, elsewhere, watch, read

  before_each(function()
    a, b = channel.pair()
    read = 0
    watch = loop:watch(b, function()
      read = read + 1
      channel.receive(b)
    end)
    loop:turn()
    assert.is_true(epoll_set()[b])
    elsewhere = channel.dup(b)
  end)

  after_each(function() channel.close(a, elsewhere) end)

  it("stays in the epoll set when it is only closed", function()
    watch:stop()
    channel.close(b)
    channel.send(a, "x")
    assert.is_true(epoll_set()[b]) -- the trap
    assert.is_true(channel.poll(loop:epoll(), 1))
  end)

  it("leaves it when the loop has forgotten it", function()
    watch:stop()
    loop:forget(b)
    channel.close(b)
    channel.send(a, "x")
    assert.is_nil(epoll_set()[b])
    assert.is_false(channel.poll(loop:epoll(), 0))
    assert.is_false(loop:turn())
    assert.equal(0, read)
  end)

  it("leaves its number to another, which is watched as well", function()
    watch:stop()
    loop:forget(b)
    channel.close(b)
    local c, d = channel.pair()
    local reused = c == b and c or d
    local other = c == b and d or c
    assert.equal(b, reused)
    local got
    local another = loop:watch(reused, function()
      got = select(2, channel.receive(reused))
    end)
    channel.send(other, "to the new one")
    channel.send(a, "to the old one")
    loop:turn()
    loop:turn()
    assert.equal("to the new one", got)
    another:stop()
    channel.close(c, d)
  end)

  it("may be forgotten twice, or without ever having been watched", function()
    watch:stop()
    loop:forget(b)
    loop:forget(b)
    loop:forget(elsewhere)
    channel.close(b)
    assert.same({}, epoll_set())
  end)
end)
