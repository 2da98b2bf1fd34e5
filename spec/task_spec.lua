local child = require "child"
local core = require "moonpool.core"
local moonpool = require "moonpool"
local test = require "moonpool.test"

local net, task = core.net, core.task

require "tidy" (before_each, after_each)

-- A list of what happens, in its order.
local function diary()
  local notes = {}
  return notes, function(note) notes[#notes + 1] = note end
end

describe("task.spawn", function()
  it("starts tasks in their order, and not before it returns", function()
    local notes, note = diary()
    for i = 1, 5 do task.spawn(note, i) end
    assert.same({}, notes)
    test.settle()
    assert.same({ 1, 2, 3, 4, 5 }, notes)
  end)

  it("hands the arguments over, nils and all", function()
    local got
    task.spawn(function(...) got = table.pack(...) end, 1, nil, "three", nil)
    test.settle()
    assert.same({ 1, nil, "three", nil, n = 4 }, got)
  end)

  it("wants a function", function()
    for _, wrong in ipairs { 1, "f", {}, setmetatable({}, { __call = print }) } do
      assert.is_false(pcall(task.spawn, wrong))
    end
    assert.is_false(pcall(task.spawn))
  end)

  it("gives a task, which is alive until it is over", function()
    local t = task.spawn(task.sleep, 1)
    assert.is_true(t:alive())
    test.advance(0.5)
    assert.is_true(t:alive())
    test.advance(0.5)
    assert.is_false(t:alive())
    t:cancel()
    t:unpark()
    assert.equal(t, t:detach())
  end)

  it("uses memory again, but a task is not the one before it", function()
    local first = task.spawn(task.sleep, 1)
    test.advance(1)
    local second = task.spawn(task.sleep, 1)
    assert.is_false(first:alive())
    assert.not_equal(first, second)
    first:cancel()
    first:unpark()
    test.advance(0.5)
    assert.is_true(second:alive())
  end)

  it("ends a task with the one that started it, and its children too", function()
    local notes, note = diary()
    local function sleep_for_ever(name)
      local _ <close> = setmetatable({}, { __close = function() note(name) end })
      task.sleep(1e9)
    end
    local parent = task.spawn(function()
      task.spawn(function()
        task.spawn(sleep_for_ever, "grandchild")
        sleep_for_ever "child"
      end)
      task.sleep(1)
    end)
    test.advance(0.9)
    assert.same({}, notes)
    test.advance(0.1)
    assert.is_false(parent:alive())
    table.sort(notes)
    assert.same({ "child", "grandchild" }, notes)
  end)

  it("ends a child that never began", function()
    local began = false
    task.spawn(function()
      task.spawn(function() began = true end)
    end)
    test.settle()
    assert.is_false(began)
  end)

  it("lets a detached task go on", function()
    local notes, note = diary()
    task.spawn(function()
      local t = task.spawn(function()
        task.sleep(5)
        note "done"
      end)
      assert.equal(t, t:detach())
      assert.equal(t, t:detach())
    end)
    test.advance(5)
    assert.same({ "done" }, notes)
  end)

  it("tells current tasks apart", function()
    assert.is_nil(task.current())
    local inside
    local t = task.spawn(function() inside = task.current() end)
    test.settle()
    assert.equal(t, inside)
    assert.is_nil(task.current())
  end)
end)

describe("task.sleep", function()
  it("wakes in the order of time, and of falling asleep at one time", function()
    local notes, note = diary()
    for _, seconds in ipairs { 3, 1, 2, 1, 0 } do
      task.spawn(function()
        task.sleep(seconds)
        note(seconds .. "s")
      end)
    end
    test.advance(3)
    assert.same({ "0s", "1s", "1s", "2s", "3s" }, notes)
  end)

  it("sleeps to the moment, in no time", function()
    local began, cpu = task.now(), os.clock()
    test.run(task.sleep, 86400.25)
    assert.equal(began + 86400.25, task.now())
    assert.is_true(os.clock() - cpu < 1)
  end)

  it("returns nothing, and lets the others have a turn with 0", function()
    local notes, note = diary()
    task.spawn(function()
      note(select("#", task.sleep(0)))
    end)
    task.spawn(note, "other")
    test.advance(0)
    assert.same({ "other", 0 }, notes)
  end)

  it("wants a time", function()
    for _, wrong in ipairs { -1, 0 / 0, "x", {} } do
      assert.is_false(pcall(test.run, task.sleep, wrong))
    end
  end)

  it("holds ten thousand", function()
    local awake = 0
    for i = 1, 10000 do
      task.spawn(function()
        task.sleep(i % 100)
        awake = awake + 1
      end)
    end
    test.advance(49)
    assert.equal(5000, awake)
    test.advance(50)
    assert.equal(10000, awake)
  end)
end)

describe("a task", function()
  it("that yields without waiting lets the others have a turn", function()
    local notes, note = diary()
    for _, name in ipairs { "a", "b" } do
      task.spawn(function()
        for i = 1, 3 do
          note(name .. i)
          assert(select("#", coroutine.yield "ignored") == 0)
        end
      end)
    end
    test.settle()
    assert.same({ "a1", "b1", "a2", "b2", "a3", "b3" }, notes)
  end)

  it("that fails leaves the others alone and says so with a traceback", function()
    local output = child [[
      local test = require "moonpool.test"
      local task = require "moonpool.core".task
      local function deep() error "what went wrong" end
      task.spawn(function() deep() end)
      task.spawn(function() error({ code = 7 }) end)
      task.spawn(function() error() end)
      task.spawn(function()
        error(setmetatable({}, { __tostring = function() return "as text" end }))
      end)
      task.spawn(function()
        error(setmetatable({}, { __tostring = function() error "no text" end }))
      end)
      task.spawn(function()
        local _ <close> = setmetatable({}, { __close = function() print "closed" end })
        task.sleep(1)
        error "late"
      end)
      task.spawn(function() task.sleep(2) print "alive" end)
      test.advance(2)
    ]]
    assert.matches("error: [^\n]*:3: what went wrong\n.*stack traceback:.*:4: in", output)
    assert.matches("error: table: 0x", output)
    assert.matches("error: nil", output)
    assert.matches("error: as text", output)
    assert.matches("error: [^\n]*no text", output)
    assert.matches("error: [^\n]*late", output)
    assert.matches("closed\nalive\n$", output)
  end)

  it("cannot turn the loop that runs it", function()
    for name, argument in pairs { turn = 0, wait = 0, next = 0, advance = 0 } do
      local ok, why = pcall(test.run, core.loop[name], argument)
      assert.is_false(ok)
      assert.matches("a task cannot turn the loop that runs it", why)
    end
  end)

  for other, seconds in pairs { waits = 2, ["is ready"] = 1 } do
    it("may end the program while another " .. other, function()
      for _, close in ipairs { "true", "false" } do
        assert.same({ "", "exit", 3 }, { child(([[
          local test = require "moonpool.test"
          local task = require "moonpool.core".task
          test.run(function()
            task.spawn(task.sleep, %d)
            task.sleep(1)
            os.exit(3, %s)
          end)
        ]]):format(seconds, close)) })
      end
    end)
  end
end)

describe("task:cancel", function()
  it("closes what is to be closed, once", function()
    local notes, note = diary()
    local t = task.spawn(function()
      local _ <close> = setmetatable({}, { __close = function() note "outer" end })
      pcall(function()
        local _ <close> = setmetatable({}, { __close = function() note "inner" end })
        task.sleep(1)
        note "awake"
      end)
      note "after"
    end)
    test.advance(0.5)
    t:cancel()
    t:cancel()
    assert.same({}, notes)
    test.advance(10)
    assert.same({ "inner", "outer" }, notes)
    assert.is_false(t:alive())
  end)

  it("keeps a task from beginning", function()
    local began = false
    local t = task.spawn(function() began = true end)
    t:cancel()
    test.settle()
    assert.is_false(began or t:alive())
  end)

  it("frees a connection on which it waits", function()
    local a, b = net.pair()
    local _ <close> = test.client(a)
    local writer = test.client(b)
    local t = task.spawn(function() a:read "l" end)
    test.settle()
    t:cancel()
    local line
    task.spawn(function() line = a:read "l" end)
    writer:write "for the other\n"
    assert.equal("for the other", line)
    assert.is_false(t:alive())
    writer:close()
  end)

  it("works on oneself: the next wait does not return", function()
    local notes, note = diary()
    local t
    t = task.spawn(function()
      local _ <close> = setmetatable({}, { __close = function() note "closed" end })
      t:cancel()
      note "still here"
      task.park()
      note "back"
    end)
    test.settle()
    assert.same({ "still here", "closed" }, notes)
    assert.is_false(t:alive())
  end)

  it("works on the parent", function()
    local notes, note = diary()
    local parent
    parent = task.spawn(function()
      task.spawn(function()
        parent:cancel()
        task.sleep(1)
        note "back"
      end)
      task.sleep(1)
      note "back"
    end)
    test.advance(2)
    assert.same({}, notes)
    assert.is_false(parent:alive())
  end)

  it("says what fails in a <close>, where nothing can wait", function()
    local output = child [[
      local test = require "moonpool.test"
      local task = require "moonpool.core".task
      local t = task.spawn(function()
        local _ <close> = setmetatable({}, { __close = function() error "in close" end })
        task.sleep(1)
      end)
      local u = task.spawn(function()
        local _ <close> = setmetatable({}, { __close = function() task.sleep(1) end })
        task.sleep(1)
      end)
      test.settle()
      t:cancel()
      u:cancel()
      test.settle()
      print(t:alive(), u:alive())
    ]]
    assert.matches("while a task was cancelled: [^\n]*in close", output)
    assert.matches("while a task was cancelled: [^\n]*cannot wait here", output)
    assert.matches("false\tfalse\n$", output)
  end)

  it("leaves nothing of an xpcall to the next task in the same memory", function()
    local output = child [[
      local test = require "moonpool.test"
      local task = require "moonpool.core".task
      for _ = 1, 3 do
        local t = task.spawn(function()
          xpcall(function() task.sleep(1) end, function() return "handler of another" end)
        end)
        test.settle()
        t:cancel()
        test.settle()
        task.spawn(function() error "my own" end)
        test.settle()
      end
    ]]
    assert.equal(3, select(2, output:gsub("error: [^\n]*my own", "")), output)
    assert.is_nil(output:find("error in error handling", 1, true))
    assert.is_nil(output:find("handler of another", 1, true))
  end)
end)

describe("task.park", function()
  it("waits for unpark", function()
    local got
    local t = task.spawn(function() got = table.pack(task.park()) end)
    test.advance(100)
    assert.is_nil(got)
    t:unpark()
    assert.is_nil(got)
    test.settle()
    assert.same({ true, n = 1 }, got)
  end)

  it("returns at once when unpark came first, once however often", function()
    local notes, note = diary()
    local t = task.spawn(function()
      task.sleep(1)
      note(task.park())
      note(task.park(5))
    end)
    test.settle()
    t:unpark()
    t:unpark()
    test.advance(1)
    assert.same({ true }, notes)
    test.advance(5)
    assert.equal(2, select("#", table.unpack(notes, 1, 2)))
    assert.is_nil(notes[2])
    assert.is_false(t:alive())
  end)

  it("has a time limit", function()
    local began = task.now()
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { test.run(task.park, 30) })
    assert.equal(began + 30, task.now())
  end)

  it("forgets a park that has timed out: the next unpark is for the next park", function()
    local notes, note = diary()
    local t = task.spawn(function()
      note(select(3, task.park(1)))
      task.sleep(1)
      note(task.park())
    end)
    test.advance(1.5)
    t:unpark()
    test.advance(1)
    assert.same({ "ETIMEDOUT", true }, notes)
  end)

  it("has none after one that had", function()
    local notes, note = diary()
    local t = task.spawn(function()
      note(task.park(5))
      note(task.park())
      note(select(3, task.park(2)))
    end)
    test.advance(1)
    t:unpark()
    test.advance(100)
    assert.same({ true }, notes)
    t:unpark()
    test.advance(1.9)
    assert.same({ true, true }, notes)
    test.advance(0.1)
    assert.same({ true, true, "ETIMEDOUT" }, notes)
  end)

  it("is not ended by another wait's end, nor the other way round", function()
    local notes, note = diary()
    local t = task.spawn(function()
      task.sleep(2)
      note "slept"
    end)
    test.advance(1)
    t:unpark()
    test.advance(0.5)
    assert.same({}, notes)
    test.advance(0.5)
    assert.same({ "slept" }, notes)
  end)
end)

describe("a wait", function()
  local function nap(note)
    task.sleep(1)
    note(task.now())
  end

  it("passes through the script's own coroutines", function()
    local notes, note = diary()
    local began = task.now()
    local results = test.run(function()
      local inner = coroutine.wrap(function(...)
        nap(note)
        local co = coroutine.create(function(...)
          nap(note)
          local got = coroutine.yield("yielded", ...)
          nap(note)
          return "returned", got
        end)
        local first = table.pack(coroutine.resume(co, ...))
        local second = table.pack(coroutine.resume(co, "given"))
        coroutine.yield(first, second)
        return coroutine.status(co)
      end)
      local first, second = inner("x", nil)
      return { first, second, inner() }
    end)
    assert.same({ { true, "yielded", "x", nil, n = 4 },
      { true, "returned", "given", n = 3 }, "dead" }, results)
    assert.same({ began + 1, began + 2, began + 3 }, notes)
  end)

  it("passes on failures, and time limits, from inside of coroutines", function()
    local a, b = net.pair()
    local _ <close> = test.client(a)
    local ok, why, again = test.run(function()
      local co = coroutine.create(function()
        a:settimeout(2)
        local _, _, code = a:read()
        task.sleep(1)
        error("after " .. code, 0)
      end)
      local ok, why = coroutine.resume(co)
      return ok, why, select(2, coroutine.resume(co))
    end)
    assert.same({ false, "after ETIMEDOUT", "cannot resume dead coroutine" },
      { ok, why, again })
    b:close()
  end)

  it("raises through coroutine.wrap with the place, after a wait too", function()
    local ok, why = test.run(function()
      return pcall(coroutine.wrap(function()
        task.sleep(1)
        error "inside"
      end))
    end)
    assert.is_false(ok)
    assert.matches("task_spec.lua:%d+: inside$", why)
  end)

  it("passes through pcall, xpcall, iterators and metamethods", function()
    local notes, note = diary()
    local began = task.now()
    local lazy = setmetatable({}, { __index = function(_, key)
      nap(note)
      return key .. "!"
    end, __close = function() nap(note) end })
    local function counting(n)
      return coroutine.wrap(function()
        for i = 1, n do
          nap(note)
          coroutine.yield(i)
        end
      end)
    end
    local sum, caught, handled, value = 0, nil, nil, nil
    test.run(function()
      caught = select(2, pcall(function()
        nap(note)
        error("caught", 0)
      end))
      handled = select(2, xpcall(function()
        nap(note)
        error("handled", 0)
      end, string.upper))
      for i in counting(3) do sum = sum + i end
      do
        local closing <close> = lazy
        value = closing.key
      end
    end)
    assert.same({ "caught", "HANDLED", 6, "key!" }, { caught, handled, sum, value })
    assert.equal(began + 7, notes[#notes])
    assert.equal(7, #notes)
  end)

  it("raises below a C function, and leaves the task usable", function()
    local notes, note = diary()
    local a, b = net.pair()
    local client <close>, other <const> = test.client(a), test.client(b)
    local function refused(wait, ...)
      local arguments = table.pack(...)
      for _, below in ipairs {
        function() table.sort({ 2, 1 }, function() wait(table.unpack(arguments)) end) end,
        function() ("x"):gsub("x", function() wait(table.unpack(arguments)) end) end,
        function()
          table.sort({ 2, 1 }, function()
            coroutine.wrap(function() wait(table.unpack(arguments)) end)()
          end)
        end,
      } do
        local ok, why = pcall(below)
        assert(not ok)
        assert(why:find("cannot wait here: a C function is in between", 1, true), why)
      end
    end
    local full = test.run(function()
      refused(task.sleep, 1)
      refused(task.park)
      refused(a.read, a)
      refused(a.recvfd, a)
      refused(a.write, a, ("x"):rep(1 << 20))
      refused(a.flush, a)
      coroutine.yield()
      local began = task.now()
      task.sleep(5)
      note(task.now() - began)
      task.current():unpark()
      note(task.park())
      return true
    end)
    assert.is_true(full)
    assert.same({ 5, true }, notes)
    other:write "line\n"
    assert.equal("line", client:read())
    other:close()
  end)

  it("refused below a C function does not come back later", function()
    local a, b = net.pair()
    local early
    test.run(function()
      pcall(table.sort, { 2, 1 }, function()
        coroutine.wrap(function() a:read() end)()
      end)
      a:close()
      local began = task.now()
      task.sleep(5)
      early = task.now() - began
    end)
    assert.equal(5, early)
    b:close()
  end)

  it("raises outside of a task", function()
    local a, b = net.pair()
    for _, wait in ipairs {
      function() task.sleep(1) end,
      function() task.park() end,
      function() a:read() end,
      function() a:recvfd() end,
      function() coroutine.wrap(task.sleep)(1) end,
    } do
      local ok, why = pcall(wait)
      assert.is_false(ok)
      assert.matches("cannot wait here: only a task can %(moonpool.spawn%)", why)
    end
    a:close()
    b:close()
  end)
end)

describe("coroutine.resume and coroutine.wrap", function()
  local script = [[
    local function show(...)
      local t = table.pack(...)
      for i = 1, t.n do
        local v = t[i]
        if type(v) == "table" or type(v) == "function" then v = type(v) end
        if type(v) == "thread" then v = "thread" end
        t[i] = tostring(v)
      end
      print(t.n, table.concat(t, " | "))
    end
    local create, resume, wrap = coroutine.create, coroutine.resume, coroutine.wrap
    local yield = coroutine.yield

    local co = create(function(...)
      show("in", ...)
      show("again", yield(1, nil, 3))
      show("and again", yield())
      return "r", nil
    end)
    show(resume(co, "a", nil, "c"))
    show(resume(co))
    show(resume(co, nil))
    show(resume(co))
    show(coroutine.status(co), coroutine.close(co))

    show(resume(create(function() error "text" end)))
    show(resume(create(function() error("text", 2) end)))
    show(resume(create(function() error({}) end)))
    show(resume(create(function() error() end)))
    show(pcall(wrap(function() error "text" end)))
    show(pcall(wrap(function() error("text", 0) end)))
    show(pcall(wrap(function() error({}) end)))
    show(pcall(wrap(function() error() end)))
    show(pcall(function() wrap(function() error "deep" end)() end))

    local w = wrap(function(...) show("w", ...) yield("y") return end)
    show(w(1, nil)) show(w()) show(pcall(w)) show(pcall(w))

    show(resume(coroutine.running()))
    local self = create(function() return resume(coroutine.running()) end)
    show(resume(self))
    local again
    again = wrap(function() return pcall(again) end)
    show(again())
    local outer
    outer = create(function()
      return resume(create(function() return resume(outer) end))
    end)
    show(resume(outer))
    show(resume(create(function()
      return coroutine.isyieldable(), coroutine.running()
    end)))

    local closing = create(function()
      local mt = { __close = function(_, e) show("closing", e) end }
      local _ <close> = setmetatable({}, mt)
      yield(coroutine.status(coroutine.running()))
    end)
    show(resume(closing))
    show(coroutine.close(closing))
    show(resume(closing))
    show(coroutine.status(closing))
    show(pcall(wrap(function()
      local _ <close> = setmetatable({}, { __close = function(_, e)
        show("close", e)
        error "other"
      end })
      error "one"
    end)))

    show(pcall(resume))
    show(pcall(resume, 1))
    show(pcall(resume, print))
    show(pcall(wrap))
    show(pcall(wrap, 1))
    show(resume(create(print), "C function"))
    show(resume(create(function() return table.sort({ 2, 1 }, yield) end)))
    local many = {}
    for i = 1, 200 do many[i] = i end
    show(#table.pack(resume(create(function(...) return ... end), table.unpack(many))))
    show(pcall(resume, create(function() end), table.unpack({}, 1, 999000)))
    local deep = 0
    local function nest()
      deep = deep + 1
      return select(2, resume(create(nest)))
    end
    show(nest())
    for i, square in wrap(function() for i = 1, 3 do yield(i, i * i) end end) do
      show(i, square)
    end
    show(debug.traceback("tb"):gsub("\n.*", ""))
  ]]

  it("are Lua's own as long as nobody waits", function()
    local expected = child(script)
    assert.is_true(#expected > 1000)
    assert.equal(expected, (child([[require "moonpool.core" ]] .. script)))
  end)

  it("are so inside of a task", function()
    local function in_a_task(prefix)
      return child(prefix .. "local function script() " .. script .. " end run(script)")
    end
    local expected = in_a_task [[local function run(f)
      local co = coroutine.create(f) coroutine.resume(co) end ]]
    assert.is_true(#expected > 1000)
    assert.equal(expected, (in_a_task [[local function run(f)
      require "moonpool.test".run(f) end ]]))
  end)
end)

describe("moonpool.every", function()
  it("calls again and again, and goes on after an error", function()
    local output = child [[
      local test = require "moonpool.test"
      local moonpool = require "moonpool"
      local n = 0
      moonpool.every(10, function(word)
        n = n + 1
        print(n, word, moonpool.now() - began)
        if n == 2 then error "the second fails" end
      end, "word")
      began = moonpool.now()
      test.advance(9.5)
      print "before"
      test.advance(31)
    ]]
    assert.matches("^before\n1\tword\t10.0\n2\tword\t20.0\n", output)
    assert.matches("error: [^\n]*the second fails\n.*stack traceback", output)
    assert.matches("3\tword\t30.0\n4\tword\t40.0\n$", output)
  end)

  it("waits from the end of one call to the next, until it is cancelled", function()
    local times = {}
    local began = moonpool.now()
    local t = moonpool.every(10, function()
      times[#times + 1] = moonpool.now() - began
      moonpool.sleep(5)
    end)
    test.advance(50)
    t:cancel()
    test.advance(50)
    assert.same({ 10, 25, 40 }, times)
  end)
end)
