-- Messages by topic between all workers of a pool.
--
-- All workers see the messages of one topic in one order, the publisher too. A subscriber
-- has its own task, which calls fn for one message after the other. While it is behind,
-- messages wait, at most LIMIT of them; then the oldest are dropped, one for each that
-- comes, and counted in subscription.lost. A worker that is itself too far behind misses
-- messages in the same way (the supervisor keeps 4 MiB for each).
--
-- Each worker gets a message of the topic "moonpool.reopen" when the supervisor gets
-- SIGUSR1: log files are to be opened anew.

local core = require "moonpool.core"
local task = core.task

local LIMIT = 1024

local topics = {} -- topic -> set of subscriptions

local methods = {}
local mt = { __name = "moonpool.subscription", __index = methods }

--- Ends the subscription: messages that still wait are dropped.
function methods:close()
  local set = topics[self.topic]
  if not set or not set[self] then return end
  set[self] = nil
  if next(set) == nil then
    topics[self.topic] = nil
    core.bus.listen(self.topic, false)
  end
  self.task:unpark()
end

mt.__close = methods.close

local function is_open(self)
  local set = topics[self.topic]
  return set ~= nil and set[self] ~= nil
end

local function put(self, message)
  if self.last - self.first + 1 >= LIMIT then
    self.queue[self.first] = nil
    self.first = self.first + 1
    self.lost = self.lost + 1
  end
  self.last = self.last + 1
  self.queue[self.last] = message
  self.task:unpark()
end

local function take(self)
  while self.first > self.last do
    if not is_open(self) then return nil end
    task.park()
  end
  local message = self.queue[self.first]
  self.queue[self.first] = nil
  self.first = self.first + 1
  return message
end

-- The subscription's task, and with it the subscription, ends with the one that made it.
local function serve(self)
  local _ <close> = self
  while is_open(self) do
    local message = take(self)
    if message and is_open(self) then self.fn(message, self.topic) end
  end
end

--- Calls fn(message, topic) for each message that is published from now on, until
-- subscription:close(), an error in fn, or the end of the task that subscribed.
-- @return the subscription; subscription.lost counts what was dropped
local function subscribe(topic, fn)
  assert(type(topic) == "string", "the topic must be a string")
  assert(type(fn) == "function", "what is to be called must be a function")
  local self = setmetatable(
    { topic = topic, fn = fn, queue = {}, first = 1, last = 0, lost = 0 }, mt)
  local set = topics[topic]
  if not set then
    set = {}
    topics[topic] = set
    core.bus.listen(topic, true)
  end
  set[self] = true
  self.task = task.spawn(serve, self)
  return self
end

core.bus.receive(function(topic, message)
  for subscription in pairs(topics[topic] or {}) do put(subscription, message) end
end)

return {
  --- Sends message (a string) to all subscribers of topic, in every worker of the pool.
  -- Both together may have 65,536 bytes.
  -- @return true, or nil, message, code: "ENOBUFS" while too many are on their way
  publish = core.bus.send,
  subscribe = subscribe,
}
