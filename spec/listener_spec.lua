local channel = require "native.channel"
local endpoint = require "native.endpoint"
local harness = require "server"
local listeners = require "native.listener"
local native = require "native.loop"
local process = require "native.process"

local loop, set, listener, ready, before

before_each(function()
  before = harness.descriptors(process.pid())
  loop = native.new()
  loop:virtual(true)
  set = assert(endpoint.open("127.0.0.1:0", { backlog = 64 }))
  ready = 0
end)

after_each(function()
  if listener then listener:close() end
  listener = nil
  set:close()
  loop:free()
  assert.equal(before, harness.descriptors(process.pid()))
end)

-- Opens it; fn, or else nothing, is what it does when clients wait.
local function open(fn)
  listener = listeners.open(loop, set:fd(), function()
    ready = ready + 1
    if fn then return fn() end
  end)
end

local function connect(n)
  local clients = {}
  for i = 1, n do clients[i] = assert(endpoint.connect(set:text())) end
  return clients
end

local function close_all(fds) channel.close(table.unpack(fds)) end

-- Accepts until there is none: a list.
local function accept_all()
  local served = {}
  repeat
    local fd = listener:accept()
    served[#served + 1] = fd
  until not fd
  return served
end

-- As accept_all, when the listener says that it is time; nothing until then.
local function open_accepting()
  local served = {}
  open(function()
    table.move(accept_all(), 1, 64, #served + 1, served)
  end)
  return served
end

describe("a listener", function()
  it("is silent while nobody waits", function()
    open()
    assert.is_false(loop:turn())
    assert.is_nil(listener:accept())
    assert.equal(0, ready)
  end)

  it("calls nobody before it has been opened", function()
    local clients = connect(1)
    local served = open_accepting()
    assert.equal(0, ready)
    loop:turn()
    assert.equal(1, ready)
    close_all(clients)
    close_all(served)
  end)

  it("gives all who wait, and then says that there is none", function()
    local served = open_accepting()
    local clients = connect(20)
    loop:turn()
    assert.equal(1, ready)
    assert.equal(20, #served)
    loop:turn()
    assert.equal(1, ready)
    close_all(clients)
    close_all(served)
  end)

  it("gives descriptors that do not block and are not inherited", function()
    local served = open_accepting()
    local clients = connect(1)
    loop:turn()
    local cloexec, nonblock = channel.flags(served[1])
    assert.is_true(cloexec and nonblock)
    close_all(clients)
    close_all(served)
  end)

  it("goes on calling while clients wait that nobody took", function()
    local served = {}
    open(function() served[#served + 1] = listener:accept() end)
    local clients = connect(3)
    for turn = 1, 3 do
      assert.is_true(loop:turn())
      assert.equal(turn, #served)
    end
    loop:turn()
    assert.equal(3, ready)
    close_all(clients)
    close_all(served)
  end)

  it("knows how many clients wait", function()
    local waiting = {}
    open(function()
      waiting[#waiting + 1] = listener:waiting(64)
      channel.close(listener:accept())
    end)
    local clients = connect(3)
    for _ = 1, 3 do loop:turn() end
    assert.same({ 3, 2, 1 }, waiting)
    close_all(clients)
  end)

  it("says no more of those who wait than it is asked for", function()
    local waiting
    open(function()
      waiting = listener:waiting(2)
      close_all(accept_all())
    end)
    local clients = connect(3)
    loop:turn()
    assert.equal(2, waiting)
    close_all(clients)
  end)

  it("says the most of a unix socket", function()
    local path = os.tmpname()
    os.remove(path)
    local unix = assert(endpoint.open("unix:" .. path))
    listener = listeners.open(loop, unix:fd(), function() end)
    local client = assert(endpoint.connect("unix:" .. path))
    assert.equal(64, listener:waiting(64))
    channel.close(client, listener:accept())
    listener:close()
    listener = nil
    unix:close()
  end)

  it("says the most where nobody waits any more", function()
    open()
    assert.equal(64, listener:waiting(64))
  end)

  it("leaves its socket open when it is closed", function()
    open()
    listener:close()
    listener = nil
    local clients = connect(1)
    loop:turn()
    assert.equal(0, ready)
    local served = open_accepting()
    loop:turn()
    assert.equal(1, #served)
    close_all(clients)
    close_all(served)
  end)

  it("may be closed in its callback", function()
    open(function()
      listener:close()
      listener = nil
    end)
    local clients = connect(2)
    loop:turn()
    loop:turn()
    assert.equal(1, ready)
    close_all(clients)
  end)

  it("leaves no trace in the loop though another process has its socket", function()
    local copy = channel.dup(set:fd())
    open()
    loop:turn()
    listener:close()
    listener = nil
    set:close()
    local clients = { assert(endpoint.connect(set:text())) }
    loop:turn()
    assert.is_false(channel.poll(loop:epoll(), 0))
    close_all(clients)
    channel.close(copy)
  end)
end)

describe("a listener that is paused", function()
  it("says nothing and gives nobody until it is resumed", function()
    local served = open_accepting()
    listener:pause()
    local clients = connect(3)
    loop:advance(100)
    assert.equal(0, ready)
    assert.is_nil(listener:accept())
    listener:resume()
    loop:turn()
    assert.equal(1, ready)
    assert.equal(3, #served)
    close_all(clients)
    close_all(served)
  end)

  it("in its callback leaves the others in the backlog", function()
    local served = {}
    open(function()
      served[#served + 1] = listener:accept()
      listener:pause()
      assert.is_nil(listener:accept())
    end)
    local clients = connect(3)
    loop:turn()
    loop:turn()
    assert.equal(1, #served)
    listener:resume()
    loop:turn()
    assert.equal(2, #served)
    close_all(clients)
    close_all(served)
  end)
end)

describe("a listener without a descriptor to give", function()
  local served, clients

  before_each(function()
    served = open_accepting()
    clients = connect(2)
  end)

  after_each(function()
    close_all(clients)
    close_all(served)
  end)

  -- Runs fn in a process that has reached its limit; what it logged.
  local function at_the_limit(fn)
    return listeners.captured(function()
      local old = channel.limit(channel.lowest())
      local ok, err = pcall(fn)
      channel.limit(old)
      assert(ok, err)
    end)
  end

  it("rests for a second, says so, and then goes on", function()
    local said = at_the_limit(function()
      loop:turn()
      loop:turn()
      loop:advance(0.999)
    end)
    assert.equal(1, ready)
    assert.matches("warn: accept: Too many open files; trying again in 1 s\n$", said)
    assert.equal(1, select(2, said:gsub("\n", "")))
    assert.is_nil(listener:accept())
    assert.equal(0, #served)
    loop:advance(0.001)
    loop:turn()
    assert.equal(2, #served)
    assert.equal(2, ready)
  end)

  it("rests again if there still is none", function()
    local said = at_the_limit(function() loop:advance(3.5) end)
    assert.equal(4, ready)
    assert.equal(4, select(2, said:gsub("\n", "")))
    loop:advance(1)
    assert.equal(2, #served)
  end)

  it("stays paused after its rest if it was paused meanwhile", function()
    at_the_limit(function() loop:turn() end)
    listener:pause()
    loop:advance(5)
    assert.equal(1, ready)
    listener:resume()
    loop:turn()
    assert.equal(2, #served)
  end)

  it("rests on though it is resumed", function()
    at_the_limit(function() loop:turn() end)
    listener:pause()
    listener:resume()
    loop:advance(0.9)
    assert.equal(1, ready)
    loop:advance(0.2)
    assert.equal(2, #served)
  end)

  it("may be closed while it rests", function()
    at_the_limit(function() loop:turn() end)
    listener:close()
    listener = nil
    loop:advance(5)
    assert.equal(1, ready)
  end)

  it("rests too when it is the system that has none, or no memory", function()
    for _, name in ipairs { "ENFILE", "ENOBUFS", "ENOMEM" } do
      listeners.fail(name, 1)
      assert.not_equal("", listeners.captured(function() loop:turn() end))
      assert.equal(0, #served)
      listener:pause()
      loop:advance(1)
      listener:resume()
    end
    loop:turn()
    assert.equal(2, #served)
  end)
end)

describe("a client that has given up", function()
  it("before it is accepted does not keep the next from being served", function()
    local served = open_accepting()
    local clients = connect(3)
    close_all { table.remove(clients, 2) }
    loop:turn()
    assert.is_true(#served >= 2)
    close_all(served)
    close_all(clients)
  end)

  it("is passed over, silently and without a rest", function()
    local served = open_accepting()
    local clients = connect(2)
    for _, name in ipairs { "ECONNABORTED", "EINTR", "EPROTO", "EPERM", "ENETDOWN" } do
      listeners.fail(name, 3)
      local more = connect(1)
      local count = #served
      assert.equal("", listeners.captured(function() loop:turn() end))
      assert.is_true(#served > count)
      table.move(more, 1, 1, #clients + 1, clients)
    end
    assert.equal(#clients, #served)
    close_all(clients)
    close_all(served)
  end)
end)
