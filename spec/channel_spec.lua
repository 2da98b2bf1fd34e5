local channel = require "native.channel"
local endpoint = require "native.endpoint"
local harness = require "server"
local process = require "native.process"

local send, receive, close = channel.send, channel.receive, channel.close

local a, b, before

before_each(function()
  before = harness.descriptors(process.pid())
  a, b = channel.pair()
end)

after_each(function()
  if a then close(a) end
  if b then close(b) end
  assert.equal(before, harness.descriptors(process.pid()))
end)

local function descriptors()
  return harness.descriptors(process.pid())
end

local function new_files(n)
  local files = {}
  for i = 1, n do files[i] = channel.file() end
  return files
end

local function close_all(fds) close(table.unpack(fds)) end

local function identities(fds)
  local list = {}
  for i, fd in ipairs(fds) do list[i] = channel.identity(fd) end
  return list
end

-- Numbered messages, each with a descriptor, until there is no more room. Returns how
-- many were sent and why it was no more.
local function fill(file, limit)
  for n = 1, limit or 100000 do
    local sent, why = send(a, tostring(n), { file })
    if sent ~= 1 then return n - 1, why end
  end
end

-- Receives messages that must be numbered from..to, each with the file.
local function drain(from, to, file)
  for n = from, to do
    local got, text, fds = receive(b)
    assert.equal(1, got)
    assert.equal(tostring(n), text)
    assert.equal(1, #fds)
    assert.equal(channel.identity(file), channel.identity(fds[1]))
    close_all(fds)
  end
end

-- The next descriptors get no number but the n lowest ones.
local function with_free(n, fn)
  local lowest = channel.lowest()
  local old = channel.limit(lowest + n)
  local result = table.pack(pcall(fn))
  channel.limit(old)
  assert(result[1], result[2])
  return table.unpack(result, 2, result.n)
end

describe("a channel", function()
  it("does not block, and is not inherited", function()
    for _, fd in ipairs { a, b } do
      local cloexec, nonblock = channel.flags(fd)
      assert.is_true(cloexec and nonblock)
    end
    assert.equal(0, (receive(a)))
    assert.equal(0, (receive(b)))
  end)

  it("carries messages both ways, whole and in order", function()
    assert.equal(1, send(a, "one"))
    assert.equal(1, send(a, { "t", "", "wo" }))
    assert.equal(1, send(b, "back\0"))
    assert.same({ 1, "one", {} }, { receive(b) })
    assert.same({ 1, "two", {} }, { receive(b) })
    assert.same({ 1, "back\0", {} }, { receive(a) })
    assert.equal(0, (receive(b)))
  end)

  it("carries as many bytes as it promises, and no more", function()
    local longest = ("0123456789abcdef"):rep(channel.BYTES // 16)
    assert.equal(channel.BYTES, #longest)
    assert.equal(1, send(a, longest))
    local _, text = receive(b)
    assert.is_true(text == longest)
    channel.foreign(a, longest .. "x")
    send(a, "next")
    assert.same({ -1, "EBADMSG" }, { receive(b) })
    assert.same({ 1, "next", {} }, { receive(b) })
  end)

  it("closes the descriptors of a message that is too long", function()
    local file = channel.file()
    channel.foreign(a, ("x"):rep(channel.BYTES + 1), { file, file, file })
    assert.same({ -1, "EBADMSG" }, { receive(b) })
    close(file)
  end)

  it("carries batches of 1 to 253 descriptors, whole and in order", function()
    assert.equal(253, channel.FDS)
    local files = new_files(253)
    local expected = identities(files)
    for n = 1, #files do
      local batch = table.move(files, 1, n, 1, {})
      assert.equal(1, send(a, "batch", batch))
      local got, text, fds = receive(b)
      assert.equal(1, got)
      assert.equal("batch", text)
      assert.equal(n, #fds)
      for i, fd in ipairs(fds) do
        assert(channel.identity(fd) == expected[i], i)
        assert((channel.flags(fd)), "is inherited")
      end
      close_all(fds)
    end
    close_all(files)
  end)

  it("carries open files, not only names: they share their offset", function()
    local file = channel.file()
    send(a, "x", { file })
    local _, _, fds = receive(b)
    channel.offset(fds[1], 12345)
    assert.equal(12345, channel.offset(file))
    close(file, fds[1])
  end)

  it("carries its own ends", function()
    send(a, "x", { a, b })
    local _, _, fds = receive(b)
    send(fds[1], "through the copy")
    assert.same({ 1, "through the copy", {} }, { receive(fds[2]) })
    close_all(fds)
  end)

  it("leaves the sender's descriptors the sender's", function()
    local files = new_files(3)
    send(a, "x", files)
    close_all(files) -- they are open still, and the message has its own
    local _, _, fds = receive(b)
    assert.equal(3, #fds)
    close_all(fds)
  end)

  it("closes what a receiver did not take", function()
    local files = new_files(2)
    send(a, "x", files) -- two, where one was wanted
    local got, _, fds = receive(b, 1)
    assert.equal(1, got)
    assert.same({ channel.identity(files[1]) }, identities(fds))
    close_all(fds)
    send(a, "x", files)
    receive(b, 0)
    close_all(files)
  end)

  it("takes all descriptors of a message, however they are packed", function()
    local files = new_files(4)
    channel.foreign(a, "x", { files[1] }, { files[2], files[3] }, { files[4] })
    local got, _, fds = receive(b)
    assert.equal(1, got)
    assert.same(identities(files), identities(fds))
    close_all(files)
    close_all(fds)
  end)

  it("frees with its last end what nobody has received", function()
    local files = new_files(100)
    for _ = 1, 5 do send(a, "x", files) end
    close_all(files)
  end)
end)

describe("a message whose descriptors do not all arrive", function()
  it("is bad, and leaks none of those that did; the next is fine", function()
    local files = new_files(5)
    for free = 0, 4 do
      send(a, "five", files)
      send(a, "next", { files[1] })
      local count = descriptors()
      local result = { with_free(free, function() return receive(b) end) }
      assert.same({ -1, "EBADMSG" }, result)
      assert.equal(count, descriptors())
      local got, text, fds = receive(b)
      assert.same({ 1, "next" }, { got, text })
      assert.equal(channel.identity(files[1]), channel.identity(fds[1]))
      close_all(fds)
    end
    close_all(files)
  end)

  it("is good where there is room for exactly so many", function()
    local files = new_files(5)
    send(a, "five", files)
    local got, _, fds = with_free(5, function() return receive(b) end)
    assert.equal(1, got)
    assert.same(identities(files), identities(fds))
    close_all(fds)
    close_all(files)
  end)

  it("is bad too when it has no bytes", function()
    local file = channel.file()
    channel.foreign(a, "", { file })
    assert.same({ -1, "EBADMSG" }, { with_free(0, function() return receive(b) end) })
    close(file)
  end)
end)

describe("a message without bytes", function()
  it("is bad with descriptors, which are closed; the next is fine", function()
    local files = new_files(3)
    channel.foreign(a, "", files)
    send(a, "next")
    assert.same({ -1, "EBADMSG" }, { receive(b) })
    assert.same({ 1, "next", {} }, { receive(b) })
    close_all(files)
  end)

  it("is like the end without any", function()
    channel.foreign(a, "")
    assert.same({ -1, "EPIPE" }, { receive(b) })
  end)
end)

describe("a channel's end", function()
  it("is EPIPE, when all that was sent has been received", function()
    local file = channel.file()
    send(a, "last", { file })
    close(a)
    a = nil
    local got, text, fds = receive(b)
    assert.same({ 1, "last" }, { got, text })
    close_all(fds)
    assert.same({ -1, "EPIPE" }, { receive(b) })
    assert.same({ -1, "EPIPE" }, { receive(b) })
    close(file)
  end)

  it("does not come as long as somebody has the other end", function()
    local copy = channel.dup(a)
    close(a)
    a = copy
    assert.equal(0, (receive(b)))
    send(a, "still there")
    assert.same({ 1, "still there", {} }, { receive(b) })
  end)

  it("loses no message when the other end closed with unread ones of ours", function()
    send(a, "unread")
    send(b, "first")
    send(b, "second")
    close(b)
    b = nil
    assert.same({ 1, "first", {} }, { receive(a) })
    assert.same({ 1, "second", {} }, { receive(a) })
    assert.same({ -1, "EPIPE" }, { receive(a) })
  end)

  it("is EPIPE to who sends, whether the other had read all or not", function()
    for _, unread in ipairs { false, true } do
      local c, d = channel.pair()
      if unread then send(c, "unread") end
      close(d)
      assert.same({ -1, "EPIPE" }, { send(c, "x") })
      assert.same({ -1, "EPIPE" }, { send(c, "x", { a }) })
      close(c)
    end
  end)

  it("kills nobody with SIGPIPE", function()
    assert.equal("EPIPE", endpoint.child(function()
      channel.mortal()
      local c, d = channel.pair()
      close(d)
      local _, why = send(c, "x")
      return why
    end))
  end)
end)

describe("a full channel", function()
  it("loses nothing and sends nothing twice", function()
    local file = channel.file()
    local sent, why = fill(file)
    assert.equal("EAGAIN", why)
    assert.is_true(sent > 10)
    assert.equal(0, (send(a, "no", { file })))
    drain(1, sent, file)
    assert.equal(0, (receive(b)))
    for n = sent + 1, sent + 10 do assert.equal(1, send(a, tostring(n), { file })) end
    drain(sent + 1, sent + 10, file)
    assert.equal(0, (receive(b)))
    close(file)
  end)

  it("takes the next as soon as it has room", function()
    local file = channel.file()
    local received, sent = 0, fill(file)
    for _ = 1, 300 do
      received = received + 1
      drain(received, received, file)
      while send(a, tostring(sent + 1), { file }) == 1 do sent = sent + 1 end
    end
    drain(received + 1, sent, file)
    assert.equal(0, (receive(b)))
    close(file)
  end)

  it("is one way only", function()
    local file = channel.file()
    fill(file)
    assert.equal(1, send(b, "back"))
    assert.same({ 1, "back", {} }, { receive(a) })
    close(file)
  end)

  it("is what too many descriptors in flight are", function()
    local said = endpoint.child(function()
      local file = channel.file()
      endpoint.unprivileged() -- and so without CAP_SYS_RESOURCE and CAP_SYS_ADMIN
      local limit = channel.lowest() + 20
      channel.limit(limit)
      local sent, why = fill(file, limit + 50)
      local again, still = send(a, "no", { file })
      drain(1, sent, file)
      local later = send(a, tostring(sent + 1), { file })
      drain(sent + 1, sent + 1, file)
      assert(sent > 0 and sent <= limit + 1)
      return ("%s %d %s %d"):format(why, again, still, later)
    end)
    assert.equal("ETOOMANYREFS 0 ETOOMANYREFS 1", said)
  end)

  it("is what a lack of buffers is", function()
    for _, name in ipairs { "ENOBUFS", "ETOOMANYREFS", "EAGAIN" } do
      channel.interrupt(name)
      assert.same({ 0, name }, { send(a, "x") })
    end
    assert.equal(0, (receive(b)))
  end)
end)

describe("an interrupted call", function()
  it("is made again", function()
    channel.interrupt("EINTR", "EINTR")
    assert.equal(1, send(a, "x"))
    assert.same({ 1, "x", {} }, { receive(b) })
  end)
end)

describe("a look at the next message", function()
  it("leaves it there", function()
    send(a, "hello world")
    assert.same({ 5, "hello" }, { channel.peek(b, 5) })
    assert.same({ 11, "hello world" }, { channel.peek(b, 100) })
    assert.same({ 1, "hello world", {} }, { receive(b) })
    assert.same({ 0, "" }, { channel.peek(b, 5) })
  end)

  it("leaves its descriptors there too, and opens none", function()
    local files = new_files(7)
    send(a, "x", files)
    local count = descriptors()
    for _ = 1, 5 do assert.same({ 1, "x" }, { channel.peek(b, 16) }) end
    assert.equal(count, descriptors())
    local _, _, fds = receive(b)
    assert.same(identities(files), identities(fds))
    close_all(files)
    close_all(fds)
  end)

  it("sees nothing at the end", function()
    close(a)
    a = nil
    assert.same({ 0, "" }, { channel.peek(b, 5) })
  end)
end)

describe("a receiver that is killed", function()
  it("leaves to its successor all that it has not received", function()
    local files = new_files(100)
    local expected = identities(files)
    local back, report = channel.pair()
    local pid = channel.fork(function()
      channel.poll(b, 20)
      local _, text = receive(b)
      send(report, text)
      channel.pause()
    end)
    for n = 1, 6 do send(a, tostring(n), files) end
    close_all(files)
    assert.is_true(channel.poll(back, 20))
    assert.same({ 1, "1", {} }, { receive(back) })
    process.kill(pid, "KILL")
    assert.same({ "signal", 9 }, { process.wait(pid) })

    assert.equal("5 messages", endpoint.child(function()
      for n = 2, 6 do
        local got, text, fds = receive(b)
        assert(got == 1 and text == tostring(n) and #fds == 100)
        for i, fd in ipairs(fds) do assert(channel.identity(fd) == expected[i]) end
        close_all(fds)
      end
      assert((receive(b)) == 0)
      return "5 messages"
    end))
    assert.equal(0, (receive(b)))
    close(back, report)
  end)
end)
