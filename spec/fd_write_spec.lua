local fd = require "moonpool.fd"
local harness = require "server"
local lfs = require "lfs"
local native_fd = require "native.fd"
local child = require "child"

local PIPE_BUF = 4096

require "tidy" (before_each, after_each)

local function contents(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

describe("a file to append to", function()
  local directory, path

  before_each(function()
    directory = harness.directory()
    path = directory .. "/log"
  end)

  after_each(function() harness.remove(directory) end)

  it("is made, for its owner and the group", function()
    local file <close> = assert(fd.append(path))
    assert.equal("file", file:kind())
    assert.equal("", contents(path))
    assert.matches("^rw%-[r-]%-%-%-%-%-$", lfs.attributes(path, "permissions"))
    assert.is_true((native_fd.flags(file:fileno())))
  end)

  it("keeps what it has, and what others append meanwhile", function()
    harness.write_file(path, "old\n")
    local one <close> = assert(fd.append(path))
    local other <close> = assert(fd.append(path))
    for i = 1, 3 do
      assert.equal(6, one:write(("one %d\n"):format(i)))
      assert.equal(8, other:write(("other %d\n"):format(i)))
    end
    assert.equal("old\none 1\nother 1\none 2\nother 2\none 3\nother 3\n", contents(path))
  end)

  it("takes everything at once", function()
    local file <close> = assert(fd.append(path))
    local text = ("x"):rep(1 << 20) .. "\0\n"
    assert.equal(#text, file:write(text))
    assert.equal(0, file:write "")
    assert.is_true(contents(path) == text)
  end)

  it("may be one that cannot be opened", function()
    assert.same({ nil, "No such file or directory", "ENOENT" },
      { fd.append(directory .. "/missing/log") })
    assert.same({ nil, "Is a directory", "EISDIR" }, { fd.append(directory) })
    assert.same({ nil, "the path contains a NUL byte", "EINVAL" },
      { fd.append(path .. "\0x") })
    assert.is_false(pcall(fd.append))
    assert.is_nil(lfs.attributes(path))
  end)

  it("may be a fifo, which is not waited for", function()
    assert(os.execute("mkfifo " .. path))
    assert.same({ nil, "No such device or address", "ENXIO" }, { fd.append(path) })
    local reader <close> = assert(fd.open(directory, "log"))
    local writer <close> = assert(fd.append(path))
    assert.equal(3, writer:write "abc")
    local file <close> = assert(reader:file())
    assert.equal("abc", file:read(3))
  end)

  it("says why it takes nothing", function()
    local full <close> = assert(fd.append "/dev/full")
    assert.same({ nil, "No space left on device", "ENOSPC" }, { full:write "x" })
    harness.write_file(path, "")
    local reading <close> = assert(fd.open(directory, "log"))
    assert.same({ nil, "Bad file descriptor", "EBADF" }, { reading:write "x" })
  end)
end)

describe("a pipe", function()
  it("takes what has room, and then nothing", function()
    local reading <close>, writing <const> = fd.pipe()
    local _ <close> = writing
    local text = ("x"):rep(10000)
    local taken = 0
    while true do
      local n, message, code = writing:write(text)
      if not n then
        assert.same({ "Resource temporarily unavailable", "EAGAIN" }, { message, code })
        break
      end
      assert.equal(PIPE_BUF, n)
      taken = taken + n
    end
    assert.equal(65536, taken)
    local file <close> = assert(reading:file())
    assert.equal(taken // 2, #file:read(taken // 2))
    assert.equal(PIPE_BUF, writing:write(text))
  end)

  it("without a reader is closed", function()
    local reading, writing <const> = fd.pipe()
    local _ <close> = writing
    reading:close()
    assert.same({ nil, "closed", "EPIPE" }, { writing:write "x" })
  end)
end)

describe("standard error", function()
  it("is written to through a descriptor of its own", function()
    assert.same({ "one\ntwo\nthree\n", "exit", 0 }, { child [[
      local fd = require "moonpool.core".fd
      local file = assert(fd.stderr())
      assert(file:fileno() > 2)
      assert(file:write "one\n" == 4)
      io.stderr:write "two\n"
      file:close()
      io.stderr:write "three\n"
    ]] })
  end)

  it("may be closed", function()
    assert.same({ "nil\tBad file descriptor\tEBADF\n", "exit", 0 }, { child [[
      local fd = require "moonpool.core".fd
      require "native.fd".adopt(2):close()
      print(fd.stderr())
    ]] })
  end)
end)
