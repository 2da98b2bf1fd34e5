/*
 * wire: what supervisor and worker say to each other, and all that they share.
 *
 * A worker is exec'd with its three descriptors at fixed numbers and its settings as
 * arguments. Each message on a channel begins with a struct wire_header in the host's
 * byte order: both ends are the same machine. They are of the same WIRE_VERSION too, which
 * changes with whatever is in here, in scoreboard.h, journal.h or parcel.h: a worker of
 * another ends at once, and an upgrade to another is refused (supervisor_refuse).
 */
#ifndef MOONPOOL_WIRE_H
#define MOONPOOL_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_CONTROL_FD = 3, /* descriptors and control: SOCK_SEQPACKET */
    WIRE_BUS_FD = 4,     /* messages between workers, so that they never fill control */
    WIRE_SCOREBOARD_FD = 5, /* memfd */
    WIRE_JOURNAL_FD = 6,    /* memfd, of a pool that survives */
    WIRE_VERSION = 5,
    WIRE_PUBLISH_MAX = 65536, /* bytes of topic and message together */
};

enum wire_type {
    /* control, to the worker */
    WIRE_CONNECTIONS = 1, /* number: how many; total: how many were sent before these; of
                             a pool that survives also, for each, as which descriptor the
                             supervisor holds it, 32 bits */
    WIRE_STOP,            /* finish what is open, then exit */
    WIRE_RETIRE, /* the same, but what can move is to be given back first, WIRE_MOVED;
                    number: why (parcel.h), and WIRE_STATES if those may be that bring a
                    state; total: milliseconds until what neither has ended nor is pinned
                    is cut */
    WIRE_GIVE,   /* number: so many of those that rest are to be given back, WIRE_MOVED;
                    total: as for WIRE_CONNECTIONS */
    WIRE_REOPEN, /* open log files anew; total: likewise */
    /* control, both ways */
    WIRE_MOVED, /* as WIRE_CONNECTIONS, of one that comes from a worker: its descriptor,
                   its parcel (parcel.h) as text, or in a second descriptor; number: as
                   which descriptor it is held, or 0 */
    /* control, to the supervisor */
    WIRE_HANDOFF, /* as WIRE_MOVED, of one that its script hands to others; total: to
                     which pool (as the scoreboard has it) << 32, and to which worker
                     there, by its number, or 0 */
    WIRE_READY,   /* number: pid; total: 1 if it takes connections with a state */
    WIRE_FAILED,  /* number: pid; text: why it could not be loaded */
    WIRE_TIRED,   /* number: pid. It would like to be relieved */
    WIRE_SLOT,    /* a slot is free, as scoreboard_ask asked */
    WIRE_ENDED,   /* number: so many that are not to be held any more, struct wire_held */
    /* bus, both ways */
    WIRE_PUBLISH, /* number: bytes of the topic; total: to the supervisor, its bit; to the
                     worker, its position (bus_log.h); text: the topic, the message */
    WIRE_REPLAY,  /* to the supervisor, number: of the request; total: a position; text: a
                     topic, whose messages since are wanted. To the worker, number: of the
                     request; total: its position; text: such a message */
    /* bus, to the worker */
    WIRE_REPLAYED, /* number: of the request; total: all until this position were sent;
                      text: "gap" if some of these may have been missing, or "" */
};

enum { WIRE_STATES = 1 << 16, WIRE_HELD_MAX = 4096 };

/* A connection, as which descriptor it is held and the how-manieth that was sent. */
struct wire_held {
    uint32_t fd, number;
};

struct wire_header {
    uint32_t type;
    uint32_t number;
    uint64_t total;
};

/* Splits a message: 0, or -1 if it is shorter than a header. text is what follows. */
int wire_parse(const char *data, size_t len, struct wire_header *h, const char **text,
               size_t *text_len);

/* The bit of a topic in scoreboard_cell.topics: different topics may share one. */
uint64_t wire_topic_bit(const char *topic, size_t len);

struct wire_settings {
    char *pool;          /* its name */
    char *pools;         /* those of all, with ", " between, in the scoreboard's order */
    uint32_t workers;    /* of this pool */
    char *app;           /* absolute path of the script */
    char *lua;           /* directory of the Lua library */
    uint32_t number;     /* of the worker in its pool, from 1 */
    uint32_t cell;       /* its own in the scoreboard, from 0 */
    uint64_t generation; /* how many workers had this number before */
    uint32_t log_level;
    uint32_t read_limit;        /* bytes */
    uint32_t write_limit;       /* bytes */
    uint32_t state_limit;       /* bytes */
    uint32_t max_requests;      /* until it is tired; 0: never */
    uint64_t memory_limit;      /* bytes, 0: none */
    uint64_t memory_soft_limit; /* likewise; above it it is tired */
    double idle_timeout;        /* seconds, 0: none */
    double handler_timeout;     /* likewise */
    double drain;               /* seconds */
    uint32_t dev;               /* boolean: in development */
    uint32_t survive;           /* boolean: there is a journal */
};

/* An argument vector for execv(3): argv0, "worker", key=value ... */
char **wire_settings_write(const struct wire_settings *s, const char *argv0);
void wire_settings_free_args(char **argv);

/*
 * Reads what wire_settings_write wrote, from the first key=value on. Returns 0, or -1 for
 * arguments of another version, and *s is then empty. Its strings are copies.
 */
int wire_settings_read(struct wire_settings *s, int argc, char **argv);
void wire_settings_clear(struct wire_settings *s);

#endif
