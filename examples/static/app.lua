-- A site of files: pages, a style sheet with a compressed copy beside it, a picture.
--
--     build/moonpool serve examples/static/app.lua
--     curl -i http://127.0.0.1:8080/
--     curl -i --compressed http://127.0.0.1:8080/style.css     the copy, unpacked by curl
--     curl -i -r 0-99 http://127.0.0.1:8080/moon.svg           the first 100 bytes
--
-- A browser asks again each time and gets 304 and no content until a file changes; for
-- names that never stand for something else there are max_age and immutable.

local http = require "moonpool.http"
local static = require "moonpool.middleware.static"

local root = debug.getinfo(1, "S").source:match "^@(.*)/" .. "/public"
local app = http.app()

app:use(static {
  root = root,
  headers = { ["Content-Security-Policy"] = "default-src 'self'" },
})

app:not_found(function(_, res)
  res:status(404):header("Content-Type", "text/html; charset=utf-8")
  res:sendfile(root .. "/404.html")
end)

return app
