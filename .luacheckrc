std = "lua54"
max_line_length = 90
exclude_files = { "build" }

files["spec"].std = "+busted"
files["examples/*/spec"].std = "+busted"
files["**/*_spec.lua"].std = "+busted"
files["scripts/bench/wrk.lua"].globals = { "wrk", "init", "request", "done" }
files["scripts/bench/peers/lighttpd.lua"].globals = { "lighty" }
