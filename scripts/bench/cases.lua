-- What is measured, in the order of the table, and what is aimed at. A case has
--
--     name, title
--     peers     who takes part, besides Moonpool
--     targets   of figures: at_most(figure, bound [, of]), at_least(...): "of" makes it a
--               ratio to that peer's figure; at_most_more(figure, bound, than)
--     kind      of kinds.lua: "drive"
--     client    "wrk", or "close", "keep", "line", "ws", "cast" of load.c;
--               .clients = 64, .pipeline, .rate
--     app       of the server: "http", "files", "ws" or "line"; .workers = 1; .closes
--               after each answer
--     request   { path = "/hello", method, fields, body = bytes }
--     answer    the content that is right; .any_order of its bytes; .answer_fields
--     whole     its runs are not made in slices (slices.lua)
--     quick     it is part of the short mode
--     optional  it runs only when it is named
--     missing   why it cannot be measured yet

local cases = {}

local defaults = {
  kind = "drive", client = "wrk", clients = 64, app = "http", workers = 1,
  request = { path = "/hello" }, answer = "Hello, world!\n",
}

local function case(entry)
  for name, value in pairs(defaults) do
    if entry[name] == nil then entry[name] = value end
  end
  cases[#cases + 1] = entry
end

local function at_most(figure, bound, of)
  return { figure = figure, at_most = bound, of = of }
end

local function at_least(figure, bound, of)
  return { figure = figure, at_least = bound, of = of }
end

local function at_most_more(figure, bound, than)
  return { figure = figure, at_most = bound, plus = than }
end

-- Requests on connections that are kept ----------------------------------------------

case {
  name = "hello", title = "hello", quick = true,
  peers = { "floor", "nginx-lua", "nginx", "lighttpd", "h2o", "haproxy", "node",
    "node-cluster", "lua-http" },
  targets = { at_most("cpu", 0.75, "nginx-lua"), at_most("cpu", 0.83, "nginx"),
    at_most("cpu", 1.08, "floor") },
}

case {
  name = "pipeline", title = "16 pipelined requests", quick = true, pipeline = 16,
  peers = { "floor", "nginx-lua", "nginx", "lighttpd", "node", "lua-http" },
  targets = { at_least("per_cpu", 12, "nginx-lua"), at_most("user", 0.15) },
}

case {
  name = "json", title = "JSON of a small object", quick = true,
  request = { path = "/json" },
  answer = '{"id":42,"name":"Ada Lovelace","mail":"ada@example.org","active":true}',
  any_order = true, answer_fields = { ["Content-Type"] = "application/json" },
  peers = { "nginx-lua", "lighttpd", "node", "lua-http" },
  targets = { at_most("cpu", 0.75, "nginx-lua") },
}

case {
  name = "route", title = "route, query, 3 fields read, 4 written", quick = true,
  request = { path = "/items/42?q=moon%20pool&page=3", fields = {
    "User-Agent: bench/1.0", "Accept-Language: en-GB", "X-Request-Id: 7f3a9c" } },
  answer = "item 42, moon pool, for bench/1.0\n",
  answer_fields = { ["X-Item"] = "42", ["X-Page"] = "3", ["X-Request-Id"] = "7f3a9c",
    ["Content-Language"] = "en-GB" },
  peers = { "nginx-lua", "lighttpd", "node", "lua-http" },
  targets = { at_most("cpu", 0.65, "nginx-lua") },
}

case {
  name = "post", title = "16 KiB posted and echoed", quick = true,
  request = { path = "/echo", method = "POST", body = 16384 },
  answer = ("x"):rep(16384),
  peers = { "nginx-lua", "lighttpd", "node", "lua-http" },
  targets = { at_most("cpu", 0.67, "nginx-lua") },
}

-- A connection per request ------------------------------------------------------------

case {
  name = "connect", title = "a connection per request, full load", quick = true,
  client = "close", closes = true,
  peers = { "floor", "floor-pass", "nginx-lua", "nginx", "haproxy", "node",
    "node-cluster" },
  targets = { at_most("cpu", 0.55, "nginx-lua"), at_least("rate", 1.15, "nginx-lua"),
    at_most("cpu", 0.20, "node-cluster") },
}

case {
  name = "connect-batch", title = "connections in a message, full load",
  kind = "batches", client = "close", closes = true, peers = { "floor-pass" },
  targets = { at_least("batch", 8) },
}

local function quiet_case(name, title, clients, rate)
  case { name = name, title = "a connection per request, " .. title,
    client = "close", clients = clients, rate = rate, closes = true,
    peers = { "floor", "floor-pass", "nginx-lua" },
    targets = { at_most("cpu", 1, "nginx-lua"), at_most_more("p50", 12, "floor") } }
end

quiet_case("connect-1000", "1,000 a second", 64, 1000)
quiet_case("connect-c1", "1 client", 1)
quiet_case("connect-c2", "2 clients", 2)
quiet_case("connect-c4", "4 clients", 4)
quiet_case("connect-c8", "8 clients", 8)

case {
  name = "balance", title = "1,000 connections over 2 workers", kind = "balance",
  held = 1000, workers = 2, all_cores = true, peers = { "nginx-lua", "node-cluster" },
  targets = { at_most("imbalance", 1.02) },
}

-- Files, and raw TCP ------------------------------------------------------------------

case {
  name = "file-1k", title = "a file of 1 KiB", app = "files",
  request = { path = "/files/1k.txt" }, answer = ("x"):rep(1 << 10),
  peers = { "nginx", "lighttpd", "h2o" }, targets = { at_most("cpu", 0.57, "nginx") },
}

case {
  name = "file-1m", title = "a file of 1 MiB", app = "files",
  request = { path = "/files/1m.txt" }, answer = ("x"):rep(1 << 20),
  peers = { "nginx", "lighttpd", "h2o" },
  targets = { at_most("cpu", 1, "nginx"), at_most("cpu", 1, "lighttpd") },
}

case {
  name = "line", title = "raw TCP, a line echoed", quick = true,
  client = "line", app = "line", peers = { "floor", "node", "cqueues" },
  targets = { at_most("cpu", 1.10, "floor"), at_most("cpu", 0.72, "node"),
    at_most("cpu", 0.69, "cqueues") },
}

-- WebSockets --------------------------------------------------------------------------

case {
  name = "websocket", title = "WebSocket, 125 bytes echoed", quick = true,
  client = "ws", app = "ws", request = { path = "/echo" }, peers = { "floor", "ws" },
  targets = { at_least("rate", 3, "ws"), at_most("cpu", 0.4, "ws") },
}

case {
  name = "broadcast", title = "WebSocket, 125 bytes to 1,000 clients",
  client = "cast", clients = 1000, app = "ws", request = { path = "/cast" },
  whole = true, -- in a slice they would do little but come
  peers = { "ws" }, targets = { at_least("rate", 3, "ws") },
}

-- Latency -----------------------------------------------------------------------------

case {
  name = "steady-10k", title = "steady, 10,000 requests a second",
  client = "keep", rate = 10000,
  peers = { "floor", "nginx-lua", "nginx", "node" },
  targets = { at_most("p99", 1, "nginx-lua") },
}

case {
  name = "steady-50k", title = "steady, 50,000 requests a second",
  client = "keep", rate = 50000,
  peers = { "floor", "nginx-lua", "nginx", "node" },
  targets = { at_most("p99", 1, "nginx-lua") },
}

-- Size --------------------------------------------------------------------------------

case {
  name = "idle", title = "10,000 idle connections beside 64 active ones",
  kind = "memory", held = 10000,
  peers = { "floor", "nginx-lua", "nginx", "lighttpd", "h2o", "haproxy", "node",
    "lua-http" },
  targets = { at_most("bytes", 200), at_most("slowdown", 1.02) },
}

case {
  name = "suspended", title = "10,000 raw connections suspended in a read",
  kind = "memory", held = 10000, client = "line", app = "line",
  peers = { "floor", "node", "cqueues" }, targets = { at_most("bytes", 1536) },
}

case {
  name = "websocket-idle", title = "10,000 WebSockets that wait, with a state",
  kind = "memory", held = 10000, client = "ws", app = "ws",
  request = { path = "/idle" }, peers = { "ws" }, targets = { at_most("bytes", 2560) },
}

case {
  name = "start", title = "from exec to the first answer, 2 workers",
  kind = "startup", workers = 2, peers = { "nginx-lua", "node-cluster" },
  targets = { at_most("ready", 30), at_most("pss", 2) },
}

-- Being replaced ----------------------------------------------------------------------

case {
  name = "hand-over", title = "a reload with 10,000 connections, for each",
  kind = "moving", held = 10000, workers = 2, peers = { "survive" }, targets = {},
}

case {
  name = "survive", title = "survive = true, hello", peers = { "survive" },
  targets = { { who = "survive", figure = "cpu", at_most = 1.05, of = "moonpool" } },
}

-- What is not there yet, and what takes long ------------------------------------------

case {
  name = "soak", title = "10 minutes at full load", optional = true,
  kind = "soak", seconds = 600, peers = {}, targets = { at_most("growth", 1.02) },
}

return cases
