-- The architecture: includes go downwards only (runtime/floors), and some files do not
-- know what others are for.

local lfs = require "lfs"

local function lines(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

-- name -> floor
local function read_floors()
  local floors = {}
  for floor, names in lines("runtime/floors"):gmatch "\n(%d+) ([^\n]*)" do
    for name in names:gmatch "%S+" do floors[name] = tonumber(floor) end
  end
  return floors
end

-- name of a .c/.h pair -> { own = { name = true }, system = { header = true } }
local function read_includes()
  local units = {}
  for file in lfs.dir "runtime" do
    local name = file:match "^(.*)%.[ch]$"
    if name then
      local unit = units[name] or { own = {}, system = {} }
      units[name] = unit
      local text = "\n" .. lines("runtime/" .. file)
      for other in text:gmatch '\n#include "(.-)%.h"' do unit.own[other] = true end
      for header in text:gmatch "\n#include <(.-)>" do unit.system[header] = true end
      unit.own[name] = nil
    end
  end
  return units
end

describe("the floors", function()
  local floors, units = read_floors(), read_includes()

  it("hold every file", function()
    for name in pairs(units) do
      assert(floors[name], name .. " stands on no floor of runtime/floors")
    end
    for name in pairs(floors) do
      assert(units[name], name .. " is on a floor but is no file")
    end
  end)

  it("are includes that go downwards only", function()
    local wrong = {}
    for name, unit in pairs(units) do
      for other in pairs(unit.own) do
        if floors[other] >= floors[name] then
          wrong[#wrong + 1] = ("%s (%d) includes %s (%d)"):format(name, floors[name],
            other, floors[other])
        end
      end
    end
    assert.same({}, wrong)
  end)

  it("would notice one that goes up", function()
    assert.is_true(floors.main > floors.worker and floors.loop < floors.conn)
    assert.is_true(units.conn.own.loop)
  end)

  -- Who may use what: a header, and the only units that include it.
  local function only(header, allowed)
    for name, unit in pairs(units) do
      if unit.own[header] or unit.system[header] then
        assert(name:find(allowed), name .. " includes " .. header)
      end
    end
  end

  it("know Lua only where they are for Lua", function()
    for _, header in ipairs { "lua.h", "lauxlib.h", "lualib.h" } do
      for name, unit in pairs(units) do
        if unit.system[header] then
          local for_lua = name:find "^lua_" or name == "task" or name == "script"
            or name == "config" or name == "handler" or name == "core" or name == "worker"
            or name == "exchange" or name == "watchdog"
          assert(for_lua, name .. " includes " .. header)
        end
      end
    end
  end)

  it("know HTTP in one place", function()
    only("http", "^http_")
    only("http_session", "^exchange$")
    only("exchange", "^lua_[hr]")
  end)

  it("let nothing share supervisor and worker but the wire", function()
    only("supervisor", "^main$")
    only("worker", "^main$")
    assert.is_nil(units.worker.own.pool)
    assert.is_nil(units.supervisor.own.core)
  end)

  it("keep the ground free of libev", function()
    for name, floor in pairs(floors) do
      if floor < 2 then assert.is_nil(units[name].system["ev.h"], name) end
    end
  end)
end)
