#include "ports.h"

#include "alloc.h"

#include <stdlib.h>
#include <string.h>

enum { ENDPOINTS_MAX = 64 }; /* that one text may stand for */

struct port { /* all that one text stands for */
    int users;
    char *text;
    int count;
    struct endpoint *endpoints;
};

struct ports {
    int count;
    struct port **list;
};

static struct port *port_open(const char *text, const struct endpoint_options *options,
                              char *why, size_t size)
{
    struct endpoint all[ENDPOINTS_MAX];
    int count = endpoint_open(text, options, all, ENDPOINTS_MAX, why, size);
    if (count < 0)
        return NULL;
    struct port *p = alloc(sizeof *p);
    *p = (struct port){.users = 1, .text = alloc_string(text), .count = count};
    p->endpoints = alloc_array(NULL, (size_t)count, sizeof *p->endpoints);
    memcpy(p->endpoints, all, (size_t)count * sizeof *all);
    return p;
}

static void port_release(struct port *p)
{
    if (--p->users)
        return;
    for (int i = 0; i < p->count; i++)
        endpoint_close(&p->endpoints[i]);
    free(p->endpoints);
    free(p->text);
    free(p);
}

static int ports_have(const struct ports *p, const struct port *port)
{
    for (int i = 0; i < p->count; i++)
        if (p->list[i] == port)
            return 1;
    return 0;
}

/* Each is found once: of a port 0 there may be several. */
static struct port *find(const struct ports *before, const char *text,
                         const struct ports *taken)
{
    for (int i = 0; before && i < before->count; i++)
        if (strcmp(before->list[i]->text, text) == 0 &&
            !ports_have(taken, before->list[i])) {
            before->list[i]->users++;
            return before->list[i];
        }
    return NULL;
}

struct ports *ports_open(char *const *texts, const struct endpoint_options *options,
                         const struct ports *before, char *why, size_t size)
{
    struct ports *p = alloc_zero(sizeof *p);
    for (; texts[p->count]; p->count++) {
        p->list = alloc_array(p->list, (size_t)p->count + 1, sizeof(struct port *));
        struct port *port = find(before, texts[p->count], p);
        if (!port)
            port = port_open(texts[p->count], options, why, size);
        if (!port) {
            ports_close(p);
            return NULL;
        }
        p->list[p->count] = port;
    }
    return p;
}

void ports_close(struct ports *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->count; i++)
        port_release(p->list[i]);
    free(p->list);
    free(p);
}

static void port_save(const struct port *p, struct baton *b)
{
    baton_put_text(b, "text", p->text);
    for (int i = 0; i < p->count; i++) {
        baton_begin(b, "endpoint");
        endpoint_save(&p->endpoints[i], b);
        baton_end(b);
    }
}

static struct port *port_load(struct baton *b)
{
    struct port *p = alloc_zero(sizeof *p);
    p->users = 1;
    p->text = baton_text(b, "text");
    for (; baton_enter(b, "endpoint"); baton_leave(b)) {
        p->endpoints =
            alloc_array(p->endpoints, (size_t)p->count + 1, sizeof *p->endpoints);
        endpoint_load(&p->endpoints[p->count++], b);
    }
    return p;
}

void ports_save(const struct ports *p, struct baton *b)
{
    for (int i = 0; i < p->count; i++) {
        baton_begin(b, "port");
        port_save(p->list[i], b);
        baton_end(b);
    }
}

struct ports *ports_load(struct baton *b)
{
    struct ports *p = alloc_zero(sizeof *p);
    for (; baton_enter(b, "port"); baton_leave(b)) {
        p->list = alloc_array(p->list, (size_t)p->count + 1, sizeof *p->list);
        p->list[p->count++] = port_load(b);
    }
    return p;
}

int ports_count(const struct ports *p)
{
    int n = 0;
    for (int i = 0; i < p->count; i++)
        n += p->list[i]->count;
    return n;
}

const struct endpoint *ports_get(const struct ports *p, int i)
{
    struct port **port = p->list;
    for (; i >= (*port)->count; port++)
        i -= (*port)->count;
    return &(*port)->endpoints[i];
}
