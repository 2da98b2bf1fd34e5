local http = require "moonpool.http"
local test = require "moonpool.test"

-- What the functions need of a request.
local function request(fields, body, query)
  local req = { query = query or "" }
  function req:header(name) return self and fields[name] end
  function req:body()
    if body then return self and body end
    return nil, "closed", "EOF"
  end
  return req
end

local FORM = { ["Content-Type"] = "Application/X-WWW-Form-URLencoded; charset=utf-8" }
local JSON = { ["Content-Type"] = "application/problem+json" }

describe("a query", function()
  it("has its values decoded, and all of a repeated name", function()
    local first, all = http.parse_query "a=1&b=x+y%2B%26&a=2&&c&=d&e==%zz&%61=3"
    assert.same({ a = "1", b = "x y+&", c = "", [""] = "d", e = "=%zz" }, first)
    assert.same({ "1", "2", "3" }, all.a)
    assert.same({ {}, {} }, { http.parse_query "" })
  end)

  it("is bounded", function()
    assert.is_table((http.parse_query(("a&"):rep(1000))))
    assert.same({ nil, "too many fields", "EINVAL" },
      { http.parse_query(("a&"):rep(1001)) })
  end)

  it("is read once", function()
    local req = request({}, nil, "a=1")
    assert.equal("1", http.args(req).a)
    assert.equal(http.args(req), req.args)
    assert.same({ a = { "1" } }, req.args_all)
  end)
end)

describe("a cookie", function()
  it("is found by its whole name, the first one counts", function()
    local req = request { Cookie = 'ab=no; a=x=y;b="q" ; a=second; e=' }
    assert.equal("x=y", http.cookie(req, "a"))
    assert.equal("q", http.cookie(req, "b"))
    assert.equal("", http.cookie(req, "e"))
    assert.is_nil(http.cookie(req, "c"))
    assert.is_nil(http.cookie(request {}, "a"))
  end)
end)

describe("a form", function()
  it("is read from a body of its type alone", function()
    assert.same({ a = "b c" }, (http.form(request(FORM, "a=b+c"))))
    assert.equal("ENOTSUP", select(3, http.form(request(JSON, "a=b"))))
    assert.equal("ENOTSUP", select(3, http.form(request({}, "a=b"))))
    assert.same({ nil, "closed", "EOF" }, { http.form(request(FORM)) })
  end)
end)

describe("JSON", function()
  it("is read from a body of its type alone, and strictly", function()
    assert.same({ a = { 1, false } }, http.json(request(JSON, '{"a":[1,false]}')))
    assert.equal("ENOTSUP", select(3, http.json(request(FORM, "{}"))))
    assert.same({ nil, "closed", "EOF" }, { http.json(request(JSON)) })
    for _, text in ipairs { "", "{", "[NaN]", "[0x10]", "[1] x", ("["):rep(101) } do
      assert.equal("EINVAL", select(3, http.json(request(JSON, text))), text)
    end
  end)

  it("is sent with its type; what it cannot say raises", function()
    local sent = {}
    local res = {}
    function res:header(name, value) sent[name] = value return self end
    function res:send(text) sent.body = text return self end
    assert.equal(res, http.send_json(res, { 1, "x" }))
    assert.same({ ["Content-Type"] = "application/json", body = '[1,"x"]' }, sent)
    for _, wrong in ipairs { 0 / 0, print, { [1] = 1, [1000] = 2 } } do
      assert.is_false(pcall(http.send_json, res, { wrong }))
    end
  end)
end)

describe("the helpers on a real request", function()
  local function ask(text)
    local app = http.app()
    app:post("/", function(req, res)
      local value, why = (req:header "X-Kind" == "json" and http.json or http.form)(req)
      if not value then return res:status(400):send(why) end
      http.send_json(res, { name = value.name, page = http.args(req).page,
        id = http.cookie(req, "id"), query = req.query })
    end)
    local client <close> = test.connect(app)
    client:write(text)
    client:shutdown()
    return client:read "a"
  end

  local function post(kind, media, body)
    return ask(("POST /?page=2 HTTP/1.1\r\nHost: spec\r\nCookie: id=7\r\nX-Kind: %s\r\n"
      .. "Content-Type: %s\r\nContent-Length: %d\r\n\r\n%s")
      :format(kind, media, #body, body))
  end

  it("read its query, its cookies and its body", function()
    for _, answer in ipairs {
      post("form", "application/x-www-form-urlencoded", "name=Ada+L&x=1"),
      post("json", "application/json", '{"name":"Ada L"}'),
    } do
      assert.matches("^HTTP/1.1 200 OK\r\n", answer)
      assert.matches("\r\nContent%-Type: application/json\r\n", answer)
      local sent = require("cjson").decode((answer:match "\r\n\r\n(.*)$"))
      assert.same({ name = "Ada L", page = "2", id = "7", query = "page=2" }, sent)
    end
  end)

  it("tell what is wrong with it", function()
    assert.matches("^HTTP/1.1 400 .*the body is not JSON$",
      post("json", "text/plain", "{}"))
  end)
end)
