-- A peer that serves a case, on a free port, on the servers' core.
--
--     local server <close> = server.start(peer, case, setup)
--     server.port, server.directory (its own), server:pids(), server:check(case)
--
-- setup: build, directory (a temporary one), root (of files to serve), user, server_core,
-- all_cores.

local core = require "moonpool.core"
local http = require "bench.http"
local lfs = require "lfs"
local machine = require "bench.machine"
local program = require "bench.program"

local here = "scripts/bench"

local methods = {}
local mt = { __index = methods, __close = function(self) self.program:stop() end }

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

-- "{port}" and the like in a file of peers/ -> the path of a copy.
local function fill_in(config, c)
  local path = c.directory .. "/" .. config
  local file <close> = assert(io.open(path, "w"))
  file:write((read(here .. "/peers/" .. config):gsub("{(%l+)}", c)))
  return path
end

-- Where the server keeps its files.
local function new_directory(setup)
  setup.servers = (setup.servers or 0) + 1
  local path = ("%s/%d"):format(setup.directory, setup.servers)
  assert(lfs.mkdir(path))
  return path
end

local function context(peer, case, setup, port)
  local c = { port = tostring(port or machine.free_port()),
    workers = tostring(case.workers), app = case.app, closes = case.closes,
    directory = new_directory(setup), root = setup.root, build = setup.build,
    user = setup.user, here = lfs.currentdir() .. "/" .. here }
  if peer.config then c.config = fill_in(peer.config, c) end
  return c
end

-- What a connection says until its end, or as much as is enough.
local function converse(port, text, is_enough)
  local answer, done = "", nil
  core.task.spawn(function()
    local conn <close> = core.net.connect("127.0.0.1:" .. port, 1)
    if conn then
      conn:settimeout(5)
      conn:write(text)
      conn:flush()
    end
    while conn and not is_enough(answer) do
      local chunk = conn:readsome()
      if not chunk then break end
      answer = answer .. chunk
    end
    done = true
  end)
  program.eventually(function() return done end)
  return answer
end

--- Whether it answers as the case expects: true; or nil, message.
function methods:check(case)
  return http.check(case, converse(self.port, http.request_text(case), function(answer)
    return http.is_whole(case, answer)
  end))
end

function methods:pids()
  return self.program:pids()
end

function methods:stop()
  self.program:stop()
end

local function core_of(case, setup)
  return case.all_cores and setup.all_cores or setup.server_core
end

--- Starts a peer, without waiting for it.
-- @param port (optional)
local function launch(peer, case, setup, port)
  local c = context(peer, case, setup, port)
  local argv, env = peer.command(c)
  local started = program.start(argv, { core = core_of(case, setup), env = env })
  return setmetatable({ program = started, port = c.port, argv = argv,
    directory = c.directory }, mt)
end

--- Starts a peer and waits until it answers as it should.
-- @return server; or nil, message
local function start(peer, case, setup)
  local self = launch(peer, case, setup)
  local ok, message
  program.eventually(function()
    ok, message = self:check(case)
    return ok or self.program:has_ended()
  end, 5)
  if ok then return self end
  self:stop()
  return nil, message .. ": " .. self.program.text:gsub("%s+$", "")
end

return { start = start, launch = launch }
