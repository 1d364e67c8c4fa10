/*
 * epoll.h - what the epoll*.c files share: sets and their members. epoll.c has
 * the theory of operation.
 *
 * Place in the flow: private to these files.
 */
#ifndef PRELOAD_EPOLL_H
#define PRELOAD_EPOLL_H

#include <sys/single_threaded.h>
#include <sys/syscall.h>

#include "preload/wait.h"

#define EPOLL_BUCKETS 256u

#define TAG_KERNEL   (1ull << 32) /* W(E)'s member E */
#define TAG_LISTENER (2ull << 32) /* plus the description */
#define MODIFIERS    ((uint32_t)(EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE))

/* A listener of ours in a set, or a set in a set. */
struct member {
	struct member *next;
	int fd;
	ref d;		   /* listener: its description */
	int kernel_fd;	   /* listener: its kernel half */
	struct set *inner; /* set */
};

/* A kernel TCP socket in a kernel set, whose fate is undecided. */
struct tcp_member {
	struct tcp_member *next;
	struct set *set;
	int fd;
	bool fired;  /* edge-triggered: it is not on the kernel's ready list */
	bool moving; /* between epoll_before_replace() and epoll_after_replace() */
	struct epoll_event event;
};

struct number {
	struct number *next;
	int fd;
	struct set *set;
};

struct set {
	struct set *next;	    /* all_sets */
	uint32_t numbers;	    /* numbers of this process */
	uint32_t refs;		    /* 1 while there are numbers, plus threads in epoll_wait() */
	int fd;			    /* one of the numbers */
	_Atomic int kernel_members; /* at most: the kernel drops closed ones by itself */
	struct waitset *ws;	    /* W(E), or NULL: nothing of the stack in it */
	uint64_t tag;		    /* of W(E)'s evset, since there is one */
	struct member *listeners, *sets;
	bool exposed;
	atomic_bool polled;	 /* nested too deeply to be in W(E): sleepers poll E beside it */
	atomic_bool kernel_turn; /* the last call was filled by the other half */
};

extern struct set *epoll_sets;
extern struct number *epoll_numbers[EPOLL_BUCKETS];
extern struct tcp_member *epoll_tcp_members[EPOLL_BUCKETS];
extern _Atomic uint32_t epoll_joined; /* sets with a W(E) */
extern atomic_bool epoll_any_exposed;
/* Threads inside libc's epoll_wait(), or polling the set, per hash of the number: whom a set's first stack
 * member must find. */
extern UTCP_OURS _Atomic uint32_t epoll_plain_waiters[EPOLL_BUCKETS];
/* In a process of one thread only a signal handler can look at the number meanwhile, and leaves it as it was.
 */
static inline void epoll_plain_count(_Atomic uint32_t *plain, int by)
{
	if (__libc_single_threaded)
		atomic_store_explicit(plain, atomic_load_explicit(plain, memory_order_relaxed) + (uint32_t)by,
				      memory_order_relaxed);
	else
		atomic_fetch_add(plain, (uint32_t)by);
	atomic_signal_fence(memory_order_seq_cst);
}
/* Sleepers in libc's poll() over more sets than they could count one by one. */
extern _Atomic uint32_t epoll_plain_pollers;
extern UTCP_OURS atomic_bool epoll_any; /* a set was ever made */

/* epoll.c. All that follows needs the mutex, but for epoll_kernel_ctl(). */
void sets_lock(void);
void sets_unlock(void);
/* Zeroed room for a member, number or set. */
void *cell_get(void);
void cell_put(void *p);
struct set *set_of(int fd);  /* NULL: none known */
struct set *set_get(int fd); /* made if need be; NULL: no memory */
void set_put(struct set *s);
int epoll_kernel_ctl(int epfd, int op, int fd, uint32_t events, uint64_t data);
struct set *set_new(int fd, int kernel_members); /* NULL: no memory */
bool number_add(int fd, struct set *s);
/*
 * The tag of a hidden member of E: its bell (s->tag itself), or a listener's kernel half.
 * Everybody who has a part in the set knows it (waitset_inherit), and nobody else.
 */
uint64_t set_tag(const struct set *s, ref listener);
static inline struct tcp_member **tcp_bucket(int fd)
{
	return &epoll_tcp_members[(unsigned int)fd % EPOLL_BUCKETS];
}

/* What a poll() would say now. No cancellation point: the caller may hold a lock. */
static inline short polled_now(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	return sys.syscall(SYS_ppoll, &p, 1, &(struct timespec){0, 0}, NULL, 0) > 0 ? p.revents : 0;
}

/* epoll_nest.c */
/* W(E) for s, and for every set that contains it. 0 or a negative errno. */
int set_join(struct set *s);
/*
 * The kernel refused a set in `inner`: the chain is too deep. W(E) counts as one
 * level of it, so the sets above do without. False: that was not the reason.
 */
bool set_make_room(const struct set *inner);
/* Make the kernel's poll of E say what the stack's list says. */
void set_expose(struct set *s);
/*
 * Whoever watches E sees the kernel half of listener m, unless it was shut down:
 * the kernel's HUP would be one more event than the stack's.
 */
void half_show(struct set *s, const struct member *m);
/* The bell of s, and of what it contains, is up only while something is ready. */
void set_settle(struct set *s);

/* epoll_info.c */
/* A member of E, as /proc/self/fdinfo has it. */
struct epoll_item {
	int fd; /* the number it was added by */
	uint32_t events;
	uint64_t data;
};
/* Calls f for each member until it says true; whether it did. Without /proc: none. */
bool epoll_each_item(int epfd, bool (*f)(const struct epoll_item *i, void *arg), void *arg);

/* epoll_ctl.c */
/* The kernel half of a listener of ours that is a member: into W(E), and into E if others look at it. */
int listener_add(struct set *s, int fd, ref d);
/* What is in a watch's key. */
int key_number(uint64_t key);
ref key_description(uint64_t key);
/* E2 got (or lost) E. */
void nest_record(struct set *outer, int op, int fd);
int member_add(struct set *s, int fd, ref d, const struct epoll_event *e);
/* It has told what holds now. */
void member_quiet(struct set *s, int fd, ref d);
struct member *listener_member(const struct set *s, ref d);
void listener_remove(struct set *s, int fd, ref d);
/* fd is no member any more; what it was one with. False: it was none. */
bool member_take(struct set *s, int fd, ref d, uint32_t *events, uint64_t *data);

#endif
