--- Contents (http_content.lua) that were sent a moment ago, to be sent again without
-- another open(2).
--
--     local cache = http_content_cache.new(8 << 20, 0)
--     local content = cache:get(key) or cache:put(key, http_content.open(...))
--     local _ <close> = http_content_cache.hold(content)
--
-- All is let go together, a second after the first of it was put. Until then each get
-- looks at the paths that the content was chosen from, one stat(2) for the file and one
-- for each coded sibling, and what has changed is not returned. Two things escape such a
-- look, and may be sent for the rest of the second: a change that leaves no trace in a
-- file's times (through mmap(2), or within a tick of the kernel's clock), and a directory
-- that was moved out of the root and has left a symlink in its place.
--
-- With valid > 0 it is that many seconds, without a look at the paths: cache.ready has,
-- by their keys, the contents that can be sent as they are.
--
-- A file that stays open is closed when it was let go and its last user has closed the
-- content.
--
-- @module moonpool.http_content_cache

local http_content = require "moonpool.http_content"
local task = require("moonpool.core").task

local SECONDS = 1
local ENTRY = 2048 -- bytes that a content counts, beside its text and its key
local OPEN_FILE = 65536 -- bytes that a descriptor counts, of which a process has few

local methods = {}
local mt = { __name = "moonpool.http_content_cache", __index = methods }

---------------------------------------------------------------------------------------
-- Contents with a file, which is open for as long as somebody wants it.

local function close_unwanted(content)
  if content.file and not content.kept and content.users == 0 then
    content.file:close()
  end
end

local content_mt = {}

function content_mt:__close()
  self.users = self.users - 1
  close_unwanted(self)
end

--- Says that a content is about to be sent.
-- @return what is to be closed when it was, or nil where nothing is
local function hold(content)
  if not content.file then return nil end
  content.users = content.users + 1
  return content
end

---------------------------------------------------------------------------------------

local function weight_of(key, content)
  return ENTRY + 4 * #key + (content.text and #content.text or OPEN_FILE)
end

local function drop(self, key)
  local content = self.kept[key]
  self.kept[key], self.ready[key], content.kept = nil, nil, false
  self.left = self.left + weight_of(key, content)
  close_unwanted(content)
end

local function drop_all(self)
  for key in pairs(self.kept) do drop(self, key) end
end

-- The task is nobody's: it outlives the request that has started it.
local function watch_time(self)
  self.is_watched = true
  task.spawn(function()
    task.sleep(self.seconds)
    self.is_watched = false
    drop_all(self)
  end):detach()
end

-- A descriptor is looked at even where paths are not: what it has must fit what is said.
local function is_current(self, content)
  if self.looks then return http_content.is_current(content) end
  return not content.file or content.file:stamp() == content.stamp
end

--- What was put there, if it is still what would be found.
-- @return the content, or nil
function methods:get(key)
  local content = self.kept[key]
  if not content or is_current(self, content) then return content end
  drop(self, key)
end

--- Keeps a content for get, if there is room.
-- @return the content, to be held and sent
function methods:put(key, content)
  setmetatable(content, content_mt).users = 0
  if self.kept[key] then drop(self, key) end
  local weight = weight_of(key, content)
  if weight > self.left then return content end
  self.left = self.left - weight
  self.kept[key], content.kept = content, true
  self.ready[key] = not self.looks and content.text and content or nil
  if not self.is_watched then watch_time(self) end
  return content
end

--- An empty cache.
-- @param size bytes, at most; 0: it keeps nothing
-- @param valid seconds without a look; 0: it looks each time
local function new(size, valid)
  return setmetatable({ kept = {}, ready = {}, left = size, looks = valid == 0,
    seconds = valid > 0 and valid or SECONDS }, mt)
end

return { new = new, hold = hold }
