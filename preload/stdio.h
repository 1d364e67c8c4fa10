/*
 * stdio.h - FILE streams on stack sockets: what init.c needs of stdio.c.
 */
#ifndef PRELOAD_STDIO_H
#define PRELOAD_STDIO_H

#include <stdbool.h>

/* Give libc's streams our read, write and close, once. False: it cannot be done (logged); only fdopen()
 * helps. */
bool stdio_redirect(void);
/* At the first stack socket: what stdio_at_end() needs memory for. */
void stdio_prepare_end(void);
/* The process ends: make this call after libc flushed all streams; at once where that moment cannot be had.
 */
/* `early` at once, if that cannot be had. */
void stdio_at_end(void (*last)(void), void (*early)(void));

#endif
