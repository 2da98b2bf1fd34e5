-- Four workers with one client each. Whoever comes while all are BUSY waits in the
-- kernel's queue and is taken in order of arrival.
return {
  name = "fileserver",
  app = "app.lua",
  listen = os.getenv "LISTEN" or "127.0.0.1:8080",
  workers = 4,
  concurrency = 1,
  policy = "first_free",
  idle_timeout = 30, -- a client that says nothing would keep its worker BUSY
  read_limit = "8k", -- longer than any name
}
