/*
 * Options that every accepted connection needs are set on the listening socket: Linux
 * lets the accepted ones inherit them, which saves a system call per connection.
 *
 * A unix socket's file appears at bind(2), but nobody gets in before listen(2). So the
 * mode is given at birth through the umask, the owner in between, and there is no
 * instant at which the socket is more open than asked.
 */
#include "endpoint.h"

#include "alloc.h"
#include "fd.h"
#include "log.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What systemd has passed, sd_listen_fds(3): FIRST is its SD_LISTEN_FDS_START. */
enum { PASSED_FIRST = 3, PASSED_MAX = 1024 };

/* What one endpoint_open was asked. */
struct request {
    const char *text;
    const struct endpoint_options *options;
    char *why;
    size_t size;
};

static int refuse(const struct request *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Says "text: sentence"; an absurdly long text is cut, not the sentence. Keeps errno. */
static int refuse(const struct request *r, const char *format, ...)
{
    int saved = errno;
    char sentence[256];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    snprintf(r->why, r->size, "%.*s%s%s", ADDRESS_TEXT, r->text, *r->text ? ": " : "",
             sentence);
    errno = saved;
    return -1;
}

static int refuse_errno(const struct request *r)
{
    const char *reason = strerror(errno);
    return refuse(r, "%c%s", tolower((unsigned char)reason[0]), reason + 1);
}

static int option_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value);
}

/* What a handler flushes leaves at once. */
static int tcp_nodelay(int fd)
{
    return option_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

/*
 * [::] also serves IPv4, whatever net.ipv6.bindv6only says: as in Go, and so that the
 * text of ":8080", which is "[::]:8080", means the same when it is read again.
 */
static int tcp_bind(const struct request *r, const struct address *a, int fd)
{
    if (option_set(fd, SOL_SOCKET, SO_REUSEADDR, 1) < 0 || tcp_nodelay(fd) < 0 ||
        (a->sa.ss_family == AF_INET6 &&
         option_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0) < 0) ||
        bind(fd, &a->any, a->len) < 0)
        return refuse_errno(r);
    return 0;
}

/* 0, or the errno of a connection to a: EAGAIN is a full backlog, so somebody listens. */
static int unix_probe(const struct address *a)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    int error = connect(fd, &a->any, a->len) < 0 ? errno : 0;
    fd_close(&fd);
    return error;
}

/* Makes the path free for bind. What lstat(2) cannot see, bind will complain about. */
static int unix_claim(const struct request *r, const struct address *a)
{
    const char *path = a->un.sun_path;
    struct stat file;
    if (lstat(path, &file) < 0)
        return 0;
    if (!S_ISSOCK(file.st_mode))
        return refuse(r, "the file exists and is no socket");
    switch (errno = unix_probe(a)) {
    case ENOENT:
        return 0;
    case ECONNREFUSED:
        return unlink(path) < 0 && errno != ENOENT ? refuse_errno(r) : 0;
    case 0:
    case EAGAIN:
    case EPROTOTYPE: /* somebody is there, with datagrams */
        return refuse(r, "another process listens there");
    default:
        return refuse_errno(r);
    }
}

static int endpoint_owns_file(const struct endpoint *e)
{
    struct stat file;
    return lstat(e->path, &file) == 0 && file.st_dev == e->dev && file.st_ino == e->ino;
}

static int file_remember(struct endpoint *e, const char *path)
{
    struct stat file;
    if (lstat(path, &file) < 0)
        return -1;
    e->path = alloc_string(path);
    e->dev = file.st_dev;
    e->ino = file.st_ino;
    return 0;
}

static int bind_with_mode(const struct address *a, int fd, mode_t mode)
{
    mode_t old = mode ? umask(~mode & 0777) : 0;
    int done = bind(fd, &a->any, a->len);
    if (mode)
        umask(old);
    return done;
}

static int unix_bind(const struct request *r, const struct address *a, struct endpoint *e)
{
    const struct endpoint_options *o = r->options;
    int is_file = a->un.sun_path[0] != '\0';
    if (is_file && unix_claim(r, a) < 0)
        return -1;
    if (bind_with_mode(a, e->fd, o->mode) < 0)
        return refuse_errno(r);
    if (!is_file)
        return 0;
    if (file_remember(e, a->un.sun_path) < 0)
        return refuse_errno(r);
    if ((o->uid != (uid_t)-1 || o->gid != (gid_t)-1) &&
        lchown(e->path, o->uid, o->gid) < 0)
        return refuse(r, "the owner cannot be set (%s)", strerror(errno));
    return 0;
}

static void endpoint_describe(struct endpoint *e)
{
    struct address a = {.len = sizeof a.sa};
    getsockname(e->fd, &a.any, &a.len);
    address_format(&a, e->text);
}

static int endpoint_listen(const struct request *r, const struct address *a,
                           struct endpoint *e)
{
    int family = a->sa.ss_family;
    *e = (struct endpoint){.fd = -1};
    e->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (e->fd < 0)
        return refuse_errno(r);
    if ((family == AF_UNIX ? unix_bind(r, a, e) : tcp_bind(r, a, e->fd)) < 0)
        return -1;
    if (listen(e->fd, r->options->backlog) < 0)
        return refuse_errno(r);
    if (e->path && !endpoint_owns_file(e)) /* it looked stale before our listen */
        return refuse(r, "another process took the path");
    endpoint_describe(e);
    return 0;
}

/* A name may have addresses that are not this machine's (localhost without IPv6). */
static int is_elsewhere(int error)
{
    return error == EADDRNOTAVAIL || error == EAFNOSUPPORT;
}

static int open_addresses(const struct request *r, struct endpoint *out, int max)
{
    struct address found[ADDRESS_MAX];
    char sentence[256];
    int n = address_parse(r->text, found, ADDRESS_MAX, sentence, sizeof sentence);
    if (n < 0)
        return refuse(r, "%s", sentence);
    if (n > max)
        return refuse(r, "there are %d addresses, at most %d are allowed", n, max);
    int opened = 0;
    for (int i = 0; i < n; i++) {
        struct endpoint *e = &out[opened];
        if (endpoint_listen(r, &found[i], e) == 0) {
            opened++;
            continue;
        }
        endpoint_close(e);
        if (is_elsewhere(errno))
            continue;
        while (opened > 0)
            endpoint_close(&out[--opened]);
        break;
    }
    return opened > 0 ? opened : -1;
}

/* Strictly digits, so that "fd:3x" and "LISTEN_FDS= 1" are errors. */
static int number_parse(const char *digits, int *n)
{
    if (!*digits || digits[strspn(digits, "0123456789")])
        return -1;
    errno = 0;
    long value = strtol(digits, NULL, 10);
    *n = (int)value;
    return errno || value > INT_MAX ? -1 : 0;
}

static int option_get(int fd, int name)
{
    int value;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

/* One that has come through exec(2) has no close-on-exec, until it is taken. */
static int is_taken(int fd)
{
    int flags = fcntl(fd, F_GETFD);
    return flags >= 0 && flags & FD_CLOEXEC;
}

static int endpoint_inherit(const struct request *r, int fd, struct endpoint *e)
{
    int type = option_get(fd, SO_TYPE);
    if (type < 0)
        return refuse(r, "descriptor %d is %s", fd,
                      errno == EBADF ? "not open" : "no socket");
    if (type != SOCK_STREAM)
        return refuse(r, "descriptor %d is no stream socket", fd);
    if (option_get(fd, SO_ACCEPTCONN) != 1)
        return refuse(r, "descriptor %d does not listen", fd);
    if (is_taken(fd))
        return refuse(r, "descriptor %d is taken already", fd);
    if (fd_set_cloexec(fd, 1) < 0 || fd_set_nonblock(fd) < 0)
        return refuse_errno(r);
    tcp_nodelay(fd); /* fails where there is no TCP, and need not be there */
    *e = (struct endpoint){.fd = fd};
    endpoint_describe(e);
    return 0;
}

static int inherit_one(const struct request *r, const char *digits, struct endpoint *out)
{
    int fd;
    if (number_parse(digits, &fd) < 0)
        return refuse(r, "the descriptor must be a number");
    return endpoint_inherit(r, fd, out) < 0 ? -1 : 1;
}

/* How many were passed; or -1, and r is told why there are none. */
static int passed_count(const struct request *r)
{
    const char *fds = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
    int n, owner;
    if (!fds || !pid)
        return refuse(r, "no sockets were passed (%s is not set)",
                      fds ? "LISTEN_PID" : "LISTEN_FDS");
    if (number_parse(pid, &owner) < 0 || owner != getpid())
        return refuse(r, "the sockets are for process %.32s (LISTEN_PID), this is %d",
                      pid, (int)getpid());
    if (number_parse(fds, &n) < 0 || n == 0 || n > PASSED_MAX)
        return refuse(r, "no sockets were passed (LISTEN_FDS is \"%.32s\")", fds);
    return n;
}

/* As sd_listen_fds_with_names(3) has it where names are not passed. */
#define NO_NAME "unknown"

/* The name of the i-th; a colon may follow it. */
static const char *passed_name(int i, int *len)
{
    const char *at = getenv("LISTEN_FDNAMES");
    for (; at && i > 0; i--) {
        at += strcspn(at, ":");
        at += *at == ':';
    }
    *len = (int)strcspn(at ? at : NO_NAME, ":");
    return at ? at : NO_NAME;
}

static int passed_has_name(int i, const char *wanted)
{
    int len;
    const char *name = passed_name(i, &len);
    return (size_t)len == strlen(wanted) && memcmp(name, wanted, (size_t)len) == 0;
}

/* Those of that name, which several may have; NULL: all. */
static int inherit_passed(const struct request *r, const char *name, struct endpoint *out,
                          int max)
{
    int count = passed_count(r), n = 0;
    if (count < 0)
        return -1;
    if (count > max)
        return refuse(r, "%d sockets were passed, at most %d are allowed", count, max);
    for (int i = 0; i < count; i++) {
        if (name && !passed_has_name(i, name))
            continue;
        if (endpoint_inherit(r, PASSED_FIRST + i, &out[n]) < 0)
            return -1;
        n++;
    }
    const char *names = getenv("LISTEN_FDNAMES");
    if (n == 0)
        return refuse(r,
                      "no socket of that name was passed (LISTEN_FDNAMES is \"%.128s\")",
                      names ? names : "");
    return n;
}

int endpoint_open(const char *text, const struct endpoint_options *options,
                  struct endpoint *out, int max, char *why, size_t size)
{
    const struct request r = {text, options, why, size};
    if (strncmp(text, "fd:", 3) == 0)
        return inherit_one(&r, text + 3, out);
    if (strcmp(text, "systemd") == 0)
        return inherit_passed(&r, NULL, out, max);
    if (strncmp(text, "systemd:", 8) == 0)
        return inherit_passed(&r, text + 8, out, max);
    return open_addresses(&r, out, max);
}

static void passed_close(int i)
{
    int len, fd = PASSED_FIRST + i;
    const char *name = passed_name(i, &len);
    log_warn("nothing listens on \"%.*s\", descriptor %d, which systemd has passed: "
             "closed",
             len, name, fd);
    close(fd);
}

void endpoint_end_passing(void)
{
    char why[512];
    int count =
        passed_count(&(struct request){.text = "", .why = why, .size = sizeof why});
    for (int i = 0; i < count; i++)
        if (!is_taken(PASSED_FIRST + i))
            passed_close(i);
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDNAMES");
}

void endpoint_save(const struct endpoint *e, struct baton *b)
{
    baton_put_fd(b, "fd", e->fd);
    baton_put_text(b, "text", e->text);
    baton_put_text(b, "path", e->path);
    baton_put_number(b, "dev", e->dev);
    baton_put_number(b, "ino", e->ino);
}

void endpoint_load(struct endpoint *e, const struct baton *b)
{
    char *text = baton_text(b, "text");
    *e = (struct endpoint){.fd = baton_fd(b, "fd"),
                           .path = baton_text(b, "path"),
                           .dev = (dev_t)baton_number(b, "dev"),
                           .ino = (ino_t)baton_number(b, "ino")};
    snprintf(e->text, sizeof e->text, "%s", text ? text : "");
    free(text);
}

/* The file goes first: while the socket is open no other file can get its number. */
void endpoint_close(struct endpoint *e)
{
    int saved = errno;
    if (e->path && endpoint_owns_file(e))
        unlink(e->path);
    free(e->path);
    e->path = NULL;
    errno = saved;
    fd_close(&e->fd);
}
