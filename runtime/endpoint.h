/*
 * endpoint: an open listening socket and where it listens. Opened from an address
 * (address.h) or inherited: "fd:3" is descriptor 3, "systemd" are all that LISTEN_FDS
 * hands over, in their order, "systemd:web" those whose name is web (sd_listen_fds(3)).
 */
#ifndef MOONPOOL_ENDPOINT_H
#define MOONPOOL_ENDPOINT_H

#include "address.h"
#include "baton.h"

#include <sys/types.h>

struct endpoint {
    int fd;                  /* owned; non-blocking, close-on-exec, listening */
    char text[ADDRESS_TEXT]; /* what was bound: a port 0 is the real port here */
    char *path;              /* owned; the socket file to remove at close, or NULL */
    dev_t dev;               /* of that file, so that a successor's file is left alone */
    ino_t ino;
};

struct endpoint_options {
    int backlog;
    mode_t mode; /* of a unix socket's file; 0: as the umask says */
    uid_t uid;   /* its owner; -1: unchanged */
    gid_t gid;
};

/*
 * Opens all endpoints that text stands for: a host name is opened on each of its
 * addresses that this machine has. Returns how many, or -1 with a sentence in why that
 * names the address ("127.0.0.1:80: permission denied"); then nothing is open, and
 * inherited descriptors are still the caller's.
 * A unix path: a socket file that nobody answers is replaced; one that answers, and a
 * file that is no socket, is an error and not touched. With a mode the process's umask
 * is changed for the moment of bind(2).
 */
int endpoint_open(const char *text, const struct endpoint_options *options,
                  struct endpoint *out, int max, char *why, size_t size);

/*
 * Once all are open: what systemd has passed and nobody has taken is closed, with a
 * warning, and the environment says no more of it.
 */
void endpoint_end_passing(void);

/* Into the item that is open, and from it. */
void endpoint_save(const struct endpoint *e, struct baton *b);
void endpoint_load(struct endpoint *e, const struct baton *b);

/* Closes e and removes its socket file if it is still ours. Any may be closed twice. */
void endpoint_close(struct endpoint *e);

#endif
