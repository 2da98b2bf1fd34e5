-- Connections that move from one handler to another, as from worker to worker, in this
-- process: what moves, when, and what goes along.

local http = require "moonpool.http"
local moonpool = require "moonpool"
local test = require "moonpool.test"

-- Counts lines; its state is how many there were.
local function counter(label)
  local function go_on(conn, n, why)
    if why then conn:write("moved by ", why, " to ", label, " at ", n, "\n") end
    while true do
      conn:checkpoint(n)
      local line = conn:read "l"
      if not line then return end
      n = n + 1
      conn:write(label, " ", n, " ", line, "\n")
    end
  end
  return {
    serve = function(conn) go_on(conn, 0) end,
    resume = go_on,
  }
end

describe("a raw connection", function()
  require "tidy" (before_each, after_each)

  it("goes on elsewhere with its state", function()
    local client <close> = test.connect(counter "a")
    client:write "one\n"
    assert.equal("a 1 one", client:read "l")
    assert.is_true(client:move(counter "b"))
    assert.equal("moved by reload to b at 1", client:read "l")
    client:write "two\n"
    assert.equal("b 2 two", client:read "l")
    for i = 1, 20 do
      assert.is_true(client:move(counter(tostring(i))))
      assert.equal("moved by reload to " .. i .. " at 2", client:read "l")
    end
  end)

  it("takes along what was read ahead, at every cut", function()
    local text = "first\nsecond line\nthird\n"
    for cut = 0, #text do
      local client <close> = test.connect(counter "a")
      client:write(text:sub(1, cut))
      local seen = select(2, text:sub(1, cut):gsub("\n", ""))
      assert.is_true(client:move(counter "b"))
      client:write(text:sub(cut + 1))
      client.conn:shutdown()
      local lines, n = {}, 0
      for line in client:lines() do
        if line:find "^moved" then
          assert.equal("moved by reload to b at " .. seen, line)
        else
          n = n + 1
          lines[n] = line:match "^%a (.*)"
        end
      end
      assert.same({ "1 first", "2 second line", "3 third" }, lines)
    end
  end)

  it("sees the end of its input there too", function()
    local client <close> = test.connect(counter "a")
    client:write "half"
    assert.is_true(client:move(counter "b"))
    client.conn:shutdown()
    assert.equal("moved by reload to b at 0", client:read "l")
    assert.equal("b 1 half", client:read "l")
    assert.is_nil((client:read "l"))
  end)

  it("stays without a checkpoint, and once a read has returned", function()
    local function script(conn)
      local state = conn:read "l"
      if state == "set" then conn:checkpoint "x" end
      conn:write "ok\n"
      conn:read "l"
      conn:write "read\n"
      conn:read "l"
    end
    local seen
    local function resume(_, state) seen = state end
    local handler = { serve = script, resume = resume }
    local client <close> = test.connect(handler)
    assert.is_false(client:move(handler))
    client:write "set\n"
    assert.equal("ok", client:read "l")
    client:write "on\n"
    assert.equal("read", client:read "l")
    assert.is_false(client:move(handler)) -- it reads on, but not from the checkpoint
    client:write "\n"
    assert.is_nil((client:read "l"))
    local other <close> = test.connect(handler)
    other:write "set\n"
    assert.equal("ok", other:read "l")
    assert.is_true(other:move(handler))
    assert.equal("x", seen)
  end)

  it("forgets its checkpoint with every kind of read", function()
    for how, send in pairs {
      l = "line\n", L = "line\n", a = "", [3] = "abc", some = "x", unread = "xy",
    } do
      local client <close> = test.connect { serve = function(conn)
        conn:checkpoint "x"
        if how == "some" then conn:readsome(1)
        elseif how == "unread" then conn:read(1) conn:checkpoint "y" conn:unread()
        else conn:read(how) end
        conn:write "read\n"
        conn:read "l"
      end, resume = function(conn) conn:write "resumed\n" end }
      if how ~= "a" then
        client:write(send)
        assert.equal("read", client:read "l")
        assert.is_false(client:move())
      end
    end
  end)

  it("stays while output waits", function()
    local client <close> = test.connect { serve = function(conn)
      conn:checkpoint()
      moonpool.spawn(function() conn:write(("x"):rep(4 << 20)) end)
      conn:read "l"
    end, resume = function(conn) conn:write "resumed\n" end }
    assert.is_false(client:move())
    local n = 0
    while n < 4 << 20 do n = n + #client:readsome() end
    assert.is_true(client:move())
    assert.equal("resumed", client:read "l")
  end)

  it("stays while output is held that nobody waits for", function()
    local piece = ("x"):rep(1000)
    local function write_pieces(conn, most)
      conn:settimeout(1)
      local n = 0
      while n < most and conn:write(piece) do n = n + 1 end
      conn:settimeout(nil)
      return n
    end
    local function script(most, tell)
      return { serve = function(conn)
        tell(write_pieces(conn, most))
        conn:checkpoint()
        conn:read "l"
      end, resume = function(conn) conn:write "resumed\n" end }
    end
    local limit, total
    local full <close> = test.connect(script(math.huge, function(n) limit = n end))
    test.advance(2)
    local client <close> = test.connect(script(limit - 20, function(n) total = n end))
    assert.is_false(client:move()) -- the kernel has not all of it
    assert.equal(limit - 20, total)
    assert.is_false(full:move())
    assert.equal(total * 1000, #client:read(total * 1000))
    assert.is_true(client:move())
    assert.equal("resumed", client:read "l")
  end)

  it("stays while it is pinned", function()
    local handler = { serve = function(conn)
      conn:pin()
      conn:checkpoint(1)
      conn:read "l"
      conn:pin(false)
      conn:checkpoint(2)
      conn:read "l"
    end, resume = function(conn, state) conn:write(state, "\n") end }
    local client <close> = test.connect(handler)
    assert.is_false(client:move(handler))
    client:write "on\n"
    assert.is_true(client:move(handler))
    assert.equal("2", client:read "l")
  end)

  it("is moved from under its tasks, which are cancelled", function()
    local log = {}
    local function note(text) log[#log + 1] = text end
    local function closing(conn, name)
      return setmetatable({}, { __close = function()
        note(name .. " " .. tostring(conn:moved()))
      end })
    end
    local client <close> = test.connect { serve = function(conn)
      local _ <close> = closing(conn, "handler")
      moonpool.spawn(function()
        local _ <close> = closing(conn, "child")
        moonpool.sleep(1000)
      end)
      conn:checkpoint {}
      conn:read "l"
      note "read on"
    end, resume = function(conn)
      note("resumed " .. tostring(conn:moved()))
      conn:read "l"
    end }
    assert.is_true(client:move())
    table.sort(log)
    assert.same({ "child reload", "handler reload", "resumed nil" }, log)
    assert.has_no.errors(function() test.advance(2000) end)
  end)

  it("can be read by a task of the handler's", function()
    local client <close> = test.connect { serve = function(conn)
      local reader = moonpool.spawn(function()
        conn:checkpoint "from a task"
        conn:read "l"
        conn:write "old\n"
      end)
      while reader:alive() do moonpool.sleep(1) end
    end, resume = function(conn, state) conn:write(state, "\n") end }
    assert.is_true(client:move())
    assert.equal("from a task", client:read "l")
    assert.is_nil((client:read "l"))
  end)

  it("keeps the state as it was at the call", function()
    local client <close> = test.connect { serve = function(conn)
      local state = { names = { "ada" } }
      conn:checkpoint(state)
      state.names[2] = "bob"
      conn:read "l"
    end, resume = function(conn, state)
      conn:write(table.concat(state.names, " "), "\n")
    end }
    assert.is_true(client:move())
    assert.equal("ada", client:read "l")
  end)

  it("is told what becomes of what is read later", function()
    local fault
    local client <close> = test.connect(function(conn)
      for _, how in ipairs { "end", "again", "on" } do conn:checkpoint(1, how) end
      fault = select(2, pcall(conn.checkpoint, conn, 1, "never"))
      conn:write "ok"
    end)
    assert.equal("ok", client:read "a")
    assert.matches("bad argument #%d to .-invalid option 'never'", fault)
  end)

  it("raises for a state that cannot be kept, and has no checkpoint then", function()
    local errors = {}
    local client <close> = test.connect { serve = function(conn)
      conn:checkpoint "good"
      for i, bad in ipairs { print, { on = { end_ = print } }, ("x"):rep(65536) } do
        local _, err = pcall(conn.checkpoint, conn, bad)
        errors[i] = err
      end
      conn:read "l"
    end, resume = print }
    assert.is_false(client:move())
    assert.matches("state is a function", errors[1])
    assert.matches("state%.on%.end_ is a function", errors[2])
    assert.matches("state makes it more than 65536 bytes", errors[3])
  end)

  it("may have no state, or a false one", function()
    for _, state in ipairs { false, 0 } do
      local seen = {}
      local client <close> = test.connect { serve = function(conn)
        conn:checkpoint(state or nil)
        conn:read "l"
      end, resume = function(_, ...) seen = table.pack(...) end }
      assert.is_true(client:move())
      assert.same({ state or nil, "reload", n = 2 }, seen)
    end
  end)

  it("ends where there is no resume for it", function()
    local client <close> = test.connect(counter "a")
    assert.is_true(client:move(function() end))
    assert.is_nil((client:read "l"))
  end)

  it("ends with an error in its resume, as with one in serve", function()
    local client <close> = test.connect(counter "a")
    assert.is_true(client:move { serve = print, resume = function() error "oh" end })
    assert.is_nil((client:read "l"))
  end)
end)

describe("an HTTP connection", function()
  require "tidy" (before_each, after_each)

  local function service(label, settings)
    local app = http.app(settings)
    app:get("/", function(_, res) res:send(label) end)
    app:get("/slow", function(_, res)
      moonpool.sleep(5)
      res:send(label)
    end)
    app:post("/", function(req, res) res:send(label .. " " .. req:body()) end)
    app:get("/upgrade", function(_, res)
      local conn = res:upgrade "x"
      for line in conn:lines() do conn:write(label, " ", line, "\n") end
    end)
    return app
  end

  local function answer(client)
    local status = client:read "l"
    local length
    for line in client:lines() do
      length = line:match "^Content%-Length: (%d+)" or length
      if line == "" then break end
    end
    return status and status:match "^HTTP/1.1 (%d+)", client:read(tonumber(length))
  end

  local GET = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
  local UPGRADE = "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: x\r\n"
    .. "Connection: upgrade\r\n\r\n"

  it("moves between two requests", function()
    local client <close> = test.connect(service "a")
    client:write(GET)
    assert.same({ "200", "a" }, { answer(client) })
    for i = 1, 10 do
      assert.is_true(client:move(service("s" .. i)))
      client:write(GET)
      assert.same({ "200", "s" .. i }, { answer(client) })
    end
  end)

  it("moves with a head that has come in part, at every cut", function()
    local text = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    for cut = 0, #text - 6 do
      local client <close> = test.connect(service "a")
      client:write(text:sub(1, cut))
      assert.is_true(client:move(service "b"))
      client:write(text:sub(cut + 1))
      assert.same({ "200", "b hello" }, { answer(client) })
    end
  end)

  it("stays while there is a request, and then moves with what came after it", function()
    local client <close> = test.connect(service "a")
    client:write("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" .. GET .. GET:sub(1, 10))
    assert.is_false(client:move(service "b"))
    assert.same({ "200", "a" }, { answer(client) })
    assert.same({ "200", "a" }, { answer(client) })
    assert.is_true(client:move(service "b"))
    client:write(GET:sub(11))
    assert.same({ "200", "b" }, { answer(client) })
  end)

  it("stays while content is on its way", function()
    local client <close> = test.connect(service "a")
    client:write "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel"
    assert.is_false(client:move(service "b"))
    client:write "lo"
    assert.same({ "200", "a hello" }, { answer(client) })
    assert.is_true(client:move(service "b"))
  end)

  it("stays, gone over to another protocol, until it has a checkpoint of that", function()
    local client <close> = test.connect(service "a")
    client:write(UPGRADE:format "/upgrade")
    repeat until client:read "l" == ""
    client:write "1\n"
    assert.equal("a 1", client:read "l")
    assert.is_false(client:move(service "b"))
    client:write "2\n"
    assert.equal("a 2", client:read "l")
  end)

  it("moves, gone over to another protocol, with its state", function()
    local function script(label)
      local app = http.app()
      local function go_on(conn, n)
        while true do
          conn:checkpoint(n)
          local line = conn:read "l"
          if not line then return end
          n = n + 1
          conn:write(label, " ", n, " ", line, "\n")
        end
      end
      app:get("/", function(_, res) go_on(res:upgrade "x", 0) end)
      return { serve = app, resume = go_on }
    end
    local client <close> = test.connect(script "a")
    client:write(UPGRADE:format "/")
    repeat until client:read "l" == ""
    client:write "1\n"
    assert.equal("a 1 1", client:read "l")
    assert.is_true(client:move(script "b"))
    client:write "2\n"
    assert.equal("b 2 2", client:read "l")
    assert.is_true(client:move(script "c"))
    client:write "3\n"
    assert.equal("c 3 3", client:read "l")
  end)

  it("takes along what was said of it before it was HTTP's", function()
    local function script(label)
      local app = http.app()
      app:get("/", function(req, res) res:send(label .. req.path) end)
      local function preamble(conn, who, why)
        if not why then who = conn:read "l" end
        conn:checkpoint(who)
        conn:write(label, " hello ", who, "\n")
        return app(conn)
      end
      return { serve = preamble, resume = preamble }
    end
    local client <close> = test.connect(script "a")
    client:write "ada\n"
    assert.equal("a hello ada", client:read "l")
    assert.is_true(client:move(script "b"))
    assert.equal("b hello ada", client:read "l")
    client:write(GET)
    assert.same({ "200", "b/" }, { answer(client) })
    assert.is_true(client:move(script "c"))
    assert.equal("c hello ada", client:read "l")
  end)

  it("does not move at a checkpoint of before, once it has been upgraded", function()
    local app = http.app()
    app:get("/", function(_, res) res:upgrade("x"):read "l" end)
    local client <close> = test.connect { serve = function(conn)
      conn:checkpoint "before"
      return app(conn)
    end, resume = function(_, _) end }
    client:write(UPGRADE:format "/")
    repeat until client:read "l" == ""
    assert.is_false(client:move())
  end)

  it("has its time for the next request anew", function()
    local client <close> = test.connect(service("a", { keep_alive = 10 }))
    test.advance(9)
    assert.is_true(client:move(service("b", { keep_alive = 10 })))
    test.advance(9)
    client:write(GET)
    assert.same({ "200", "b" }, { answer(client) })
    test.advance(11)
    assert.is_nil((client:read "l"))
  end)
end)

describe("a script's value", function()
  it("is a function, a table of two, or what can be called", function()
    local function fn() end
    for _, good in ipairs { fn, { serve = fn }, { serve = fn, resume = fn }, http.app(),
      { serve = http.app() } } do
      assert.has_no.errors(function() test.connect(good):close() end)
    end
  end)

  it("is refused with what is wrong", function()
    for sentence, bad in pairs {
      ["serve must be its handler, but is nothing"] = { resume = print },
      ["serve must be its handler, but is string"] = { serve = "x" },
      ["resume must be a function, but is number"] = { serve = print, resume = 1 },
    } do
      local ok, err = pcall(test.connect, bad)
      assert.is_false(ok)
      assert.matches(sentence, err, 1, true)
    end
  end)
end)
