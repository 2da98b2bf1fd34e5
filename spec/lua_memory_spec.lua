local memory = require "native.lua_memory"

require "tidy" (before_each, after_each)

describe("the memory of a Lua state", function()
  it("keeps what is in blocks of every size, while others come and go", function()
    assert.equal("all there", memory.run [[
      local kept = {}
      for round = 1, 3 do
        for size = 0, 600 do
          local i = size % 97 + 1
          local text = string.char(32 + round) .. ("x"):rep(size)
          kept[i] = { text = text, size = size, first = text:byte() }
          for _, it in pairs(kept) do
            if #it.text ~= it.size + 1 or it.text:byte() ~= it.first
              or it.text:find("[^x]", 2) then
              return ("broken: %d in %d"):format(it.size, size)
            end
          end
        end
      end
      return "all there"
    ]])
  end)

  it("lets tables grow and shrink through all sizes", function()
    assert.equal("125250 0", memory.run [[
      local list, sum, found = {}, 0, 0
      for i = 1, 500 do list[i] = i; list["k" .. i] = i end
      for i = 1, 500 do sum = sum + list["k" .. i]; list["k" .. i] = nil end
      for i = #list, 1, -1 do list[i] = nil; list.x = i; list.x = nil end
      for _ in pairs(list) do found = found + 1 end
      return sum .. " " .. found
    ]])
  end)

  it("is used again: as much garbage as one likes takes no more", function()
    local garbage = [[
      for i = 1, %d do
        local text = "text " .. i
        local made = { text, { i }, function() return text end }
      end
      local text = io.open("/proc/self/statm"):read "a"
      return text:match "^%%d+ (%%d+)"
    ]]
    local few = tonumber(memory.run(garbage:format(20000)))
    local many = tonumber(memory.run(garbage:format(400000)))
    assert.is_true(many < few + 250, few .. " pages, then " .. many)
  end)

  it("tells of errors", function()
    assert.same({ nil, '[string "error "on purpose""]:1: on purpose' },
      { memory.run [[error "on purpose"]] })
  end)
end)
