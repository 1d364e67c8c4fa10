/*
 * fds.c - our descriptors, kept out of the application's way.
 *
 * POSIX promises the application the lowest free number, select() handles 1024
 * of them, and programs close or dup2() over whole ranges. So every descriptor
 * that we keep is moved up: above 1024 where the limit allows it, else near the
 * limit. A bitmap says in one read whether a number is ours (the wrappers then
 * answer EBADF); a second table holds the address of the variable that keeps
 * the number, so that netio_vacate_fd() can move it when the application
 * insists on that very number.
 *
 * Place in the flow: used by everything in netio and by preload's wrappers.
 */
#include <fcntl.h>
#include <sys/resource.h>

#include "netio/internal.h"

#define WORD_BITS 64

static _Atomic uint64_t ours[FDS_MAX / WORD_BITS];
static int *where_of[FDS_MAX];
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct netio *attachments;

bool netio_owns_fd(int fd)
{
	if ((unsigned)fd >= FDS_MAX)
		return false;
	return atomic_load_explicit(&ours[fd / WORD_BITS], memory_order_relaxed) >> (fd % WORD_BITS) & 1;
}

_Atomic int netio_lowest_fd = INT32_MAX;

static void mark(int fd, int *where)
{
	if (fd < atomic_load_explicit(&netio_lowest_fd, memory_order_relaxed))
		atomic_store_explicit(&netio_lowest_fd, fd, memory_order_relaxed);
	where_of[fd] = where;
	atomic_fetch_or_explicit(&ours[fd / WORD_BITS], 1ull << (fd % WORD_BITS), memory_order_relaxed);
}

static void unmark(int fd)
{
	if ((unsigned)fd >= FDS_MAX)
		return;
	atomic_fetch_and_explicit(&ours[fd / WORD_BITS], ~(1ull << (fd % WORD_BITS)), memory_order_relaxed);
	where_of[fd] = NULL;
}

struct netio_births netio_births;
static TLS_FAST unsigned births_depth;

void netio_births_begin(void)
{
	births_depth++;
	atomic_fetch_add(&netio_births.begun, 1);
}

void netio_births_end(void)
{
	atomic_fetch_add(&netio_births.ended, 1);
	births_depth--;
}

bool netio_births_here(void)
{
	return births_depth > 0;
}

/* A copy of fd with a high number, CLOEXEC; fd stays open. */
static int dup_high(int fd)
{
	struct rlimit l = {1024, 1024};
	uint64_t floor[4];
	int r = -EMFILE;

	RAW4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &l);
	floor[0] = l.rlim_cur >= 2048 ? 1024 : l.rlim_cur - l.rlim_cur / 8;
	floor[1] = l.rlim_cur / 2;
	floor[2] = l.rlim_cur / 4;
	floor[3] = 3;
	for (unsigned i = 0; i < ARRAY_LEN(floor); i++) {
		if (floor[i] >= FDS_MAX)
			continue;
		r = (int)RAW3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, floor[i]);
		if (r >= FDS_MAX) {
			raw_close(r);
			r = -EMFILE;
		}
		if (r >= 0)
			break;
	}
	return r;
}

int fds_raise(int fd)
{
	int r = fd < 0 ? -EBADF : dup_high(fd);

	if (r < 0)
		return fd;
	raw_close(fd);
	return r;
}

static int keep(int fd, int *where)
{
	int r;

	pthread_mutex_lock(&table_lock);
	r = dup_high(fd);
	if (r >= 0) {
		mark(r, where);
		if (where)
			*where = r;
	}
	pthread_mutex_unlock(&table_lock);
	raw_close(fd);
	return r;
}

int fds_keep(int fd, int *where)
{
	int r = keep(fd, where);

	if (r < 0)
		*where = -1;
	return r < 0 ? r : 0;
}

int netio_protect_fd(int fd)
{
	return keep(fd, NULL);
}

int netio_protect_fd_at(int fd, int *where)
{
	return fds_keep(fd, where);
}

void netio_unprotect_close(int fd)
{
	pthread_mutex_lock(&table_lock);
	if (netio_owns_fd(fd)) {
		unmark(fd);
		raw_close(fd);
	}
	pthread_mutex_unlock(&table_lock);
}

void fds_drop(int *where)
{
	pthread_mutex_lock(&table_lock);
	if (*where >= 0) {
		unmark(*where);
		raw_close(*where);
		*where = -1;
	}
	pthread_mutex_unlock(&table_lock);
}

/*
 * Give `fd` up. Afterwards the number is an alias that is no longer ours and
 * that the caller's dup2() replaces: it must not fall free in between, another
 * thread could take it. The drivers are stopped meanwhile, because libev keeps
 * descriptor numbers that we cannot reach.
 */
int netio_vacate_fd(int fd)
{
	struct netio *n;
	int r = 0, *where;

	if (!netio_owns_fd(fd))
		return -EBADF;
	for (n = attachments; n; n = n->next)
		driver_stop(n);
	pthread_mutex_lock(&table_lock);
	if (netio_owns_fd(fd)) {
		where = where_of[fd];
		if (where) {
			r = dup_high(fd);
			if (r >= 0) {
				unmark(fd);
				mark(r, where);
				__atomic_store_n(where, r, __ATOMIC_RELEASE);
			}
		} else {
			r = -EBUSY;
		}
	} else if (attachments) {
		/* It was a driver's own and closed with it: hold the number until the caller takes it. */
		r = (int)RAW3(SYS_dup3, attachments->timer_fd, fd, O_CLOEXEC);
	}
	pthread_mutex_unlock(&table_lock);
	for (n = attachments; n; n = n->next) {
		if (n->driver_wanted)
			netio_start_driver(n);
	}
	return r < 0 ? r : 0;
}

/*
 * connect() takes no number with the kernel, and must not fail with us when the
 * application has used up all of its: one more of ours is kept for that moment.
 */
static int spare = -1;

void netio_spare_fd(struct netio *n)
{
	int fd = spare < 0 ? (int)RAW3(SYS_fcntl, n->timer_fd, F_DUPFD_CLOEXEC, 0) : -1;

	if (fd >= 0)
		fds_keep(fd, &spare);
}

bool netio_spare_spend(void)
{
	bool had = spare >= 0;

	fds_drop(&spare);
	return had;
}

void netio_spare_return(struct netio *n, int fd)
{
	pthread_mutex_lock(&table_lock);
	if (spare < 0 && fd < FDS_MAX && RAW3(SYS_dup3, n->timer_fd, fd, O_CLOEXEC) >= 0) {
		spare = fd;
		mark(fd, &spare);
	} else {
		raw_close(fd);
	}
	pthread_mutex_unlock(&table_lock);
}

void fds_attach(struct netio *n)
{
	pthread_mutex_lock(&table_lock);
	n->next = attachments;
	attachments = n;
	pthread_mutex_unlock(&table_lock);
}

void fds_detach(struct netio *n)
{
	pthread_mutex_lock(&table_lock);
	for (struct netio **p = &attachments; *p; p = &(*p)->next) {
		if (*p == n) {
			*p = n->next;
			break;
		}
	}
	pthread_mutex_unlock(&table_lock);
}

void fds_before_fork(void)
{
	pthread_mutex_lock(&table_lock);
}

void fds_parent_after_fork(void)
{
	pthread_mutex_unlock(&table_lock);
}

/* In a forked child: the lock is held by us if fds_before_fork() took it, else perhaps by a thread that is
 * not here. */
void fds_after_fork(bool locked)
{
	if (locked)
		pthread_mutex_unlock(&table_lock);
	else
		pthread_mutex_init(&table_lock, NULL);
	/* Nor is another in the middle of a birth. */
	atomic_store(&netio_births.ended, atomic_load(&netio_births.begun) - births_depth);
}

/* The number is kept in another variable from now on. */
void fds_rename(int fd, int *where)
{
	pthread_mutex_lock(&table_lock);
	if ((unsigned)fd < FDS_MAX)
		where_of[fd] = where;
	*where = fd;
	pthread_mutex_unlock(&table_lock);
}
