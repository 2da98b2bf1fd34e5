local config = require "moonpool.config"
local lfs = require "lfs"

-- A directory with some apps in it; it is the current one of every load() here.
local dir

local function write(name, text)
  local file <close> = assert(io.open(dir .. "/" .. name, "w"))
  assert(file:write(text))
  return name
end

local function load(args, context)
  context = context or {}
  return config.load(args, {
    cores = context.cores or 4, cwd = dir, listen_fds = context.listen_fds or 0,
  })
end

local function load_file(text, context)
  return load({ "--config", write("pools.lua", text) }, context)
end

-- What load() returned where all is well, and where it is not.
local function good(result, message)
  assert.is_nil(message)
  return result
end

local function bad(kind, result, message, actual)
  assert.is_nil(result)
  assert.equal(kind, actual)
  return message
end

local function usage(args, context)
  return bad("usage", load(args, context))
end

local function complaint(text)
  return bad("config", load_file(text))
end

-- A pool from a file, or from flags.
local function pool_of(text, context)
  local file = ('return { app = "app.lua", %s }'):format(text)
  return good(load_file(file, context)).pools[1]
end

local function pool_by(...)
  return good(load { "app.lua", ... }).pools[1]
end

setup(function()
  dir = os.tmpname()
  os.remove(dir)
  assert(lfs.mkdir(dir))
  for _, name in ipairs { "sub", "sub/deep", "odd name" } do
    assert(lfs.mkdir(dir .. "/" .. name))
  end
  for _, name in ipairs {
    "app.lua", "web.lua", "chat.lua", "sub/app.lua", "sub/init.lua", "sub/deep/echo.lua",
    "odd name/app.lua", ("long"):rep(10) .. ".lua",
  } do
    write(name, "return function() end\n")
  end
end)

teardown(function()
  assert(os.execute(("rm -r '%s'"):format(dir)))
end)

describe("config.load with flags", function()
  it("gives every key its default", function()
    assert.same({
      user = "", group = "", drain = 10, log_level = "info", control = "",
      pools = { {
        name = "web", app = dir .. "/web.lua", listen = { "127.0.0.1:8080" }, workers = 4,
        concurrency = 10000, policy = "least_loaded", env = {}, backlog = 4096,
        socket_mode = 0, socket_owner = "", idle_timeout = 0, handler_timeout = 10,
        stuck_timeout = 16, load_timeout = 60, read_limit = 1048576,
        write_limit = 65536, state_limit = 65536, max_requests = 0, memory_limit = 0,
        memory_soft_limit = 0, survive = false, dev = false,
      } },
    }, good(load { "web.lua" }))
  end)

  it("takes every flag", function()
    assert.same({
      user = "www-data", group = "web", drain = 2.5, log_level = "debug",
      control = dir .. "/ctl",
      pools = { {
        name = "front", app = dir .. "/web.lua",
        listen = { ":80", "unix:" .. dir .. "/s" },
        workers = 2, concurrency = 1, policy = "round_robin",
        env = { "A=1=2", "B=" }, backlog = 7, socket_mode = 432, socket_owner = "me:us",
        idle_timeout = 0.5, handler_timeout = 0.2, stuck_timeout = 1, load_timeout = 30,
        read_limit = 65536, write_limit = 2097152, state_limit = 131072,
        max_requests = 7, memory_limit = 536870912, memory_soft_limit = 268435456,
        survive = true, dev = true,
      } },
    }, good(load {
      "--user=www-data", "--group", "web", "--drain", "2.5", "--log-level", "debug",
      "--control", "ctl", "--state-limit", "128k",
      "--max-requests", "7",
      "--name", "front", "-l", ":80", "web.lua", "--listen=unix:s", "-w", "2",
      "--concurrency", "1", "--policy", "round-robin", "--env", "B=", "--env=A=1=2",
      "--backlog", "7", "--socket-mode", "0660", "--socket-owner", "me:us",
      "--idle-timeout", "500ms", "--handler-timeout=200ms", "--stuck-timeout", "1",
      "--load-timeout", "30s", "--read-limit", "64k", "--write-limit", "2M",
      "--memory-limit=0.5G", "--memory-soft-limit", "256m", "--survive", "--dev",
    }))
  end)

  it("takes a value in both spellings, also one that begins with a dash", function()
    assert.equal(3, pool_by("-w", "3").workers)
    assert.equal(3, pool_by("-w=3").workers)
    assert.equal(3, pool_by("--workers=3").workers)
    assert.equal("-x", pool_by("--name=-x").name)
    assert.matches('^%-%-workers: must be .* is "%-1"$', usage { "app.lua", "-w", "-1" })
    assert.matches('^%-%-workers: must be .* is ""$', usage { "app.lua", "--workers=" })
  end)

  it("lets the last of a flag count", function()
    assert.equal(3, pool_by("-w", "2", "-w", "3").workers)
    assert.same({ "A=2" }, pool_by("--env", "A=1", "--env", "A=2").env)
  end)

  it("takes an app that looks like a flag after --", function()
    write("--app.lua", "")
    local pools = good(load { "-w", "1", "--", "--app.lua" }).pools
    assert.equal(dir .. "/--app.lua", pools[1].app)
  end)

  it("suggests the nearest flag", function()
    assert.equal('--lisen: unknown flag; did you mean "--listen"?',
      usage { "app.lua", "--lisen", ":80" })
    assert.equal('--read_limit: unknown flag; did you mean "--read-limit"?',
      usage { "app.lua", "--read_limit=1" })
    assert.equal('-workers: unknown flag; did you mean "--workers"?',
      usage { "app.lua", "-workers", "2" })
    assert.matches("^%-%-frobnicate: unknown flag; there are %-%-config, %-%-user, ",
      usage { "app.lua", "--frobnicate" })
  end)

  it("has no flag for the app or the pools", function()
    assert.matches("^%-%-app: unknown flag", usage { "--app=app.lua", "app.lua" })
    assert.matches("^%-%-pools: unknown flag", usage { "--pools=1", "app.lua" })
  end)

  it("has switches, which need no value", function()
    assert.is_false(pool_by().dev)
    assert.is_true(pool_by("--dev").dev)
    assert.is_true(pool_by("--dev=true").dev)
    assert.is_false(pool_by("--dev", "--dev=false").dev)
    assert.is_true(good(load { "--dev", "app.lua" }).pools[1].dev)
    assert.equal('--dev: must be true or false, is "no"', usage { "app.lua", "--dev=no" })
    assert.equal("--dev: belongs in the file that --config names",
      usage { "--dev", "--config", write("one.lua", 'return { app = "app.lua" }') })
  end)

  it("says that a flag lacks its value", function()
    assert.equal("--listen: needs its value, ADDRESS", usage { "app.lua", "--listen" })
    assert.equal("--workers: needs its value, N",
      usage { "app.lua", "-w", "--listen", ":80" })
    assert.equal("--workers: needs its value, N", usage { "-w", "--", "app.lua" })
  end)

  it("says what to type where there is no app", function()
    assert.equal('app: is missing; type its path ("app.lua"), or "--config pools.lua"',
      usage {})
  end)

  it("serves one app only, from one place", function()
    assert.equal('app: given twice, as "web.lua" and "chat.lua"',
      usage { "web.lua", "chat.lua" })
    write("pools.lua", 'return { app = "app.lua" }')
    assert.equal("app: stands in the file that --config names, not here",
      usage { "--config", "pools.lua", "app.lua" })
    assert.equal("--listen: belongs in the file that --config names\n"
      .. "--workers: belongs in the file that --config names",
      usage { "-w", "2", "--listen=:80", "-c", "pools.lua" })
  end)

  it("says why a file cannot be opened", function()
    local none = "cannot open " .. dir .. "/no.lua: No such file or directory"
    assert.equal("app: " .. none, usage { "no.lua" })
    assert.equal("app: cannot open /x/y.lua: No such file or directory",
      usage { "/x/y.lua" })
    assert.equal(("app: cannot open %s/sub: Is a directory"):format(dir), usage { "sub" })
    assert.equal("--config: " .. none, usage { "--config", "no.lua" })
    assert.equal('app: must be the path of a file, is ""', usage { "" })
  end)

  it("finds all that is wrong, arguments first, then values", function()
    local problems = {}
    for line in usage {
      "no.lua", "--wat=1", "--env", "novalue", "--drain=x", "-w=0", "-l=80", "-l=:99999",
    }:gmatch("[^\n]+") do
      problems[#problems + 1] = line:match("^[^:]+: %S+ %S+")
    end
    assert.same({
      "--wat: unknown flag;", "--env: must be", "--drain: must be", "app: cannot open",
      "--listen: must be", "--listen: must be", "--workers: must be",
    }, problems)
  end)
end)

describe("a pool's name", function()
  local function name_of(app)
    return good(load { app }).pools[1].name
  end

  it("is the app's, or its directory's where that says more", function()
    assert.equal("web", name_of "web.lua")
    assert.equal("echo", name_of "sub/deep/echo.lua")
    assert.equal("sub", name_of "sub/app.lua")
    assert.equal("sub", name_of "./sub/./init.lua")
    assert.equal(dir:match("[^/]*$"), name_of "app.lua")
    assert.equal("app", name_of "sub/../app.lua")
  end)

  it("is made to fit", function()
    assert.equal("odd-name", name_of "odd name/app.lua")
    assert.equal(("long"):rep(8), name_of(("long"):rep(10) .. ".lua"))
  end)

  it("is its key where there are several", function()
    local pools = good(load_file [[
      return { pools = { ["b.2"] = { app = "web.lua", listen = ":1" },
                         a = { app = "chat.lua", listen = ":2" } } }]]).pools
    assert.same({ "a", "b.2" }, { pools[1].name, pools[2].name })
  end)

  it("refuses one that does not fit", function()
    local sentence = '%s: must be a name of 1 to 32 letters, digits, '
      .. '"_", "." or "-", is %s'
    assert.equal(sentence:format("--name", '"a b"'), usage { "app.lua", "--name", "a b" })
    assert.equal(sentence:format("--name", '"' .. ("x"):rep(33) .. '"'),
      usage { "app.lua", "--name", ("x"):rep(33) })
    assert.equal(sentence:format('pools.lua:1: pools["a/b"]', '"a/b"'),
      complaint 'return { pools = { ["a/b"] = { app = "app.lua" } } }')
    assert.equal(sentence:format("pools.lua:1: pools[1]", "1"),
      complaint 'return { pools = { { app = "app.lua" } } }')
    assert.equal("pools.lua:1: pools.a.name: "
      .. "is for a file of one pool; here the key in pools is the name",
      complaint 'return { pools = { a = { app = "app.lua", name = "b" } } }')
  end)
end)

-- Per key: what may be written in a file and the value that it gives, and what may not.
local keys = {
  workers = {
    must = '"auto" or a whole number from 1 to 256',
    good = { ['"auto"'] = 4, ["1"] = 1, ["256"] = 256, ["2.0"] = 2, ['"8"'] = 8 },
    bad = { "0", "257", "1.5", "-1", '"two"', '"0x2"', '"1k"', '""', "true", "{}",
      "99999999999999999999" },
  },
  concurrency = {
    must = "a whole number from 1 to 1000000",
    good = { ["1"] = 1, ["1000000"] = 1000000, ['"12"'] = 12 },
    bad = { "0", "1000001", "0/0", "1/0", '"auto"', '" 1"', '"1e3"', "print" },
  },
  backlog = {
    must = "a whole number from 1 to 65535",
    good = { ["1"] = 1, ["65535"] = 65535 },
    bad = { "0", "65536", '"many"', "false" },
  },
  policy = {
    must = "one of least_loaded, round_robin, first_free",
    good = {
      ['"least_loaded"'] = "least_loaded", ['"round_robin"'] = "round_robin",
      ['"first-free"'] = "first_free", ['"least-loaded"'] = "least_loaded",
    },
    bad = { '"random"', '"Round_Robin"', '""', "1", "{}" },
  },
  socket_mode = {
    must = 'an octal string up to "0777" or a whole number from 0 to 511',
    good = { ['"0660"'] = 432, ['"777"'] = 511, ['"0"'] = 0, ["432"] = 432,
      ["0x1ff"] = 511 },
    bad = { "0660", "512", "-1", "1.5", '"0888"', '"1777"', '"rw"', '""', "{}",
      '"7777777777777777777777"' },
  },
  socket_owner = {
    must = '"user", "user:group" or ":group"',
    good = { ['"www-data"'] = "www-data", ['"a:b"'] = "a:b", ['":b"'] = ":b" },
    bad = { '""', '":"', '"a:"', '"a:b:c"', '"a b"', "1", "{}" },
  },
  idle_timeout = {
    must = 'seconds from 0 to 2147483647 (as 30, 2.5, "500ms", "30s" or "5m")',
    good = { ["0"] = 0, ["2.5"] = 2.5, ['"1.5"'] = 1.5, ['"500ms"'] = 0.5, ['"30s"'] = 30,
      ['"5m"'] = 300 },
    bad = { "-1", "1/0", "0/0", '"soon"', '"1h"', '"1..2"', '"s"', '"-1s"', '""',
      "true" },
  },
  handler_timeout = {
    must = 'seconds from 0 to 2147483647 (as 30, 2.5, "500ms", "30s" or "5m")',
    good = { ["0"] = 0, ["2.5"] = 2.5, ['"200ms"'] = 0.2 },
    bad = { "-1", '"never"' },
  },
  stuck_timeout = {
    must = 'seconds from 0 to 2147483647 (as 30, 2.5, "500ms", "30s" or "5m")',
    good = { ["0"] = 0, ["20.5"] = 20.5, ['"1m"'] = 60 },
    bad = { "-1", '"never"' },
  },
  load_timeout = {
    must = 'seconds from 0 to 2147483647 (as 30, 2.5, "500ms", "30s" or "5m")',
    good = { ["0"] = 0, ["2.5"] = 2.5, ['"200ms"'] = 0.2 },
    bad = { "-1", '"never"' },
  },
  read_limit = {
    must = 'bytes from 1 to 2147483647 (as 65536, "64k" or "1m")',
    good = { ["1"] = 1, ["2^31 - 1"] = 2147483647, ['"64k"'] = 65536, ['"1m"'] = 1048576,
      ['"1M"'] = 1048576, ['"0.5k"'] = 512, ['"77"'] = 77 },
    bad = { "0", "2^31", "1.5", '"64kb"', '"1t"', '"2048m"', "{}",
      '"9223372036854775807m"' },
  },
  write_limit = {
    must = 'bytes from 1 to 2147483647 (as 65536, "64k" or "1m")',
    good = { ["65536"] = 65536, ['"2m"'] = 2097152 },
    bad = { "0", '"lots"', "-5" },
  },
  memory_limit = {
    must = 'bytes from 0 to 1099511627776 (as 65536, "64k" or "1m")',
    good = { ["0"] = 0, ['"64m"'] = 67108864, ['"1.5g"'] = 1610612736,
      ["2^40"] = 1099511627776 },
    bad = { "-1", "2^41", '"none"' },
  },
  memory_soft_limit = {
    must = 'bytes from 0 to 1099511627776 (as 65536, "64k" or "1m")',
    good = { ["0"] = 0, ['"64m"'] = 67108864, ["2^40"] = 1099511627776 },
    bad = { "-1", "2^41", '"none"' },
  },
  state_limit = {
    must = 'bytes from 1 to 2147483647 (as 65536, "64k" or "1m")',
    good = { ["65536"] = 65536, ['"2m"'] = 2097152 },
    bad = { "0", '"lots"', "-5" },
  },
  max_requests = {
    must = "a whole number from 0 to 2147483647",
    good = { ["0"] = 0, ['"1000"'] = 1000 },
    bad = { "-1", "1.5", '"many"', "2^31" },
  },
  control = {
    global = true,
    must = "the path of a unix socket, up to 107 bytes",
    good = { ['"/run/ctl"'] = "/run/ctl" },
    bad = { '""', "1", "{}", '"/a\\0b"', '("/x"):rep(54)' },
  },
  survive = {
    must = "true or false",
    good = { ["true"] = true, ["false"] = false, ['"true"'] = true },
    bad = { "0", '"yes"', "{}" },
  },
  dev = {
    must = "true or false",
    good = { ["true"] = true, ["false"] = false, ['"true"'] = true, ['"false"'] = false },
    bad = { "1", '"yes"', '""', "{}" },
  },
  user = {
    global = true,
    must = "the name of an account",
    good = { ['"www-data"'] = "www-data", ['"1000"'] = "1000" },
    bad = { '""', '"a b"', '"a:b"', '"a\\n"', "0", "{}" },
  },
  group = {
    global = true,
    must = "the name of an account",
    good = { ['"web"'] = "web" },
    bad = { '""', "true" },
  },
  drain = {
    global = true,
    must = 'seconds from 0 to 2147483647 (as 30, 2.5, "500ms", "30s" or "5m")',
    good = { ["0"] = 0, ['"1m"'] = 60, ["0.25"] = 0.25 },
    bad = { "-0.1", '"forever"', "2147483648" },
  },
  log_level = {
    global = true,
    must = "one of debug, info, warn, error",
    good = { ['"debug"'] = "debug", ['"info"'] = "info", ['"warn"'] = "warn",
      ['"error"'] = "error" },
    bad = { '"INFO"', '"trace"', "3", "false" },
  },
}

for key, case in pairs(keys) do
  describe("the key " .. key, function()
    for written, value in pairs(case.good) do
      it("takes " .. written, function()
        local result = good(load_file(
          ('return { app = "app.lua", %s = %s }'):format(key, written)))
        local actual = (case.global and result or result.pools[1])[key]
        assert.equal(value, actual)
        assert.equal(math.type(value), math.type(actual))
      end)
    end

    for _, written in ipairs(case.bad) do
      it("refuses " .. written, function()
        local message = complaint(
          ('return {\n app = "app.lua",\n %s = %s\n}'):format(key, written))
        local start = ("pools.lua:3: %s: must be %s, is "):format(key, case.must)
        assert.equal(start, message:sub(1, #start))
        assert.is_nil(message:find("\n"))
      end)
    end
  end)
end

describe("the key stuck_timeout", function()
  it("goes by handler_timeout, which it must leave its time", function()
    assert.equal(16, pool_by().stuck_timeout)
    assert.equal(91, pool_by("--handler-timeout", "60").stuck_timeout)
    assert.equal(0, pool_by("--handler-timeout", "0").stuck_timeout)
    assert.equal(3, pool_by("--handler-timeout", "0", "--stuck-timeout=3").stuck_timeout)
    assert.equal(0, pool_by("--stuck-timeout", "0").stuck_timeout)
    local refused, why = load { "web.lua", "--stuck-timeout", "10" }
    assert.is_nil(refused)
    assert.equal("--stuck-timeout: must be more than handler_timeout, "
      .. "which is 10 seconds", why)
  end)
end)

describe("the key memory_soft_limit", function()
  it("must be less than memory_limit, if there is one", function()
    local pool = pool_by("--memory-limit", "1m", "--memory-soft-limit", "1048575")
    assert.equal(1048575, pool.memory_soft_limit)
    assert.equal(1048576, pool_by("--memory-soft-limit", "1m").memory_soft_limit)
    assert.equal(0, pool_by("--memory-limit", "1m").memory_soft_limit)
    assert.equal("pools.lua:4: pools.a.memory_soft_limit: must be less than "
      .. "memory_limit, which is 1048576 bytes", complaint [[
return { pools = { a = {
  app = "app.lua",
  memory_limit = "1m",
  memory_soft_limit = "1m",
} } }]])
  end)
end)

describe("the key workers", function()
  it("is never more than there may be", function()
    assert.equal(256, good(load({ "app.lua" }, { cores = 1024 })).pools[1].workers)
  end)
end)

describe("a refused value", function()
  it("is shown on one line, without bytes that drive a terminal", function()
    local function shown(written)
      return complaint(('return { app = "app.lua", workers = %s }'):format(written))
        :match("is ([^,]*)$")
    end
    assert.equal([["a\nb\27c\"\\"]], shown [["a\nb\27c\"\\"]])
    assert.equal("a table", shown "{}")
    assert.equal("a function", shown "print")
    assert.equal("false", shown "false")
  end)
end)

describe("the key listen", function()
  it("takes every form of an address", function()
    for _, text in ipairs {
      "127.0.0.1:8080", "localhost:0", "my-host.example_1:65535", ":80", "[::1]:80",
      "[::]:0", "[::ffff:1.2.3.4]:80", "[fe80::1%eth0]:80", "unix:/run/x.sock",
      "unix:/a b:0", "unix:/" .. ("x"):rep(106), "unix:@name", "unix:@" .. ("x"):rep(107),
      "fd:3", "fd:12", "systemd", "systemd:web.socket", "systemd:8",
      "systemd:" .. ("x"):rep(255),
    } do
      assert.same({ text }, pool_by("--listen", text).listen)
    end
  end)

  it("takes a list", function()
    assert.same({ ":1", "fd:3" }, pool_of('listen = { ":1", "fd:3" }').listen)
  end)

  it("gives an address in one spelling", function()
    assert.same({ ":80", "fd:4" }, pool_of('listen = { ":0080", "fd:04" }').listen)
  end)

  it("refuses what is none, each by itself", function()
    for _, text in ipairs {
      "", "80", "host", "host:", ":", ":65536", ":99999999999999999999", ":-1", ":80 ",
      "a b:80", "http://h:80", "::1:80", "[::1]", "[::1]:", "[host]:80", "[]:80", "unix:",
      "unix:@", "unix:@" .. ("x"):rep(108), "unix:/" .. ("x"):rep(107), "unix:/a\nb",
      "fd:2", "fd:", "fd:x", "fd:-1", "fd:99999999999", "h:0x50", "h:8\n",
      "systemd:", "systemd:a:b", "systemd:a\nb", "systemd:\xc3\xa4",
      "systemd:" .. ("x"):rep(256),
    } do
      local message = usage { "app.lua", "--listen=" .. text }
      assert.equal("--listen: must be host:port, [v6]:port or :port (port up to 65535), "
        .. "unix:/path or unix:@name (up to 107 bytes), fd:N (N from 3), systemd or "
        .. "systemd:NAME, is "
        .. ("%q"):format(text):gsub("\\\n", "\\n"), message)
    end
    local message = complaint 'return { app = "app.lua", listen = { "a", ":1", 8, "b" } }'
    local shown = {}
    for value in message:gmatch("is ([^\n]+)") do shown[#shown + 1] = value end
    assert.same({ '"a"', "8", '"b"' }, shown)
  end)

  it("refuses what is no list", function()
    for _, written in ipairs { "{}", '{ tcp = ":80" }', '{ ":80", nil, ":81" }' } do
      local file = ('return { app = "app.lua", listen = %s }'):format(written)
      assert.equal("pools.lua:1: listen: must be an address or a list of addresses, "
        .. "is a table", complaint(file))
    end
    assert.matches("is 80$", complaint 'return { app = "app.lua", listen = 80 }')
  end)

  it("is systemd by itself where that passes sockets", function()
    assert.same({ "systemd" }, pool_of("", { listen_fds = 2 }).listen)
    assert.same({ ":80" }, pool_of('listen = ":80"', { listen_fds = 2 }).listen)
  end)

  it("cannot name an address twice", function()
    assert.equal('--listen: ":80" is given twice',
      usage { "app.lua", "-l", ":80", "-l", ":080" })
    assert.equal('--listen: "unix:' .. dir .. '/s" is given twice',
      usage { "app.lua", "-l", "unix:s", "-l", "unix:./s" })
  end)

  it("cannot share an address between pools, be it by default", function()
    assert.equal([[
pools.lua:2: pools.b.listen: ":80" is already in pools.a.listen
pools.lua:4: pools.d.listen: "127.0.0.1:8080" is already in pools.c.listen]], complaint [[
return { pools = { a = { app = "app.lua", listen = ":80" },
  b = { app = "app.lua", listen = { ":81", ":80" } },
  c = { app = "app.lua" },
  d = { app = "app.lua" } } }]])
  end)

  it("can share a port 0, which is another one each time", function()
    good(load { "app.lua", "-l", ":0", "-l", ":0" })
    good(load_file [[return { pools = {
      a = { app = "app.lua", listen = "[::1]:0" },
      b = { app = "app.lua", listen = "[::1]:0" } } }]])
    assert.matches("given twice$", usage { "app.lua", "-l=unix:/a:0", "-l=unix:/a:0" })
    assert.matches("given twice$", usage { "app.lua", "-l=unix:@a:0", "-l=unix:@a:0" })
  end)
end)

describe("the key env", function()
  it("takes strings, numbers and booleans, and sorts them", function()
    assert.same({ "A=x y", "B_2=8", "C=true", "_D=" },
      pool_of('env = { _D = "", C = true, B_2 = 8, A = "x y" }').env)
    assert.same({}, pool_of("env = {}").env)
  end)

  it("refuses all else, at its own line", function()
    assert.equal([[
pools.lua:4: env.A: must be a string, a number or a boolean, is a table
pools.lua:5: env["1B"]: must be named by letters, digits and "_", no digit first, is "1B"
pools.lua:6: env.C: must not contain a NUL byte]], complaint [[
return {
  app = "app.lua",
  env = {
    A = {},
    ["1B"] = 1,
    C = "a\0b",
  },
}]])
    assert.equal("pools.lua:1: env: must be a table of names and values, is \"A=1\"",
      complaint 'return { app = "app.lua", env = "A=1" }')
    assert.matches('^pools.lua:1: env%[1%]: must be named by .* is 1$',
      complaint 'return { app = "app.lua", env = { "A=1" } }')
  end)

  it("refuses flags that set nothing", function()
    assert.equal('--env: must be KEY=VALUE, is "A"', usage { "app.lua", "--env", "A" })
    assert.matches('^%-%-env: must be named by .* is ""$',
      usage { "app.lua", "--env", "=1" })
    assert.matches('^%-%-env: must be named by .* is "A%-B"$',
      usage { "app.lua", "--env=A-B=1" })
  end)
end)

describe("a config file", function()
  it("may hold one pool", function()
    local result = good(load_file [[
      return { app = "web.lua", name = "w", listen = ":1", user = "u", drain = "1m" }]])
    assert.same({ "u", 60, "w" }, { result.user, result.drain, result.pools[1].name })
  end)

  it("may hold several", function()
    local result = good(load_file [[
      return {
        user = "www-data",
        pools = {
          web = { app = "web.lua", workers = 2 },
          chat = { app = "chat.lua", listen = ":7777" },
        },
      }]])
    assert.equal("www-data", result.user)
    assert.equal(2, #result.pools)
    assert.same({ "chat", "web" }, { result.pools[1].name, result.pools[2].name })
    assert.same({ dir .. "/chat.lua", dir .. "/web.lua" },
      { result.pools[1].app, result.pools[2].app })
    assert.equal(2, result.pools[2].workers)
  end)

  it("gives what flags of the same content give", function()
    local flags = good(load { "web.lua", "-l", ":1", "-w", "2", "--env", "A=1" })
    assert.same(flags, good(load_file
      'return { app = "web.lua", listen = ":1", workers = 2, env = { A = 1 } }'))
  end)

  it("is overridden by global flags", function()
    write("pools.lua", 'return { app = "app.lua", user = "a", drain = 1, group = "g" }')
    local result = good(load { "-c", "pools.lua", "--user", "b", "--log-level=warn" })
    assert.same({ "b", "g", 1, "warn" },
      { result.user, result.group, result.drain, result.log_level })
    assert.is_nil(result.config)
  end)

  it("has paths relative to its directory", function()
    write("sub/pools.lua", 'return { app = "deep/echo.lua", listen = "unix:./s.sock" }')
    local pool = good(load { "--config", "sub/pools.lua" }).pools[1]
    assert.equal(dir .. "/sub/deep/echo.lua", pool.app)
    assert.same({ "unix:" .. dir .. "/sub/s.sock" }, pool.listen)
    assert.equal("echo", pool.name)
  end)

  it("cannot mix both forms", function()
    assert.equal([[
pools.lua:1: app: belongs in one of the pools, not beside them
pools.lua:2: workers: belongs in one of the pools, not beside them
pools.lua:3: pools.a.drain: belongs at the top, beside pools
pools.lua:3: pools.a.pools: belongs at the top]], complaint [[
return { app = "app.lua",
  workers = 2,
  pools = { a = { app = "app.lua", drain = 1, pools = {} } } }]])
  end)

  it("must return a table", function()
    assert.equal("pools.lua: must return a table, not nil", complaint "local a = 1")
    assert.equal("pools.lua: must return a table, not false", complaint "return false")
    assert.equal("pools.lua: must return a table, not 7", complaint "return 7")
  end)

  it("must have pools that are tables", function()
    for written, shown in pairs { ["{}"] = "a table", ["3"] = "3", ["true"] = "true" } do
      assert.equal("pools.lua:1: pools: must be a table of at least one pool, is "
        .. shown, complaint(("return { pools = %s }"):format(written)))
    end
    assert.equal('pools.lua:1: pools.a: must be a table, is "app.lua"',
      complaint 'return { pools = { a = "app.lua" } }')
  end)

  it("must name apps that can be opened", function()
    assert.equal("pools.lua:2: app: is missing", complaint "\nreturn { workers = 2 }")
    assert.equal("pools.lua:3: pools.b.app: is missing", complaint [[
return { pools = { a = { app = "app.lua", listen = ":1" },

  b = {} } }]])
    assert.equal(("pools.lua:2: app: cannot open %s/no.lua: No such file or directory")
      :format(dir), complaint 'return {\napp = "no.lua" }')
    assert.equal("pools.lua:1: app: must be the path of a file, is 7",
      complaint "return { app = 7 }")
    assert.matches("^pools.lua:1: app: must be the path of a file, is ",
      complaint [[return { app = "app.lua\0" }]])
  end)

  it("suggests the nearest key", function()
    assert.equal('pools.lua:2: pools.web.lisen: unknown key; did you mean "listen"?',
      complaint 'return { pools = { web = { app = "app.lua",\n  lisen = ":80" } } }')
    assert.equal('pools.lua:1: ["read-limit"]: unknown key; did you mean "read_limit"?',
      complaint 'return { app = "app.lua", ["read-limit"] = 1 }')
    assert.equal('pools.lua:1: app: is missing\n'
      .. 'pools.lua:1: pool: unknown key; did you mean "pools"?',
      complaint "return { pool = {} }")
  end)

  it("lists the keys where none is near", function()
    assert.equal("pools.lua:1: frobnicate: unknown key; there are user, group, drain, "
      .. "log_level, control, pools", complaint [[
return { frobnicate = 1, pools = { a = { app = "app.lua" } } }]])
    assert.matches("^pools.lua:1: pools.a.frobnicate: unknown key; there are app, ",
      complaint 'return { pools = { a = { app = "app.lua", frobnicate = 1 } } }')
    assert.matches("^pools.lua:1: %[1%]: unknown key; there are ",
      complaint 'return { "x", app = "app.lua" }')
    assert.matches("^pools.lua:1: config: unknown key; ",
      complaint 'return { app = "app.lua", config = "x" }')
  end)

  it("is told all that is wrong with it, by line", function()
    assert.equal([[
pools.lua:2: log_level: must be one of debug, info, warn, error, is "loud"
pools.lua:4: pools.web.workers: must be "auto" or a whole number from 1 to 256, is "two"
pools.lua:5: pools.web.lisen: unknown key; did you mean "listen"?
pools.lua:7: pools.chat.app: is missing
pools.lua:8: pools.chat.backlog: must be a whole number from 1 to 65535, is 0
pools.lua:11: drian: unknown key; did you mean "drain"?]], complaint [[
return {
  log_level = "loud",
  pools = {
    web = { app = "web.lua", workers = "two",
      lisen = ":80",
    },
    chat = {
      backlog = 0, listen = ":81"
    },
  },
  drian = 3,
}]])
  end)
end)

describe("a config file's code", function()
  it("reads the standard globals", function()
    assert.same({ "N=3", "PATH=" .. os.getenv("PATH") }, pool_of [[
      env = { PATH = os.getenv("PATH"), N = math.max(1, 3) }]].env)
  end)

  it("cannot assign a global", function()
    assert.equal('pools.lua:2: assigns the global "workers"; make it a local, '
      .. "or a key of the returned table", complaint "\nworkers = 2\nreturn {}")
    assert.matches('^pools.lua:1: assigns the global "f"', complaint "function f() end")
    assert.is_nil(rawget(_G, "workers"))
  end)

  it("reports a syntax error with its line", function()
    assert.matches("^pools.lua:3: .*near '2'$",
      complaint "return {\n  workers = 1\n  2 }")
    assert.matches("^pools.lua:1: .*near <eof>$", complaint "return {")
  end)

  it("reports an error that it raises with its line", function()
    assert.equal("pools.lua:2: no cookie today", complaint '\nerror("no cookie today")')
    assert.equal("pools.lua: no place", complaint 'error("no place", 0)')
    assert.equal("pools.lua: raises a table", complaint "error({})")
    assert.equal("pools.lua: raises nil", complaint "error()")
    assert.matches("^pools.lua:1: attempt to index a nil value",
      complaint "local a; a.b = 1")
  end)

  it("is named in full where Lua would shorten it", function()
    local name = ("n"):rep(90) .. ".lua"
    write(name, "\nerror('x')")
    assert.equal(name .. ":2: x", bad("config", load { "-c", name }))
    write(name, "return {")
    assert.equal(name .. ":1: ", bad("config", load { "-c", name }):sub(1, #name + 4))
  end)

  it("may not be compiled", function()
    assert.matches("^pools.lua: .*binary chunk",
      complaint(string.dump(function() return {} end)))
  end)
end)

describe("the line of a key", function()
  -- The lines that are reported for a file's wrong keys.
  local function lines_of(text)
    local lines = {}
    for line in complaint(text):gmatch("[^\n]+") do
      lines[#lines + 1] = line:match("^pools.lua:(%d+: [^:]+)")
    end
    return lines
  end

  it("is not taken from comments or strings", function()
    assert.same({ "12: env.X", "15: workers" }, lines_of [==[
-- return { workers = "comment"
--[[ { workers = 1,
]] --[=[ ]] workers = 2 ]=]
return {
  -- workers = "two", {{{
  app = "app.lua", --[[ workers = 3 }}} ]]
  env = {
    A = "{ workers = \"1\", ", B = '} \\', C = [[
      }, workers = "x", ]], D = "a\
      , workers = 4 --", E = [=[ ]] { ]=],
    ["F"] = "\z
      }", X = {},
    G = '"',
  },
  workers = "two",
}]==])
  end)

  it("is found for every way to write a key", function()
    assert.same({ "2: workers", "3: backlog", "4: concurrency", "5: policy", "6: drain" },
      lines_of [==[
return { app = "app.lua";
  ["workers"] = 0;
  ['backlog'] = 0,
  [ [[concurrency]] ]=0,
  ["\112olicy"] = 0,
  drain
  =
    -1 } ;
]==])
  end)

  it("is not taken from tables and functions inside of a value", function()
    assert.same({ "3: workers" }, lines_of [[
return {
  app = (function() local t = { workers = 1 } return "app.lua" end)(),
  workers = #{ { workers = 1 },
    { workers = 2 } } == 2 and ({ workers = "x" }).workers,
  backlog = math.min(1, #{
    workers = 3 }) + 1,
  name = ({ ["a"] = "b" })["a"],
}]])
  end)

  it("is found after a function whose body has tables", function()
    assert.same({ "3: f", "4: workers" }, lines_of [[
return {
  app = "app.lua",
  f = function() local t = { a = {} }; t.x, t["y"] = { workers = 1 }, 2 return { t } end,
  workers = 0,
}]])
  end)

  it("is not taken from other tables of the file", function()
    assert.same({ "8: workers" }, lines_of [[
local defaults = { workers = "x" }
local function pool()
  return { workers = 1 }
end
if not pool then return { workers = 2 } end
return {
  app = "app.lua",
  workers = defaults.workers,
}]])
  end)

  it("is that of the nearest key where code made the table", function()
    assert.same({ "3: pools.web.workers" }, lines_of [[
local web = { app = "app.lua", workers = 0 }
return {
  pools = { web = web },
}]])
  end)

  it("is left out where code made everything", function()
    for _, text in ipairs {
      'local t = { app = "app.lua" }\nt.workers = 0\nreturn t',
      'do return { app = "app.lua", workers = 0 } end',
      'return setmetatable({ app = "app.lua", workers = 0 }, {})',
    } do
      assert.matches("^pools.lua: workers: must be .* is 0$", complaint(text))
    end
  end)
end)

describe("config.help", function()
  it("describes every flag within 80 columns", function()
    local help = config.help()
    for _, flag in ipairs {
      "-c, --config FILE", "--user NAME", "--group NAME", "--drain SECONDS",
      "--log-level LEVEL", "--name NAME", "-l, --listen ADDRESS", "-w, --workers N",
      "--concurrency N", "--policy POLICY", "--env KEY=VALUE", "--backlog N",
      "--socket-mode MODE", "--socket-owner OWNER", "--idle-timeout SECONDS",
      "--read-limit BYTES", "--write-limit BYTES", "--survive", "--dev",
    } do
      assert.truthy(help:find(" " .. flag .. " ", 1, true), flag)
    end
    for line in help:gmatch("[^\n]+") do
      assert.is_true(#line <= 80, line)
      assert.is_nil(line:find("%s$"), line)
    end
  end)

  it("shows the defaults", function()
    local words = config.help():gsub("%s+", " ")
    for _, text in ipairs {
      "(default 127.0.0.1:8080)", "(default auto)", "(default 10000)", "(default 1m)",
      "(default least_loaded)", "(default 10)",
    } do
      assert.truthy(words:find(text, 1, true), text)
    end
  end)
end)
