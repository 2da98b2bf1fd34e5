local mime_types = require "moonpool.mime_types"

describe("the type of a name", function()
  it("goes by what follows the last dot, in any case", function()
    for name, expected in pairs {
      ["index.html"] = "text/html; charset=utf-8",
      ["a/b/SITE.CSS"] = "text/css; charset=utf-8",
      ["app.min.js"] = "text/javascript; charset=utf-8", ["x.json"] = "application/json",
      ["logo.svg"] = "image/svg+xml", ["x.tar.gz"] = "application/gzip",
      ["m.wasm"] = "application/wasm", ["README"] = "application/octet-stream",
      ["v1.2/README"] = "application/octet-stream", ["x."] = "application/octet-stream",
      ["x.unknown"] = "application/octet-stream", ["f.woff2"] = "font/woff2",
    } do
      assert.equal(expected, mime_types.of(name), name)
    end
  end)

  it("may be one's own", function()
    local own = { md = "text/x-markdown", [""] = "text/plain" }
    assert.equal("text/x-markdown", mime_types.of("a.MD", own))
    assert.equal("text/plain", mime_types.of("LICENSE", own))
    assert.equal("image/png", mime_types.of("a.png", own))
  end)

  it("tells whether it is worth compressing", function()
    for media_type, expected in pairs {
      ["text/html; charset=utf-8"] = true,
      ["TEXT/CSS"] = true, ["application/json"] = true,
      ["application/ld+json"] = true, ["image/svg+xml;x=y"] = true, ["font/ttf"] = true,
      ["application/wasm"] = true, ["image/png"] = false, ["font/woff2"] = false,
      ["application/octet-stream"] = false, ["application/gzip"] = false,
      ["video/mp4"] = false, ["application/jsonx"] = false, [""] = false,
    } do
      assert.equal(expected, mime_types.is_compressible(media_type), media_type)
    end
  end)
end)
