/* placeholder.h - the private side of placeholder.c. */
#ifndef PRELOAD_PLACEHOLDER_H
#define PRELOAD_PLACEHOLDER_H

#include "preload/preload.h"

/* The last number of a connection closes: keep its placeholder for the next one. True: the number is closed.
 */
bool placeholder_recycle(int fd);
/* O_NONBLOCK, O_ASYNC, its owner and signal: properties of the description that dup3() would lose. */
void placeholder_flags(int from, int to);
/* Once a stack is attached. */
void placeholder_begin(void);
void placeholder_before_fork(void);
void placeholder_parent_after_fork(void);
void placeholder_after_fork(void);

#endif
