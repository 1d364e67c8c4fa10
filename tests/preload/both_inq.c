/*
 * TCP_INQ: recvmsg() tells in a control message how much is left to read; set before
 * and after connect(), and on a listener for what it accepts.
 */
#include "both.h"

static void receive(const char *what, int fd, size_t want, size_t room, int flags)
{
	union {
		char b[128];
		struct cmsghdr align;
	} control;
	char b[64];
	struct iovec v = {b, want};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control.b, .msg_controllen = room};
	ssize_t r;
	int left = -1;

	memset(&control, 0xee, sizeof control);
	r = recvmsg(fd, &m, flags);
	printf("%s: %zd, control %zu, flags %x", what, r, m.msg_controllen, m.msg_flags);
	if (r >= 0 && m.msg_controllen >= sizeof(struct cmsghdr)) {
		memcpy(&left, CMSG_DATA(&control.align), sizeof left);
		printf(", length %zu, level %d, type %d, left %x", (size_t)control.align.cmsg_len,
		       control.align.cmsg_level, control.align.cmsg_type, (unsigned)left);
	}
	SAY(" ");
}

static void all_there(int fd, int bytes)
{
	int n = 0;

	while (!ioctl(fd, FIONREAD, &n) && n < bytes)
		nap(1);
}

static void talk(const char *who, int fd)
{
	int v = -1;
	socklen_t len = sizeof v;

	SHOW(getsockopt(fd, IPPROTO_TCP, TCP_INQ, &v, &len));
	SAY("%s: TCP_INQ %d", who, v);
	peer("send 40");
	all_there(fd, 40);
	receive("peek", fd, 3, 128, MSG_PEEK);
	receive("a part", fd, 10, 128, 0);
	receive("exact room", fd, 5, CMSG_LEN(sizeof(int)), 0);
	receive("cut", fd, 5, CMSG_LEN(2), 0);
	receive("head only", fd, 5, sizeof(struct cmsghdr), 0);
	receive("too small", fd, 5, 8, 0);
	receive("none", fd, 5, 0, 0);
	peer("shutdown");
	polled(fd, POLLRDHUP, 20000);
	receive("the rest but one, and the end", fd, 4, 128, 0);
	receive("the rest", fd, 4, 128, 0);
	receive("the end", fd, 4, 128, 0);
	receive("the end again", fd, 4, 128, MSG_DONTWAIT);
}

int main(void)
{
	int on = 1, off = 0, two = 2, port, fd, l;

	fd = connected();
	SHOW(setsockopt(fd, IPPROTO_TCP, TCP_INQ, &two, sizeof two));
	SHOW(setsockopt(fd, IPPROTO_TCP, TCP_INQ, &on, sizeof on));
	talk("connected", fd);
	SHOW(setsockopt(fd, IPPROTO_TCP, TCP_INQ, &off, sizeof off));
	receive("off", fd, 4, 128, 0);
	close(fd);
	port = (int)peer("listen");
	fd = socket(AF_INET, SOCK_STREAM, 0);
	SHOW(setsockopt(fd, IPPROTO_TCP, TCP_INQ, &on, sizeof on));
	SHOW(connect_to(fd, peer_addr(), port));
	peer("accept");
	talk("before connect", fd);
	close(fd);
	l = listening(&port, 4);
	SHOW(setsockopt(l, IPPROTO_TCP, TCP_INQ, &on, sizeof on));
	peer("connect %d", port);
	fd = accept(l, NULL, NULL);
	talk("accepted", fd);
	close(fd);
	close(l);
	return 0;
}
