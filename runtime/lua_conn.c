#include "lua_conn.h"

#include "lua_conn_read.h"
#include "lua_conn_write.h"
#include "lua_fail.h"
#include "lua_pack.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <string.h>

/* -- the box ------------------------------------------------------------------------- */

struct lua_conn *lua_conn_push(lua_State *L, struct lua_conn_env *env)
{
    struct lua_conn *box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = (struct lua_conn){.class = lua_conn_class, .env = env, .timeout = INFINITY};
    luaL_setmetatable(L, lua_conn_class);
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
    conn_set_owner(c, &lua_conn_callbacks, box);
    conn_forget_checkpoint(c);
    box->conn = c;
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
    return task_wait(ts, L, loop_now(tasks_loop(ts)) + timeout, side_forget, &box->out,
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
        lua_pushfstring(L, "%s (%d)", lua_conn_class, conn_fd(box->conn));
    else
        lua_pushfstring(L, "%s (closed)", lua_conn_class);
    return 1;
}

static const luaL_Reg methods[] = {
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
    luaL_newmetatable(L, lua_conn_class);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    luaL_setfuncs(L, lua_conn_read_methods, 0);
    luaL_setfuncs(L, lua_conn_write_methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
