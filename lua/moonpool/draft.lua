--- A file that is there when it is whole: until then it has another name, ".N-N.part" in
-- the same directory, so nobody takes half of it for all, and if it never becomes whole
-- there is what was there before.
--
--     local file <close>, message, code = draft.new(path)
--     ... file:write(text) ...
--     file:keep()
--
-- Failures are nil, message, code ("ENOSPC", "EACCES").
--
-- @module moonpool.draft

local core = require "moonpool.core"

local BUFFER = 64 << 10 -- bytes; longer pieces go out directly

local methods = {}
local mt = { __name = "moonpool.draft", __index = methods }

local made = 0

--- Begins a file that will have this path.
local function new(path)
  made = made + 1
  local directory = path:match "^.*/" or ""
  local name = ("%s.%d-%d.part"):format(directory, core.worker.pid, made)
  local file, _, errno = io.open(name, "wb")
  if not file then return core.fail(errno) end
  file:setvbuf("full", BUFFER)
  return setmetatable({ path = path, name = name, file = file }, mt)
end

--- @return the draft
function methods:write(text)
  local ok, _, errno = self.file:write(text)
  if not ok then return core.fail(errno) end
  return self
end

--- Ends it: from now on it is what is at its path.
-- @return true
function methods:keep()
  local ok, _, errno = self.file:close()
  if ok then ok, _, errno = os.rename(self.name, self.path) end
  if not ok then return core.fail(errno) end
  self.is_kept = true
  return true
end

function mt:__close()
  if io.type(self.file) == "file" then self.file:close() end
  if not self.is_kept then os.remove(self.name) end
end

return { new = new }
