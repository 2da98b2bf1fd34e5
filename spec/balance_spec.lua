-- Connections that stay for long, and how they are spread over the workers.

local harness = require "server"

local SCRIPT = [[
  local moonpool = require "moonpool"
  local app = require("moonpool.http").app()
  app:get("/", function(_, res) res:send(tostring(moonpool.worker.id)) end)
  app:get("/busy", function(req, res) -- until there is that file
    while not io.open(req:args().file) do end
    res:send(tostring(moonpool.worker.id))
  end)
  return app
]]

local function answer(client)
  assert.equal("HTTP/1.1 200 OK", client:read "l")
  repeat until client:read "l" == ""
  return tonumber(client:read(1))
end

local function ask(client, target)
  client:write("GET ", target or "/", " HTTP/1.1\r\nHost: x\r\n\r\n")
  return answer(client)
end

-- How many of the clients each worker has.
local function spread(clients, workers)
  local counts = {}
  for i = 1, workers do counts[i] = 0 end
  for _, client in ipairs(clients) do
    local id = ask(client)
    counts[id] = counts[id] + 1
  end
  return counts
end

local function is_even(counts, total)
  for _, n in ipairs(counts) do
    if math.abs(n - total / #counts) > total / #counts / 10 then return false end
  end
  return true
end

describe("200 clients of 4 workers", function()
  it("are spread evenly, also if a worker is busy when they come", function()
    local server <close> = harness.run { workers = 4, script = SCRIPT }
    local busy <close> = server:connect()
    local file = server.directory .. "/enough"
    busy:write("GET /busy?file=", file, " HTTP/1.1\r\nHost: x\r\n\r\n")
    local clients = server:connect_many(200)
    harness.eventually(function() return harness.queued(server.address) == 0 end)
    harness.write_file(file, "")
    answer(busy)
    harness.eventually(function() return is_even(spread(clients, 4), 200) end)
    harness.close_all(clients)
  end)

  it("are spread anew, once many of some workers have gone", function()
    local server <close> = harness.run { workers = 4, script = SCRIPT }
    local clients, stay, left = server:connect_many(400), {}, 0
    for i, client in ipairs(clients) do
      if ask(client) == 1 or i % 3 == 0 and left < 100 then
        stay[#stay + 1] = client
        left = #stay
      else
        client:close()
      end
    end
    local before = spread(stay, 4)
    assert.is_false(is_even(before, #stay))
    harness.eventually(function() return is_even(spread(stay, 4), #stay) end)
    harness.close_all(stay)
  end)

  it("stay where they are once that is even", function()
    local server <close> = harness.run { workers = 4, script = [[
      local function go_on(conn, _, why)
        if why then conn:write("moved\n") end
        while true do
          conn:checkpoint()
          local line = conn:read "l"
          if not line then return end
          conn:write(line, "\n")
        end
      end
      return { serve = go_on, resume = go_on }
    ]] }
    local clients = server:connect_many(200)
    for _ = 1, 15 do
      for _, client in ipairs(clients) do
        client:write "x\n"
        assert.equal("x", client:read "l")
      end
      harness.eventually(function() return true end)
      require("moonpool.core").loop.wait(0.2)
    end
    harness.close_all(clients)
  end)
end)
