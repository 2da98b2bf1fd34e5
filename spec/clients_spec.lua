-- Clients that other people wrote, against the examples: each in its own way of using
-- HTTP, and by its own count of what went well. None may cost a worker or a descriptor,
-- or leave a word in the log.

local harness = require "server"
local lfs = require "lfs"

local shell = harness.shell

require "tidy" (before_each, after_each)

local HELLO = { app = "examples/hello/app.lua", workers = 2 }
local STREAM = { app = "examples/stream/app.lua", workers = 2 }
local STATIC = { app = "examples/static/app.lua", workers = 2 }
local API = { app = "examples/api/app.lua" }

-- What comes in goes out again, piece by piece, or is only counted; or nobody wants it.
local CONTENT = { workers = 2, script = [[
  local app = require("moonpool.http").app { body_limit = 1 << 30 }
  app:any("/echo", function(req, res)
    for piece in function() return req:read() end do
      if not res:write(piece) then return end
    end
  end)
  app:any("/count", function(req, res)
    local n = 0
    for piece in function() return req:read() end do n = n + #piece end
    res:send(req.method .. " " .. n .. "\n")
  end)
  app:any("/refuse", function(_, res) res:status(403):send "no\n" end)
  app:get("/ticks", function(_, res)
    while res:write "tick\n" do require("moonpool").sleep(0.01) end
  end)
  local piece = ("x"):rep(65536)
  app:get("/pieces/:n", function(req, res)
    for _ = 1, req.params.n do res:write(piece) end
  end)
  return app
]] }

-- Calls fn with the server's URL and its address.
local function serving(options, fn)
  harness.unharmed(options, function(server)
    fn("http://" .. server.address, server.address, server)
  end)
end

local function with_directory(fn)
  local directory = harness.directory()
  local ok, err = xpcall(fn, debug.traceback, directory)
  harness.remove(directory)
  if not ok then error(err, 0) end
end

-- n bytes in which no part is like another.
local function content(n)
  local list = {}
  for i = 1, n // 8 + 1 do list[i] = ("%07d\n"):format(i) end
  return table.concat(list):sub(1, n)
end

describe("curl", function()
  local OUTCOME = [[ -w '%{http_code} %{num_connects}\n' ]]

  it("keeps its connection, over a 404 too", function()
    serving(HELLO, function(url)
      assert.equal("Hello, ada!\n200 1\nNot Found\n404 0\nHello, bob!\n200 0\n",
        shell("curl -sS" .. OUTCOME .. "$1/hello/ada $1/none $1/hello/bob", url))
    end)
  end)

  it("asks for heads", function()
    serving(HELLO, function(url)
      local text = shell("curl -sSI" .. OUTCOME .. "$1/hello/ada $1/hello/bob", url)
      local first, second = text:match "^(.-\r\n)\r\n200 1\n(.-\r\n)\r\n200 0\n$"
      assert.matches("^HTTP/1.1 200 OK\r\n", first)
      assert.matches("\r\nContent%-Length: 12\r\n", first)
      assert.equal((first:gsub("Date: [^\r]+", "")), (second:gsub("Date: [^\r]+", "")))
    end)
  end)

  it("sends a form where none is wanted, and goes on", function()
    serving(HELLO, function(url)
      local text = shell("curl -sSi -d name=ada" .. OUTCOME .. "$1/ --next -sS"
        .. OUTCOME .. "$1/hello/ada", url)
      assert.matches("^HTTP/1.1 405 .*\r\nAllow: GET, HEAD\r\n", text)
      assert.matches("405 1\nHello, ada!\n200 0\n$", text)
    end)
  end)

  it("asks many things side by side", function()
    serving(HELLO, function(url)
      local text, seen = shell("curl -sSZ --parallel-immediate --parallel-max 50 "
        .. "$1/hello/[1-300]", url), {}
      for name in text:gmatch "Hello, (%d+)!\n" do seen[tonumber(name)] = true end
      assert.equal(300, #seen)
    end)
  end)

  it("speaks HTTP/1.0", function()
    serving(STREAM, function(url)
      assert.equal("tick 1\n200 1\ntick 1\n200 1\n",
        shell("curl -sS -0" .. OUTCOME .. "$1/ticks/1 $1/ticks/1", url))
    end)
    serving(HELLO, function(url)
      assert.equal("Hello, ada!\n200 1\nHello, bob!\n200 0\n",
        shell("curl -sS -0 -H 'Connection: keep-alive'" .. OUTCOME
          .. "$1/hello/ada $1/hello/bob", url))
    end)
  end)

  it("leaves in the middle of a stream", function()
    serving(CONTENT, function(url)
      assert.equal("tick\ntick\n", shell("curl -sN $1/ticks | head -n 2", url))
    end)
  end)

  it("sends much and reads it back meanwhile", function()
    with_directory(function(directory)
      harness.write_file(directory .. "/in", content(8 << 20))
      serving(CONTENT, function(url)
        for _, how in ipairs { "-T in", "-T - < in", "-X POST --data-binary @in" } do
          assert.equal("200 8388608\n", shell("cd $2; curl -sS -o out " .. how
            .. " -w '%{http_code} %{size_download}\\n' $1/echo && cmp in out",
            url, directory))
        end
      end)
    end)
  end)

  it("waits to be asked for a body, and is", function()
    with_directory(function(directory)
      harness.write_file(directory .. "/in", content(4 << 20))
      serving(CONTENT, function(url)
        local text = shell("curl -sSv -H 'Expect: 100-continue' --data-binary @$2/in "
          .. "--expect100-timeout 10 -m 5 $1/count", url, directory)
        assert.matches("\n< HTTP/1.1 100 Continue\r\n.*\n< HTTP/1.1 200 OK\r\n", text)
        assert.matches("\nPOST 4194304\n", text)
      end)
    end)
  end)

  it("waits to be asked for a body that nobody wants, and does not send it", function()
    with_directory(function(directory)
      harness.write_file(directory .. "/in", content(4 << 20))
      serving(CONTENT, function(url)
        assert.equal("no\n403 0\n", shell("curl -sS -H 'Expect: 100-continue' -T $2/in "
          .. "--expect100-timeout 10 -m 5 -w '%{http_code} %{size_upload}\\n' $1/refuse",
          url, directory))
      end)
    end)
  end)

  it("sees why it is refused while it sends", function()
    with_directory(function(directory)
      harness.write_file(directory .. "/in", content(8 << 20))
      serving(CONTENT, function(url)
        for _ = 1, 5 do
          assert.equal("no\n403\n", shell("curl -sS -H Expect: -T $2/in "
            .. "-w '%{http_code}\\n' $1/refuse", url, directory))
        end
      end)
    end)
  end)
end)

describe("a gigabyte", function()
  local MOST = harness.is_sanitized and 64 << 20 or 32 << 20 -- bytes of a worker

  local function check(command, answer)
    -- A sanitizer keeps what is freed; for once it shall not.
    local env = { "ASAN_OPTIONS=detect_leaks=1:quarantine_size_mb=1" }
    serving({ script = CONTENT.script, workers = 2, env = env }, function(url, _, server)
      assert.equal(answer, shell(command, url))
      for _, pid in ipairs(server:workers()) do
        assert.is_true(harness.peak_memory(pid) < MOST, harness.peak_memory(pid))
      end
    end)
  end

  it("is sent piece by piece, in little memory", function()
    check("curl -sS -o /dev/null -w '%{size_download}\n' $1/pieces/16384", "1073741824\n")
  end)

  it("comes piece by piece, in little memory", function()
    check("head -c 1G /dev/zero | curl -sS -T - $1/count", "PUT 1073741824\n")
  end)
end)

describe("Python's http.client", function()
  local script = [[
import http.client, sys

conn = http.client.HTTPConnection(sys.argv[1], timeout=10)

def ask(*request, **more):
    conn.request(*request, **more)
    port = conn.sock.getsockname()[1]
    answer = conn.getresponse()
    print(answer.status, answer.getheader("Content-Length"), answer.read(), end=" ")
    return port

def same(ports):
    print("on", len(set(ports)))
]]

  local function python(url, text)
    return shell('/usr/bin/python3 -c "$2" "$1"', url, script .. text)
  end

  it("keeps its connection over HEAD, 404 and 405", function()
    serving(HELLO, function(_, address)
      assert.equal("200 12 b'Hello, ada!\\n' 200 12 b'' 404 10 b'Not Found\\n' "
        .. "405 19 b'Method Not Allowed\\n' 200 12 b'Hello, bob!\\n' on 1\n",
        python(address, [[
same([ask("GET", "/hello/ada"), ask("HEAD", "/hello/ada"), ask("GET", "/none"),
      ask("POST", "/", body="x=1"), ask("GET", "/hello/bob")])]]))
    end)
  end)

  it("sends chunks, and what has a length, on one connection", function()
    serving(CONTENT, function(_, address)
      assert.equal("200 12 b'POST 300000\\n' 200 11 b'PUT 100000\\n' 200 7 b'POST 0\\n' "
        .. "200 None b'Hello, world' on 1\n", python(address, [[
pieces = lambda: (b"x" * 1000 for _ in range(300))
same([ask("POST", "/count", body=pieces(), encode_chunked=True,
          headers={"Transfer-Encoding": "chunked"}),
      ask("PUT", "/count", body=b"x" * 100000),
      ask("POST", "/count", body=iter([]), encode_chunked=True),
      ask("POST", "/echo", body=iter([b"Hello, ", b"world"]))])]]))
    end)
  end)

  it("makes, changes and deletes what an API has", function()
    serving(API, function(_, address)
      assert.equal("201 /notes/1 Milk\n200 None Bread\n422 None None\n204 None None\n"
        .. "404 None None\n", python(address, [[
import json
def call(method, path, value=None):
    conn.request(method, path, body=value and json.dumps(value),
                 headers={"Content-Type": "application/json"})
    answer = conn.getresponse()
    text = answer.read()
    print(answer.status, answer.getheader("Location"),
          json.loads(text).get("title") if answer.status < 204 else None)

call("POST", "/notes", {"title": "Milk"})
call("PUT", "/notes/1", {"title": "Bread"})
call("PUT", "/notes/1", {"title": 7})
call("DELETE", "/notes/1")
call("GET", "/notes/1")]]))
    end)
  end)

  it("reads a stream as it comes", function()
    serving(STREAM, function(_, address)
      assert.equal("b'tick 1\\n' b'tick 2\\n' b''\n", python(address, [[
conn.request("GET", "/ticks/2")
answer = conn.getresponse()
print(answer.readline(), answer.read1(), answer.read())]]))
    end)
  end)
end)

describe("Node", function()
  local function node(url, script)
    return shell('node --input-type=module -e "$2" "$1"', url, script)
  end

  it("fetches on one connection, over HEAD and 404", function()
    serving(HELLO, function(url)
      assert.equal("200 12 Hello, ada!\n200 12 404 10 Not Found\n200 12 Hello, bob!\n",
        node(url, [[
          const ask = async (path, options) => {
            const answer = await fetch(process.argv[1] + path, options)
            const length = answer.headers.get('content-length')
            process.stdout.write(`${answer.status} ${length} ${await answer.text()}`)
          }
          await ask('/hello/ada')
          await ask('/hello/ada', { method: 'HEAD' })
          await ask('/none')
          await ask('/hello/bob')
        ]]))
    end)
  end)

  it("fetches many things side by side", function()
    serving(HELLO, function(url)
      local names = {}
      for i = 1, 300 do names[i] = ("Hello, %d!\n"):format(i) end
      assert.equal(table.concat(names), node(url, [[
        const ask = async i => (await fetch(`${process.argv[1]}/hello/${i}`)).text()
        const answers = Array.from({ length: 300 }, (_, i) => ask(i + 1))
        process.stdout.write((await Promise.all(answers)).join(''))
      ]]))
    end)
  end)

  it("sends a stream and reads one, and leaves another", function()
    serving(CONTENT, function(url)
      assert.equal("POST 3000000\n3000000\n", node(url, [[
        const stream = () => {
          let n = 0
          return new ReadableStream({
            pull(to) { ++n > 300 ? to.close() : to.enqueue(new Uint8Array(10000)) }
          })
        }
        const send = path => fetch(process.argv[1] + path,
          { method: 'POST', body: stream(), duplex: 'half' })
        process.stdout.write(await (await send('/count')).text())
        let n = 0
        for await (const piece of (await send('/echo')).body) n += piece.length
        console.log(n)
      ]]))
    end)
    serving(CONTENT, function(url)
      assert.equal("tick\nAbortError\n", node(url, [[
        const control = new AbortController()
        const answer = await fetch(process.argv[1] + '/ticks', { signal: control.signal })
        try {
          for await (const piece of answer.body) {
            process.stdout.write(piece.slice(0, 5)) // several may have come
            control.abort()
          }
        } catch (err) { console.log(err.name) }
      ]]))
    end)
  end)

  it("uploads files as a form, and gets them back", function()
    with_directory(function(directory)
      serving({ app = "examples/upload/app.lua", workers = 2,
          env = { "UPLOAD_ROOT=" .. directory } }, function(url)
        assert.equal("201 one.bin 3000000 two.txt 5\n3000000 true hello\n", node(url, [[
          const form = new FormData()
          const bytes = new Uint8Array(3000000).map((_, i) => i % 251)
          form.append('file', new Blob([bytes]), 'one.bin')
          form.append('file', new Blob(['hello']), 'two.txt')
          const answer = await fetch(process.argv[1] + '/files',
            { method: 'POST', body: form })
          const [one, two] = (await answer.json()).files
          console.log(answer.status, one.name, one.size, two.name, two.size)
          const read = file => fetch(process.argv[1] + file.url)
          const again = new Uint8Array(await (await read(one)).arrayBuffer())
          console.log(again.length, again.every((byte, i) => byte === i % 251),
            await (await read(two)).text())
        ]]))
      end)
    end)
  end)

  it("has an agent that keeps connections", function()
    serving(HELLO, function(url)
      assert.equal("Hello, 1!\nfalse\nHello, 2!\ntrue\nHello, 3!\ntrue\n", node(url, [[
        import http from 'node:http'
        const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
        const ask = i => new Promise((resolve, reject) => {
          const req = http.get(`${process.argv[1]}/hello/${i}`, { agent }, res => {
            res.pipe(process.stdout, { end: false })
            res.on('end', () => { console.log(req.reusedSocket); resolve() })
          })
          req.on('error', reject)
        })
        for (let i = 1; i <= 3; i++) await ask(i)
        agent.destroy()
      ]]))
    end)
  end)
end)

describe("wrk", function()
  -- wrk counts what is no 2xx; that it is the right text it must be told to look at.
  local script = [[
    local threads = {}
    wrong = 0
    function setup(thread) threads[#threads + 1] = thread end
    function response(status, headers, body)
      if body ~= "Hello, ada!\n" then wrong = wrong + 1 end
    end
    function done(summary)
      local n = 0
      for _, thread in ipairs(threads) do n = n + thread:get "wrong" end
      print(summary.requests > 100 and "many" or summary.requests, n .. " wrong")
    end
  ]]

  it("finds each answer right", function()
    with_directory(function(directory)
      harness.write_file(directory .. "/look.lua", script)
      serving(HELLO, function(url)
        local text = shell("wrk -t2 -c50 -d1s -s $2/look.lua $1/hello/ada", url,
          directory)
        assert.matches("\nmany\t0 wrong\n$", text)
        assert.not_matches("Socket errors", text)
        assert.not_matches("Non%-2xx", text)
      end)
    end)
  end)
end)

describe("ab", function()
  local function check(text, n, length)
    assert.matches(("\nComplete requests: +%d\nFailed requests: +0\n"):format(n), text)
    assert.matches(("\nHTML transferred: +%d bytes\n"):format(n * length), text)
    assert.not_matches("Non%-2xx", text)
  end

  it("has a connection for each request", function()
    serving(HELLO, function(url)
      check(shell("ab -q -n 1000 -c 50 $1/hello/ada", url), 1000, 12)
    end)
  end)

  it("keeps connections, in HTTP/1.0", function()
    serving(HELLO, function(url)
      local text = shell("ab -q -k -n 3000 -c 50 $1/hello/ada", url)
      check(text, 3000, 12)
      assert.matches("\nKeep%-Alive requests: +3000\n", text)
    end)
  end)

  it("posts", function()
    with_directory(function(directory)
      harness.write_file(directory .. "/in", content(20000))
      serving(CONTENT, function(url)
        check(shell("ab -q -k -n 500 -c 20 -p $2/in $1/count", url, directory), 500,
          #"POST 20000\n")
      end)
    end)
  end)
end)

describe("h2load --h1", function()
  local function check(text, n, length)
    assert.matches(("\nrequests: N total, N started, N done, N succeeded, 0 failed, "
      .. "0 errored, 0 timeout\nstatus codes: N 2xx, "):gsub("N", n), text)
    assert.matches(("%%(%d%%) data\n"):format(n * length), text)
  end

  it("asks many times on each connection", function()
    serving(HELLO, function(url)
      check(shell("h2load --h1 -n 3000 -c 50 $1/hello/ada", url), 3000, 12)
    end)
  end)

  it("asks for several files in turn", function()
    local bytes = 0
    for _, name in ipairs { "index.html", "moon.svg", "style.css" } do
      bytes = bytes + lfs.attributes("examples/static/public/" .. name).size
    end
    serving(STATIC, function(url)
      check(shell("h2load --h1 -n 3000 -c 20 -m 5 $1/ $1/moon.svg $1/style.css", url),
        3000, bytes / 3)
    end)
  end)

  it("asks before it has its answers", function()
    serving(HELLO, function(url)
      check(shell("h2load --h1 -n 5000 -c 10 -m 100 $1/hello/ada", url), 5000, 12)
    end)
  end)

  it("posts", function()
    with_directory(function(directory)
      harness.write_file(directory .. "/in", content(100000))
      serving(CONTENT, function(url)
        check(shell("h2load --h1 -n 300 -c 10 -d $2/in $1/count", url, directory), 300,
          #"POST 100000\n")
      end)
    end)
  end)
end)
