local harness = require "server"
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
  require "tidy" (before_each, after_each)

  describe("in this process", function()
    local app = dofile "examples/static/app.lua"

    -- Status, fields by lower-case names, content.
    local function get(client, target, fields)
      client:write("GET ", target, " HTTP/1.1\r\nHost: spec\r\n", fields or "", "\r\n")
      local status, found = tonumber(client:read():match " (%d+) "), {}
      for line in client:lines() do
        if line == "" then break end
        local name, value = line:match "^([^:]+): (.*)$"
        found[name:lower()] = value
      end
      local length = tonumber(found["content-length"] or 0)
      return status, found, length > 0 and client:read(length) or ""
    end

    it("serves each of its files, with its type", function()
      local client <close> = test.connect(app)
      for name, media_type in pairs {
        ["index.html"] = "text/html; charset=utf-8", ["style.css"] =
        "text/css; charset=utf-8", ["moon.svg"] = "image/svg+xml",
        ["favicon.svg"] = "image/svg+xml", ["robots.txt"] = "text/plain; charset=utf-8",
        ["about/index.html"] = "text/html; charset=utf-8",
      } do
        local status, fields, body = get(client, "/" .. name)
        assert.same({ 200, media_type, "default-src 'self'" },
          { status, fields["content-type"], fields["content-security-policy"] }, name)
        assert.equal(contents(PUBLIC .. name), body)
      end
    end)

    it("has only links that lead somewhere", function()
      local client <close> = test.connect(app)
      for _, page in ipairs { "/", "/about/" } do
        local _, _, text = get(client, page)
        for link in text:gmatch '="(/[^"]*)"' do
          local expected = link == "/nowhere" and 404 or 200
          assert.equal(expected, (get(client, link)), link)
        end
      end
    end)

    it("has a page for what is not there", function()
      local client <close> = test.connect(app)
      for _, target in ipairs { "/nowhere", "/about/nowhere.css", "/.git/config" } do
        local status, fields, body = get(client, target)
        assert.same({ 404, "text/html; charset=utf-8", contents(PUBLIC .. "404.html") },
          { status, fields["content-type"], body }, target)
        assert.is_nil(fields.etag)
      end
    end)

    it("sends no file twice", function()
      local client <close> = test.connect(app)
      local _, fields = get(client, "/moon.svg")
      local status, _, body = get(client, "/moon.svg",
        ("If-None-Match: %s\r\n"):format(fields.etag))
      assert.same({ 304, "" }, { status, body })
    end)
  end)

  it("has a compressed style sheet that is the style sheet", function()
    local unpacked = run("gzip -dc " .. PUBLIC .. "style.css.gz")
    assert.equal(contents(PUBLIC .. "style.css"), unpacked)
  end)

  describe("for curl", function()
    local server

    before_each(function() server = harness.run { app = "examples/static/app.lua" } end)
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
      harness.write_file(path, moon:sub(1, 300))
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
