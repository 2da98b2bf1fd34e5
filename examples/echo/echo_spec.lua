local harness = require "server"
local test = require "moonpool.test"

describe("the echo example", function()
  require "tidy" (before_each, after_each)

  describe("in this process", function()
    local echo = dofile "examples/echo/app.lua"

    it("sends each line back as it comes", function()
      local client <close> = test.connect(echo)
      client:write "ping\n"
      assert.equal("ping", client:read())
      client:write "pong\n"
      assert.equal("pong", client:read())
    end)

    it("changes no byte, of line ends neither", function()
      local client <close> = test.connect(echo)
      client:write "unix\ndos\r\n\n\0\255\nno end"
      client:shutdown()
      assert.equal("unix\ndos\r\n\n\0\255\nno end", client:read "a")
    end)

    it("waits for the rest of a line", function()
      local client <close> = test.connect(echo)
      client:settimeout(1)
      client:write "half"
      assert.is_nil((client:read(1)))
      client:write " and half\n"
      assert.equal("half and half", client:read())
    end)

    it("ends when its client does", function()
      local client <close> = test.connect(echo)
      client:shutdown()
      local line, message, code = client:read()
      assert.same({ nil, "closed", "EOF" }, { line, message, code })
    end)
  end)

  it("serves many clients at once, in two workers", function()
    local server <close> = harness.run { app = "examples/echo/app.lua", workers = 2 }
    local clients = {}
    for i = 1, 20 do clients[i] = server:connect() end
    for i, client in ipairs(clients) do client:write("I am ", i, "\n") end
    for i, client in ipairs(clients) do
      assert.equal("I am " .. i, client:read())
      client:close()
    end
  end)
end)
