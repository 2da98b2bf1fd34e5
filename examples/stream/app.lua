-- A ticker: a line each second, for as long as the client listens.
--
--     build/moonpool serve examples/stream/app.lua
--     curl -N http://127.0.0.1:8080/ticks          or with a browser
--     curl -N http://127.0.0.1:8080/ticks/3        ends after three

local http = require "moonpool.http"
local moonpool = require "moonpool"
local app = http.app()

-- The length is not known beforehand, so the response goes out in chunks; res:write
-- returns nil when the client has gone. A browser that may guess at the type would show
-- nothing before it has a kilobyte.
local function tick(res, last)
  res:header("X-Content-Type-Options", "nosniff")
  for n = 1, last do
    if n > 1 then moonpool.sleep(1) end
    if not res:write("tick ", n, "\n") then return end
  end
end

app:get("/ticks", function(_, res)
  tick(res, math.huge)
end)

app:get("/ticks/:last", function(req, res)
  local last = math.tointeger(tonumber(req.params.last))
  if not last then return res:status(400):send "how many?\n" end
  tick(res, last)
end)

return app
