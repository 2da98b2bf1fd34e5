-- What the program says that is asked whether it can go on where another stops.

local bytes = require "baton_bytes"
local harness = require "server"
local lfs = require "lfs"
local scoreboard = require "native.scoreboard"

describe("a program that is asked", function()
  local app = harness.directory() .. "/app.lua"
  harness.write_file(app, "return print")

  teardown(function() harness.remove(app:match "(.*)/") end)

  local function ask(text, ...)
    local file = app .. ".baton"
    harness.write_file(file, text)
    return harness.shell('program=$1 file=$2; shift 2; ' ..
      'LD_PRELOAD= "$program" successor 0 "$@" --name app 3>"$file.said" 4<"$file"; ' ..
      'echo "exit $?"; tr -d "\\0" <"$file.said"',
      harness.build .. "/moonpool", file, app, ...)
  end

  local version, cell_size
  do
    local header <close> = io.open "runtime/wire.h"
    version = tonumber(header:read "a":match "WIRE_VERSION = (%d+)")
    local one <close> = scoreboard.create(1)
    local two <close> = scoreboard.create(2)
    cell_size = lfs.attributes("/proc/self/fd/" .. two:fd(), "size")
      - lfs.attributes("/proc/self/fd/" .. one:fd(), "size")
  end

  local function sample(changes)
    return bytes(function(b)
      b:number("wire", version + (changes.wire or 0))
      b:number("cell", cell_size + (changes.cell or 0))
      b:begin "pool"
      b:put("name", changes.name or "app")
      b:finish()
      if changes.control then
        b:begin "control"
        b:put("path", changes.control)
        b:finish()
      end
    end)
  end

  it("says its configuration", function()
    assert.matches("^exit 0\n.*backlog", ask(sample {}))
    assert.matches("^exit 0\n", ask(sample { control = "/x" }, "--control", "/x"))
  end)

  it("says what is wrong", function()
    for _, case in ipairs {
      { "", "moonpool [%d.]+ cannot go on where the other stops: that takes a restart$" },
      { "moonpool baton 0\0", "cannot go on where the other stops" },
      { sample { wire = 1 }, "moonpool [%d.]+ cannot speak with the workers" },
      { sample { wire = -1 }, "cannot speak with the workers" },
      { sample { cell = 64 }, "cannot speak with the workers" },
      { sample { name = "other" }, "^exit 1\npools: a reload can neither add" },
      { sample { control = "/x" }, "^exit 1\ncontrol: a reload cannot change it" },
      { sample {}, "^exit 1\n.*no%-such%-flag", "--no-such-flag" },
    } do
      local said = ask(case[1], case[3])
      assert.matches("^exit 1\n", said)
      assert.matches(case[2], said)
    end
  end)
end)
