-- Scripts that several specs serve.

local M = {}

--- Counts lines, and says with each what it is called; and why it goes on elsewhere.
-- @param more (optional) what the script returns besides
function M.counter(label, more)
  return ([[
    local moonpool = require "moonpool"
    local label = "%s"
    local function go_on(conn, state, why)
      state = state or { n = 0 }
      if why then conn:write(why, " ", state.n, "\n") end
      while true do
        conn:checkpoint(state)
        local line = conn:read "l"
        if not line then return end
        state.n = state.n + 1
        conn:write(label, " ", state.n, " ", line, "\n")
      end
    end
    return { serve = function(conn) go_on(conn) end, resume = go_on %s }
  ]]):format(label, more or "")
end

--- Numbers lines, and says nothing else.
-- @param how (optional) what becomes of a line in the midst of which its worker dies
function M.numbers(how)
  return ([[
    local function go_on(conn, n)
      while true do
        conn:checkpoint(n, %s)
        local line = conn:read "l"
        if not line then return end
        n = n + 1
        conn:write(n, " ", line, "\n")
      end
    end
    return { serve = function(conn) go_on(conn, 0) end, resume = go_on }
  ]]):format(how and ("%q"):format(how))
end

--- Says "in", and then to all who are connected whatever one of them says.
M.room = [[
  local moonpool = require "moonpool"
  return function(conn)
    local _ <close> = moonpool.subscribe("room", function(text) conn:write(text) end)
    conn:write "in\n"
    for line in conn:lines() do moonpool.publish("room", line .. "\n") end
  end
]]

return M
