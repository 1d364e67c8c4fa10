/*
 * unlisten.c - connect() on a listener. While it listens: AF_UNSPEC ends that in
 * both halves, anything else is EISCONN. After shutdown() it is, as in the
 * kernel, a socket like a new one: the number becomes undecided again (FD_TCP)
 * with the kernel socket that it always had, and connect() goes on from there.
 *
 * Place in the flow: calls_socket.c, establish.c -> here.
 */
#include "preload/fdtable.h"
#include "preload/socket.h"
#include "preload/undecided.h"

#define LINUX_LISTEN 10

static bool still_listens(ref d)
{
	struct description *p = description_of(d);
	struct stack_cx *cx = netio_enter(the_stack);
	struct sock_info info = {0};

	if (p->sock)
		sock_info(cx, p->sock, &info);
	netio_leave(the_stack);
	return info.state == LINUX_LISTEN;
}

static int listening_connect(int fd, ref d, const struct sockaddr *sa, socklen_t len)
{
	struct description *p = description_of(d);
	struct stack_cx *cx;

	if (sys.connect(fd, sa, len))
		return -errno;
	cx = netio_enter(the_stack);
	if (p->sock)
		sock_disconnect(cx, p->sock);
	netio_leave(the_stack);
	return 0;
}

int listener_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	uint64_t options = fd_options(fd);
	ref d = fd_hold(fd);
	bool v6, listens;
	int r = 0;

	if (!d)
		return -EBADF;
	lib_enter();
	v6 = description_of(d)->v6;
	listens = still_listens(d);
	if (listens)
		r = listening_connect(fd, d, sa, len);
	lib_leave();
	if (!listens && description_of(d)->early)
		r = undecided_connect(fd, d, sa, len);
	listens = listens || description_of(d)->early;
	fd_release(d);
	if (listens)
		return r;
	fd_closing(fd);
	fd_install_tcp(fd, v6);
	for (uint32_t bit = 0; bit < 64; bit++)
		if (options >> bit & 1)
			fd_mark_option(fd, bit);
	return socket_connect(fd, sa, len);
}
