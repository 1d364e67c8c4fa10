/* async.h - the private side of async.c. */
#ifndef PRELOAD_ASYNC_H
#define PRELOAD_ASYNC_H

#include "preload/preload.h"

/* O_ASYNC of the description was set or cleared: begin or end to send its signals. 0 or a negative errno. */
int async_update(ref d);
void async_before_fork(void);
void async_parent_after_fork(void);
void async_after_fork(void);

#endif
