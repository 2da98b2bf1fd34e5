/*
 * lua_req: a request of HTTP/1.1, for its handler; valid until that returns.
 *
 *     req.method  req.target  req.path (decoded)  req.query (undecoded)  req.version
 *     req:args()  the values of the query, decoded: the first of each name, and the list
 *                 of all of each, two tables that are made once; nil, message, "EINVAL"
 *                 of more than 1,000 fields
 *     req.params  what the names in its route's pattern stand for; nil if it has none
 *     req.host    with its port, of the target or else of the Host field
 *     req.peer    the client's address
 *     req.upgrade what the client could go over to (its Upgrade field), or nil
 *     req.headers[name]     a field's value, nil if there is none; repeated ones are
 *                           joined by ", ", of Cookie by "; " (RFC 9110 5.3); pairs()
 *     req:header(name)      the values of all fields of that name, one by one
 *     req:has(name, ...)    whether there is a field of any of these names
 *     req:asks()            what a GET or HEAD asks for: req.path, its Accept-Encoding or
 *                           nil, and whether it says more, by a condition or a range (RFC
 *                           9110 13.1, 14.2); nothing where the method is another, or a
 *                           "/" in the path came encoded
 *     req:body()            all of the content
 *     req:read([most])      its next piece, nothing at its end
 *     req:limit(bytes)      of this content, in place of body_limit -> req
 *     req.trailers[name]    as headers: what followed the content, once that was read
 *
 * Whatever else is assigned is kept until the end of the request: req.user = "ada".
 */
#ifndef MOONPOOL_LUA_REQ_H
#define MOONPOOL_LUA_REQ_H

#include "exchange.h"

extern const struct exchange_class lua_req;

void lua_req_open(lua_State *L); /* pushes the table of methods */

/* Pops the list of the names in the route's pattern, for the box at index. */
void lua_req_set_names(lua_State *L, int index);

#endif
