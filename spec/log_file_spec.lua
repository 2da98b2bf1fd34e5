local bus = require "moonpool.bus"
local child = require "child"
local core = require "moonpool.core"
local harness = require "server"
local lfs = require "lfs"
local process = require "native.process"
local log_file = require "moonpool.log_file"
local test = require "moonpool.test"

local BATCH, MOST = 65536, 1 << 20

require "tidy" (before_each, after_each)

local directory, path

before_each(function()
  directory = harness.directory()
  path = directory .. "/log"
end)

after_each(function() harness.remove(directory) end)

local function contents(name)
  local file <close> = assert(io.open(name or path))
  return file:read "a"
end

local function add(file, ...)
  for _, line in ipairs { ... } do file:add(line .. "\n") end
end

local function reopen()
  bus.publish("moonpool.reopen", "")
  test.settle()
end

-- How many write(2) this process makes in fn.
local function writes_in(fn)
  local function count()
    return tonumber(contents("/proc/self/io"):match "syscw: (%d+)")
  end
  local before = count()
  fn()
  return count() - before
end

-- A line of that many bytes, the newline included.
local function line_of(size)
  return ("x"):rep(size - 1) .. "\n"
end

describe("a log file", function()
  it("has its lines after a second, by one write", function()
    local file = log_file.open(path)
    add(file, "one", "two")
    test.advance(0.5)
    add(file, "three")
    test.advance(0.499)
    assert.equal("", contents())
    assert.equal(1, writes_in(function() test.advance(0.001) end))
    assert.equal("one\ntwo\nthree\n", contents())
    add(file, "four")
    test.advance(0.999)
    assert.equal("one\ntwo\nthree\n", contents())
    test.advance(0.001)
    assert.equal("one\ntwo\nthree\nfour\n", contents())
  end)

  it("is not written while there are no lines", function()
    local file = log_file.open(path)
    assert.equal(0, writes_in(function() test.advance(10) end))
    add(file, "one")
    assert.equal(1, writes_in(function() test.advance(10) end))
    assert.equal(math.huge, core.loop.next())
  end)

  it("has its lines at once when they are 64 KiB, by one write of no more", function()
    local file = log_file.open(path)
    for _ = 1, 63 do file:add(line_of(1024)) end
    file:add(line_of(1023))
    file:add "\n"
    assert.equal("", contents())
    assert.equal(1, writes_in(function() file:add "more\n" end))
    assert.equal(BATCH, #contents())
    test.advance(1)
    assert.equal(BATCH + 5, #contents())
  end)

  it("has a line that is longer than all that", function()
    local file = log_file.open(path)
    file:add "short\n"
    file:add(line_of(3 * BATCH))
    add(file, "end")
    test.advance(1)
    assert.is_true(contents() == "short\n" .. line_of(3 * BATCH) .. "end\n")
  end)

  it("has the lines of a task that has ended", function()
    local file = log_file.open(path)
    test.run(function() add(file, "one") end)
    test.advance(1)
    assert.equal("one\n", contents())
  end)

  it("is shared by several, whose lines stay whole", function()
    harness.write_file(path, "old\n")
    local files, n = {}, 0
    for i = 1, 3 do files[i] = log_file.open(path) end
    for i = 1, 9000 do add(files[i % 3 + 1], ("line %d of many"):format(i)) end
    test.advance(1)
    for line in contents():gmatch "[^\n]+" do
      n = n + 1
      assert.matches(n == 1 and "^old$" or "^line %d+ of many$", line)
    end
    assert.equal(9001, n)
  end)

  it("has what was collected when its owner has dropped it", function()
    do
      local file = log_file.open(path)
      add(file, "last")
    end
    collectgarbage()
    test.advance(1)
    assert.equal("last\n", contents())
  end)

  it("has what was collected when the program ends, opened anew or not", function()
    local output = child(([[
      local bus = require "moonpool.bus"
      local file = require "moonpool.log_file".open %q
      file:add "one\n"
      bus.publish("moonpool.reopen", "")
      require "moonpool.test".settle()
      file:add "two\n"
    ]]):format(path))
    assert.equal("", output)
    assert.equal("one\ntwo\n", contents())
    output = child(([[
      local file = require "moonpool.log_file".open %q
      file:add "three\n"
      os.exit(0, true)
    ]]):format(path))
    assert.equal("", output)
    assert.equal("one\ntwo\nthree\n", contents())
  end)

  it("is standard error where there is no path", function()
    assert.same({ "one\ntwo\n", "exit", 0 }, { child [[
      local file = require "moonpool.log_file".open()
      file:add "one\n"
      require "moonpool.test".advance(1)
      file:add "two\n"
    ]] })
  end)
end)

describe("opened anew, a log file", function()
  it("has what was collected in the old file, and what follows in the new", function()
    local file = log_file.open(path)
    add(file, "one")
    assert(os.rename(path, path .. ".1"))
    add(file, "two")
    reopen()
    add(file, "three")
    test.advance(1)
    assert.equal("one\ntwo\n", contents(path .. ".1"))
    assert.equal("three\n", contents())
  end)

  it("is one of all that there are, and of none that are gone", function()
    local files = {}
    for i = 1, 3 do files[i] = log_file.open(path .. i) end
    log_file.open(path .. "gone")
    collectgarbage()
    collectgarbage()
    for name in lfs.dir(directory) do os.remove(directory .. "/" .. name) end
    reopen()
    for i = 1, 3 do add(files[i], tostring(i)) end
    test.advance(1)
    for i = 1, 3 do assert.equal(i .. "\n", contents(path .. i)) end
    assert.is_nil(lfs.attributes(path .. "gone"))
  end)

  it("stays the old one where that cannot be, and says so", function()
    local output, _, code = child(([[
      local bus = require "moonpool.bus"
      local test = require "moonpool.test"
      local directory = %q
      local file = require "moonpool.log_file".open(directory .. "/log")
      local function reopen() bus.publish("moonpool.reopen", "") test.settle() end
      file:add "one\n"
      os.rename(directory, directory .. ".1")
      for _ = 1, 2 do reopen() end
      file:add "two\n"
      test.advance(1)
      os.rename(directory .. ".1", directory)
      reopen()
      file:add "three\n"
    ]]):format(directory))
    assert.equal(0, code, output)
    local _, n = output:gsub("error: [^\n]*/log: No such file or directory; "
      .. "the old file is kept\n", "")
    assert.equal(2, n, output)
    assert.equal(2, select(2, output:gsub("\n", "")), output)
    assert.equal("one\ntwo\nthree\n", contents())
  end)

  it("has one descriptor all the time", function()
    local file = log_file.open(path)
    local before = harness.descriptors(process.pid())
    for _ = 1, 3 do reopen() end
    assert.equal(before, harness.descriptors(process.pid()))
    add(file, "one")
    test.advance(1)
    assert.equal("one\n", contents())
  end)

  it("may have been opened by a task that has ended", function()
    assert.same({ "", "exit", 0 }, { child(([[
      local bus = require "moonpool.bus"
      local test = require "moonpool.test"
      local path, file = %q, nil
      test.run(function() file = require "moonpool.log_file".open(path) end)
      os.remove(path)
      bus.publish("moonpool.reopen", "")
      test.settle()
      file:add "one\n"
    ]]):format(path)) })
    assert.equal("one\n", contents())
  end)
end)

describe("a log file that cannot be opened", function()
  it("is tried again while there are lines, which wait", function()
    local output, _, code = child(([[
      local lfs = require "lfs"
      local test = require "moonpool.test"
      local path = %q
      local file = require "moonpool.log_file".open(path .. "/sub/log")
      file:add "one\n"
      test.advance(100)
      file:add "two\n"
      assert(lfs.mkdir(path))
      assert(lfs.mkdir(path .. "/sub"))
      test.advance(1)
      print(io.open(path .. "/sub/log"):read "a")
      os.remove(path .. "/sub/log")
      os.remove(path .. "/sub")
    ]]):format(path))
    assert.equal(0, code, output)
    assert.matches("^[^\n]* error: " .. path .. "/sub/log: No such file or directory; "
      .. "its lines wait, and then are lost\n[^\n]* warn: " .. path
      .. "/sub/log is written again; 0 lines were lost\none\ntwo\n\n$", output)
  end)

  it("for want of permission says whose", function()
    local output = child(([[
      local core = require "moonpool.core"
      core.fd.append = function() return nil, "Permission denied", "EACCES" end
      require "moonpool.log_file".open "/var/log/web.log"
    ]]):format(path))
    assert.matches("error: /var/log/web.log: Permission denied for the user of the "
      .. "workers; its lines wait, and then are lost\n$", output)
  end)
end)

describe("a log file that takes nothing", function()
  it("keeps a MiB of lines, and says twice what that meant", function()
    local output, _, code = child(([[
      local test = require "moonpool.test"
      local core = require "moonpool.core"
      local path, append = %q, core.fd.append
      core.fd.append = function() return append "/dev/full" end
      local file = require "moonpool.log_file".open(path)
      for i = 1, 5000 do file:add(i .. (" "):rep(255 - #tostring(i)) .. "\n") end
      test.advance(100)
      core.fd.append = append
      require "moonpool.bus".publish("moonpool.reopen", "")
      test.advance(1)
      for i = 5001, 5003 do file:add(i .. "\n") end
    ]]):format(path))
    assert.equal(0, code, output)
    local kept = MOST // 256
    assert.matches(("^[^\n]* error: %s: No space left on device; its lines wait, and "
      .. "then are lost\n[^\n]* warn: %s is written again; %d lines were lost\n$")
      :format(path, path, 5000 - kept), output)
    local n = 0
    for line in contents():gmatch "[^\n]+" do
      n = n + 1
      assert.equal(n <= kept and n or n - kept + 5000, tonumber(line))
    end
    assert.equal(kept + 3, n)
  end)

  it("but a part of a line gets the rest when it can", function()
    local output, _, code = child [[
      local core = require "moonpool.core"
      local test = require "moonpool.test"
      local room, taken = 10, {}
      local disk = { kind = function() return "file" end }
      function disk:write(text)
        if room == 0 then return nil, "No space left on device", "ENOSPC" end
        local n = math.min(room, #text)
        taken[#taken + 1], room = text:sub(1, n), room - n
        return n
      end
      core.fd.append = function() return disk end
      local file = require "moonpool.log_file".open "full"
      for _ = 1, 3 do file:add "12345\n" end
      for _, space in ipairs { 0, 3, 100 } do
        room = room + space
        test.advance(1)
        print(#table.concat(taken))
      end
      assert(table.concat(taken) == ("12345\n"):rep(3))
      file:add "6\n"
      test.advance(1)
      print(table.concat(taken))
    ]]
    assert.equal(0, code, output)
    assert.matches("^[^\n]*full: No space left on device; its lines wait, and then are "
      .. "lost\n10\n13\n[^\n]*full is written again; 0 lines were lost\n18\n12345\n12345"
      .. "\n12345\n6\n\n$", output)
  end)

  it("because nobody reads it has taken whole lines", function()
    assert(os.execute("mkfifo " .. path))
    local reading = assert(core.net.conn(core.fd.open(directory, "log")))
    local reader <close> = test.client(reading)
    local function take()
      local text = ""
      reader:settimeout(0)
      for piece in function() return (reader:readsome()) end do text = text .. piece end
      return #text
    end
    local other <close> = assert(core.fd.append(path))
    assert.equal(4096, other:write(("x"):rep(4096)))
    local file = log_file.open(path)
    for _ = 1, 800 do file:add(line_of(100)) end
    test.advance(1)
    local first = take() - 4096
    assert.is_true(first > 50000 and first < 65536 - 4096)
    assert.equal(0, first % 100)
    test.advance(1)
    assert.equal(80000, first + take())
  end)

  it("because nobody reads it stops nobody, and nothing is said till then", function()
    assert(os.execute("mkfifo " .. path))
    local output, _, code = child(([[
      local core = require "moonpool.core"
      local test = require "moonpool.test"
      local reader = assert(core.fd.open(%q, "log")):file()
      local file = require "moonpool.log_file".open(%q)
      local added, got, n = 20000, 0, nil
      io.stdout:setvbuf "no"
      for i = 1, added do file:add(("x"):rep(90) .. i .. "\n") end
      test.advance(100)
      io.write "nothing yet\n"
      reader:setvbuf "no"
      repeat
        local line = reader:read "l"
        n = tonumber(line:match "^x+(%%d+)$")
        if n <= added then
          assert(n == got + 1)
          got = n
          if got %% 100 == 0 then
            test.advance(1)
            file:add(("x"):rep(90) .. added + 1 .. "\n")
          end
        end
      until n > added
      io.write(added - got, "\n")
      core.log("info", "end")
    ]]):format(directory, path))
    assert.equal(0, code, output)
    local lost, count = output:match(
      "^nothing yet\n[^\n]*log is written again; (%d+) lines were lost\n(%d+)\n")
    assert.is_true(tonumber(count) > 5000)
    assert.equal(count, lost)
  end)
end)
