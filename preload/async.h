/* async.h - the private side of async.c. */
#ifndef PRELOAD_ASYNC_H
#define PRELOAD_ASYNC_H

#include <signal.h>

#include "preload/preload.h"

/* O_ASYNC of the description was set or cleared: begin or end to send its signals. 0 or a negative errno. */
int async_update(ref d);
/* F_SETOWN, F_SETSIG or one of their kin was called on fd. 0 or a negative errno. */
int async_owner_set(int fd);
/* Was it ever, on a kernel socket that may come to the stack? */
bool async_owners_used(void);
/* A signal with SI_SIGIO arrived: give it the code that the kernel's has. */
void async_received(siginfo_t *info);
void async_before_fork(void);
void async_parent_after_fork(void);
void async_after_fork(void);

#endif
