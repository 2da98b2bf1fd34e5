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

  it("is counted, in all and what is in small blocks", function()
    assert.equal("all counted", memory.run [[
      local function check(what, all, few)
        collectgarbage()
        local all_now, few_now = used(), small()
        if math.abs(all_now - all) > 1000 or math.abs(few_now - few) > 1000 then
          error(("%s: %d and %d more"):format(what, all_now - all, few_now - few))
        end
      end
      collectgarbage()
      local all, few = used(), small()
      local text = ("x"):rep(1 << 20)
      check("a large string", all + (1 << 20), few)
      text = nil
      check("no large string", all, few)
      local list = {}
      for i = 1, 1 << 12 do list[i] = i end
      check("a table that grew", all + (16 << 12), few)
      for i = 1, 1 << 12 do list[i] = ("%099d"):format(i) end
      check("its strings", all + (16 + 24 + 100 << 12), few + (24 + 100 << 12))
      for i = 1, 1 << 12 do list[i] = nil end
      list.x = 1 -- it shrinks
      check("a table that shrank", all, few)
      return "all counted"
    ]])
  end)

  it("tells of errors", function()
    assert.same({ nil, '[string "error "on purpose""]:1: on purpose' },
      { memory.run [[error "on purpose"]] })
  end)
end)
