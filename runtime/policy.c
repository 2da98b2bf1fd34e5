#include "policy.h"

static int is_free(const struct load *l)
{
    return l->open && l->used < l->slots;
}

int policy_least_loaded(const struct load *loads, int count, int last)
{
    int best = -1;
    for (int n = 1; n <= count; n++) {
        int i = (last + n) % count;
        if (is_free(&loads[i]) && (best < 0 || loads[i].used < loads[best].used))
            best = i;
    }
    return best;
}

int policy_round_robin(const struct load *loads, int count, int last)
{
    for (int n = 1; n <= count; n++)
        if (is_free(&loads[(last + n) % count]))
            return (last + n) % count;
    return -1;
}

int policy_first_free(const struct load *loads, int count, int last)
{
    (void)last;
    for (int i = 0; i < count; i++)
        if (is_free(&loads[i]))
            return i;
    return -1;
}
