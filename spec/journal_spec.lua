local journal = require "native.journal"

-- What a dead worker's journal says of connection 7, the 3rd that it was sent, of which
-- the kernel has counted so many bytes in and out.
local function look(j, taken, written)
  local fate, entry = j:look(7, 3, taken, written)
  if fate == "goes on" then return fate, entry.input, entry.unsent, entry.state end
  return fate, entry.has_spoken
end

local function begin(taken, written, input)
  local j = journal.open()
  j:begin(7, 3, taken or 0, written or 0, input or "")
  return j
end

describe("a connection in the journal", function()
  require "tidy" (before_each, after_each)

  it("is untouched until it is begun with, in this journey", function()
    local j <close> = journal.open()
    assert.equal("untouched", look(j, 0, 0))
    j:begin(7, 2, 0, 0, "")
    assert.equal("untouched", look(j, 0, 0))
    j:begin(7, 3, 0, 0, "")
    assert.same({ "goes on", "", "", "" }, { look(j, 0, 0) })
    assert.equal("untouched", (j:look(8, 3, 0, 0)))
    j:finish(7)
    assert.equal("over", look(j, 0, 0))
  end)

  it("goes on at once with all that it has come with", function()
    local j <close> = journal.open()
    j:begin(7, 3, 10, 20, "input", "unsent", "state")
    assert.same({ "goes on", "input", "unsent", "state" }, { look(j, 10, 20) })
    assert.same({ "goes on", "input", "sent", "state" }, { look(j, 10, 22) })
    j:begin(7, 3, 10, 20, "input", "unsent")
    assert.same({ "goes on", "input", "", "" }, { look(j, 10, 26) })
    assert.same({ "cut", true }, { look(j, 10, 22) })
    j:begin(7, 3, 10, 20)
    assert.same({ "cut", false }, { look(j, 10, 20) })
    assert.same({ "cut", true }, { look(j, 10, 21) })
  end)

  it("is not known beyond the last record", function()
    local j <close> = begin()
    assert.equal("untouched", (j:look((1 << 20) - 1, 3, 0, 0)))
    for _, index in ipairs { 1 << 20, 0xffffffff } do
      local fate, entry = j:look(index, 0, 0, 0)
      assert.equal("cut", fate)
      assert.is_true(entry.has_spoken)
    end
  end)

  it("goes on anew with what was read, at every instant", function()
    local j <close> = begin()
    assert.is_true(j:read(7, "GET "))
    assert.same({ "goes on", "GET ", "", "" }, { look(j, 4, 0) })
    j:read(7, "/ HT")
    assert.same({ "goes on", "GET / HT", "", "" }, { look(j, 8, 0) })
    -- What was read but not yet said to be, as the kernel knows.
    assert.same({ "goes on", "GET /", "", "" }, { look(j, 5, 0) })
    j:busy(7)
    assert.same({ "cut", false }, { look(j, 8, 0) })
    assert.is_false(j:read(7, "more"))
    j:anew(7, "ore", 0)
    assert.same({ "goes on", "ore", "", "" }, { look(j, 12, 0) })
    j:anew(7, "", 0)
    j:relax(7)
    assert.same({ "goes on", "", "", "" }, { look(j, 12, 0) })
  end)

  it("has been answered when the last byte has left, not before", function()
    local j <close> = begin()
    j:read(7, "request")
    j:busy(7)
    j:anew(7, "", 100)
    assert.same({ "cut", false }, { look(j, 7, 0) })
    j:sending(7, 100)
    assert.same({ "cut", false }, { look(j, 7, 0) })
    assert.same({ "cut", true }, { look(j, 7, 99) })
    assert.same({ "goes on", "", "", "" }, { look(j, 7, 100) })
    j:sent(7, 100)
    assert.same({ "goes on", "", "", "" }, { look(j, 7, 100) })
    j:busy(7)
    assert.same({ "cut", false }, { look(j, 7, 100) })
    assert.same({ "cut", true }, { look(j, 7, 101) })
  end)

  it("has spoken where a part of its answer was all that there was to be sent", function()
    local j <close> = begin()
    j:read(7, "request")
    j:busy(7)
    assert.same({ "cut", false }, { look(j, 7, 0) })
    j:sending(7, 50)
    j:sent(7, 50)
    assert.same({ "cut", true }, { look(j, 7, 50) })
    j:anew(7, "", 100)
    assert.same({ "cut", true }, { look(j, 7, 50) })
    j:sending(7, 100)
    j:sent(7, 100)
    assert.same({ "goes on", "", "", "" }, { look(j, 7, 150) })
    j:busy(7)
    assert.same({ "cut", false }, { look(j, 7, 150) })
    j:leaves(7, 10)
    assert.same({ "cut", false }, { look(j, 7, 150) })
  end)

  it("has not spoken where all of the one before was sent while it was made", function()
    local j <close> = begin()
    j:busy(7)
    j:sending(7, 50)
    j:sent(7, 50)
    j:anew(7, "", 0)
    j:busy(7)
    j:anew(7, "", 100)
    assert.same({ "cut", false }, { look(j, 0, 50) })
    j:busy(7) -- the next, and the kernel takes no more
    assert.same({ "cut", false }, { look(j, 0, 50) })
    assert.same({ "cut", true }, { look(j, 0, 51) })
  end)

  it("has spoken for good once it has had a state", function()
    local j <close> = begin()
    j:state(7, "", "", "state")
    j:busy(7)
    assert.same({ "cut", true }, { look(j, 0, 0) })
    j:begin(7, 3, 10, 20, "", "", "state") -- it is moved
    j:busy(7)
    assert.same({ "cut", true }, { look(j, 10, 20) })
    j:begin(7, 3, 10, 20, "") -- and handed to who begins anew
    j:busy(7)
    assert.same({ "cut", false }, { look(j, 10, 20) })
  end)

  it("goes on with its last state, each before the next is whole", function()
    local j <close> = begin(10, 20, "in")
    assert.same({ "goes on", "in", "", "" }, { look(j, 10, 20) })
    j:state(7, "in", "", "one")
    assert.same({ "goes on", "in", "", "one" }, { look(j, 10, 20) })
    j:read(7, "put")
    assert.same({ "goes on", "input", "", "one" }, { look(j, 13, 20) })
    j:state(7, "put", "", "two")
    assert.same({ "goes on", "put", "", "two" }, { look(j, 13, 20) })
    j:skip(7, 1)
    assert.same({ "goes on", "t", "", "two" }, { look(j, 13, 20) })
    j:busy(7)
    assert.equal("cut", look(j, 13, 20))
    j:state(7, "t", "", "three")
    assert.same({ "goes on", "t", "", "three" }, { look(j, 13, 20) })
  end)

  it("takes along what a state had not sent yet, and no more of it", function()
    local j <close> = begin(0, 5)
    j:state(7, "", "unsent", "state")
    j:sending(7, 6)
    for n = 0, 6 do
      local rest = ("unsent"):sub(n + 1)
      assert.same({ "goes on", "", rest, "state" }, { look(j, 0, 5 + n) })
    end
    j:sent(7, 6)
    j:sending(7, 4)
    assert.same({ "goes on", "", "", "state" }, { look(j, 0, 11) })
    assert.same({ "goes on", "", "", "state" }, { look(j, 0, 15) })
    for n = 12, 14 do assert.equal("cut", look(j, 0, n)) end -- half of what came later
    assert.equal("cut", look(j, 0, 4)) -- cannot be
  end)

  it("is over when it is leaving and all has left", function()
    local j <close> = begin()
    j:leaves(7, 10)
    assert.same({ "cut", false }, { look(j, 0, 0) })
    j:sending(7, 10)
    assert.same({ "cut", true }, { look(j, 0, 4) })
    assert.equal("over", look(j, 0, 10))
  end)

  it("is believed where the kernel does not count, but not while bytes move", function()
    local j <close> = begin()
    j:read(7, "abc")
    assert.same({ "goes on", "abc", "", "" }, { look(j) })
    j:taking(7)
    assert.equal("cut", look(j))
    j:read(7, "d")
    assert.same({ "goes on", "abcd", "", "" }, { look(j) })
    j:state(7, "", "out", "s")
    j:sending(7, 3)
    assert.equal("cut", look(j))
    j:sent(7, 2)
    assert.equal("cut", look(j))
    j:sending(7, 1)
    j:sent(7, 1)
    assert.same({ "goes on", "", "", "s" }, { look(j) })
    j:busy(7)
    j:sending(7, 5)
    j:sent(7, 5)
    j:state(7, "", "out", "s")
    j:sending(7, 3)
    j:sent(7, 0) -- the kernel takes no more
    assert.same({ "goes on", "", "out", "s" }, { look(j) })
  end)

  it("may read any amount, in any pieces", function()
    for _, size in ipairs { 1, 100, 4000 } do
      local j <close> = begin()
      j:state(7, "", "", "s")
      local piece, n = ("0123456789"):rep(400):sub(1, size), 0
      while n < 300000 // (4000 // size) do
        j:read(7, piece)
        n = n + size
      end
      assert.same({ "goes on", piece:rep(n // size), "", "s" }, { look(j, n, 0) })
      j:skip(7, 5)
      assert.same({ "goes on", piece:rep(5):sub(-5), "", "s" }, { look(j, n, 0) })
    end
  end)

  it("uses memory again", function()
    local j <close> = begin()
    local taken, used = 0, nil
    for i = 1, 2000 do
      j:read(7, "request")
      taken = taken + 7
      j:busy(7)
      j:state(7, "", "answer", ("state"):rep(i % 10))
      j:sending(7, 6)
      j:sent(7, 6)
      j:relax(7)
      if i == 20 then used = j:used() end
    end
    assert.equal(used, j:used())
    assert.equal("goes on", look(j, taken, 12000))
  end)

  it("is cut where there is too much for the journal", function()
    local j <close> = begin()
    j:state(7, "", "", ("x"):rep(9 << 20))
    assert.equal("cut", look(j, 0, 0))
    j:state(7, "", "", "small")
    assert.same({ "goes on", "", "", "small" }, { look(j, 0, 0) })
  end)

  it("has a name for what it was at, which is printable and has no query", function()
    local j <close> = begin()
    assert.equal("", j:doing(7))
    for given, shown in pairs {
      ["GET /a"] = "GET /a", ["GET /a?b=c"] = "GET /a", ["a\0b"] = "a", [""] = "",
      ["a\27\n\255"] = "a...", [("x"):rep(100)] = ("x"):rep(63),
    } do
      j:name(7, given)
      assert.equal(shown, j:doing(7))
    end
  end)

  it("is anybody's guess if the worker has written over it, and does no harm", function()
    local state = 42
    local function random(n)
      state = state * 6364136223846793005 + 1442695040888963407
      return (state >> 33) % n
    end
    local j <close> = journal.open()
    for _ = 1, 5000 do
      j:begin(7, 3, 0, 0, "in")
      j:state(7, "in", "out", "state")
      local at = 4 + random(60)
      local wild = {}
      for i = 1, math.min(64 - at, 1 + random(8)) do
        wild[i] = string.char(random(3) == 0 and 255 or random(256))
      end
      j:poke(7, at, table.concat(wild))
      local fate = j:look(7, 3, random(20), random(20))
      assert.is_true(fate == "goes on" or fate == "cut" or fate == "over")
      j:poke(7, 0, ("\0"):rep(64)) -- what the next one begins with
    end
  end)

  it("is gone when it is cleared", function()
    local j <close> = begin()
    assert.is_true(j:clear())
    assert.equal("untouched", look(j, 0, 0))
  end)
end)
