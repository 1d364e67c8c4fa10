/*
 * region.c - the memory that holds the whole stack (design D2).
 *
 * A memfd, mapped MAP_SHARED at an address range that is reserved once and is
 * larger than the file: growth is an ftruncate() and never moves the base.
 * Nothing touches memory beyond the file's end (that would be SIGBUS): the
 * usable size is kept in the head and in cx->limit.
 *
 * Growth can be refused: by RLIMIT_FSIZE (EFBIG, and a SIGXFSZ that would kill
 * the application: it is blocked around the call and taken back), by strict
 * overcommit, by the reserved range. The stack then runs on with the buffers it
 * has. Under strict overcommit (mode 2) pages are committed by fallocate() as
 * the file grows, because a refused page would be a SIGBUS later.
 *
 * A process that lowers its `ulimit -v` afterwards (vsftpd) needs the address space
 * itself: it keeps what is used and a fraction of the new limit, and maps the next
 * pages when the region has grown. Where that is refused it is cut off from the
 * stack (severed.c), as the pages are in use by others.
 *
 * Memory goes back when the traffic pauses: the driver thread punches holes where
 * the core has data chunks to spare (not where pages were committed: they could
 * be refused when they are wanted again).
 *
 * Place in the flow: attach.c creates it; core asks for more through cx->grow.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "netio/internal.h"
#include "utcp/pool.h"

#define MIB	       (1ull << 20)
#define REGION_START   (4 * MIB)
#define REGION_STEP    (4 * MIB)
#define REGION_RESERVE (16ull << 30)
#define REGION_LEAST   (8 * MIB)

#define SIGSET_BYTES 8 /* of the kernel's sigset_t */

static uint64_t users_layout;

void netio_set_layout(uint64_t hash)
{
	users_layout = hash;
}

uint64_t netio_layout(void)
{
#define FIELD LAYOUT_FIELD
	static const size_t facts[] = {
	    sizeof(struct region_head),	  sizeof(struct stack_name),
	    sizeof(struct device),	  sizeof(struct attach_message),
	    sizeof(struct enter_message), sizeof(struct return_message),
	    sizeof(struct spawn_message), REGION_HEAD_BYTES,
	    sizeof(struct add_message),	  FIELD(region_head, lock),
	    FIELD(region_head, last_now), FIELD(region_head, limit),
	    FIELD(region_head, reserved), FIELD(region_head, broken),
	    FIELD(region_head, armed),	  FIELD(region_head, procs),
	    FIELD(region_head, drivers),  FIELD(region_head, name),
	    FIELD(region_head, maker),	  FIELD(region_head, secret),
	    FIELD(region_head, keepers),  FIELD(region_head, has_init),
	    FIELD(region_head, waiters),  FIELD(region_head, parked),
	    FIELD(region_head, unparked), FIELD(region_head, activity),
	};
#undef FIELD
	uint64_t hash = layout_mix(stack_layout_hash() ^ users_layout, facts, ARRAY_LEN(facts));

	for (const char *p = UTCP_VERSION; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 0x100000001b3ull;
	return procs_layout(ready_layout(hash));
}

/* ftruncate() without the signal that RLIMIT_FSIZE attaches to it. */
static int truncate_quietly(int fd, uint64_t size)
{
	uint64_t set = 1ull << (SIGXFSZ - 1), old = 0, pending = 0;
	struct timespec zero = {0, 0};
	long r;

	RAW4(SYS_rt_sigprocmask, SIG_BLOCK, &set, &old, SIGSET_BYTES);
	RAW2(SYS_rt_sigpending, &pending, SIGSET_BYTES);
	r = RAW2(SYS_ftruncate, fd, size);
	/* Take back only what this call raised, not one that the application has pending. */
	if (r == -EFBIG && !(pending & set))
		RAW4(SYS_rt_sigtimedwait, &set, NULL, &zero, SIGSET_BYTES);
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, SIGSET_BYTES);
	return (int)r;
}

static int region_extend(struct region *r, uint64_t from, uint64_t to)
{
	int err = truncate_quietly(r->fd, to);

	if (err)
		return err;
	if (r->commit)
		err = (int)RAW4(SYS_fallocate, r->fd, 0, from, to - from);
	return err;
}

void netio_address_space(struct netio *n, uint64_t limit)
{
	struct region *r = &n->region;
	uint64_t keep;

	lock_acquire(n);
	keep = (REGION_HEAD_BYTES + r->head->limit + limit / 8 + MIB - 1) & ~(MIB - 1);
	if (keep < MIN_OF(r->mapped, r->reserved) &&
	    !RAW2(SYS_munmap, (uint8_t *)r->head + keep, r->mapped - keep))
		r->mapped = keep;
	lock_release(n);
}

static bool map_next(struct region *r, uint64_t to)
{
	uint8_t *at = (uint8_t *)r->head + r->mapped;
	long p = RAW6(SYS_mmap, at, to - r->mapped, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE, r->fd, r->mapped);

	if (p != (long)(uintptr_t)at) {
		if (p > 0)
			RAW2(SYS_munmap, p, to - r->mapped);
		return false;
	}
	RAW3(SYS_madvise, at, to - r->mapped, MADV_DONTDUMP);
	r->mapped = to;
	return true;
}

int region_widen(struct region *r, uint64_t bytes)
{
	uint64_t need = (REGION_HEAD_BYTES + bytes + 4095) & ~4095ull;
	uint64_t step = MIN_OF((need + REGION_STEP - 1) & ~(REGION_STEP - 1), r->reserved);

	return need <= r->mapped || map_next(r, step) || map_next(r, need) ? 0 : -ENOMEM;
}

int region_grow(struct region *r, uint64_t bytes)
{
	uint64_t room = r->reserved - REGION_HEAD_BYTES;
	uint64_t have = r->head->limit, want;

	if (bytes <= have)
		return 0;
	if (bytes > room)
		return -ENOMEM;
	/* A generous step first (sparse: it costs nothing until touched), then the bare need. */
	want = MAX_OF(bytes, have + MAX_OF(REGION_STEP, have / 2));
	want = MIN_OF((want + MIB - 1) & ~(MIB - 1), room);
	if (r->commit)
		want = MIN_OF((bytes + MIB - 1) & ~(MIB - 1), room);
	if (region_widen(r, want) || region_extend(r, REGION_HEAD_BYTES + have, REGION_HEAD_BYTES + want)) {
		want = (bytes + 4095) & ~4095ull;
		if (want > room || region_widen(r, want) ||
		    region_extend(r, REGION_HEAD_BYTES + have, REGION_HEAD_BYTES + want))
			return -ENOMEM;
	}
	r->head->limit = want;
	return 0;
}

#define TRIM_KEEP  256u /* chunks of 16 KiB: 4 MiB stay at hand */
#define TRIM_BATCH 32	/* for one hold of the lock */
#define TRIM_SPARE (2u << 20)

static void hole_punch(void *arg, uint64_t at, uint64_t len)
{
	const struct netio *n = arg;

	RAW4(SYS_fallocate, n->region.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, REGION_HEAD_BYTES + at,
	     len);
}

void region_trim(struct netio *n)
{
	uint64_t at, len;
	int taken = TRIM_BATCH;

	if (n->region.commit)
		return;
	lock_acquire(n);
	pool_release(&n->cx, TRIM_SPARE, TRIM_KEEP, hole_punch, n);
	lock_release(n);
	while (taken == TRIM_BATCH) {
		lock_acquire(n);
		for (taken = 0; taken < TRIM_BATCH && pool_trim(&n->cx, TRIM_KEEP, &at, &len); taken++)
			hole_punch(n, at, len);
		lock_release(n);
	}
}

/* vm.overcommit_memory == 2? Unreadable: no. */
static bool overcommit_is_strict(void)
{
	char c = '0';
	long fd = netio_fd_call(SYS_openat, AT_FDCWD, (long)"/proc/sys/vm/overcommit_memory",
				O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return false;
	if (raw_read((int)fd, &c, 1) != 1)
		c = '0';
	raw_close((int)fd);
	return c == '2';
}

/* Address space: plenty, but a fraction of what `ulimit -v` leaves to the application. */
static void *reserve(struct region *r)
{
	struct rlimit as = {RLIM_INFINITY, RLIM_INFINITY};
	uint64_t size = REGION_RESERVE;

	RAW4(SYS_prlimit64, 0, RLIMIT_AS, NULL, &as);
	if (as.rlim_cur != RLIM_INFINITY) {
		while (size > REGION_LEAST && size > as.rlim_cur / 8)
			size /= 2;
	}
	for (; size >= REGION_LEAST; size /= 2) {
		void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, r->fd, 0);
		if (p != MAP_FAILED) {
			r->reserved = r->mapped = size;
			return p;
		}
	}
	return NULL;
}

int region_create(struct region *r, char *why, size_t why_len)
{
	int err;

	r->fd = (int)netio_fd_call(SYS_memfd_create, (long)"utcp", MFD_CLOEXEC | MFD_ALLOW_SEALING, 0, 0);
	if (r->fd < 0) {
		err = r->fd;
		if (err == -EMFILE)
			why_set(why, why_len, "no file descriptor is free; raise `ulimit -n`");
		else
			why_set(why, why_len,
				"the stack's memory cannot be made (memfd_create: %s); allow the call",
				strerror(-err));
		return err;
	}
	err = fds_keep(r->fd, &r->fd);
	if (err) {
		why_set(why, why_len, "no file descriptor is free; raise `ulimit -n`");
		return err;
	}
	r->commit = overcommit_is_strict();
	err = region_extend(r, 0, REGION_HEAD_BYTES + REGION_START);
	if (err) {
		why_set(why, why_len,
			"the stack's memory of %u MiB is refused (%s); check `ulimit -f` and `ulimit -v`",
			(unsigned)(REGION_START / MIB), strerror(-err));
		goto fail;
	}
	/* Nobody may cut it short under our feet: that would be a SIGBUS in the application. */
	sys.fcntl(r->fd, F_ADD_SEALS, F_SEAL_SHRINK);
	r->head = reserve(r);
	if (!r->head) {
		why_set(why, why_len, "the stack's memory cannot be mapped; raise `ulimit -v`");
		err = -ENOMEM;
		goto fail;
	}
	madvise(r->head, r->reserved, MADV_DONTDUMP);
	memcpy(r->head->magic, "utcp-rg1", sizeof r->head->magic);
	r->head->layout_hash = netio_layout();
	r->head->limit = REGION_START;
	r->head->reserved = r->reserved;
	r->head->armed = NSEC_NEVER;
	return 0;
fail:
	fds_drop(&r->fd);
	return err == -EFBIG ? -ENOMEM : err;
}

/* Bytes of the file, which nobody can cut short any more; 0: it is not one of ours. */
static uint64_t file_bytes(int fd)
{
	struct stat st;

	if (RAW2(SYS_fstat, fd, &st) || !(RAW3(SYS_fcntl, fd, F_GET_SEALS, 0) & F_SEAL_SHRINK))
		return 0;
	return (uint64_t)st.st_size;
}

/* Is what another process calls a region one that we can work on? Its bytes of address space, or 0. */
static uint64_t head_check(const struct region_head *h, uint64_t bytes)
{
	if (memcmp(h->magic, "utcp-rg1", sizeof h->magic) != 0 || h->layout_hash != netio_layout())
		return 0;
	if (h->reserved < REGION_LEAST || h->reserved > REGION_RESERVE || h->limit < REGION_START ||
	    h->limit > h->reserved - REGION_HEAD_BYTES || h->limit > bytes - REGION_HEAD_BYTES)
		return 0;
	return h->reserved;
}

int region_adopt(struct region *r, int fd)
{
	struct region_head *h;
	uint64_t reserved = 0, bytes;
	int err = fds_keep(fd, &r->fd);

	if (err)
		return err;
	/* Memory beyond the end of the file would be a SIGBUS. */
	bytes = file_bytes(r->fd);
	err = bytes > REGION_HEAD_BYTES ? 0 : -EPROTO;
	if (!err) {
		h = mmap(NULL, REGION_HEAD_BYTES, PROT_READ, MAP_SHARED, r->fd, 0);
		err = h == MAP_FAILED ? -ENOMEM : 0;
	}
	if (!err) {
		reserved = head_check(h, bytes);
		munmap(h, REGION_HEAD_BYTES);
		err = reserved ? 0 : -EPROTO;
	}
	if (!err) {
		h = mmap(NULL, reserved, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, r->fd, 0);
		err = h == MAP_FAILED ? -ENOMEM : 0;
	}
	if (err) {
		fds_drop(&r->fd);
		return err;
	}
	madvise(h, reserved, MADV_DONTDUMP);
	r->head = h;
	r->reserved = r->mapped = reserved;
	r->commit = overcommit_is_strict();
	return 0;
}

void region_destroy(struct region *r)
{
	if (r->head)
		munmap(r->head, MIN_OF(r->reserved, r->mapped));
	r->head = NULL;
	if (r->fd >= 0)
		fds_drop(&r->fd);
}
