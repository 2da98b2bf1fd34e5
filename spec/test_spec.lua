local core = require "moonpool.core"
local net = require "moonpool.net"
local test = require "moonpool.test"

local task = core.task

require "tidy" (before_each, after_each)

local deadlock = "everybody waits, and nothing can happen any more:\n"

local function assert_deadlock(fn)
  local ok, why = pcall(fn)
  assert.is_false(ok)
  assert.equal(deadlock, why:sub(1, #deadlock))
  return why:sub(#deadlock + 1)
end

local function echo(conn)
  for line in conn:lines "L" do conn:write(line) end
end

describe("test.run", function()
  it("runs a function as a task and gives what it returns", function()
    assert.same({ 1, nil, 3, nil, n = 4 }, table.pack(test.run(function(...)
      assert.not_nil(task.current())
      task.sleep(1)
      return ...
    end, 1, nil, 3, nil)))
    assert.is_nil(task.current())
  end)

  it("raises its errors, with a traceback, or as they are", function()
    local ok, why = pcall(test.run, function()
      task.sleep(1)
      error "what went wrong"
    end)
    assert.is_false(ok)
    assert.matches("test_spec.lua:%d+: what went wrong\nstack traceback:\n", why)
    local object = {}
    ok, why = pcall(test.run, error, object)
    assert.is_false(ok)
    assert.equal(object, why)
  end)

  it("calls inside of a task", function()
    test.run(function()
      local outer = task.current()
      assert.equal(outer, test.run(task.current))
      assert.is_false(pcall(test.run, error, "raised"))
    end)
  end)

  it("moves the clock only when everybody waits", function()
    local began, order = task.now(), {}
    task.spawn(function()
      task.sleep(1)
      order[#order + 1] = task.now() - began
    end)
    test.run(function()
      for _ = 1, 5 do task.sleep(0) end
      order[#order + 1] = task.now() - began
      task.sleep(2)
      order[#order + 1] = task.now() - began
    end)
    assert.same({ 0, 1, 2 }, order)
  end)

  it("says when nothing can happen any more", function()
    assert_deadlock(function() test.run(task.park) end)
    local client <close> = test.connect(echo)
    assert_deadlock(function() client:read() end)
  end)

  it("leaves a connection usable on which it has waited in vain", function()
    local client <close> = test.connect(echo)
    assert_deadlock(function() client:read() end)
    client:write "after all\n"
    assert.equal("after all", client:read())
  end)

  it("waits for real where the clock runs", function()
    test.virtual(false)
    assert.is_false(test.virtual())
    local began = task.now()
    test.run(task.sleep, 0.02)
    local took = task.now() - began
    assert.is_true(took >= 0.02 and took < 10)
    assert.has_error(function() test.advance(1) end,
      "the clock is real: only a virtual one can be advanced")
    assert_deadlock(function() test.run(task.park) end)
    assert.is_true(test.virtual(true))
    assert.is_true(task.now() >= began + took)
  end)
end)

describe("test.advance", function()
  it("moves the clock, with everything that happens on the way", function()
    local began, times = task.now(), {}
    task.spawn(function()
      for _ = 1, 3 do
        task.sleep(10)
        times[#times + 1] = task.now() - began
      end
    end)
    test.advance(25)
    assert.same({ 10, 20 }, times)
    assert.equal(began + 25, task.now())
    test.advance(5)
    assert.same({ 10, 20, 30 }, times)
    test.advance(0)
    assert.is_false(pcall(test.advance, -1))
  end)
end)

describe("who waits in vain", function()
  it("is told who waits for what, with tracebacks", function()
    local client <close> = test.connect(echo)
    local why = assert_deadlock(function() client:read() end)
    assert.matches("the spec waits in client:read\n?", why)
    assert.matches("a task waits in for iterator at spec/test_spec.lua:%d+\n", why)
    assert.matches("in function <spec/test_spec.lua:%d+>", why)
    why = assert_deadlock(function() test.run(function() task.park() end) end)
    assert.matches("the spec waits in park at spec/test_spec.lua:%d+\n", why)
  end)

  it("is told how long the others wait, too", function()
    task.spawn(function() task.sleep(7) end)
    test.settle()
    assert.matches("a task waits in sleep at %S+:%d+, for 7 more seconds\n",
      test.waiting())
    test.advance(7)
    assert.is_nil(test.waiting():find "sleep")
  end)

  it("is told when something never comes to rest", function()
    local busy = task.spawn(function()
      while true do coroutine.yield() end
    end)
    local time = require "moonpool.test_time"
    assert.is_false(time.turn(100))
    busy:cancel()
    assert.is_true(time.turn(100))
  end)
end)

describe("test.autojump", function()
  it("is on at first, and can be off", function()
    assert.is_true(test.autojump())
    assert.is_false(test.autojump(false))
    local ok, why = pcall(test.run, function() task.sleep(5) end)
    assert.is_false(ok)
    assert.matches("^everybody waits, and the clock stands still:\n", why)
    assert.matches("the spec waits in sleep.*, for 5 more seconds", why)
    test.run(task.sleep, 0)
    test.autojump(true)
    test.run(task.sleep, 5)
    test.autojump(false)
  end)

  it("is on again in the next test", function() test.run(task.sleep, 5) end)
end)

describe("test.at", function()
  it("sets the time of day, which then follows the clock", function()
    test.at(1e9)
    assert.same({ 1000000000, 1e9 }, { os.time(), core.time() })
    assert.equal("2001-09-09 01:46:40", os.date "!%Y-%m-%d %H:%M:%S")
    test.advance(1.5)
    assert.same({ 1000000001, 1e9 + 1.5 }, { os.time(), core.time() })
    assert.equal("1970-01-01", os.date("!%Y-%m-%d", 0))
    assert.equal(0, os.time { year = 1970, month = 1, day = 1, hour = 0 }
      - os.time { year = 1970, month = 1, day = 1, hour = 0 })
  end)

  it("is the system's again in the next test, and when it is asked for", function()
    assert.is_true(os.time() > 1500000000 and core.time() > 1.5e9)
    test.at(5)
    test.at(nil)
    assert.is_true(os.time() > 1500000000 and core.time() > 1.5e9)
  end)
end)

describe("test.eventually", function()
  it("moves the clock until it is so", function()
    local done
    task.spawn(function()
      task.sleep(10)
      done = "done"
    end)
    local began = task.now()
    assert.equal("done", test.eventually(function() return done end, 60))
    assert.equal(10, task.now() - began)
    assert.same({ nil, nil }, { test.eventually(function() end, 5) })
    assert.equal(15, task.now() - began)
  end)
end)

describe("test.directory", function()
  local path

  it("has what it is given", function()
    path = test.directory { ["a.txt"] = "text\0" }
    local file <close> = assert(io.open(path .. "/a.txt", "rb"))
    assert.equal("text\0", file:read "a")
    assert(os.execute(("cd %s && mkdir -p deep/er && ln -s /etc deep/link"):format(path)))
  end)

  it("is gone after the test, and nothing that it links to", function()
    assert.is_nil(io.open(path))
    io.open("/etc/passwd"):close()
  end)
end)

describe("test.settle", function()
  it("lets everything happen that can, and moves no clock", function()
    local began, stage = task.now(), 0
    local a, b = net.pair()
    task.spawn(function()
      a:write(("x"):rep(1 << 20))
      a:close()
      stage = stage + 1
    end)
    task.spawn(function()
      b:read "a"
      b:close()
      stage = stage + 1
      task.sleep(1)
      stage = stage + 1
    end)
    test.settle()
    assert.equal(2, stage)
    assert.equal(began, task.now())
    test.advance(1)
    assert.equal(3, stage)
  end)

  it("does nothing inside of a task", function()
    test.run(test.settle)
  end)
end)

describe("a test client", function()
  it("has the methods of a connection", function()
    local client <close> = test.connect(echo)
    assert.equal("unix:", client:peer())
    assert.equal(client, client:write("one\n", 2, "\nthree\nfour"))
    assert.equal("one", client:read())
    assert.equal(client.conn, client:settimeout(5))
    assert.same({ "2\n", nil }, { client:read "L" })
    client:shutdown()
    local rest = {}
    for line in client:lines "L" do rest[#rest + 1] = line end
    assert.same({ "three\n", "four" }, rest)
    assert.same({ nil, "closed", "EPIPE" }, { client:write "more" })
    assert.is_true(client:close())
    assert.is_true(client:close())
    assert.is_false(pcall(client.read, client))
  end)

  it("lets happen what its writing and closing bring about", function()
    local seen = {}
    local client <close> = test.connect(function(conn)
      for line in conn:lines() do seen[#seen + 1] = line end
      seen[#seen + 1] = "closed"
    end)
    client:write "one\n"
    assert.same({ "one" }, seen)
    client:write "two\n"
    client:close()
    assert.same({ "one", "two", "closed" }, seen)
  end)

  it("works inside of a task too", function()
    test.run(function()
      local client <close> = test.connect(echo)
      client:write "line\n"
      assert.equal("line", client:read())
    end)
  end)

  it("raises what a method raises", function()
    local client <close> = test.connect(echo)
    local ok, why = pcall(client.read, client, "nonsense")
    assert.is_false(ok)
    assert.matches("invalid format", why)
    assert.is_false(pcall(function() client:no_such_method() end))
  end)

  it("is for handlers only", function()
    assert.is_false(pcall(test.connect, {}))
    assert.is_false(pcall(test.connect, nil))
  end)
end)
