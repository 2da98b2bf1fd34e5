-- A case in this process, over socketpairs, for counting its instructions: 64 clients ask
-- and are answered, round after round. callgrind.lua runs it under valgrind.
--
--     lua5.4 scripts/bench/in_process.lua APPS CASE ROUNDS
--
-- The clients are Lua files on the sockets and no part of the loop, so that all that
-- happens inside of ev_run is the server's, as in a worker. How they connect is no part
-- of what is measured.

local core = require "moonpool.core"
local cases = require "bench.cases"
local http = require "bench.http"

local CLIENTS = 64

local function find_case(name)
  for _, case in ipairs(cases) do
    if case.name == name then return case end
  end
  error("there is no case " .. name)
end

-- Turns the loop until nothing happens any more.
local function settle()
  while core.loop.turn() do end -- luacheck: ignore 542
end

-- Lua files that read and write what a connection would: its descriptor, twice.
local function files_of(conn)
  local files = {}
  core.task.spawn(function()
    local sender, receiver = core.net.pair()
    for _, mode in ipairs { "r", "w" } do
      assert(sender:sendfd(conn, "x"))
      files[mode] = assert(assert(receiver:recvfd()):file(mode))
    end
    sender:close()
    receiver:close()
  end)
  settle()
  return files.r, files.w
end

local function connect(serve)
  local conn = assert(serve())
  local input, output = files_of(conn)
  output:setvbuf "no"
  return { conn = conn, input = input, output = output }
end

-- The first answer: its length.
local function read_first(case, client)
  local answer = ""
  repeat
    local byte = client.input:read(1)
    answer = answer .. (byte or "")
  until not byte or http.is_whole(case, answer)
  assert(http.check(case, answer))
  return #answer
end

-- A client who has asked once, and the length of the answer; all others' are as long.
local function open(case, serve, length)
  local client = connect(serve)
  assert(client.output:write(http.request_text(case)))
  settle()
  if not length then return client, read_first(case, client) end
  assert(client.input:read(length))
  return client, length
end

local function run_round(clients, text, length)
  for _, client in ipairs(clients) do assert(client.output:write(text)) end
  settle()
  for _, client in ipairs(clients) do assert(client.input:read(length)) end
end

local function main(apps, name, rounds)
  local case = find_case(name)
  local serve = core.handler(dofile(("%s/%s.lua"):format(apps, case.app)))
  local probe, first = open(case, serve)
  local clients = { probe }
  for i = 2, CLIENTS do
    clients[i] = case.app == "ws" and open(case, serve, first) or connect(serve)
  end
  local text, length = http.message_text(case)
  local batch = case.pipeline or 1
  for _ = 1, rounds do
    run_round(clients, text:rep(batch), batch * (length or first))
  end
end

main(arg[1], arg[2], tonumber(arg[3]))
