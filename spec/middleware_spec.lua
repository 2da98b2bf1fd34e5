-- The middleware in the box together, in different orders, and in the real program.

local ask = require "ask"
local compress = require "moonpool.middleware.compress"
local cors = require "moonpool.middleware.cors"
local harness = require "server"
local http = require "moonpool.http"
local rate_limit = require "moonpool.middleware.rate_limit"
local request_id = require "moonpool.middleware.request_id"
local session = require "moonpool.middleware.session"
local static = require "moonpool.middleware.static"
local test = require "moonpool.test"
local zlib = require "zlib"

require "tidy" (before_each, after_each)

local SECRET = ("a secret "):rep(5)
local TEXT = ("A line of text that is worth it.\n"):rep(100)
local FIELDS = { ["Accept-Encoding"] = "gzip", Origin = "https://shop.example" }

local makers = {
  compress = compress,
  cors = function() return cors { origins = FIELDS.Origin } end,
  session = function() return session { secret = SECRET } end,
  rate_limit = function() return rate_limit { rate = 5 } end,
  request_id = request_id,
}

local function serve(names, handler)
  local app = http.app()
  for name in names:gmatch "%S+" do app:use(makers[name]()) end
  app:get("/", handler)
  return test.connect(app)
end

describe("all middleware", function()
  for _, names in ipairs {
    "compress cors session rate_limit request_id",
    "session request_id rate_limit cors compress",
    "cors session compress request_id rate_limit",
  } do
    for kind, send in pairs {
      send = function(res) res:send(TEXT) end,
      write = function(res) res:write(TEXT:sub(1, 99)):write(TEXT:sub(100)) end,
      length = function(res) res:length(#TEXT):write(TEXT) end,
      html = function(res) res:html(TEXT) end,
    } do
      it("works with " .. kind .. " as " .. names, function()
        local client <close> = serve(names, function(req, res)
          req.session.user = "ada"
          send(res)
        end)
        for _ = 1, 5 do
          local answer = ask(client, "GET", "/", FIELDS)
          assert.same({ 200, "gzip", "https://shop.example" }, { answer.status,
            answer.fields["content-encoding"],
            answer.fields["access-control-allow-origin"] })
          local text, is_whole = zlib.inflate(31)(answer.body)
          assert.same({ TEXT, true }, { text, is_whole })
          assert.matches("^session=", answer.fields["set-cookie"])
          assert.matches("Origin", answer.fields.vary)
          assert.matches("Accept%-Encoding", answer.fields.vary)
          assert.matches("^%x+$", answer.fields["x-request-id"])
        end
        assert.equal(429, ask(client, "GET", "/", FIELDS).status)
      end)
    end
  end

  it("lets a connection go over to another protocol", function()
    local client <close> = serve("compress session cors rate_limit request_id",
      function(req, res)
        req.session.user = "ada"
        local conn = res:upgrade "echo"
        conn:write((conn:read "L"))
      end)
    local answer = ask(client, "GET", "/", { Connection = "upgrade", Upgrade = "echo" })
    assert.equal(101, answer.status)
    assert.matches("^session=", answer.fields["set-cookie"])
    client:write "over\n"
    assert.equal("over\n", client:read "a")
  end)
end)

describe("static files", function()
  local root

  before_each(function()
    root = harness.directory()
    harness.write_file(root .. "/page.css", TEXT)
  end)

  after_each(function() harness.remove(root) end)

  local function get(client, fields)
    fields["Accept-Encoding"] = "gzip"
    return ask(client, "GET", "/page.css", fields)
  end

  it("are compressed, and have conditions and ranges all the same", function()
    local app = http.app():use(compress()):use(static(root))
    local client <close> = test.connect(app)
    local answer = get(client, {})
    assert.equal(TEXT, (zlib.inflate(31)(answer.body)))
    assert.is_nil(answer.fields["accept-ranges"])
    local etag = answer.fields.etag
    assert.matches('^W/".*"$', etag)
    answer = get(client, { ["If-None-Match"] = etag })
    assert.same({ 304, etag, "Accept-Encoding" }, { answer.status, answer.fields.etag,
      answer.fields.vary })
    answer = get(client, { Range = "bytes=2-5" }) -- of what is not compressed
    assert.same({ 206, TEXT:sub(3, 6) }, { answer.status, answer.body })
    answer = get(client, { Range = "bytes=2-5", ["If-Range"] = etag })
    assert.equal(TEXT, (zlib.inflate(31)(answer.body)))
  end)
end)

describe("the program", function()
  local SCRIPT = [[
    local app = require("moonpool.http").app()
    app:use(require "moonpool.middleware.request_id" ())
    app:use(require "moonpool.middleware.compress" ())
    app:use(require "moonpool.middleware.cors" ())
    app:use("/limited", require "moonpool.middleware.rate_limit" { rate = 0.001 })
    app:use("/auth", require "moonpool.middleware.basic_auth" { users = { ada = "pw" } })
    app:use(require "moonpool.middleware.session" { secret = ("s"):rep(32) })
    app:get("/count", function(req, res)
      req.session.n = (req.session.n or 0) + 1
      res:send(tostring(req.session.n) .. "\n")
    end)
    app:get("/text", function(_, res) res:send(("text "):rep(1000)) end)
    app:get("/stream", function(_, res)
      for i = 1, 3 do res:write("piece ", i, "\n") end
    end)
    app:get("/limited", function(_, res) res:send "ok" end)
    app:get("/auth", function(req, res) res:send(req.user) end)
    return app
  ]]

  it("stops in the midst of a stream without a word", function()
    local server <close> = harness.run { args = { "--drain", "0.1" }, script = [[
      local app = require("moonpool.http").app()
      for _, name in ipairs { "compress", "request_id", "cors" } do
        app:use(require("moonpool.middleware." .. name)())
      end
      app:use(require "moonpool.middleware.session" { secret = ("s"):rep(32) })
      app:get("/", function(req, res)
        req.session.user = "ada"
        while true do
          res:write "tick\n"
          require("moonpool").sleep(0.01)
        end
      end)
      return app
    ]] }
    local client <close> = server:connect()
    client:write "GET / HTTP/1.1\r\nHost: spec\r\nAccept-Encoding: gzip\r\n\r\n"
    assert.equal("HTTP/1.1 200 OK", client:read())
    server:kill "TERM"
    server:wait()
    assert.matches("1 connections are closed", server.text)
    assert.is_nil(server.text:find("error", 1, true), server.text)
  end)

  local CURL = "exec env -u LD_PRELOAD curl --silent --show-error --max-time 20 "

  local function curl(arguments)
    local pipe <close> = assert(io.popen(CURL .. arguments))
    return pipe:read "a"
  end

  it("serves all of it to curl, by any of its workers", function()
    local server <close> = harness.run { workers = 3, script = SCRIPT }
    local url = "http://" .. server.address
    local jar = os.tmpname()
    assert.equal(("text "):rep(1000), curl("--compressed " .. url .. "/text"))
    assert.equal("piece 1\npiece 2\npiece 3\n",
      curl("--compressed " .. url .. "/stream"))
    local size = curl("--compressed -o /dev/null -w '%{size_download}' " .. url
      .. "/text")
    assert(tonumber(size) < 200, size)
    assert.matches("\r\nVary: Accept%-Encoding\r\n", curl("-I " .. url .. "/text"))
    assert.equal("401", curl("-o /dev/null -w '%{http_code}' " .. url .. "/auth"))
    assert.equal("ada", curl("-u ada:pw " .. url .. "/auth"))
    local statuses = {}
    for i = 1, 12 do
      statuses[i] = curl("-o /dev/null -w '%{http_code}' " .. url .. "/limited")
    end
    local passed = select(2, table.concat(statuses, " "):gsub("200", ""))
    assert(passed >= 1 and passed <= 3, passed) -- a token for each worker
    for i = 1, 5 do -- the cookie is sent back by hand: curl keeps Secure for TLS
      local answer = curl(("-i -H 'Cookie: %s' %s/count"):format(
        i > 1 and io.lines(jar)() or "", url))
      assert.equal(i .. "\n", answer:match "\r\n\r\n(.*)$")
      harness.write_file(jar, answer:match "Set%-Cookie: ([^;]*)")
    end
    os.remove(jar)
  end)
end)
