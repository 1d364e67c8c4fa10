/*
 * fds.c - our descriptors, kept out of the application's way.
 *
 * POSIX promises the application the lowest free number, select() handles 1024
 * of them, and programs close or dup2() over whole ranges. So every descriptor
 * that we keep is moved up: above 1024 where the limit allows it, else near the
 * limit, and above it where that is small or the application has used up all
 * numbers (room.c). A bitmap says in one read whether a number is ours (the wrappers then
 * answer EBADF); a second table holds the address of the variable that keeps
 * the number, so that netio_vacate_fd() can move it when the application
 * insists on that very number.
 *
 * Place in the flow: used by everything in netio and by preload's wrappers.
 */
#include <fcntl.h>
#include <sys/resource.h>

#include "netio/internal.h"

#define WORD_BITS    64
#define PAGE_BITS    14
#define PAGE	     (1u << PAGE_BITS)
#define FEW	     256 /* a limit below which ours would be too many of the application's numbers */
#define RESERVE_FROM 64	 /* and one below which the reserve would be */

static _Atomic uint64_t ours[FDS_MAX / WORD_BITS];
static int **where_of[FDS_MAX / PAGE]; /* pages, made when they are needed */
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct netio *attachments;

bool netio_owns_fd(int fd)
{
	if ((unsigned)fd >= FDS_MAX)
		return false;
	return atomic_load_explicit(&ours[fd / WORD_BITS], memory_order_relaxed) >> (fd % WORD_BITS) & 1;
}

_Atomic int netio_lowest_fd = INT32_MAX;

/* False: no memory. */
static bool mark(int fd, int *where)
{
	int ***page = &where_of[fd / PAGE];

	if (!*page)
		*page = pages_alloc(PAGE * sizeof **page);
	if (!*page)
		return false;
	if (fd < atomic_load_explicit(&netio_lowest_fd, memory_order_relaxed))
		atomic_store_explicit(&netio_lowest_fd, fd, memory_order_relaxed);
	(*page)[fd % PAGE] = where;
	atomic_fetch_or_explicit(&ours[fd / WORD_BITS], 1ull << (fd % WORD_BITS), memory_order_relaxed);
	return true;
}

static void unmark(int fd)
{
	if ((unsigned)fd >= FDS_MAX || !where_of[fd / PAGE])
		return;
	atomic_fetch_and_explicit(&ours[fd / WORD_BITS], ~(1ull << (fd % WORD_BITS)), memory_order_relaxed);
	where_of[fd / PAGE][fd % PAGE] = NULL;
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

/* Where ours begin, below the limit. */
static rlim_t floor_of(rlim_t limit)
{
	return limit >= 2048 ? 1024 : limit - limit / 8;
}

/* A copy of fd with a high number, CLOEXEC; fd stays open. */
static int dup_high(int fd)
{
	rlim_t limit = fds_limit(), floor[4] = {floor_of(limit), limit / 2, limit / 4, 3};
	int r = limit < FEW ? fds_dup_above(fd) : -EMFILE;

	for (unsigned i = 0; r < 0 && i < ARRAY_LEN(floor); i++)
		if (floor[i] < FDS_MAX)
			r = (int)RAW3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, floor[i]);
	if (r < 0 && limit >= FEW)
		r = fds_dup_above(fd);
	if (r >= FDS_MAX) {
		raw_close(r);
		r = -EMFILE;
	}
	return r;
}

/* The application's calls cannot come to it. */
static bool is_above(int fd)
{
	return fd < FDS_MAX && (rlim_t)fd >= fds_limit();
}

int fds_raise(int fd)
{
	int r = fd < 0 || is_above(fd) ? -EBADF : dup_high(fd);

	if (r < 0)
		return fd;
	raw_close(fd);
	return r;
}

/* With nowhere else to go it stays where it is. */
static int keep(int fd, int *where)
{
	bool stays = is_above(fd);
	int r;

	pthread_mutex_lock(&table_lock);
	r = stays ? fd : dup_high(fd);
	if (r < 0 && (unsigned)fd < FDS_MAX) {
		stays = true;
		r = fd;
	}
	if (r >= 0 && !mark(r, where)) {
		if (!stays)
			raw_close(r);
		stays = false;
		r = -ENOMEM;
	} else if (r >= 0 && where) {
		*where = r;
	}
	if (!stays)
		raw_close(fd);
	pthread_mutex_unlock(&table_lock);
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

int netio_store_fd_at(int fd, int *where)
{
	rlim_t limit = fds_limit(), floor = floor_of(limit);
	int r = -EMFILE;

	pthread_mutex_lock(&table_lock);
	if (limit >= FEW && floor < FDS_MAX)
		r = (int)RAW3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, floor);
	if (r >= 0 && (r >= FDS_MAX || !mark(r, where))) {
		raw_close(r);
		r = -ENOMEM;
	}
	*where = r < 0 ? -1 : r;
	pthread_mutex_unlock(&table_lock);
	raw_close(fd);
	return r < 0 ? r : 0;
}

/* ------------------------------------------------------------ the reserve (room.c) */

static int reserve[RESERVE];
static unsigned reserve_kept, reserve_wanted;

/* fd into it, if it is short; table_lock held. False: it is not for the reserve. */
static bool reserve_take(int fd)
{
	if (reserve_kept >= reserve_wanted || !attachments || (unsigned)fd >= FDS_MAX ||
	    (rlim_t)fd < fds_limit() / 4)
		return false;
	if (RAW3(SYS_dup3, attachments->timer_fd, fd, O_CLOEXEC) < 0 || !mark(fd, &reserve[reserve_kept]))
		return false;
	reserve[reserve_kept++] = fd;
	return true;
}

static void reserve_pop(void)
{
	int fd = reserve[--reserve_kept];

	unmark(fd);
	raw_close(fd);
}

void netio_reserve_fds(struct netio *n)
{
	rlim_t limit = fds_limit();
	unsigned kept = 0;

	pthread_mutex_lock(&table_lock);
	reserve_wanted = fds_can_rise() ? 0 : limit < RESERVE_FROM ? 1 : RESERVE;
	/* A number above the limit is of no use to who gives it up. */
	while (kept < reserve_kept && kept < reserve_wanted && (rlim_t)reserve[kept] < limit)
		kept++;
	while (reserve_kept > kept)
		reserve_pop();
	while (reserve_kept < reserve_wanted) {
		int fd = dup_high(n->timer_fd);

		if (fd < 0 || !mark(fd, &reserve[reserve_kept]))
			break;
		reserve[reserve_kept++] = fd;
	}
	pthread_mutex_unlock(&table_lock);
}

bool fds_reserve_spend(unsigned count)
{
	bool enough;

	pthread_mutex_lock(&table_lock);
	enough = reserve_kept >= count;
	for (unsigned i = 0; enough && i < count; i++)
		reserve_pop();
	pthread_mutex_unlock(&table_lock);
	return enough;
}

void netio_fd_done(int fd)
{
	pthread_mutex_lock(&table_lock);
	if (!reserve_take(fd))
		raw_close(fd);
	pthread_mutex_unlock(&table_lock);
}

/* One of ours is not used any more. */
static void give_back(int fd)
{
	unmark(fd);
	if (!reserve_take(fd))
		raw_close(fd);
}

void netio_unprotect_close(int fd)
{
	pthread_mutex_lock(&table_lock);
	if (netio_owns_fd(fd))
		give_back(fd);
	pthread_mutex_unlock(&table_lock);
}

void fds_drop(int *where)
{
	pthread_mutex_lock(&table_lock);
	if (*where >= 0) {
		give_back(*where);
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
		where = where_of[fd / PAGE][fd % PAGE];
		if (where) {
			r = dup_high(fd);
			if (r >= 0 && mark(r, where)) {
				unmark(fd);
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
	while (!attachments && reserve_kept)
		reserve_pop();
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

void fds_retire(int *where, int *kept, int as)
{
	pthread_mutex_lock(&table_lock);
	if (*where >= 0) {
		*kept = *where;
		where_of[*kept / PAGE][*kept % PAGE] = kept; /* it was kept: the page is there */
		*where = -1;
		RAW3(SYS_dup3, as, *kept, O_CLOEXEC);
	}
	pthread_mutex_unlock(&table_lock);
}

/* The number is kept in another variable from now on. */
void fds_rename(int fd, int *where)
{
	pthread_mutex_lock(&table_lock);
	if ((unsigned)fd < FDS_MAX && where_of[fd / PAGE])
		where_of[fd / PAGE][fd % PAGE] = where;
	*where = fd;
	pthread_mutex_unlock(&table_lock);
}
