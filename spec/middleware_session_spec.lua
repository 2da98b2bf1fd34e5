local ask = require "ask"
local base64 = require "moonpool.base64"
local core = require "moonpool.core"
local http = require "moonpool.http"
local moonpool = require "moonpool"
local session = require "moonpool.middleware.session"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local SECRET, SECOND = ("first secret "):rep(3), ("second secret "):rep(3)

-- An app whose handlers are by the path's first segment.
local function serve(options, handlers)
  options = options or {}
  options.secret = options.secret or SECRET
  local app = http.app():use(session(options))
  app:get("/:what", function(req, res) return handlers[req.params.what](req, res) end)
  return test.connect(app)
end

-- What most of the specs do with a session.
local usual = {}

function usual.set(req, res)
  req.session.user = "ada"
  res:send "set"
end

function usual.get(req, res)
  res:send(tostring(req.session.user))
end

function usual.clear(req, res)
  req.session:clear()
  res:send "cleared"
end

-- A request with this cookie: its answer, and the value of the cookie that was set.
local function visit(client, what, value, name)
  local fields = value and { Cookie = (name or "session") .. "=" .. value } or nil
  local answer = ask(client, "GET", "/" .. what, fields)
  local set = answer.fields["set-cookie"]
  return answer, set and set:match "^[^=]+=([^;]*)"
end

local function cookie_from(options, what)
  local client <close> = serve(options, usual)
  local _, value = visit(client, what or "set")
  return value
end

local function user_of(options, value)
  local client <close> = serve(options, usual)
  return visit(client, "get", value).body
end

describe("a session", function()
  it("comes back", function()
    local client <close> = serve(nil, usual)
    assert.equal("nil", visit(client, "get").body)
    local _, value = visit(client, "set")
    assert.equal("ada", visit(client, "get", value).body)
    assert.equal("ada", user_of(nil, value)) -- in another worker
  end)

  it("holds plain values as they are", function()
    local values = { n = 5, f = 0.5, big = 1 << 60, yes = true, no = false,
      text = 'z\u{eb} "\\\0\n', list = { 1, "two", { three = 3 } } }
    local found
    local client <close> = serve(nil, {
      set = function(req) req.session.values = values end,
      get = function(req) found = req.session.values end,
    })
    local _, value = visit(client, "set")
    visit(client, "get", value)
    assert.same(values, found)
    assert.equal("integer", math.type(found.n))
  end)

  it("has a cookie that is safe by default (RFC 6265bis 4.1)", function()
    local client <close> = serve(nil, usual)
    local fields = visit(client, "set").fields
    assert.matches("^session=[%w_-]+; Path=/; Max%-Age=86400; Secure; HttpOnly; "
      .. "SameSite=Lax$", fields["set-cookie"])
    assert.equal("private", fields["cache-control"])
  end)

  it("has a cookie as it was wanted", function()
    local client <close> = serve({ name = "s", max_age = 60, secure = false, path = "/a",
      same_site = "strict", domain = "example.org" }, usual)
    assert.matches("^s=[%w_-]+; Path=/a; Domain=example.org; Max%-Age=60; HttpOnly; "
      .. "SameSite=Strict$", visit(client, "set").fields["set-cookie"])
  end)

  it("is sent when it has changed, and only then", function()
    local client <close> = serve(nil, usual)
    local _, value = visit(client, "set")
    assert.is_string(value)
    for _, what in ipairs { "get", "set" } do
      local answer = visit(client, what, value)
      assert.is_nil(answer.fields["set-cookie"])
      assert.is_nil(answer.fields["cache-control"])
    end
    assert.is_nil(visit(client, "get").fields["set-cookie"])
    assert.is_nil(visit(client, "clear").fields["set-cookie"])
  end)

  it("is sent when something deep in it has changed", function()
    local client <close> = serve(nil, {
      set = function(req) req.session.cart = { { id = 1, count = 1 } } end,
      more = function(req) req.session.cart[1].count = 2 end,
      get = function(req, res) res:send(tostring(req.session.cart[1].count)) end,
    })
    local _, value = visit(client, "set")
    _, value = visit(client, "more", value)
    assert.equal("2", visit(client, "get", value).body)
  end)

  it("is sent with a response of any kind", function()
    local path = os.tmpname()
    local kinds = {
      write = function(_, res) res:write("a"):write "b" end,
      sendfile = function(_, res) res:sendfile(path) end,
      length = function(_, res) res:length(1):write "a" end,
      nothing = function() end,
      status = function(_, res) res:status(204):send() end,
      wait = function(_, res) moonpool.sleep(1) res:send "late" end,
    }
    for kind, answer in pairs(kinds) do
      local client <close> = serve(nil, {
        [kind] = function(req, res)
          req.session.user = "ada"
          answer(req, res)
        end,
      })
      local _, value = visit(client, kind)
      assert.equal("ada", user_of(nil, value), kind)
    end
    os.remove(path)
  end)

  it("is sent with the page of an error", function()
    local app = http.app():use(session { secret = SECRET })
    app:get("/", function(req)
      req.session.user = "ada"
      error "failed"
    end)
    app:on_error(function(_, _, res) res:status(500):send "told" end)
    local client <close> = test.connect(app)
    local answer, value = visit(client, "")
    assert.equal(500, answer.status)
    assert.equal("ada", user_of(nil, value))
  end)

  it("leaves the Cache-Control of the handler as it is", function()
    local client <close> = serve(nil, { set = function(req, res)
      req.session.user = "ada"
      res:header("Cache-Control", "no-store"):send()
    end })
    assert.equal("no-store", visit(client, "set").fields["cache-control"])
  end)

  it("can be replaced as a whole", function()
    local client <close> = serve(nil, {
      set = function(req) req.session = { user = "bob" } end,
      drop = function(req) req.session = nil end,
      get = usual.get,
    })
    local _, value = visit(client, "set", cookie_from())
    assert.equal("bob", visit(client, "get", value).body)
    _, value = visit(client, "drop", value)
    assert.equal("", value)
  end)

  it("is cleared, and the cookie forgotten", function()
    local client <close> = serve({ path = "/x", domain = "example.org" }, usual)
    local _, value = visit(client, "set")
    local answer = visit(client, "clear", value)
    assert.equal("session=; Path=/x; Domain=example.org; Max-Age=0; Secure; HttpOnly; "
      .. "SameSite=Lax", answer.fields["set-cookie"])
  end)

  it("never has the same cookie twice", function()
    assert.not_equal(cookie_from(), cookie_from())
  end)
end)

describe("a session's time", function()
  local time, now = core.time, nil

  before_each(function()
    now = math.floor(time())
    core.time = function() return now end
  end)

  after_each(function() core.time = time end)

  it("is over when it says so, whatever the browser keeps", function()
    local options = { max_age = 60 }
    local value = cookie_from(options)
    now = now + 59
    assert.equal("ada", user_of(options, value))
    now = now + 1
    assert.equal("nil", user_of(options, value))
  end)

  it("begins again when it is sent again", function()
    local client <close> = serve({ max_age = 60 }, {
      set = usual.set, get = usual.get,
      renew = function(req) req.session:renew() end,
    })
    local _, value = visit(client, "set")
    now = now + 50
    local _, renewed = visit(client, "renew", value)
    now = now + 50
    assert.equal("nil", visit(client, "get", value).body)
    assert.equal("ada", visit(client, "get", renewed).body)
    assert.is_nil(visit(client, "renew").fields["set-cookie"]) -- nothing to renew
  end)
end)

describe("a cookie that is not ours", function()
  it("is no session, at whatever place it was changed", function()
    local client <close> = serve(nil, usual)
    local _, value = visit(client, "set")
    local bytes = base64.url.decode(value)
    for i = 1, #bytes do
      local changed = bytes:sub(1, i - 1) .. string.char(bytes:byte(i) ~ 1 << i % 8)
        .. bytes:sub(i + 1)
      local answer = visit(client, "get", base64.url.encode(changed))
      assert.same({ 200, "nil" }, { answer.status, answer.body }, i)
    end
    for length = 0, #bytes - 1 do
      for _, cut in ipairs { bytes:sub(1, length), bytes:sub(-length - 1, -2),
        bytes .. bytes:sub(1, length + 1) } do
        assert.equal("nil", visit(client, "get", base64.url.encode(cut)).body, length)
      end
    end
  end)

  it("is no session, whatever else it is", function()
    local client <close> = serve(nil, usual)
    for _, value in ipairs { "", "x", "{}", "=", "a.b.c", ("A"):rep(4000),
      ("-"):rep(43), '"quoted"', base64.url.encode '{"user":"eve"}' } do
      local answer = visit(client, "get", value)
      assert.same({ 200, "nil" }, { answer.status, answer.body }, value)
      assert.is_nil(answer.fields["set-cookie"])
    end
  end)

  it("is no session if it has no room for a whole tag", function()
    local client <close> = serve({ secret = SECOND }, usual)
    for byte = 0, 255 do -- one of them is the right tag, of one byte, for nothing
      local answer = visit(client, "get", base64.url.encode(string.char(byte)))
      assert.same({ 200, "nil" }, { answer.status, answer.body }, byte)
    end
  end)

  it("is one of another secret, or of another name", function()
    local value = cookie_from()
    assert.equal("nil", user_of({ secret = SECOND }, value))
    local client <close> = serve({ name = "other" }, usual)
    assert.equal("nil", visit(client, "get", value, "other").body)
  end)

  it("does not show what it holds", function()
    local bytes = base64.url.decode(cookie_from())
    assert.is_nil(bytes:find("ada", 1, true))
    assert.is_nil(bytes:find("user", 1, true))
  end)
end)

describe("a session's secrets", function()
  it("can be changed while visitors have cookies of the old one", function()
    local old = cookie_from { secret = SECRET }
    local both = { secret = { SECOND, SECRET } }
    assert.equal("ada", user_of(both, old))
    local new = cookie_from(both)
    assert.equal("ada", user_of({ secret = SECOND }, new))
    assert.equal("nil", user_of({ secret = SECRET }, new))
    assert.equal("nil", user_of({ secret = SECOND }, old))
  end)
end)

describe("a session that cannot be kept", function()
  local function why_not(change)
    local why
    local app = http.app():use(session { secret = SECRET })
    app:get("/", function(req, res)
      change(req, res)
      if not res.sent then res:send "content" end
    end)
    app:on_error(function(err, _, res)
      why = err
      res:status(500):send()
    end)
    local client <close> = test.connect(app)
    local answer = visit(client, "")
    return why, answer
  end

  it("is one that is too long for a cookie, to the byte", function()
    local function fill(n)
      return why_not(function(req) req.session.text = ("x"):rep(n) end)
    end
    local longest = 0
    for n = 2900, 3100 do
      local why, answer = fill(n)
      if why then
        assert.equal("the session is too long for a cookie: " .. why:match ": (%d+)"
          .. " bytes of at most 4093", why)
        assert.same({ 500, nil }, { answer.status, answer.fields["set-cookie"] })
      else
        assert(#answer.fields["set-cookie"] <= 4093)
        longest = math.max(longest, #answer.fields["set-cookie"])
      end
    end
    assert(longest > 4088, longest)
  end)

  it("is one that JSON cannot say, or no table at all", function()
    assert.matches("^the session cannot be kept: ",
      (why_not(function(req) req.session.f = print end)))
    assert.equal("req.session must be a table",
      (why_not(function(req) req.session = "x" end)))
  end)

  it("is one that changes when the response has begun", function()
    local told = {}
    local app = http.app():use(function(_, _, next)
      told[1], told[2] = pcall(next)
    end):use(session { secret = SECRET })
    app:get("/", function(req, res)
      res:send "content"
      req.session.user = "late"
    end)
    local client <close> = test.connect(app)
    assert.is_nil(visit(client, "").fields["set-cookie"])
    assert.same({ false, "the session was changed after the response had begun: it is "
      .. "not kept" }, told)
  end)
end)

describe("session's options", function()
  it("make sense", function()
    for text, options in pairs {
      ["must be a secret"] = { secret = {} },
      ["32 bytes"] = { secret = ("x"):rep(31) },
      ["32 bytes at"] = { secret = { SECRET, "short" } },
      ["there must be a secret"] = {},
      ["same_site is"] = { secret = SECRET, same_site = "some" },
      ["none must be secure"] = { secret = SECRET, same_site = "none", secure = false },
      ["Secure%-a must be secure"] = { secret = SECRET, name = "__Secure-a",
        secure = false },
      ["have the path /"] = { secret = SECRET, name = "__Host-a", path = "/x" },
      ["no domain"] = { secret = SECRET, name = "__Host-a", domain = "example.org" },
      ["not a cookie's name"] = { secret = SECRET, name = "a=b" },
      ["Path cannot be"] = { secret = SECRET, path = "/; HttpOnly" },
      ["Domain cannot be"] = { secret = SECRET, domain = "a\r\nb" },
      ["whole seconds$"] = { secret = SECRET, max_age = 0 },
      ["whole seconds"] = { secret = SECRET, max_age = 0.5 },
      ["no option secrets"] = { secrets = SECRET },
    } do
      local ok, why = pcall(session, options)
      assert.is_false(ok)
      assert.matches(text, why)
    end
  end)
end)
