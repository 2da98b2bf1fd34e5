local parse = require("moonpool.http_parameters").parse

describe("a field with parameters", function()
  it("has a word and their values, by names in lower case", function()
    for text, expected in pairs {
      ["text/plain"] = { "text/plain", {} },
      [" Text/HTML ; Charset=UTF-8 "] = { "text/html", { charset = "UTF-8" } },
      ["form-data;name=a"] = { "form-data", { name = "a" } },
      ['a; b="c; d=e"; f=g'] = { "a", { b = "c; d=e", f = "g" } },
      ['a; b=""\t;\tc=d'] = { "a", { b = "", c = "d" } },
      ["a;;b=c; ;"] = { "a", { b = "c" } },
      ["m/x; boundary=----=_Part/1:2"] = { "m/x", { boundary = "----=_Part/1:2" } },
      ["a; b*=utf-8''c"] = { "a", { ["b*"] = "utf-8''c" } },
      ['a; b="é"'] = { "a", { b = "é" } },
    } do
      assert.same(expected, { parse(text) }, text)
    end
  end)

  it("may have quotes and backslashes in them", function()
    for text, value in pairs {
      [ [["a\"b"]] ] = 'a"b', [ [["a\\b"]] ] = [[a\b]], [ [["a\\"]] ] = [[a\]],
      [ [["\""]] ] = '"', [ [["\\\""]] ] = [[\"]],
      [ [["C:\dir\x.txt"]] ] = [[C:\dir\x.txt]], -- as browsers send it
    } do
      assert.same({ "a", { b = value, c = "d" } }, { parse("a; b=" .. text .. "; c=d") })
    end
  end)

  it("is malformed or not", function()
    for _, text in ipairs { "", ";a=b", "a; b", "a; b=", "a; =b", "a b=c", 'a; b="c',
      [[a; b="c\"]], 'a; b="c"d', "a; b=c d", "a; b=c; B=d", 'a; b=c"d"', "a; b =c" } do
      assert.is_nil((parse(text)), text)
    end
  end)
end)
