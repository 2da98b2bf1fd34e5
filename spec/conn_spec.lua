local child = require "child"
local core = require "moonpool.core"
local harness = require "server"
local process = require "native.process"
local test = require "moonpool.test"

local fd, loop, net, task = core.fd, core.loop, core.net, core.task

local READ_LIMIT = 1 << 20 -- of core_default_limits
local WRITE_LIMIT = 1 << 16
local SLACK = harness.is_sanitized and 32 << 20 or 4 << 20 -- a sanitizer frees late

require "tidy" (before_each, after_each)

local function both(a, b)
  return a, b, setmetatable({}, { __close = function() a:close(); b:close() end })
end

-- Two clients: what one writes the other reads. Tasks of the test's own use their .conn.
-- The third value closes both.
local function pair()
  local a, b = net.pair()
  return both(test.client(a), test.client(b))
end

local function pipe()
  return both(fd.pipe())
end

local function spawn(...)
  local t = task.spawn(...)
  test.settle()
  return t
end

-- Calls fn(...) in a task of its own. Its results are in the table once it is over.
local function start(fn, ...)
  local results = {}
  spawn(function(...)
    local packed = table.pack(fn(...))
    table.move(packed, 1, packed.n, 1, results)
    results.n = packed.n
  end, ...)
  return results
end

local function is_over(results)
  return results.n ~= nil
end

-- A client and the bare descriptor of its other end: closing that is sudden.
local function half()
  local a, b = pair()
  local c, d, _ <close> = pair()
  c:sendfd(b.conn, ".")
  b:close()
  return both(a, assert(d:recvfd()))
end

-- How much the kernel and the conn take from a writer whose client does not read.
local function fill(conn)
  conn:settimeout(0)
  while test.run(conn.write, conn, ("f"):rep(WRITE_LIMIT)) do end -- luacheck: ignore 542
  conn:settimeout(nil)
end

-- Writes until the kernel takes no more, which leaves room in the conn.
local function block(conn)
  conn:settimeout(0)
  repeat conn:write(("f"):rep(10000)) until not conn:flush()
  conn:settimeout(nil)
end

-- Takes all that is there, without waiting.
local function drain(conn)
  local n = 0
  conn:settimeout(0)
  while test.run(conn.read, conn, 0) do n = n + #conn:unread() end
  conn:settimeout(nil)
  return n
end

-- Text in which every place is different.
local function numbered(bytes)
  local lines = {}
  for i = 1, bytes // 8 do lines[i] = ("%07d\n"):format(i) end
  return table.concat(lines)
end

local function temporary(text)
  local path = os.tmpname()
  harness.write_file(path, text)
  return path
end

-- A moonpool.fd of the file at path.
local function open_fd(path, mode)
  local a, b, _ <close> = pair()
  local file <close> = assert(io.open(path, mode))
  a:sendfd(file, ".")
  return (assert(b:recvfd()))
end

local function same_thing(one, other)
  return table.concat({ one:identity() }, ":") == table.concat({ other:identity() }, ":")
end

describe("conn:read", function()
  it("takes lines, with and without their ends", function()
    local a, b, _ <close> = pair()
    a:write "one\ntwo\r\nthree\r\nfour\n\n\r\n\rfive\r\r\n":shutdown()
    assert.equal("one", b:read())
    assert.equal("two", b:read "l")
    assert.equal("three\r\n", b:read "L")
    assert.equal("four\n", b:read "L")
    assert.equal("", b:read "l")
    assert.equal("", b:read "l")
    assert.equal("\rfive\r", b:read "l")
    assert.same({ nil, "closed", "EOF" }, { b:read "l" })
  end)

  it("gives the last line without its end, and then the end, again and again", function()
    local a, b, _ <close> = pair()
    a:write "whole\nrest\r":shutdown()
    assert.equal("whole\n", b:read "L")
    assert.equal("rest\r", b:read "L")
    assert.same({ nil, "closed", "EOF" }, { b:read "L" })
    assert.same({ nil, "closed", "EOF" }, { b:read "l" })
    assert.same({ nil, "closed", "EOF" }, { b:read(1) })
    assert.same({ nil, "closed", "EOF" }, { b:read(0) })
  end)

  it("takes all up to the end, where all is nothing", function()
    local a, b, _ <close> = pair()
    local all = start(b.conn.read, b.conn, "a")
    a:write "one\n"
    a:write "\0two"
    assert.is_false(is_over(all))
    a:shutdown()
    test.settle()
    assert.equal("one\n\0two", all[1])
    assert.equal("", b:read "a")
  end)

  it("takes a number of bytes, fewer at the end", function()
    local a, b, _ <close> = pair()
    a:write "abcdefg":shutdown()
    assert.equal("ab", b:read(2))
    assert.equal("cde", b:read(3.0))
    assert.equal("fg", b:read(10))
    assert.same({ nil, "closed", "EOF" }, { b:read(10) })
  end)

  it("waits with 0 until there is something, and takes nothing", function()
    local a, b, _ <close> = pair()
    local some = start(b.conn.read, b.conn, 0)
    assert.is_false(is_over(some))
    a:write "x"
    assert.same({ "", n = 1 }, some)
    assert.equal("", b:read(0))
    assert.equal("x", b:read(1))
  end)

  it("takes several at once, and with a failure those before it", function()
    local a, b, _ <close> = pair()
    a:write "one\ntwo\n345the\nrest":shutdown()
    assert.same({ "one", "two\n", "345", "", "the\nrest" },
      { b:read("l", "L", 3, 0, "a") })
    assert.same({ "", nil, "closed", "EOF" }, { b:read("a", "l", "a") })
  end)

  it("knows the formats of Lua 5.2 too", function()
    local a, b, _ <close> = pair()
    a:write "one\ntwo\nrest":shutdown()
    assert.same({ "one", "two\n", "rest" }, { b:read("*l", "*L", "*a") })
  end)

  it("refuses other formats before it takes anything", function()
    local a, b, _ <close> = pair()
    a:write "one\ntwo\n"
    for _, format in ipairs { "n", "", "*", "x", "3" } do
      local ok, why = pcall(b.conn.read, b.conn, "l", format)
      assert.is_false(ok, tostring(format))
      assert.matches("invalid format", why)
    end
    for _, format in ipairs { -1, 1.5, {}, true } do
      assert.is_false(pcall(b.conn.read, b.conn, "l", format))
    end
    assert.equal("one", b:read "l")
  end)

  it("gives the same however the input is cut", function()
    local input = "GET one\r\ntwo\n12345\n\r\nthe rest\r"
    local expected = { "GET one", "two\n", "12345", "", "\r\n", "the ", "rest\r", n = 7 }
    for cut = 0, #input do
      local a, b, _ <close> = pair()
      local got = start(b.conn.read, b.conn, "l", "L", 5, "l", "L", 4, "a")
      a:write(input:sub(1, cut))
      a:write(input:sub(cut + 1)):shutdown()
      test.settle()
      assert.same(expected, got)
    end
    local a, b, _ <close> = pair()
    local got = start(b.conn.read, b.conn, "l", "L", 5, "l", "L", 4, "a")
    for byte in input:gmatch "." do a:write(byte) end
    a:shutdown()
    test.settle()
    assert.same(expected, got)
  end)

  it("refuses a line longer than the limit, and loses nothing of it", function()
    local a, b, _ <close> = pair()
    local long = numbered(READ_LIMIT):gsub("\n", " ")
    start(a.conn.write, a.conn, long, "tail\nnext\n")
    for _, format in ipairs { "l", "L", READ_LIMIT + 1, "a" } do
      assert.same({ nil, "Message too long", "EMSGSIZE" }, { b:read(format) })
    end
    assert.is_true(long == b:unread())
    assert.equal("tail", b:read "l")
    assert.equal("next", b:read "l")
  end)

  it("takes a line that just fits, and as many bytes", function()
    local a, b, _ <close> = pair()
    local line = ("x"):rep(READ_LIMIT - 1)
    start(a.conn.write, a.conn, line, "\n", line, "yz")
    assert.is_true(line == b:read "l")
    assert.is_true(line .. "y" == b:read(READ_LIMIT))
    assert.equal("z", b:read(1))
  end)

  it("lets a second reader wait for its turn", function()
    local a, b, _ <close> = pair()
    local first = start(b.conn.read, b.conn, "l", 3)
    local second = start(b.conn.read, b.conn, "l")
    local third = start(b.conn.readsome, b.conn)
    a:write "one\nab"
    assert.is_false(is_over(first))
    a:write "ctwo\n"
    assert.same({ "one", "abc", n = 2 }, first)
    assert.same({ "two", n = 1 }, second)
    assert.is_false(is_over(third))
    a:write "three"
    assert.same({ "three", n = 1 }, third)
  end)

  it("gives nobody's turn to one that has come later", function()
    local a, b, _ <close> = pair()
    local order = {}
    for i = 1, 5 do
      spawn(function() order[i] = b.conn:read "l" .. i end)
    end
    a:write "a\nb\nc\nd\ne\n"
    assert.same({ "a1", "b2", "c3", "d4", "e5" }, order)
    order = {}
    for i = 1, 2 do
      spawn(function()
        for line in b.conn:lines() do order[#order + 1] = line .. i end
      end)
    end
    a:write "a\nb\nc\nd\ne\nf\n"
    assert.same({ "a1", "b2", "c1", "d2", "e1", "f2" }, order)
    a:close()
  end)

  it("passes the turn on when its reader is cancelled, at whatever moment", function()
    local a, b, _ <close> = pair()
    local first = spawn(function() b.conn:read "l" end)
    local second = spawn(function() b.conn:read "l" end)
    local third = start(b.conn.read, b.conn, "l")
    test.settle()
    test.run(function() -- woken already, when it is cancelled
      a.conn:write "line\n":flush()
      task.sleep(0)
      first:cancel()
      second:cancel()
    end)
    test.settle()
    a:write "more\n"
    test.settle()
    assert.is_true(is_over(third))
    assert.is_false(first:alive() or second:alive())
  end)

  it("lets who waits for its turn give up", function()
    local a, b, _ <close> = pair()
    local first = start(b.conn.read, b.conn, "l")
    b.conn:settimeout(5)
    local second = start(b.conn.read, b.conn, "l")
    b.conn:settimeout(nil)
    local third = start(b.conn.read, b.conn, "l")
    test.advance(5)
    assert.same({ nil, "timeout", "ETIMEDOUT", n = 3 }, second)
    a:write "1\n3\n"
    assert.same({ "1", n = 1 }, first)
    assert.same({ "3", n = 1 }, third)
  end)

  it("passes the turn on past one that gives up in the same moment", function()
    local a, b, _ <close> = pair()
    b.conn:settimeout(5)
    local first = start(b.conn.read, b.conn, "l")
    local second = start(b.conn.read, b.conn, "l")
    b.conn:settimeout(nil)
    local third = start(b.conn.read, b.conn, "l")
    test.advance(5)
    assert.same({ "ETIMEDOUT", "ETIMEDOUT" }, { first[3], second[3] })
    a:write "line\n"
    assert.same({ "line", n = 1 }, third)
  end)

  it("tells all who wait that the connection was closed", function()
    local _, b, _ <close> = pair()
    local first = start(b.conn.read, b.conn, "l")
    local second = start(b.conn.read, b.conn, "l")
    b.conn:close()
    test.settle()
    assert.equal("ECANCELED", first[3])
    assert.equal("ECANCELED", second[3])
  end)

  it("goes on where another task has read ahead and given up", function()
    local a, b, _ <close> = pair()
    local given_up = spawn(function() b.conn:read "l" end)
    a:write "half"
    given_up:cancel()
    test.settle()
    a:write " and half\n"
    assert.equal("half and half", b:read "l")
  end)

  it("gives what came before the client went", function()
    local a, b, _ <close> = pair()
    a:write "last\nwords"
    a:close()
    assert.same({ "last", "words" }, { b:read("l", "l") })
    assert.same({ nil, "closed", "EOF" }, { b:read "l" })
  end)
end)

describe("conn:lines", function()
  it("goes through the lines to the end, quietly", function()
    local a, b, _ <close> = pair()
    a:write "one\r\n\ntwo\nthree":shutdown()
    local got = {}
    test.run(function()
      for line in b.conn:lines() do got[#got + 1] = line end
    end)
    assert.same({ "one", "", "two", "three" }, got)
  end)

  for _, case in ipairs {
    { format = "l", lines = { "one", "", "three" } },
    { format = "*l", lines = { "one", "", "three" } },
    { format = "L", lines = { "one\r\n", "\n", "three" } },
    { format = "*L", lines = { "one\r\n", "\n", "three" } },
    { format = 3, lines = { "one", "\r\n\n", "thr", "ee" } },
    { format = "a", lines = { "one\r\n\nthree" }, most = 1 }, -- and then "" for ever
  } do
    it("goes through " .. case.format .. ", however slowly it comes", function()
      local a, b, _ <close> = pair()
      local got = {}
      start(function()
        for line in b.conn:lines(case.format) do
          got[#got + 1] = line
          if #got == case.most then break end
        end
      end)
      for byte in ("one\r\n\nthree"):gmatch "." do a:write(byte) end
      a:shutdown()
      test.settle()
      assert.same(case.lines, got)
    end)
  end

  it("tells its iterator which connection it is, and nothing else is one", function()
    local a, b, _ <close> = pair()
    a:write "one\ntwo\n"
    for _, format in ipairs { "l", "L", 1 } do
      local iterator, conn = b.conn:lines(format)
      assert.equal(b.conn, conn)
      for _, wrong in ipairs { "line", io.stdout, false } do
        assert.error_matches(function() iterator(wrong) end,
          "bad argument #1 to .*moonpool.conn expected, got ")
      end
      assert.error_matches(iterator, "moonpool.conn expected, got no value")
    end
    assert.same({ "one", "two\n" }, { b:read("l", "L") })
  end)

  it("leaves what the loop is left at, and ends after the time limit, too", function()
    local a, b, _ <close> = pair()
    a:write "one\ntwo\nthr"
    b:settimeout(5)
    local first = start(function()
      for line in b.conn:lines() do if line == "one" then return line end end
    end)
    assert.same({ "one", n = 1 }, first)
    local rest, began = {}, task.now()
    start(function()
      for line in b.conn:lines "L" do rest[#rest + 1] = line end
      rest.took = task.now() - began
    end)
    test.advance(4)
    a:write "e"
    test.advance(2)
    assert.same({ "two\n", took = 5 }, rest)
    a:write "e\n"
    assert.equal("three", b:read "l")
  end)

  it("ends when another task closes the connection meanwhile", function()
    local _, b, _ <close> = pair()
    local results = start(function()
      for _ in b.conn:lines "L" do error "a line" end
      return "over"
    end)
    b.conn:close()
    test.settle()
    assert.same({ "over", n = 1 }, results)
  end)

  it("takes the formats of read", function()
    local a, b, _ <close> = pair()
    a:write "1one\n2two\n3":shutdown()
    local got = {}
    test.run(function()
      for digit, line in b.conn:lines(1, "L") do got[#got + 1] = { digit, line } end
    end)
    assert.same({ { "1", "one\n" }, { "2", "two\n" }, { "3", nil } }, got)
  end)

  it("takes as many formats as a function takes arguments", function()
    local a, b, _ <close> = pair()
    a:write(("x"):rep(400)):shutdown()
    local formats, n = {}, 0
    for i = 1, 200 do formats[i] = 1 end
    test.run(function()
      for first, second in b.conn:lines(table.unpack(formats)) do
        n = n + #first + #second
      end
    end)
    assert.equal(4, n)
    formats[201] = 1
    assert.has_error(function() b.conn:lines(table.unpack(formats)) end,
      "bad argument #201 to 'lines' (too many formats)")
  end)

  it("refuses other formats before the first line", function()
    local _, b, _ <close> = pair()
    assert.has_error(function() b.conn:lines("L", "x") end,
      "bad argument #2 to 'lines' (invalid format)")
  end)

  it("ends when the connection is closed inside of the loop, or before", function()
    local a, b, _ <close> = pair()
    a:write "one\ntwo\n"
    local n = 0
    test.run(function()
      local next_line, conn = b.conn:lines()
      for _ in next_line, conn do
        n = n + 1
        b.conn:close()
      end
      assert.is_nil(next_line(conn))
    end)
    assert.equal(1, n)
    assert.has_error(function() b.conn:lines() end,
      "calling 'lines' on bad self (connection is closed)")
  end)
end)

describe("conn:unread", function()
  it("takes what was read ahead, once", function()
    local a, b, _ <close> = pair()
    a:write "line\nahead"
    assert.equal("", b:unread())
    b:read "l"
    assert.equal("ahead", b:unread())
    assert.equal("", b:unread())
  end)

  it("takes all that has come: it is read before any task goes on", function()
    local a, b, _ <close> = pair()
    local c, d, _ <close> = pair()
    local taken = {}
    local function take(conn, other)
      if conn:read "l" then taken[#taken + 1] = other:unread() end
    end
    start(take, b.conn, d.conn)
    start(take, d.conn, b.conn)
    test.run(function()
      a.conn:write "a line\n"
      c.conn:write "a line\n"
    end)
    test.settle()
    assert.same({ "a line\n" }, taken)
  end)

  it("leaves a task that waits for a line in order", function()
    local a, b, _ <close> = pair()
    local line = start(b.conn.read, b.conn, "l")
    a:write "taken away"
    assert.equal("taken away", b:unread())
    a:write "one\nand the next\n"
    assert.equal("one", line[1])
    assert.equal("and the next", b:read "l")
  end)
end)

describe("conn:write", function()
  it("takes strings and numbers and gives the connection back", function()
    local a, b, _ <close> = pair()
    test.run(function()
      assert.equal(a.conn, a.conn:write("one", 2, -3.5, "\0", 1e15))
      assert.equal(a.conn, a.conn:write())
      assert.equal(a.conn, a.conn:write "")
      assert.equal(a.conn, a.conn:flush())
    end)
    a:shutdown()
    assert.equal("one2-3.5\0001e+15", b:read "a")
  end)

  it("refuses anything else before it writes anything", function()
    local a, b, _ <close> = pair()
    for _, value in ipairs { {}, true, print } do
      local ok, why = pcall(a.conn.write, a.conn, "lost", value)
      assert.is_false(ok)
      assert.matches("string expected", why)
    end
    a:write "kept":shutdown()
    assert.equal("kept", b:read "a")
  end)

  it("sends what was written in one turn when the turn is over", function()
    local a, b, _ <close> = pair()
    b:settimeout(0)
    a.conn:write "one "
    a.conn:write "two"
    test.settle()
    assert.equal("one two", b:read(7))
  end)

  it("keeps the order of little and much, whatever the kernel takes of it", function()
    local a, b, _ <close> = pair()
    local much, sizes = numbered(1 << 20), {}
    for _, size in ipairs { 8191, 8192, WRITE_LIMIT, WRITE_LIMIT + 1, 1 << 20 } do
      for _, before in ipairs { 0, 1, 511, 8191, WRITE_LIMIT - 1 } do
        table.move({ before, size }, 1, 2, #sizes + 1, sizes)
      end
    end
    local function part(size) return much:sub(#much - size + 1) end
    start(function()
      for _, size in ipairs(sizes) do a.conn:write(part(size)) end
      a.conn:shutdown()
    end)
    for _, size in ipairs(sizes) do
      assert.is_true(size == 0 or b:read(size) == part(size), size)
    end
    assert.is_nil(b:read(1))
  end)

  it("suspends a handler that writes 100 MB to a client that does not read", function()
    local chunk = numbered(1 << 20)
    local written = 0
    local client <close> = test.connect(function(conn)
      for i = 1, 100 do
        assert(conn:write(chunk))
        written = i
      end
      conn:write "end"
    end)
    collectgarbage()
    local lua, resident = collectgarbage "count", harness.memory(process.pid())
    test.settle()
    collectgarbage()
    assert.is_true(written < 2)
    assert.is_true(collectgarbage "count" - lua < 1024)
    assert.is_true(harness.memory(process.pid()) - resident < SLACK)

    for i = 1, 100 do
      assert.is_true(client:read(#chunk) == chunk, "megabyte " .. i)
      assert.is_true(written <= i + 1)
    end
    assert.equal("end", client:read "a")
    assert.equal(100, written)
    collectgarbage()
    assert.is_true(collectgarbage "count" - lua < 1024)
  end)

  it("keeps no more than the limit of what the client has not taken", function()
    local a, b, _ <close> = half()
    local file <close> = b:file()
    local function take()
      local n = 0
      while file:read(1) do n = n + 1 end
      return n
    end
    fill(a.conn)
    assert.is_true(take() > 0)
    test.settle()
    assert.equal(WRITE_LIMIT, take())
    test.settle()
    assert.equal(0, take())
  end)

  it("wakes the writer once the client has read enough", function()
    local a, b, _ <close> = pair()
    fill(a.conn)
    local writing = start(a.conn.write, a.conn, "last")
    assert.is_false(is_over(writing))
    while not is_over(writing) do assert.equal(1024, #b:read(1024)) end
    a:shutdown()
    assert.equal("last", b:read("a"):sub(-4))
  end)

  it("fails when the client is gone", function()
    local a, b, _ <close> = pair()
    b:close()
    assert.equal(a.conn, a.conn:write "into the air")
    assert.same({ nil, "closed", "EPIPE" }, { a:flush() })
    assert.same({ nil, "closed", "EPIPE" }, { a:write "more" })
    assert.same({ nil, "closed", "EPIPE" }, { a:read() })
  end)

  it("fails when the client goes while it waits", function()
    local a, b, _ <close> = half()
    fill(a.conn)
    local writing, reading = start(a.conn.write, a.conn, "x"), start(a.conn.read, a.conn)
    b:close()
    test.settle()
    assert.same({ nil, "closed", "EPIPE", n = 3 }, writing)
    assert.same({ nil, "closed", n = 3 }, { reading[1], reading[2], n = reading.n })
  end)

  it("keeps what each of several writers writes together, in their order", function()
    local a, b, _ <close> = pair()
    local big = { ("x"):rep(300000), ("y"):rep(300000), ("z"):rep(300000) }
    local writing = {}
    for i, text in ipairs(big) do
      writing[i] = start(a.conn.write, a.conn, text, i, "\n")
    end
    local reading = start(a.conn.read, a.conn)
    assert.is_false(is_over(writing[1]) or is_over(writing[2]) or is_over(writing[3]))
    b:write "answer\n" -- the other side is not held up
    assert.same({ "answer", n = 1 }, reading)
    for i, text in ipairs(big) do assert.is_true(b:read "l" == text .. i) end
    for i = 1, 3 do assert.same({ a.conn, n = 1 }, writing[i]) end
  end)
end)

describe("conn:readsome", function()
  it("gives what there is, and waits when there is nothing", function()
    local a, b, _ <close> = pair()
    local reading = start(b.conn.readsome, b.conn)
    assert.is_false(is_over(reading))
    a:write "hello"
    assert.same({ "hello", n = 1 }, reading)
    a:write "world"
    assert.equal("wo", b:readsome(2))
    assert.equal("rld", b:readsome())
    b.conn:settimeout(3)
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { b:readsome() })
    a:write "bye"
    a:close()
    assert.equal("bye", b:readsome())
    assert.same({ nil, "closed", "EOF" }, { b:readsome() })
    assert.has_error(function() b:readsome(0) end)
  end)
end)

describe("a connection that never has to wait", function()
  -- Calls fn again and again, beside a client: whether that is answered meanwhile.
  local function is_fair(fn, times)
    times = times or 1000
    local client <close> = test.connect(function(conn) conn:write(conn:read "L") end)
    local calls, answered = 0, false
    test.run(function()
      task.spawn(function()
        while not answered and calls < times do
          fn()
          calls = calls + 1
        end
      end)
      client.conn:write "hello\n"
      answered = client.conn:read() == "hello"
    end)
    test.settle()
    return calls < times
  end

  local function device(name, mode)
    return assert(net.conn(open_fd("/dev/" .. name, mode)))
  end

  it("leaves the others their turn when it is read", function()
    local zeros <close> = device("zero", "r")
    assert.is_true(is_fair(function() zeros:readsome() end))
    assert.is_true(is_fair(function() zeros:read(65536) end))
  end)

  it("does so when it is written to", function()
    local sink <close> = device("null", "w")
    local large, small = ("x"):rep(65536), ("x"):rep(4096)
    assert.is_true(is_fair(function() assert(sink:write(large)) end))
    assert.is_true(is_fair(function()
      for _ = 1, 16 do assert(sink:write(small)) end
    end))
    assert.is_true(is_fair(function() assert(sink:write(small):flush()) end))
  end)

  it("does so when it is sent files, and large ones", function()
    local path = temporary(("x"):rep(3 << 20))
    local sink <close> = device("null", "w")
    local function send() assert(sink:sendfile(path)) end
    assert.is_true(is_fair(send))
    local file <close> = assert(io.open(path, "w"))
    file:seek("set", 256 << 20)
    file:write("x"):flush()
    assert.is_true(is_fair(send, 1))
    os.remove(path)
  end)
end)

describe("conn:flush", function()
  it("waits until the kernel has all of it", function()
    local a, b, _ <close> = pair()
    fill(a.conn)
    local flushing = start(a.conn.flush, a.conn)
    assert.is_false(is_over(flushing))
    local some = drain(b.conn)
    test.settle()
    assert.same({ a.conn, n = 1 }, flushing)
    assert.is_true(some > 0)
  end)

  it("has its time limit too", function()
    local a, b, _ <close> = pair()
    fill(a.conn)
    a:settimeout(5)
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { a:flush() })
    drain(b.conn)
    assert.equal(a.conn, a:flush())
  end)
end)

describe("half of a connection", function()
  it("is closed by shutdown: the client reads to the end and still answers", function()
    local a, b, _ <close> = pair()
    assert.equal(a.conn, a.conn:write "question":shutdown())
    assert.equal("question", b:read "a")
    b:write "answer\n"
    assert.equal("answer", a:read())
    assert.same({ nil, "closed", "EPIPE" }, { a:write "more" })
    assert.equal(a.conn, a:shutdown())
    b:write "again\n"
    assert.equal("again", a:read())
  end)

  it("waits for what the client has still to take", function()
    local a, b, _ <close> = pair()
    fill(a.conn)
    a:shutdown()
    local n = 0
    test.run(function()
      while b.conn:read(0) do n = n + #b.conn:unread() end
    end)
    assert.is_true(n > WRITE_LIMIT)
  end)

  it("may be the client's: the handler answers after its end", function()
    local client <close> = test.connect(function(conn)
      conn:write(("%d bytes"):format(#conn:read "a"))
    end)
    client:write "12345":shutdown()
    assert.equal("5 bytes", client:read "a")
  end)
end)

describe("a time limit", function()
  it("ends a read, in no time", function()
    local a, b, _ <close> = pair()
    local began, cpu = task.now(), os.clock()
    b:settimeout(30)
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { b:read() })
    assert.equal(began + 30, task.now())
    assert.is_true(os.clock() - cpu < 1)
    a:write "late\n"
    assert.equal("late", b:read())
  end)

  it("leaves what has come for the next read", function()
    local a, b, _ <close> = pair()
    b:settimeout(30)
    a:write "one\nhalf"
    assert.same({ "one", nil, "timeout", "ETIMEDOUT" }, { b:read("l", "l") })
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { b:read(100) })
    a:write " a line\n"
    assert.equal("half a line", b:read())
  end)

  it("is for the whole of a call, however slowly it comes, and for each anew", function()
    local a, b, _ <close> = pair()
    b:settimeout(30)
    local dripping = task.spawn(function()
      while a.conn:write "x" do task.sleep(20) end
    end)
    for _ = 1, 2 do
      local began = task.now()
      assert.same({ nil, "timeout", "ETIMEDOUT" }, { b:read "l" })
      assert.equal(began + 30, task.now())
    end
    dripping:cancel()
  end)

  it("holds for calls that begin later: who waits already does so as before", function()
    local a, b, _ <close> = pair()
    b:settimeout(30)
    local first = start(b.conn.read, b.conn, "l")
    b:settimeout(nil)
    local second = start(b.conn.read, b.conn, "l")
    test.advance(20)
    a:write "half"
    test.advance(10)
    assert.equal("ETIMEDOUT", first[3])
    test.advance(100)
    a:write "\n"
    assert.same({ "half", n = 1 }, second)
  end)

  it("of 0 takes what is there", function()
    local a, b, _ <close> = pair()
    b:settimeout(0)
    a:write "here\n"
    assert.equal("here", b:read())
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { b:read() })
  end)

  it("of 0 takes what has come since the last read", function()
    local a, b, _ <close> = pair()
    local read = test.run(function()
      a.conn:write "one\n"
      local first = b.conn:read()
      a.conn:write "two\n"
      a.conn:flush()
      b.conn:settimeout(0)
      return { first, b.conn:read() }
    end)
    assert.same({ "one", "two" }, read)
  end)

  it("can be taken away", function()
    local a, b, _ <close> = pair()
    test.run(function()
      assert.equal(b.conn, b.conn:settimeout(1))
      assert.equal(b.conn, b.conn:settimeout(nil))
    end)
    local reading = start(b.conn.read, b.conn)
    test.advance(1e6)
    assert.is_false(is_over(reading))
    a:write "at last\n"
    assert.equal("at last", reading[1])
  end)

  it("can be taken away from a task that has waited so long", function()
    local a, b, _ <close> = pair()
    local reading = start(function()
      assert(select(3, b.conn:settimeout(1):read()) == "ETIMEDOUT")
      return b.conn:settimeout(nil):read()
    end)
    for part in ("at last\n"):gmatch "..?" do
      test.advance(10)
      a:write(part)
    end
    assert.equal("at last", reading[1])
  end)

  it("must be a time", function()
    local a, b, _ <close> = pair()
    for _, wrong in ipairs { -1, 0 / 0, "soon", {} } do
      assert.is_false(pcall(a.conn.settimeout, a.conn, wrong))
    end
    b:close()
  end)

  it("ends a write, of which the client gets the beginning", function()
    local a, b, _ <close> = pair()
    local text = numbered(4 << 20)
    a:settimeout(30)
    local began = task.now()
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { a:write(text) })
    assert.equal(began + 30, task.now())
    a:shutdown()
    local got = {}
    test.run(function()
      while b.conn:read(0) do got[#got + 1] = b.conn:unread() end
    end)
    got = table.concat(got)
    assert.is_true(#got > 0 and #got < #text)
    assert.is_true(got == text:sub(1, #got))
  end)
end)

describe("conn:close", function()
  it("can be done twice, and then everything else raises", function()
    local a, b, _ <close> = pair()
    assert.matches("^moonpool.conn %(%d+%)$", tostring(a.conn))
    assert.is_true(a.conn:close())
    assert.is_true(a.conn:close())
    assert.equal("moonpool.conn (closed)", tostring(a.conn))
    for _, method in ipairs { "read", "lines", "unread", "write", "flush", "sendfile",
      "sendfd", "recvfd", "settimeout", "shutdown", "peer", "sock", "fileno" } do
      local ok, why = pcall(a.conn[method], a.conn)
      assert.is_false(ok)
      assert.equal(("bad argument #1 to '%s' (connection is closed)"):format(method),
        (why:gsub("'?%?'", "'" .. method .. "'")))
    end
    assert.same({ nil, "closed", "EOF" }, { b:read() })
  end)

  it("tells the tasks that wait", function()
    local a, b, _ <close> = pair()
    fill(a.conn)
    local reading, writing = start(a.conn.read, a.conn), start(a.conn.write, a.conn, "x")
    a.conn:close()
    test.settle()
    assert.same({ nil, "Operation canceled", "ECANCELED", n = 3 }, reading)
    assert.same({ nil, "Operation canceled", "ECANCELED", n = 3 }, writing)
    drain(b.conn)
  end)

  it("tells a task that waits for a descriptor", function()
    local a, b, _ <close> = pair()
    local waiting = start(a.conn.recvfd, a.conn)
    a.conn:close()
    test.settle()
    assert.same({ nil, "Operation canceled", "ECANCELED", n = 3 }, waiting)
    b:close()
  end)

  it("sends what is left", function()
    local text = numbered(1 << 20)
    local a, b, _ <close> = pair()
    start(function()
      a.conn:write(text)
      a.conn:close()
    end)
    local got = {}
    for _ = 1, 1000 do
      got[#got + 1] = b:read(1111)
      if not got[#got] then break end
    end
    assert.is_true(table.concat(got) == text)
  end)

  it("gives up a client that takes nothing for ten seconds", function()
    local a, b, _ <close> = pair()
    local before = harness.descriptors(process.pid())
    fill(a.conn)
    a.conn:close()
    test.advance(9.9)
    assert.equal(before, harness.descriptors(process.pid()))
    test.advance(0.2)
    assert.equal(before - 1, harness.descriptors(process.pid()))
    b:close()
  end)

  it("rests while what is left waits, whatever the client says", function()
    local a, b, _ <close> = pair()
    b:write "question\n"
    local asked = start(a.conn.read, a.conn, "l", "l")
    a.conn:settimeout(0)
    local text = ("x"):rep(WRITE_LIMIT)
    while test.run(a.conn.write, a.conn, text) do end -- luacheck: ignore 542
    a.conn:close()
    test.settle()
    b.conn:write "more"
    local turns = 0
    while loop.turn() and turns < 100 do turns = turns + 1 end
    assert.is_true(turns < 100)
    assert.equal("ECANCELED", asked[4])
  end)

  it("lets a client that is still sending read the answer, without a reset", function()
    local client <close> = test.connect(function(conn)
      conn:write "no, thank you\n"
    end)
    client.conn:write(("x"):rep(10000))
    test.settle()
    assert.equal("no, thank you", client:read())
    assert.same({ nil, "closed", "EOF" }, { client:read() })
  end)

  it("waits two seconds for such a client, not longer", function()
    local client = test.connect(function(conn)
      conn:write "no, thank you\n"
    end)
    client.conn:write(("x"):rep(10000))
    test.settle()
    local before = harness.descriptors(process.pid())
    test.advance(1.9)
    assert.equal(before, harness.descriptors(process.pid()))
    test.advance(0.2)
    assert.equal(before - 1, harness.descriptors(process.pid()))
    client:close()
  end)

  it("is done by <close>", function()
    local a, b = net.pair()
    do
      local held <close> = a
      held:write "bye\n"
    end
    assert.equal("moonpool.conn (closed)", tostring(a))
    local client <close> = test.client(b)
    assert.same({ "bye", nil, "closed", "EOF" }, { client:read("l", "l") })
  end)

  it("is done by the collector", function()
    local client <close> = test.client(select(2, net.pair()))
    collectgarbage()
    collectgarbage()
    test.settle()
    assert.same({ nil, "closed", "EOF" }, { client:read() })
  end)

  it("is done by the collector under tasks whose coroutines are closed", function()
    local weak, far, woken = setmetatable({}, { __mode = "v" }), nil, 0
    local coroutines, tasks = {}, {}
    coroutines[1] = coroutine.create(function()
      weak.conn, far = net.pair()
      weak.conn:read()
    end)
    for i = 2, 3 do
      coroutines[i] = coroutine.create(function() weak.conn:read() end)
    end
    for i = 1, 3 do
      tasks[i] = spawn(function()
        coroutine.resume(coroutines[i])
        woken = woken + 1
      end)
    end
    local client <close> = test.client(far)
    for i = 1, 3 do coroutine.close(coroutines[i]) end
    collectgarbage()
    collectgarbage()
    assert.is_nil(weak.conn)
    tasks[1]:cancel()
    tasks[2]:cancel()
    test.settle()
    assert.equal(1, woken)
    assert.same({ nil, "closed", "EOF" }, { client:read() })
  end)

  it("is done at the end of the program, with what is left unsent", function()
    assert.same({ "", "exit", 0 }, { child [[
      local core = require "moonpool.core"
      local a, b = core.net.pair()
      kept = { a, b }
      core.loop.virtual(true)
      core.task.spawn(function() a:write(("x"):rep(1 << 20)) end)
      core.task.spawn(function() a:read() end)
      for _ = 1, 10 do core.loop.turn() end
      b:write "unsent"
    ]] })
  end)
end)

describe("a connection", function()
  it("has addresses, where it is a socket", function()
    local a, b, _ <close> = pair()
    assert.equal("unix:", a:peer())
    assert.equal("unix:", b:sock())
    local reading, writing = fd.pipe()
    local from <close> = assert(net.conn(reading))
    local to <close> = assert(net.conn(writing))
    assert.same({ nil, "Socket operation on non-socket", "ENOTSOCK" }, { from:peer() })
    assert.same({ nil, "Socket operation on non-socket", "ENOTSOCK" }, { to:sock() })
  end)

  it("has a descriptor", function()
    local a, b, _ <close> = pair()
    assert.equal(("moonpool.conn (%d)"):format(a:fileno()), tostring(a.conn))
    assert.not_equal(a:fileno(), b:fileno())
  end)
end)

describe("conn:sendfile", function()
  local path

  before_each(function() path = temporary "0123456789" end)
  after_each(function() os.remove(path) end)

  it("sends a file by its name, as a Lua file or as a descriptor", function()
    local a, b, _ <close> = pair()
    local file <close> = assert(io.open(path))
    local descriptor <close> = open_fd(path)
    for _, what in ipairs { path, file, descriptor } do
      assert.equal(10, a:sendfile(what))
      assert.equal("0123456789", b:read(10))
    end
    assert.equal("0123456789", file:read "a")
  end)

  it("sends a part of it", function()
    local a, b, _ <close> = pair()
    for _, case in ipairs {
      { "456789", 4 }, { "456", 4, 3 }, { "9", 9, 100 }, { "", 10 }, { "", 11, 5 },
      { "", 3, 0 }, { "0123456789", nil, 10 }, { "0123456789", 0, -1 },
    } do
      assert.equal(#case[1], a:sendfile(path, case[2], case[3]))
      assert.equal(case[1], #case[1] > 0 and b:read(#case[1]) or "")
    end
    assert.has_error(function() a.conn:sendfile(path, -1) end,
      "bad argument #2 to 'sendfile' (negative offset)")
  end)

  it("keeps the order of what is written around it", function()
    local a, b, _ <close> = pair()
    test.run(function()
      a.conn:write "before "
      a.conn:sendfile(path)
      a.conn:write " after"
      a.conn:shutdown()
    end)
    assert.equal("before 0123456789 after", b:read "a")
  end)

  it("holds a short part with other output, and waits with a long one", function()
    harness.write_file(path, numbered(16384))
    for length, waits in pairs { [8192] = false, [8193] = true } do
      local a, b, _ <close> = pair()
      test.run(block, a.conn)
      local sending = start(function()
        a.conn:sendfile(path, 0, length)
        a.conn:shutdown()
      end)
      assert.equal(not waits, is_over(sending))
      local got = b:read "a"
      assert.is_true(got:sub(-length) == numbered(16384):sub(1, length))
    end
  end)

  it("waits with a short part too where there is no room", function()
    local a, b, _ <close> = pair()
    fill(a.conn)
    local sending = start(a.conn.sendfile, a.conn, path)
    assert.is_false(is_over(sending))
    repeat drain(b.conn) until is_over(sending)
    assert.same({ 10, n = 1 }, sending)
  end)

  it("says what it cannot send", function()
    local a, b, _ <close> = pair()
    local reading, writing, _ <close> = pipe()
    os.remove(path)
    assert.same({ nil, "No such file or directory", "ENOENT" }, { a:sendfile(path) })
    assert.same({ nil, "Is a directory", "EISDIR" }, { a:sendfile "/" })
    assert.same({ nil, "Invalid argument", "EINVAL" }, { a:sendfile(reading) })
    writing:close()
    for _, wrong in ipairs { 12, {}, a.conn, writing, io.tmpfile() } do
      if io.type(wrong) then wrong:close() end
      local ok, why = pcall(a.conn.sendfile, a.conn, wrong)
      assert.is_false(ok)
      assert.matches("path, open file or descriptor expected", why)
    end
    a:write "still here\n"
    assert.equal("still here", b:read())
  end)

  it("keeps no descriptor open", function()
    local a, b, _ <close> = pair()
    collectgarbage "stop"
    local before = harness.descriptors(process.pid())
    a:sendfile(path)
    local after = harness.descriptors(process.pid())
    collectgarbage "restart"
    assert.equal(before, after)
    assert.equal("0123456789", b:read(10))
  end)

  describe("of 5 MB", function()
    local text = numbered(5 << 20)

    before_each(function() harness.write_file(path, text) end)

    it("waits for a slow reader", function()
      local a, b, _ <close> = pair()
      local sending = start(a.conn.sendfile, a.conn, path)
      assert.is_false(is_over(sending))
      local got, n = {}, 0
      repeat
        got[#got + 1] = b:read(1 << 16)
        n = n + #got[#got]
      until n == #text
      assert.is_true(table.concat(got) == text)
      assert.same({ #text, n = 1 }, sending)
    end)

    it("ends early when the file is cut meanwhile, and the connection goes on", function()
      local a, b, _ <close> = pair()
      local sending = start(a.conn.sendfile, a.conn, path)
      harness.write_file(path, text:sub(1, 1 << 20))
      local got = b:read(1 << 20)
      assert.is_true(got == text:sub(1, 1 << 20))
      test.settle()
      assert.same({ 1 << 20, n = 1 }, sending)
      a:write "and on\n"
      assert.equal("and on", b:read())
    end)

    it("has its time limit", function()
      local a, b, _ <close> = pair()
      a:settimeout(30)
      assert.same({ nil, "timeout", "ETIMEDOUT" }, { a:sendfile(path) })
      assert.is_true(drain(b.conn) > 0)
    end)

    it("fails when the client goes", function()
      local a, b, _ <close> = half()
      local sending = start(a.conn.sendfile, a.conn, path)
      b:close()
      test.settle()
      assert.same({ nil, "closed", "EPIPE", n = 3 }, sending)
    end)

    it("is closed when its task is cancelled", function()
      local a, b, _ <close> = pair()
      local before = harness.descriptors(process.pid())
      local t = spawn(function() a.conn:sendfile(path) end)
      assert.equal(before + 1, harness.descriptors(process.pid()))
      t:cancel()
      test.settle()
      assert.equal(before, harness.descriptors(process.pid()))
      drain(b.conn)
    end)
  end)

  it("fails after shutdown, and reading goes on", function()
    local a, b, _ <close> = pair()
    a:shutdown()
    assert.same({ nil, "closed", "EPIPE" }, { a:sendfile(path) })
    assert.same({ nil, "closed", "EPIPE" }, { a:sendfd(io.stdin, "x") })
    b:write "answer\n"
    assert.equal("answer", a:read())
  end)
end)

describe("conn:sendfd and conn:recvfd", function()
  it("pass a file, which both then read at one offset", function()
    local path = temporary "0123456789"
    local a, b, _ <close> = pair()
    local file <close> = assert(io.open(path))
    os.remove(path)
    assert.equal(a.conn, test.run(a.conn.sendfd, a.conn, file, "x"))
    local received <close> = assert(b:recvfd())
    assert.equal("file", received:kind())
    file:seek("set", 4)
    local same <close> = received:file()
    file:setvbuf "no"
    same:setvbuf "no"
    assert.equal("45", same:read(2))
    same:seek("set", 7)
    assert.equal("789", file:read "a")
  end)

  it("pass a pipe", function()
    local a, b, _ <close> = pair()
    local reading <close>, writing = fd.pipe()
    a:sendfd(reading, "x")
    local received <close> = assert(b:recvfd())
    assert.equal("pipe", received:kind())
    assert.is_true(same_thing(reading, received))
    local file <close> = writing:file "w"
    file:write "through the pipe"
    file:close()
    local other <close> = received:file()
    assert.equal("through the pipe", other:read "a")
  end)

  it("pass a connection, which goes on without its sender", function()
    local a, b, _ <close> = pair()
    local near, far, _ <close> = pair()
    a:sendfd(near.conn, "x")
    near:close()
    local received = assert(b:recvfd())
    assert.equal("socket", received:kind())
    local passed <close> = test.client(assert(net.conn(received)))
    assert.equal("moonpool.fd (closed)", tostring(received))
    far:write "hello\n"
    assert.equal("hello", passed:read())
    passed:write "hello yourself\n"
    assert.equal("hello yourself", far:read())
  end)

  it("refuse a connection with unread input, or with output", function()
    local a, b, _ <close> = pair()
    local near, far, _ <close> = pair()
    far:write "line\nunread"
    near:read()
    local ok, why = pcall(a.conn.sendfd, a.conn, near.conn, "x")
    assert.is_false(ok)
    assert.matches("it holds input that was read ahead: send conn:unread%(%) along", why)
    near:unread()
    fill(near.conn)
    ok, why = pcall(a.conn.sendfd, a.conn, near.conn, "x")
    assert.is_false(ok)
    assert.matches("it holds output: flush it first", why)
    b:settimeout(0)
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { b:read(1) })
  end)

  it("refuse what is closed or is no descriptor, and a descriptor alone", function()
    local a, b, _ <close> = pair()
    local file = assert(io.tmpfile())
    file:close()
    local closed <close> = fd.pipe()
    closed:close()
    for _, wrong in ipairs { file, closed, 0, "x", {} } do
      local ok, why = pcall(a.conn.sendfd, a.conn, wrong, "x")
      assert.is_false(ok)
      assert.matches("connection, open file or descriptor expected", why)
    end
    local conn = net.pair()
    conn:close()
    local ok, why = pcall(a.conn.sendfd, a.conn, conn, "x")
    assert.is_false(ok)
    assert.matches("connection is closed", why)
    assert.has_error(function() a.conn:sendfd(io.stdin, "") end,
      "bad argument #2 to 'sendfd' (at least one byte must go along)")
    assert.is_false(pcall(a.conn.sendfd, a.conn, io.stdin))
    b:close()
  end)

  it("keep their order", function()
    local a, b, _ <close> = pair()
    local sent = {}
    for i = 1, 10 do
      local reading, writing = fd.pipe()
      if i % 2 == 0 then reading, writing = writing, reading end
      writing:close()
      sent[i] = reading
      a:sendfd(reading, tostring(i))
    end
    for i = 1, 10 do
      local received <close> = assert(b:recvfd())
      assert.is_true(same_thing(sent[i], received))
      sent[i]:close()
    end
    assert.equal("12345678910", b:read(11))
  end)

  it("bring the descriptor with the first byte of its data", function()
    local a, b, _ <close> = pair()
    a:write "before "
    a:sendfd(io.stdin, "data")
    b:settimeout(0)
    assert.equal("before d", b:read(8))
    local received <close> = assert(b:recvfd())
    assert.not_nil(received:kind())
    assert.equal("ata", b:read(3))
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { b:recvfd() })
  end)

  it("lose nothing to a plain read", function()
    local a, b, _ <close> = pair()
    local reading, writing, _ <close> = pipe()
    a:sendfd(reading, "one\n")
    a:sendfd(writing, "two\n")
    a:shutdown()
    assert.equal("one\ntwo\n", b:read "a")
    local first <close> = assert(b:recvfd())
    local second <close> = assert(b:recvfd())
    assert.is_true(same_thing(reading, first) and same_thing(writing, second))
    assert.same({ nil, "closed", "EOF" }, { b:recvfd() })
  end)

  it("wait, with a time limit", function()
    local a, b, _ <close> = pair()
    b:settimeout(30)
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { b:recvfd() })
    local receiving = start(b.conn.recvfd, b.conn)
    assert.is_false(is_over(receiving))
    a:write "only data"
    assert.is_false(is_over(receiving))
    a:sendfd(io.stdin, "x")
    test.settle()
    local received <close> = receiving[1]
    assert.equal("only datax", b:read(10))
    fill(a.conn)
    local sending = start(a.conn.sendfd, a.conn, received, "y")
    assert.is_false(is_over(sending))
    drain(b.conn)
    test.settle()
    assert.same({ a.conn, n = 1 }, sending)
    local again <close> = assert(b:recvfd())
    assert.is_true(same_thing(received, again))
  end)

  it("take much data along", function()
    local a, b, _ <close> = pair()
    local text = numbered(1 << 20)
    local sending = start(a.conn.sendfd, a.conn, io.stdin, text)
    assert.is_false(is_over(sending))
    assert.is_true(text == b:read(#text))
    assert.same({ a.conn, n = 1 }, sending)
    local received <close> = assert(b:recvfd())
    b:settimeout(0)
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { b:recvfd() })
    assert.not_nil(received:kind())
  end)

  it("raise when the descriptor is closed while it waits to be sent", function()
    local a, b, _ <close> = pair()
    local reading, writing, _ <close> = pipe()
    fill(a.conn)
    local sending = start(pcall, a.conn.sendfd, a.conn, reading, "x")
    reading:close()
    drain(b.conn)
    test.settle()
    assert.is_false(sending[1])
    assert.matches("connection, open file or descriptor expected", sending[2])
    a:write "still here\n"
    assert.equal("still here", b:read())
    writing:close()
  end)

  it("close what nobody takes beyond 64, and the rest with the connection", function()
    local a, b, _ <close> = pair()
    local before = harness.descriptors(process.pid())
    for _ = 1, 70 do a:sendfd(io.stdin, "x") end
    assert.equal(("x"):rep(70), b:read(70))
    assert.equal(before + 64, harness.descriptors(process.pid()))
    for _ = 1, 10 do assert(b:recvfd()):close() end
    assert.equal(before + 54, harness.descriptors(process.pid()))
    b:close()
    assert.equal(before - 1, harness.descriptors(process.pid()))
  end)

  it("are for unix sockets: a pipe says so", function()
    local reading, writing = fd.pipe()
    local from <close> = assert(net.conn(reading))
    local to <close> = assert(net.conn(writing))
    assert.same({ nil, "Operation not supported", "EOPNOTSUPP" },
      { test.run(to.sendfd, to, io.stdin, "x") })
    assert.same({ nil, "Operation not supported", "EOPNOTSUPP" },
      { test.run(from.recvfd, from) })
  end)
end)
