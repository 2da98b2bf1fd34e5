-- WebSocket clients that other people wrote: the ws package of Node, and Python's
-- websockets. Each talks in its own way, compressed and not, and counts what went well.

local harness = require "server"

local shell = harness.shell

require "tidy" (before_each, after_each)

local SCRIPT = [[
  local app = require("moonpool.http").app()
  local function echo(ws)
    for message, kind in ws:messages() do ws:send(message, kind) end
  end
  app:websocket("/echo", echo)
  app:websocket("/packed", { serve = echo, compress = true, protocols = { "v1" } })
  app:websocket("/short", { serve = echo, message_limit = 1000 })
  app:websocket("/close", function(ws) ws:close(4001, "on purpose") end)
  return app
]]

local function node(server, text)
  return shell("NODE_PATH=/usr/share/nodejs URL=$1 node -e \"$2\"",
    "ws://" .. server.address, text)
end

local function python(server, text)
  return shell("URL=$1 /usr/bin/python3 -c \"$2\"", "ws://" .. server.address, text)
end

local SIZES = "0, 1, 125, 126, 127, 65535, 65536, 1000000"

describe("Node's ws", function()
  it("gets back what it has sent, of all lengths, compressed or not", function()
    harness.unharmed({ script = SCRIPT, workers = 2 }, function(server)
      local text = node(server, [[
        const WebSocket = require('ws');
        for (const path of ['/echo', '/packed']) {
          const sizes = []] .. SIZES .. [[];
          const socket = new WebSocket(process.env.URL + path,
            path === '/packed' ? ['v0', 'v1'] : [], { perMessageDeflate: true });
          const next = () => sizes.length ? socket.send(Buffer.alloc(sizes[0], 'x'),
            { binary: sizes[0] % 2 === 0 }) : socket.close(1000, 'done');
          socket.on('open', next);
          socket.on('message', (data, isBinary) => {
            const size = sizes.shift();
            if (data.length !== size || isBinary !== (size % 2 === 0)) process.exit(1);
            next();
          });
          socket.on('close', (code, reason) => {
            console.log(path, code, socket.extensions.split(';')[0], socket.protocol);
          });
        }
      ]])
      assert.matches("/echo 1000  \n", text, 1, true)
      assert.matches("/packed 1000 permessage-deflate v1\n", text, 1, true)
    end)
  end)

  it("is told codes and reasons, and has its pings answered", function()
    harness.unharmed({ script = SCRIPT }, function(server)
      local text = node(server, [[
        const WebSocket = require('ws');
        const report = (socket, name) => socket.on('close', (code, reason) =>
          console.log(name, code, String(reason)));
        report(new WebSocket(process.env.URL + '/close'), 'closed');
        const long = new WebSocket(process.env.URL + '/short');
        report(long, 'long');
        long.on('open', () => long.send('x'.repeat(1001)));
        const pinged = new WebSocket(process.env.URL + '/echo');
        pinged.on('open', () => pinged.ping('hello'));
        pinged.on('pong', (data) => {
          console.log('pong', String(data));
          pinged.close();
        });
      ]])
      assert.matches("closed 4001 on purpose\n", text, 1, true)
      assert.matches("long 1009 ", text, 1, true)
      assert.matches("pong hello\n", text, 1, true)
    end)
  end)

  it("does not see that its worker is killed", function()
    local server <close> = harness.run { script = SCRIPT, args = { "--survive" } }
    local text = node(server, ([[
      const WebSocket = require('ws');
      const fs = require('fs');
      const socket = new WebSocket(process.env.URL + '/echo');
      const kill = () => {
        const pids = fs.readFileSync('/proc/%d/task/%d/children', 'utf8').trim();
        for (const pid of pids.split(' ')) process.kill(Number(pid), 'SIGKILL');
      };
      let count = 0;
      socket.on('open', () => socket.send('0'));
      socket.on('message', (data) => {
        if (++count === 4) return socket.close();
        kill();
        setTimeout(() => socket.send(String(count)), 20);
      });
      socket.on('close', (code) => console.log('echoed', count, 'closed', code));
    ]]):format(server.pid, server.pid))
    assert.equal("echoed 4 closed 1005\n", text)
  end)
end)

describe("Python's websockets", function()
  it("gets back what it has sent, of all lengths, compressed or not", function()
    harness.unharmed({ script = SCRIPT, workers = 2 }, function(server)
      local text = python(server, [[
import asyncio, os, websockets

async def talk(path, compression):
    url = os.environ['URL'] + path
    async with websockets.connect(url, compression=compression) as socket:
        for size in []] .. SIZES .. [[]:
            await socket.send('y' * size)
            assert await socket.recv() == 'y' * size
            await socket.send(b'\x00' * size)
            assert await socket.recv() == b'\x00' * size
        await socket.send(['frag', 'men', 'ted'])
        assert await socket.recv() == 'fragmented'
        await (await socket.ping())
        print(path, [e.name for e in socket.extensions])

asyncio.run(talk('/echo', None))
asyncio.run(talk('/packed', 'deflate'))
      ]])
      assert.equal("/echo []\n/packed ['permessage-deflate']\n", text)
    end)
  end)

  it("is told codes and reasons", function()
    harness.unharmed({ script = SCRIPT }, function(server)
      local text = python(server, [[
import asyncio, os, websockets

async def see(path, message):
    async with websockets.connect(os.environ['URL'] + path) as socket:
        try:
            await socket.send(message)
            await socket.recv()
        except websockets.ConnectionClosed as error:
            print(error.rcvd.code, error.rcvd.reason)

asyncio.run(see('/close', 'x'))
asyncio.run(see('/short', 'x' * 1001))
      ]])
      assert.equal("4001 on purpose\n1009 a frame that is too long\n", text)
    end)
  end)

  it("is one of a hundred, whose workers are killed", function()
    local server <close> = harness.run { script = SCRIPT, args = { "--survive" },
      workers = 2 }
    local pids = {}
    for _, pid in pairs(server:workers()) do pids[#pids + 1] = tostring(pid) end
    local text = python(server, ([[
import asyncio, os, signal, websockets

async def main():
    sockets = [await websockets.connect(os.environ['URL'] + '/echo') for _ in range(100)]
    for pid in [%s]:
        os.kill(pid, signal.SIGKILL)
    for i, socket in enumerate(sockets):
        await socket.send(str(i))
    got = [await socket.recv() for socket in sockets]
    print(got == [str(i) for i in range(100)])
    for socket in sockets:
        await socket.close()

asyncio.run(main())
    ]]):format(table.concat(pids, ", ")))
    assert.equal("True\n", text)
  end)
end)
