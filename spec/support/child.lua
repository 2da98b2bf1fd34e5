-- Runs a Lua script in a lua5.4 of its own: for what ends a process or is in its log.
--
--     local output, how, code = child [[ print "hello" ]]      -- "hello\n", "exit", 0
--
-- Output is standard output and error together.

local process = require "native.process"

local SECONDS = "30" -- until a script that does not end is killed

return function(script)
  local env = { "LUA_PATH_5_4=" .. package.path, "LUA_CPATH_5_4=" .. package.cpath }
  local preload = os.getenv "LD_PRELOAD" -- the sanitizer's
  if preload then env[#env + 1] = "LD_PRELOAD=" .. preload end
  local argv = { "timeout", SECONDS, "lua5.4", "-e", script }
  local pid, fd = assert(process.start(argv, env))
  local file <close> = assert(fd:file())
  local output = file:read "a"
  return output, process.wait(pid)
end
