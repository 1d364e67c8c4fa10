/*
 * netio.h - the region, its lock, the device, and how threads wait on them.
 *
 * Theory of operation (design D3). There is no engine thread in the data path.
 * A thread that wants something from the stack does:
 *
 *     cx = netio_enter(n);              lock the region, read the clock
 *     netio_drive(n, cx);               take what the device has queued, run due timers
 *     r = sock_recv(cx, ...);           the verb, never blocking
 *     if (r == -EAGAIN && blocking)
 *             waitset_publish(ws, cx);  "ring my bell when a watch becomes ready"
 *     netio_leave(n);                   flush output, deliver edges to watchers, re-arm the timer, unlock,
 * ring bells waitset_block(ws, deadline, mask, &why);
 *     ... netio_enter; waitset_withdraw; netio_drive; try again
 *
 * The device is in every waiter's epoll set as EPOLLEXCLUSIVE, so the kernel
 * elects one thread per frame; that thread drives and rings the bells of the
 * threads whose sockets changed.
 *
 * Place in the flow: preload -> here -> core (stack.h).
 */
#ifndef UTCP_NETIO_H
#define UTCP_NETIO_H

#include <poll.h>
#include <signal.h>

#include "utcp/pool.h"
#include "utcp/stack.h"

struct netio; /* this process's attachment to one stack */

struct netio_config {
	char device[64];     /* "tap:NAME", "packet:IFNAME", "mem:NAME", "none" */
	char stack_name[64]; /* by which processes find each other; "": the device; "none": not at all */
	struct stack_config stack; /* addr any: 10.77.0.2/24 with a TAP that we create; mac zero: chosen; mtu
				      0: the device's */
	bool mtu_set, mac_set;
	struct ipaddr kernel_addr; /* address for the kernel's side of a TAP that we create; any: the stack's
				      network's .1 */
	char pcap_path[4096];	   /* "" : no capture */
	char pcap_filter[512];
	uint32_t pcap_snaplen; /* 0: whole frames */
	uint32_t spin_us;      /* UTCP_SPIN_US; 0: never */
	uint32_t
	    test_pause_us; /* UTCP_TEST_PAUSE: sleep between unlock and block, for the lost wake-up test */
};
void netio_config_defaults(struct netio_config *c);

/*
 * Make the region, open the device and the capture. The calling thread must
 * not hold other locks. 0, or a negative errno with `why` (one line without
 * prefix or newline: "cause; what to do"):
 * -EPERM no capability, -ENODEV missing device, -EBUSY device in use,
 * -ENOMEM region refused, -EINVAL configuration, -ENOENT libpcap missing ...
 */
int netio_attach(const struct netio_config *c, struct netio **out, char *why, size_t why_len);
/* Would netio_attach() succeed? As far as can be told by doing it and undoing it. */
int netio_try(const struct netio_config *c, char *why, size_t why_len);
/* True if other processes made the stack, or the process entered one that ran. */
bool netio_is_joined(struct netio *n);
/* Stop the driver thread, finish the capture, close everything. A TAP that we created vanishes with it. */
void netio_detach(struct netio *n);
/* In a fork()ed child: forget the parent's stack without touching it (close nothing that is shared, no
 * frames). */
void netio_forget_after_fork(struct netio *n);
/* Write out what the capture has buffered. */
void netio_capture_flush(struct netio *n);
/* Finish the capture file (exit paths where netio_detach() does not run). Idempotent. */
void netio_capture_end(struct netio *n);

/* ------------------------------------------------------------ processes (procs.c, keeper.c) */

/*
 * Several processes work on one stack: a fork()ed child shares its parent's. An
 * object that they share (a description, an evset) counts the processes that
 * have a part in it; what each has is a "hold" in the region, so that when a
 * process dies, however it dies, exactly its holds are dropped. With the last
 * one the object goes, by the rules of close().
 *
 * Objects of class DESCRIPTION begin with this, for the keeper who closes them.
 */
struct shared_object {
	struct pool_head head;
	uint32_t holders;
	ref sock;	 /* core socket */
	uint64_t cookie; /* SO_COOKIE of its descriptors */
	uint32_t pumps;	 /* of its holders: netio_turn() */
};
/* This process's part in an object, under the lock; REF_NONE: no memory. */
ref netio_hold(struct netio *n, struct stack_cx *cx, ref object);
/* Give it up. True: it was the last one, the object is the caller's to free. */
bool netio_unhold(struct netio *n, struct stack_cx *cx, ref hold);

/*
 * Around fork(). before: takes the lock, makes the child's process slot, and a
 * hold for each of ours for which inherit() says where to note the child's
 * (NULL: the child gets none). Then in the parent, or in the child. In the
 * child 0, or a negative errno: there is no share for it; it must
 * netio_forget_after_fork().
 */
void netio_before_fork(struct netio *n, ref *(*inherit)(ref object));
void netio_parent_after_fork(struct netio *n);
int netio_child_after_fork(struct netio *n);

/*
 * Around exec(). before: starts a keeper if there is none; passes: our life line
 * stays open over the exec, and with it our slot and its holds. Its number, or a
 * negative errno. In the new image netio_rejoin() makes an attachment from it;
 * sleepers and wait sets of the old image are gone, holds of class DESCRIPTION
 * are there to be walked.
 */
int netio_before_exec(struct netio *n, bool passes);
/*
 * Until it is opened again, for a second at most, only the calling thread may come into the stack: exec() and
 * exit are to meet no other inside.
 */
void netio_gate_close(struct netio *n);
void netio_gate_open(struct netio *n);
/* Until it is open; nothing for who closed it. Not with the lock. */
void netio_gate_wait(struct netio *n);
/* This process is no longer of the user who made the stack: what it executes does not find it by its name. */
bool netio_is_strange(const struct netio *n);
void netio_exec_failed(struct netio *n);
/*
 * In a child of vfork() that is about to exec and holds sockets with these
 * cookies: the keeper makes a slot with holds for those that are objects here.
 * Takes no lock: the lock would be the parent's. A life line that stays open
 * over the exec, or a negative errno.
 */
#define VFORK_COOKIES_MAX 512
bool netio_is_life_line(const struct netio *n, int fd);
int netio_vfork_line(struct netio *n, const uint64_t *cookie, uint32_t count, bool blind);
int netio_rejoin(int line, struct netio **out);

/*
 * Around posix_spawn(), whose child runs no code of ours before its exec. begin:
 * a process slot for it with a hold for each object, and a life line in l->fd,
 * CLOEXEC: let the child have it without. The holds are there before the child
 * is; without a child they go when end() closes the line. 0 or a negative errno.
 */
struct spawn_line {
	int fd;
	ref proc;
	struct spawn_line *next;
};
int netio_spawn_begin(struct netio *n, struct spawn_line *l, const ref *object, uint32_t count, bool blind);
void netio_spawn_end(struct netio *n, struct spawn_line *l);
void netio_each_hold(struct netio *n, struct stack_cx *cx, void (*f)(ref object, ref hold, void *arg),
		     void *arg);

/*
 * A pump: an AF_UNIX socket that behaves like the connection whose descriptors
 * have this cookie, for a program that no hook reaches. The keeper has a part in
 * the connection as soon as the call returns, and moves bytes from the start on:
 * netio_pump_start(), or when exec() closes the gate. cancel: as if nothing had
 * been. take: our own part in the connection ends with the start. Takes no lock.
 * 0, or a negative errno (-ENOENT: the cookie is no connection's).
 */
/*
 * This process will run without hooks, or does again: with the listeners that it
 * alone has the keeper accepts, and connects to their kernel halves (forward.c).
 */
void netio_blind(struct netio *n, bool on);
struct netio_pump {
	int heir; /* the socket; both are CLOEXEC */
	int gate;
};
int netio_pump(struct netio *n, uint64_t cookie, bool take, struct netio_pump *out);
void netio_pump_start(struct netio_pump *p);
void netio_pump_cancel(struct netio_pump *p);
/* In the process that becomes the heir: this number of the socket is not closed until it ends. */
void netio_pump_mark(int heir);

/*
 * A connection that has pumps: before a verb, without the lock, the turn is asked for,
 * and ended after it. The caller's signals are blocked in between. What it may do:
 */
enum turn_kind { TURN_READ, TURN_WRITE, TURN_END };
enum turn_answer {
	TURN_YOURS,  /* the verb */
	TURN_FULL,   /* nothing: the connection is full; as if the verb had said -EAGAIN */
	TURN_FOLLOWS /* nothing: the end is said for it when there is room */
};
struct netio_turn {
	int fd; /* -1: not asked for */
	enum turn_answer answer;
	uint64_t mask;
};
void netio_turn(struct netio *n, uint64_t cookie, enum turn_kind kind, struct netio_turn *t);
void netio_turn_end(struct netio_turn *t);

/*
 * Descriptors in an SCM_RIGHTS message (passage.c). pass: what to send instead of
 * a connection's descriptor, CLOEXEC, or a negative errno; the object lives on
 * until what was sent is received, or gone. A listener goes itself. claim, in the
 * receiver, if is_token(): the descriptor that was meant and its object, or a
 * negative errno; the object is safe as long as the token is open. taken: a
 * listener that has come to us.
 */
int netio_pass(struct netio *n, const struct netio_config *c, ref object, int placeholder);
int netio_pass_listener(struct netio *n, ref object, uint64_t cookie, uint64_t inode);
#define NETIO_NOWHERE_SEEN UINT64_MAX			   /* inode: of what no table of the kernel's shows */
bool netio_is_token(const struct netio_config *c, int fd); /* c NULL: of any stack */
int netio_claim(struct netio *n, int fd, ref *object);
void netio_taken(struct netio *n, uint64_t cookie);
/* Has somebody made the stack that this configuration names? */
bool netio_stack_runs(const struct netio_config *c);
/* The object whose descriptors have this cookie, under the lock; REF_NONE. */
ref netio_object_of(struct netio *n, struct stack_cx *cx, uint64_t cookie);

/*
 * The keeper: a small process of its own that notices when others die, and
 * looks after what they leave, until nothing was acknowledged for drain_ms.
 * `library`: the file to execute, whose start must call netio_keeper_main() when
 * the environment has UTCP_KEEPER.
 */
#define NETIO_KEEPER_VARIABLE "UTCP_KEEPER"
void netio_set_keeper(const char *library, uint32_t drain_ms);
/* A number for what the user of netio keeps in the region: processes with another one do not share a stack.
 * Once, before anything else. */
void netio_set_layout(uint64_t hash);
_Noreturn void netio_keeper_main(const char *value);
/* True while somebody else goes on with the stack when this process ends; tries to make it so. */
bool netio_is_kept(struct netio *n);
/* The user has been told that the keeper cannot be started. */
bool netio_keeper_missing(struct netio *n);

/*
 * A descriptor of ours is born on the lowest free number, like any other, and
 * moves up at once. Between begin and end the calling thread may hold such a low
 * number; another thread that is given a number meanwhile can tell from the two
 * counts, and puts it right (preload/number.h).
 */
extern struct netio_births {
	_Atomic uint32_t begun, ended;
} netio_births;
void netio_births_begin(void);
void netio_births_end(void);
/* True while the calling thread is in between itself. */
bool netio_births_here(void);

/* Lock; cx->now is the clock. Never blocks on I/O while held. */
struct stack_cx *netio_enter(struct netio *n);
void netio_leave(struct netio *n);
/*
 * One burst: receive what is queued (bounded), run timers, deliver edges.
 * Frames taken. Between enter and leave; what the stack has to say to the
 * burst leaves, once, in netio_leave().
 */
int netio_drive(struct netio *n, struct stack_cx *cx);
nsec netio_now(void); /* CLOCK_MONOTONIC */

const char *netio_device_name(struct netio *n); /* "tap:utcp0" */
/* 0, or why the stack has stopped: -ENODEV (the device is gone), -ENOTRECOVERABLE (its memory is damaged). */
int netio_status(struct netio *n);
/* Where one-line messages of a running stack go (no prefix, no newline); NULL: "utcp: ..." on stderr. */
void netio_set_report(void (*f)(const char *line));
/*
 * True in the driver thread: a wrapper must pass its calls straight on to libc
 * (also on descriptors that are ours), and move what epoll_create1() makes for
 * it with netio_protect_fd().
 */
bool netio_internal_thread(void);
/* True if fd is one of ours (device, bells, timer, region, epoll sets): the application must see EBADF. */
bool netio_owns_fd(int fd);
/* None of them was ever below it: the quick answer. */
extern _Atomic int netio_lowest_fd;
/*
 * Move a descriptor of ours up and out of the way of the application's numbers,
 * CLOEXEC, and remember it; the new number or a negative errno (the old one is closed).
 */
int netio_protect_fd(int fd);
/* The same with the number kept in *where, so that netio_vacate_fd() can move it. 0 or a negative errno
 * (*where is -1). */
int netio_protect_fd_at(int fd, int *where);
void netio_unprotect_close(int fd);
/* The same for something that is only kept for later use: where no number is to spare, -EMFILE, and closed.
 */
int netio_store_fd_at(int fd, int *where);
/*
 * A system call that makes a descriptor of ours, not of the application's: there
 * is room for it when the application has used up all numbers (netio/room.c). The
 * result, or a negative errno. netio_fd_done() closes what was needed for a moment.
 */
long netio_fd_call(long nr, long a, long b, long c, long d);
void netio_fd_done(int fd);
/* dup3() onto a number that is open, even if the limit has fallen below it. 0 or a negative errno. */
int netio_fd_onto(int fd, int number, int flags);
/* The soft limit leaves no room above it: hold some numbers for that. Once there is a stack. */
void netio_reserve_fds(struct netio *n);
/*
 * The application wants this very number (dup2): move ours elsewhere. 0;
 * -EBADF (not ours); -EBUSY (kept without a place: netio_protect_fd()). The
 * number is then an alias that is not ours any more: replace it by dup2/dup3.
 */
int netio_vacate_fd(int fd);

/* ------------------------------------------------------------ network namespaces (network.c) */

/* This process, or a thread of it, is in another one from now on. */
void netio_network_moved(void);
/* Was this socket made in the stack's? */
bool netio_same_network(struct netio *n, int fd);

/* ------------------------------------------------------------ evsets and watches (ready.c) */

/*
 * An evset is the stack's half of an epoll set: watches on sockets, a ready
 * list, and a bell. A thread blocked in recv() or poll() has a private one.
 * All calls below need the lock (a cx from netio_enter).
 */

/* A watch's mask: SOCK_* (with IN the level also has EPOLLRDNORM, with OUT EPOLLWRNORM, as Linux's tcp_poll)
 * | the EPOLL* modifiers of <sys/epoll.h> (ET, ONESHOT, EXCLUSIVE, WAKEUP). ERR and HUP are always in. */
struct watch_event {
	uint32_t events;
	uint64_t data; /* the application's epoll data */
	ref watch;
};

/* Words 0-2 of sock_user() belong to this file; word 3 is preload's. */
ref evset_create(struct stack_cx *cx);
void evset_destroy(struct stack_cx *cx, ref set); /* removes its watches */
/* Add: on the ready list at once if the level matches. key: the caller's identity of the member (fd,
 * description). REF_NONE: no memory. */
ref watch_add(struct stack_cx *cx, ref set, ref sock, uint32_t mask, uint64_t data, uint64_t key);
void watch_modify(struct stack_cx *cx, ref watch, uint32_t mask,
		  uint64_t data); /* re-arms ET and ONESHOT, as EPOLL_CTL_MOD */
/* What holds now has been told: off the ready list; ONESHOT has fired. */
void watch_quiet(struct stack_cx *cx, ref watch);
void watch_remove(struct stack_cx *cx, ref watch);
ref watch_find(struct stack_cx *cx, ref set, uint64_t key);
/* Remove every watch on a socket (before sock_close()). */
void watch_remove_socket(struct stack_cx *cx, ref sock);
/* First watch on a socket / next of the same socket: for close and dup rules. */
ref watch_first_of_socket(struct stack_cx *cx, ref sock);
ref watch_next_of_socket(struct stack_cx *cx, ref watch);
uint64_t watch_key(struct stack_cx *cx, ref watch);
ref watch_set(struct stack_cx *cx, ref watch);
/* All watches of a set, from REF_NONE to REF_NONE. */
ref watch_next_of_set(struct stack_cx *cx, ref set, ref watch);
/* Its mask as it is now (a ONESHOT that has fired has none of the SOCK_* bits), and its data. */
void watch_read(struct stack_cx *cx, ref watch, uint32_t *mask, uint64_t *data);
ref watch_socket(struct stack_cx *cx, ref watch);
/*
 * Take up to max ready events in the kernel's order and with its rules (ep_send_events: level-triggered ones
 * go back to the tail, edge-triggered ones not, ONESHOT disarms).
 */
int evset_harvest(struct stack_cx *cx, ref set, struct watch_event *out, int max);
/* Does the ready list hold a watch whose level still matches? (removes stale entries) */
bool evset_ready(struct stack_cx *cx, ref set);
uint32_t evset_watch_count(struct stack_cx *cx, ref set);

/* The kernel half of a listener (D4): bits from its kernel descriptor, or'ed into its level; a rise is an
 * edge. */
void watch_kernel_bits(struct stack_cx *cx, ref sock, uint32_t bits);
/* An edge of what holds now: for an event whose elected (EXCLUSIVE) thread could not take it. */
void watch_offer(struct stack_cx *cx, ref sock);
uint32_t watch_level(struct stack_cx *cx, ref sock); /* sock_events() | kernel bits */

/* ------------------------------------------------------------ wait sets (wait.c) */

/*
 * A waitset is what a thread blocks on: an epoll set {device EXCLUSIVE, timer
 * EXCLUSIVE, bell} of this process, tied to one evset. Thread-private ones
 * serve recv/accept/connect/poll; each epoll set of the application that holds
 * stack sockets has one more, W(E) of design D5, with extra members.
 */
struct waitset;

/* 0 or a negative errno (-EMFILE ...). Takes the lock itself. */
int waitset_create(struct netio *n, struct waitset **out);
void waitset_destroy(struct waitset *ws); /* takes the lock; destroys the evset */
ref waitset_evset(struct waitset *ws);
/* fork()ed children have a part in it: the wait set of an epoll set. Extra members they must add again. */
/*
 * tag: not zero, and no other set's. It names the set to whoever comes to have the
 * epoll set in a later image or in another process (waitset_adopt): the upper half
 * is netio_set_mark(), the lower random.
 */
void waitset_inherit(struct waitset *ws, uint64_t tag);
uint32_t netio_set_mark(const struct netio_config *c);
/* The set with this tag, under the lock; REF_NONE. */
ref evset_of_tag(struct stack_cx *cx, uint64_t tag);
/*
 * An epoll set is on its way to another image or process, which will find the bell
 * in it by the tag. keep: the keeper has bell and post from now on, so that they do
 * not go with us. pass: it is in a message, and lives on as if somebody had it for
 * as long as a message usually takes; taken() ends that earlier. adopt, in the heir:
 * a part in the set (the one that exec() left us, or a new one) and a wait set on it,
 * extra members to be added. 0 or a negative errno; not with the lock.
 */
int netio_keep_set(struct netio *n, struct waitset *ws);
/* The same in a child of vfork(): takes no lock. */
int netio_keep_set_vfork(struct netio *n, struct waitset *ws, uint64_t tag);
int netio_pass_set(struct netio *n, struct waitset *ws);
int waitset_adopt(struct netio *n, uint64_t tag, struct waitset **out);
/* Has another process a part in the set, too? */
bool waitset_is_shared(struct waitset *ws);
/* Do others see the bell in the epoll set (waitset_ring_always())? */
bool waitset_is_shown(struct waitset *ws);
/* Parts in sets that exec() left us. any: is there one? sweep: what nobody adopted goes. */
bool netio_any_set(struct netio *n, struct stack_cx *cx);
void netio_sweep_sets(struct netio *n, struct stack_cx *cx);
/* The bell, readable while rung: the hidden member that makes the application's E ready (D5). */
int waitset_bell(struct waitset *ws);
/* The same for rings of other processes. */
int waitset_post(struct waitset *ws);
/* Ring on every empty -> non-empty even if nobody is published (E is itself watched by someone we cannot
 * see). */
/* Under the lock: one who sleeps in it looks again. */
void waitset_kick(struct waitset *ws, struct stack_cx *cx);
void waitset_ring_always(struct waitset *ws, struct stack_cx *cx, bool on);
/* Ring without the lock; async-signal-safe: one thread that sleeps, or is about to, in ws returns. */
void waitset_ring(struct waitset *ws);
/* Extra members (kernel halves of listeners, E itself); events as for epoll_ctl; tag comes back in
 * wait_result. */
/* A tag is any number below 2^64 - 16. */
int waitset_add_fd(struct waitset *ws, int fd, uint32_t events, uint64_t tag);
int waitset_del_fd(struct waitset *ws, int fd);

#define WAIT_TAGS_MAX 16
struct wait_result {
	bool timed_out;
	bool device, timer, bell;
	int tag_count; /* ready extra members */
	uint64_t tag[WAIT_TAGS_MAX];
	uint32_t tag_events[WAIT_TAGS_MAX];
};

/*
 * Under the lock: from here to withdraw, a watch of this set that becomes ready
 * rings the bell. Counted: several threads may have published one set.
 */
void waitset_publish(struct waitset *ws, struct stack_cx *cx);
/*
 * Without the lock: sleep until a frame, a timer, the bell, an extra member, or deadline (absolute,
 * NSEC_NEVER: none). mask: as ppoll's, or NULL. Returns 0 (see *r), -EINTR. A cancellation point: register
 * waitset_cleanup() with pthread_cleanup_push first. If something became ready since
 * waitset_publish(), returns at once.
 */
int waitset_block(struct waitset *ws, nsec deadline, const sigset_t *mask, struct wait_result *r);
/* The same, but with ppoll over fds[] beside the set (poll/select that mix in kernel descriptors);
 * fds[].revents are filled. */
int waitset_block_poll(struct waitset *ws, struct pollfd *fds, uint32_t nfds, nsec deadline,
		       const sigset_t *mask, struct wait_result *r);
/*
 * Under the lock, around a drive whose events the caller takes itself, at once:
 * the set counts as one with a sleeping thread (an EXCLUSIVE event stops here)
 * but is not rung. Off again before the lock goes.
 */
void waitset_attend(struct waitset *ws, struct stack_cx *cx, bool on);
/* Under the lock: after block. Every exit from a wait then drives one burst (D3). */
void waitset_withdraw(struct waitset *ws, struct stack_cx *cx);
/* Cancellation clean-up (arg: the waitset): withdraw and drain one burst; takes the lock. */
void waitset_cleanup(void *ws);
/*
 * For the signal wrapper, before the application's handler runs over a thread
 * blocked in ws: withdraw, drain one burst, let the helper take over; and
 * after a normal return: publish again. Take the lock; call only when the
 * interrupted thread is inside waitset_block*().
 */
void waitset_suspend(struct waitset *ws);
void waitset_resume(struct waitset *ws);
/* Set by waitset_block* around the sleep, for the signal wrapper: the waitset this thread sleeps in, or NULL.
 */
struct waitset *waitset_sleeping(void);

/* ------------------------------------------------------------ driver thread (evloop.c), counters */

/* Called by the driver thread when the traffic pauses: what is better done then than under load. */
void netio_set_tidy(void (*f)(void));
/*
 * The keeper took this process for dead and closed what it had (it should not happen). From then on the
 * attachment is to an empty stack that nobody else sees; f() is called once, under its lock, and tells the
 * application's descriptors.
 */
void netio_set_severed(void (*f)(void));
bool netio_is_severed(const struct netio *n);
/* Start the fallback driver if it is not running (first stack socket). 0 or a negative errno. */
int netio_start_driver(struct netio *n);
/* End it for a while. False: there is none. */
bool netio_pause_driver(struct netio *n);
/* For good: the keeper looks after the stack. False: there is none, and the driver stays. */
bool netio_leave_to_keeper(struct netio *n);
/* RLIMIT_AS is about to become `limit`: give up address space that is not needed. */
void netio_address_space(struct netio *n, uint64_t limit);

struct netio_counters {
	uint64_t rx_app, rx_helper; /* frames taken by application threads / by the helper */
	uint64_t rx_stolen;	    /* by the helper while an application thread waited for them */
	uint64_t drives, helper_wakeups, bells, blocks, spurious;
	uint64_t rx_bytes, tx_bytes, tx_frames, tx_errors, capture_drops;
	uint64_t owner_deaths,
	    owner_resets; /* of the stack: processes killed inside it, connections lost by that */
};
void netio_counters(struct netio *n, struct netio_counters *out);

#endif
