-- Sends every line back: nc 127.0.0.1 8080

return function(conn)
  for line in conn:lines "L" do conn:write(line) end
end
