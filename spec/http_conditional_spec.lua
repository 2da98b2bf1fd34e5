local conditional = require "moonpool.http_conditional"

local NOW = { etag = '"v2"', modified = 784111777 }
local DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
local EARLIER, LATER = "Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:38 GMT"

local function request(fields, method)
  return { method = method or "GET", headers = fields }
end

-- { field = value, ..., expected = status or nil }
local function check(cases, version)
  for i, case in ipairs(cases) do
    for _, method in ipairs { "GET", "HEAD" } do
      local status = conditional.check(request(case, method), version or NOW)
      assert.equal(case.expected, status, method .. " of case " .. i)
    end
  end
end

describe("a condition", function()
  it("that is absent changes nothing", function()
    check { {} }
  end)

  it("of If-Match compares strongly (RFC 9110 13.1.1)", function()
    check {
      { ["If-Match"] = '"v2"' }, { ["If-Match"] = '"v1", "v2"' },
      { ["If-Match"] = '"a,b" ,"v2"' }, { ["If-Match"] = "*" }, { ["If-Match"] = " * " },
      { ["If-Match"] = '"v1"', expected = 412 }, { ["If-Match"] = "", expected = 412 },
      { ["If-Match"] = 'W/"v2"', expected = 412 },
      { ["If-Match"] = "v2", expected = 412 }, { ["If-Match"] = '"V2"', expected = 412 },
      { ["If-Match"] = '"x"v2"', expected = 412 },
    }
    check({ { ["If-Match"] = 'W/"v2"', expected = 412 }, { ["If-Match"] = "*" } },
      { etag = 'W/"v2"' })
  end)

  it("of If-None-Match compares weakly (13.1.2)", function()
    check {
      { ["If-None-Match"] = '"v2"', expected = 304 },
      { ["If-None-Match"] = 'W/"v2"', expected = 304 },
      { ["If-None-Match"] = '"v1", W/"v2"', expected = 304 },
      { ["If-None-Match"] = '"v1","v2"', expected = 304 },
      { ["If-None-Match"] = "*", expected = 304 },
      { ["If-None-Match"] = '"v1"' }, { ["If-None-Match"] = "v2" },
      { ["If-None-Match"] = '"v1", "*"' }, { ["If-None-Match"] = '"W/v2"' },
      { ["If-None-Match"] = "" },
    }
    check({ { ["If-None-Match"] = '"v2"', expected = 304 } }, { etag = 'W/"v2"' })
  end)

  it("of If-Modified-Since is about later changes (13.1.3)", function()
    check {
      { ["If-Modified-Since"] = DATE, expected = 304 },
      { ["If-Modified-Since"] = LATER, expected = 304 },
      { ["If-Modified-Since"] = "Sunday, 06-Nov-94 08:49:37 GMT", expected = 304 },
      { ["If-Modified-Since"] = "Sun Nov  6 08:49:37 1994", expected = 304 },
      { ["If-Modified-Since"] = EARLIER }, { ["If-Modified-Since"] = "yesterday" },
      { ["If-Modified-Since"] = "784111777" },
    }
  end)

  it("of If-Unmodified-Since is about no later changes (13.1.4)", function()
    check {
      { ["If-Unmodified-Since"] = DATE }, { ["If-Unmodified-Since"] = LATER },
      { ["If-Unmodified-Since"] = EARLIER, expected = 412 },
      { ["If-Unmodified-Since"] = "yesterday" },
    }
  end)

  it("comes before others, and hides some (13.2.2)", function()
    check {
      -- 1: If-Match, and If-Unmodified-Since only without it
      { ["If-Match"] = '"v1"', ["If-None-Match"] = '"v2"', expected = 412 },
      { ["If-Match"] = '"v1"', ["If-Unmodified-Since"] = DATE, expected = 412 },
      { ["If-Match"] = '"v2"', ["If-Unmodified-Since"] = EARLIER },
      -- 2
      { ["If-Unmodified-Since"] = EARLIER, ["If-None-Match"] = '"v2"', expected = 412 },
      { ["If-Unmodified-Since"] = EARLIER, ["If-Modified-Since"] = DATE, expected = 412 },
      -- 3: If-None-Match, and If-Modified-Since only without it
      { ["If-Match"] = '"v2"', ["If-None-Match"] = '"v2"', expected = 304 },
      { ["If-None-Match"] = '"v1"', ["If-Modified-Since"] = DATE },
      { ["If-None-Match"] = '"v2"', ["If-Modified-Since"] = EARLIER, expected = 304 },
      -- 4
      { ["If-Match"] = '"v2"', ["If-Modified-Since"] = DATE, expected = 304 },
      { ["If-Unmodified-Since"] = DATE, ["If-Modified-Since"] = DATE, expected = 304 },
    }
  end)

  it("of what changes something is not answered with 304 (13.1.2, 13.1.3)", function()
    local function put(fields) return conditional.check(request(fields, "PUT"), NOW) end
    assert.equal(412, put { ["If-None-Match"] = "*" })
    assert.equal(412, put { ["If-None-Match"] = '"v2"' })
    assert.is_nil(put { ["If-None-Match"] = '"v1"' })
    assert.is_nil(put { ["If-Modified-Since"] = DATE })
    assert.equal(412, put { ["If-Unmodified-Since"] = EARLIER })
  end)

  it("asks for nothing that a version does not have", function()
    check({ { ["If-Modified-Since"] = DATE }, { ["If-Unmodified-Since"] = EARLIER } },
      { etag = '"v2"' })
    check({ { ["If-None-Match"] = '"v2"' }, { ["If-None-Match"] = "*", expected = 304 },
      { ["If-Match"] = '"v2"', expected = 412 }, { ["If-Match"] = "*" } },
      { modified = NOW.modified })
  end)
end)

describe("If-Range (RFC 9110 13.1.5)", function()
  local function allows(text, version)
    return conditional.allows_range(request { ["If-Range"] = text }, version or NOW)
  end

  it("allows ranges where it is absent or names the version strongly", function()
    assert.is_true(allows(nil))
    assert.is_true(allows '"v2"')
    assert.is_true(allows(DATE))
  end)

  it("allows none of another version, nor of one that is named weakly", function()
    for _, text in ipairs { '"v1"', 'W/"v2"', "v2", "*", "", '"v1", "v2"', EARLIER,
      LATER } do
      assert.is_false(allows(text), text)
    end
    assert.is_false(allows('W/"v2"', { etag = 'W/"v2"' }))
    assert.is_false(allows('"v2"', { modified = NOW.modified }))
    assert.is_false(allows(DATE, { etag = '"v2"' }))
  end)

  it("takes a date for strong once its second is over (8.8.2.2)", function()
    local format = require("moonpool.http_date").format
    local now = os.time() + 1
    assert.is_false(allows(format(now), { modified = now }))
    assert.is_true(allows(format(now - 3), { modified = now - 3 }))
  end)
end)
