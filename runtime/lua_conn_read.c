#include "lua_conn_read.h"

#include "lua_conn_call.h"
#include "lua_fail.h"
#include "lua_fd.h"

#include <errno.h>
#include <string.h>

static int wait_input(lua_State *L, struct lua_conn *box, int status, lua_KContext at,
                      lua_KFunction step)
{
    conn_want_input(box->conn, 1);
    return call_wait(L, box, &box->in, status, at, step);
}

/* From here on the checkpoint does not hold: who has it does not know what was read. */
static int got(lua_State *L, struct lua_conn *box, size_t n, size_t skip)
{
    struct buf *in = conn_input(box->conn);
    lua_pushlstring(L, n ? buf_head(in) : "", n);
    buf_skip(in, n + skip);
    box->searched = 0;
    conn_read_on(box->conn);
    return 1;
}

static int get_line(lua_State *L, struct lua_conn *box, struct buf *in, int keep)
{
    size_t len = buf_len(in);
    char *data = buf_head(in);
    size_t from = box->searched;
    char *end = len > from ? memchr(data + from, '\n', len - from) : NULL;
    box->searched = len;
    if (!end)
        return conn_is_at_end(box->conn) && len ? got(L, box, len, 0) : 0;
    size_t n = (size_t)(end - data) + 1;
    if (keep)
        return got(L, box, n, 0);
    size_t cut = n > 1 && end[-1] == '\r' ? 2 : 1;
    return got(L, box, n - cut, cut);
}

static int get_all(lua_State *L, struct lua_conn *box, struct buf *in)
{
    return conn_is_at_end(box->conn) ? got(L, box, buf_len(in), 0) : 0;
}

/* At the end, fewer bytes than asked for, as with file:read; none is a failure. */
static int get_count(lua_State *L, struct lua_conn *box, struct buf *in, size_t n)
{
    size_t len = buf_len(in);
    if (len >= n && (n || len || conn_is_at_end(box->conn)))
        return n || len ? got(L, box, n, 0) : 0;
    return conn_is_at_end(box->conn) && len ? got(L, box, len, 0) : 0;
}

struct format {
    char kind; /* 'l', 'L', 'a', or 'n' for a */
    size_t count;
};

static struct format format_of(lua_State *L, int arg)
{
    if (lua_type(L, arg) == LUA_TNUMBER)
        return (struct format){'n', (size_t)lua_tointeger(L, arg)};
    const char *text = lua_tostring(L, arg);
    return (struct format){text[*text == '*'], 0};
}

/* 1 and its value is pushed, or 0. */
static int get(lua_State *L, struct lua_conn *box, const struct format *f)
{
    struct buf *in = conn_input(box->conn);
    switch (f->kind) {
    case 'n':
        return get_count(L, box, in, f->count);
    case 'a':
        return get_all(L, box, in);
    default:
        return get_line(L, box, in, f->kind == 'L');
    }
}

/* Reads as long as input is at hand. 1 got, 0 wait, -1 failed with *error. */
static int get_or_fill(lua_State *L, struct lua_conn *box, const struct format *f,
                       int *error)
{
    *error = ECANCELED; /* closed by another task while this one waited */
    if (!box->conn)
        return -1;
    for (;;) {
        if (get(L, box, f))
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

/* The stack is conn, formats, values: so many are there already. */
static int read_k(lua_State *L, int status, lua_KContext done)
{
    struct lua_conn *box = lua_touserdata(L, 1);
    int count = lua_gettop(L) - 1 - (int)done;
    for (; done < count; done++) {
        int error;
        struct format f = format_of(L, 2 + (int)done);
        int some = get_or_fill(L, box, &f, &error);
        int timed_out = some == 0 && call_timed_out(box, status);
        if (some == 0 && !timed_out)
            return wait_input(L, box, status, done, read_k);
        if (some <= 0) /* values read so far stay in front, as with file:read */
            return side_leave(&box->in,
                              (int)done + lua_fail(L, some ? error : ETIMEDOUT));
    }
    return side_leave(&box->in, count);
}

static const struct call read_call = {1, read_k};

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

/* The stack is conn, formats; without a format it is "l". Returns how many there are. */
static int check_formats(lua_State *L)
{
    if (lua_gettop(L) == 1)
        lua_pushliteral(L, "l");
    int count = lua_gettop(L) - 1;
    for (int i = 1; i <= count; i++)
        check_format(L, 1 + i);
    return count;
}

/* conn:read(...) */
static int method_read(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    luaL_checkstack(L, check_formats(L) + 3, "too many formats");
    return call_begin(L, box, &read_call);
}

/* What a step that reads one value returns; some as in get_or_fill. */
static int end_read(lua_State *L, struct lua_conn *box, int some, int error, int status,
                    lua_KFunction step)
{
    if (some == 0 && !call_timed_out(box, status))
        return wait_input(L, box, status, 0, step);
    return side_leave(&box->in, some > 0 ? 1 : lua_fail(L, some ? error : ETIMEDOUT));
}

/* 1 it is pushed, 0 none now, -1 failed: *error. */
static int get_some(lua_State *L, struct lua_conn *box, size_t most, int *error)
{
    *error = ECANCELED;
    if (!box->conn)
        return -1;
    struct buf *in = conn_input(box->conn);
    int filled = buf_len(in) ? 1 : conn_fill(box->conn);
    *error = conn_error(box->conn);
    if (filled <= 0)
        return filled;
    return got(L, box, buf_len(in) < most ? buf_len(in) : most, 0);
}

static int readsome_k(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_conn *box = lua_touserdata(L, 1);
    int error;
    int some = get_some(L, box, (size_t)lua_tointeger(L, 2), &error);
    (void)ctx;
    return end_read(L, box, some, error, status, readsome_k);
}

static const struct call readsome_call = {1, readsome_k};

/* conn:readsome([most]) -> what there is, at least one byte */
static int method_readsome(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    lua_Integer most = luaL_optinteger(L, 2, LUA_MAXINTEGER);
    luaL_argcheck(L, most > 0, 2, "positive count expected");
    lua_settop(L, 1);
    lua_pushinteger(L, most);
    return call_begin(L, box, &readsome_call);
}

/* (conn), of conn:lines(...); upvalues: the formats */
static int next_values(lua_State *L)
{
    struct lua_conn *box = lua_conn_check_any(L, 1);
    int count = 0;
    lua_settop(L, 1);
    if (!box->conn)
        return 0;
    while (!lua_isnone(L, lua_upvalueindex(1 + count)))
        count++;
    luaL_checkstack(L, count + 3 + count, "too many formats");
    for (int i = 1; i <= count; i++)
        lua_pushvalue(L, lua_upvalueindex(i));
    return call_begin(L, box, &read_call);
}

static int read_line(lua_State *L, int status, char kind, lua_KFunction step)
{
    struct lua_conn *box = lua_touserdata(L, 1);
    struct format f = {kind, 0};
    int error;
    int some = get_or_fill(L, box, &f, &error);
    return end_read(L, box, some, error, status, step);
}

static int line_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)ctx;
    return read_line(L, status, 'l', line_k);
}

static int whole_line_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)ctx;
    return read_line(L, status, 'L', whole_line_k);
}

static const struct call line_call = {1, line_k}, whole_line_call = {1, whole_line_k};

static int next_by(lua_State *L, const struct call *call)
{
    struct lua_conn *box = lua_conn_check_any(L, 1);
    return box->conn ? call_begin(L, box, call) : 0;
}

/* (conn), of conn:lines() and conn:lines "l" */
static int next_line(lua_State *L)
{
    return next_by(L, &line_call);
}

/* (conn), of conn:lines "L" */
static int next_whole_line(lua_State *L)
{
    return next_by(L, &whole_line_call);
}

/* conn:lines(...) -> iterator, conn; for lines it is a bare function, without memory */
static int method_lines(lua_State *L)
{
    lua_conn_check(L, 1);
    int count = check_formats(L);
    char kind = count == 1 ? format_of(L, 2).kind : 0;
    luaL_argcheck(L, count <= 200, 202, "too many formats");
    if (kind == 'l')
        lua_pushcfunction(L, next_line);
    else if (kind == 'L')
        lua_pushcfunction(L, next_whole_line);
    else
        lua_pushcclosure(L, next_values, count);
    lua_pushvalue(L, 1);
    return 2;
}

/* conn:unread() -> string: what was read from the socket but not by the script */
static int method_unread(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    return got(L, box, buf_len(conn_input(box->conn)), 0);
}

/* -- descriptors --------------------------------------------------------------------- */

/* 1 it is pushed, 0 none now, -1 failed: *error. */
static int take_fd(lua_State *L, struct lua_conn *box, int *error)
{
    *error = ECANCELED;
    if (!box->conn)
        return -1;
    for (;;) {
        int *fd = lua_fd_push(L);
        *fd = conn_take_fd(box->conn);
        if (*fd >= 0) {
            conn_read_on(box->conn);
            return 1;
        }
        lua_pop(L, 1);
        int filled = conn_fill(box->conn);
        if (filled == 0)
            return 0;
        if (filled < 0) {
            *error = conn_error(box->conn);
            if (!*error && !conn_is_at_end(box->conn))
                *error = EMSGSIZE;
            return -1;
        }
    }
}

static int recvfd_k(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_conn *box = lua_touserdata(L, 1);
    int error;
    int some = take_fd(L, box, &error);
    (void)ctx;
    return end_read(L, box, some, error, status, recvfd_k);
}

static const struct call recvfd_call = {1, recvfd_k};

/* conn:recvfd() -> moonpool.fd */
static int method_recvfd(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    if (!conn_passes_fds(box->conn))
        return lua_fail(L, EOPNOTSUPP);
    lua_settop(L, 1);
    return call_begin(L, box, &recvfd_call);
}

const luaL_Reg lua_conn_read_methods[] = {
    {"read", method_read},     {"readsome", method_readsome}, {"lines", method_lines},
    {"unread", method_unread}, {"recvfd", method_recvfd},     {NULL, NULL},
};
