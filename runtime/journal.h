/*
 * journal: what a worker notes of each of its connections while it serves them, in memory
 * that outlives it, so that others can go on with them when it is killed, at whatever
 * instant.
 *
 * A connection has a record, under the number of the descriptor by which the supervisor
 * holds it. The record tells its phase and where it may be gone on with, in bytes of its
 * two directions since it was opened:
 *
 *   base   input before this is done with
 *   mark   output up to this belongs to what was done with it
 *
 * Input that has come since base is noted too, so nothing is lost that was read. Output is
 * the connection's own to send; of a state's, what was not sent yet is noted with it.
 *
 * Each note is complete before the one word is stored that makes it hold. What the kernel
 * has counted (tcp_tally.h) tells what was done between two of these words, so it takes no
 * more of them than that: two plain stores for a request.
 *
 * Only the worker writes. Once it is dead the supervisor reads, and believes nothing: a
 * process that has crashed may have written anything here before.
 */
#ifndef MOONPOOL_JOURNAL_H
#define MOONPOOL_JOURNAL_H

#include "tcp_tally.h"

#include <stdatomic.h>
#include <stddef.h>

enum {
    JOURNAL_RECORDS = 1 << 20,
    JOURNAL_DOING = 64,   /* bytes */
    JOURNAL_CLASSES = 18, /* blocks of 64 bytes, 128 ... */
};

enum journal_phase {
    JOURNAL_BUSY,   /* something is done that is not to be done again */
    JOURNAL_ANEW,   /* whoever gets it begins anew, with the input since base */
    JOURNAL_STATE,  /* or goes on with a state */
    JOURNAL_LEAVES, /* nothing is left to be done, but to send what there is */
    JOURNAL_ENDED,
};

struct journal_record {
    _Atomic uint32_t sequence; /* of the connection's journey to this worker; 0: none */
    _Atomic uint8_t phase;
    _Atomic uint8_t moves_bytes;      /* now; where the kernel does not count them */
    uint8_t crashes : 7, counted : 1; /* as in the parcel with which it came */
    _Atomic uint8_t had_state;        /* what it says is no answer any more */
    _Atomic uint32_t state, input;    /* blocks; 0: none */
    _Atomic uint64_t base, mark;      /* but of a state they are in its block */
    _Atomic uint64_t taken;           /* input that was read */
    _Atomic uint64_t written;         /* output that was sent; */
    _Atomic uint64_t settled;         /* when none was left, and none was being made */
    _Atomic uint64_t goal;            /* with what is being sent */
    char doing[JOURNAL_DOING]; /* for the log: what was begun last, if it has a name */
};

struct journal {
    char *map;    /* NULL: there is none */
    uint32_t end; /* units of it that are in use; the rest is as it was made */
    uint32_t free[JOURNAL_CLASSES]; /* blocks, each with the next in its first bytes */
    void (*on_end)(uint32_t index, uint32_t sequence, void *arg); /* or NULL */
    void *arg;
};

struct journal_bytes {
    const char *data;
    size_t len;
};

enum journal_fate {
    JOURNAL_IS_UNTOUCHED, /* the worker did not come to taking it */
    JOURNAL_IS_OVER,
    JOURNAL_GOES_ON, /* anew, or with a state */
    JOURNAL_IS_CUT,  /* in the middle of something */
};

struct journal_entry {
    enum journal_fate fate;
    int has_spoken; /* a cut one: some of an answer was sent */
    int has_state;
    uint8_t crashes, counted;
    struct journal_bytes input, unsent, state; /* borrowed */
};

/* -- making one: a descriptor, owned; or -1 and errno -- */

int journal_create(void);
int journal_clear(int fd); /* as it was made; nobody has it then. 0, or -1 and errno */
int journal_attach(struct journal *j, int fd); /* 0, or -1 and errno; fd stays */
void journal_detach(struct journal *j);

/* -- for the worker. Where there is no memory left a connection is BUSY -- */

/* A connection has come with that, and goes on or is cut. All of it holds at once. */
struct journal_record *journal_begin(struct journal *j, uint32_t index, uint32_t sequence,
                                     const struct tcp_tally *tally,
                                     const struct journal_entry *e);
uint32_t journal_index(const struct journal *j, const struct journal_record *r);
void journal_end(struct journal *j, struct journal_record *r);

void journal_busy(struct journal *j, struct journal_record *r);
void journal_note_doing(struct journal_record *r, const char *text, size_t len);
/* input: what is not done with; unsent: bytes of output that are still to leave. */
void journal_anew(struct journal *j, struct journal_record *r, struct journal_bytes input,
                  size_t unsent);
void journal_state(struct journal *j, struct journal_record *r,
                   struct journal_bytes input, struct journal_bytes unsent,
                   struct journal_bytes state);
void journal_leaves(struct journal *j, struct journal_record *r, size_t unsent);
/* The state holds from here on, with that many bytes of input to come. */
void journal_skip(struct journal *j, struct journal_record *r, size_t left);

/*
 * Where to read to, so that it is noted as it comes: at least a page, *room bytes. NULL:
 * it need not be. In any case journal_taking goes before the read, and journal_took after.
 */
char *journal_room(struct journal *j, struct journal_record *r, size_t *room);
void journal_taking(struct journal_record *r);
void journal_took(struct journal_record *r, size_t n);
/* Nothing that was read is left to be done: gives memory back. */
void journal_relax(struct journal *j, struct journal_record *r);

void journal_sending(struct journal_record *r, size_t n); /* is all that there is now */
void journal_sent(struct journal_record *r, size_t n);    /* some of it, or nothing */

/* -- for the supervisor -- */

/* What was begun last of that one: printable, and without a query. */
void journal_look_doing(const struct journal *j, uint32_t index,
                        char text[JOURNAL_DOING]);

/* tally: the kernel's; NULL: it does not count. Nothing is known beyond JOURNAL_RECORDS. */
void journal_look(const struct journal *j, uint32_t index, uint32_t sequence,
                  const struct tcp_tally *tally, struct journal_entry *e);

#endif
