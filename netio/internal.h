/*
 * internal.h - what netio's files share and nobody else sees.
 *
 * struct netio is one process's attachment; it is private memory. What several
 * processes may share lives in the region: first a page with struct
 * region_head (the lock), then the stack at cx.base.
 */
#ifndef NETIO_INTERNAL_H
#define NETIO_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "netio/device.h"
#include "netio/rawsys.h"
#include "utcp/netio.h"
#include "utcp/sys.h"

/* ------------------------------------------------------------------ region (region.c), lock (lock.c) */

#define REGION_HEAD_BYTES 4096u /* keeps the stack's base page-aligned */

/* Where the keeper of a stack listens: an abstract AF_UNIX address, and whose it is (rendezvous.c). */
struct stack_name {
	uint32_t uid;
	uint32_t len; /* of path */
	char path[108];
};

struct region_head {
	char magic[8];
	uint64_t layout_hash;
	pthread_mutex_t lock;
	nsec last_now;	    /* the clock never goes backwards between holders of the lock */
	uint64_t limit;	    /* usable bytes of the stack */
	uint64_t reserved;  /* bytes of address space that every process maps */
	uint64_t recovered; /* how often an owner died inside */
	uint64_t resets;    /* connections that died with them */
	uint32_t broken;    /* beyond repair (recover.c): no process works on it any more */
	nsec armed;	    /* what the timerfd is set to; NSEC_NEVER: off */
	ref procs;	    /* attached processes (procs.c), the keeper not among them */
	ref making; /* a process slot of which nobody knows yet but who made it, in this hold of the lock */
	uint32_t proc_count, proc_serial;
	uint32_t drivers; /* processes with a driver thread */
	uint64_t network; /* SO_NETNS_COOKIE of the namespace that the stack is in; 0: unknown */
	ref keeper;	  /* the keeper's process slot while it pumps (pump.c) */
	ref passages;	  /* a process slot without a process: what is on its way (passage.c) */

	/* the keeper (keeper.c), and how to come by the next one (respawn.c) */
	struct stack_name name;
	uint32_t maker;	   /* the user who made the stack, and may open the device */
	uint64_t secret;   /* whoever knows it has this region */
	uint32_t keepers;  /* keepers so far; 0: the stack has never had one */
	uint32_t hasty;	   /* of them, in a row, that did not live long */
	nsec keeper_born;  /* the last one */
	uint32_t has_init; /* the first process of a PID namespace is attached: it would adopt the keeper */

	/* the drivers' view (evloop.c): a Dekker pair, seq_cst on both sides */
	_Atomic int waiters;	   /* published threads of all processes */
	_Atomic uint32_t parked;   /* drivers sleep, or are about to, until the last waiter goes */
	_Atomic uint32_t unparked; /* a futex: how often they were woken */
	_Atomic uint64_t activity; /* bursts driven by application threads */
};
_Static_assert(sizeof(struct region_head) <= REGION_HEAD_BYTES, "region head outgrew its page");

struct region {
	int fd;
	struct region_head *head; /* start of the mapping */
	uint64_t reserved;	  /* bytes of address space */
	uint64_t mapped;	  /* of these: less after netio_address_space() */
	bool commit;		  /* strict overcommit: pages are taken when the region grows, not on touch */
};

int region_create(struct region *r, char *why, size_t why_len);
/* Map a region that another process made; takes fd over. 0 or a negative errno. */
int region_adopt(struct region *r, int fd);
void region_destroy(struct region *r);
/* Make [0, bytes) after the head usable. 0 or -ENOMEM. Lock held (or region private). */
int region_grow(struct region *r, uint64_t bytes);
/* Map what was given up until [0, bytes) after the head is there. 0 or -ENOMEM. Lock held. */
int region_widen(struct region *r, uint64_t bytes);
struct netio;
/* Give spare memory back to the system. Takes the lock, repeatedly and for short. */
void region_trim(struct netio *n);

/* One value into a hash of the layout (FNV-1a over words). */
static inline uint64_t layout_mix(uint64_t hash, const size_t *facts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		hash = (hash ^ facts[i]) * 0x100000001b3ull;
	return hash;
}
#define LAYOUT_FIELD(type, field) offsetof(struct type, field), sizeof(((struct type *)NULL)->field)
/* The structures of ready.c and procs.c that nobody else sees. */
uint64_t ready_layout(uint64_t hash);
uint64_t procs_layout(uint64_t hash);

int lock_init(struct region_head *h);
void lock_acquire(struct netio *n);
void lock_release(struct netio *n);
bool lock_try(struct netio *n);

/* ------------------------------------------------------------------ descriptors (fds.c) */

#define FDS_MAX (1 << 20)
#define RESERVE 6 /* two wait sets */

/*
 * As netio_protect_fd(), and the new number is written to *where, also later
 * when netio_vacate_fd() moves it. 0 or a negative errno (fd is closed then).
 */
int fds_keep(int fd, int *where);
/* The same file with a high number, not yet kept; fd itself where that fails, or if it is negative. */
int fds_raise(int fd);
/* Close *where, forget it, set it to -1. */
void fds_drop(int *where);
/* Give up so many numbers of the reserve, so that they are free; false: it does not have them. */
bool fds_reserve_spend(unsigned count);
/* room.c. RLIMIT_NOFILE; can we have numbers above it without a right of our own? */
rlim_t fds_limit(void);
bool fds_can_rise(void);
/* A copy with a number above the limit, CLOEXEC; -EMFILE: there is none. */
int fds_dup_above(int fd);
/*
 * A function that failed because no number is free, once more where there is room; `any` is a descriptor. As
 * in a child of vfork(), so nothing that depends on who calls.
 */
void fds_run_above(int any, void (*run)(void *arg), void *arg);
/* recvmsg() of a message that may bring `count` descriptors. */
long fds_receive(int from, struct msghdr *m, int flags, unsigned count);
/* The list of this process's attachments. */
void fds_attach(struct netio *n);
void fds_detach(struct netio *n);
/* The number is kept in another variable from now on. */
void fds_rename(int fd, int *where);
/* Close what is in *where; the number stays taken, in *kept, and means the same as `as` from now on. */
void fds_retire(int *where, int *kept, int as);
/* Around fork(): nobody is half-way through a change of the table. */
void fds_before_fork(void);
void fds_parent_after_fork(void);
void fds_after_fork(bool locked);

/* ------------------------------------------------------------------ waiting */

/*
 * How to ring a waitset. In the process that made it: through its slot. From
 * any other: a datagram to its autobound abstract address.
 */
struct bell {
	ref proc; /* REF_NONE: the maker is gone, heirs listen at the address */
	uint32_t slot;
	uint8_t addr_len; /* of sun_path; 0: no bell at all */
	char addr[15];
};

#define SLOT_NONE    0u
#define SLOTS_MAX    8192u
#define RINGS_MAX    32
#define RECHECKS_MAX 8

struct waitset {
	struct netio *n;
	ref set;
	ref hold, child_hold; /* this process's share in the evset; the next child's (fork) */
	uint32_t slot;	      /* index of this waitset in n->slots; 0 is never used */
	int epfd, bell, post; /* post: where other processes ring */
	uint32_t next_free;
	bool inherited; /* forked children get a share: an epoll set of the application */
	bool dead;	/* in a forked child: it belonged to a thread of the parent */
	bool exposed;	/* waitset_bell() was asked for: somebody sees the bell's level */
	_Atomic bool saw_bell;
	_Atomic uint32_t ringers; /* threads on their way to ring, after the unlock */
};

struct driver;
struct capture;

struct netio {
	struct stack_cx cx;
	struct region region;
	struct device dev;
	int timer_fd;
	int lost_fd;	/* the number of a device that is gone: libev may be about to use it */
	int keeper_set; /* the keeper: its loop's epoll set, where the device may be; others: -1 */
	int failure;	/* 0, or the negative errno of a device or region that is gone for good */
	struct netio_counters count;
	struct capture *capture;
	char device_name[64];
	uint32_t spin_ns, test_pause_us;

	/* rings and rechecks collected under the lock (ready.c), done in netio_leave() */
	struct bell ring[RINGS_MAX];
	uint32_t ring_count;
	ref recheck[RECHECKS_MAX];
	uint32_t recheck_count;
	bool wake_driver; /* the last waiter went and the driver is parked */
	bool kick_driver; /* the first waiter came and our driver is armed */
	_Atomic bool driver_armed;

	/* waitsets of this process */
	struct waitset *slots;
	uint32_t slot_count, slot_free, slots_used;

	struct driver *driver;
	bool driver_wanted;
	bool forgotten; /* a forked child's copy */

	/* this process among others (procs.c, keeper.c) */
	ref proc;
	uint32_t serial;	    /* of our slot */
	const uint32_t *sign;	    /* where it is in the slot; &serial: no slot */
	bool severed, severed_told; /* the slot was reaped (severed.c) */
	uint64_t fingerprint;
	bool joined;
	int post_fd;		/* sends datagrams to bells */
	int keeper_fd;		/* our life line to the keeper; -1: none */
	_Atomic bool line_lost; /* it has hung up */
	bool is_keeper;
	_Atomic bool hasty;	   /* they end as soon as they are made: the next one at look_at */
	bool keeper_told;	   /* the log has a line about a keeper that cannot be had */
	_Atomic uint32_t keepers;  /* region_head.keepers when the line was made or last looked at */
	uint32_t lines;		   /* made in haste, in a row */
	nsec line_since;	   /* when it was made */
	_Atomic nsec look_at;	   /* when to look at the line, or for a keeper, again */
	pthread_mutex_t line_lock; /* one thread of the process is at it */
	struct fork_state {
		ref proc;
		uint32_t serial;
		int line; /* the child's life line */
		bool locked;
	} forking;
	struct spawn_line *spawning; /* of all threads; under the lock */

	_Atomic uint32_t gate;	  /* the one thread that the lock is for (lock.c); 0: for all */
	_Atomic uint32_t in_line; /* threads that sleep for the lock, or are about to */

	struct netio *next; /* all attachments of the process (fds.c) */
	uint8_t *rx_buf;
	uint32_t looks; /* drives since the queue was last read to its end (drive.c) */
	uint32_t busy;	/* drives left that read it to its end */
	bool refused;	/* the region could not grow (lock held) */
	bool too_long;	/* the device took a frame for longer than its MTU (lock held) */
	bool refused_told;
	bool left; /* the last burst ended at its limit: frames may be queued that no sleeper knows of */
};

/*
 * recover.c: the previous holder of the lock died inside; the caller holds it now. Afterwards the region is
 * in order, and whoever may have missed a wake-up has been rung; or it is beyond repair, and marked so.
 */
void region_recover(struct netio *n);
/* Its parts: sets and watches from their records, then processes and their holds, then what nobody holds. */
void ready_rebuild(struct netio *n, struct stack_cx *cx);
void procs_rebuild(struct netio *n, struct stack_cx *cx);
void ready_rewake(struct netio *n, struct stack_cx *cx);
void evset_sleepers_add(struct stack_cx *cx, ref set, uint32_t sleepers);
/* NULL, or a static text that names what is broken in sets, watches, processes and holds. */
const char *ready_verify(struct stack_cx *cx);
const char *procs_verify(struct netio *n, struct stack_cx *cx);

/* ready.c: hand the core's edges to the watchers; lock held. */
void ready_deliver(struct netio *n, struct stack_cx *cx);
/* ready.c: evset bookkeeping for wait.c; lock held. */
void evset_bind(struct stack_cx *cx, ref set, const struct bell *bell);
/* Its bell rang in an image or process that is gone: from now on also by this slot of ours. */
void evset_rebind(struct stack_cx *cx, ref set, ref proc, uint32_t slot);
void evset_name(struct stack_cx *cx, ref set, uint64_t tag);
uint64_t evset_tag(struct stack_cx *cx, ref set);
uint32_t *evset_holders(struct stack_cx *cx, ref set);
bool evset_bell_up(struct stack_cx *cx, ref set);
void evset_bell_down(struct stack_cx *cx, ref set);
/* A process died: its sleepers are gone, nobody rings through its slots, and what it was about to ring rings
 * now. */
void evsets_reap(struct stack_cx *cx, ref proc);
/* This process has closed the set, others go on with it. */
void evset_forget_proc(struct stack_cx *cx, ref set, ref proc);
void evset_sleepers_gone(struct stack_cx *cx, ref set, uint32_t sleepers);
void evset_publish(struct stack_cx *cx, ref set);
void evset_withdraw(struct stack_cx *cx, ref set, bool answered);
void evset_attend(struct stack_cx *cx, ref set, bool on);
bool evset_has_ready(struct stack_cx *cx, ref set);
void evset_ring_always(struct stack_cx *cx, ref set, bool on);
void evset_kick(struct stack_cx *cx, ref set);
bool evset_rings_always(struct stack_cx *cx, ref set);
/* Ring for every set noted by evset_recheck() that still has something to offer to a sleeping thread. */
void evset_run_rechecks(struct netio *n, struct stack_cx *cx);

/* bell.c */
/* Note that the bell must be rung when the lock is released; at once if now is set. */
void bell_ring(struct netio *n, const struct bell *b, bool now);
/* Take back a ring that nobody needs to hear. False: another process's. */
bool bell_drain(struct netio *n, const struct bell *b, ref set);
/* Copies of what to ring, taken under the lock for use after it. */
struct ring_list {
	uint32_t count;
	struct waitset *ws[RINGS_MAX]; /* NULL: at the address */
	struct bell bell[RINGS_MAX];
};
void ring_collect(struct netio *n, struct ring_list *l);
void ring_all(struct netio *n, struct ring_list *l);
/* Empty the post; the bell and the post: lock held, or by whoever sleeps on them. */
void post_drain(struct waitset *ws);
void waitset_drain(struct waitset *ws);
/* wait.c */
void waitsets_free(struct netio *n, bool close_fds);
/* fork(): shares in the sets that the child inherits, and what it does with its copies. */
void waitsets_before_fork(struct netio *n, struct stack_cx *cx, ref child);
void waitsets_after_fork(struct netio *n);
/* kept.c: bell and post of a set that was passed to us. 0 or a negative errno. */
int kept_fetch(struct netio *n, uint64_t tag, int fds[2]);
/* There is a new life line: who sleeps is to see it hang up. Lock held. */
void waitsets_watch_line(struct netio *n);
void waitsets_forget_device(struct netio *n);

/* ------------------------------------------------------------------ processes (procs.c), keeper */
/* MESSAGE_SPAWN (lifeline.c) */
struct spawn_message {
	uint32_t type, count;
	uint64_t blind; /* the new program will not load us */
	uint64_t cookie[VFORK_COOKIES_MAX];
};

struct proc {
	struct pool_head head;
	ref next, prev;	  /* all attached processes */
	ref holds;	  /* what this one shares in */
	uint32_t waiters; /* its part of region_head.waiters */
	int32_t pid;
	uint32_t serial; /* never used twice: the place may be */
	uint32_t keeper; /* region_head.keepers of the keeper that has its line */
	bool driver;	 /* counted in region_head.drivers */
	bool whole;	 /* made, and not being freed */
	bool blind;	 /* runs without our hooks: it cannot serve the stack (forward.c) */
	bool forked;	 /* whoever lives here signs at once: pid is not 0 for long */
	uint64_t reaps;	 /* the PID namespace (its inode) whose orphans it adopts; 0: none */
	nsec doubted;	 /* when a keeper without its line first found it unsigned; 0: not yet */
};
_Static_assert(sizeof(struct proc) <= 64, "struct proc outgrew its pool class");

ref proc_new(struct netio *n, struct stack_cx *cx);
/* For another process. */
ref proc_slot(struct netio *n, struct stack_cx *cx);
/* The numbers of all attached processes; how many. */
uint32_t procs_pids(struct netio *n, struct stack_cx *cx, int32_t *pid, uint32_t max);
/* Is it gone for certain? Needs nothing of it but what the kernel knows (for a keeper that has no line to
 * it). */
bool proc_is_gone(struct netio *n, struct stack_cx *cx, ref proc);
/* Is a process of this stack the one that adopts our orphans? */
bool proc_adopts_orphans(struct netio *n);
/* A process is gone: drop its shares by the rules of close(). */
void proc_reap(struct netio *n, struct stack_cx *cx, ref proc);
/* One share of a process, dropped by the rules of close(). */
void proc_give_up(struct stack_cx *cx, ref proc, ref object);
/* Listeners of blind processes: every object that one has a part in; is there any; has one a part; have only
 * they; the parts that they have end. */
void procs_each_blind(struct netio *n, struct stack_cx *cx, void (*f)(ref object, void *arg), void *arg);
bool procs_any_blind(struct netio *n);
bool procs_blind_holder(struct netio *n, struct stack_cx *cx, ref object);
bool procs_all_blind(struct netio *n, struct stack_cx *cx, ref object);
void procs_give_up(struct netio *n, struct stack_cx *cx, ref object);
/* A slot for a process that has the sockets with these cookies; REF_NONE: none of them is an object. */
ref proc_spawned(struct netio *n, struct stack_cx *cx, const struct spawn_message *m);
/* Is it still the process with this serial that the place is of? Lock held. */
bool proc_is_current(const struct stack_cx *cx, ref proc, uint32_t serial);
/* Does it live for certain? False says nothing. */
bool proc_lives(struct netio *n, ref proc);
/* Say so again: the kernel drops the mark when any descriptor of the region's file is closed. */
void proc_mark(struct netio *n);
/* exec(): our own slot `proc`, but the threads, wait sets and driver of the old image are gone. */
bool proc_renew(struct netio *n, struct stack_cx *cx, ref proc, uint32_t serial);
void proc_waiters_add(struct netio *n, struct stack_cx *cx, ref hold, int by);
void proc_driver_set(struct netio *n, struct stack_cx *cx, bool on);
ref hold_new(struct stack_cx *cx, ref proc, ref object);
/* True: it was the last one; the object is the caller's to free. */
bool hold_drop(struct stack_cx *cx, ref hold);
/* Our hold of it, made if need be; REF_NONE: no memory. */
ref proc_hold_of(struct netio *n, struct stack_cx *cx, ref object);
/* Our holds of sets with a tag, one after the other. */
ref proc_set_hold(struct netio *n, struct stack_cx *cx, ref before);
/* Drop a hold by the rules of close(); or all of a slot. */
void proc_hold_end(struct stack_cx *cx, ref hold);
void proc_holds_end(struct stack_cx *cx, ref proc);

/* severed.c: our slot was reaped; lock held. Afterwards n is of a stack and a lock that nobody else sees. */
void severed_enter(struct netio *n);
/* Without the lock: once, the rest of it. */
void severed_tell(struct netio *n);

#define KEEPER_RETRY_NS NS_PER_S
/* respawn.c: make sure that there is a keeper and that it knows our process. 0 or a negative errno. */
int keeper_start(struct netio *n);
/* The same from netio_leave(), when the line has hung up or it is time to look. */
void keeper_look(struct netio *n);
static inline bool keeper_look_due(const struct netio *n)
{
	return n->cx.now >= n->look_at || n->keepers != n->region.head->keepers ||
	       atomic_load_explicit(&n->line_lost, memory_order_relaxed);
}
/* Around fork(): no other thread is at it. */
void keeper_line_before_fork(struct netio *n);
void keeper_line_parent_after_fork(struct netio *n);
void keeper_line_after_fork(struct netio *n);
/* The life line is `fd` from now on (taken over; 0 or a negative errno). */
int keeper_line_set(struct netio *n, int fd);
/* The first one, for a stack that others can find. What goes wrong is reported. */
void keeper_begin(struct netio *n, int listener);
/* One with this listening socket, which stays the caller's. */
int keeper_spawn(struct netio *n, int listener);
/* A message on our line, with descriptors; from a child of vfork(), too. 0 or a negative errno. */
int keeper_say(struct netio *n, const void *m, size_t len, const int *fds, uint32_t count);
int keeper_say_vfork(struct netio *n, const void *m, size_t len, const int *fds, uint32_t count);
/* A life line for process slot `proc`, kept in *line. 0 or a negative errno. */
int keeper_add(struct netio *n, ref proc, int *line);
bool keeper_alive(struct netio *n);

/* What a process sends to the keeper. ATTACH comes with the region, the device and the timer. */
enum {
	MESSAGE_ATTACH = 1,
	MESSAGE_ADD,
	MESSAGE_JOIN,
	MESSAGE_ENTER,
	MESSAGE_REFUSE,
	MESSAGE_SPAWN,
	MESSAGE_PUMP,
	MESSAGE_SOCKET,
	MESSAGE_BLIND,
	MESSAGE_PASS,
	MESSAGE_CLAIM,
	MESSAGE_TAKEN,
	MESSAGE_RETURN,
	MESSAGE_KEEP,
	MESSAGE_TURN,
	MESSAGE_ALONE /* only pumps have a connection now: they look for it after each message */
};
#define ATTACH_FDS  4 /* the fourth: struct device's claim, or the timer again */
#define MESSAGE_FDS 5 /* to the keeper: the rendezvous' listening socket as well */
struct enter_message {
	uint32_t type;
	uint32_t fresh; /* wants to see every frame from the first on */
	uint64_t fingerprint;
	uint64_t layout; /* netio_layout(): the two ends are of one make */
};
enum { REFUSE_SETTINGS, REFUSE_LAYOUT, REFUSE_MEMORY }; /* second word of MESSAGE_REFUSE */
/* An attached process to a keeper that is newer than its line. */
struct return_message {
	uint32_t type;
	ref proc;
	uint32_t serial, reserved;
	uint64_t secret;
};
/*
 * Every message names a process by place and serial: when it is read, the process may have been reaped and
 * the place be another's.
 */
struct add_message {
	uint32_t type;
	ref proc; /* whose is the line that comes with it */
	uint32_t serial, reserved;
};
struct attach_message {
	uint32_t type;
	ref proc; /* whose life line this is */
	uint32_t serial;
	uint32_t device_kind;
	uint64_t fingerprint; /* of the configuration (rendezvous.c) */
	uint32_t drain_ms;    /* how long what processes left may go without an acknowledgement */
	struct device device;
	char device_name[64];
};
#define KEEPER_FD 3 /* of the keeper: its first life line */
void attach_describe(const struct netio *n, struct attach_message *m);
/* What goes with it. */
static inline void attach_fds(const struct netio *n, int fds[ATTACH_FDS])
{
	fds[0] = n->region.fd;
	fds[1] = n->dev.fd;
	fds[2] = n->timer_fd;
	fds[3] = n->dev.claim_fd >= 0 ? n->dev.claim_fd : n->timer_fd;
}
/* An attachment made of descriptors that another process sent; it takes them over. No process slot yet. */
int netio_adopt(const struct attach_message *m, const int fd[ATTACH_FDS], struct netio **out);
/* The same for an application process, whose slot the message names, with its life line. */
int netio_join(int line, const struct attach_message *m, const int fd[ATTACH_FDS], struct netio **out);
/* lifeline.c: one message with descriptors. 0 or a negative errno. */
int message_send(int to, const void *data, size_t len, const int *fds, uint32_t count);
/* Bytes; 0: hung up; a negative errno. Descriptors that did not come are -1. */
int message_receive(int from, void *data, size_t len, int fds[MESSAGE_FDS]);
/* The same for one that may bring ATTACH_FDS, by a process that may have no number left. */
int message_receive_fds(int from, void *data, size_t len, int fds[MESSAGE_FDS]);
/* Until there is one. 0 or -ETIMEDOUT. */
int message_wait(int from, int ms);

/* attach.c: one attempt; and until a stack that has lost its keeper can have made the next one. */
typedef int attach_fn(const struct netio_config *c, struct netio **out, char *why, size_t why_len);
attach_fn attach_once;
int attach_patiently(attach_fn *once, const struct netio_config *c, struct netio **out, char *why,
		     size_t why_len);
/* rendezvous.c: enter a running stack (*out), or make one and let *listener be the keeper's. 0 or a negative
 * errno. */
int rendezvous(const struct netio_config *c, int *listener, struct netio **out, char *why, size_t why_len);
bool rendezvous_wanted(const struct netio_config *c);
struct sockaddr_un;
socklen_t rendezvous_address(const struct netio_config *c, struct sockaddr_un *sun);
bool rendezvous_trusts(int fd);
uint64_t rendezvous_fingerprint(const struct netio_config *c);
void rendezvous_name(const struct netio_config *c, struct stack_name *name);
/* One that nobody else uses. */
void rendezvous_private_name(struct stack_name *name);
bool rendezvous_is_private(const struct stack_name *name);
/* A socket that listens at the name: a descriptor, -EADDRINUSE, another negative errno. */
int rendezvous_listen(const struct stack_name *name);
/* A connection to whoever listens there: -ECONNREFUSED, -EAGAIN (not now), -EPERM (a stranger). */
int rendezvous_dial(const struct stack_name *name);
/* Is there a program to be the keeper, and may we start it? */
bool keeper_known(void);
bool keeper_possible(void);
/* What all processes of a stack must agree on: every structure in the region, every message. */
uint64_t netio_layout(void);

/* ------------------------------------------------------------------ network.c */
/* The stack is in the namespace of n->post_fd. */
void network_begin(struct netio *n);
/* A datagram socket in it, if need be from the keeper: not with the lock. Or a negative errno. */
int network_socket(struct netio *n);
/* The keeper answers such a request; takes `to` over. */
void network_answer(struct netio *n, int to);
/* An attachment with a life line: is n->post_fd in the right one? */
void network_join(struct netio *n);

/* ------------------------------------------------------------------ driver (evloop.c) */
bool netio_in_driver(void); /* the calling thread is a driver thread */
void driver_stop(struct netio *n);
void driver_unpark(struct netio *n);
void drivers_unpark(struct region_head *h);
void test_pause(const struct netio *n); /* UTCP_TEST_PAUSE: between the last look and a sleep */
/* Out of ARMED. */
void driver_kick(struct netio *n);
void driver_forget(struct netio *n);
/* There is a new life line. */
void driver_watch_line(struct netio *n);

/* ------------------------------------------------------------------ drive.c */
/* n->cx for a mapped region: where it is, and what the core calls. */
void drive_bind(struct netio *n);
/* The clock into n->cx, and the region's limit. */
void read_clock(struct netio *n);
/* What a drive leaves to be sent, told and set, but for the rings. */
void drive_settle(struct netio *n, struct stack_cx *cx);
void device_leave(struct netio *n);
void device_failed(struct netio *n, int err);
/* netio_enter() unless somebody is inside. */
bool netio_try_enter(struct netio *n);
/* The calling thread was woken by the device: for the count of spurious wake-ups. */
void drive_note_wake(bool device);

/* ------------------------------------------------------------------ capture.c */
int capture_open(const struct netio_config *c, struct capture **out, char *why, size_t why_len);
/* True while frames are recorded. */
bool capture_running(const struct capture *c);
void capture_rx(struct capture *c, struct device_rx *rx);
void capture_tx(struct capture *c, const struct frame_tx *f);
uint64_t capture_drops(const struct capture *c);
void capture_flush(struct capture *c);
/* Flush; what comes later is not recorded. */
void capture_end(struct capture *c);
void capture_close(struct capture *c);
/* From now on several processes write to the file: each record at once. */
void capture_share(struct capture *c);
/* In a forked child: what is still buffered belongs to the parent. */
void capture_forget(struct capture *c);

/* ------------------------------------------------------------------ small helpers */
void why_set(char *why, size_t why_len, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Private zeroed pages, outside the application's heap; NULL. */
void *pages_alloc(size_t bytes);
void pages_free(void *p, size_t bytes);
/* A table of *room entries, or of none yet (NULL), with twice as many, the new ones zero. NULL: it stays. */
void *pages_table_grow(void *table, uint32_t *room, size_t each);
/* One line for the user (netio_set_report). */
void report(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define TLS_FAST __thread __attribute__((tls_model("initial-exec")))

#endif
