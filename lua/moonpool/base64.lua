--- Base64 in its two alphabets (RFC 4648 4 and 5): `base64.encode`, `base64.decode`, and
-- the same in `base64.url`, which is written without padding.
--
-- @module moonpool.base64

local COMMON = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

local function encoder(alphabet, pad)
  local function character(n) return alphabet:sub(n + 1, n + 1) end
  local function encode_three(three)
    local a, b, c = three:byte(1, 3)
    local n = a << 16 | (b or 0) << 8 | (c or 0)
    local four = character(n >> 18) .. character(n >> 12 & 63) .. character(n >> 6 & 63)
      .. character(n & 63)
    return four:sub(1, #three + 1) .. pad:rep(3 - #three)
  end
  return function(bytes)
    return (bytes:gsub("..?.?", encode_three))
  end
end

local function decoder(alphabet)
  local values = {}
  for i = 1, #alphabet do values[alphabet:byte(i)] = i - 1 end
  local function decode_four(four)
    local n = 0
    for i = 1, 4 do n = n << 6 | (values[four:byte(i)] or 0) end
    return string.pack(">I3", n):sub(1, #four - 1)
  end
  local only = "^[" .. alphabet:gsub("%-", "%%-") .. "]*$"
  return function(text)
    local plain = text:gsub("==?$", "")
    if #plain % 4 == 1 or not plain:find(only) then return nil end
    return (plain:gsub("..?.?.?", decode_four))
  end
end

-- encode(bytes) -> text; decode(text) -> bytes, or nil of what is not base64. Padding may
-- be left out.
local function codec(last, pad)
  local alphabet = COMMON .. last
  return { encode = encoder(alphabet, pad), decode = decoder(alphabet) }
end

local plain = codec("+/", "=")
return { encode = plain.encode, decode = plain.decode, url = codec("-_", "") }
