local json = require "moonpool.json"
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
  local seen
  repeat seen = table.concat(self:next("online").names, " ") until seen == names
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
      bob.ws:close(1000)
      assert.equal("bob", ada:next("left").name)
      ada:sees "ada"
      bob.ws.client:close()
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
      repeat until bob:next("joined").name == "ada"
      bob:say "hi"
      ada:hears "hi"
      ada:go "not a room"
      ada:go "tea"
      ada:say "still here"
      bob:hears "still here"
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

  describe("as a server", function()
    it("goes on while its workers are killed and reloaded", function()
      local server <close> = test.spawn {
        app = APP, workers = 2, control = true, args = { "--survive" } }
      local ada <close> = enter(server:connect(), "ada")
      local bob <close> = enter(server:connect(), "bob")
      for number in pairs(server:workers()) do server:signal_worker(number, "KILL") end
      for _, person in ipairs { ada, bob } do
        -- Who was on the way from one to the other has met two deaths.
        assert.is_true(person:next("worker").deaths >= 1)
      end
      ada:say "after"
      bob:hears "after"
      bob:say "answer"
      ada:hears "answer"
      server:reload()
      repeat until ada:next("worker").why == "reload"
      bob:say "new code"
      ada:hears "new code"
      local eve <close> = enter(server:connect(), "eve")
      assert.equal(3, #eve.history)
      eve:sees "ada bob eve"
    end)
  end)
end)
