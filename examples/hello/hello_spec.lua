local harness = require "server"
local test = require "moonpool.test"

-- The answer to the next request: its status line and its content.
local function answer(client)
  local status, length = client:read(), 0
  for line in client:lines() do
    if line == "" then break end
    length = tonumber(line:lower():match "^content%-length: (%d+)$") or length
  end
  return status, length > 0 and client:read(length) or ""
end

local function request(client, line)
  client:write(line, " HTTP/1.1\r\nHost: localhost\r\n\r\n")
  return answer(client)
end

describe("the hello example", function()
  require "tidy" (before_each, after_each)

  describe("in this process", function()
    local hello = dofile "examples/hello/app.lua"

    it("greets by name, again and again on one connection", function()
      local client <close> = test.connect(hello)
      for _, name in ipairs { "ada", "grace", "ada" } do
        local status, content = request(client, "GET /hello/" .. name)
        assert.equal("HTTP/1.1 200 OK", status)
        assert.equal("Hello, " .. name .. "!\n", content)
      end
    end)

    it("understands a name in any script", function()
      local client <close> = test.connect(hello)
      local _, content = request(client, "GET /hello/Ren%C3%A9%20D.")
      assert.equal("Hello, René D.!\n", content)
    end)

    it("says what to try", function()
      local client <close> = test.connect(hello)
      local status, content = request(client, "GET /")
      assert.equal("HTTP/1.1 200 OK", status)
      assert.equal("Try /hello/your-name\n", content)
    end)

    it("says what it does not know, and goes on", function()
      local client <close> = test.connect(hello)
      assert.equal("HTTP/1.1 404 Not Found", (request(client, "GET /hello/")))
      assert.equal("HTTP/1.1 404 Not Found", (request(client, "GET /hello/a/b")))
      assert.equal("HTTP/1.1 405 Method Not Allowed", (request(client, "DELETE /")))
      assert.equal("HTTP/1.1 200 OK", (request(client, "GET /")))
    end)
  end)

  it("serves curl, which keeps its connection", function()
    local server <close> = harness.run { app = "examples/hello/app.lua", workers = 2 }
    local url = "http://" .. server.address .. "/hello/"
    local command = "exec env -u LD_PRELOAD curl --silent --show-error "
      .. "--write-out '%{http_code} %{num_connects}\\n' " .. url .. "ada " .. url .. "bob"
    local curl <close> = assert(io.popen(command))
    assert.equal("Hello, ada!\n200 1\nHello, bob!\n200 0\n", curl:read "a")
  end)
end)
