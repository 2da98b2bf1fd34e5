local fd = require "moonpool.fd"
local harness = require "server"
local lfs = require "lfs"
local native_fd = require "native.fd"
local net = require "moonpool.net"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

-- A moonpool.fd of an open Lua file.
local function descriptor_of(file)
  local a, b = net.pair()
  local from <close> = test.client(a)
  local to <close> = test.client(b)
  from:sendfd(file, ".")
  return (assert(to:recvfd()))
end

describe("a descriptor", function()
  it("says of what kind it is", function()
    local reading <close>, writing = fd.pipe()
    assert.equal("pipe", reading:kind())
    assert.equal("pipe", writing:kind())
    writing:close()
    local null_file <close> = assert(io.open "/dev/null")
    local null <close> = descriptor_of(null_file)
    assert.equal("character device", null:kind())
    local file <close> = io.tmpfile()
    local regular <close> = descriptor_of(file)
    assert.equal("file", regular:kind())
    local root_file <close> = assert(io.open "/")
    local root <close> = descriptor_of(root_file)
    assert.equal("directory", root:kind())
    local conn <close>, other = net.pair()
    local a, b = net.pair()
    local from <close> = test.client(a)
    local to <close> = test.client(b)
    from:sendfd(conn, ".")
    local socket <close> = assert(to:recvfd())
    assert.equal("socket", socket:kind())
    other:close()
  end)

  it("has the identity of what it stands for", function()
    local path = os.tmpname()
    local one_file <close> = assert(io.open(path))
    local other_file <close> = assert(io.open(path))
    local one <close> = descriptor_of(one_file)
    local other <close> = descriptor_of(other_file)
    assert.same({ lfs.attributes(path, "dev"), lfs.attributes(path, "ino") },
      { one:identity() })
    assert.same({ one:identity() }, { other:identity() })
    assert.not_equal(one:fileno(), other:fileno())
    local reading <close>, writing = fd.pipe()
    assert.not_same({ reading:identity() }, { one:identity() })
    writing:close()
    os.remove(path)
  end)

  it("has what the kernel knows of a file", function()
    local path = os.tmpname()
    harness.write_file(path, "12345")
    assert(os.execute("touch -d '1994-11-06 08:49:37.123456789 UTC' " .. path))
    local file <close> = assert(io.open(path))
    local opened <close> = descriptor_of(file)
    os.remove(path)
    local device, inode = opened:identity()
    assert.same({ kind = "file", size = 5, mtime = 784111777, mtime_ns = 123456789,
      device = device, inode = inode, stamp = opened:stamp() }, opened:stat())
  end)

  it("has a stamp, which is another after every change", function()
    local path = os.tmpname()
    harness.write_file(path, "12345")
    local file <close> = assert(io.open(path))
    local opened <close> = descriptor_of(file)
    local seen = {}
    local function changes(what)
      local stamp = fd.stamp(path)
      assert.equal(stamp, fd.stamp(path), what)
      assert.is_nil(seen[stamp], what)
      seen[stamp] = true
    end
    changes "at first"
    assert.equal(opened:stamp(), fd.stamp(path))
    for _, command in ipairs { "printf 1 >> ", "truncate -s 5 ", "chmod 600 ",
      "touch -d @784111777.123456789 ", "touch -d @784111777.123456788 " } do
      assert(os.execute(command .. path))
      changes(command)
      assert.equal(opened:stamp(), fd.stamp(path))
    end
    harness.write_file(path .. "2", "12345")
    assert(os.rename(path .. "2", path))
    changes "a rename"
    assert.not_equal(opened:stamp(), fd.stamp(path))
    os.remove(path)
    assert.same({ nil, "No such file or directory", "ENOENT" }, { fd.stamp(path) })
    assert.equal("EINVAL", select(3, fd.stamp "/\0"))
  end)

  it("is not inherited by programs that are started", function()
    local reading <close>, writing = fd.pipe()
    assert.is_true((native_fd.flags(reading:fileno())))
    assert.is_true((native_fd.flags(writing:fileno())))
    writing:close()
    local file <close> = io.tmpfile()
    local received <close> = descriptor_of(file)
    assert.is_true((native_fd.flags(received:fileno())))
  end)

  it("becomes a Lua file, which then owns it", function()
    local reading, writing = fd.pipe()
    local number = reading:fileno()
    assert.equal(("moonpool.fd (%d)"):format(number), tostring(reading))
    local from <close> = reading:file()
    local to = writing:file "w"
    assert.equal("moonpool.fd (closed)", tostring(reading))
    assert.is_true((native_fd.flags(number)))
    assert.equal("file", io.type(from))
    to:write "through\nthe pipe"
    assert.is_true(to:close())
    assert.equal("closed file", io.type(to))
    assert.equal("through", from:read())
    assert.equal("the pipe", from:read "a")
    assert.is_nil(from:read())
    assert.is_true(reading:close())
    assert.equal("file", io.type(from))
  end)

  it("stays a descriptor when the mode is not possible", function()
    local reading <close>, writing <const> = fd.pipe()
    for _, mode in ipairs { "w", "x", "" } do
      assert.same({ nil, "Invalid argument", "EINVAL" }, { reading:file(mode) })
    end
    assert.equal("pipe", reading:kind())
    assert.is_false(pcall(reading.file, reading, {}))
    writing:close()
    collectgarbage()
    assert.equal("pipe", reading:kind())
  end)

  it("is closed once, and then raises", function()
    local reading, writing = fd.pipe()
    assert.is_true(reading:close())
    assert.is_true(reading:close())
    for _, method in ipairs { "kind", "stat", "identity", "fileno", "file", "write" } do
      local ok, why = pcall(reading[method], reading)
      assert.is_false(ok)
      assert.matches("descriptor is closed", why)
      assert.is_false(pcall(reading[method], {}))
    end
    do
      local closing <close> = writing
      assert.equal("pipe", closing:kind())
    end
    assert.equal("moonpool.fd (closed)", tostring(writing))
  end)

  it("is closed by the collector", function()
    local reading, writing = fd.pipe()
    local from <close> = reading:file()
    assert.not_nil(writing)
    writing = nil -- luacheck: ignore 311
    collectgarbage()
    assert.equal("", from:read "a")
  end)
end)
