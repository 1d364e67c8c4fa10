/*
 * async.c - O_ASYNC: a signal to the owner when a stack socket becomes ready.
 *
 * The kernel holds what fcntl() set (O_ASYNC, F_SETOWN, F_SETOWN_EX, F_SETSIG) on
 * the placeholder or the listener's socket, but the events are the stack's. One
 * thread of ours, made when the first socket asks for it, waits for the bell of
 * an evset with an edge-triggered watch on every such socket, and sends the
 * signals that fs/fcntl.c would send.
 *
 * Place in the flow: calls_fd.c, socket.c (ioctl) and establish.c call
 * async_update() when the flag changes.
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

static uint64_t key_of(ref d)
{
	return (uint64_t)d << 32 | ASYNC_KEY;
}

static void number_take(int fd, void *arg)
{
	*(int *)arg = fd;
}

/*
 * The kernel lets only a thread itself send the codes of real events (POLL_IN
 * ...); SI_SIGIO is the one for a process that reports I/O to another, with the
 * same fields.
 */
static void signal_send(int fd, uint32_t events, const struct f_owner_ex *owner, int sig)
{
	siginfo_t info;

	memset(&info, 0, sizeof info);
	info.si_signo = sig;
	info.si_code = SI_SIGIO;
	info.si_band = (long)events;
	info.si_fd = fd;
	if (owner->type == F_OWNER_TID)
		sys.syscall(SYS_rt_tgsigqueueinfo, getpid(), owner->pid, sig, &info);
	else if (owner->type == F_OWNER_PID)
		sys.syscall(SYS_rt_sigqueueinfo, owner->pid, sig, &info);
	else
		sys.syscall(SYS_kill, -owner->pid, sig);
}

static void event_tell(const struct watch_event *e)
{
	struct f_owner_ex owner = {0};
	int fd = -1, sig;

	fd_each_of((ref)e->data, number_take, &fd);
	if (fd < 0 || sys.fcntl(fd, F_GETOWN_EX, &owner) < 0 || !owner.pid)
		return;
	sig = sys.fcntl(fd, F_GETSIG);
	signal_send(fd, e->events, &owner, sig > 0 ? sig : SIGIO);
}

static void *async_run(void *arg)
{
	struct watch_event e[BATCH];
	struct netio *n = arg;

	for (;;) {
		struct pollfd p = {.fd = waitset_bell(set), .events = POLLIN};
		sys.poll(&p, 1, -1);
		struct stack_cx *cx = netio_enter(n);
		int count = evset_harvest(cx, waitset_evset(set), e, BATCH);
		/* the pair brings the bell back in line with the list */
		waitset_publish(set, cx);
		waitset_withdraw(set, cx);
		netio_leave(n);
		for (int i = 0; i < count; i++)
			event_tell(&e[i]);
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

int async_update(ref d)
{
	struct description *p = description_of(d);
	struct stack_cx *cx;
	int r = 0;

	if (!atomic_load(&p->async) && !set)
		return 0;
	lib_enter();
	pthread_mutex_lock(&lock);
	if (atomic_load(&p->async))
		r = async_start();
	if (!r && set) {
		cx = netio_enter(the_stack);
		ref w = watch_find(cx, waitset_evset(set), key_of(d));
		if (w && !atomic_load(&p->async))
			watch_remove(cx, w);
		else if (!w && atomic_load(&p->async) && p->sock &&
			 !watch_add(cx, waitset_evset(set), p->sock,
				    SOCK_IN | SOCK_OUT | SOCK_PRI | SOCK_RDHUP | EPOLLET, d, key_of(d)))
			r = -ENOMEM;
		netio_leave(the_stack);
	}
	pthread_mutex_unlock(&lock);
	lib_leave();
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
