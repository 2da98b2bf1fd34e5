-- Takes files from people: a page with progress bars, a directory, and back again.
--
--     build/moonpool serve examples/upload/app.lua
--     then open http://127.0.0.1:8080/ or
--     curl -F file=@photo.jpg -F file=@video.mp4 http://127.0.0.1:8080/files
--     curl http://127.0.0.1:8080/files
--
-- Files go to UPLOAD_ROOT (files/ beside this script) as they come, so how much memory a
-- worker needs does not depend on how large they are. UPLOAD_LIMIT bytes (4 GiB) are
-- taken at a time. An upload counts as a whole: if one of its files cannot be kept, none
-- is. Names are kept for people to see, but each file has a number of its own before it,
-- so nobody replaces what another has sent.
--
-- lfs (Debian: lua-filesystem) lists the directory: Lua itself cannot.

local fd = require "moonpool.fd"
local http = require "moonpool.http"
local json = require "moonpool.json"
local lfs = require "lfs"

local here = debug.getinfo(1, "S").source:match "^@(.*)/"
local root = os.getenv "UPLOAD_ROOT" or here .. "/files"
local limit = math.tointeger(tonumber(os.getenv "UPLOAD_LIMIT" or 4 << 30))
assert(limit, "UPLOAD_LIMIT must be a number of bytes")
assert(fd.open(root, "."), root .. " must be a directory"):close()

local app = http.app()

-- The page runs what it has itself, and nothing else.
local POLICY = "default-src 'none'; connect-src 'self'; form-action 'self'; "
  .. "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"

app:get("/", function(_, res)
  res:header("Content-Type", "text/html; charset=utf-8")
    :header("Content-Security-Policy", POLICY)
    :sendfile(here .. "/page.html")
end)

-- "0123456789abcdef-photo.jpg" -> "photo.jpg"; nil of what is no upload.
local STORED = "^" .. ("%x"):rep(16) .. "%-(.+)$"

local function random_number()
  local source <close> = assert(io.open("/dev/urandom", "rb"))
  source:setvbuf "no"
  return ("%016x"):format((string.unpack("i8", source:read(8))))
end

local function describe(stored, size, time)
  return {
    name = stored:match(STORED),
    size = size,
    time = time,
    url = "/files/" .. http.encode(stored),
  }
end

local function list()
  local files = {}
  for stored in lfs.dir(root) do
    local known = stored:find(STORED) and lfs.attributes(root .. "/" .. stored)
    if known then files[#files + 1] = describe(stored, known.size, known.modification) end
  end
  table.sort(files, function(a, b)
    if a.time ~= b.time then return a.time > b.time end
    return a.url < b.url
  end)
  return files
end

-- The files of one request, which are removed again if it is not kept.
local upload_mt = {}

function upload_mt:__close()
  if self.is_kept then return end
  for _, file in ipairs(self) do os.remove(root .. "/" .. file.name) end
end

local function save(upload, part, name)
  local stored = random_number() .. "-" .. name
  local size, message, code = part:save(root .. "/" .. stored)
  if not size then return nil, message, code end
  upload[#upload + 1] = { name = stored, size = size }
  return true
end

-- Fields that are no files are not looked at, nor is the one without a name that a form
-- sends if nothing was chosen.
local function receive(upload, req)
  for part, message, code in req:multipart { parts = 100 } do
    if not part then return nil, message, code end
    local name, ok = part.filename and http.safe_name(part.filename), true
    if name then ok, message, code = save(upload, part, name) end
    if not ok then return nil, message, code end
  end
  if #upload == 0 then return nil, "there is no file in this", "EINVAL" end
  return true
end

app:get("/files", function(_, res)
  res:header("Cache-Control", "no-store"):json { files = json.array(list()) }
end)

app:post("/files", function(req, res)
  local upload <close> = setmetatable({}, upload_mt)
  local ok, message, code = receive(upload, req:limit(limit))
  if not ok then return res:status(http.status_of(code)):json { error = message } end
  upload.is_kept = true
  local files = {}
  for i, file in ipairs(upload) do
    files[i] = describe(file.name, file.size, os.time())
  end
  res:status(201):json { files = files }
end)

-- What people sent is never shown as a page of this server: it might be one.
app:get("/files/:stored", function(req, res)
  local name = req.params.stored:match(STORED)
  local file <close> = name and fd.open(root, req.params.stored)
  if not file or file:kind() ~= "file" then
    return res:error(404, "there is no such file")
  end
  res:header("Content-Type", "application/octet-stream")
    :header("X-Content-Type-Options", "nosniff")
    :file(file, { name = name })
end)

return app
