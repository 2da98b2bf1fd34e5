-- WebSockets: /echo sends each message back, /cast to all that are there, /idle waits.

local rooms = require("moonpool.rooms").open "bench"
local app = require("moonpool.http").app()

app:websocket("/echo", function(ws)
  for message, kind in ws:messages() do ws:send(message, kind) end
end)

app:websocket("/cast", function(ws)
  local room <close> = rooms:join("all", ws)
  for message in ws:messages() do room:publish(message) end
end)

-- With a state of some 100 bytes.
app:websocket("/idle", {
  open = function() return { name = "ada", room = "lobby", text = ("x"):rep(60) } end,
  serve = function(ws)
    for message in ws:messages() do ws:send(message) end
  end,
})

app:get("/hello", function(_, res) res:send "Hello, world!\n" end)

return app
