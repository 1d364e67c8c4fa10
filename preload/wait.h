/*
 * wait.h - what wait.c, poll.c, epoll.c, signal.c and fdtable.c (SO_LINGER) share: one
 * thread's sleep.
 *
 * Place in the flow: private to these files, over netio.h's wait sets.
 */
#ifndef PRELOAD_WAIT_H
#define PRELOAD_WAIT_H

#include "preload/preload.h"

/* A socket that a thread wants to sleep on, and for which SOCK_* bits. */
struct want {
	ref sock;
	uint32_t mask;
};

/*
 * Under the lock: make the watches of this thread's set exactly want[0..n).
 * What is there from the last sleep stays. 0 or -ENOMEM.
 */
int thread_watch(struct stack_cx *cx, const struct want *want, int n);

/*
 * Sleep in ws, which the caller has published; with fds, beside them. The
 * caller is inside lib_enter() without the lock, and has registered
 * wait_cancelled(). 0: see *r; -EINTR: look at wait_interrupted().
 */
int wait_sleep(struct waitset *ws, struct pollfd *fds, uint32_t n, nsec deadline, const sigset_t *mask,
	       struct wait_result *r);

/* Let signals in that were put off; true if a handler ran since thread_marks.ran was `before`. */
bool wait_interrupted(uint32_t before);

/* Let in the signals that mask does not block, for a moment. -EINTR if there was one, else 0. */
int wait_mask(const sigset_t *mask);

/* Clean-up for pthread_cleanup_push(): arg is the waitset. */
void wait_cancelled(void *ws);

/*
 * References held over a sleep. A handler that leaves by siglongjmp() never
 * returns to the sleeper; the next hold of this thread finds what was left
 * behind (its frame is gone from the stack) and lets go of it.
 * Returns an index for wait_unhold(), which does not call `release`.
 */
int wait_hold(void *frame, void (*release)(void *arg), void *arg);
void wait_unhold(int index);

/* Rises when a fork() made the wait sets of this process somebody else's. */
uint32_t wait_generation(void);

/*
 * This thread was elected for a connection (its watch is EXCLUSIVE) but cannot
 * take it: a handler runs over it, or it is cancelled. Elect another.
 */
void wait_pass_on(void);

/* The ready bits of a description in poll's terms, without the lock's kernel half. Under the lock. */
uint32_t description_level(struct stack_cx *cx, const struct description *d);

/* Memory that is not malloc's (the calls are async-signal-safe). NULL: none. */
void *pages_get(size_t bytes);
void pages_put(void *p, size_t bytes);

/* poll.c, for poll_plain.c: the next number > fd that is in any of the sets, or nfds. */
int select_next(int fd, int nfds, const fd_set *r, const fd_set *w, const fd_set *x);

/* epoll.c, for poll.c: fd is an epoll set with stack members: make the kernel's poll of it tell the truth. */
void epoll_expose(int fd);
/* Bring the bell of such a set (and of what it nests) in line with its ready list. */
void epoll_settle(int fd);

/* For wait_forked() */
void epoll_before_fork(void);
void epoll_parent_after_fork(void);
void epoll_forked(bool shared);
/* For wait_hold(), and for a child whose thread is in such a call. */
void epoll_release_held(void *set);
void epoll_call_in_progress(void *set);
void signals_forked(void);

#endif
