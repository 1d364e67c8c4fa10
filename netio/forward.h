/*
 * forward.h - what keeper.c, pump.c and forward.c offer each other (theory in forward.c).
 */
#ifndef NETIO_FORWARD_H
#define NETIO_FORWARD_H

#include "netio/internal.h"

/* Events of watches with this bit in their data are a forwarder's. */
#define FORWARD_DATA (1ull << 32)

uint32_t forwards_live(void);
/* Processes came, went, or lost their hooks: which listeners has nobody but them? */
void forwards_update(struct netio *n, int epfd);
/* A connection waits in a listener, by the event's data. The lock is held; what is to do is done by run(). */
void forward_event(uint64_t data);
void forwards_run(void);
/* When forwards_run() has something to try again; NSEC_NEVER. */
nsec forwards_next(void);

#endif
