#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int fd_take(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

void fd_close(int *fd)
{
    int saved = errno;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}

int fd_set_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || flags & O_NONBLOCK)
        return flags < 0 ? -1 : 0;
    return fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int fd_set_cloexec(int fd, int on)
{
    return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0);
}

int fd_is_listener(int fd)
{
    int listens = 0;
    socklen_t len = sizeof listens;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens;
}

int fd_write_all(int fd, const void *data, size_t n)
{
    for (const char *at = data; n;) {
        ssize_t written = write(fd, at, n);
        if (written < 0 && errno != EINTR)
            return -1;
        if (written > 0) {
            at += written;
            n -= (size_t)written;
        }
    }
    return 0;
}

int fd_store(const char *name, const void *data, size_t n)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd >= 0 && fd_write_all(fd, data, n) < 0)
        fd_close(&fd);
    return fd;
}
