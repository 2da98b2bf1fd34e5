/*
 * floor: the least that a server can do, the limit for all others: one epoll, no parser,
 * an answer that is fixed.
 *
 *     floor PORT        answers each request of a read, all with one write
 *     floor -c PORT     closes the connection after that
 *     floor -l PORT     sends back what it has read
 *     floor -w PORT     likewise the messages of WebSockets, without a look at either
 *     floor -p ...      one process accepts and passes what it has accepted to another
 *
 * A request is an end of a head ("\r\n\r\n"); one that is cut in two is not understood.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODY "Hello, world!\n"
#define ANSWER                                    \
    "HTTP/1.1 200 OK\r\n"                         \
    "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"     \
    "Content-Type: text/plain; charset=utf-8\r\n" \
    "Content-Length: 14\r\n\r\n" BODY

enum {
    EVENTS = 256,
    READ_SIZE = 65536,
    PIPELINED_MAX = 64,
    BATCH_MAX = 253, /* SCM_MAX_FD */
    LOAD_MIN = 4,    /* accepted in one round: waiting a little is worth it */
    COLLECT_USEC = 200,
};

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(BATCH_MAX * sizeof(int))];
};

/* For the key of RFC 6455 1.3. */
#define HANDSHAKE                                   \
    "HTTP/1.1 101 Switching Protocols\r\n"          \
    "Upgrade: websocket\r\nConnection: Upgrade\r\n" \
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

static int closes, echoes, passes, is_ws;
static char answers[PIPELINED_MAX * (sizeof ANSWER - 1)];

static int check(int result, const char *what)
{
    if (result < 0)
        err(1, "%s", what);
    return result;
}

/* -- answering ----------------------------------------------------------------------- */

static size_t count_requests(const char *in, size_t len)
{
    size_t n = 0;
    const char *at = in, *end = in + len;
    while (n < PIPELINED_MAX && (at = memmem(at, (size_t)(end - at), "\r\n\r\n", 4))) {
        at += 4;
        n++;
    }
    return n;
}

/* What a frame of up to 125 bytes becomes, in its place: without a mask. */
static void unmask(char *frame, size_t payload)
{
    const char mask[] = {frame[2], frame[3], frame[4], frame[5]};
    frame[1] = (char)payload;
    for (size_t i = 0; i < payload; i++)
        frame[2 + i] = (char)(frame[6 + i] ^ mask[i % 4]);
}

/* Whole frames, to be sent each by itself: their clients wait for one before the next. */
static void answer_ws(int fd, char *in, size_t len)
{
    if (len >= 4 && memcmp(in, "GET ", 4) == 0) {
        send(fd, HANDSHAKE, sizeof HANDSHAKE - 1, MSG_NOSIGNAL);
        return;
    }
    while (len >= 6) {
        size_t payload = in[1] & 0x7f;
        if (len < 6 + payload)
            return;
        unmask(in, payload);
        send(fd, in, 2 + payload, MSG_NOSIGNAL);
        in += 6 + payload;
        len -= 6 + payload;
    }
}

/* The end of the output travels with the last of it, as MSG_MORE holds that back. */
static void answer(int fd, char *in, size_t len)
{
    int flags = MSG_NOSIGNAL | (closes ? MSG_MORE : 0);
    if (is_ws)
        answer_ws(fd, in, len);
    else if (echoes)
        send(fd, in, len, flags);
    else
        send(fd, answers, count_requests(in, len) * (sizeof ANSWER - 1), flags);
}

/* Whether there was something to read; closes the connection at its end. */
static int serve(int fd)
{
    static char in[READ_SIZE];
    ssize_t n = recv(fd, in, sizeof in, 0);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n > 0)
        answer(fd, in, (size_t)n);
    if (n <= 0 || closes)
        close(fd);
    return 1;
}

static void watch(int epoll, int fd)
{
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e), "epoll_ctl");
}

/* One that is over after its first request may never need to be watched. */
static void take(int epoll, int fd)
{
    if (!closes || !serve(fd))
        watch(epoll, fd);
}

/* -- accepting ----------------------------------------------------------------------- */

static int listen_on(int port)
{
    int one = 1, fd = check(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* clients inherit it */
    check(bind(fd, (struct sockaddr *)&a, sizeof a), "bind");
    check(listen(fd, SOMAXCONN), "listen");
    return fd;
}

static void accept_all(int epoll, int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
        take(epoll, fd);
}

/* -- passing ------------------------------------------------------------------------- */

static void send_batch(int channel, const int *fds, int count)
{
    union control control;
    struct iovec iov = {"", 1};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = CMSG_SPACE((size_t)count * sizeof *fds)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN((size_t)count * sizeof *fds);
    memcpy(CMSG_DATA(c), fds, (size_t)count * sizeof *fds);
    check((int)sendmsg(channel, &h, 0), "sendmsg");
    for (int i = 0; i < count; i++)
        close(fds[i]);
}

static void pass_all(int channel, int listener)
{
    int fds[BATCH_MAX], count = 0;
    while (count < BATCH_MAX &&
           (fds[count] = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
        count++;
    if (count)
        send_batch(channel, fds, count);
    if (count >= LOAD_MIN)
        usleep(COLLECT_USEC);
}

static void receive_all(int epoll, int channel)
{
    union control control;
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(channel, &h, MSG_CMSG_CLOEXEC);
    if (n == 0)
        exit(0); /* the other process has ended */
    check((int)n, "recvmsg");
    struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    const int *fds = (const int *)CMSG_DATA(c);
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof *fds;
    for (size_t i = 0; i < count; i++)
        take(epoll, fds[i]);
}

/* -- the two loops ------------------------------------------------------------------- */

/* Answers clients, who come from source by means of more. */
static void run(int source, void (*more)(int epoll, int source))
{
    int epoll = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    struct epoll_event events[EVENTS];
    watch(epoll, source);
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++)
            if (events[i].data.fd == source)
                more(epoll, source);
            else
                serve(events[i].data.fd);
    }
}

static void run_pair(int listener)
{
    int ends[2], epoll = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "socketpair");
    if (check(fork(), "fork") == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        close(listener);
        close(ends[0]);
        run(ends[1], receive_all);
    }
    watch(epoll, listener);
    struct epoll_event event;
    for (;;)
        if (epoll_wait(epoll, &event, 1, -1) > 0)
            pass_all(ends[0], listener);
}

static void parse_options(int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "clpw")) >= 0)
        switch (option) {
        case 'c':
            closes = 1;
            break;
        case 'l':
            echoes = 1;
            break;
        case 'p':
            passes = 1;
            break;
        case 'w':
            is_ws = 1;
            break;
        default:
            exit(2);
        }
    if (optind != argc - 1)
        errx(2, "usage: floor [-c] [-l] [-p] [-w] PORT");
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    for (int i = 0; i < PIPELINED_MAX; i++)
        memcpy(answers + (size_t)i * (sizeof ANSWER - 1), ANSWER, sizeof ANSWER - 1);
    int listener = listen_on(atoi(argv[optind]));
    if (passes)
        run_pair(listener);
    run(listener, accept_all);
}
