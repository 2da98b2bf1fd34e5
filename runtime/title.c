/*
 * The kernel shows the memory in which the arguments were handed over (proc(5), cmdline);
 * the environment follows it directly, so moving that away gives a title more room. The
 * program's own argv strings are overwritten: title_init keeps nothing of them, so
 * whoever wants an argument after title_set copies it first.
 */
#include "title.h"

#include "alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static struct {
    char *start;
    size_t size;
    char **environment; /* the moved one; setenv(3) may replace environ, not these */
    char *strings;
} area;

static char *end_of(char *s)
{
    return s + strlen(s) + 1;
}

/* The strings lie one after the other; the first that does not ends the area. */
static void area_extend(char **strings)
{
    for (; *strings && *strings == area.start + area.size; strings++)
        area.size = (size_t)(end_of(*strings) - area.start);
}

static size_t environment_size(size_t *count)
{
    size_t size = 0;
    for (*count = 0; environ[*count]; ++*count)
        size += strlen(environ[*count]) + 1;
    return size;
}

static void environment_move(void)
{
    size_t n;
    char *to = area.strings = alloc(environment_size(&n));
    area.environment = alloc_array(NULL, n + 1, sizeof *area.environment);
    for (size_t i = 0; i < n; i++) {
        area.environment[i] = to;
        to = stpcpy(to, environ[i]) + 1;
    }
    area.environment[n] = NULL;
    environ = area.environment;
}

void title_init(int argc, char **argv)
{
    if (argc < 1)
        return;
    area.start = argv[0];
    area_extend(argv);
    area_extend(environ);
    environment_move();
}

void title_set(const char *format, ...)
{
    va_list args;
    if (!area.start)
        return;
    memset(area.start, 0, area.size);
    va_start(args, format);
    vsnprintf(area.start, area.size, format, args);
    va_end(args);
    prctl(PR_SET_NAME, "moonpool");
}
