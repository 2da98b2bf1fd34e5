-- Memory that fails at every place where it can, one after the other: each time there is
-- the right answer or an error, and the next request finds all in order.

local fragile = require "native.fragile"

require "tidy" (before_each, after_each)

local MANY = 5000 -- allocations that no request here comes to

local http = [[
  local app = require("moonpool.http").app { answered = function(entry)
    if entry.status == 200 then assert(entry.method) end
  end }
  app:use(function(req, res, next)
    local _ <close> = setmetatable({}, { __close = function() res.closed = true end })
    req.user = { name = "somebody" }
    next()
  end)
  app:get("/hello/:name", function(req, res)
    res.headers["X-Name"] = req.user.name
    res:send("Hello, " .. req.params.name .. req.headers.host .. "\n")
  end)
  app:get("/fails", function() error { code = 1 } end)
  app:get("/waits", function(_, res)
    local moonpool = require "moonpool"
    local me = moonpool.spawn(function() moonpool.sleep(1e6) end)
    coroutine.wrap(function() moonpool.sleep(0) end)()
    pcall(function() moonpool.sleep(0) end)
    res:write("some", " more") res:write "\n"
    me:cancel()
  end)
  app:post("/echo", function(req, res) res:json(req:json()) end)
  return app
]]

local raw = [[
  return function(conn)
    for line in conn:lines() do conn:write(line:upper(), "\n") end
  end
]]

local raw_once = [[
  return function(conn)
    local line = conn:read "L"
    conn:write(line)
    if line == "fail\n" then error { code = 1 } end
  end
]]

local function request(line, fields, body)
  return line .. " HTTP/1.1\r\nHost: spec\r\n" .. (fields or "") .. "\r\n" .. (body or "")
end

local cases = {
  ["a line on a raw connection"] = { raw, "hello\n", "^HELLO\n$" },
  ["a raw handler that returns"] = { raw_once, "hello\n", "^hello\n$" },
  ["a raw handler that fails"] = { raw_once, "fail\n", "^fail\n$" },
  ["a request"] = { http, request "GET /hello/you?a=b",
    "^HTTP/1.1 200 OK\r\n.*\r\n\r\nHello, youspec\n$" },
  ["one after the other"] = { http, request "GET /hello/1" .. request "GET /hello/2",
    "\r\n\r\nHello, 1spec\nHTTP/1.1 200 OK\r\n.*\r\n\r\nHello, 2spec\n$" },
  ["a request with content"] = { http, request("POST /echo",
    "Content-Type: application/json\r\nContent-Length: 13\r\n", '{"a":[1,"b"]}'),
    '^HTTP/1.1 200 OK\r\n.*\r\n\r\n{"a":%[1,"b"%]}' },
  ["a handler that fails"] = { http, request "GET /fails", "^HTTP/1.1 500 " },
  ["a handler that waits"] = { http, request "GET /waits",
    "^HTTP/1.1 200 OK\r\n.*\r\nsome more\r\n1\r\n\n\r\n0\r\n\r\n$" },
  ["what is not there"] = { http, request "GET /none", "^HTTP/1.1 404 " },
}

-- Whether that is an answer to a request that had no memory: an error, or a connection
-- that is closed, in the middle or before anything.
local function is_failure(answer, is_closed)
  return is_closed or answer:find "^HTTP/1.1 50[03] "
end

local function ask(f, case, n, for_good)
  f:fail(n, for_good)
  local answer, is_closed = f:ask(case[2])
  local count = f:count()
  f:fail(0)
  assert(answer:find(case[3]) or is_failure(answer, is_closed),
    ("%d of %d: not closed, and no answer: %s"):format(n, count, answer))
  local after = f:ask(case[2])
  assert(after:find(case[3]), ("after %d: %s"):format(n, after))
  return count >= n
end

local function new(case)
  return fragile.new(package.path, case[1])
end

describe("where memory fails", function()
  for name, case in pairs(cases) do
    it("once, the next request is served: " .. name, function()
      local f <close> = new(case)
      for n = 1, MANY do
        if not ask(f, case, n, false) then return end
      end
      error "it does not end"
    end)

    it("from there on, the next request is served: " .. name, function()
      local f <close> = new(case)
      for n = 1, MANY do
        if not ask(f, case, n, true) then return end
      end
      error "it does not end"
    end)

    it("for the first request, the next one is served: " .. name, function()
      for n = 1, MANY do
        local f <close> = new(case)
        if not ask(f, case, n, n % 2 == 0) then return end
      end
      error "it does not end"
    end)
  end
end)
