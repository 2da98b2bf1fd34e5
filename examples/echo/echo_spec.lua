local test = require "moonpool.test"

describe("the echo example", function()
  local echo = test.app "examples/echo/app.lua"

  it("sends each line back as it comes", function()
    local client = echo:connect()
    client:write "ping\n"
    assert.equal("ping", client:read())
    client:write "pong\n"
    assert.equal("pong", client:read())
  end)

  it("changes no byte, of line ends neither, however they come", function()
    local text = "unix\ndos\r\n\n\0\255\nno end"
    test.every_split(echo, text, function(client)
      client:shutdown()
      assert.equal(text, client:read "a")
    end)
  end)

  it("waits for the rest of a line", function()
    local client = echo:connect()
    client:settimeout(1)
    client:write "half"
    assert.is_nil((client:read(1)))
    client:write " and half\n"
    assert.equal("half and half", client:read())
  end)

  it("ends when its client does", function()
    local client = echo:connect()
    client:shutdown()
    assert.client(client).closes(0)
  end)

  it("serves many clients at once, in two workers", function()
    local server <close> = test.spawn { app = "examples/echo/app.lua", workers = 2 }
    local clients = server:connect_many(20)
    for i, client in ipairs(clients) do client:write("I am ", i, "\n") end
    for i, client in ipairs(clients) do
      assert.equal("I am " .. i, client:read())
      client:close()
    end
  end)
end)
