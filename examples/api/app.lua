-- Notes over JSON: list, create, read, replace, delete; and errors that say which field
-- is wrong (RFC 9457).
--
--     build/moonpool serve --config examples/api/pool.lua
--     curl http://127.0.0.1:8080/notes -H 'Content-Type: application/json' \
--       -d '{"title":"Milk","tags":["shop"]}'
--     curl http://127.0.0.1:8080/notes?tag=shop
--
-- The notes live in the memory of one worker: they are gone when it ends, and a second
-- worker would have others. So the pool has one, and this does not start in a second.

local http = require "moonpool.http"
local json = require "moonpool.json"
local moonpool = require "moonpool"

local MOST = 10000 -- notes
local PAGE = 100 -- notes of a list at most

assert(moonpool.worker.id <= 1, "the notes are in one worker: use --workers 1")

---------------------------------------------------------------------------------------
-- Errors: application/problem+json, whose title is what the status says in general and
-- whose detail is about this request.

local function send_problem(res, status, detail, errors)
  res.headers["Content-Type"] = "application/problem+json"
  return res:status(status):json {
    title = http.phrase(status),
    status = status,
    detail = detail,
    errors = errors,
  }
end

-- The field is named by a JSON pointer in a URI (RFC 6901 6).
local function add(errors, field, detail)
  local name = field:gsub("~", "~0"):gsub("/", "~1")
  errors[#errors + 1] = { pointer = "#/" .. http.encode(name), detail = detail }
end

---------------------------------------------------------------------------------------
-- What a note may be. A check returns nothing, or what is wrong with the value.

local function text_of(least, most)
  return function(value)
    if type(value) ~= "string" then return "must be a string" end
    local length = utf8.len(value)
    if length < least or length > most then
      return ("must have %d to %d characters"):format(least, most)
    end
  end
end

local is_tag = text_of(1, 30)

local function check_tags(value)
  if not json.is_array(value) then return "must be an array" end
  if #value > 10 then return "must have 10 tags at most" end
  for i, tag in ipairs(value) do
    local wrong = is_tag(tag)
    if wrong then return ("tag %d %s"):format(i, wrong) end
  end
end

local function check_done(value)
  if type(value) ~= "boolean" then return "must be true or false" end
end

local FIELDS = { -- in the order in which errors are listed
  { name = "title", check = text_of(1, 200), is_required = true },
  { name = "text", check = text_of(0, 10000), default = function() return "" end },
  { name = "tags", check = check_tags, default = json.array },
  { name = "done", check = check_done, default = function() return false end },
}

local KNOWN = {}
for _, field in ipairs(FIELDS) do KNOWN[field.name] = true end

local function add_unknown(errors, value)
  local names = {}
  for name in pairs(value) do
    if not KNOWN[name] then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    add(errors, name, "is no field of a note")
  end
end

-- The fields of a note; or nil and the list of what is wrong with them.
local function validate(value)
  if type(value) ~= "table" or json.is_array(value) then
    return nil, { { pointer = "#", detail = "must be an object" } }
  end
  local note, errors = {}, {}
  for _, field in ipairs(FIELDS) do
    local given, wrong = value[field.name], nil
    if given ~= nil then
      wrong = field.check(given)
    elseif field.is_required then
      wrong = "must be there"
    else
      given = field.default()
    end
    note[field.name] = given
    if wrong then add(errors, field.name, wrong) end
  end
  add_unknown(errors, value)
  if errors[1] then return nil, errors end
  return note
end

---------------------------------------------------------------------------------------
-- The notes by their numbers, which are given once, and the numbers in order.

local notes, order, last = {}, {}, 0

local function put(id, note)
  note.id, note.url = id, "/notes/" .. id
  note.updated = os.date "!%Y-%m-%dT%H:%M:%SZ"
  note.created = notes[id] and notes[id].created or note.updated
  notes[id] = note
  return note
end

local function remove(id)
  notes[id] = nil
  for i, other in ipairs(order) do
    if other == id then return table.remove(order, i) end
  end
end

local function has_tag(note, tag)
  for _, other in ipairs(note.tags) do
    if other == tag then return true end
  end
  return false
end

-- A page of those after a number, and the number after which the next page begins.
local function page(after, most, tag)
  local list = json.array()
  for _, id in ipairs(order) do
    local note = notes[id]
    if id > after and (not tag or has_tag(note, tag)) then
      if #list == most then return list, list[most].id end
      list[#list + 1] = note
    end
  end
  return list, nil
end

---------------------------------------------------------------------------------------
-- The application.

local app = http.app()

-- The valid note that a request has; or nil, and the request is answered.
local function note_of(req, res)
  local value, why, code = req:json()
  if why then
    if code == "ENOTSUP" then res:header("Accept", "application/json") end
    send_problem(res, http.status_of(code), why)
    return nil
  end
  local note, errors = validate(value)
  if errors then send_problem(res, 422, "the note is not valid", errors) end
  return note
end

-- The number of the note that the path names; or nil, and the request is answered.
local function id_of(req, res)
  local id = math.tointeger(tonumber(req.params.id:match "^%d+$"))
  if id and notes[id] then return id end
  send_problem(res, 404, "there is no such note")
  return nil
end

-- A parameter of the query that is a number of this range; false if it is something else.
local function number_arg(args, name, otherwise, most)
  local text = args[name]
  if not text then return otherwise end
  local n = #text < 16 and math.tointeger(tonumber(text:match "^%d+$"))
  return n and n <= most and n or false
end

app:get("/notes", function(req, res)
  local args, why = req:args()
  if not args then return send_problem(res, 400, why) end
  local after = number_arg(args, "after", 0, math.maxinteger)
  local most = number_arg(args, "limit", PAGE, PAGE)
  if not after or not most or most == 0 then
    return send_problem(res, 400, "after and limit are numbers, limit from 1 to " .. PAGE)
  end
  local list, following = page(after, most, args.tag)
  if following then
    local query = ("?after=%d&limit=%d"):format(following, most)
    if args.tag then query = query .. "&tag=" .. http.encode(args.tag) end
    res:header("Link", ('</notes%s>; rel="next"'):format(query)) -- RFC 8288
  end
  res:json { notes = list }
end)

app:post("/notes", function(req, res)
  local note = note_of(req, res)
  if not note then return end
  if #order == MOST then return send_problem(res, 503, "there are too many notes") end
  last = last + 1
  order[#order + 1] = last
  put(last, note)
  res:status(201):header("Location", note.url):json(note)
end)

app:get("/notes/:id", function(req, res)
  local id = id_of(req, res)
  if id then res:json(notes[id]) end
end)

-- While the content comes, others are served: the note may be gone when it has come.
app:put("/notes/:id", function(req, res)
  local note = id_of(req, res) and note_of(req, res)
  local id = note and id_of(req, res)
  if id then res:json(put(id, note)) end
end)

app:delete("/notes/:id", function(req, res)
  local id = id_of(req, res)
  if not id then return end
  remove(id)
  res:status(204):send()
end)

app:not_found(function(_, res)
  send_problem(res, 404, "there is nothing here")
end)

app:not_allowed(function(req, res)
  send_problem(res, 405, req.method .. " is not for this")
end)

app:on_error(function(_, _, res, traceback)
  moonpool.log.error(traceback)
  send_problem(res, 500, "something went wrong here; it is in the log")
end)

return app
