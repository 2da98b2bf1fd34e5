/*
 * router: finds the pattern that a path fits. It knows paths, nothing else.
 *
 * Patterns are written decoded. ":name" stands for one segment that is not empty, a final
 * "*name" for all the rest, which may be. They are a tree of segments: a step costs one
 * look-up, however many patterns there are. A segment that is static wins over a
 * parameter, a parameter over the rest, and where that leads nowhere the next is tried.
 * Each node is seen once at most, so a path cannot be made that costs more than the
 * patterns that begin like it.
 */
#ifndef MOONPOOL_ROUTER_H
#define MOONPOOL_ROUTER_H

#include <stddef.h>
#include <stdint.h>

enum { ROUTER_VALUES_MAX = 32 }; /* of one pattern */

struct router;

struct router_value {
    const char *at; /* in the path, still encoded */
    size_t len;
};

struct router_match {
    int pattern; /* its number */
    int count;   /* of values, in the pattern's order */
    struct router_value values[ROUTER_VALUES_MAX];
};

struct router *router_new(void);
void router_free(struct router *r);

/*
 * The number of the pattern, from 0: the next one, or that of an earlier one that fits
 * the same paths, whatever its names. -1: it does not begin with "/", something follows a
 * "*name", or it has too many names.
 */
int router_add(struct router *r, const char *pattern, size_t len);

/* Whether an encoded path fits a pattern, *m is then the best one. is_plain: it is known
 * to have no "%". */
int router_find(const struct router *r, const char *path, size_t len, int is_plain,
                struct router_match *m);

/* The number of the longest pattern without names that is the path or, segment by
 * segment, its beginning; -1 for none. "" is a pattern here, of any path. */
int router_find_prefix(const struct router *r, const char *path, size_t len,
                       int is_plain);

#endif
