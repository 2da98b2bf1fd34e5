local http_accept = require "moonpool.http_accept"

local function codings(text)
  return table.concat(http_accept.codings(text, { "br", "gzip" }), " ")
end

describe("Accept-Encoding", function()
  it("puts codings into the client's order (RFC 9110 12.5.3)", function()
    for text, expected in pairs {
      ["gzip"] = "gzip", ["br"] = "br", ["gzip, br"] = "br gzip",
      ["br, gzip"] = "br gzip",
      ["gzip, deflate, br, zstd"] = "br gzip", ["deflate"] = "", [""] = "", [","] = "",
      ["gzip;q=1.0, br;q=0.5"] = "gzip br", ["gzip;q=0.5, br;q=0.501"] = "br gzip",
      ["gzip;q=0"] = "", ["gzip;q=0.000, br"] = "br", ["gzip;q=0.001"] = "gzip",
      ["*"] = "br gzip", ["*;q=0.3"] = "br gzip", ["*;q=0"] = "",
      ["gzip, *;q=0"] = "gzip",
      ["br;q=0, *"] = "gzip", ["*, br;q=0.1"] = "gzip",
      ["identity"] = "", ["identity, gzip"] = "gzip", ["identity;q=0.5, gzip;q=0.4"] = "",
      ["identity;q=0.5, gzip;q=0.5"] = "gzip", ["identity;q=0, gzip;q=0.1"] = "gzip",
      ["identity;q=0"] = "", ["gzip;q=0.5, *"] = "br",
      ["GZIP"] = "gzip", ["x-gzip"] = "gzip", -- 8.4.1, 8.4.1.3
      [" gzip ; q=0.5 ,\tbr ;Q=1"] = "br gzip", ["gzip,,br"] = "br gzip",
    } do
      assert.equal(expected, codings(text), text)
    end
  end)

  it("that is absent asks for none", function()
    assert.equal("", codings(nil))
  end)

  it("may refuse an uncoded content", function()
    for text, is_refused in pairs { [""] = false, gzip = false, ["*"] = false,
      ["identity;q=0"] = true, ["*;q=0"] = true, ["gzip, *;q=0.000"] = true,
      ["identity, *;q=0"] = false, ["identity;q=0.001"] = false } do
      assert.equal(is_refused, select(2, http_accept.codings(text, {})), text)
    end
    assert.is_false(select(2, http_accept.codings(nil, {})))
  end)

  it("does not want what it names with a weight that is none (12.4.2)", function()
    for _, weight in ipairs {
      "", "q", "q=", "q=2", "q=1.5", "q=-1", "q=0x1", "q=.5", "q=01", "q=1e0", "q=a",
      "q =1", "level=1", "q=1;x=1",
    } do
      assert.equal("br", codings("gzip;" .. weight .. ", br"), weight)
    end
  end)
end)
