--- Loops over what may fail in the middle.
--
--     for piece, message, code in each(req.read, req) do
--       if not piece then return nil, message, code end
--
-- nil would end the loop as if all were well, so a failure is false in it, once; who does
-- not look for it stumbles over it.
--
-- @module moonpool.http_each

--- An iterator over get(...), which returns a value, nothing at the end, or nil, message,
-- code.
return function(get, ...)
  local over, arguments = false, table.pack(...)
  return function()
    if over then return nil end
    local value, message, code = get(table.unpack(arguments, 1, arguments.n))
    over = value == nil
    if message then return false, message, code end
    return value
  end
end
