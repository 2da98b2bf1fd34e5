local harness = require "server"
local test = require "moonpool.test"

describe("the stream example", function()
  require "tidy" (before_each, after_each)

  local function get(client, target)
    client:write("GET ", target, " HTTP/1.1\r\nHost: spec\r\n\r\n")
    local head = {}
    for line in client:lines() do
      if line == "" then break end
      head[#head + 1] = line .. "\n"
    end
    return table.concat(head)
  end

  local function chunk(client)
    local text = client:read(tonumber(client:read(), 16))
    client:read()
    return text
  end

  describe("in this process", function()
    local app = dofile "examples/stream/app.lua"

    it("ticks each second", function()
      local client <close> = test.connect(app)
      get(client, "/ticks")
      client:settimeout(0)
      for i = 1, 3 do
        assert.equal("tick " .. i .. "\n", chunk(client))
        assert.is_nil((client:read(1)))
        test.advance(1)
      end
    end)

    it("is shown by a browser as it comes", function()
      local client <close> = test.connect(app)
      assert.matches("\nX%-Content%-Type%-Options: nosniff\n", get(client, "/ticks/1"))
    end)

    it("ends after as many as are asked for, and the connection goes on", function()
      local client <close> = test.connect(app)
      for _ = 1, 2 do
        get(client, "/ticks/2")
        test.advance(2)
        assert.equal("tick 1\ntick 2\n", chunk(client) .. chunk(client))
        assert.equal("", chunk(client))
      end
    end)

    it("refuses what is no number", function()
      local client <close> = test.connect(app)
      client:write "GET /ticks/many HTTP/1.1\r\nHost: spec\r\n\r\n"
      assert.equal("HTTP/1.1 400 Bad Request", client:read())
    end)

    it("ends when the client goes", function()
      local client = test.connect(app)
      get(client, "/ticks")
      client:close()
      test.advance(60) -- else a task ticks on, and the next test finds its connection
    end)
  end)

  it("is read by curl as it comes", function()
    local server <close> = harness.run { app = "examples/stream/app.lua" }
    local pipe = io.popen(("LD_PRELOAD= curl -sN --max-time 10 http://%s/ticks/1")
      :format(server.address))
    assert.equal("tick 1\n", pipe:read "a")
    pipe:close()
  end)
end)
