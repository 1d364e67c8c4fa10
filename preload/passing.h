/* passing.h - the private side of passing.c: descriptors in messages. */
#ifndef PRELOAD_PASSING_H
#define PRELOAD_PASSING_H

#include "preload/preload.h"

#define PASSING_FDS 253 /* SCM_MAX_FD */

/* A message with SCM_RIGHTS in which something of ours is passed. */
struct passing_plan {
	struct msghdr m;
	void *pages;
	size_t bytes;
	int saved_errno, count;
	int token[PASSING_FDS];
	_Alignas(struct cmsghdr) uint8_t few[512];
};

/* Is there something of ours in it? */
bool passing_concerns(const struct msghdr *m);
/* The message to send instead, in p->m; 0 or a negative errno. Then, whatever became of it, passing_end(). */
int passing_begin(struct passing_plan *p, const struct msghdr *m);
void passing_end(void *plan);
/* After pidfd_getfd(): a connection, a listener or a set of another process becomes ours, too. */
void passing_fetched(int fd);
/* After recvmsg(): what came becomes ours. */
void passing_received(const struct msghdr *m, int flags);
/* Is this FD_KERNEL number a TCP socket of which the table knows nothing, and now does? */
bool passing_found(int fd);

#endif
