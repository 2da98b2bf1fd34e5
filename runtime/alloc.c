#include "alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void alloc_failed(void)
{
    fputs("moonpool: out of memory\n", stderr);
    abort();
}

static void *checked(void *p)
{
    if (!p)
        alloc_failed();
    return p;
}

void *alloc(size_t size)
{
    return checked(malloc(size ? size : 1));
}

void *alloc_zero(size_t size)
{
    return checked(calloc(1, size ? size : 1));
}

void *alloc_array(void *old, size_t n, size_t size)
{
    return checked(reallocarray(old, n ? n : 1, size));
}

char *alloc_string(const char *s)
{
    return checked(strdup(s));
}

char *alloc_format(const char *format, ...)
{
    va_list args;
    char *s = NULL;
    va_start(args, format);
    int n = vasprintf(&s, format, args);
    va_end(args);
    return checked(n < 0 ? NULL : s);
}
