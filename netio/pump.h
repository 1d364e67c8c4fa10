/*
 * pump.h - what keeper.c and pump.c offer each other (theory in pump.c).
 */
#ifndef NETIO_PUMP_H
#define NETIO_PUMP_H

#include "netio/internal.h"

/* From a process that gives one of its connections a pump; with our end of the pair and of the gate. */
struct pump_message {
	uint32_t type; /* MESSAGE_PUMP */
	uint32_t take; /* the sender's own part in it ends when the pump starts */
	uint64_t cookie;
};

/* From a process that wants to do something with a connection that has pumps; with a socket for the answer.
 */
struct turn_message {
	uint32_t type; /* MESSAGE_TURN */
	uint32_t kind;
	uint64_t cookie;
};

/* Pumps at work, or waiting for their exec. */
uint32_t pumps_live(void);
/*
 * Answer a message; takes the descriptors over. epfd: the keeper's epoll set, into
 * which they go with tags from PUMP_TAGS on; from: the sender's process slot.
 */
#define PUMP_TAGS (1ull << 32)
void pump_begin(struct netio *n, int epfd, const struct pump_message *m, const int fds[3], ref from);
void pump_turn(const struct turn_message *m, int fd);
/* The two ends of a pump; [0] is the heir's, with the byte in it that stays in the queue. */
int pump_pair(int pair[2]);
/* A pump for somebody who has the heir's end already; takes our end over if it succeeds. */
int pump_stranger(struct netio *n, int epfd, ref object, int pair);
/* The keeper becomes a process of the stack, with a wait set; until nothing needs it. */
int pumps_open_up(struct netio *n, int epfd);
ref pumps_evset(void);
/* A pump between the next connection of a listener and a TCP socket of the kernel; takes fd over if it
 * succeeds. */
int pump_accepted(struct netio *n, ref listener, int fd);
/* Of a keeper that was killed: what it had a part in is closed. */
void pumps_recover(struct netio *n);
/* The process is gone: nothing can be taken from it any more. */
void pumps_forget_process(ref proc);
/*
 * While there are pumps this is how the keeper sleeps: for frames, timers,
 * connections and its epoll set, until deadline. Then it takes the events of
 * that set, those of pumps to pumps_event(), and lets them move bytes.
 */
void pumps_sleep(nsec deadline);
void pumps_event(uint64_t tag, uint32_t events);
void pumps_run(void);

#endif
