local baton = require "native.baton"
local bytes = require "baton_bytes"
local channel = require "native.channel"
local core = require "moonpool.core"
local endpoint = require "native.endpoint"
local harness = require "server"
local parcel = require "native.parcel"
local process = require "native.process"

local before

before_each(function() before = harness.descriptors(process.pid()) end)

after_each(function()
  collectgarbage()
  assert.equal(before, harness.descriptors(process.pid()))
end)

local function open(text)
  local fd = parcel.store(text)
  local reader = baton.open(fd)
  channel.close(fd)
  return reader
end

local function read(fn)
  return open(bytes(fn))
end

-- A pool of two workers, with more that nobody asks for.
local function write_sample(b)
  b:put("new", "of a later version")
  b:begin "pool"
  b:put("name", "web")
  for i = 1, 2 do
    b:begin "worker"
    b:number("pid", i)
    b:begin "new"
    b:number("pid", 99)
    b:finish()
    b:finish()
  end
  b:begin "place"
  b:seconds("started", 0.1)
  b:finish()
  b:finish()
  b:put("name", "outside")
end

describe("a baton", function()
  it("has what was put, by name", function()
    local b = read(function(writer)
      for i, text in ipairs { "", "x", "\0\n", ("y"):rep(100000) } do
        writer:put("text" .. i, text)
      end
      for i, n in ipairs { 0, 1, -1, math.maxinteger, math.mininteger } do
        writer:number("number" .. i, n)
      end
      for i, s in ipairs { 0.0, 1e-300, 1 / 3, math.huge } do
        writer:seconds("seconds" .. i, s)
      end
      writer:put("elevenchars", "z")
    end)
    for i, text in ipairs { "", "x", "\0\n", ("y"):rep(100000) } do
      assert.equal(text, b:get("text" .. i))
    end
    for i, n in ipairs { 0, 1, -1, math.maxinteger, math.mininteger } do
      assert.equal(n, b:number("number" .. i))
    end
    for i, s in ipairs { 0.0, 1e-300, 1 / 3, math.huge } do
      assert.equal(s, b:seconds("seconds" .. i))
    end
    assert.equal("z", b:get "elevenchars")
  end)

  it("has nothing that was not put", function()
    local b = read(function(writer)
      writer:put("text", "x")
      writer:number("number", 7)
    end)
    for _, name in ipairs { "other", "tex", "text2", "", "fds" } do
      assert.is_nil(b:get(name))
      assert.equal(0, b:number(name))
      assert.equal(0.0, b:seconds(name))
      assert.equal(-1, b:fd(name))
      assert.is_false(b:enter(name))
    end
    assert.equal(0, b:number "text") -- which is of another size
  end)

  it("has items within items, each to be gone into in its turn", function()
    local b = read(write_sample)
    for _ = 1, 2 do -- after the last begins the first
      assert.is_true(b:enter "pool")
      assert.equal("web", b:get "name")
      assert.is_nil(b:get "new")
      for i = 1, 2 do
        assert.is_true(b:enter "worker")
        assert.equal(i, b:number "pid")
        b:leave()
      end
      assert.is_false(b:enter "worker")
      assert.is_true(b:enter "place")
      assert.equal(0.1, b:seconds "started")
      assert.is_nil(b:get "name")
      b:leave()
      b:leave()
      assert.equal("outside", b:get "name")
      assert.is_false(b:enter "pool")
    end
  end)

  it("is none at every cut of its first line, and less at every other", function()
    local text = bytes(write_sample)
    local head = assert(select(2, text:find "^moonpool baton 1\0"))
    for n = 0, head - 1 do assert.is_nil(open(text:sub(1, n))) end
    for n = head, #text - 1 do
      local b = open(text:sub(1, n))
      while b:enter "pool" do
        while b:enter "worker" do
          assert.is_true(b:number "pid" <= 2)
          b:leave()
        end
        b:leave()
      end
      assert.is_nil(b:get "name")
    end
    assert.is_nil(open(text:gsub("baton 1", "baton 2")))
    assert.is_nil(baton.open(-1))
  end)
end)

-- Whether a descriptor of this process has close-on-exec.
local function closes(fd)
  local file <close> = assert(io.open("/proc/self/fdinfo/" .. fd))
  return tonumber(file:read "a":match "flags:%s*(%d+)", 8) & 0x80000 ~= 0 -- O_CLOEXEC
end

describe("a program that takes the place of another", function()
  -- Goes on in the same process with a script: what that says.
  local function run(script)
    local output, input = core.fd.pipe()
    pcall(endpoint.child, function() -- an error is said
      local writer = baton.new()
      endpoint.dup2(input:fileno(), 1)
      endpoint.dup2(input:fileno(), 2)
      writer:number("pid", process.pid())
      writer:begin "worker"
      writer:fd("kept", channel.file())
      writer:fd("dropped", channel.file())
      writer:fd("none", -1)
      writer:finish()
      writer:number("other", channel.file()) -- which is not passed
      writer:exec(process.program(), "-e",
        ("package.path, package.cpath = %q, %q\n"):format(package.path, package.cpath)
          .. 'local baton, process = require "native.baton", require "native.process"\n'
          .. script)
    end)
    input:close()
    local stream <close> = output:file()
    return stream:read "a"
  end

  it("has what was passed, and nothing else", function()
    assert.equal("nil\nsame process\n2 descriptors less\n", run [[
      local endpoint, harness = require "native.endpoint", require "server"
      local count = harness.descriptors(process.pid())
      local b = baton.inherit()
      print(os.getenv "MOONPOOL_BATON")
      print(b:number "pid" == process.pid() and "same process")
      assert(b:enter "worker")
      local kept = b:fd "kept"
      assert(kept > 2 and b:fd "kept" == -1 and b:fd "none" == -1) -- taken once
      b:leave()
      local other = b:number "other"
      b:free() -- with what was dropped; and the baton itself has gone before
      print(count - harness.descriptors(process.pid()) .. " descriptors less")
      assert(endpoint.dup2(kept, kept) == kept)
      assert(not endpoint.dup2(other, other))
      assert(baton.inherit() == nil)
    ]])
  end)

  it("has nothing, if the variable says something else", function()
    for _, value in ipairs { "", "x", "-1", "0", "1", "99999999999", "1000" } do
      assert.equal("nothing", endpoint.child(function()
        endpoint.setenv("MOONPOOL_BATON", value)
        return baton.inherit() == nil and "nothing"
      end))
    end
  end)

  it("cannot, if there is none: then all is as it was", function()
    local kept, writer = channel.file(), baton.new()
    writer:fd("kept", kept)
    assert.same({ nil, "ENOENT" }, { writer:exec "/nonexistent/program" })
    assert.is_nil(os.getenv "MOONPOOL_BATON")
    assert.is_nil(baton.inherit())
    writer:free()
    assert.is_true(closes(kept)) -- it is open, and does
    channel.close(kept)
  end)
end)
