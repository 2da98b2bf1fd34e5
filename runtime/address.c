/*
 * Text is cut into host and port here, so that each way to get it wrong has a sentence
 * of its own; what the parts mean (numbers, scope ids, names) is left to getaddrinfo(3).
 */
#include "address.h"

#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Room for a path is less its NUL; an abstract name has none, but a NUL in front. */
enum { UNIX_MAX = sizeof((struct sockaddr_un *)0)->sun_path - 1 };

static int address_refuse(char *why, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* libc words its reasons with a capital; a sentence goes on in small letters. */
static int address_refuse(char *why, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, size, format, args);
    va_end(args);
    if (size > 0)
        why[0] = (char)tolower((unsigned char)why[0]);
    return -1;
}

static int address_unix(const char *name, struct address *out, char *why, size_t size)
{
    size_t abstract = *name == '@', len = strlen(name);
    const char *what = abstract ? "name" : "path";
    if (len == abstract)
        return address_refuse(why, size, "the %s is missing", what);
    if (len - abstract > UNIX_MAX)
        return address_refuse(why, size, "the %s may have at most %d bytes, this has %zu",
                              what, UNIX_MAX, len - abstract);
    size_t end = abstract ? 0 : 1; /* a path's NUL counts */
    *out = (struct address){.len = offsetof(struct sockaddr_un, sun_path) + len + end};
    out->un.sun_family = AF_UNIX;
    memcpy(out->un.sun_path, name, len);
    if (abstract)
        out->un.sun_path[0] = '\0';
    return 1;
}

static int port_valid(const char *digits)
{
    long port = 0;
    for (; isdigit((unsigned char)*digits) && port <= 65535; digits++)
        port = port * 10 + (*digits - '0');
    return *digits == '\0' && port <= 65535;
}

/* What to say of a host that has colons but no brackets. */
static const char *colon_complaint(const char *text)
{
    char end = text[strspn(text, "0123456789abcdefABCDEF:.")];
    return end == '\0' || end == '%' ? "an IPv6 address needs brackets: [::1]:8080"
                                     : "a host name has no colons: host:8080";
}

/* Cuts text into a host, still in its brackets, and a port. NULL, or what is wrong. */
static const char *address_split(const char *text, char host[NI_MAXHOST],
                                 const char **port)
{
    const char *bracket = *text == '[' ? strchr(text, ']') : NULL;
    const char *colon = bracket ? bracket + 1 : strchr(text, ':');
    if (!*text)
        return "the address is empty";
    if (*text == '[' && !bracket)
        return "the closing bracket is missing";
    if (!bracket && colon && strchr(colon + 1, ':'))
        return colon_complaint(text);
    if (!colon || colon[0] != ':' || !colon[1])
        return "the port is missing";
    if (!port_valid(colon + 1))
        return "the port must be a number from 0 to 65535";
    if (colon - text >= NI_MAXHOST)
        return "the host name is too long";
    *port = colon + 1;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    return NULL;
}

/* Only EAFNOSUPPORT says no: a process out of descriptors may still have IPv6. */
static int kernel_has_ipv6(void)
{
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno != EAFNOSUPPORT;
    close(fd);
    return 1;
}

/*
 * Numbers first: AI_ADDRCONFIG keeps a name's IPv6 addresses away from a machine that
 * has no IPv6, but would also reject ::1 on one whose only IPv6 is loopback.
 */
static int host_resolve(const char *host, const char *port, struct addrinfo **list)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    hints.ai_flags = AI_NUMERICSERV | AI_NUMERICHOST;
    if (getaddrinfo(host, port, &hints, list) == 0)
        return 0;
    hints.ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG;
    return getaddrinfo(host, port, &hints, list);
}

/* Only an IPv6 address may stand in brackets, which are cut off. */
static int bracketed_resolve(char *host, const char *port, struct addrinfo **list)
{
    struct addrinfo hints = {.ai_family = AF_INET6, .ai_socktype = SOCK_STREAM};
    hints.ai_flags = AI_NUMERICSERV | AI_NUMERICHOST;
    host[strlen(host) - 1] = '\0';
    return getaddrinfo(host + 1, port, &hints, list);
}

static int address_among(const struct address *a, const struct address *all, int n)
{
    for (int i = 0; i < n; i++)
        if (all[i].len == a->len && memcmp(&all[i].sa, &a->sa, a->len) == 0)
            return 1;
    return 0;
}

/* Frees list. */
static int address_collect(struct addrinfo *list, struct address *out, int max)
{
    int n = 0;
    for (struct addrinfo *i = list; i && n < max; i = i->ai_next) {
        out[n] = (struct address){.len = i->ai_addrlen};
        memcpy(&out[n].sa, i->ai_addr, i->ai_addrlen);
        if (!address_among(&out[n], out, n))
            n++;
    }
    freeaddrinfo(list);
    return n;
}

int address_parse(const char *text, struct address *out, int max, char *why, size_t size)
{
    if (strncmp(text, "unix:", 5) == 0)
        return address_unix(text + 5, out, why, size);
    char host[NI_MAXHOST];
    const char *port;
    const char *wrong = address_split(text, host, &port);
    if (wrong)
        return address_refuse(why, size, "%s", wrong);
    struct addrinfo *list;
    if (*host == '[') {
        if (bracketed_resolve(host, port, &list) != 0)
            return address_refuse(why, size, "what is in brackets is no IPv6 address");
        return address_collect(list, out, max);
    }
    if (!*host)
        strcpy(host, kernel_has_ipv6() ? "::" : "0.0.0.0");
    int error = host_resolve(host, port, &list);
    if (error)
        return address_refuse(
            why, size, "%s", error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
    return address_collect(list, out, max);
}

/* The NULs an abstract name may contain are shown as "@", like the first. */
static void format_unix(const struct address *a, char text[ADDRESS_TEXT])
{
    size_t offset = offsetof(struct sockaddr_un, sun_path);
    size_t len = a->len > offset ? a->len - offset : 0;
    const char *path = a->un.sun_path;
    if (len > 0 && path[0])
        len = strnlen(path, len);
    char *end = stpcpy(text, "unix:");
    for (size_t i = 0; i < len; i++)
        *end++ = path[i] ? path[i] : '@';
    *end = '\0';
}

/* An IPv4 client of an IPv6 socket is shown as what it is. */
static void address_unmap(struct address *a)
{
    if (a->sa.ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
        return;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = a->in6.sin6_port};
    memcpy(&in.sin_addr, &a->in6.sin6_addr.s6_addr[12], sizeof in.sin_addr);
    *a = (struct address){.in = in, .len = sizeof in};
}

void address_format(const struct address *a, char text[ADDRESS_TEXT])
{
    if (a->sa.ss_family == AF_UNIX) {
        format_unix(a, text);
        return;
    }
    struct address plain = *a;
    address_unmap(&plain);
    char host[64], port[8]; /* with a scope id 62, with NUL 6 */
    const char *format = plain.sa.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s";
    if (getnameinfo(&plain.any, plain.len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(text, ADDRESS_TEXT, format, host, port);
    else
        snprintf(text, ADDRESS_TEXT, "unknown");
}

/* IPv4 addresses have numbers that are no network's: 0:1::/32 is reserved. */
uint64_t address_holder(const struct address *a)
{
    struct address plain = *a;
    uint64_t network;
    address_unmap(&plain);
    if (plain.sa.ss_family == AF_INET)
        return (uint64_t)1 << 32 | ntohl(plain.in.sin_addr.s_addr);
    if (plain.sa.ss_family != AF_INET6)
        return 0;
    memcpy(&network, &plain.in6.sin6_addr, sizeof network);
    return network ? be64toh(network) : 1; /* ::1 */
}
