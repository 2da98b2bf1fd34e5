local core = require "moonpool.core"
local harness = require "server"
local http = require "moonpool.http"
local http_multipart = require "moonpool.http_multipart"
local lfs = require "lfs"
local test = require "moonpool.test"

require "tidy" (before_each, after_each)

local TYPE = "multipart/form-data; boundary=xYzZy"
local HEAD = "--xYzZy\r\nContent-Disposition: form-data; name=a\r\n\r\n"

-- What the reader needs of a request: its content in these pieces, then its end or a
-- failure.
local function request(pieces, failure, kind)
  local req = { headers = { ["content-type"] = kind or TYPE } }
  function req:read()
    local piece = table.remove(pieces, 1)
    if not piece and failure then return nil, failure[1], failure[2] end
    if not piece then return end
    return self and piece
  end
  return req
end

-- Content of these parts, each a header without its last end of line, and a body.
local function content(...)
  local list = {}
  for _, part in ipairs { ... } do
    list[#list + 1] = ("--xYzZy\r\n%s\r\n\r\n%s\r\n"):format(part[1], part[2])
  end
  return table.concat(list) .. "--xYzZy--\r\n"
end

local function field(name, value)
  return { ('Content-Disposition: form-data; name="%s"'):format(name), value }
end

local function file(name, filename, value)
  return { ('Content-Disposition: form-data; name="%s"; filename="%s"\r\n'
    .. "Content-Type: Image/PNG; q=1"):format(name, filename), value }
end

-- All parts of it as { name, filename, body }; a failure is { message, code }.
local function collect(req, limits)
  local list = {}
  for part, message, code in http_multipart.parts(req, limits) do
    if not part then
      list[#list + 1] = { message, code }
    else
      local body, why, reason = part:body()
      list[#list + 1] = { part.name, part.filename or "-", body or { why, reason } }
    end
  end
  return list
end

local function read(text, limits)
  return collect(request { text }, limits)
end

local function failure(text, limits)
  local list = read(text, limits)
  return table.unpack(list[#list])
end

-- Each way to cut a text in two, and all its bytes one by one.
local function cuts(text)
  local bytes, cut = {}, 0
  for i = 1, #text do bytes[i] = text:sub(i, i) end
  return function()
    cut = cut + 1
    if cut < #text then return { text:sub(1, cut), text:sub(cut + 1) } end
    if cut == #text then return bytes end
  end
end

describe("multipart/form-data", function()
  it("is fields and files, in order", function()
    local text = content(field("a", "1"), file("f", "x.png", "\0\255\r\n"),
      field("a", ""))
    assert.same({ { "a", "-", "1" }, { "f", "x.png", "\0\255\r\n" }, { "a", "-", "" } },
      read(text))
  end)

  it("may have no parts", function()
    assert.same({}, read "--xYzZy--\r\n")
    assert.same({}, read "--xYzZy--")
  end)

  it("has types and headers", function()
    local kinds = {}
    local odd = "CONTENT-disposition: form-data; name=b\r\nX-Y:  z \r\ncontent-type: ;"
    local text = content(field("a", "1"), file("f", "x", ""), { odd, "" })
    for part in http_multipart.parts(request { text }) do
      kinds[#kinds + 1] = { part.type, part.headers["content-type"],
        part.headers["Content-Type"], part.headers["x-y"] }
    end
    assert.same({ { "text/plain" }, { "image/png", "Image/PNG; q=1", "Image/PNG; q=1" },
      { "application/octet-stream", ";", ";", "z" } }, kinds)
  end)

  it("has what is no delimiter as content", function()
    for _, value in ipairs { "\r\n--xYzZ", "x--xYzZy", "\r\n-xYzZy", "\r\r\n--xYz\r\n--",
      "\n--xYzZy", "\r\n\r\n", "\r", "\r\n", "\r\n--", ("\r\n--xYzZ"):rep(50) } do
      assert.same({ { "a", "-", value }, { "b", "-", "2" } },
        read(content(field("a", value), field("b", "2"))))
    end
  end)

  it("has nothing before its first boundary and after its last one", function()
    local text = content(field("a", "1"))
    local one = { { "a", "-", "1" } }
    assert.same(one, read("\r\n" .. text))
    assert.same(one, read("For old mail programs\r\n--xYzZ\r\n" .. text))
    assert.same(one, read(text .. "\r\n--xYzZy\r\nand so on"))
    assert.same(one, read((text:gsub("\r\n$", ""))))
    assert.same(one, read((text:gsub("xYzZy\r\n", "xYzZy \t\r\n"))))
  end)

  it("may have parts without content, not even an empty line", function()
    for pieces in cuts(HEAD .. "--xYzZy--") do
      assert.same({ { "a", "-", "" } }, collect(request(pieces)))
    end
    for pieces in cuts(HEAD .. "--xYzZ\r\n--xYzZy--") do
      assert.same({ { "a", "-", "--xYzZ" } }, collect(request(pieces)))
    end
  end)

  it("is the same however it is cut", function()
    local text = "preamble\r\n--xYzZ" .. "\r\n"
      .. content(field("a", "1\r\n--xYzZ"), file("f", 'a\\"b', "\r\n\r\n--xYz\r\0\r"),
        field("empty", ""), field("c", "x--xYzZy--")) .. "epilogue\r\n--xYzZy\r\n"
    local expected = { { "a", "-", "1\r\n--xYzZ" }, { "f", 'a"b', "\r\n\r\n--xYz\r\0\r" },
      { "empty", "-", "" }, { "c", "-", "x--xYzZy--" } }
    assert.same(expected, read(text))
    for pieces in cuts(text) do assert.same(expected, collect(request(pieces))) end
  end)

  it("that ends too early fails, wherever that is", function()
    local text = content(field("a", "12"), file("f", "x", "345"))
    local whole = #text - #"\r\n"
    for cut = 0, whole - 1 do
      local list = read(text:sub(1, cut))
      local last = list[#list]
      if last[1] == "a" or last[1] == "f" then last = last[3] end
      assert.same({ "the body ends before its parts do", "EINVAL" }, last)
    end
    assert.equal(2, #read(text:sub(1, whole)))
  end)

  it("fails as its content does, and goes on failing", function()
    local text = content(field("a", "12"), field("b", "3"))
    local reset = { "closed", "ECONNRESET" }
    for cut = 0, #text do
      local list = collect(request({ text:sub(1, cut) }, reset))
      assert.same(reset, list[#list])
    end
    for part in http_multipart.parts(request({ text:sub(1, 60) }, reset)) do
      if part then
        part:read()
        for _ = 1, 2 do assert.same({ nil, "closed", "ECONNRESET" }, { part:read() }) end
      end
    end
  end)
end)

describe("a name", function()
  local function names(disposition)
    local name, filename
    for part, message, code in http_multipart.parts(request {
      content { "Content-Disposition: " .. disposition, "" } }) do
      if not part then return nil, message, code end
      name, filename = part.name, part.filename
    end
    return name, filename
  end

  it("is as it was sent", function()
    for sent, name in pairs {
      ["a b"] = "a b", ["%22x%22"] = '"x"', ["a%0D%0Ab"] = "a\r\nb",
      [ [[\"q\"]] ] = '"q"',
      [ [[C:\dir\f]] ] = [[C:\dir\f]], ["%41%2e%"] = "%41%2e%", ["é"] = "é",
      ["../x"] = "../x", [""] = "", ["a;b=c"] = "a;b=c",
    } do
      local disposition = ('form-data; name="%s"; filename="%s"'):format(sent, sent)
      assert.same({ name, name }, { names(disposition) })
    end
  end)

  it("does not come from filename*", function()
    assert.same({ "a", "b" },
      { names "form-data; name=a; filename=b; filename*=UTF-8''c" })
    assert.same({ "a" }, { names "form-data; name=a; filename*=UTF-8''c" })
  end)

  it("must be there, once, in form-data", function()
    local nameless = { nil, "a part has no name", "EINVAL" }
    for _, text in ipairs { "form-data", "attachment; name=a", "form-data; filename=a",
      "form-data; name=a; name=b", 'form-data; name="a', "" } do
      assert.same(nameless, { names(text) }, text)
    end
    assert.same({ { "a part has no name", "EINVAL" } }, read(content { "X: y", "" }))
    assert.same({ { "a part has no name", "EINVAL" } }, read "--xYzZy\r\n\r\n--xYzZy--")
  end)
end)

describe("what is malformed", function()
  it("is refused", function()
    for _, header in ipairs { "X", "X : y", " X: y", ": y", "X: y\r\n z", "X: a\nb",
      "X: \0", "X: a\rb", "X: \127", "X: a\r\nx: b", "é: x" } do
      local text = content { "Content-Disposition: form-data; name=a\r\n" .. header, "" }
      assert.same({ "a part's header is malformed", "EINVAL" }, { failure(text) }, header)
    end
    for _, after in ipairs { "x\r\n", "-\r\n", "\n", " x\r\n", ": y\r\n" } do
      local text = content(field("a", "1")):gsub("xYzZy\r\n", "xYzZy" .. after, 1)
      assert.same({ "a part's header is malformed", "EINVAL" }, { failure(text) }, after)
    end
  end)

  it("is a boundary that nobody can find", function()
    for kind, why in pairs {
      ["multipart/form-data"] = "EINVAL", ["multipart/form-data; boundary="] = "ENOTSUP",
      ['multipart/form-data; boundary=""'] = "EINVAL",
      ["multipart/mixed; boundary=a"] = "ENOTSUP", ["text/plain"] = "ENOTSUP",
      ["multipart/form-data; boundary=a, multipart/form-data; boundary=b"] = "ENOTSUP",
      ["multipart/form-data; boundary=" .. ("a"):rep(71)] = "EINVAL",
    } do
      local list = collect(request({ "--a--" }, nil, kind))
      assert.equal(1, #list)
      assert.equal(why, list[1][2], kind)
    end
    local long = ("a"):rep(70)
    for _, kind in ipairs { "boundary=" .. long, ('Boundary="%s"'):format(long) } do
      assert.same({},
        collect(request({ "--" .. long .. "--" }, nil, "Multipart/Form-Data; " .. kind)))
    end
    local none = { headers = {}, read = function() error "read" end }
    assert.same({ { "the body is not multipart/form-data", "ENOTSUP" } }, collect(none))
  end)

  it("is content in another encoding", function()
    for encoding, ok in pairs { ["8Bit"] = true, binary = true, ["7bit"] = true,
      base64 = false, ["quoted-printable"] = false } do
      local list = read(content { "Content-Disposition: form-data; name=a\r\n"
        .. "Content-Transfer-Encoding: " .. encoding, "eA==" })
      local expected = ok and { "a", "-", "eA==" } or { "a part is encoded", "ENOTSUP" }
      assert.same(expected, list[1])
    end
  end)
end)

describe("limits", function()
  it("are of the number of parts", function()
    local text = content(field("a", "1"), field("b", "2"))
    assert.equal(2, #read(text, { parts = 2 }))
    assert.same({ { "a", "-", "1" }, { "the body has too many parts", "EMSGSIZE" } },
      read(text, { parts = 1 }))
    assert.same({ "the body has too many parts", "EMSGSIZE" },
      { failure((HEAD .. "\r\n"):rep(1001)) })
  end)

  it("are of a part's header, to the byte and at every cut", function()
    local part = field("a", "1")
    local size = #part[1] + 2 -- with what ends the boundary's line
    local too_long = { { "a part's header is too long", "EMSGSIZE" } }
    for pieces in cuts(content(part)) do
      assert.same({ { "a", "-", "1" } }, collect(request(pieces), { head_bytes = size }))
    end
    for pieces in cuts(content(part)) do
      assert.same(too_long, collect(request(pieces), { head_bytes = size - 1 }))
    end
    assert.same(too_long, read("--xYzZy\r\nX: " .. ("x"):rep(9000)))
    assert.same({ { "a", "-", "" } }, read(content {
      "Content-Disposition: form-data; name=a\r\nX: " .. ("x"):rep(8000), "" }))
  end)

  it("are of what is taken into memory; the loop can go on", function()
    local text = content(field("a", "12345"), field("b", "123456"), field("c", ""))
    local refused = { "a field is too long", "EMSGSIZE" }
    assert.same({ { "a", "-", "12345" }, { "b", "-", refused }, { "c", "-", "" } },
      read(text, { body_bytes = 5 }))
    assert.same({ { "a", "-", refused } }, read(content(field("a", ("x"):rep(65537)))))
    assert.equal(65536, #read(content(field("a", ("x"):rep(65536))))[1][3])
    for part in http_multipart.parts(request { text }, { body_bytes = 5 }) do
      assert.is_string((part:body(6)))
    end
  end)

  it("have names that are known", function()
    assert.has_error(function() http_multipart.parts(request {}, { part = 1 }) end,
      "no such limit: part")
  end)
end)

describe("a part", function()
  it("is read in pieces, as long as is asked for", function()
    for part in http_multipart.parts(request { content(field("a", "1234567")) }) do
      local list = {}
      for piece in part:chunks(3) do list[#list + 1] = piece end
      assert.same({ "123", "456", "7" }, list)
      assert.equal(0, select("#", part:read()))
      assert.has_error(function() part:read(0) end, "positive count expected")
    end
  end)

  it("gives the rest of itself, and again", function()
    for part in http_multipart.parts(request { content(field("a", "1234567")) }) do
      part:read(3)
      assert.equal("4567", part:body())
      assert.equal("4567", part:body())
    end
  end)

  it("that is not read is skipped, and then over", function()
    local kept, names = nil, {}
    local text = content(field("a", ("x"):rep(100)), field("b", "2"), field("c", "3"))
    for part in http_multipart.parts(request { text }) do
      names[#names + 1] = part.name
      if part.name == "a" then part:read(5) end
      if kept then
        assert.has_error(function() kept:read() end,
          "this part is over: the loop has gone on")
      end
      kept = part
    end
    assert.same({ "a", "b", "c" }, names)
    assert.is_false(pcall(kept.body, kept))
  end)

  it("is no more in memory than it comes", function()
    local piece, count = ("x"):rep(1 << 16), 0
    local req = request {}
    function req.read()
      count = count + 1
      if count == 1 then return HEAD end
      if count <= 1025 then return piece end
      return count == 1026 and "\r\n--xYzZy--" or nil
    end
    collectgarbage()
    local size, largest, before = 0, 0, collectgarbage "count"
    for part in http_multipart.parts(req) do
      for chunk in part:chunks() do
        size = size + #chunk
        if count % 100 == 0 then
          collectgarbage()
          largest = math.max(largest, collectgarbage "count" - before)
        end
      end
    end
    assert.equal(64 << 20, size)
    assert.is_true(largest > 0 and largest < 1024) -- KiB
  end)
end)

describe("a part that is saved", function()
  local directory, path

  before_each(function()
    directory = harness.directory()
    path = directory .. "/file"
  end)

  after_each(function() harness.remove(directory) end)

  local function save(pieces, how, limits, limit)
    for part, message, code in http_multipart.parts(request(pieces, how), limits) do
      if not part then return nil, message, code end
      if part.filename then return part:save(path, limit) end
    end
  end

  local function contents()
    local saved <close> = assert(io.open(path))
    return saved:read "a"
  end

  local function count()
    local n = 0
    for name in lfs.dir(directory) do n = n + (name:find "^%.%.?$" and 0 or 1) end
    return n
  end

  it("is a file, at every cut", function()
    local text = content(field("a", "1"), file("f", "x", "12\r\n--xYzZ34\r"))
    for pieces in cuts(text) do
      assert.equal(13, save(pieces))
      assert.equal("12\r\n--xYzZ34\r", contents())
      os.remove(path)
    end
    assert.equal(0, save { content(file("f", "", "")) })
    assert.equal("", contents())
  end)

  it("is the rest of what has been looked at", function()
    for part in http_multipart.parts(request { content(file("f", "x", "\137PNG123")) }) do
      assert.equal("\137PNG", part:read(4))
      assert.equal(3, part:save(path))
    end
    assert.equal("123", contents())
  end)

  it("leaves nothing when it fails", function()
    local text = content(file("f", "x", ("x"):rep(1000)))
    local too_long = { nil, "a file is too long", "EMSGSIZE" }
    local cut = text:sub(1, 500)
    assert.equal(1000, save({ text }, nil, { file_bytes = 1000 }))
    harness.write_file(path, "before")
    assert.same(too_long, { save({ text }, nil, { file_bytes = 999 }) })
    assert.same(too_long, { save({ text }, nil, nil, 999) })
    assert.same({ nil, "the body ends before its parts do", "EINVAL" }, { save { cut } })
    assert.same({ nil, "closed", "ECONNRESET" },
      { save({ cut }, { "closed", "ECONNRESET" }) })
    assert.equal("before", contents())
    assert.equal(1, count())
  end)

  it("says what the system says", function()
    path = directory .. "/missing/file"
    assert.same({ nil, "No such file or directory", "ENOENT" },
      { save { content(file("f", "x", "123")) } })
  end)
end)

describe("a safe name", function()
  it("is the last of a path, and no more than a name", function()
    for sent, name in pairs {
      ["photo.jpg"] = "photo.jpg", ["../../etc/passwd"] = "passwd",
      ["a b.txt"] = "a b.txt",
      [ [[C:\dir\x.txt]] ] = "x.txt", ["/x"] = "x", [".htaccess"] = "htaccess",
      ["...x"] = "x", ["a\0b\nc\127"] = "abc", ["x. "] = "x", ["\1.x"] = "x",
      ["été.txt"] = "été.txt", ["\233t\233.txt"] = "_t_.txt",
    } do
      assert.equal(name, http.safe_name(sent), sent)
    end
    for _, sent in ipairs { "", "/", "..", ".", "a/", "\0", " ", [[..\]] } do
      assert.is_nil(http.safe_name(sent))
    end
  end)

  it("is not too long, and keeps its ending", function()
    assert.equal(("x"):rep(200), http.safe_name(("x"):rep(300)))
    assert.equal(("x"):rep(196) .. ".png", http.safe_name(("x"):rep(300) .. ".png"))
    assert.equal(("é"):rep(98) .. ".png", http.safe_name(("é"):rep(300) .. ".png"))
    assert.equal(("é"):rep(97) .. ".jpeg", http.safe_name(("é"):rep(300) .. ".jpeg"))
    assert.equal(200, #http.safe_name("x." .. ("y"):rep(300)))
  end)
end)

describe("a request in parts", function()
  local text = content(field("a", "1"), file("f", "x.png", ("x"):rep(70000)))

  local function ask(handler, length, body)
    local app = http.app()
    app:post("/", handler)
    local client <close> = test.connect(app)
    client:write("POST / HTTP/1.1\r\nHost: spec\r\nContent-Type: ", TYPE, "\r\n",
      "Content-Length: ", length, "\r\n\r\n", body)
    client:shutdown()
    return client:read "a"
  end

  local function sizes(req, res)
    local list = {}
    for part, why, code in req:multipart { body_bytes = 70000 } do
      if not part then return res:status(http.status_of(code)):send(why) end
      list[#list + 1] = part.name .. "=" .. #part:body()
    end
    res:send(table.concat(list, " "))
  end

  it("is read by a handler", function()
    assert.matches("^HTTP/1.1 200 OK\r\n.*\r\n\r\na=1 f=70000$", ask(sizes, #text, text))
  end)

  it("leaves the connection as it should be", function()
    local app = http.app()
    app:post("/", sizes)
    local client <close> = test.connect(app)
    local whole = ("POST / HTTP/1.1\r\nHost: spec\r\nContent-Type: %s\r\n"
      .. "Content-Length: %d\r\n\r\n%s"):format(TYPE, #text, text)
    client:write(whole, whole)
    client:shutdown()
    local _, count = client:read("a"):gsub("HTTP/1.1 200 OK", "")
    assert.equal(2, count)
  end)

  it("that is malformed is answered with 400, and of another type with 415", function()
    assert.matches("^HTTP/1.1 400 .*the body ends before its parts do$",
      ask(sizes, 100, text:sub(1, 100)))
    local function other(req, res)
      for _, why, code in req:multipart() do
        res:status(http.status_of(code)):send(why)
      end
    end
    local app = http.app()
    app:post("/", other)
    local client <close> = test.connect(app)
    client:write "POST / HTTP/1.1\r\nHost: spec\r\nContent-Length: 1\r\n\r\nx"
    assert.equal("HTTP/1.1 415 Unsupported Media Type", client:read())
  end)

  it("that is broken off leaves no file, also if its task is cancelled", function()
    local directory = harness.directory()
    local app, running = http.app(), nil
    app:post("/", function(req)
      running = core.task.current()
      for part in req:multipart() do
        if part and part.filename then part:save(directory .. "/f") end
      end
    end)
    for _, how in ipairs { "close", "cancel" } do
      local client = test.connect(app)
      client:write("POST / HTTP/1.1\r\nHost: spec\r\nContent-Type: ", TYPE, "\r\n",
        "Content-Length: ", #text, "\r\n\r\n", text:sub(1, 60000))
      if how == "cancel" then running:cancel() end
      client:close()
      test.settle()
      for name in lfs.dir(directory) do assert.matches("^%.%.?$", name) end
    end
    harness.remove(directory)
  end)
end)
