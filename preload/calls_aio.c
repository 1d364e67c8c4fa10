/*
 * calls_aio.c - wrappers: POSIX asynchronous I/O.
 *
 * libc does it in threads of its own with calls that no wrapper sees; on a stack
 * socket those would find the placeholder and end in EINVAL, late and for no
 * reason that a program could know. The truth is that it is not there: ENOSYS,
 * which aio_read(3) names for it, before anything is queued. Programs that use it
 * on sockets fall back to plain calls then, as they do on systems without it.
 * aio_fsync() and aio_cancel() answer of a placeholder what they do of a socket.
 */
#include <aio.h>

#include "preload/calls.h"

/* True: not ours, go on. */
static bool aio_allowed(int fd)
{
	static atomic_flag told = ATOMIC_FLAG_INIT;

	if (LIKELY(!fd_is_stack(fd)))
		return true;
	if (fd_hidden(fd)) {
		errno = EBADF;
		return false;
	}
	if (!atomic_flag_test_and_set(&told))
		log_line("aio_read() and its kin do not work on the stack's sockets; keep them on the kernel "
			 "with UTCP_RULES");
	errno = ENOSYS;
	return false;
}

int aio_read(struct aiocb *cb)
{
	return aio_allowed(cb->aio_fildes) ? REAL(aio_read)(cb) : -1;
}

int aio_read64(struct aiocb64 *cb)
{
	return aio_allowed(cb->aio_fildes) ? REAL(aio_read64)(cb) : -1;
}

int aio_write(struct aiocb *cb)
{
	return aio_allowed(cb->aio_fildes) ? REAL(aio_write)(cb) : -1;
}

int aio_write64(struct aiocb64 *cb)
{
	return aio_allowed(cb->aio_fildes) ? REAL(aio_write64)(cb) : -1;
}

/* One of ours among them: none is queued. */
#define LIST_ALLOWED(list, n)                                                                                \
	({                                                                                                   \
		bool allowed_ = true;                                                                        \
		for (int i_ = 0; i_ < (n) && allowed_; i_++)                                                 \
			if ((list)[i_] && (list)[i_]->aio_lio_opcode != LIO_NOP)                             \
				allowed_ = aio_allowed((list)[i_]->aio_fildes);                              \
		allowed_;                                                                                    \
	})

int lio_listio(int mode, struct aiocb *const list[], int n, struct sigevent *event)
{
	return LIST_ALLOWED(list, n) ? REAL(lio_listio)(mode, list, n, event) : -1;
}

int lio_listio64(int mode, struct aiocb64 *const list[], int n, struct sigevent *event)
{
	return LIST_ALLOWED(list, n) ? REAL(lio_listio64)(mode, list, n, event) : -1;
}
