/*
 * fd: small verbs for file descriptors. One owner each; -1 means nobody's.
 */
#ifndef MOONPOOL_FD_H
#define MOONPOOL_FD_H

#include <stddef.h>

int fd_take(int *fd);        /* the descriptor, leaving -1: ownership moves */
void fd_close(int *fd);      /* closes unless -1, leaves -1; keeps errno */
int fd_set_nonblock(int fd); /* 0, or -1 and errno (fcntl(2)); of the description */
int fd_set_cloexec(int fd, int on); /* 0, or -1 and errno; of this descriptor */
int fd_is_listener(int fd);         /* a socket on which listen(2) was called */

int fd_write_all(int fd, const void *data, size_t n); /* 0, or -1 and errno; waits */
int fd_store(const char *name, const void *data, size_t n); /* a memfd with that; or -1 */

#endif
