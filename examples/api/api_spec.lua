local http = require "moonpool.http"
local json = require "moonpool.json"
local test = require "moonpool.test"

local JSON = "application/json"

describe("the api example", function()
  describe("in this process", function()
    local app = test.app "examples/api/app.lua"

    -- Status, decoded content and fields of an answer.
    local function ask(method, target, body, kind)
      local answer = app:request(method, target,
        { body = body, headers = { ["Content-Type"] = kind or JSON } })
      return answer.status, answer.body ~= "" and answer.json or nil, answer.headers
    end

    local function create(value)
      local answer = app:post("/notes", { json = value })
      local note = answer.json
      assert.response(answer).has.status(201).has.header("Location", note.url)
      return note
    end

    local function titles(list)
      local found = {}
      for i, note in ipairs(list) do found[i] = note.title end
      return table.concat(found, " ")
    end

    -- An answer that is a problem: its detail, or its errors by pointer.
    local function problem(expected, ...)
      local status, value, fields = ask(...)
      assert.equal(expected, status)
      assert.equal("application/problem+json", fields["content-type"])
      assert.same({ expected, http.phrase(expected) }, { value.status, value.title })
      if not value.errors then return value.detail, fields end
      local errors = {}
      for _, err in ipairs(value.errors) do errors[err.pointer] = err.detail end
      return errors
    end

    it("creates, reads, replaces and deletes", function()
      local note = create { title = "Milk" }
      assert.same({ "Milk", "", {}, false },
        { note.title, note.text, note.tags, note.done })
      local status, read, fields = ask("GET", note.url)
      assert.same({ 200, note, JSON }, { status, read, fields["content-type"] })
      status, read = ask("PUT", note.url, '{"title":"Oats","done":true,"tags":["shop"]}')
      assert.equal(200, status)
      assert.same({ "Oats", true, { "shop" }, note.id, note.created },
        { read.title, read.done, read.tags, read.id, read.created })
      assert.same(read, select(2, ask("GET", note.url)))
      assert.equal(204, (ask("DELETE", note.url)))
      assert.equal("there is no such note", problem(404, "GET", note.url))
      assert.not_equal(note.id, create { title = "New" }.id)
    end)

    it("keeps tags an array, also without any", function()
      local answer = app:post("/notes", { json = { title = "x" } })
      assert.response(answer).has.body_matching '"tags":%[%]'
    end)

    it("lists by pages and tags", function()
      for i = 1, 5 do
        create { title = "n" .. i, tags = { i % 2 == 0 and "a b" or "c" } }
      end
      local _, value, fields = ask("GET", "/notes")
      assert.equal("n1 n2 n3 n4 n5", titles(value.notes))
      assert.is_nil(fields.link)
      _, value = ask("GET", "/notes?tag=a%20b")
      assert.equal("n2 n4", titles(value.notes))
      assert.same({}, select(2, ask("GET", "/notes?tag=none")).notes)
      local seen, target = {}, "/notes?limit=1&tag=c"
      while target do
        _, value, fields = ask("GET", target)
        seen[#seen + 1] = titles(value.notes)
        target = fields.link and fields.link:match '^<(.*)>; rel="next"$'
      end
      assert.same({ "n1", "n3", "n5" }, seen)
    end)

    it("refuses queries that mean nothing", function()
      for _, query in ipairs { "limit=0", "limit=101", "limit=x", "limit=-1", "after=1.5",
        "after=" .. ("9"):rep(30), "limit=" } do
        assert.matches("limit from 1 to 100", problem(400, "GET", "/notes?" .. query))
      end
      assert.equal("too many fields", problem(400, "GET", "/notes?" .. ("a&"):rep(1001)))
    end)

    it("says which field is wrong", function()
      for body, errors in pairs {
        ["[]"] = { ["#"] = "must be an object" },
        ["false"] = { ["#"] = "must be an object" },
        ["null"] = { ["#"] = "must be an object" },
        ["{}"] = { ["#/title"] = "must be there" },
        ['{"title":"","text":1,"done":"no","tags":{}}'] = {
          ["#/title"] = "must have 1 to 200 characters", ["#/text"] = "must be a string",
          ["#/done"] = "must be true or false", ["#/tags"] = "must be an array" },
        ['{"title":null,"tags":["a",1]}'] = {
          ["#/title"] = "must be a string", ["#/tags"] = "tag 2 must be a string" },
        ['{"title":"x","a/b~c é":1,"id":7}'] = {
          ["#/a~1b~0c%20%C3%A9"] = "is no field of a note",
          ["#/id"] = "is no field of a note" },
        [('{"title":"%s"}'):format(("é"):rep(201))] = {
          ["#/title"] = "must have 1 to 200 characters" },
        ['{"title":"x","tags":["a","a","a","a","a","a","a","a","a","a","a"]}'] = {
          ["#/tags"] = "must have 10 tags at most" },
      } do
        assert.same(errors, problem(422, "POST", "/notes", body), body)
      end
      create { title = ("é"):rep(200), text = ("é"):rep(10000) }
    end)

    it("refuses what is not JSON, or not here", function()
      assert.equal("a value expected at byte 10",
        problem(400, "POST", "/notes", '{"title":'))
      local why, fields = problem(415, "POST", "/notes", "title=x", "text/plain")
      assert.same({ "the body is not JSON", JSON }, { why, fields.accept })
      assert.equal("there is nothing here", problem(404, "GET", "/other"))
      for _, id in ipairs { "0", "-1", "1.5", "x", "1e0", ("9"):rep(40), "%31x" } do
        assert.equal("there is no such note", problem(404, "GET", "/notes/" .. id))
        assert.equal("there is no such note", problem(404, "PUT", "/notes/" .. id, "{}"))
        assert.equal("there is no such note", problem(404, "DELETE", "/notes/" .. id))
      end
      why, fields = problem(405, "PATCH", "/notes", "{}")
      assert.same({ "PATCH is not for this", "GET, HEAD, POST" }, { why, fields.allow })
      assert.equal(204, (ask("OPTIONS", "/notes/1")))
    end)

    it("refuses what is too long, and says so", function()
      local body = ('{"title":"x","text":"%s"}'):format(("x"):rep(2 << 20))
      assert.equal("the body is too long", problem(413, "POST", "/notes", body))
    end)

    it("does not bring back a note that was deleted while its content came", function()
      local note = create { title = "short-lived" }
      local slow = app:browser():start("PUT", note.url,
        { headers = { ["Content-Type"] = JSON } })
      slow:write '{"title"'
      assert.equal(204, (ask("DELETE", note.url)))
      slow:write ':"x"}'
      assert.response(slow:finish()).has.status(404)
      assert.same({}, select(2, ask("GET", "/notes")).notes)
    end)

    it("keeps so many notes and no more", function()
      local requests = {}
      for i = 1, 100 do requests[i] = { "POST", "/notes", { json = { title = "x" } } } end
      for n = 1, 100 do
        assert.equal("/notes/" .. n * 100, app:pipeline(requests)[100].json.url)
      end
      assert.equal("there are too many notes", problem(503, "POST", "/notes",
        '{"title":"x"}'))
      assert.equal(204, (ask("DELETE", "/notes/1")))
      assert.equal("/notes/10001", create { title = "x" }.url)
    end)

    it("keeps its own mistakes to itself", function()
      app:value():get("/mistake", function() error "on purpose" end)
      local detail = problem(500, "GET", "/mistake")
      assert.equal("something went wrong here; it is in the log", detail)
    end)
  end)

  describe("over the network", function()
    it("is used by curl", function()
      local server <close> = test.start(
        { "serve", "--config", "examples/api/pool.lua" },
        { env = { "LISTEN=127.0.0.1:0" } })
      local url = "http://" .. server:expect "listening on (%S+)" .. "/notes"
      local function curl(arguments)
        local pipe <close> = assert(io.popen("LD_PRELOAD= curl -sm20 " .. arguments))
        return json.decode(pipe:read "a")
      end
      local note = curl(("-H 'Content-Type: %s' -d '{\"title\":\"Milk\"}' %s")
        :format(JSON, url))
      assert.same({ "Milk", 1 }, { note.title, note.id })
      assert.same({ note }, curl(url).notes)
      assert.equal(422, curl(("--json '{\"title\":7}' -X PUT %s/1"):format(url)).status)
    end)

    it("does not start with workers that would have other notes", function()
      local server = test.start { "serve", "examples/api/app.lua", "--workers", "2",
        "--listen", "127.0.0.1:0" }
      assert.same({ "exit", 1 }, { server:wait() })
      assert.truthy(server.text:find("use --workers 1", 1, true))
      server:stop()
    end)
  end)
end)
