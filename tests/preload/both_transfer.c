/*
 * Moving bytes: message flags, vectors, mmsg, sendfile, splice, FIONREAD and
 * kin, urgent data, calls of zero bytes.
 */
#include "both.h"

/* Wrong arguments are part of the test. */
#pragma GCC diagnostic ignored "-Wnonnull"
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#pragma GCC diagnostic ignored "-Wstringop-overread"

static char buf[1 << 17];

static int queued(int fd, unsigned long what)
{
	int n = -1;
	return ioctl(fd, what, &n) ? -errno : n;
}

/* Bytes that are all there: what the peer sent has arrived. */
static void arrived(int fd, int n)
{
	for (int i = 0; i < 4000 && queued(fd, FIONREAD) < n; i++)
		nap(5);
}

static void flags(int fd)
{
	struct iovec iov[3] = {{buf, 3}, {buf + 10, 0}, {buf + 20, 4}};
	struct sockaddr_storage from;
	struct msghdr m = {.msg_name = &from,
			   .msg_namelen = sizeof from,
			   .msg_iov = iov,
			   .msg_iovlen = 3,
			   .msg_control = buf + 100,
			   .msg_controllen = 64,
			   .msg_flags = 0x7fff};
	socklen_t len = sizeof from;

	SAY("-- receive flags");
	SHOW(recv(fd, buf, 10, MSG_DONTWAIT));
	SHOW(recv(fd, buf, 10, MSG_ERRQUEUE));
	SHOW(recv(fd, buf, 10, MSG_OOB));
	peer("send 100");
	arrived(fd, 100);
	SHOW(queued(fd, FIONREAD));
	SHOW(recv(fd, buf, 10, MSG_PEEK));
	SHOW(recv(fd, buf, 200, MSG_PEEK | MSG_DONTWAIT));
	SHOW(recv(fd, buf, 10, 0));
	SHOW(buf[9]);
	SHOW(recv(fd, NULL, 20, MSG_TRUNC));
	SHOW(recv(fd, buf, 1, 0));
	SHOW(buf[0]);
	SHOW(recvfrom(fd, buf, 4, 0, (struct sockaddr *)&from, &len));
	SHOW(len);
	SHOW(recvmsg(fd, &m, MSG_CMSG_CLOEXEC));
	SAY("name %u, control %zu, flags %#x, bytes %d %d", m.msg_namelen, m.msg_controllen, m.msg_flags,
	    buf[2], buf[20]);
	SHOW(readv(fd, iov, 3));
	SHOW(readv(fd, iov, 2000));
	SHOW(readv(fd, NULL, 1));
	SHOW(preadv2(fd, iov, 3, -1, 0));
	SHOW(preadv2(fd, iov, 3, 0, 0));
	SHOW(pread(fd, buf, 1, 0));
	SHOW(lseek(fd, 0, SEEK_CUR));
	SHOW(read(fd, buf, 0));
	SHOW(recv(fd, buf, 0, 0));
	SHOW(queued(fd, FIONREAD));
	SHOW(recv(fd, buf, sizeof buf, MSG_DONTWAIT));
	SHOW(recv(fd, buf, 0, MSG_DONTWAIT));
	SHOW(preadv2(fd, iov, 3, -1, RWF_NOWAIT));
	SHOW(read(fd, NULL, 0));
	peer_later("send 30");
	peer_later("nap 150");
	peer_later("send 30");
	SHOW(recv(fd, buf, 60, MSG_WAITALL));
	for (int i = 0; i < 3; i++)
		peer_answer();
	peer_later("send 20");
	peer_later("nap 150");
	peer_later("send 20");
	SHOW(recv(fd, buf, 40, MSG_WAITALL | MSG_PEEK));
	SHOW(recv(fd, buf, 40, MSG_WAITALL));
	for (int i = 0; i < 3; i++)
		peer_answer();
	peer("send 8");
	arrived(fd, 8);
	SHOW(recv(fd, (void *)1, 4, 0));
	SHOW(recv(fd, buf, 8, 0));
}

static void messages(int fd)
{
	struct mmsghdr v[4];
	struct iovec iov[4];
	struct timespec ts = {0, 100000000};

	SAY("-- mmsg");
	for (int i = 0; i < 4; i++) {
		iov[i] = (struct iovec){buf + 10 * i, 10};
		v[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[i], .msg_iovlen = 1}};
	}
	peer("send 25");
	arrived(fd, 25);
	SHOW(recvmmsg(fd, v, 4, MSG_WAITFORONE, NULL));
	SAY("%u %u %u", v[0].msg_len, v[1].msg_len, v[2].msg_len);
	SHOW(recvmmsg(fd, v, 4, MSG_DONTWAIT, &ts));
	ts.tv_nsec = 1000000000;
	SHOW(recvmmsg(fd, v, 4, MSG_DONTWAIT, &ts));
	for (int i = 0; i < 40; i++)
		buf[i] = (char)i;
	SHOW(sendmmsg(fd, v, 4, 0));
	SHOW(peer("check 40"));
	SHOW(sendmmsg(fd, v, 0, 0));
}

static void sending(int fd)
{
	struct iovec iov[2] = {{buf, 100}, {buf + 100, 100}};
	struct sockaddr_in to = address("192.0.2.1", 9);

	for (int i = 0; i < 4096; i++)
		buf[i] = (char)((40 + i) % 251);
	SAY("-- send");
	SHOW(writev(fd, iov, 2));
	SHOW(peer("check 200"));
	for (int i = 0; i < 4096; i++)
		buf[i] = (char)((240 + i) % 251);
	SHOW(sendto(fd, buf, 10, 0, (struct sockaddr *)&to, sizeof to));
	SHOW(send(fd, buf + 10, 10, MSG_MORE));
	SHOW(send(fd, buf + 20, 10, MSG_DONTWAIT | MSG_NOSIGNAL));
	SHOW(peer("check 30"));
	SHOW(write(fd, buf, 0));
	SHOW(send(fd, buf, 0, 0));
	SHOW(writev(fd, iov, 0));
	SHOW(writev(fd, iov, -1));
	SHOW(pwritev2(fd, iov, 1, 5, 0));
	SHOW(pwrite(fd, buf, 1, 0));
	SHOW(pwritev2(fd, iov, 1, -1, 0x4000));
	SHOW(send(fd, (void *)1, 5, 0));
	for (int i = 0; i < 4000 && queued(fd, TIOCOUTQ); i++)
		nap(5);
	SHOW(queued(fd, TIOCOUTQ));
	SHOW(queued(fd, 0x894B));
}

static void files(int fd)
{
	char path[] = "/tmp/both.XXXXXX";
	int f = mkstemp(path), p[2];
	off_t at = 100;

	unlink(path);
	for (size_t i = 0; i < sizeof buf; i++)
		buf[i] = (char)((270 + i) % 251);
	SAY("-- sendfile");
	SHOW(write(f, buf, 100000));
	SHOW(lseek(f, 0, SEEK_SET));
	SHOW(sendfile(fd, f, NULL, 100));
	SHOW(lseek(f, 0, SEEK_CUR));
	SHOW(sendfile(fd, f, &at, 50));
	SAY("offset %ld, position %ld", (long)at, (long)lseek(f, 0, SEEK_CUR));
	at = 150;
	SHOW(sendfile64(fd, f, &at, 1000000));
	SAY("offset %ld", (long)at);
	SHOW(peer("check 100000"));
	SHOW(sendfile(fd, f, &at, 10));
	SHOW(sendfile(fd, f, NULL, 0));
	at = -1;
	SHOW(sendfile(fd, f, &at, 10));
	SHOW(sendfile(fd, 999, NULL, 10));
	pipe(p);
	SHOW(write(p[1], buf, 500));
	SHOW(sendfile(fd, p[0], NULL, 10));
	at = 0;
	SHOW(sendfile(fd, p[0], &at, 10));
	SHOW(sendfile(f, fd, NULL, 10));
	SAY("-- splice");
	for (size_t i = 0; i < sizeof buf; i++)
		buf[i] = (char)((270 + 100000 + i) % 251);
	SHOW(read(p[0], buf + 4096, 500));
	SHOW(write(p[1], buf, 500));
	SHOW(splice(p[0], NULL, fd, NULL, 300, 0));
	SHOW(fcntl(fd, F_SETFL, O_NONBLOCK));
	SHOW(splice(p[0], NULL, fd, NULL, 300, SPLICE_F_MORE));
	SHOW(splice(p[0], NULL, fd, NULL, 300, SPLICE_F_NONBLOCK));
	SHOW(splice(fd, NULL, p[1], NULL, 300, 0));
	SHOW(fcntl(fd, F_SETFL, 0));
	SHOW(send(fd, buf + 500, 1, 0));
	SHOW(peer("check 501"));
	peer("send 1000");
	arrived(fd, 1000);
	SHOW(splice(fd, NULL, p[1], NULL, 600, 0));
	SHOW(queued(fd, FIONREAD));
	SHOW(read(p[0], buf, 1000));
	SHOW(splice(fd, NULL, f, NULL, 600, 0));
	SHOW(splice(fd, &at, p[1], NULL, 600, 0));
	SHOW(recv(fd, buf, 1000, 0));
	close(f);
	close(p[0]);
	close(p[1]);
}

static void urgent(int fd)
{
	char c = 0;

	SAY("-- urgent");
	peer("send 4");
	peer("oob");
	SHOW(polled(fd, POLLPRI, 20000));
	peer("send 3");
	peer("taken");
	SHOW(sockatmark(fd));
	SHOW(recv(fd, buf, 100, 0));
	SHOW(sockatmark(fd));
	SHOW(recv(fd, &c, 1, MSG_OOB));
	SHOW(c);
	SHOW(recv(fd, &c, 1, MSG_OOB));
	SHOW(recv(fd, buf, 100, 0));
	SHOW(sockatmark(fd));
}

static void others(int fd)
{
	struct stat st;
	struct {
		char room[64];
	} termios;

	SAY("-- the descriptor itself");
	SHOW(fstat(fd, &st));
	SHOW(S_ISSOCK(st.st_mode));
	SHOW(isatty(fd));
	SHOW(ioctl(fd, 0x5401, &termios)); /* TCGETS */
	SHOW(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_ASYNC));
	SHOW(fcntl(fd, F_GETFD));
	SHOW(fsync(fd));
	SHOW(syscall(SYS_read, fd, buf, 0));
	SHOW(syscall(SYS_sendto, fd, "", 0, 0, NULL, 0));
}

int main(void)
{
	int fd = connected();

	flags(fd);
	messages(fd);
	sending(fd);
	files(fd);
	urgent(fd);
	others(fd);
	return 0;
}
