local fd = require "moonpool.fd"
local harness = require "server"
local lfs = require "lfs"
local process = require "native.process"

local function descriptors()
  return harness.descriptors(process.pid())
end

describe("fd.open", function()
  local outside, root, before

  before_each(function()
    before = descriptors()
    outside = harness.directory()
    root = outside .. "/root"
    assert(lfs.mkdir(root))
    assert(lfs.mkdir(root .. "/sub"))
    harness.write_file(outside .. "/secret", "secret")
    harness.write_file(root .. "/plain", "plain text")
    harness.write_file(root .. "/sub/deep", "deep text")
  end)

  after_each(function()
    harness.remove(root .. "/sub")
    harness.remove(root)
    harness.remove(outside)
    assert.equal(before, descriptors())
  end)

  local function contents(name)
    local opened <close> = assert(fd.open(root, name))
    local file <close> = assert(opened:file())
    return file:read "a"
  end

  local function refusal(name, directory)
    local opened, message, code = fd.open(directory or root, name)
    assert.is_nil(opened)
    assert.equal(before, descriptors())
    return message, code
  end

  local function link(target, name)
    assert(lfs.link(target, root .. "/" .. name, true))
  end

  it("opens what is in the directory and below it", function()
    assert.equal("plain text", contents "plain")
    assert.equal("deep text", contents "sub/deep")
    assert.equal("plain text", contents "sub/../plain")
    assert.equal("plain text", contents "./plain")
  end)

  it("takes a directory by its relative path too", function()
    local here <close> = assert(fd.open(".", "Makefile"))
    local device, inode = here:identity()
    local file = lfs.attributes "Makefile"
    assert.same({ file.dev, file.ino }, { device, inode })
  end)

  it("opens for reading only, and close-on-exec", function()
    local opened <close> = assert(fd.open(root, "plain"))
    local info <close> = assert(io.open("/proc/self/fdinfo/" .. opened:fileno()))
    local flags = tonumber(info:read "a":match "flags:%s*(%d+)", 8)
    assert.equal(0, flags & 3)
    assert.not_equal(0, flags & 0x80000)
  end)

  it("refuses a name that leaves the directory", function()
    for _, name in ipairs {
      "..", "../secret", "../root/plain", "sub/../../secret", "sub/../../root/plain",
      "/etc/passwd", "/", outside .. "/secret", root .. "/plain",
    } do
      local message, code = refusal(name)
      assert.equal("the name leaves the directory", message, name)
      assert.equal("EXDEV", code, name)
    end
  end)

  it("follows symlinks that stay inside, and refuses those that do not", function()
    link("sub/deep", "inner")
    link("../plain", "sub/back")
    assert.equal("deep text", contents "inner")
    assert.equal("plain text", contents "sub/back")
    link("../secret", "relative")
    link(outside .. "/secret", "absolute")
    link(root .. "/plain", "roundabout")
    link("..", "up")
    link("relative", "twice")
    for _, name in ipairs {
      "relative", "absolute", "roundabout", "up", "up/secret", "up/root/plain", "twice",
    } do
      assert.equal("EXDEV", select(2, refusal(name)), name)
    end
  end)

  it("does not run in circles", function()
    link("loop", "loop")
    assert.equal("ELOOP", select(2, refusal "loop"))
  end)

  it("refuses a NUL byte instead of stopping there", function()
    local message, code = refusal "plain\0.txt"
    assert.equal("the name contains a NUL byte", message)
    assert.equal("EINVAL", code)
  end)

  it("says what the kernel says of other names", function()
    assert.equal("ENOENT", select(2, refusal "missing"))
    assert.equal("ENOENT", select(2, refusal ""))
    assert.equal("ENOTDIR", select(2, refusal "plain/x"))
    assert.equal("ENAMETOOLONG", select(2, refusal(("x"):rep(256))))
    assert.equal("ENAMETOOLONG", select(2, refusal(("x/"):rep(5000))))
    assert.equal("ENOENT", select(2, refusal("plain", outside .. "/nowhere")))
    assert.equal("ENOTDIR", select(2, refusal("plain", root .. "/plain")))
  end)

  it("does not wait for the writer of a fifo", function()
    assert(os.execute("mkfifo " .. root .. "/fifo"))
    local fifo <close> = assert(fd.open(root, "fifo"))
    assert.equal("pipe", fifo:kind())
  end)

  it("opens a directory, which its kind tells", function()
    for _, name in ipairs { "sub", ".", "sub/.." } do
      local opened <close> = assert(fd.open(root, name))
      assert.equal("directory", opened:kind())
    end
  end)

  it("raises for what is no string", function()
    assert.has_error(function() fd.open(root) end)
    assert.has_error(function() fd.open({}, "plain") end)
  end)
end)

describe("a file by its path", function()
  local directory, path, before

  before_each(function()
    before = descriptors()
    directory = harness.directory()
    path = directory .. "/file"
    harness.write_file(path, "0123456789")
  end)

  after_each(function()
    harness.remove(directory)
    assert.equal(before, descriptors())
  end)

  it("is opened, for reading", function()
    do
      local opened <close> = assert(fd.open_path(path))
      assert.equal("file", opened:kind())
      local fifo = directory .. "/fifo"
      assert(os.execute("mkfifo " .. fifo))
      local pipe <close> = assert(fd.open_path(fifo)) -- without a writer
      assert.equal("pipe", pipe:kind())
    end
    assert.equal("ENOENT", select(3, fd.open_path(path .. "x")))
    assert.equal("EINVAL", select(3, fd.open_path(path .. "\0x")))
    assert.has_error(function() fd.open_path() end)
  end)

  it("is read at any place, in whatever form it comes", function()
    for _, open in ipairs { tostring, io.open, fd.open_path } do
      local file = open(path)
      for _, case in ipairs { { "0123456789" }, { "0123456789", 0 }, { "789", 7 },
        { "345", 3, 3 }, { "9", 9, 5 }, { "", 10 }, { "", 99, 5 }, { "", 5, 0 },
        { "56789", 5, -1 }, { "01", 0, 2 } } do
        assert.equal(case[1], fd.read(file, case[2], case[3]))
      end
      if file ~= path then
        if io.type(file) then assert.equal("01", file:read(2)) end -- where it was
        file:close()
        assert.is_false(pcall(fd.read, file))
      end
    end
  end)

  it("is a regular one, or it is not read", function()
    assert.equal("EISDIR", select(3, fd.read(directory)))
    assert.equal("ENOENT", select(3, fd.read(path .. "x")))
    local reading, writing = fd.pipe()
    assert.equal("EINVAL", select(3, fd.read(reading)))
    reading:close()
    writing:close()
    for _, wrong in ipairs { { path, -1 }, { path, "x" }, { {} }, {} } do
      assert.is_false(pcall(fd.read, table.unpack(wrong, 1, 2)))
    end
  end)
end)
