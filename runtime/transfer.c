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
