local draft = require "moonpool.draft"
local harness = require "server"
local lfs = require "lfs"

require "tidy" (before_each, after_each)

local function contents(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

describe("a draft", function()
  local directory, path

  before_each(function()
    directory = harness.directory()
    path = directory .. "/file"
  end)

  after_each(function() harness.remove(directory) end)

  local function names()
    local list = {}
    for name in lfs.dir(directory) do
      if name ~= "." and name ~= ".." then list[#list + 1] = name end
    end
    table.sort(list)
    return list
  end

  it("is a file when it is kept, and before it is not there", function()
    local file <close> = assert(draft.new(path))
    assert.equal(file, file:write "one ")
    assert(file:write(("x"):rep(100000)))
    assert.equal(1, #names())
    assert.matches("^%.%d+%-%d+%.part$", names()[1])
    assert.is_true(file:keep())
    assert.same({ "file" }, names())
    assert.equal("one " .. ("x"):rep(100000), contents(path))
  end)

  it("leaves nothing if it is not, and what there was before", function()
    harness.write_file(path, "before")
    do
      local file <close> = assert(draft.new(path))
      file:write "new"
    end
    pcall(function()
      local file <close> = assert(draft.new(path))
      file:write "new"
      error "in the middle"
    end)
    assert.same({ "file" }, names())
    assert.equal("before", contents(path))
  end)

  it("replaces what there was", function()
    harness.write_file(path, "before")
    local file <close> = assert(draft.new(path))
    file:write "after"
    assert(file:keep())
    assert.equal("after", contents(path))
  end)

  it("may be one of several of the same path; the last one counts", function()
    local one <close> = assert(draft.new(path))
    local two <close> = assert(draft.new(path))
    one:write "one"
    two:write "two"
    assert(two:keep())
    assert.equal("two", contents(path))
    assert(one:keep())
    assert.same({ "file" }, names())
    assert.equal("one", contents(path))
  end)

  it("fails with the system's reason", function()
    local missing = { nil, "No such file or directory", "ENOENT" }
    assert.same(missing, { draft.new(directory .. "/missing/file") })
    lfs.mkdir(path)
    local file <close> = assert(draft.new(path))
    assert.same({ nil, "Is a directory", "EISDIR" }, { file:keep() })
  end)

  it("fails when the disk is full", function()
    local file <close> = assert(draft.new(path))
    local full <close> = assert(io.open("/dev/full", "w"))
    file.file:close()
    file.file = full
    assert.same({ nil, "No space left on device", "ENOSPC" },
      { file:write(("x"):rep(100000)) })
    local late <close> = assert(draft.new(path))
    late.file:close()
    late.file = assert(io.open("/dev/full", "w"))
    assert(late:write "x")
    assert.same({ nil, "No space left on device", "ENOSPC" }, { late:keep() })
    assert.is_nil(lfs.attributes(path))
  end)
end)
