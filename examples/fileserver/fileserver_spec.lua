local lfs = require "lfs"
local moonpool = require "moonpool"
local test = require "moonpool.test"

local CHUNK = 65536

local CONFIG = "examples/fileserver/pool.lua"

local function contents(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

local function write(path, text)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
end

-- What a line gets: the bytes, or nil and the reason why not.
local function ask(client, line)
  client:write(line, "\n")
  local head = client:read()
  local length = tonumber(head:match "^OK (%d+)$")
  if not length then return nil, assert(head:match "^ERROR (.+)$") end
  local parts = {}
  while length > 0 do
    local part = assert(client:read(math.min(CHUNK, length)))
    parts[#parts + 1] = part
    length = length - #part
  end
  return table.concat(parts)
end

local function refusal(client, line)
  local bytes, why = ask(client, line)
  assert.is_nil(bytes)
  return why
end

local WORKER = "worker +(%d+)  pid (%d+)  (%u+)  served (%d+)\n"

-- What STATUS says: by worker, { pid, state, served }, and the number of one's own.
local function status(client)
  local text, workers = ask(client, "STATUS"), {}
  for id, pid, state, served in text:gmatch(WORKER) do
    workers[tonumber(id)] =
      { pid = tonumber(pid), state = state, served = tonumber(served) }
  end
  return workers, tonumber(text:match "\nyou have worker (%d+)\n$")
end

local function count(workers, state)
  local n = 0
  for _, worker in pairs(workers) do n = n + (worker.state == state and 1 or 0) end
  return n
end

describe("the fileserver example", function()
  describe("in this process", function()
    local fileserver = test.app "examples/fileserver/app.lua"

    it("sends its own two files", function()
      local client = fileserver:connect()
      for _, name in ipairs { "hello.txt", "moonpool.txt" } do
        assert.equal(contents("examples/fileserver/files/" .. name), ask(client, name))
      end
    end)

    it("answers requests that come at once, in their order", function()
      local client = fileserver:connect()
      local hello = contents "examples/fileserver/files/hello.txt"
      client:write "hello.txt\nmissing\nhello.txt\n"
      client:shutdown()
      local ok = ("OK %d\n%s"):format(#hello, hello)
      assert.equal(ok .. "ERROR No such file or directory\n" .. ok, client:read "a")
    end)

    it("is BUSY with whoever asks", function()
      local client = fileserver:connect()
      local workers, own = status(client)
      local served = workers[own].served
      assert.same({ pid = moonpool.worker.pid, state = "BUSY", served = served },
        workers[own])
      assert(ask(client, "hello.txt"))
      assert.equal("No such file or directory", refusal(client, "missing"))
      assert.equal(served + 1, status(client)[own].served)
    end)

    it("refuses a line that never ends", function()
      local client = fileserver:connect()
      client:write(("x"):rep(2 << 20))
      assert.equal("ERROR the line is too long", client:read())
      assert.is_nil((client:read()))
    end)
  end)

  describe("with a root of its own", function()
    local outside, root

    local function start()
      return test.spawn { config = CONFIG, name = "fileserver",
        env = { "LISTEN=127.0.0.1:0", "FILESERVER_ROOT=" .. root } }
    end

    before_each(function()
      outside = test.directory { secret = "secret" }
      root = outside .. "/root"
      assert(lfs.mkdir(root))
      assert(lfs.mkdir(root .. "/sub"))
      write(root .. "/plain", "plain text")
      write(root .. "/sub/deep", "deep text")
    end)

    it("sends a file of 1 MB, an empty one, and what lies deeper", function()
      local bytes = {}
      for i = 1, 1000000 // 5 do bytes[i] = ("%05d"):format(i * 7919 % 100000) end
      local big = table.concat(bytes)
      write(root .. "/big", big)
      write(root .. "/empty", "")
      local server <close> = start()
      local client <close> = server:connect()
      local got = ask(client, "big")
      assert.equal(#big, #got)
      assert.is_true(big == got)
      assert.equal("", ask(client, "empty"))
      assert.equal("deep text", ask(client, "sub/deep"))
    end)

    it("sends nothing else, and says why", function()
      assert(lfs.link("sub/deep", root .. "/inside", true))
      assert(lfs.link("../secret", root .. "/outside", true))
      assert(lfs.link("/etc/passwd", root .. "/far", true))
      assert(lfs.link("..", root .. "/up", true))
      assert(os.execute("mkfifo " .. root .. "/fifo"))
      local server <close> = start()
      local client <close> = server:connect()
      local leaves = "the name leaves the directory"
      for name, why in pairs {
        ["missing"] = "No such file or directory",
        ["plain/x"] = "Not a directory",
        ["sub"] = "a directory, not a file",
        ["."] = "a directory, not a file",
        ["fifo"] = "a pipe, not a file",
        [".."] = leaves,
        ["../secret"] = leaves,
        ["sub/../../secret"] = leaves,
        ["/etc/passwd"] = leaves,
        [root .. "/plain"] = leaves,
        ["outside"] = leaves,
        ["far"] = leaves,
        ["up/secret"] = leaves,
        [""] = "not a file name",
        ["sub//deep"] = "not a file name",
        ["plain\0"] = "the name contains a NUL byte",
        [("x"):rep(300)] = "File name too long",
      } do
        assert.equal(why, refusal(client, name), name)
      end
      assert.equal("deep text", ask(client, "inside"))
      assert.equal("the line is too long", refusal(client, ("x"):rep(10000)))
    end)

    it("gives a worker to one client at a time", function()
      local server <close> = start()
      local inside, most, served, done = {}, 0, 0, 0
      local function visit()
        local conn <close> = assert(require("moonpool.net").connect(server.address))
        local client = test.client(conn) -- within a task it waits as conn does
        local _, own = status(client)
        inside[own] = (inside[own] or 0) + 1
        most = math.max(most, inside[own])
        moonpool.sleep(0.01) -- this is how long the visit takes
        if ask(client, "plain") == "plain text" then served = served + 1 end
        inside[own] = inside[own] - 1
      end
      for _ = 1, 40 do
        moonpool.spawn(function()
          local _ <close> = setmetatable({}, { __close = function() done = done + 1 end })
          visit()
        end)
      end
      assert.eventually(function() return done == 40 end)
      assert.equal(40, served)
      assert.equal(4, #inside)
      assert.equal(1, most)
      local client <close> = server:connect()
      assert.eventually(function() -- the others' news is on its way
        local total = 0
        for _, worker in pairs(status(client)) do total = total + worker.served end
        return total == 40
      end)
    end)

    it("shows who is FREE and who is BUSY", function()
      local server <close> = start()
      local first <close> = server:connect()
      local function busy(n)
        assert.eventually(function()
          local workers = status(first)
          return #workers == 4 and count(workers, "BUSY") == n
            and count(workers, "FREE") == 4 - n
        end)
      end
      busy(1)
      local second = server:connect()
      busy(2)
      assert.equal(1, select(2, status(first)))
      assert.equal(2, select(2, status(second)))
      second:close()
      busy(1)
    end)

    it("knows all workers again after one was killed", function()
      local server <close> = start()
      local first <close> = server:connect()
      local function knows_all(client)
        assert.eventually(function()
          local workers = status(client)
          return workers[1] and workers[2] and workers[3] and workers[4]
        end)
      end
      knows_all(first)
      local victim = status(first)[2].pid
      server:signal_worker(2, "KILL")
      assert.eventually(function() return status(first)[2].pid ~= victim end)
      local second <close> = server:connect()
      knows_all(second)
      local workers, own = status(second)
      assert.equal(2, own)
      assert.equal(2, count(workers, "BUSY"))
    end)
  end)

  it("does not start without its root", function()
    local server = test.start({ "serve", "--config", CONFIG },
      { env = { "LISTEN=127.0.0.1:0", "FILESERVER_ROOT=/nowhere" } })
    assert.same({ "exit", 1 }, { server:wait() })
    assert.truthy(server.text:find("/nowhere must be a directory", 1, true))
    server:stop()
  end)
end)
