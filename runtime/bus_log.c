#include "bus_log.h"

#include "alloc.h"

#include <stdlib.h>
#include <string.h>

enum { BYTES_MAX = 1 << 20 };

struct bus_entry {
    struct bus_entry *next;
    uint64_t position;
    size_t topic_len, len;
    char bytes[]; /* the topic, the message */
};

static size_t entry_size(const struct bus_entry *e)
{
    return sizeof *e + e->topic_len + e->len;
}

static void drop_first(struct bus_log *b)
{
    struct bus_entry *e = b->first;
    b->first = e->next;
    b->bytes -= entry_size(e);
    b->dropped = e->position;
    free(e);
}

uint64_t bus_log_add(struct bus_log *b, const char *topic, size_t topic_len,
                     const char *text, size_t len)
{
    struct bus_entry *e = alloc(sizeof *e + topic_len + len);
    *e = (struct bus_entry){.position = ++b->last, .topic_len = topic_len, .len = len};
    memcpy(e->bytes, topic, topic_len);
    memcpy(e->bytes + topic_len, text, len);
    if (!b->first)
        b->end = &b->first;
    *b->end = e;
    b->end = &e->next;
    b->bytes += entry_size(e);
    while (b->bytes > BYTES_MAX)
        drop_first(b);
    return b->last;
}

int bus_log_replay(const struct bus_log *b, uint64_t since, const char *topic,
                   size_t topic_len,
                   void (*fn)(uint64_t position, const char *text, size_t len, void *arg),
                   void *arg)
{
    for (const struct bus_entry *e = b->first; e; e = e->next)
        if (e->position > since && e->topic_len == topic_len &&
            memcmp(e->bytes, topic, topic_len) == 0)
            fn(e->position, e->bytes + topic_len, e->len, arg);
    return since >= b->dropped;
}

void bus_log_clear(struct bus_log *b)
{
    while (b->first)
        drop_first(b);
}

void bus_log_save(const struct bus_log *b, struct baton *to)
{
    baton_put_number(to, "last", b->last);
    baton_put_number(to, "dropped", b->dropped);
    for (const struct bus_entry *e = b->first; e; e = e->next) {
        baton_begin(to, "message");
        baton_put_number(to, "position", e->position);
        baton_put(to, "topic", e->bytes, e->topic_len);
        baton_put(to, "text", e->bytes + e->topic_len, e->len);
        baton_end(to);
    }
}

void bus_log_load(struct bus_log *b, struct baton *from)
{
    for (; baton_enter(from, "message"); baton_leave(from)) {
        size_t topic_len, len;
        const char *topic = baton_get(from, "topic", &topic_len);
        const char *text = baton_get(from, "text", &len);
        b->last = baton_number(from, "position") - 1;
        bus_log_add(b, topic, topic_len, text, len);
    }
    b->last = baton_number(from, "last");
    b->dropped = baton_number(from, "dropped");
}
