#include "lua_fault.h"

#include "log.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

enum { READ = 1, WRITE = 2, FDS = 65536 };

/* -- system calls -------------------------------------------------------------------- */

static struct {
    int on; /* READ, WRITE or both; 0: nothing goes wrong */
    lua_Integer count, first, last, step;
    int error;   /* errno; 0: it is short */
    size_t most; /* bytes */
} plan;

static char spared[FDS];

static int is_hit(int direction, int fd)
{
    if (!(plan.on & direction) || fd < 0 || fd >= FDS || spared[fd])
        return 0;
    lua_Integer n = ++plan.count;
    return n >= plan.first && n <= plan.last && (n - plan.first) % plan.step == 0;
}

/* -1 and errno, or 0 and *size is what it may be. */
static int strike(int direction, int fd, size_t *size)
{
    if (!is_hit(direction, fd))
        return 0;
    if (plan.error) {
        errno = plan.error;
        return -1;
    }
    if (*size > plan.most)
        *size = plan.most;
    return 0;
}

/* The first of its buffers that is not empty, and no more of that than it may be. */
static int strike_message(int direction, int fd, struct msghdr *h, struct iovec *one)
{
    for (size_t i = 0; i < h->msg_iovlen; i++) {
        *one = h->msg_iov[i];
        if (one->iov_len)
            break;
    }
    size_t size = one->iov_len;
    if (strike(direction, fd, &size) < 0)
        return -1;
    if (size == one->iov_len)
        return 0;
    one->iov_len = size;
    h->msg_iov = one;
    h->msg_iovlen = 1;
    return 0;
}

/* The names are the linker's. */
ssize_t __real_recv(int fd, void *data, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t size, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *h, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *h, int flags);
ssize_t __real_send(int fd, const void *data, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t size, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *h, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *h, int flags);
ssize_t __real_sendfile(int fd, int file, off_t *offset, size_t size);
ssize_t __wrap_sendfile(int fd, int file, off_t *offset, size_t size);
int __real_close(int fd);
int __wrap_close(int fd);

ssize_t __wrap_recv(int fd, void *data, size_t size, int flags)
{
    return strike(READ, fd, &size) < 0 ? -1 : __real_recv(fd, data, size, flags);
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *h, int flags)
{
    if (!plan.on)
        return __real_recvmsg(fd, h, flags);
    struct iovec one = {0}, *iov = h->msg_iov;
    size_t count = h->msg_iovlen;
    int error = strike_message(READ, fd, h, &one);
    ssize_t n = error ? -1 : __real_recvmsg(fd, h, flags);
    h->msg_iov = iov;
    h->msg_iovlen = count;
    return n;
}

ssize_t __wrap_send(int fd, const void *data, size_t size, int flags)
{
    return strike(WRITE, fd, &size) < 0 ? -1 : __real_send(fd, data, size, flags);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *h, int flags)
{
    if (!plan.on)
        return __real_sendmsg(fd, h, flags);
    struct msghdr copy = *h;
    struct iovec one = {0};
    if (strike_message(WRITE, fd, &copy, &one) < 0)
        return -1;
    return __real_sendmsg(fd, &copy, flags);
}

ssize_t __wrap_sendfile(int fd, int file, off_t *offset, size_t size)
{
    return strike(WRITE, fd, &size) < 0 ? -1 : __real_sendfile(fd, file, offset, size);
}

int __wrap_close(int fd)
{
    if (fd >= 0 && fd < FDS)
        spared[fd] = 0;
    return __real_close(fd);
}

static int errno_of(lua_State *L, const char *name)
{
    static const int known[] = {EAGAIN, EINTR,   ECONNRESET, EPIPE,
                                ENOMEM, ENOBUFS, ETIMEDOUT,  EHOSTUNREACH};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, strerrorname_np(known[i])) == 0)
            return known[i];
    return luaL_error(L, "there is no fault %s", name);
}

static lua_Integer number_field(lua_State *L, const char *name, lua_Integer otherwise)
{
    lua_getfield(L, 1, name);
    lua_Integer value = luaL_optinteger(L, -1, otherwise);
    lua_pop(L, 1);
    luaL_argcheck(L, value > 0, 1, "what counts is greater than 0");
    return value;
}

static const char *text_field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    return luaL_optstring(L, -1, NULL); /* the table keeps it */
}

static int direction_of(lua_State *L, const char *on)
{
    if (!on)
        return READ | WRITE;
    luaL_argcheck(L, strcmp(on, "read") == 0 || strcmp(on, "write") == 0, 1,
                  "on is \"read\" or \"write\"");
    return on[0] == 'r' ? READ : WRITE;
}

/* fault.io([plan]) */
static int fault_io(lua_State *L)
{
    plan.on = 0;
    if (lua_isnoneornil(L, 1)) {
        lua_pushinteger(L, plan.count);
        return 1;
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *error = text_field(L, "error");
    plan.error = error ? errno_of(L, error) : 0;
    plan.first = number_field(L, "first", 1);
    plan.last = number_field(L, "last", LUA_MAXINTEGER);
    plan.step = number_field(L, "step", 1);
    plan.most = (size_t)number_field(L, "most", 1);
    plan.count = 0;
    plan.on = direction_of(L, text_field(L, "on"));
    return 0;
}

/* fault.spare(fileno) */
static int fault_spare(lua_State *L)
{
    lua_Integer fd = luaL_checkinteger(L, 1);
    if (fd >= 0 && fd < FDS)
        spared[fd] = 1;
    return 0;
}

/* fault.buffer(fileno, bytes), of which the kernel makes twice as many (socket(7)) */
static int fault_buffer(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1), bytes = (int)luaL_checkinteger(L, 2) / 2;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) < 0)
        return luaL_error(L, "no buffer: %s", strerror(errno));
    return 0;
}

/* fault.quiet(on) */
static int fault_quiet(lua_State *L)
{
    int on = lua_toboolean(L, 1);
    log_threshold(on ? (enum log_level)(LOG_ERROR + 1) : LOG_INFO);
    return 0;
}

/* -- memory -------------------------------------------------------------------------- */

static struct {
    struct core *core; /* NULL: nothing fails */
    lua_Alloc alloc;   /* Lua's own */
    void *arg;
    lua_Integer count, at;
} memory;

/* In the loop, but not while it runs a task of the spec. */
static int is_the_handlers(void)
{
    struct task *t = task_current(memory.core->tasks);
    return ev_depth(memory.core->loop->ev) > 0 && !(t && task_is_spec(t));
}

/* Lua asks twice, with a collection in between: the second answer is the first. */
static int is_to_fail(void)
{
    if (!is_the_handlers())
        return 0;
    lua_Integer n = ++memory.count;
    return memory.at && (n == memory.at || n == memory.at + 1);
}

static void *fragile(void *arg, void *block, size_t old, size_t size)
{
    if (size && (!block || size > old) && is_to_fail())
        return NULL;
    return memory.alloc(arg, block, old, size);
}

/* fault.memory([n]) */
static int fault_memory(lua_State *L)
{
    if (memory.core)
        lua_setallocf(L, memory.alloc, memory.arg);
    memory.core = NULL;
    if (lua_isnoneornil(L, 1)) {
        lua_pushinteger(L, memory.count);
        return 1;
    }
    memory.at = luaL_checkinteger(L, 1);
    memory.count = 0;
    memory.core = lua_touserdata(L, lua_upvalueindex(1));
    memory.alloc = lua_getallocf(L, &memory.arg);
    lua_setallocf(L, fragile, memory.arg);
    return 0;
}

/* -- opening ------------------------------------------------------------------------- */

static const luaL_Reg functions[] = {
    {"io", fault_io},         {"spare", fault_spare}, {"buffer", fault_buffer},
    {"memory", fault_memory}, {"quiet", fault_quiet}, {NULL, NULL},
};

int luaopen_moonpool_fault(lua_State *L)
{
    luaL_newlibtable(L, functions);
    lua_pushlightuserdata(L, core_get(L));
    luaL_setfuncs(L, functions, 1);
    return 1;
}
