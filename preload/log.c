/*
 * log.c - what the library says to people: single lines, and the account of
 * connections that went to the kernel.
 *
 * Lines go to stderr, or are appended to UTCP_LOG. Everything here works in a
 * signal handler and in any thread: system calls that are not cancellation
 * points, no lock, errno kept. If the application put something else on
 * number 2 (a socket of the stack), stderr is gone and the line is dropped
 * rather than sent to a peer.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/preload.h"

#define LINE_MAX_BYTES 1024
#define REASONS_MAX    8

static _Atomic int log_fd = -1;

int log_open(void)
{
	int saved = errno, expected = -1;
	long fd;

	if (!the_config.log_path[0] || atomic_load(&log_fd) >= 0)
		return 0;
	fd = netio_fd_call(SYS_openat, AT_FDCWD, (long)the_config.log_path,
			   O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
	if (fd >= 0)
		fd = netio_protect_fd((int)fd);
	if (fd >= 0 && !atomic_compare_exchange_strong(&log_fd, &expected, (int)fd))
		netio_unprotect_close((int)fd);
	errno = saved;
	return fd < 0 ? (int)fd : 0;
}

/* The file if there is one; -1: nowhere. */
static int log_target(void)
{
	int fd = atomic_load(&log_fd);

	if (fd >= 0 && netio_owns_fd(fd))
		return fd;
	return fd_kind(2) == FD_STREAM || fd_kind(2) == FD_LISTENER ? -1 : 2;
}

/* Without the signal that RLIMIT_FSIZE attaches to a file: a line of ours must not kill the program. */
static void write_quietly(int fd, const char *p, size_t len)
{
	uint64_t set = 1ull << (SIGXFSZ - 1), old = 0, pending = 0;
	struct timespec zero = {0, 0};
	size_t done = 0;
	long w = 0;

	sys.syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, &old, sizeof set);
	sys.syscall(SYS_rt_sigpending, &pending, sizeof pending);
	while (done < len) {
		w = sys.syscall(SYS_write, fd, p + done, len - done);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			break;
		done += (size_t)w;
	}
	if (w < 0 && errno == EFBIG && !(pending & set))
		sys.syscall(SYS_rt_sigtimedwait, &set, NULL, &zero, sizeof set);
	sys.syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof old);
}

void log_line(const char *fmt, ...)
{
	char line[LINE_MAX_BYTES] = "utcp: ";
	const size_t prefix = 6;
	int saved = errno, n, fd = log_target();
	size_t len;
	va_list ap;

	if (fd < 0 || sys_init())
		return;
	va_start(ap, fmt);
	n = log_vformat(line + prefix, sizeof line - prefix - 1, fmt, &ap);
	va_end(ap);
	len = MIN_OF(prefix + (size_t)n, sizeof line - 2);
	/* One line is one line, whatever a path or a name brought along. */
	for (size_t i = prefix; i < len; i++)
		if ((unsigned char)line[i] < ' ')
			line[i] = '?';
	line[len++] = '\n';
	write_quietly(fd, line, len);
	errno = saved;
}

/* ------------------------------------------------------------------ connections that fell to the kernel */

static struct {
	_Atomic(const char *) reason;
	_Atomic uint32_t count;
} fallbacks[REASONS_MAX];
static atomic_flag reported = ATOMIC_FLAG_INIT;

void fallback_note(const char *reason)
{
	for (int i = 0; i < REASONS_MAX; i++) {
		const char *empty = NULL;

		/* Texts are static: the same reason is the same pointer, or at least the same text. */
		if (!atomic_compare_exchange_strong(&fallbacks[i].reason, &empty, reason) &&
		    strcmp(empty, reason) != 0)
			continue;
		atomic_fetch_add(&fallbacks[i].count, 1);
		return;
	}
}

void fallback_report(void)
{
	char list[512] = "";
	uint32_t total = 0, kinds = 0, at = 0;

	if (the_config.quiet || the_config.require || atomic_flag_test_and_set(&reported))
		return;
	for (int i = 0; i < REASONS_MAX && atomic_load(&fallbacks[i].reason); i++) {
		total += atomic_load(&fallbacks[i].count);
		kinds++;
	}
	for (uint32_t i = 0; i < kinds && at < sizeof list; i++) {
		at += (uint32_t)log_format(list + at, sizeof list - at, "%s%s", i ? ", " : "",
					   atomic_load(&fallbacks[i].reason));
		if (kinds > 1 && at < sizeof list)
			at += (uint32_t)log_format(list + at, sizeof list - at, " (%u)",
						   atomic_load(&fallbacks[i].count));
	}
	if (total)
		log_line("%u connection%s went to the kernel: %s", total, total == 1 ? "" : "s", list);
}
