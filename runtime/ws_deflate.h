/*
 * ws_deflate: messages compressed each by itself (RFC 7692 with "no context takeover" on
 * both sides), by zlib. So one pair of streams serves all connections of a process, a
 * connection keeps nothing between messages, and what is sent to many is compressed once.
 */
#ifndef MOONPOOL_WS_DEFLATE_H
#define MOONPOOL_WS_DEFLATE_H

#include "buf.h"

struct ws_deflate;

struct ws_deflate *ws_deflate_new(void);
void ws_deflate_free(struct ws_deflate *d); /* NULL too */

/* Puts the message into out, which is emptied first. */
void ws_deflate_pack(struct ws_deflate *d, const char *data, size_t len, struct buf *out);
/* Likewise: 0; or -1 and errno: EBADMSG, or EMSGSIZE for more than limit bytes. */
int ws_deflate_unpack(struct ws_deflate *d, const char *data, size_t len, size_t limit,
                      struct buf *out);

#endif
