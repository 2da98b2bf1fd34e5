/*
 * The control buffer holds exactly one SCM_RIGHTS of CHANNEL_FDS descriptors. Every
 * control message is walked all the same: each descriptor that the kernel has installed
 * is either in the message or closed, whatever the sender meant.
 */
#include "channel.h"

#include "fd.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { QUEUE_BYTES = 1 << 20 };

union control {
    char bytes[CMSG_SPACE(sizeof(int) * CHANNEL_FDS)];
    struct cmsghdr align;
};

/*
 * How much may be queued is the sender's SO_SNDBUF, of which each message takes about
 * 768 bytes, however small: the default holds 278 (socket(7), sock: sk_wmem_alloc).
 */
static void end_enlarge(int end)
{
    int size = QUEUE_BYTES;
    if (setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
        setsockopt(end, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

int channel_pair(int ends[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
        return -1;
    end_enlarge(ends[0]);
    end_enlarge(ends[1]);
    return 0;
}

static void control_put_fds(struct msghdr *h, union control *control, const int *fds,
                            int count)
{
    size_t size = sizeof(int) * (size_t)count;
    h->msg_control = control->bytes;
    h->msg_controllen = CMSG_SPACE(size);
    struct cmsghdr *c = CMSG_FIRSTHDR(h);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(c), fds, size);
}

static int is_full(int error)
{
    return error == EAGAIN || error == ENOBUFS || error == ETOOMANYREFS;
}

int channel_send(int end, const struct iovec *iov, int iov_count, const int *fds,
                 int fd_count)
{
    union control control = {0};
    struct msghdr h = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)iov_count};
    assert(iov_count > 0 && iov[0].iov_len > 0 && fd_count <= CHANNEL_FDS);
    if (fd_count)
        control_put_fds(&h, &control, fds, fd_count);
    ssize_t n;
    do
        n = sendmsg(end, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return 1;
    if (errno == ECONNRESET) /* closed with our messages unread: gone all the same */
        errno = EPIPE;
    return is_full(errno) ? 0 : -1;
}

static void message_put_fd(struct channel_message *m, int fd)
{
    if (m->fd_count < CHANNEL_FDS)
        m->fds[m->fd_count++] = fd;
    else
        fd_close(&fd);
}

static void message_take_rights(struct channel_message *m, struct cmsghdr *c)
{
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        message_put_fd(m, fd);
    }
}

static void message_take_control(struct channel_message *m, struct msghdr *h)
{
    m->fd_count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            message_take_rights(m, c);
}

/*
 * ECONNRESET is said once, of our messages that the other end left unread when it closed;
 * what it had sent before comes next, and then the end.
 */
int channel_receive(int end, struct channel_message *m)
{
    union control control;
    struct iovec iov = {m->data, sizeof m->data};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    ssize_t n;
    do
        n = recvmsg(end, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n < 0) {
        errno = EPIPE;
        return -1;
    }
    message_take_control(m, &h);
    m->len = (size_t)n;
    if (n > 0 && !(h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        return 1;
    errno = n == 0 && m->fd_count == 0 && !(h.msg_flags & MSG_CTRUNC) ? EPIPE : EBADMSG;
    channel_clear(m);
    return -1;
}

void channel_clear(struct channel_message *m)
{
    for (int i = 0; i < m->fd_count; i++)
        fd_close(&m->fds[i]);
    m->fd_count = 0;
}

size_t channel_peek(int end, void *data, size_t size)
{
    ssize_t n = recv(end, data, size, MSG_PEEK | MSG_DONTWAIT);
    return n > 0 ? (size_t)n : 0;
}

/* unix(7) */
size_t channel_queued(int end)
{
    int queued = 0;
    ioctl(end, SIOCOUTQ, &queued);
    return (size_t)queued;
}
