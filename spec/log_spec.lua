local core = require "moonpool.core"
local harness = require "server"
local process = require "native.process"
local test = require "moonpool.test"

local preload = os.getenv "LD_PRELOAD" -- the sanitizer's, for a stock interpreter

-- What a Lua program says that has the log, on its standard error and output; and the
-- code with which it ended, and its pid.
local function run(script)
  local before = harness.descriptors(process.pid())
  local prologue = ("package.cpath = %q\nlocal log = require 'native.log'\n")
    :format(package.cpath)
  local environment = preload and { "LD_PRELOAD=" .. preload } or {}
  local argv = { "lua5.4", "-e", prologue .. script }
  local pid, fd = assert(process.start(argv, environment))
  local was_virtual = test.virtual()
  test.virtual(false)
  local output = assert(core.net.conn(fd))
  output:settimeout(20)
  local text = test.run(output.read, output, "a")
  output:close()
  test.settle()
  test.virtual(was_virtual)
  local how, code = process.wait(pid)
  assert.equal("exit", how)
  assert.equal(before, harness.descriptors(process.pid()))
  return text, code, pid
end

-- The log lines without their time, which is checked.
local function run_for_lines(script)
  local text, code, pid = run(script)
  assert.equal(0, code, text)
  local lines = {}
  for line in text:gmatch "([^\n]*)\n" do
    lines[#lines + 1] = line:gsub("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ ", "")
      :gsub("%[" .. pid .. "%]", "[pid]")
  end
  assert.is_true(text == "" or text:sub(-1) == "\n")
  return lines
end

describe("the log", function()
  it("writes one line for an event: when, who, how grave, what", function()
    local text, code, pid = run [[log.name "hello/1" log.write("error", "it broke")]]
    assert.equal(0, code)
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ hello/1%[" .. pid ..
      "%] error: it broke\n$", text)
  end)

  it("gives the time in UTC", function()
    local before = os.time()
    local text = run [[log.write("info", "now")]]
    local year, month, day, hour, min, sec =
      text:match "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)"
    local utc = os.date("!*t", before)
    local now = os.time { year = year, month = month, day = day, hour = hour, min = min,
      sec = sec }
    local began = os.time { year = utc.year, month = utc.month, day = utc.day,
      hour = utc.hour, min = utc.min, sec = utc.sec }
    assert.is_true(now >= began and now <= began + 30)
  end)

  it("is named moonpool until it is given a name", function()
    assert.same({ "moonpool[pid] info: a", "web/2[pid] info: b" }, run_for_lines [[
      log.write("info", "a")
      log.name "web/2"
      log.write("info", "b")
    ]])
  end)

  it("writes what is grave enough, and at first all but debug", function()
    local all = [[
      for _, level in ipairs { "debug", "info", "warn", "error" } do
        log.write(level, "x")
      end
    ]]
    local function with(threshold)
      return ('log.threshold "%s"\n'):format(threshold) .. all
    end
    local debug, info = "moonpool[pid] debug: x", "moonpool[pid] info: x"
    local warn, err = "moonpool[pid] warn: x", "moonpool[pid] error: x"
    assert.same({ info, warn, err }, run_for_lines(all))
    assert.same({ debug, info, warn, err, info, warn, err, warn, err, err },
      run_for_lines(with "debug" .. with "info" .. with "warn" .. with "error"))
  end)

  it("knows its levels by name", function()
    assert.same({ "0 1 2 3 nil nil nil " }, run_for_lines [[
      for _, name in ipairs { "debug", "info", "warn", "error", "", "Info", "infos" } do
        io.write(tostring(log.parse(name)), " ")
      end
      print()
    ]])
  end)

  it("indents the further lines of a message, so that none can be forged", function()
    assert.same({
      "moonpool[pid] error: app.lua:3: bad",
      "    stack traceback:",
      "    \tapp.lua:3: in main chunk",
      "    2026-01-31T12:00:00.123Z hello/1[1] info: all is well",
    }, run_for_lines [[
      log.write("error", "app.lua:3: bad\nstack traceback:\n" ..
        "\tapp.lua:3: in main chunk\n" ..
        "2026-01-31T12:00:00.123Z hello/1[1] info: all is well\n")
    ]])
  end)

  it("writes an empty message, and one that ends in empty lines", function()
    assert.same({ "moonpool[pid] info: ", "moonpool[pid] info: ", "moonpool[pid] info: a",
      "    " }, run_for_lines [[
      log.write("info", "")
      log.write("info", "\n")
      log.write("info", "a\n\n")
    ]])
  end)

  it("shows control characters as question marks, but for tabs", function()
    assert.same({ "moonpool[pid] info: a?b?[31m?c\td??????" }, run_for_lines [[
      log.write("info", "a\rb\27[31m\7c\td\1\8\11\12\31\127")
    ]])
  end)

  it("leaves text in UTF-8 as it is", function()
    assert.same({ "moonpool[pid] info: \u{e9}\u{1f319}\u{4e2d}" }, run_for_lines [[
      log.write("info", "\u{e9}\u{1f319}\u{4e2d}")
    ]])
  end)

  it("cuts a message that is too long, and still ends the line", function()
    local lines = run_for_lines [[
      log.write("info", ("x"):rep(100000))
      log.write("info", ("\n"):rep(100000))
      log.write("info", "next")
    ]]
    assert.matches("^moonpool%[pid%] info: x+$", lines[1])
    assert.is_true(#lines[1] > 1000 and #lines[1] < 20000)
    assert.equal("moonpool[pid] info: next", lines[#lines])
    for i = 3, #lines - 2 do assert.equal("    ", lines[i]) end
  end)

  it("does not mix the lines of many processes", function()
    local lines = run_for_lines [[
      local channel = require "native.channel"
      local process = require "native.process"
      local pids = {}
      for i = 1, 4 do
        pids[i] = channel.fork(function()
          log.name("writer/" .. i)
          for n = 1, 50 do log.write("info", n .. ("."):rep(500) .. n) end
        end)
      end
      for _, pid in ipairs(pids) do assert(process.wait(pid) == "exit") end
    ]]
    assert.equal(200, #lines)
    local counts = {}
    for _, line in ipairs(lines) do
      local writer, first, dots, last =
        line:match "^writer/(%d)%[%d+%] info: (%d+)(%.+)(%d+)$"
      assert.equal(500, #dots)
      assert.equal(first, last)
      counts[writer] = (counts[writer] or 0) + 1
      assert.equal(counts[writer], tonumber(first))
    end
  end)

  it("never fails, and leaves errno alone", function()
    assert.same({ "moonpool[pid] error: a line", "moonpool[pid] info: back" },
      run_for_lines [[
        assert(log.errno(11) == 11)
        log.deaf(function()
          assert(log.errno(4) == 4)
          log.write("error", "nobody hears")
        end)
        log.write("info", "back")
      ]])
  end)

  it("formats nothing that is not a format", function()
    assert.same({ "moonpool[pid] info: 100%s %n %d" }, run_for_lines [[
      log.write("info", "100%s %n %d")
    ]])
  end)

  it("says what is fatal, and ends with the code", function()
    local text, code = run [[log.fatal(3, "cannot bind %s") log.write("info", "on")]]
    assert.equal("moonpool: cannot bind %s\n", text)
    assert.equal(3, code)
  end)
end)
