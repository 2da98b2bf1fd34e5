/*
 * native.channel: runtime/channel.c for its spec, senders that do not keep to its rules,
 * and what the specs of descriptors need to know from the system.
 *
 *   pair()                     two ends
 *   send(end, text, fds)       1, or 0 or -1 and errno's name; text may be a list of
 * pieces receive(end [, taken])     1, the text, a list of the descriptors; 0; or -1 and
 * errno's name. All but the first taken are left to channel_clear. peek(end, size) length
 * and text foreign(end, text, fds)    as any program may send; in as many parts as lists
 * follow interrupt(name [, name])   the next sendmsg, recvmsg fails with that error
 */
#include "channel.h"

#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PIECES = 8 };

/* Hidden, so the runtime's calls in this library come here instead of to libc. */
static int next_send_error, next_receive_error;

__attribute__((visibility("hidden"))) ssize_t sendmsg(int fd, const struct msghdr *h,
                                                      int flags)
{
    int error = next_send_error;
    next_send_error = 0;
    errno = error;
    return error ? -1 : syscall(SYS_sendmsg, fd, h, flags);
}

__attribute__((visibility("hidden"))) ssize_t recvmsg(int fd, struct msghdr *h, int flags)
{
    int error = next_receive_error;
    next_receive_error = 0;
    errno = error;
    return error ? -1 : syscall(SYS_recvmsg, fd, h, flags);
}

static int error_number(lua_State *L, int arg)
{
    const char *name = luaL_optstring(L, arg, NULL);
    for (int error = 1; name && error < 200; error++)
        if (strerrorname_np(error) && strcmp(name, strerrorname_np(error)) == 0)
            return error;
    return name ? luaL_argerror(L, arg, "no such error") : 0;
}

/* interrupt(send [, receive]) */
static int native_interrupt(lua_State *L)
{
    next_send_error = error_number(L, 1);
    next_receive_error = error_number(L, 2);
    return 0;
}

static int push_result(lua_State *L, lua_Integer result)
{
    if (result < 0)
        return luaL_error(L, "%s", strerrorname_np(errno));
    lua_pushinteger(L, result);
    return 1;
}

static int check_fd(lua_State *L, int arg)
{
    return (int)luaL_checkinteger(L, arg);
}

static int check_fds(lua_State *L, int arg, int *fds)
{
    int n = 0;
    if (lua_isnoneornil(L, arg))
        return 0;
    luaL_checktype(L, arg, LUA_TTABLE);
    for (; n < CHANNEL_FDS && lua_rawgeti(L, arg, n + 1) != LUA_TNIL; n++) {
        fds[n] = (int)luaL_checkinteger(L, -1);
        lua_pop(L, 1);
    }
    return n;
}

/* pair() */
static int native_pair(lua_State *L)
{
    int ends[2];
    if (channel_pair(ends) < 0)
        return push_result(L, -1);
    lua_pushinteger(L, ends[0]);
    lua_pushinteger(L, ends[1]);
    return 2;
}

static int check_pieces(lua_State *L, int arg, struct iovec *iov)
{
    int n = 0;
    if (!lua_istable(L, arg)) {
        iov->iov_base = (void *)luaL_checklstring(L, arg, &iov->iov_len);
        return 1;
    }
    for (; n < PIECES && lua_rawgeti(L, arg, n + 1) != LUA_TNIL; n++)
        iov[n].iov_base = (void *)luaL_checklstring(L, -1, &iov[n].iov_len);
    return n;
}

/* send(end, text, fds) */
static int native_send(lua_State *L)
{
    struct iovec iov[PIECES];
    int fds[CHANNEL_FDS], n = check_fds(L, 3, fds), pieces = check_pieces(L, 2, iov);
    int sent = channel_send(check_fd(L, 1), iov, pieces, fds, n);
    int error = errno;
    lua_pushinteger(L, sent);
    if (sent == 1)
        return 1;
    lua_pushstring(L, strerrorname_np(error));
    return 2;
}

/* receive(end [, taken]) */
static int native_receive(lua_State *L)
{
    int end = check_fd(L, 1);
    int taken = (int)luaL_optinteger(L, 2, CHANNEL_FDS);
    struct channel_message *m = lua_newuserdatauv(L, sizeof *m, 0);
    int got = channel_receive(end, m);
    int error = errno;
    lua_pushinteger(L, got);
    if (got < 0)
        lua_pushstring(L, strerrorname_np(error));
    if (got <= 0)
        return got ? 2 : 1;
    lua_pushlstring(L, m->data, m->len);
    lua_newtable(L);
    for (int i = 0; i < m->fd_count && i < taken; i++) {
        lua_pushinteger(L, fd_take(&m->fds[i]));
        lua_rawseti(L, -2, i + 1);
    }
    channel_clear(m);
    return 3;
}

/* peek(end, size) */
static int native_peek(lua_State *L)
{
    size_t size = (size_t)luaL_checkinteger(L, 2);
    char *data = lua_newuserdatauv(L, size, 0);
    size_t n = channel_peek(check_fd(L, 1), data, size);
    lua_pushinteger(L, (lua_Integer)n);
    lua_pushlstring(L, data, n);
    return 2;
}

/* foreign(end, text, fds ...) */
static int native_foreign(lua_State *L)
{
    struct iovec iov = {0};
    iov.iov_base = (void *)luaL_checklstring(L, 2, &iov.iov_len);
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    size_t size = CMSG_SPACE(sizeof(int) * CHANNEL_FDS) * PIECES;
    char *control = lua_newuserdatauv(L, size, 0);
    memset(control, 0, size);
    int last = lua_gettop(L) - 1;
    luaL_argcheck(L, last - 2 <= PIECES, 3, "too many lists");
    for (int arg = 3; arg <= last; arg++) {
        int fds[CHANNEL_FDS], n = check_fds(L, arg, fds);
        struct cmsghdr *c = (struct cmsghdr *)(control + h.msg_controllen);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)n);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)n);
        h.msg_control = control;
        h.msg_controllen += CMSG_SPACE(sizeof(int) * (size_t)n);
    }
    return push_result(L, sendmsg(check_fd(L, 1), &h, MSG_NOSIGNAL | MSG_DONTWAIT));
}

/* file(): a new, empty one without a name */
static int native_file(lua_State *L)
{
    return push_result(L, memfd_create("spec", MFD_CLOEXEC));
}

/* close(fd ...) */
static int native_close(lua_State *L)
{
    for (int i = 1; i <= lua_gettop(L); i++)
        if (close(check_fd(L, i)) < 0)
            return push_result(L, -1);
    return 0;
}

/* dup(fd) */
static int native_dup(lua_State *L)
{
    return push_result(L, fcntl(check_fd(L, 1), F_DUPFD_CLOEXEC, 0));
}

/* identity(fd): device and inode as text */
static int native_identity(lua_State *L)
{
    struct stat st;
    if (fstat(check_fd(L, 1), &st) < 0)
        return push_result(L, -1);
    lua_pushfstring(L, "%I:%I", (LUAI_UACINT)st.st_dev, (LUAI_UACINT)st.st_ino);
    return 1;
}

/* offset(fd [, new]): where its next byte is read */
static int native_offset(lua_State *L)
{
    if (lua_isnoneornil(L, 2))
        return push_result(L, lseek(check_fd(L, 1), 0, SEEK_CUR));
    return push_result(L, lseek(check_fd(L, 1), luaL_checkinteger(L, 2), SEEK_SET));
}

/* flags(fd): whether it is close-on-exec, whether it is non-blocking */
static int native_flags(lua_State *L)
{
    lua_pushboolean(L, fcntl(check_fd(L, 1), F_GETFD) & FD_CLOEXEC);
    lua_pushboolean(L, fcntl(check_fd(L, 1), F_GETFL) & O_NONBLOCK);
    return 2;
}

/* lowest(): the number that the next descriptor gets */
static int native_lowest(lua_State *L)
{
    int fd = dup(STDERR_FILENO);
    fd_close(&(int){fd});
    return push_result(L, fd);
}

/* limit([n]): sets the soft RLIMIT_NOFILE; what it was */
static int native_limit(lua_State *L)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t old = limit.rlim_cur;
    limit.rlim_cur = (rlim_t)luaL_optinteger(L, 1, (lua_Integer)old);
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return push_result(L, -1);
    return push_result(L, (lua_Integer)old);
}

/* buffer(end, bytes): its sending buffer becomes so small */
static int native_buffer(lua_State *L)
{
    int bytes = (int)luaL_checkinteger(L, 2);
    return push_result(
        L, setsockopt(check_fd(L, 1), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes));
}

/* poll(fd, seconds): whether it became readable */
static int native_poll(lua_State *L)
{
    struct pollfd p = {.fd = check_fd(L, 1), .events = POLLIN};
    lua_pushboolean(L, poll(&p, 1, (int)(luaL_checknumber(L, 2) * 1000)) == 1);
    return 1;
}

/* fork(fn): the pid of a process that calls fn, and then ends or waits for its end */
static int native_fork(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    pid_t pid = fork();
    if (pid != 0)
        return push_result(L, pid);
    lua_settop(L, 1);
    _exit(lua_pcall(L, 0, 0, 0) != LUA_OK);
}

/* pause(): for ever, in a child */
static int native_pause(lua_State *L)
{
    (void)L;
    while (pause() < 0)
        ;
    return 0;
}

/* mortal(): a child in which SIGPIPE does what it usually does */
static int native_mortal(lua_State *L)
{
    (void)L;
    signal(SIGPIPE, SIG_DFL);
    return 0;
}

static const luaL_Reg functions[] = {
    {"pair", native_pair},
    {"send", native_send},
    {"receive", native_receive},
    {"peek", native_peek},
    {"foreign", native_foreign},
    {"file", native_file},
    {"interrupt", native_interrupt},
    {"close", native_close},
    {"dup", native_dup},
    {"identity", native_identity},
    {"offset", native_offset},
    {"flags", native_flags},
    {"lowest", native_lowest},
    {"limit", native_limit},
    {"buffer", native_buffer},
    {"poll", native_poll},
    {"fork", native_fork},
    {"pause", native_pause},
    {"mortal", native_mortal},
    {NULL, NULL},
};

int luaopen_native_channel(lua_State *L);
int luaopen_native_channel(lua_State *L)
{
    luaL_newlib(L, functions);
    lua_pushinteger(L, CHANNEL_FDS);
    lua_setfield(L, -2, "FDS");
    lua_pushinteger(L, CHANNEL_BYTES);
    lua_setfield(L, -2, "BYTES");
    return 1;
}
