-- The benchmark: its figures are what was measured, and it leaves nothing behind.

local cjson = require "cjson"
local cores = require "bench.cores"
local harness = require "server"
local http = require "bench.http"
local kinds = require "bench.kinds"
local lfs = require "lfs"
local measuring = require "bench.measure"
local peers = require "bench.peers"
local plan = require "bench.plan"
local process = require "native.process"
local report = require "bench.report"
local results = require "bench.results"
local slices = require "bench.slices"
local test = require "moonpool.test"

local bench = "build/bench"

describe("results", function()
  local function outcome(runs, far)
    return { case = { targets = {} }, order = { "moonpool", "nginx" }, runs = runs,
      far = far or {}, found = {}, absent = {} }
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

  it("leave out what was not measured", function()
    local o = outcome { moonpool = { {}, { cpu = 2 }, { cpu = 8 } },
      nginx = { { cpu = 1 }, { cpu = 4 }, {} } }
    assert.equal(0.5, results.ratio(o, "moonpool", "nginx", "cpu"))
    assert.equal(5, results.figure(o, "moonpool", "cpu"))
  end)

  it("say what has failed", function()
    local o = outcome {}
    o.found = { moonpool = { { { errors = 0 }, { failed = "no\nfurther" } } },
      nginx = { { { errors = 1 }, { errors = 0 } }, { { errors = 2 } } } }
    assert.equal("no", results.trouble(o, "moonpool"))
    assert.equal("3 requests failed", results.trouble(o, "nginx"))
    o.absent.nginx = "not installed"
    assert.equal("not installed", results.trouble(o, "nginx"))
    assert.is_nil(results.trouble(o, "floor"))
  end)

  it("are of far cores where these were never near", function()
    local near = { figure = "cpu", at_most = 2 }
    local far = { who = "nginx", figure = "cpu", at_most = 3 }
    local ratio = { figure = "cpu", at_most = 0.5, of = "nginx" }
    local o = outcome({ moonpool = { { cpu = 2 }, {} }, nginx = { {}, {} } },
      { moonpool = { {}, { cpu = 6 } }, nginx = { { cpu = 3 }, { cpu = 4 } } })
    assert.same({ 2, true, false }, { results.judge(o, near) })
    assert.equal(6, results.far_value(o, near))
    assert.same({ 3.5, false, true }, { results.judge(o, far) })
    assert.same({ 1.5, false, true }, { results.judge(o, ratio) })
    assert.equal(1.5, results.far_value(o, ratio))
    assert.equal(1.5, results.ratio(o, "moonpool", "nginx", "cpu"))
    assert.equal(3.5, results.figure(o, "nginx", "cpu"))
    assert.is_nil(results.trouble(o, "moonpool"))
    assert.equal("the cores were far all the time", results.trouble(o, "nginx"))
  end)

  it("say whether a target is met", function()
    local o = outcome { moonpool = { { cpu = 3, rate = 10 } }, nginx = { { cpu = 4 } } }
    local function judge(target)
      local value, is_met = results.judge(o, target)
      return { value, is_met }
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

describe("slices", function()
  local function slice(change)
    return setmetatable(change, { __index = { requests = 100, seconds = 0.25, errors = 0,
      p50 = 10, p99 = 20, max = 30, ns = 3e5, user = 1, system = 3, time = 0.5,
      busy = 0.125 } })
  end

  it("are summed before anything is divided", function()
    local run = slices.sum { slice { ns = 1e5, requests = 300, errors = 2 },
      slice { ns = 3e5 }, slice { ns = 2e5, user = 2, system = 6 } }
    assert.same({ 500, 2, 1.2 }, { run.requests, run.errors, run.cpu })
    assert.equal(500 / 0.75, run.rate)
    assert.equal(1e6 / 1.2, run.per_cpu)
    assert.equal(0.3, run.user)
    assert.near((0.375 - 6e-4) / 1.5, run.others, 1e-9)
  end)

  it("have a latency in the middle of theirs, and the longest", function()
    local run = slices.sum { slice { p50 = 7, p99 = 90, max = 99 }, slice {},
      slice { p50 = 0, p99 = 21 } }
    assert.same({ 8.5, 21, 99 }, { run.p50, run.p99, run.max })
  end)

  it("leave out what is not known", function()
    local run = slices.sum { slice { p50 = 0, p99 = 0, user = 0, system = 0,
      busy = false } }
    assert.same({}, { run.p50, run.p99, run.user, run.others })
    assert.equal(0, slices.sum({ slice { busy = 0 } }).others)
  end)

  it("are of cases that may be cut", function()
    local setup = { seconds = 2, build = "a build" }
    local function of(case)
      local count, short = slices.of(case, setup)
      return { count, short.seconds, short.build }
    end
    assert.same({ 10, 0.2, "a build" }, of { kind = "drive" })
    assert.same({ 1, 2, "a build" }, of { kind = "drive", whole = true })
    assert.same({ 1, 2, "a build" }, of { kind = "memory" })
    assert.equal(5, slices.count(1))
  end)

  it("go there and back", function()
    assert.same({ "a", "b", "c" }, slices.order({ "a", "b", "c" }, 1))
    assert.same({ "c", "b", "a" }, slices.order({ "a", "b", "c" }, 2))
    assert.same({ "a", "b", "c" }, slices.order({ "a", "b", "c" }, 3))
  end)
end)

-- Cores with these distances, one after the other; the last one stays.
local function cores_at(...)
  local list, last = { ... }, 0
  local fake = cores.new { build = "", server_core = "0", client_core = "1" }
  function fake.probe()
    last = math.min(last + 1, #list)
    fake:note(list[last])
    return list[last]
  end
  return fake
end

describe("cores", function()
  local function seen(...)
    local self = cores_at(...)
    for _ = 1, select("#", ...) do self:probe() end
    return self
  end

  it("are near up to twice the least distance", function()
    local self = seen(300, 100, 400)
    assert.equal("near", self:state(100, 200))
    assert.equal("far", self:state(201, 400))
    assert.is_nil(self:state(200, 201))
    assert.is_nil(self:state(201, 200))
    assert.same({ near = { 100 }, far = { 300, 400 } }, self:distances())
  end)

  it("are near until one knows better", function()
    local self = seen(300)
    assert.equal("near", self:state(300, 310))
    self:note(140)
    assert.equal("far", self:state(300, 310))
  end)

  it("are near where there are no distances", function()
    local self = seen()
    assert.equal("near", self:state(nil, nil))
    assert.same({ near = {}, far = {} }, self:distances())
  end)

  it("are asked for them", function()
    test.virtual(false)
    local setup = { build = harness.build, server_core = "0", client_core = "1" }
    local self = cores.new(setup)
    assert.is_true(self:probe() > 0)
    assert.equal(1, #self:distances().near)
    setup.server_core = "0-1"
    assert.is_nil(cores.new(setup):probe())
  end)
end)

describe("a round", function()
  -- What is measured is called 1, 2, 3 ... in the order in which that happens; a sum
  -- is a list of these.
  local function outcome_of(case, change)
    local drive, last = kinds.drive, 0
    local options = setmetatable(change or {}, { __index = { rounds = 2, seconds = 1,
      installed = {}, help = "", cores = cores_at(100) } })
    finally(function() kinds.drive = drive end)
    kinds.drive = { server = "launched", measure = function(_, _, setup)
      last = last + 1
      if last == options.fails then return nil, "it failed" end
      return { at = last, seconds = setup.seconds }
    end, sum = not options.no_sum and function(found)
      local list = {}
      for i, one in ipairs(found) do list[i] = one.at end
      return { order = table.concat(list, " "), seconds = found[1].seconds }
    end }
    case.kind, case.peers = "drive", { "floor", "h2o" }
    case.targets = {}
    return measuring.measure(case, options)
  end

  -- run -> its order, or "" for none
  local function orders(rounds)
    local list = {}
    for i, run in ipairs(rounds) do list[i] = run.order or "" end
    return list
  end

  it("is taken in slices, by all in turn", function()
    assert.same({
      moonpool = { { order = "1 4 5 8 9", seconds = 0.2 },
        { order = "12 13 16 17 20", seconds = 0.2 } },
      floor = { { order = "2 3 6 7 10", seconds = 0.2 },
        { order = "11 14 15 18 19", seconds = 0.2 } },
      h2o = {}, -- not installed
    }, outcome_of({}).runs)
  end)

  it("is taken whole where the case says so", function()
    assert.same({
      moonpool = { { order = "1", seconds = 1 }, { order = "4", seconds = 1 } },
      floor = { { order = "2", seconds = 1 }, { order = "3", seconds = 1 } }, h2o = {},
    }, outcome_of({ whole = true }).runs)
  end)

  it("has failed when one of its slices has", function()
    local outcome = outcome_of({}, { fails = 6 })
    assert.same({ "", "11 14 15 18 19" }, orders(outcome.runs.floor))
    assert.same({ {}, {} }, outcome.far.floor)
    assert.equal("1 4 5 8 9", outcome.runs.moonpool[1].order)
    assert.equal("it failed", results.trouble(outcome, "floor"))
  end)

  -- "NF": near at first, then far for ever
  local function cores_of(letters)
    local list = {}
    for letter in letters:gmatch "." do list[#list + 1] = letter == "N" and 100 or 300 end
    local self = cores_at(table.unpack(list))
    self:note(100)
    return self
  end

  -- How many slices each round has.
  local function counts(rounds)
    local list = {}
    for i, found in ipairs(rounds) do list[i] = #found end
    return list
  end

  it("repeats slices until the cores were near in as many as there are to be", function()
    local outcome = outcome_of({}, { rounds = 1, cores = cores_of "FFFNNNNNNNNFFN" })
    assert.same({ "4 5 8 9 16" }, orders(outcome.runs.moonpool))
    assert.same({ "6 7 10 14 15" }, orders(outcome.runs.floor))
    assert.same({ "1 12" }, orders(outcome.far.moonpool)) -- 13 saw them moved,
    assert.same({ "2" }, orders(outcome.far.floor)) -- 3 and 11 too
    local first = outcome.found.moonpool[1][1]
    assert.same({ 300, 300 }, { first.before, first.after })
  end)

  it("repeats no more than there were to be", function()
    local outcome = outcome_of({}, { rounds = 3, cores = cores_of "F" })
    assert.same({ 10, 10, 10 }, counts(outcome.found.moonpool))
    assert.same({ 10, 10, 10 }, counts(outcome.found.floor))
    assert.same({ "", "", "" }, orders(outcome.runs.floor))
    assert.equal("1 4 5 8 9 12 13 16 17 20", outcome.far.moonpool[1].order)
  end)

  it("repeats what was not needed before", function()
    local outcome = outcome_of({}, { cores = cores_of(("N"):rep(12) .. "F") })
    assert.same({ 5, 15 }, counts(outcome.found.moonpool))
    assert.same({ 5, 15 }, counts(outcome.found.floor))
  end)

  it("repeats whole runs too", function()
    local outcome = outcome_of({ whole = true }, { cores = cores_of "FNNNFFFN" })
    assert.same({ "3", "7" }, orders(outcome.runs.moonpool))
    assert.same({ "2", "8" }, orders(outcome.runs.floor))
    assert.same({ "", "5" }, orders(outcome.far.floor))
  end)

  it("repeats nothing where that is too much for one of those who would", function()
    local outcome = outcome_of({ whole = true }, { cores = cores_of "FNNNF" })
    assert.same({ 2, 2 }, counts(outcome.found.moonpool))
    assert.same({ 1, 2 }, counts(outcome.found.floor)) -- 7 of 8
  end)

  it("repeats nothing in the short mode", function()
    local outcome = outcome_of({}, { cores = cores_of "F", quick = true })
    assert.same({ 5, 5 }, counts(outcome.found.moonpool))
  end)

  it("does not repeat what has failed", function()
    local outcome = outcome_of({}, { rounds = 1, cores = cores_of "FFN", fails = 1 })
    assert.same({ 5 }, counts(outcome.found.moonpool))
    assert.same({ 6 }, counts(outcome.found.floor))
  end)

  it("does not look at the cores where there are no slices", function()
    local unknown = cores_at()
    function unknown.probe() error "a probe" end
    local outcome = outcome_of({ whole = true }, { no_sum = true, cores = unknown })
    assert.same({ { at = 1, seconds = 1 }, { at = 4, seconds = 1 } },
      outcome.runs.moonpool)
    assert.same({ {}, {} }, outcome.far.moonpool)
  end)

  it("turns out to have been far when the cores are near at last", function()
    local moving = cores_at(300)
    local outcome = outcome_of({}, { rounds = 1, cores = moving })
    assert.same({ "1 4 5 8 9" }, orders(outcome.runs.moonpool))
    moving:note(100)
    measuring.sum_up(outcome, moving)
    assert.same({ "" }, orders(outcome.runs.moonpool))
    assert.same({ "1 4 5 8 9" }, orders(outcome.far.moonpool))
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
      far = { moonpool = { { cpu = 9 } }, nginx = { { cpu = 10 } }, h2o = {} },
      found = {}, absent = { h2o = "not installed: h2o" },
    },
    { case = { name = "later", title = "later", kind = "drive", targets = {},
      missing = "not written" }, order = {}, found = {}, runs = {}, far = {},
      absent = {} },
  }
  local all = { date = "2026-01-01", rounds = 1, seconds = 2, outcomes = outcomes,
    facts = { cpu = "a processor", cores = 2, kernel = "6.1" },
    distances = { near = { 90, 100, 110 }, far = { 300 } },
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
      assert.matches("Medians of 1 runs of 2 s, each of 10 slices in turn", page)
      assert.matches("nginx 1.22", page)
    end
  end)

  it("says how far the cores were", function()
    local function caption(near, far)
      local change = { distances = { near = near, far = far } }
      return report.summary(setmetatable(change, { __index = all }))
    end
    assert.matches("went from core to core and back in 100 ns %(near%) or in 300 ns "
      .. "%(far, 25 %% of the time%)%.", report.page(all))
    assert.matches("and back in 90 ns%.", caption({ 90 }, {}))
    assert.not_matches("went from core", caption({}, {}))
  end)

  it("says which figures are of far cores", function()
    local never_near = setmetatable({ runs = { moonpool = { {} }, nginx = { {} } } },
      { __index = outcomes[1] })
    local text = report.case_text(never_near)
    assert.matches("Moonpool: the cores were far all the time", text)
    assert.matches("CPU at most 0.75 of nginx's: 0.90, not met, cores far", text)
  end)

  it("is a table in markdown", function()
    local lines = {}
    for line in report.summary(all):gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.same({
      "| case | target | measured | cores far |  |",
      "| --- | --- | --- | --- | --- |",
      "| hello | CPU at most 0.75 of nginx's | 0.50 | 0.90 | met |",
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
    local pipe = assert(io.popen "scripts/bench/run -q -r 1 start balance survive 2>&1")
    local output = pipe:read "a"
    assert.is_true(pipe:close(), output)
    assert.matches("Moonpool +500 +500 +1.00", output)
    local part = bench .. "/part/"
    local runs = {}
    for line in io.lines(part .. "runs.jsonl") do
      local entry = cjson.decode(line)
      runs[entry.case .. " " .. entry.peer] = entry
    end
    assert.same(500, runs["balance moonpool"].run.most)
    assert.is_true(runs["start moonpool"].run.ready > 0)
    local entry = runs["survive survive"]
    assert.equal(5, #entry.slices)
    for _, slice in ipairs(entry.slices) do
      assert.equal(0, slice.errors)
      assert.is_true(slice.before > 0 and slice.after > 0)
    end
    local run = entry.run.requests and entry.run or entry.far
    assert.is_true(run.requests <= slices.sum(entry.slices).requests)
    assert.is_true(run.cpu > 0 and run.p50 <= run.p99 and run.p99 <= run.max)
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
