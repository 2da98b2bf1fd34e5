/*
 * alloc: memory or death. Running out of memory is the one failure that no caller
 * handles: every function here returns memory or ends the process with a sentence.
 * What comes from here is given back with free().
 */
#ifndef MOONPOOL_ALLOC_H
#define MOONPOOL_ALLOC_H

#include <stddef.h>

void *alloc(size_t size);                            /* uninitialised */
void *alloc_zero(size_t size);                       /* zeroed */
void *alloc_array(void *old, size_t n, size_t size); /* realloc of n * size, checked */
char *alloc_string(const char *s);                   /* a copy of s */
__attribute__((noreturn)) void alloc_failed(void);   /* for others' allocators */
char *alloc_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
