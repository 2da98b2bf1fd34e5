/*
 * listener: a listening socket, watched by a loop.
 *
 * on_ready is called while clients wait; the callee takes them with listener_accept until
 * it says that there is none, or pauses the listener when it can take no more. The
 * socket stays its owner's (endpoint.h).
 */
#ifndef MOONPOOL_LISTENER_H
#define MOONPOOL_LISTENER_H

#include "loop.h"

struct listener;

struct listener_callbacks {
    void (*on_ready)(struct listener *l, void *arg);
};

struct listener *listener_open(struct loop *loop, int fd,
                               const struct listener_callbacks *callbacks, void *arg);
void listener_close(struct listener *l);

/*
 * The next client: an owned descriptor, non-blocking and close-on-exec, or -1 for none
 * now. Clients that have given up meanwhile are passed over. When this process or the
 * system has no descriptor left (EMFILE, ENFILE, ENOBUFS, ENOMEM) the listener rests for
 * a second by itself and says so in the log.
 */
int listener_accept(struct listener *l);

/*
 * How many clients wait, up to most; most also where the kernel does not say, as of unix
 * sockets, or nobody waits any more: accept until there is none. The kernel counts them
 * in tcpi_unacked (tcp_get_info in its net/ipv4/tcp.c; "Recv-Q" of ss(8)).
 */
int listener_waiting(const struct listener *l, int most);

void listener_pause(struct listener *l); /* no on_ready until */
void listener_resume(struct listener *l);

#endif
