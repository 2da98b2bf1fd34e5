local diff = require "moonpool.test_diff"
local http = require "moonpool.http"
local moonpool = require "moonpool"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

-- What an assertion that fails says.
local function failure(fn)
  local ok, why = pcall(fn)
  assert.is_false(ok)
  return tostring(type(why) == "table" and why.message or why)
end

local function said(fn, ...)
  local why = failure(fn)
  for _, text in ipairs { ... } do
    assert(why:find(text, 1, true), ("no %q in:\n%s"):format(text, why))
  end
end

describe("assert.response", function()
  local app = http.app()
  app:get("/", function(_, res)
    res:header("X-One", "1"):json { title = "Milk", tags = { "a", "b" } }
  end)
  app:get("/text", function(_, res) res:send "one\ntwo\nthree\nfour\n" end)

  local served = test.app(app)

  it("knows the status", function()
    assert.response(served:get "/").has.status(200)
    assert.response(served:get "/").has.no.status(404)
    said(function() assert.response(served:get "/").has.status(404) end,
      "expected status 404, but the answer is\nHTTP/1.1 200 OK\n", '{"', "X-One: 1")
    said(function() assert.response(served:get "/").has.no.status(200) end,
      "another status than 200")
  end)

  it("knows the fields, in any case", function()
    assert.response(served:get "/").has.header "x-one"
    assert.response(served:get "/").has.header("X-One", 1)
    assert.response(served:get "/").has.no.header "X-Two"
    assert.response(served:get "/").has.no.header("X-One", "2")
    said(function() assert.response(served:get "/").has.header "X-Two" end,
      "expected a field X-Two, but the answer has\nHTTP/1.1 200 OK", "X-One: 1")
    said(function() assert.response(served:get "/").has.header("X-One", "2") end,
      "expected a field X-One: 2")
    said(function() assert.response(served:get "/").has.no.header "X-One" end,
      "expected no field X-One")
  end)

  it("knows the body, and shows how it differs", function()
    assert.response(served:get "/text").has.body "one\ntwo\nthree\nfour\n"
    assert.response(served:get "/text").has.body_matching "^one\n"
    assert.response(served:get "/text").has.no.body "x"
    said(function()
      assert.response(served:get "/text").has.body "one\n2\nthree\nfour\n"
    end, "  one\n- 2\n+ two\n  three\n  four")
    said(function() assert.response(served:get "/text").has.body_matching "^two" end,
      'matching "^two"', "one\ntwo\n")
  end)

  it("knows JSON, and shows how it differs", function()
    assert.response(served:get "/").has.json { tags = { "a", "b" }, title = "Milk" }
    assert.response(served:get "/").has.no.json { title = "Milk" }
    said(function()
      assert.response(served:get "/").has.json { tags = { "a", "c" }, title = "Milk" }
    end, '-     "c"\n', '+     "b"\n', '  "title": "Milk"')
    said(function() assert.response(served:get "/text").has.json {} end,
      "the body is no JSON")
  end)

  it("says one after the other", function()
    local answer = served:get "/"
    assert.response(answer).has.status(200).has.header "X-One".has.no.header "X-Two"
      .has.json { tags = { "a", "b" }, title = "Milk" }
    said(function() assert.response(answer).has.status(200).has.header "X-Two" end,
      "a field X-Two")
  end)

  it("says what came in place of an answer", function()
    said(function() assert.response(nil, "closed", "EOF").has.status(200) end,
      "there is no answer: closed (EOF)")
    said(function() assert.has.status(200) end, "assert.response(answer) comes first")
  end)

  it("names the line of the spec", function()
    assert.matches("test_assertions_spec.lua:%d+: expected status 404",
      failure(function() assert.response(served:get "/").has.status(404) end))
  end)
end)

describe("assert.client closes", function()
  local function after(seconds)
    return test.connect(function(conn)
      conn:write "so far"
      moonpool.sleep(seconds)
    end)
  end

  it("waits for it", function()
    assert.client(after(30)).closes()
    assert.client(after(30)).closes(30)
    assert.client(after(10)).does_not.closes(9)
  end)

  it("says who waits instead", function()
    said(function() assert.client(after(10)).closes(9) end,
      "the connection was not closed within 9 seconds", "a task waits in sleep",
      "for 1 more seconds")
    said(function() assert.client(after(1)).does_not.closes(9) end,
      "the connection was closed, after\nso far")
  end)
end)

describe("assert.eventually", function()
  it("waits for a condition, in virtual time", function()
    local n = 0
    local task = moonpool.every(10, function() n = n + 1 end)
    local began = moonpool.now()
    assert.eventually(function() return n == 3 end)
    assert.equal(30, moonpool.now() - began)
    task:cancel()
  end)

  it("takes what is raised for not yet", function()
    local n = 0
    local task = moonpool.every(1, function() n = n + 1 end)
    assert.eventually(function()
      assert.equal(5, n)
      return true
    end)
    said(function()
      assert.eventually(function() error "never so" end, 2)
    end, "this did not come true within 2 seconds", "never so", "a task waits in sleep")
    assert.equal(7, n)
    task:cancel()
  end)

  it("waits for real where the clock runs", function()
    test.virtual(false)
    local began = moonpool.now()
    assert.eventually(function() return moonpool.now() > began + 0.01 end, 5)
    said(function() assert.eventually(function() end, 0.01) end, "within 0.01 seconds")
  end)
end)

describe("a diff", function()
  it("has what differs, and a few lines around", function()
    local a, b = {}, {}
    for i = 1, 20 do a[i], b[i] = "line " .. i, "line " .. i end
    b[10] = "other"
    local text = diff.lines(table.concat(a, "\n") .. "\n", table.concat(b, "\n") .. "\n")
    assert.equal("  ...\n  line 7\n  line 8\n  line 9\n- line 10\n+ other\n  line 11\n"
      .. "  line 12\n  line 13\n  ...", text)
  end)

  it("shows what cannot be seen", function()
    assert.equal("- a\n+ a\\13\\0", diff.lines("a\n", "a\r\0\n"))
    assert.equal("- a\n+ a  (no end of line)", diff.lines("a\n", "a"))
    assert.equal("+ a", diff.lines("", "a\n"))
    assert.equal("", diff.lines("", ""))
  end)

  it("does not take for ever", function()
    local long = ("x\n"):rep(100000)
    assert.matches("%- %.%.%. and 99602 more lines\n%+ %.%.%. and 99601 more lines",
      diff.lines(long .. "y\nz\n", long .. "y\n"))
  end)

  it("writes values with sorted keys", function()
    assert.equal('{\n  "a": [\n    1,\n    "x"\n  ],\n  "b": {}\n}',
      diff.pretty { b = {}, a = { 1, "x" } })
  end)
end)
