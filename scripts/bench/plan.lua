-- What is to be measured: the command line, the cases it means, and who takes part.

local cases = require "bench.cases"

local function is_named(case, names)
  for _, name in ipairs(names) do
    if (case.name .. "-"):sub(1, #name + 1) == name .. "-" then return true end
  end
  return false
end

local function check_name(name)
  for _, case in ipairs(cases) do
    if is_named(case, { name }) then return end
  end
  error(("there is no case %q; see scripts/bench/cases.lua"):format(name), 0)
end

local function check_number(flag, text)
  local number = math.tointeger(tonumber(text))
  if not number or number < 1 then error(flag .. " wants a number", 0) end
  return number
end

local flags = {
  ["-q"] = function(options)
    options.quick, options.rounds, options.seconds = true, 2, 1
    return 1
  end,
  ["-r"] = function(options, value)
    options.rounds = check_number("-r", value)
    return 2
  end,
  ["-s"] = function(options, value)
    options.seconds = check_number("-s", value)
    return 2
  end,
}

--- Reads the arguments of scripts/bench/run; raises a sentence.
-- @return { names =, rounds =, seconds =, quick = }
local function parse(arguments)
  local options, i = { names = {}, rounds = 5, seconds = 2 }, 1
  while arguments[i] do
    local flag = flags[arguments[i]]
    if flag then
      i = i + flag(options, arguments[i + 1])
    else
      check_name(arguments[i])
      table.insert(options.names, arguments[i])
      i = i + 1
    end
  end
  return options
end

--- The cases that are meant, in their order.
local function chosen(options)
  local list = {}
  for _, case in ipairs(cases) do
    local is_meant = is_named(case, options.names)
    if not options.names[1] then
      is_meant = not case.optional and (case.quick or not options.quick)
    end
    list[#list + 1] = is_meant and case or nil
  end
  return list
end

--- Moonpool, and its peers; in the short mode those that a target speaks of.
local function participants(case, options)
  local list, wanted = { "moonpool" }, {}
  for _, target in ipairs(case.targets) do
    for _, role in ipairs { "of", "plus", "who" } do
      if target[role] then wanted[target[role]] = true end
    end
  end
  for _, peer in ipairs(case.peers) do
    if not options.quick or wanted[peer] then list[#list + 1] = peer end
  end
  return list
end

return { parse = parse, chosen = chosen, participants = participants }
