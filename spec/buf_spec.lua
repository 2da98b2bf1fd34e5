local buf = require "native.buf"

describe("a buf", function()
  it("gives back in order what came in", function()
    local b = buf.new()
    b:append "hello "
    b:append ""
    b:append "world"
    assert.equal("hello world", b:text())
    b:skip(6)
    assert.equal("world", b:text())
    b:skip(5)
    assert.equal("", b:text())
    assert.equal(0, b:length())
  end)

  it("holds zero bytes like all others", function()
    local b = buf.new()
    local bytes = "\0a\0\255\0"
    b:append(bytes)
    b:skip(1)
    assert.equal(bytes:sub(2), b:text())
  end)

  it("holds no memory before it is used, nor after it is released", function()
    local b = buf.new()
    assert.equal(0, b:size())
    b:append ""
    assert.equal(0, b:size())
    b:append "x"
    assert.is_true(b:size() > 0)
    b:release()
    assert.equal(0, b:size())
    assert.equal("", b:text())
    b:release()
    b:append "again"
    assert.equal("again", b:text())
  end)

  it("gives back the room around its bytes", function()
    local b = buf.new()
    b:fit()
    b:append "hello world"
    b:skip(6)
    b:fit()
    assert.equal(5, b:size())
    assert.equal("world", b:text())
    b:append "!"
    assert.equal("world!", b:text())
    b:skip(6)
    b:fit()
    assert.equal("", b:text())
  end)

  it("has the room that was reserved, of which not all need be used", function()
    local b = buf.new()
    b:put("abc", 10000)
    assert.equal("abc", b:text())
    assert.is_true(b:room() >= 10000)
    local size = b:size()
    b:append(("x"):rep(10000))
    assert.equal(size, b:size())
    assert.equal("abc" .. ("x"):rep(10000), b:text())
  end)

  it("uses the room of what has left instead of growing", function()
    local b = buf.new()
    b:append(("x"):rep(300))
    local size = b:size()
    for _ = 1, 1000 do
      b:append(("y"):rep(100))
      b:skip(100)
    end
    assert.equal(size, b:size())
    assert.equal(("y"):rep(300), b:text())
  end)

  it("starts at the beginning again when all has left", function()
    local b = buf.new()
    b:append(("x"):rep(400))
    local size = b:size()
    b:skip(400)
    assert.equal(size, b:room())
  end)

  it("grows to many times its size in one step", function()
    local b = buf.new()
    local large = ("0123456789"):rep(100000)
    b:append "x"
    b:append(large)
    assert.equal("x" .. large, b:text())
    assert.is_true(b:size() < 3 * #large)
  end)

  it("is a Lua string, whatever is appended and skipped", function()
    math.randomseed(20240229)
    local b, model = buf.new(), ""
    local most = 0
    for step = 1, 20000 do
      local what = math.random(10)
      if what <= 4 then
        local s = string.char(step % 256):rep(math.random(0, what == 4 and 3000 or 60))
        b[step % 2 == 0 and "append" or "put"](b, s)
        model = model .. s
      elseif what <= 9 then
        local n = math.random(0, #model)
        if what < 8 then n = math.min(n, 200) end
        b:skip(n)
        model = model:sub(n + 1)
      elseif step % 50 == 0 then
        b:release()
        model = ""
      end
      most = math.max(most, #model)
      assert(b:length() == #model, step)
      if step % 7 == 0 then assert(b:text() == model, step) end
    end
    assert.equal(model, b:text())
    assert.is_true(most > 2000)
  end)
end)
