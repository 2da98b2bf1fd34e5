local cache_module = require "moonpool.http_content_cache"
local fd = require "moonpool.fd"
local harness = require "server"
local test = require "moonpool.test"

local hold = cache_module.hold

describe("a cache of contents", function()
  local path

  require "tidy" (before_each, after_each)

  before_each(function()
    path = os.tmpname()
    harness.write_file(path, "file")
  end)

  after_each(function() os.remove(path) end)

  local function text(length)
    return { text = ("x"):rep(length or 1), looked_at = { path, fd.stamp(path) } }
  end

  local function file()
    local opened = fd.open_path(path)
    return { file = opened, stamp = opened:stamp(),
      looked_at = { path, opened:stamp() } }
  end

  local function is_open(content)
    return pcall(content.file.kind, content.file)
  end

  local function in_task(fn) -- as a request's is
    return function() test.run(fn) end
  end

  it("has what was put, by its key", in_task(function()
    local cache = cache_module.new(1 << 20, 0)
    local one, two = text(), text()
    assert.is_nil(cache:get "one")
    assert.equal(one, cache:put("one", one))
    assert.equal(two, cache:put("two", two))
    assert.equal(one, cache:get "one")
    assert.equal(two, cache:get "two")
    cache:put("one", two)
    assert.equal(two, cache:get "one")
  end))

  it("has nothing that has changed", in_task(function()
    local cache = cache_module.new(1 << 20, 0)
    cache:put("text", text())
    local open = cache:put("file", file())
    harness.write_file(path, "changed")
    assert.is_nil(cache:get "text")
    assert.is_true(is_open(open))
    assert.is_nil(cache:get "file")
    assert.is_false(is_open(open))
  end))

  it("ends with its time, and begins anew", function()
    for valid, seconds in pairs { [0] = 1, [0.5] = 0.5, [60] = 60 } do
      local cache = cache_module.new(1 << 20, valid)
      for _ = 1, 2 do
        test.run(function() cache:put("early", text()) end)
        test.advance(seconds * 0.75)
        test.run(function() cache:put("late", text()) end)
        test.advance(seconds * 0.24)
        assert.is_truthy(cache:get "early")
        assert.is_truthy(cache:get "late")
        test.advance(seconds * 0.02)
        assert.is_nil(cache:get "early")
        assert.is_nil(cache:get "late")
        test.advance(seconds)
      end
    end
  end)

  it("looks at no path for as long as is said, but at a descriptor", in_task(function()
    local cache = cache_module.new(1 << 20, 60)
    cache:put("text", text())
    cache:put("file", file())
    harness.write_file(path, "changed")
    assert.is_truthy(cache:get "text")
    assert.is_nil(cache:get "file")
  end))

  it("has ready what is to be looked at in no way", function()
    local looking, resting = cache_module.new(1 << 20, 0), cache_module.new(200000, 60)
    test.run(function()
      local small = text()
      for _, cache in ipairs { looking, resting } do
        cache:put("text", small)
        cache:put("file", file())
        assert.is_nil(cache.ready.file)
      end
      resting:put("long", text(200000))
      assert.is_nil(resting.ready.long)
      assert.is_nil(looking.ready.text)
      assert.equal(small, resting.ready.text)
      resting:put("text", file())
      assert.is_nil(resting.ready.text)
      resting:put("text", small)
      assert.equal(small, resting.ready.text)
    end)
    test.advance(60)
    assert.same({}, resting.ready)
  end)

  it("closes a file when it was let go and nobody holds it any more", in_task(function()
    local cache = cache_module.new(1 << 20, 0)
    local content = cache:put("file", file())
    do
      local _ <close> = hold(content)
      do
        local _ <close> = hold(cache:get "file")
        cache:put("file", file())
        assert.is_true(is_open(content))
      end
      assert.is_true(is_open(content))
    end
    assert.is_false(is_open(content))
    local other = cache:get "file"
    do local _ <close> = hold(other) end
    assert.is_true(is_open(other))
  end))

  it("closes what it had no room for when that was sent", in_task(function()
    local cache = cache_module.new(0, 0)
    local content = cache:put("file", file())
    assert.is_nil(cache:get "file")
    do
      local _ <close> = hold(content)
      assert.is_true(is_open(content))
    end
    assert.is_false(is_open(content))
    assert.is_nil(hold(cache:put("text", text())))
  end))

  it("has no more than its size, keys and descriptors counted", in_task(function()
    local function count(size, make, key)
      local cache, n = cache_module.new(size, 0), 0
      for i = 1, 100 do
        local content = cache:put(i .. key, make())
        local _ <close> = hold(content)
        if content.kept then n = n + 1 end
      end
      for i = 1, n do assert.is_truthy(cache:get(i .. key)) end
      assert.is_nil(cache:get(n + 1 .. key))
      return n
    end
    local function long() return text(97000) end
    assert.equal(10, count(1000000, long, ""))
    assert.equal(5, count(1000000, long, ("k"):rep(25000)))
    assert.equal(14, count(1000000, file, ""))
  end))

  it("has its size again when all was let go", function()
    local cache = cache_module.new(100000, 0)
    for _ = 1, 3 do
      test.run(function()
        assert.is_true(cache:put("a", text(90000)).kept)
        assert.is_nil(cache:put("b", text(90000)).kept)
        assert.is_true(cache:put("a", text(95000)).kept)
      end)
      test.advance(1)
    end
  end)
end)
