local lfs = require "lfs"
local test = require "moonpool.test"

local PUBLIC = "examples/static/public/"

local function contents(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

local function run(command)
  local pipe <close> = assert(io.popen("env -u LD_PRELOAD " .. command))
  return pipe:read "a"
end

describe("the static example", function()
  describe("in this process", function()
    local app = test.app "examples/static/app.lua"

    it("serves each of its files, with its type", function()
      for name, media_type in pairs {
        ["index.html"] = "text/html; charset=utf-8", ["style.css"] =
        "text/css; charset=utf-8", ["moon.svg"] = "image/svg+xml",
        ["favicon.svg"] = "image/svg+xml", ["robots.txt"] = "text/plain; charset=utf-8",
        ["about/index.html"] = "text/html; charset=utf-8",
      } do
        assert.response(app:get("/" .. name)).has.status(200)
          .has.header("Content-Type", media_type)
          .has.header("Content-Security-Policy", "default-src 'self'")
          .has.body(contents(PUBLIC .. name))
      end
    end)

    it("has only links that lead somewhere", function()
      for _, page in ipairs { "/", "/about/" } do
        for link in app:get(page).body:gmatch '="(/[^"]*)"' do
          local expected = link == "/nowhere" and 404 or 200
          assert.response(app:get(link)).has.status(expected)
        end
      end
    end)

    it("has a page for what is not there", function()
      for _, target in ipairs { "/nowhere", "/about/nowhere.css", "/.git/config" } do
        assert.response(app:get(target)).has.status(404)
          .has.header("Content-Type", "text/html; charset=utf-8")
          .has.body(contents(PUBLIC .. "404.html")).has.no.header "ETag"
      end
    end)

    it("sends no file twice", function()
      local tag = app:get("/moon.svg").headers.etag
      local answer = app:get("/moon.svg", { headers = { ["If-None-Match"] = tag } })
      assert.response(answer).has.status(304).has.body ""
    end)
  end)

  it("has a compressed style sheet that is the style sheet", function()
    local unpacked = run("gzip -dc " .. PUBLIC .. "style.css.gz")
    assert.equal(contents(PUBLIC .. "style.css"), unpacked)
  end)

  describe("for curl", function()
    local server

    before_each(function() server = test.spawn { app = "examples/static/app.lua" } end)
    after_each(function() server:stop() end)

    local function curl(arguments)
      return run(("curl --silent --show-error --max-time 20 %s"):format(
        arguments:gsub("URL", "http://" .. server.address)))
    end

    local css, moon = contents(PUBLIC .. "style.css"), contents(PUBLIC .. "moon.svg")

    it("is compressed where that is wanted", function()
      lfs.touch(PUBLIC .. "style.css.gz") -- a checkout may have written it first
      local size = "--write-out ' %{size_download}' "
      assert.equal(css .. " " .. #css, curl(size .. "URL/style.css"))
      assert.equal(("%s %d"):format(css, #contents(PUBLIC .. "style.css.gz")),
        curl("--compressed " .. size .. "URL/style.css"))
    end)

    it("has ranges, one and several", function()
      local status = "--write-out ' %{http_code}' "
      assert.equal(moon:sub(1, 100) .. " 206", curl(status .. "-r 0-99 URL/moon.svg"))
      assert.equal(moon:sub(-20) .. " 206", curl(status .. "-r -20 URL/moon.svg"))
      assert.equal(moon:sub(501) .. " 206", curl(status .. "-r 500- URL/moon.svg"))
      assert.matches(" 416$", curl(status .. "-r 100000- URL/moon.svg"))
      local parts = curl "-r 0-9,-10 URL/moon.svg"
      assert.truthy(parts:find("\r\n\r\n" .. moon:sub(1, 10) .. "\r\n--", 1, true))
      assert.truthy(parts:find("\r\n\r\n" .. moon:sub(-10) .. "\r\n--", 1, true))
    end)

    it("goes on with a download that broke off", function()
      local path = os.tmpname()
      local part <close> = assert(io.open(path, "w"))
      part:write(moon:sub(1, 300)):close()
      local status = "--write-out '%{http_code}' "
      assert.equal("206", curl(status .. "-C - -o " .. path .. " URL/moon.svg"))
      assert.equal(moon, contents(path))
      os.remove(path)
    end)

    it("is not sent again to who has it", function()
      local ask = "--write-out '%{http_code}' URL/moon.svg"
      assert.equal("304", curl(("-z %smoon.svg "):format(PUBLIC) .. ask))
      assert.equal("200", curl("-o /dev/null -z 'Sun, 06 Nov 1994 08:49:37 GMT' " .. ask))
      local tags = os.tmpname()
      assert.equal("200", curl(("-o /dev/null --etag-save %s "):format(tags) .. ask))
      assert.equal("304", curl(("-o /dev/null --etag-compare %s "):format(tags) .. ask))
      os.remove(tags)
    end)

    it("leads to its directories, and leaves its root to nobody", function()
      local shown = "-o /dev/null --write-out '%{url_effective} %{http_code}' "
      assert.equal("http://" .. server.address .. "/about/?x=1 200",
        curl("-L " .. shown .. "'URL/about?x=1'"))
      for _, path in ipairs { "/../app.lua", "/%2e%2e/app.lua", "/..%2fapp.lua" } do
        assert.matches("^40[04]$", curl("--path-as-is -o /dev/null --write-out "
          .. "'%{http_code}' 'URL" .. path .. "'"))
      end
    end)
  end)
end)
