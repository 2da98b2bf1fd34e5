-- What moonpool new puts into a project: path -> text. NAME stands for the project's
-- name.

return {
  ["app.lua"] = [[
-- NAME, a service on Moonpool.

local http = require "moonpool.http"
local app = http.app()

app:get("/", function(_, res)
  res:send "Hello from NAME.\n"
end)

app:post("/sum", function(req, res)
  local numbers, why = req:json()
  if not numbers then return res:status(400):json { error = why } end
  local sum = 0
  for _, n in ipairs(numbers) do sum = sum + n end
  res:json { sum = sum }
end)

return app
]],

  ["pools.lua"] = [[
-- moonpool serve --config pools.lua; moonpool --help lists what can stand here.

return {
  pools = {
    NAME = {
      app = "app.lua",
      listen = os.getenv "LISTEN" or "127.0.0.1:8080",
    },
  },
}
]],

  ["spec/app_spec.lua"] = [[
local test = require "moonpool.test"

describe("NAME", function()
  local app = test.app "app.lua"

  it("says hello", function()
    assert.response(app:get "/").has.status(200).has.body "Hello from NAME.\n"
  end)

  it("adds up", function()
    assert.response(app:post("/sum", { json = { 1, 2, 3 } })).has.json { sum = 6 }
  end)

  it("says what is wrong with what is no JSON", function()
    local answer = app:post("/sum", { body = "1, 2",
      headers = { ["Content-Type"] = "application/json" } })
    assert.response(answer).has.status(400)
  end)

  it("goes on when a worker dies", function()
    assert.response(app:get "/").has.status(200)
    app:kill()
    assert.response(app:get "/").has.status(200)
  end)
end)
]],

  [".busted"] = [[
return { default = { ROOT = { "spec" }, pattern = "_spec" } }
]],

  [".gitignore"] = [[
/coverage/
]],

  ["Makefile"] = [[
# make run serves NAME on 127.0.0.1:8080, make test runs its specs.

MOONPOOL ?= moonpool

run:
	$(MOONPOOL) serve --config pools.lua --dev

test:
	$(MOONPOOL) test

coverage:
	$(MOONPOOL) test --coverage

check:
	$(MOONPOOL) check --config pools.lua

.PHONY: run test coverage check
]],

  ["NAME.service"] = [[
# NAME under systemd: copy this directory to /srv/NAME, then
#
#     sudo cp NAME.service /etc/systemd/system/
#     sudo systemctl enable --now NAME

[Unit]
Description=NAME
After=network.target

[Service]
Type=notify
NotifyAccess=main
WorkingDirectory=/srv/NAME
RuntimeDirectory=NAME
ExecStart=/usr/local/bin/moonpool serve --config pools.lua --control /run/NAME/control
ExecReload=/usr/local/bin/moonpool reload --control /run/NAME/control
Restart=on-failure
DynamicUser=yes
ProtectHome=yes
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
]],

  ["README.md"] = [[
# NAME

A service on Moonpool.

    make run        # serves it on http://127.0.0.1:8080
    make test       # its specs, in a moment; moonpool test --watch runs them again

* `app.lua` is the service, `spec/app_spec.lua` its spec.
* `pools.lua` says where it listens, with how many workers and limits.
* `NAME.service` is for systemd.
]],
}
