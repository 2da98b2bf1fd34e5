/*
 * exchange: a request and its response, as Lua has them. req (lua_req.c) and res
 * (lua_res.c) are boxes of one exchange; both raise once it is over.
 *
 * A conn may fail while a task runs: the task goes on, its reads and writes fail.
 */
#ifndef MOONPOOL_EXCHANGE_H
#define MOONPOOL_EXCHANGE_H

#include "http_fields.h"
#include "http_session.h"
#include "lua_conn.h"
#include "router.h"

#include <lauxlib.h>

struct exchange {
    struct exchanges *all;
    void *owner;
    struct http_session *session; /* NULL: over to another protocol */
    uint64_t serial;
    struct http_fields fields, trailers; /* of the response */
    struct buf body; /* of the request, while req:body() collects it */
    struct buf path; /* of the request, where it is not the target's as it came */
    int status;
    int close;
    int64_t length; /* of the response, as declared; -1: it was not */
    int streams;    /* the response has begun and goes on with write and sendfile */
    int upgraded;   /* reference of the conn, if Lua has it; LUA_NOREF */
    int kept;       /* reference of the owner's; likewise */
    struct task *waiting;
    int current;           /* the argument that is being written, by its index */
    size_t at;             /* how far in it */
    struct exchange *next; /* while idle */
    /* of the path, what the names in the route's pattern stand for; what is beyond the
     * count is not set */
    int value_count;
    struct http_span values[ROUTER_VALUES_MAX];
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

/*
 * What a kind of box is. Its fields are made whenever they are asked for: push has the
 * box at index 1. A box has a table of the script's own values too, made when the first
 * is set; they come before methods and fields.
 */
struct exchange_class {
    const char *name;
    const luaL_Reg *methods;
    const struct exchange_field {
        const char *name;
        int (*push)(lua_State *L, struct exchange *x);
    } * fields;
    int values; /* user values, of which the first is: */
};

enum { EXCHANGE_OWN = 1 };

/* Makes the metatable, luaL_getmetatable(L, class->name), and pushes the methods. */
void exchange_class_open(lua_State *L, const struct exchange_class *class);
/* A view is a box that has metamethods alone: its class's methods, which can ask for that
 * class. */
void exchange_view_open(lua_State *L, const struct exchange_class *view);
const struct exchange_class *exchange_view_class(lua_State *L);
void exchange_push_view(lua_State *L, struct exchange *x,
                        const struct exchange_class *view);
/* Pushes a box; its metatable is at that index. */
void exchange_push(lua_State *L, struct exchange *x, const struct exchange_class *class,
                   int metatable);
/* That of the box at index 1; raises what is none, and whose request is over. */
struct exchange *exchange_check(lua_State *L, const struct exchange_class *class);
/* Pushes the table of own values of the box at index, or nil: whether there is one. */
int exchange_get_own(lua_State *L, int index);

void exchange_check_waits(lua_State *L, const struct exchange *x); /* nobody does */
/* "return exchange_wait_...(L, x, k)": k goes on, as with task_wait. */
int exchange_wait_input(lua_State *L, struct exchange *x, lua_KFunction k);
int exchange_wait_room(lua_State *L, struct exchange *x, lua_KFunction k);
int exchange_wait_drained(lua_State *L, struct exchange *x, lua_KFunction k);
int exchange_fail(lua_State *L, const struct exchange *x); /* nil, message, code */

#endif
