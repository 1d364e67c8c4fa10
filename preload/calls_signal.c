/*
 * calls_signal.c - wrappers: the calls that set signal dispositions.
 *
 * signal.c has the application's view and goes to libc until the first stack
 * socket; here only the shapes differ.
 */
#include "preload/async.h"
#include "preload/calls.h"

/* A sanitizer sets its handlers before any constructor has run. */
static int ready(void)
{
	return sys_init();
}

int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	int saved_errno = errno;
	return (int)result(ready() ? -ENOSYS : signal_action(sig, act, old), saved_errno);
}

int __sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return sigaction(sig, act, old);
}

/* The old handler, or SIG_ERR and errno. */
static sighandler_t handler_result(int r, sighandler_t old, int saved_errno)
{
	return result(r, saved_errno) < 0 ? SIG_ERR : old;
}

sighandler_t signal(int sig, sighandler_t handler)
{
	int saved_errno = errno;
	sighandler_t old = SIG_DFL;
	int r = ready() ? -ENOSYS : signal_bsd(sig, handler, &old);

	return handler_result(r, old, saved_errno);
}

sighandler_t bsd_signal(int sig, sighandler_t handler)
{
	return signal(sig, handler);
}

sighandler_t ssignal(int sig, sighandler_t handler)
{
	return signal(sig, handler);
}

sighandler_t sysv_signal(int sig, sighandler_t handler)
{
	int saved_errno = errno;
	sighandler_t old = SIG_DFL;
	int r = ready() ? -ENOSYS : signal_sysv(sig, handler, &old);

	return handler_result(r, old, saved_errno);
}

sighandler_t __sysv_signal(int sig, sighandler_t handler)
{
	return sysv_signal(sig, handler);
}

sighandler_t sigset(int sig, sighandler_t handler)
{
	int saved_errno = errno;
	sighandler_t old = SIG_DFL;
	int r = ready() ? -ENOSYS : signal_set(sig, handler, &old);

	return handler_result(r, old, saved_errno);
}

int sigignore(int sig)
{
	int saved_errno = errno;
	return (int)result(ready() ? -ENOSYS : signal_ignore(sig), saved_errno);
}

/* Without a handler, who would put the right code in (async.c)? */
static int taken(int sig, siginfo_t *info)
{
	if (sig > 0 && info && info->si_code == SI_SIGIO)
		async_received(info);
	return sig;
}

int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
	return taken(REAL(sigwaitinfo)(set, info), info);
}

int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
	return taken(REAL(sigtimedwait)(set, info, timeout), info);
}

int siginterrupt(int sig, int on)
{
	int saved_errno = errno;
	return (int)result(ready() ? -ENOSYS : signal_interrupt(sig, on), saved_errno);
}
