/*
 * exchange: a request and its response, as Lua has them. req (lua_req.c) and res
 * (lua_res.c) are boxes of one exchange; both raise once it is over.
 *
 * A conn may fail while a task runs: the task goes on, its reads and writes fail.
 */
#ifndef MOONPOOL_EXCHANGE_H
#define MOONPOOL_EXCHANGE_H

#include "http_session.h"
#include "lua_conn.h"
#include "router.h"

#include <lauxlib.h>

enum {
    EXCHANGE_OWN = 1,
    EXCHANGE_BODY,
    EXCHANGE_NAMES, /* of req.params, whose values are the exchange's */
    EXCHANGE_VALUES = EXCHANGE_NAMES
}; /* user values */

#define EXCHANGE_REQ "moonpool.http.req"
#define EXCHANGE_RES "moonpool.http.res"

struct exchange {
    struct exchanges *all;
    void *owner;
    struct http_session *session; /* NULL: over to another protocol */
    uint64_t serial;
    struct buf fields;   /* of the response (http_fields.h) */
    struct buf trailers; /* of the response */
    struct buf body;     /* of the request, while req:body() collects it */
    struct buf path;     /* of the request, where it is not the target's as it came */
    int status;
    int close;
    int64_t length; /* of the response, as declared; -1: it was not */
    int streams;    /* the response has begun and goes on with write and sendfile */
    int upgraded;   /* reference of the conn; LUA_NOREF */
    struct task *waiting;
    int current;           /* the argument that is being written, by its index */
    size_t at;             /* how far in it */
    struct exchange *next; /* while idle */
    int value_count;       /* what the names in the route's pattern stand for, */
    struct http_span values[ROUTER_VALUES_MAX]; /* of the path */
};

/* Those of a Lua state. They are used again and freed with it. */
struct exchanges {
    struct lua_conn_env *env;
    void (*on_upgrade)(lua_State *L,
                       struct exchange *x); /* just before; must not raise */
    struct exchange *idle;
};

struct exchange *exchange_begin(struct exchanges *all, struct http_session *s,
                                void *owner);
/* The request's path, still encoded, without dot segments once the route was found. */
const char *exchange_path(const struct exchange *x, size_t *len);
void exchange_wake(struct exchange *x);
/* Its boxes raise from now on; a detached task that waits is told. */
void exchange_retire(struct exchange *x);
void exchange_end(struct exchange *x);
void exchanges_free(struct exchanges *all);

/* -- for Lua -- */

/* Makes the metatable of a kind of box and pushes the table of its methods. */
void exchange_class(lua_State *L, const char *name, const luaL_Reg *methods,
                    lua_CFunction index);
void exchange_push(lua_State *L, struct exchange *x, const char *name);
struct exchange *exchange_check(lua_State *L, const char *name); /* the box at 1 */

/*
 * A box has a table of its own values, made when the first is set. Pushes the value of
 * the key at index 2, the script's own one or else a method's: whether there is one.
 */
int exchange_get(lua_State *L);
/* Pushes that table of the box at index, or nil: whether there is one. */
int exchange_get_table(lua_State *L, int index);
/* Keeps what is on the top, which is popped, in that table under the key at index 2. */
void exchange_set(lua_State *L, int index);

void exchange_check_waits(lua_State *L, const struct exchange *x); /* nobody does */
/* "return exchange_wait_...(L, x, k)": k goes on, as with task_wait. */
int exchange_wait_input(lua_State *L, struct exchange *x, lua_KFunction k);
int exchange_wait_room(lua_State *L, struct exchange *x, lua_KFunction k);
int exchange_wait_drained(lua_State *L, struct exchange *x, lua_KFunction k);
int exchange_fail(lua_State *L, const struct exchange *x); /* nil, message, code */

#endif
