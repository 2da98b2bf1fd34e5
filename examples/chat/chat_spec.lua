local test = require "moonpool.test"

local WORD = "* up to 24 letters, digits, - and _, please"

-- Says who the client is and reads on until it is in the lobby.
local function enter(client, name)
  assert.equal("name? ", client:read(6))
  client:write(name, "\n")
  assert.equal("* " .. name .. " has joined lobby", client:read())
  return client
end

-- Whatever is sent to a client before this line is an error.
local function expect(client, ...)
  for _, line in ipairs { ... } do assert.equal(line, client:read()) end
end

describe("the chat example", function()
  describe("in this process", function()
    local chat = test.app "examples/chat/app.lua"
    local ada, bob, eve

    local function connect() return chat:connect() end

    before_each(function()
      ada = enter(connect(), "ada")
      bob = enter(connect(), "bob")
      eve = enter(connect(), "eve")
      expect(ada, "* bob has joined lobby", "* eve has joined lobby")
      expect(bob, "* eve has joined lobby")
    end)

    it("shows each line to all, with the name in front", function()
      ada:write "hello\n"
      bob:write "hello, ada\r\n"
      for _, client in ipairs { ada, bob, eve } do
        expect(client, "ada: hello", "bob: hello, ada")
      end
    end)

    it("keeps rooms apart", function()
      bob:write "/join kitchen\n"
      expect(bob, "* bob has joined kitchen")
      expect(ada, "* bob has left lobby")
      bob:write "tea?\n"
      expect(bob, "bob: tea?")
      ada:write "where is bob?\n"
      expect(ada, "ada: where is bob?")
      eve:write "/join kitchen\n"
      expect(eve, "* bob has left lobby", "ada: where is bob?")
      expect(eve, "* eve has joined kitchen")
      expect(bob, "* eve has joined kitchen")
    end)

    it("lists who is in the room", function()
      bob:write "/join kitchen\n"
      expect(bob, "* bob has joined kitchen")
      bob:write "/who\n"
      expect(bob, "* in kitchen: bob")
      expect(ada, "* bob has left lobby")
      for _, name in ipairs { "zoe", "kim", "Abe", "dan" } do
        enter(connect(), name)
        expect(ada, "* " .. name .. " has joined lobby")
      end
      ada:write "/who\n"
      expect(ada, "* in lobby: Abe ada dan eve kim zoe")
    end)

    it("ends with /quit, and says so to the others", function()
      bob:write "/quit\n"
      assert.is_nil((bob:read()))
      expect(ada, "* bob has left lobby")
      ada:write "/who\n"
      expect(ada, "* in lobby: ada eve")
    end)

    it("notices who goes without a word", function()
      bob:close()
      expect(ada, "* bob has left lobby")
    end)

    it("accepts plain words as names of clients and rooms", function()
      local client = connect()
      local longest = ("x"):rep(24)
      assert.equal("name? ", client:read(6))
      for _, bad in ipairs { "", "a b", "a/b", "a\tb", "Ada!", "é", longest .. "x" } do
        client:write(bad, "\n")
        assert.equal(WORD .. "\nname? ", client:read(#WORD + 7))
      end
      client:write(longest, "\n")
      expect(client, "* " .. longest .. " has joined lobby")
      for _, bad in ipairs { "", "a b", "../x", longest .. "x" } do
        client:write("/join ", bad, "\n")
        expect(client, WORD)
      end
      client:write "/join Room_1-a\n"
      expect(client, "* " .. longest .. " has joined Room_1-a")
    end)

    it("says which commands there are", function()
      ada:write "/help\n/\n/Quit\n"
      local help = "* there are /join room, /who and /quit"
      expect(ada, help, help, help)
    end)

    it("lets no control characters through", function()
      ada:write "a\27[2Jb\7\0c\n"
      expect(bob, "ada: a[2Jbc")
    end)

    it("says that a line is too long for the room, and goes on", function()
      ada:write(("x"):rep(70000), "\n")
      expect(ada, "* not sent: message too long")
      ada:write "short\n"
      expect(ada, "ada: short")
      expect(bob, "ada: short")
    end)

    describe("with a client that does not read", function()
      local long = ("x"):rep(4000)

      -- Ada says n lines and reads each: the room goes on. Bob's buffers fill up.
      local function talk(from, to, tail)
        for i = from, to do
          ada:write(i, tail, "\n")
          assert.equal("ada: " .. i .. tail, ada:read())
        end
      end

      local function number(line)
        return tonumber(line:match "^ada: (%d+)")
      end

      it("keeps its lines, in order", function()
        talk(1, 300, long)
        expect(eve, "ada: 1" .. long, "ada: 2" .. long)
        for i = 1, 300 do assert.equal(i, number(bob:read())) end
      end)

      it("drops the oldest when there are too many", function()
        talk(1, 200, long)
        talk(201, 1800, "")
        local last, lost = 0, 0
        repeat
          local i = number(bob:read())
          assert.is_true(i > last)
          lost, last = lost + i - last - 1, i
        until last == 1800
        assert.is_true(lost > 0 and lost < 800)
      end)

      it("still hears it", function()
        talk(1, 200, long)
        bob:write "still here\n"
        expect(ada, "bob: still here")
        for i = 1, 200 do assert.equal(i, number(bob:read())) end
        expect(bob, "bob: still here")
        bob:write "/join kitchen\n"
        expect(bob, "* bob has joined kitchen")
      end)

      it("lets it change the room and leave", function()
        talk(1, 200, long)
        bob:write "/join kitchen\n"
        expect(ada, "* bob has left lobby")
        bob:write "/quit\n"
        test.settle()
        ada:write "/join kitchen\n"
        expect(ada, "* ada has joined kitchen")
        ada:write "/who\n"
        expect(ada, "* in kitchen: ada")
      end)
    end)

    it("asks nobody for a name twice", function()
      local client = connect()
      assert.equal("name? ", client:read(6))
      client:write "ki"
      assert.equal(4, chat:reload())
      client:write "m\n"
      expect(client, "* kim has joined lobby")
    end)

    it("goes on after a reload, and nobody in the room notices", function()
      bob:write "/join kitchen\n"
      expect(bob, "* bob has joined kitchen")
      expect(ada, "* bob has left lobby")
      eve:write "half a "
      assert.equal(3, chat:reload())
      eve:write "line\n"
      expect(eve, "* bob has left lobby", "eve: half a line")
      expect(ada, "eve: half a line")
      bob:write "/who\n"
      expect(bob, "* in kitchen: bob")
      bob:close()
      ada:write "bye\n"
      expect(ada, "ada: bye")
    end)
  end)

  describe("in two workers", function()
    local function open(server)
      return enter(server:connect(), "ada"), enter(server:connect(), "bob")
    end

    it("has one lobby", function()
      local server <close> = test.spawn { app = "examples/chat/app.lua", workers = 2 }
      local before = server:descriptors()
      local ada, bob = open(server)
      local counts = server:descriptors()
      for i = 2, 3 do assert.equal(before[i] + 1, counts[i]) end -- one client in each
      expect(ada, "* bob has joined lobby")
      for i = 1, 100 do ada:write("line ", i, "\n") end
      for i = 1, 100 do expect(bob, "ada: line " .. i) end
      for i = 1, 100 do expect(ada, "ada: line " .. i) end
      bob:write "/who\n"
      expect(bob, "* in lobby: ada bob")
      bob:close()
      expect(ada, "* bob has left lobby")
      ada:close()
      server:back_to(before)
    end)

    it("shows the lines of all in one order to all", function()
      local server <close> = test.spawn { app = "examples/chat/app.lua", workers = 2 }
      local ada, bob = open(server)
      expect(ada, "* bob has joined lobby")
      for i = 1, 25 do
        ada.conn:write("a", i, "\n")
        bob.conn:write("b", i, "\n")
        test.settle()
      end
      local seen, heard = {}, { ada = 0, bob = 0 }
      for i = 1, 50 do
        seen[i] = ada:read()
        local name, n = seen[i]:match "^(%l+): %l(%d+)$"
        assert.equal(heard[name] + 1, tonumber(n))
        heard[name] = tonumber(n)
      end
      expect(bob, table.unpack(seen))
      ada:close()
      bob:close()
    end)

    it("loses no line and nobody when its workers are killed", function()
      local server <close> = test.spawn {
        app = "examples/chat/app.lua", workers = 2, args = { "--survive" } }
      local ada, bob = open(server)
      expect(ada, "* bob has joined lobby")
      for i = 1, 2 do
        local pid = server:workers()[i % 2 + 1]
        server:signal_worker(i % 2 + 1, "KILL")
        ada:write(i, "\n")
        bob:write(i, "\n")
        local seen = { ada:read(), ada:read() }
        expect(bob, table.unpack(seen)) -- the lines of both, in one order
        table.sort(seen)
        assert.same({ "ada: " .. i, "bob: " .. i }, seen)
        assert.eventually(function()
          local now = server:workers()[i % 2 + 1]
          local _, times = server.text:gsub("ready again", "")
          return now and now ~= pid and times == i
        end)
      end
      ada:close()
      expect(bob, "* ada has left lobby")
      bob:close()
    end)

    it("loses nobody by a reload", function()
      local server <close> = test.spawn { app = "examples/chat/app.lua", workers = 2 }
      local ada, bob = open(server)
      expect(ada, "* bob has joined lobby")
      for i = 1, 5 do
        server:kill "HUP"
        server:expect(("reloaded: 2 connections moved.*"):rep(i))
        for _, client in ipairs { ada, bob } do -- who answers is in the room again
          client:write "/help\n"
          expect(client, "* there are /join room, /who and /quit")
        end
        ada:write("after ", i, "\n")
        for _, client in ipairs { ada, bob } do expect(client, "ada: after " .. i) end
      end
      ada:close()
      expect(bob, "* ada has left lobby")
      bob:close()
    end)
  end)
end)
