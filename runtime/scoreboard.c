#include "scoreboard.h"

#include "fd.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static size_t scoreboard_size(size_t count)
{
    return count * sizeof(struct scoreboard_cell) + sizeof(struct scoreboard_all);
}

/* A core dump would touch, and so bring into being, every page of it. */
static int scoreboard_map(struct scoreboard *b, int fd, size_t count)
{
    size_t size = scoreboard_size(count);
    struct scoreboard_cell *p =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return -1;
    madvise(p, size, MADV_DONTDUMP);
    *b = (struct scoreboard){.fd = fd,
                             .count = count,
                             .cells = p,
                             .all = (struct scoreboard_all *)(p + count)};
    return 0;
}

int scoreboard_create(struct scoreboard *b, size_t count)
{
    int fd = memfd_create("moonpool scoreboard", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    if (ftruncate(fd, (off_t)scoreboard_size(count)) < 0 ||
        scoreboard_map(b, fd, count) < 0) {
        fd_close(&fd);
        return -1;
    }
    return 0;
}

int scoreboard_attach(struct scoreboard *b, int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -1;
    size_t count = (size_t)st.st_size / sizeof *b->cells;
    if ((size_t)st.st_size != scoreboard_size(count)) {
        errno = EINVAL;
        return -1;
    }
    return scoreboard_map(b, fd, count);
}

void scoreboard_close(struct scoreboard *b)
{
    if (b->cells)
        munmap(b->cells, scoreboard_size(b->count));
    b->cells = NULL;
    fd_close(&b->fd);
}

int scoreboard_take(struct scoreboard *b, uint32_t pool)
{
    for (size_t i = 0; i < b->count; i++)
        if (!atomic_load(&b->cells[i].pool)) {
            atomic_store(&b->cells[i].pool, pool);
            return (int)i;
        }
    return -1;
}

/* Of the lists in it, nothing is left. */
void scoreboard_give(struct scoreboard *b, uint32_t cell)
{
    memset(&b->cells[cell], 0, offsetof(struct scoreboard_cell, holders));
}

void scoreboard_set_crowded(struct scoreboard *b, uint32_t pool, int crowded)
{
    uint64_t bit = (uint64_t)1 << pool % 64;
    if (crowded)
        atomic_fetch_or(&b->all->crowded, bit);
    else
        atomic_fetch_and(&b->all->crowded, ~bit);
}

int scoreboard_is_crowded(const struct scoreboard *b, uint32_t pool)
{
    return (atomic_load(&b->all->crowded) >> pool % 64 & 1) != 0;
}

void scoreboard_ask(struct scoreboard_cell *c)
{
    atomic_store(&c->want_slot, 1);
}

static int is_asked(struct scoreboard_cell *c)
{
    return atomic_load(&c->want_slot) && atomic_exchange(&c->want_slot, 0);
}

int scoreboard_receive(struct scoreboard_cell *c, uint64_t received)
{
    atomic_store(&c->received, received);
    return is_asked(c);
}

int scoreboard_give_back(struct scoreboard_cell *c)
{
    atomic_fetch_sub(&c->open, 1);
    return is_asked(c);
}
