local ask = require "ask"
local base64 = require "moonpool.base64"
local basic_auth = require "moonpool.middleware.basic_auth"
local http = require "moonpool.http"
local moonpool = require "moonpool"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local function serve(options)
  local app = http.app():use(basic_auth(options))
  app:get("/", function(req, res) res:send("user " .. tostring(req.user)) end)
  return test.connect(app)
end

local function ask_as(client, credentials)
  return ask(client, "GET", "/", { Authorization = credentials })
end

local function basic(text)
  return "Basic " .. base64.encode(text)
end

describe("basic_auth", function()
  it("lets those in who know a password", function()
    local client <close> = serve {
      users = { ada = "a:b", ["zo\xc3\xab"] = "", [""] = "x" },
    }
    for text, user in pairs { ["ada:a:b"] = "ada", ["zo\xc3\xab:"] = "zo\xc3\xab",
      [":x"] = "" } do
      local answer = ask_as(client, basic(text))
      assert.same({ 200, "user " .. user }, { answer.status, answer.body })
    end
    assert.equal(200, ask_as(client, "bAsIc   " .. base64.encode "ada:a:b").status)
  end)

  it("answers all others 401, and asks (RFC 7617 2)", function()
    local client <close> = serve { users = { ada = "a:b" }, realm = 'The "\\" house' }
    for _, credentials in ipairs {
      basic "ada:a:c", basic "ada:a:b ", basic "ada:a:", basic "ada:", basic "ada",
      basic "Ada:a:b", basic "bob:a:b", basic ":", basic "", basic "ada:a:b\n",
      basic "ada\0:a:b", "Basic", "Basic ", "Basic ?", "Basic " .. ("A"):rep(5),
      "Bearer " .. base64.encode "ada:a:b", "Basic" .. base64.encode "ada:a:b",
      basic "ada:a:b" .. " x", "",
    } do
      local answer = ask_as(client, credentials)
      assert.equal(401, answer.status, credentials)
      assert.equal("Unauthorized\n", answer.body)
      assert.equal([[Basic realm="The \"\\\" house", charset="UTF-8"]],
        answer.fields["www-authenticate"])
    end
    assert.equal(401, ask(client, "GET", "/").status)
    assert.equal(401, ask(client, "GET", "/missing").status)
  end)

  it("asks a function, which may wait and may say who it is", function()
    local seen
    local client <close> = serve { check = function(user, password, req)
      moonpool.sleep(5)
      seen = req.path
      if user == "fails" then error "no database" end
      return password == "yes" or password == "id" and 42
    end }
    assert.equal("user ada", ask_as(client, basic "ada:yes").body)
    assert.equal("/", seen)
    assert.equal("user 42", ask_as(client, basic "ada:id").body)
    assert.equal(401, ask_as(client, basic "ada:no").status)
    assert.equal(500, ask_as(client, basic "fails:yes").status)
  end)

  it("never calls the function without credentials", function()
    local client <close> = serve { check = function() return true end }
    assert.equal(401, ask(client, "GET", "/").status)
    assert.equal(401, ask_as(client, "Basic ???").status)
    assert.equal(401, ask_as(client, basic "ada").status)
    for _, control in ipairs { "\0", "\n", "\127" } do
      assert.equal(401, ask_as(client, basic("ada:pass" .. control)).status)
    end
  end)

  it("is made of users or of a function", function()
    local function check() end
    for text, options in pairs {
      ["there must be either users or check"] = {},
      ["there must be either users or check$"] = { users = {}, check = check },
      ["strings"] = { users = { ada = 5 } },
      ["strings$"] = { users = { "ada" } },
      ["control characters"] = { check = check, realm = "a\nb" },
      ["no option user$"] = { user = {} },
    } do
      local ok, why = pcall(basic_auth, options)
      assert.is_false(ok)
      assert.matches(text, why)
    end
  end)
end)
