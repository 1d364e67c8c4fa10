/*
 * init.c - the composition root: when what comes to life.
 *
 * At load: nothing, but for a process whose old image passed connections on over
 * exec() (exec.c). A program that never makes a TCP socket or an epoll set pays
 * for mapping the library and for looking up the calls that it makes (real.c);
 * most programs that inherit LD_PRELOAD are of that kind.
 *
 * At the first TCP socket or epoll set: all of libc's functions are looked up,
 * the configuration is read, the fork and exit hooks are set; no thread, no
 * socket, no signal handler. A server has its privileges and its root directory
 * until then.
 *
 * At the first connection or listener that policy gives to the stack, or before
 * root becomes another user, who could not do so (calls_privilege.c):
 * stack_attach() makes the region and opens the device, starts the driver thread
 * wraps the signal handlers and takes over libc's streams. At exit: process.c.
 *
 * The shared object can also be run as a program: then the loader jumps to
 * utcp_library_main, which prints the version and the configuration, or becomes
 * the keeper (netio/keeper.c).
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "netio/instrument.h"
#include "preload/exec.h"
#include "preload/fdtable.h"
#include "preload/placeholder.h"
#include "preload/process.h"
#include "preload/stdio.h"

UTCP_EARLY struct netio *_Atomic the_stack;
struct config the_config;

static pthread_once_t init_once = PTHREAD_ONCE_INIT;
static UTCP_EARLY _Atomic bool init_done;
static bool config_broken;
static pthread_mutex_t attach_lock = PTHREAD_MUTEX_INITIALIZER;
static bool attach_failure_told;

static bool environment_requires(void)
{
	const char *v = getenv("UTCP_REQUIRE");
	return v && v[0] == '1' && !v[1];
}

/* What this folder keeps in the region (netio_set_layout). */
static uint64_t layout(void)
{
#define FIELD(field) offsetof(struct description, field), sizeof(((struct description *)NULL)->field)
	static const size_t facts[] = {
	    sizeof(struct description),
	    FIELD(holders),
	    FIELD(sock),
	    FIELD(cookie),
	    FIELD(pumps),
	    FIELD(kind),
	    FIELD(nonblock),
	    FIELD(async),
	    FIELD(v6),
	    FIELD(v6only),
	    FIELD(connect_pending),
	    FIELD(broken),
	    FIELD(rcvtimeo),
	    FIELD(sndtimeo),
	    FIELD(rcvlowat),
	    FIELD(sent_undriven),
	    FIELD(kernel_turn),
	    FIELD(undecided),
	    FIELD(early),
	    FIELD(local_port),
	    FIELD(hints_set),
	    FIELD(hints),
	};
#undef FIELD
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < ARRAY_LEN(facts); i++)
		hash = (hash ^ facts[i]) * 0x100000001b3ull;
	return hash;
}

static void netio_says(const char *line)
{
	log_line("%s", line);
}

static void init(void)
{
	char why[512];
	int err;

	process.pid = getpid();
	sys_init();
	real_init();
	netio_set_layout(layout());
	why[0] = 0;
	if (config_load(&the_config, why, sizeof why) < 0) {
		config_broken = true;
		the_config.require = environment_requires();
	}
	err = log_open();
	netio_set_report(netio_says);
	/* The launcher has seen to it. A program that was handed connections may have lost its rights since.
	 */
	if (err && !getenv("UTCP_REPORT") && !getenv("UTCP_INHERIT"))
		log_line("the log %.200s cannot be opened (%s), messages go to stderr; check UTCP_LOG",
			 the_config.log_path, strerror(-err));
	if (config_broken)
		log_line("%s", why);
	/* The launcher has said it, and set UTCP_REPORT. */
	else if (!getenv("UTCP_REPORT") && config_unknown(why, sizeof why))
		log_line("%s", why);
	process_hooks();
	atomic_store_explicit(&init_done, true, memory_order_release);
}

void process_init(void)
{
	if (!atomic_load_explicit(&init_done, memory_order_acquire)) {
		int saved_errno = errno; /* a socket() that succeeds leaves it alone */

		pthread_once(&init_once, init);
		errno = saved_errno;
	}
}

bool process_config_broken(void)
{
	return config_broken;
}

static void quick_end(void)
{
	if (atomic_load(&init_done))
		process_drain();
}

static void __attribute__((constructor)) library_loaded(void)
{
	/* First in, so last to be called: the application's functions may still write. */
	(void)at_quick_exit(quick_end);
	exec_inherit();
}

static void __attribute__((destructor)) library_unloaded(void)
{
	if (!atomic_load(&init_done))
		return;
	/* the streams are flushed later than this */
	if (the_stack && !process_is_vfork_child())
		stdio_at_end(process_drain, process_drain_early);
	else
		process_drain();
}

/* The keeper is this library, run as a program. */
static void keeper_found(void)
{
	Dl_info self;

	if (dladdr((void *)(uintptr_t)process_init, &self) && self.dli_fname && self.dli_fname[0] == '/')
		netio_set_keeper(self.dli_fname, the_config.exit_drain_ms);
}

/* No process or thread more can be had: it may be possible later. */
static _Atomic nsec driver_due = NSEC_NEVER;
#define DRIVER_RETRY_NS NS_PER_S

static void driver_begin(struct netio *n)
{
	int r = atomic_load(&process.headless) && netio_leave_to_keeper(n) ? 0 : netio_start_driver(n);

	atomic_store(&driver_due, r == -EAGAIN ? netio_now() + DRIVER_RETRY_NS : NSEC_NEVER);
	/* The keeper's line says it, too. */
	if (r < 0 && !(r == -EAGAIN && netio_keeper_missing(n)))
		log_line("the driver thread could not be started (%s); timers run only while the "
			 "application is inside a call",
			 strerror(-r));
}

static void driver_again(void)
{
	nsec due = atomic_load(&driver_due), now = netio_now();
	int r, cancel;

	if (now < due || !atomic_compare_exchange_strong(&driver_due, &due, now + DRIVER_RETRY_NS))
		return;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	lib_enter();
	r = netio_start_driver(the_stack);
	lib_leave();
	pthread_setcancelstate(cancel, NULL);
	if (r != -EAGAIN)
		atomic_store(&driver_due, NSEC_NEVER);
}

void stack_adopt(struct netio *n)
{
	keeper_found(); /* of a new image: it may have to start the next one */
	fdtable_set_base(netio_enter(n)->base);
	netio_leave(n);
	atomic_store(&the_stack, n);
	stats_begin(n);
	placeholder_begin();
	driver_begin(n);
	signals_install();
	stdio_redirect();
	stdio_prepare_end();
}

/* Under attach_lock. */
static int attach(bool early)
{
	char why[512] = "";
	struct netio *n;
	int r;

	keeper_found();
	r = netio_attach(&the_config.net, &n, why, sizeof why);

	if (r < 0) {
		if (!attach_failure_told && !early)
			log_line("%s", why);
		attach_failure_told |= !early;
		return r;
	}
	stack_adopt(n);
	return 0;
}

static int attach_once(bool early)
{
	int r, cancel;

	if (atomic_load(&process.forked))
		return -ENETDOWN;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	lib_enter();
	pthread_mutex_lock(&attach_lock);
	r = the_stack ? 0 : attach(early);
	pthread_mutex_unlock(&attach_lock);
	lib_leave();
	pthread_setcancelstate(cancel, NULL);
	return r;
}

int stack_attach(void)
{
	if (the_stack) {
		if (__builtin_expect(atomic_load_explicit(&driver_due, memory_order_relaxed) != NSEC_NEVER,
				     0))
			driver_again();
		return 0;
	}
	process_init();
	return attach_once(false);
}

void stack_attach_early(void)
{
	int saved_errno = errno;

	process_init();
	if (!config_broken && !the_config.off)
		attach_once(true);
	errno = saved_errno;
}

bool stack_attach_quietly(void)
{
	static atomic_bool failed;

	if (!the_stack && !atomic_load(&failed)) {
		stack_attach_early();
		atomic_store(&failed, !the_stack);
	}
	return the_stack != NULL;
}

/* ------------------------------------------------------------ ./libutcp.so */

#if defined(__x86_64__)
#define LOADER "/lib64/ld-linux-x86-64.so.2"
/* No return address, an aligned stack: what a C function may expect of its caller. */
__asm__(".text\n"
	".globl utcp_library_main\n"
	".type utcp_library_main, @function\n"
	"utcp_library_main:\n"
	"	xorl %ebp, %ebp\n"
	"	andq $-16, %rsp\n"
	"	call utcp_library_print\n"
	"	hlt\n"
	".size utcp_library_main, . - utcp_library_main\n");
#elif defined(__aarch64__)
#define LOADER "/lib/ld-linux-aarch64.so.1"
__asm__(".text\n"
	".globl utcp_library_main\n"
	".type utcp_library_main, %function\n"
	"utcp_library_main:\n"
	"	mov x29, #0\n"
	"	mov x30, #0\n"
	"	bl utcp_library_print\n"
	"	brk #0\n"
	".size utcp_library_main, . - utcp_library_main\n");
#else
#error "libutcp runs on x86-64 and aarch64"
#endif
__asm__(".hidden utcp_library_main");

const char utcp_loader[] __attribute__((section(".interp"), used)) = LOADER;

static void print(const char *text, int len)
{
	sys.syscall(SYS_write, 1, text, (size_t)len);
}

_Noreturn void utcp_library_print(void);
__attribute__((used)) NOT_INSTRUMENTED _Noreturn void utcp_library_print(void)
{
	const char *key, *variable, *keeper;
	char value[4096], line[4352];

	instrument_begin();
	keeper = getenv(NETIO_KEEPER_VARIABLE);
	if (keeper) {
		netio_set_layout(layout());
		netio_keeper_main(keeper);
	}
	process_init();
	print(line, log_format(line, sizeof line, "libutcp %s: TCP in user space\n", UTCP_VERSION));
	for (int i = 0; config_show(&the_config, i, &key, &variable, value, sizeof value); i++)
		print(line, log_format(line, sizeof line, "%s = %s (%s)\n", key, value, variable));
	sys.syscall(SYS_exit_group, config_broken ? 2 : 0);
	for (;;)
		;
}
