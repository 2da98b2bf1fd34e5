local core = require "moonpool.core"
local http = require "moonpool.http"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local function ask(client, method, target)
  client:write(method, " ", target, " HTTP/1.1\r\nHost: spec\r\n\r\n")
  local status = tonumber(client:read():match "^%S+ (%d+)")
  local fields = {}
  for line in client:lines() do
    if line == "" then break end
    local name, value = line:match "^(.-): (.*)$"
    fields[name:lower()] = value
  end
  local length = method ~= "HEAD" and tonumber(fields["content-length"]) or 0
  return status, length > 0 and client:read(length) or "", fields
end

local function say(text)
  return function(_, res) res:send(text) end
end

-- Middleware that leaves its name in a list.
local function note(list, name)
  return function(_, _, next)
    list[#list + 1] = name
    next()
  end
end

describe("routes", function()
  it("forget what they have kept when there are more paths", function()
    local routes = core.http.routes(function(prefix, pattern)
      return say(("%s %s"):format(prefix, pattern)), {}, true
    end)
    local engine = core.http.engine(nil, {}, function() return routes end)
    local client <close> = test.connect(engine)
    local function answer(target) return (select(2, ask(client, "GET", target))) end
    assert.equal("nil nil", answer "/b/100")
    routes:pattern "/a"
    assert.equal("nil 1", answer "/a")
    for i = 1, 100 do routes:pattern("/b/" .. i) end
    assert.equal("nil 101", answer "/b/100")
    assert.equal("nil 1", answer "/a")
    for i = 1, 100 do routes:prefix("/b/" .. i) end
    assert.equal("100 101", answer "/b/100")
    assert.equal("nil 1", answer "/a")
  end)
end)

describe("an app", function()
  it("runs middleware in its order, under its prefix, without a route too", function()
    local seen = {}
    local app = http.app():get("/admin/x", say "x"):get("/:any/y", say "y")
    app:use(note(seen, "all")):use("/admin", note(seen, "admin")):use(note(seen, "last"))
    local client <close> = test.connect(app)
    for _, case in ipairs {
      { "GET", "/admin/x", 200, "all admin last" }, { "GET", "/o/y", 200, "all last" },
      { "GET", "/admin/y", 200, "all admin last" }, { "GET", "/adminx", 404, "all last" },
      { "GET", "/%61dmin/y", 200, "all admin last" },
      { "GET", "/o/../admin/x", 200, "all admin last" },
      { "GET", "/admin", 404, "all admin last" },
      { "PUT", "/admin/x", 405, "all admin last" },
      { "OPTIONS", "/admin/x", 204, "all admin last" },
    } do
      for i = #seen, 1, -1 do seen[i] = nil end
      assert.equal(case[3], (ask(client, case[1], case[2])), case[2])
      assert.equal(case[4], table.concat(seen, " "), case[2])
    end
  end)

  it("tells prefixes from longer words that begin like them", function()
    local seen = {}
    local app = http.app():any("/*path", say "x")
    app:use("/admin", note(seen, "admin")):use("/adminx", note(seen, "adminx"))
    local client <close> = test.connect(app)
    ask(client, "GET", "/adminx/y")
    ask(client, "GET", "/admin/y")
    assert.equal("adminx admin", table.concat(seen, " "))
  end)

  it("tells middleware what the path begins with", function()
    local function show(req, res, _, prefix)
      res:send(tostring(prefix) .. " " .. req.path:sub(#(prefix or "") + 1))
    end
    local inner = http.app():use("/in", show):use(show)
    local app = http.app():use("/a b/", show):mount("/m", inner):use(show)
    local client <close> = test.connect(app)
    for target, expected in pairs {
      ["/a%20b/x%2Fy"] = "/a b /x/y", ["/a%20b"] = "/a b ", ["/x/../a%20b/"] = "/a b /",
      ["/m/in/x"] = "/m/in /x", ["/m/x"] = "/m /x", ["/x"] = "nil /x",
    } do
      assert.equal(expected, (select(2, ask(client, "GET", target))), target)
    end
  end)

  it("ends where middleware answers, and calls what follows once", function()
    local reached, why = 0, nil
    local app = http.app():use("/stop", say "stopped")
    app:use("/twice", function(_, _, next)
      next()
      why = select(2, pcall(next))
    end)
    app:get("/:p", function(_, res)
      reached = reached + 1
      res:send "reached"
    end)
    local client <close> = test.connect(app)
    assert.same({ 200, "stopped" }, { ask(client, "GET", "/stop"), (select(2,
      ask(client, "GET", "/stop"))) })
    assert.equal(0, reached)
    assert.equal("reached", (select(2, ask(client, "GET", "/twice"))))
    assert.equal(1, reached)
    assert.matches("called before", why)
  end)

  it("takes other apps in, before and after they are complete", function()
    local seen = {}
    local inner = http.app():use(note(seen, "inner")):get("/", say "root")
    local outer = http.app():mount("/api", http.app():mount("/v1/", inner))
    inner:not_found(function(_, res) res:status(404):send "inner" end)
    local client <close> = test.connect(outer)
    assert.equal("root", (select(2, ask(client, "GET", "/api/v1"))))
    assert.equal("root", (select(2, ask(client, "GET", "/api/v1/"))))
    inner:get("/:id", function(req, res) res:send(req.path .. " " .. req.params.id) end)
    assert.equal("/api/v1/7 7", (select(2, ask(client, "GET", "/api/v1/7"))))
    assert.equal("inner", (select(2, ask(client, "GET", "/api/v1/7/8"))))
    assert.equal(4, #seen)
    assert.equal("Not Found\n", (select(2, ask(client, "GET", "/api/v2"))))
    assert.equal(4, #seen)
    assert.has_error(function() inner:mount("/x", outer) end,
      "an app cannot be mounted in itself")
  end)

  it("refuses methods in its own words, in those of the app that is nearest", function()
    local inner = http.app():get("/x", say "x")
    local outer = http.app():get("/y", say "y"):mount("/in", inner)
    local client <close> = test.connect(outer)
    local function refused(path, words)
      local status, body, fields = ask(client, "PUT", path)
      assert.same({ 405, words, "GET, HEAD" }, { status, body, fields.allow })
    end
    refused("/in/x", "Method Not Allowed\n")
    outer:not_allowed(function(req, res) res:send("no " .. req.method) end)
    refused("/y", "no PUT")
    refused("/in/x", "no PUT")
    inner:not_allowed(function(_, res) res:send "inner" end)
    refused("/y", "no PUT")
    refused("/in/x", "inner")
  end)

  it("answers HEAD, OPTIONS, and methods that are not there", function()
    local app = http.app():get("/x", say "get"):post("/x", say "post")
    app:any("/y", say "any")
    local client <close> = test.connect(app)
    assert.equal("GET, HEAD, POST", select(3, ask(client, "OPTIONS", "/x")).allow)
    assert.equal("GET, HEAD, POST", select(3, ask(client, "PUT", "/x")).allow)
    assert.equal("3", select(3, ask(client, "HEAD", "/x"))["content-length"])
    assert.equal("any", (select(2, ask(client, "OPTIONS", "/y"))))
    assert.equal(204, (ask(client, "OPTIONS", "*")))
    assert.equal(400, (ask(client, "GET", "/../x")))
  end)

  it("hands errors to the nearest app that answers them", function()
    local inner = http.app():get("/a", function() error { code = 418 } end)
    inner:get("/b", function() error "plain" end)
    inner:on_error(function(err, _, res)
      if err.code then res:status(err.code):send "inner" end
    end)
    local traced
    local app = http.app():mount("/in", inner):on_error(function(err, _, res, traceback)
      traced = traceback
      res:status(503):send(err)
    end)
    local client <close> = test.connect(app)
    assert.equal(418, (ask(client, "GET", "/in/a")))
    inner:on_error(function() end)
    local status, body = ask(client, "GET", "/in/b")
    assert.equal(503, status)
    assert.matches("plain$", body)
    assert.matches("plain\nstack traceback", traced)
  end)
end)
