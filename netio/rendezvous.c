/*
 * rendezvous.c - how processes that do not know each other come to share a stack.
 *
 * Theory of operation. A stack has a name: the user's id, and UTCP_STACK or else
 * the device. It is an abstract AF_UNIX address, so the network namespace is part
 * of it without more ado, nothing stays in the file system, and binding it is the
 * one atomic decision who makes the stack:
 *
 *   bind succeeds   we make it; the listening socket goes to the keeper
 *   EADDRINUSE      somebody has it, or is making it: connect, ask, wait
 *   hung up         it has just ended: from the start
 *
 * The answer to MESSAGE_ENTER is the region, the device and the timer, and the
 * connection is our life line from then on. Peer credentials are checked by both
 * sides: to share a stack is to trust each other with its memory.
 *
 * A stack has one configuration. A newcomer who wants another one is refused
 * while processes use it. If nobody does (what is left are connections that
 * drain, or TIME-WAITs) the keeper finishes and goes, and the newcomer makes the
 * stack anew; the same if it wants a capture of all frames.
 *
 * Place in the flow: netio_attach() (attach.c) -> here -> keeper.c at the other end.
 */
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "netio/internal.h"

#define ATTEMPT_NS  (5 * NS_PER_MS)
#define BACKLOG	    1024	    /* all processes of a stack may come at once */
#define PATIENCE_NS (15 * NS_PER_S) /* longer than a keeper drains by default */

#define PUBLIC	"utcp"
#define PRIVATE "utcp-private"

static void name_print(struct stack_name *name, const char *kind, const char *which)
{
	int n;

	memset(name, 0, sizeof *name);
	name->uid = (uint32_t)geteuid();
	/* path[0] stays 0: an abstract name */
	n = snprintf(name->path + 1, sizeof name->path - 1, "%s/%u/%s", kind, name->uid, which);
	name->len = 1 + (uint32_t)MIN_OF((size_t)n, sizeof name->path - 2);
}

void rendezvous_name(const struct netio_config *c, struct stack_name *name)
{
	name_print(name, PUBLIC, c->stack_name[0] ? c->stack_name : c->device);
}

void rendezvous_private_name(struct stack_name *name)
{
	uint64_t random = 0;
	char text[24];

	RAW3(SYS_getrandom, &random, sizeof random, 0);
	snprintf(text, sizeof text, "%016llx", (unsigned long long)random);
	name_print(name, PRIVATE, text);
}

bool rendezvous_is_private(const struct stack_name *name)
{
	return !memcmp(name->path + 1, PRIVATE, sizeof PRIVATE - 1);
}

static socklen_t name_address(const struct stack_name *name, struct sockaddr_un *sun)
{
	uint32_t len = MIN_OF(name->len, (uint32_t)sizeof sun->sun_path);

	memset(sun, 0, sizeof *sun);
	sun->sun_family = AF_UNIX;
	memcpy(sun->sun_path, name->path, len);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

/* What two processes must agree on. */
uint64_t rendezvous_fingerprint(const struct netio_config *c)
{
	const struct {
		const void *p;
		size_t n;
	} part[] = {{c->device, strlen(c->device)},
		    {&c->stack, sizeof c->stack},
		    {&c->kernel_addr, sizeof c->kernel_addr}};
	uint64_t h = 0xcbf29ce484222325ull ^ netio_layout();

	for (unsigned i = 0; i < ARRAY_LEN(part); i++)
		for (size_t k = 0; k < part[i].n; k++)
			h = (h ^ ((const uint8_t *)part[i].p)[k]) * 0x100000001b3ull;
	return h;
}

static uid_t peer_of(int fd)
{
	struct ucred u = {.uid = (uid_t)-1};
	socklen_t len = sizeof u;

	return RAW6(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &u, &len, 0) ? (uid_t)-1 : u.uid;
}

bool rendezvous_trusts(int fd)
{
	uid_t uid = peer_of(fd);

	return uid == geteuid() || uid == 0;
}

socklen_t rendezvous_address(const struct netio_config *c, struct sockaddr_un *sun)
{
	struct stack_name name;

	rendezvous_name(c, &name);
	return name_address(&name, sun);
}

int rendezvous_listen(const struct stack_name *name)
{
	struct sockaddr_un sun;
	socklen_t len = name_address(name, &sun);
	int fd = (int)netio_fd_call(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, 0), err;

	if (fd < 0)
		return fd;
	err = (int)RAW3(SYS_bind, fd, &sun, len);
	if (!err)
		err = (int)RAW2(SYS_listen, fd, BACKLOG);
	if (!err)
		return fd;
	raw_close(fd);
	return err;
}

int rendezvous_dial(const struct stack_name *name)
{
	struct sockaddr_un sun;
	socklen_t len = name_address(name, &sun);
	int fd = (int)netio_fd_call(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, 0),
	    err;

	if (fd < 0)
		return fd;
	err = (int)RAW3(SYS_connect, fd, &sun, len);
	if (!err && !rendezvous_trusts(fd) && peer_of(fd) != name->uid)
		err = -EPERM;
	if (!err)
		return fd;
	raw_close(fd);
	return err;
}

bool rendezvous_wanted(const struct netio_config *c)
{
	return strcmp(c->stack_name, "none") != 0 && strncmp(c->device, "mem:", 4) != 0;
}

/* Under `ulimit -v` a region made for us is smaller than one that somebody else has made. */
static bool little_room(void)
{
	struct rlimit as = {RLIM_INFINITY, RLIM_INFINITY};

	RAW4(SYS_prlimit64, 0, RLIMIT_AS, NULL, &as);
	return as.rlim_cur != RLIM_INFINITY;
}

/* The answer of the one we have reached. -EAGAIN: it has ended, or is about to. */
static int enter(int line, const struct netio_config *c, struct netio **out, nsec deadline, char *why,
		 size_t why_len)
{
	struct enter_message ask = {MESSAGE_ENTER, c->pcap_path[0] || little_room(),
				    rendezvous_fingerprint(c), netio_layout()};
	struct pollfd p = {.fd = line, .events = POLLIN};
	struct attach_message m;
	struct timespec ts;
	int fds[MESSAGE_FDS], r;
	nsec now = netio_now(), left = deadline > now ? deadline - now : 0;

	if (message_send(line, &ask, sizeof ask, NULL, 0))
		return -EAGAIN;
	ts.tv_sec = (time_t)(left / NS_PER_S);
	ts.tv_nsec = (long)(left % NS_PER_S);
	while ((r = (int)RAW6(SYS_ppoll, &p, 1, &ts, NULL, 0, 0)) == -EINTR)
		;
	if (r <= 0) {
		why_set(why, why_len, "the stack of %s does not answer; end the processes that use it",
			c->device);
		return -EBUSY;
	}
	r = message_receive_fds(line, &m, sizeof m, fds);
	if (r <= 0)
		return -EAGAIN;
	if (r == sizeof m && m.type == MESSAGE_ATTACH) {
		r = netio_join(line, &m, fds, out);
		if (r == -EPROTO)
			why_set(
			    why, why_len,
			    "what is called the stack of %s is none that this library can work on; end the "
			    "processes that use it",
			    c->device);
		return r;
	}
	if (m.proc == REFUSE_LAYOUT)
		why_set(
		    why, why_len,
		    "%s has a stack made by another version of libutcp, in use by other processes; use the "
		    "same version or wait for them to end",
		    c->device);
	else if (m.proc == REFUSE_MEMORY)
		why_set(why, why_len, "the stack of %s has no room for another process; end some", c->device);
	else
		why_set(
		    why, why_len,
		    "%s has a stack with other settings, in use by other processes; use the same settings, "
		    "wait for them to end or choose another device",
		    c->device);
	return m.proc == REFUSE_MEMORY ? -ENOMEM : -EBUSY;
}

/* 0 and *listener >= 0: make it; 0 and *out: entered; -EAGAIN: try again. */
static int attempt(const struct netio_config *c, int *listener, struct netio **out, nsec deadline, char *why,
		   size_t why_len)
{
	struct stack_name name;
	int fd, err;

	rendezvous_name(c, &name);
	*listener = rendezvous_listen(&name);
	if (*listener >= 0)
		return 0;
	err = *listener;
	*listener = -1;
	if (err != -EADDRINUSE)
		return err;
	fd = rendezvous_dial(&name);
	if (fd < 0)
		return fd == -ECONNREFUSED ? -EAGAIN : fd;
	err = enter(fd, c, out, deadline, why, why_len);
	if (err)
		raw_close(fd);
	return err;
}

int rendezvous(const struct netio_config *c, int *listener, struct netio **out, char *why, size_t why_len)
{
	nsec deadline = netio_now() + PATIENCE_NS;
	struct timespec pause = {0, (long)ATTEMPT_NS};
	int err;

	*listener = -1;
	*out = NULL;
	why_set(why, why_len, "the stack of %s cannot be entered; raise `ulimit -n` and `ulimit -v`",
		c->device);
	for (;;) {
		err = attempt(c, listener, out, deadline, why, why_len);
		if (err != -EAGAIN || netio_now() >= deadline)
			break;
		RAW2(SYS_nanosleep, &pause, NULL);
	}
	if (err == -EPERM || err == -EAGAIN)
		why_set(why, why_len, "another user, or a process that hangs, has the stack of %s; end it",
			c->device);
	return err;
}

/*
 * The name is ours while we try, so that a process that starts meanwhile waits
 * for the end of the trial and does not find the device busy.
 */
static int try_once(const struct netio_config *c, struct netio **n, char *why, size_t why_len)
{
	struct stack_name name;
	int fd = -1, err = 0;

	if (rendezvous_wanted(c)) {
		rendezvous_name(c, &name);
		fd = rendezvous_listen(&name);
	}
	if (fd >= 0 || !rendezvous_wanted(c)) {
		err = attach_once(c, n, why, why_len);
		if (!err)
			netio_detach(*n);
	} else if (fd != -EADDRINUSE) { /* else a stack runs: the device works */
		err = fd;
		why_set(why, why_len, "no name for the stack of %s (%s); raise `ulimit -n`", c->device,
			strerror(-err));
	}
	if (fd >= 0)
		raw_close(fd);
	return err;
}

/* Not in the pauses: a stack that has lost its keeper needs its name for the next one. */
int netio_try(const struct netio_config *c, char *why, size_t why_len)
{
	struct netio *n;
	int err;

	netio_births_begin();
	err = attach_patiently(try_once, c, &n, why, why_len);
	netio_births_end();
	return err;
}
