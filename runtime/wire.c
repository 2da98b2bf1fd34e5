#include "wire.h"

#include "alloc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum field_type { TEXT, U32, U64, SECONDS };

/* One table for both directions; the version comes first and must agree. */
static const struct field {
    const char *name;
    enum field_type type;
    size_t at;
} fields[] = {
#define FIELD(name, type)                                 \
    {                                                     \
#name, type, offsetof(struct wire_settings, name) \
    }
    FIELD(pool, TEXT),
    FIELD(pools, TEXT),
    FIELD(workers, U32),
    FIELD(app, TEXT),
    FIELD(lua, TEXT),
    FIELD(number, U32),
    FIELD(cell, U32),
    FIELD(generation, U64),
    FIELD(log_level, U32),
    FIELD(read_limit, U32),
    FIELD(write_limit, U32),
    FIELD(state_limit, U32),
    FIELD(max_requests, U32),
    FIELD(memory_limit, U64),
    FIELD(memory_soft_limit, U64),
    FIELD(idle_timeout, SECONDS),
    FIELD(handler_timeout, SECONDS),
    FIELD(drain, SECONDS),
    FIELD(dev, U32),
    FIELD(survive, U32),
#undef FIELD
};

enum { FIELDS = sizeof fields / sizeof *fields, ARGS = FIELDS + 3 };

int wire_parse(const char *data, size_t len, struct wire_header *h, const char **text,
               size_t *text_len)
{
    if (len < sizeof *h)
        return -1;
    memcpy(h, data, sizeof *h);
    *text = data + sizeof *h;
    *text_len = len - sizeof *h;
    return 0;
}

/* FNV-1a, mixed once more: its upper bits hardly know the last byte. */
uint64_t wire_topic_bit(const char *topic, size_t len)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)topic[i]) * 1099511628211u;
    hash = (hash ^ hash >> 32) * 11400714819323198485u;
    return (uint64_t)1 << (hash >> 58);
}

static char *field_write(const struct wire_settings *s, const struct field *f)
{
    const char *p = (const char *)s + f->at;
    switch (f->type) {
    case U32:
        return alloc_format("%s=%" PRIu32, f->name, *(const uint32_t *)p);
    case U64:
        return alloc_format("%s=%" PRIu64, f->name, *(const uint64_t *)p);
    case SECONDS:
        return alloc_format("%s=%.17g", f->name, *(const double *)p);
    default:
        return alloc_format("%s=%s", f->name, *(char *const *)p);
    }
}

static void field_read(struct wire_settings *s, const struct field *f, const char *value)
{
    char *p = (char *)s + f->at;
    switch (f->type) {
    case U32:
        *(uint32_t *)p = (uint32_t)strtoul(value, NULL, 10);
        break;
    case U64:
        *(uint64_t *)p = strtoull(value, NULL, 10);
        break;
    case SECONDS:
        *(double *)p = strtod(value, NULL);
        break;
    default:
        *(char **)p = alloc_string(value);
    }
}

/* "version" is no field: it must be known before any field is read. */
static char *version_write(void)
{
    return alloc_format("version=%d", WIRE_VERSION);
}

char **wire_settings_write(const struct wire_settings *s, const char *argv0)
{
    char **argv = alloc_array(NULL, ARGS + 1, sizeof *argv);
    argv[0] = alloc_string(argv0);
    argv[1] = alloc_string("worker");
    argv[2] = version_write();
    for (int i = 0; i < FIELDS; i++)
        argv[3 + i] = field_write(s, &fields[i]);
    argv[ARGS] = NULL;
    return argv;
}

void wire_settings_free_args(char **argv)
{
    for (int i = 0; i < ARGS; i++)
        free(argv[i]);
    free(argv);
}

static const char *field_match(const struct field *f, const char *arg)
{
    size_t n = strlen(f->name);
    return strncmp(arg, f->name, n) == 0 && arg[n] == '=' ? arg + n + 1 : NULL;
}

int wire_settings_read(struct wire_settings *s, int argc, char **argv)
{
    char *version = version_write();
    int known = argc == 1 + FIELDS && strcmp(argv[0], version) == 0;
    free(version);
    *s = (struct wire_settings){0};
    for (int i = 0; known && i < FIELDS; i++) {
        const char *value = field_match(&fields[i], argv[1 + i]);
        if (value)
            field_read(s, &fields[i], value);
        else
            known = 0;
    }
    if (!known)
        wire_settings_clear(s);
    return known ? 0 : -1;
}

void wire_settings_clear(struct wire_settings *s)
{
    free(s->pool);
    free(s->pools);
    free(s->app);
    free(s->lua);
    *s = (struct wire_settings){0};
}
