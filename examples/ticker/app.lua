-- A ticker: prices that change each second, as server-sent events.
--
--     build/moonpool serve examples/ticker/app.lua --survive
--     curl -N http://127.0.0.1:8080/prices        or open http://127.0.0.1:8080/
--
-- Each client goes on where it was in another worker, if its own is killed or reloaded:
-- what it has is the number of the last event and the prices then. One that has lost its
-- connection comes again with Last-Event-ID, and goes on counting from there.

local http = require "moonpool.http"
local json = require "moonpool.json"
local moonpool = require "moonpool"

local FIRST = { amber = 4000, coral = 2500, pearl = 9900 } -- hundredths

local here = debug.getinfo(1, "S").source:match "^@(.*)/"
local app = http.app()

local function move(prices)
  for name, price in pairs(prices) do
    prices[name] = math.max(price + math.random(-50, 50), 1)
  end
end

local function open(req)
  local prices = {}
  for name, price in pairs(FIRST) do prices[name] = price end
  return { n = math.tointeger(tonumber(req.headers["last-event-id"])) or 0,
    prices = prices }
end

local function serve(stream, state, why)
  if why then stream:send { event = "worker", data = why } end
  repeat
    move(state.prices)
    state.n = state.n + 1
    stream:send { id = state.n, retry = state.n == 1 and 1 or nil,
      data = json.encode { prices = state.prices, worker = moonpool.worker.pid } }
  until not stream:wait(1)
end

app:events("/prices", { open = open, serve = serve })

app:get("/", function(_, res)
  res:header("Content-Type", "text/html; charset=utf-8"):sendfile(here .. "/page.html")
end)

return app
