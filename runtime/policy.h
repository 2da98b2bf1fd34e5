/*
 * policy: which worker gets the next connection. Pure functions of how much each has to
 * do, so that another policy is another function here and nothing else.
 */
#ifndef MOONPOOL_POLICY_H
#define MOONPOOL_POLICY_H

#include <stdint.h>

struct load {
    uint32_t used; /* connections */
    uint32_t slots;
    int open; /* whether it can be given any at all */
};

/* The chosen index, or -1 when nobody has a free slot. last: who was chosen before. */
typedef int policy_choose(const struct load *loads, int count, int last);

policy_choose policy_least_loaded; /* among equals, the next after last */
policy_choose policy_round_robin;  /* the next that is free */
policy_choose policy_first_free;   /* the lowest number that is free */

#endif
