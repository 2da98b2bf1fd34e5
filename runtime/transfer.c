#include "transfer.h"

#include "alloc.h"
#include "fd.h"

#include <stdlib.h>
#include <string.h>

struct transfer *transfer_new(int *fds, int count, const char *text, size_t len)
{
    struct transfer *t = alloc(sizeof *t + len);
    *t = (struct transfer){.fd_count = count, .len = len};
    for (int i = 0; i < count; i++)
        t->fds[i] = fd_take(&fds[i]);
    if (len)
        memcpy(t->text, text, len);
    return t;
}

void transfer_free(struct transfer *t)
{
    for (int i = 0; i < t->fd_count; i++)
        fd_close(&t->fds[i]);
    free(t);
}

void transfer_save(const struct transfer *t, struct baton *b)
{
    baton_put_number(b, "number", t->number);
    baton_put_number(b, "fds", (uint64_t)t->fd_count);
    baton_put_fd(b, "fd", t->fds[0]);
    baton_put_fd(b, "parcel", t->fd_count > 1 ? t->fds[1] : -1);
    baton_put_number(b, "is_new", (uint64_t)t->is_new);
    baton_put_number(b, "pool", t->pool);
    baton_put_number(b, "worker", t->worker);
    baton_put(b, "text", t->text, t->len);
}

struct transfer *transfer_load(const struct baton *b)
{
    size_t len;
    const char *text = baton_get(b, "text", &len);
    int fds[2] = {baton_fd(b, "fd"), baton_fd(b, "parcel")};
    struct transfer *t = transfer_new(fds, (int)baton_number(b, "fds"), text, len);
    t->number = baton_number(b, "number");
    t->is_new = baton_number(b, "is_new") != 0;
    t->pool = (uint32_t)baton_number(b, "pool");
    t->worker = (uint32_t)baton_number(b, "worker");
    return t;
}
