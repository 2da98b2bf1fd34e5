local ask = require "ask"
local http = require "moonpool.http"
local moonpool = require "moonpool"
local rate_limit = require "moonpool.middleware.rate_limit"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local function serve(options)
  local app = http.app():use(rate_limit(options))
  app:get("/", function(_, res) res:send "ok" end)
  return test.connect(app)
end

-- Statuses of n requests, as "200 200 429".
local function statuses(client, n, fields)
  local list = {}
  for i = 1, n do list[i] = ask(client, "GET", "/", fields).status end
  return table.concat(list, " ")
end

-- A request as the middleware sees it, without a connection: whether it got through, and
-- if not after how many seconds it may come again.
local function passer(options)
  local limit = rate_limit(options)
  return function(peer, name)
    local passed, after = false, nil
    local res = {}
    function res:status(code) assert.equal(429, code) return self end
    function res:header(_, value) after = tonumber(value) return self end
    function res:send() return self end
    limit({ peer = peer, name = name }, res, function() passed = true end)
    return passed, after
  end
end

local function by_name(req)
  return req.name
end

describe("rate_limit", function()
  it("lets a burst through, then the rate", function()
    local client <close> = serve { rate = 2, burst = 3 }
    assert.equal("200 200 200 429 429", statuses(client, 5))
    test.advance(0.5)
    assert.equal("200 429", statuses(client, 2))
    test.advance(1)
    assert.equal("200 200 429", statuses(client, 3))
    test.advance(50)
    assert.equal("200 200 200 429", statuses(client, 4))
  end)

  it("lets whole bursts through, whatever the numbers", function()
    for _, rate in ipairs { 0.1, 0.3, 0.7, 3, 7, 10, 1000 / 3, 1e6 } do
      for burst = 1, 20 do
        local pass = passer { rate = rate, burst = burst }
        for _ = 1, burst do assert.is_true((pass "1.2.3.4:5")) end
        assert.is_false((pass "1.2.3.4:5") and rate < 1e5)
        test.advance(burst / rate)
        for _ = 1, burst do assert.is_true((pass "1.2.3.4:5")) end
      end
    end
  end)

  it("says when to come again, and is right (RFC 6585 4)", function()
    local client <close> = serve { rate = 0.1, burst = 1 }
    assert.equal("200", statuses(client, 1))
    local answer = ask(client, "GET", "/")
    assert.same({ 429, "10", "Too Many Requests\n" }, { answer.status,
      answer.fields["retry-after"], answer.body })
    test.advance(9.5)
    assert.equal("1", ask(client, "GET", "/").fields["retry-after"])
    test.advance(0.5)
    assert.equal("200 429", statuses(client, 2))
  end)

  it("gives out no more than the rate in the long run, at no odd times", function()
    local pass = passer { rate = 3, burst = 5 }
    local passed = 0
    for _ = 1, 10000 do
      if pass "1.2.3.4:5" then passed = passed + 1 end
      test.advance(0.01)
    end
    assert(math.abs(passed - (5 + 3 * 100)) <= 1, passed)
  end)

  it("does not count what it has refused", function()
    local client <close> = serve { rate = 1, burst = 1 }
    assert.equal("200 429 429 429 429", statuses(client, 5))
    test.advance(1)
    assert.equal("200", statuses(client, 1))
  end)

  it("goes by the address, whatever the port", function()
    local pass = passer { rate = 1 }
    for _, case in ipairs {
      { "10.0.0.1:1000", true }, { "10.0.0.1:2000", false }, { "10.0.0.2:1000", true },
      { "[2001:db8::1]:1", true }, { "[2001:db8:0:0:ffff::]:2", false },
      { "[2001:db8:0:1::1]:1", true }, { "[2001:db8:0:1:2:3:4:5]:1", false },
      { "[2001:db8::1:2:3:4:5]:9", false }, -- the :: is one group: 0
      { "[::1]:1", true }, { "[::2]:1", false },
      { "[fe80::1%eth0]:1", true }, { "[fe80::2%eth0]:1", false },
      { "unix:/run/app.sock", true }, { "unix:/run/app.sock", false },
      { nil, true }, { nil, false },
    } do
      assert.equal(case[2], (pass(case[1])), case[1])
    end
  end)

  it("goes by what a function says, and nil is free", function()
    local client <close> = serve { rate = 1, burst = 2, key = function(req)
      return req:header "Api-Key"
    end }
    assert.equal("200 200 429", statuses(client, 3, { ["Api-Key"] = "a" }))
    assert.equal("200 200 429", statuses(client, 3, { ["Api-Key"] = "b" }))
    assert.equal("200 200 200 200", statuses(client, 4))
  end)

  it("remembers those who ask, and no more than it may", function()
    local pass = passer { rate = 1, burst = 2, keys = 1000, key = by_name }
    for _ = 1, 3 do pass(nil, "often") end
    collectgarbage()
    local before = collectgarbage "count"
    for i = 1, 20000 do
      assert.is_true(pass(nil, "visitor " .. i))
      if i % 400 == 0 then assert.is_false(pass(nil, "often")) end
    end
    collectgarbage()
    local used = (collectgarbage "count" - before) * 1024
    assert(used < 1000 * 200, used)
    for _ = 1, 1000 do pass(nil, "often") end
    assert.is_false((pass(nil, "often")))
  end)

  it("forgets what is full again", function()
    local pass = passer { rate = 1, burst = 4, key = by_name }
    collectgarbage()
    local before = collectgarbage "count"
    for i = 1, 5000 do pass(nil, "visitor " .. i) end
    test.advance(5)
    pass(nil, "x")
    test.advance(5)
    pass(nil, "x")
    collectgarbage()
    assert(collectgarbage "count" - before < 50, collectgarbage "count" - before)
  end)

  it("does not forget who is not full yet", function()
    local pass = passer { rate = 1, burst = 10, key = by_name }
    for _ = 1, 10 do pass(nil, "a") end
    for second = 1, 30 do
      pass(nil, "other " .. second)
      test.advance(1)
      assert.is_true((pass(nil, "a")))
      assert.is_false((pass(nil, "a")), second)
    end
  end)

  it("goes by the clock of all timeouts", function()
    local client <close> = serve { rate = 1 }
    local before = moonpool.now()
    assert.equal("200 429", statuses(client, 2))
    assert.equal(before, moonpool.now())
  end)

  it("refuses what makes no sense", function()
    for text, options in pairs {
      ["there must be a rate"] = {}, ["a rate, above 0"] = { rate = 0 },
      ["a rate"] = { rate = -1 }, ["rate, above"] = { rate = math.huge },
      ["must be a rate,"] = { rate = 0 / 0 },
      ["burst must be at least 1"] = { rate = 1, burst = 0.5 },
      ["keys must be at least 2"] = { rate = 1, keys = 0 },
      ["no option rates"] = { rates = 1 },
    } do
      local ok, why = pcall(rate_limit, options)
      assert.is_false(ok)
      assert.matches(text, why)
    end
  end)
end)
