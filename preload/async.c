/*
 * async.c - signals of stack sockets: SIGIO (O_ASYNC) and SIGURG.
 *
 * The kernel holds what fcntl() set (O_ASYNC, F_SETOWN, F_SETOWN_EX, F_SETSIG) on
 * the placeholder or the listener's socket, but the events are the stack's. One
 * thread of ours, made when the first socket asks for it, waits for the bell of
 * an evset with a watch on every such socket, and sends the signals that
 * fs/fcntl.c would send: one for each thing that happened (SOCK_TOLD_*), and
 * SIGURG to whoever owns the socket, also without O_ASYNC.
 *
 * The kernel lets no thread send another the codes of real events (POLL_IN ...):
 * the signal travels with SI_SIGIO, and the library's handler puts the code in
 * (async_received()), as sigwaitinfo() does. Who reads them from a signalfd sees
 * SI_SIGIO, with the right si_band and si_fd.
 *
 * Place in the flow: calls_fd.c, socket.c (ioctl) and establish.c call
 * async_update() when the flag or the owner changes.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/async.h"

#define ASYNC_KEY   0x7fffffffu /* low half of the watches' key: no descriptor number */
#define BATCH	    16
#define STACK_BYTES (64u << 10)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct waitset *_Atomic set; /* once made, it stays; made under `lock` */

static atomic_bool owners_used; /* a socket whose fate was open got an owner or a signal */

bool async_owners_used(void)
{
	return atomic_load_explicit(&owners_used, memory_order_relaxed);
}

static uint64_t key_of(ref d)
{
	return (uint64_t)d << 32 | ASYNC_KEY;
}

static void number_take(int fd, void *arg)
{
	*(int *)arg = fd;
}

/* fs/fcntl.c: band_table */
static const struct {
	uint32_t told;
	int code;
	long band;
} kinds[] = {
    {SOCK_TOLD_PRI, POLL_PRI, EPOLLPRI | EPOLLRDBAND},
    {SOCK_TOLD_IN, POLL_IN, EPOLLIN | EPOLLRDNORM},
    {SOCK_TOLD_OUT, POLL_OUT, EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND},
    {SOCK_TOLD_ERR, POLL_ERR, EPOLLERR},
    {SOCK_TOLD_HUP, POLL_HUP, EPOLLHUP | EPOLLERR},
};

void async_received(siginfo_t *info)
{
	if (!info->si_band) {
		info->si_code = SI_KERNEL;
		return;
	}
	for (uint32_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (kinds[i].band == info->si_band)
			info->si_code = kinds[i].code;
}

/* band 0: a signal of the kernel's without particulars */
static void signal_send(int fd, long band, const struct f_owner_ex *owner, int sig)
{
	siginfo_t info;

	memset(&info, 0, sizeof info);
	info.si_signo = sig;
	info.si_code = SI_SIGIO;
	info.si_band = band;
	info.si_fd = band ? fd : 0;
	if (owner->type == F_OWNER_TID)
		sys.syscall(SYS_rt_tgsigqueueinfo, getpid(), owner->pid, sig, &info);
	else if (owner->type == F_OWNER_PID)
		sys.syscall(SYS_rt_sigqueueinfo, owner->pid, sig, &info);
	else
		sys.syscall(SYS_kill, -owner->pid, sig);
}

/* async: whether O_ASYNC was set when the event was taken; the description may be another's by now. */
static void event_tell(const struct watch_event *e, bool async)
{
	struct f_owner_ex owner = {0};
	int fd = -1, sig;

	if (!(e->events & SOCK_TOLD))
		return;
	fd_each_of((ref)e->data, number_take, &fd);
	if (fd < 0 || sys.fcntl(fd, F_GETOWN_EX, &owner) < 0 || !owner.pid)
		return;
	if (e->events & SOCK_TOLD_PRI)
		signal_send(fd, 0, &owner, SIGURG);
	if (!async)
		return;
	sig = sys.fcntl(fd, F_GETSIG);
	for (uint32_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (e->events & kinds[i].told)
			signal_send(fd, sig > 0 ? kinds[i].band : 0, &owner, sig > 0 ? sig : SIGIO);
}

static void *async_run(void *arg)
{
	struct watch_event e[BATCH];
	bool async[BATCH];
	struct netio *n = arg;

	for (;;) {
		struct pollfd p = {.fd = waitset_bell(set), .events = POLLIN};
		sys.poll(&p, 1, -1);
		struct stack_cx *cx = netio_enter(n);
		int count = evset_harvest(cx, waitset_evset(set), e, BATCH);
		for (int i = 0; i < count; i++)
			async[i] = atomic_load(&description_at(cx, (ref)e[i].data)->async);
		/* the pair brings the bell back in line with the list */
		waitset_publish(set, cx);
		waitset_withdraw(set, cx);
		netio_leave(n);
		for (int i = 0; i < count; i++)
			event_tell(&e[i], async[i]);
	}
	return NULL;
}

/* The set and its thread, with all signals blocked. Under `lock`. */
static int async_start(void)
{
	struct waitset *fresh;
	struct stack_cx *cx;
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t t;
	int r;

	if (set)
		return 0;
	r = waitset_create(the_stack, &fresh);
	if (r < 0)
		return r;
	cx = netio_enter(the_stack);
	waitset_ring_always(fresh, cx, true);
	netio_leave(the_stack);
	set = fresh;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&t, &attr, async_run, the_stack);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r < 0) {
		set = NULL;
		waitset_destroy(fresh);
	}
	return r;
}

/* Under the lock: the watch of d as it has to be. */
static int watch_set_to(struct stack_cx *cx, ref d)
{
	struct description *p = description_of(d);
	uint32_t mask = atomic_load(&p->async)	 ? SOCK_TOLD | EPOLLET
			: atomic_load(&p->owned) ? SOCK_TOLD_PRI | EPOLLET
						 : 0;
	ref w = watch_find(cx, waitset_evset(set), key_of(d));

	if (!mask && w)
		watch_remove(cx, w);
	else if (mask && w)
		watch_modify(cx, w, mask, d);
	else if (mask && p->sock && !watch_add(cx, waitset_evset(set), p->sock, mask, d, key_of(d)))
		return -ENOMEM;
	return 0;
}

int async_update(ref d)
{
	struct description *p = description_of(d);
	struct stack_cx *cx;
	int r = 0;

	if (!atomic_load(&p->async) && !atomic_load(&p->owned) && !set)
		return 0;
	lib_enter();
	pthread_mutex_lock(&lock);
	if (atomic_load(&p->async) || atomic_load(&p->owned))
		r = async_start();
	if (!r && set) {
		cx = netio_enter(the_stack);
		r = watch_set_to(cx, d);
		netio_leave(the_stack);
	}
	pthread_mutex_unlock(&lock);
	lib_leave();
	return r;
}

int async_owner_set(int fd)
{
	enum fd_kind k = fd_kind(fd);
	ref d = k == FD_STREAM || k == FD_LISTENER ? fd_hold(fd) : REF_NONE;
	int r;

	if (k == FD_TCP)
		atomic_store(&owners_used, true);
	if (!d)
		return 0;
	atomic_store(&description_of(d)->owned, 1);
	r = async_update(d);
	fd_release(d);
	return r;
}

void async_before_fork(void)
{
	pthread_mutex_lock(&lock);
}

void async_parent_after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

void async_after_fork(void)
{
	set = NULL;
	pthread_mutex_init(&lock, NULL);
}
