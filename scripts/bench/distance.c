/*
 * distance: how far two cores are from each other, for the state of a shared machine in
 * which something was measured (cores.lua).
 *
 *     distance CORE CORE
 *         "ns=104": what a line of cache takes from one to the other and back, the median
 *         of BATCHES, in a few milliseconds
 */
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    BATCHES = 201,
    TRIPS = 32, /* in a batch: many for one look at the clock */
};

static _Alignas(128) atomic_int ball; /* odd: on its way there; even: back again */

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void pin(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        err(1, "core %d", core);
}

static void await(int value)
{
    while (atomic_load_explicit(&ball, memory_order_acquire) != value)
        ;
}

static void *return_all(void *core)
{
    pin(*(int *)core);
    for (int i = 1; i < 2 * BATCHES * TRIPS; i += 2) {
        await(i);
        atomic_store_explicit(&ball, i + 1, memory_order_release);
    }
    return NULL;
}

static double send_batch(int batch)
{
    int64_t began = now_ns();
    for (int trip = 0; trip < TRIPS; trip++) {
        int i = 2 * (batch * TRIPS + trip) + 1;
        atomic_store_explicit(&ball, i, memory_order_release);
        await(i + 1);
    }
    return (double)(now_ns() - began) / TRIPS;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int parse_core(const char *text)
{
    char *end;
    long core = strtol(text, &end, 10);
    if (end == text || *end || core < 0 || core >= CPU_SETSIZE)
        errx(2, "a core is a number from 0 to %d, not \"%s\"", CPU_SETSIZE - 1, text);
    return (int)core;
}

int main(int argc, char **argv)
{
    double took[BATCHES];
    pthread_t other;
    if (argc != 3)
        errx(2, "usage: distance CORE CORE");
    int here = parse_core(argv[1]), there = parse_core(argv[2]);
    if (here == there)
        errx(2, "core %d has no distance from itself", here);
    pin(here);
    if (pthread_create(&other, NULL, return_all, &there) != 0)
        errx(1, "no thread");
    for (int i = 0; i < BATCHES; i++)
        took[i] = send_batch(i);
    pthread_join(other, NULL);
    qsort(took, BATCHES, sizeof *took, compare);
    printf("ns=%.0f\n", took[BATCHES / 2]);
    return 0;
}
