local moonpool = require "moonpool"
local test = require "moonpool.test"

describe("the stream example", function()
  local app = test.app "examples/stream/app.lua"

  it("ticks each second", function()
    local answer = app:get("/ticks", { stream = true })
    local began = moonpool.now()
    for i = 1, 100 do
      assert.equal("tick " .. i .. "\n", answer:read())
      assert.equal(i - 1, moonpool.now() - began)
    end
  end)

  it("is shown by a browser as it comes", function()
    assert.response(app:get "/ticks/1").has.header("X-Content-Type-Options", "nosniff")
  end)

  it("ends after as many as are asked for, and the connection goes on", function()
    for _ = 1, 2 do
      assert.response(app:get "/ticks/2").has.body "tick 1\ntick 2\n"
    end
    assert.equal(1, #app.clients)
  end)

  it("refuses what is no number", function()
    assert.response(app:get "/ticks/many").has.status(400).has.body "how many?\n"
  end)

  it("ends when the client goes, whichever way", function()
    app:get("/ticks", { stream = true })
    app.clients[1]:close()
    app:get("/ticks", { stream = true })
    app.clients[2]:reset()
    test.advance(5)
    assert.same({}, app:connections())
  end)

  it("is read by curl as it comes", function()
    local server <close> = test.spawn { app = "examples/stream/app.lua" }
    local pipe <close> = io.popen(("LD_PRELOAD= curl -sN --max-time 10 http://%s/ticks/1")
      :format(server.address))
    assert.equal("tick 1\n", pipe:read "a")
  end)
end)
