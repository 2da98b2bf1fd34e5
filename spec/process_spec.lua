local channel = require "native.channel"
local core = require "moonpool.core"
local endpoint = require "native.endpoint"
local harness = require "server"
local lfs = require "lfs"
local process = require "native.process"

local NOBODY <const>, NOGROUP <const> = process.id "nobody"

local before, files

before_each(function()
  before = harness.descriptors(process.pid())
  files = {}
  repeat files[#files + 1] = channel.file() until #files >= 4 and channel.lowest() > 8
end)

after_each(function()
  channel.close(table.unpack(files))
  assert.equal(before, harness.descriptors(process.pid()))
end)

-- Starts this interpreter with a script in a process of its own, of which prepare() may
-- change what it likes, and which may change the options. What the program says, and how
-- it ended.
local function run(script, options, prepare)
  local output, input = core.fd.pipe()
  local ended = endpoint.child(function()
    endpoint.dup2(input:fileno(), 1)
    endpoint.dup2(input:fileno(), 2)
    local all = { process.program(), "-e", script, fds = table.move(files, 1, 3, 1, {}) }
    for name, value in pairs(options or {}) do all[name] = value end
    if prepare then prepare(all) end
    local pid = assert(process.exec(all))
    return table.concat({ process.wait(pid) }, " ")
  end)
  input:close()
  local stream <close> = output:file()
  return stream:read "a", ended
end

-- The same for a program that must succeed.
local function output_of(...)
  local text, ended = run(...)
  assert.equal("exit 0", ended, text)
  return text
end

local function read_status(field)
  return ([[
    io.write(io.open "/proc/self/status":read "a":match "\n%s:[ \t]*([^\n]*)", "\n")
  ]]):format(field)
end

local lfs_script = ("package.cpath = %q local lfs = require 'lfs'\n")
  :format(package.cpath)

describe("a program that is started", function()
  it("has the three descriptors at 3, 4 and 5", function()
    local script = lfs_script .. [[
      for fd = 3, 5 do
        local at = lfs.attributes("/proc/self/fd/" .. fd)
        io.write(at.dev, ":", at.ino, "\n")
      end
    ]]
    local expected = ""
    for i = 1, 3 do expected = expected .. channel.identity(files[i]) .. "\n" end
    assert.equal(expected, output_of(script))
    -- The same, wherever they were before: also each at the place of another.
    for _, places in ipairs { { 4, 5, 3 }, { 5, 3, 4 }, { 3, 4, 5 }, { 5, 4, 3 } } do
      assert.equal(expected, output_of(script, nil, function(options)
        local high = {}
        for i = 1, 3 do high[i] = channel.dup(files[i]) end
        for i, place in ipairs(places) do endpoint.dup2(high[i], place) end
        options.fds = places
      end))
    end
    -- And where some or all of those three places are free.
    for _, free in ipairs { { 3, 4, 5 }, { 4 }, { 3, 5 } } do
      assert.equal(expected, output_of(script, nil, function(options)
        for i = 1, 3 do options.fds[i] = channel.dup(files[i]) end
        for _, fd in ipairs(free) do endpoint.close(fd) end
      end))
    end
  end)

  it("may have one and the same descriptor in all three places", function()
    assert.equal("true\n", output_of(lfs_script .. [[
      local a, b = lfs.attributes "/proc/self/fd/3", lfs.attributes "/proc/self/fd/5"
      print(a.dev == b.dev and a.ino == b.ino)
    ]], { fds = { files[2], files[2], files[2] } }))
  end)

  it("has no other, be it close-on-exec or not", function()
    local text = output_of(lfs_script .. [[
      local fds = {}
      for fd in lfs.dir "/proc/self/fd" do fds[#fds + 1] = tonumber(fd) end
      table.sort(fds)
      for _, fd in ipairs(fds) do
        if lfs.attributes("/proc/self/fd/" .. fd) then io.write(fd, " ") end
      end
    ]], nil, function() endpoint.dup2(1, 40) end)
    assert.equal("0 1 2 3 4 5 ", text)
  end)

  it("reads nothing from its standard input", function()
    local script = [[print(io.read(1))]]
    assert.equal("nil\n", output_of(script))
    assert.equal("nil\n", output_of(script, nil, function() endpoint.close(0) end))
  end)

  it("has its arguments", function()
    local text = output_of([[print(#arg, arg[1], arg[2])]],
      { [4] = "-", [5] = "a b", [6] = "" })
    assert.equal("2\ta b\t\n", text)
  end)

  it("has this process's environment, and what is added to it", function()
    assert.equal("kept\ta b=c\tchanged\n", output_of(
      [[print(os.getenv "SPEC_A", os.getenv "SPEC_B", os.getenv "SPEC_C")]],
      { env = { "SPEC_B=a b=c", "SPEC_C=changed" } },
      function()
        endpoint.setenv("SPEC_A", "kept")
        endpoint.setenv("SPEC_C", "old")
      end))
  end)

  it("has nothing of what systemd says to this process, but what is added", function()
    local names = { "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET",
      "WATCHDOG_USEC", "WATCHDOG_PID" }
    local script = ([[
      for name in ("%s"):gmatch "%%S+" do io.write(tostring(os.getenv(name)), " ") end
    ]]):format(table.concat(names, " "))
    assert.equal("nil nil nil mine nil nil ", output_of(script,
      { env = { "NOTIFY_SOCKET=mine" } }, function()
        for _, name in ipairs(names) do endpoint.setenv(name, "systemd's") end
      end))
  end)

  it("leaves this process's environment alone", function()
    assert.equal("exit 0", select(2, run("", { env = { "SPEC_D=1" } })))
    assert.is_nil(os.getenv "SPEC_D")
  end)

  it("has its signals as the system begins, but ignores SIGUSR1 and SIGUSR2", function()
    local blocked, ignored =
      output_of(read_status "SigBlk" .. read_status "SigIgn", nil, process.disturb)
        :match "^(%x+)\n(%x+)\n$"
    assert.equal(0, tonumber(blocked, 16))
    local not_ours = 3 << 31 -- 32 and 33, which are the C library's own
    assert.equal(1 << 9 | 1 << 11, tonumber(ignored, 16) & ~not_ours)
  end)

  it("is the pid that was returned", function()
    assert.equal("true", endpoint.child(function()
      local pid = process.exec { "/bin/sleep", "60", fds = files }
      assert(process.kill(pid, "TERM"))
      local how, number = process.wait(pid)
      return how == "signal" and number == 15
    end))
  end)
end)

describe("a program that cannot be started", function()
  it("says why, and ends with 127", function()
    local text, ended = run("", { [1] = "/nonexistent/moonpool" })
    assert.matches("error: /nonexistent/moonpool: No such file or directory\n$", text)
    assert.equal("exit 127", ended)
  end)

  it("because its descriptors cannot be placed says so", function()
    local text, ended = run("", { fds = { files[1], 1 << 20, files[2] } })
    assert.matches("error: cannot place the descriptors of a worker: " ..
      "Bad file descriptor\n$", text)
    assert.equal("exit 127", ended)
  end)

  it("because it may not become another user says so, and is not run", function()
    for _, who in ipairs {
      { uid = 0 }, { gid = 0 }, { uid = 0, gid = 0, user = "root" },
    } do
      local text, ended = run([[print "run"]], who, function()
        endpoint.unprivileged()
      end)
      assert.matches("error: cannot become the configured user and group: " ..
        "Operation not permitted\n$", text)
      assert.equal("exit 127", ended)
    end
  end)
end)

describe("a program of another user", function()
  local ids = table.concat { read_status "Uid", read_status "Gid", read_status "Groups" }

  -- Three lists of numbers, as text; or nil where only root could do that.
  local function identity(who)
    local text, ended = run(ids, who)
    if endpoint.user() ~= 0 then
      assert.equal("exit 127", ended)
      return nil
    end
    assert.equal("exit 0", ended, text)
    local uid, gid, groups = text:gsub("\t", " "):match "^(.-) *\n(.-) *\n(.-) *\n$"
    return uid, gid, " " .. groups .. " "
  end

  local function four(id) return ("%d %d %d %d"):format(id, id, id, id) end

  it("has the user's id, group and groups, for good", function()
    local uid, gid, groups = identity { user = "nobody", uid = NOBODY, gid = NOGROUP }
    if uid then
      assert.equal(four(NOBODY), uid)
      assert.equal(four(NOGROUP), gid)
      assert.matches(" " .. NOGROUP .. " ", groups)
      assert.is_nil(groups:find " 0 ")
    end
  end)

  it("may be of another group only", function()
    local uid, gid, groups = identity { gid = NOGROUP }
    if uid then
      assert.equal(four(0), uid)
      assert.equal(four(NOGROUP), gid)
      assert.equal(" " .. NOGROUP .. " ", groups)
    end
  end)

  it("keeps this one's if none is named", function()
    local mine = endpoint.child(function()
      local status = io.open "/proc/self/status":read "a"
      local lines = {}
      for i, field in ipairs { "Uid", "Gid", "Groups" } do
        lines[i] = status:match("\n" .. field .. ":[ \t]*([^\n]*\n)")
      end
      return table.concat(lines)
    end)
    assert.equal(mine, output_of(ids))
  end)
end)

describe("the limit of open descriptors", function()
  it("is raised to what is allowed", function()
    local soft, hard, returned = endpoint.child(function()
      channel.limit(64)
      local limit = process.raise()
      local limits = io.open "/proc/self/limits":read "a"
      return limits:match "Max open files%s+(%d+%s+%d+)" .. " " .. limit
    end):match "^(%d+)%s+(%d+) (%d+)$"
    assert.equal(hard, soft)
    assert.equal(hard, returned)
    assert.is_true(tonumber(hard) > 64)
  end)
end)

describe("the program", function()
  it("is the file that runs here", function()
    assert.equal(lfs.symlinkattributes("/proc/self/exe", "target"), process.program())
    assert.equal("/", process.program():sub(1, 1))
  end)
end)
