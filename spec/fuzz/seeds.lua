-- Writes each raw request of http_vectors into a file of its own, for a fuzzer to begin
-- with:  lua5.4 spec/fuzz/seeds.lua DIRECTORY

package.path = "spec/support/?.lua;" .. package.path

local vectors = require "http_vectors"

local directory = assert(arg[1], "a directory is needed")
local count = 0

local function write(bytes)
  count = count + 1
  local file <close> = assert(io.open(("%s/%03d"):format(directory, count), "wb"))
  assert(file:write(bytes))
end

for _, group in ipairs(vectors.heads) do
  for _, vector in ipairs(group[2]) do write(vector[2]) end
end
for _, vector in ipairs(vectors.chunked) do write(vectors.stream(vector[2])) end
for _, vector in ipairs(vectors.conversations) do write(vector[2]) end
