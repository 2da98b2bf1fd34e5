-- Says hello over HTTP.
--
--     build/moonpool serve examples/hello/app.lua
--     curl http://127.0.0.1:8080/hello/ada

local http = require "moonpool.http"
local app = http.app()

app:get("/", function(_, res)
  res:send "Try /hello/your-name\n"
end)

app:get("/hello/:name", function(req, res)
  res:send("Hello, " .. req.params.name .. "!\n")
end)

return app
