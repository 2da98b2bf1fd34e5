local fd = require "moonpool.fd"
local harness = require "server"
local http_content = require "moonpool.http_content"
local lfs = require "lfs"

local BIRTH = 784111777 -- Sun, 06 Nov 1994 08:49:37 GMT

describe("a content", function()
  local root, site

  require "tidy" (before_each, after_each)

  local function write(name, text, time)
    harness.write_file(root .. "/" .. name, text)
    assert(lfs.touch(root .. "/" .. name, time or BIRTH))
  end

  before_each(function()
    root = harness.directory()
    site = { root = root, precompressed = true, types = {}, cache_control = "max-age=0" }
    write("a.css", "style")
    write("a.css.gz", "gzip of it")
    write("large.bin", ("x"):rep(65537))
    assert(lfs.mkdir(root .. "/directory"))
  end)

  after_each(function() assert(os.execute("rm -rf " .. root)) end)

  it("is a small file's text, or a large file", function()
    local small = http_content.open(site, "a.css")
    assert.same({ "style", 5, BIRTH, "text/css; charset=utf-8", true, "a.css" }, {
      small.text, small.size, small.modified, small.type, small.varies, small.name })
    assert.is_nil(small.file)
    write("just.bin", ("x"):rep(65536))
    assert.equal(65536, #http_content.open(site, "just.bin").text)
    local large = http_content.open(site, "large.bin")
    local file <close> = large.file
    assert.same({ 65537, large.stamp, false },
      { large.size, file:stamp(), large.varies })
    assert.is_nil(large.text)
  end)

  it("is the sibling that is wanted, and says so", function()
    local coded = http_content.open(site, "a.css", "br, gzip")
    assert.same({ "gzip of it", "gzip", "text/css; charset=utf-8", "a.css" },
      { coded.text, coded.coding, coded.type, coded.name })
    assert.is_nil(http_content.open(site, "a.css", "br").coding)
    site.precompressed = false
    local plain = http_content.open(site, "a.css", "br, gzip")
    assert.same({ "style", false }, { plain.text, plain.varies })
  end)

  it("is the file where the sibling cannot be opened, for whatever reason", function()
    local open = fd.open
    finally(function() fd.open = open end)
    fd.open = function(directory, name)
      if name:find "gz$" then return nil, "told by the spec", "EMFILE" end
      return open(directory, name)
    end
    assert.equal("style", http_content.open(site, "a.css", "gzip").text)
  end)

  it("is current until what it was chosen from changes", function()
    local content
    local function changes(change)
      content = http_content.open(site, "a.css", "br, gzip")
      assert.is_true(http_content.is_current(content))
      change()
      assert.is_false(http_content.is_current(content))
    end
    changes(function() write("a.css.br", "br of it") end)
    changes(function() write("a.css.br", "br of IT") end)
    changes(function() assert(os.remove(root .. "/a.css.br")) end)
    changes(function() write("a.css.gz", "GZIP of it") end)
    changes(function() write("a.css", "STYLE") end)
    changes(function() assert(os.execute("chmod 600 " .. root .. "/a.css")) end)
    changes(function() assert(os.remove(root .. "/a.css")) end)
    assert.is_nil(http_content.open(site, "a.css", "br, gzip"))
  end)

  it("is none of what is no file", function()
    assert(os.execute("mkfifo " .. root .. "/fifo"))
    for name, code in pairs { directory = "EISDIR", fifo = "EINVAL", missing = "ENOENT",
      ["../x"] = "EXDEV", ["a.css/x"] = "ENOTDIR" } do
      assert.same({ nil, code }, { http_content.open(site, name) }, name)
    end
    assert.is_false(http_content.is_regular(site, "directory"))
    assert.is_false(http_content.is_regular(site, "missing"))
    assert.is_true(http_content.is_regular(site, "a.css"))
  end)
end)
