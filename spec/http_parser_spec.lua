-- The HTTP parser alone. Each vector is { name, bytes, expected }: the name begins with
-- the section of RFC 9112 or 9110 that decides it; expected is the status of a refusal,
-- "more", or the fields to find in the request. Every vector is fed whole, byte by byte
-- and in two parts at every place, and has one outcome.
local http = require "native.http"

local function bytes_of(first, last)
  local all = {}
  for b = first, last do all[#all + 1] = string.char(b) end
  return table.concat(all)
end

-- A result as one string, fields in order, so that two are compared fast and shown well.
local function show(result)
  local names, lines = {}, {}
  for name in pairs(result) do
    if name ~= "headers" and name ~= "reason" then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    lines[#lines + 1] = ("%s = %s"):format(name, result[name])
  end
  for _, h in ipairs(result.headers or {}) do
    lines[#lines + 1] = ("header %q: %q"):format(h.name, h.value)
  end
  return table.concat(lines, "\n")
end

local function every_byte(bytes)
  local cuts = {}
  for i = 1, #bytes do cuts[i] = i end
  return cuts
end

-- feed(cuts) must give the same at every cut of bytes; returns what it gives.
local function same_at_every_cut(bytes, feed)
  local whole = feed(nil)
  local shown = show(whole)
  local function compare(how, result)
    local other = show(result)
    if other ~= shown then assert.equal(shown, other, how) end
  end
  compare("byte by byte", feed(every_byte(bytes)))
  for cut = 0, #bytes do compare("cut at " .. cut, feed { cut }) end
  return whole
end

local function check_fields(expected, got)
  local fields = {}
  for i, h in ipairs(got.headers) do fields[i] = h.name .. ": " .. h.value end
  for name, value in pairs(expected) do
    if name == "fields" then
      assert.same(value, fields)
    elseif name ~= "rest" then
      assert.equal(value, got[name], name)
    end
  end
end

local function check_whole(bytes, expected, got, limits)
  assert.equal("whole", got.outcome, got.reason)
  assert.equal(#bytes - #(expected.rest or ""), got.head_len)
  assert.equal("more", http.parse(bytes:sub(1, got.head_len - 1), limits).outcome)
  check_fields(expected, got)
end

local function check_head(bytes, expected, limits)
  local got = same_at_every_cut(bytes, function(cuts)
    return http.parse(bytes, limits, cuts)
  end)
  if type(expected) == "table" then
    check_whole(bytes, expected, got, limits)
  elseif expected == "more" then
    assert.equal("more", got.outcome, got.reason)
  else
    assert.equal("refused", got.outcome)
    assert.equal(expected, got.status, got.reason)
    assert.truthy(#got.reason > 0)
  end
end

local function check_chunked(bytes, expected)
  local got = same_at_every_cut(bytes, function(cuts)
    return http.chunked(bytes, cuts)
  end)
  if type(expected) == "table" then
    assert.equal("over", got.outcome, got.reason)
    assert.equal(expected.content, got.content)
    assert.equal(expected.trailers or got.trailers, got.trailers)
    assert.equal(#bytes - #(expected.rest or ""), got.used)
  elseif expected == "more" then
    assert.equal("more", got.outcome, got.reason)
    assert.equal(#bytes, got.used)
  else
    assert.equal("refused", got.outcome)
    assert.equal(expected, got.status, got.reason)
  end
end

-- A good request around one request line; around some header lines; the same in 1.0.
local function line(text) return text .. "\r\nHost: a\r\n\r\n" end
local function post(text) return "POST / HTTP/1.1\r\n" .. text .. "\r\n\r\n" end
local function with(text) return post("Host: a\r\n" .. text) end
local function old(text) return "GET / HTTP/1.0\r\n" .. text .. "\r\n\r\n" end
local function host(value) return "GET / HTTP/1.1\r\nHost:" .. value .. "\r\n\r\n" end

local request_lines = {
  { "9112 3: method, target, version", line "GET / HTTP/1.1",
    { method = "GET", target = "/", path = "/", query = "", form = "origin", minor = 1,
      host = "a", body = "none", keep_alive = true, fields = { "Host: a" } } },
  { "9112 2.3: HTTP/1.0", line "GET / HTTP/1.0", { minor = 0, keep_alive = false } },
  { "9110 9.1: methods are case-sensitive", line "get / HTTP/1.1", { method = "get" } },
  { "9110 9.1: an unknown method", line "BREW /pot HTTP/1.1", { method = "BREW" } },
  { "9110 9.1: every tchar can be in a method", line "!#$%&'*+-.^_`|~09azAZ / HTTP/1.1",
    { method = "!#$%&'*+-.^_`|~09azAZ" } },
  { "9110 9.1: a method of 32 bytes", line(("M"):rep(32) .. " / HTTP/1.1"),
    { method = ("M"):rep(32) } },
  { "9112 3: a method of 33 bytes", line(("M"):rep(33) .. " / HTTP/1.1"), 501 },
  { "9112 3: a method that never ends", ("M"):rep(9000), 501 },
  { "9112 3: an empty method", line " / HTTP/1.1", 400 },
  { "9112 3: a separator in the method", line "G(T / HTTP/1.1", 400 },
  { "9112 3: NUL in the method", line "G\0T / HTTP/1.1", 400 },
  { "9112 3: obs-text in the method", line "G\xc3\x89T / HTTP/1.1", 400 },
  { "9112 3: a method alone", line "GET", 400 },
  { "9112 3: a method and a space", line "GET ", 400 },
  { "9112 3: HTAB instead of SP", line "GET\t/ HTTP/1.1", 400 },
  { "9112 3: two spaces after the method", line "GET  / HTTP/1.1", 400 },
  { "9112 3: two spaces after the target", line "GET /  HTTP/1.1", 400 },
  { "9112 3: HTAB after the target", line "GET /\tHTTP/1.1", 400 },
  { "9112 3: a space after the version", line "GET / HTTP/1.1 ", 400 },
  { "9112 3: a space before the method", line " GET / HTTP/1.1", 400 },
  { "9112 3: a space in the target", line "GET /a b HTTP/1.1", 400 },
  { "9112 3: a version and no target", line "GET HTTP/1.1", 400 },
  { "9112 3: words", line "this is not http", 400 },
  { "9112 3: no target between the spaces", line "GET  HTTP/1.1", 400 },
  { "9112 2.2: bare LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400 },
  { "9112 2.2: bare CR in the request line", line "GET /\rx HTTP/1.1", 400 },
  { "9112 2.2: bare CR as a space", line "GET\r/ HTTP/1.1", 400 },
  { "9112 2.2: two CR before LF", line "GET / HTTP/1.1\r", 400 },
  { "9112 2.2: one empty line before", "\r\n" .. line "GET / HTTP/1.1", { path = "/" } },
  { "9112 2.2: two empty lines before", "\r\n\r\n" .. line "GET / HTTP/1.1", 400 },
  { "9112 2.2: an empty line of LF before", "\n" .. line "GET / HTTP/1.1", 400 },
  { "9112 2.2: LF after an empty line before", "\r\n\n" .. line "GET / HTTP/1.1", 400 },
  { "9112 2.2: a CR before", "\r" .. line "GET / HTTP/1.1", 400 },
  { "9112 2.2: white space before the first field",
    "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400 },
  { "9112 2.3: HTTP/0.9", "GET /\r\n", 400 },
  { "9112 2.3: HTTP/0.9 with LF", "GET /\n", 400 },
  { "9112 2.3: HTTP/0.9 in the version", line "GET / HTTP/0.9", 505 },
  { "9112 2.3: HTTP/1.2", line "GET / HTTP/1.2", 505 },
  { "9112 2.3: HTTP/2.0", line "GET / HTTP/2.0", 505 },
  { "9113 3.4: the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505 },
  { "9112 2.3: HTTP/9.9", line "GET / HTTP/9.9", 505 },
  { "9112 2.3: HTTP/1.10", line "GET / HTTP/1.10", 400 },
  { "9112 2.3: HTTP/11.1", line "GET / HTTP/11.1", 400 },
  { "9112 2.3: HTTP/1", line "GET / HTTP/1", 400 },
  { "9112 2.3: HTTP/1.", line "GET / HTTP/1.", 400 },
  { "9112 2.3: HTTP/1,1", line "GET / HTTP/1,1", 400 },
  { "9112 2.3: HTTP/1.x", line "GET / HTTP/1.x", 400 },
  { "9112 2.3: HTTP/+.1", line "GET / HTTP/+.1", 400 },
  { "9112 2.3: the name is case-sensitive", line "GET / http/1.1", 400 },
  { "9112 2.3: another protocol", line "DESCRIBE /x RTSP/1.0", 400 },
  { "9112 2.3: HTTPS/1.1", line "GET / HTTPS/1.1", 400 },
  { "9112 3: a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400 },
  { "9112 3: SSH", "SSH-2.0-OpenSSH_9.2p1\r\n", 400 },
  { "9112 3: a response", "HTTP/1.1 200 OK\r\n\r\n", 400 },
  { "9112 3: NUL first", "\0", 400 },
  { "9112 3: a byte order mark", "\xef\xbb\xbf" .. line "GET / HTTP/1.1", 400 },
  { "9112 2.1: nothing yet", "", "more" },
  { "9112 2.1: half a request line", "GET / HT", "more" },
  { "9112 2.1: no fields yet", "GET / HTTP/1.1\r\n", "more" },
  { "9112 2.1: half an empty line", "GET / HTTP/1.1\r\nHost: a\r\n\r", "more" },
  { "9112 2.2: half an empty line before", "\r", "more" },
}

local targets = {
  { "9112 3.2.1: path and query", line "GET /a/b?c=d&e HTTP/1.1",
    { path = "/a/b", query = "c=d&e", target = "/a/b?c=d&e" } },
  { "9112 3.2.1: an empty query", line "GET /a? HTTP/1.1", { path = "/a", query = "" } },
  { "3986 3.4: a query with question marks", line "GET /?a?b HTTP/1.1",
    { path = "/", query = "a?b" } },
  { "9112 3.2.1: two slashes are a path", line "GET //b/c HTTP/1.1",
    { path = "//b/c", form = "origin", host = "a" } },
  { "9112 3.2.1: a URI in the path", line "GET /http://b/c HTTP/1.1",
    { path = "/http://b/c", form = "origin" } },
  { "3986 2.1: what is encoded stays so", line "GET /%2e%2E/%00?%zz HTTP/1.1",
    { path = "/%2e%2E/%00", query = "%zz" } },
  { "9112 3.2: any visible ASCII", line "GET /\"<>[\\]^`{|} HTTP/1.1",
    { path = "/\"<>[\\]^`{|}" } },
  { "9112 3.2: a fragment", line "GET /a#b HTTP/1.1", 400 },
  { "9112 3.2: obs-text", line "GET /caf\xc3\xa9 HTTP/1.1", 400 },
  { "9112 3.2: NUL", line "GET /\0 HTTP/1.1", 400 },
  { "9112 3.2: ESC", line "GET /\27 HTTP/1.1", 400 },
  { "9112 3.2: DEL", line "GET /\127 HTTP/1.1", 400 },
  { "9112 3.2: a relative path", line "GET a/b HTTP/1.1", 400 },
  { "9112 3.2: a query alone", line "GET ?a HTTP/1.1", 400 },
  { "9112 3.2.2: absolute-form", line "GET http://b.example/c?d HTTP/1.1",
    { form = "absolute", path = "/c", query = "d", host = "b.example",
      target = "http://b.example/c?d" } },
  { "9112 3.2.2: the target's host wins over Host", line "GET http://b:81/ HTTP/1.1",
    { host = "b:81", fields = { "Host: a" } } },
  { "9112 3.2.2: absolute-form in HTTP/1.0", "GET http://b/ HTTP/1.0\r\n\r\n",
    { form = "absolute", host = "b" } },
  { "9112 3.2.2: still needs Host", "GET http://b/ HTTP/1.1\r\n\r\n", 400 },
  { "9112 3.2.2: https", line "GET https://b/c HTTP/1.1", { path = "/c", host = "b" } },
  { "3986 3.1: a scheme's case", line "GET HtTpS://B/c HTTP/1.1", { host = "B" } },
  { "9110 4.2.3: no path", line "GET http://b HTTP/1.1", { path = "", query = "" } },
  { "9110 4.2.3: no path, a query", line "GET http://b?c/d HTTP/1.1",
    { host = "b", path = "", query = "c/d" } },
  { "9112 3.2.4: OPTIONS, no path", line "OPTIONS http://b:8001 HTTP/1.1",
    { form = "absolute", host = "b:8001", path = "" } },
  { "3986 3.2.2: an IPv6 host", line "GET http://[::1]:80/ HTTP/1.1",
    { host = "[::1]:80" } },
  { "9110 4.2.1: an empty host", line "GET http:///c HTTP/1.1", 400 },
  { "9110 4.2.1: a port without host", line "GET http://:80/ HTTP/1.1", 400 },
  { "9110 4.2.4: userinfo", line "GET http://u@b/ HTTP/1.1", 400 },
  { "9110 4.2.4: userinfo with password", line "GET http://u:p@b/ HTTP/1.1", 400 },
  { "3986 3.2: a backslash in the host", line "GET http://b\\@c/ HTTP/1.1", 400 },
  { "9110 4.2: another scheme", line "GET ftp://b/ HTTP/1.1", 400 },
  { "9110 4.2: one slash", line "GET http:/b/ HTTP/1.1", 400 },
  { "9110 4.2: a scheme alone", line "GET http:// HTTP/1.1", 400 },
  { "9112 3.2.3: authority-form", line "CONNECT b.example:443 HTTP/1.1",
    { form = "authority", host = "b.example:443", path = "", query = "" } },
  { "9112 3.2.3: with an IPv6 host", line "CONNECT [2001:db8::1]:443 HTTP/1.1",
    { form = "authority", host = "[2001:db8::1]:443" } },
  { "9112 3.2.3: CONNECT in origin-form", line "CONNECT /a HTTP/1.1", 400 },
  { "9112 3.2.3: CONNECT in absolute-form", line "CONNECT http://b:80 HTTP/1.1", 400 },
  { "9112 3.2.3: CONNECT in asterisk-form", line "CONNECT * HTTP/1.1", 400 },
  { "9110 9.3.6: no port", line "CONNECT b HTTP/1.1", 400 },
  { "9110 9.3.6: an empty port", line "CONNECT b: HTTP/1.1", 400 },
  { "9110 9.3.6: port 0", line "CONNECT b:0 HTTP/1.1", 400 },
  { "9110 9.3.6: port 65535", line "CONNECT b:65535 HTTP/1.1", { host = "b:65535" } },
  { "9110 9.3.6: port 65536", line "CONNECT b:65536 HTTP/1.1", 400 },
  { "9110 9.3.6: a port and a path", line "CONNECT b:80/ HTTP/1.1", 400 },
  { "9112 3.2.3: only for CONNECT", line "GET b.example:443 HTTP/1.1", 400 },
  { "9112 3.2.3: methods are case-sensitive", line "connect b:443 HTTP/1.1", 400 },
  { "9112 3.2.4: asterisk-form", line "OPTIONS * HTTP/1.1",
    { form = "asterisk", path = "", query = "", target = "*", host = "a" } },
  { "9112 3.2.4: only for OPTIONS", line "GET * HTTP/1.1", 400 },
  { "9112 3.2.4: not with more", line "OPTIONS *a HTTP/1.1", 400 },
  { "9112 3.2.4: not with a query", line "OPTIONS *?a HTTP/1.1", 400 },
}

local fields = {
  { "9112 5: order, case and repeats kept", with "B: 1\r\na: 2\r\nB: 3",
    { fields = { "Host: a", "B: 1", "a: 2", "B: 3" } } },
  { "9112 5.1: white space around a value", with "A: \t b \t c\t \r\nB:d",
    { fields = { "Host: a", "A: b \t c", "B: d" } } },
  { "9110 5.5: an empty value", with "A:\r\nB: \t ",
    { fields = { "Host: a", "A: ", "B: " } } },
  { "9110 5.5: obs-text in a value", with("A: " .. bytes_of(0x80, 0xff)),
    { fields = { "Host: a", "A: " .. bytes_of(0x80, 0xff) } } },
  { "9110 5.5: all of visible ASCII", with("A: " .. bytes_of(0x21, 0x7e)),
    { fields = { "Host: a", "A: " .. bytes_of(0x21, 0x7e) } } },
  { "9110 5.1: every tchar in a name", with "!#$%&'*+-.^_`|~09azAZ: 1",
    { fields = { "Host: a", "!#$%&'*+-.^_`|~09azAZ: 1" } } },
  { "9112 5: colons in a value", with "A::b:", { fields = { "Host: a", "A: :b:" } } },
  { "9112 5.1: SP before the colon", with "A : b", 400 },
  { "9112 5.1: HTAB before the colon", with "A\t: b", 400 },
  { "9112 5.1: SP before Content-Length's colon", with "Content-Length : 5", 400 },
  { "9112 5: a space in a name", with "A b: c", 400 },
  { "9112 5: an empty name", with ": b", 400 },
  { "9112 5: no colon", with "Abc", 400 },
  { "9112 5: a separator in a name", with "A(b): c", 400 },
  { "9112 5: obs-text in a name", with "Caf\xc3\xa9: c", 400 },
  { "9112 5: NUL in a name", with "A\0: b", 400 },
  { "9112 5.2: folded with SP", with "A: b\r\n c", 400 },
  { "9112 5.2: folded with HTAB", with "A: b\r\n\tc", 400 },
  { "9112 5.2: a line of white space", with "A: b\r\n \r\nC: d", 400 },
  { "9112 2.2: bare LF after a field", with "A: b\nC: d", 400 },
  { "9112 2.2: bare LF as the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400 },
  { "9112 2.2: bare LF throughout", "GET / HTTP/1.1\nHost: a\n\n", 400 },
  { "9112 2.2: bare CR in a value", with "A: b\rC: d", 400 },
  { "9112 2.2: bare CR before CRLF", with "A: b\r", 400 },
  { "9112 2.2: bare CR in place of the end", "GET / HTTP/1.1\r\nHost: a\r\n\rX\r\n\r\n",
    400 },
  { "9110 5.5: NUL in a value", with "A: b\0c", 400 },
  { "9110 5.5: NUL in a long value", with("A: " .. ("x"):rep(21) .. "\0" .. ("x"):rep(9)),
    400 },
  { "9110 5.5: NUL ends a value", with "A: bcdefghijklmnop\0", 400 },
  { "9110 5.5: a control in a value", with "A: \1", 400 },
  { "9110 5.5: ESC in a value", with "A: abcdefgh\27[2Jabcdefgh", 400 },
  { "9110 5.5: DEL in a value", with "A: 12345678\127", 400 },
  { "9110 5.5: HTAB in a long value", with "A: 12345678\t12345678\t1",
    { fields = { "Host: a", "A: 12345678\t12345678\t1" } } },
}

local hosts = {
  { "9112 3.2: no Host in 1.1", "GET / HTTP/1.1\r\n\r\n", 400 },
  { "9112 3.2: no Host in 1.0", "GET / HTTP/1.0\r\n\r\n", { host = "", minor = 0 } },
  { "9112 3.2: two Hosts", host " a\r\nHost: b", 400 },
  { "9112 3.2: the same Host twice", host " a\r\nhost: a", 400 },
  { "9112 3.2: two Hosts in 1.0", old "Host: a\r\nHost: a", 400 },
  { "9112 3.2: two Hosts apart", host " a\r\nA: b\r\nHOST: b", 400 },
  { "9110 5.1: names have no case", "GET / HTTP/1.1\r\nhOsT: b\r\n\r\n", { host = "b" } },
  { "9112 3.2: an empty Host", host "", { host = "" } },
  { "9110 7.2: with a port", host " b.example:8080", { host = "b.example:8080" } },
  { "3986 3.2.3: an empty port", host " b:", { host = "b:" } },
  { "3986 3.2.3: a port of letters", host " b:80a", 400 },
  { "3986 3.2.3: a negative port", host " b:-1", 400 },
  { "3986 3.2.3: two ports", host " b:80:80", 400 },
  { "3986 3.2.3: a port of 17 bits", host " b:65536", 400 },
  { "3986 3.2.3: a port of 65 bits", host " b:18446744073709551696", 400 },
  { "9110 4.2.1: a port without a host", host " :80", 400 },
  { "3986 3.2.2: IPv4", host " 127.0.0.1:1", { host = "127.0.0.1:1" } },
  { "3986 3.2.2: IPv6", host " [fe80::1]", { host = "[fe80::1]" } },
  { "3986 3.2.2: IPv6 and IPv4", host " [::ffff:1.2.3.4]:1",
    { host = "[::ffff:1.2.3.4]:1" } },
  { "3986 3.2.2: IPv6 without brackets", host " ::1", 400 },
  { "3986 3.2.2: an open bracket", host " [::1", 400 },
  { "3986 3.2.2: empty brackets", host " []", 400 },
  { "3986 3.2.2: words in brackets", host " [localhost]", 400 },
  { "3986 3.2.2: more after the bracket", host " [::1]a", 400 },
  { "3986 3.2.2: sub-delims", host " a!$&'()*+,;=_~b", { host = "a!$&'()*+,;=_~b" } },
  { "3986 3.2.2: percent-encoded", host " a%2Eb%2e", { host = "a%2Eb%2e" } },
  { "3986 3.2.2: half an encoding", host " a%2", 400 },
  { "3986 3.2.2: no hexadecimal encoding", host " a%2gb", 400 },
  { "9112 3.2: a list", host " a, b", 400 },
  { "9112 3.2: with a path", host " a/b", 400 },
  { "9112 3.2: with userinfo", host " u@a", 400 },
  { "9112 3.2: with a scheme", host " http://a", 400 },
  { "9112 3.2: obs-text", host " caf\xc3\xa9", 400 },
}

local framing = {
  { "9112 6.3: no body", with "A: b", { body = "none", length = 0 } },
  { "9112 6.2: Content-Length", with "Content-Length: 5",
    { body = "length", length = 5 } },
  { "9110 8.6: zero", with "Content-Length: 0", { body = "length", length = 0 } },
  { "9110 8.6: leading zeros", with "Content-Length: 007", { length = 7 } },
  { "9110 8.6: white space around", with "content-length:\t 7 ", { length = 7 } },
  { "9110 8.6: in HTTP/1.0", old "Content-Length: 5", { body = "length", length = 5 } },
  { "9110 8.6: of a GET", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    { body = "length", length = 5, rest = "hello" } },
  { "9110 8.6: of a CONNECT",
    "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
    { body = "length", length = 1 } },
  { "9110 8.6: 2^63-1", with "Content-Length: 9223372036854775807",
    { length = math.maxinteger } },
  { "9110 8.6: 2^63", with "Content-Length: 9223372036854775808", 400 },
  { "9110 8.6: 2^64", with "Content-Length: 18446744073709551616", 400 },
  { "9110 8.6: thirty digits", with("Content-Length: " .. ("9"):rep(30)), 400 },
  { "9110 8.6: empty", with "Content-Length:", 400 },
  { "9110 8.6: negative", with "Content-Length: -1", 400 },
  { "9110 8.6: with a plus", with "Content-Length: +1", 400 },
  { "9110 8.6: hexadecimal", with "Content-Length: 0x10", 400 },
  { "9110 8.6: a fraction", with "Content-Length: 1.0", 400 },
  { "9110 8.6: digits apart", with "Content-Length: 1 0", 400 },
  { "9110 8.6: a letter behind", with "Content-Length: 10a", 400 },
  { "9110 8.6: quoted", with "Content-Length: \"5\"", 400 },
  { "9110 8.6: digits of another script", with "Content-Length: \xd9\xa5", 400 },
  { "9112 6.3: a list of the same", with "Content-Length: 5, 5", 400 },
  { "9112 6.3: a list of others", with "Content-Length: 5, 6", 400 },
  { "9112 6.3: an empty element", with "Content-Length: 5,", 400 },
  { "9112 6.3: twice the same", with "Content-Length: 5\r\nContent-Length: 5", 400 },
  { "9112 6.3: twice", with "Content-Length: 5\r\nA: b\r\ncontent-length: 6", 400 },
  { "9112 7.1: chunked", with "Transfer-Encoding: chunked",
    { body = "chunked", length = 0 } },
  { "9112 7: a coding's case", with "transfer-encoding:\tCHUNKed\t",
    { body = "chunked" } },
  { "9112 6.1: with Content-Length",
    with "Content-Length: 5\r\nTransfer-Encoding: chunked", 400 },
  { "9112 6.1: before Content-Length",
    with "Transfer-Encoding: chunked\r\nContent-Length: 5", 400 },
  { "1945 7.2.2: a POST of 1.0 says how long it is", "POST / HTTP/1.0\r\n\r\n", 411 },
  { "1945 7.2.2: a PUT too", "PUT / HTTP/1.0\r\nHost: a\r\n\r\n", 411 },
  { "9112 6.3: one of 1.1 has none without", "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
    { body = "none" } },
  { "9112 6.1: in HTTP/1.0", old "Transfer-Encoding: chunked", 400 },
  { "9112 6.1: another before chunked", with "Transfer-Encoding: gzip, chunked", 501 },
  { "9112 6.1: another in a field before",
    with "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501 },
  { "9112 6.3: another alone", with "Transfer-Encoding: gzip", 400 },
  { "9112 6.3: identity", with "Transfer-Encoding: identity", 400 },
  { "9112 6.3: another after chunked", with "Transfer-Encoding: chunked, gzip", 400 },
  { "9112 6.3: another in a field after",
    with "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400 },
  { "9112 7.1: chunked twice", with "Transfer-Encoding: chunked, chunked", 400 },
  { "9112 7.1: chunked in two fields",
    with "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400 },
  { "9112 7.1: chunked with a parameter", with "Transfer-Encoding: chunked;a=b", 400 },
  { "9112 6.1: empty", with "Transfer-Encoding:", 400 },
  { "9112 6.1: an empty element before", with "Transfer-Encoding: , chunked", 400 },
  { "9112 6.1: an empty element behind", with "Transfer-Encoding: chunked,", 400 },
  { "9112 6.1: quoted", with "Transfer-Encoding: \"chunked\"", 400 },
  { "9112 6.1: a letter before", with "Transfer-Encoding: xchunked", 400 },
  { "9112 6.1: a word before", with "Transfer-Encoding: x chunked", 400 },
  { "9112 6.1: vertical tab before", with "Transfer-Encoding: \11chunked", 400 },
  { "9112 6.1: NUL behind", with "Transfer-Encoding: chunked\0", 400 },
  { "9112 5.1: space before the colon", with "Transfer-Encoding : chunked", 400 },
  { "9112 6.1: another name is another field", with "Transfer_Encoding: chunked",
    { body = "none" } },
  { "9112 9.3: what follows is not looked at", line "GET / HTTP/1.1" .. "GET /b HTT",
    { path = "/", rest = "GET /b HTT" } },
  { "9112 9.3: garbage may follow", line "GET / HTTP/1.1" .. "\0\n\r\n",
    { rest = "\0\n\r\n" } },
}

local connections = {
  { "9112 9.3: 1.1 persists", with "A: b", { keep_alive = true } },
  { "9112 9.3: 1.0 does not", old "A: b", { keep_alive = false } },
  { "9112 9.6: close", with "Connection: close", { keep_alive = false } },
  { "9112 9.3: 1.0 with keep-alive", old "Connection: Keep-Alive",
    { keep_alive = true } },
  { "9112 9.3: 1.1 with keep-alive", with "Connection: keep-alive",
    { keep_alive = true } },
  { "9112 9.3: close wins", with "Connection: close, keep-alive",
    { keep_alive = false } },
  { "9112 9.3: close wins behind", old "Connection: keep-alive, close",
    { keep_alive = false } },
  { "9110 7.6.1: several fields", with "Connection: keep-alive\r\nConnection: close",
    { keep_alive = false } },
  { "9110 7.6.1: options have no case", with "connection: CLOSE",
    { keep_alive = false } },
  { "9110 5.6.1: empty elements", with "Connection: , ,\tclose ,",
    { keep_alive = false } },
  { "9110 7.6.1: unknown options", with "Connection: closed, x-close",
    { keep_alive = true } },
  { "9110 7.6.1: an empty field", with "Connection:", { keep_alive = true } },
  { "9110 7.8: upgrade", with "Connection: Upgrade\r\nUpgrade: websocket",
    { upgrade = true, keep_alive = true } },
  { "9110 7.8: upgrade among others",
    with "Upgrade: h2c\r\nConnection: keep-alive, upgrade",
    { upgrade = true } },
  { "9110 7.8: upgrade without the option", with "Upgrade: websocket",
    { upgrade = false } },
  { "9110 7.8: the option without upgrade", with "Connection: upgrade",
    { upgrade = false } },
  { "9110 7.8: ignored in HTTP/1.0", old "Connection: upgrade\r\nUpgrade: websocket",
    { upgrade = false } },
  { "9110 10.1.1: 100-continue", with "Expect: 100-continue",
    { expect_continue = true } },
  { "9110 10.1.1: it has no case", with "expect: 100-Continue",
    { expect_continue = true } },
  { "9110 10.1.1: not expected", with "A: b", { expect_continue = false } },
  { "9110 10.1.1: ignored in HTTP/1.0", old "Expect: 100-continue",
    { expect_continue = false } },
  { "9110 10.1.1: another expectation", with "Expect: a miracle", 417 },
  { "9110 10.1.1: one with a parameter", with "Expect: 100-continue;a", 417 },
  { "9110 10.1.1: another besides", with "Expect: 100-continue, x=y", 417 },
  { "9110 10.1.1: another field", with "Expect: 100-continue\r\nExpect: x", 417 },
  { "9110 10.1.1: an empty field", with "Expect:", { expect_continue = false } },
  { "9112 5: everything together", "\r\nPATCH /x?y HTTP/1.1\r\nConnection: x, Upgrade\r\n"
    .. "Expect: 100-continue\r\nUpgrade: y\r\nTransfer-Encoding: chunked\r\n"
    .. "HOST: b:1\r\n\r\n0",
    { method = "PATCH", path = "/x", query = "y", host = "b:1", upgrade = true,
      expect_continue = true, body = "chunked", keep_alive = true, rest = "0" } },
}

-- Limits small enough to reach: { name, bytes, limits, expected }.
local minimal = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
local limits = {
  { "6585 5: a head that fills its limit", minimal, { head = #minimal }, { path = "/" } },
  { "6585 5: bytes beyond the limit do not count", minimal .. ("x"):rep(99),
    { head = #minimal },
    { rest = ("x"):rep(99) } },
  { "6585 5: a head one byte too long", minimal, { head = #minimal - 1 }, 431 },
  { "6585 5: full and not at its end", minimal:sub(1, -2), { head = #minimal - 1 }, 431 },
  { "6585 5: full between two lines", minimal:sub(1, -3), { head = #minimal - 2 }, 431 },
  { "6585 5: an empty line before counts", "\r\n" .. minimal, { head = #minimal }, 431 },
  { "6585 5: a field that never ends", "GET / HTTP/1.1\r\nA: " .. ("x"):rep(99),
    { head = 99 }, 431 },
  { "6585 5: a name that never ends", "GET / HTTP/1.1\r\n" .. ("x"):rep(99),
    { head = 99 }, 431 },
  { "6585 5: a request line longer than all", "GET /" .. ("x"):rep(99), { head = 50 },
    431 },
  { "6585 5: a refusal before the limit stands", "\0" .. ("x"):rep(99), { head = 20 },
    400 },
  { "6585 5: one beyond it does not", minimal:sub(1, -3) .. "\0", { head = #minimal - 2 },
    431 },
  { "6585 5: as many fields as allowed", with "A: 1\r\nB: 2", { headers = 3 },
    { fields = { "Host: a", "A: 1", "B: 2" } } },
  { "6585 5: a field too many", with "A: 1\r\nB: 2\r\nC: 3", { headers = 3 }, 431 },
  { "6585 5: a bad field too many", with "A: 1\r\nB: 2\r\nC : 3", { headers = 3 }, 400 },
  { "9112 3: a target that fills its limit", line "GET /234567890 HTTP/1.1",
    { target = 10 },
    { target = "/234567890" } },
  { "9112 3: a target one byte too long", line "GET /2345678901 HTTP/1.1",
    { target = 10 }, 414 },
  { "9112 3: a target that never ends", "GET /" .. ("x"):rep(99), { target = 10 }, 414 },
  { "9112 3: after an empty line", "\r\nGET /" .. ("x"):rep(99), { target = 10 }, 414 },
  { "9112 3: an unfit byte behind", "GET /" .. ("x"):rep(99) .. "\0", { target = 10 },
    414 },
  { "9112 3: a long method and target", line(("M"):rep(32) .. " /234567890 HTTP/1.1"),
    { target = 10 }, { target = "/234567890" } },
  { "9112 3: a method that never ends", ("M"):rep(99), { target = 10 }, 501 },
  { "9112 3: a target that never ends after a long method",
    ("M"):rep(32) .. " /" .. ("x"):rep(99), { target = 10 }, 414 },
  { "9112 3: both limits at the same byte", "GET /" .. ("x"):rep(99),
    { target = 10, head = 54 }, 414 },
  { "9112 3: the limit of the head is less", "GET /" .. ("x"):rep(99),
    { target = 90, head = 60 }, 431 },
  { "9112 3: fields are not held to the target's", with("A: " .. ("x"):rep(99)),
    { target = 1 },
    { target = "/" } },
}

local function hex(content) return ("%x\r\n%s\r\n"):format(#content, content) end
local last = "0\r\n\r\n"
local chunked = {
  { "9112 7.1: one chunk", "5\r\nhello\r\n0\r\n\r\n", { content = "hello" } },
  { "9112 7.1: several", hex "a" .. hex "bc" .. hex(("d"):rep(26)) .. last,
    { content = "abc" .. ("d"):rep(26) } },
  { "9112 7.1: none", last, { content = "" } },
  { "9112 7.1: any bytes", hex(bytes_of(0, 255)) .. last,
    { content = bytes_of(0, 255) } },
  { "9112 7.1: content that looks like chunks", hex "0\r\n\r\n" .. last,
    { content = "0\r\n\r\n" } },
  { "9112 7.1: upper and lower case", "a\r\n0123456789\r\nA\r\n0123456789\r\n" .. last,
    { content = ("0123456789"):rep(2) } },
  { "9112 7.1: leading zeros", "0000000000000001\r\na\r\n" .. last, { content = "a" } },
  { "9112 7.1: a last chunk of many zeros", "000\r\n\r\n", { content = "" } },
  { "9112 7.1: the next request follows", hex "a" .. last .. "GET / ",
    { content = "a", rest = "GET / " } },
  { "9112 7.1: nothing yet", "", "more" },
  { "9112 7.1: half a size line", "5\r", "more" },
  { "9112 7.1: half a chunk", "5\r\nhel", "more" },
  { "9112 7.1: the end of a chunk is missing", "5\r\nhello", "more" },
  { "9112 7.1: the end is missing", "0\r\n", "more" },
  { "9112 7.1: half of the end", "0\r\n\r", "more" },
  { "9112 7.1: the biggest size", "7fffffffffffffff\r\nabc", "more" },
  { "9112 7.1: 2^63", "8000000000000000\r\n", 400 },
  { "9112 7.1: 2^64-1", "ffffffffffffffff\r\n", 400 },
  { "9112 7.1: 17 digits", "00000000000000001\r\na\r\n" .. last, 400 },
  { "9112 7.1: 17 digits that overflow to one", "10000000000000001\r\n", 400 },
  { "9112 7.1: no size", "\r\n", 400 },
  { "9112 7.1: no size but an extension", ";a\r\n", 400 },
  { "9112 7.1: a letter", "g\r\n", 400 },
  { "9112 7.1: a letter behind", "5g\r\n", 400 },
  { "9112 7.1: a prefix", "0x5\r\nhello\r\n" .. last, 400 },
  { "9112 7.1: negative", "-1\r\n", 400 },
  { "9112 7.1: with a plus", "+5\r\nhello\r\n" .. last, 400 },
  { "9112 7.1: an underscore", "1_0\r\n", 400 },
  { "9112 7.1: a space before", " 5\r\nhello\r\n" .. last, 400 },
  { "9112 7.1: a space behind", "5 \r\nhello\r\n" .. last, 400 },
  { "9112 7.1: bare LF after the size", "5\nhello\r\n" .. last, 400 },
  { "9112 7.1: bare CR after the size", "5\rhello\r\n" .. last, 400 },
  { "9112 7.1: two CR after the size", "5\r\r\nhello\r\n" .. last, 400 },
  { "9112 7.1: bare LF after the content", "5\r\nhello\n" .. last, 400 },
  { "9112 7.1: bare CR after the content", "5\r\nhello\r0\r\n\r\n", 400 },
  { "9112 7.1: nothing after the content", "5\r\nhello0\r\n\r\n", 400 },
  { "9112 7.1: more content than said", "4\r\nhello\r\n" .. last, 400 },
  { "9112 7.1: less content than said", "6\r\nhello\r\n" .. last, 400 },
  { "9112 7.1: bare LF after the last chunk", "0\n\r\n", 400 },
  { "9112 7.1: bare LF as the end", "0\r\n\n", 400 },
  { "9112 7.1: bare CR as the end", "0\r\n\rX", 400 },
  { "9112 7.1.1: extensions are skipped", "5;a;b=c;d=\"e;\xff\"\r\nhello\r\n0;f\r\n\r\n",
    { content = "hello" } },
  { "9112 7.1.1: BWS around", "5 \t; a = b\r\nhello\r\n" .. last, { content = "hello" } },
  { "9112 7.1.1: BWS before no extension", "5 a\r\nhello\r\n" .. last, 400 },
  { "9112 7.1.1: a control", "5;a\0\r\nhello\r\n" .. last, 400 },
  { "9112 7.1.1: bare LF", "5;a\nhello\r\n" .. last, 400 },
  { "9112 7.1.1: bare LF in quotes", "5;a=\"\nb\"\r\nhello\r\n" .. last, 400 },
  { "9112 7.1.1: bare CR", "5;a\rb\r\nhello\r\n" .. last, 400 },
  { "9112 7.1.1: a line of 256 bytes", "5;" .. ("a"):rep(254) .. "\r\nhello\r\n" .. last,
    { content = "hello" } },
  { "9112 7.1.1: a line of 257 bytes", "5;" .. ("a"):rep(255) .. "\r\nhello\r\n" .. last,
    400 },
  { "9112 7.1.1: endless white space", "5" .. (" "):rep(300), 400 },
  { "9112 7.1.2: trailers are kept apart",
    hex "a" .. "0\r\nB: c\r\nContent-Length: 9\r\n\r\n",
    { content = "a", trailers = "B: c\r\nContent-Length: 9\r\n" } },
  { "9112 7.1.2: an empty value", "0\r\nA:\r\n\r\n", { content = "" } },
  { "9112 7.1.2: obs-text", "0\r\nA: \xff\r\n\r\n", { content = "" } },
  { "9112 7.1.2: no colon", "0\r\nA\r\n\r\n", 400 },
  { "9112 7.1.2: no name", "0\r\n: a\r\n\r\n", 400 },
  { "9112 7.1.2: a space before the colon", "0\r\nA : b\r\n\r\n", 400 },
  { "9112 7.1.2: folded", "0\r\nA: b\r\n c\r\n\r\n", 400 },
  { "9112 7.1.2: a control", "0\r\nA: \0\r\n\r\n", 400 },
  { "9112 7.1.2: bare LF", "0\r\nA: b\n\r\n", 400 },
  { "9112 7.1.2: bare CR", "0\r\nA: b\rc\r\n\r\n", 400 },
  { "9112 7.1.2: obs-text in a name", "0\r\n\xff: b\r\n\r\n", 400 },
}

describe("a request head", function()
  local groups = { request_lines, targets, fields, hosts, framing, connections }
  for _, group in ipairs(groups) do
    for _, vector in ipairs(group) do
      local name, bytes, expected = table.unpack(vector, 1, 3)
      it(name, function() check_head(bytes, expected) end)
    end
  end

  for _, vector in ipairs(limits) do
    local name, bytes, limit, expected = table.unpack(vector, 1, 4)
    it(name, function() check_head(bytes, expected, limit) end)
  end

  it("has every control but HTAB refused in every place of a value", function()
    for _, control in ipairs { bytes_of(0, 8), bytes_of(10, 31), "\127" } do
      for c in control:gmatch "." do
        for at = 0, 20 do
          local value = ("x"):rep(at) .. c .. ("x"):rep(20 - at)
          assert.equal(400, http.parse(with("A: " .. value)).status)
        end
      end
    end
  end)

  it("is not held up by more than a method and a space can be", function()
    for b = 0, 255 do
      local c = string.char(b)
      local token = c:find "[%w!#$%%&'*+%-.^_`|~]" ~= nil
      assert.equal((token or c == "\r") and "more" or "refused", http.parse(c).outcome)
    end
  end)

  it("says it when a client speaks TLS", function()
    assert.equal("TLS on a plain port", http.parse("\x16\x03\x01").reason)
  end)

  it("can be found one after the other in pipelined requests", function()
    local input = line "GET /1 HTTP/1.1" .. with "A: b" .. line "GET /3 HTTP/1.0"
    local paths = {}
    while #input > 0 do
      local got = http.parse(input)
      paths[#paths + 1] = got.path
      input = input:sub(got.head_len + 1)
    end
    assert.same({ "/1", "/", "/3" }, paths)
  end)
end)

describe("a chunked body", function()
  for _, vector in ipairs(chunked) do
    local name, bytes, expected = table.unpack(vector, 1, 3)
    it(name, function() check_chunked(bytes, expected) end)
  end

  -- The two below are long: cut in every place they would take minutes.
  local function outcome_of(bytes)
    local whole, single = http.chunked(bytes), http.chunked(bytes, every_byte(bytes))
    assert.equal(show(whole), show(single))
    return whole.status or whole.outcome
  end

  it("9112 7.1.1: has extensions that do not outweigh its content by much", function()
    local function chunk(size, extension)
      return ("%x;%s\r\n%s\r\n"):format(size, ("e"):rep(extension - 1), ("c"):rep(size))
    end
    assert.equal("over", outcome_of(chunk(1, 200):rep(40) .. last))
    assert.equal(400, outcome_of(chunk(1, 200):rep(42) .. last))
    assert.equal("over", outcome_of(chunk(300, 200):rep(100) .. last))
  end)

  it("6585 5: has a trailer section of at most 8 KiB", function()
    local function trailers(size) return "A: " .. ("x"):rep(size - 7) .. "\r\n\r\n" end
    assert.equal("over", outcome_of("0\r\n" .. trailers(8192)))
    assert.equal(431, outcome_of("0\r\n" .. trailers(8193)))
    assert.equal(431, outcome_of("0\r\n" .. ("A: b\r\n"):rep(9999)))
  end)
end)

describe("http_find", function()
  local bytes = with "Accept: a\r\nX-Two: 1\r\nx-two: 2\r\nEmpty:"

  it("finds the first of a name, in any case", function()
    assert.equal("a", http.find(bytes, "accept"))
    assert.equal("1", http.find(bytes, "x-two"))
    assert.equal("", http.find(bytes, "empty"))
  end)

  it("finds whole names only", function()
    assert.is_nil(http.find(bytes, "accep"))
    assert.is_nil(http.find(bytes, "accept-encoding"))
    assert.is_nil(http.find(bytes, ""))
  end)

  it("does not take a control byte for an upper case letter", function()
    assert.is_nil(http.find(with "X_Y: 1", "x\127y"))
    assert.is_nil(http.find(with "X^Y: 1", "x~y"))
  end)
end)

describe("http_phrase", function()
  it("knows the statuses", function()
    local known = {
      [100] = "Continue", [200] = "OK", [204] = "No Content", [304] = "Not Modified",
      [404] = "Not Found", [405] = "Method Not Allowed", [413] = "Content Too Large",
      [417] = "Expectation Failed", [431] = "Request Header Fields Too Large",
      [505] = "HTTP Version Not Supported", [511] = "Network Authentication Required",
    }
    for status, phrase in pairs(known) do assert.equal(phrase, http.phrase(status)) end
  end)

  it("has a word for all others", function()
    for _, status in ipairs { -1, 0, 99, 104, 199, 299, 306, 418, 512, 600, 1 << 30 } do
      assert.equal("Unknown", http.phrase(status))
    end
  end)
end)

-- A small fuzz, the same on each run: good input, spoilt a little, cut somewhere.
describe("whatever comes", function()
  local special = {
    "\0", "\t", "\n", "\r", "\r\n", " ", ",", ":", ";", "0", "f", "\127", "\xff",
    "chunked", "Transfer-Encoding: chunked\r\n", "Content-Length: 1\r\n", "Host: b\r\n",
  }

  local function spoil(bytes)
    local at = math.random(#bytes + 1)
    local past = math.min(#bytes + 1, at + math.random(0, 3))
    local piece = special[math.random(#special)]
    local kind = math.random(20)
    if kind == 1 then return bytes:sub(1, at) end
    if kind > 15 then piece = "" end
    if kind < 6 then piece = string.char(math.random(0, 255)) end
    if kind == 6 then piece = bytes:sub(at, past - 1):rep(2) end
    return bytes:sub(1, at - 1) .. piece .. bytes:sub(past)
  end

  local function fuzz(seeds, rounds, feed)
    math.randomseed(9112)
    local outcomes = {}
    for round = 1, rounds do
      local bytes = seeds[round % #seeds + 1]
      for _ = 1, math.random(3) do bytes = spoil(bytes) end
      local whole = feed(bytes, nil, round)
      local shown = show(whole)
      for _, cuts in ipairs { every_byte(bytes), { math.random(0, #bytes) } } do
        local other = show(feed(bytes, cuts, round))
        if other ~= shown then assert.equal(shown, other, ("%q"):format(bytes)) end
      end
      outcomes[whole.outcome] = (outcomes[whole.outcome] or 0) + 1
    end
    return outcomes
  end

  it("a head is read the same at every cut", function()
    local seeds = { minimal, "\r\n" .. minimal, line "CONNECT b:443 HTTP/1.1",
      line "OPTIONS * HTTP/1.1", line "GET http://b:80/c?d HTTP/1.1",
      with "Content-Length: 3\r\nExpect: 100-continue" .. "abc",
      with "Connection: close, upgrade\r\nUpgrade: x\r\nA: \t\xff " .. minimal,
      with "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
      old "Connection: keep-alive" }
    local sizes = {
      false, { head = 48 }, { target = 4 }, { headers = 2, target = 8, head = 64 },
    }
    local outcomes = fuzz(seeds, 3000, function(bytes, cuts, round)
      return http.parse(bytes, sizes[round // #seeds % #sizes + 1], cuts)
    end)
    for _, outcome in ipairs { "whole", "more", "refused" } do
      assert.truthy(outcomes[outcome] > 100, outcome)
    end
  end)

  it("a chunked body is read the same at every cut", function()
    local seeds = { hex "hello" .. last, hex "a" .. hex "bc" .. "0\r\nA: b\r\n\r\n",
      "5;a=b\r\nhello\r\n" .. last, "5 ;a\r\nhello\r\n00;b\r\nC: d\r\nE:\r\n\r\nGET" }
    local outcomes = fuzz(seeds, 2000, http.chunked)
    for _, outcome in ipairs { "over", "more", "refused" } do
      assert.truthy(outcomes[outcome] > 100, outcome)
    end
  end)
end)
