local ask = require "ask"
local cors = require "moonpool.middleware.cors"
local http = require "moonpool.http"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local SHOP, OTHER = "https://shop.example", "https://other.example:8443"

local function serve(options)
  local app = http.app():use(cors(options))
  app:get("/", function(_, res) res:send "content" end)
  app:options("/", function(_, res) res:send "own options" end)
  app:get("/fails", function() error "failed" end)
  app:on_error(function(_, _, res) res:status(500):send "told" end)
  return test.connect(app)
end

-- The fields that concern CORS, short: "origin" for Access-Control-Allow-Origin.
local function permissions(answer)
  local found = {}
  for name, value in pairs(answer.fields) do
    local short = name:match "^access%-control%-allow%-(.*)"
      or name:match "^access%-control%-(.*)" or name == "vary" and name
    if short then found[short] = value end
  end
  return found
end

local function get(client, origin, target)
  local answer = ask(client, "GET", target or "/", { Origin = origin })
  return permissions(answer), answer
end

local function preflight(client, origin)
  local answer = ask(client, "OPTIONS", "/", { Origin = origin,
    ["Access-Control-Request-Method"] = "PUT",
    ["Access-Control-Request-Headers"] = "x-a" })
  return permissions(answer), answer
end

describe("cors", function()
  it("lets everybody read, if nothing else is said", function()
    local client <close> = serve()
    local found, answer = get(client, SHOP)
    assert.same({ origin = "*" }, found)
    assert.same({ 200, "content" }, { answer.status, answer.body })
    assert.same({ origin = "*" }, (get(client, "null")))
    assert.same({}, (get(client)))
  end)

  it("answers a preflight itself (Fetch 3.2.2)", function()
    local client <close> = serve { methods = { "PUT", "PURGE" }, max_age = 5,
      headers = { "X-A", "X-B" }, expose = { "X-C" } }
    local found, answer = preflight(client, SHOP)
    assert.same({ origin = "*", methods = "PUT, PURGE", headers = "X-A, X-B",
      ["max-age"] = "5" }, found)
    assert.same({ 204, "" }, { answer.status, answer.body })
    assert.same({ origin = "*", ["expose-headers"] = "X-C" }, (get(client, SHOP)))
  end)

  it("has usual methods, and asks again after ten minutes", function()
    local client <close> = serve()
    assert.same({ origin = "*", methods = "PUT, PATCH, DELETE", ["max-age"] = "600" },
      (preflight(client, SHOP)))
  end)

  it("leaves OPTIONS that are no preflight to the app", function()
    local client <close> = serve()
    local answer = ask(client, "OPTIONS", "/", { Origin = SHOP })
    assert.equal("own options", answer.body)
    answer = ask(client, "OPTIONS", "/", { ["Access-Control-Request-Method"] = "PUT" })
    assert.equal("own options", answer.body)
  end)

  it("answers preflights of paths that have no route", function()
    local client <close> = serve()
    local answer = ask(client, "OPTIONS", "/missing", { Origin = SHOP,
      ["Access-Control-Request-Method"] = "GET" })
    assert.equal(204, answer.status)
  end)

  for kind, origins in pairs {
    string = SHOP, list = { "https://first.example", SHOP },
    ["function"] = function(origin, req) return req.path and origin == SHOP end,
  } do
    it("knows who may, by a " .. kind, function()
      local client <close> = serve { origins = origins }
      assert.same({ origin = SHOP, vary = "Origin" }, (get(client, SHOP)))
      for _, origin in ipairs { OTHER, "null", SHOP .. ".evil.example", SHOP .. ":444",
        "http://shop.example", SHOP:upper(), SHOP .. "/", "*", SHOP .. ", *" } do
        local found, answer = get(client, origin)
        assert.same({ vary = "Origin" }, found, origin)
        assert.equal("content", answer.body)
        found, answer = preflight(client, origin)
        assert.same({ vary = "Origin" }, found, origin)
        assert.equal(204, answer.status)
      end
      assert.same({ vary = "Origin" }, (get(client)))
    end)
  end

  it("lets credentials in for those it knows", function()
    local client <close> = serve { origins = SHOP, credentials = true }
    assert.same({ origin = SHOP, vary = "Origin", credentials = "true" },
      (get(client, SHOP)))
    local found = preflight(client, SHOP)
    assert.same({ SHOP, "true" }, { found.origin, found.credentials })
    assert.same({ vary = "Origin" }, (get(client, OTHER)))
  end)

  it("holds for what failed, too", function()
    local client <close> = serve { origins = SHOP }
    for target, status in pairs { ["/missing"] = 404, ["/fails"] = 500 } do
      local found, answer = get(client, SHOP, target)
      assert.same({ origin = SHOP, vary = "Origin" }, found)
      assert.equal(status, answer.status)
    end
  end)

  it("refuses what no browser would match, or should", function()
    for text, options in pairs {
      ["origins cannot be \"%*\""] = { credentials = true },
      ["with credentials, origins"] = { credentials = true, origins = "*" },
      ["headers cannot be"] = { credentials = true, origins = SHOP, headers = "*" },
      ["methods cannot be"] = { credentials = true, origins = SHOP, methods = { "*" } },
      ["expose cannot be"] = { credentials = true, origins = SHOP, expose = "*" },
      ["https://shop.example/ is not an origin"] = { origins = SHOP .. "/" },
      ["shop.example is not an origin"] = { origins = "shop.example" },
      ["https://Shop.example is not an origin"] = { origins = "https://Shop.example" },
      ["%* is not an origin"] = { origins = { SHOP, "*" } },
      ["5 is not an origin"] = { origins = { 5 } },
      ["no option origin$"] = { origin = SHOP },
    } do
      local ok, why = pcall(cors, options)
      assert.is_false(ok, text)
      assert.matches(text, why)
    end
    assert.has_no_error(function() cors { origins = { "null", "app://x", OTHER } } end)
  end)
end)
