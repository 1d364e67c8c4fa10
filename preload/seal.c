/*
 * seal.c - a process that is about to lock itself into a seccomp sandbox.
 *
 * Afterwards one system call too many kills it: no packet can be sent or taken
 * there. So before the filter closes, every connection goes to pump mode (pump.c),
 * memberships in epoll sets move into the kernel's sets, and the driver ends. From
 * then on all numbers are the kernel's, wrappers pass everything on, and what the
 * process makes anew stays in the kernel, too. At its end it owes nothing: what it
 * wrote is in the pair, and the keeper sends it.
 *
 * Listeners keep their kernel half. Their part in the stack stays with the process
 * until it ends, and the keeper accepts there for it (netio/forward.c).
 *
 * If the call fails after all, connections and listeners stay as they are then, new
 * ones go to the stack again. Without a keeper there is no pump: the connections are out of
 * reach then, and the log says so.
 *
 * Place in the flow: calls_privilege.c (prctl, seccomp), calls_limit.c -> here -> pump.c.
 */
#include <fcntl.h>
#include <sys/syscall.h>

#include "preload/fdtable.h"
#include "preload/pump.h"
#include "preload/seal.h"
#include "preload/wait.h"

struct sealing {
	ref d;
	int number; /* of the heir's end */
	int error;
	struct netio_pump pump;
};

/* One number of the connection. */
static void number_seal(int fd, void *arg)
{
	struct sealing *s = arg;
	int cloexec = sys.fcntl(fd, F_GETFD), err;

	if (cloexec < 0)
		return;
	epoll_leave(fd, s->d);
	err = netio_fd_onto(s->pump.heir, fd, cloexec & FD_CLOEXEC ? O_CLOEXEC : 0);
	if (err)
		s->error = err;
	else
		s->number = fd;
	epoll_after_replace(fd, REF_NONE);
	fd_closing(fd);
}

static int stream_seal(int fd, ref d)
{
	struct sealing s = {.d = d, .number = -1};
	int err = netio_pump(the_stack, description_of(d)->cookie, false, &s.pump);

	if (err)
		return err;
	pump_options(fd, s.pump.heir);
	fd_each_of(d, number_seal, &s);
	sys.syscall(SYS_close, s.pump.heir);
	if (s.number >= 0)
		netio_pump_mark(s.number);
	netio_pump_start(&s.pump);
	return s.error;
}

static void listener_seal(int fd, void *arg)
{
	ref d = (ref)(uintptr_t)arg;

	epoll_leave(fd, d);
	epoll_after_replace(fd, REF_NONE);
	fd_forget(fd); /* our part in it stays */
}

static int streams_seal(void)
{
	int last = fd_highest(), err = 0;

	for (int fd = 0; fd <= last; fd++) {
		ref d = fd_kind(fd) == FD_STREAM ? fd_hold(fd) : REF_NONE;
		int r = d ? stream_seal(fd, d) : 0;

		if (d)
			fd_release(d);
		err = err ? err : r;
	}
	return err;
}

/* Every connection, with a keeper that takes them. */
static int streams_leave(void)
{
	netio_before_exec(the_stack, false);
	return streams_seal();
}

static void listeners_seal(void)
{
	int last = fd_highest();

	for (int fd = 0; fd <= last; fd++) {
		ref d = fd_kind(fd) == FD_LISTENER ? fd_hold(fd) : REF_NONE;

		if (!d)
			continue;
		fd_each_of(d, listener_seal, (void *)(uintptr_t)d);
		if (local_of(d)->kernel_fd >= 0) {
			int half = local_of(d)->kernel_fd;

			local_of(d)->kernel_fd = -1;
			netio_unprotect_close(half);
		}
	}
}

static bool nothing_to_seal(void)
{
	return !the_stack || thread_marks.depth || process_is_vfork_child() || atomic_load(&process.finished);
}

static void out_of_reach(int err)
{
	if (err)
		log_line("a connection of a process that enters a sandbox is out of its reach: there is no "
			 "keeper, or too many files are open");
}

void seal_streams(void)
{
	int err;

	if (nothing_to_seal())
		return;
	lib_enter();
	err = streams_leave();
	lib_leave();
	out_of_reach(err);
}

static void number_forget(int fd)
{
	enum fd_kind kind = fd_kind(fd);

	if (kind == FD_TCP || kind == FD_EPOLL || kind == FD_LOST)
		fd_forget(fd);
}

void seal_begin(void)
{
	int err, saved_errno = errno;

	if (nothing_to_seal())
		return;
	lib_enter();
	err = streams_leave();
	listeners_seal();
	out_of_reach(err);
	epoll_leave_all();
	netio_blind(the_stack, true);
	netio_pause_driver(the_stack);
	lib_leave();
	errno = saved_errno;
}

/* No system call here: they may be forbidden. */
void seal_end(bool worked)
{
	int saved_errno = errno;

	if (!worked) {
		if (the_stack && !thread_marks.depth && !process_is_vfork_child() &&
		    !atomic_load(&process.finished)) {
			lib_enter();
			netio_start_driver(the_stack);
			lib_leave();
		}
		errno = saved_errno;
		return;
	}
	atomic_store(&process.sealed, true);
	atomic_store(&process.finished, true);
	for (int fd = 0; fd <= fd_highest(); fd++)
		number_forget(fd);
}
