local test = require "moonpool.test"

describe("the hello example", function()
  local app = test.app "examples/hello/app.lua"

  it("greets by name, again and again on one connection", function()
    for _, name in ipairs { "ada", "grace", "ada" } do
      local answer = app:get("/hello/" .. name)
      assert.response(answer).has.status(200).has.body("Hello, " .. name .. "!\n")
    end
  end)

  it("understands a name in any script", function()
    assert.response(app:get "/hello/Ren%C3%A9%20D.").has.body "Hello, René D.!\n"
  end)

  it("says what to try", function()
    assert.response(app:get "/").has.status(200).has.body "Try /hello/your-name\n"
  end)

  it("says what it does not know, and goes on", function()
    local answers = app:pipeline { { "GET", "/hello/" }, { "GET", "/hello/a/b" },
      { "DELETE", "/" }, { "GET", "/" } }
    for i, status in ipairs { 404, 404, 405, 200 } do
      assert.response(answers[i]).has.status(status)
    end
  end)

  it("does not mind how its requests are cut", function()
    local request = "GET /hello/ada HTTP/1.1\r\nHost: spec\r\nConnection: close\r\n\r\n"
    test.every_split(app, request, function(client)
      assert.matches("\r\n\r\nHello, ada!\n$", client:read "a")
    end)
  end)

  it("serves curl, which keeps its connection", function()
    local server <close> = test.spawn { app = "examples/hello/app.lua", workers = 2 }
    local url = "http://" .. server.address .. "/hello/"
    local command = "exec env -u LD_PRELOAD curl --silent --show-error "
      .. "--write-out '%{http_code} %{num_connects}\\n' " .. url .. "ada " .. url .. "bob"
    local curl <close> = assert(io.popen(command))
    assert.equal("Hello, ada!\n200 1\nHello, bob!\n200 0\n", curl:read "a")
  end)
end)
