/*
 * load: the clients that wrk cannot be.
 *
 *     load close [-c clients] [-d seconds] [-r rate] [-w] PORT [PATH]
 *         HTTP, a connection for each request, from connect(2) to the server's close
 *     load keep ...       HTTP, connections are kept
 *     load line ...       raw TCP, a line to and fro, connections are kept
 *     load ws ...         WebSockets, a message of 125 bytes to and fro
 *     load cast ...       WebSockets: one says a message of 125 bytes, all get it; a request
 *                         is a message that one of them has got
 *         -w: when all have connected it says "ready=N", and waits for SIGUSR1 to begin
 *     load hold [-c clients] PORT [PATH]
 *         connects, has one answer on each connection, says "held=N", and on SIGTERM says
 *         how many are still "open=N"; a PATH of "-" sends a line
 *     load hold-ws ...    likewise, WebSockets with a message each
 *     load first PORT [PATH]
 *         tries until it is answered, and says when that was: "at=SECONDS" of
 *         CLOCK_MONOTONIC
 *
 * Without a rate a client begins again as soon as it is done. With one, requests are due
 * at fixed times, whatever the server does, and their latency counts from then: a server
 * that stalls is not spared what would have come meanwhile ("coordinated omission"). To
 * be in time it never sleeps.
 *
 *     requests=60000 seconds=2.001 p50=45.1 p99=71.0 max=213.4 errors=0     (us)
 *
 * Clients have many addresses, 127.0.0.1 and on, so that a connection for each request
 * never waits for a port.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINE "a line of thirty-two characters\n"

enum {
    MESSAGE = 125, /* bytes; what the server sends has two more, what we do four more */
    EVENTS = 256,
    ANSWER_MAX = 16384,
    ADDRESSES = 64,
    CLIENTS_MAX = 65536,
    SECONDS_MAX = 86400,
    RATE_MAX = 10000000,   /* a second */
    GRACE_NS = 1000000000, /* after the end, for what was due before it */
    TRY_USEC = 100,
};

struct client {
    int fd; /* -1: none */
    int is_waiting;
    int64_t due; /* of its request */
    size_t have;
    char answer[ANSWER_MAX];
};

struct load {
    int port, closes, is_line, is_ws, waits;
    const char *path;
    int count;
    double seconds, rate; /* 0: as fast as it goes */
    char request[512];
    size_t request_len;

    int epoll;
    struct client *clients;
    struct client **idle; /* a ring, where there is a rate: longest idle first */
    size_t idle_first, idle_count;

    uint32_t *latencies; /* ns */
    size_t done, size, errors, begun;
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void *must(void *p)
{
    if (!p)
        errx(1, "out of memory");
    return p;
}

/* -- connections --------------------------------------------------------------------- */

static void set_options(int fd, unsigned number)
{
    int one = 1;
    struct timeval patience = {.tv_sec = 10};
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr =
                                   htonl(INADDR_LOOPBACK + number % ADDRESSES)};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0)
        err(1, "bind");
}

/* -1 and errno where nobody listens. */
static int open_connection(const struct load *l)
{
    static unsigned number;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)l->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        err(1, "socket");
    set_options(fd, number++);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Nothing follows the head of the answer before we have said something. */
static void shake_hands(const struct load *l, int fd)
{
    char text[1024];
    int n = snprintf(text, sizeof text,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                     l->path, l->port);
    size_t have = 0;
    send(fd, text, (size_t)n, MSG_NOSIGNAL);
    do {
        ssize_t some = recv(fd, text + have, sizeof text - 1 - have, 0);
        if (some <= 0)
            errx(1, "no handshake");
        have += (size_t)some;
        text[have] = '\0';
    } while (!strstr(text, "\r\n\r\n"));
    if (strncmp(text, "HTTP/1.1 101 ", 13) != 0)
        errx(1, "no WebSocket");
}

static int must_open_connection(const struct load *l)
{
    int fd = open_connection(l);
    if (fd < 0)
        err(1, "connect");
    if (l->is_ws)
        shake_hands(l, fd);
    return fd;
}

/* -- answers ------------------------------------------------------------------------- */

/* A text message, with a mask. */
static void prepare_message(struct load *l)
{
    static const char mask[4] = {0x12, 0x34, 0x56, 0x78};
    char *p = l->request;
    *p++ = (char)0x81;
    *p++ = (char)(0x80 | MESSAGE);
    memcpy(p, mask, sizeof mask);
    p += sizeof mask;
    for (int i = 0; i < MESSAGE; i++)
        *p++ = (char)('x' ^ mask[i % 4]);
    l->request_len = (size_t)(p - l->request);
}

static void prepare_request(struct load *l)
{
    if (l->is_ws) {
        prepare_message(l);
        return;
    }
    int n = l->is_line
                ? snprintf(l->request, sizeof l->request, LINE)
                : snprintf(l->request, sizeof l->request,
                           "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n", l->path,
                           l->port, l->closes ? "Connection: close\r\n" : "");
    if (n >= (int)sizeof l->request)
        errx(2, "the path is too long");
    l->request_len = (size_t)n;
}

static int is_line_complete(const struct client *c)
{
    return c->have == sizeof LINE - 1 && memcmp(c->answer, LINE, c->have) == 0;
}

static int is_message_complete(const struct client *c)
{
    if (c->have != 2 + MESSAGE || (uint8_t)c->answer[0] != 0x81 ||
        c->answer[1] != MESSAGE)
        return 0;
    for (size_t i = 2; i < c->have; i++)
        if (c->answer[i] != 'x')
            return 0;
    return 1;
}

/* 200, with a content of the length that it says. */
static int is_http_complete(struct client *c)
{
    static const char status[] = "HTTP/1.1 200";
    c->answer[c->have] = '\0';
    const char *end = strstr(c->answer, "\r\n\r\n");
    const char *length = strcasestr(c->answer, "\r\nContent-Length:");
    if (!end || !length || length > end ||
        strncmp(c->answer, status, strlen(status)) != 0)
        return 0;
    size_t head = (size_t)(end + 4 - c->answer);
    return c->have == head + strtoul(strchr(length, ':') + 1, NULL, 10);
}

static int is_complete(const struct load *l, struct client *c)
{
    return l->is_ws     ? is_message_complete(c)
           : l->is_line ? is_line_complete(c)
                        : is_http_complete(c);
}

/* -- clients ------------------------------------------------------------------------- */

static void client_open(struct load *l, struct client *c)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    c->fd = must_open_connection(l);
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &e) < 0)
        err(1, "epoll_ctl");
}

static void client_close(struct client *c)
{
    close(c->fd);
    c->fd = -1;
}

static void client_begin(struct load *l, struct client *c, int64_t due)
{
    c->due = due;
    c->have = 0;
    c->is_waiting = 1;
    l->begun++;
    if (c->fd < 0)
        client_open(l, c);
    send(c->fd, l->request, l->request_len, MSG_NOSIGNAL); /* if it fails, so will recv */
}

static void idle_push(struct load *l, struct client *c)
{
    l->idle[(l->idle_first + l->idle_count++) % (size_t)l->count] = c;
}

static struct client *idle_take(struct load *l)
{
    if (!l->idle_count)
        return NULL;
    struct client *c = l->idle[l->idle_first];
    l->idle_first = (l->idle_first + 1) % (size_t)l->count;
    l->idle_count--;
    return c;
}

static void record(struct load *l, int64_t latency)
{
    if (l->done == l->size) {
        l->size = l->size ? 2 * l->size : 1 << 16;
        l->latencies = must(realloc(l->latencies, l->size * sizeof *l->latencies));
    }
    l->latencies[l->done++] = latency < UINT32_MAX ? (uint32_t)latency : UINT32_MAX;
}

/* The answer is there, or will never be. */
static void client_end(struct load *l, struct client *c, int ok)
{
    int64_t now = now_ns();
    int was_waiting = c->is_waiting;
    c->is_waiting = 0;
    if (!ok || l->closes)
        client_close(c);
    if (ok)
        record(l, now - c->due);
    else if (was_waiting)
        l->errors++;
    if (!l->rate)
        client_begin(l, c, now);
    else if (was_waiting)
        idle_push(l, c);
}

static void client_read(struct load *l, struct client *c)
{
    size_t room = ANSWER_MAX - 1 - c->have;
    ssize_t n = recv(c->fd, c->answer + c->have, room, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0)
        c->have += (size_t)n;
    if (n <= 0 || !c->is_waiting || (size_t)n == room)
        client_end(l, c, l->closes && n == 0 && is_complete(l, c));
    else if (l->closes)
        client_read(l, c); /* the end is often there already */
    else if (is_complete(l, c))
        client_end(l, c, 1);
}

/* -- the loop ------------------------------------------------------------------------ */

static void read_all(struct load *l, int timeout)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(l->epoll, events, EVENTS, timeout);
    for (int i = 0; i < n; i++)
        client_read(l, events[i].data.ptr);
}

static void begin_due(struct load *l, int64_t start, size_t total)
{
    while (l->begun < total) {
        int64_t due = start + (int64_t)((double)l->begun * 1e9 / l->rate);
        struct client *c = due <= now_ns() ? idle_take(l) : NULL;
        if (!c)
            return;
        client_begin(l, c, due);
    }
}

/* What was not answered in time counts as an error. */
static void run_at_rate(struct load *l, int64_t start, int64_t end)
{
    size_t total = (size_t)(l->rate * l->seconds);
    for (int i = 0; i < l->count; i++)
        idle_push(l, &l->clients[i]);
    while (l->done + l->errors < total && now_ns() < end + GRACE_NS) {
        begin_due(l, start, total);
        read_all(l, 0);
    }
    l->errors = total - l->done;
}

static void run_at_will(struct load *l, int64_t start, int64_t end)
{
    for (int i = 0; i < l->count; i++)
        client_begin(l, &l->clients[i], start);
    while (now_ns() < end)
        read_all(l, 100);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile(const struct load *l, double part)
{
    size_t i = (size_t)(part * (double)l->done);
    return l->done ? l->latencies[i < l->done ? i : l->done - 1] / 1e3 : 0;
}

static void report(struct load *l, double seconds)
{
    if (l->done)
        qsort(l->latencies, l->done, sizeof *l->latencies, compare);
    printf("requests=%zu seconds=%.6f p50=%.1f p99=%.1f max=%.1f errors=%zu\n", l->done,
           seconds, percentile(l, 0.5), percentile(l, 0.99), percentile(l, 1), l->errors);
}

/* What is said after the signal is blocked may be answered by it at once. */
static void say_and_await(int signal_number, const char *what, int count)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal_number);
    sigprocmask(SIG_BLOCK, &set, NULL);
    printf("%s=%d\n", what, count);
    fflush(stdout);
    sigwait(&set, &signal_number);
}

static void open_all(struct load *l)
{
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->clients = must(calloc((size_t)l->count, sizeof *l->clients));
    l->idle = must(calloc((size_t)l->count, sizeof(struct client *)));
    for (int i = 0; i < l->count; i++) {
        l->clients[i].fd = -1;
        if (!l->closes)
            client_open(l, &l->clients[i]);
    }
    if (l->waits)
        say_and_await(SIGUSR1, "ready", l->count);
}

static void run(struct load *l)
{
    open_all(l);
    int64_t start = now_ns(), end = start + (int64_t)(l->seconds * 1e9);
    (l->rate ? run_at_rate : run_at_will)(l, start, end);
    report(l, (double)(now_ns() - start) * 1e-9);
}

/* The first one speaks, and when all have heard it speaks again. */
static void cast_once(struct load *l)
{
    struct epoll_event events[EVENTS];
    int64_t begun = now_ns();
    for (int i = 0; i < l->count; i++)
        l->clients[i].have = 0;
    send(l->clients[0].fd, l->request, l->request_len, MSG_NOSIGNAL);
    for (int left = l->count; left > 0;) {
        int n = epoll_wait(l->epoll, events, EVENTS, 10000);
        if (n <= 0)
            errx(1, "not all have heard it");
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;
            ssize_t some = recv(c->fd, c->answer + c->have, ANSWER_MAX - c->have, 0);
            if (some <= 0)
                errx(1, "one is gone");
            c->have += (size_t)some;
            left -= is_message_complete(c);
            record(l, now_ns() - begun);
        }
    }
}

static void cast(struct load *l)
{
    open_all(l);
    int64_t start = now_ns(), end = start + (int64_t)(l->seconds * 1e9);
    while (now_ns() < end)
        cast_once(l);
    report(l, (double)(now_ns() - start) * 1e-9);
}

/* -- hold and first ------------------------------------------------------------------ */

static void exchange(const struct load *l, struct client *c, int fd)
{
    c->have = 0;
    send(fd, l->request, l->request_len, MSG_NOSIGNAL);
    while (!is_complete(l, c)) {
        ssize_t n = recv(fd, c->answer + c->have, ANSWER_MAX - 1 - c->have, 0);
        if (n <= 0)
            errx(1, "no answer, or not the right one");
        c->have += (size_t)n;
    }
}

static int is_open(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static void hold(struct load *l)
{
    static struct client c;
    int *fds = must(calloc((size_t)l->count, sizeof *fds)), open = 0;
    for (int i = 0; i < l->count; i++) {
        fds[i] = must_open_connection(l);
        exchange(l, &c, fds[i]);
    }
    say_and_await(SIGTERM, "held", l->count);
    for (int i = 0; i < l->count; i++)
        open += is_open(fds[i]);
    printf("open=%d\n", open);
    free(fds);
}

static void first(struct load *l)
{
    static struct client c;
    int fd;
    while ((fd = open_connection(l)) < 0)
        usleep(TRY_USEC);
    exchange(l, &c, fd);
    printf("at=%.6f\n", (double)now_ns() * 1e-9);
}

/* -- the command line ---------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(struct load *l);
    int closes, is_line, is_ws;
} kinds[] = {{"close", run, 1, 0, 0},    {"keep", run, 0, 0, 0},
             {"line", run, 0, 1, 0},     {"ws", run, 0, 0, 1},
             {"cast", cast, 0, 0, 1},    {"hold", hold, 0, 0, 0},
             {"hold-ws", hold, 0, 0, 1}, {"first", first, 0, 0, 0}};

static int fail_usage(void)
{
    errx(2, "usage: load close|keep|line|ws|cast|hold|hold-ws|first [-c clients] "
            "[-d seconds] [-r rate] [-w] PORT [PATH]");
}

/* An option's: more than nothing, at most that. */
static double number(int option, const char *text, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value > 0 && value <= most))
        errx(2, "-%c wants a number above 0 and up to %g, not \"%s\"", option, most,
             text);
    return value;
}

static void parse_options(struct load *l, int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "c:d:r:w")) >= 0)
        switch (option) {
        case 'c':
            l->count = (int)number(option, optarg, CLIENTS_MAX);
            break;
        case 'd':
            l->seconds = number(option, optarg, SECONDS_MAX);
            break;
        case 'r':
            l->rate = number(option, optarg, RATE_MAX);
            break;
        case 'w':
            l->waits = 1;
            break;
        default:
            fail_usage();
        }
    if (optind >= argc || l->count < 1)
        fail_usage();
    l->port = atoi(argv[optind]);
    l->path = argv[optind + 1] ? argv[optind + 1] : "/";
    l->is_line |= strcmp(l->path, "-") == 0;
}

static void raise_fd_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
    static struct load l = {.count = 64, .seconds = 2};
    raise_fd_limit();
    for (size_t i = 0; argc > 1 && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(argv[1], kinds[i].name) == 0) {
            l.closes = kinds[i].closes;
            l.is_line = kinds[i].is_line;
            l.is_ws = kinds[i].is_ws;
            parse_options(&l, argc - 1, argv + 1);
            prepare_request(&l);
            kinds[i].run(&l);
            return 0;
        }
    fail_usage();
}
