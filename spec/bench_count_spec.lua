-- Instructions per request: how they are read, and how many hello may need.

local callgrind = require "bench.callgrind"
local cases = require "bench.cases"
local harness = require "server"

describe("callgrind", function()
  local profile = [[
events: Ir sysCount sysTime

ob=(1) /usr/lib/libx.so
fl=(1) a.c
fn=(1) begin.part.0
10 5 0 0
+1 7 1 0
cfn=(2) 0x000000000000df10'2
calls=3 20
+2 1000 9 9
* 2
fn=(2)
5 100
ob=(2) /usr/bin/lua5.4
fn=(3) strcmp
1 1 0 0
fn=(4) clock_gettime@@GLIBC_2.17
+3 2 1 0
totals: 117 2 0
]]

  it("profiles are read: each function without what it calls", function()
    assert.same({
      functions = { begin = 14, ["libx.so+df10"] = 100, strcmp = 1, clock_gettime = 2 },
      calls = { begin = 1, ["libx.so+df10"] = 0, strcmp = 0, clock_gettime = 1 },
    }, callgrind.read_profile(profile:gmatch "[^\n]+"))
  end)

  -- The count is of the build that is no release, on the processors that the file is for.
  local machine = io.popen("uname -m"):read "l"
  if harness.build:find "asan" or machine ~= "x86_64" then return end

  it("counts no more of hello than is written down", function()
    local instructions, calls
    for line in io.lines "scripts/bench/instructions" do
      if not instructions then
        instructions, calls = line:match "^hello +(%d+) +([%d.]+)"
      end
    end
    local tree = { lua = "lua", lib = harness.build .. "/lib",
      apps = "scripts/bench/apps" }
    local now = callgrind.count(tree, cases[1])
    local message = "hello takes %.0f instructions and %.2f system calls, not %s and %s: "
      .. "see scripts/bench/compare, or scripts/bench/count"
    assert(now.instructions <= 1.05 * instructions and now.calls <= 1.05 * calls,
      message:format(now.instructions, now.calls, instructions, calls))
    assert(now.instructions >= 0.5 * instructions, "so few cannot be: is any counted?")
  end)
end)
