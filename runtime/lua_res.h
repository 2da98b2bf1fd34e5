/*
 * lua_res: the response to a request, for its handler.
 *
 *     res:status(code) -> res    res:status() -> code
 *     res:header(name, value)    adds a field; a repeated name is sent repeatedly -> res
 *     res:default_type(type)     the Content-Type, unless there is one already -> res
 *     res:header(fields)         adds those of http.fields(name, value, ...), which has
 *                                checked them once for many responses -> res
 *     res.headers[name]          what is set: the first value, or nil
 *     res.headers[name] = value  in place of all fields of that name; a list: of each
 *                                value one; nil: of none
 *     res:send([body])           a response of known length; nil raises, because it may
 *                                be what req:body() has failed with
 *     res:sendfile(file [, offset [, length]])   as conn:sendfile
 *     res:write(...)             one that is written piece by piece, until the handler
 *                                returns
 *     res:length(n)              says how long that will be: n bytes, by any number of
 *                                write and sendfile -> res
 *     res:trailer(name, value)   a field behind the content, for a client that keeps
 *                                them (RFC 9110 6.5) -> res
 *     res:upgrade([protocol])    goes over to another protocol, or after CONNECT to a
 *                                tunnel -> conn (lua_conn.h), which ends with the
 *                                handler as a raw one does; req and res are over
 *     res:detach()               sends the head of a 200; its content is what is written
 *                                to the conn that this returns, until that is closed
 *     res.sent                   whether the head is on its way
 *
 * What sends returns res, or nil, message, code. Whatever else is assigned is kept, and
 * comes before the methods: res.send = function(self, body) ... end
 */
#ifndef MOONPOOL_LUA_RES_H
#define MOONPOOL_LUA_RES_H

#include "exchange.h"

extern const struct exchange_class lua_res;

void lua_res_open(lua_State *L);  /* pushes the table of methods */
int lua_res_fields(lua_State *L); /* http.fields */

/* The response as it stands begins, with a content of that length; -1: unknown. */
void lua_res_begin(struct exchange *x, int64_t length);

/*
 * res:upgrade(protocol) in two steps, for what takes the conn over in C: whether that may
 * be, of the response at index 1, which raises what that would, or NULL and pushes nil,
 * message, code; and then it happens: the conn, which has no owner and does not end with
 * the handler.
 */
struct exchange *lua_res_check_upgrade(lua_State *L, const char *protocol);
struct conn *lua_res_upgrade(lua_State *L, struct exchange *x, const char *protocol);

#endif
