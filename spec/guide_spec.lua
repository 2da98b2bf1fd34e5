-- The guide (spec/README.md) is true: each of its examples is run as it stands there.

local test = require "moonpool.test"

local MOST = 15 -- lines of an example

-- The indented blocks, in their order, each with the line at which it begins.
local function blocks()
  local found, number, block = {}, 0, nil
  for line in io.lines "spec/README.md" do
    number = number + 1
    local code = line:match "^    (.*)$"
    if code and not block then
      block = { line = number, code = {} }
      found[#found + 1] = block
    end
    if code then
      block.code[#block.code + 1] = code
    elseif line ~= "" then
      block = nil
    elseif block then
      block.code[#block.code + 1] = ""
    end
  end
  return found
end

describe("the guide", function()
  local env = setmetatable({ test = test, describe = describe, it = it, assert = assert },
    { __index = _G })

  for _, block in ipairs(blocks()) do
    local text = table.concat(block.code, "\n"):gsub("%s+$", "")
    local name = "@spec/README.md"
    assert(load(("\n"):rep(block.line - 1) .. text, name, "t", env))()

    it("has an example that is short, at line " .. block.line, function()
      assert.is_true(#text:gsub("[^\n]", "") < MOST, text)
    end)
  end

  it("has examples", function() assert.is_true(#blocks() >= 6) end)
end)
