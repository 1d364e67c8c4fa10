/*
 * undecided.h - sockets that several processes have before it is decided what they are.
 */
#ifndef PRELOAD_UNDECIDED_H
#define PRELOAD_UNDECIDED_H

#include "preload/preload.h"

/* Number fd (FD_TCP) is about to be another process's, too. attach: makes the stack if there is none. */
void undecided_share(int fd, bool attach);
/* The same with its options, inside lib_enter(), with the lock; attached. False: no memory. */
struct option_values;
bool undecided_share_now(int fd, const struct option_values *v);
/* All of them; passed: only those that exec() passes on. */
void undecided_share_all(bool attach, bool passed);
/* Another process, or we, decided for the kernel: so it is everywhere. The caller holds d. */
void undecided_leave(ref d);
/* Then, when the kernel has its call: who sleeps over it in another process moves to the kernel's sets, too.
 */
void undecided_tell(void *description);
/* The memberships of a number that has left, and its part in d, go. */
void undecided_gone(int fd);
/* A program without hooks listens on it: it has left. */
bool undecided_lost(int fd, ref d);
/* An option that the stack has not: an undecided socket may have it, and leaves. Else -ENOPROTOOPT. */
int undecided_set_option(int fd, ref d, int level, int name, const void *value, socklen_t len);
/* connect() on one that does not listen. */
int undecided_connect(int fd, ref d, const struct sockaddr *sa, socklen_t len);

/* The kernel half that an early listener must have in this process now. */
void undecided_half_find(int fd, ref d);
static inline void undecided_half(int fd, ref d)
{
	if (__builtin_expect(description_of(d)->early, 0) && !atomic_load(&local_of(d)->half_known))
		undecided_half_find(fd, d);
}
/* Such a member of an epoll set needs it before it listens: nobody could add it for who sleeps. */
void undecided_half_early(int fd, ref d);

/* Around the decision, inside lib_enter(): no number changes sides twice. */
void undecided_lock(void);
void undecided_unlock(void);
void undecided_after_fork(void);

#endif
