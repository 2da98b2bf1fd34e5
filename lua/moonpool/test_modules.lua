-- A script with a table of modules, and globals, of its own: what it has loaded or set
-- does not live on in the next instance of it, nor in the spec.
--
-- Shared are Lua's own libraries, modules written in C, and Moonpool's, which are the
-- runtime: require gives the spec and all instances the same of those.

local builtin = {}
for name in ("_G coroutine debug io math os package string table utf8"):gmatch "%S+" do
  builtin[name] = true
end

local function is_shared(name)
  return builtin[name] or name == "moonpool" or name:find "^moonpool%." ~= nil
end

-- Lua code that is found on path; else what the spec's require says, C modules too.
local function find(name, path, env)
  local file = package.searchpath(name, path)
  if not file then return require, nil end
  local chunk, why = loadfile(file, "t", env)
  if not chunk then
    error(("error loading module '%s' from file '%s':\n\t%s"):format(name, file, why), 0)
  end
  return chunk, file
end

-- As Lua's own (reference manual, 6.3), but for where modules are kept.
local function new_require(env, loaded, path)
  return function(name)
    if is_shared(name) then return require(name) end
    if loaded[name] ~= nil then return loaded[name] end
    local loader, file = find(name, path, env)
    local value = loader(name, file)
    if value ~= nil then loaded[name] = value end
    if loaded[name] == nil then loaded[name] = true end
    return loaded[name], file
  end
end

local function own_loading(env)
  function env.loadfile(file, mode, other)
    return loadfile(file, mode, other or env)
  end

  function env.load(chunk, name, mode, other)
    return load(chunk, name, mode, other or env)
  end

  function env.dofile(file) return assert(loadfile(file, "bt", env))() end
end

--- Runs a script as a worker does, the directory of which is searched for modules first.
-- @param options (optional) modules: values by name, in place of what require would find;
--   env: values by name, in place of what os.getenv would
-- @return what it returns
local function run(path, options)
  local directory = path:match "^(.*)/[^/]*$" or "."
  local env = setmetatable({}, { __index = _G })
  local loaded = setmetatable({}, { __index = function(_, name)
    return is_shared(name) and package.loaded[name] or nil
  end })
  for name, value in pairs(options and options.modules or {}) do loaded[name] = value end
  local search = ("%s/?.lua;%s/?/init.lua;%s"):format(directory, directory, package.path)
  env._G = env
  env.package = setmetatable({ loaded = loaded, path = search }, { __index = package })
  env.require = new_require(env, loaded, search)
  local variables = options and options.env or {}
  env.os = setmetatable({
    getenv = function(name) return variables[name] or os.getenv(name) end,
  }, { __index = os })
  own_loading(env)
  return assert(loadfile(path, "t", env))()
end

return { run = run }
