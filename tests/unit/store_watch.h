/*
 * store_watch.h - a function called after each store into a piece of memory: the only instants at
 * which a death can make a difference to what lies there. The memory is read-only;
 * a store faults, its page is opened, the instruction stepped (trap flag), the page
 * closed. All of that in the process itself and without a clock, so that the n-th
 * store of a run is the n-th of the next. `after` runs in a signal's handler, but
 * between two instructions of code that calls nobody (core/): it may do anything,
 * leave by siglongjmp(), or watch another piece of memory.
 */
#ifndef TESTS_UNIT_STORE_WATCH_H
#define TESTS_UNIT_STORE_WATCH_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "tests/check.h"

#define WATCH_PAGE  4096u
#define WATCH_PAGES 4	 /* that one instruction writes to */
#define WATCH_RUN   256u /* bytes of a string instruction that count as one store */

struct store_watch {
	uint8_t *at;
	size_t len;
	void (*after)(struct store_watch *w);
	uint64_t stores;
	/* private */
	struct store_watch *outer;
	uint8_t *open[WATCH_PAGES];
	unsigned opened;
};

static struct store_watch *watches;

#ifdef __x86_64__
#define STORE_WATCH 1

static void watch_step(void *context, bool step)
{
	greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];

	*flags = step ? *flags | 0x100 : *flags & ~(greg_t)0x100;
}

/*
 * libc's memset() and memcpy() of much: one instruction, which steps byte by byte. A run of it is done here;
 * the instruction goes on with the rest. The bytes done; 0: it is another.
 */
static size_t watch_string(void *context, uint8_t *at)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
	const uint8_t *code = (const uint8_t *)g[REG_RIP];
	bool wide = code[1] == 0x48;
	uint8_t op = code[wide ? 2 : 1];
	size_t size = wide ? 8 : 1, count = WATCH_RUN / size;

	if (code[0] != 0xf3 || (op != (wide ? 0xab : 0xaa) && op != (wide ? 0xa5 : 0xa4)))
		return 0;
	size_t room = (WATCH_PAGE - (uintptr_t)at % WATCH_PAGE) / size;
	count = count < room ? count : room;
	count = count < (size_t)g[REG_RCX] ? count : (size_t)g[REG_RCX];
	for (size_t i = 0; i < count; i++) {
		if (op >= 0xaa)
			memcpy(at + i * size, &g[REG_RAX], size);
		else
			memcpy(at + i * size, (const uint8_t *)g[REG_RSI] + i * size, size);
	}
	g[REG_RCX] -= (greg_t)count;
	g[REG_RDI] += (greg_t)(count * size);
	g[REG_RSI] += (greg_t)(op >= 0xaa ? 0 : count * size);
	return count;
}
#else
#define STORE_WATCH 0 /* nothing that a program may step itself by */

static void watch_step(void *context, bool step)
{
	(void)context;
	(void)step;
}
static size_t watch_string(void *context, uint8_t *at)
{
	(void)context;
	(void)at;
	return 0;
}
#endif

static void watch_close(struct store_watch *w)
{
	while (w->opened)
		mprotect(w->open[--w->opened], WATCH_PAGE, PROT_READ);
	sigset_t both; /* for watches in watches: the handlers do not block them, but tsan's runtime does */
	sigemptyset(&both);
	sigaddset(&both, SIGSEGV);
	sigaddset(&both, SIGTRAP);
	sigprocmask(SIG_UNBLOCK, &both, NULL);
	w->stores++;
	if (w->after)
		w->after(w);
}

static void watch_on_store(int signal_number, siginfo_t *info, void *context)
{
	uint8_t *at = info->si_addr;
	struct store_watch *w = watches;

	while (w && (at < w->at || at >= w->at + w->len))
		w = w->outer;
	if (!w || w->opened == WATCH_PAGES) {
		signal(signal_number, SIG_DFL); /* a fault as any other: it comes again */
		return;
	}
	w->open[w->opened] = at - (uintptr_t)at % WATCH_PAGE;
	mprotect(w->open[w->opened++], WATCH_PAGE, PROT_READ | PROT_WRITE);
	if (w->opened == 1 && watch_string(context, at))
		watch_close(w);
	else
		watch_step(context, true);
}

static void watch_on_step(int signal_number, siginfo_t *info, void *context)
{
	(void)signal_number;
	(void)info;
	watch_step(context, false);
	for (struct store_watch *w = watches; w; w = w->outer) {
		if (!w->opened)
			continue;
		watch_close(w);
		return;
	}
}

/* w: at, len (whole pages) and after are set. */
static void watch_begin(struct store_watch *w)
{
	struct sigaction on_store = {.sa_sigaction = watch_on_store, .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct sigaction on_step = {.sa_sigaction = watch_on_step, .sa_flags = SA_SIGINFO | SA_NODEFER};

	w->stores = 0;
	w->opened = 0;
	w->outer = watches;
	watches = w;
	sigaction(SIGSEGV, &on_store, NULL);
	sigaction(SIGTRAP, &on_step, NULL);
	CHECK_FATAL(mprotect(w->at, w->len, PROT_READ) == 0);
}

static void watch_end(struct store_watch *w)
{
	watches = w->outer;
	w->opened = 0;
	mprotect(w->at, w->len, PROT_READ | PROT_WRITE);
	if (watches)
		return;
	signal(SIGSEGV, SIG_DFL);
	signal(SIGTRAP, SIG_DFL);
}

#endif
