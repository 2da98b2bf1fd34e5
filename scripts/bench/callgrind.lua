-- Instructions per request, counted by valgrind's callgrind: the same on every machine
-- that runs the same programs, however busy it is.
--
--     callgrind.count({ lua = "lua", lib = "build/lib", apps = "scripts/bench/apps" },
--       case) -> { instructions =, calls =, functions = { [name] = instructions } }
--     callgrind.cases()             the cases for which there is that
--
-- Counted is what happens inside of ev_run (see in_process.lua), in all libraries. Two
-- runs of different length are compared, so that beginning and end are in neither. The
-- C library chooses its string functions by what the processor has; here it is told of
-- none, so it takes those that every x86-64 has. Left out is strcmp(3): Lua finds a C
-- string's Lua string by the address of the former (luaS_new), so how often it compares
-- depends on where things happen to be in memory.

local all_cases = require "bench.cases"

local CLIENTS = 64 -- as in in_process.lua
local CLOCKS = { clock_gettime = true, time_syscall = true } -- only under valgrind
local BY_LAYOUT = "^_*strcmp"
local ROUNDS = { 20, 100 } -- a garbage collection more or less is then 0.3 %
local PLAIN = "glibc.cpu.hwcaps=-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,"
  .. "-SSE4_2,-SSE4_1,-SSSE3"

local function run(command)
  local pipe <close> = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read "a"
  local ok = pipe:close()
  assert(ok, text)
  return text
end

local function environment(tree)
  return ("env -u LD_PRELOAD LUA_PATH_5_4='%s/?.lua;%s/?/init.lua;scripts/?.lua;;' "
    .. "LUA_CPATH_5_4='%s/?.so;;' GLIBC_TUNABLES=%s"):format(tree.lua, tree.lua,
    tree.lib, PLAIN)
end

-- A function's name without what tells its copies apart. One that has no name has its
-- address and its library.
local function name_of(name, object)
  local address = name:match "^0x0*(%x+)"
  if address then return object:match "[^/]*$" .. "+" .. address end
  return name:match "^[^.'@]*"
end

-- "fn=(12) name" where a name is new, then "fn=(12)".
local function resolve(names, text)
  local id, name = text:match "^(%b())%s*(.*)$"
  if name ~= "" then names[id] = name end
  return names[id]
end

--- Instructions and system calls of each function, without what it calls, in a file of
-- callgrind's (callgrind manual, "Callgrind Format Specification").
local function read_profile(lines)
  local objects, functions, object, fn = {}, {}, "", ""
  local instructions, calls, is_call = {}, {}, false
  for line in lines do
    local key, value = line:match "^(%l+)=(.*)$"
    if key == "ob" or key == "cob" then
      local name = resolve(objects, value)
      object = key == "ob" and name or object
    elseif key == "fn" or key == "cfn" then
      local name = resolve(functions, value)
      fn = key == "fn" and name_of(name, object) or fn
    elseif key == "calls" then
      is_call = true -- the next line is what the called function cost in all
    else
      local n, system = line:match "^[%d+*-]%S* (%d+) ?(%d*)"
      if n and not is_call then
        instructions[fn] = (instructions[fn] or 0) + tonumber(n)
        calls[fn] = (calls[fn] or 0) + (tonumber(system) or 0)
      end
      is_call = is_call and not n
    end
  end
  return { functions = instructions, calls = calls }
end

-- Everything that a run of so many rounds costs.
local function measure(tree, case, rounds)
  local path = os.tmpname()
  run(("%s valgrind --tool=callgrind --callgrind-out-file=%s --collect-systime=yes "
    .. "--toggle-collect=ev_run lua5.4 scripts/bench/in_process.lua %s %s %d"):format(
    environment(tree), path, tree.apps, case.name, rounds))
  local profile = read_profile(io.lines(path))
  os.remove(path)
  return profile
end

-- The longer run's costs less the shorter one's, for each request.
local function difference(long, short, requests)
  local each = {}
  for name, n in pairs(long) do each[name] = (n - (short[name] or 0)) / requests end
  return each
end

--- What a request costs in instructions and system calls. (valgrind counts the latter
-- outside of ev_run too; a function that makes one there has no instructions.)
local function count(tree, case)
  local short, long = measure(tree, case, ROUNDS[1]), measure(tree, case, ROUNDS[2])
  local requests = (ROUNDS[2] - ROUNDS[1]) * CLIENTS * (case.pipeline or 1)
  local functions = difference(long.functions, short.functions, requests)
  local calls = difference(long.calls, short.calls, requests)
  local result = { functions = functions, instructions = 0, calls = 0 }
  for name, n in pairs(functions) do
    if name:find(BY_LAYOUT) then
      functions[name] = nil
    else
      result.instructions = result.instructions + n
      if n > 0 and not CLOCKS[name] then result.calls = result.calls + calls[name] end
    end
  end
  return result
end

--- The cases of which that can be said: those of the short mode whose clients stay.
local function cases()
  local list = {}
  for _, case in ipairs(all_cases) do
    if case.quick and not case.closes then list[#list + 1] = case end
  end
  return list
end

return { cases = cases, count = count, read_profile = read_profile }
