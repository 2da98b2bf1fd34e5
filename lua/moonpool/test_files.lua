-- Directories for the files of a spec, which go with its test.

local lfs = require "lfs"

local made = {} -- paths

local function remove(path)
  if lfs.symlinkattributes(path, "mode") == "directory" then
    for name in lfs.dir(path) do
      if name ~= "." and name ~= ".." then remove(path .. "/" .. name) end
    end
    lfs.rmdir(path)
  else
    os.remove(path)
  end
end

--- Makes a directory that is removed, with all that is in it, at the end of the test.
-- @param files (optional) text by name, of what shall be in it
-- @return its path
local function directory(files)
  local path = os.tmpname()
  os.remove(path)
  assert(lfs.mkdir(path))
  made[#made + 1] = path
  for name, text in pairs(files or {}) do
    local file <close> = assert(io.open(path .. "/" .. name, "wb"))
    file:write(text)
  end
  return path
end

--- Removes what there is.
local function clear()
  for _, path in ipairs(made) do remove(path) end
  made = {}
end

return { directory = directory, remove = remove, clear = clear }
