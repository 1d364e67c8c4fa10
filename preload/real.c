/*
 * real.c - the real functions behind our wrappers, by dlsym(RTLD_NEXT).
 *
 * Two ways in. real_init(), at the first TCP socket, looks every name up once, so
 * that no signal handler and no child of fork() meets the loader's lock later.
 * real_resolve() does it for one name, because wrappers run before any
 * constructor: an allocator's start-up (jemalloc), a sanitizer's, a C++ static
 * object. dlsym() of a name that exists allocates nothing, so an allocator that
 * is itself starting does not recurse; names that this libc may lack are only
 * looked up when somebody calls them. syscall() needs no real function at all
 * (calls_fd.c).
 */
#include <dlfcn.h>

#include "netio/instrument.h"
#include "preload/calls.h"

UTCP_EARLY struct real_calls real;

static const char *const names[REAL_COUNT] = {
#define X(group, type, name, params) [REAL_##name] = #name,
    SYMBOLS(X)
#undef X
};

/* One pointer each, in the order of the ids: the table can be filled by index. */
_Static_assert(sizeof(struct real_calls) == REAL_COUNT * sizeof(void *), "a real pointer is not one word");

static long call_missing(void)
{
	errno = ENOSYS;
	return -1;
}

/* Also while a sanitizer's runtime begins. */
NOT_INSTRUMENTED void *real_resolve(enum real_id id)
{
	int saved_errno = errno;
	void *f = dlsym(RTLD_NEXT, names[id]);

	if (!f)
		f = (void *)call_missing;
	__atomic_store_n((void **)&real + id, f, __ATOMIC_RELEASE);
	errno = saved_errno;
	return f;
}

/* Names outside glibc's public interface, or younger than 2.36: not looked up in vain. */
static bool optional(enum real_id id)
{
	switch (id) {
	case REAL___sendmmsg:
	case REAL___sigaction:
	case REAL___select:
	case REAL_syscall:
	case REAL_io_uring_queue_init:
	case REAL_io_uring_queue_init_params:
	case REAL_io_uring_queue_init_mem:
	case REAL_io_uring_setup:
	case REAL_io_uring_get_probe:
	case REAL_pidfd_spawn:
	case REAL_pidfd_spawnp:
		return true;
	default:
		return false;
	}
}

void real_init(void)
{
	for (enum real_id id = 0; id < REAL_COUNT; id++)
		if (!__atomic_load_n((void **)&real + id, __ATOMIC_ACQUIRE) && !optional(id))
			real_resolve(id);
}
