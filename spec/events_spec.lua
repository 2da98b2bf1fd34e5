-- Server-sent events: what is sent, waiting, and streams that move.

local http = require "moonpool.http"
local moonpool = require "moonpool"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local function app_of(handler)
  local app = http.app()
  app:events("/", handler)
  return app
end

local function ask(client, fields, method)
  client:write(method or "GET", " / HTTP/1.1\r\nHost: a\r\n", fields or "", "\r\n")
  local status = client:read "l"
  local got = {}
  for line in client:lines() do
    if line == "" then break end
    local name, value = line:match "^(.-): (.*)$"
    got[name:lower()] = value
  end
  return status:match "^HTTP/1.1 (%d+)", got
end

-- The lines of the next event.
local function next_event(client)
  local lines = {}
  for line in client:lines() do
    if line == "" then return table.concat(lines, "|") end
    lines[#lines + 1] = line
  end
end

local function open(handler, fields)
  local client = test.connect(app_of(handler))
  assert(ask(client, fields) == "200")
  return client
end

local function ticker(label)
  return function(stream, state, why)
    if why then stream:send { event = "moved", data = why .. " to " .. label } end
    state.n = state.n or 0
    repeat
      state.n = state.n + 1
      stream:send { data = label .. " " .. state.n, id = state.n }
    until not stream:wait(1)
  end
end

describe("a stream of events", function()
  it("has the head of one, and ends with its function", function()
    local client <close> = test.connect(app_of(function(stream) stream:send "x" end))
    local status, fields = ask(client)
    assert.equal("200", status)
    assert.equal("text/event-stream", fields["content-type"])
    assert.equal("no-store", fields["cache-control"])
    assert.equal("close", fields.connection)
    assert.is_nil(fields["content-length"] or fields["transfer-encoding"])
    assert.equal("data: x", next_event(client))
    assert.is_nil((client:read(1)))
  end)

  it("has only the head for HEAD", function()
    local client <close> = test.connect(app_of(function() error "not called" end))
    local status, fields = ask(client, "", "HEAD")
    assert.equal("200", status)
    assert.equal("text/event-stream", fields["content-type"])
  end)

  it("has events with all their fields, HTML 9.2.5", function()
    local client <close> = open(function(stream)
      stream:send { data = "a\nb\r\nc\rd\n", id = 7, event = "news", retry = 2.5 }
      stream:send { id = "x" }
      stream:send { data = "" }
      stream:send(42)
      stream:comment "hello"
    end)
    assert.equal("event: news|id: 7|retry: 2500|data: a|data: b|data: c|data: d|data: ",
      next_event(client))
    assert.equal("id: x", next_event(client))
    assert.equal("data: ", next_event(client))
    assert.equal("data: 42", next_event(client))
    assert.equal(": hello", next_event(client))
  end)

  it("refuses fields of more than a line", function()
    local failed = 0
    local client <close> = open(function(stream)
      for _, bad in ipairs { { id = "a\nb" }, { event = "a\rb" }, { id = "\0" } } do
        if not pcall(stream.send, stream, bad) then failed = failed + 1 end
      end
      if not pcall(stream.comment, stream, "a\nb") then failed = failed + 1 end
    end)
    assert.is_nil(next_event(client))
    assert.equal(4, failed)
  end)

  it("waits between them, with a comment now and then", function()
    local client <close> = open { heartbeat = 10, serve = function(stream)
      stream:wait(25)
      stream:send "late"
      stream:wait()
    end }
    test.advance(10.1)
    assert.equal(":", next_event(client))
    test.advance(10.1)
    assert.equal(":", next_event(client))
    test.advance(5)
    assert.equal("data: late", next_event(client))
    for _ = 1, 3 do
      test.advance(10.1)
      assert.equal(":", next_event(client))
    end
  end)

  it("ends when the client has gone", function()
    local ended, why
    local client = open(function(stream)
      why = { stream:wait() }
      ended = true
    end)
    client:close()
    assert.is_true(ended)
    assert.same({ nil, "closed", "EOF" }, why)
  end)

  it("does not mind what the client says", function()
    local client <close> = open(function(stream)
      stream:wait(10)
      stream:send "x"
    end)
    client:write "GET / HTTP/1.1\r\n\r\n"
    test.advance(11)
    assert.equal("data: x", next_event(client))
  end)

  it("knows the client's last event", function()
    local client <close> = open(function(stream) stream:send(stream.last_id) end,
      "Last-Event-ID: 41\r\n")
    assert.equal("data: 41", next_event(client))
  end)

  it("is opened, or refused, as a WebSocket", function()
    local app = app_of { serve = function(stream, state) stream:send(state.path) end,
      open = function(req, res)
        if req:has "X-Busy" then return res:error(503) end
        return req:has "X-Good" and { path = req.path }
      end }
    local client <close> = test.connect(app)
    assert.equal("503", (ask(client, "X-Busy: 1\r\n")))
    client:read(#"Service Unavailable\n")
    assert.equal("403", (ask(client)))
    client:read(#"Forbidden\n")
    assert.equal("200", (ask(client, "X-Good: 1\r\n")))
    assert.equal("data: /", next_event(client))
  end)

  it("can be any response", function()
    local app = http.app()
    app:get("/", function(_, res)
      res:header("X-Own", "1"):events(function(stream)
        for i = 1, 3 do stream:send(i) stream:wait(1) end
      end)
    end)
    local client <close> = test.connect(app)
    local _, fields = ask(client)
    assert.equal("1", fields["x-own"])
    for i = 1, 3 do assert.equal("data: " .. i, next_event(client)) end
    assert.is_nil((client:read(1)))
  end)

  it("moves, and the client sees nothing of it", function()
    local client <close> = test.connect(app_of(ticker "a"))
    ask(client)
    assert.equal("id: 1|data: a 1", next_event(client))
    for i, label in ipairs { "b", "c", "d" } do
      assert.is_true(client:move(app_of(ticker(label))))
      assert.equal("event: moved|data: reload to " .. label, next_event(client))
      assert.equal(("id: %d|data: %s %d"):format(i + 1, label, i + 1), next_event(client))
    end
    test.advance(1.1)
    assert.equal("id: 5|data: d 5", next_event(client))
  end)

  it("takes its last id along, and what was sent by other tasks", function()
    local function script()
      return app_of(function(stream, _, why)
        if why then return stream:send("after " .. stream.last_id) end
        moonpool.spawn(function()
          moonpool.sleep(1)
          stream:send { data = "beside", id = 9 }
        end)
        stream:wait()
      end)
    end
    local client <close> = test.connect(script())
    ask(client)
    test.advance(1.1)
    assert.equal("id: 9|data: beside", next_event(client))
    assert.is_true(client:move(script()))
    assert.equal("data: after 9", next_event(client))
  end)

  it("is closed where its route is no more", function()
    local client <close> = test.connect(app_of(ticker "a"))
    ask(client)
    next_event(client)
    local other = http.app()
    other:events("/other", ticker "b")
    assert.is_true(client:move(other))
    assert.is_nil((client:read(1)))
  end)
end)
