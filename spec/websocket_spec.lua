-- WebSockets of applications: the handshake, messages in both directions, the end.

local http = require "moonpool.http"
local moonpool = require "moonpool"
local test = require "moonpool.test"
local vectors = require "ws_vectors"
local ws_client = require "ws_client"

local function echo(ws)
  for message, kind in ws:messages() do ws:send(message, kind) end
end

-- An app with one route, "/", and whatever else it is given.
local function app_of(handler)
  local app = http.app()
  app:websocket("/", handler)
  return app
end

local function open(handler, path, fields)
  return ws_client.open(test.connect(app_of(handler)), path or "/", fields)
end

describe("the handshake", function()
  require "tidy" (before_each, after_each)

  local function ask(fields, handler)
    local client <close> = test.connect(app_of(handler or echo))
    return ws_client.ask(client, "/", fields)
  end

  it("is answered as RFC 6455 1.3 has it", function()
    local status, fields = ask()
    assert.equal(101, status)
    assert.equal("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", fields["sec-websocket-accept"])
    assert.equal("websocket", fields.upgrade:lower())
    assert.equal("upgrade", fields.connection:lower())
    assert.is_nil(fields["sec-websocket-protocol"])
    assert.is_nil(fields["sec-websocket-extensions"])
  end)

  it("takes names and tokens in any case, 4.2.1", function()
    for _, fields in ipairs { { Upgrade = "WebSocket" }, { Upgrade = "h2c, websocket" },
      { Connection = "keep-alive, Upgrade" }, { Connection = "UPGRADE" },
      { Connection = "x,upgrade,y" } } do
      assert.equal(101, (ask(fields)))
    end
  end)

  it("is 426 without an upgrade to WebSocket, 4.2.2", function()
    for _, fields in ipairs { { Upgrade = false }, { Upgrade = "h2c" },
      { Upgrade = "websockets" }, { Connection = false }, { Connection = "keep-alive" },
      { Connection = "notupgrade" } } do
      local status, got = ask(fields)
      assert.equal(426, status)
      assert.equal("websocket", got.upgrade)
      assert.equal("13", got["sec-websocket-version"])
    end
  end)

  it("is 426 with the version that there is, 4.4", function()
    for _, version in ipairs { false, "8", "7", "14", "013", "13, 8", "x" } do
      local status, got = ask { ["Sec-WebSocket-Version"] = version }
      assert.equal(426, status)
      assert.equal("13", got["sec-websocket-version"])
    end
  end)

  it("is 400 without a key of 16 bytes, 4.2.1", function()
    for _, key in ipairs { false, "", "x", "dGhlIHNhbXBsZSBub25jZQ=",
      "AAAAAAAAAAAAAAAAAAAAAA",
      "dGhlIHNhbXBsZSBub25jZR==", "dGhlIHNhbXBsZSBub25jZQ===", "dGhlIHNhbXBsZSBub25*ZQ==",
      "dGhlIHNhbXBsZSBub25jZWRkZGQ=" } do
      assert.equal(400, (ask { ["Sec-WebSocket-Key"] = key }), key)
    end
    assert.equal(400, (ask { ["Sec-WebSocket-Key"] =
      "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==" }))
  end)

  it("is GET's alone, 4.1", function()
    for _, method in ipairs { "POST", "PUT", "DELETE" } do
      local status, got = ask { method = method }
      assert.equal(405, status)
      assert.matches("GET", got.allow)
    end
  end)

  it("is not HTTP/1.0's, 4.1", function()
    local client <close> = test.connect(app_of(echo))
    client:write("GET / HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade",
      "\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
      "\r\n\r\n")
    assert.matches("^HTTP/1.1 426 ", client:read "l")
  end)

  it("is refused to a page of elsewhere, 10.2", function()
    for origin, status in pairs {
      ["http://spec"] = 101, ["https://spec"] = 101, ["http://SPEC"] = 101,
      ["http://other"] = 403, ["http://spec:8080"] = 403, ["http://spec.example"] = 403,
      ["null"] = 403, [""] = 403,
    } do
      assert.equal(status, (ask { Origin = origin }), origin)
    end
  end)

  it("has the origins that it is told", function()
    local function status(origins, origin)
      return (ask({ Origin = origin }, { serve = echo, origins = origins }))
    end
    assert.equal(101, status("*", "http://other"))
    assert.equal(101, status("https://a.example", "https://A.example"))
    assert.equal(403, status("https://a.example", "http://spec"))
    assert.equal(101, status({ "https://a.example", "https://b.example" },
      "https://b.example"))
    assert.equal(403, status({ "https://a.example" }, "https://b.example"))
    local function by_host(origin, req) return origin == "x://" .. req.host end
    assert.equal(101, status(by_host, "x://spec"))
    assert.equal(403, status(by_host, "http://spec"))
  end)

  it("chooses the subprotocol that is best here, 1.9", function()
    local function chosen(offered, ours)
      local status, fields = ask({ ["Sec-WebSocket-Protocol"] = offered },
        { serve = echo, protocols = ours })
      return status == 101 and fields["sec-websocket-protocol"] or status
    end
    assert.equal("b", chosen("a, b", { "b", "a" }))
    assert.equal("a", chosen("a", { "b", "a" }))
    assert.equal("a", chosen(" x ,a,\ty", { "a" }))
    assert.equal("a", chosen("b\r\nSec-WebSocket-Protocol: a", { "a" }))
    assert.equal(101, chosen("x, y", { "a" }))
    assert.equal(101, chosen("A", { "a" }))
    assert.equal(101, chosen("a, b", nil))
    assert.equal(101, chosen(false, { "a" }))
    assert.equal(400, chosen("a b", { "a" }))
    assert.equal(400, chosen("a, (b)", { "a" }))
  end)

  it("agrees on compression where both want it, RFC 7692 7.1", function()
    local plain = "permessage-deflate; server_no_context_takeover; "
      .. "client_no_context_takeover"
    for offer, agreed in pairs {
      ["permessage-deflate"] = plain,
      ["permessage-deflate; client_max_window_bits"] = plain,
      ["permessage-deflate; client_max_window_bits=8"] = plain,
      [plain] = plain,
      ["permessage-deflate;server_max_window_bits=15"] =
        plain .. "; server_max_window_bits=15",
      ["x-other, permessage-deflate"] = plain,
      ["permessage-deflate; server_max_window_bits=10, permessage-deflate"] = plain,
      ["permessage-deflate; server_max_window_bits=10"] = false,
      ["permessage-deflate; client_max_window_bits=7"] = false,
      ["permessage-deflate; client_max_window_bits=16"] = false,
      ["permessage-deflate; server_no_context_takeover=1"] = false,
      ["permessage-deflate; unknown"] = false,
      ["permessage-deflate; client_max_window_bits; client_max_window_bits"] = false,
      ["permessage-deflated"] = false,
      ["x-webkit-deflate-frame"] = false,
    } do
      local fields = { ["Sec-WebSocket-Extensions"] = offer }
      local _, got = ask(fields, { serve = echo, compress = true })
      assert.equal(agreed or nil, got["sec-websocket-extensions"], offer)
      assert.is_nil(select(2, ask(fields, echo))["sec-websocket-extensions"])
    end
  end)

  it("can be answered otherwise by open", function()
    local handler = { serve = echo, open = function(req, res)
      if req:args().answer then res:error(401, "who are you?") end
      return req:args().state and {}
    end }
    local function status(query)
      local client <close> = test.connect(app_of(handler))
      return (ws_client.ask(client, "/?" .. query))
    end
    assert.equal(401, status "answer=1")
    assert.equal(403, status "")
    assert.equal(101, status "state=1")
  end)

  it("leaves the connection to HTTP where it fails", function()
    local app = app_of(echo)
    app:get("/hello", function(_, res) res:send "hello" end)
    local client <close> = test.connect(app)
    assert.equal(426, (ws_client.ask(client, "/", { Upgrade = false })))
    client:read(#"this is a WebSocket: ask for an upgrade (RFC 6455 4.1)\n")
    client:write "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
    assert.matches("200", client:read "l")
  end)

  it("refuses options that there are not", function()
    local app = http.app()
    for sentence, bad in pairs {
      ["there is no option sevre"] = { sevre = echo },
      ["serve, a function, is needed"] = {},
      ["serve must be a function"] = { serve = 1 },
      ["idle: out of range"] = { serve = echo, idle = -1 },
    } do
      local ok, err = pcall(app.websocket, app, "/", bad)
      assert.is_false(ok)
      assert.matches(sentence, err, 1, true)
    end
  end)
end)

describe("a WebSocket", function()
  require "tidy" (before_each, after_each)

  it("echoes", function()
    local ws <close> = open(echo)
    ws:send "hello"
    assert.same({ "hello", "text" }, { ws:receive() })
    ws:binary "\xff\0"
    assert.same({ "\xff\0", "binary" }, { ws:receive() })
  end)

  it("has what came with the handshake", function()
    local client <close> = test.connect(app_of(echo))
    client:write("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n",
      "Connection: upgrade\r\nSec-WebSocket-Version: 13\r\n",
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", vectors.text "early")
    repeat until client:read "l" == ""
    assert.equal("early", (ws_client.around(client):receive()))
  end)

  it("takes and sends messages of all lengths", function()
    local ws <close> = open(echo)
    for _, length in ipairs { 0, 1, 125, 126, 127, 65535, 65536, 300000 } do
      local message = ("x"):rep(length)
      ws:send(message)
      assert.equal(message, (ws:receive()))
    end
  end)

  it("has params, the query and the subprotocol in its state", function()
    local app = http.app()
    app:websocket("/room/:name", { protocols = { "v1" }, serve = function(ws, state)
      ws:send(table.concat({ state.params.name, state.args.as, state.protocol }, " "))
    end })
    local ws <close> = ws_client.open(test.connect(app), "/room/a%20b?as=ada",
      { ["Sec-WebSocket-Protocol"] = "v1" })
    assert.equal("a b ada v1", (ws:receive()))
  end)

  it("has an empty query in its state, and no params where the path has none", function()
    local ws <close> = open(function(ws, state)
      ws:send(("%s %s"):format(state.params, next(state.args)))
    end)
    assert.equal("nil nil", (ws:receive()))
  end)

  it("is told what is wrong with its state where it asks for a message", function()
    local ws <close> = open(function(ws, state)
      for _, bad in ipairs { ("x"):rep(65536), print } do
        state.bad = bad
        ws:send(select(2, pcall(ws.receive, ws)))
      end
      state.bad = nil
      ws:send((ws:receive()))
    end)
    assert.equal("the state.bad makes it more than 65536 bytes", (ws:receive()))
    assert.equal("the state.bad is a function", (ws:receive()))
    ws:send "fine"
    assert.equal("fine", (ws:receive()))
  end)

  it("has the state that open has made", function()
    local ws <close> = open { open = function(req) return { req.path } end,
      serve = function(ws, state, why)
        ws:send(state[1] .. " " .. tostring(why) .. " " .. tostring(ws:state() == state))
      end }
    assert.equal("/ nil true", (ws:receive()))
  end)

  it("answers pings while nobody receives, 5.5.2", function()
    local ws <close> = open(function(ws) moonpool.sleep(1000) echo(ws) end)
    for i = 1, 3 do
      ws:ping("p" .. i)
      assert.same({ "p" .. i, "pong", false }, { ws:frame() })
    end
    ws:close()
    test.advance(1000)
  end)

  it("answers pings between fragments, 5.4", function()
    local ws <close> = open(echo)
    ws:write(vectors.first "Hel", vectors.ping "?")
    assert.same({ "?", "pong", false }, { ws:frame() })
    ws:write(vectors.last "lo")
    assert.equal("Hello", (ws:receive()))
  end)

  it("leaves messages to who receives, and answers pings before them", function()
    local go
    local ws <close> = open(function(ws)
      go = require "moonpool.core".task.current()
      require "moonpool.core".task.park()
      echo(ws)
    end)
    ws:write(vectors.ping "1", vectors.text "a", vectors.ping "2", vectors.text "b")
    assert.same({ "1", "pong", false }, { ws:frame() })
    go:unpark()
    test.settle()
    assert.same({ "a", "text", false }, { ws:frame() })
    assert.same({ "2", "pong", false }, { ws:frame() })
    assert.same({ "b", "text", false }, { ws:frame() })
  end)

  it("receives within a time", function()
    local got
    local ws <close> = open(function(ws)
      got = { ws:receive(5) }
      echo(ws)
    end)
    test.advance(4.9)
    assert.is_nil(got)
    test.advance(0.2)
    assert.same({ nil, "timeout", "ETIMEDOUT" }, got)
    ws:send "still here"
    assert.equal("still here", (ws:receive()))
  end)

  it("keeps half a message over a time that is over", function()
    local got
    local ws <close> = open(function(ws)
      repeat got = { ws:receive(5) } until got[1]
      ws:send(got[1])
    end)
    ws:write(vectors.first "Hel")
    test.advance(12)
    ws:write(vectors.last "lo")
    assert.equal("Hello", (ws:receive()))
  end)

  it("is received by one task at a time", function()
    local failure
    local ws <close> = open(function(ws)
      moonpool.spawn(function() failure = select(2, pcall(ws.receive, ws)) end)
      ws:receive()
    end)
    assert.matches("another task is receiving", failure)
    ws:close()
  end)

  it("refuses what is wrong use", function()
    local failures = {}
    local ws <close> = open(function(ws)
      for i, fn in ipairs {
        function() ws:send "\xff" end, function() ws:send("x", "blob") end,
        function() ws:send {} end, function() ws:close(1005) end,
        function() ws:close(1000, ("x"):rep(124)) end,
        function() ws:close(1000, "\xff") end,
        function() ws:ping(("x"):rep(126)) end, function() ws:receive(-1) end,
        function() ws.send({}, "x") end,
      } do
        failures[i] = not pcall(fn)
      end
    end)
    assert.is_nil((ws:receive()))
    assert.same({ true, true, true, true, true, true, true, true, true }, failures)
  end)

  it("is one frame for many", function()
    local frame = require("moonpool.websocket").frame
    local ws <close> = open(function(ws)
      ws:put(frame "text")
      ws:put(frame("\xff", "binary"))
      assert(not pcall(frame, "\xff"))
    end)
    assert.same({ "text", "text", false }, { ws:frame() })
    assert.same({ "\xff", "binary", false }, { ws:frame() })
  end)
end)

describe("the end of a WebSocket", function()
  require "tidy" (before_each, after_each)

  it("is 1000 when the handler returns, and 1011 when it fails", function()
    local ws <close> = open(function() end)
    assert.same({ nil, 1000, "" }, { ws:receive() })
    ws:close(1000)
    assert.is_true(ws:is_over())
    local failing <close> = open(function() error "on purpose" end)
    assert.same({ nil, 1011, "" }, { failing:receive() })
    failing:close(1011)
    assert.is_true(failing:is_over())
  end)

  it("has a code and a reason", function()
    local ws <close> = open(function(ws) ws:close(4001, "ciào") end)
    assert.same({ nil, 4001, "ciào" }, { ws:receive() })
  end)

  it("is answered with the same code, and the handler is told, 5.5.1", function()
    local got
    local ws <close> = open(function(ws)
      got = { ws:receive() }
      got.closed = { ws:closed() }
      got.send = { ws:send "x" }
    end)
    ws:close(4002, "bye")
    assert.same({ nil, 4002, "" }, { ws:receive() })
    assert.is_true(ws:is_over())
    assert.same({ nil, "closed", "EOF", closed = { 4002, "bye" },
      send = { nil, "closed", "EOF" } }, got)
  end)

  it("is answered without a code, where it has none, 7.1.5", function()
    local got
    local ws <close> = open(function(ws) ws:receive() got = { ws:closed() } end)
    ws:close()
    assert.same({ nil, 1005, "" }, { ws:receive() })
    assert.same({ 1005, "" }, got)
  end)

  it("ends messages(), and the handler goes on", function()
    local after
    local ws <close> = open(function(ws) echo(ws) after = ws:closed() end)
    ws:close(1001)
    assert.equal(1001, after)
  end)

  it("waits for the client's Close frame, but not for ever, 7.1.1", function()
    local ws <close> = open(function(ws) ws:close(1000) end)
    assert.same({ nil, 1000, "" }, { ws:receive() })
    ws:send "something that was on its way"
    test.advance(4.9)
    ws:ping "x"
    test.advance(0.2)
    ws:ping "y"
    test.settle()
    assert.is_true(ws:is_over())
  end)

  it("is over for a client that says nothing after it", function()
    local ws <close> = open(function(ws) ws:close(1000) end)
    assert.same({ nil, 1000, "" }, { ws:receive() })
    test.advance(5.1)
    assert.is_true(ws:is_over())
  end)

  it("is ECONNRESET where the client goes without a word, 7.1.5", function()
    local got
    local ws <close> = open(function(ws) got = { ws:receive() } got[4] = ws:closed() end)
    ws.client:close()
    test.settle()
    assert.same({ nil, "the client has gone", "ECONNRESET", 1006 }, got)
  end)

  it("is told to who sends while the client goes", function()
    local got
    local ws <close> = open(function(ws)
      repeat got = table.pack(ws:send(("x"):rep(10000))) until not got[1]
    end)
    ws.client:close()
    test.advance(1)
    assert.is_nil(got[1])
    assert.is_string(got[3])
  end)

  it("is told to who waits in another task", function()
    local got
    local ws <close> = open(function(ws)
      moonpool.spawn(function() got = { ws:receive() } end)
      moonpool.sleep(1)
      ws:close()
      moonpool.sleep(1)
    end)
    test.advance(2)
    assert.equal("ECANCELED", got[3])
    ws:close()
  end)

  it("comes after two silences, of which the first is asked about", function()
    local got
    local ws <close> = open { idle = 10, serve = function(ws) got = { ws:receive() } end }
    test.advance(10.1)
    assert.same({ "", "ping", false }, { ws:frame() })
    ws:write(vectors.pong "")
    test.advance(10.1)
    assert.same({ "", "ping", false }, { ws:frame() })
    assert.is_nil(got)
    test.advance(10.1)
    assert.same({ nil, "the client is silent", "ETIMEDOUT" }, got)
    assert.is_true(ws:is_over())
  end)

  it("does not come because the handler is slow", function()
    local ws <close> = open { idle = 10, serve = function(ws)
      moonpool.sleep(100)
      echo(ws)
    end }
    ws:send "hello"
    test.advance(101)
    assert.equal("hello", (ws:receive()))
  end)

  it("is 1009 for a message that is too long", function()
    local ws <close> = open { message_limit = 10, serve = echo }
    ws:send(("x"):rep(10))
    assert.equal(("x"):rep(10), (ws:receive()))
    ws:send(("x"):rep(11))
    assert.equal(1009, (select(2, ws:receive())))
    assert.is_true(ws:is_over())
  end)
end)

describe("a compressed message", function()
  require "tidy" (before_each, after_each)

  local frame, pack = vectors.frame, vectors.pack

  local function open_packed(options)
    local handler = { serve = echo, compress = true }
    for name, value in pairs(options or {}) do handler[name] = value end
    return open(handler, "/", { ["Sec-WebSocket-Extensions"] = "permessage-deflate" })
  end

  local function receive(ws)
    local payload, kind, is_packed = ws:frame()
    return is_packed and vectors.unpack(payload) or payload, kind, is_packed
  end

  it("is what it was, at every cut", function()
    local message = ("Hello, world! "):rep(20)
    local bytes = frame(0xc1, pack(message))
    for cut = 0, #bytes do
      local ws <close> = open_packed()
      ws:write(bytes:sub(1, cut))
      ws:write(bytes:sub(cut + 1))
      assert.same({ message, "text", true }, { receive(ws) })
    end
  end)

  it("is each by itself, among some that are not", function()
    local ws <close> = open_packed()
    for i = 1, 5 do
      local message = ("round %d "):format(i):rep(50)
      ws:write(frame(0xc2, pack(message)))
      assert.same({ message, "binary", true }, { receive(ws) })
      ws:send "short"
      assert.same({ "short", "text", false }, { receive(ws) })
    end
  end)

  it("comes in fragments, with a ping between", function()
    local ws <close> = open_packed()
    local message = ("fragment "):rep(100)
    local packed = pack(message)
    ws:write(frame(0x41, packed:sub(1, 5)), vectors.ping "?",
      frame(0x00, packed:sub(6, 8)), frame(0x80, packed:sub(9)))
    assert.same({ "?", "pong", false }, { ws:frame() })
    assert.same({ message, "text", true }, { receive(ws) })
  end)

  it("is empty, RFC 7692 7.2.3.6", function()
    local ws <close> = open_packed()
    ws:write(frame(0xc1, "\0"))
    assert.same({ "", "text", false }, { receive(ws) })
  end)

  it("can be stored or end with a last block, RFC 7692 7.2.3.3, 7.2.3.4", function()
    local ws <close> = open_packed()
    ws:write(frame(0xc1, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"))
    assert.equal("Hello", (receive(ws)))
    ws:write(frame(0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"))
    assert.equal("Hello", (receive(ws)))
  end)

  it("is not sent compressed where that would be longer", function()
    local ws <close> = open_packed()
    local noise = {}
    for i = 1, 200 do noise[i] = string.char(i * 7919 % 251) end
    local message = table.concat(noise)
    ws:binary(message)
    assert.same({ message, "binary", false }, { receive(ws) })
  end)

  it("is refused with 1007 if it is none, or no text", function()
    for _, bad in ipairs { "\xff\xff\xff\xff", pack "\xff", pack "\xe2\x82" } do
      local ws <close> = open_packed()
      ws:write(frame(0xc1, bad))
      assert.equal(1007, (select(2, ws:receive())))
    end
  end)

  it("is refused with 1009 if it is too long, however short it came", function()
    local ws <close> = open_packed { message_limit = 100000 }
    ws:write(frame(0xc1, pack(("x"):rep(100000))))
    assert.equal(100000, #receive(ws))
    ws:write(frame(0xc1, pack(("x"):rep(100001))))
    assert.equal(1009, (select(2, ws:receive())))
    local bomb <close> = open_packed()
    bomb:write(frame(0xc1, pack(("x"):rep(1 << 26))))
    assert.equal(1009, (select(2, bomb:receive())))
  end)

  it("is refused with 1002 where nobody has agreed to it", function()
    local ws <close> = open(echo)
    ws:write(frame(0xc1, pack "x"))
    assert.equal(1002, (select(2, ws:receive())))
  end)
end)

-- Each vector, whole and cut in two everywhere: what the client sees.
describe("a server of WebSockets", function()
  require "tidy" (before_each, after_each)

  local function expected_of(outcome)
    local seen = {}
    for i, event in ipairs(outcome) do
      if type(event) == "string" then seen[#seen + 1] = "text " .. event
      elseif event.binary then seen[#seen + 1] = "binary " .. event.binary
      elseif event.ping then seen[#seen + 1] = "pong " .. event.ping
      elseif event.close then
        return table.concat(seen, "\n") .. "\nclose " .. event.close, i
      end
    end
    if outcome.refused then seen[#seen + 1] = "close " .. outcome.refused end
    return table.concat(seen, "\n")
  end

  local function see(app, bytes, cut)
    local client <close> = test.connect(app)
    local ws = ws_client.open(client, "/")
    ws:write(bytes:sub(1, cut))
    ws:write(bytes:sub(cut + 1))
    client.conn:shutdown()
    local seen = {}
    while true do
      local payload, kind = ws:frame()
      if not payload then break end
      if kind == "close" then
        payload = #payload < 2 and "1005" or tostring((string.unpack(">I2", payload)))
      end
      seen[#seen + 1] = kind .. " " .. payload
    end
    return table.concat(seen, "\n")
  end

  for _, group in ipairs(vectors.groups) do
    it("does with " .. group[1] .. " what it should, wherever they are cut", function()
      for _, vector in ipairs(group[2]) do
        local name, bytes, outcome, limits = table.unpack(vector)
        if not limits then
          local app = app_of(echo)
          local expected = expected_of(outcome):gsub("^\n", "")
          for cut = 0, #bytes, #bytes > 60 and math.ceil(#bytes / 7) or 1 do
            local seen = see(app, bytes, cut)
            if seen ~= expected then
              assert.equal(expected, seen, name .. " cut at " .. cut)
            end
          end
        end
      end
    end)
  end
end)
