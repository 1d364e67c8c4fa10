/*
 * pump_ask.c - what processes ask of the keeper about pumps (theory in pump.c): to
 * make one, and their turn on a connection that has one.
 *
 * Place in the flow: preload/pump.c, seal.c, spawn.c -> netio_pump(); preload/socket.c ->
 * netio_turn() -> keeper.c -> pump.c.
 */
#include <fcntl.h>
#include <sys/socket.h>

#include "netio/pump.h"

#define TO_HEIR_BYTES 65536	/* SO_SNDBUF: what is taken off the connection before the heir reads it */
#define FROM_HEIR_MAX (1 << 20) /* asked for; the kernel's limit decides (net.core.wmem_max) */
#define ANSWER_MS     5000
#define SIGSET_BYTES  8 /* of the kernel's sigset_t */

/* ------------------------------------------------------------ a pump */

/* The keeper's word: it has a part in the connection. */
static int answer(int gate)
{
	uint32_t known[2] = {0, 0};
	int fds[MESSAGE_FDS];

	if (message_wait(gate, ANSWER_MS) || message_receive(gate, known, sizeof known, fds) <= 0 ||
	    !known[1])
		return -ENOENT;
	return 0;
}

int pump_pair(int pair[2])
{
	int to_heir = TO_HEIR_BYTES, from_heir = FROM_HEIR_MAX;
	char c = 0;
	int err = (int)netio_fd_call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, (long)pair);

	if (err)
		return err;
	RAW6(SYS_setsockopt, pair[1], SOL_SOCKET, SO_SNDBUF, &to_heir, sizeof to_heir, 0);
	RAW6(SYS_setsockopt, pair[0], SOL_SOCKET, SO_SNDBUF, &from_heir, sizeof from_heir, 0);
	if (raw_write(pair[0], &c, 1) == 1)
		return 0;
	raw_close(pair[0]);
	raw_close(pair[1]);
	return -ENOBUFS;
}

int netio_pump(struct netio *n, uint64_t cookie, bool take, struct netio_pump *out)
{
	struct pump_message m = {MESSAGE_PUMP, take, cookie};
	int pair[2], gate[2], err;

	if (!cookie)
		return -ENOTCONN;
	err = pump_pair(pair);
	if (err)
		return err;
	err = (int)netio_fd_call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (long)gate);
	if (!err) {
		err = keeper_say(n, &m, sizeof m, (int[]){pair[1], gate[1], pair[0]}, 3);
		raw_close(gate[1]);
		if (!err)
			err = answer(gate[0]);
		if (err)
			raw_close(gate[0]);
	}
	raw_close(pair[1]);
	if (err)
		raw_close(pair[0]);
	else
		*out = (struct netio_pump){pair[0], gate[0]};
	return err;
}

void netio_pump_start(struct netio_pump *p)
{
	raw_close(p->gate);
	p->gate = -1;
}

void netio_pump_cancel(struct netio_pump *p)
{
	uint32_t m[2] = {MESSAGE_PUMP, 0};

	message_send(p->gate, m, sizeof m, NULL, 0);
	raw_close(p->gate);
	if (p->heir >= 0)
		raw_close(p->heir);
	p->gate = p->heir = -1;
}

void netio_pump_mark(int heir)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	RAW3(SYS_fcntl, heir, F_SETLK, &l);
}

/* ------------------------------------------------------------ a turn */

/* Without a keeper there is no pump, whatever the flag says. */
void netio_turn(struct netio *n, uint64_t cookie, enum turn_kind kind, struct netio_turn *t)
{
	struct turn_message m = {MESSAGE_TURN, kind, cookie};
	uint32_t word[2] = {0, TURN_YOURS};
	uint64_t all = ~0ull;
	int pair[2], fds[MESSAGE_FDS];

	t->answer = TURN_YOURS;
	/* no handler leaves from here by siglongjmp(), and no cancellation */
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &t->mask, SIGSET_BYTES);
	if (netio_fd_call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (long)pair)) {
		RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &t->mask, NULL, SIGSET_BYTES);
		return;
	}
	t->fd = pair[0];
	if (!keeper_say(n, &m, sizeof m, &pair[1], 1)) {
		raw_close(pair[1]);
		if (!message_wait(pair[0], ANSWER_MS) &&
		    message_receive(pair[0], word, sizeof word, fds) == sizeof word)
			t->answer = word[1];
	} else {
		raw_close(pair[1]);
	}
}

void netio_turn_end(struct netio_turn *t)
{
	if (t->fd < 0)
		return;
	RAW2(SYS_shutdown, t->fd, SHUT_RDWR); /* a child that was forked just now has it, too */
	raw_close(t->fd);
	t->fd = -1;
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &t->mask, NULL, SIGSET_BYTES);
}
