--- Lets pages of other origins use this one's resources (Fetch, "CORS protocol").
--
--     app:use("/api", cors { origins = "https://shop.example", credentials = true })
--
--     origins      who may: an origin, a list of them, "*" for everybody (the default),
--                  or a function of (origin, req) that says whether this one may
--     methods      other methods than GET, HEAD and POST that may be used, a list (PUT,
--                  PATCH, DELETE); "*" for all
--     headers      fields that requests may have beside the usual ones, a list ({}); "*"
--                  for all but Authorization
--     expose       fields of responses that pages may read beside the usual ones (none)
--     credentials  whether cookies and the like may come with it (false); then nothing
--                  may be "*", which for browsers is then a mere name
--     max_age      seconds for which a browser need not ask again (600)
--
-- An origin that may not is answered as if there were no such thing as CORS: it is the
-- browser that keeps the answer from the page. A failure that no on_error answers is one
-- that pages cannot read.
--
-- @module moonpool.middleware.cors

local options = require "moonpool.options"

local KINDS = { origins = "string table function", methods = "string table",
  headers = "string table", expose = "string table", credentials = "boolean",
  max_age = "number" }

local METHODS = { "PUT", "PATCH", "DELETE" }

local function wrong(text, ...)
  error("cors: " .. text:format(...), 0)
end

-- RFC 6454 6.2. With a path, be it "/", or an upper-case letter it would match nobody.
local function check_origin(origin)
  if type(origin) ~= "string" or origin ~= "null"
    and not origin:find "^[a-z][a-z0-9+.-]*://[^/%u%s,*]+$" then
    wrong("%s is not an origin, such as https://shop.example:8443", origin)
  end
end

-- A function of (origin, req): what Access-Control-Allow-Origin says, or nil.
local function chooser(origins)
  if origins == "*" then return function() return "*" end end
  if type(origins) == "function" then
    return function(origin, req) return origins(origin, req) and origin or nil end
  end
  local known = {}
  for _, origin in ipairs(type(origins) == "table" and origins or { origins }) do
    check_origin(origin)
    known[origin] = origin
  end
  return function(origin) return known[origin] end
end

local function list(names)
  return type(names) == "table" and table.concat(names, ", ") or names
end

local function check_credentials(wanted)
  for _, name in ipairs { "origins", "methods", "headers", "expose" } do
    local value = wanted[name]
    if (value == nil and name == "origins") or list(value) == "*" then
      wrong("with credentials, %s cannot be \"*\": name them", name)
    end
  end
end

-- What is the same in all answers to origins that may, by the kind of answer.
local function fields_of(wanted)
  local credentials = wanted.credentials and "true" or nil
  return {
    ["Access-Control-Allow-Credentials"] = credentials,
    ["Access-Control-Expose-Headers"] = list(wanted.expose),
  }, {
    ["Access-Control-Allow-Credentials"] = credentials,
    ["Access-Control-Allow-Methods"] = list(wanted.methods or METHODS),
    ["Access-Control-Allow-Headers"] = list(wanted.headers),
    ["Access-Control-Max-Age"] = ("%d"):format(wanted.max_age or 600),
  }
end

local function is_preflight(req)
  return req.method == "OPTIONS" and req:header "Access-Control-Request-Method" ~= nil
end

return function(given)
  local wanted = options.check("cors", given, KINDS)
  if wanted.credentials then check_credentials(wanted) end
  local origins = wanted.origins or "*"
  local allow = chooser(origins)
  local plain, preflight = fields_of(wanted)
  return function(req, res, next)
    local origin = req:header "Origin"
    local allowed = origin and allow(origin, req)
    if origins ~= "*" then res:header("Vary", "Origin") end
    local asks = origin and is_preflight(req)
    if allowed then
      res:header("Access-Control-Allow-Origin", allowed)
      for name, value in pairs(asks and preflight or plain) do res:header(name, value) end
    end
    if asks then return res:status(204):send() end
    next()
  end
end
