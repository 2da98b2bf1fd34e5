-- lua-cqueues: raw TCP, lines sent back.
--
--     lua5.4 cqueues.lua PORT

local cqueues = require "cqueues"
local socket = require "cqueues.socket"

local listener = socket.listen { host = "127.0.0.1", port = tonumber(arg[1]),
  reuseaddr = true, nodelay = true }
local loop = cqueues.new()

local function serve(client)
  client:setmode("bn", "bn") -- binary; output is not buffered
  client:onerror(function(_, _, code) return code end) -- and does not raise
  for line in client:lines "*L" do client:write(line) end
  client:close()
end

loop:wrap(function()
  for client in listener:clients() do
    loop:wrap(serve, client)
  end
end)
assert(loop:loop())
