-- What the HTTP cases ask for. The peers in ../peers answer the same, in their own ways.

local http = require "moonpool.http"

local app = http.app()

app:get("/hello", function(_, res)
  res:send "Hello, world!\n"
end)

app:get("/json", function(_, res)
  res:json { id = 42, name = "Ada Lovelace", mail = "ada@example.org",
    active = true }
end)

app:get("/items/:id", function(req, res)
  local args, headers = req:args(), req.headers
  res:header("X-Item", req.params.id)
  res:header("X-Page", args.page)
  res:header("X-Request-Id", headers["X-Request-Id"])
  res:header("Content-Language", headers["Accept-Language"])
  res:send("item " .. req.params.id .. ", " .. args.q .. ", for "
    .. headers["User-Agent"] .. "\n")
end)

app:post("/echo", function(req, res)
  res:send(req:body())
end)

return app
