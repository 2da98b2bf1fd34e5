local endpoint = require "native.endpoint"
local lfs = require "lfs"

local connect, accept, close = endpoint.connect, endpoint.accept, endpoint.close

local function open(text, options)
  return assert(endpoint.open(text, options))
end

local function complaint(text, options)
  local set, why = endpoint.open(text, options)
  assert.is_nil(set)
  return why
end

-- Somebody who connects to text gets through to the listening descriptor fd.
local function answers(fd, text)
  local client = assert(connect(text))
  local served = assert(accept(fd))
  close(client)
  return close(served) == 0
end

local function read_file(path)
  local file <close> = io.open(path)
  return file and file:read "a"
end

local function write_file(path, text)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
end

-- What the kernel says of a descriptor: its close-on-exec and non-blocking flags.
local function flags(fd)
  local octal = read_file("/proc/self/fdinfo/" .. fd):match "flags:%s*(%d+)"
  local all = tonumber(octal, 8)
  return { cloexec = all & 0x80000 ~= 0, nonblock = all & 0x800 ~= 0 }
end

local function is_open(fd)
  return lfs.symlinkattributes("/proc/self/fd/" .. fd) ~= nil
end

local function descriptors()
  local n = 0
  for _ in lfs.dir "/proc/self/fd" do n = n + 1 end
  return n
end

local if_inet6 = read_file "/proc/net/if_inet6"
local loopbacks = { "127.0.0.1" }
if if_inet6 and if_inet6:find(("0"):rep(31) .. "1", 1, true) then
  loopbacks[2] = "[::1]"
end

local before
before_each(function() before = descriptors() end)
after_each(function() assert.equal(before, descriptors()) end)

describe("a TCP endpoint", function()
  it("listens where its text says, on the port that the kernel chose", function()
    for _, host in ipairs(loopbacks) do
      local set <close> = open(host .. ":0")
      assert.equal(1, #set)
      assert.equal(host, set:text():match "^(.*):[1-9]%d*$")
      assert.is_true(answers(set:fd(), set:text()))
      assert.is_nil(set:path())
    end
  end)

  it("does not block, is not inherited and can be opened again at once", function()
    local set <close> = open "127.0.0.1:0"
    assert.same({ cloexec = true, nonblock = true }, flags(set:fd()))
    assert.equal(1, endpoint.option(set:fd(), "reuseaddr"))
  end)

  it("hands TCP_NODELAY on to what it accepts", function()
    local set <close> = open "127.0.0.1:0"
    local client = assert(connect(set:text()))
    local served = assert(accept(set:fd()))
    assert.equal(0, endpoint.option(client, "nodelay"))
    assert.equal(1, endpoint.option(served, "nodelay"))
    close(client)
    close(served)
  end)

  it("serves every interface and both families without a host", function()
    local set <close> = open ":0"
    local host, port = set:text():match "^(.*):(%d+)$"
    assert.equal(if_inet6 and "[::]" or "0.0.0.0", host)
    for _, loopback in ipairs(loopbacks) do
      assert.is_true(answers(set:fd(), loopback .. ":" .. port))
    end
  end)

  it("means the same by the text it gives back", function()
    local first = open ":0"
    local text = first:text()
    first:close()
    local again <close> = open(text)
    assert.equal(text, again:text())
    assert.is_true(answers(again:fd(), "127.0.0.1:" .. text:match "%d+$"))
  end)

  it("listens on every address of a name", function()
    local set <close> = open "localhost:0"
    assert.is_true(#set >= 1)
    for i = 1, #set do
      assert.is_true(answers(set:fd(i), set:text(i)))
    end
  end)

  it("says which address is in use", function()
    local set <close> = open "127.0.0.1:0"
    assert.equal(set:text() .. ": address already in use", complaint(set:text()))
    assert.is_true(answers(set:fd(), set:text()))
  end)

  it("says which address is not permitted", function()
    local first_free = tonumber(read_file "/proc/sys/net/ipv4/ip_unprivileged_port_start")
    local why = endpoint.child(function()
      endpoint.unprivileged()
      local set, why = endpoint.open "127.0.0.1:1"
      return set and "opened" or why
    end)
    assert.equal(first_free > 1 and "127.0.0.1:1: permission denied" or "opened", why)
  end)

  it("says which address is not this machine's", function()
    assert.equal("198.51.100.1:80: cannot assign requested address",
      complaint "198.51.100.1:80")
  end)

  it("says which address makes no sense", function()
    assert.equal("bad..name:80: name or service not known", complaint "bad..name:80")
    assert.equal("::1: an IPv6 address needs brackets: [::1]:8080", complaint "::1")
    assert.equal("localhost: the port is missing", complaint "localhost")
    assert.equal("the address is empty", complaint "")
  end)

  it("does not lose the reason behind an endless address", function()
    local text = ("x"):rep(3000)
    assert.equal(text:sub(1, 160) .. ": the port is missing", complaint(text))
  end)
end)

describe("a unix endpoint", function()
  local directory, path, text

  before_each(function()
    directory = os.tmpname()
    os.remove(directory)
    assert(lfs.mkdir(directory))
    path = directory .. "/socket"
    text = "unix:" .. path
  end)

  after_each(function()
    os.remove(path)
    assert(lfs.rmdir(directory)) -- nothing else may be left in it
  end)

  -- A socket file whose socket is gone: it was elsewhere when its owner looked for it.
  local function leave_stale_socket()
    local set = open(text)
    os.rename(path, path .. ".away")
    set:close()
    os.rename(path .. ".away", path)
    assert.equal("socket", lfs.attributes(path, "mode"))
    assert.is_nil(connect(text))
  end

  it("listens at its path until it is closed, which may happen twice", function()
    local set = open(text)
    assert.equal(text, set:text())
    assert.equal(path, set:path())
    assert.same({ cloexec = true, nonblock = true }, flags(set:fd()))
    assert.is_true(answers(set:fd(), text))
    set:close()
    assert.is_nil(lfs.attributes(path))
    set:close()
    assert.equal(-1, set:fd())
  end)

  it("replaces a socket that nobody answers", function()
    leave_stale_socket()
    local set <close> = open(text)
    assert.is_true(answers(set:fd(), text))
  end)

  it("leaves a socket alone that answers", function()
    local set <close> = open(text)
    local file = lfs.attributes(path, "ino")
    assert.equal(text .. ": another process listens there", complaint(text))
    assert.equal(file, lfs.attributes(path, "ino"))
    local probe = assert(accept(set:fd())) -- the second one's attempt
    close(probe)
    assert.is_true(answers(set:fd(), text))
  end)

  it("leaves a socket alone whose owner is too busy to answer", function()
    local set <close> = open(text, { backlog = 0 })
    local waiting = {}
    repeat
      local client = connect(text)
      waiting[#waiting + 1] = client
    until not client
    assert.equal(text .. ": another process listens there", complaint(text))
    for _, client in ipairs(waiting) do
      close(assert(accept(set:fd())))
      close(client)
    end
    assert.is_true(answers(set:fd(), text))
  end)

  it("leaves a datagram socket alone that is in use", function()
    local fd = endpoint.socket("dgram", path)
    assert.equal(text .. ": another process listens there", complaint(text))
    assert.equal("socket", lfs.attributes(path, "mode"))
    close(fd)
  end)

  it("leaves every other kind of file alone", function()
    write_file(path, "precious")
    assert.equal(text .. ": the file exists and is no socket", complaint(text))
    assert.equal("precious", read_file(path))
    os.remove(path)

    assert(lfs.mkdir(path))
    assert.equal(text .. ": the file exists and is no socket", complaint(text))
    assert.equal("directory", lfs.attributes(path, "mode"))
    assert(lfs.rmdir(path))

    assert(lfs.link(directory .. "/nowhere", path, true))
    assert.equal(text .. ": the file exists and is no socket", complaint(text))
    assert.equal("link", lfs.symlinkattributes(path, "mode"))
  end)

  it("does not remove a file that took its place", function()
    local first = open(text)
    os.remove(path)
    local second <close> = open(text)
    first:close()
    assert.is_true(answers(second:fd(), text))
    os.remove(path)
    write_file(path, "precious")
    second:close()
    assert.equal("precious", read_file(path))
  end)

  it("has the mode it was asked for, and leaves the umask as it was", function()
    local function umask() return read_file "/proc/self/status":match "Umask:%s*(%d+)" end
    local mask = umask()
    for mode, permissions in pairs {
      [384] = "rw-------", [432] = "rw-rw----", [438] = "rw-rw-rw-", [511] = "rwxrwxrwx",
    } do
      local set <close> = open(text, { mode = mode })
      assert.equal(permissions, lfs.attributes(set:path(), "permissions"))
      assert.equal(mask, umask())
    end
  end)

  it("has the mode that the umask leaves if none was asked for", function()
    assert.equal("rwxr-x---", endpoint.child(function()
      endpoint.umask(tonumber("027", 8))
      local set <close> = open(text)
      return lfs.attributes(set:path(), "permissions")
    end))
  end)

  it("has the owner it was asked for", function()
    local user = endpoint.user()
    local uid = user == 0 and 65534 or user
    local set <close> = open(text, { uid = uid, mode = tonumber("640", 8) })
    local file = lfs.attributes(set:path())
    assert.equal(uid, file.uid)
    assert.equal("rw-r-----", file.permissions)
  end)

  it("leaves nothing behind where the owner cannot be set", function()
    assert(os.execute("chmod 777 " .. directory))
    assert.equal(text .. ": the owner cannot be set (Operation not permitted)",
      endpoint.child(function()
        endpoint.unprivileged()
        local count = descriptors()
        local why = complaint(text, { uid = 0 })
        assert.equal(count, descriptors())
        return why
      end))
    assert.is_nil(lfs.attributes(path))
  end)

  it("says which path is not permitted", function()
    assert(os.execute("chmod 555 " .. directory))
    assert.equal(text .. ": permission denied", endpoint.child(function()
      endpoint.unprivileged()
      return complaint(text)
    end))
  end)

  it("leaves a socket alone that it may not connect to", function()
    local set <close> = open(text, { mode = tonumber("600", 8) })
    assert(os.execute("chmod 000 " .. path))
    assert(os.execute("chmod 777 " .. directory))
    assert.equal(text .. ": permission denied", endpoint.child(function()
      endpoint.unprivileged()
      return complaint(text)
    end))
    assert.is_true(set:fd() >= 0)
    assert.equal("socket", lfs.attributes(path, "mode"))
  end)

  it("says which path leads nowhere", function()
    assert.equal(text .. "/x: no such file or directory", complaint(text .. "/x"))
    write_file(path, "")
    assert.equal(text .. "/x: not a directory", complaint(text .. "/x"))
  end)

  it("says how long a path may be", function()
    local long = "unix:/" .. ("x"):rep(129)
    assert.equal(long .. ": the path may have at most 107 bytes, this has 130",
      complaint(long))
  end)
end)

describe("an abstract unix endpoint", function()
  local text = "unix:@moonpool-spec-" .. endpoint.pid()

  it("listens at exactly its name, which is no file", function()
    local set <close> = open(text, { mode = 384, uid = 0 })
    assert.equal(text, set:text())
    assert.is_nil(set:path())
    assert.is_true(answers(set:fd(), text))
    local name = text:sub(#"unix:" + 1):gsub("%p", "%%%0")
    assert.truthy(read_file "/proc/net/unix":find(" " .. name .. "\n"))
  end)

  it("says which name is in use", function()
    local set <close> = open(text)
    assert.equal(text .. ": address already in use", complaint(text))
    assert.is_true(answers(set:fd(), text))
  end)
end)

describe("an inherited descriptor", function()
  it("becomes an endpoint like any other", function()
    local fd = endpoint.socket "listener"
    assert.same({ cloexec = false, nonblock = false }, flags(fd))
    local set <close> = open("fd:" .. fd)
    assert.equal(fd, set:fd())
    assert.same({ cloexec = true, nonblock = true }, flags(fd))
    assert.equal(1, endpoint.option(fd, "nodelay"))
    assert.is_true(answers(fd, "127.0.0.1:" .. set:text():match "^0%.0%.0%.0:(%d+)$"))
  end)

  it("keeps its socket file, which is its opener's", function()
    local path = os.tmpname()
    os.remove(path)
    local fd = endpoint.socket("listener", path)
    local set = open("fd:" .. fd)
    assert.equal("unix:" .. path, set:text())
    assert.is_nil(set:path())
    assert.is_true(answers(fd, set:text()))
    set:close()
    assert.equal("socket", lfs.attributes(path, "mode"))
    os.remove(path)
  end)

  it("must be a listening stream socket, or stays its owner's", function()
    for _, kind in ipairs { "stream", "dgram" } do
      local fd = endpoint.socket(kind)
      local why = { stream = "does not listen", dgram = "is no stream socket" }
      assert.equal(("fd:%d: descriptor %d %s"):format(fd, fd, why[kind]),
        complaint("fd:" .. fd))
      assert.same({ cloexec = false, nonblock = false }, flags(fd))
      assert.equal(0, close(fd))
    end
  end)

  it("must be a socket, and open", function()
    assert.equal("fd:0: descriptor 0 is no socket", endpoint.child(function()
      close(0)
      local null <close> = assert(io.open "/dev/null") -- the lowest free one: 0
      return null and complaint "fd:0"
    end))
    assert.equal("fd:99999: descriptor 99999 is not open", complaint "fd:99999")
  end)

  it("is taken once", function()
    local fd = endpoint.socket "listener"
    local set <close> = open("fd:" .. fd)
    assert.equal(("fd:%d: descriptor %d is taken already"):format(fd, fd),
      complaint("fd:" .. fd))
    assert.is_true(answers(fd, "127.0.0.1:" .. set:text():match ":(%d+)$"))
  end)

  it("must be written as a number", function()
    for _, text in ipairs { "fd:", "fd:x", "fd:-1", "fd:3x", "fd: 3", "fd:4294967299" } do
      assert.equal(text .. ": the descriptor must be a number", complaint(text))
    end
  end)
end)

describe("systemd's descriptors", function()
  -- What a process says that was started with these variables and listening sockets.
  local function started(variables, sockets, report)
    return endpoint.child(function()
      for i, fd in ipairs(sockets) do endpoint.dup2(fd, 60 + i) end -- out of the way
      for i in ipairs(sockets) do endpoint.dup2(60 + i, 2 + i) end
      endpoint.setenv("LISTEN_FDS", variables.LISTEN_FDS)
      endpoint.setenv("LISTEN_FDNAMES", variables.LISTEN_FDNAMES)
      local pid = variables.LISTEN_PID
      if pid == nil then pid = endpoint.pid() end
      endpoint.setenv("LISTEN_PID", pid or nil)
      return report()
    end)
  end

  local function refused(variables, sockets, options, text)
    return started(variables, sockets or {}, function()
      return complaint(text or "systemd", options)
    end)
  end

  -- How many of three sockets with these names have that one, and which.
  local function named(names, wanted)
    local a <close> = open "127.0.0.1:0"
    local b <close> = open "127.0.0.1:0"
    local c <close> = open "127.0.0.1:0"
    return started({ LISTEN_FDS = 3, LISTEN_FDNAMES = names }, { a:fd(), b:fd(), c:fd() },
      function()
        local set <close>, why = endpoint.open("systemd:" .. wanted)
        if not set then return why end
        local fds = {}
        for i = 1, #set do fds[i] = set:fd(i) end
        return table.concat(fds, " ")
      end)
  end

  it("are all taken, in their order, and the environment is left alone", function()
    local a <close> = open "127.0.0.1:0"
    local b <close> = open("unix:@moonpool-spec-" .. endpoint.pid())
    local function report()
      local set <close> = open "systemd"
      assert.equal(2, #set)
      assert.same({ 3, 4 }, { set:fd(1), set:fd(2) })
      assert.is_true(flags(3).cloexec and flags(4).cloexec)
      assert.equal("2", os.getenv "LISTEN_FDS")
      return set:text(1) .. " " .. set:text(2)
    end
    assert.equal(a:text() .. " " .. b:text(),
      started({ LISTEN_FDS = 2 }, { a:fd(), b:fd() }, report))
  end)

  it("are missing where nothing was passed", function()
    assert.equal("systemd: no sockets were passed (LISTEN_FDS is not set)", refused {})
    assert.equal("systemd: no sockets were passed (LISTEN_PID is not set)",
      refused { LISTEN_FDS = 1, LISTEN_PID = false })
    for _, count in ipairs { "0", "", "x", "-1", "1x", "1025", "2147483647" } do
      assert.equal(('systemd: no sockets were passed (LISTEN_FDS is "%s")'):format(count),
        refused { LISTEN_FDS = count })
    end
  end)

  it("are taken by name", function()
    assert.equal("4", named("web:admin:log", "admin"))
    assert.equal("3", named("web:admin:log", "web"))
    assert.equal("5", named("web:admin:log", "log"))
    assert.equal("3 5", named("web:admin:web", "web"))
    assert.equal("3 4 5", named(nil, "unknown"))
    assert.equal("5", named("::a", "a"))
  end)

  it("must have the name", function()
    for _, names in ipairs { "admin:log", "", ":", "webs:we:xweb", "a:b:c:web" } do
      assert.equal(("systemd:web: no socket of that name was passed (LISTEN_FDNAMES is "
        .. "%q)"):format(names), (named(names, "web")))
    end
    assert.equal("systemd:web: no sockets were passed (LISTEN_FDS is not set)",
      refused({}, {}, nil, "systemd:web"))
  end)

  it("are taken once", function()
    local a <close> = open "127.0.0.1:0"
    local b <close> = open "127.0.0.1:0"
    assert.equal("systemd: descriptor 4 is taken already",
      started({ LISTEN_FDS = 2, LISTEN_FDNAMES = "web:admin" }, { a:fd(), b:fd() },
        function()
          local _ <close> = open "systemd:admin"
          return complaint "systemd"
        end))
  end)

  it("that nobody takes are closed in the end, and nothing tells of them", function()
    local a <close> = open "127.0.0.1:0"
    local b <close> = open "127.0.0.1:0"
    assert.equal("false true nil nil nil",
      started({ LISTEN_FDS = 2, LISTEN_FDNAMES = "web:admin" }, { a:fd(), b:fd() },
        function()
          local set <close> = open "systemd:admin"
          close(2) -- what it says is in listen_spec
          endpoint.end_passing()
          local said = { tostring(is_open(3)), tostring(is_open(set:fd())) }
          for i, name in ipairs { "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES" } do
            said[i + 2] = tostring(os.getenv(name))
          end
          return table.concat(said, " ")
        end))
  end)

  it("of another process are left alone", function()
    local a <close> = open "127.0.0.1:0"
    assert.equal("true nil",
      started({ LISTEN_FDS = 1, LISTEN_PID = "1" }, { a:fd() }, function()
        endpoint.end_passing()
        return tostring(is_open(3)) .. " " .. tostring(os.getenv "LISTEN_FDS")
      end))
  end)

  it("may be meant for another process", function()
    for _, pid in ipairs { "1", "x", "" } do
      local why = refused { LISTEN_FDS = 1, LISTEN_PID = pid }
      assert.equal(("systemd: the sockets are for process %s (LISTEN_PID), this is N")
        :format(pid), (why:gsub("%d+$", "N")))
    end
  end)

  it("must be sockets that listen", function()
    local set <close> = open "127.0.0.1:0"
    local deaf = endpoint.socket "stream"
    assert.equal("systemd: descriptor 4 does not listen",
      refused({ LISTEN_FDS = 2 }, { set:fd(), deaf }))
    close(deaf)
  end)

  it("must not be more than there is room for", function()
    assert.equal("systemd: 3 sockets were passed, at most 2 are allowed",
      refused({ LISTEN_FDS = 3 }, {}, { max = 2 }))
  end)
end)
