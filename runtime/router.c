/*
 * A node is a place between segments. The static steps from all nodes are in one hash
 * table, by the node that they leave and the segment; parameter and rest are the node's
 * own. Segments of a path are compared as they are decoded, without a copy.
 */
#include "router.h"

#include "alloc.h"
#include "buf.h"
#include "path.h"

#include <stdlib.h>
#include <string.h>

enum { NONE = -1, ROOT = 0, STEPS_MIN = 16 };

struct node {
    int found; /* the pattern that ends here */
    int rest;  /* the pattern that goes on with "*name" */
    int param; /* the node behind ":name" */
};

struct step { /* to: NONE for an empty place */
    uint32_t hash;
    int from, to;
    uint32_t at, len; /* the segment, in texts */
};

struct router {
    int patterns;
    int node_count, step_count;
    uint32_t places; /* a power of two, never full */
    struct node *nodes;
    struct step *steps;
    struct buf texts;
};

/* -- segments ------------------------------------------------------------------------ */

struct segment {
    const char *at;
    size_t len;
    int plain; /* it is not encoded */
};

static uint32_t hash_byte(uint32_t hash, unsigned char c)
{
    return (hash ^ c) * 16777619u; /* FNV-1a */
}

static uint32_t segment_hash(int from, const struct segment *s)
{
    uint32_t hash = 2166136261u + (uint32_t)from;
    const char *p = s->at, *end = s->at + s->len;
    while (s->plain && p < end)
        hash = hash_byte(hash, (unsigned char)*p++);
    while (p < end)
        hash = hash_byte(hash, path_byte(&p, end));
    return hash;
}

static int segment_is(const struct segment *s, const char *text, size_t len)
{
    const char *p = s->at, *end = s->at + s->len;
    if (s->plain)
        return s->len == len && (!len || memcmp(p, text, len) == 0);
    for (size_t i = 0; i < len; i++)
        if (p == end || path_byte(&p, end) != (unsigned char)text[i])
            return 0;
    return p == end;
}

static struct segment segment_at(const char *p, const char *end, int plain)
{
    const char *slash = memchr(p, '/', (size_t)(end - p));
    return (struct segment){p, (size_t)((slash ? slash : end) - p), plain};
}

/* -- steps --------------------------------------------------------------------------- */

/* The place of the step, or the empty one where it would be. */
static struct step *step_find(const struct router *r, int from, const struct segment *s)
{
    uint32_t hash = segment_hash(from, s);
    for (uint32_t i = hash;; i++) {
        struct step *step = &r->steps[i & (r->places - 1)];
        if (step->to == NONE)
            return step;
        if (step->hash == hash && step->from == from &&
            segment_is(s, buf_head(&r->texts) + step->at, step->len))
            return step;
    }
}

static void steps_resize(struct router *r, uint32_t places)
{
    struct step *old = r->steps;
    uint32_t count = r->places;
    r->steps = alloc_array(NULL, places, sizeof *r->steps);
    r->places = places;
    for (uint32_t i = 0; i < places; i++)
        r->steps[i].to = NONE;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = old[i].hash;
        if (old[i].to == NONE)
            continue;
        while (r->steps[at & (places - 1)].to != NONE)
            at++;
        r->steps[at & (places - 1)] = old[i];
    }
    free(old);
}

static int node_new(struct router *r)
{
    r->nodes = alloc_array(r->nodes, (size_t)r->node_count + 1, sizeof *r->nodes);
    r->nodes[r->node_count] = (struct node){NONE, NONE, NONE};
    return r->node_count++;
}

static int node_step(struct router *r, int from, const struct segment *s)
{
    if ((uint32_t)r->step_count * 2 >= r->places)
        steps_resize(r, r->places * 2);
    struct step *step = step_find(r, from, s);
    if (step->to != NONE)
        return step->to;
    *step = (struct step){segment_hash(from, s), from, node_new(r),
                          (uint32_t)buf_len(&r->texts), (uint32_t)s->len};
    buf_append(&r->texts, s->at, s->len);
    r->step_count++;
    return step->to;
}

static int node_param(struct router *r, int from)
{
    if (r->nodes[from].param == NONE) {
        int param = node_new(r);
        r->nodes[from].param = param;
    }
    return r->nodes[from].param;
}

/* -- patterns ------------------------------------------------------------------------ */

static int is_name(const struct segment *s, char kind)
{
    if (s->len < 2 || s->at[0] != kind)
        return 0;
    for (size_t i = 1; i < s->len; i++) {
        char c = s->at[i], lower = (char)(c | 0x20);
        int letter = (lower >= 'a' && lower <= 'z') || c == '_';
        if (!letter && (i == 1 || c < '0' || c > '9'))
            return 0;
    }
    return 1;
}

static int number(struct router *r, int *pattern)
{
    if (*pattern == NONE)
        *pattern = r->patterns++;
    return *pattern;
}

int router_add(struct router *r, const char *pattern, size_t len)
{
    const char *p = pattern, *end = pattern + len;
    int node = ROOT, names = 0;
    if (len && *p != '/')
        return NONE;
    while (p < end) {
        struct segment s = segment_at(p + 1, end, 1);
        p = s.at + s.len;
        int rest = is_name(&s, '*'), param = is_name(&s, ':');
        if ((rest && p < end) || (names += rest || param) > ROUTER_VALUES_MAX)
            return NONE;
        if (rest)
            return number(r, &r->nodes[node].rest);
        node = param ? node_param(r, node) : node_step(r, node, &s);
    }
    return number(r, &r->nodes[node].found);
}

struct router *router_new(void)
{
    struct router *r = alloc_zero(sizeof *r);
    steps_resize(r, STEPS_MIN);
    node_new(r);
    return r;
}

void router_free(struct router *r)
{
    free(r->nodes);
    free(r->steps);
    buf_release(&r->texts);
    free(r);
}

/* -- finding ------------------------------------------------------------------------- */

struct search {
    const struct router *router;
    struct router_match *match;
    const char *end;
    int plain;
};

static int search_ends(struct search *s, int pattern, int count)
{
    s->match->pattern = pattern;
    s->match->count = count;
    return pattern != NONE;
}

/* The rest of the path, from behind a "/" at p; count values have been collected. */
static int search_from(struct search *s, int node, const char *p, int count)
{
    const struct node *n = &s->router->nodes[node];
    struct router_value *value = &s->match->values[count];
    if (p > s->end)
        return search_ends(s, n->found, count);
    struct segment segment = segment_at(p, s->end, s->plain);
    const char *next = p + segment.len + 1;
    int step = step_find(s->router, node, &segment)->to;
    if (step != NONE && search_from(s, step, next, count))
        return 1;
    *value = (struct router_value){p, segment.len};
    if (n->param != NONE && segment.len && search_from(s, n->param, next, count + 1))
        return 1;
    *value = (struct router_value){p, (size_t)(s->end - p)};
    return n->rest != NONE && search_ends(s, n->rest, count + 1);
}

int router_find(const struct router *r, const char *path, size_t len, int is_plain,
                struct router_match *m)
{
    struct search s = {r, m, path + len, is_plain || !memchr(path, '%', len)};
    return len && path[0] == '/' && search_from(&s, ROOT, path + 1, 0);
}

int router_find_prefix(const struct router *r, const char *path, size_t len, int is_plain)
{
    const char *p = path, *end = path + len;
    int node = ROOT, found = r->nodes[ROOT].found;
    if (!r->step_count)
        return found;
    int plain = is_plain || !memchr(path, '%', len);
    while (p < end) {
        struct segment s = segment_at(p + 1, end, plain);
        node = step_find(r, node, &s)->to;
        if (node == NONE)
            break;
        if (r->nodes[node].found != NONE)
            found = r->nodes[node].found;
        p = s.at + s.len;
    }
    return found;
}
