/*
 * Small blocks are cut from slabs. A size is a class: a multiple of STEP. Lua says how
 * big a block is that it gives back, so blocks need no headers. Without AddressSanitizer
 * the ASAN macros are empty; with it, what is not in use is poison.
 */
#include "lua_memory.h"

#include "alloc.h"
#include "log.h"

#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>

enum {
    STEP = 16, /* also the alignment of malloc's */
    CLASSES = LUA_MEMORY_SMALL / STEP,
    SLAB = 16384,
};

struct block {
    struct block *next;
};

struct slab {
    struct slab *next;
    _Alignas(STEP) char blocks[];
};

struct lua_memory {
    struct block *kept[CLASSES];
    struct slab *slabs;
    size_t left; /* bytes at the end of the first slab that were never used */
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

static void *memory_take(struct lua_memory *m, size_t size)
{
    return is_small(size) ? block_take(m, size) : malloc(size);
}

static void memory_give(struct lua_memory *m, void *block, size_t size)
{
    if (is_small(size))
        block_keep(m, block, size);
    else
        free(block);
}

/* From one size to another, where one of them is small. To become smaller must not fail
 * (lua_Alloc): then the block stays, and is kept as one of its new size. */
static void *memory_move(struct lua_memory *m, void *block, size_t old, size_t size)
{
    if (is_small(old) && is_small(size) && class_of(old) == class_of(size))
        return block;
    void *new = memory_take(m, size);
    if (!new)
        return size < old ? block : NULL;
    memcpy(new, block, old < size ? old : size);
    memory_give(m, block, old);
    return new;
}

/* lua_Alloc */
static void *memory_alloc(void *arg, void *block, size_t old, size_t size)
{
    struct lua_memory *m = arg;
    if (!block)
        return size ? memory_take(m, size) : NULL;
    if (size && (is_small(old) || is_small(size)))
        return memory_move(m, block, old, size);
    if (size)
        return realloc(block, size);
    memory_give(m, block, old);
    return NULL;
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
