-- The log of the server: one line to standard error, with the time and the worker.
--
--     log("text")   log.info("%d clients", n)   log.debug  log.warn  log.error

local write = require("moonpool.core").log

local function level(name)
  return function(format, ...)
    write(name, select("#", ...) > 0 and string.format(format, ...) or tostring(format))
  end
end

local log = { debug = level "debug", info = level "info", warn = level "warn",
              error = level "error" }

return setmetatable(log, { __call = function(_, ...) log.info(...) end })
