/*
 * The box is the Lua value; its conn is NULL once closed, whoever closed it. It has two
 * sides, and each serves one call at a time: others wait in a queue for their turn, so
 * what one call reads or writes is never mixed with another's.
 *
 * A call is a continuation, its step, begun by call_begin. Where it has to wait
 * (call_wait) it keeps where it stands in its context and its own stack, and goes on from
 * there when it is woken. It ends with side_leave. There may be tens of thousands that
 * wait, so the box has no more than all of them need.
 */
#include "lua_conn.h"

#include "fd.h"
#include "lua_fail.h"
#include "lua_fd.h"
#include "lua_pack.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

static const char class_name[] = "moonpool.conn";

struct side {
    struct task *holder; /* whose call it is; NULL also for a call outside of tasks */
    struct task_queue turns;
};

struct call {
    int is_input;
    lua_KFunction step;
};

struct lua_conn {
    const char *class; /* class_name, which tells it from any other userdata */
    struct lua_conn_env *env;
    struct conn *conn;
    struct side in, out;
    size_t searched;   /* so much of the input has no end of a line */
    double timeout;    /* seconds, INFINITY for none */
    const char *moved; /* why; NULL: it was not */
};

/* -- news from the conn -------------------------------------------------------------- */

/* Its holder does, for the conn. */
static int side_waits(const struct side *s)
{
    return s->holder && task_waits_with(s->holder, s);
}

static void side_wake(struct side *s)
{
    if (side_waits(s))
        task_wake(s->holder);
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

/* A task waits for input, and has said with what somebody else could. */
static int may_move(struct conn *c, void *arg)
{
    struct lua_conn *box = arg;
    return conn_has_checkpoint(c) && side_waits(&box->in) && !box->in.turns.first &&
           !box->out.holder && !box->out.turns.first;
}

static void on_moved(struct conn *c, enum parcel_why why, void *arg)
{
    struct lua_conn *box = arg;
    (void)c;
    box->conn = NULL;
    box->moved = parcel_whys[why];
    task_cancel_root(box->in.holder);
}

static const struct conn_callbacks callbacks = {on_input, on_room, may_move, on_moved};

/* -- sides --------------------------------------------------------------------------- */

/* "return side_leave(s, n)": the call is over, the next has its turn. */
static int side_leave(struct side *s, int n)
{
    s->holder = NULL;
    task_queue_wake(&s->turns);
    return n;
}

/* The holder will not come to side_leave any more. */
static void forget_call(struct task *t, void *arg)
{
    struct side *s = arg;
    if (s->holder == t)
        side_leave(s, 0);
}

/* status: of the step that is to wait. Who has waited does so until the same time. */
static double box_deadline(const struct lua_conn *box, int status)
{
    struct tasks *ts = box->env->tasks;
    if (status == LUA_YIELD)
        return task_deadline(task_current(ts));
    return isinf(box->timeout) ? INFINITY : loop_now(tasks_loop(ts)) + box->timeout;
}

static struct side *side_of(struct lua_conn *box, const struct call *call)
{
    return call->is_input ? &box->in : &box->out;
}

static int call_now(lua_State *L, struct lua_conn *box, const struct call *call)
{
    side_of(box, call)->holder = task_current(box->env->tasks);
    return call->step(L, LUA_OK, 0);
}

static int call_later(lua_State *L, struct lua_conn *box, const struct call *call,
                      int status);

/* The context is the call. */
static int turn_k(lua_State *L, int status, lua_KContext ctx)
{
    const struct call *call = (const struct call *)ctx;
    struct lua_conn *box = lua_touserdata(L, 1);
    struct side *s = side_of(box, call);
    int timed_out = task_timed_out(box->env->tasks);
    if (s->holder && !timed_out)
        return call_later(L, box, call, status);
    task_queue_leave(&s->turns, task_current(box->env->tasks));
    if (!timed_out)
        return call_now(L, box, call);
    if (!s->holder)
        task_queue_wake(&s->turns); /* it may have been this one's turn */
    return lua_fail(L, ETIMEDOUT);
}

static int call_later(lua_State *L, struct lua_conn *box, const struct call *call,
                      int status)
{
    return task_queue_wait(&side_of(box, call)->turns, box->env->tasks, L,
                           box_deadline(box, status), (lua_KContext)call, turn_k);
}

/*
 * "return call_begin(...)", with the box at index 1. A task that finds its own call there
 * has left it by an error (out of memory), and begins anew.
 */
static int call_begin(lua_State *L, struct lua_conn *box, const struct call *call)
{
    struct side *s = side_of(box, call);
    int is_free =
        s->holder ? s->holder == task_current(box->env->tasks) : !s->turns.first;
    return is_free ? call_now(L, box, call) : call_later(L, box, call, LUA_OK);
}

/* "return call_wait(...)": step, whose status this is, goes on, with at. */
static int call_wait(lua_State *L, struct lua_conn *box, struct side *s, int status,
                     lua_KContext at, lua_KFunction step)
{
    return task_wait(box->env->tasks, L, box_deadline(box, status), forget_call, s, at,
                     step);
}

/* Whether the wait of a step has come to its deadline. */
static int call_timed_out(const struct lua_conn *box, int status)
{
    return status == LUA_YIELD && task_timed_out(box->env->tasks);
}

/* -- the box ------------------------------------------------------------------------- */

struct lua_conn *lua_conn_push(lua_State *L, struct lua_conn_env *env)
{
    struct lua_conn *box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = (struct lua_conn){.class = class_name, .env = env, .timeout = INFINITY};
    luaL_setmetatable(L, class_name);
    return box;
}

int lua_conn_open(struct lua_conn *box, int fd)
{
    struct conn *c = conn_open(&box->env->conns, fd);
    if (!c)
        return -1;
    lua_conn_adopt(box, c);
    return 0;
}

void lua_conn_adopt(struct lua_conn *box, struct conn *c)
{
    conn_set_owner(c, &callbacks, box);
    conn_forget_checkpoint(c);
    box->conn = c;
}

/* Asking the box itself costs a fifth of luaL_testudata, and happens in each call. */
static struct lua_conn *lua_conn_test(lua_State *L, int index)
{
    struct lua_conn *box = lua_touserdata(L, index);
    int is_one = box && lua_rawlen(L, index) == sizeof *box && box->class == class_name;
    return is_one ? box : NULL;
}

/* Closed or not. */
static struct lua_conn *lua_conn_check_any(lua_State *L, int index)
{
    struct lua_conn *box = lua_conn_test(L, index);
    if (!box)
        luaL_typeerror(L, index, class_name);
    return box;
}

struct lua_conn *lua_conn_check(lua_State *L, int index)
{
    struct lua_conn *box = lua_conn_check_any(L, index);
    luaL_argcheck(L, box->conn, index, "connection is closed");
    return box;
}

struct conn *lua_conn_get(struct lua_conn *box)
{
    return box->conn;
}

struct lua_conn *lua_conn_check_idle(lua_State *L, int index)
{
    struct lua_conn *box = lua_conn_check(L, index);
    luaL_argcheck(L, !box->in.holder && !box->out.holder, index, "a task waits for it");
    return box;
}

struct conn *lua_conn_take(lua_State *L, int index)
{
    struct lua_conn *box = lua_conn_check_idle(L, index);
    struct conn *c = box->conn;
    box->conn = NULL;
    return c;
}

/* -- reading ------------------------------------------------------------------------- */

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

/* -- writing ------------------------------------------------------------------------- */

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

/* TCP would send the data and drop the descriptor without a word. */
static int fds_refused(lua_State *L, struct lua_conn *box)
{
    return conn_passes_fds(box->conn) ? 0 : lua_fail(L, EOPNOTSUPP);
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
    int refused = fds_refused(L, box);
    if (refused)
        return refused;
    lua_settop(L, 3);
    return call_begin(L, box, &sendfd_call);
}

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
    int refused = fds_refused(L, box);
    if (refused)
        return refused;
    lua_settop(L, 1);
    return call_begin(L, box, &recvfd_call);
}

/* -- the rest ------------------------------------------------------------------------ */

void lua_conn_close(struct lua_conn *box)
{
    struct conn *c = box->conn;
    box->conn = NULL;
    if (c)
        conn_close(c);
    side_wake(&box->in);
    side_wake(&box->out);
}

/* SO_ERROR is what became of it, connect(2). */
static int connect_error(struct lua_conn *box, int status)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (call_timed_out(box, status))
        return ETIMEDOUT;
    if (conn_error(box->conn))
        return conn_error(box->conn);
    return getsockopt(conn_fd(box->conn), SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? errno
                                                                                  : error;
}

static int connected_k(lua_State *L, int status, lua_KContext index)
{
    struct lua_conn *box = lua_touserdata(L, (int)index);
    int error = connect_error(box, status);
    side_leave(&box->out, 0);
    if (error) {
        lua_conn_close(box); /* the collector may take its time */
        return lua_fail(L, error);
    }
    lua_pushvalue(L, (int)index);
    return 1;
}

int lua_conn_connected(lua_State *L, int index, double timeout)
{
    struct lua_conn *box = lua_conn_check(L, index);
    struct tasks *ts = box->env->tasks;
    box->out.holder = task_current(ts);
    conn_want_drained(box->conn, 1);
    return task_wait(ts, L, loop_now(tasks_loop(ts)) + timeout, forget_call, &box->out,
                     index, connected_k);
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

/* The value at index becomes the checkpoint, which does not hold yet. */
static void pack_checkpoint(lua_State *L, struct lua_conn *box, int index)
{
    struct buf *b = conn_checkpoint(box->conn);
    conn_forget_checkpoint(box->conn);
    buf_skip(b, buf_len(b));
    if (lua_pack(L, index, "state", b, box->env->conns.limits.state) < 0)
        luaL_argerror(L, index, lua_tostring(L, -1));
}

/* conn:checkpoint([state [, "end" | "again" | "on"]]) -> conn */
static int method_checkpoint(lua_State *L)
{
    static const char *const rereads[] = {"end", "again", "on", NULL};
    struct lua_conn *box = lua_conn_check(L, 1);
    int reread = luaL_checkoption(L, 3, "end", rereads);
    lua_settop(L, 2);
    pack_checkpoint(L, box, 2);
    conn_set_checkpoint(box->conn, (enum conn_reread)reread);
    lua_settop(L, 1);
    return 1;
}

void lua_conn_checkpoint(struct lua_conn *box, const char *data, size_t len)
{
    struct buf *b = conn_checkpoint(box->conn);
    buf_skip(b, buf_len(b));
    buf_append(b, data, len);
    conn_set_checkpoint(box->conn, CONN_READS_ON);
}

/* conn:pin([on = true]) -> conn */
static int method_pin(lua_State *L)
{
    struct lua_conn *box = lua_conn_check(L, 1);
    conn_pin(box->conn, lua_isnoneornil(L, 2) || lua_toboolean(L, 2));
    lua_settop(L, 1);
    return 1;
}

/* The how-manieth of these pools has that name, from 1; 0: none. */
static uint32_t find_pool(const char *pools, const char *name)
{
    size_t len = strlen(name);
    for (uint32_t i = 1; *pools; i++) {
        size_t n = strcspn(pools, ",");
        if (n == len && memcmp(pools, name, n) == 0)
            return i;
        pools += n + strspn(pools + n, ", ");
    }
    return 0;
}

static uint32_t check_pool(lua_State *L, int arg, const struct lua_conn_places *p)
{
    const char *name = luaL_checkstring(L, arg);
    uint32_t pool = find_pool(p->pools, name);
    if (!pool)
        luaL_argerror(
            L, arg,
            lua_pushfstring(L, "there is no pool \"%s\"; there are %s", name, p->pools));
    return pool;
}

static uint32_t check_worker(lua_State *L, int arg, const struct lua_conn_places *p)
{
    lua_Integer number = luaL_checkinteger(L, arg);
    if (number < 1 || number > p->workers)
        luaL_argerror(L, arg,
                      lua_pushfstring(L, "there is no worker %I; there are 1 to %d",
                                      (LUAI_UACINT)number, (int)p->workers));
    return (uint32_t)number;
}

/* Why it cannot be handed to others as it is, or NULL. */
static const char *why_not_handed(const struct lua_conn *box)
{
    if (!box->env->places)
        return "there is nobody to hand it to: this is no worker";
    if (conn_has_fds(box->conn))
        return "it holds descriptors that have come: recvfd them first";
    return NULL;
}

/* The end of its output is not something that goes along. */
static int cannot_go(const struct lua_conn *box)
{
    if (conn_is_shut(box->conn))
        return EPIPE;
    return conn_flush(box->conn) < 0 ? conn_error(box->conn) : 0;
}

/* conn:handoff(pool | worker [, state]) -> true */
static int method_handoff(lua_State *L)
{
    struct lua_conn *box = lua_conn_check_idle(L, 1);
    const struct lua_conn_places *p = box->env->places;
    const char *why_not = why_not_handed(box);
    luaL_argcheck(L, !why_not, 1, why_not);
    int is_worker = lua_type(L, 2) == LUA_TNUMBER;
    uint32_t worker = is_worker ? check_worker(L, 2, p) : 0;
    uint32_t pool = is_worker ? find_pool(p->pools, p->pool) : check_pool(L, 2, p);
    int error = cannot_go(box);
    if (error)
        return lua_fail(L, error);
    int has_state = !lua_isnoneornil(L, 3);
    if (has_state)
        pack_checkpoint(L, box, 3);
    conn_leave(box->conn, has_state);
    box->moved = parcel_whys[PARCEL_HANDOFF];
    p->hand(lua_conn_take(L, 1), pool, worker, p->arg);
    lua_pushboolean(L, 1);
    return 1;
}

/* conn:moved() -> why it was, or nil */
static int method_moved(lua_State *L)
{
    struct lua_conn *box = lua_conn_check_any(L, 1);
    lua_pushstring(L, box->moved);
    return 1;
}

/* conn:shutdown() -> conn */
static int method_shutdown(lua_State *L)
{
    conn_shutdown(lua_conn_check(L, 1)->conn);
    lua_settop(L, 1);
    return 1;
}

/* conn:close() -> true; also <close>: may run twice */
static int method_close(lua_State *L)
{
    lua_conn_close(lua_conn_check_any(L, 1));
    lua_pushboolean(L, 1);
    return 1;
}

static void side_clear(struct side *s)
{
    if (s->holder)
        task_disown(s->holder, s);
    task_queue_clear(&s->turns);
}

/* A task may still wait for it, in a coroutine that another has closed. */
static int conn_gc(lua_State *L)
{
    struct lua_conn *box = lua_conn_check_any(L, 1);
    lua_conn_close(box);
    side_clear(&box->in);
    side_clear(&box->out);
    return 0;
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
    struct lua_conn *box = lua_conn_check_any(L, 1);
    if (box->conn)
        lua_pushfstring(L, "%s (%d)", class_name, conn_fd(box->conn));
    else
        lua_pushfstring(L, "%s (closed)", class_name);
    return 1;
}

static const luaL_Reg methods[] = {
    {"read", method_read},
    {"readsome", method_readsome},
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
    {"checkpoint", method_checkpoint},
    {"pin", method_pin},
    {"handoff", method_handoff},
    {"moved", method_moved},
    {"fileno", method_fileno},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", conn_gc},
    {"__close", method_close},
    {"__tostring", conn_tostring},
    {NULL, NULL},
};

void luaopen_moonpool_conn(lua_State *L)
{
    luaL_newmetatable(L, class_name);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
