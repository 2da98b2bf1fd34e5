--- Asks for a name and a password (RFC 7617). Only over TLS: they are sent as they are,
-- with every request.
--
--     app:use("/admin", basic_auth { users = { ada = "correct horse" } })
--     app:use(basic_auth { check = function(user, password) ... end })
--
-- Who has given good ones is in req.user. Everybody else is answered 401. Options, of
-- which users or check must be there:
--
--     users  name -> password. They are compared in a time that tells nothing of them.
--     check  a function of (user, password, req) that may wait: whether they are good,
--            or who it is in place of the name. For passwords that are kept hashed.
--     realm  what the client is shown ("Restricted")
--
-- @module moonpool.middleware.basic_auth

local base64 = require "moonpool.base64"
local options = require "moonpool.options"

local KINDS = { users = "table", check = "function", realm = "string" }

-- RFC 7617 2: a name has no colon, and neither has control characters.
local function credentials(req)
  local token = (req:header "Authorization" or ""):match "^[Bb][Aa][Ss][Ii][Cc] +(%S+)$"
  local text = token and base64.decode(token)
  if not text or text:find "%c" then return nil end
  return text:match "^([^:]*):(.*)$"
end

-- What is compared are digests under a key that nobody knows: how far two of them agree
-- says nothing of what they are made of. For a name that is not there it takes as long.
local function checker(users)
  local hmac = options.need("basic_auth", "openssl.hmac", "lua-luaossl")
  local key = options.need("basic_auth", "openssl.rand", "lua-luaossl").bytes(32)
  local function digest(text) return hmac.new(key, "sha256"):final(text) end
  local digests, nobody = {}, digest(key)
  for user, password in pairs(users) do
    if type(user) ~= "string" or type(password) ~= "string" then
      error("basic_auth: users must be names with their passwords, strings", 0)
    end
    digests[user] = digest(password)
  end
  return function(user, password)
    return digest(password) == (digests[user] or nobody)
  end
end

-- RFC 9110 5.6.4
local function quoted(text)
  if text:find "%c" then error("basic_auth: control characters in the realm", 0) end
  return '"' .. text:gsub('[\\"]', "\\%0") .. '"'
end

return function(given)
  local wanted = options.check("basic_auth", given, KINDS)
  if (wanted.users == nil) == (wanted.check == nil) then
    error("basic_auth: there must be either users or check", 2)
  end
  local check = wanted.check or checker(wanted.users)
  local challenge = ('Basic realm=%s, charset="UTF-8"')
    :format(quoted(wanted.realm or "Restricted"))
  return function(req, res, next)
    local user, password = credentials(req)
    local who = user and check(user, password, req)
    if not who then
      return res:status(401):header("WWW-Authenticate", challenge):send "Unauthorized\n"
    end
    req.user = who == true and user or who
    next()
  end
end
