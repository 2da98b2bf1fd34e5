/*
 * The mapping is a table of records, of which the pages that are used exist, and behind it
 * blocks of some sizes, in units of the smallest; those that are given back are kept for
 * the next of their size, the last one first.
 *
 * The order of two stores is the order in which they were made, as the one who reads them
 * does it after the death of the one who wrote: only the compiler must not change it
 * (memory_order_release).
 */
#include "journal.h"

#include "fd.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    UNIT = 64,
    RECORDS_SIZE = JOURNAL_RECORDS * sizeof(struct journal_record),
    FIRST_BLOCK = RECORDS_SIZE / UNIT,
    READ_MIN = 4096 - 16, /* with its head it is a page */
};

/* Of which nothing exists that was not written to. */
static const uint64_t map_size = (uint64_t)RECORDS_SIZE + ((uint64_t)16 << 30);

struct input_block {
    uint32_t class, unused;
    uint64_t origin; /* where in the stream its bytes begin */
    char bytes[];
};

struct state_block {
    uint32_t class, state_len;
    _Atomic uint64_t base;
    uint64_t mark; /* with what is unsent */
    uint64_t unsent_len;
    char bytes[]; /* unsent, state */
};

static struct journal_record *record_at(const struct journal *j, uint32_t index)
{
    return (struct journal_record *)j->map + index;
}

#define LOAD(field) atomic_load_explicit(&(field), memory_order_relaxed)
#define STORE(field, value) atomic_store_explicit(&(field), (value), memory_order_release)

/* -- making one ---------------------------------------------------------------------- */

int journal_create(void)
{
    int fd = memfd_create("moonpool journal", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)map_size) < 0)
        fd_close(&fd);
    return fd;
}

int journal_clear(int fd)
{
    return ftruncate(fd, 0) < 0 ? -1 : ftruncate(fd, (off_t)map_size);
}

int journal_attach(struct journal *j, int fd)
{
    void *p =
        mmap(NULL, map_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED)
        return -1;
    madvise(p, map_size, MADV_DONTDUMP);
    *j = (struct journal){.map = p, .end = FIRST_BLOCK};
    return 0;
}

void journal_detach(struct journal *j)
{
    if (j->map)
        munmap(j->map, map_size);
    j->map = NULL;
}

/* -- blocks -------------------------------------------------------------------------- */

static void *block_at(const struct journal *j, uint32_t block)
{
    return j->map + (uint64_t)block * UNIT;
}

static size_t class_size(uint32_t class)
{
    return (size_t)UNIT << class;
}

static uint32_t class_of(size_t size)
{
    uint32_t class = 0;
    while (class < JOURNAL_CLASSES && class_size(class) < size)
        class ++;
    return class;
}

/* 0: there is no room, or it is too much. Its first word is its class. */
static uint32_t block_take(struct journal *j, size_t size)
{
    uint32_t class = class_of(size);
    if (class == JOURNAL_CLASSES)
        return 0;
    uint32_t block = j->free[class];
    if (block) {
        memcpy(&j->free[class], block_at(j, block), sizeof block);
    } else {
        uint32_t units = (uint32_t)(class_size(class) / UNIT);
        if (map_size / UNIT - j->end < units)
            return 0;
        block = j->end;
        j->end += units;
    }
    memcpy(block_at(j, block), &class, sizeof class);
    return block;
}

static void block_give(struct journal *j, uint32_t block)
{
    uint32_t class;
    if (!block)
        return;
    memcpy(&class, block_at(j, block), sizeof class);
    memcpy(block_at(j, block), &j->free[class], sizeof block);
    j->free[class] = block;
}

static void record_set_state(struct journal *j, struct journal_record *r, uint32_t block)
{
    uint32_t before = LOAD(r->state);
    STORE(r->state, block);
    block_give(j, before);
}

static void record_set_input(struct journal *j, struct journal_record *r, uint32_t block)
{
    uint32_t before = LOAD(r->input);
    STORE(r->input, block);
    block_give(j, before);
}

/* -- input --------------------------------------------------------------------------- */

/* Input from origin on, with room for more behind what there is: 0, or -1, no room. */
static int record_note_input(struct journal *j, struct journal_record *r, uint64_t origin,
                             struct journal_bytes input, size_t room)
{
    uint32_t block = block_take(j, sizeof(struct input_block) + input.len + room);
    if (!block)
        return -1;
    struct input_block *b = block_at(j, block);
    b->origin = origin;
    if (input.len)
        memcpy(b->bytes, input.data, input.len);
    record_set_input(j, r, block);
    return 0;
}

static size_t input_size(const struct input_block *b)
{
    return class_size(b->class) - sizeof *b;
}

static uint64_t record_base(const struct journal *j, const struct journal_record *r)
{
    if (LOAD(r->phase) != JOURNAL_STATE)
        return LOAD(r->base);
    const struct state_block *s = block_at(j, LOAD(r->state));
    return LOAD(s->base);
}

/* What was noted of it since base. */
static struct journal_bytes record_input(const struct journal *j,
                                         const struct journal_record *r)
{
    uint32_t block = LOAD(r->input);
    if (!block)
        return (struct journal_bytes){NULL, 0};
    struct input_block *b = block_at(j, block);
    uint64_t base = record_base(j, r);
    return (struct journal_bytes){b->bytes + (base - b->origin), LOAD(r->taken) - base};
}

static struct input_block *record_make_room(struct journal *j, struct journal_record *r)
{
    struct journal_bytes input = record_input(j, r);
    uint64_t origin = LOAD(r->taken) - input.len;
    size_t room = input.len > READ_MIN ? input.len : READ_MIN;
    if (record_note_input(j, r, origin, input, room) == 0)
        return block_at(j, LOAD(r->input));
    journal_busy(j, r);
    return NULL;
}

char *journal_room(struct journal *j, struct journal_record *r, size_t *room)
{
    struct input_block *b = LOAD(r->input) ? block_at(j, LOAD(r->input)) : NULL;
    uint64_t taken = LOAD(r->taken);
    if (LOAD(r->phase) == JOURNAL_BUSY)
        return NULL;
    if (!b || input_size(b) - (taken - b->origin) < READ_MIN)
        b = record_make_room(j, r);
    if (!b)
        return NULL;
    *room = input_size(b) - (taken - b->origin);
    return b->bytes + (taken - b->origin);
}

void journal_taking(struct journal_record *r)
{
    STORE(r->moves_bytes, 1);
}

void journal_took(struct journal_record *r, size_t n)
{
    STORE(r->taken, LOAD(r->taken) + n);
    STORE(r->moves_bytes, 0);
}

void journal_relax(struct journal *j, struct journal_record *r)
{
    if (LOAD(r->input) && record_input(j, r).len == 0)
        record_set_input(j, r, 0);
}

/* -- phases -------------------------------------------------------------------------- */

void journal_busy(struct journal *j, struct journal_record *r)
{
    STORE(r->phase, JOURNAL_BUSY);
    record_set_state(j, r, 0);
    record_set_input(j, r, 0);
}

void journal_note_doing(struct journal_record *r, const char *text, size_t len)
{
    size_t n = len < JOURNAL_DOING ? len : JOURNAL_DOING - 1;
    memcpy(r->doing, text, n);
    r->doing[n] = 0;
}

/* While a connection was BUSY its input was not noted. */
static int record_catch_up(struct journal *j, struct journal_record *r,
                           struct journal_bytes input)
{
    if (LOAD(r->phase) != JOURNAL_BUSY || !input.len)
        return 0;
    return record_note_input(j, r, LOAD(r->taken) - input.len, input, 0);
}

void journal_anew(struct journal *j, struct journal_record *r, struct journal_bytes input,
                  size_t unsent)
{
    if (record_catch_up(j, r, input) < 0)
        return;
    STORE(r->base, LOAD(r->taken) - input.len);
    STORE(r->mark, LOAD(r->written) + unsent);
    if (!unsent)
        STORE(r->settled, LOAD(r->written));
    STORE(r->phase, JOURNAL_ANEW);
    if (!input.len)
        record_set_input(j, r, 0);
}

void journal_state(struct journal *j, struct journal_record *r,
                   struct journal_bytes input, struct journal_bytes unsent,
                   struct journal_bytes state)
{
    uint32_t block = block_take(j, sizeof(struct state_block) + unsent.len + state.len);
    if (!block || record_catch_up(j, r, input) < 0) {
        block_give(j, block);
        journal_busy(j, r);
        return;
    }
    struct state_block *b = block_at(j, block);
    b->state_len = (uint32_t)state.len;
    b->unsent_len = unsent.len;
    b->mark = LOAD(r->written) + unsent.len;
    STORE(b->base, LOAD(r->taken) - input.len);
    if (unsent.len)
        memcpy(b->bytes, unsent.data, unsent.len);
    if (state.len)
        memcpy(b->bytes + unsent.len, state.data, state.len);
    atomic_signal_fence(memory_order_release);
    record_set_state(j, r, block);
    STORE(r->settled, LOAD(r->written));
    STORE(r->had_state, 1);
    STORE(r->phase, JOURNAL_STATE);
}

void journal_leaves(struct journal *j, struct journal_record *r, size_t unsent)
{
    journal_busy(j, r);
    STORE(r->mark, LOAD(r->written) + unsent);
    STORE(r->phase, JOURNAL_LEAVES);
}

void journal_skip(struct journal *j, struct journal_record *r, size_t left)
{
    if (LOAD(r->phase) != JOURNAL_STATE)
        return;
    struct state_block *b = block_at(j, LOAD(r->state));
    STORE(b->base, LOAD(r->taken) - left);
}

struct journal_record *journal_begin(struct journal *j, uint32_t index, uint32_t sequence,
                                     const struct tcp_tally *tally,
                                     const struct journal_entry *e)
{
    assert(index < JOURNAL_RECORDS);
    struct journal_record *r = record_at(j, index);
    STORE(r->sequence, 0);
    journal_busy(j, r);
    r->crashes = e->crashes & 0x7f;
    r->counted = e->counted != 0;
    r->doing[0] = 0;
    STORE(r->taken, tally->taken);
    STORE(r->written, tally->written);
    STORE(r->settled, tally->written);
    STORE(r->goal, tally->written);
    STORE(r->mark, tally->written);
    STORE(r->moves_bytes, 0);
    STORE(r->had_state, 0);
    if (e->has_state)
        journal_state(j, r, e->input, e->unsent, e->state);
    else if (e->fate == JOURNAL_GOES_ON)
        journal_anew(j, r, e->input, e->unsent.len);
    STORE(r->sequence, sequence);
    return r;
}

uint32_t journal_index(const struct journal *j, const struct journal_record *r)
{
    return (uint32_t)(r - record_at(j, 0));
}

void journal_end(struct journal *j, struct journal_record *r)
{
    STORE(r->phase, JOURNAL_ENDED);
    record_set_state(j, r, 0);
    record_set_input(j, r, 0);
    if (j->on_end)
        j->on_end(journal_index(j, r), LOAD(r->sequence), j->arg);
}

/* -- output -------------------------------------------------------------------------- */

void journal_sending(struct journal_record *r, size_t n)
{
    STORE(r->moves_bytes, 1);
    STORE(r->goal, LOAD(r->written) + n);
}

void journal_sent(struct journal_record *r, size_t n)
{
    uint64_t written = LOAD(r->written) + n;
    STORE(r->written, written);
    if (written == LOAD(r->goal) && LOAD(r->phase) != JOURNAL_BUSY)
        STORE(r->settled, written);
    STORE(r->moves_bytes, 0);
}

/* -- after the worker's death -------------------------------------------------------- */

/* A block as it was left, if it is one: where, and how many bytes of it there are. */
static const void *find_block(const struct journal *j, uint32_t block, size_t least,
                              size_t *size)
{
    uint32_t class;
    if (block < FIRST_BLOCK || block >= map_size / UNIT)
        return NULL;
    memcpy(&class, block_at(j, block), sizeof class);
    if (class >= JOURNAL_CLASSES || class_size(class) < least ||
        class_size(class) > map_size - (uint64_t)block * UNIT)
        return NULL;
    *size = class_size(class) - least;
    return block_at(j, block);
}

/* The input from base to taken: 0, or -1 if it is not all there. */
static int find_input(const struct journal *j, const struct journal_record *r,
                      uint64_t base, uint64_t taken, struct journal_bytes *input)
{
    size_t size;
    const struct input_block *b;
    *input = (struct journal_bytes){NULL, 0};
    if (base == taken)
        return 0;
    b = find_block(j, LOAD(r->input), sizeof *b, &size);
    if (!b || base > taken || base < b->origin || taken - b->origin > size)
        return -1;
    *input = (struct journal_bytes){b->bytes + (base - b->origin), taken - base};
    return 0;
}

/* All that was begun to be sent was sent, or nothing of it. */
static int is_whole(const struct journal_record *r, uint64_t written)
{
    return written == LOAD(r->settled) || written == LOAD(r->goal);
}

static int look_at_state(const struct journal *j, const struct journal_record *r,
                         const struct tcp_tally *t, struct journal_entry *e)
{
    size_t size;
    const struct state_block *b = find_block(j, LOAD(r->state), sizeof *b, &size);
    if (!b || b->unsent_len > size || b->state_len > size - b->unsent_len ||
        b->unsent_len > b->mark || t->written < b->mark - b->unsent_len)
        return -1;
    if (t->written > b->mark && !is_whole(r, t->written))
        return -1;
    size_t unsent = t->written < b->mark ? b->mark - t->written : 0;
    e->has_state = 1;
    e->unsent = (struct journal_bytes){b->bytes + b->unsent_len - unsent, unsent};
    e->state = (struct journal_bytes){b->bytes + b->unsent_len, b->state_len};
    return find_input(j, r, LOAD(b->base), t->taken, &e->input);
}

static int look_at_anew(const struct journal *j, const struct journal_record *r,
                        const struct tcp_tally *t, struct journal_entry *e)
{
    if (t->written != LOAD(r->mark))
        return -1;
    return find_input(j, r, LOAD(r->base), t->taken, &e->input);
}

/*
 * Whether some of an answer was sent. One that was being made is what came after mark; of
 * one that was made mark is the end, and it began where nothing else was left.
 */
static int has_spoken(const struct journal_record *r, uint64_t written)
{
    uint64_t mark = LOAD(r->mark);
    return LOAD(r->had_state) || written != (written < mark ? LOAD(r->settled) : mark);
}

static void look_at_phase(const struct journal *j, const struct journal_record *r,
                          const struct tcp_tally *t, struct journal_entry *e)
{
    uint8_t phase = LOAD(r->phase);
    int goes_on = -1;
    e->fate = JOURNAL_IS_OVER;
    if (phase == JOURNAL_ENDED ||
        (phase == JOURNAL_LEAVES && t->written == LOAD(r->mark)))
        return;
    e->has_spoken = has_spoken(r, t->written);
    if (phase == JOURNAL_STATE)
        goes_on = look_at_state(j, r, t, e);
    else if (phase == JOURNAL_ANEW)
        goes_on = look_at_anew(j, r, t, e);
    e->fate = goes_on == 0 ? JOURNAL_GOES_ON : JOURNAL_IS_CUT;
}

void journal_look_doing(const struct journal *j, uint32_t index, char text[JOURNAL_DOING])
{
    const char *doing = record_at(j, index)->doing;
    size_t n = 0;
    for (; n < JOURNAL_DOING - 1 && doing[n] && doing[n] != '?'; n++)
        text[n] = doing[n] >= ' ' && doing[n] <= '~' ? doing[n] : '.';
    text[n] = 0;
}

void journal_look(const struct journal *j, uint32_t index, uint32_t sequence,
                  const struct tcp_tally *tally, struct journal_entry *e)
{
    *e = (struct journal_entry){.fate = JOURNAL_IS_CUT, .has_spoken = 1};
    if (index >= JOURNAL_RECORDS)
        return;
    const struct journal_record *r = record_at(j, index);
    struct tcp_tally noted = {LOAD(r->taken), LOAD(r->written)};
    *e = (struct journal_entry){.crashes = r->crashes, .counted = r->counted};
    if (LOAD(r->sequence) != sequence) {
        e->fate = JOURNAL_IS_UNTOUCHED;
        return;
    }
    look_at_phase(j, r, tally ? tally : &noted, e);
    int unsure = !tally && (LOAD(r->moves_bytes) || !is_whole(r, noted.written));
    if (unsure && e->fate == JOURNAL_GOES_ON)
        e->fate = JOURNAL_IS_CUT;
}
