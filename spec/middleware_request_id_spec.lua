local ask = require "ask"
local http = require "moonpool.http"
local request_id = require "moonpool.middleware.request_id"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local function serve(options)
  local app = http.app():use(request_id(options))
  app:get("/", function(req, res) res:send(req.id) end)
  return test.connect(app)
end

describe("a request id", function()
  it("is new for each request, and what the handler has is sent", function()
    local client <close> = serve()
    local seen = {}
    for _ = 1, 1000 do
      local answer = ask(client, "GET", "/")
      assert.matches("^%x+$", answer.body)
      assert.equal(32, #answer.body)
      assert.equal(answer.body, answer.fields["x-request-id"])
      assert.is_nil(seen[answer.body])
      seen[answer.body] = true
    end
  end)

  it("is there for answers that nobody wrote a handler for", function()
    local client <close> = serve()
    assert.matches("^%x+$", ask(client, "GET", "/missing").fields["x-request-id"])
  end)

  it("is the client's if he is trusted, and it is sane", function()
    local client <close> = serve { trust = true, header = "Trace-Id" }
    for _, id in ipairs { "a", "01-ab.cd_ef:gh@i+j/k=", ("x"):rep(128) } do
      local answer = ask(client, "GET", "/", { ["trace-id"] = id })
      assert.same({ id, id }, { answer.body, answer.fields["trace-id"] })
    end
    for _, id in ipairs { "", "a b", 'a"', "a\tb", "\xc3\xa4", ("x"):rep(129), "a;b" } do
      local answer = ask(client, "GET", "/", { ["Trace-Id"] = id })
      assert.matches("^%x+$", answer.fields["trace-id"])
      assert.equal(32, #answer.body, id)
    end
  end)

  it("is not the client's otherwise", function()
    local client <close> = serve()
    local answer = ask(client, "GET", "/", { ["X-Request-Id"] = "mine" })
    assert.not_equal("mine", answer.body)
  end)
end)
