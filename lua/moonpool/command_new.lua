-- moonpool new NAME: makes the directory NAME with a project in it, whose spec passes.

local lfs = require "lfs"

local FILES = require "moonpool.command_new_files"

local function is_name(text)
  return text ~= nil and text:find "^%w[%w_-]*$" ~= nil
end

local function write(path, text)
  local file <close> = assert(io.open(path, "w"))
  assert(file:write(text))
end

local function make(name)
  for _, directory in ipairs { name, name .. "/spec" } do
    local ok, why = lfs.mkdir(directory)
    if not ok then return nil, directory .. ": " .. why end
  end
  for path, text in pairs(FILES) do
    write(name .. "/" .. path:gsub("NAME", name), (text:gsub("NAME", name)))
  end
  return true
end

return function(arguments)
  local name = arguments[1]
  if #arguments ~= 1 or not is_name(name) then
    io.stderr:write "Usage: moonpool new NAME, of letters, digits, - and _\n"
    return 2
  end
  local ok, why = make(name)
  if not ok then
    io.stderr:write("moonpool: ", why, "\n")
    return 1
  end
  print(name .. " is there. What to try:\n\n    cd " .. name
    .. "\n    make test\n    make run")
  return 0
end
