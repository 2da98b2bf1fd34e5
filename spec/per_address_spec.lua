-- connections_per_address: what one client may have of an HTTP application.

local core = require "moonpool.core"
local endpoint = require "native.endpoint"
local harness = require "server"
local http = require "moonpool.http"
local lfs = require "lfs"
local native_fd = require "native.fd"
local net = require "moonpool.net"
local process = require "native.process"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local GET <const> = "GET / HTTP/1.1\r\nHost: spec\r\n\r\n"
local UPGRADE <const> = "GET / HTTP/1.1\r\nHost: spec\r\n"
  .. "Connection: upgrade\r\nUpgrade: chat\r\n\r\n"
local REFUSAL <const> = "too many connections from this address\n"
local LINGER_SECONDS <const> = 2

local has_ipv6 = lfs.attributes "/proc/net/if_inet6" ~= nil

local function adopt(fd)
  return assert(net.conn(native_fd.adopt(assert(fd))))
end

-- The next answer: its status and content.
local function take(client)
  local status, length = (client:read() or ""):match "^HTTP/1.1 (%d+)", 0
  for line in client:lines() do
    if line == "" then break end
    length = tonumber(line:match "^Content%-Length: (%d+)") or length
  end
  return tonumber(status), length > 0 and client:read(length) or ""
end

local function ask(client)
  client:write(GET)
  return take(client)
end

local function is_served(client)
  return (ask(client)) == 200
end

local function assert_open(client)
  client:settimeout(0)
  assert.same({ nil, "timeout", "ETIMEDOUT" }, { client:read(1) })
end

-- It is told without having asked, and may say what it has to say all the same.
local function assert_refused(client)
  assert.same({ 503, REFUSAL }, { take(client) })
  assert.truthy(client:write(GET))
  assert.same({ nil, "closed", "EOF" }, { client:read(1) })
end

-- In this process ----------------------------------------------------------------------

local function new_app(settings)
  return http.app(settings):get("/", function(_, res) res:send "hello" end)
end

describe("a limit of connections per address", function()
  local set

  before_each(function() set = assert(endpoint.open "127.0.0.1:0") end)
  after_each(function() set:close() end)

  -- A client of the app, over TCP, from an address of its own if it is given.
  local function connect(app, from, to)
    local client = test.client(adopt(endpoint.connect((to or set):text(), from)))
    test.run(app, adopt(endpoint.accept((to or set):fd())))
    test.settle()
    return client
  end

  it("is kept, and those within it go on", function()
    local app = new_app { connections_per_address = 2 }
    local first <close> = connect(app)
    local second <close> = connect(app)
    local third <close> = connect(app)
    assert_refused(third)
    for _ = 1, 3 do assert.is_true(is_served(first) and is_served(second)) end
    assert_refused(connect(app))
  end)

  it("is given back when a client leaves, and when it is let go", function()
    local app = new_app { connections_per_address = 2, keep_alive = 60, requests = 2 }
    connect(app):close()
    local second <close> = connect(app)
    local third <close> = connect(app)
    assert.is_true(is_served(third) and is_served(second))
    assert.is_true(is_served(third)) -- its last
    local fourth <close> = connect(app)
    assert.is_true(is_served(fourth))
    test.advance(61)
    local fifth <close> = connect(app)
    local sixth <close> = connect(app)
    assert.is_true(is_served(fifth) and is_served(sixth))
    assert_refused(connect(app))
  end)

  it("is for each address", function()
    local app = new_app { connections_per_address = 1 }
    local first <close> = connect(app)
    local other <close> = connect(app, "127.0.0.2:0")
    assert.is_true(is_served(first) and is_served(other))
    assert_refused(connect(app))
    assert_refused(connect(app, "127.0.0.2:0"))
  end)

  it("is of applications together, each with its own", function()
    local one = new_app { connections_per_address = 1 }
    local two = new_app { connections_per_address = 2 }
    local first <close> = connect(one)
    local second <close> = connect(two)
    assert.is_true(is_served(first) and is_served(second))
    assert_refused(connect(two))
  end)

  it("is not there by default, and 0 is none", function()
    for _, app in ipairs { new_app(), new_app { connections_per_address = 0 } } do
      local clients = {}
      for i = 1, 20 do clients[i] = connect(app) end
      for _, client in ipairs(clients) do assert.is_true(is_served(client)) end
      harness.close_all(clients)
    end
  end)

  it("does not count unix sockets", function()
    local app = new_app { connections_per_address = 1 }
    local clients = {}
    for i = 1, 5 do clients[i] = test.connect(app) end
    for _, client in ipairs(clients) do assert.is_true(is_served(client)) end
    harness.close_all(clients)
  end)

  it("counts IPv4 clients of an IPv6 socket as what they are", function()
    if not has_ipv6 then return end
    local dual <close> = assert(endpoint.open ":0")
    local port = dual:text():match ":(%d+)$"
    local app = new_app { connections_per_address = 1 }
    local function connect_dual(host)
      return connect(app, nil, { fd = function() return dual:fd() end,
        text = function() return host .. ":" .. port end })
    end
    local first <close> = connect_dual "127.0.0.1"
    local other <close> = connect_dual "[::1]"
    assert.is_true(is_served(first) and is_served(other))
    assert_refused(connect(app))
    assert_refused(connect_dual "127.0.0.1")
    assert_refused(connect_dual "[::1]")
  end)

  it("lets go of who is refused and stays", function()
    local app = new_app { connections_per_address = 1 }
    local first <close> = connect(app)
    local before = harness.descriptors(process.pid())
    local second <close> = connect(app)
    assert.equal(before + 2, harness.descriptors(process.pid()))
    test.advance(LINGER_SECONDS + 0.1)
    assert.equal(before + 1, harness.descriptors(process.pid()))
    assert.same({ 503, REFUSAL }, { take(second) })
    assert.is_true(is_served(first))
  end)

  it("tells of those it refuses", function()
    local entries = {}
    local app = new_app { connections_per_address = 1, answered = function(entry)
      entries[#entries + 1] = entry
    end }
    local first <close> = connect(app)
    local second <close> = connect(app)
    assert_refused(second)
    assert.same({ { status = 503, bytes = #REFUSAL, seconds = 0, peer = second:sock() } },
      entries)
    assert.is_true(is_served(first))
  end)

  it("counts a connection that has gone over to another protocol", function()
    local app = http.app { connections_per_address = 1 }
    app:get("/", function(_, res)
      local conn <close> = res:upgrade "chat"
      conn:read "l"
    end)
    local first <close> = connect(app)
    first:write(UPGRADE)
    assert.equal(101, (take(first)))
    assert_refused(connect(app))
    first:write "bye\n"
    assert.same({ nil, "closed", "EOF" }, { first:read(1) })
    first:close()
    local second <close> = connect(app)
    assert_open(second)
  end)

  it("counts a connection to its end, however slowly it takes its last answer", function()
    test.virtual(false) -- the kernel has its own clock
    local length, is_answered = 1 << 18, false
    local app = http.app { connections_per_address = 1, requests = 1,
      answered = function() is_answered = true end }
    app:get("/", function(_, res) res:send(("x"):rep(length)) end)
    endpoint.option(set:fd(), "sndbuf", 1) -- little is the kernel's to keep
    local first <close> = connect(app)
    endpoint.option(first:fileno(), "rcvbuf", 32768)
    first:write(GET)
    for line in first:lines() do
      if line == "" then break end
    end
    repeat length = length - #first:readsome(4096) until is_answered
    assert.is_true(length > 4096)
    assert_refused(connect(app))
    while length > 0 do length = length - #first:readsome(65536) end
    assert.same({ nil, "closed", "EOF" }, { first:read(1) })
    local second <close> = connect(app)
    assert_open(second)
  end)

  it("counts a connection once that is served twice", function()
    local inner = new_app { connections_per_address = 1 }
    local app = http.app { connections_per_address = 1 }
    app:get("/", function(_, res) inner(res:upgrade "chat") end)
    local client <close> = connect(app)
    client:write(UPGRADE)
    assert.equal(101, (take(client)))
    assert.is_true(is_served(client))
    assert_refused(connect(app))
    client:close()
    local other <close> = connect(inner)
    assert.is_true(is_served(other))
  end)

  it("is a whole number, not negative", function()
    assert.error_matches(function() http.app { connections_per_address = -1 } end,
      "connections_per_address: negative")
    assert.error_matches(function() http.app { connections_per_address = 1e10 } end,
      "connections_per_address: more than")
    assert.error_matches(function() http.app { connections_per_address = "many" } end,
      "number expected")
  end)
end)

-- In a pool ----------------------------------------------------------------------------

describe("a limit of connections per address in a pool", function()
  local LIMIT <const> = 10
  local script = [[
    local http = require "moonpool.http"
    local worker = require("moonpool").worker
    local app = http.app { connections_per_address = 10 }
    return app:get("/", function(_, res) res:send(worker.id .. "\n") end)
  ]]

  local function run()
    return harness.run { workers = 2, script = script }
  end

  -- n at once, each of which asks at once.
  local function crowd(server, n, from)
    local clients = {}
    for i = 1, n do
      local conn = from and adopt(endpoint.connect(server.address, from))
        or assert(test.run(core.net.connect, server.address))
      clients[i] = test.client(conn)
      clients[i].conn:settimeout(20)
      clients[i].conn:write(GET)
    end
    test.settle()
    return clients
  end

  -- Those who are served, by worker, and those who are not, which are closed.
  local function sort(clients)
    local served, refused = { {}, {} }, 0
    for _, client in ipairs(clients) do
      local status, content = take(client)
      if status == 200 then
        local list = served[tonumber(content)]
        list[#list + 1] = client
      else
        assert.same({ 503, REFUSAL }, { status, content })
        refused = refused + 1
        client:close()
      end
    end
    return served, refused
  end

  local function close_all(...)
    for _, clients in ipairs { ... } do harness.close_all(clients) end
  end

  local function descriptors(server)
    local n = 0
    for _, pid in pairs(server:workers()) do n = n + harness.descriptors(pid) end
    return n
  end

  local function assert_all_served(...)
    for _, clients in ipairs { ... } do
      for _, client in ipairs(clients) do assert.is_true(is_served(client)) end
    end
  end

  it("is exact over all workers, for each address", function()
    local server <close> = run()
    local served, refused = sort(crowd(server, 30))
    assert.same({ LIMIT, 20 }, { #served[1] + #served[2], refused })
    local others = sort(crowd(server, LIMIT, "127.0.0.2:0"))
    assert.equal(LIMIT, #others[1] + #others[2])
    assert_all_served(served[1], served[2], others[1], others[2])
    close_all(served[1], served[2], others[1], others[2])
  end)

  it("is exact however often they come and go", function()
    local server <close> = run()
    local before = descriptors(server)
    local function wait_for(n)
      harness.eventually(function() return descriptors(server) == before + n end,
        n .. " connections in the workers")
    end
    for _ = 1, 30 do
      local first = sort(crowd(server, 30))
      assert.equal(LIMIT, #first[1] + #first[2])
      harness.close_all(first[1])
      wait_for(#first[2])
      local second = sort(crowd(server, 30))
      assert.equal(LIMIT, #first[2] + #second[1] + #second[2])
      assert_all_served(first[2], second[1], second[2])
      close_all(first[2], second[1], second[2])
      wait_for(0)
    end
  end)

  it("forgets what a worker had that was killed", function()
    local server <close> = run()
    local served = sort(crowd(server, LIMIT))
    assert.same({ LIMIT // 2, LIMIT // 2 }, { #served[1], #served[2] })
    local victim = server:workers()[1]
    process.kill(victim, "KILL")
    for _, client in ipairs(served[1]) do assert.is_nil((client:read(1))) end
    harness.eventually(function()
      local successor = server:workers()[1]
      return successor and successor ~= victim
    end, "a successor")
    local again, refused = sort(crowd(server, 30))
    assert.same({ #served[1], 30 - #served[1] }, { #again[1] + #again[2], refused })
    assert_all_served(served[2], again[1], again[2])
    close_all(served[1], served[2], again[1], again[2])
  end)

  it("is for each pool", function()
    local directory = harness.directory()
    harness.write_file(directory .. "/app.lua", script)
    harness.write_file(directory .. "/pools.lua", [[
      local pool = { app = "app.lua", listen = "127.0.0.1:0", workers = 2 }
      return { pools = { a = pool, b = pool } }
    ]])
    local config = directory .. "/pools.lua"
    local server <close> = harness.start { "serve", "--config", config }
    server:expect "ready: 4 workers"
    local all = {}
    for _, name in ipairs { "a", "b" } do
      local address = server:expect(name .. ": listening on (%S+)")
      local served, refused = sort(crowd({ address = address }, 15))
      assert.same({ LIMIT, 5 }, { #served[1] + #served[2], refused })
      table.move(served, 1, 2, #all + 1, all)
    end
    assert_all_served(table.unpack(all))
    close_all(table.unpack(all))
    harness.remove(directory)
  end)
end)
