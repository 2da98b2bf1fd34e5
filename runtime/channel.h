/*
 * channel: messages with descriptors over a SOCK_SEQPACKET socketpair (unix(7)).
 *
 * A message is 1 to CHANNEL_BYTES bytes and up to CHANNEL_FDS descriptors; it arrives
 * whole and once, or not at all. Nothing here waits and nothing raises SIGPIPE.
 */
#ifndef MOONPOOL_CHANNEL_H
#define MOONPOOL_CHANNEL_H

#include <stddef.h>
#include <sys/uio.h>

enum {
    CHANNEL_FDS = 253, /* SCM_MAX_FD: one more is EINVAL */
    CHANNEL_BYTES = 65536 + 512,
};

struct channel_message {
    size_t len;
    int fd_count;
    int fds[CHANNEL_FDS]; /* owned; fd_take what is to be kept, the rest is closed */
    char data[CHANNEL_BYTES];
};

int channel_pair(int ends[2]); /* both close-on-exec, non-blocking; 0, or -1 and errno */

/*
 * Sends copies of the descriptors; they stay the caller's in every case. Returns 1 sent;
 * 0 no room now, the message was not sent and may go elsewhere (EAGAIN, ENOBUFS, or
 * ETOOMANYREFS: too many descriptors in flight); -1 and errno: EPIPE, nobody is left.
 */
int channel_send(int end, const struct iovec *iov, int iov_count, const int *fds,
                 int fd_count);

/*
 * Returns 1 and a message to be cleared; 0 none now; -1 and errno:
 *   EPIPE    the other end is closed everywhere, no message will come again
 *   EBADMSG  one message was bad and is dropped with its descriptors: it was too long,
 *            was empty, or its descriptors did not all arrive (MSG_CTRUNC)
 */
int channel_receive(int end, struct channel_message *m);

void channel_clear(struct channel_message *m); /* closes what was not taken */

/* Bytes that were sent and not received, as the kernel counts them: 768 for the least. */
size_t channel_queued(int end);

/* Copies the beginning of the next message without taking it: its length, 0 for none. */
size_t channel_peek(int end, void *data, size_t size);

#endif
