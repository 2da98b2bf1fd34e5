local harness = require "server"
local lfs = require "lfs"

local SANITIZER = "LD_PRELOAD=" .. (os.getenv "LD_PRELOAD" or "")

local function contents(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

describe("moonpool", function()
  require "tidy" (before_each, after_each)

  local directory, program

  -- Runs the program there until it has ended: its output and exit code.
  local function run(where, ...)
    local shell = harness.launch({ "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh",
      where, program, ... }, { env = { SANITIZER } })
    local _, code = shell:wait()
    shell:stop()
    return shell.text, code
  end

  before_each(function()
    directory = harness.directory()
    program = harness.build .. "/moonpool"
    if program:sub(1, 1) ~= "/" then program = lfs.currentdir() .. "/" .. program end
  end)

  after_each(function() harness.shell('rm -r "$1"', directory) end)

  local function write(name, text)
    harness.write_file(directory .. "/" .. name, text)
  end

  describe("new", function()
    it("makes a project whose own spec passes", function()
      local text, code = run(directory, "new", "shop")
      assert.equal(0, code)
      assert.matches("cd shop\n    make test\n    make run\n", text)
      local project = directory .. "/shop"
      text, code = run(project, "test")
      assert.equal(0, code, text)
      assert.matches("4 successes / 0 failures / 0 errors / 0 pending", text)
      text, code = run(project, "check", "--config", "pools.lua")
      assert.equal(0, code)
      assert.matches("^shop: .*/app.lua", text)
      assert.matches("ExecStart=%S+ serve .*/run/shop/control",
        contents(project .. "/shop.service"))
      local mapped = contents(project .. "/README.md")
      for _, name in ipairs { "app.lua", "spec/app_spec.lua", "pools.lua" } do
        assert.truthy(mapped:find(name, 1, true))
        assert.is_nil(contents(project .. "/" .. name):find "NAME")
      end
    end)

    it("serves it, too", function()
      run(directory, "new", "shop")
      local server <close> = harness.start({ "serve", "--config",
        directory .. "/shop/pools.lua" }, { env = { "LISTEN=127.0.0.1:0" } })
      server.address = server:expect "listening on (%S+)"
      assert.response(server:post("/sum", { json = { 40, 2 } })).has.json { sum = 42 }
    end)

    it("makes only what has a good name, and replaces nothing", function()
      for _, name in ipairs { "../x", "", "a b", "-x", "a/b", "a'b" } do
        local text, code = run(directory, "new", name)
        assert.equal(2, code)
        assert.matches("^Usage: moonpool new NAME", text)
      end
      assert.equal(2, select(2, run(directory, "new")))
      assert.equal(2, select(2, run(directory, "new", "a", "b")))
      assert(lfs.mkdir(directory .. "/there"))
      local text, code = run(directory, "new", "there")
      assert.same({ "moonpool: there: File exists\n", 1 }, { text, code })
    end)
  end)

  describe("test", function()
    it("runs the specs that it is told, with busted's options", function()
      write("a_spec.lua", 'it("passes", function() end)')
      write("b_spec.lua", 'it("fails", function() error "on purpose" end)')
      local text, code = run(directory, "test", "a_spec.lua")
      assert.equal(0, code)
      assert.matches("1 success", text)
      text, code = run(directory, "test", "--output=TAP", "a_spec.lua", "b_spec.lua")
      assert.equal(1, code)
      assert.matches("ok 1 %- passes", text)
      assert.matches("not ok 2 %- fails", text)
      assert.matches("on purpose", text)
    end)

    it("says so where there are none", function()
      assert.same({ "moonpool: there is neither .busted nor spec/ here\n", 2 },
        { run(directory, "test") })
    end)

    it("runs them again when a file changes", function()
      write("a_spec.lua", 'it("is old", function() end)')
      local watching = harness.launch({ "sh", "-c", 'cd "$1" && exec "$2" test --watch '
        .. "--output=TAP a_spec.lua", "sh", directory, program }, { env = { SANITIZER } })
      watching:expect "ok 1 %- is old.*waiting for a change"
      write("a_spec.lua", 'it("is new", function() end)')
      watching:expect "ok 1 %- is new.*waiting for a change"
      watching:kill "KILL"
      watching:wait()
      watching:stop()
    end)

    it("shows which lines have run", function()
      assert(lfs.mkdir(directory .. "/spec"))
      write("app.lua", [[
local moonpool = require "moonpool"
return function(conn)
  moonpool.sleep(1)
  if conn:read "l" == "never" then
    conn:write "<missed>"
  end
  conn:write "done\n"
end
]])
      write("unused.lua", "return 1\n")
      write("spec/app_spec.lua", [[
        local test = require "moonpool.test"
        it("answers", function()
          local client = test.app("app.lua"):connect()
          client:write "x\n"
          assert.equal("done", client:read())
        end)
      ]])
      local text, code = run(directory, "test", "--coverage")
      assert.equal(0, code, text)
      assert.matches("coverage: %d+%.%d %% of %d+ lines; coverage/index.html", text)
      local page = contents(directory .. "/coverage/index.html")
      assert.matches('class="hit"><b>1 3</b>  moonpool.sleep', page)
      assert.matches('class="missed"><b> 5</b>    conn:write &quot;&lt;missed&gt;', page)
      assert.matches('class="missed"><b> 1</b>return 1', page)
      assert.matches('class="hit"><b>1 7</b>', page)
      assert.is_nil(page:find("app_spec", 1, true))
    end)

    it("shows them where a spec fails, too", function()
      write("a_spec.lua", 'it("fails", function() error "on purpose" end)')
      local text, code = run(directory, "test", "--coverage", "a_spec.lua")
      assert.equal(1, code)
      assert.matches("coverage: 100.0 %% of 0 lines", text)
    end)
  end)
end)
