--- More that responses can do: res:html(text), res:redirect "/login" and the like. These
-- are methods of every response, on top of those in runtime/lua_res.h.
--
-- @module moonpool.http_response

local core = require "moonpool.core"
local http_path = require "moonpool.http_path"
local mime_types = require "moonpool.mime_types"
local json = require "moonpool.json"

local res = core.http.res
local default_type = res.default_type

-- Sends text as that type, unless the handler has said another.
local function send_as(self, kind, text)
  return default_type(self, kind):send(text)
end

--- Sends plain text, in UTF-8.
-- @return as res:send does
function res:text(text)
  return send_as(self, "text/plain; charset=utf-8", text)
end

--- Sends HTML, in UTF-8.
function res:html(text)
  return send_as(self, "text/html; charset=utf-8", text)
end

--- Sends a value as JSON (json.lua). What JSON cannot say raises, and nothing is sent.
function res:json(value)
  return send_as(self, "application/json", json.encode(value))
end

-- RFC 9110 15.4: those that name another place.
local redirects = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

-- What a URI has beside letters and digits (RFC 3986 2), "%" included: an encoded target
-- stays as it is. All else is encoded, so that any path of a file can be a target.
local function uri(text)
  return (text:gsub("[^%w!#$&'()*+,/:;=?@%[%]_.~%%-]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

--- Sends the client elsewhere.
-- @param target a path or an absolute URI. It is the handler's to check what comes from
-- a client: "//host" and "https://host" lead to other sites.
-- @param status (optional) 302; 303 after a POST makes a GET of it, 307 and 308 keep the
-- method, 301 and 308 are for good (RFC 9110 15.4)
function res:redirect(target, status)
  status = status or 302
  if not redirects[status] then error(status .. " is no status of a redirect", 2) end
  self.headers.Location = uri(target)
  return self:status(status):send()
end

--- Sends a short page that names the status, and a reason for people.
-- @param status 400 to 599
-- @param reason (optional) a sentence; it is seen by the client
function res:error(status, reason)
  if status < 400 then error(status .. " is no status of an error", 2) end
  return self:status(status):text((reason or core.http.phrase(status)) .. "\n")
end

-- What sends a response, or fixes how it is sent.
local SENDERS = { "length", "send", "write", "sendfile", "upgrade", "detach" }

--- Has fn(res) called once, before whatever comes first that sends this response: its
-- fields can still be changed then. Of several the last comes first. For middleware; a
-- handler may send nothing at all, so after next() it calls what this returns.
-- @return a function that calls fn(res) unless it has been called
function res:before(fn)
  local function once()
    local call = fn
    fn = nil
    if call then call(self) end
  end
  for _, name in ipairs(SENDERS) do
    local send = self[name]
    self[name] = function(...)
      once()
      return send(...)
    end
  end
  return once
end

-- Cookies (RFC 6265bis) ---------------------------------------------------------------

-- cookie-octet (4.1.1) and, for names, a token.
local OCTETS, TOKEN = "^[!#-+--:<-[%]^-~]*$", "^[%w!#$%%&'*+.^_`|~-]+$"
local TEXT = "^[^%c;]*$" -- of an attribute

local same_site = { lax = "Lax", strict = "Strict", none = "None" }

local function attribute(name, value)
  if type(value) ~= "string" or not value:find(TEXT) then
    error(("a cookie's %s cannot be %s"):format(name, tostring(value)), 4)
  end
  return ("; %s=%s"):format(name, value)
end

-- Browsers drop these without a word (4.1.3, 5.7): better to hear of it here.
local function check_prefix(name, path, domain, secure)
  local prefix = name:lower():match "^__%a+%-"
  if (prefix == "__secure-" or prefix == "__host-") and not secure then
    error(name .. " must be secure (its prefix says so)", 3)
  end
  if prefix == "__host-" and (domain or path ~= "/") then
    error(name .. " must have the path / and no domain (its prefix says so)", 3)
  end
end

local function lifetime(o)
  if o.max_age == nil then return "" end
  local seconds = math.tointeger(o.max_age)
  if not seconds then error("a cookie's max_age is a whole number of seconds", 4) end
  return "; Max-Age=" .. seconds
end

local function attributes(name, o)
  local path, secure, site = o.path or "/", o.secure, same_site[o.same_site or "lax"]
  if not site then error('same_site is "lax", "strict" or "none"', 3) end
  if site == "None" and not secure then error("same_site none must be secure", 3) end
  check_prefix(name, path, o.domain, secure)
  return attribute("Path", path)
    .. (o.domain and attribute("Domain", o.domain) or "")
    .. lifetime(o)
    .. (secure and "; Secure" or "")
    .. (o.http_only == false and "" or "; HttpOnly")
    .. "; SameSite=" .. site
end

--- Sets a cookie. By default it is for the whole site, for as long as the browser runs,
-- not for scripts (HttpOnly), and not sent along by other sites' forms (SameSite=Lax).
-- @param value of printable ASCII without space, quote, comma, semicolon and backslash
-- @param options (optional) max_age in seconds (0 or less removes the cookie), path,
-- domain, secure = true (over TLS only), http_only = false, same_site = "lax", "strict"
-- or "none"
-- @return res
function res:cookie(name, value, options)
  if not name:find(TOKEN) then error("not a cookie's name: " .. name, 2) end
  if not value:find(OCTETS) then
    error("not a cookie's value (RFC 6265 4.1.1); encode it first", 2)
  end
  local rest = attributes(name, options or {})
  return self:header("Set-Cookie", name .. "=" .. value .. rest)
end

-- Files ---------------------------------------------------------------------------------

-- RFC 6266 4.3, 8187 3.2: the name in ASCII for those who know no better, and all of it.
local function disposition(name)
  local plain = name:gsub('[%c"\\%%\x80-\xff]', "_")
  return ("attachment; filename=\"%s\"; filename*=UTF-8''%s")
    :format(plain, http_path.encode(name))
end

--- Sends a file, with a type by its name unless the handler has said one.
-- @param path as res:sendfile has it; a descriptor needs a name
-- @param options (optional) name = "report.pdf" makes a download of it, with that name
-- @return as res:sendfile does: nil, message, code if it cannot be sent, and nothing was
function res:file(path, options)
  local headers, name = self.headers, options and options.name
  local kind, before = headers["Content-Type"], headers["Content-Disposition"]
  headers["Content-Type"] = kind or mime_types.of(name or path)
  if name then headers["Content-Disposition"] = disposition(name) end
  local ok, message, code = self:sendfile(path)
  if not ok and not self.sent then
    headers["Content-Type"], headers["Content-Disposition"] = kind, before
  end
  return ok, message, code
end
