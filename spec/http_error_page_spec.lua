-- What is answered, and logged, when a handler fails with --dev. Each app is a file that
-- is served in a process of its own, which has no other log than that.

local child = require "child"
local harness = require "server"
local test = require "moonpool.test"

local BROWSER = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"

local directory, app

before_each(function()
  directory = harness.directory()
  app = directory .. "/app.lua"
end)

after_each(function() harness.remove(directory) end)

-- The answer to the request line and header fields that are given, and the log. The body
-- of the app is given the app, and may be several lines.
local function ask(body, request, ...)
  harness.write_file(app, "local app = require('moonpool.http').app()\n" .. body
    .. "\nreturn app\n")
  local head = table.concat({ request or "GET / HTTP/1.1", "Host: spec", ... }, "\r\n")
  local output, _, code = child(([[
    require("moonpool.core").worker.dev = true
    local client = require("moonpool.test").connect(dofile %q)
    client:write(%q)
    client:settimeout(1)
    local answer = client:read "a" or client:unread()
    io.write("\nANSWER\n", answer)
  ]]):format(app, head .. "\r\n\r\n"))
  assert.equal(0, code, output)
  local log, answer = output:match "^(.-)\nANSWER\n(.*)$"
  return answer, log
end

local function failing(handler)
  return "app:any('/*path', function(req, res)\n" .. handler .. "\nend)"
end

local function count(text, what)
  local n, at = 0, 1
  while true do
    local first, last = text:find(what, at, true)
    if not first then return n end
    n, at = n + 1, last + 1
  end
end

local function has(answer, what)
  assert(answer:find(what, 1, true), ("no %q in:\n%s"):format(what, answer))
end

local function lacks(answer, what)
  assert(not answer:find(what, 1, true), ("%q in:\n%s"):format(what, answer))
end

describe("the page of an error", function()
  it("has the error, the frames with their code, and the request", function()
    local answer, log = ask([[
local function deep(x)
  return #x.missing -- here it fails
end
app:get("/things/:id", function(req, res)
  res:send(deep(req.params) .. "")
end)
--
--
--
-- 11]], "GET /things/7?q=1 HTTP/1.1", BROWSER, "User-Agent: busted")
    assert.matches("^HTTP/1.1 500 Internal Server Error\r\n", answer)
    has(answer, "\r\nContent-Type: text/html; charset=utf-8\r\n")
    has(answer, "\r\nCache-Control: no-store\r\n")
    has(answer, "\r\nConnection: close\r\n")
    local message = "attempt to get length of a nil value (field &#39;missing&#39;)"
    has(answer, "<h1>" .. app .. ":3: " .. message .. "</h1>")
    has(answer, "<title>500 " .. app .. ":3: " .. message .. "</title>")
    has(answer, "<p>GET /things/7?q=1 HTTP/1.1</p>")
    has(answer, "<h2>Where</h2>\n<details open><summary>" .. app .. ":3 ")
    has(answer, "in upvalue &#39;deep&#39;")
    has(answer, '<span data-line="2">local function deep(x)\n</span>')
    has(answer,
      '<span data-line="3" class="here">  return #x.missing -- here it fails\n</span>')
    assert.equal(2, count(answer, '<span data-line="9">'))
    assert.equal(1, count(answer, '<span data-line="10">'))
    has(answer, "<details><summary>" .. app .. ":6 ")
    has(answer, '<span data-line="6" class="here">  res:send(deep(')
    for name, value in pairs { path = "/things/7", query = "q=1", [":id"] = "7",
      Host = "spec", ["User-Agent"] = "busted" } do
      has(answer, ("<tr><td>%s</td><td>%s</td></tr>"):format(name, value))
    end
    has(answer, "stack traceback:")
    assert.equal(1, count(answer, "<details open>"))
    assert.equal(1, count(log, "stack traceback:"))
    assert.matches("^[^\n]* error: " .. app .. ":3: attempt to get length", log)
  end)

  it("shows no code of Moonpool's own", function()
    local answer = ask(failing "error 'x'", nil, BROWSER)
    has(answer, "lua/moonpool/http_plan.lua:")
    assert.equal(1, count(answer, "<pre><code>"))
  end)

  it("needs nothing from elsewhere", function()
    local answer = ask(failing "error 'x'", nil, BROWSER)
    for _, what in ipairs { "src=", "href=", "url(", "http:", "https:", "@import",
      "<script" } do
      lacks(answer, what)
    end
    has(answer, "\r\nContent-Security-Policy: default-src 'none'; "
      .. "style-src 'unsafe-inline'\r\n")
  end)

  it("escapes whatever is shown", function()
    local evil = "<script>alert('x')&\"</script>"
    local escaped = "&lt;script&gt;alert(&#39;x&#39;)&amp;&quot;&lt;/script&gt;"
    local answer = ask([[
app:get("/:id", function(req)
  local ]] .. "_ = [==[" .. evil .. "]==]\n" .. [[
  local function call() error("bad " .. req.params.id .. req.headers["user-agent"]) end
  load("local t = ...; t['<u>']()", "=<s>")({ ["<u>"] = call })
end)]], "GET /%3Cb%3E{traceback}?<i> HTTP/1.1", BROWSER, "User-Agent: " .. evil,
      "Referer: " .. evil)
    lacks(answer, "<script")
    lacks(answer, "<b>")
    lacks(answer, "<i>")
    lacks(answer, "<u>")
    lacks(answer, "<s>")
    has(answer, "in field &#39;&lt;u&gt;&#39;")
    has(answer, "&lt;s&gt;:1")
    has(answer, "bad &lt;b&gt;{traceback}" .. escaped .. "</h1>")
    has(answer, "[==[" .. escaped .. "]==]")
    has(answer, "<tr><td>Referer</td><td>" .. escaped .. "</td></tr>")
    has(answer, "<p>GET /%3Cb%3E{traceback}?&lt;i&gt; HTTP/1.1</p>")
  end)

  it("goes without code where there is none to be read", function()
    local answer = ask(failing "load('error [[no file]]', '=chunk')()", nil, BROWSER)
    has(answer, "no file</h1>")
    has(answer, '<div class="frame dim">chunk:1 ')
    answer = ask(failing "load('error [[gone]]', '@/nonexistent/x.lua')()", nil, BROWSER)
    has(answer, '<div class="frame dim">/nonexistent/x.lua:1 ')
    answer = ask(failing(("load('error [[directory]]', '@%s')()"):format(directory)), nil,
      BROWSER)
    has(answer, ('<div class="frame dim">%s:1 '):format(directory))
    answer = ask(failing(("load('\\n\\nerror [[short]]', '@%s/short.lua')()")
      :format(directory)) .. ("\nio.open('%s/short.lua', 'w'):write('--\\n'):close()")
      :format(directory), nil, BROWSER)
    has(answer, ('<div class="frame dim">%s/short.lua:3 '):format(directory))
  end)

  it("is short for a stack that is not", function()
    local answer = ask([[
local function f() return 1 + f() end
app:get("/", function() f() end)]], nil, BROWSER)
    has(answer, "stack overflow")
    assert.equal(10, count(answer, "<pre><code>"))
    assert.is_true(#answer < 100000)
  end)

  it("shows errors that are no strings", function()
    local answer = ask(failing [[
      error(setmetatable({}, { __tostring = function() return "an object" end }))]],
      nil, BROWSER)
    has(answer, "<h1>an object</h1>")
    has(ask(failing "error()", nil, BROWSER), "<h1>nil</h1>")
    has(ask(failing "error { code = 7 }", nil, BROWSER), "<h1>table: 0x")
  end)

  it("comes for middleware too", function()
    local answer = ask("app:use(function() error 'in middleware' end)", nil, BROWSER)
    has(answer, "in middleware</h1>")
    has(answer, ":2: in middleware")
  end)

  it("is left out for HEAD, but not its length", function()
    local answer = ask(failing "error 'x'", "HEAD / HTTP/1.1", BROWSER)
    assert.matches("^HTTP/1.1 500 .*\r\nContent%-Length: %d%d%d%d+\r\n\r\n$", answer)
  end)
end)

describe("a client that does not ask for HTML", function()
  it("gets the traceback as text", function()
    for _, accept in ipairs { "Accept: */*", "X-None: x", "Accept: text/htmlx",
      "Accept: text/html;q=0, text/plain", "Accept: text/html; q=0.000" } do
      local answer, log = ask(failing "error 'for people'", nil, accept)
      assert.matches("^HTTP/1.1 500 Internal Server Error\r\n", answer)
      has(answer, "\r\nContent-Type: text/plain; charset=utf-8\r\n")
      assert.matches("\r\n\r\nInternal Server Error\n\n" .. app
        .. ":3: for people\nstack traceback:\n\t.*" .. app .. ":3: in .*\n$", answer)
      has(log, "error: " .. app .. ":3: for people\n")
    end
  end)

  it("is one that does not name it; others get it at any quality", function()
    for _, accept in ipairs { "Accept: TEXT/HTML", "Accept: a/b , text/html;q=0.1",
      "Accept: text/html;level=1", "Accept: text/html;q=0.001, */*" } do
      has(ask(failing "error 'x'", nil, accept), "<!doctype html>")
    end
  end)
end)

describe("with --dev", function()
  it("an error handler that answers is enough", function()
    local answer, log = ask([[
app:on_error(function(err, req, res) res:status(503):send("sorry\n") end)
]] .. failing "error 'x'", nil, BROWSER)
    assert.matches("^HTTP/1.1 503 .*\r\n\r\nsorry\n$", answer)
    assert.equal("", log)
  end)

  it("one that does not leaves it to the page, with the place of the error", function()
    local answer, log = ask([[
app:on_error(function() end)
]] .. failing "error 'the first'", nil, BROWSER)
    has(answer, "<h1>" .. app .. ":4: the first</h1>")
    has(answer, '<span data-line="4" class="here">error &#39;the first&#39;\n</span>')
    assert.equal(1, count(log, "stack traceback:"))
  end)

  it("one that fails itself is what the page is about", function()
    local answer = ask([[
app:on_error(function() error "the second" end)
]] .. failing "error 'the first'", nil, BROWSER)
    has(answer, "<h1>" .. app .. ":2: the second</h1>")
    has(answer, '<span data-line="2" class="here">')
  end)

  it("a response that has begun is cut", function()
    local answer, log = ask(failing "res:write 'begun' error 'late'", nil, BROWSER)
    assert.matches("^HTTP/1.1 200 .*\r\n\r\n5\r\nbegun\r\n$", answer)
    has(log, ":3: late\n")
    answer, log = ask(failing "res:send 'whole' error 'late'", nil, BROWSER)
    assert.matches("^HTTP/1.1 200 .*\r\n\r\nwhole$", answer)
    has(log, ":3: late\n")
  end)

  it("what the handler had set does not spoil the page", function()
    local answer = ask(failing [[
      res:status(201):header("Content-Type", "image/png"):header("X-Kept", "yes")
      res:header("Content-Encoding", "gzip"):header("Content-Disposition", "attachment")
      res:header("Content-Security-Policy", "sandbox"):length(7)
      res.send = function() error "overridden" end
      error "x"]], nil, BROWSER)
    assert.matches("^HTTP/1.1 500 ", answer)
    assert.equal(1, count(answer, "\r\nContent-Type: "))
    assert.equal(1, count(answer, "\r\nContent-Security-Policy: "))
    local head, body = answer:match "^(.-\r\n)\r\n(.*)$"
    lacks(head, "Content-Encoding")
    lacks(head, "Content-Disposition")
    has(head, "\r\nX-Kept: yes\r\n")
    assert.equal(#body, tonumber(head:match "Content%-Length: (%d+)"))
  end)

  it("a server shows it, and one without does not", function()
    local script = [[
      local app = require("moonpool.http").app()
      app:get("/", function(req, res) res:send "fine\n" end)
      app:get("/fail", function() error "a secret" end)
      return app
    ]]
    local function get(server, target)
      local client <close> = server:connect()
      client:write(("GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        :format(target))
      return client:read "a"
    end
    local dev <close> = harness.run { script = script, args = { "--dev" } }
    dev:expect "warn: spec: for development: errors are answered with the code"
    assert.matches("\r\n\r\nfine\n$", get(dev, "/"))
    assert.matches("\r\n\r\nInternal Server Error\n\n.*app.lua:3: a secret\nstack "
      .. "traceback:", get(dev, "/fail"))
    dev:expect "error: .*app.lua:3: a secret"
    dev:stop()
    local plain <close> = harness.run { script = script }
    assert.matches("\r\n\r\nInternal Server Error\n$", get(plain, "/fail"))
    plain:expect "error: .*app.lua:3: a secret"
    assert.is_nil(plain.text:find "development")
    plain:stop()
    test.settle()
  end)
end)
