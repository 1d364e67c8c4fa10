/*
 * sys.c - fills in the table of the C library's own functions (sys.h).
 *
 * Place in the flow: called before anything else of netio and by preload's
 * start; dlsym(RTLD_NEXT) skips the object that this file is linked into, so
 * that inside libutcp.so the table points past our wrappers.
 */
#include <dlfcn.h>
#include <stdatomic.h>

#include "utcp/sys.h"
#include <errno.h>
#include <stdbool.h>

struct sys_calls sys;

int sys_init(void)
{
	static _Atomic bool done;
	bool complete = true;

	if (atomic_load_explicit(&done, memory_order_acquire))
		return 0;
		/* Two threads may both fill the table: with equal values. */
#define X(type, name, params)                                                                                \
	do {                                                                                                 \
		void *p = dlsym(RTLD_NEXT, #name);                                                           \
		__atomic_store_n((void **)&sys.name, p, __ATOMIC_RELAXED);                                   \
		complete = complete && p;                                                                    \
	} while (0);
	SYS_CALLS(X)
#undef X
	if (!complete)
		return -ENOSYS;
	atomic_store_explicit(&done, true, memory_order_release);
	return 0;
}
