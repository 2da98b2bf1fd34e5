/*
 * parcel: what goes with a connection from one worker to another, besides its descriptor:
 * the bytes that were read from it but not consumed, those that were written but not sent,
 * and what its script has said is needed to go on (conn:checkpoint).
 *
 * It travels as the text of a WIRE_MOVED message; one that is longer than that may be
 * travels in a memfd beside the connection's descriptor. Whoever passes it on need not
 * look into it.
 */
#ifndef MOONPOOL_PARCEL_H
#define MOONPOOL_PARCEL_H

#include "buf.h"

enum { PARCEL_INLINE = 32768 }; /* bytes; a longer one goes by memfd */

/* Why it is moved. */
enum parcel_why {
    PARCEL_RELOAD,
    PARCEL_RECYCLE,
    PARCEL_BALANCE,
    PARCEL_CRASH,
    PARCEL_HANDOFF,
    PARCEL_WHYS
};
extern const char *const parcel_whys[PARCEL_WHYS]; /* as the script sees it */

/*
 * A state is the script's, or that of what takes its connections (handler.h): then its first
 * byte is one that lua_pack does not begin with.
 */
enum { PARCEL_TAKERS = 0x80 };

struct parcel {
    enum parcel_why why;
    int counted;      /* it was let in under a limit, and is not to be refused now */
    int has_state;    /* the script goes on with state; else it begins anew */
    int is_cut;       /* a worker died in the midst of it, before it had answered */
    uint32_t crashes; /* of workers that were at this connection */
    const char *input, *unsent, *state; /* borrowed */
    size_t input_len, unsent_len, state_len;
};

void parcel_write(const struct parcel *p, struct buf *out);
/* Its strings are data's. 0, or -1 for bytes that no parcel_write has written. */
int parcel_read(struct parcel *p, const char *data, size_t len);

/*
 * The same in a memfd, where it is too long for a message. parcel_store: an owned
 * descriptor, or -1 and errno. parcel_load: 0, and out holds it; or -1 and errno.
 */
int parcel_store(const struct buf *packed);
int parcel_load(int fd, struct buf *out);

#endif
