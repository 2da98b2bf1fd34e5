local census = require "native.census"

require "tidy" (before_each, after_each)

local ALICE <const>, BOB <const> = 1 << 32 | 0x7F000001, -1 -- holders: any numbers but 0
local LAST_FD <const> = (1 << 20) - 1

local function create(workers) return assert(census.create(workers)) end

-- How many of n more connections of holder the worker lets in, from descriptor first on.
local function fill(pool, worker, first, n, holder, most)
  local entered = 0
  for fd = first, first + n - 1 do
    if pool:enter(worker, fd, holder, most) then entered = entered + 1 end
  end
  return entered
end

describe("a census", function()
  it("lets in as many as there may be, over all workers", function()
    local pool <close> = create(3)
    assert.equal(4, fill(pool, 1, 10, 4, ALICE, 6))
    assert.equal(2, fill(pool, 3, 10, 4, ALICE, 6))
    for worker = 1, 3 do
      assert.is_false(pool:enter(worker, 99, ALICE, 6))
      assert.is_true(pool:enter(worker, 98, ALICE, 6 + worker))
    end
  end)

  it("counts each holder by itself", function()
    local pool <close> = create(2)
    assert.equal(2, fill(pool, 1, 10, 5, ALICE, 2))
    assert.equal(2, fill(pool, 2, 10, 5, BOB, 2))
    assert.equal(0, fill(pool, 2, 20, 5, ALICE, 2))
  end)

  it("gives a place back, to whichever worker asks", function()
    local pool <close> = create(2)
    assert.equal(2, fill(pool, 1, 10, 2, ALICE, 2))
    pool:leave(1, 10)
    assert.is_true(pool:enter(2, 10, ALICE, 2))
    assert.is_false(pool:enter(1, 12, ALICE, 2))
    pool:leave(2, 10)
    pool:leave(1, 11)
    assert.equal(2, fill(pool, 2, 5, 9, ALICE, 2))
  end)

  it("looks no further than the last descriptor in use", function()
    local pool <close> = create(1)
    assert.same({ 0, 0 }, { pool:ends(1) })
    for _, fd in ipairs { 7, 3, 500, 9 } do
      assert.is_true(pool:enter(1, fd, ALICE, 9))
    end
    assert.same({ 501, 0 }, { pool:ends(1) })
    pool:leave(1, 9)
    assert.same({ 501, 0 }, { pool:ends(1) })
    pool:leave(1, 500)
    assert.same({ 8, 0 }, { pool:ends(1) })
    pool:leave(1, 3)
    pool:leave(1, 7)
    assert.same({ 0, 0 }, { pool:ends(1) })
  end)

  it("has a place for each descriptor, and refuses what it cannot count", function()
    local pool <close> = create(2)
    assert.is_true(pool:enter(2, LAST_FD, ALICE, 2))
    assert.is_false(pool:enter(1, LAST_FD + 1, ALICE, 2))
    assert.is_true(pool:enter(1, 0, ALICE, 2))
    assert.is_false(pool:enter(1, 1, ALICE, 2))
  end)

  it("forgets a worker that has died, even in the middle of deciding", function()
    local pool <close> = create(2)
    assert.equal(3, fill(pool, 1, 10, 3, ALICE, 4))
    assert.equal(1, fill(pool, 2, 10, 3, ALICE, 4))
    pool:decide(1, ALICE)
    pool:forget(1)
    assert.same({ 0, 0 }, { pool:ends(1) })
    assert.equal(3, fill(pool, 2, 20, 9, ALICE, 4))
  end)
end)

describe("two workers that decide at once", function()
  -- A longer list takes longer to count, so that they meet in the middle of it.
  local function crowded(workers)
    local pool = create(workers)
    for worker = 1, workers do pool:enter(worker, 2000, BOB, workers) end
    return pool
  end

  it("let the last one in exactly once", function()
    local pool <close> = crowded(2)
    assert.equal(0, pool:race(ALICE, 1, 20000))
  end)

  it("or more of them exactly as many", function()
    local pool <close> = crowded(5)
    for most = 1, 5 do assert.equal(0, pool:race(ALICE, most, 500)) end
  end)

  -- One of the two stands still while it decides.
  for still, other in ipairs { 2, 1 } do
    local case = still < other and "lower" or "higher"

    it(("do not wait for each other where there is room: the %s one"):format(case),
      function()
        local pool <close> = create(2)
        pool:decide(still, ALICE)
        assert.is_true(pool:enter(other, 10, ALICE, 2))
        assert.same({ 11, 0 }, { pool:ends(other) })
      end)

    it(("do not both take the last place: the %s one"):format(case), function()
      local pool <close> = create(2)
      pool:decide(still, ALICE)
      assert.is_false(pool:enter(other, 10, ALICE, 1))
      assert.same({ 0, 0 }, { pool:ends(other) })
      pool:decide(still, 0)
      assert.is_true(pool:enter(other, 10, ALICE, 1))
    end)

    it(("do not mind about different clients: the %s one"):format(case), function()
      local pool <close> = create(2)
      pool:decide(still, BOB)
      assert.is_true(pool:enter(other, 10, ALICE, 1))
      assert.is_false(pool:enter(other, 11, ALICE, 1))
    end)
  end
end)
