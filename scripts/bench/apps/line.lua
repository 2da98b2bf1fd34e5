-- Raw TCP: sends each line back.

return function(conn)
  for line in conn:lines "L" do conn:write(line) end
end
