-- The methods of responses that are written in Lua (http_response.lua).

local http = require "moonpool.http"
local json = require "moonpool.json"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

-- What a handler(res) makes of a response: status, fields, content.
local function answer_of(handler)
  local app = http.app():get("/", function(_, res) handler(res) end)
  local client <close> = test.connect(app)
  client:write "GET / HTTP/1.1\r\nHost: spec\r\n\r\n"
  local status, fields = tonumber(client:read():match "%d%d%d"), {}
  for line in client:lines() do
    if line == "" then break end
    local name, value = line:match "^([^:]+): (.*)$"
    fields[name:lower()] = fields[name:lower()] and fields[name:lower()] .. "\n" .. value
      or value
  end
  local length = tonumber(fields["content-length"] or 0)
  return status, fields, length > 0 and client:read(length) or ""
end

-- What calling fn(res) raises.
local function error_of(fn)
  local ok, why
  answer_of(function(res) ok, why = pcall(fn, res) end)
  assert.is_false(ok)
  return why
end

describe("res", function()
  it("sends text and HTML", function()
    local status, fields, body = answer_of(function(res) res:text "plain" end)
    assert.same({ 200, "text/plain; charset=utf-8", "plain" },
      { status, fields["content-type"], body })
    status, fields, body = answer_of(function(res) res:status(201):html "<p>" end)
    assert.same({ 201, "text/html; charset=utf-8", "<p>" },
      { status, fields["content-type"], body })
  end)

  it("sends JSON; what JSON cannot say raises, and nothing is sent", function()
    local status, fields, body = answer_of(function(res)
      assert(not pcall(res.json, res, { print }))
      res:status(201):json { 1, "x" }
    end)
    assert.same({ 201, "application/json", '[1,"x"]' },
      { status, fields["content-type"], body })
    status, fields, body = answer_of(function(res)
      res:header("Content-Type", "application/problem+json"):json(json.null)
    end)
    assert.same({ 200, "application/problem+json", "null" },
      { status, fields["content-type"], body })
  end)

  it("lets the handler say the type", function()
    local _, fields = answer_of(function(res)
      res:header("content-type", "application/xhtml+xml"):html "<p/>"
    end)
    assert.equal("application/xhtml+xml", fields["content-type"])
  end)

  it("sends errors with their standard phrase, or a reason", function()
    local status, _, body = answer_of(function(res) res:error(411) end)
    assert.same({ 411, "Length Required\n" }, { status, body })
    status, _, body = answer_of(function(res) res:error(422, "no such colour") end)
    assert.same({ 422, "no such colour\n" }, { status, body })
    assert.matches("200 is no status of an error", error_of(function(res)
      res:error(200)
    end))
  end)
end)

describe("res:before", function()
  local path = os.tmpname()
  teardown(function() os.remove(path) end)

  for name, send in pairs {
    send = function(res) res:send "content" end,
    text = function(res) res:text "content" end,
    write = function(res) res:write("content"):write "more" end,
    length = function(res) res:length(7):write "content" end,
    sendfile = function(res) res:sendfile(path) end,
    redirect = function(res) res:redirect "/" end,
  } do
    it("comes before " .. name .. ", once, the last one first", function()
      local calls = {}
      local _, fields = answer_of(function(res)
        for i = 1, 2 do
          res:before(function(self)
            assert(self == res and not res.sent)
            calls[#calls + 1] = i
            res:header("X-Before", tostring(i))
          end)
        end
        send(res)
      end)
      assert.same({ 2, 1 }, calls)
      assert.equal("2\n1", fields["x-before"])
    end)
  end

  it("can be had without anything being sent, and then not again", function()
    local calls = 0
    answer_of(function(res)
      local once = res:before(function() calls = calls + 1 end)
      assert.equal(0, calls)
      once()
      once()
      res:send "content"
    end)
    assert.equal(1, calls)
  end)

  it("changes nothing of what senders take and give", function()
    local results = {}
    answer_of(function(res)
      res:before(function() end)
      results[1] = table.pack(res:sendfile "/no/such/file")
      results[2] = res:write("a", "b") == res
      results[3] = pcall(res.write, res, {})
    end)
    assert.same({ { nil, "No such file or directory", "ENOENT", n = 3 }, true, false },
      results)
  end)

  it("lets the response be another", function()
    local status, _, body = answer_of(function(res)
      res:before(function() res:status(418) end)
      res:send "tea"
    end)
    assert.same({ 418, "tea" }, { status, body })
  end)

  it("raises what it raises in the handler that sends", function()
    local why = error_of(function(res)
      res:before(function() error("not now", 0) end)
      res:send "content"
    end)
    assert.equal("not now", why)
  end)
end)

describe("res:redirect", function()
  it("sends the client elsewhere", function()
    local status, fields, body = answer_of(function(res) res:redirect "/login" end)
    assert.same({ 302, "/login", "" }, { status, fields.location, body })
    status, fields = answer_of(function(res) res:redirect("https://a/b?c=d#e", 308) end)
    assert.same({ 308, "https://a/b?c=d#e" }, { status, fields.location })
  end)

  it("encodes what cannot be in a target, and forges nothing", function()
    local _, fields = answer_of(function(res) res:redirect "/ä b\r\nX: y\"<%41" end)
    assert.equal("/%C3%A4%20b%0D%0AX:%20y%22%3C%41", fields.location)
    assert.is_nil(fields.x)
  end)

  it("has the statuses of a redirect only", function()
    for _, status in ipairs { 200, 300, 304, 305, 404 } do
      assert.matches(status .. " is no status of a redirect", error_of(function(res)
        res:redirect("/", status)
      end))
    end
  end)
end)

describe("res:cookie", function()
  local function cookie_of(...)
    local arguments = table.pack(...)
    local _, fields = answer_of(function(res)
      res:cookie(table.unpack(arguments, 1, arguments.n)):send()
    end)
    return fields["set-cookie"]
  end

  it("has safe defaults", function()
    assert.equal("id=1; Path=/; HttpOnly; SameSite=Lax", cookie_of("id", "1"))
    assert.equal("id=; Path=/; HttpOnly; SameSite=Lax", cookie_of("id", ""))
  end)

  it("has what the handler says", function()
    assert.equal("id=1; Path=/a; Domain=b.c; Max-Age=60; Secure; SameSite=None",
      cookie_of("id", "1", { path = "/a", domain = "b.c", max_age = 60, secure = true,
        http_only = false, same_site = "none" }))
    assert.equal("id=1; Path=/; Max-Age=0; HttpOnly; SameSite=Strict",
      cookie_of("id", "1", { max_age = 0.0, same_site = "strict" }))
    assert.equal("__Host-id=1; Path=/; Secure; HttpOnly; SameSite=Lax",
      cookie_of("__Host-id", "1", { secure = true }))
  end)

  it("may be set several times", function()
    local _, fields = answer_of(function(res)
      res:cookie("a", "1"):cookie("b", "2"):send()
    end)
    local rest = "; Path=/; HttpOnly; SameSite=Lax"
    assert.equal("a=1" .. rest .. "\nb=2" .. rest, fields["set-cookie"])
  end)

  for _, case in ipairs {
    { "a b", "1", {}, "not a cookie's name" },
    { "a=", "1", {}, "not a cookie's name" },
    { "", "1", {}, "not a cookie's name" },
    { "a", "1; Domain=x", {}, "not a cookie's value" },
    { "a", "1 2", {}, "not a cookie's value" },
    { "a", 'q"', {}, "not a cookie's value" },
    { "a", "1\r\nX: y", {}, "not a cookie's value" },
    { "a", "ä", {}, "not a cookie's value" },
    { "a", "1", { path = "/; Secure" }, "a cookie's Path cannot be" },
    { "a", "1", { domain = "a\n" }, "a cookie's Domain cannot be" },
    { "a", "1", { domain = 7 }, "a cookie's Domain cannot be" },
    { "a", "1", { max_age = 1.5 }, "max_age is a whole number" },
    { "a", "1", { max_age = "1; Secure" }, "max_age is a whole number" },
    { "a", "1", { same_site = "some" }, "same_site is" },
    { "a", "1", { same_site = "none" }, "must be secure" },
    { "__Secure-a", "1", {}, "must be secure" },
    { "__Host-a", "1", { secure = true, path = "/x" }, "must have the path /" },
    { "__host-a", "1", { secure = true, domain = "x" }, "must have the path /" },
  } do
    local name, value, options, why = table.unpack(case)

    it(("refuses %q %q: %s"):format(name, value, why), function()
      assert.matches(why, error_of(function(res) res:cookie(name, value, options) end))
    end)
  end
end)

describe("res:file", function()
  it("sends a file with a type by its name", function()
    local _, fields, body = answer_of(function(res) res:file "Makefile" end)
    assert.equal("application/octet-stream", fields["content-type"])
    assert.matches("^# Moonpool", body)
    _, fields = answer_of(function(res) res:file "examples/static/public/index.html" end)
    assert.equal("text/html; charset=utf-8", fields["content-type"])
    assert.is_nil(fields["content-disposition"])
    _, fields = answer_of(function(res)
      res:header("Content-Type", "text/x-make"):file "Makefile"
    end)
    assert.equal("text/x-make", fields["content-type"])
  end)

  it("makes a download of it, with a name of any bytes", function()
    local _, fields = answer_of(function(res)
      res:file("Makefile", { name = 'Ärger "1" \r\n%.pdf' })
    end)
    assert.equal("application/pdf", fields["content-type"])
    assert.equal("attachment; filename=\"__rger _1_ ___.pdf\"; "
      .. "filename*=UTF-8''%C3%84rger%20%221%22%20%0D%0A%25.pdf",
      fields["content-disposition"])
  end)

  it("says what is wrong with it, and has then sent nothing", function()
    local status, fields, body = answer_of(function(res)
      local ok, _, code = res:file("no such file", { name = "x.pdf" })
      if not ok then res:error(404, code) end
    end)
    assert.same({ 404, "ENOENT\n" }, { status, body })
    assert.equal("text/plain; charset=utf-8", fields["content-type"])
    assert.is_nil(fields["content-disposition"])
  end)
end)
