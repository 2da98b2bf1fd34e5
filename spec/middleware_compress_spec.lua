local ask = require "ask"
local compress = require "moonpool.middleware.compress"
local fd = require "moonpool.fd"
local harness = require "server"
local http = require "moonpool.http"
local moonpool = require "moonpool"
local test = require "moonpool.test"
local zlib = require "zlib"

require "tidy" (before_each, after_each)

local GZIP = { ["Accept-Encoding"] = "gzip" }
local TEXT = ("A line of text that is worth it.\n"):rep(100)

local function serve(handler, options)
  local app = http.app():use(compress(options))
  app:any("/*path", handler)
  return test.connect(app)
end

local function get(client, fields, method)
  return ask(client, method or "GET", "/", fields or GZIP)
end

-- The content of an answer, and whether it was compressed to its very end.
local function content(answer)
  if answer.fields["content-encoding"] ~= "gzip" then return answer.body, false end
  local text, is_whole = zlib.inflate(31)(answer.body)
  return text, is_whole
end

local function assert_compressed(expected, answer, message)
  assert.equal("gzip", answer.fields["content-encoding"], message)
  local text, is_whole = content(answer)
  assert(expected == text, message or "another content")
  assert.is_true(is_whole, message)
  assert.equal("Accept-Encoding", answer.fields.vary, message)
end

local function assert_plain(expected, answer, message)
  assert.is_nil(answer.fields["content-encoding"], message)
  assert(expected == answer.body, message or "another content")
end

local function say(text, kind, name, value)
  return function(_, res)
    if kind then res:header("Content-Type", kind) end
    if name then res:header(name, value) end
    res:send(text)
  end
end

describe("compress", function()
  it("sends a body as gzip, with its new length", function()
    local client <close> = serve(say(TEXT))
    local answer = get(client)
    assert_compressed(TEXT, answer)
    assert.equal(#answer.body, tonumber(answer.fields["content-length"]))
    assert(#answer.body < 200)
  end)

  it("goes by what the client accepts (RFC 9110 12.5.3)", function()
    local client <close> = serve(say(TEXT))
    for field, is_wanted in pairs {
      gzip = true, ["x-gzip"] = true, GZip = true, ["*"] = true, ["br, gzip"] = true,
      ["br;q=1.0, gzip;q=0.8, *;q=0.1"] = true, ["deflate , gzip ;q=0.001"] = true,
      ["gzip;q=1.000"] = true, [",,gzip,"] = true, ["gzip;Q=0.5"] = true,
      ["identity, gzip"] = true, ["identity;q=0.5, gzip;q=0.5"] = true,
      ["*;q=0, gzip"] = true, ["identity;q=0, *"] = true,
      [""] = false, br = false, gzipped = false, ["gzip;q=0"] = false,
      ["gzip;q=0.000"] = false, ["gzip;q=0, *"] = false, ["*;q=0"] = false,
      ["identity"] = false, ["identity, gzip;q=0.5"] = false,
      ["gzip;q=0.5, *"] = false, -- "*" is identity too
      ["gzip;q=x"] = false, ["gzip;q=2"] = false, ["gzip;q=-1"] = false,
      ["gzip;q="] = false, ["gzip;level=9"] = false, ["identity;q=0"] = false,
      ["gzip;q=0, identity;q=0"] = false,
    } do
      local answer = get(client, { ["Accept-Encoding"] = field })
      assert.equal(is_wanted, answer.fields["content-encoding"] == "gzip", field)
      assert.equal(TEXT, content(answer), field)
      assert.equal("Accept-Encoding", answer.fields.vary, field)
    end
    assert_plain(TEXT, get(client, {}))
  end)

  it("compresses what it pays for", function()
    for kind, pays in pairs {
      ["text/html; charset=utf-8"] = true, ["TEXT/CSS"] = true, ["text/x-new"] = true,
      ["application/json"] = true, ["application/problem+json"] = true,
      ["text/javascript"] = true, ["application/javascript;x=y"] = true,
      ["image/svg+xml"] = true, ["application/xml"] = true,
      ["application/rss+xml"] = true, ["application/wasm"] = true,
      ["font/ttf"] = true, ["text/event-stream"] = true,
      ["image/png"] = false, ["image/jpeg"] = false, ["font/woff2"] = false,
      ["application/octet-stream"] = false, ["application/zip"] = false,
      ["video/mp4"] = false, ["application/jsonp.zip"] = false, ["x-text/html"] = false,
    } do
      local client <close> = serve(say(TEXT, kind))
      local answer = get(client)
      if pays then
        assert_compressed(TEXT, answer, kind)
      else
        assert_plain(TEXT, answer, kind)
        assert.is_nil(answer.fields.vary)
      end
    end
  end)

  it("takes types of one's own", function()
    local options = { types = { "application/x.y+z", "model/*" } }
    for kind, pays in pairs { ["application/x.y+z"] = true, ["application/xxy+z"] = false,
      ["Model/STL"] = true, ["text/plain"] = false } do
      local client <close> = serve(say(TEXT, kind), options)
      assert.equal(pays and "gzip", get(client).fields["content-encoding"] or false, kind)
    end
  end)

  it("leaves short bodies alone, unless nothing else is accepted", function()
    local lengths = { [0] = false, [1] = false, [1023] = false, [1024] = true }
    for length, is_long in pairs(lengths) do
      local text = ("x"):rep(length)
      local client <close> = serve(say(text))
      local answer = get(client)
      assert.equal(is_long and "gzip", answer.fields["content-encoding"] or false)
      assert.equal(text, content(answer))
      assert.equal("Accept-Encoding", answer.fields.vary)
      answer = get(client, { ["Accept-Encoding"] = "gzip, identity;q=0" })
      assert.equal(length > 0 and "gzip", answer.fields["content-encoding"] or false)
      assert.equal(text, content(answer))
    end
    local client <close> = serve(say("12345"), { minimum = 5 })
    assert_compressed("12345", get(client))
  end)

  it("compresses any type for those who accept nothing else", function()
    local client <close> = serve(say(TEXT, "image/png"))
    assert_compressed(TEXT, get(client, { ["Accept-Encoding"] = "gzip, identity;q=0" }))
  end)

  it("leaves alone what is coded, or must not be changed", function()
    for _, case in ipairs {
      { "Content-Encoding", "br" },
      { "Cache-Control", "public, No-Transform, max-age=5" },
    } do
      local client <close> = serve(say(TEXT, "text/plain", case[1], case[2]))
      local answer = get(client)
      assert.equal(case[1] == "Content-Encoding" and "br" or nil,
        answer.fields["content-encoding"])
      assert.equal(TEXT, answer.body)
      assert.is_nil(answer.fields.vary)
    end
  end)

  it("leaves alone answers without content, and parts of one", function()
    for _, status in ipairs { 204, 205, 206, 304 } do
      local client <close> = serve(function(_, res)
        local body = status == 206 and TEXT or ""
        res:status(status):header("ETag", '"v1"'):send(body)
      end)
      local answer = get(client)
      assert_plain(status == 206 and TEXT or "", answer)
      assert.same({ status, '"v1"' }, { answer.status, answer.fields.etag })
    end
  end)

  it("compresses errors like everything else", function()
    local client <close> = serve(function(_, res) res:status(404):send(TEXT) end)
    assert_compressed(TEXT, get(client))
  end)

  it("adds to the Vary of the handler", function()
    local client <close> = serve(say(TEXT, "text/plain", "Vary", "Origin"))
    assert.equal("Origin, Accept-Encoding", get(client).fields.vary)
    local same <close> = serve(say(TEXT, "text/plain", "Vary", "accept-encoding, Origin"))
    assert.equal("accept-encoding, Origin", get(same).fields.vary)
  end)
end)

describe("the fields of what is compressed", function()
  local function tagged(etag)
    return serve(function(_, res)
      res:header("ETag", etag):header("Accept-Ranges", "bytes"):send(TEXT)
    end)
  end

  it("have a weak tag, and offer no ranges (RFC 9110 8.8.1)", function()
    for etag, weak in pairs { ['"v1"'] = 'W/"v1"', ['W/"v1"'] = 'W/"v1"' } do
      local client <close> = tagged(etag)
      local answer = get(client)
      assert.same({ weak, nil }, { answer.fields.etag, answer.fields["accept-ranges"] })
      answer = get(client, {})
      assert.same({ etag, "bytes" }, { answer.fields.etag,
        answer.fields["accept-ranges"] })
    end
  end)

  it("are those of a 304, too, for who has it (RFC 9110 15.4.5)", function()
    local client <close> = serve(function(_, res)
      res:status(304):header("ETag", '"v1"'):send()
    end)
    for sent, etag in pairs { ['W/"v1"'] = 'W/"v1"', ['"v1"'] = '"v1"',
      ['"x", W/"v1"'] = 'W/"v1"', ['W/"v11"'] = '"v1"' } do
      local answer = get(client, { ["Accept-Encoding"] = "gzip",
        ["If-None-Match"] = sent })
      assert.same({ etag, "Accept-Encoding" }, { answer.fields.etag, answer.fields.vary })
    end
  end)

  it("are the same for HEAD, without content", function()
    local path = os.tmpname()
    harness.write_file(path, TEXT)
    for name, handler in pairs {
      send = say(TEXT),
      write = function(_, res) res:write(TEXT) end,
      sendfile = function(_, res) res:sendfile(path) end,
      declared = function(req, res)
        res:length(#TEXT)
        if req.method ~= "HEAD" then res:write(TEXT) end
      end,
    } do
      local client <close> = serve(handler)
      local head, full = get(client, GZIP, "HEAD"), get(client)
      assert_compressed(TEXT, full, name)
      full.fields.date, head.fields.date = nil, nil
      assert.same(full.fields, head.fields, name)
      assert.equal("", head.body)
    end
    os.remove(path)
  end)
end)

describe("what is written piece by piece", function()
  it("is compressed piece by piece, each at once", function()
    local client <close> = serve(function(_, res)
      for i = 1, 3 do
        res:write("tick ", i, "\n")
        moonpool.sleep(60)
      end
    end)
    client:write "GET / HTTP/1.1\r\nHost: spec\r\nAccept-Encoding: gzip\r\n\r\n"
    for line in client:lines() do if line == "" then break end end
    local inflate = zlib.inflate(31)
    local function next_chunk()
      local chunk = client:read(tonumber(client:read(), 16))
      client:read()
      return inflate(chunk)
    end
    local began = moonpool.now()
    for i = 1, 3 do
      assert.equal("tick " .. i .. "\n", next_chunk())
      assert(moonpool.now() - began < i * 60)
    end
    local _, is_whole = next_chunk()
    assert.is_true(is_whole)
    assert.equal("0", client:read())
  end)

  it("is compressed however short, and to its end", function()
    for _, pieces in ipairs { {}, { "" }, { "a" }, { "", "a", "", "b" },
      { TEXT, TEXT } } do
      local client <close> = serve(function(_, res)
        res:write()
        for _, piece in ipairs(pieces) do assert.equal(res, res:write(piece)) end
      end)
      assert_compressed(table.concat(pieces), get(client))
      assert.equal(200, get(client).status) -- the connection goes on
    end
  end)

  it("is left alone if its type does not pay, or its client does not want it", function()
    local client <close> = serve(function(_, res)
      res:header("Content-Type", "image/png"):write("a", 1):write(TEXT)
    end)
    assert_plain("a1" .. TEXT, get(client))
    local other <close> = serve(function(_, res) res:write(TEXT):write "b" end)
    assert_plain(TEXT .. "b", get(other, {}))
    assert.equal("Accept-Encoding", get(other, {}).fields.vary)
  end)

  it("has no length any more, but is held to what was declared", function()
    local lengths = { [#TEXT] = true, [#TEXT + 1] = false, [#TEXT - 1] = false }
    for length, is_right in pairs(lengths) do
      local client <close> = serve(function(_, res)
        res:length(length):write(TEXT:sub(1, 10)):write(TEXT:sub(11))
      end)
      local answer = get(client)
      assert.is_nil(answer.fields["content-length"])
      assert.equal(is_right, select(2, content(answer)) == true)
      assert.equal(not is_right and "cut off" or nil, answer.failed)
    end
  end)

  it("keeps its declared length if it is left alone", function()
    for kind, length in pairs { ["image/png"] = #TEXT, ["text/plain"] = 10 } do
      local client <close> = serve(function(_, res)
        res:header("Content-Type", kind):length(length)
        res:write(TEXT:sub(1, length // 2)):write(TEXT:sub(length // 2 + 1, length))
      end)
      local answer = get(client)
      assert_plain(TEXT:sub(1, length), answer)
      assert.equal(length, tonumber(answer.fields["content-length"]))
    end
  end)

  it("raises for what is no text and no length, as without it", function()
    local errors = {}
    local client <close> = serve(function(_, res)
      for i, length in ipairs { -1, 0.5, "x", {} } do
        errors[i] = pcall(res.length, res, length)
      end
      res:write "begun"
      for i, value in ipairs { {}, true, print } do
        errors[4 + i] = pcall(res.write, res, "a", value)
      end
      errors[8] = pcall(res.write, res, nil, "a")
      errors[9] = pcall(res.send, res, "again")
      errors[10] = pcall(res.length, res, 5)
    end)
    get(client)
    assert.same({ false, false, false, false, false, false, false, false, false, false },
      errors)
  end)

  it("tells the handler that its client has gone, and so does a file", function()
    local path, random <close> = os.tmpname(), assert(io.open "/dev/urandom")
    local noise = random:read(1 << 20)
    harness.write_file(path, noise)
    for name, source in pairs { write = noise, sendfile = path } do
      local got
      local client = serve(function(_, res)
        moonpool.sleep(30)
        got = table.pack(res[name](res, source))
      end)
      client:write "GET / HTTP/1.1\r\nHost: spec\r\nAccept-Encoding: gzip\r\n\r\n"
      client:close()
      test.advance(30)
      assert.same({ nil, "closed", "EPIPE", n = 3 }, got, name)
    end
    os.remove(path)
  end)
end)

describe("a file", function()
  local path

  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  local function lines_of(n)
    local lines = {}
    for i = 1, n do lines[i] = ("line %d of many\n"):format(i) end
    return table.concat(lines)
  end

  local function serve_part(open, ...)
    local part = table.pack(...)
    return serve(function(_, res)
      local file <close> = open and open(path) or nil
      assert.equal(res, res:sendfile(file or path, table.unpack(part, 1, part.n)))
    end)
  end

  it("is compressed, as a whole or in part, in whatever form it comes", function()
    local text = lines_of(20000)
    harness.write_file(path, text)
    for _, open in ipairs { false, io.open, fd.open_path } do
      for _, part in ipairs { {}, { 0 }, { 100 }, { 0, 70000 }, { 131072, 65536 },
        { 7, 1 << 40 }, { 7, -1 } } do
        local client <close> = serve_part(open, part[1], part[2])
        local offset, length = part[1] or 0, part[2] or -1
        local stop = length < 0 and -1 or offset + length
        assert_compressed(text:sub(offset + 1, stop), get(client))
        assert_plain(text:sub(offset + 1, stop), get(client, {}))
      end
    end
  end)

  it("is left alone if it is short, or the part of it is", function()
    harness.write_file(path, TEXT)
    local client <close> = serve_part(nil, 0, 1023)
    local answer = get(client)
    assert_plain(TEXT:sub(1, 1023), answer)
    assert.same({ "1023", "Accept-Encoding" }, { answer.fields["content-length"],
      answer.fields.vary })
    local past <close> = serve_part(nil, #TEXT + 5)
    assert_plain("", get(past))
    harness.write_file(path, TEXT:sub(1, 1023))
    local short <close> = serve_part()
    assert_plain(TEXT:sub(1, 1023), get(short))
  end)

  it("is left to the kernel if its type does not pay", function()
    harness.write_file(path, TEXT)
    local client <close> = serve(function(_, res)
      res:header("Content-Type", "image/png"):sendfile(path, 5)
    end)
    local answer = get(client)
    assert_plain(TEXT:sub(6), answer)
    assert.is_nil(answer.fields.vary)
  end)

  it("is one of several pieces of a declared length", function()
    harness.write_file(path, TEXT)
    for kind, is_compressed in pairs { ["text/plain"] = true, ["image/png"] = false } do
      local client <close> = serve(function(_, res)
        res:header("Content-Type", kind):length(6 + #TEXT + 10)
        res:write("first\n"):sendfile(path)
        res:sendfile(path, 0, 10)
      end)
      local answer = get(client)
      assert.equal(is_compressed and "gzip", answer.fields["content-encoding"] or false)
      assert.equal("first\n" .. TEXT .. TEXT:sub(1, 10), content(answer))
    end
  end)

  it("that cannot be sent leaves everything open, as without compression", function()
    local fifo = path .. ".fifo"
    assert(os.execute("mkfifo " .. fifo))
    for file, expected in pairs { ["/no/such/file"] = "ENOENT", ["/tmp"] = "EISDIR",
      [fifo] = "EINVAL" } do
      local code
      local client <close> = serve(function(_, res)
        code = select(3, res:sendfile(file))
        res:status(404):send(TEXT)
      end)
      local answer = get(client)
      assert.same({ 404, expected }, { answer.status, code })
      assert_compressed(TEXT, answer)
    end
    os.remove(fifo)
  end)

  it("leaves no descriptor behind", function()
    harness.write_file(path, TEXT)
    local client <close> = serve_part()
    get(client)
    collectgarbage "stop"
    local pid = require("native.process").pid()
    local before = harness.descriptors(pid)
    for _ = 1, 20 do get(client) end
    local after = harness.descriptors(pid)
    collectgarbage "restart"
    assert.equal(before, after)
  end)
end)

describe("a handler that fails", function()
  local function failing(handler)
    local app = http.app():use(compress())
    app:get("/", handler)
    app:on_error(function(_, _, res)
      res:status(500):write(TEXT)
      res:write "told"
    end)
    return test.connect(app)
  end

  it("has a page that may be written piece by piece, whole", function()
    local client <close> = failing(function() error "failed" end)
    local answer = get(client)
    assert.equal(500, answer.status)
    assert_plain(TEXT .. "told", answer)
    assert.is_nil(answer.failed)
  end)

  for name, send in pairs {
    send = function(res) res:send(TEXT) end,
    write = function(res) res:write(TEXT):write(TEXT) end,
    length = function(res) res:length(#TEXT):write(TEXT) end,
    sendfile = function(res) res:sendfile "README.md" end,
  } do
    it("just before it would " .. name .. " has a page that is what it says", function()
      for _, is_caught in ipairs { false, true } do
        local app = http.app():use(function(_, res, next)
          res:before(function() error "refused" end)
          next()
        end):use(compress())
        app:get("/", function(_, res)
          if is_caught and not pcall(send, res) then return send(res) end
          send(res)
        end)
        app:on_error(function(_, _, res)
          res:status(500)
          send(res)
        end)
        local client <close> = test.connect(app)
        local answer = get(client)
        local text = content(answer)
        assert.equal(is_caught and 200 or 500, answer.status)
        assert.equal(name == "sendfile" and "# Moonpool" or TEXT:sub(1, 10),
          text:sub(1, 10))
        assert.is_nil(answer.failed)
      end
    end)
  end

  it("in the midst of its answer ends the connection, not the content", function()
    local client <close> = failing(function(_, res)
      res:write(TEXT)
      error "failed"
    end)
    local answer = get(client)
    assert.equal("cut off", answer.failed)
    local text, is_whole = content(answer)
    assert.same({ TEXT, false }, { text, is_whole })
  end)
end)

describe("zlib's memory", function()
  local real = package.loaded.zlib
  local opened, ended, taken

  before_each(function()
    opened, ended, taken = 0, 0, 0
    package.loaded.zlib = { deflate = function(...)
      local deflate = real.deflate(...)
      opened = opened + 1
      return function(data, how)
        taken = taken + #data
        if how == "finish" then ended = ended + 1 end
        return deflate(data, how)
      end
    end }
  end)

  after_each(function() package.loaded.zlib = real end)

  for name, handler in pairs {
    done = function(_, res) res:write(TEXT) end,
    sent = function(_, res) res:send(TEXT) end,
    failed = function(_, res)
      res:write(TEXT)
      error "on purpose"
    end,
    cut = function(_, res) res:length(#TEXT + 1):write(TEXT) end,
  } do
    it("is given back at once by what is " .. name, function()
      local client <close> = serve(handler)
      get(client)
      assert.same({ 1, 1 }, { opened, ended })
    end)
  end

  it("is not filled with a file for HEAD", function()
    local client <close> = serve(function(_, res) res:sendfile "README.md" end)
    get(client, GZIP, "HEAD")
    assert.same({ 1, 1, 0 }, { opened, ended, taken })
  end)
end)

describe("compress's options", function()
  it("make sense", function()
    for text, options in pairs {
      ["level must be an integer from 1 to 9"] = { level = 10 },
      ["level must be an integer"] = { level = 1.5 },
      ["minimum must be"] = { minimum = -1 },
      ["types must be a table"] = { types = "text/plain" },
      ["no option type$"] = { type = {} },
    } do
      local ok, why = pcall(compress, options)
      assert.is_false(ok)
      assert.matches(text, why)
    end
  end)

  it("decide how small it gets", function()
    local sizes = {}
    for _, level in ipairs { 1, 9 } do
      local client <close> = serve(say(TEXT:rep(50)), { level = level })
      sizes[#sizes + 1] = #get(client).body
    end
    assert(sizes[2] < sizes[1])
  end)
end)
