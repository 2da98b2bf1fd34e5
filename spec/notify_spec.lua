local core = require "moonpool.core"
local endpoint = require "native.endpoint"
local harness = require "server"
local notify = require "native.notify"
local process = require "native.process"

local before, directory, status

local function set(variables)
  for _, name in ipairs { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID" } do
    endpoint.setenv(name, variables[name])
  end
end

-- Opens it with these variables; the status is the variable.
local function open(variables)
  set(variables)
  local n = notify.open(function() return status end)
  set {}
  return n
end

before_each(function()
  before = harness.descriptors(process.pid())
  directory = harness.directory()
  status = "well"
end)

after_each(function()
  collectgarbage()
  harness.remove(directory)
  assert.equal(before, harness.descriptors(process.pid()))
end)

-- All that has come.
local function received(receiver)
  local list = {}
  for message in function() return receiver:receive() end do list[#list + 1] = message end
  return list
end

-- What is said on standard error while fn runs, in a process of its own.
local function said_by(fn)
  local output, input = core.fd.pipe()
  endpoint.child(function()
    endpoint.dup2(input:fileno(), 2)
    fn()
  end)
  input:close()
  local stream <close> = output:file()
  local lines = {}
  for line in stream:lines() do lines[#lines + 1] = line:match "%] (.*)$" end
  return lines
end

-- A receiver, and what is open for it.
local function pair(variables, name)
  name = name or directory .. "/notify"
  variables = variables or {}
  variables.NOTIFY_SOCKET = name
  os.remove(name) -- of a pair before
  local receiver = notify.receiver(name)
  return receiver, assert(open(variables))
end

describe("notify", function()
  it("is nothing where nobody wants to know", function()
    assert.is_nil(open {})
    assert.is_nil(open { WATCHDOG_USEC = "1000000" })
  end)

  it("says that the service is ready, with the status", function()
    local receiver <close>, n = pair()
    n:ready()
    assert.same({ "READY=1\nSTATUS=well" }, received(receiver))
    n:close()
  end)

  it("says so by an abstract name too", function()
    local receiver <close>, n = pair({}, "@moonpool-spec-" .. process.pid())
    n:ready()
    assert.same({ "READY=1\nSTATUS=well" }, received(receiver))
    n:close()
  end)

  it("says when a reload has begun, by the system's clock", function()
    local receiver <close>, n = pair()
    local function microseconds()
      return tonumber((io.open "/proc/uptime":read "a":match "^(%d+)")) * 1000000
    end
    n:advance(1000) -- by a clock that is not the system's
    received(receiver)
    local earliest = microseconds()
    n:reloading()
    local message = receiver:receive()
    local began = message:match "^RELOADING=1\nMONOTONIC_USEC=(%d+)\nSTATUS=well$"
    began = tonumber(began)
    assert.is_true(began >= earliest and began <= microseconds() + 1000000)
    status = "better"
    n:ready()
    assert.same({ "READY=1\nSTATUS=better" }, received(receiver))
    n:close()
  end)

  it("says once that the service stops and how long it may take, and no more", function()
    local receiver <close>, n = pair()
    n:stopping(11.5)
    n:stopping(0)
    n:ready()
    n:reloading()
    assert.same({ "STOPPING=1\nEXTEND_TIMEOUT_USEC=11500000\nSTATUS=well" },
      received(receiver))
    n:close()
  end)

  it("says how things are when that has changed", function()
    local receiver <close>, n = pair()
    n:ready()
    received(receiver)
    n:advance(10)
    assert.same({}, received(receiver))
    status = "busy"
    n:advance(2)
    assert.same({ "STATUS=busy" }, received(receiver))
    n:advance(10)
    n:stopping(1)
    received(receiver)
    status = "almost done"
    n:advance(2)
    assert.same({ "STATUS=almost done" }, received(receiver))
    n:close()
  end)

  it("cuts a status that is too long", function()
    local receiver <close>, n = pair()
    status = ("x"):rep(1000)
    n:reloading()
    assert.matches("^RELOADING=1\nMONOTONIC_USEC=%d+\nSTATUS=" .. ("x"):rep(159) .. "$",
      receiver:receive())
    n:close()
  end)

  it("keeps what systemd has no room for, and sends it in order", function()
    local receiver <close>, n = pair { WATCHDOG_USEC = "2000000" }
    local count, list = 2000, {}
    for i = 1, count do
      status = tostring(i)
      n:ready()
    end
    local room = #received(receiver)
    assert.is_true(room > 0 and room < count)
    for _ = 1, count do
      n:advance(0.05)
      table.move(received(receiver), 1, count, #list + 1, list)
    end
    local first = room + 1
    for i = first, count do
      assert.equal(("READY=1\nSTATUS=%d"):format(i), table.remove(list, 1))
    end
    assert.equal("WATCHDOG=1", list[1]) -- and no status: it is the same
    for _, message in ipairs(list) do assert.equal("WATCHDOG=1", message) end
    n:close()
  end)
end)

describe("signs of life", function()
  local function signs(variables, seconds)
    local receiver <close>, n = pair(variables)
    n:advance(seconds)
    local list = received(receiver)
    for _, message in ipairs(list) do assert.equal("WATCHDOG=1", message) end
    n:close()
    return #list
  end

  before_each(function() status = "" end)

  it("are twice as many as the watchdog wants", function()
    assert.equal(0, signs({ WATCHDOG_USEC = "10000000" }, 4.9))
    assert.equal(1, signs({ WATCHDOG_USEC = "10000000" }, 5.1))
    assert.equal(8, signs({ WATCHDOG_USEC = "10000000" }, 40.1))
    assert.equal(8, signs({ WATCHDOG_USEC = "1000" }, 0.0041))
  end)

  it("go on while the service stops", function()
    local receiver <close>, n = pair { WATCHDOG_USEC = "10000000" }
    n:stopping(60)
    received(receiver)
    n:advance(5.1)
    assert.same({ "WATCHDOG=1" }, received(receiver))
    n:close()
  end)

  it("are for the process that is meant", function()
    local mine = tostring(process.pid())
    assert.equal(2, signs({ WATCHDOG_USEC = "2000000", WATCHDOG_PID = mine }, 2.1))
    for _, pid in ipairs { "1", "x", "", mine .. "x", mine .. "0" } do
      assert.equal(0, signs({ WATCHDOG_USEC = "2000000", WATCHDOG_PID = pid }, 10))
    end
  end)

  it("are not sent where none are wanted", function()
    assert.equal(0, signs({}, 100))
    for _, microseconds in ipairs { "", "0", "x", "-1", "1s", "99999999999999999999" } do
      local lines = said_by(function()
        assert.equal(0, signs({ WATCHDOG_USEC = microseconds }, 100))
      end)
      assert.same({ ('warn: WATCHDOG_USEC is "%s", no number of microseconds: systemd\'s '
        .. "watchdog hears nothing"):format(microseconds) }, lines)
    end
  end)
end)

describe("an address of nobody", function()
  local sentence = "warn: systemd does not hear how the service is: "

  it("that cannot be one is a warning, and nothing more", function()
    for name, why in pairs {
      [""] = "it is neither an absolute path nor @name",
      ["relative/path"] = "it is neither an absolute path nor @name",
      ["vsock:2:1234"] = "it is neither an absolute path nor @name",
      ["@"] = "the name is missing",
      ["/" .. ("x"):rep(107)] = "the path may have at most 107 bytes, this has 108",
      ["@" .. ("x"):rep(108)] = "the name may have at most 107 bytes, this has 108",
    } do
      assert.same({ sentence .. "NOTIFY_SOCKET: " .. why }, said_by(function()
        assert.is_nil(open { NOTIFY_SOCKET = name })
      end))
    end
  end)

  it("is one warning, however often it is tried", function()
    local path = directory .. "/nobody"
    assert.same({ sentence .. "unix:" .. path .. ": No such file or directory" },
      said_by(function()
        local n = open { NOTIFY_SOCKET = path, WATCHDOG_USEC = "1000000" }
        n:ready()
        n:advance(10)
        n:stopping(1)
        n:close()
      end))
  end)

  it("may be somebody's again", function()
    local path = directory .. "/late"
    local list
    said_by(function()
      local n = open { NOTIFY_SOCKET = path }
      n:ready()
      local receiver <close> = notify.receiver(path)
      n:reloading()
      list = received(receiver)
      assert.equal(1, #list)
      n:close()
    end)
    os.remove(path)
  end)
end)
