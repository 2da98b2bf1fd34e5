#include "parcel.h"

#include "fd.h"

#include <stdint.h>
#include <string.h>

const char *const parcel_whys[PARCEL_WHYS] = {[PARCEL_RELOAD] = "reload",
                                              [PARCEL_RECYCLE] = "recycle",
                                              [PARCEL_BALANCE] = "balance",
                                              [PARCEL_CRASH] = "crash",
                                              [PARCEL_HANDOFF] = "handoff"};

/* In front of the strings. */
struct parcel_head {
    uint32_t why, crashes, counted, has_state, is_cut, unused;
    uint64_t input_len, unsent_len, state_len;
};

void parcel_write(const struct parcel *p, struct buf *out)
{
    struct parcel_head h = {.why = p->why,
                            .crashes = p->crashes,
                            .counted = p->counted != 0,
                            .has_state = p->has_state != 0,
                            .is_cut = p->is_cut != 0,
                            .input_len = p->input_len,
                            .unsent_len = p->unsent_len,
                            .state_len = p->state_len};
    buf_append(out, &h, sizeof h);
    buf_append(out, p->input, p->input_len);
    buf_append(out, p->unsent, p->unsent_len);
    buf_append(out, p->state, p->state_len);
}

static int head_is_wrong(const struct parcel_head *h, size_t rest)
{
    return h->why >= PARCEL_WHYS || h->counted > 1 || h->has_state > 1 || h->is_cut > 1 ||
           h->unused || (!h->has_state && h->state_len) || h->input_len > rest ||
           h->unsent_len > rest - h->input_len ||
           h->state_len != rest - h->input_len - h->unsent_len;
}

int parcel_read(struct parcel *p, const char *data, size_t len)
{
    struct parcel_head h;
    if (len < sizeof h)
        return -1;
    memcpy(&h, data, sizeof h);
    if (head_is_wrong(&h, len - sizeof h))
        return -1;
    *p = (struct parcel){.why = (enum parcel_why)h.why,
                         .crashes = h.crashes,
                         .counted = (int)h.counted,
                         .has_state = (int)h.has_state,
                         .is_cut = (int)h.is_cut,
                         .input = data + sizeof h,
                         .input_len = h.input_len,
                         .unsent = data + sizeof h + h.input_len,
                         .unsent_len = h.unsent_len,
                         .state = data + sizeof h + h.input_len + h.unsent_len,
                         .state_len = h.state_len};
    return 0;
}

int parcel_store(const struct buf *packed)
{
    return fd_store("moonpool parcel", buf_head(packed), buf_len(packed));
}

int parcel_load(int fd, struct buf *out)
{
    return buf_load(out, fd);
}
