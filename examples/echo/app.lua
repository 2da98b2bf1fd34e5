-- Sends every line back.
--
--     build/moonpool serve examples/echo/app.lua
--     nc 127.0.0.1 8080

return function(conn)
  for line in conn:lines "L" do conn:write(line) end
end
