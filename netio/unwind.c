/*
 * unwind.c - how a thread that is cancelled, or calls pthread_exit(), passes through frames of this library.
 *
 * pthread_cleanup_push() in C code keeps a list of places on the stack, in the thread. A handler that leaves
 * a blocking call by siglongjmp() leaves a dead place in it, to which the thread jumps at its end. So these
 * files are compiled with -fexceptions: then what is to be cleaned up hangs on the frames themselves, which
 * the unwinder of libgcc_s finds, and a frame that is gone is gone.
 *
 * The compiler's code for that names two functions of libgcc_s. Linked in, it would cost every program the
 * time to load it; libc loads it when a thread is about to be unwound, and here it is asked only then.
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "netio/instrument.h"

/* Not <unwind.h>, where these are for everybody: ours must not be found by anything but our own code. */
#define OURS __attribute__((visibility("hidden")))
struct exception;
struct context;
typedef int personality_fn(int version, int actions, uint64_t class, struct exception *e, struct context *cx);
typedef void resume_fn(struct exception *e);
OURS personality_fn __gcc_personality_v0;
OURS resume_fn _Unwind_Resume;

static void *unwinder(const char *name)
{
	void *lib = dlopen("libgcc_s.so.1", RTLD_LAZY | RTLD_LOCAL), *f = lib ? dlsym(lib, name) : NULL;

	if (!f)
		abort(); /* as libc does */
	return f;
}

NOT_INSTRUMENTED int __gcc_personality_v0(int version, int actions, uint64_t class, struct exception *e,
					  struct context *cx)
{
	static personality_fn *_Atomic theirs;
	personality_fn *f = theirs;

	if (!f)
		theirs = f = (personality_fn *)(uintptr_t)unwinder("__gcc_personality_v0");
	return f(version, actions, class, e, cx);
}

/* It begins in the frame of its caller: ours must have nothing to clean up, and leads on to the one behind.
 */
NOT_INSTRUMENTED void _Unwind_Resume(struct exception *e)
{
	static resume_fn *_Atomic theirs;
	resume_fn *f = theirs;

	if (!f)
		theirs = f = (resume_fn *)(uintptr_t)unwinder("_Unwind_Resume");
	f(e);
	abort();
}
