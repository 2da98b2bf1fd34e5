#include "holds.h"

#include "alloc.h"
#include "fd.h"
#include "log.h"
#include "parcel.h"
#include "tcp_tally.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { CRASHES_MAX = 3 }; /* one that so many workers have died of has no more of them */

/* -- holding ------------------------------------------------------------------------- */

void holds_add(struct holds *h, int fd, uint64_t number)
{
    uint32_t before = h->size;
    while (h->size <= (uint32_t)fd)
        h->size = h->size ? h->size * 2 : 64;
    if (h->size != before) {
        h->numbers = alloc_array(h->numbers, h->size, sizeof *h->numbers);
        memset(h->numbers + before, 0, (h->size - before) * sizeof *h->numbers);
    }
    h->numbers[fd] = number;
}

static void holds_keep(struct holds *h, struct transfer *t)
{
    t->next = NULL;
    if (!h->kept)
        h->kept_end = &h->kept;
    *h->kept_end = t;
    h->kept_end = &t->next;
}

void holds_add_transfer(struct holds *h, struct transfer *t, uint64_t number)
{
    holds_add(h, fd_take(&t->fds[0]), number);
    t->number = number;
    holds_keep(h, t);
}

static int hold_take(struct holds *h, uint32_t fd)
{
    h->numbers[fd] = 0;
    return (int)fd;
}

void holds_release_any(struct holds *h, uint32_t fd)
{
    if (fd >= h->size || !h->numbers[fd])
        return;
    int held = hold_take(h, fd);
    fd_close(&held);
}

void holds_release(struct holds *h, uint32_t fd, uint32_t number)
{
    if (fd < h->size && (uint32_t)h->numbers[fd] == number)
        holds_release_any(h, fd);
}

/* The first of those that are kept, if it is not beyond number; or NULL. */
static struct transfer *take_kept(struct holds *h, uint64_t number)
{
    struct transfer *t = h->kept;
    if (!t || t->number > number)
        return NULL;
    h->kept = t->next;
    return t;
}

void holds_received(struct holds *h, uint64_t number)
{
    for (struct transfer *t; (t = take_kept(h, number));)
        transfer_free(t);
}

void holds_clear(struct holds *h)
{
    holds_received(h, UINT64_MAX);
    for (uint32_t fd = 0; fd < h->size; fd++)
        holds_release_any(h, fd);
    free(h->numbers);
    *h = (struct holds){0};
}

void holds_save(const struct holds *h, struct baton *b)
{
    for (uint32_t fd = 0; fd < h->size; fd++) {
        if (!h->numbers[fd])
            continue;
        baton_begin(b, "hold");
        baton_put_fd(b, "fd", (int)fd);
        baton_put_number(b, "number", h->numbers[fd]);
        baton_end(b);
    }
    for (const struct transfer *t = h->kept; t; t = t->next) {
        baton_begin(b, "kept");
        transfer_save(t, b);
        baton_end(b);
    }
}

void holds_load(struct holds *h, struct baton *b)
{
    for (; baton_enter(b, "hold"); baton_leave(b))
        holds_add(h, baton_fd(b, "fd"), baton_number(b, "number"));
    for (; baton_enter(b, "kept"); baton_leave(b))
        holds_keep(h, transfer_load(b));
}

/* -- rescue -------------------------------------------------------------------------- */

struct rescue {
    struct holds *holds;
    struct journal journal;
    uint32_t blamed;
    struct holds_outcome outcome;
    void (*give)(struct transfer *t, void *arg);
    void *arg;
};

static void close_one(int fd)
{
    shutdown(fd, SHUT_RDWR);
    fd_close(&fd);
}

static void rescue_end(struct rescue *r, int fd)
{
    close_one(fd);
    r->outcome.lost++;
}

static void rescue_give(struct rescue *r, int fd, const struct parcel *p)
{
    struct buf packed = {0};
    int fds[2] = {fd, -1}, count = 1;
    parcel_write(p, &packed);
    size_t len = buf_len(&packed);
    if (len > PARCEL_INLINE) {
        fds[count++] = parcel_store(&packed);
        len = 0;
    }
    if (count == 2 && fds[1] < 0)
        rescue_end(r, fd);
    else
        r->give(transfer_new(fds, count, buf_head(&packed), len), r->arg);
    buf_release(&packed);
}

/* As it was sent to the dead worker, which did not come to taking it. */
static void rescue_untouched(struct rescue *r, int fd, uint64_t number)
{
    struct transfer **at = &r->holds->kept;
    while (*at && (*at)->number < number)
        at = &(*at)->next;
    struct transfer *t = *at;
    r->outcome.on++;
    if (t && t->number == number) {
        *at = t->next;
        t->fds[0] = fd;
    } else {
        t = transfer_new(&fd, 1, NULL, 0);
        t->is_new = 1;
    }
    r->give(t, r->arg);
}

static void rescue_noted(struct rescue *r, int fd, const struct journal_entry *e)
{
    uint32_t crashes = e->crashes + ((uint32_t)fd == r->blamed);
    struct parcel p = {.why = PARCEL_CRASH, .crashes = crashes, .counted = e->counted};
    p.is_cut = e->fate == JOURNAL_IS_CUT || crashes >= CRASHES_MAX;
    if (p.is_cut && e->has_spoken) {
        rescue_end(r, fd);
        return;
    }
    if (!p.is_cut) {
        p.has_state = e->has_state;
        p.input = e->input.data, p.input_len = e->input.len;
        p.unsent = e->unsent.data, p.unsent_len = e->unsent.len;
        p.state = e->state.data, p.state_len = e->state.len;
    }
    r->outcome.on += !p.is_cut;
    r->outcome.cut += p.is_cut;
    rescue_give(r, fd, &p);
}

static void rescue_name_blamed(struct rescue *r, int fd)
{
    char doing[JOURNAL_DOING], from[ADDRESS_TEXT] = "a client";
    struct address peer = {.len = sizeof peer.sa};
    if (getpeername(fd, &peer.any, &peer.len) == 0)
        address_format(&peer, from);
    journal_look_doing(&r->journal, r->blamed, doing);
    snprintf(r->outcome.blamed, sizeof r->outcome.blamed, "%s%s%s", doing,
             *doing ? " of " : "", from);
}

static void rescue_one(struct rescue *r, uint32_t held)
{
    uint64_t number = r->holds->numbers[held];
    int fd = hold_take(r->holds, held);
    struct tcp_tally tally;
    struct journal_entry e;
    int counts = tcp_tally(fd, &tally) == 0;
    if (held == r->blamed)
        rescue_name_blamed(r, fd);
    journal_look(&r->journal, held, (uint32_t)number, counts ? &tally : NULL, &e);
    if (e.fate == JOURNAL_IS_UNTOUCHED)
        rescue_untouched(r, fd, number);
    else if (e.fate == JOURNAL_IS_OVER)
        close_one(fd);
    else
        rescue_noted(r, fd, &e);
}

struct holds_outcome holds_rescue(struct holds *h, uint64_t number, int journal,
                                  uint32_t blamed,
                                  void (*give)(struct transfer *t, void *arg), void *arg)
{
    struct rescue r = {.holds = h, .blamed = blamed, .give = give, .arg = arg};
    if (journal_attach(&r.journal, journal) < 0)
        log_error("cannot read the journal of a worker: %s", strerror(errno));
    for (uint32_t fd = 0; fd < h->size; fd++)
        if (h->numbers[fd] && h->numbers[fd] <= number) {
            if (r.journal.map)
                rescue_one(&r, fd);
            else
                rescue_end(&r, hold_take(h, fd));
        }
    holds_received(h, number);
    journal_detach(&r.journal);
    if (journal_clear(journal) < 0)
        log_error("cannot clear the journal of a worker: %s", strerror(errno));
    return r.outcome;
}
