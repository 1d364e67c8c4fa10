/*
 * memory.c - the caller's memory, looked at before it is used: the kernel answers
 * EFAULT for what it cannot read or write, and so do calls that keep state of
 * ours while they touch it.
 *
 * The kernel is asked once for each new range; a thread remembers the last one,
 * and its own frames need no question.
 *
 * Place in the flow: poll, epoll and their wrappers -> here.
 */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "netio/rawsys.h"
#include "preload/preload.h"

#define PAGE_BYTES 4096u

struct range {
	uintptr_t from, to;
};
static __thread struct range readable __attribute__((tls_model("initial-exec")));
static __thread struct range writable __attribute__((tls_model("initial-exec")));

static uintptr_t page_of(uintptr_t a)
{
	return a & ~(uintptr_t)(PAGE_BYTES - 1);
}

/* The frames of our callers, or what was asked for last. */
static bool is_known(const struct range *r, uintptr_t a, uintptr_t end)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	return (a > here && end - here < 4 * PAGE_BYTES) || (a >= r->from && end <= r->to);
}

bool memory_readable(const void *p, size_t len)
{
	uintptr_t a = (uintptr_t)p, end = a + len;
	int saved_errno = errno;
	bool ok = true;

	if (!len)
		return true;
	if (!p || end < a)
		return false;
	if (is_known(&readable, a, end))
		return true;
	for (uintptr_t at = a; ok && at < end; at = page_of(at) + PAGE_BYTES) {
		char c;
		struct iovec to = {&c, 1}, from = {(void *)at, 1}; /* NOLINT: an address to be probed */
		/* Refused by a sandbox: believe the caller, as any code outside the kernel has to. */
		if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) < 0)
			ok = errno != EFAULT;
	}
	if (ok)
		readable = (struct range){page_of(a), page_of(end - 1) + PAGE_BYTES};
	errno = saved_errno;
	return ok;
}

/*
 * Writes a word of the page as it is: an atomic OR of 0, done by the kernel. The
 * threads that FUTEX_WAKE_OP would wake wait on a variable of this frame, or for
 * a value that the condition hardly ever meets.
 */
static bool word_writable(uintptr_t at)
{
	uint32_t nobody = 0;
	uintptr_t word = at & ~(uintptr_t)3;
	int op = FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0x7ff);

	return RAW6(SYS_futex, &nobody, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0, word, op) != -EFAULT;
}

size_t memory_writable(void *p, size_t len)
{
	uintptr_t a = (uintptr_t)p, end = a + len, at = a;

	if (!p || end < a)
		return 0;
	if (is_known(&writable, a, end))
		return len;
	while (at < end && word_writable(at))
		at = page_of(at) + PAGE_BYTES;
	if (at > a)
		writable = (struct range){page_of(a), at};
	return MIN_OF(at, end) - a;
}
