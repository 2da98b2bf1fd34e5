/*
 * address: the one notation for socket addresses, in both directions.
 *
 *   127.0.0.1:8080   [::1]:8080   host:8080   :8080 (every interface)
 *   unix:/path       unix:@abstract
 */
#ifndef MOONPOOL_ADDRESS_H
#define MOONPOOL_ADDRESS_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { ADDRESS_TEXT = 160, ADDRESS_MAX = 16 };

struct address {
    union {
        struct sockaddr_storage sa;
        struct sockaddr any; /* what bind(2) and connect(2) take */
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
    socklen_t len;
};

/*
 * Parses text and resolves a host name, which may block (getaddrinfo(3)): at most max
 * addresses, without repeats. Returns how many, or -1 and in why the reason as a sentence
 * that does not repeat text ("the path may have at most 107 bytes, this has 130").
 * ":8080" is [::]:8080 where the kernel has IPv6 (and then serves IPv4 too), else
 * 0.0.0.0.
 */
int address_parse(const char *text, struct address *out, int max, char *why, size_t size);

/* Writes a in the notation above; "unix:" alone for an unnamed unix socket. */
void address_format(const struct address *a, char text[ADDRESS_TEXT]);

/*
 * Who has the address, as a number: an IPv4 address, or the first 64 bits of an IPv6 one,
 * its network. Whoever is in an IPv6 network may use any of its 2^64 addresses, and a new
 * one for each connection (RFC 8981), so these say nothing. 0: nobody, a unix socket.
 */
uint64_t address_holder(const struct address *a);

#endif
