local json = require "moonpool.json"
local test = require "moonpool.test"

local APP = "examples/ticker/app.lua"

local function ask(client, fields)
  client:write("GET /prices HTTP/1.1\r\nHost: spec\r\n", fields or "", "\r\n")
  assert.equal("HTTP/1.1 200 OK", client:read "l")
  repeat until client:read "l" == ""
end

-- The fields of the next event.
local function next_event(client)
  local event = {}
  for line in client:lines() do
    if line == "" then return event end
    local name, value = line:match "^(%l+): (.*)$"
    event[name] = value
  end
end

describe("the ticker example", function()
  local app = test.app(APP)

  it("ticks each second, with prices that move", function()
    local client <close> = app:connect()
    ask(client)
    for i = 1, 3 do
      local event = next_event(client)
      assert.equal(tostring(i), event.id)
      local prices = json.decode(event.data).prices
      assert.is_true(prices.amber > 3000 and prices.amber < 5000)
      test.advance(1.01)
    end
  end)

  it("goes on counting for who comes again", function()
    local client <close> = app:connect()
    ask(client, "Last-Event-ID: 41\r\n")
    assert.equal("42", next_event(client).id)
  end)

  it("has a page", function()
    assert.response(app:get "/").has.status(200).has.body_matching "EventSource"
  end)

  it("goes on while its worker is killed", function()
    local server <close> = test.spawn { app = APP, args = { "--survive" } }
    local client <close> = server:connect()
    ask(client)
    assert.equal("1", next_event(client).id)
    for number in pairs(server:workers()) do server:signal_worker(number, "KILL") end
    assert.equal("crash", next_event(client).data)
    assert.equal("2", next_event(client).id)
  end)
end)
