local address = require "native.address"

local function parse(text, max)
  return assert(address.parse(text, max))
end

local function complaint(text)
  local all, why = address.parse(text)
  assert.is_nil(all)
  return why
end

local function exists(path)
  local file <close> = io.open(path)
  return file ~= nil
end

local AF_UNIX <const>, AF_INET6 <const> = 1, 10

describe("address.parse", function()
  it("reads numeric addresses and gives them back as written", function()
    for _, text in ipairs {
      "127.0.0.1:8080", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:8080", "[::]:80",
      "[2001:db8::1]:443", "[fe80::1%lo]:80",
    } do
      assert.same({ text }, parse(text))
    end
  end)

  it("writes every address in its canonical form", function()
    assert.same({ "[::1]:80" }, parse "[0:0:0:0:0:0:0:1]:80")
    assert.same({ "[2001:db8::ab]:80" }, parse "[2001:DB8::AB]:0080")
    assert.same({ "1.2.3.4:80" }, parse "[::ffff:1.2.3.4]:80")
  end)

  it("takes every interface where there is no host", function()
    local wildcard = exists "/proc/net/if_inet6" and "[::]:8080" or "0.0.0.0:8080"
    assert.same({ wildcard }, parse ":8080")
  end)

  it("resolves a name to all its addresses, each once", function()
    local seen = {}
    local all = parse "localhost:80"
    assert.is_true(#all >= 1)
    for _, text in ipairs(all) do
      assert.is_nil(seen[text], text .. " twice")
      assert.truthy(text == "[::1]:80" or text:match "^127%.%d+%.%d+%.%d+:80$", text)
      seen[text] = true
    end
  end)

  it("gives at most as many as there is room for", function()
    assert.same({ parse "localhost:80"[1] }, parse("localhost:80", 1))
  end)

  it("reads unix paths", function()
    assert.same({ "unix:/run/app.sock" }, parse "unix:/run/app.sock")
    assert.same({ "unix:app.sock" }, parse "unix:app.sock")
    assert.same({ "unix:/a:80" }, parse "unix:/a:80")
    assert.equal(string.pack("=Hz", AF_UNIX, "/run/x"), address.bytes "unix:/run/x")
  end)

  it("reads abstract names, whose length is exact", function()
    assert.same({ "unix:@app" }, parse "unix:@app")
    assert.equal(string.pack("=H", AF_UNIX) .. "\0app", address.bytes "unix:@app")
  end)

  it("takes the longest path and name that the kernel takes", function()
    local longest = ("x"):rep(107)
    assert.same({ "unix:" .. longest }, parse("unix:" .. longest))
    assert.same({ "unix:@" .. longest }, parse("unix:@" .. longest))
    assert.equal(2 + 108, #address.bytes("unix:" .. longest))
    assert.equal(2 + 108, #address.bytes("unix:@" .. longest))
  end)

  local wrong = {
    [""] = "the address is empty",
    ["8080"] = "the port is missing",
    ["localhost"] = "the port is missing",
    ["localhost:"] = "the port is missing",
    [":"] = "the port is missing",
    ["[::1]"] = "the port is missing",
    ["[::1]:"] = "the port is missing",
    ["[::1]8080"] = "the port is missing",
    ["127.0.0.1:http"] = "the port must be a number from 0 to 65535",
    ["127.0.0.1:65536"] = "the port must be a number from 0 to 65535",
    ["127.0.0.1:99999999999999999999"] = "the port must be a number from 0 to 65535",
    ["127.0.0.1:-1"] = "the port must be a number from 0 to 65535",
    ["127.0.0.1:+80"] = "the port must be a number from 0 to 65535",
    ["127.0.0.1: 80"] = "the port must be a number from 0 to 65535",
    ["127.0.0.1:80 "] = "the port must be a number from 0 to 65535",
    ["127.0.0.1:0x50"] = "the port must be a number from 0 to 65535",
    ["::1"] = "an IPv6 address needs brackets: [::1]:8080",
    ["::1:8080"] = "an IPv6 address needs brackets: [::1]:8080",
    ["fe80::1%lo:80"] = "an IPv6 address needs brackets: [::1]:8080",
    ["http://localhost:80"] = "a host name has no colons: host:8080",
    ["[::1:8080"] = "the closing bracket is missing",
    ["[]:80"] = "what is in brackets is no IPv6 address",
    ["[127.0.0.1]:80"] = "what is in brackets is no IPv6 address",
    ["[localhost]:80"] = "what is in brackets is no IPv6 address",
    ["[fe80::1%nosuchif]:80"] = "what is in brackets is no IPv6 address",
    ["bad..name:80"] = "name or service not known",
    [("x"):rep(1025) .. ":80"] = "the host name is too long",
    ["unix:"] = "the path is missing",
    ["unix:@"] = "the name is missing",
    ["unix:/" .. ("x"):rep(129)] = "the path may have at most 107 bytes, this has 130",
    ["unix:@" .. ("x"):rep(108)] = "the name may have at most 107 bytes, this has 108",
  }
  for text, why in pairs(wrong) do
    it(("says what is wrong with %q"):format(text:sub(1, 40)), function()
      assert.equal(why, complaint(text))
    end)
  end
end)

describe("address.format", function()
  it("shows an IPv4 client of an IPv6 socket as what it is", function()
    local mapped = string.pack("=H>HI4", AF_INET6, 8080, 0)
      .. ("\0"):rep(10) .. "\255\255" .. "\1\2\3\4" .. ("\0"):rep(4)
    assert.equal("1.2.3.4:8080", address.format(mapped))
  end)

  it("shows an unnamed unix socket as unix:", function()
    assert.equal("unix:", address.format(string.pack("=H", AF_UNIX)))
  end)

  it("shows a path with and without its NUL", function()
    assert.equal("unix:/x", address.format(string.pack("=H", AF_UNIX) .. "/x"))
    assert.equal("unix:/x", address.format(string.pack("=H", AF_UNIX) .. "/x\0\0\0"))
    local full = "/" .. ("x"):rep(107)
    assert.equal("unix:" .. full, address.format(string.pack("=H", AF_UNIX) .. full))
  end)

  it("shows every byte of an abstract name", function()
    assert.equal("unix:@a@b@", address.format(string.pack("=H", AF_UNIX) .. "\0a\0b\0"))
  end)

  it("does not guess at what it does not know", function()
    assert.equal("unknown", address.format "")
    assert.equal("unknown", address.format(string.pack("=HI4I4I4", 40, 0, 1, 2)))
    assert.equal("unknown", address.format(string.pack("=H", AF_INET6)))
  end)
end)

describe("address.holder", function()
  local holder = address.holder

  it("is an IPv4 address, whatever its port and the family of the socket", function()
    assert.equal(holder "127.0.0.1:80", holder "127.0.0.1:65535")
    assert.equal(holder "127.0.0.1:80", holder "[::ffff:127.0.0.1]:80")
  end)

  it("is the network of an IPv6 address", function()
    assert.equal(0x20010db800010002, holder "[2001:db8:1:2::]:80")
    assert.equal(0x20010db800010002, holder "[2001:db8:1:2:ffff:ffff:ffff:ffff]:81")
    assert.equal(holder "[::1]:80", holder "[::1]:81")
  end)

  it("is another for every other of them", function()
    local seen = {}
    for _, text in ipairs {
      "127.0.0.1:80", "127.0.0.2:80", "126.0.0.1:80", "0.0.0.1:80", "255.255.255.255:80",
      "[::1]:80", "[2001:db8:1:2::]:80", "[2001:db8:1:3::]:80", "[2001:db9:1:2::]:80",
      "[fe80::1%lo]:80", "[ffff:ffff:ffff:ffff::]:80",
    } do
      local it = holder(text)
      assert.not_equal(0, it)
      assert.is_nil(seen[it], text)
      seen[it] = text
    end
  end)

  it("is nobody for a unix socket", function()
    assert.equal(0, holder "unix:/run/x")
    assert.equal(0, holder "unix:@x")
  end)
end)
