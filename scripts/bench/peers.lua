-- Who takes part. A peer has
--
--     title       what tables call it
--     command     function(c) -> argv [, list of "NAME=value"]
--     config      (optional) a file of peers/, which is filled in and given as c.config
--     packages    the Debian packages that it needs
--     flag        (optional) a flag without which it is not there yet
--
-- where c says what is to be served: port, workers, app ("http", "files", "ws" or
-- "line"), closes (each connection after an answer), directory (of its own), root (the
-- directory of the files to serve), user, build, and here, this directory.

local function floor(...)
  local flags = { ... }
  return function(c)
    local argv = { c.build .. "/bench/floor" }
    table.move(flags, 1, #flags, 2, argv)
    if c.closes then argv[#argv + 1] = "-c" end
    if c.app == "line" then argv[#argv + 1] = "-l" end
    if c.app == "ws" then argv[#argv + 1] = "-w" end
    argv[#argv + 1] = c.port
    return argv
  end
end

local function moonpool(...)
  local flags = { ... }
  return function(c)
    local argv = { c.build .. "/moonpool", "serve", c.here .. "/apps/" .. c.app .. ".lua",
      "--listen", "127.0.0.1:" .. c.port, "--workers", c.workers,
      "--concurrency", "20000", "--log-level", "error", "--drain", "0.1",
      "--env", "BENCH_FILES=" .. c.root, "--control", c.directory .. "/control" }
    return table.move(flags, 1, #flags, #argv + 1, argv)
  end
end

local function node(c)
  local env = { "PORT=" .. c.port }
  if c.app == "line" then env[2] = "NODE_LINE=1" end
  return { "node", c.here .. "/peers/node.js" }, env
end

local function node_cluster(c)
  local argv, env = node(c)
  env[#env + 1] = "NODE_CLUSTER=" .. c.workers
  return argv, env
end

local function nginx(c)
  return { "/usr/sbin/nginx", "-p", c.directory, "-c", c.config }
end

local function script(lua, name)
  return function(c)
    return { lua, c.here .. "/peers/" .. name, c.port }
  end
end

return {
  moonpool = { title = "Moonpool", command = moonpool(), packages = {} },
  survive = { title = "Moonpool, survive", command = moonpool "--survive",
    packages = {}, flag = "--survive" },
  floor = { title = "C floor", command = floor(), packages = {} },
  ["floor-pass"] = { title = "C floor, passing", command = floor "-p", packages = {} },
  nginx = { title = "nginx", command = nginx, config = "nginx.conf",
    packages = { "nginx" } },
  ["nginx-lua"] = { title = "nginx + Lua", command = nginx, config = "nginx-lua.conf",
    packages = { "nginx", "libnginx-mod-http-lua", "lua-cjson" } },
  lighttpd = { title = "lighttpd + Lua", config = "lighttpd.conf",
    packages = { "lighttpd", "lighttpd-modules-lua", "lua-cjson" },
    command = function(c) return { "/usr/sbin/lighttpd", "-D", "-f", c.config } end },
  h2o = { title = "h2o", config = "h2o.conf", packages = { "h2o" },
    command = function(c) return { "h2o", "-c", c.config } end },
  haproxy = { title = "HAProxy", config = "haproxy.cfg", packages = { "haproxy" },
    command = function(c) return { "/usr/sbin/haproxy", "-q", "-f", c.config } end },
  node = { title = "Node", command = node, packages = { "nodejs" } },
  ws = { title = "ws (npm)", packages = { "nodejs", "node-ws" },
    command = function(c)
      return { "node", c.here .. "/peers/ws.js" },
        { "PORT=" .. c.port, "NODE_PATH=/usr/share/nodejs" }
    end },
  ["node-cluster"] = { title = "Node cluster", command = node_cluster,
    packages = { "nodejs" } },
  ["lua-http"] = { title = "lua-http", packages = { "lua-http", "lua5.3", "lua-cjson" },
    command = script("lua5.3", "lua-http.lua") },
  cqueues = { title = "lua-cqueues", packages = { "lua-cqueues" },
    command = script("lua5.4", "cqueues.lua") },
}
