/*
 * libsystemd's part in this is one datagram, and its manual invites to write that oneself
 * ("Notes" of sd_notify(3)): so it is not needed for it.
 *
 * Nothing here waits. While systemd has no room for more, messages are kept and tried
 * again, in their order: one that was lost would make the start fail, or a reload. For
 * signs of life and for the status those that are kept speak already.
 */
#include "notify.h"

#include "address.h"
#include "alloc.h"
#include "buf.h"
#include "clock.h"
#include "fd.h"
#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATUS_SIZE = 160, MESSAGE_SIZE = 256 };

#define STATUS_SECONDS 2.0 /* between looks at whether it has changed */
#define AGAIN_SECONDS 0.05
#define MICRO 1e6

struct notify {
    struct loop *loop;
    void (*describe)(char *status, size_t size, void *arg);
    void *arg;
    int fd;
    struct address to;
    int warned, stopping;
    double life_seconds;      /* between signs of life; 0: none are wanted */
    char status[STATUS_SIZE]; /* as it was said last */
    struct buf kept;          /* messages, each with its NUL */
    struct timer look, life, again;
};

static void notify_later(struct notify *n, struct timer *t, double seconds)
{
    timer_start(&n->loop->clock, t, loop_now(n->loop) + seconds);
}

/* -- messages ------------------------------------------------------------------------ */

static void notify_warn(struct notify *n)
{
    char name[ADDRESS_TEXT];
    if (n->warned)
        return;
    n->warned = 1;
    address_format(&n->to, name);
    log_warn("systemd does not hear how the service is: %s: %s", name, strerror(errno));
}

/* Whether that is over, well or not. */
static int notify_send(struct notify *n, const char *message)
{
    if (sendto(n->fd, message, strlen(message), MSG_DONTWAIT | MSG_NOSIGNAL, &n->to.any,
               n->to.len) >= 0)
        return 1;
    if (errno == EAGAIN || errno == ENOBUFS || errno == EINTR)
        return 0;
    notify_warn(n);
    return 1;
}

static void notify_flush(struct notify *n)
{
    while (buf_len(&n->kept)) {
        const char *message = buf_head(&n->kept);
        if (!notify_send(n, message)) {
            notify_later(n, &n->again, AGAIN_SECONDS);
            return;
        }
        buf_skip(&n->kept, strlen(message) + 1);
    }
}

static void notify_say(struct notify *n, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void notify_say(struct notify *n, const char *format, ...)
{
    char message[MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    buf_append(&n->kept, message, strlen(message) + 1);
    notify_flush(n);
}

/* Whether there is anything to be said: the status is how things are, then. */
static int notify_describe(struct notify *n)
{
    if (!n || n->stopping)
        return 0;
    n->describe(n->status, sizeof n->status, n->arg);
    return 1;
}

void notify_ready(struct notify *n)
{
    if (notify_describe(n))
        notify_say(n, "READY=1\nSTATUS=%s", n->status);
}

void notify_reloading(struct notify *n)
{
    if (notify_describe(n))
        notify_say(n, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=%s",
                   (uint64_t)(clock_monotonic() * MICRO), n->status);
}

/* Without the extension systemd would kill all after its TimeoutStopSec. */
void notify_stopping(struct notify *n, double seconds)
{
    if (!notify_describe(n))
        return;
    n->stopping = 1;
    notify_say(n, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64 "\nSTATUS=%s",
               (uint64_t)(seconds * MICRO), n->status);
}

/* -- from time to time --------------------------------------------------------------- */

static void on_look(void *arg)
{
    struct notify *n = arg;
    char status[STATUS_SIZE];
    notify_later(n, &n->look, STATUS_SECONDS);
    n->describe(status, sizeof status, n->arg);
    if (buf_len(&n->kept) || strcmp(status, n->status) == 0)
        return;
    memcpy(n->status, status, sizeof status);
    notify_say(n, "STATUS=%s", status);
}

static void on_life(void *arg)
{
    struct notify *n = arg;
    notify_later(n, &n->life, n->life_seconds);
    if (!buf_len(&n->kept))
        notify_say(n, "WATCHDOG=1");
}

static void on_again(void *arg)
{
    notify_flush(arg);
}

/* -- the environment ----------------------------------------------------------------- */

/* 0: it is no number, or none at all. */
static uint64_t number_parse(const char *digits)
{
    if (!*digits || digits[strspn(digits, "0123456789")])
        return 0;
    errno = 0;
    uint64_t n = strtoull(digits, NULL, 10);
    return errno ? 0 : n;
}

/* Half of what systemd's watchdog allows, as sd_watchdog_enabled(3) has it. */
static double read_life_seconds(void)
{
    const char *microseconds = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (!microseconds || (pid && number_parse(pid) != (uint64_t)getpid()))
        return 0;
    uint64_t n = number_parse(microseconds);
    if (!n)
        log_warn("WATCHDOG_USEC is \"%.32s\", no number of microseconds: systemd's "
                 "watchdog hears nothing",
                 microseconds);
    return (double)n / MICRO / 2;
}

static int read_address(struct address *to, char *why, size_t size)
{
    const char *name = getenv("NOTIFY_SOCKET");
    if (*name != '/' && *name != '@') {
        snprintf(why, size, "it is neither an absolute path nor @name");
        return -1;
    }
    char *text = alloc_format("unix:%s", name);
    int n = address_parse(text, to, 1, why, size);
    free(text);
    return n;
}

/* 0, or -1 and why. */
static int notify_connect(struct notify *n)
{
    char why[128];
    if (read_address(&n->to, why, sizeof why) < 0) {
        log_warn("systemd does not hear how the service is: NOTIFY_SOCKET: %s", why);
        return -1;
    }
    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (n->fd < 0)
        notify_warn(n);
    return n->fd;
}

struct notify *notify_open(struct loop *l,
                           void (*describe)(char *status, size_t size, void *arg),
                           void *arg)
{
    if (!getenv("NOTIFY_SOCKET"))
        return NULL;
    struct notify *n = alloc_zero(sizeof *n);
    *n = (struct notify){.loop = l, .describe = describe, .arg = arg, .fd = -1};
    timer_init(&n->look, on_look, n);
    timer_init(&n->life, on_life, n);
    timer_init(&n->again, on_again, n);
    if (notify_connect(n) < 0) {
        notify_close(n);
        return NULL;
    }
    n->life_seconds = read_life_seconds();
    notify_later(n, &n->look, STATUS_SECONDS);
    if (n->life_seconds > 0)
        notify_later(n, &n->life, n->life_seconds);
    return n;
}

void notify_close(struct notify *n)
{
    if (!n)
        return;
    timer_stop(&n->loop->clock, &n->look);
    timer_stop(&n->loop->clock, &n->life);
    timer_stop(&n->loop->clock, &n->again);
    buf_release(&n->kept);
    fd_close(&n->fd);
    free(n);
}
