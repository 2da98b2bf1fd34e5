--- Understands the command line and the config file, and says all that is wrong with it.
--
-- One schema says what there is: flags, keys of the file, defaults, checks and help come
-- from it. A file is Lua that returns a table, of one pool or of several:
--
--    return { app = "app.lua", listen = "127.0.0.1:8080", workers = 2 }
--    return { user = "www-data", pools = { web = { app = "web.lua" }, chat = { ... } } }
--
-- @module moonpool.config

local source_lines = require "moonpool.config_lines"

local config = {}

---------------------------------------------------------------------------------------
-- The schema. A "global" key stands at the top of a file, a "pool" one in a pool, which
-- in a file of one pool is the top too; "single" and "several" keys are for one of these
-- forms, "command" ones for the command line. What has a help has a flag.
-- A default is what a user could write; `inherited` replaces it where systemd passes
-- sockets; `absent` is the value of a key that has no default to write.

local MAX_INT = 0x7fffffff

local schema = {
  { name = "config", scope = "command", type = "file", short = "c", value = "FILE",
    help = "read the pools from this Lua file" },

  { name = "user", scope = "global", type = "account", value = "NAME", absent = "",
    help = "run as this user once everything is bound" },
  { name = "group", scope = "global", type = "account", value = "NAME", absent = "",
    help = "run as this group" },
  { name = "drain", scope = "global", type = "seconds", value = "SECONDS", default = 10,
    help = "how long a stop waits for connections" },
  { name = "log_level", scope = "global", type = "choice", value = "LEVEL",
    default = "info", choices = { "debug", "info", "warn", "error" },
    help = "log no less than this: debug, info, warn or error" },

  { name = "control", scope = "global", type = "socket", value = "PATH", absent = "",
    help = "a unix socket for moonpool reload and upgrade, for this user and root only" },

  { name = "pools", scope = "several", type = "pools" },

  { name = "app", scope = "pool", type = "script", required = true },
  { name = "name", scope = "single", type = "name", value = "NAME", max = 32,
    help = "the pool in logs and process titles (default as the app)" },
  { name = "listen", scope = "pool", type = "listen", short = "l", value = "ADDRESS",
    default = "127.0.0.1:8080", inherited = "systemd", many = "list",
    help = "host:port, :port, [v6]:port, unix:/path, unix:@name, fd:N, systemd (the "
      .. "default where it passes sockets) or systemd:NAME; may be repeated" },
  { name = "workers", scope = "pool", type = "workers", short = "w", value = "N",
    default = "auto", min = 1, max = 256,
    help = "how many processes; auto is one for each core" },
  { name = "concurrency", scope = "pool", type = "whole", value = "N",
    default = 10000, min = 1, max = 1000000,
    help = "how many connections a worker holds at a time" },
  { name = "policy", scope = "pool", type = "choice", value = "POLICY",
    default = "least_loaded", choices = { "least_loaded", "round_robin", "first_free" },
    help = "which worker is next: least_loaded, round_robin or first_free" },
  { name = "env", scope = "pool", type = "env", value = "KEY=VALUE", default = {},
    many = "map", help = "set this in the app's environment; may be repeated" },
  { name = "backlog", scope = "pool", type = "whole", value = "N",
    default = 4096, min = 1, max = 65535,
    help = "how many connections may wait in the kernel" },
  { name = "socket_mode", scope = "pool", type = "mode", value = "MODE", absent = 0,
    help = "permissions of a unix socket, in octal (default by umask)" },
  { name = "socket_owner", scope = "pool", type = "owner", value = "OWNER", absent = "",
    help = "owner of a unix socket: user, user:group or :group" },
  { name = "idle_timeout", scope = "pool", type = "seconds", value = "SECONDS",
    default = 0, help = "close connections silent for so long, 0 for never" },
  { name = "handler_timeout", scope = "pool", type = "seconds", value = "SECONDS",
    default = 10,
    help = "interrupt a handler that runs for so long without waiting, 0 for never" },
  { name = "stuck_timeout", scope = "pool", type = "seconds", value = "SECONDS",
    help = "kill a worker that hangs in C code for so long, 0 for never (default half as "
      .. "long again as handler_timeout, and a second)" },
  { name = "load_timeout", scope = "pool", type = "seconds", value = "SECONDS",
    default = 60,
    help = "kill a worker that loads the app for so long, 0 for never" },
  { name = "read_limit", scope = "pool", type = "size", value = "BYTES",
    default = "1m", min = 1, max = MAX_INT,
    help = "the most that one read returns, so the longest line" },
  { name = "write_limit", scope = "pool", type = "size", value = "BYTES",
    default = "64k", min = 1, max = MAX_INT,
    help = "unsent output beyond which a writer waits" },
  { name = "memory_limit", scope = "pool", type = "size", value = "BYTES",
    default = 0, min = 0, max = 1 << 40,
    help = "the most that Lua may have in use in a worker, 0 for no limit" },
  { name = "memory_soft_limit", scope = "pool", type = "size", value = "BYTES",
    default = 0, min = 0, max = 1 << 40,
    help = "replace a worker whose Lua has more in use, 0 for never" },
  { name = "state_limit", scope = "pool", type = "size", value = "BYTES",
    default = "64k", min = 1, max = MAX_INT,
    help = "the most that the state of a checkpoint may have" },
  { name = "max_requests", scope = "pool", type = "whole", value = "N",
    default = 0, min = 0, max = MAX_INT,
    help = "replace a worker after so many requests and connections, or up to a tenth "
      .. "more; 0 for never" },
  { name = "survive", scope = "pool", type = "switch", default = false,
    help = "connections outlive the death of their worker: others go on with them" },
  { name = "dev", scope = "pool", type = "switch", default = false,
    help = "for development: an error is answered with its traceback and the code" },
}

-- The sets of scopes that are read together.
local in_command = { command = true, global = true }
local in_global = { global = true }
local in_pool = { pool = true }
local in_single = { pool = true, single = true }
local in_several = { global = true, several = true }
local in_file = { global = true, pool = true, single = true, several = true }

local function flag_of(name)
  return "--" .. name:gsub("_", "-")
end

local by_name, by_flag, flags = {}, {}, {}

for _, key in ipairs(schema) do
  by_name[key.name] = key
  if key.short then by_flag["-" .. key.short] = key end
  if key.help then
    flags[#flags + 1] = flag_of(key.name)
    by_flag[flags[#flags]] = key
  end
end

---------------------------------------------------------------------------------------
-- Small things.

local function matches(value, pattern)
  return type(value) == "string" and value:match(pattern)
end

-- A value as a message shows it.
local function show(value)
  local kind = type(value)
  if kind == "table" or kind == "function" then return "a " .. kind end
  return source_lines.quoted(value)
end

local function sorted_keys(t)
  local keys = {}
  for key in next, t do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  return keys
end

-- Leaves ".." alone: behind a symbolic link only the kernel knows what that is.
local function absolute(path, base)
  if path:sub(1, 1) ~= "/" then path = base .. "/" .. path end
  local n
  repeat path, n = path:gsub("/%.?/", "/") until n == 0
  return path
end

-- The text of a file, or nil and a sentence that names it.
local function contents(path)
  local file <close>, why = io.open(path)
  if not file then return nil, why end
  local text, fault = file:read("a")
  return text, fault and path .. ": " .. fault
end

-- Levenshtein's: how many characters to add, drop or change.
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local change = diagonal + (a:byte(i) == b:byte(j) and 0 or 1)
      diagonal = row[j]
      row[j] = math.min(change, row[j] + 1, row[j - 1] + 1)
    end
  end
  return row[#b]
end

-- What to say of a word that is none of known: the nearest of them, or all.
local function unknown(kind, word, known)
  local best, least = nil, (#word + 2) // 3 + 1
  for _, name in ipairs(known) do
    local d = distance(word, name)
    if d < least then best, least = name, d end
  end
  if best then return ('unknown %s; did you mean "%s"?'):format(kind, best) end
  return ("unknown %s; there are %s"):format(kind, table.concat(known, ", "))
end

---------------------------------------------------------------------------------------
-- A spot is where a value was written: "--workers", or "pools.lua:7: pools.web.workers".
-- Reporting to it is how anything fails. A child inherits what it has not itself: without
-- a line of its own it has that of the table around it.

local spot = {}
spot.__index = spot

function spot:child(key)
  local path = self.join(self.path, key)
  return setmetatable({ path = path, line = self.lines[path] }, { __index = self })
end

function spot:problem(text)
  if self.path ~= "" then text = self.path .. ": " .. text end
  if self.line then text = self.line .. ": " .. text end
  if self.file then text = self.file .. (self.line and ":" or ": ") .. text end
  local order = #self.problems + 1
  self.problems[order] = { line = self.line or 0, order = order, text = text }
end

function spot:wrong(expected, value)
  self:problem(("must be %s, is %s"):format(expected, show(value)))
end

-- All problems as one text, in the order of their lines.
local function report(problems)
  table.sort(problems, function(a, b)
    if a.line ~= b.line then return a.line < b.line end
    return a.order < b.order
  end)
  local texts = {}
  for i, problem in ipairs(problems) do texts[i] = problem.text end
  return table.concat(texts, "\n")
end

---------------------------------------------------------------------------------------
-- Types. Each takes what was written (any Lua value in a file, a string in a flag), its
-- entry in the schema and its spot. It returns the canonical value, or reports and
-- returns nil. Numbers may be strings in a file too: os.getenv returns nothing else.

local types = {}

local plain = { [""] = 1 }
-- Floats: they do not wrap around.
local bytes = { [""] = 1, k = 2.0 ^ 10, m = 2.0 ^ 20, g = 2.0 ^ 30 }
local times = { [""] = 1, ms = 1 / 1000, s = 1, m = 60.0 }

-- A number, or a string of digits and one of units; an integer wherever it can be one.
local function amount(value, units)
  if type(value) == "string" then
    local digits, unit = value:lower():match("^([%d.]+)(%a*)$")
    local n = units[unit] and tonumber(digits)
    value = n and n * units[unit]
  end
  return type(value) == "number" and (math.tointeger(value) or value) or nil
end

local function whole(units, expected)
  return function(value, key, at)
    local n = amount(value, units)
    if math.type(n) == "integer" and n >= key.min and n <= key.max then return n end
    at:wrong(expected:format(key.min, key.max), value)
  end
end

types.whole = whole(plain, "a whole number from %d to %d")
types.size = whole(bytes, 'bytes from %d to %d (as 65536, "64k" or "1m")')
local count = whole(plain, '"auto" or a whole number from %d to %d')

function types.workers(value, key, at)
  return value == "auto" and math.min(at.context.cores, key.max) or count(value, key, at)
end

function types.seconds(value, _, at)
  local n = amount(value, times)
  if n and n >= 0 and n <= MAX_INT then return n end
  at:wrong('seconds from 0 to 2147483647 (as 30, 2.5, "500ms", "30s" or "5m")', value)
end

function types.choice(value, key, at)
  local wanted = type(value) == "string" and value:gsub("%-", "_")
  for _, choice in ipairs(key.choices) do
    if choice == wanted then return choice end
  end
  at:wrong("one of " .. table.concat(key.choices, ", "), value)
end

function types.switch(value, _, at)
  if type(value) == "boolean" then return value end
  if value == "true" or value == "false" then return value == "true" end
  at:wrong("true or false", value)
end

function types.mode(value, _, at)
  local octal = matches(value, "^0*([0-7][0-7]?[0-7]?)$")
  local mode = octal and tonumber(octal, 8) or value
  if math.type(mode) == "integer" and mode >= 0 and mode <= 511 then return mode end
  at:wrong('an octal string up to "0777" or a whole number from 0 to 511', value)
end

-- A string that fits one of the patterns.
local function spelled(expected, ...)
  local patterns = { ... }
  return function(value, key, at)
    for _, pattern in ipairs(patterns) do
      if matches(value, pattern) and #value <= (key.max or #value) then return value end
    end
    at:wrong(expected, value)
  end
end

types.name = spelled('a name of 1 to 32 letters, digits, "_", "." or "-"', "^[%w_.-]+$")
types.account = spelled("the name of an account", "^[^%s%c:]+$")
types.owner = spelled('"user", "user:group" or ":group"',
  "^:?[^%s%c:]+$", "^[^%s%c:]+:[^%s%c:]+$")

function types.file(value, _, at)
  if not matches(value, "^[^\0]+$") then return at:wrong("the path of a file", value) end
  local path = absolute(value, at.base)
  local source, why = contents(path)
  if source then return path end
  at:problem("cannot open " .. why)
end

function types.socket(value, _, at)
  local path = matches(value, "^[^\0]+$") and absolute(value, at.base)
  if path and #path <= 107 then return path end
  at:wrong("the path of a unix socket, up to 107 bytes", value)
end

function types.script(value, key, at)
  local path = types.file(value, key, at)
  if not path then return nil end
  local chunk, fault = loadfile(path, "t")
  if chunk then return path end
  at:problem("cannot load " .. fault)
end

local prefixed = {} -- by what stands before the first colon: canonical, or nil

function prefixed.unix(rest, base)
  if rest:find("%c") or rest == "" or rest == "@" then return nil end
  local abstract = rest:sub(1, 1) == "@"
  local path = abstract and rest or absolute(rest, base)
  return #path <= (abstract and 108 or 107) and "unix:" .. path or nil
end

function prefixed.fd(rest)
  local fd = tonumber(rest:match("^%d+$"))
  return fd and fd >= 3 and fd <= MAX_INT and ("fd:%d"):format(fd) or nil
end

-- A name as in sd_listen_fds_with_names(3).
function prefixed.systemd(name)
  return name:find("^[\x20-\x7e]+$") and not name:find(":", 1, true) and #name <= 255
    and "systemd:" .. name or nil
end

-- An address in its canonical form, or nil.
local function address(value, base)
  if type(value) ~= "string" then return nil end
  if value == "systemd" then return value end
  local prefix, rest = value:match("^(%l+):(.*)$")
  if prefixed[prefix] then return prefixed[prefix](rest, base) end
  local host, port = value:match("^(.*):(%d+)$")
  if not host or tonumber(port) > 65535 then return nil end
  if host:find("^[%w_.-]*$") or host:find("^%[%x*:[%x:.]+%%?[%w_.-]*%]$") then
    return ("%s:%d"):format(host, tonumber(port))
  end
end

local address_forms = "host:port, [v6]:port or :port (port up to 65535), unix:/path or "
  .. "unix:@name (up to 107 bytes), fd:N (N from 3), systemd or systemd:NAME"

function types.listen(value, _, at)
  local given = type(value) == "table" and value or { value }
  if #given == 0 or #given ~= #sorted_keys(given) then
    return at:wrong("an address or a list of addresses", value)
  end
  local list = {}
  for i, one in ipairs(given) do
    list[i] = address(one, at.base) or at:wrong(address_forms, one)
  end
  return list
end

local scalar = { string = true, number = true, boolean = true }

function types.env(value, _, at)
  if type(value) ~= "table" then return at:wrong("a table of names and values", value) end
  local list = {}
  for _, name in ipairs(sorted_keys(value)) do
    local setting, entry = value[name], at:child(name)
    if not matches(name, "^[%a_][%w_]*$") then
      entry:wrong('named by letters, digits and "_", no digit first', name)
    elseif not scalar[type(setting)] then
      entry:wrong("a string, a number or a boolean", setting)
    elseif tostring(setting):find("\0", 1, true) then
      entry:problem("must not contain a NUL byte")
    else
      list[#list + 1] = name .. "=" .. tostring(setting)
    end
  end
  table.sort(list)
  return list
end

---------------------------------------------------------------------------------------
-- From what was given to the canonical table.

local function default_of(key, context)
  return context.listen_fds > 0 and key.inherited or key.default
end

-- The canonical values of all keys in these scopes.
local function settle(scopes, given, at)
  local values = {}
  for _, key in ipairs(schema) do
    if scopes[key.scope] then
      local value = given[key.name]
      if value == nil then value = default_of(key, at.context) end
      values[key.name] = key.absent
      if value ~= nil then
        values[key.name] = types[key.type](value, key, at:child(key.name))
      end
    end
  end
  return values
end

-- A pool is called as its app, or as the directory of an app.lua or init.lua.
local function name_of(app)
  local directory, name = app:match("([^/]*)/([^/]*)$")
  name = name:gsub("(.)%.lua$", "%1")
  local general = name == "app" or name == "init"
  if general and directory:find("[^.]") then name = directory end
  return (name:gsub("[^%w_.-]", "-"):sub(1, 32))
end

-- Nothing listens where another does. Of a port 0, each gets another one.
local function claim(addresses, at, taken)
  for _, one in ipairs(addresses) do
    local by = taken[one]
    if by then
      local where = by == at.path and "given twice" or "already in " .. by
      at:problem(('"%s" is %s'):format(one, where))
    elseif not one:find("^[^/@]*:0$") then
      taken[one] = at.path
    end
  end
end

-- A handler is to be interrupted before its worker is killed.
local function settle_stuck(pool, at)
  local limit = pool.handler_timeout or 0
  if not pool.stuck_timeout then
    pool.stuck_timeout = limit > 0 and 1.5 * limit + 1 or 0
  elseif pool.stuck_timeout > 0 and pool.stuck_timeout <= limit then
    at:child("stuck_timeout"):problem("must be more than handler_timeout, which is "
      .. limit .. " seconds")
  end
end

-- A worker is to be replaced before its handlers fail.
local function check_memory(pool, at)
  local limit, soft = pool.memory_limit or 0, pool.memory_soft_limit or 0
  if limit > 0 and soft >= limit then
    at:child("memory_soft_limit"):problem("must be less than memory_limit, which is "
      .. limit .. " bytes")
  end
end

local function read_pool(scopes, given, at, taken)
  local pool = settle(scopes, given, at)
  settle_stuck(pool, at)
  check_memory(pool, at)
  pool.name = pool.name or pool.app and name_of(pool.app)
  claim(pool.listen or {}, at:child("listen"), taken)
  return pool
end

local misplaced = {
  global = "belongs at the top, beside pools",
  several = "belongs at the top",
  pool = "belongs in one of the pools, not beside them",
  single = "is for a file of one pool; here the key in pools is the name",
}

-- Reports the keys of t that have no place in it, and those that it lacks.
local function check_keys(scopes, t, at)
  local known = {}
  for _, key in ipairs(schema) do
    if scopes[key.scope] then
      known[#known + 1] = key.name
      if key.required and t[key.name] == nil then
        at:child(key.name):problem("is missing")
      end
    end
  end
  for _, name in ipairs(sorted_keys(t)) do
    local key = by_name[name]
    if not key or not scopes[key.scope] then
      at:child(name):problem(key and misplaced[key.scope]
        or unknown("key", tostring(name), known))
    end
  end
end

function types.pools(value, _, at)
  if type(value) ~= "table" or next(value) == nil then
    return at:wrong("a table of at least one pool", value)
  end
  local pools, taken = {}, {}
  for _, name in ipairs(sorted_keys(value)) do
    local given, pool_at = value[name], at:child(name)
    if type(given) ~= "table" then
      pool_at:wrong("a table", given)
    elseif types.name(name, by_name.name, pool_at) then
      check_keys(in_pool, given, pool_at)
      local pool = read_pool(in_pool, given, pool_at, taken)
      pool.name = name
      pools[#pools + 1] = pool
    end
  end
  return pools
end

---------------------------------------------------------------------------------------
-- The file.

-- What a file sees as its globals: Lua's own, to read.
local function environment()
  local function refuse(_, name)
    error(("assigns the global %s; make it a local, or a key of the returned table")
      :format(show(name)), 2)
  end
  return setmetatable({}, { __index = _G, __newindex = refuse })
end

-- Reports an error that Lua raised; its messages shorten a long name ("...pools.lua:7:").
local function raised(fault, at)
  if type(fault) ~= "string" then fault = "raises " .. show(fault) end
  local short = debug.getinfo(load("", "@" .. at.file), "S").short_src
  local line, text
  if fault:sub(1, #short) == short then
    line, text = fault:match("^:(%d+): (.*)$", #short + 1)
  end
  at.line = line
  at:problem(text or fault)
end

-- True and what the source returns, or false and what it raises.
local function run(source, file)
  local chunk, fault = load(source, "@" .. file, "t", environment())
  if not chunk then return false, fault end
  return pcall(chunk)
end

-- The canonical table of the file that `at` names.
local function read_file(path, at)
  local source = assert(contents(path)) -- which types.file() could read
  local ok, t = run(source, at.file)
  if not ok then return raised(t, at) end
  at.lines = source_lines.key_lines(source)
  at.line = at.lines[""]
  if type(t) ~= "table" then return at:problem("must return a table, not " .. show(t)) end
  if t.pools ~= nil then
    check_keys(in_several, t, at)
    return settle(in_several, t, at)
  end
  check_keys(in_file, t, at)
  local result = settle(in_global, t, at)
  result.pools = { read_pool(in_single, t, at, {}) }
  return result
end

---------------------------------------------------------------------------------------
-- The flags.

-- What a key is called on the command line, where the app has no flag. What is inside a
-- value has the name of its flag.
local function flag_path(path, name)
  if path ~= "" then return path end
  return name == "app" and name or flag_of(name)
end

-- Adds what a flag says to given. A value of nil means that it was left out.
local function take(given, flag, value, at)
  local key = by_flag[flag]
  if not key then return at:problem(flag .. ": " .. unknown("flag", flag, flags)) end
  at = at:child(key.name)
  if not value then return at:problem("needs its value, " .. key.value) end
  local all = given[key.name] or {}
  given[key.name] = key.many and all or value
  if key.many == "list" then
    all[#all + 1] = value
  elseif key.many == "map" then
    local name, setting = value:match("^([^=]*)=(.*)$")
    if not name then return at:wrong(key.value, value) end
    all[name] = setting
  end
end

-- Reports what cannot stand together.
local function check_together(given, apps, at)
  local app = at:child("app")
  if given.config then
    if apps[1] then app:problem("stands in the file that --config names, not here") end
    for _, name in ipairs(sorted_keys(given)) do
      if not in_command[by_name[name].scope] then
        at:child(name):problem("belongs in the file that --config names")
      end
    end
  elseif #apps > 1 then
    app:problem("given twice, as " .. show(apps[1]) .. " and " .. show(apps[2]))
  elseif #apps == 0 and #at.problems == 0 then
    app:problem('is missing; type its path ("app.lua"), or "--config pools.lua"')
  end
end

-- "--flag=value", "--flag value", or "--flag" alone for a switch.
-- @return flag, value or nil, whether the value is the argument after it
local function split(arg, after)
  local flag, value = arg:match("^([^=]+)=(.*)$")
  if flag then return flag, value, false end
  if by_flag[arg] and by_flag[arg].type == "switch" then return arg, true, false end
  if after and not after:find("^%-[%a-]") then return arg, after, true end
  return arg, nil, false
end

-- What the arguments give, in the form of a file of one pool.
local function parse(args, at)
  local given, apps, i = {}, {}, 1
  while i <= #args do
    local arg = args[i]
    if arg == "--" then
      table.move(args, i + 1, #args, #apps + 1, apps)
      break
    elseif not arg:find("^%-.") then
      apps[#apps + 1] = arg
    else
      local flag, value, is_next = split(arg, args[i + 1])
      take(given, flag, value, at)
      if is_next then i = i + 1 end
    end
    i = i + 1
  end
  check_together(given, apps, at)
  given.app = apps[1]
  return given
end

---------------------------------------------------------------------------------------

--- Reads the arguments after the command word and the file that they may name.
-- @param args list of strings
-- @param context what the caller knows: `cores`, `cwd` (absolute) and `listen_fds`, the
--   number of sockets that systemd passed
-- @return the canonical table: every key has its value, times are in seconds and sizes in
--   bytes, paths are absolute, pools are a list sorted by name
-- @return or nil, a message with a line for each problem, and its kind: "usage" where the
--   command line is wrong, "config" where the file is
function config.load(args, context)
  local function root(fields)
    fields.path, fields.context, fields.problems = "", context, {}
    return setmetatable(fields, spot)
  end
  local line = root { base = context.cwd, join = flag_path, lines = {} }
  local given = parse(args, line)
  local result = settle(in_command, given, line)
  if not given.config then result.pools = { read_pool(in_single, given, line, {}) } end
  if #line.problems > 0 then return nil, report(line.problems), "usage" end
  if not given.config then return result end

  local directory = result.config:match("^(.*)/")
  local file = root { base = directory, join = source_lines.key_path, lines = {},
    file = given.config }
  local read = read_file(result.config, file)
  if #file.problems > 0 then return nil, report(file.problems), "config" end
  for name in pairs(given) do
    if in_global[by_name[name].scope] then read[name] = result[name] end
  end
  return read
end

--- Describes the flags.
-- @return lines of at most 80 columns
function config.help()
  local lines = {}
  local function add(left, text)
    local line = ("%-29s"):format(left)
    for word in text:gmatch("%S+") do
      if #line + 1 + #word > 80 then
        lines[#lines + 1] = line
        line = (" "):rep(29)
      end
      line = line .. " " .. word
    end
    lines[#lines + 1] = line
  end
  for _, key in ipairs(schema) do
    if key.help then
      local short = key.short and "-" .. key.short .. ", " or "    "
      local text = key.help
      if key.default and scalar[type(key.default)] then
        text = ("%s (default %s)"):format(text, key.default)
      end
      local value = key.value and " " .. key.value or ""
      add("  " .. short .. flag_of(key.name) .. value, text)
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

return config
