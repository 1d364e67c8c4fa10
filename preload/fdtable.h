/*
 * fdtable.h - the private side of the descriptor table: what socket.c and
 * process.c need beyond preload.h.
 */
#ifndef PRELOAD_FDTABLE_H
#define PRELOAD_FDTABLE_H

#include "preload/preload.h"

/* A fresh kernel TCP socket: undecided. v6: AF_INET6. */
void fd_install_tcp(int fd, bool v6);
bool fd_tcp_is_v6(int fd); /* also of a listener */
/* As fd_install(), for an undecided number: its options stay noted. */
int fd_decide(int fd, enum fd_kind kind, ref d);
/* The description behind a number that the kernel has, because another process decided so; REF_NONE. */
ref fd_left(int fd);
/* Options that the application set successfully: one bit per row of the option table (options_table.c). */
void fd_mark_option(int fd, uint32_t bit);
uint64_t fd_options(int fd);
/* True if the kernel socket is older than the last fork(): another process may hold it too. */
bool fd_maybe_shared(int fd);
/* Has a connection of the stack's this cookie? Holds nothing, for a child of vfork(). */
bool fd_stream_has(uint64_t cookie);
/* From now on it is: its number goes to another process. */
void fd_mark_shared(int fd);
/* FD_KERNEL from now on, by a decision: not a number of which this image knows nothing. */
void fd_decided(int fd);
bool fd_is_decided(int fd);
/* SO_COOKIE: the identity of the open socket; 0: not a socket. */
uint64_t cookie_of(int fd);
/* Every FD_TCP number of the same kernel socket, `fd` itself included. */
void fd_each_tcp_alias(int fd, void (*f)(int fd, void *arg), void *arg);

/*
 * dup2(from, to) of a stack socket, around the kernel's: swap_in makes `to` mean
 * what `from` means and returns what it meant; swap_end drops that, or puts it
 * back when the kernel refused.
 */
#define FD_SWAP_NONE UINT64_MAX
uint64_t fd_swap_in(int from, int to);
void fd_swap_end(int to, uint64_t before, bool done);

/* A description in the region with one reference and no number, under the lock; REF_NONE: no memory. */
ref description_new(struct stack_cx *cx, enum fd_kind kind, ref sock);

/* No number above it was ever installed; -1: none at all. */
int fd_highest(void);

/* A connection that this process closes: wait as SO_LINGER says (linger.c). Without the lock. */
void linger_wait(struct description *p);

/* Take back description_new(); the core socket stays. Under the lock. */
void description_discard(struct stack_cx *cx, ref d);

/* exec(): this process, in its new image, has a number of d. False: no memory. Under the lock. */
bool description_adopt(ref d, ref hold);

/*
 * A description that another process passed to us, which somebody holds: a part in it and a
 * reference for the caller. False: no memory. Under the lock.
 */
bool description_take(struct stack_cx *cx, ref d);
/* Its placeholder may be another process's from now on. */
void description_shared(ref d);

/* fork(): where to note the child's hold of d (netio_before_fork), NULL: the child does not inherit it. */
ref *fdtable_inherit(ref d);
/* In the child: its own holds, the numbers alone as references. */
void fdtable_after_fork(void);
/* In the child: a call of this thread, which goes on when the handler that forked returns, holds d. */
void fd_call_in_progress(ref d);
/* In a child without a part in the stack: connections are lost, the rest is the kernel's. Async-signal-safe.
 */
void fdtable_lost(void);
/* The same where other threads may be inside calls on them: these see a stack that failed. */
void fdtable_severed(void);
/* The region's base, once attached. From here on every number is looked up. */
void fdtable_set_base(uint8_t *base);

#endif
