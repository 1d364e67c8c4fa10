/*
 * preload.h - what preload's files offer each other.
 *
 * Theory of operation. symbols.h lists every libc call that we export; the
 * calls_*.c files hold one thin wrapper each: look the descriptor up
 * (fdtable.c), pass it on to libc if it is the kernel's, else call the function
 * of the same meaning in socket.c / poll.c / epoll.c, then turn the negative
 * errno into -1 and errno (the only place where errno is written; on success it
 * is left alone).
 *
 *   write(fd) -> calls_io.c -> fd_stack(fd) -> socket_send() -> netio_enter ->
 *   sock_send (core) -> netio_leave        [ -> socket_wait() when it must block ]
 *
 * Place in the flow: preload -> netio.h -> stack.h. The composition root is init.c.
 */
#ifndef PRELOAD_H
#define PRELOAD_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/socket.h>

#include "utcp/netio.h"
#include "utcp/pool.h"
#include "utcp/stack.h"
#include "utcp/sys.h"

#define UTCP_EXPORT __attribute__((visibility("default")))
/* A variable that is reached without the GOT: -fvisibility says nothing of declarations. */
#define UTCP_OURS __attribute__((visibility("hidden")))
/*
 * Read by wrappers before anything of ours lives. Together in .data, whose page the loader has
 * touched already: each page of .bss more costs every program that is started 1 % of its start.
 */
#define UTCP_EARLY __attribute__((section(".data.early")))

/* ------------------------------------------------------------------ process (init.c) */

/*
 * The stack of this process. NULL until the first stack socket. Made by
 * stack_attach(); a fork()ed child shares its parent's. If it could get no part
 * in it, it has NULL again and `process.forked` set.
 */
extern UTCP_OURS struct netio *_Atomic the_stack;
/* Process-private facts (process.c). */
struct process_state {
	_Atomic int pid;	     /* whose address space this is: a vfork child has another getpid() */
	_Atomic bool forked;	     /* this fork() child could get no part in its parent's stack */
	bool child;		     /* the stack was attached by a parent: it tells the counters */
	_Atomic bool headless;	     /* the main thread has ended, others go on */
	_Atomic bool finished;	     /* the exit drain ran: stack descriptors are dead */
	_Atomic int ender;	     /* the thread that ended it so, 0: none (process_ends_here()) */
	_Atomic bool sealed;	     /* in a sandbox that lets no stack work (seal.c) */
	_Atomic uint32_t fork_count; /* fork()s so far: a socket older than the last may be shared */
};
extern UTCP_OURS struct process_state process;
/* True in a vfork() child, which shares our memory but not our descriptors. */
bool process_is_vfork_child(void);
/*
 * To be called by who finds `finished`, with no lock. In another thread than the one that ends the
 * process it does not return: the kernel would have killed that thread by now.
 */
void process_ends_here(void);
/* Attach if needed. 0 or a negative errno; logs one line on the first failure. */
int stack_attach(void);
/* The same ahead of need, by a process that is about to lose the right to: if it fails, nothing is said yet.
 */
void stack_attach_early(void);
/* For what may never need it: says nothing if it fails, and tries it once. */
bool stack_attach_quietly(void);

/*
 * Inside-the-library marker for signal deferral (signal.c). Nestable. Every
 * wrapper that takes the lock is bracketed. While depth is not zero, a signal
 * is put off until lib_leave(), except while the thread sleeps in a waitset.
 */
struct thread_marks {
	int depth;		 /* wrappers entered */
	volatile int deferred;	 /* a signal was put off: all are blocked, saved_mask has what was before */
	volatile uint32_t ran;	 /* handlers of the application that ran in this thread */
	volatile int no_restart; /* one of them lacked SA_RESTART */
	struct waitset *armed;	 /* about to sleep in it: a signal rings its bell */
	sigset_t saved_mask;
	uint8_t anywhere;	 /* the application lets this thread be cancelled at any instruction */
	uint8_t cancel_type;	 /* what it asked for last */
	uint32_t cancel_put_off; /* nested cancel_put_off() */
};
extern __thread struct thread_marks thread_marks __attribute__((tls_model("initial-exec")));
/* Restore the mask: what was put off arrives now (signal.c). */
void signals_release(void);
/*
 * PTHREAD_CANCEL_ASYNCHRONOUS: between the two this thread, which holds something
 * of the library's, is cancelled where it sleeps, or by the second (calls_process.c).
 */
void cancel_put_off(void);
void cancel_let_in(void);
/* The same around a whole call; only threads of that type pay more than a test. */
#define UNCANCELLED(expr)                                                                                    \
	({                                                                                                   \
		bool anywhere_ = __builtin_expect(thread_marks.anywhere, 0);                                 \
		if (anywhere_)                                                                               \
			cancel_put_off();                                                                    \
		__typeof__(expr) answer_ = (expr);                                                           \
		if (anywhere_)                                                                               \
			cancel_let_in();                                                                     \
		answer_;                                                                                     \
	})
static inline void lib_enter(void)
{
	if (__builtin_expect(thread_marks.anywhere, 0))
		cancel_put_off();
	thread_marks.depth++;
	atomic_signal_fence(memory_order_seq_cst);
}
static inline void lib_leave(void)
{
	atomic_signal_fence(memory_order_seq_cst);
	thread_marks.depth--;
	atomic_signal_fence(memory_order_seq_cst);
	if (__builtin_expect(thread_marks.deferred && !thread_marks.depth, 0))
		signals_release();
	if (__builtin_expect(thread_marks.anywhere, 0))
		cancel_let_in();
}

/* ------------------------------------------------------------------ descriptors (fdtable.c) */

enum fd_kind {
	FD_KERNEL = 0, /* not ours: pass through */
	FD_TCP,	       /* a kernel TCP socket whose fate is undecided */
	FD_STREAM,     /* a connection (or attempt) on the stack; the number holds a placeholder */
	FD_LISTENER,   /* a listener on the stack and in the kernel */
	FD_EPOLL,      /* an epoll descriptor of the application; shadowed once a stack socket joins */
	FD_LOST	       /* in a child that got no part in its parent's stack: a connection out of reach */
};

/*
 * An open file description: what dup() and fork() share. Lives in the region
 * (class DESCRIPTION). All fields under the stack lock unless noted. It begins
 * as struct shared_object: `holders` counts processes; what one process counts
 * is in its struct local.
 */
struct description {
	struct pool_head head;
	uint32_t holders;
	ref sock;			 /* core socket */
	uint64_t cookie;		 /* SO_COOKIE of the placeholder or listener */
	uint32_t pumps;			 /* processes have it that no hook reaches (netio_turn) */
	_Atomic uint8_t kind;		 /* FD_STREAM or FD_LISTENER; FD_KERNEL: it has left (undecided.c) */
	_Atomic uint8_t nonblock, async; /* O_NONBLOCK, O_ASYNC: read without the lock */
	_Atomic uint8_t owned;		 /* its file got an owner or a signal, at least once */
	uint8_t v6;			 /* AF_INET6 socket: addresses are shown v4-mapped */
	uint8_t v6only;
	uint8_t connect_pending;	     /* connect() not yet collected */
	uint8_t broken;			     /* the stack failed (device gone): every call answers ENETDOWN */
	_Atomic uint64_t rcvtimeo, sndtimeo; /* ns; 0: none */
	int32_t rcvlowat;		     /* SO_RCVLOWAT, at least 1 */
	uint32_t sent_undriven;		     /* bytes sent since the device was last looked at */
	_Atomic uint8_t kernel_turn;	     /* a listener's fairness between its two halves */
	_Atomic uint8_t inq;		     /* TCP_INQ: recvmsg() says what is left; read without the lock */
	_Atomic uint8_t undecided;	     /* a FD_LISTENER that has not listened yet (undecided.c) */
	uint8_t early;	     /* it was one once: its kernel half is duplicated when it is needed */
	uint16_t local_port; /* of the last connect(): getsockname() shows it after a failure, too */
	uint64_t hints_set;  /* options recorded for reading back (options.c) */
	int32_t hints[16];
};
_Static_assert(sizeof(struct description) <= 256, "struct description outgrew its pool class");
_Static_assert(offsetof(struct description, holders) == offsetof(struct shared_object, holders) &&
		   offsetof(struct description, sock) == offsetof(struct shared_object, sock) &&
		   offsetof(struct description, cookie) == offsetof(struct shared_object, cookie) &&
		   offsetof(struct description, pumps) == offsetof(struct shared_object, pumps),
	       "struct description does not begin as struct shared_object");

/* What this process has of a description. In private memory: fork() copies it, and it dies with us. */
struct local {
	_Atomic uint32_t refs; /* numbers + calls in progress that hold it; 0: none of ours, or being freed */
	_Atomic uint32_t numbers; /* numbers only: 0 means closed; calls in progress keep refs */
	ref hold, child_hold;	  /* our part in it (netio_hold); the next forked child's */
	int kernel_fd;		  /* a listener's kernel half: a protected duplicate of ours, so that
				     no number of the application can vanish under a wait; -1: none */
	uint32_t forks;		  /* process.fork_count when it was made */
	_Atomic bool half_known;  /* an early listener's: kernel_fd is as it must be */
};
#define REFS_AT_END (1u << 31) /* a flag in refs: the end of the process has closed it (process.c) */
/* Of a description that this process has, or had a moment ago. */
struct local *local_of(ref d);

/* There is, or was, a stack: until then no number is a stack's, whatever the table says. */
extern UTCP_OURS _Atomic bool fd_stack_seen;
/*
 * What is fd? Lock-free; unknown or out-of-range numbers are FD_KERNEL. The table
 * says nothing of numbers from fd_limit on: 0 in a program that has made no TCP
 * socket and no epoll set; every number once there is a stack.
 */
extern UTCP_OURS _Atomic uint32_t fd_limit;
#define FD_NUMBERS    (1u << 30)
#define FD_PAGE_BITS  14
#define FD_PAGE_COUNT (FD_NUMBERS >> FD_PAGE_BITS)
#define FD_PAGE_SIZE  (1u << FD_PAGE_BITS)
struct fd_entry {
	_Atomic uint64_t word; /* fdtable.c; the kind is in bits 32 to 35 */
	_Atomic uint64_t options;
};
extern UTCP_OURS _Atomic(struct fd_entry *) fd_pages[FD_PAGE_COUNT];
static inline bool fd_beyond(int fd)
{
	return __builtin_expect((uint32_t)fd >= atomic_load_explicit(&fd_limit, memory_order_relaxed), 1);
}
/* A listener's number: what has become of it since, perhaps in another process (undecided.c). */
enum fd_kind fd_kind_now(uint64_t word);
static inline enum fd_kind fd_kind(int fd)
{
	struct fd_entry *page;
	enum fd_kind kind;

	if (fd_beyond(fd))
		return FD_KERNEL;
	page = atomic_load_explicit(&fd_pages[(uint32_t)fd >> FD_PAGE_BITS], memory_order_acquire);
	if (!page)
		return FD_KERNEL;
	page += (uint32_t)fd & (FD_PAGE_SIZE - 1);
	uint64_t word = atomic_load_explicit(&page->word, memory_order_relaxed);
	kind = (enum fd_kind)(word >> 32 & 15);
	return __builtin_expect(kind == FD_LISTENER, 0) ? fd_kind_now(word) : kind;
}
/*
 * For a call on a stack descriptor: its description with a reference held
 * (close() in another thread cannot free it), or REF_NONE if fd is the kernel's.
 * The number may be reused meanwhile: the description is what counts.
 */
ref fd_hold(int fd);
void fd_release(ref description);
void fd_release_held(void *description); /* for wait_hold() */
static inline struct description *description_at(const struct stack_cx *cx, ref d)
{
	return (struct description *)pool_at(cx, d);
}
/* The description without the lock (the region's base never moves within a process). */
struct description *description_of(ref d);
/* Bookkeeping after the kernel call succeeded. */
int fd_install(int fd, enum fd_kind kind, ref description); /* also for FD_TCP (REF_NONE) and FD_EPOLL */
void fd_forget(int fd);					    /* the number is free or the kernel's now */
/* The kernel gave this number out just now: what the table may still say of it is stale (calls_number.c). */
void fd_stale(int fd);
static inline void fd_fresh(int fd)
{
	if (__builtin_expect(fd_kind(fd) != FD_KERNEL, 0))
		fd_stale(fd);
}
/* After dup*(from) gave `to`: `to` means what `from` means. */
void fd_copy(int from, int to);
/* Every number of this process that holds description d; calls f for each. */
void fd_each_of(ref d, void (*f)(int fd, void *arg), void *arg);
/* Close bookkeeping for a number: may drop the last reference and close the core socket. Call before the
 * kernel's close(). */
void fd_closing(int fd);

/* ------------------------------------------------------------------ sockets (socket.c): negative errno */
int64_t socket_recv(int fd, ref d, const struct iovec *iov, int iovcnt, int flags);
int64_t socket_send(int fd, ref d, const struct iovec *iov, int iovcnt,
		    int flags);					      /* raises SIGPIPE itself */
int socket_connect(int fd, const struct sockaddr *sa, socklen_t len); /* FD_TCP and FD_STREAM */
int socket_listen(int fd, int backlog);				      /* FD_TCP and FD_LISTENER */
int socket_accept(int fd, ref d, struct sockaddr *sa, socklen_t *len, int flags);
int socket_shutdown(ref d, int how);
int socket_get_option(int fd, ref d, int level, int name, void *value, socklen_t *len);
int socket_set_option(int fd, ref d, int level, int name, const void *value, socklen_t len);
int socket_names(ref d, bool peer, struct sockaddr *sa, socklen_t *len);
/* The other end of a connection, of one that is being made and of one that was reset; false: it has none. */
bool socket_peer(ref d, struct endpoint *peer);
int socket_ioctl(int fd, ref d, unsigned long request, void *arg);

/* ------------------------------------------------------------------ waiting (wait.c, poll.c, epoll.c) */

/* This thread's private waitset, made on first use. 0 or a negative errno. */
int thread_waitset(struct waitset **out);

/*
 * Block until socket `s` has one of `events` (SOCK_*; ERR and HUP always count), `deadline`, or a signal.
 * kernel_fd >= 0: the listener's kernel half is waited for too (POLLIN).
 * 0: look again; -EAGAIN: deadline passed; -EINTR / -ERESTART: interrupted by a handler without / with
 * SA_RESTART (the caller maps: restartable calls loop on -ERESTART). A cancellation point.
 */
int socket_wait(ref s, uint32_t events, int kernel_fd, nsec deadline);
/*
 * The caller of socket_wait() is inside lib_enter()/lib_leave(), without the
 * lock. After a cancellation the marks are reset here; what else the caller
 * holds (a description) it releases by its own pthread_cleanup_push().
 */

/* In a fork()ed child: the parent's wait sets are not ours; shared: the shadow sets are, else nothing is. */
void wait_before_fork(void);
void wait_parent_after_fork(void);
void wait_forked(bool shared);

/* memory.c. Can [p, p + len) be read? Answers without a fault (a cache, then a system call). */
bool memory_readable(const void *p, size_t len);
/* How many bytes of [p, p + len) can be written, from the front; to the end of the last good page. */
size_t memory_writable(void *p, size_t len);
/* Touches a byte of each page, so that no fault comes later; how many bytes can be used, from the front. */
size_t memory_touch(void *p, size_t len, bool write);

/* poll.c. fds may mix kernel, stack and epoll descriptors. deadline absolute. Count, or a negative errno. */
int stack_poll(struct pollfd *fds, nfds_t nfds, nsec deadline, const sigset_t *mask);
/* True if any of the numbers is a stack socket or an epoll set with stack members: otherwise pass straight to
 * libc. */
bool poll_concerns_stack(const struct pollfd *fds, nfds_t nfds);
/* fd_sets of any size (nfds counts). Count or a negative errno; the sets are written on success only. */
int stack_select(int nfds, fd_set *r, fd_set *w, fd_set *x, nsec deadline, const sigset_t *mask);
/* As poll_concerns_stack(), for select(). */
bool select_concerns_stack(int nfds, const fd_set *r, const fd_set *w, const fd_set *x);
/* Linux's select() writes the time that is left into its argument (NULL: nothing to do). */
void select_write_back(nsec deadline, struct timeval *left);

/*
 * poll_plain.c. Around libc's poll() or select(): the epoll sets among the
 * numbers, which may get their first stack member meanwhile. find: false, there
 * are none; else ask again whether the call concerns the stack, and forget
 * afterwards.
 */
#define POLL_SETS_MAX 16
struct poll_sets {
	uint32_t count, more;
	uint16_t bucket[POLL_SETS_MAX];
};
bool poll_has_set(const struct pollfd *fds, nfds_t n);
bool select_has_set(int nfds, const fd_set *r, const fd_set *w, const fd_set *x);
void poll_sets_note(struct poll_sets *p, int fd);
bool poll_sets_find(struct poll_sets *p, const struct pollfd *fds, nfds_t n);
bool select_sets_find(struct poll_sets *p, int nfds, const fd_set *r, const fd_set *w, const fd_set *x);
void poll_sets_forget(void *poll_sets);

/*
 * epoll.c. Answers for every pair (epfd, fd): hands on to the kernel what is the
 * kernel's. The ctl wrapper calls it whenever epfd is FD_EPOLL or fd is not FD_KERNEL.
 */
int epoll_shadow_ctl(int epfd, int op, int fd, struct epoll_event *ev);
int epoll_shadow_wait(int epfd, struct epoll_event *ev, int max, nsec deadline, const sigset_t *mask);
/* epoll_wait wrappers: epoll_has_shadow(epfd) ? epoll_shadow_wait() : libc. */
bool epoll_has_shadow(int epfd); /* holds, or nests something that holds, stack members */
/*
 * Around libc's epoll_wait() on a set without stack members. begin: false, it
 * has some (call epoll_shadow_wait). end: n as libc answered, without hidden
 * members; EPOLL_PLAIN_AGAIN: stack members came meanwhile and only they are
 * ready: go on with epoll_shadow_wait().
 */
#define EPOLL_PLAIN_AGAIN (-2)
bool epoll_plain_begin(int epfd);
int epoll_plain_end(int epfd, struct epoll_event *ev, int n);
void epoll_created(int epfd);
void epoll_closing(int epfd); /* the number is about to be closed */
void epoll_copied(int from, int to);
/* fd (still a kernel TCP socket) is about to become a stack socket or a listener: take it out of every kernel
 * epoll set into our lists (D4). */
int epoll_before_replace(int fd);
int epoll_after_replace(int fd, ref d); /* -> watches on the description's core socket, same masks and data */
/* A listener that was shut down listens again. */
void epoll_listens_again(ref d);
/* The other way (seal.c): fd of d leaves our lists; epoll_after_replace(fd, REF_NONE) puts it into the
 * kernel's sets. Then, no stack member being left: sets are the kernel's alone. */
void epoll_leave(int fd, ref d);
void epoll_leave_all(void);
/*
 * Before epoll_before_replace() of a socket whose level stays as it is: edge-triggered members that have
 * fired do not fire again.
 */
void epoll_note_fired(int fd);
/* The kernel half of d, which this process has from now on: into the sets that d is in. */
void epoll_half_found(ref d);
/*
 * epoll_heir.c. Before number fd of a set goes to another image or program: the evset that it must have a
 * part in, or REF_NONE (nothing of the stack's in it). send: in a message.
 */
ref epoll_pass(int fd);
void epoll_send(int fd);
/* In a child of vfork(): the evset's tag, or 0. */
uint64_t epoll_pass_vfork(int fd);
/* Who will have it knows nothing of us: the bell is up while a member of the stack's is ready. */
void epoll_show(ref evset);
/*
 * A number that came from there. is_marked: a set that the stack may have a half of; also without one.
 * arrived: its tag, if it is ours from now on, or 0. nest: once all have come, those that contain others.
 */
bool epoll_is_marked(int fd);
uint64_t epoll_arrived(int fd);
void epoll_nest_arrived(void);
/* The last number of description d in this process goes: its kernel half leaves our sets. */
void epoll_description_gone(ref d);

/*
 * signal.c: installed at the first stack socket. Until then all of these go
 * straight on to libc. 0 or a negative errno.
 */
void signals_install(void);
/* sigaction() */
int signal_action(int sig, const struct sigaction *act, struct sigaction *old);
/* signal(), bsd_signal(), ssignal(): restarting unless siginterrupt() said otherwise */
int signal_bsd(int sig, sighandler_t handler, sighandler_t *old);
/* sysv_signal(), __sysv_signal(): one shot, not masked, not restarting */
int signal_sysv(int sig, sighandler_t handler, sighandler_t *old);
/* sigset(): SIG_HOLD blocks; *old is SIG_HOLD if it was blocked */
int signal_set(int sig, sighandler_t handler, sighandler_t *old);
/* sigignore() */
int signal_ignore(int sig);
/* siginterrupt() */
int signal_interrupt(int sig, int on);
/* After a wait was interrupted: had every handler that ran SA_RESTART? Resets. */
bool signals_restartable(void);

/* placeholder.c: 0/number or a negative errno */
int placeholder_replace(int fd); /* dup3 a never-ready socket onto fd, carrying flags over */
int placeholder_new(
    int flags); /* a fresh lowest number holding one (accept): SOCK_CLOEXEC/SOCK_NONBLOCK in flags */

/* ------------------------------------------------------------------ configuration (config.c), policy
 * (policy.c), log (log.c) */

struct rule {
	bool to_stack; /* use stack | kernel */
	bool server;   /* server | client */
	struct ipaddr net;
	uint8_t prefix_len; /* 0..128, over the v4-mapped form */
	uint16_t port_first, port_last;
};
#define RULES_MAX 128
struct config {
	struct netio_config net;
	struct rule rules[RULES_MAX];
	int rule_count;
	bool require;		/* UTCP_REQUIRE */
	bool quiet;		/* UTCP_REPORT 0, the library's default; the launcher sets 1 */
	bool verbose;		/* UTCP_REPORT 2 (-v) */
	bool loopback;		/* UTCP_LOOPBACK=stack: 127.0.0.0/8 and ::1 are the stack's */
	bool off;		/* UTCP_DEV=none without that: everything to the kernel */
	char log_path[4096];	/* UTCP_LOG: "" stderr */
	uint32_t exit_drain_ms; /* UTCP_EXIT_DRAIN */
	char stats_path[4096];	/* UTCP_STATS: counters written at exit (tests, -v) */
};
/* Read file, then environment (precedence: option = variable > file > default). 0, or -EINVAL with one line
 * in why. No libc calls that we interpose. */
int config_load(struct config *c, char *why, size_t why_len);
/* Is there a variable UTCP_* that is no setting? A line about the first. (UTCP_TEST_* are the test suite's.)
 */
bool config_unknown(char *why, size_t why_len);
int config_parse_rules(struct config *c, const char *text, char *why, size_t why_len);
/* The stack's address and network: 10.77.0.2/24 unless set. */
void config_network(const struct config *c, struct ipaddr *addr, uint8_t *prefix_len);
/* UTCP_DEV=none: nothing but what stays inside the stack. */
bool config_no_device(const struct config *c);
/* Built-in values; config_load() starts from them. */
void config_defaults(struct config *c);
/* One setting by its key in utcp.conf ("dev", "addr" ...). 0 or -EINVAL and why, prefixed by `where`. */
int config_set(struct config *c, const char *key, const char *value, const char *where, char *why,
	       size_t why_len);
/* The i-th setting: its key, variable and current value as text; false past the last one. */
bool config_show(const struct config *c, int i, const char **key, const char **variable, char *value,
		 size_t value_len);
extern struct config the_config;

/* Client: remote. Server: local bind address. True: the stack. By default loopback, multicast and what is
 * unroutable are the kernel's. */
bool policy_use_stack(const struct config *c, bool server, const struct endpoint *e);
/*
 * Why policy_use_stack() said no: a static text for fallback_note(), or NULL if a rule of the user asked for
 * the kernel. *error (may be NULL): what UTCP_REQUIRE=1 makes of it, a negative errno; 0: the kernel is the
 * right place even then (a rule, loopback, multicast).
 */
const char *policy_fallback_reason(const struct config *c, bool server, const struct endpoint *e, int *error);

/* One line "utcp: ..." to stderr or UTCP_LOG. Async-signal-safe, no malloc, no stdio. */
void log_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Open UTCP_LOG now (after config_load(), before chroot or setuid can take the path away). */
int log_open(void); /* 0 or a negative errno: then lines go to stderr */
/* snprintf() for the few conversions that a message needs (s c d i u x X p %, l ll z, width, precision). */
int log_format(char *buf, size_t len, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int log_vformat(char *buf, size_t len, const char *fmt, va_list *ap); /* format.c */

/* One connection or listener went to the kernel although no rule asked for it. reason: a static text. */
void fallback_note(const char *reason);
/* At exit: "utcp: 2 connections went to the kernel: no route in the stack" (unless quiet). Once. */
void fallback_report(void);

/* stats.c. At exit, while the stack still lives: UTCP_STATS (`name value` lines) and the summary of -v. Once.
 */
void stats_report(struct netio *n);
/* The stack is ours from now on: what it has counted before is not. */
void stats_begin(struct netio *n);

/* ------------------------------------------------------------------ the real functions (real.c) */
void real_init(void);

#endif
