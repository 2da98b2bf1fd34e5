-- The files of the directory in BENCH_FILES.

local http = require "moonpool.http"
local static = require "moonpool.middleware.static"

local app = http.app()
app:use(static { root = os.getenv "BENCH_FILES", valid = 1 }) -- nginx looks once an hour
return app
