--- The access log: a line for each answer, also for what no handler has seen, such as a
-- request that was refused.
--
--     local access_log = require "moonpool.middleware.access_log"
--     local app = http.app { answered = access_log { path = "/var/log/web.log" } }
--
-- It is no middleware around handlers but a setting of the application, since an answer
-- is over only when they are. How lines are written, and what happens when they cannot
-- be, stands in log_file.lua. SIGUSR1 has the file opened anew, by the user
-- of the workers. For logrotate(8):
--
--     /var/log/web.log {
--       daily
--       compress
--       delaycompress
--       create 0640 www-data adm
--       postrotate
--         systemctl kill -s USR1 moonpool
--       endscript
--     }
--
-- @module moonpool.middleware.access_log

local core = require "moonpool.core"
local log_file = require "moonpool.log_file"

local formats = {}

-- What the application has put into the request, if it is something to write.
local function own(entry, name)
  local value = entry.req and entry.req[name]
  local kind = type(value)
  return (kind == "string" or kind == "number") and tostring(value) or nil
end

-- A function of the time that remembers the last second's result of fn.
local function by_second(fn)
  local second, text
  return function(time)
    local whole = math.floor(time)
    if whole ~= second then second, text = whole, fn(whole) end
    return text
  end
end

---------------------------------------------------------------------------------------
-- Apache's and nginx's "combined".

local months = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct",
  "Nov", "Dec" }

local local_time = by_second(function(second)
  local t = os.date("*t", second)
  return ("%02d/%s/%d:%02d:%02d:%02d %s"):format(t.day, months[t.month], t.year, t.hour,
    t.min, t.sec, os.date("%z", second))
end)

local function hex(byte)
  return ("\\x%02X"):format(byte:byte())
end

local special = '[\0-\31"\\\127-\255]'

-- As nginx escapes; what is not there is "-".
local function escape(text)
  if not text then return "-" end
  return text:find(special) and text:gsub(special, hex) or text
end

-- "192.0.2.1:80" -> "192.0.2.1", "[2001:db8::1]:80" -> "2001:db8::1", "unix:" as it is
local function address(peer)
  return peer and (peer:match "^%[(.*)%]:%d+$" or peer:match "^(.*):%d+$" or peer)
end

local function request_line(entry)
  if not entry.method then return "-" end
  return ("%s %s %s"):format(escape(entry.method), escape(entry.target),
    escape(entry.version))
end

function formats.combined(entry)
  return ('%s - %s [%s] "%s" %03d %d "%s" "%s"'):format(escape(address(entry.peer)),
    escape(own(entry, "user")), local_time(entry.time), request_line(entry),
    entry.status, entry.bytes, escape(entry.referer), escape(entry.user_agent))
end

---------------------------------------------------------------------------------------
-- JSON (RFC 8259), an object a line. It is flat and its keys have an order.

local function unicode(byte)
  return ("\\u%04x"):format(byte:byte())
end

-- What is not UTF-8 is taken for ISO 8859-1, so that it is JSON in any case.
local function json_string(text)
  if text:find(special) then
    text = text:gsub(utf8.len(text) and '[\0-\31"\\\127]' or special, unicode)
  end
  return '"' .. text .. '"'
end

local utc_time = by_second(function(second)
  return os.date("!%Y-%m-%dT%H:%M:%S", second)
end)

local function member(name, value)
  return value and (',"%s":%s'):format(name, json_string(value)) or ""
end

function formats.json(entry)
  return ('{"time":"%s.%03dZ"%s%s%s%s,"status":%d,"bytes":%d,"seconds":%.6f%s%s%s%s}')
    :format(utc_time(entry.time), entry.time % 1 * 1000 // 1,
      member("peer", entry.peer), member("method", entry.method),
      member("target", entry.target), member("version", entry.version),
      entry.status, entry.bytes, entry.seconds,
      member("referer", entry.referer), member("user_agent", entry.user_agent),
      member("id", own(entry, "id")), member("user", own(entry, "user")))
end

---------------------------------------------------------------------------------------

local function check_options(options)
  for name in pairs(options) do
    assert(name == "path" or name == "format", "access_log has path and format, no "
      .. tostring(name))
  end
  assert(options.path == nil or type(options.path) == "string", "path must be a string")
end

local function check_format(format)
  if format == nil then return formats.combined end
  local fn = type(format) == "function" and format or formats[format]
  return assert(fn, 'format must be "combined", "json" or a function')
end

--- Makes what is to be called with each answer's entry (runtime/lua_http.h).
-- @param options .path of the file, standard error if left out; .format: "combined",
-- which is the default, "json", or a function of the entry that returns the line, or nil
-- for none; entry.time is in seconds since 1970, with a fraction
-- @return a function
local function access_log(options)
  options = options or {}
  check_options(options)
  local format = check_format(options.format)
  local file = log_file.open(options.path)
  return function(entry)
    entry.time = core.time()
    local line = format(entry)
    if line then file:add(line .. "\n") end
  end
end

return access_log
