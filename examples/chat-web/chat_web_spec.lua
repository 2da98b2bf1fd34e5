local http = require "moonpool.http"
local json = require "moonpool.json"
local moonpool = require "moonpool"
local proc = require "moonpool.test_proc"
local rooms = require "moonpool.rooms"
local test = require "moonpool.test"
local ws_client = require "ws_client"

local APP = "examples/chat-web/app.lua"

-- A client that can wait for a message of a type, whatever else comes.
local Person = {}
Person.__index = Person

function Person:say(text) self.ws:send(json.encode { type = "say", text = text }) end
function Person:go(room) self.ws:send(json.encode { type = "room", room = room }) end

function Person:next(kind)
  while true do
    local text, code = self.ws:receive()
    assert(text, code)
    local message = json.decode(text)
    if message.type == kind then return message end
  end
end

function Person:hears(text)
  local message
  repeat message = self:next "said" until message.text == text
  return message
end

function Person:sees(names)
  repeat until self:next_names() == names
end

function Person:next_names()
  return table.concat(self:next("online").names, " ")
end

-- Whether nothing more has come.
function Person:is_left_alone()
  self.ws.client:settimeout(0)
  local text = self.ws.client:read(1)
  self.ws.client:settimeout()
  return text == nil
end

local function enter(client, name, room)
  local path = ("/chat?name=%s&room=%s"):format(name, room or "lobby")
  local ws = ws_client.open(client, path)
  local self = setmetatable({ ws = ws, name = name }, Person)
  self.worker = self:next "worker"
  self.history = self:next("room").history
  return self
end

Person.__close = function(self) self.ws.client:close() end

describe("the chat-web example", function()
  describe("in this process", function()
    local app = test.app(APP)

    local function new(name, room) return enter(app:connect(), name, room) end

    it("lets people talk in their rooms", function()
      local ada <close> = new "ada"
      local bob <close> = new "bob"
      local eve <close> = new("eve", "tea")
      ada:say "hello"
      local said = bob:hears "hello"
      assert.equal("ada", said.name)
      assert.is_true(said.time > 1.7e9)
      assert.equal("ada", ada:hears("hello").name)
      eve:say "alone"
      assert.equal("eve", eve:hears("alone").name)
      bob:say "back"
      assert.equal("bob", ada:next("said").name)
    end)

    it("says who is there", function()
      local ada <close> = new "ada"
      ada:sees "ada"
      local bob = new "bob"
      ada:sees "ada bob"
      bob:sees "ada bob"
      local tab <close> = new "bob"
      tab:sees "ada bob"
      bob.ws:close(1000)
      bob.ws.client:close()
      test.advance(1)
      assert.is_true(ada:is_left_alone())
      tab:go "tea"
      ada:sees "ada"
      tab:sees "bob"
    end)

    it("tells at once of many who come", function()
      local room = "r" .. math.random(1 << 30)
      local all, names = {}, {}
      for i = 1, 20 do all[i], names[i] = new("n" .. i, room), "n" .. i end
      table.sort(names)
      assert.equal("n1", all[1]:next_names())
      assert.equal(table.concat(names, " "), all[1]:next_names())
    end)

    it("has what was said last, for who comes later", function()
      local room = "r" .. math.random(1 << 30)
      local ada <close> = new("ada", room)
      for i = 1, 60 do ada:say(tostring(i)) end
      ada:hears "60"
      local bob <close> = new("bob", room)
      assert.equal(50, #bob.history)
      assert.equal("11", bob.history[1].text)
      assert.equal("60", bob.history[50].text)
    end)

    it("lets people go to another room", function()
      local ada <close> = new "ada"
      local bob <close> = new("bob", "tea")
      ada:go "tea"
      assert.equal("tea", ada:next("room").room)
      bob:sees "ada bob"
      bob:say "hi"
      ada:hears "hi"
      ada:go "not a room"
      ada:go "tea"
      ada:say "still here"
      bob:hears "still here"
      ada:hears "still here"
      local eve <close> = new "eve"
      eve:sees "eve"
      assert.is_true(ada:is_left_alone())
    end)

    describe("among other workers", function()
      local words

      before_each(function() words = rooms.open "chat-web presence" end)

      local function say(worker, name, is_there)
        words:publish("all", json.encode { worker = worker, room = "lobby", name = name,
          is_there = is_there })
      end

      it("knows who is in them", function()
        local ada <close> = new "ada"
        say("7.1", "bob", true)
        say("8.1", "bob", true)
        ada:sees "ada bob"
        say("7.1", "bob", false)
        say("8.1", "eve", true)
        ada:sees "ada bob eve"
        say("8.1", "bob", false)
        ada:sees "ada eve"
      end)

      it("forgets who was in one that has ended, and has not come back in a moment",
        function()
          local ada <close> = new "ada"
          say("7.1", "bob", true)
          say("7.1", "eve", true)
          ada:sees "ada bob eve"
          moonpool.publish("moonpool.gone", "7.1")
          say("8.1", "bob", true)
          test.advance(2.9)
          assert.is_true(ada:is_left_alone())
          test.advance(0.3)
          assert.equal("ada bob", ada:next_names())
          moonpool.publish("moonpool.gone", "9.1")
          test.advance(4)
          assert.is_true(ada:is_left_alone())
        end)

      -- What is told from now on: names by their rooms.
      local function listen()
        local heard = {}
        return heard, test.run(words.join, words, "all", function(text)
          local word = json.decode(text)
          if word.asks then return end
          heard[word.room] = (word.is_there and "+" or "-") .. word.name
        end)
      end

      it("answers those who ask", function()
        local ada <close> = new "ada"
        local bob <close> = new("bob", "tea")
        ada:sees "ada"
        bob:sees "bob"
        local heard, room = listen()
        words:publish("all", json.encode { asks = true })
        test.advance(0.1)
        assert.same({ lobby = "+ada", tea = "+bob" }, heard)
        room:leave()
      end)

      it("keeps who has moved to one, until that has had time to tell", function()
        local ada <close> = new "ada"
        ada:sees "ada"
        test.advance(1) -- all has been told
        local heard, room = listen()
        local silent = http.app()
        silent:websocket("/chat", function(ws) ws:receive() end)
        assert.is_true(ada.ws.client:move(silent))
        test.advance(2.9)
        assert.same({}, heard)
        test.advance(0.2)
        assert.same({ lobby = "-ada" }, heard)
        room:leave()
      end)
    end)

    it("takes nothing that is no message", function()
      local ada <close> = new "ada"
      ada:say ""
      ada:say " \n"
      ada:say(("x"):rep(3000))
      ada.ws:send "{}"
      ada.ws:send "[1"
      ada.ws:send '"say"'
      ada.ws:send '{"type":"__index"}'
      ada.ws:send '{"type":"say","text":{}}'
      ada:say "good"
      assert.equal("good", ada:next("said").text)
    end)

    it("takes nobody without a good name", function()
      for _, query in ipairs { "", "?name=ada", "?name=a%20b&room=x", "?name=&room=x",
        "?name=" .. ("x"):rep(25) .. "&room=x", "?name=ada&room=%3Cscript%3E" } do
        local client <close> = app:connect()
        assert.equal(400, (ws_client.ask(client, "/chat" .. query)))
      end
    end)

    it("has a page that runs nothing of others", function()
      local page = app:get "/"
      assert.response(page).has.status(200).has.body_matching "<!DOCTYPE html>"
      assert.matches("^default%-src 'none'", page.headers["content-security-policy"])
      assert.is_nil(page.body:find("innerHTML", 1, true))
    end)
  end)

  describe("while all go on in another worker", function()
    local worker, app = moonpool.worker, test.app(APP)
    local generation = worker.generation

    after_each(function() worker.generation = generation end)

    local function go_on(how)
      worker.generation = worker.generation + 1
      return app[how](app)
    end

    local function two()
      local ada, bob = enter(app:connect(), "ada"), enter(app:connect(), "bob")
      ada:sees "ada bob"
      bob:sees "ada bob"
      return ada, bob
    end

    it("says of nobody that he has left", function()
      for _, how in ipairs { "reload", "kill" } do
        local ada <close>, bob = two()
        assert.equal(2, go_on(how))
        assert.equal(how == "kill" and "crash" or "reload", ada:next("worker").why)
        test.advance(2.9)
        assert.is_true(ada:is_left_alone())
        test.advance(3)
        assert.equal("ada bob", ada:next_names())
        assert.equal("ada bob", bob:next_names())
        bob.ws.client:close()
        assert.equal("ada", ada:next_names())
        ada.ws.client:close()
        test.settle()
      end
    end)
  end)

  describe("as a server", function()
    local function run()
      return test.spawn { app = APP, workers = 2, control = true, args = { "--survive" } }
    end

    it("goes on while its workers are killed and reloaded", function()
      local server <close> = run()
      local ada <close> = enter(server:connect(), "ada")
      local bob <close> = enter(server:connect(), "bob")
      ada:sees "ada bob"
      for number in pairs(server:workers()) do server:signal_worker(number, "KILL") end
      for _, person in ipairs { ada, bob } do
        -- Who was on the way from one to the other has met two deaths.
        assert.is_true(person:next("worker").deaths >= 1)
      end
      ada:say "after"
      bob:hears "after"
      bob:say "answer"
      ada:hears "answer"
      assert.equal("ada bob", ada:next_names())
      server:reload()
      repeat until ada:next("worker").why == "reload"
      bob:say "new code"
      ada:hears "new code"
      assert.equal("ada bob", ada:next_names())
      local eve <close> = enter(server:connect(), "eve")
      assert.equal(3, #eve.history)
      eve:sees "ada bob eve"
    end)

    it("forgets who has left while their worker died, and nobody else", function()
      local server <close> = run()
      local ada <close> = enter(server:connect(), "ada")
      local bob <close> = enter(server:connect(), "bob")
      local eve <close> = enter(server:connect(), "eve")
      local joe <close> = enter(server:connect(), "joe")
      for _, person in ipairs { ada, bob, eve, joe } do person:sees "ada bob eve joe" end
      server:signal_worker(joe.worker.id, "STOP")
      assert(test.eventually(function() return proc.state(joe.worker.pid) == "T" end, 5))
      joe.ws.client:close()
      server:signal_worker(joe.worker.id, "KILL")
      for _, person in ipairs { ada, bob, eve } do
        local names
        repeat
          names = person:next_names()
          assert.matches("^ada bob eve", names)
        until names == "ada bob eve"
      end
    end)
  end)
end)
