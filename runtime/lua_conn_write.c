#include "lua_conn_write.h"

#include "lua_conn_call.h"
#include "lua_fail.h"
#include "lua_fd.h"

#include <errno.h>

static int wait_room(lua_State *L, struct lua_conn *box, int status, lua_KContext at,
                     lua_KFunction step)
{
    conn_want_room(box->conn, 1);
    return call_wait(L, box, &box->out, status, at, step);
}

static int wait_drained(lua_State *L, struct lua_conn *box, int status,
                        lua_KFunction step)
{
    conn_want_drained(box->conn, 1);
    return call_wait(L, box, &box->out, status, 0, step);
}

/* "return write_failed(...)": the call is over. */
static int write_failed(lua_State *L, struct lua_conn *box)
{
    int error = !box->conn              ? ECANCELED
                : conn_error(box->conn) ? conn_error(box->conn)
                                        : EPIPE;
    return side_leave(&box->out, lua_fail(L, error));
}

/* A step of writing begins with this: 0, or what to return. */
static int write_cannot(lua_State *L, struct lua_conn *box, int status)
{
    if (!box->conn || conn_error(box->conn))
        return write_failed(L, box);
    return call_timed_out(box, status) ? side_leave(&box->out, lua_fail(L, ETIMEDOUT))
                                       : 0;
}

static int write_done(lua_State *L, struct lua_conn *box)
{
    lua_settop(L, 1);
    return side_leave(&box->out, 1);
}

/* Puts out the strings from index 2 on, but the first *done bytes: 1 all, 0 wait, -1
 * failed. */
static int put(lua_State *L, struct lua_conn *box, size_t *done)
{
    size_t begin = 0, len;
    int top = lua_gettop(L);
    for (int i = 2; i <= top; i++, begin += len) {
        const char *data = lua_tolstring(L, i, &len);
        while (*done < begin + len) {
            size_t at = *done - begin;
            ssize_t n = conn_write(box->conn, data + at, len - at);
            if (n <= 0)
                return (int)n;
            *done += (size_t)n;
        }
    }
    return 1;
}

static int write_k(lua_State *L, int status, lua_KContext at)
{
    struct lua_conn *box = lua_touserdata(L, 1);
    int cannot = write_cannot(L, box, status);
    size_t done = (size_t)at;
    if (cannot)
        return cannot;
    int some = put(L, box, &done);
    if (some == 0)
        return wait_room(L, box, status, (lua_KContext)done, write_k);
    return some < 0 ? write_failed(L, box) : write_done(L, box);
}

static const struct call write_call = {0, write_k};

/* conn:write(...) -> conn */
static int method_write(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    int count = lua_gettop(L) - 1;
    for (int i = 1; i <= count; i++)
        luaL_checklstring(L, 1 + i, NULL);
    return call_begin(L, box, &write_call);
}

static int flush_k(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_conn *box = lua_touserdata(L, 1);
    int cannot = write_cannot(L, box, status);
    (void)ctx;
    if (cannot)
        return cannot;
    int flushed = conn_flush(box->conn);
    if (flushed == 0)
        return wait_drained(L, box, status, flush_k);
    return flushed < 0 ? write_failed(L, box) : write_done(L, box);
}

static const struct call flush_call = {0, flush_k};

/* conn:flush() -> conn */
static int method_flush(lua_State *L)
{
    return call_begin(L, lua_conn_check(L, 1), &flush_call);
}

/* -- files --------------------------------------------------------------------------- */

enum { FILE_ARG = 2, FILE_STATE = 3 };

struct file_state {
    struct lua_fd_part part;
    size_t asked;
};

static int sendfile_k(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_conn *box = lua_touserdata(L, 1);
    struct file_state *f = lua_touserdata(L, FILE_STATE);
    int cannot = write_cannot(L, box, status);
    (void)ctx;
    if (cannot)
        return cannot;
    int done =
        conn_sendfile(box->conn, lua_fd_of(L, FILE_ARG), &f->part.offset, &f->part.left);
    if (done == 0)
        return wait_drained(L, box, status, sendfile_k);
    if (done < 0)
        return write_failed(L, box);
    lua_pushinteger(L, (lua_Integer)(f->asked - f->part.left));
    return side_leave(&box->out, 1);
}

static const struct call sendfile_call = {0, sendfile_k};

/* conn:sendfile(path | file | fd [, offset = 0 [, length = to its end]]) -> bytes */
static int method_sendfile(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    struct lua_fd_part part;
    int error = lua_fd_check_part(L, FILE_ARG, &part);
    if (error)
        return lua_fail(L, error);
    struct file_state *f = lua_newuserdatauv(L, sizeof *f, 0);
    *f = (struct file_state){part, part.left};
    return call_begin(L, box, &sendfile_call);
}

/* -- descriptors --------------------------------------------------------------------- */

/* Unread input would be lost to whoever gets the descriptor, so it is to be taken first.
 */
static const char *why_not_sent(lua_State *L, int arg, int *fd)
{
    struct lua_conn *other = lua_conn_test(L, arg);
    if (other && !other->conn)
        return "connection is closed";
    if (other && buf_len(conn_input(other->conn)))
        return "it holds input that was read ahead: send conn:unread() along";
    if (other && conn_flush(other->conn) == 0)
        return "it holds output: flush it first";
    *fd = other ? conn_fd(other->conn) : lua_fd_of(L, arg);
    return *fd < 0 ? "connection, open file or descriptor expected" : NULL;
}

static int sendfd_k(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_conn *box = lua_touserdata(L, 1), *other = lua_conn_test(L, 2);
    size_t len;
    const char *data = lua_tolstring(L, 3, &len);
    int cannot = write_cannot(L, box, status);
    (void)ctx;
    if (cannot)
        return cannot;
    int fd;
    const char *why_not = why_not_sent(L, 2, &fd); /* it may have changed meanwhile */
    if (why_not)
        return side_leave(&box->out, 0), luaL_argerror(L, 2, why_not);
    ssize_t n = conn_send_fd(box->conn, fd, data, len);
    if (n == 0)
        return wait_drained(L, box, status, sendfd_k);
    if (n < 0)
        return write_failed(L, box);
    if (other)
        conn_give(other->conn);
    lua_pushlstring(L, data + n, len - (size_t)n); /* the rest, as by write(rest) */
    lua_replace(L, 2);
    lua_settop(L, 2);
    return write_k(L, status, 0);
}

static const struct call sendfd_call = {0, sendfd_k};

/* conn:sendfd(conn | file | fd, data) -> conn; it comes with the first byte of data */
static int method_sendfd(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    size_t len;
    luaL_checklstring(L, 3, &len);
    luaL_argcheck(L, len > 0, 3, "at least one byte must go along");
    int fd;
    const char *why_not = why_not_sent(L, 2, &fd);
    luaL_argcheck(L, !why_not, 2, why_not);
    if (!conn_passes_fds(box->conn)) /* TCP would drop the descriptor without a word */
        return lua_fail(L, EOPNOTSUPP);
    lua_settop(L, 3);
    return call_begin(L, box, &sendfd_call);
}

const luaL_Reg lua_conn_write_methods[] = {
    {"write", method_write},
    {"flush", method_flush},
    {"sendfile", method_sendfile},
    {"sendfd", method_sendfd},
    {NULL, NULL},
};
