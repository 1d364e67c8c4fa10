/*
 * memory.c - the caller's memory, looked at before it is used: the kernel answers
 * EFAULT for what it cannot read or write, and so do calls that keep state of
 * ours while they touch it.
 *
 * Small things (an array of events) are asked for by range: a thread remembers
 * the last one, and its own frames need no question. What is sent and received
 * is asked for by page: a table of the process remembers the pages that were good
 * once, so that a call with a buffer that was seen before makes no system call
 * (about a nanosecond a page). A page that the program has unmapped since is
 * believed to be there still, and ends in SIGSEGV, not in EFAULT.
 *
 * Place in the flow: poll, epoll and their wrappers, socket.c -> here.
 */
#include <linux/futex.h>
#include <sys/mman.h>
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

static bool byte_readable(uintptr_t at)
{
	char c;
	struct iovec to = {&c, 1}, from = {(void *)at, 1}; /* NOLINT: an address to be probed */

	/* Refused by a sandbox: believe the caller, as any code outside the kernel has to. */
	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) >= 0 || errno != EFAULT;
}

static __attribute__((noinline)) bool now_readable(uintptr_t a, uintptr_t end)
{
	int saved_errno = errno;
	bool ok = true;

	for (uintptr_t at = a; ok && at < end; at = page_of(at) + PAGE_BYTES)
		ok = byte_readable(at);
	if (ok)
		readable = (struct range){page_of(a), page_of(end - 1) + PAGE_BYTES};
	errno = saved_errno;
	return ok;
}

bool memory_readable(const void *p, size_t len)
{
	uintptr_t a = (uintptr_t)p, end = a + len;

	if (!len)
		return true;
	if (!p || end < a)
		return false;
	return is_known(&readable, a, end) || now_readable(a, end);
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

/* ------------------------------------------------------------ pages seen before */

#define SEEN_PAGES 16384u /* 64 MiB of buffers; memory is used for what is used of it */

/* The page's number and 1, shifted, and whether it can be written. By the number's low bits. */
static _Atomic(_Atomic uint64_t *) seen;

/* A table that nobody has yet: NULL while there is none to be had. */
static _Atomic uint64_t *seen_make(void)
{
	_Atomic uint64_t *none = NULL;
	void *m =
	    mmap(NULL, SEEN_PAGES * sizeof *none, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (m == MAP_FAILED)
		return NULL;
	if (atomic_compare_exchange_strong(&seen, &none, m))
		return m;
	munmap(m, SEEN_PAGES * sizeof *none);
	return none;
}

static bool is_seen(_Atomic uint64_t *table, uintptr_t at, bool write)
{
	uintptr_t page = at / PAGE_BYTES;
	uint64_t v = table ? atomic_load_explicit(&table[page % SEEN_PAGES], memory_order_relaxed) : 0;

	return v >> 1 == page + 1 && (v & 1 || !write);
}

static void see(_Atomic uint64_t *table, uintptr_t from, uintptr_t end, bool write)
{
	for (uintptr_t page = from / PAGE_BYTES; table && page * PAGE_BYTES < end; page++)
		atomic_store_explicit(&table[page % SEEN_PAGES], (uint64_t)(page + 1) << 1 | write,
				      memory_order_relaxed);
}

/*
 * New pages: one call brings all of them in. Where it fails (something is not
 * there, the mapping is a device's, the kernel is older than 5.14), they are tried
 * one by one. Returns the end of the good ones.
 */
static uintptr_t ask(_Atomic uint64_t *table, uintptr_t at, uintptr_t end, bool write)
{
	uintptr_t from = page_of(at), start = at;
	size_t len = page_of(end - 1) + PAGE_BYTES - from;

	if (!RAW3(SYS_madvise, from, len, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ))
		at = end;
	while (at < end && (write ? word_writable(at) : byte_readable(at)))
		at = page_of(at) + PAGE_BYTES;
	if (at > start)
		see(table, from, MIN_OF(at, end), write);
	return MIN_OF(at, end);
}

size_t memory_touch(void *p, size_t len, bool write)
{
	_Atomic uint64_t *table = atomic_load_explicit(&seen, memory_order_acquire);
	uintptr_t a = (uintptr_t)p, end = a + len, at = a;

	if (end < a)
		return 0;
	for (; at < end && is_seen(table, at, write); at = page_of(at) + PAGE_BYTES) {
		if (write)
			__atomic_fetch_or((uint8_t *)at, 0,
					  __ATOMIC_RELAXED); /* NOLINT: the page, as it is */
		else
			(void)*(volatile uint8_t *)at; /* NOLINT */
	}
	if (at < end) {
		int saved_errno = errno;
		at = ask(table ? table : seen_make(), at, end, write);
		errno = saved_errno;
	}
	return MIN_OF(at, end) - a;
}
