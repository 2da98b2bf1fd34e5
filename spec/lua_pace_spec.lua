-- When a worker collects its garbage.

local harness = require "server"

require "tidy" (before_each, after_each)

local MB <const> = 1024 -- KB, as Lua counts

-- Each line makes 20 MB of garbage, and is told the most that was in use meanwhile; or
-- "pause", the collector's.
local function run(before)
  return harness.run { script = (before or "") .. [[

    local function most_in_use(line)
      local most = 0
      for _ = 1, 2000 do
        line:rep(10000)
        most = math.max(most, collectgarbage "count")
      end
      return most
    end

    return function(conn)
      for line in conn:lines() do
        local number = line == "pause" and collectgarbage("setpause", 200)
          or most_in_use(line)
        conn:write(("%d\n"):format(number // 1))
      end
    end
  ]] }
end

local function ask(client, line)
  client:write(line, "\n")
  return tonumber(client:read())
end

local function most_in_use(server)
  local client <close> = server:connect()
  for i = 1, 4 do ask(client, i) end -- at the pace of what was there before
  return ask(client, 5)
end

describe("a worker's garbage", function()
  local function keeping(megabytes)
    return ("alive = { (' '):rep(%d) }"):format(megabytes * 1024 * MB // 1)
  end

  for alive, range in pairs { [0] = { 0.2, 1 }, [0.5] = { 4, 5.5 }, [3] = { 6.5, 8 },
    [12] = { 22, 28 } } do
    it(("beside %g MB that are alive takes %g to %g MB"):format(alive, range[1] - alive,
      range[2] - alive), function()
      local server <close> = run(keeping(alive))
      local most = most_in_use(server) / MB
      assert.is_true(most > range[1] and most < range[2], most)
    end)
  end

  it("takes less where it is small", function()
    local server <close> = harness.run { script = keeping(0.5) .. [[

      return function(conn)
        local most = 0
        for _ in conn:lines() do
          for i = 1, 100 do local _ = { i } end
          most = math.max(most, collectgarbage "count")
          conn:write(("%d\n"):format(most // 1))
        end
      end
    ]] }
    local client <close> = server:connect()
    local most
    for i = 1, 2000 do most = ask(client, i) end -- 14 MB
    assert.is_true(most > 0.8 * MB and most < 1.8 * MB, most)
  end)

  it("is collected after the answers, where each makes little", function()
    local server <close> = harness.run { script = [[
      local inside, between, before = 0, 0, 0

      local function freed(than)
        return collectgarbage "count" < than and 1 or 0
      end

      return function(conn)
        for _ in conn:lines() do
          between = between + freed(before)
          before = collectgarbage "count"
          for i = 1, 20 do
            local _ = { i }
            inside = inside + freed(before)
            before = collectgarbage "count"
          end
          conn:write(("%d %d\n"):format(inside, between))
        end
      end
    ]] }
    local client <close> = server:connect()
    local inside, between
    repeat
      client:write "x\n"
      inside, between = client:read():match "^(%d+) (%d+)$"
      assert.equal("0", inside)
    until tonumber(between) > 50
  end)

  it("is collected a little at a time", function()
    local server <close> = harness.run { script = [[
      return function(conn)
        local most, before = 0, collectgarbage "count"
        for _ = 1, 500000 do
          local _ = {}
          local now = collectgarbage "count"
          most, before = math.max(most, before - now), now
        end
        conn:write(("%d\n"):format(most // 1))
      end
    ]] }
    local client <close> = server:connect()
    local most = tonumber(client:read())
    assert.is_true(most > 0 and most < 16, most)
  end)

  it("is collected as the script has it, if it says so", function()
    for pause, way in pairs { [120] = [[collectgarbage("setpause", 120)]],
      [160] = [[collectgarbage("incremental", 160, 200)]] } do
      local server <close> = run(way)
      local client <close> = server:connect()
      ask(client, 1)
      assert.equal(pause, ask(client, "pause"))
    end
  end)
end)
