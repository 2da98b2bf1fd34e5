-- The commands that are written in Lua: moonpool test and moonpool new. The program runs
-- this with stock lua5.4 and the arguments PROGRAM LIBRARY COMMAND ...

local program, library, name = arg[1], arg[2], arg[3]

-- The module for stock Lua is beside the program, or where it is installed.
local directory = program:match "^(.*)/[^/]*$" or "."
package.path = ("%s/?.lua;%s/?/init.lua;%s"):format(library, library, package.path)
package.cpath = ("%s/lib/?.so;%s/../lib/lua/5.4/?.so;%s"):format(directory, directory,
  package.cpath)

local arguments = table.move(arg, 4, #arg, 1, {})
local code = require("moonpool.command_" .. name)(arguments, program)
os.exit(code, true)
