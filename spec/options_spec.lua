local options = require "moonpool.options"

local KINDS = { rate = "number", key = "string function" }

local function make(given)
  local checked = options.check("make", given, KINDS)
  return checked
end

describe("options", function()
  it("are what is given, and need not be given", function()
    local given = { rate = 1, key = "x" }
    assert.equal(given, make(given))
    assert.same({}, make())
    assert.same({}, make {})
  end)

  it("raise at the caller's line for what is not known, or of a wrong kind", function()
    for text, given in pairs {
      ["make: there is no option rat"] = { rat = 1 },
      ["make: there is no option 1"] = { "x" },
      ["make: rate must be a number"] = { rate = "1" },
      ["make: key must be a string or function"] = { key = 5 },
      ["make: the options must be a table"] = "x",
    } do
      local ok, why = pcall(function() make(given); return nil end)
      assert.is_false(ok)
      assert.matches("options_spec.lua:%d+: " .. text .. "$", why)
    end
  end)
end)

describe("what is needed", function()
  it("is loaded, or its package is named", function()
    assert.equal(string, options.need("make", "string", "none"))
    assert.has_error(function() options.need("make", "no.such.module", "lua-none") end,
      "make needs the package lua-none (Debian: apt install lua-none)")
  end)

  it("says why it is there and cannot be loaded", function()
    package.preload["broken.module"] = function() error("no memory", 0) end
    local ok, why = pcall(options.need, "make", "broken.module", "lua-broken")
    package.preload["broken.module"] = nil
    assert.is_false(ok)
    assert.matches("lua%-broken%): no memory", why)
  end)
end)
