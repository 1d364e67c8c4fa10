/*
 * Bad pointers in everything that moves bytes: EFAULT once there is something to
 * move, and not before; what was there is there still; what lies in front of a bad
 * page is used.
 */
#include "both.h"

#define PAGE 4096

static char *page, *read_only, *hole; /* three pages in a row: good, not writable, not there */

static void pages(void)
{
	page = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	read_only = page + PAGE;
	hole = page + 2 * PAGE;
	memset(page, 'p', 2 * PAGE);
	mprotect(read_only, PAGE, PROT_READ);
	munmap(hole, PAGE);
}

static void there(int fd, int bytes)
{
	int n = 0;

	while (!ioctl(fd, FIONREAD, &n) && n < bytes)
		nap(1);
	SAY("%d there", n);
}

static void receives(int fd, const char *what, char *bad)
{
	struct iovec one = {bad, 10}, two[2] = {{page, 4}, {bad, 10}}, *none = (struct iovec *)hole;
	struct msghdr m = {.msg_iov = &one, .msg_iovlen = 1}, both = {.msg_iov = two, .msg_iovlen = 2};
	char b[64];

	SAY("-- %s", what);
	SHOW(recv(fd, bad, 10, MSG_DONTWAIT));
	peer("send 20");
	there(fd, 20);
	SHOW(read(fd, bad, 10));
	SHOW(recv(fd, bad, 10, 0));
	SHOW(recv(fd, bad, 10, MSG_PEEK));
	SHOW(recv(fd, bad, 10, MSG_WAITALL));
	SHOW(recvfrom(fd, bad, 10, 0, NULL, NULL));
	SHOW(readv(fd, &one, 1));
	SHOW(readv(fd, two, 2));
	SHOW(readv(fd, none, 1));
	SHOW(recvmsg(fd, &m, 0));
	SHOW(recvmsg(fd, &both, MSG_PEEK));
	SHOW(recvmsg(fd, (struct msghdr *)hole, 0));
	SHOW(recv(fd, bad, 10, MSG_TRUNC));
	there(fd, 10);
	SHOW(recv(fd, b, sizeof b, 0));
}

static void sends(int fd, const char *what, char *bad)
{
	struct iovec one = {bad, 10}, two[2] = {{page, 4}, {bad, 10}}, *none = (struct iovec *)hole;
	struct msghdr m = {.msg_iov = &one, .msg_iovlen = 1};

	SAY("-- %s", what);
	SHOW(write(fd, bad, 10));
	SHOW(send(fd, bad, 10, 0));
	SHOW(writev(fd, &one, 1));
	SHOW(writev(fd, two, 2) < 0 ? errno : 0);
	SHOW(writev(fd, none, 1));
	SHOW(sendmsg(fd, &m, 0));
	SHOW(sendmsg(fd, (struct msghdr *)hole, 0));
}

int main(void)
{
	int fd = connected(), size = 4096;
	char b[64];

	pages();
	receives(fd, "receive to what is not writable", read_only);
	receives(fd, "to what is not there", hole);
	receives(fd, "to nothing", NULL);
	receives(fd, "to the last bytes of a page", read_only - 4);
	receives(fd, "to the kernel", (char *)-4096);
	peer("send 4");
	there(fd, 4);
	SHOW(recv(fd, read_only - 4, 10, 0));
	SAY("%.4s", memcmp(read_only - 4, "pppp", 4) ? "came" : "did not come");

	SHOW(send(fd, read_only, 10, 0));
	SHOW(peer("recv 10"));
	sends(fd, "send what is not there", hole);
	sends(fd, "nothing", NULL);
	sends(fd, "the last bytes", hole - 4);
	sends(fd, "the kernel's", (char *)-4096);
	SHOW(send(fd, "hello", 5, 0));
	SHOW(peer("recv 5"));

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (send(fd, page, 2 * PAGE, 0) > 0 || polled(fd, POLLOUT, 200))
		;
	/* whether there is room for a byte depends on when the last ACK came: not which of the two */
	SHOW(send(fd, hole, 10, 0) < 0 && (errno == EFAULT || errno == EAGAIN));
	SHOW(shutdown(fd, SHUT_WR));
	SHOW(send(fd, hole, 10, MSG_NOSIGNAL));
	peer("close");
	polled(fd, POLLHUP, 20000);
	SHOW(recv(fd, hole, 10, 0) <= 0);
	SHOW(recv(fd, b, sizeof b, 0));
	return 0;
}
