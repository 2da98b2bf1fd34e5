-- Two programs: the giver talks to clients, the taker to the giver. See giver.lua.
local socket = "unix:" .. (os.getenv "HANDOVER_SOCKET" or "/tmp/handover.sock")

return {
  pools = {
    giver = {
      app = "giver.lua",
      listen = os.getenv "LISTEN" or "127.0.0.1:8080",
      workers = 1,
      env = { TAKER = socket },
    },
    taker = {
      app = "taker.lua",
      listen = socket,
      socket_mode = "600", -- whoever may connect may hand over anything
      workers = 1,
    },
  },
}
