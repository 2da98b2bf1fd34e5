-- What wrk sends, and how it tells what it found: one line, as load does.
--
--     wrk ... -s wrk.lua URL -- [method=POST] [body=BYTES] [pipeline=N]
--         [header=NAME:VALUE]...

local pipeline = 1

local options = {
  method = function(value) wrk.method = value end,
  body = function(value) wrk.body = ("x"):rep(tonumber(value)) end,
  pipeline = function(value) pipeline = tonumber(value) end,
  header = function(value)
    local name, text = value:match "^([^:]*):(.*)$"
    wrk.headers[name] = text
  end,
}

function init(arguments)
  for _, argument in ipairs(arguments) do
    local name, value = argument:match "^(%l+)=(.*)$"
    options[name](value)
  end
  if pipeline > 1 then
    local requests = wrk.format():rep(pipeline)
    function request() return requests end -- without it wrk asks nobody
  end
end

function done(summary, latency)
  local e = summary.errors
  print(("requests=%d seconds=%.6f p50=%.1f p99=%.1f max=%.1f errors=%d"):format(
    summary.requests, summary.duration / 1e6, latency:percentile(50),
    latency:percentile(99), latency.max,
    e.connect + e.read + e.write + e.status + e.timeout))
end
