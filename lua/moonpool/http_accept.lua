--- Which of several codings of a content its client wants (RFC 9110 12.5.3).
--
-- @module moonpool.http_accept

-- ";q=0.5" -> 0.5 (12.4.2). What is malformed is not wanted.
local function read_weight(text)
  if text == "" then return 1 end
  local q = tonumber(text:match "^;%s*[qQ]=([01]%f[%D]%.?%d*)%s*$")
  return q and q <= 1 and q or 0
end

-- By coding.
local function weights_of(text)
  local weights = {}
  for coding, rest in text:gmatch "([^%s;,]+)%s*([^,]*)" do
    coding = coding:lower()
    if coding == "x-gzip" then coding = "gzip" end -- 8.4.1.3
    weights[coding] = read_weight(rest)
  end
  return weights
end

-- Behind those that are wanted as much.
local function insert(wanted, coding, weights)
  local place = #wanted + 1
  while place > 1 and weights[wanted[place - 1]] < weights[coding] do
    place = place - 1
  end
  table.insert(wanted, place, coding)
end

--- Puts the codings that a client accepts into the order in which it wants them.
-- @param text the Accept-Encoding field, or nil
-- @param offered a list of names in lower case, the server's favourite first
-- @return a list of those that are to be preferred to an uncoded content; it is empty
-- also if the client accepts nothing at all: it then gets what there is; and whether it
-- refuses an uncoded content
local function codings(text, offered)
  local wanted = {}
  if not text then return wanted, false end
  local weights = weights_of(text)
  local rest = weights["*"] or 0
  local identity = weights.identity or rest -- not named: accepted, but not preferred
  for _, coding in ipairs(offered) do
    weights[coding] = weights[coding] or rest
    if weights[coding] > 0 and weights[coding] >= identity then
      insert(wanted, coding, weights)
    end
  end
  return wanted, (weights.identity or weights["*"]) == 0
end

return { codings = codings }
