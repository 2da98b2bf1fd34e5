local channel = require "native.channel"
local harness = require "server"
local native = require "native.loop"
local peers = require "native.peer"
local process = require "native.process"

local loop, a, b, peer, log, before

before_each(function()
  before = harness.descriptors(process.pid())
  loop = native.new()
  loop:virtual(true)
  a, b = channel.pair()
  channel.buffer(a, 8192) -- so that it is full soon, on every machine
  log = {}
end)

after_each(function()
  if peer and peer:is_open() then peer:close() end
  peer = nil
  loop:free()
  if b then channel.close(b) end
  assert.equal(before, harness.descriptors(process.pid()))
end)

local function settle()
  while loop:turn() do end -- luacheck: ignore 542
end

local function note(event)
  log[#log + 1] = event
end

-- A peer at a. Whatever happens is noted, and then done to: callbacks as for peers.open.
local function open(callbacks, limit)
  callbacks = callbacks or {}
  peer = peers.open(loop, a, {
    message = function(text, fds)
      note(text)
      return callbacks.message and callbacks.message(text, fds)
    end,
    room = function()
      note "room"
      return callbacks.room and callbacks.room()
    end,
    gone = function()
      note "gone"
      return callbacks.gone and callbacks.gone()
    end,
  }, limit)
  return peer
end

local function close_other_end()
  channel.close(b)
  b = nil
end

local function say(...)
  for _, text in ipairs { ... } do assert.equal(1, (channel.send(b, text))) end
end

-- What has arrived at b: the numbers of the headers, and then the texts.
local function received()
  local numbers, texts = {}, {}
  while true do
    local got, text, fds = channel.receive(b)
    if got ~= 1 then return numbers, texts end
    local _, number, _, at = string.unpack("=I4I4I8", text)
    numbers[#numbers + 1], texts[#texts + 1] = number, text:sub(at)
    for _, fd in ipairs(fds) do channel.close(fd) end
  end
end

-- The same while the peer goes on sending, until there is nothing left.
local function receive_all()
  local numbers, texts = {}, {}
  repeat
    local more, more_texts = received()
    table.move(more, 1, #more, #numbers + 1, numbers)
    table.move(more_texts, 1, #more, #texts + 1, texts)
    settle()
  until #more == 0
  return numbers, texts
end

local function count_to(n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end

-- Sends numbered messages until the channel is full; how many.
local function fill(fds)
  for n = 1, 100000 do
    local sent = peer:send(n, fds)
    if sent ~= 1 then
      assert.equal(0, sent)
      return n - 1
    end
  end
end

describe("a peer", function()
  it("calls nobody before it has been opened", function()
    say "early"
    open()
    assert.same({}, log)
    settle()
    assert.same({ "early" }, log)
  end)

  it("hands on each message once and in order", function()
    open()
    say("one", "two")
    settle()
    say "three"
    settle()
    settle()
    assert.same({ "one", "two", "three" }, log)
  end)

  it("hands on all of many messages that came at once", function()
    open()
    local expected = {}
    for i = 1, 200 do
      expected[i] = "message " .. i
      say(expected[i])
    end
    settle()
    assert.same(expected, log)
  end)

  it("gives others their turn between many messages", function()
    local c, d = channel.pair()
    local first
    open { message = function() if #log == 1 then channel.send(d, "other") end end }
    for i = 1, 200 do say(tostring(i)) end
    local watch = loop:watch(c, function()
      first = first or #log
      channel.receive(c)
    end)
    settle()
    assert.is_true(first < 200)
    assert.equal(200, #log)
    watch:stop()
    channel.close(c, d)
  end)

  it("takes a message a turn where they bring descriptors, and all if told", function()
    local file = channel.file()
    open()
    for i = 1, 6 do channel.send(b, tostring(i), { file }) end
    for i = 1, 3 do
      loop:turn()
      assert.equal(i, #log)
    end
    peer:receive()
    assert.same({ "1", "2", "3", "4", "5", "6" }, log)
    channel.close(file)
  end)

  it("closes the descriptors that nobody took, and only those", function()
    local kept
    local files = { channel.file(), channel.file(), channel.file() }
    open {
      message = function(_, fds)
        assert.equal(3, #fds)
        kept = fds[1]
        return 1
      end,
    }
    local count = harness.descriptors(process.pid())
    channel.send(b, "x", files)
    settle()
    assert.equal(count + 1, harness.descriptors(process.pid()))
    assert.equal(channel.identity(files[1]), channel.identity(kept))
    channel.close(kept, table.unpack(files))
  end)

  it("passes a bad message over, and handles the next", function()
    local file = channel.file()
    peers.quiet()
    open()
    for _ = 1, 70 do channel.foreign(b, "", { file }) end
    say "good"
    channel.foreign(b, ("x"):rep(channel.BYTES + 1), { file })
    say "better"
    settle()
    assert.same({ "good", "better" }, log)
    channel.foreign(b, "", { file })
    say "best"
    peer:receive()
    assert.same({ "good", "better", "best" }, log)
    channel.close(file)
  end)

  it("handles at once what has arrived, when it is told to", function()
    open()
    local expected = {}
    for i = 1, 150 do
      expected[i] = "message " .. i
      say(expected[i])
    end
    peer:receive()
    assert.same(expected, log)
    settle()
    assert.same(expected, log)
    close_other_end()
    peer:receive()
    assert.equal("gone", log[#log])
  end)

  it("that is paused leaves what comes to whoever has the end next", function()
    local next_end = channel.dup(a)
    open { message = function() peer:pause() end }
    say("one", "two", "three")
    settle()
    peer:receive()
    assert.same({ "one" }, log)
    peer:close()
    assert.same({ 1, "two", {} }, { channel.receive(next_end) })
    assert.same({ 1, "three", {} }, { channel.receive(next_end) })
    channel.close(next_end)
  end)

  it("needs nobody to tell about room or the end", function()
    peer = peers.open(loop, a, { message = function(text) note(text) end })
    fill()
    say "x"
    settle()
    received()
    settle()
    assert.equal(1, peer:post(1))
    close_other_end()
    settle()
    assert.same({ "x" }, log)
  end)
end)

describe("the other end", function()
  it("is gone after its last message, once", function()
    open()
    say("one", "two")
    close_other_end()
    settle()
    settle()
    assert.same({ "one", "two", "gone" }, log)
  end)

  it("is gone once, even if somebody goes on looking", function()
    open { gone = function() peer:receive() end }
    close_other_end()
    settle()
    peer:receive()
    assert.equal(-1, peer:post(1))
    assert.equal(-1, peer:send(1))
    settle()
    assert.same({ "gone" }, log)
  end)

  it("that is gone is something that happened", function()
    open()
    close_other_end()
    assert.is_true(loop:turn())
    assert.same({ "gone" }, log)
  end)

  it("is gone also when nobody waits for room any more", function()
    open()
    fill()
    assert.equal(1, peer:post(1, "waits"))
    close_other_end()
    settle()
    assert.equal(-1, peer:post(2))
    settle()
    assert.same({ "gone" }, log)
  end)

  it("is not gone while another process has it", function()
    local copy = channel.dup(b)
    open()
    close_other_end()
    b = copy
    settle()
    assert.same({}, log)
    say "here"
    settle()
    assert.same({ "here" }, log)
  end)
end)

describe("a peer that is closed", function()
  it("in the callback of a message gets no other", function()
    open { message = function() peer:close() end }
    say("one", "two")
    close_other_end()
    settle()
    assert.same({ "one" }, log)
  end)

  it("in the callback of a message still closes its descriptors", function()
    local file = channel.file()
    open { message = function() peer:close() end }
    local count = harness.descriptors(process.pid())
    channel.send(b, "one", { file, file })
    channel.send(b, "two", { file, file })
    settle()
    assert.equal(count - 1, harness.descriptors(process.pid())) -- its own end
    channel.close(file)
  end)

  it("in the callback of a message that it looked for itself gets no other", function()
    open { message = function() peer:close() end }
    say("one", "two")
    peer:receive()
    settle()
    assert.same({ "one" }, log)
  end)

  it("in the callback of room gets no message", function()
    open { room = function() peer:close() end }
    fill()
    received()
    settle()
    assert.same({ "room" }, log)
    assert.same({ -1, "EPIPE" }, { channel.send(b, "x") })
  end)

  it("in the callback of the end is closed", function()
    open { gone = function() peer:close() end }
    close_other_end()
    settle()
    assert.same({ "gone" }, log)
    assert.is_false(peer:is_open())
  end)

  it("forgets what still waited, and closes its end", function()
    open()
    fill()
    for i = 1, 10 do assert.equal(1, peer:post(i, "waits")) end
    peer:close()
    settle()
    local _, texts = received()
    for _, text in ipairs(texts) do assert.equal("", text) end
    assert.same({ -1, "EPIPE" }, { channel.receive(b) })
    assert.same({}, log)
  end)

  it("leaves no trace in the loop though another process has its end", function()
    local copy = channel.dup(a)
    open()
    loop:turn()
    peer:close()
    say "for the next"
    settle()
    assert.is_false(channel.poll(loop:epoll(), 0))
    assert.same({}, log)
    channel.close(copy)
  end)
end)

describe("room", function()
  it("is told once after the channel was full", function()
    local file = channel.file()
    open()
    local sent = fill { file }
    settle()
    assert.same({}, log)
    assert.same(count_to(sent), (received()))
    settle()
    settle()
    assert.same({ "room" }, log)
    assert.equal(1, peer:send(1))
    settle()
    assert.same({ "room" }, log)
    channel.close(file)
  end)

  it("is told again when the channel was full again", function()
    open()
    for round = 1, 3 do
      fill()
      received()
      settle()
      assert.equal(round, #log)
    end
  end)

  it("is not told to who never found the channel full", function()
    open()
    assert.equal(1, peer:send(1))
    for i = 1, 2000 do assert.equal(1, peer:post(i)) end
    assert.same(count_to(2000), table.move(receive_all(), 2, 2001, 1, {}))
    assert.same({}, log)
  end)

  it("is not told again to who has only posted since", function()
    open()
    fill()
    receive_all()
    assert.same({ "room" }, log)
    for i = 1, 2000 do assert.equal(1, peer:post(i)) end
    assert.equal(2000, #receive_all())
    assert.same({ "room" }, log)
  end)

  it("may be used up at once, and is then told again", function()
    open { room = function() if #log < 3 then fill() end end }
    fill()
    for _ = 1, 5 do
      received()
      settle()
    end
    assert.same({ "room", "room", "room" }, log)
  end)
end)

describe("a message that is posted", function()
  local POSTS <const> = 1000

  it("arrives at once where there is room", function()
    open()
    assert.equal(1, peer:post(7, "text"))
    assert.same({ { 7 }, { "text" } }, { received() })
  end)

  it("waits for room, and keeps its place", function()
    open()
    for i = 1, POSTS do assert.equal(1, peer:post(i, "text " .. i)) end
    local numbers, texts = received()
    local at_once = #numbers
    assert.is_true(at_once < POSTS)
    settle()
    local later, later_texts = receive_all()
    table.move(later, 1, #later, at_once + 1, numbers)
    table.move(later_texts, 1, #later, at_once + 1, texts)
    assert.same(count_to(POSTS), numbers)
    for i = 1, POSTS do assert(texts[i] == "text " .. i, i) end
  end)

  it("waits on where another program has taken the place", function()
    open()
    for i = 1, POSTS do assert.equal(1, peer:post(i, "text " .. i)) end
    peer:pass()
    assert.equal(1, peer:post(POSTS + 1, "text " .. POSTS + 1)) -- has not overtaken them
    local numbers, texts = {}, {}
    repeat
      local more, more_texts = received()
      table.move(more, 1, #more, #numbers + 1, numbers)
      table.move(more_texts, 1, #more_texts, #texts + 1, texts)
      settle()
    until #more == 0
    assert.same(count_to(POSTS + 1), numbers)
    for i = 1, POSTS + 1 do assert(texts[i] == "text " .. i, i) end
    say "to the new one"
    settle()
    assert.same({ "to the new one" }, log)
  end)

  it("does not overtake those that wait", function()
    open()
    local posted = 0
    local numbers = {}
    local function post(n)
      for _ = 1, n do
        posted = posted + 1
        assert.equal(1, peer:post(posted))
      end
    end
    post(1000) -- more than there is room for
    for _ = 1, 5 do
      local got, text = channel.receive(b) -- room of which the peer knows nothing yet
      assert.equal(1, got)
      numbers[#numbers + 1] = string.unpack("=I4", text, 5)
      post(1)
    end
    local more = receive_all()
    table.move(more, 1, #more, #numbers + 1, numbers)
    assert.same(count_to(posted), numbers)
  end)

  it("is refused when more than the limit would wait, and does not arrive", function()
    local text = ("x"):rep(84) -- 100 bytes with the header
    open(nil, 1000)
    for _ = 1, 3 do
      local in_channel = fill()
      for i = 1, 10 do assert.equal(1, peer:post(i, text)) end
      assert.equal(0, peer:post(11, text))
      assert.equal(0, peer:post(11))
      local numbers = receive_all()
      assert.same(count_to(in_channel), table.move(numbers, 1, in_channel, 1, {}))
      assert.same(count_to(10), table.move(numbers, in_channel + 1, #numbers, 1, {}))
    end
  end)

  it("does not wait at all where the limit is nothing", function()
    open(nil, 0)
    fill()
    assert.equal(0, peer:post(1))
    received()
    assert.equal(1, peer:post(1))
  end)

  it("may be as long as the longest that is published", function()
    open(nil, 1 << 20)
    local text = ("x"):rep(65536)
    channel.buffer(a, 131072)
    for i = 1, 12 do assert.equal(1, peer:post(i, text)) end
    local numbers, texts = receive_all()
    assert.same(count_to(12), numbers)
    for _, got in ipairs(texts) do assert.is_true(got == text) end
  end)

  it("is not overtaken by descriptors", function()
    local file = channel.file()
    open()
    for i = 1, 1000 do peer:post(i) end
    local got = received()
    assert.equal(0, peer:send(5000, { file }))
    while #log == 0 do
      settle()
      for _, number in ipairs((received())) do got[#got + 1] = number end
    end
    assert.same(count_to(1000), got)
    assert.equal(1, peer:send(5000, { file }))
    assert.same({ 5000 }, (received()))
    channel.close(file)
  end)

  it("is not sent when the other end is gone", function()
    open()
    close_other_end()
    assert.equal(-1, peer:post(1, "text"))
    assert.equal(-1, peer:send(1))
    settle()
    assert.same({ "gone" }, log)
  end)
end)
