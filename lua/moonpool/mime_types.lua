--- The types of files by their names, as the web of today needs them.
--
--     mime_types.of "css/site.css"                "text/css; charset=utf-8"
--     mime_types.is_compressible "image/svg+xml"      true
--
-- @module moonpool.mime_types

-- By what follows the last "." of a name, in lower case.
local types = {
  -- pages and what they are made of
  html = "text/html", htm = "text/html", xhtml = "application/xhtml+xml",
  css = "text/css", js = "text/javascript", mjs = "text/javascript", -- RFC 9239
  json = "application/json", map = "application/json", jsonld = "application/ld+json",
  webmanifest = "application/manifest+json", wasm = "application/wasm",
  xml = "application/xml", xsl = "application/xml", rss = "application/rss+xml",
  atom = "application/atom+xml", geojson = "application/geo+json",
  -- text
  txt = "text/plain", log = "text/plain", lua = "text/x-lua", md = "text/markdown",
  csv = "text/csv", tsv = "text/tab-separated-values", ics = "text/calendar",
  vcf = "text/vcard", vtt = "text/vtt", yaml = "application/yaml",
  yml = "application/yaml", toml = "application/toml",
  -- images
  svg = "image/svg+xml", png = "image/png", jpg = "image/jpeg", jpeg = "image/jpeg",
  gif = "image/gif", webp = "image/webp", avif = "image/avif", jxl = "image/jxl",
  apng = "image/apng", bmp = "image/bmp", ico = "image/x-icon", tif = "image/tiff",
  tiff = "image/tiff", heic = "image/heic",
  -- sound and film
  mp3 = "audio/mpeg", m4a = "audio/mp4", aac = "audio/aac", flac = "audio/flac",
  oga = "audio/ogg", ogg = "audio/ogg", opus = "audio/ogg", wav = "audio/wav",
  weba = "audio/webm", mid = "audio/midi", mp4 = "video/mp4", m4v = "video/mp4",
  mov = "video/quicktime", mpeg = "video/mpeg", ogv = "video/ogg", webm = "video/webm",
  mkv = "video/matroska", avi = "video/x-msvideo", ts = "video/mp2t",
  m3u8 = "application/vnd.apple.mpegurl", mpd = "application/dash+xml",
  -- fonts
  woff = "font/woff", woff2 = "font/woff2", ttf = "font/ttf", otf = "font/otf",
  -- documents and archives
  pdf = "application/pdf", rtf = "application/rtf", epub = "application/epub+zip",
  doc = "application/msword", xls = "application/vnd.ms-excel",
  docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
  xlsx = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
  pptx = "application/vnd.openxmlformats-officedocument.presentationml.presentation",
  odt = "application/vnd.oasis.opendocument.text",
  ods = "application/vnd.oasis.opendocument.spreadsheet",
  zip = "application/zip", gz = "application/gzip", tgz = "application/gzip",
  bz2 = "application/x-bzip2", xz = "application/x-xz", zst = "application/zstd",
  tar = "application/x-tar", ["7z"] = "application/x-7z-compressed",
}

-- What is as loose as text without being called so.
local LOOSE = {
  ["application/json"] = true, ["application/xml"] = true, ["application/yaml"] = true,
  ["application/toml"] = true, ["application/rtf"] = true, ["application/wasm"] = true,
  ["application/javascript"] = true, ["application/vnd.apple.mpegurl"] = true,
  ["application/x-tar"] = true, ["font/ttf"] = true, ["font/otf"] = true,
  ["image/bmp"] = true, ["image/x-icon"] = true, ["audio/wav"] = true,
}

local compressible = {} -- of the types above

--- Whether content of a type, which may have parameters, is worth compressing.
local function is_compressible(media_type)
  if compressible[media_type] ~= nil then return compressible[media_type] end
  local essence = media_type:match "^[^;%s]*":lower()
  return LOOSE[essence] == true or essence:find "^text/" ~= nil
    or essence:find "%+json$" ~= nil or essence:find "%+xml$" ~= nil
end

for extension, media_type in pairs(types) do
  if media_type:find "^text/" then media_type = media_type .. "; charset=utf-8" end
  types[extension] = media_type
  compressible[media_type] = is_compressible(media_type)
end

--- The type of a file of this name. Text is taken for UTF-8.
-- @param own (optional) a table of types by extension that come first
local function of(name, own)
  local extension = (name:match "%.([^./]*)$" or ""):lower()
  return own and own[extension] or types[extension] or "application/octet-stream"
end

return { of = of, is_compressible = is_compressible }
