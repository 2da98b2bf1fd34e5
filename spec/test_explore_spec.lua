local child = require "child"
local moonpool = require "moonpool"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

-- In which order five tasks run that are ready at the same time.
local function order()
  local seen = {}
  for i = 1, 5 do
    moonpool.spawn(function()
      moonpool.sleep(1)
      seen[#seen + 1] = i
    end)
  end
  test.advance(1)
  return table.concat(seen)
end

describe("test.shuffle", function()
  it("lets an order of ready tasks follow from a seed", function()
    assert.equal("12345", order())
    local orders, count = {}, 0
    for seed = 1, 50 do
      test.shuffle(seed)
      local first = order()
      test.shuffle(seed)
      assert.equal(first, order())
      if not orders[first] then count = count + 1 end
      orders[first] = true
    end
    assert.is_true(count > 20)
    test.shuffle(0)
    assert.equal("12345", order())
  end)

  it("ends with the test", function() test.shuffle(7) end)

  it("ends with the test, really", function() assert.equal("12345", order()) end)

  it("runs each task once for each time it is ready", function()
    for seed = 1, 20 do
      test.shuffle(seed)
      local counts, yields = {}, 0
      for i = 1, 4 do
        moonpool.spawn(function()
          for n = 1, 10 do
            counts[i] = n
            moonpool.sleep(0)
            yields = yields + 1
          end
        end)
      end
      test.advance(1)
      assert.same({ 10, 10, 10, 10, 40 }, { counts[1], counts[2], counts[3], counts[4],
        yields })
    end
  end)

  it("goes for connections too", function()
    local app = test.app(function(conn)
      for line in conn:lines "L" do conn:write(line) end
    end)
    for seed = 1, 20 do
      test.shuffle(seed)
      local clients = {}
      for i = 1, 5 do clients[i] = app:connect() end
      for i, client in ipairs(clients) do client:write(i, "\n") end
      for i, client in ipairs(clients) do assert.equal(tostring(i), client:read()) end
    end
  end)
end)

-- Wrong where the second task runs before the first.
local function racy()
  local value
  moonpool.spawn(function() value = { n = 1 } end)
  moonpool.spawn(function() value.n = value.n + 1 end)
  test.settle()
  return value
end

describe("test.explore", function()
  it("tries as many orders", function()
    local seeds = {}
    test.explore(5, function(seed) seeds[#seeds + 1] = seed end)
    assert.same({ 1, 2, 3, 4, 5 }, seeds)
  end)

  it("finds what one order hides, and says which", function()
    local shown = [[
      local moonpool = require "moonpool"
      local test = require "moonpool.test"
      local ok, why = pcall(test.explore, 30, function()
        local value
        moonpool.spawn(function() value = { n = 1 } end)
        moonpool.spawn(function() value.n = value.n + 1 end)
        test.settle()
        assert(value.n == 2, "lost")
      end)
      print(ok, why)
    ]]
    local output = child(shown)
    local seed, n = output:match
      "false\torder (%d+) of 30 fails; once more with MOONPOOL_SEED=(%d+) busted"
    assert.equal(seed, n)
    output = child("os.getenv = function() return '" .. seed .. "' end " .. shown)
    assert.equal(seed, output:match "false\torder (%d+) of 30 fails")
    assert.same({ n = 2 }, racy())
  end)

  it("has fresh apps each time, and a sequence of random numbers", function()
    local app, numbers = test.app "examples/hello/app.lua", {}
    for round = 1, 2 do
      test.explore(3, function(seed)
        numbers[seed .. "," .. round] = math.random(1 << 40)
        assert.equal(200, app:get("/").status)
        assert.equal(1, #app.clients)
      end)
    end
    for seed = 1, 3 do assert.equal(numbers[seed .. ",1"], numbers[seed .. ",2"]) end
    assert.not_equal(numbers["1,1"], numbers["2,1"])
  end)

  it("fails where something is left behind", function()
    local ok, why = pcall(test.explore, 2, function()
      test.connect(function() moonpool.sleep(1000) end)
    end)
    assert.is_false(ok)
    assert.matches("^order 1 of 2 fails.*left behind:\na connection", why)
  end)
end)
