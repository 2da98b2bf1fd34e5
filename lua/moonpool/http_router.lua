--- Finds what was added under the pattern that a path fits. It knows paths, nothing else.
--
--     local router = require("moonpool.http_router").new()
--     router:at("/users/:id").get = show
--     local found, values = router:find "/users/7"    -- { get = show }, { "7" }
--
-- Patterns are a tree of segments: a step costs one look-up, however many patterns there
-- are. A segment that is static wins over a parameter, a parameter over the rest, and
-- where that leads nowhere the next is tried. Each node is seen once at most, so a path
-- cannot be made that costs more than the patterns that begin like it.
--
-- @module moonpool.http_router

local decode = require("moonpool.http_path").decode

local methods = {}
local mt = { __name = "moonpool.http.router", __index = methods }

-- A node has .static[segment] and .param, which are nodes, .found, the table of the
-- pattern that ends here, and .rest, the table of the one that goes on with "*name".
local function new_node()
  return { static = {} }
end

--- Checks a pattern, which is written decoded. ":name" stands for one segment that is not
-- empty, a final "*name" for all the rest, which may be.
-- @return the names in it, in their order; raises what is wrong
local function names_of(pattern)
  assert(type(pattern) == "string" and pattern:sub(1, 1) == "/", 'a path begins with "/"')
  assert(not pattern:find "/%*[%a_][%w_]*/",
    "nothing may follow a *name: it takes the rest")
  local names = {}
  for name in pattern:gmatch "/[:*]([%a_][%w_]*)%f[/\0]" do names[#names + 1] = name end
  return names
end

local function step(node, segment)
  if segment:find "^:[%a_][%w_]*$" then
    node.param = node.param or new_node()
    return node.param
  end
  node.static[segment] = node.static[segment] or new_node()
  return node.static[segment]
end

--- The table of a pattern, to be filled by the caller: find returns the same one. The
-- names of parameters make no difference here.
function methods:at(pattern)
  local node, names = self.root, names_of(pattern)
  for segment in pattern:sub(2):gmatch "[^/]*" do
    if segment:find "^%*[%a_][%w_]*$" then
      node.rest = node.rest or {}
      return node.rest
    end
    node = step(node, segment)
  end
  node.found = node.found or {}
  if #names == 0 then self.exact[pattern] = node.found end
  return node.found
end

local function same(text)
  return text
end

-- The part of a path that begins at `at`, segment by segment; values collects what the
-- names stand for, still encoded. The number of them is the second result. plain makes a
-- segment what patterns call it: decode, or same where nothing is encoded.
local function find(node, path, at, values, count, plain)
  if at > #path + 1 then return node.found, count end
  local stop = path:find("/", at, true) or #path + 1
  local segment = path:sub(at, stop - 1)
  local static, found, n = node.static[plain(segment)], nil, nil
  if static then found, n = find(static, path, stop + 1, values, count, plain) end
  if not found and node.param and segment ~= "" then
    values[count + 1] = segment
    found, n = find(node.param, path, stop + 1, values, count + 1, plain)
  end
  if not found and node.rest then
    values[count + 1] = path:sub(at)
    found, n = node.rest, count + 1
  end
  return found, n
end

--- The table of the best pattern that fits an encoded path.
-- @return the table and what its names stand for, decoded, in their order (nil where
-- they need no look); or nil
function methods:find(path)
  local plain = path:find("%", 1, true) and decode or same
  local exact = self.exact[path]
  if exact and plain == same then return exact end
  if path:byte() ~= 0x2F then return nil end -- "/"
  local values = {}
  local found, count = find(self.root, path, 2, values, 0, plain)
  if not found then return nil end
  for i = #values, count + 1, -1 do values[i] = nil end -- of ways that led nowhere
  for i = 1, count do values[i] = plain(values[i]) end
  return found, values
end

--- A router without patterns.
local function new()
  return setmetatable({ root = new_node(), exact = {} }, mt)
end

return { new = new, names_of = names_of }
