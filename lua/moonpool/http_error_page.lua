--- What answers a request whose handler has failed, in development (--dev): what was
-- raised, where, and the code around it; as HTML for a browser, as text for others.
-- Without --dev nothing loads this.
--
-- @module moonpool.http_error_page

local core = require "moonpool.core"

local FRAMES = 100 -- of a stack; a recursion without end has more
local EXCERPTS = 10
local AROUND = 6 -- lines before and after the one that is marked
local LONGEST = 300 -- bytes of a line

---------------------------------------------------------------------------------------
-- The stack.

local library = debug.getinfo(1, "S").source:match "^(@.*/)[^/]*$"

-- As in Lua's own tracebacks.
local function called(info)
  if info.what == "main" then return "main chunk" end
  if info.name then return ("%s '%s'"):format(info.namewhat, info.name) end
  if info.what == "C" then return "?" end
  return ("function <%s:%d>"):format(info.short_src, info.linedefined)
end

--- The stack of whoever calls it, from the given level on; for a message handler.
-- @return a list of { place, called, line, path }; path is nil for C, for code that is in
-- no file, and for this library's own
local function frames(level)
  local list = {}
  for at = level + 1, level + FRAMES do
    local info = debug.getinfo(at, "Snl")
    if not info then break end
    local is_own = info.source:sub(1, #library) == library
    local place = info.currentline > 0
      and ("%s:%d"):format(info.source:match "^@(.*)" or info.short_src, info.currentline)
      or info.short_src
    list[#list + 1] = { place = place, called = called(info), line = info.currentline,
      path = not is_own and info.source:match "^@(.*)" or nil }
  end
  return list
end

-- The lines around one of a file: { { number, text } ... }; nil if it cannot be read.
local function excerpt(path, line)
  local file <close> = io.open(path)
  if not file or not file:read(0) then return nil end
  local list, number = {}, 0
  for text in file:lines() do
    number = number + 1
    if number > line + AROUND then break end
    if number >= line - AROUND then list[#list + 1] = { number, text:sub(1, LONGEST) } end
  end
  return number >= line and list or nil
end

---------------------------------------------------------------------------------------
-- HTML.

local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;",
  ["'"] = "&#39;" }

local function escape(text)
  return (tostring(text):gsub("[&<>\"']", entities))
end

-- Replaces each {name} of a template by a value of that name: HTML, to be escaped before.
local function fill(template, values)
  return (template:gsub("{(%l+)}", values))
end

local page = [[
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>500 {title}</title>
<style>
:root { color-scheme: light dark; --back: #fbfaf8; --text: #23272e; --soft: #6b7280;
  --line: #e4e2dd; --code: #fff; --mark: #fdecea; --edge: #c9372c; }
@media (prefers-color-scheme: dark) { :root { --back: #16181d; --text: #e6e4df;
  --soft: #9aa1ad; --line: #2c3038; --code: #1d2027; --mark: #43221f; --edge: #ff7b6e; } }
body { margin: 0; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
header { border-top: 6px solid var(--edge); border-bottom: 1px solid var(--line); }
header > div, main, footer { max-width: 62rem; margin: 0 auto; padding: 1.2rem; }
h1 { margin: .2rem 0; font: 600 1.3rem/1.4 ui-monospace, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
h2 { margin: 2rem 0 .6rem; font-size: 1rem; }
p, footer { margin: 0; color: var(--soft); overflow-wrap: anywhere; }
details, .frame { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0;
  background: var(--code); }
summary, .frame { padding: .4rem .8rem; overflow-wrap: anywhere; }
summary { cursor: pointer; }
code, pre, td { font: 13px/1.6 ui-monospace, monospace; }
pre { margin: 0; padding: .5rem 0; overflow-x: auto; tab-size: 4;
  border-top: 1px solid var(--line); }
pre.text { padding: .8rem; }
pre span { display: block; width: max-content; min-width: 100%; box-sizing: border-box;
  padding-right: 1rem; border-left: 4px solid transparent; }
pre span::before { content: attr(data-line); display: inline-block; width: 3.5rem;
  margin-right: 1rem; text-align: right; color: var(--soft); }
pre .here { background: var(--mark); border-color: var(--edge); font-weight: 600; }
.dim { color: var(--soft); }
table { border-collapse: collapse; }
td { padding: .1rem 1.5rem .1rem 0; vertical-align: top; overflow-wrap: anywhere; }
td:first-child { color: var(--soft); white-space: nowrap; }
</style>
<header><div>
<p>500 Internal Server Error</p>
<h1>{message}</h1>
<p>{request}</p>
</div></header>
<main>
<h2>Where</h2>
{frames}
<h2>The request</h2>
<table>
{rows}
</table>
<h2>The traceback</h2>
<details><summary>as it is in the log</summary>
<pre class="text">{traceback}</pre></details>
</main>
<footer>This page is shown because the pool runs with --dev.</footer>
</html>
]]

local function code_html(lines, here)
  local parts = {}
  for i, line in ipairs(lines) do
    parts[i] = ('<span data-line="%d"%s>%s\n</span>'):format(line[1],
      line[1] == here and ' class="here"' or "", escape(line[2]))
  end
  return "<pre><code>" .. table.concat(parts) .. "</code></pre>"
end

-- The topmost frame with code is open.
local function frames_html(list)
  local parts, count = {}, 0
  for i, frame in ipairs(list) do
    local lines = frame.path and count < EXCERPTS and excerpt(frame.path, frame.line)
    local title = ('%s <span class="dim">in %s</span>'):format(escape(frame.place),
      escape(frame.called))
    if lines then
      parts[i] = ("<details%s><summary>%s</summary>%s</details>"):format(
        count == 0 and " open" or "", title, code_html(lines, frame.line))
      count = count + 1
    else
      parts[i] = ('<div class="frame dim">%s</div>'):format(title)
    end
  end
  return table.concat(parts, "\n")
end

local shown = { "Host", "User-Agent", "Accept", "Content-Type", "Content-Length",
  "Referer", "Origin" }

local function rows_html(req)
  local parts = {}
  local function add(name, value)
    if value == nil or value == "" then return end
    parts[#parts + 1] = ("<tr><td>%s</td><td>%s</td></tr>"):format(escape(name),
      escape(value))
  end
  add("path", req.path)
  add("query", req.query)
  for name, value in pairs(req.params or {}) do add(":" .. name, value) end
  add("peer", req.peer)
  for _, name in ipairs(shown) do add(name, req:header(name)) end
  return table.concat(parts, "\n")
end

local function html(fault, req)
  local message = tostring(fault.err)
  return fill(page, {
    title = escape(message:match "^[^\n]*"),
    message = escape(message),
    request = escape(("%s %s HTTP/%s"):format(req.method, req.target, req.version)),
    frames = frames_html(fault.frames),
    rows = rows_html(req),
    traceback = escape(fault.traceback),
  })
end

---------------------------------------------------------------------------------------

-- Whether the client asks for HTML by its name, as browsers do (RFC 9110 12.5.1).
local function wants_html(req)
  for range in (req:header "Accept" or ""):lower():gmatch "[^,]+" do
    local media, parameters = range:match "^%s*([^;%s]*)(.*)$"
    if media == "text/html" then return not parameters:find "q=0%.?0*%s*$" end
  end
  return false
end

-- What describes a content that is not sent now.
local stale = { "Content-Encoding", "Content-Language", "Content-Disposition",
  "Content-Range", "ETag", "Last-Modified", "Location" }

--- Answers a request whose response has not begun, whatever the handler, or middleware
-- that has put its own in the place of methods, had in mind.
-- @param fault .err, .traceback and .frames of what was raised
local function answer(fault, req, res)
  local methods = core.http.res
  local is_html = wants_html(req)
  for _, name in ipairs(stale) do res.headers[name] = nil end
  res.headers["Content-Type"] = (is_html and "text/html" or "text/plain")
    .. "; charset=utf-8"
  res.headers["Cache-Control"] = "no-store"
  res.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
  res.headers["Connection"] = "close"
  methods.status(res, 500)
  methods.send(res, is_html and html(fault, req)
    or "Internal Server Error\n\n" .. fault.traceback .. "\n")
end

return { frames = frames, answer = answer }
