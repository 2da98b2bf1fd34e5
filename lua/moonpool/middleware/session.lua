--- A session: what a service wants to know of a visitor when he comes again, in a cookie
-- that he can neither read nor change.
--
--     app:use(session { secret = os.getenv "SESSION_SECRET" })
--     app:post("/login", function(req, res)
--       req.session.user = "ada"
--       ...
--
-- req.session is a table of plain values, as JSON knows them (json.lua). It is sent with
-- the response if the handler has changed it, before the response began; afterwards a
-- change raises. It is empty for a visitor without a cookie, and for one whose cookie is
-- too old, was changed or is not ours. It has two methods:
--
--     req.session:clear()    forgets everything, and the cookie with it
--     req.session:renew()    sends it again, though unchanged, to last like a new one
--
-- Options:
--
--     secret     at least 32 bytes that nobody knows, the same in all workers, as from
--                `openssl rand -hex 32`. Or a list: the first one seals, all of them
--                open, so that a new secret is put before the old one, which goes when
--                the last cookie that it has sealed is too old.
--     max_age    seconds that it lasts after it was last sent (86,400: a day)
--     name       of the cookie ("session"); with "__Host-session" browsers make sure
--                that no other host of the same domain has set it (RFC 6265bis 4.1.3)
--     secure     whether it is sent over TLS only (true). On a machine where one develops
--                without TLS browsers do not keep such a cookie: there, false
--     path, domain, same_site   as res:cookie has them (http_response.lua)
--
-- What a visitor has he can send again: clear() makes his browser forget a cookie, it
-- does not make a copy of that cookie void before its time. And what must not be seen
-- twice, such as a sum that was spent, does not belong here.
--
-- It is sealed by AES-256-GCM. Each cookie has a key of its own, which HKDF (RFC 5869)
-- makes of the secret, the cookie's name, and random bytes that are sent along.
--
-- @module moonpool.middleware.session

local base64 = require "moonpool.base64"
local core = require "moonpool.core"
local json = require "moonpool.json"
local options = require "moonpool.options"

require "moonpool.http_request"  -- req:cookie
require "moonpool.http_response" -- res:cookie, res:before

local KINDS = { secret = "string table", max_age = "number", name = "string",
  secure = "boolean", same_site = "string", path = "string", domain = "string" }

local SHORTEST_SECRET = 32
local LONGEST_COOKIE = 4093 -- bytes that all browsers keep, of the whole field
local SALT, TAG, NONCE = 16, 16, ("\0"):rep(12)
local EXPIRY = ">I5" -- whole seconds since 1970

---------------------------------------------------------------------------------------
-- Sealing. OpenSSL through lua-luaossl: kept, in Debian, and all that is needed here.

local openssl = {}

local function load_openssl()
  for _, name in ipairs { "cipher", "hmac", "rand" } do
    openssl[name] = options.need("session", "openssl." .. name, "lua-luaossl")
  end
end

local function hmac(key, text)
  return openssl.hmac.new(key, "sha256"):final(text)
end

-- HKDF's two steps, extract and expand (RFC 5869 2), of which 32 bytes are wanted: what
-- luaossl has of it loses some memory with each call.
local function key_of(secret)
  return hmac("moonpool session 1", secret)
end

-- A key is used once, so that any nonce will do.
local function cookie_key(key, name, salt)
  return hmac(key, name .. salt .. "\1"), NONCE
end

local function new_cipher()
  return openssl.cipher.new "aes-256-gcm"
end

local function seal(self, text)
  local salt = openssl.rand.bytes(SALT)
  local cipher = new_cipher():encrypt(cookie_key(self.keys[1], self.name, salt))
  local sealed = cipher:final(text)
  return base64.url.encode(salt .. sealed .. cipher:getTag(TAG))
end

local function open_with(key, name, bytes)
  local cipher = new_cipher():decrypt(cookie_key(key, name, bytes:sub(1, SALT)))
  cipher:setTag(bytes:sub(-TAG))
  return (cipher:final(bytes:sub(SALT + 1, -TAG - 1)))
end

-- What one of the secrets has sealed, or nil.
local function open(self, value)
  local bytes = base64.url.decode(value)
  if not bytes or #bytes < SALT + TAG then return nil end
  for _, key in ipairs(self.keys) do
    local text = open_with(key, self.name, bytes)
    if text then return text end
  end
end

---------------------------------------------------------------------------------------
-- The table. Its metatable is its own, and knows what the values do not show.

local methods = {}

function methods:clear()
  for key in next, self do self[key] = nil end
end

function methods:renew()
  getmetatable(self).renewed = true
end

local function is_empty(session)
  return next(session) == nil
end

local function new_session(values)
  return setmetatable(values, { __index = methods, renewed = false })
end

local function is_renewed(session)
  local mt = getmetatable(session)
  return mt and mt.renewed
end
-- It raises of what JSON cannot say, and where in the session that is.
local function encode(session)
  if type(session) ~= "table" then error("req.session must be a table", 0) end
  local ok, text = pcall(json.encode, session)
  if not ok then error("the session cannot be kept: " .. text, 0) end
  return text
end

---------------------------------------------------------------------------------------
-- The cookie.

local function wrong(text)
  error("session: " .. text, 0)
end

local function keys_of(given)
  local keys = {}
  for i, secret in ipairs(type(given) == "table" and given or { given }) do
    if type(secret) ~= "string" or #secret < SHORTEST_SECRET then
      wrong "a secret must have 32 bytes at least, as from `openssl rand -hex 32`"
    end
    keys[i] = key_of(secret)
  end
  if #keys == 0 then wrong "there must be a secret" end
  return keys
end

-- The field that sets the cookie to nothing. Made of it once, on no response at all, all
-- that is wrong with the cookie's attributes is told at the beginning.
local function empty_field(self)
  local field
  core.http.res.cookie({ header = function(_, _, value) field = value end }, self.name,
    "", self.attributes)
  return field
end

local function attributes_of(wanted, max_age)
  return { path = wanted.path, domain = wanted.domain, max_age = max_age,
    secure = wanted.secure ~= false, same_site = wanted.same_site }
end

local function read_settings(given)
  local wanted = options.check("session", given, KINDS)
  local max_age = math.tointeger(wanted.max_age or 86400)
  if not max_age or max_age < 1 then wrong "max_age must be a number of whole seconds" end
  local self = { keys = keys_of(wanted.secret), name = wanted.name or "session",
    max_age = max_age, attributes = attributes_of(wanted, max_age),
    forgetting = attributes_of(wanted, 0) }
  self.room = LONGEST_COOKIE - #empty_field(self)
  return self
end

-- RFC 9111 7.3: caches that many share would give the cookie to all of them.
local function set_cookie(self, res, value, attributes)
  res:cookie(self.name, value, attributes)
  if not res.headers["Cache-Control"] then res:header("Cache-Control", "private") end
end

local function load(self, req)
  local value = req:cookie(self.name)
  local text = value and open(self, value)
  if not text then return {} end
  local expiry, at = EXPIRY:unpack(text)
  return expiry > core.time() and json.decode(text:sub(at)) or {}
end

local function save(self, res, text)
  local expiry = math.floor(core.time()) + self.max_age
  local value = seal(self, EXPIRY:pack(expiry) .. text)
  if #value > self.room then
    error(("the session is too long for a cookie: %d bytes of at most %d")
      :format(LONGEST_COOKIE - self.room + #value, LONGEST_COOKIE), 0)
  end
  set_cookie(self, res, value, self.attributes)
end

local function forget(self, res)
  set_cookie(self, res, "", self.forgetting)
end

-- Sends what has become of the session, if the visitor does not have it already.
local function write(self, res, state)
  local text = encode(state.session)
  if is_empty(state.session) then
    if not state.was_empty then forget(self, res) end
  elseif text ~= state.known or is_renewed(state.session) then
    save(self, res, text)
  end
  state.known = text
end

return function(given)
  load_openssl()
  local self = read_settings(given)
  return function(req, res, next)
    local session = new_session(load(self, req))
    local state = { session = session, was_empty = is_empty(session),
      known = encode(session) }
    req.session = session
    local finish = res:before(function()
      state.session = req.session or {}
      write(self, res, state)
    end)
    next()
    finish()
    if encode(state.session) ~= state.known then
      error("the session was changed after the response had begun: it is not kept", 0)
    end
  end
end
