--- A file of lines that several processes append to, such as an access log.
--
--     local file = require("moonpool.log_file").open "/var/log/web.log"
--     file:add "GET /\n"
--
-- Nothing here waits or fails. Lines are collected and written in one write(2), after a
-- second or 64 KiB, and when the process ends, if it is not killed; a pipe, a terminal or
-- a socket gets as many at a time as it has room for. Lines that the file does not take
-- are kept and tried again, up to a MiB; what comes then is lost, and counted. The log of
-- the server says when that begins and how much it was.
--
-- SIGUSR1 to the supervisor (logrotate) has all files opened anew. They are opened by the
-- workers, so as the user that these run as.
--
-- @module moonpool.log_file

local bus = require "moonpool.bus"
local core = require "moonpool.core"
local log = require "moonpool.log"
local task = core.task

local BATCH = 65536
local PIPE_BUF = 4096 -- what a pipe takes as a whole, pipe(7)
local MOST = 1 << 20
local PAUSE = 1 -- seconds

-- lines[first] to lines[last] wait, size bytes, of which the last `fresh` have not been
-- tried; fd is nil while the file cannot be opened.
local methods = {}
local mt = { __name = "moonpool.log_file", __index = methods }

---------------------------------------------------------------------------------------
-- Failing and recovering, each said once.

local function fail(self, message)
  if not self.failing then
    log.error("%s: %s; its lines wait, and then are lost", self.name, message)
  end
  self.failing = true
end

local function recover(self)
  if self.failing or self.lost > 0 then
    log.warn("%s is written again; %d lines were lost", self.name, self.lost)
  end
  self.failing, self.lost = false, 0
end

---------------------------------------------------------------------------------------
-- Writing.

-- The next lines, as many as are written at a time; at least one.
local function next_lines(self)
  local lines, at, size = self.lines, self.first, 0
  repeat
    size = size + #lines[at]
    at = at + 1
  until at > self.last or size + #lines[at] > self.chunk
  return table.concat(lines, "", self.first, at - 1)
end

-- n bytes are written. Of a line that is cut, because a disk is full, the rest is next.
local function drop(self, n)
  local lines = self.lines
  self.size = self.size - n
  while n > 0 do
    local line = lines[self.first]
    if n < #line then
      lines[self.first] = line:sub(n + 1)
      return
    end
    n = n - #line
    lines[self.first] = nil
    self.first = self.first + 1
  end
end

-- Writes what waits, as far as that is possible now. A reader who is behind may be that
-- of the server's log too: then nothing is said in it.
local function write(self)
  self.fresh = 0
  while self.fd and self.first <= self.last do
    local n, message, code = self.fd:write(next_lines(self))
    if not n then
      if code ~= "EAGAIN" then fail(self, message) end
      return
    end
    drop(self, n)
  end
  if not self.fd then return end
  self.first, self.last = 1, 0
  recover(self)
end

---------------------------------------------------------------------------------------
-- Opening.

-- When the state is closed, this is finalized before the descriptor, which is older
-- (reference manual, 2.5.3).
local function write_at_end(self)
  self.witness = setmetatable({}, { __gc = function(witness)
    if self.witness == witness then write(self) end
  end })
end

local function open_fd(path)
  if not path then return core.fd.stderr() end
  local fd, message, code = core.fd.append(path)
  if code == "EACCES" then message = message .. " for the user of the workers" end
  return fd, message
end

-- True, or nil and a message, and then what was open still is.
local function open(self)
  local fd, message = open_fd(self.path)
  if not fd then return nil, message end
  if self.fd then self.fd:close() end
  self.fd, self.chunk = fd, fd:kind() == "file" and BATCH or PIPE_BUF
  write_at_end(self)
  return true
end

local files = setmetatable({}, { __mode = "k" })
local subscription

local function open_all_anew()
  for self in pairs(files) do
    write(self)
    local ok, message = open(self)
    if not ok and self.fd then
      log.error("%s: %s; the old file is kept", self.name, message)
    end
  end
end

-- Before the file is opened, so that no signal falls in between.
local function watch(self)
  files[self] = true
  if not subscription then
    subscription = bus.subscribe("moonpool.reopen", open_all_anew)
    subscription.task:detach()
  end
end

---------------------------------------------------------------------------------------

local function write_soon(self)
  repeat
    task.sleep(PAUSE)
    if not self.fd then open(self) end
    write(self)
  until self.first > self.last
  self.soon = false
end

--- Adds a line, which ends with "\n".
function methods:add(line)
  if self.size + #line > MOST then
    self.lost = self.lost + 1
    return
  end
  if self.fresh + #line > BATCH then write(self) end
  self.last = self.last + 1
  self.lines[self.last] = line
  self.size, self.fresh = self.size + #line, self.fresh + #line
  if not self.soon then
    self.soon = true
    task.spawn(write_soon, self):detach()
  end
end

--- Opens a file to append to; it is made if there is none. Where that fails it is tried
-- again each second in which there are lines.
-- @param path nil for standard error
local function open_file(path)
  local self = setmetatable({ path = path, name = path or "standard error", lines = {},
    first = 1, last = 0, size = 0, fresh = 0, lost = 0 }, mt)
  if path then watch(self) end
  local ok, message = open(self)
  if not ok then fail(self, message) end
  return self
end

return { open = open_file }
