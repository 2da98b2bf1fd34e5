local core = require "moonpool.core"
local endpoint = require "native.endpoint"
local harness = require "server"
local lfs = require "lfs"
local native_fd = require "native.fd"
local net = require "moonpool.net"
local process = require "native.process"
local test = require "moonpool.test"

local fd = core.fd

require "tidy" (before_each, after_each)

local function descriptors()
  return harness.descriptors(process.pid())
end

local function listen(text, options)
  return assert(endpoint.open(text, options))
end

-- The connection that the listener has for whoever is connecting to it.
local function accept(set)
  return test.client(assert(net.conn(native_fd.adopt(assert(endpoint.accept(set:fd()))))))
end

local function connect(...)
  local conn, message, code = test.run(net.connect, ...)
  if not conn then return nil, message, code end
  return test.client(conn)
end

local function talk(one, other)
  one:write "question\n"
  assert.equal("question", other:read())
  other:write "answer\n"
  assert.equal("answer", one:read())
end

describe("net.connect", function()
  for _, virtual in ipairs { false, true } do
    local clock = virtual and "stands" or "runs"
    it("connects over TCP, with a clock that " .. clock, function()
      test.virtual(virtual)
      local set <close> = listen "127.0.0.1:0"
      local client <close> = assert(connect(set:text(), 10))
      local served <close> = accept(set)
      assert.equal(set:text(), client:peer())
      assert.equal(set:text(), served:sock())
      assert.equal(client:sock(), served:peer())
      assert.equal(1, endpoint.option(client:fileno(), "nodelay"))
      talk(client, served)
      client:shutdown()
      assert.equal("", served:read "a")
    end)
  end

  it("connects over IPv6, where there is one", function()
    local addresses = io.open "/proc/net/if_inet6"
    local has_one = addresses and addresses:read("a"):find(("0"):rep(31) .. "1", 1, true)
    if addresses then addresses:close() end
    local set <close> = listen(has_one and "[::1]:0" or "127.0.0.1:0")
    local client <close> = assert(connect(set:text()))
    local served <close> = accept(set)
    talk(client, served)
  end)

  it("connects to unix sockets, by path and by name", function()
    local directory = harness.directory()
    local path = "unix:" .. directory .. "/socket"
    for _, text in ipairs { path, "unix:@moonpool-" .. process.pid() } do
      local set <close> = listen(text)
      local client <close> = assert(connect(text))
      local served <close> = accept(set)
      assert.equal(text, client:peer())
      assert.equal("unix:", client:sock())
      talk(client, served)
    end
    lfs.rmdir(directory)
  end)

  it("makes descriptors that are not inherited and do not block", function()
    local set <close> = listen "127.0.0.1:0"
    local client <close> = assert(connect(set:text()))
    assert.same({ true, true }, { native_fd.flags(client:fileno()) })
  end)

  it("says who refuses, and leaves nothing open", function()
    local directory = harness.directory()
    local path = directory .. "/socket"
    native_fd.adopt(endpoint.socket("listener", path)):close()
    local set = listen "127.0.0.1:0"
    local text = set:text()
    set:close()
    collectgarbage "stop"
    local before = descriptors()
    for _ = 1, 10 do
      assert.same({ nil, "connection refused", "ECONNREFUSED" }, { connect(text) })
    end
    assert.same({ nil, "connection refused", "ECONNREFUSED" },
      { connect("unix:" .. path) })
    assert.same({ nil, "No such file or directory", "ENOENT" },
      { connect("unix:" .. path .. "-not") })
    test.settle()
    local after = descriptors()
    collectgarbage "restart"
    assert.equal(before, after)
    harness.remove(directory)
  end)

  it("tries the addresses of a name one after the other", function()
    for _, text in ipairs(assert(core.net.resolve "localhost:0")) do
      local set <close> = listen(text) -- on one of them only
      local port = set:text():match ":(%d+)$"
      local client <close> = assert(connect("localhost:" .. port, 10))
      local served <close> = accept(set)
      talk(client, served)
    end
  end)

  it("says what is wrong with an address", function()
    local conn, message, code = connect "nonsense"
    assert.is_nil(conn)
    assert.matches("^nonsense: .+", message)
    assert.equal("EINVAL", code)
    conn, message, code = connect("unix:/" .. ("x"):rep(200))
    assert.is_nil(conn)
    assert.matches("may have at most 107 bytes", message)
    assert.equal("EINVAL", code)
    for _, wrong in ipairs { {}, true } do assert.is_false(pcall(net.connect, wrong)) end
    assert.is_false(pcall(net.connect))
    assert.is_false(pcall(net.connect, "127.0.0.1:1", "soon"))
  end)

  -- A listener whose queue is full, which then does not answer.
  local function full(set)
    local queued = {}
    repeat
      local client, _, code = connect(set:text(), 1)
      queued[#queued + 1] = client
    until code
    return setmetatable(queued, { __close = function()
      for _, client in ipairs(queued) do client:close() end
    end })
  end

  it("has its own time limit", function()
    local set <close> = listen("127.0.0.1:0", { backlog = 1 })
    local queued <close> = full(set)
    assert.is_true(#queued > 0)
    local before, began = descriptors(), core.task.now()
    collectgarbage "stop"
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { connect(set:text(), 30) })
    assert.equal(began + 30, core.task.now())
    local after = descriptors()
    collectgarbage "restart"
    assert.equal(before, after)
  end)

  it("can be cancelled", function()
    local set <close> = listen("127.0.0.1:0", { backlog = 1 })
    local queued <close> = full(set)
    local returned = false
    local t = core.task.spawn(function()
      net.connect(set:text())
      returned = true
    end)
    test.advance(1000)
    assert.is_true(t:alive())
    t:cancel()
    test.settle()
    assert.is_false(t:alive() or returned)
    assert.is_true(#queued > 0)
  end)

  it("can only wait in a task", function()
    local set <close> = listen "127.0.0.1:0"
    local ok, why = pcall(net.connect, set:text())
    assert.is_false(ok)
    assert.matches("only a task can", why)
    test.settle()
  end)
end)

describe("net.pair", function()
  it("makes two ends of one connection", function()
    local a, b = net.pair()
    local one <close> = test.client(a)
    local other <close> = test.client(b)
    assert.same({ true, true }, { native_fd.flags(a:fileno()) })
    assert.same({ true, true }, { native_fd.flags(b:fileno()) })
    talk(one, other)
    talk(other, one)
  end)
end)

describe("net.conn", function()
  -- Both ends of a pipe, as connections.
  local function pipe()
    local reading, writing = fd.pipe()
    local from = test.client(assert(net.conn(reading)))
    local to = test.client(assert(net.conn(writing)))
    assert.equal("moonpool.fd (closed)", tostring(reading))
    assert.equal("moonpool.fd (closed)", tostring(writing))
    local function close()
      from:close()
      to:close()
    end
    return from, to, setmetatable({}, { __close = close })
  end

  it("takes over both ends of a pipe", function()
    local from, to, _ <close> = pipe()
    to:write "one\ntwo"
    assert.equal("one", from:read())
    to:close()
    assert.same({ "two", nil, "closed", "EOF" }, { from:read("l", "l") })
  end)

  it("waits for a pipe that is full", function()
    local from, to, _ <close> = pipe()
    local text = ("0123456789abcdef"):rep(1 << 15)
    local done = false
    core.task.spawn(function()
      to.conn:write(text)
      to.conn:close()
      done = true
    end)
    test.settle()
    assert.is_false(done)
    assert.is_true(text == from:read "a")
    assert.is_true(done)
  end)

  it("closes a pipe at the end of what was written before shutdown and close", function()
    local from, to, _ <close> = pipe()
    to:write "last words"
    to:shutdown()
    assert.same({ nil, "closed", "EPIPE" }, { to:write "more" })
    to:close()
    assert.equal("last words", from:read "a")
  end)

  it("tells a writer that nobody reads any more, without a signal", function()
    local from, to, _ <close> = pipe()
    from:close()
    assert.same({ nil, "closed", "EPIPE" }, { to:write "x" })
  end)

  it("refuses what cannot be waited for, which stays the caller's", function()
    local a, b = net.pair()
    local one <close> = test.client(a)
    local other <close> = test.client(b)
    local path = os.tmpname()
    local tcp <close> = listen "127.0.0.1:0"
    local unix <close> = listen("unix:@moonpool-refused-" .. process.pid())
    local opened = {
      native_fd.copy(tcp:fd()),
      native_fd.copy(unix:fd()),
    }
    local file <close> = assert(io.open(path))
    one:sendfd(file, ".")
    opened[3] = other:recvfd()
    for _, descriptor in ipairs(opened) do
      assert.same({ nil, "Invalid argument", "EINVAL" }, { net.conn(descriptor) })
      assert.not_nil(descriptor:kind())
      descriptor:close()
      local ok, why = pcall(net.conn, descriptor)
      assert.is_false(ok)
      assert.matches("descriptor is closed", why)
    end
    os.remove(path)
    for _, wrong in ipairs { 1, "x", a, {} } do
      assert.is_false(pcall(net.conn, wrong))
    end
  end)

  it("says that TCP carries no descriptors", function()
    local set <close> = listen "127.0.0.1:0"
    local client <close> = assert(connect(set:text()))
    local served <close> = accept(set)
    assert.same({ nil, "Operation not supported", "EOPNOTSUPP" },
      { client:sendfd(io.stdin, "x") })
    assert.same({ nil, "Operation not supported", "EOPNOTSUPP" }, { served:recvfd() })
    talk(client, served)
  end)
end)
