local policy = require "native.policy"

-- used: connections of each worker, "x" for one that is closed; slots: of each, 4.
local function loads(used, slots)
  local list = {}
  for word in used:gmatch "%S+" do
    local is_open = word ~= "x"
    list[#list + 1] = { is_open and tonumber(word) or 0, slots or 4, is_open }
  end
  return list
end

-- Each case: what is used, who was last, who is chosen.
local function check(name, cases)
  for _, case in ipairs(cases) do
    local used, last, expected = table.unpack(case, 1, 3)
    assert.equal(expected, policy[name](loads(used), last),
      ("%s of %q after %s"):format(name, used, last))
  end
end

-- Who is chosen when n connections come and none ends, as text.
local function sequence(name, list, n)
  local chosen, last = {}, nil
  for i = 1, n do
    local who = policy[name](list, last)
    chosen[i] = tostring(who)
    if who then
      list[who][1] = list[who][1] + 1
      last = who
    end
  end
  return table.concat(chosen, " ")
end

describe("every policy", function()
  it("chooses nobody when nobody has a free slot", function()
    for name in pairs(policy) do
      check(name, {
        { "4" }, { "4 4 4" }, { "4 4 4", 2 }, { "x" }, { "x x", 2 }, { "4 x 4", 1 },
        { "" }, { "", 1 },
      })
      assert.is_nil(policy[name](loads("0 0", 0)))
      assert.is_nil(policy[name](loads "5 6 7", 1)) -- more than there are slots
    end
  end)

  it("chooses the only one that is free, whoever was last", function()
    for name in pairs(policy) do
      for last = 0, 4 do
        check(name, {
          { "4 4 3 4", last, 3 }, { "x x 0 x", last, 3 }, { "4 x 3 4", last, 3 },
        })
      end
    end
  end)

  it("fills all slots, and not one more", function()
    for name in pairs(policy) do
      local list = loads "0 1 x 3"
      local chosen = sequence(name, list, 9)
      assert.equal("nil", chosen:match "%S+$")
      assert.equal(8, select(2, chosen:gsub("%d", "")))
      assert.same({ 4, 4, 0, 4 }, { list[1][1], list[2][1], list[3][1], list[4][1] })
    end
  end)
end)

describe("least loaded", function()
  it("chooses who has the fewest connections", function()
    check("least_loaded", {
      { "3 1 2", nil, 2 }, { "3 1 2", 2, 2 }, { "0 1 2", 3, 1 }, { "3 3 2", 1, 3 },
      { "x 3 2", nil, 3 }, { "x 0 2", 2, 2 }, { "0 x x", 1, 1 },
    })
  end)

  it("goes round among equals", function()
    check("least_loaded", {
      { "1 1 1", nil, 1 }, { "1 1 1", 1, 2 }, { "1 1 1", 2, 3 }, { "1 1 1", 3, 1 },
      { "1 2 1", 1, 3 }, { "1 2 1", 3, 1 }, { "1 x 1", 1, 3 }, { "2 1 1", 3, 2 },
    })
    assert.equal("1 2 3 1 2 3 1 2 3", sequence("least_loaded", loads "0 0 0", 9))
  end)

  it("evens out what is uneven", function()
    assert.equal("2 3 2 3 1 2 3", sequence("least_loaded", loads "2 0 0", 7))
  end)

  it("counts connections, not the part of the slots that they take", function()
    assert.equal(2, policy.least_loaded({ { 3, 100 }, { 2, 3 } }))
    assert.equal(1, policy.least_loaded({ { 3, 100 }, { 2, 2 } }))
  end)
end)

describe("round robin", function()
  it("chooses the next one that is free", function()
    check("round_robin", {
      { "0 0 0", nil, 1 }, { "0 0 0", 1, 2 }, { "0 0 0", 3, 1 }, { "3 0 0", 3, 1 },
      { "0 4 0", 1, 3 }, { "4 0 4", 2, 2 }, { "x 0 4", 2, 2 }, { "0 x x", 1, 1 },
      { "4 x 0", nil, 3 },
    })
  end)

  it("gives each the same number, however long they take", function()
    assert.equal("1 2 3 1 2 3", sequence("round_robin", loads "0 1 2", 6))
    assert.equal("1 2 1 2", sequence("round_robin", loads "0 2 4", 4))
  end)
end)

describe("first free", function()
  it("chooses the lowest number that is free, whoever was last", function()
    for last = 0, 3 do
      check("first_free", {
        { "0 0 0", last, 1 }, { "3 0 0", last, 1 }, { "4 3 0", last, 2 },
        { "x 4 0", last, 3 }, { "x 0 0", last, 2 },
      })
    end
  end)

  it("fills one after the other", function()
    assert.equal("1 1 1 1 2 2 2 2 nil", sequence("first_free", loads "0 0", 9))
  end)
end)
