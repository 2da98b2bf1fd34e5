-- Descriptors of any kind: what conn:recvfd() returns and conn:sendfd() takes.
--
--     fd.pipe() -> reading end, writing end
--     fd.open(directory, name) -> fd, for reading | nil, message, code
--         name may come from anybody: "../x", "/x" and symlinks that leave the directory
--         are refused ("EXDEV"). A directory and a fifo are opened too: see d:kind().
--     fd.read(file [, offset = 0 [, length]]) -> string | nil, message, code
--         of a regular file, which is a path, an fd or a Lua file; whole without length.
--         It is shorter than length only where the file ends.
--     fd.open_path(path) -> fd, for reading, of a path that one knows
--     fd.append(path) -> fd, for appending (made 0640 if need be) | nil, message, code
--     fd.stderr() -> a duplicate of standard error
--     d:write(text) -> how many bytes were taken without waiting | nil, message, code:
--         "EAGAIN" for none. A file takes everything, anything else 4096 bytes at most.
--     d:kind() -> "file" "pipe" "socket" ...      d:identity() -> device, inode
--     d:stat() -> { kind, size, mtime, mtime_ns, device, inode }: the time of the last
--         change of its content is mtime seconds and mtime_ns nanoseconds
--     d:file([mode]) -> Lua file that takes it over            d:fileno()  d:close()

return require("moonpool.core").fd
