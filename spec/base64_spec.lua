local base64 = require "moonpool.base64"

describe("base64", function()
  it("agrees with the RFC's examples (RFC 4648 10)", function()
    for bytes, text in pairs { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v",
      foob = "Zm9vYg==", fooba = "Zm9vYmE=", foobar = "Zm9vYmFy" } do
      assert.equal(text, base64.encode(bytes))
      assert.equal(bytes, base64.decode(text))
      assert.equal(bytes, base64.decode((text:gsub("=", ""))))
      assert.equal((text:gsub("=", "")), base64.url.encode(bytes))
    end
  end)

  it("has two alphabets", function()
    assert.equal("+/+/", base64.encode "\xfb\xff\xbf")
    assert.equal("-_-_", base64.url.encode "\xfb\xff\xbf")
    assert.equal("\xfb\xff\xbf", base64.url.decode "-_-_")
    assert.is_nil(base64.url.decode "+/+/")
    assert.is_nil(base64.decode "-_-_")
  end)

  it("brings back all bytes, at every length", function()
    local all = {}
    for i = 0, 255 do all[#all + 1] = string.char(i) end
    local bytes = table.concat(all)
    for length = 0, #bytes do
      local some = bytes:sub(1, length)
      assert.equal(some, base64.decode(base64.encode(some)))
      assert.equal(some, base64.url.decode(base64.url.encode(some)))
    end
  end)

  it("is nothing else", function()
    for _, text in ipairs { "Z", "Zg=a", "Zm9v=Zg==", "Zm 9v", "Zm9v\n", "Zg===", "ZgZgZ",
      "Z\0\0\0" } do
      assert.is_nil(base64.decode(text), text)
    end
  end)
end)
