-- The router alone (runtime/router.c); what applications make of it is in router_spec.

local native = require "native.router"

describe("a router", function()
  it("prefers static to parameter to rest, and goes back", function()
    local patterns = { "/*all", "/a/:x/c", "/a/b/d", "/:p/b/c/:q", "/:p/b/c/e",
      "/a/*rest" }
    local find = native.router(patterns)
    for path, expected in pairs {
      ["/a/b/d"] = "/a/b/d", ["/a/b/c"] = "/a/:x/c b", ["/a/b/e"] = "/a/*rest b/e",
      ["/x/b/c/d"] = "/:p/b/c/:q x d", ["/x/b/c/e"] = "/:p/b/c/e x",
      ["/x/b/c/d/f"] = "/*all x/b/c/d/f", ["/%61/%62/d"] = "/a/b/d",
      ["/a/%2F/c"] = "/a/:x/c %2F", ["/a%2Fb/d"] = "/*all a%2Fb/d", ["/"] = "/*all ",
      ["/a"] = "/*all a", ["/a/"] = "/a/*rest ", ["/a//c"] = "/a/*rest /c",
    } do
      local values = { find(path) }
      values[1] = patterns[values[1]]
      assert.equal(expected, table.concat(values, " "), path)
    end
    assert.same({}, { find "*" })
    assert.same({}, { find "" })
  end)

  it("finds nothing but what was added", function()
    local find = native.router { "/a", "/a/b/", "/c/:x", "" }
    for path, number in pairs { ["/a"] = 1, ["/a/b/"] = 2, ["/c/1"] = 3 } do
      assert.equal(number, (find(path)))
    end
    for _, path in ipairs { "/", "/a/", "/a/b", "/c", "/c/", "/c/1/", "/b", "/aa" } do
      assert.is_nil((find(path)), path)
    end
  end)

  it("has one number for patterns of the same paths", function()
    local _, _, numbers = native.router { "/:a", "/:b", "/*a", "/*b", "/a", "/a/", "/a" }
    assert.same({ 1, 1, 2, 2, 3, 4, 3 }, numbers)
  end)

  it("takes words that only look like names for what they are", function()
    local find, _, numbers = native.router { "/:", "/:1", "/*", "/:a-b", "/x:y" }
    assert.same({ 1, 2, 3, 4, 5 }, numbers)
    for i, path in ipairs { "/:", "/:1", "/*", "/:a-b", "/x:y" } do
      assert.same({ i }, { find(path) })
    end
    assert.is_nil((find "/x"))
  end)

  it("refuses what is no pattern", function()
    local names = ("/:x"):rep(33)
    local _, _, numbers = native.router { "a", "/*rest/b", names, names:sub(4) }
    assert.same({ 0, 0, 0, 1 }, numbers)
  end)

  it("finds each of many", function()
    local patterns = {}
    for i = 1, 2000 do patterns[i] = ("/%d/:id/%s"):format(i % 50, i) end
    local find = native.router(patterns)
    for i = 1, 2000 do
      assert.same({ i, "7" }, { find(("/%d/7/%s"):format(i % 50, i)) })
    end
  end)

  it("goes through a path that is made to cost, once", function()
    local find = native.router { "/a/:x/a/:x/a/:x/b", "/:x/a/:x/a/:x/a/c", "/*rest" }
    assert.equal(3, (find(("/a"):rep(4000))))
  end)
end)

describe("a router's prefixes", function()
  it("are found segment by segment, the longest first", function()
    local _, prefix = native.router { "", "/api", "/api/v1", "/ä" }
    for path, number in pairs { ["/"] = 1, ["/x"] = 1, ["/api"] = 2, ["/api/"] = 2,
      ["/apix"] = 1, ["/api/v1/x/y"] = 3, ["/api/v2"] = 2, ["/%61pi/v%31"] = 3,
      ["/%C3%A4/b"] = 4, ["*"] = 1, [""] = 1 } do
      assert.equal(number, prefix(path), path)
    end
    local _, other = native.router { "/api" }
    assert.is_nil((other "/x"))
  end)
end)
