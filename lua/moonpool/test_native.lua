-- What the module for stock Lua has beside the runtime: faults (runtime/lua_fault.h) and
-- processes (runtime/lua_process.h) and coverage (runtime/lua_coverage.h). Nothing of it
-- is in a worker.

require "moonpool.core"

local path = package.searchpath("moonpool.core", package.cpath)

local function open(name)
  return assert(package.loadlib(path, "luaopen_moonpool_" .. name))()
end

return { fault = open "fault", process = open "process", coverage = open "coverage" }
