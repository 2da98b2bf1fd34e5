-- The benchmark: its figures are what was measured, and it leaves nothing behind.

local cjson = require "cjson"
local harness = require "server"
local http = require "bench.http"
local kinds = require "bench.kinds"
local lfs = require "lfs"
local peers = require "bench.peers"
local plan = require "bench.plan"
local process = require "native.process"
local report = require "bench.report"
local results = require "bench.results"
local test = require "moonpool.test"

local bench = "build/bench"

describe("results", function()
  local function outcome(runs)
    return { case = { targets = {} }, order = { "moonpool", "nginx" }, runs = runs,
      absent = {} }
  end

  it("are medians", function()
    assert.is_nil(results.median {})
    assert.equal(3, results.median { 3 })
    assert.equal(2.5, results.median { 4, 1, 2, 3 })
    assert.equal(2, results.median { 9, 1, 2 })
  end)

  it("are ratios within each round", function()
    local o = outcome { moonpool = { { cpu = 1 }, { cpu = 2 }, { cpu = 30 } },
      nginx = { { cpu = 2 }, { cpu = 4 }, { cpu = 10 } } }
    assert.equal(0.5, results.ratio(o, "moonpool", "nginx", "cpu"))
    assert.equal(2, results.figure(o, "moonpool", "cpu"))
  end)

  it("are ratios of the best runs too", function()
    local o = outcome { moonpool = { { cpu = 3, rate = 5 }, { cpu = 2, rate = 6 } },
      nginx = { { cpu = 4, rate = 1 }, { failed = "no" }, { cpu = 8, rate = 2 } } }
    local function best_ratio(target) return results.best_ratio(o, target) end
    assert.equal(0.5, best_ratio { figure = "cpu", at_most = 1, of = "nginx" })
    assert.equal(3, best_ratio { figure = "rate", at_least = 1, of = "nginx" })
    assert.is_nil(best_ratio { figure = "cpu", at_most = 1 })
    assert.is_nil(best_ratio { figure = "cpu", at_most = 1, of = "h2o" })
  end)

  it("leave out what has failed", function()
    local o = outcome { moonpool = { { failed = "no" }, { cpu = 2 } },
      nginx = { { cpu = 1 }, { cpu = 4 } } }
    assert.equal(0.5, results.ratio(o, "moonpool", "nginx", "cpu"))
    assert.equal(2, results.figure(o, "moonpool", "cpu"))
    assert.equal("no", results.trouble(o, "moonpool"))
    assert.is_nil(results.trouble(o, "nginx"))
  end)

  it("count requests that failed", function()
    local o = outcome { moonpool = { { cpu = 2, errors = 0 }, { cpu = 2, errors = 3 } } }
    assert.equal("3 requests failed", results.trouble(o, "moonpool"))
  end)

  it("say whether a target is met", function()
    local o = outcome { moonpool = { { cpu = 3, rate = 10 } }, nginx = { { cpu = 4 } } }
    local function judge(target)
      return { results.judge(o, target) }
    end
    assert.same({ 0.75, true }, judge { figure = "cpu", at_most = 0.75, of = "nginx" })
    assert.same({ 0.75, false }, judge { figure = "cpu", at_most = 0.74, of = "nginx" })
    assert.same({ -1, true }, judge { figure = "cpu", at_most = 0, plus = "nginx" })
    assert.same({ 10, true }, judge { figure = "rate", at_least = 10 })
    assert.same({ 10, false }, judge { figure = "rate", at_least = 11 })
    assert.same({ 4, false }, judge { who = "nginx", figure = "cpu", at_most = 3 })
    assert.same({ nil, false }, judge { figure = "rate", at_least = 1, of = "nginx" })
  end)
end)

describe("a report", function()
  local outcomes = {
    {
      case = { name = "hello", title = "hello", kind = "drive", targets = {
        { figure = "cpu", at_most = 0.75, of = "nginx" },
        { figure = "cpu", at_most = 0.9, of = "h2o" } } },
      order = { "moonpool", "nginx", "h2o" },
      runs = { moonpool = { { rate = 2e5, cpu = 3, user = 1, p50 = 40, p99 = 60 } },
        nginx = { { rate = 1e5, cpu = 6, user = 1, p50 = 50, p99 = 70 } }, h2o = {} },
      absent = { h2o = "not installed: h2o" },
    },
    { case = { name = "later", title = "later", kind = "drive", targets = {},
      missing = "not written" }, order = {}, runs = {}, absent = {} },
  }
  local all = { date = "2026-01-01", rounds = 1, seconds = 2, outcomes = outcomes,
    facts = { cpu = "a processor", cores = 2, kernel = "6.1" },
    versions = { { name = "nginx", text = "1.22" } } }

  it("has every figure, and names who is not there", function()
    local text = report.case_text(outcomes[1])
    assert.matches("Moonpool +200000 +3.00 +1.00 +40 +60 +1.00", text)
    assert.matches("nginx +100000 +6.00 +1.00 +50 +70 +0.50", text)
    assert.matches("h2o +%- +%- +%- +%- +%- +%-", text)
    assert.matches("h2o: not installed: h2o", text)
    assert.matches("CPU at most 0.75 of nginx's: 0.50, met", text)
    assert.matches("CPU at most 0.9 of h2o's: %-, no figure of h2o", text)
  end)

  it("says what is missing, where and when it was made", function()
    assert.matches("not written", report.case_text(outcomes[2]))
    for _, page in ipairs { report.text(all), report.page(all) } do
      assert.matches("2026%-01%-01; a processor, 2 cores, Linux 6.1", page)
      assert.matches("nginx 1.22", page)
    end
  end)

  it("is a table in markdown", function()
    local lines = {}
    for line in report.summary(all):gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.same({
      "| case | target | measured | best runs |  |",
      "| --- | --- | --- | --- | --- |",
      "| hello | CPU at most 0.75 of nginx's | 0.50 | 0.50 | met |",
      "| hello | CPU at most 0.9 of h2o's | - |  | no figure of h2o |",
      "| later |  | - |  | not written |",
    }, table.move(lines, 1, 5, 1, {}))
  end)
end)

describe("a plan", function()
  local function names(...)
    local list = {}
    for i, case in ipairs(plan.chosen(plan.parse { ... })) do list[i] = case.name end
    return list
  end

  it("is all cases, or those that are named, with their kind", function()
    assert.same({ "hello" }, names "hello")
    assert.same({ "hello", "file-1k", "file-1m" }, names("file", "hello"))
    assert.same({ "connect-c1" }, names "connect-c1")
    assert.same({ "soak" }, names "soak")
    assert.is_true(#names() > #names "-q")
    assert.is_nil((" " .. table.concat(names(), " ") .. " "):find " soak ")
  end)

  it("refuses what it does not know", function()
    for _, arguments in ipairs { { "hell" }, { "-r" }, { "-r", "0" }, { "-s", "1.5" } } do
      local ok, why = pcall(plan.parse, arguments)
      assert.is_false(ok)
      assert.is_string(why)
    end
  end)

  it("has peers that there are", function()
    for _, case in ipairs(require "bench.cases") do
      assert(kinds[case.kind], case.name)
      for _, peer in ipairs(case.peers) do assert(peers[peer], peer) end
      local taking_part = " moonpool " .. table.concat(case.peers, " ") .. " "
      for _, target in ipairs(case.targets) do
        local other = target.of or target.plus or "moonpool"
        assert(taking_part:find(" " .. other .. " ", 1, true), case.name .. ": " .. other)
      end
    end
  end)
end)

describe("an answer", function()
  local case = { app = "http", request = { path = "/" }, answer = "abc",
    answer_fields = { ["X-A"] = "1" } }

  local function why(answer, of)
    return (select(2, http.check(of or case, answer)))
  end

  it("is right or wrong", function()
    local head = "HTTP/1.1 200 OK\r\nX-a: 1\r\nContent-Length: 3\r\n\r\n"
    assert.is_true(http.check(case, head .. "abc"))
    assert.matches("3 bytes", why(head .. "cba"))
    assert.matches("no X%-A", why("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"))
    assert.equal("HTTP/1.1 500 No", why "HTTP/1.1 500 No\r\n\r\nabc")
    assert.equal("no answer", why "")
    local unordered = setmetatable({ any_order = true }, { __index = case })
    assert.is_true(http.check(unordered, head .. "cba"))
    assert.is_true(http.check({ app = "line" }, "a line\n"))
    assert.equal("another line", why("a\n", { app = "line" }))
  end)

  it("is whole when it is as long as it says", function()
    local head = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    for i = 0, #head + 2 do
      assert.is_false(http.is_whole(case, (head .. "abc"):sub(1, i)))
    end
    assert.is_true(http.is_whole(case, head .. "abc"))
  end)
end)

-- The whole of it, which measures no program that has sanitizers in it.
if harness.build:find "asan" then return end

describe("scripts/bench/run", function()
  local function read(path)
    local file <close> = assert(io.open(path))
    return file:read "a"
  end

  it("measures, writes it down and leaves nothing behind", function()
    local pipe = assert(io.popen "scripts/bench/run -r 1 -s 1 start balance 2>&1")
    local output = pipe:read "a"
    assert.is_true(pipe:close(), output)
    assert.matches("Moonpool +500 +500 +1.00", output)
    local part = bench .. "/part/"
    local runs = {}
    for line in io.lines(part .. "runs.jsonl") do
      local entry = cjson.decode(line)
      runs[entry.case .. " " .. entry.peer] = entry.run
    end
    assert.same(500, runs["balance moonpool"].most)
    assert.is_true(runs["start moonpool"].ready > 0)
    assert.matches("fullest/emptiest at most 1.02", read(part .. "results.txt"))
    assert.matches("balance, moonpool, server: .*moonpool serve",
      read(part .. "commands.txt"))
    assert.is_nil(lfs.attributes(bench .. "/tmp"))
  end)

  local function descendants(pid)
    local pids = { pid }
    for _, parent in ipairs(pids) do
      local file <close> = io.open(("/proc/%d/task/%d/children"):format(parent, parent))
      for child in (file and file:read "a" or ""):gmatch "%d+" do
        pids[#pids + 1] = tonumber(child)
      end
    end
    return pids
  end

  for _, signal in ipairs { "INT", "KILL" } do
    it("takes its servers with it on SIG" .. signal, function()
      test.virtual(false)
      local pid, fd = assert(process.start({ "scripts/bench/run", "-q", "hello" }, {}))
      local file <close> = assert(fd:file())
      local pids
      harness.eventually(function()
        pids = descendants(pid)
        for _, one in ipairs(pids) do
          if harness.title(one) == "wrk" then return true end
        end
      end, "clients at work")
      assert.is_true(#pids >= 4) -- itself, supervisor, worker, wrk
      process.kill(pid, signal)
      process.wait(pid)
      for _, one in ipairs(pids) do
        harness.eventually(function()
          local state = harness.state(one)
          return not state or state == "Z"
        end, "the end of process " .. one)
      end
      assert.is_string(file:read "a")
    end)
  end
end)
