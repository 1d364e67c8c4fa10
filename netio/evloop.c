/*
 * evloop.c - the fallback driver: a libev thread for the times when no
 * application thread looks after the stack (design D3).
 *
 * Theory of operation. Three states:
 *
 *   TICK    application threads drive: look every few milliseconds whether they still do;
 *   PARKED  nobody drove for a tick, and somebody waits: the kernel elects a waiter
 *           for each frame, so sleep on a futex until the last waiter goes;
 *   ARMED   nobody drove and nobody waits (the application computes, or sleeps):
 *           device and timer are in our loop; block without a time-out. The first
 *           waiter that comes kicks us out of it: the next frame is not for us, and
 *           what has to be tidied up comes after what the application did meanwhile.
 *
 * On the way into PARKED or ARMED it writes out what a capture has buffered and
 * gives spare memory back.
 *
 * An idle process has its driver in PARKED or ARMED and makes no wake-ups. A
 * driver that were always ARMED would take frames away from waiters that are
 * about to be woken by them, and double the CPU.
 *
 * `parked` and `waiters` are a Dekker pair: we store parked and then load
 * waiters; the last waiter decrements waiters and then loads parked (both
 * seq_cst), so one of the two sees the other. `driver_armed` and `waiters` are another.
 *
 * libev.so.4 is loaded with dlopen(RTLD_LOCAL), by the thread that starts us,
 * and gets a loop of its own: the application may use libev too. Its system
 * calls come back through our wrappers, which let this thread pass
 * (netio_internal_thread()).
 *
 * Place in the flow: netio_start_driver() from preload at the first stack
 * socket; the loop's callbacks -> drive.c.
 */
#include <dlfcn.h>
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "netio/internal.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wshadow"
#include <ev.h>
#pragma GCC diagnostic pop

#define TICK_NS	    (4 * NS_PER_MS)
#define STACK_BYTES (256u << 10) /* the smallest that also holds large static TLS blocks */

/* X(return type, name, parameters) */
#define EV_CALLS(X)                                                                                          \
	X(struct ev_loop *, ev_loop_new, (unsigned int))                                                     \
	X(void, ev_loop_destroy, (struct ev_loop *))                                                         \
	X(int, ev_run, (struct ev_loop *, int))                                                              \
	X(void, ev_io_start, (struct ev_loop *, ev_io *))                                                    \
	X(void, ev_io_stop, (struct ev_loop *, ev_io *))

struct ev_calls {
#define X(type, name, params) type(*name) params;
	EV_CALLS(X)
#undef X
};

struct driver {
	struct netio *n;
	struct ev_calls ev;
	struct ev_loop *loop;
	pthread_t thread;
	int kick_fd;	       /* wakes the loop to stop */
	int line_fd;	       /* an epoll set with the life line, whose number comes and goes */
	_Atomic uint32_t stop; /* a futex: the tick sleeps on it */
	_Atomic bool begun;
	bool armed;
	bool hand_over; /* an application thread is back: leave ARMED */
	uint64_t seen;	/* activity at the last look */
	ev_io device, timer, line, kick;
};

static TLS_FAST bool in_driver;
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER; /* n->driver comes and goes under it */

bool netio_in_driver(void)
{
	return in_driver;
}

bool netio_internal_thread(void)
{
	return in_driver;
}

/* ------------------------------------------------------------ the thread */

static void drive_once(struct driver *d)
{
	struct netio *n = d->n;

	__atomic_fetch_add(&n->count.helper_wakeups, 1, __ATOMIC_RELAXED);
	if (atomic_load(&n->region.head->waiters) > 0 ||
	    atomic_load_explicit(&n->region.head->activity, memory_order_relaxed) != d->seen)
		d->hand_over = true;
	if (atomic_load(&n->region.head->waiters) > 0)
		return; /* the kernel has elected one of them too */
	if (!netio_try_enter(n)) {
		d->hand_over = true;
		return;
	}
	/* Who went to sleep since we looked has driven himself, and finds what came later as he falls asleep.
	 */
	if (atomic_load(&n->region.head->waiters) > 0)
		d->hand_over = true;
	else
		netio_drive(n, &n->cx);
	netio_leave(n);
}

static void on_io(EV_P_ ev_io *w, int revents)
{
	(void)loop;
	(void)revents;
	drive_once(w->data);
}

/* The keeper was killed. */
static void on_line(EV_P_ ev_io *w, int revents)
{
	struct driver *d = w->data;
	struct epoll_event e;

	(void)loop;
	(void)revents;
	RAW6(SYS_epoll_pwait, d->line_fd, &e, 1, 0, NULL, 0);
	atomic_store(&d->n->line_lost, true);
	d->hand_over = true;
}

static void on_kick(EV_P_ ev_io *w, int revents)
{
	struct driver *d = w->data;
	uint64_t count;

	(void)loop;
	(void)revents;
	raw_read(d->kick_fd, &count, sizeof count);
	d->hand_over = true;
}

static void arm(struct driver *d, bool on)
{
	if (d->armed == on)
		return;
	d->armed = on;
	atomic_store(&d->n->driver_armed, on);
	if (on) {
		/* The numbers may have moved (netio_vacate_fd) or died since the last time. */
		ev_io_set(&d->device, d->n->dev.fd, EV_READ);
		ev_io_set(&d->timer, d->n->timer_fd, EV_READ);
		if (d->n->dev.fd >= 0)
			d->ev.ev_io_start(d->loop, &d->device);
		d->ev.ev_io_start(d->loop, &d->timer);
		d->ev.ev_io_start(d->loop, &d->line);
	} else {
		d->ev.ev_io_stop(d->loop, &d->device);
		d->ev.ev_io_stop(d->loop, &d->timer);
		d->ev.ev_io_stop(d->loop, &d->line);
	}
}

/*
 * Sleep until the last waiter goes. The other half is in waiters_add() (procs.c).
 *
 * Not on `parked` itself: between our last look and our sleep somebody may clear it
 * and wake who sleeps, and another process's driver set it again.
 */
static void park(struct driver *d)
{
	struct netio *n = d->n;
	const struct timespec retry = {(time_t)(KEEPER_RETRY_NS / NS_PER_S), 0};
	struct region_head *h = n->region.head;
	uint32_t woken = atomic_load(&h->unparked);

	atomic_store(&h->parked, 1);
	while (atomic_load(&h->waiters) > 0 && !atomic_load(&d->stop) && atomic_load(&h->unparked) == woken) {
		bool hasty = atomic_load(&n->hasty);

		test_pause(n);
		RAW6(SYS_futex, &h->unparked, FUTEX_WAIT, woken, hasty ? &retry : NULL, NULL, 0);
		if (hasty)
			break;
	}
	__atomic_fetch_add(&n->count.helper_wakeups, 1, __ATOMIC_RELAXED);
}

void driver_kick(struct netio *n)
{
	uint64_t one = 1;

	/* Somebody else kicks it, or it begins or ends. */
	if (pthread_mutex_trylock(&starting))
		return;
	if (n->driver)
		raw_write(n->driver->kick_fd, &one, sizeof one);
	pthread_mutex_unlock(&starting);
}

/* Of every process: any of them may end before it has taken over. */
void drivers_unpark(struct region_head *h)
{
	atomic_store(&h->parked, 0);
	atomic_fetch_add(&h->unparked, 1);
	RAW6(SYS_futex, &h->unparked, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

void driver_unpark(struct netio *n)
{
	drivers_unpark(n->region.head);
}

/*
 * Not by the loop: libev takes a descriptor out of its epoll set only after an
 * unwanted event from it, so every tick beside a busy device would end at once.
 */
static void tick(struct driver *d)
{
	const struct timespec t = {.tv_nsec = TICK_NS};

	if (!atomic_load(&d->stop))
		RAW6(SYS_futex, &d->stop, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0);
	__atomic_fetch_add(&d->n->count.helper_wakeups, 1, __ATOMIC_RELAXED);
}

static void (*tidy_up)(void);

void netio_set_tidy(void (*f)(void))
{
	tidy_up = f;
}

static void tidy(struct netio *n)
{
	netio_capture_flush(n);
	region_trim(n);
	if (tidy_up)
		tidy_up();
}

static void *driver_main(void *arg)
{
	struct driver *d = arg;
	struct netio *n = d->n;

	in_driver = true;
	d->ev.ev_io_start(d->loop, &d->kick);
	atomic_store(&d->begun, true);
	while (!atomic_load(&d->stop) && !netio_is_severed(n)) {
		uint64_t activity = atomic_load_explicit(&n->region.head->activity, memory_order_relaxed);

		if (atomic_load(&n->line_lost) || (atomic_load(&n->hasty) && netio_now() >= n->look_at) ||
		    n->keepers != n->region.head->keepers)
			keeper_look(n);
		if (activity != d->seen) { /* TICK */
			d->seen = activity;
			arm(d, false);
			tick(d);
		} else if (atomic_load(&n->region.head->waiters) > 0) { /* PARKED */
			tidy(n);
			arm(d, false);
			park(d);
			tick(d); /* the waiter that has just gone is about to drive */
		} else {	 /* ARMED */
			arm(d, true);
			d->hand_over = false;
			/* Who came before he could see us armed did not kick. */
			while (!d->hand_over && !atomic_load(&d->stop) && !netio_is_severed(n) &&
			       !atomic_load(&n->region.head->waiters)) {
				tidy(n);
				if (atomic_load(&n->hasty)) {
					d->ev.ev_run(d->loop, EVRUN_NOWAIT);
					break;
				}
				d->ev.ev_run(d->loop, EVRUN_ONCE);
			}
			arm(d, false);
			tick(d);
		}
	}
	d->ev.ev_loop_destroy(d->loop);
	return NULL;
}

/* ------------------------------------------------------------ start and stop */

static void open_libev(void *lib)
{
	*(void **)lib = dlopen("libev.so.4", RTLD_NOW | RTLD_LOCAL);
}

static int load_libev(struct driver *d)
{
	void *lib = NULL;

	open_libev(&lib);
	if (!lib) /* the loader wants a number for the file */
		fds_run_above(d->n->timer_fd, open_libev, &lib);
	if (!lib)
		return -ENOENT;
#define X(type, name, params)                                                                                \
	*(void **)&d->ev.name = dlsym(lib, #name);                                                           \
	if (!d->ev.name)                                                                                     \
		return -ENOENT;
	EV_CALLS(X)
#undef X
	return 0;
}

/* libev's calls are internal ones in whichever thread they are made. */
static int loop_open(struct driver *d)
{
	/* Leak checkers look here, and not into the pages that hold struct driver. */
	static struct ev_loop *in_sight;

	in_driver = true;
	d->loop = d->ev.ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
	in_driver = false;
	__atomic_store_n(&in_sight, d->loop, __ATOMIC_RELAXED);
	return d->loop ? 0 : -EMFILE;
}

static void loop_close(struct driver *d)
{
	in_driver = true;
	if (d->loop)
		d->ev.ev_loop_destroy(d->loop);
	in_driver = false;
}

static int spawn(struct driver *d)
{
	uint64_t all = UINT64_MAX, old;
	pthread_attr_t a;
	int err;

	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, STACK_BYTES);
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof all);
	err = pthread_create(&d->thread, &a, driver_main, d);
	if (err == EINVAL) /* static TLS larger than that */
		err = pthread_create(&d->thread, NULL, driver_main, d);
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof old);
	pthread_attr_destroy(&a);
#ifdef __SANITIZE_ADDRESS__
	/* Its allocator is no friend of fork(): a thread that begins may leave it locked in the child. */
	while (!err && !atomic_load(&d->begun))
		sched_yield();
#endif
	return -err;
}

static void driver_count(struct netio *n, bool on)
{
	struct stack_cx *cx = netio_enter(n);

	proc_driver_set(n, cx, on);
	netio_leave(n);
}

/* libev does not bear a descriptor that another thread closes: it gets a set that has it. */
static void line_add(struct netio *n, struct driver *d)
{
	struct epoll_event e = {.events = EPOLLRDHUP | EPOLLET};

	lock_acquire(n);
	if (n->keeper_fd >= 0)
		RAW4(SYS_epoll_ctl, d->line_fd, EPOLL_CTL_ADD, n->keeper_fd, &e);
	lock_release(n);
}

static int line_open(struct netio *n, struct driver *d)
{
	int fd = (int)netio_fd_call(SYS_epoll_create1, EPOLL_CLOEXEC, 0, 0, 0);
	int err = fd < 0 ? fd : fds_keep(fd, &d->line_fd);

	if (!err)
		line_add(n, d);
	return err;
}

int netio_start_driver(struct netio *n)
{
	struct driver *d;
	int err = 0, fd;

	pthread_mutex_lock(&starting);
	netio_births_begin();
	if (n->driver || n->forgotten)
		goto out;
	err = -ENOMEM;
	d = pages_alloc(sizeof *d);
	if (!d)
		goto out;
	d->n = n;
	d->kick_fd = d->line_fd = -1;
	err = load_libev(d);
	if (!err) {
		fd = (int)netio_fd_call(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC, 0, 0);
		err = fd < 0 ? fd : fds_keep(fd, &d->kick_fd);
	}
	if (!err)
		err = line_open(n, d);
	if (!err) {
		ev_io_init(&d->kick, on_kick, d->kick_fd, EV_READ);
		ev_io_init(&d->device, on_io, n->dev.fd, EV_READ);
		ev_io_init(&d->timer, on_io, n->timer_fd, EV_READ);
		ev_io_init(&d->line, on_line, d->line_fd, EV_READ);
		d->kick.data = d->device.data = d->timer.data = d->line.data = d;
		/* Here, not in the thread: by then the application may have taken the last number. */
		err = loop_open(d);
	}
	if (!err)
		err = spawn(d);
	if (err) {
		loop_close(d);
		fds_drop(&d->kick_fd);
		fds_drop(&d->line_fd);
		pages_free(d, sizeof *d);
	} else {
		n->driver = d;
		n->driver_wanted = true;
	}
out:
	netio_births_end();
	pthread_mutex_unlock(&starting);
	if (!err && n->driver)
		driver_count(n, true);
	return err;
}

void driver_stop(struct netio *n)
{
	struct driver *d;
	uint64_t one = 1;

	pthread_mutex_lock(&starting);
	d = n->driver;
	n->driver = NULL;
	pthread_mutex_unlock(&starting);
	/* The thread that ends may wait for `starting` (driver_watch_line). */
	if (!d)
		return;
	atomic_store(&d->stop, 1);
	RAW6(SYS_futex, &d->stop, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	raw_write(d->kick_fd, &one, sizeof one);
	driver_unpark(n);
	pthread_join(d->thread, NULL);
	atomic_store(&n->driver_armed, false);
	fds_drop(&d->kick_fd);
	fds_drop(&d->line_fd);
	pages_free(d, sizeof *d);
	driver_count(n, false);
}

bool netio_pause_driver(struct netio *n)
{
	bool running;

	pthread_mutex_lock(&starting);
	running = n->driver && !n->forgotten;
	pthread_mutex_unlock(&starting);
	if (running)
		driver_stop(n);
	return running;
}

bool netio_leave_to_keeper(struct netio *n)
{
	if (n->forgotten || keeper_start(n))
		return false;
	n->driver_wanted = false;
	driver_stop(n);
	return true;
}

void driver_watch_line(struct netio *n)
{
	pthread_mutex_lock(&starting);
	if (n->driver)
		line_add(n, n->driver);
	pthread_mutex_unlock(&starting);
}

/* In a forked child the thread does not exist. */
void driver_forget(struct netio *n)
{
	struct driver *d = n->driver;

	pthread_mutex_init(&starting, NULL);
	n->driver = NULL;
	n->driver_wanted = false;
	atomic_store(&n->driver_armed, false);
	if (d) {
		fds_drop(&d->kick_fd);
		fds_drop(&d->line_fd);
	}
}
