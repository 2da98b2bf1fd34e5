/*
 * Small blocks are cut from slabs. A size is a class: a multiple of STEP. Lua says how
 * big a block is that it gives back, so blocks need no headers. Without AddressSanitizer
 * the ASAN macros are empty; with it, what is not in use is poison.
 */
#include "lua_memory.h"

#include "alloc.h"
#include "log.h"

#include <sanitizer/asan_interface.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STEP = 16, /* also the alignment of malloc's */
    CLASSES = LUA_MEMORY_SMALL / STEP,
    SLAB = 16384,
    RESERVE = 256 * 1024, /* for some tracebacks */
};

struct block {
    struct block *next;
};

struct slab {
    struct slab *next;
    _Alignas(STEP) char blocks[];
};

struct lua_memory {
    ptrdiff_t room; /* bytes that may still be taken; beyond a limit, negative */
    size_t large;   /* bytes of malloc's that are in use */
    struct block *kept[CLASSES];
    struct slab *slabs;
    size_t left; /* bytes at the end of the first slab that were never used */
    ptrdiff_t limit;
    ptrdiff_t reserve; /* that is in use now */
    size_t refused;    /* the last that was, or 0 */
};

/* -- small blocks -------------------------------------------------------------------- */

static int is_small(size_t size)
{
    return size <= LUA_MEMORY_SMALL;
}

static size_t class_of(size_t size)
{
    return (size - 1) / STEP;
}

static int slab_add(struct lua_memory *m)
{
    struct slab *slab = malloc(SLAB);
    if (!slab)
        return -1;
    slab->next = m->slabs;
    m->slabs = slab;
    m->left = SLAB - sizeof *slab;
    ASAN_POISON_MEMORY_REGION(slab->blocks, m->left);
    return 0;
}

static void *block_cut(struct lua_memory *m, size_t size)
{
    if (m->left < size && slab_add(m) < 0)
        return NULL;
    void *block = (char *)m->slabs + SLAB - m->left;
    m->left -= size;
    return block;
}

static void *block_take(struct lua_memory *m, size_t size)
{
    size_t class = class_of(size);
    struct block *block = m->kept[class];
    if (!block)
        block = block_cut(m, (class + 1) * STEP);
    if (!block)
        return NULL;
    ASAN_UNPOISON_MEMORY_REGION(block, (class + 1) * STEP);
    if (block == m->kept[class])
        m->kept[class] = block->next;
    return block;
}

static void block_keep(struct lua_memory *m, void *p, size_t size)
{
    struct block *block = p;
    size_t class = class_of(size);
    block->next = m->kept[class];
    m->kept[class] = block;
    ASAN_POISON_MEMORY_REGION(block, (class + 1) * STEP);
}

/* -- the allocator ------------------------------------------------------------------- */

static void *large_take(struct lua_memory *m, size_t size)
{
    void *block = malloc(size);
    if (block)
        m->large += size;
    return block;
}

static void *large_resize(struct lua_memory *m, void *block, size_t old, size_t size)
{
    void *new = realloc(block, size);
    if (new)
        m->large += size - old;
    return new;
}

static void *memory_take(struct lua_memory *m, size_t size)
{
    return is_small(size) ? block_take(m, size) : large_take(m, size);
}

static void memory_give(struct lua_memory *m, void *block, size_t size)
{
    if (is_small(size)) {
        block_keep(m, block, size);
        return;
    }
    m->large -= size;
    free(block);
}

/* A block that is to become smaller and cannot: it is one of its new size from now on. */
static void *memory_leave(struct lua_memory *m, void *block, size_t old)
{
    if (!is_small(old))
        m->large -= old;
    return block;
}

/* From one size to another, where one of them is small. To become smaller must not fail
 * (lua_Alloc): then the block stays, and is kept as one of its new size. */
static void *memory_move(struct lua_memory *m, void *block, size_t old, size_t size)
{
    if (is_small(old) && is_small(size) && class_of(old) == class_of(size))
        return block;
    void *new = memory_take(m, size);
    if (!new)
        return size < old ? memory_leave(m, block, old) : NULL;
    memcpy(new, block, old < size ? old : size);
    memory_give(m, block, old);
    return new;
}

static int memory_has_room(struct lua_memory *m, ptrdiff_t more, size_t size)
{
    if (more <= m->room || more <= 0)
        return 1;
    m->refused = size;
    return 0;
}

static void *memory_resize(struct lua_memory *m, void *block, size_t old, size_t size)
{
    ptrdiff_t more = (ptrdiff_t)(size - old);
    if (!memory_has_room(m, more, size))
        return NULL;
    void *new = is_small(old) || is_small(size) ? memory_move(m, block, old, size)
                                                : large_resize(m, block, old, size);
    if (new)
        m->room -= more;
    return new;
}

static void *memory_new(struct lua_memory *m, size_t size)
{
    if (!memory_has_room(m, (ptrdiff_t)size, size))
        return NULL;
    m->room -= (ptrdiff_t)size;
    void *new = memory_take(m, size);
    if (!new)
        m->room += (ptrdiff_t)size;
    return new;
}

/* lua_Alloc */
static void *memory_alloc(void *arg, void *block, size_t old, size_t size)
{
    struct lua_memory *m = arg;
    if (!block)
        return size ? memory_new(m, size) : NULL;
    if (size)
        return memory_resize(m, block, old, size);
    m->room += (ptrdiff_t)old;
    memory_give(m, block, old);
    return NULL;
}

/* -- the limit ----------------------------------------------------------------------- */

static struct lua_memory *memory_of(lua_State *L)
{
    void *arg;
    return lua_getallocf(L, &arg) == memory_alloc ? arg : NULL;
}

static size_t memory_used(const struct lua_memory *m)
{
    return (size_t)(m->limit + m->reserve - m->room);
}

void lua_memory_limit(lua_State *L, size_t bytes)
{
    struct lua_memory *m = memory_of(L);
    if (!m)
        return;
    ptrdiff_t limit = bytes ? (ptrdiff_t)bytes : PTRDIFF_MAX / 2;
    m->room += limit - m->limit;
    m->limit = limit;
}

size_t lua_memory_used(lua_State *L)
{
    const struct lua_memory *m = memory_of(L);
    return m ? memory_used(m) : 0;
}

size_t lua_memory_small(lua_State *L)
{
    const struct lua_memory *m = memory_of(L);
    return m ? memory_used(m) - m->large : 0;
}

void lua_memory_use_reserve(lua_State *L, int on)
{
    struct lua_memory *m = memory_of(L);
    if (!m)
        return;
    ptrdiff_t reserve = on ? RESERVE : 0;
    m->room += reserve - m->reserve;
    m->reserve = reserve;
}

int lua_memory_explain(lua_State *L, char *text, size_t size)
{
    struct lua_memory *m = memory_of(L);
    if (!m || !m->refused)
        return 0;
    snprintf(text, size,
             "not enough memory for %zu bytes: %zu of %td are in use (memory_limit)",
             m->refused, memory_used(m), m->limit);
    m->refused = 0;
    return 1;
}

/* -- the state ----------------------------------------------------------------------- */

/* An error outside of protected calls: there are none, but for want of memory. */
static int on_panic(lua_State *L)
{
    const char *message = lua_tostring(L, -1);
    log_error("Lua cannot go on: %s", message ? message : "error without a text");
    return 0; /* and Lua aborts */
}

lua_State *lua_memory_open(void)
{
    struct lua_memory *m = alloc_zero(sizeof *m);
    m->room = m->limit = PTRDIFF_MAX / 2;
    lua_State *L = lua_newstate(memory_alloc, m);
    if (L)
        lua_atpanic(L, on_panic);
    else
        free(m);
    return L;
}

void lua_memory_close(lua_State *L)
{
    void *arg;
    lua_getallocf(L, &arg);
    lua_close(L);
    struct lua_memory *m = arg;
    for (struct slab *slab; (slab = m->slabs);) {
        m->slabs = slab->next;
        ASAN_UNPOISON_MEMORY_REGION(slab, SLAB);
        free(slab);
    }
    free(m);
}
