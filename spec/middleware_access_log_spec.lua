local access_log = require "moonpool.middleware.access_log"
local cjson = require "cjson"
local core = require "moonpool.core"
local harness = require "server"
local http = require "moonpool.http"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local directory, path

before_each(function()
  directory = harness.directory()
  path = directory .. "/log"
end)

after_each(function() harness.remove(directory) end)

-- What is written of an entry with these changes, without the newline.
local function line_of(format, changes)
  local entry = {
    method = "GET", target = "/a?b=c", version = "HTTP/1.1", peer = "192.0.2.7:4711",
    status = 200, bytes = 12, seconds = 0.0123456, referer = "http://spec/",
    user_agent = "busted/2.0", req = { user = "alice", id = "42" },
  }
  for name, value in pairs(changes or {}) do
    entry[name] = value ~= "none" and value or nil
  end
  access_log { path = path, format = format }(entry)
  test.advance(1)
  local file <close> = assert(io.open(path))
  local text = file:read "a"
  os.remove(path)
  return (assert(text:match "^([^\n]*)\n$", text))
end

local nothing = { method = "none", target = "none", version = "none", peer = "none",
  referer = "none", user_agent = "none", req = "none" }

describe("the combined format", function()
  local function combined(changes)
    return line_of("combined", changes)
  end

  it("is Apache's", function()
    local address, user, request, status, bytes, referer, agent = combined():match(
      '^(%S+) %- (%S+) %[[^%]]*%] "([^"]*)" (%d+) (%d+) "([^"]*)" "([^"]*)"$')
    assert.same(
      { "192.0.2.7", "alice", "GET /a?b=c HTTP/1.1", "200", "12", "http://spec/",
        "busted/2.0" },
      { address, user, request, status, bytes, referer, agent })
  end)

  it("is what there is without a format", function()
    local function shape(format)
      return (line_of(format):gsub("%[.-%]", "[]"))
    end
    assert.equal(shape "combined", shape(nil))
  end)

  it("has the local time", function()
    local before = core.time() // 1 -- the clock of os.time may be some milliseconds late
    local day, month, year, hour, min, sec, zone = combined()
      :match "%[(%d%d)/(%a%a%a)/(%d%d%d%d):(%d%d):(%d%d):(%d%d) ([+-]%d%d%d%d)%]"
    local months = { Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7,
      Aug = 8, Sep = 9, Oct = 10, Nov = 11, Dec = 12 }
    local time = os.time { day = day, month = months[month], year = year, hour = hour,
      min = min, sec = sec }
    assert.is_true(time >= before and time <= core.time())
    assert.equal(os.date "%z", zone)
  end)

  it("has the second of each answer", function()
    local now = core.time
    for _, time in ipairs { 1e9, 1e9 + 0.999, 1e9 + 1, 2e9, 1e9 } do
      core.time = function() return time end
      local line = combined()
      core.time = now
      assert.equal(os.date("%Y:%H:%M:%S", math.floor(time)),
        line:match "%[%d%d/%a%a%a/([^ ]*) ")
    end
  end)

  it("has the address without the port", function()
    for peer, expected in pairs {
      ["192.0.2.7:1"] = "192.0.2.7", ["[2001:db8::1]:65535"] = "2001:db8::1",
      ["[::1]:80"] = "::1", ["unix:"] = "unix:", ["unix:/run/a b"] = "unix:/run/a b",
      none = "-",
    } do
      assert.equal(expected, combined { peer = peer }:match "^(.-) %- alice")
    end
  end)

  it("has a hyphen for what is not there", function()
    local line = combined(nothing):gsub("%[.-%]", "[]")
    assert.equal('- - - [] "-" 200 12 "-" "-"', line)
    line = combined { version = "none", target = "none" }
    assert.matches('"GET %- %-" 200', line)
    assert.matches(' %- %- %[', combined { req = {} })
    assert.matches(' %- %- %[', combined { req = { user = { name = "alice" } } })
    assert.matches(' %- 7 %[', combined { req = { user = 7 } })
    assert.matches('"" "busted', combined { referer = "" })
  end)

  it("escapes as nginx does", function()
    for text, expected in pairs {
      ['a"b'] = [[a\x22b]], ["a\\b"] = [[a\x5Cb]], ["\0\1\31"] = [[\x00\x01\x1F]],
      ["\n\r\t"] = [[\x0A\x0D\x09]], ["\127\128\255"] = [[\x7F\x80\xFF]],
      ["gr\u{fc}n"] = [[gr\xC3\xBCn]], [" !#[]^~'%"] = " !#[]^~'%",
    } do
      local quoted = '"' .. expected .. '"'
      local line = combined { referer = text, user_agent = text, target = text,
        method = text, version = text, peer = text, req = { user = text } }
      assert.equal(('%s - %s [] "%s %s %s" 200 12 %s %s'):format(expected, expected,
        expected, expected, expected, quoted, quoted), (line:gsub("%[%d.-%]", "[]", 1)))
    end
  end)

  it("has three digits of status, and 000 for none", function()
    assert.matches('" 404 12 "', combined { status = 404 })
    assert.matches('" 000 0 "', combined { status = 0, bytes = 0 })
    assert.matches('" 200 5000000000 "', combined { bytes = 5000000000 })
  end)
end)

describe("the JSON format", function()
  local function object(changes)
    return cjson.decode(line_of("json", changes))
  end

  it("has it all", function()
    local o = object()
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$", o.time)
    o.time = nil
    assert.same({
      method = "GET", target = "/a?b=c", version = "HTTP/1.1", peer = "192.0.2.7:4711",
      status = 200, bytes = 12, seconds = 0.012346, referer = "http://spec/",
      user_agent = "busted/2.0", user = "alice", id = "42",
    }, o)
  end)

  it("has the time in UTC, to the millisecond", function()
    local before = core.time()
    local year, month, day, hour, min, sec, ms =
      object().time:match "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)%.(%d+)Z$"
    local utc = os.date("!*t", math.floor(before))
    utc.isdst = false
    local elapsed = os.time { year = year, month = month, day = day, hour = hour,
      min = min, sec = sec, isdst = false } - os.time(utc)
    local time = math.floor(before) + elapsed + ms / 1000
    assert.is_true(time >= before - 0.001 and time < before + 10)
  end)

  it("has the second and millisecond of each answer", function()
    local now = core.time
    for time, expected in pairs { [1e9] = "2001-09-09T01:46:40.000Z",
      [1e9 + 0.9999] = "2001-09-09T01:46:40.999Z",
      [1e9 + 1.125] = "2001-09-09T01:46:41.125Z",
      [2e9 + 0.0005] = "2033-05-18T03:33:20.000Z" } do
      core.time = function() return time end
      local o = object()
      core.time = now
      assert.equal(expected, o.time)
    end
  end)

  it("leaves out what is not there", function()
    local o = object(nothing)
    o.time = nil
    assert.same({ status = 200, bytes = 12, seconds = 0.012346 }, o)
    assert.is_nil(object { req = { user = {}, id = true } }.user)
  end)

  it("is JSON whatever a client sends", function()
    for text, expected in pairs {
      ['"\\/'] = '"\\/', ["\0\1\31\127"] = "\0\1\31\127", ["\n\r\t"] = "\n\r\t",
      ["gr\u{fc}n \u{1f319}"] = "gr\u{fc}n \u{1f319}",
      ["gr\xFCn"] = "gr\u{fc}n", ["\xED\xA0\x80"] = "\u{ed}\u{a0}\u{80}",
      ["\xC0\x80"] = "\u{c0}\u{80}", ["\xF4\x90\x80\x80"] = "\u{f4}\u{90}\u{80}\u{80}",
    } do
      local o = object { referer = text, req = { user = text, id = text } }
      assert.same({ expected, expected, expected }, { o.referer, o.user, o.id })
    end
  end)
end)

describe("a format of one's own", function()
  it("is a function of the entry that returns the line", function()
    local before = os.time()
    local seen
    assert.equal("GET /a?b=c", line_of(function(entry)
      seen = entry
      return entry.method .. " " .. entry.target
    end))
    assert.equal("float", math.type(seen.time))
    assert.is_true(seen.time >= before and seen.time < before + 10)
  end)

  it("leaves out a line where it returns nil", function()
    local answered = access_log { path = path, format = function(entry)
      if entry.target ~= "/health" then return entry.target end
    end }
    for _, target in ipairs { "/a", "/health", "/b" } do answered { target = target } end
    test.advance(1)
    local file <close> = assert(io.open(path))
    assert.equal("/a\n/b\n", file:read "a")
  end)
end)

describe("access_log", function()
  it("raises what is wrong with its options", function()
    for message, options in pairs {
      ['format must be "combined", "json" or a function'] = { format = "common" },
      ["path must be a string"] = { path = 7 },
      ["access_log has path and format, no file"] = { file = "x" },
    } do
      assert.has_error(function() access_log(options) end, message)
    end
    assert.is_false(pcall(access_log, { format = false }))
  end)
end)

describe("the log of an application", function()
  local lines

  -- An application that logs into `lines`, as "method target status bytes".
  local function logging(settings)
    lines = {}
    settings = settings or {}
    settings.answered = access_log { path = path, format = function(entry)
      lines[#lines + 1] = ("%s %s %d %d"):format(entry.method or "-",
        entry.target or "-", entry.status, entry.bytes)
    end }
    return http.app(settings)
  end

  local function ask(app, ...)
    local client <close> = test.connect(app)
    client:write(...)
    client:shutdown()
    return client:read "a"
  end

  it("has a line for each answer, in their order", function()
    local app = logging()
    app:get("/hello", function(_, res) res:send "hello" end)
    app:get("/stream", function(_, res) res:write "some" res:write " more" end)
    app:get("/nothing", function() end)
    local text = ""
    for _, request in ipairs { "GET /hello", "HEAD /hello", "GET /stream?x",
      "GET /nothing", "GET /missing", "POST /hello", "OPTIONS /hello" } do
      text = text .. request .. " HTTP/1.1\r\nHost: spec\r\n\r\n"
    end
    ask(app, text)
    assert.same({ "GET /hello 200 5", "HEAD /hello 200 0", "GET /stream?x 200 9",
      "GET /nothing 200 0", "GET /missing 404 10", "POST /hello 405 19",
      "OPTIONS /hello 204 0" }, lines)
  end)

  it("has a line for a request that is refused", function()
    local app = logging { body_limit = 4 }
    app:post("/", function(req) req:body() end)
    for request, expected in pairs {
      ["nonsense\r\n\r\n"] = "^%- %- 400 %d+$",
      ["GET /a b HTTP/1.1\r\n\r\n"] = "^GET .* 400 %d+$",
      ["GET /" .. ("x"):rep(9000) .. " HTTP/1.1\r\n\r\n"] = "^.* 414 %d+$",
      ["GET / HTTP/1.1\r\nX: " .. ("x"):rep(17000) .. "\r\n\r\n"] = "^GET / 431 %d+$",
      ["GET / HTTP/2.0\r\n\r\n"] = "^GET / 505 %d+$",
      ["GET /x HTTP/1.1\r\n\r\n"] = "^GET /x 400 %d+$",
      ["POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"] = "^POST / 413 %d+$",
    } do
      ask(app, request)
      assert.equal(1, #lines, request)
      assert.matches(expected, table.remove(lines))
    end
  end)

  it("has a line for a head that does not come in time", function()
    local app = logging()
    local client <close> = test.connect(app)
    client:write "GET / HTTP/1.1\r\nHost"
    test.advance(11)
    assert.equal(1, #lines)
    assert.matches(" 408 %d+$", lines[1])
  end)

  it("has none for a client that says nothing", function()
    assert.equal("", ask(logging(), ""))
    assert.same({}, lines)
  end)

  it("has what was sent of an answer that was cut", function()
    local app = logging()
    app:get("/", function(_, res)
      res:write(("x"):rep(1000))
      core.task.sleep(5)
      for _ = 1, 10 do
        if not res:write(("x"):rep(1 << 20)) then return end
      end
    end)
    local client = test.connect(app)
    client:write "GET / HTTP/1.1\r\nHost: spec\r\n\r\n"
    assert.same({}, lines)
    client:close()
    test.advance(60)
    assert.equal(1, #lines)
    assert.is_true(tonumber(lines[1]:match "^GET / 200 (%d+)$") >= 1000)
  end)

  it("tells how long it took, and what was put into the request", function()
    local app = http.app { answered = access_log { path = path, format = "json" } }
    app:use(function(req, _, next)
      req.id, req.user = "r1", "alice"
      next()
    end)
    app:get("/", function(_, res)
      core.task.sleep(2)
      res:send "done"
    end)
    ask(app, "GET / HTTP/1.1\r\nHost: spec\r\nReferer: r\r\nUser-Agent: u\r\n\r\n")
    test.advance(1)
    local file <close> = assert(io.open(path))
    local entry = cjson.decode(file:read "a")
    assert.is_true(entry.seconds >= 2 and entry.seconds < 2.1)
    entry.seconds, entry.time = nil, nil
    assert.same({ method = "GET", target = "/", version = "HTTP/1.1", status = 200,
      bytes = 4, peer = "unix:", referer = "r", user_agent = "u", id = "r1",
      user = "alice" }, entry)
  end)
end)

describe("the log of a server", function()
  local app_with_log = ([[
    local http = require "moonpool.http"
    local access_log = require "moonpool.middleware.access_log"
    local app = http.app { answered = access_log { path = %%q, format = %q } }
    app:get("/fail", function() error "as told" end)
    app:get("/slow", function() require("moonpool").sleep(1000) end)
    app:get("/:n", function(req, res) res:send(req.params.n) end)
    return app
  ]])

  local function run(format, options)
    options.script = app_with_log:format(format):format(path)
    return harness.run(options)
  end

  local function contents(name)
    local file <close> = io.open(name or path)
    return file and file:read "a" or ""
  end

  local function get(client, target)
    client:write("GET ", target, " HTTP/1.1\r\nHost: x\r\n\r\n")
    local status = client:read "l"
    local length = 0
    for line in client:lines() do
      if line == "\r" or line == "" then break end
      length = tonumber(line:match "^Content%-Length: (%d+)") or length
    end
    return status, client:read(length)
  end

  it("has the local time of the server, and what has failed", function()
    local server <close> = run("combined", { env = { "TZ=SPEC-5:30" } })
    local client <close> = server:connect()
    assert.matches("500", (get(client, "/fail")))
    client:close()
    harness.eventually(function() return contents() ~= "" end)
    assert.matches('^127%.0%.0%.1 %- %- %[%d%d/%a%a%a/%d%d%d%d:%d%d:%d%d:%d%d %+0530%] '
      .. '"GET /fail HTTP/1%.1" 500 %d+ "%-" "%-"\n$', contents())
  end)

  it("has each line once, though the file is rotated under load", function()
    local server <close> = run("combined", { workers = 3 })
    local clients, n = server:connect_many(6), 0
    local rotated = {}
    for round = 1, 5 do
      for _ = 1, 40 do
        for _, client in ipairs(clients) do
          n = n + 1
          assert.equal(tostring(n), select(2, get(client, "/" .. n)))
        end
      end
      rotated[round] = path .. "." .. round
      harness.eventually(function() return os.rename(path, rotated[round]) end)
      server:kill "USR1"
    end
    harness.close_all(clients)
    server:stop()
    rotated[#rotated + 1] = path
    local seen, count = {}, 0
    for _, name in ipairs(rotated) do
      for line in contents(name):gmatch "([^\n]*)\n" do
        local number = tonumber(line:match '"GET /(%d+) HTTP/1.1" 200 ')
        assert.is_nil(seen[number], line)
        seen[number] = true
        count = count + 1
      end
    end
    assert.equal(n, count)
    assert.is_nil(server.text:find "error")
  end)

  it("has what was collected when the server stops", function()
    local server <close> = run("combined", {})
    local client = server:connect()
    get(client, "/last")
    client:close()
    server:stop()
    assert.matches('"GET /last HTTP/1.1" 200 4 ', contents())
  end)

  it("has what was cut when the server stops", function()
    local server <close> = run("combined", { args = { "--drain", "100ms" } })
    local client = server:connect()
    client:write "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    local other = server:connect()
    get(other, "/first")
    other:close()
    server:kill "TERM"
    server:wait()
    client:close()
    server:stop()
    assert.matches('"GET /first HTTP/1.1" 200 5 .*\n[^\n]*"GET /slow HTTP/1.1" %d+ ',
      contents())
  end)

  it("does not stop it when it cannot be written", function()
    harness.write_file(path, "")
    local file = path
    path = file .. "/impossible"
    local server <close> = run("combined", { workers = 2 })
    path = file
    server:expect "error: [^\n]*/impossible: Not a directory; its lines wait"
    local client <close> = server:connect()
    assert.equal("on", select(2, get(client, "/on")))
    client:close()
  end)
end)
