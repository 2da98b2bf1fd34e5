/*
 * The box is the Lua value; its conn is NULL once closed, whoever closed it. One task may
 * read and one may write at a time. A call that has to wait keeps where it stands in the
 * box and in its own stack (lua_yieldk), and begins its loop again when it is woken.
 */
#include "lua_conn.h"

#include "fd.h"
#include "lua_fail.h"
#include "lua_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME "moonpool.conn"

/* One side's wait: who, until when, and how far the call has come. */
struct side {
    struct task *task;
    double deadline;
    int count;   /* arguments of the call */
    int current; /* the one being worked on, from 1 */
    size_t at;   /* how far in it */
};

struct lua_conn {
    struct lua_conn_env *env;
    struct conn *conn;
    struct side in, out;
    double timeout; /* seconds, INFINITY for none */
};

/* -- news from the conn -------------------------------------------------------------- */

static void side_wake(struct side *s)
{
    struct task *t = s->task;
    s->task = NULL;
    if (t)
        task_wake(t);
}

static void on_input(struct conn *c, void *arg)
{
    struct lua_conn *box = arg;
    (void)c;
    side_wake(&box->in);
}

static void on_room(struct conn *c, void *arg)
{
    struct lua_conn *box = arg;
    (void)c;
    side_wake(&box->out);
}

static const struct conn_callbacks callbacks = {on_input, on_room};

static void forget_reader(void *arg)
{
    struct lua_conn *box = arg;
    box->in.task = NULL;
    if (box->conn)
        conn_want_input(box->conn, 0);
}

static void forget_writer(void *arg)
{
    struct lua_conn *box = arg;
    box->out.task = NULL;
    if (box->conn)
        conn_want_room(box->conn, 0);
}

/* -- the box ------------------------------------------------------------------------- */

struct lua_conn *lua_conn_push(lua_State *L, struct lua_conn_env *env)
{
    struct lua_conn *box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = (struct lua_conn){.env = env, .timeout = INFINITY};
    luaL_setmetatable(L, NAME);
    return box;
}

int lua_conn_open(struct lua_conn *box, int fd)
{
    struct conn *c = conn_open(&box->env->conns, fd);
    if (!c)
        return -1;
    conn_set_owner(c, &callbacks, box);
    box->conn = c;
    return 0;
}

struct lua_conn *lua_conn_test(lua_State *L, int index)
{
    return luaL_testudata(L, index, NAME);
}

struct lua_conn *lua_conn_check(lua_State *L, int index)
{
    struct lua_conn *box = luaL_checkudata(L, index, NAME);
    luaL_argcheck(L, box->conn, index, "connection is closed");
    return box;
}

struct conn *lua_conn_get(struct lua_conn *box)
{
    return box->conn;
}

struct conn *lua_conn_take(lua_State *L, int index)
{
    struct lua_conn *box = lua_conn_check(L, index);
    luaL_argcheck(L, !box->in.task && !box->out.task, index, "a task waits for it");
    struct conn *c = box->conn;
    box->conn = NULL;
    return c;
}

static void side_begin(lua_State *L, struct lua_conn *box, struct side *s, int count)
{
    if (s->task)
        luaL_error(L, "another task is waiting for this side of the connection");
    double now = isinf(box->timeout) ? 0 : loop_now(tasks_loop(box->env->tasks));
    *s = (struct side){.deadline = now + box->timeout, .count = count, .current = 1};
}

/* -- reading ------------------------------------------------------------------------- */

static int wait_input(lua_State *L, struct lua_conn *box, lua_KFunction k)
{
    box->in.task = task_current(box->env->tasks);
    conn_want_input(box->conn, 1);
    return task_wait(box->env->tasks, L, box->in.deadline, forget_reader, box, 0, k);
}

/* Values read so far stay in front of the failure, as with file:read. */
static int read_failed(lua_State *L, struct lua_conn *box, int error)
{
    int done = box->in.current - 1;
    return done + lua_fail(L, error);
}

static int got(lua_State *L, struct buf *in, size_t n, size_t skip)
{
    lua_pushlstring(L, n ? buf_head(in) : "", n);
    buf_skip(in, n + skip);
    return 1;
}

static int get_line(lua_State *L, struct lua_conn *box, struct buf *in, int keep)
{
    size_t len = buf_len(in);
    char *data = buf_head(in);
    char *end =
        len > box->in.at ? memchr(data + box->in.at, '\n', len - box->in.at) : NULL;
    box->in.at = len;
    if (!end)
        return conn_is_at_end(box->conn) && len ? got(L, in, len, 0) : 0;
    size_t n = (size_t)(end - data) + 1;
    if (keep)
        return got(L, in, n, 0);
    size_t cut = n > 1 && end[-1] == '\r' ? 2 : 1;
    return got(L, in, n - cut, cut);
}

static int get_all(lua_State *L, struct lua_conn *box, struct buf *in)
{
    return conn_is_at_end(box->conn) ? got(L, in, buf_len(in), 0) : 0;
}

/* At the end, fewer bytes than asked for, as with file:read; none is a failure. */
static int get_count(lua_State *L, struct lua_conn *box, struct buf *in, size_t n)
{
    size_t len = buf_len(in);
    if (len >= n && (n || len || conn_is_at_end(box->conn)))
        return n || len ? got(L, in, n, 0) : 0;
    return conn_is_at_end(box->conn) && len ? got(L, in, len, 0) : 0;
}

/* One format: 1 and its value is pushed, or 0. */
static int get(lua_State *L, struct lua_conn *box, int arg)
{
    struct buf *in = conn_input(box->conn);
    if (lua_type(L, arg) == LUA_TNUMBER)
        return get_count(L, box, in, (size_t)lua_tointeger(L, arg));
    const char *format = lua_tostring(L, arg);
    switch (format[*format == '*']) {
    case 'a':
        return get_all(L, box, in);
    case 'L':
        return get_line(L, box, in, 1);
    default:
        return get_line(L, box, in, 0);
    }
}

/* Reads as long as input is at hand. 1 got, 0 wait, -1 failed with *error. */
static int get_or_fill(lua_State *L, struct lua_conn *box, int arg, int *error)
{
    for (;;) {
        if (get(L, box, arg))
            return 1;
        if (conn_is_at_end(box->conn) || conn_error(box->conn)) {
            *error = conn_error(box->conn);
            return -1;
        }
        int filled = conn_fill(box->conn);
        if (filled == 0)
            return 0;
        if (filled < 0 && errno == ENOBUFS && !conn_error(box->conn) &&
            !conn_is_at_end(box->conn)) {
            *error = EMSGSIZE;
            return -1;
        }
    }
}

static int read_k(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_conn *box = lua_touserdata(L, 1);
    struct side *s = &box->in;
    int timed_out = status == LUA_YIELD && task_timed_out(box->env->tasks);
    (void)ctx;
    for (; s->current <= s->count; s->current++, s->at = 0) {
        int error = ECANCELED; /* closed by another task while this one waited */
        int some = box->conn ? get_or_fill(L, box, 1 + s->current, &error) : -1;
        if (some == 0 && !timed_out)
            return wait_input(L, box, read_k);
        if (some <= 0)
            return read_failed(L, box, some ? error : ETIMEDOUT);
    }
    return s->count;
}

static void check_format(lua_State *L, int arg)
{
    if (lua_type(L, arg) == LUA_TNUMBER) {
        luaL_argcheck(L, luaL_checkinteger(L, arg) >= 0, arg, "negative count");
        return;
    }
    const char *format = luaL_checkstring(L, arg);
    luaL_argcheck(L, strchr("lLa", format[*format == '*']) && format[*format == '*'], arg,
                  "invalid format");
}

/* The stack is conn, formats; without a format it is "l". */
static int read_begin(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    if (lua_gettop(L) == 1)
        lua_pushliteral(L, "l");
    int count = lua_gettop(L) - 1;
    for (int i = 1; i <= count; i++)
        check_format(L, 1 + i);
    luaL_checkstack(L, count + 3, "too many formats");
    side_begin(L, box, &box->in, count);
    return read_k(L, LUA_OK, 0);
}

/* conn:read(...) */
static int method_read(lua_State *L)
{
    return read_begin(L);
}

static int lines_next(lua_State *L)
{
    int n = (int)lua_tointeger(L, lua_upvalueindex(1));
    struct lua_conn *box = lua_touserdata(L, lua_upvalueindex(2));
    lua_settop(L, 0);
    if (!box->conn)
        return 0;
    for (int i = 0; i <= n; i++)
        lua_pushvalue(L, lua_upvalueindex(2 + i));
    return read_begin(L);
}

/* conn:lines(...) -> iterator */
static int method_lines(lua_State *L)
{
    int n = lua_gettop(L) - 1;
    lua_conn_check(L, 1);
    luaL_argcheck(L, n <= 200, 202, "too many formats");
    lua_pushinteger(L, n);
    lua_insert(L, 1);
    lua_pushcclosure(L, lines_next, n + 2);
    return 1;
}

/* conn:unread() -> string: what was read from the socket but not by the script */
static int method_unread(lua_State *L)
{
    struct buf *in = conn_input(lua_conn_check(L, 1)->conn);
    return got(L, in, buf_len(in), 0);
}

/* -- writing ------------------------------------------------------------------------- */

static int wait_room(lua_State *L, struct lua_conn *box, lua_KFunction k)
{
    box->out.task = task_current(box->env->tasks);
    conn_want_room(box->conn, 1);
    return task_wait(box->env->tasks, L, box->out.deadline, forget_writer, box, 0, k);
}

static int wait_drained(lua_State *L, struct lua_conn *box, lua_KFunction k)
{
    box->out.task = task_current(box->env->tasks);
    conn_want_drained(box->conn, 1);
    return task_wait(box->env->tasks, L, box->out.deadline, forget_writer, box, 0, k);
}

static int write_failed(lua_State *L, struct lua_conn *box)
{
    if (!box->conn)
        return lua_fail(L, ECANCELED);
    return lua_fail(L, conn_error(box->conn) ? conn_error(box->conn) : EPIPE);
}

/* After a wait: 0, or what the call has to return. */
static int wait_failed(lua_State *L, struct lua_conn *box)
{
    if (!box->conn || conn_error(box->conn))
        return write_failed(L, box);
    return task_timed_out(box->env->tasks) ? lua_fail(L, ETIMEDOUT) : 0;
}

/* Puts out arguments from side.current on: 1 all, 0 wait, -1 failed. */
static int put(lua_State *L, struct lua_conn *box)
{
    for (struct side *s = &box->out; s->current <= s->count; s->current++, s->at = 0) {
        size_t len;
        const char *data = lua_tolstring(L, 1 + s->current, &len);
        while (s->at < len) {
            ssize_t n = conn_write(box->conn, data + s->at, len - s->at);
            if (n <= 0)
                return (int)n;
            s->at += (size_t)n;
        }
    }
    return 1;
}

static int write_k(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_conn *box = lua_touserdata(L, 1);
    int failed = status == LUA_YIELD ? wait_failed(L, box) : 0;
    (void)ctx;
    if (failed)
        return failed;
    int some = put(L, box);
    if (some == 0)
        return wait_room(L, box, write_k);
    if (some < 0)
        return write_failed(L, box);
    lua_settop(L, 1);
    return 1;
}

/* conn:write(...) -> conn */
static int method_write(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    int count = lua_gettop(L) - 1;
    for (int i = 1; i <= count; i++)
        luaL_checklstring(L, 1 + i, NULL);
    side_begin(L, box, &box->out, count);
    return write_k(L, LUA_OK, 0);
}

static int flush_k(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_conn *box = lua_touserdata(L, 1);
    int failed = status == LUA_YIELD ? wait_failed(L, box) : 0;
    (void)ctx;
    if (failed)
        return failed;
    int flushed = conn_flush(box->conn);
    if (flushed == 0)
        return wait_drained(L, box, flush_k);
    if (flushed < 0)
        return write_failed(L, box);
    lua_settop(L, 1);
    return 1;
}

/* conn:flush() -> conn */
static int method_flush(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    side_begin(L, box, &box->out, 0);
    return flush_k(L, LUA_OK, 0);
}

/* -- files --------------------------------------------------------------------------- */

enum { FILE_ARG = 2, FILE_STATE = 3 };

struct file_state {
    off_t offset;
    size_t left, asked;
};

static int sendfile_k(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_conn *box = lua_touserdata(L, 1);
    struct file_state *f = lua_touserdata(L, FILE_STATE);
    int failed = status == LUA_YIELD ? wait_failed(L, box) : 0;
    (void)ctx;
    if (failed)
        return failed;
    int done = conn_sendfile(box->conn, lua_fd_of(L, FILE_ARG), &f->offset, &f->left);
    if (done == 0)
        return wait_drained(L, box, sendfile_k);
    if (done < 0)
        return write_failed(L, box);
    lua_pushinteger(L, (lua_Integer)(f->asked - f->left));
    return 1;
}

/* Replaces a path at FILE_ARG by an open moonpool.fd. 0, or the errno. */
static int open_path(lua_State *L)
{
    const char *path = lua_tostring(L, FILE_ARG);
    int *fd = lua_fd_push(L);
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return errno;
    lua_replace(L, FILE_ARG);
    return 0;
}

/* conn:sendfile(path | file | fd [, offset = 0 [, length = to its end]]) -> bytes */
static int method_sendfile(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    lua_Integer offset = luaL_optinteger(L, 3, 0);
    lua_Integer length = luaL_optinteger(L, 4, -1);
    struct stat st;
    luaL_argcheck(L, offset >= 0, 3, "negative offset");
    lua_settop(L, FILE_ARG);
    int error = lua_type(L, FILE_ARG) == LUA_TSTRING ? open_path(L) : 0;
    int fd = error ? -1 : lua_fd_of(L, FILE_ARG);
    luaL_argcheck(L, error || fd >= 0, FILE_ARG,
                  "path, open file or descriptor expected");
    if (error || fstat(fd, &st) < 0)
        return lua_fail(L, error ? error : errno);
    if (!S_ISREG(st.st_mode))
        return lua_fail(L, S_ISDIR(st.st_mode) ? EISDIR : EINVAL);
    struct file_state *f = lua_newuserdatauv(L, sizeof *f, 0);
    size_t rest = st.st_size > offset ? (size_t)(st.st_size - offset) : 0;
    f->offset = (off_t)offset;
    f->asked = f->left = length < 0 || (size_t)length > rest ? rest : (size_t)length;
    side_begin(L, box, &box->out, 0);
    return sendfile_k(L, LUA_OK, 0);
}

/* -- descriptors --------------------------------------------------------------------- */

/* Unread input would be lost to whoever gets the descriptor, so it must be taken first.
 */
static int fd_to_send(lua_State *L, int arg)
{
    struct lua_conn *other = lua_conn_test(L, arg);
    if (!other)
        return lua_fd_of(L, arg);
    lua_conn_check(L, arg);
    luaL_argcheck(L, !buf_len(conn_input(other->conn)), arg,
                  "it holds input that was read ahead: send conn:unread() along");
    luaL_argcheck(L, conn_flush(other->conn) != 0, arg,
                  "it holds output: flush it first");
    return conn_fd(other->conn);
}

static int sendfd_k(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_conn *box = lua_touserdata(L, 1), *other = lua_conn_test(L, 2);
    size_t len;
    const char *data = lua_tolstring(L, 3, &len);
    int failed = status == LUA_YIELD ? wait_failed(L, box) : 0;
    (void)ctx;
    if (failed)
        return failed;
    ssize_t n = conn_send_fd(box->conn, fd_to_send(L, 2), data, len);
    if (n == 0)
        return wait_drained(L, box, sendfd_k);
    if (n < 0)
        return write_failed(L, box);
    if (other)
        conn_give(other->conn);
    box->out.count = 2; /* the rest of data, as by write("", data) */
    box->out.current = 2;
    box->out.at = (size_t)n;
    return write_k(L, LUA_OK, 0);
}

/* conn:sendfd(conn | file | fd, data) -> conn; the descriptor comes with data's first
 * byte */
static int method_sendfd(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    size_t len;
    luaL_checklstring(L, 3, &len);
    luaL_argcheck(L, len > 0, 3, "at least one byte must go along");
    luaL_argcheck(L, fd_to_send(L, 2) >= 0, 2,
                  "connection, open file or descriptor expected");
    lua_settop(L, 3);
    side_begin(L, box, &box->out, 0);
    return sendfd_k(L, LUA_OK, 0);
}

static int recvfd_k(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_conn *box = lua_touserdata(L, 1);
    int timed_out = status == LUA_YIELD && task_timed_out(box->env->tasks);
    (void)ctx;
    while (box->conn) {
        int *fd = lua_fd_push(L);
        *fd = conn_take_fd(box->conn);
        if (*fd >= 0)
            return 1;
        lua_pop(L, 1);
        int filled = conn_fill(box->conn);
        if (filled == 0)
            return timed_out ? lua_fail(L, ETIMEDOUT) : wait_input(L, box, recvfd_k);
        if (filled < 0 && conn_is_at_end(box->conn))
            return lua_fail(L, 0);
        if (filled < 0)
            return lua_fail(L, conn_error(box->conn) ? conn_error(box->conn) : EMSGSIZE);
    }
    return lua_fail(L, ECANCELED);
}

/* conn:recvfd() -> moonpool.fd */
static int method_recvfd(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    lua_settop(L, 1);
    side_begin(L, box, &box->in, 0);
    return recvfd_k(L, LUA_OK, 0);
}

/* -- the rest ------------------------------------------------------------------------ */

static int connected_k(lua_State *L, int status, lua_KContext index)
{
    struct lua_conn *box = lua_touserdata(L, (int)index);
    int error = 0, failed = status == LUA_YIELD ? wait_failed(L, box) : 0;
    socklen_t len = sizeof error;
    if (failed)
        return failed;
    if (getsockopt(conn_fd(box->conn), SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error)
        return lua_fail(L, error);
    lua_pushvalue(L, (int)index);
    return 1;
}

int lua_conn_connected(lua_State *L, int index, double timeout)
{
    struct lua_conn *box = lua_conn_check(L, index);
    side_begin(L, box, &box->out, 0);
    box->out.deadline = loop_now(tasks_loop(box->env->tasks)) + timeout;
    box->out.task = task_current(box->env->tasks);
    conn_want_drained(box->conn, 1);
    return task_wait(box->env->tasks, L, box->out.deadline, forget_writer, box, index,
                     connected_k);
}

/* conn:settimeout(seconds | nil) -> conn */
static int method_settimeout(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    double seconds = lua_isnoneornil(L, 2) ? INFINITY : luaL_checknumber(L, 2);
    luaL_argcheck(L, seconds >= 0, 2, "negative time");
    box->timeout = seconds;
    lua_settop(L, 1);
    return 1;
}

/* conn:shutdown() -> conn */
static int method_shutdown(lua_State *L)
{
    conn_shutdown(lua_conn_check(L, 1)->conn);
    lua_settop(L, 1);
    return 1;
}

/* conn:close() -> true; also <close> and the collector's: may run twice */
static int method_close(lua_State *L)
{
    struct lua_conn *box = luaL_checkudata(L, 1, NAME);
    struct conn *c = box->conn;
    box->conn = NULL;
    if (c)
        conn_close(c);
    side_wake(&box->in);
    side_wake(&box->out);
    lua_pushboolean(L, 1);
    return 1;
}

static int push_address(lua_State *L, int failed, const struct address *a)
{
    char text[ADDRESS_TEXT];
    if (failed)
        return lua_fail(L, errno);
    address_format(a, text);
    lua_pushstring(L, text);
    return 1;
}

/* conn:peer() -> address of the other side */
static int method_peer(lua_State *L)
{
    struct address a;
    int failed = conn_peer(lua_conn_check(L, 1)->conn, &a);
    return push_address(L, failed, &a);
}

/* conn:sock() -> address of this side */
static int method_sock(lua_State *L)
{
    struct address a;
    int failed = conn_sock(lua_conn_check(L, 1)->conn, &a);
    return push_address(L, failed, &a);
}

/* conn:fileno() -> number, which is still the connection's to close */
static int method_fileno(lua_State *L)
{
    lua_pushinteger(L, conn_fd(lua_conn_check(L, 1)->conn));
    return 1;
}

static int conn_tostring(lua_State *L)
{
    struct lua_conn *box = luaL_checkudata(L, 1, NAME);
    if (box->conn)
        lua_pushfstring(L, NAME " (%d)", conn_fd(box->conn));
    else
        lua_pushliteral(L, NAME " (closed)");
    return 1;
}

static const luaL_Reg methods[] = {
    {"read", method_read},
    {"lines", method_lines},
    {"unread", method_unread},
    {"write", method_write},
    {"flush", method_flush},
    {"sendfile", method_sendfile},
    {"sendfd", method_sendfd},
    {"recvfd", method_recvfd},
    {"settimeout", method_settimeout},
    {"shutdown", method_shutdown},
    {"close", method_close},
    {"peer", method_peer},
    {"sock", method_sock},
    {"fileno", method_fileno},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", method_close},
    {"__close", method_close},
    {"__tostring", conn_tostring},
    {NULL, NULL},
};

void luaopen_moonpool_conn(lua_State *L)
{
    luaL_newmetatable(L, NAME);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
