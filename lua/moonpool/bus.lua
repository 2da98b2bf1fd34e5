-- Messages by topic between all workers of a pool.
--
-- All workers see the messages of one topic in one order, the publisher too. A subscriber
-- has its own task, which calls fn for one message after the other. While it is behind,
-- messages wait, at most LIMIT of them; then the oldest are dropped, one for each that
-- comes, and counted in subscription.lost. A worker that is itself too far behind misses
-- messages in the same way (the supervisor keeps 4 MiB for each).
--
-- Each message has a position, a number that grows. Whoever goes on in another worker,
-- and says what the last position was, first gets the messages since: the supervisor
-- keeps the last megabyte of a pool's. So a subscriber whose position is in its
-- connection's checkpoint misses nothing when its worker is replaced.
--
-- Two topics are the supervisor's. "moonpool.reopen": it got SIGUSR1, log files are to be
-- opened anew. "moonpool.gone": a worker has ended, however, and nothing of it will come
-- any more; the message is its id.generation, such as "2.7" (moonpool.worker).

local core = require "moonpool.core"
local log = require "moonpool.log"
local task = core.task

local LIMIT = 1024
local PATIENCE = 5 -- seconds until messages that were asked for are asked for again

local topics = {} -- topic -> set of subscriptions
local behind = {} -- topic -> set of those that are to be asked for what they have missed
local requests = {} -- number -> set of those that are asked for
local request_count = 0

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
  if self.task then self.task:unpark() end
end

mt.__close = methods.close

local function is_open(self)
  local set = topics[self.topic]
  return set ~= nil and set[self] ~= nil
end

local function call_tap(self, message, position)
  local ok, err = xpcall(self.fn, debug.traceback, message, position)
  if not ok then log.error(err) end
end

-- What is dropped is still a position that was reached.
local function put(self, message, position)
  self.reached = position or self.reached
  if not self.task then return call_tap(self, message, position) end
  if self.last - self.first + 1 >= LIMIT then
    self.queue[self.first] = nil
    self.first = self.first + 1
    self.lost = self.lost + 1
  end
  self.last = self.last + 1
  self.queue[self.last] = { message, position }
  self.task:unpark()
end

local function take(self)
  while self.first > self.last do
    if not is_open(self) then return nil end
    task.park()
  end
  local entry = self.queue[self.first]
  self.queue[self.first] = nil
  self.first = self.first + 1
  self.position = entry[2] or self.position
  return entry[1]
end

-- The subscription's task, and with it the subscription, ends with the one that made it.
local function serve(self)
  local _ <close> = self
  while is_open(self) do
    local message = take(self)
    if message and is_open(self) then self.fn(message, self.topic) end
  end
end

-- Catching up. All that are behind in a topic are served by one request, since the
-- earliest of their positions. What comes meanwhile is left to the answer, which has it.

local function earliest(set)
  local since = math.huge
  for subscription in pairs(set) do since = math.min(since, subscription.reached) end
  return since
end

local function ask(topic, set)
  request_count = request_count + 1 & 0x7fffffff
  local request = { set = set, task = task.current() }
  requests[request_count] = request
  repeat
    core.bus.replay(topic, earliest(set), request_count)
    task.park(PATIENCE)
  until request.answered
end

local function catch_up(topic)
  repeat
    local set = behind[topic]
    behind[topic] = {}
    ask(topic, set)
  until next(behind[topic]) == nil
  behind[topic] = nil
end

local function fall_behind(self)
  self.is_behind = true
  if behind[self.topic] then
    behind[self.topic][self] = true
  else
    behind[self.topic] = { [self] = true }
    task.spawn(catch_up, self.topic):detach()
  end
end

local function caught_up(request, number, position, complete)
  for subscription in pairs(request.set) do
    subscription.is_behind = false
    subscription.has_gap = not complete
    subscription.reached = math.max(subscription.reached, position)
    if subscription.on_complete then subscription.on_complete(complete, position) end
  end
  requests[number] = nil
  request.answered = true
  request.task:unpark()
end

local function add(self)
  local set = topics[self.topic]
  if not set then
    set = {}
    topics[self.topic] = set
    core.bus.listen(self.topic, true)
  end
  set[self] = true
end

--- Calls fn(message, position) for each message, as it comes in: without a task, so fn
-- must not wait. Unlike a subscription it loses nothing by being slow, and ends with
-- close() alone.
-- @param since a position: the messages after that one come first
-- @param on_complete is called with (true, position) once those until that position
-- have; with (false, position) if some are missing
-- @return the tap
local function tap(topic, fn, since, on_complete)
  local self = setmetatable(
    { topic = topic, fn = fn, reached = since, on_complete = on_complete }, mt)
  add(self)
  fall_behind(self)
  return self
end

--- Calls fn(message, topic) for each message that is published from now on, until
-- subscription:close(), an error in fn, or the end of the task that subscribed.
-- @param since a position: the messages after that one come first
-- @return the subscription. Its position is that of the message that fn was called with
--   last; lost counts what was dropped; has_gap is true if messages after since may be
--   missing, because too many came in between.
local function subscribe(topic, fn, since)
  assert(type(topic) == "string", "the topic must be a string")
  assert(type(fn) == "function", "what is to be called must be a function")
  assert(since == nil or math.type(since) == "integer", "a position must be an integer")
  local self = setmetatable(
    { topic = topic, fn = fn, queue = {}, first = 1, last = 0, lost = 0 }, mt)
  add(self)
  self.reached = since or core.bus.position()
  self.position = self.reached
  self.task = task.spawn(serve, self)
  if since then fall_behind(self) end
  return self
end

core.bus.receive(function(topic, message, position)
  for subscription in pairs(topics[topic] or {}) do
    local is_next = not position or position > subscription.reached
    if is_next and not subscription.is_behind then
      put(subscription, message, position)
    end
  end
end)

core.bus.replayed(function(number, position, message, complete)
  local request = requests[number]
  if not request then return end -- it was asked twice
  if not message then return caught_up(request, number, position, complete) end
  for subscription in pairs(request.set) do
    if position > subscription.reached then put(subscription, message, position) end
  end
end)

return {
  --- Sends message (a string) to all subscribers of topic, in every worker of the pool.
  -- Both together may have 65,536 bytes.
  -- @return true, or nil, message, code: "ENOBUFS" while too many are on their way
  publish = core.bus.send,
  subscribe = subscribe,
  tap = tap,
}
