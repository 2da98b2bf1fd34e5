-- Connections that a script opens itself; what they can do stands in moonpool.conn.
--
--     net.connect(address [, seconds]) -> conn | nil, message, code
--         "127.0.0.1:80"  "[::1]:80"  "host:80"  "unix:/path"  "unix:@name"
--     net.pair() -> conn, conn          both ends of a unix socketpair
--     net.conn(fd [, unread]) -> conn | nil, message, code
--         takes over a moonpool.fd; unread, a string, is read before what comes

return require("moonpool.core").net
