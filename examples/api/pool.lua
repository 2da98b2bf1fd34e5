-- The notes are in the memory of the worker, so there is one.
return {
  name = "api",
  app = "app.lua",
  listen = os.getenv "LISTEN" or "127.0.0.1:8080",
  workers = 1,
}
