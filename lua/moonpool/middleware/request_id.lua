--- A name for each request, to find it again in the log and with whoever calls or is
-- called.
--
--     app:use(request_id())
--
-- It is in req.id and in the X-Request-Id of the response: 128 bits from the kernel's
-- generator in hexadecimal. Options:
--
--     header  the name of the field ("X-Request-Id")
--     trust   whether a client's own is kept (false): only behind a proxy that sets it,
--             or anybody writes into the log what he likes
--
-- @module moonpool.middleware.request_id

local fd = require "moonpool.fd"
local options = require "moonpool.options"

local KINDS = { header = "string", trust = "boolean" }
local LONGEST = 128

-- Open for good, so that no shortage of descriptors can fail a request.
local random = assert(assert(fd.open_path "/dev/urandom"):file("rb"))

-- What can stand in a log line, a path or a shell without harm.
local function is_sane(id)
  return id and #id <= LONGEST and id:find "^[%w._:@+/=-]+$"
end

local function new_id()
  return ("%016x%016x"):format(string.unpack("I8I8", random:read(16)))
end

return function(given)
  local wanted = options.check("request_id", given, KINDS)
  local header = wanted.header or "X-Request-Id"
  return function(req, res, next)
    local sent = wanted.trust and req:header(header)
    req.id = is_sane(sent) and sent or new_id()
    res:header(header, req.id)
    next()
  end
end
