local core = require "moonpool.core"
local http = require "moonpool.http"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local FORM = "Application/X-WWW-Form-URLencoded; charset=utf-8"
local JSON = "application/problem+json"

-- A client whose requests all get this handler, of an engine with these settings.
local function connect(handler, settings)
  local engine = core.http.engine(handler, settings)
  return test.connect(function(conn) core.http.serve(engine, conn) end)
end

local function head(fields, target)
  local lines = { ("POST %s HTTP/1.1"):format(target or "/"), "Host: spec" }
  for _, field in ipairs(fields) do lines[#lines + 1] = field end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

local function post(kind, body, target)
  return head({ "Content-Type: " .. kind, "Content-Length: " .. #body }, target) .. body
end

-- What fn(req) returns for a request, which the client then closes.
local function ask(fn, text, settings)
  local got
  local client <close> = connect(function(req) got = table.pack(fn(req)) end, settings)
  client:write(text)
  client:shutdown()
  client:read "a"
  return table.unpack(got, 1, got.n)
end

-- The same by the name of a method.
local function call(name, text, ...)
  local arguments = table.pack(...)
  return ask(function(req) return req[name](req, table.unpack(arguments)) end, text)
end

describe("a query", function()
  it("has its values decoded, and all of a repeated name", function()
    local first, all = http.parse_query "a=1&b=x+y%2B%26&a=2&&c&=d&e==%zz&%61=3"
    assert.same({ a = "1", b = "x y+&", c = "", [""] = "d", e = "=%zz" }, first)
    assert.same({ "1", "2", "3" }, all.a)
    assert.same({ {}, {} }, { http.parse_query "" })
  end)

  it("has nothing decoded twice, and no escape beyond the end of a field", function()
    assert.same({ a = "%4", ["1"] = "%", ["+"] = "%2B", ["\0"] = "a\0=", ["%"] = "+ 1" },
      (http.parse_query "a=%4&1=%&%2b=%252B&%00=a%00=&%=%2B+1"))
    for _, n in ipairs { 1023, 1024, 1025, 100000 } do
      local first = http.parse_query(("n"):rep(n) .. "%6e=" .. ("%2B+"):rep(n))
      assert.same({ [("n"):rep(n + 1)] = ("+ "):rep(n) }, first)
    end
  end)

  it("is read as a string alone", function()
    assert.has_error(function() http.parse_query() end)
    assert.has_error(function() http.parse_query {} end)
  end)

  it("is bounded", function()
    assert.is_table((http.parse_query(("&a&"):rep(1000))))
    assert.same({ nil, "too many fields", "EINVAL" },
      { http.parse_query(("a&"):rep(1001)) })
    assert.same({ nil, "too many fields", "EINVAL" },
      { call("args", head({}, "/?" .. ("a&"):rep(1001))) })
  end)

  it("is read once, and is another one in the next request", function()
    local seen = {}
    local client <close> = connect(function(req)
      local first, all = req:args()
      assert(first == req:args() and all == select(2, req:args()))
      seen[#seen + 1] = { first, all, req.query }
    end)
    client:write(head({}, "/?a=1&a=2"), head({}, "/?b"), head {})
    assert.same({
      { { a = "1" }, { a = { "1", "2" } }, "a=1&a=2" },
      { { b = "" }, { b = { "" } }, "b" },
      { {}, {}, "" },
    }, seen)
  end)
end)

describe("req:args()", function()
  it("reads what the script has put in place of the query", function()
    local first, all = ask(function(req)
      req.query = "a=2"
      return req:args()
    end, head({}, "/?a=1"))
    assert.same({ { a = "2" }, { a = { "2" } } }, { first, all })
  end)
end)

describe("what is encoded for a URI", function()
  it("is all that is not unreserved, and is decoded again", function()
    local all = {}
    for byte = 0, 255 do all[#all + 1] = string.char(byte) end
    local text = table.concat(all)
    assert.equal(text, http.parse_query("x=" .. http.encode(text)).x)
    assert.equal("A-z_0.9~", http.encode "A-z_0.9~")
    assert.equal("%00%20%25%2F%3F%26%C3%A9", http.encode "\0 %/?&é")
  end)
end)

describe("a cookie", function()
  it("is found by its whole name, the first one counts", function()
    local text = head { 'Cookie: ab=no; a=x=y;b="q" ; a=second; e=' }
    for name, value in pairs { a = "x=y", b = "q", e = "" } do
      assert.equal(value, call("cookie", text, name))
    end
    assert.is_nil(call("cookie", text, "c"))
    assert.is_nil(call("cookie", head {}, "a"))
  end)
end)

describe("a form", function()
  it("is read from content of its type alone", function()
    local first, all = call("form", post(FORM, "a=b+c&a=d"))
    assert.same({ { a = "b c" }, { a = { "b c", "d" } } }, { first, all })
    local refusal = { nil, "the body is not a form", "ENOTSUP" }
    assert.same(refusal, { call("form", post(JSON, "a=b")) })
    assert.same(refusal, { call("form", head {}) })
  end)

  it("fails as its content does", function()
    local cut = head { "Content-Type: " .. FORM, "Content-Length: 10" } .. "a=b"
    assert.same({ nil, "closed", "EOF" }, { call("form", cut) })
  end)
end)

describe("JSON", function()
  it("is read from content of its type alone, and strictly", function()
    for _, kind in ipairs { JSON, "application/json", "Application/JSON;charset=x" } do
      assert.same({ a = { 1, false } }, call("json", post(kind, '{"a":[1,false]}')))
    end
    local refusal = { nil, "the body is not JSON", "ENOTSUP" }
    for _, kind in ipairs { FORM, "text/json", "application/jsonp",
      "application/x/y+json" } do
      assert.same(refusal, { call("json", post(kind, "{}")) })
    end
    assert.same(refusal, { call("json", head {}) })
    assert.same({ nil, "a value expected at byte 2", "EINVAL" },
      { call("json", post(JSON, "[")) })
  end)

  it("that is false is no failure", function()
    assert.same({ false, n = 1 }, table.pack(call("json", post(JSON, "false"))))
  end)

  it("fails as its content does", function()
    local cut = head { "Content-Type: " .. JSON, "Content-Length: 10" } .. "{"
    assert.same({ nil, "closed", "EOF" }, { call("json", cut) })
  end)
end)

describe("req:chunks", function()
  local function collect(req, ...)
    local list = {}
    for piece, message, code in req:chunks(...) do
      list[#list + 1] = piece or { piece, message, code }
    end
    return list
  end

  it("gives the pieces in order, as long as is asked for", function()
    assert.same({ "12345", "67" }, ask(function(req) return collect(req, 5) end,
      post("text/plain", "1234567")))
    assert.same({}, ask(collect, head {}))
  end)

  it("does not end as if all were well when the content fails", function()
    local cut = head { "Content-Length: 10" } .. "123"
    assert.same({ "123", { false, "closed", "EOF" } }, ask(collect, cut))
    local long = head { "Transfer-Encoding: chunked" }
      .. "3\r\n123\r\n3\r\n456\r\n0\r\n\r\n"
    assert.same({ "123", { false, "the body is too long", "EMSGSIZE" } },
      ask(collect, long, { body_limit = 5 }))
  end)
end)

describe("the status of a failure", function()
  it("is the client's, if it is the client's fault", function()
    for code, status in pairs { EINVAL = 400, EBADMSG = 400, EOF = 400, ETIMEDOUT = 408,
      EMSGSIZE = 413, ENOTSUP = 415, ENOSPC = 500, EACCES = 500 } do
      assert.equal(status, http.status_of(code))
    end
  end)
end)
