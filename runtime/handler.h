/*
 * handler: where a connection meets the script. Each connection that is accepted becomes
 * a task that calls the script's function with it; when the function returns or fails,
 * the connection is closed, unless the function has passed it on.
 *
 * A script returns that function (or what else can be called), or a table with two:
 *
 *     { serve = function(conn) ... end, resume = function(conn, state, why) ... end }
 *
 * resume is called for a connection that has come from another worker and brings the
 * state that conn:checkpoint was given there; why is "reload", "recycle", "balance",
 * "crash" or "handoff". One that comes without a state is as new: what its client has sent is still to
 * be read. In whose midst its worker has died, that is closed.
 *
 * An application need not be called for each. Its metafield __handler is a function that
 * is called once with it and returns what takes its connections: a value whose metafield
 * __take is a light userdata, a struct handler_taker.
 */
#ifndef MOONPOOL_HANDLER_H
#define MOONPOOL_HANDLER_H

#include "lua_conn.h"

struct handler;

struct handler_callbacks {       /* each may be NULL */
    void (*on_end)(void *arg);   /* a connection is closed: once for each accepted */
    void (*on_error)(void *arg); /* a call of the function failed; it is in the log */
};

/*
 * Takes over c, which has no owner yet, for the value at the top of L. It may raise before
 * that. There is no task yet. cut: to tell the client, who was not answered, that the
 * worker died in the midst of it.
 */
struct handler_taker {
    void (*take)(lua_State *L, struct conn *c);
    void (*cut)(lua_State *L, struct conn *c);
    /* One that has come with a state that is not the script's; and whether it may. */
    void (*resume)(lua_State *L, struct conn *c, const struct parcel *p);
    int (*can_resume)(lua_State *L);
};

/* Makes a handler of the script's value at the top of L, which is popped, or raises a
 * sentence. */
struct handler *handler_new(lua_State *L, struct lua_conn_env *env,
                            const struct handler_callbacks *callbacks, void *arg);
void handler_free(struct handler *h); /* its connections go on without it */

/* A connection that has come. */
struct arrival {
    int fd;                        /* owned */
    const struct parcel *parcel;   /* NULL: it is new */
    struct journal_record *record; /* NULL: it does not outlive this process */
};

/* Takes it over in every case; on_end tells its end, perhaps before this returns. */
void handler_take(struct handler *h, const struct arrival *a);
int handler_can_resume(const struct handler *h); /* a connection with a state */

#endif
