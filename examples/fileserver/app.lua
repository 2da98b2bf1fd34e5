-- Sends files: the classic process pool, where a worker has one client at a time.
--
--     build/moonpool serve --config examples/fileserver/pool.lua
--     nc 127.0.0.1 8080                and type hello.txt, ../app.lua or STATUS
--
-- A client sends the name of a file in one line, as often as it likes. The answer is
--
--     OK <length>      and then that many bytes, or
--     ERROR <reason>
--
-- Names stand for what is below FILESERVER_ROOT (by default files/ beside this script)
-- and cannot leave it, neither by themselves nor through symlinks. The name STATUS stands
-- for a list of the workers: BUSY while they have a client, else FREE.

local fd = require "moonpool.fd"
local moonpool = require "moonpool"

local here = debug.getinfo(1, "S").source:match "^@(.*)/"
local root = os.getenv "FILESERVER_ROOT" or here .. "/files"
assert(fd.open(root, "."), root .. " must be a directory"):close()

-- Every worker keeps a line about each, as that one has said it: by id.
local board = {}
local state, served = "FREE", 0

local function tell_all()
  local id, pid = moonpool.worker.id, moonpool.worker.pid
  board[id] = ("worker %3d  pid %d  %s  served %d"):format(id, pid, state, served)
  moonpool.publish("board", board[id])
end

moonpool.subscribe("board", function(line)
  if line == "?" then return tell_all() end
  board[tonumber(line:match "%d+")] = line
end)
moonpool.publish("board", "?")

local function set_state(new)
  state = new
  tell_all()
end

local at_work = setmetatable({}, { __close = function() set_state "FREE" end })

local function send_status(conn)
  tell_all()
  local lines = {}
  for _, line in pairs(board) do lines[#lines + 1] = line .. "\n" end
  table.sort(lines)
  local text = table.concat(lines) .. "you have worker " .. moonpool.worker.id .. "\n"
  return conn:write("OK ", #text, "\n", text)
end

-- The open file, or nil and why not.
local function find(name)
  if name == "" or name:find("//", 1, true) then return nil, "not a file name" end
  local found <close>, why = fd.open(root, name)
  if not found then return nil, why end
  if found:kind() ~= "file" then return nil, "a " .. found:kind() .. ", not a file" end
  return found:file()
end

-- Whether the client can go on after it.
local function answer(conn, name)
  if name == "STATUS" then return send_status(conn) end
  local file <close>, why = find(name)
  if not file then return conn:write("ERROR ", why, "\n") end
  local length = file:seek "end"
  conn:write("OK ", length, "\n")
  served = served + 1
  return conn:sendfile(file, 0, length) == length
end

return function(conn)
  set_state "BUSY"
  local _ <close> = at_work
  repeat
    local name, _, code = conn:read()
    if code == "EMSGSIZE" then conn:write "ERROR the line is too long\n" end
  until not name or not answer(conn, name)
end
