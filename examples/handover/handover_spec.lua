local lfs = require "lfs"
local proc = require "moonpool.test_proc"
local test = require "moonpool.test"

-- The inode of the server's socket of a TCP connection, as the kernel lists it.
local function inode_of(port, client_port)
  local pattern = (":%04X %%x+:%04X 01 .- +%%d+ +%%d+ (%%d+) "):format(port, client_port)
  for line in io.lines "/proc/net/tcp" do
    local inode = line:match(pattern)
    if inode then return tonumber(inode) end
  end
end

local function port_of(address)
  return tonumber(address:match ":(%d+)$")
end

describe("the handover example", function()
  -- The two pools, and the pid of each one's worker.
  local function start()
    local socket = test.directory() .. "/socket"
    local server = test.spawn { config = "examples/handover/pools.lua", name = "giver",
      env = { "LISTEN=127.0.0.1:0", "HANDOVER_SOCKET=" .. socket } }
    return server, server:workers()[1], server:workers("taker")[1]
  end

  it("passes a file, a pipe and a client to another program", function()
    local server, giver, taker = start()
    local _ <close> = server
    local function says(pid, pattern)
      return server:expect(("%%[%d%%] info: %s\n"):format(pid, pattern))
    end
    local client <close> = server:connect()
    client:write "ada\n"
    assert.equal(("Process %d serves you now. It is ada."):format(taker), client:read())

    local letter = lfs.attributes "examples/handover/letter.txt"
    local file = ("file %d:%d"):format(letter.dev, letter.ino)
    assert.equal(file, says(giver, "giving the letter: (%l+ %d+:%d+)"))
    assert.equal(file, says(taker, "got the letter: (%l+ %d+:%d+)"))

    local pipe = says(giver, "giving the pipe: (pipe %d+:%d+)")
    assert.equal(pipe, says(taker, "got the pipe: (%l+ %d+:%d+)"))

    local address = client:sock()
    assert.equal(address, says(giver, "giving the client (%S+)"))
    assert.equal(address, says(taker, "the client is (%S+)"))
    local inode = inode_of(port_of(server.address), port_of(address))
    assert.equal(inode, tonumber(says(taker, "got the client: socket %d+:(%d+)")))

    local original <close> = assert(io.open "examples/handover/letter.txt")
    local first, second = original:read("l", "l")
    assert.equal(first, says(taker, "the letter says: ([^\n]+)"))
    assert.equal(second, says(giver, "my offset .+, and there it says: ([^\n]+)"))
    assert.equal(#first + 1,
      tonumber(says(giver, "my offset in the letter is now (%d+), [^\n]+")))
  end)

  it("loses nothing that the client has sent", function()
    local server <close>, _, taker = start()
    local client <close> = server:connect()
    client:write "bob\nalong with the name, no end"
    assert.equal(("Process %d serves you now. It is bob."):format(taker), client:read())
    assert.equal("ALONG WITH THE NAME, NO END", client:read(27))
    client:write " here\n"
    assert.equal(" HERE", client:read())
    client:shutdown()
    assert.is_nil((client:read()))
  end)

  it("leaves nothing open in the giver, and in the taker the client", function()
    local server, giver, taker = start()
    local _ <close> = server
    local given, taken = proc.descriptors(giver), proc.descriptors(taker)
    local clients = {}
    for i = 1, 10 do
      clients[i] = server:connect()
      clients[i]:write("client ", i, "\n")
      assert.truthy(clients[i]:read():find("It is client " .. i, 1, true))
    end
    assert.eventually(function() return proc.descriptors(giver) == given end)
    assert.is_true(proc.descriptors(taker) >= taken + 10)
    for i, client in ipairs(clients) do
      client:write("still there, ", i, "\n")
      assert.equal("STILL THERE, " .. i, client:read())
      client:close()
    end
    assert.eventually(function() return proc.descriptors(taker) == taken end)
  end)

  it("lets its clients finish when it is stopped", function()
    local server <close> = start()
    local client = server:connect()
    client:write "eve\n"
    assert.truthy(client:read())
    server:kill "TERM"
    server:expect "SIGTERM: stopping"
    client:write "wait for me\n"
    assert.equal("WAIT FOR ME", client:read())
    client:close()
    assert.same({ "exit", 0 }, { server:wait() })
  end)

  it("closes a client whose name never comes", function()
    local server, giver = start()
    local _ <close> = server
    local given = proc.descriptors(giver)
    local client <close> = server:connect()
    client:shutdown()
    assert.is_nil((client:read()))
    assert.eventually(function() return proc.descriptors(giver) == given end)
    assert.is_nil(server.text:find "giving")
  end)
end)
