local native = require "native.router"

describe("a path", function()
  it("loses its dot segments, encoded ones too", function()
    for path, expected in pairs {
      ["/a/./b/../c"] = "/a/c", ["/a/.."] = "/", ["/a/b/."] = "/a/b/", ["/."] = "/",
      ["/a/%2e%2E/b"] = "/b", ["/a/%2e"] = "/a/", ["/a//../b"] = "/a/b",
      ["/a/b/../../c"] = "/c", ["/./a"] = "/a", ["/a/../b/../"] = "/",
    } do
      local clean, changed = native.clean(path)
      assert.equal(expected, clean, path)
      assert.is_true(changed)
    end
  end)

  it("is left alone where it has none", function()
    for _, path in ipairs { "/", "/a/b", "//a//", "/a%2Fb/.x/..y/z./...", "/a%20b", "/%",
      "/%2", "/%zz", "/a%2e", "/%2e%2e%2e" } do
      local clean, changed = native.clean(path)
      assert.equal(path, clean)
      assert.is_false(changed, path)
    end
  end)

  it("does not leave the root, and hides nothing", function()
    for path, why in pairs { ["/.."] = "leaves", ["/a/../.."] = "leaves",
      ["/%2e./x"] = "leaves", ["/../a"] = "leaves", ["/a/..%2Fb"] = "hides",
      ["/a%2F.."] = "hides", ["/a%2f%2e%2e%2fb"] = "hides", ["/a%2f."] = "hides",
      ["/a%00b"] = "hides", ["/%00"] = "hides", ["/.%2fa"] = "hides" } do
      local clean, reason = native.clean(path)
      assert.is_nil(clean, path)
      assert.matches(why, reason)
    end
  end)

  it("is decoded once, and a % alone is itself", function()
    for path, expected in pairs { ["/a%20b"] = "/a b", ["/%2525"] = "/%25", ["/%"] = "/%",
      ["/%4"] = "/%4", ["/%4g"] = "/%4g", ["/%C3%A4"] = "/ä", [""] = "",
      ["/%41%42"] = "/AB" } do
      assert.equal(expected, native.decode(path))
    end
  end)
end)
