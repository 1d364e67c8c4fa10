/*
 * calls_uring.c - wrappers: io_uring is not to be had.
 *
 * A ring reads and writes descriptors inside the kernel, where no wrapper sees it:
 * on the number of a connection it would wait for ever. A ring is made once, early,
 * and used for whatever comes; so from the start it is as with a kernel that lacks
 * io_uring, or whose administrator forbade it, and programs do what they do there.
 *
 * liburing makes its system calls itself; what it exports is here. Rings made by
 * a copy of it inside the program, or by the instruction, nobody sees.
 *
 * Place in the flow: calls_fd.c (syscall) asks here as well.
 */
#include "preload/calls.h"
#include "preload/process.h"

bool uring_denied(void)
{
	if (atomic_load(&process.sealed))
		return false; /* nothing of the stack is left in this process */
	process_init();
	return !the_config.off;
}

int io_uring_queue_init(unsigned int entries, struct io_uring *ring, unsigned int flags)
{
	return uring_denied() ? -ENOSYS : REAL(io_uring_queue_init)(entries, ring, flags);
}

int io_uring_queue_init_params(unsigned int entries, struct io_uring *ring, struct io_uring_params *p)
{
	return uring_denied() ? -ENOSYS : REAL(io_uring_queue_init_params)(entries, ring, p);
}

int io_uring_queue_init_mem(unsigned int entries, struct io_uring *ring, struct io_uring_params *p, void *buf,
			    size_t size)
{
	return uring_denied() ? -ENOSYS : REAL(io_uring_queue_init_mem)(entries, ring, p, buf, size);
}

int io_uring_setup(unsigned int entries, struct io_uring_params *p)
{
	return uring_denied() ? -ENOSYS : REAL(io_uring_setup)(entries, p);
}

struct io_uring_probe *io_uring_get_probe(void)
{
	return uring_denied() ? NULL : REAL(io_uring_get_probe)();
}
