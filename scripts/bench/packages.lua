-- Who can take part: which Debian packages are installed, in which version.

local peers = require "bench.peers"

local TOOLS = { "wrk", "gnuplot-nox", "gcc", "lua5.4" }

--- What a command prints, without the newline at its end; nothing where it fails.
local function output_of(command)
  local pipe <close> = assert(io.popen(command .. " 2>/dev/null"))
  return (pipe:read("a"):gsub("%s+$", ""))
end

--- package -> its version, of those that the peers need and that are installed
local function installed()
  local names, found = table.move(TOOLS, 1, #TOOLS, 1, {}), {}
  for _, peer in pairs(peers) do
    table.move(peer.packages, 1, #peer.packages, #names + 1, names)
  end
  local format = "'${db:Status-Abbrev} ${Package} ${Version}\\n'"
  local text = output_of(("dpkg-query -W -f %s %s"):format(format,
    table.concat(names, " ")))
  for name, version in text:gmatch "ii +(%S+) (%S+)" do found[name] = version end
  return found
end

--- Why a peer cannot take part; nil if it can.
-- @param found as from installed()
-- @param help what moonpool --help prints
local function absence(peer, found, help)
  for _, package in ipairs(peer.packages) do
    if not found[package] then return "not installed: " .. package end
  end
  if peer.flag and not help:find(peer.flag, 1, true) then
    return "not there yet: moonpool serve " .. peer.flag
  end
end

--- A list of { name =, text = }: Moonpool's revision and the packages' versions.
local function versions(found)
  local list = {}
  for name, version in pairs(found) do
    list[#list + 1] = { name = name, text = version }
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  local revision = output_of "git describe --always --dirty"
  table.insert(list, 1, { name = "Moonpool", text = revision })
  return list
end

return { installed = installed, absence = absence, versions = versions,
  output_of = output_of }
