/*
 * network.c - processes of a stack that are in another network namespace.
 *
 * A stack belongs to the namespace in which it was made: its device is there, its
 * name, and the abstract addresses at which its sleepers are rung (wait.c). A
 * process that moves to another one (unshare, setns) keeps all descriptors that it
 * has, and so its connections; but a socket that it makes is the other world's. So
 *   - a new wait set gets its post from the keeper, who has not moved;
 *   - a TCP socket made over there is the kernel's, as the program expects.
 * Which namespace a socket belongs to the kernel says by SO_NETNS_COOKIE (Linux
 * 5.14; on an older one all is taken to be one).
 *
 * Place in the flow: wait.c, keeper.c and preload's establish.c -> here.
 */
#include <poll.h>
#include <sys/socket.h>

#include "netio/internal.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define ANSWER_MS 2000

/* Somebody in this process has moved; threads do so one by one. */
static atomic_bool moved;

void netio_network_moved(void)
{
	atomic_store(&moved, true);
}

static uint64_t network_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof cookie;

	return RAW6(SYS_getsockopt, fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len, 0) ? 0 : cookie;
}

static bool is_here(const struct netio *n, int fd)
{
	uint64_t ours = n->region.head->network, theirs = network_of(fd);

	return !ours || !theirs || ours == theirs;
}

bool netio_same_network(struct netio *n, int fd)
{
	return !atomic_load_explicit(&moved, memory_order_relaxed) || is_here(n, fd);
}

void network_begin(struct netio *n)
{
	n->region.head->network = network_of(n->post_fd);
}

static int datagram_socket(void)
{
	return (int)netio_fd_call(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, 0);
}

/* One that the keeper made. */
static int keepers_socket(struct netio *n)
{
	uint32_t m[2] = {MESSAGE_SOCKET, 0};
	struct timespec ts = {ANSWER_MS / 1000, 0};
	int pair[2], fds[MESSAGE_FDS], err;
	struct pollfd p = {.events = POLLIN};

	if (n->keeper_fd < 0)
		return -ENOTCONN;
	err = (int)netio_fd_call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (long)pair);
	if (err)
		return err;
	err = message_send(n->keeper_fd, m, sizeof m, &pair[1], 1);
	raw_close(pair[1]);
	p.fd = pair[0];
	fds[0] = -1;
	if (!err) {
		do {
			err = (int)RAW6(SYS_ppoll, &p, 1, &ts, NULL, 0, 0);
		} while (err == -EINTR);
		err = err == 1 && message_receive_fds(pair[0], m, sizeof m, fds) > 0 ? 0 : -ENOENT;
	}
	raw_close(pair[0]);
	return err ? err : fds[0] >= 0 ? fds[0] : -ENOENT;
}

int network_socket(struct netio *n)
{
	int fd = datagram_socket(), theirs;

	if (fd < 0 || is_here(n, fd))
		return fd;
	theirs = keepers_socket(n);
	if (theirs < 0)
		return fd; /* nobody will ring it; whoever drives in this process still does */
	raw_close(fd);
	return theirs;
}

void network_answer(struct netio *n, int to)
{
	uint32_t m[2] = {MESSAGE_SOCKET, 0};
	int fd = datagram_socket();

	if (fd >= 0 && is_here(n, fd))
		message_send(to, m, sizeof m, &fd, 1);
	if (fd >= 0)
		raw_close(fd);
	raw_close(to);
}

void network_join(struct netio *n)
{
	int fd;

	if (is_here(n, n->post_fd))
		return;
	netio_network_moved();
	fd = network_socket(n);
	if (fd < 0)
		return;
	fds_drop(&n->post_fd);
	fds_keep(fd, &n->post_fd);
}
