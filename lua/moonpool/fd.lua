-- Descriptors of any kind: what conn:recvfd() returns and conn:sendfd() takes.
--
--     fd.pipe() -> reading end, writing end
--     d:kind() -> "file" "pipe" "socket" ...      d:identity() -> device, inode
--     d:file([mode]) -> Lua file that takes it over            d:fileno()  d:close()

return require("moonpool.core").fd
