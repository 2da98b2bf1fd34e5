-- Which lines of a project have run, as a page: coverage/index.html.
--
-- Lines that can run are those that luac has instructions for; luac5.4 comes with lua5.4.
-- Specs, and what is not below this directory, are left out.

local native = require("moonpool.test_native").coverage

local PAGE = [[
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Coverage</title>
<style>
body { font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em }
td { padding: 0 1em 0 0 } td:nth-child(n+2) { text-align: right }
pre { font: 13px/1.35 monospace; border: 1px solid #ccc; padding: .5em; overflow-x: auto }
b { font-weight: normal; color: #888; display: inline-block; width: 8em;
  text-align: right; margin-right: 1em }
.hit { background: #e6f5e6 } .missed { background: #fbdcdc } span { display: block }
</style>
<h1>Coverage</h1>
<table>
%s</table>
%s</html>
]]

local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

local function escape(text)
  return (text:gsub('[&<>"]', ESCAPES))
end

-- Set of the lines that have instructions, but for those that only end a function; nil if
-- luac cannot say.
local function lines_of(path)
  local quoted = path:gsub("'", "'\\''")
  local pipe = io.popen(("luac5.4 -l -p '%s' 2>/dev/null"):format(quoted))
  local lines = {}
  for line in pipe and pipe:lines() or function() end do
    local number, instruction = line:match "^%s+%d+%s+%[(%d+)%]%s+(%S+)"
    if number and not instruction:find "^RETURN" and instruction ~= "VARARGPREP" then
      lines[tonumber(number)] = true
    end
  end
  if not (pipe and pipe:close()) then return nil end
  return lines
end

-- What there is to say of a file: path, lines of text, count of those that can and have.
local function measure(path, counts)
  local wanted = lines_of(path) or {}
  local file = { path = path, counts = counts or {}, wanted = wanted, able = 0, hit = 0 }
  for line in pairs(wanted) do
    file.able = file.able + 1
    if file.counts[line] then file.hit = file.hit + 1 end
  end
  return file
end

local function percent(hit, able)
  return able == 0 and 100 or hit * 100 / able
end

local function row(name, hit, able)
  return ("<tr><td>%s<td>%.1f %%<td>%d of %d\n"):format(name, percent(hit, able),
    hit, able)
end

local function listing(file)
  local parts, number = {}, 0
  for text in io.lines(file.path) do
    number = number + 1
    local count = file.counts[number]
    local class = count and "hit" or file.wanted[number] and "missed" or ""
    parts[#parts + 1] = ('<span class="%s"><b>%s %d</b>%s</span>'):format(class,
      count or "", number, escape(text))
  end
  return ('<h2 id="%s">%s</h2>\n<pre>%s</pre>\n'):format(escape(file.path),
    escape(file.path), table.concat(parts))
end

local function write_page(files, path)
  local rows, listings, hit, able = {}, {}, 0, 0
  for _, file in ipairs(files) do
    local name = escape(file.path)
    local link = ('<a href="#%s">%s</a>'):format(name, name)
    rows[#rows + 1] = row(link, file.hit, file.able)
    listings[#listings + 1] = listing(file)
    hit, able = hit + file.hit, able + file.able
  end
  rows[#rows + 1] = row("all", hit, able)
  local page <close> = assert(io.open(path, "w"))
  page:write(PAGE:format(table.concat(rows), table.concat(listings)))
  return hit, able
end

-- "@./app.lua" and "@app.lua" are the same file.
local function by_path(counts)
  local known = {}
  for source, lines in pairs(counts) do
    local path = source:sub(2):gsub("^%./", "")
    known[path] = known[path] or {}
    for line, count in pairs(lines) do
      known[path][line] = (known[path][line] or 0) + count
    end
  end
  return known
end

local function report(each_file)
  local known, files = by_path(native.stop()), {}
  each_file(".", function(path)
    path = path:gsub("^%./", "")
    if not path:find "_spec%.lua$" then files[#files + 1] = measure(path, known[path]) end
  end)
  table.sort(files, function(a, b) return a.path < b.path end)
  require("lfs").mkdir "coverage"
  local hit, able = write_page(files, "coverage/index.html")
  print(("coverage: %.1f %% of %d lines; coverage/index.html"):format(percent(hit, able),
    able))
end

--- Counts from now on, and writes the page when the process ends.
-- @param each_file (directory, fn) calls fn(path) for each of the project's .lua files
local function start(each_file)
  local at_exit = os.exit
  function os.exit(...) -- luacheck: ignore
    report(each_file)
    return at_exit(...)
  end
  native.start()
end

return { start = start, measure = measure, write_page = write_page }
