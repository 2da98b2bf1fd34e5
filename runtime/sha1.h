/*
 * sha1: the digest that a WebSocket handshake is answered with (RFC 6455 4.2.2). Nothing is
 * kept secret or safe by it, so no library is asked for.
 */
#ifndef MOONPOOL_SHA1_H
#define MOONPOOL_SHA1_H

#include <stddef.h>
#include <stdint.h>

enum { SHA1_SIZE = 20 };

void sha1(const char *data, size_t len, uint8_t digest[SHA1_SIZE]); /* RFC 3174 */

#endif
