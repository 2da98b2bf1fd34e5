--- What a constructor is given: named options, checked before anything is served.
--
--     local kinds = { realm = "string", users = "table" }
--     local function basic_auth(given)
--       local options = check("basic_auth", given, kinds)
--
-- @module moonpool.options

local function is_one_of(kinds, kind)
  return (" " .. kinds .. " "):find(" " .. kind .. " ", 1, true) ~= nil
end

--- Raises in the name of whoever called the constructor if an option is not among kinds
-- or is of another kind.
-- @param who the constructor's name
-- @param given a table, or nil for one without options
-- @param kinds name -> the types it may have: "string", "string table"
-- @return the table
local function check(who, given, kinds)
  if type(given or {}) ~= "table" then
    error(who .. ": the options must be a table", 3)
  end
  for name, value in pairs(given or {}) do
    if not kinds[name] then
      error(("%s: there is no option %s"):format(who, name), 3)
    elseif not is_one_of(kinds[name], type(value)) then
      error(("%s: %s must be a %s"):format(who, name, kinds[name]:gsub(" ", " or ")), 3)
    end
  end
  return given or {}
end

--- Loads what only some need, or raises with the name of the package that has it.
-- @param who needs it
-- @param package of Debian
local function need(who, module, package)
  local ok, loaded = pcall(require, module)
  if ok then return loaded end
  local why = loaded:find("not found:", 1, true) and "" or ": " .. loaded
  error(("%s needs the package %s (Debian: apt install %s)%s")
    :format(who, package, package, why), 0)
end

return { check = check, need = need }
