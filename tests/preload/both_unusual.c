/*
 * Legal and senseless: calls that a socket answers though hardly anybody asks. In each of a few states, the
 * answers of files' calls, of fcntl() and ioctl() with all their commands, of flags that TCP does not know,
 * of vectors and messages at the limits.
 */
#include "both.h"
#include <linux/errqueue.h>
#include <linux/falloc.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <termios.h>

#pragma GCC diagnostic ignored "-Wnonnull"
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#pragma GCC diagnostic ignored "-Wstringop-overread"

static void as_file(int fd)
{
	struct stat st;
	struct statfs fs;
	char b[64] = "", path[64];
	off_t off = 0;
	int null = open("/dev/null", O_RDWR), p[2];
	ssize_t n;

	SHOW(lseek(fd, 0, SEEK_CUR));
	SHOW(pread(fd, b, 1, 0));
	SHOW(pwrite(fd, b, 1, 0));
	SHOW(preadv(fd, &(struct iovec){b, 1}, 1, 0));
	SHOW(ftruncate(fd, 0));
	SHOW(fsync(fd));
	SHOW(fdatasync(fd));
	SHOW(fallocate(fd, 0, 0, 1));
	SHOW(posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL));
	SHOW(readahead(fd, 0, 1));
	SHOW(sync_file_range(fd, 0, 1, 0));
	SHOW(flock(fd, LOCK_SH | LOCK_NB));
	SHOW(flock(fd, LOCK_UN));
	SHOW(fchmod(fd, 0600));
	SHOW(fchown(fd, (uid_t)-1, (gid_t)-1));
	SHOW(fchdir(fd));
	SHOW(openat(fd, "x", O_RDONLY));
	SHOW(fstat(fd, &st));
	SAY("mode %o links %lu size %ld blocks %ld blksize %ld", st.st_mode & S_IFMT,
	    (unsigned long)st.st_nlink, (long)st.st_size, (long)st.st_blocks, (long)st.st_blksize);
	SHOW(fstatfs(fd, &fs));
	SAY("type %lx", (unsigned long)fs.f_type);
	SHOW(fgetxattr(fd, "user.x", b, sizeof b));
	SHOW(isatty(fd));
	SHOW(sendfile(null, fd, NULL, 1));
	SHOW(sendfile(null, fd, &off, 1));
	SHOW(copy_file_range(fd, NULL, null, NULL, 1, 0));
	if (pipe(p))
		exit(1);
	SHOW(tee(fd, p[1], 1, SPLICE_F_NONBLOCK));
	SHOW(vmsplice(fd, &(struct iovec){b, 1}, 1, SPLICE_F_NONBLOCK));
	SHOW(splice(fd, &(loff_t){0}, p[1], NULL, 1, SPLICE_F_NONBLOCK));
	SHOW(splice(p[0], NULL, fd, &(loff_t){0}, 1, SPLICE_F_NONBLOCK));
	SHOW(splice(fd, NULL, null, NULL, 1, SPLICE_F_NONBLOCK));
	SHOW(splice(fd, NULL, p[1], NULL, 0, 0));
	SHOW(splice(fd, NULL, p[1], NULL, 1, 0x1000));
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	n = readlink(path, b, sizeof b - 1);
	b[n > 0 ? n : 0] = 0;
	SAY("link %.8s", b);
	SHOW(open(path, O_RDONLY));
	close(null);
	close(p[0]);
	close(p[1]);
}

static void controls(int fd)
{
	static const int bits[] = {O_NONBLOCK, O_APPEND,  O_ASYNC, O_DIRECT, O_NOATIME,
				   O_SYNC,     O_CLOEXEC, -1,	   0};
	struct f_owner_ex o = {F_OWNER_PID, getpid()};
	struct flock lock = {.l_type = F_RDLCK};
	uint64_t hint = 0;
	int v;

	for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
		if (bits[i] & O_ASYNC && bits[i] != O_ASYNC)
			continue;
		printf("%x: ", (unsigned int)bits[i]);
		SHOW(fcntl(fd, F_SETFL, bits[i]));
		SHOW(fcntl(fd, F_GETFL));
	}
	SHOW(fcntl(fd, F_SETFD, -1));
	SHOW(fcntl(fd, F_GETFD));
	SHOW(fcntl(fd, F_SETFD, 0));
	SHOW(fcntl(fd, F_DUPFD, -1));
	SHOW(fcntl(fd, F_DUPFD_CLOEXEC, 1 << 30));
	SHOW(v = fcntl(fd, F_DUPFD_CLOEXEC, 200));
	SHOW(fcntl(v, F_GETFD));
	SHOW(close(v));
	SHOW(dup3(fd, fd, 0));
	SHOW(dup3(fd, 201, O_NONBLOCK));
	SHOW(dup3(fd, 201, O_CLOEXEC));
	SHOW(fcntl(201, F_GETFD));
	SHOW(dup2(fd, fd) == fd);
	SHOW(dup2(fd, -1));
	SHOW(dup2(fd, 1 << 30));
	SHOW(close(201));
	SHOW(fcntl(fd, F_GETLK, &lock));
	SHOW(fcntl(fd, F_SETLK, &lock));
	SHOW(fcntl(fd, F_SETLEASE, F_RDLCK));
	SHOW(fcntl(fd, F_GETLEASE));
	SHOW(fcntl(fd, F_NOTIFY, 0));
	SHOW(fcntl(fd, F_GETPIPE_SZ));
	SHOW(fcntl(fd, F_GET_SEALS));
	SHOW(fcntl(fd, 1024 + 12, &hint)); /* F_SET_RW_HINT */
	SHOW(fcntl(fd, F_SETSIG, 65));
	SHOW(fcntl(fd, F_SETSIG, -1));
	SHOW(fcntl(fd, F_GETSIG));
	SHOW(fcntl(fd, F_SETOWN, 0x7ffffff0));
	SHOW(fcntl(fd, F_SETOWN, -0x7ffffff0));
	SHOW(fcntl(fd, F_SETOWN_EX, &o));
	SHOW(fcntl(fd, F_GETOWN) == getpid());
	o.type = 9;
	SHOW(fcntl(fd, F_SETOWN_EX, &o));
	SHOW(fcntl(fd, F_GETOWN_EX, &o));
	SAY("owner %d %d", o.type, o.pid == getpid());
	SHOW(fcntl(fd, F_SETOWN, 0));
	SHOW(fcntl(fd, 12345, 0));
	v = getpid();
	SHOW(ioctl(fd, FIOSETOWN, &v));
	SHOW(ioctl(fd, FIOGETOWN, &v));
	SAY("owner %d", v == getpid());
	v = 0;
	SHOW(ioctl(fd, SIOCSPGRP, &v));
	SHOW(ioctl(fd, SIOCGPGRP, &v));
	SAY("owner %d", v);
}

static void requests(int fd)
{
	struct ifreq r = {.ifr_name = "lo"};
	struct termios t;
	struct winsize w;
	struct timeval tv;
	struct timespec ts;
	int v = 1;

	SHOW(ioctl(fd, FIOASYNC, &v));
	v = 0;
	SHOW(ioctl(fd, FIOASYNC, &v));
	v = 1;
	SHOW(ioctl(fd, FIONBIO, &v));
	SHOW(fcntl(fd, F_GETFL));
	v = 0;
	SHOW(ioctl(fd, FIONBIO, &v));
	SHOW(ioctl(fd, FIOCLEX));
	SHOW(fcntl(fd, F_GETFD));
	SHOW(ioctl(fd, FIONCLEX));
	SHOW(fcntl(fd, F_GETFD));
	SHOW(ioctl(fd, FIONBIO, NULL));
	SHOW(ioctl(fd, FIONREAD, NULL));
	SHOW(ioctl(fd, SIOCOUTQ, &v));
	SAY("%d", v);
	SHOW(ioctl(fd, SIOCOUTQNSD, &v));
	SAY("%d", v);
	SHOW(ioctl(fd, SIOCATMARK, &v));
	SAY("%d", v);
	SHOW(ioctl(fd, SIOCATMARK, NULL));
	SHOW(ioctl(fd, TCGETS, &t));
	SHOW(ioctl(fd, TIOCGWINSZ, &w));
	SHOW(ioctl(fd, SIOCGSTAMP, &tv));
	SHOW(ioctl(fd, SIOCGSTAMPNS, &ts));
	SHOW(ioctl(fd, SIOCGIFINDEX, &r));
	SHOW(ioctl(fd, SIOCGIFFLAGS, &r));
	SHOW(ioctl(fd, 0x12345678, &v));
	SHOW(ioctl(fd, 0, NULL));
	SHOW(ioctl(fd, 2 /* FIGETBSZ */, &v));
}

static void vectors(int fd)
{
	static struct iovec many[1100];
	static char low[64]; /* two gigabytes behind it there are addresses still */
	char b[64];
	struct iovec bad[2] = {{b, 1}, {b, (size_t)-1}};
	struct msghdr m = {.msg_iov = many, .msg_iovlen = 1025};

	for (int i = 0; i < 1100; i++)
		many[i] = (struct iovec){b, 0};
	SHOW(readv(fd, many, 0));
	SHOW(readv(fd, NULL, 0));
	SHOW(preadv2(fd, NULL, 0, -1, 0));
	SHOW(readv(fd, many, -1));
	SHOW(readv(fd, many, 1025));
	SHOW(readv(fd, NULL, 1));
	SHOW(readv(fd, bad, 2));
	SHOW(writev(fd, many, 0));
	SHOW(writev(fd, many, -1));
	SHOW(writev(fd, many, 1025));
	SHOW(writev(fd, many, 1024));
	SHOW(pwritev2(fd, many, 2, -1, 0));
	SHOW(writev(fd, NULL, 1));
	SHOW(writev(fd, bad, 2));
	SHOW(sendmsg(fd, &m, MSG_NOSIGNAL));
	SHOW(recvmsg(fd, &m, MSG_DONTWAIT));
	m = (struct msghdr){.msg_iov = bad, .msg_iovlen = 2};
	SHOW(sendmsg(fd, &m, MSG_NOSIGNAL));
	SHOW(recvmsg(fd, &m, MSG_DONTWAIT));
	SHOW(sendmsg(fd, NULL, MSG_NOSIGNAL));
	SHOW(recvmsg(fd, NULL, MSG_DONTWAIT));
	SHOW(recv(fd, b, 0, MSG_DONTWAIT));
	SHOW(recv(fd, NULL, 0, MSG_DONTWAIT));
	SHOW(recv(fd, NULL, 4, MSG_DONTWAIT));
	SHOW(recv(fd, low, (size_t)-1, MSG_DONTWAIT));
	SHOW(send(fd, b, 0, MSG_NOSIGNAL));
	SHOW(send(fd, NULL, 0, MSG_NOSIGNAL));
	SHOW(send(fd, NULL, 4, MSG_NOSIGNAL));
	SHOW(recv(fd, b, 1, MSG_DONTWAIT | MSG_ERRQUEUE));
	SHOW(recv(fd, b, 1, MSG_DONTWAIT | MSG_OOB));
	SHOW(recv(fd, b, 1, MSG_DONTWAIT | 0x40000000));
	SHOW(recv(fd, b, 1, MSG_DONTWAIT | MSG_WAITFORONE));
	SHOW(recv(fd, b, 1, MSG_DONTWAIT | MSG_EOR));
	SHOW(recv(fd, b, 1, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
}

static void messages(int fd)
{
	char b[64] = "", space[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec v = {b, 1};
	struct sockaddr_storage name;
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	struct cmsghdr *c = (struct cmsghdr *)space;
	struct sockaddr_in elsewhere = address("203.0.113.1", 9);

	m.msg_control = space;
	m.msg_controllen = sizeof space;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	SHOW(sendmsg(fd, &m, MSG_NOSIGNAL));
	polled(fd, 0, 300); /* a peer that has closed resets */
	c->cmsg_type = 99;
	SHOW(sendmsg(fd, &m, MSG_NOSIGNAL));
	c->cmsg_level = IPPROTO_IP;
	SHOW(sendmsg(fd, &m, MSG_NOSIGNAL));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_len = 3;
	SHOW(sendmsg(fd, &m, MSG_NOSIGNAL));
	m.msg_controllen = 3;
	SHOW(sendmsg(fd, &m, MSG_NOSIGNAL));
	m.msg_control = NULL;
	m.msg_controllen = 0;
	m.msg_name = &elsewhere;
	m.msg_namelen = sizeof elsewhere;
	SHOW(sendmsg(fd, &m, MSG_NOSIGNAL));
	m.msg_namelen = 5000;
	SHOW(sendmsg(fd, &m, MSG_NOSIGNAL));
	SHOW(sendto(fd, b, 1, MSG_NOSIGNAL, (struct sockaddr *)&elsewhere, sizeof elsewhere));
	SHOW(sendto(fd, b, 1, MSG_NOSIGNAL, NULL, 200));
	SHOW(sendto(fd, b, 1, MSG_NOSIGNAL, (struct sockaddr *)&elsewhere, 1));
	SHOW(send(fd, b, 1, MSG_NOSIGNAL | MSG_CONFIRM));
	SHOW(send(fd, b, 1, MSG_NOSIGNAL | MSG_DONTROUTE));
	SHOW(send(fd, b, 1, MSG_NOSIGNAL | MSG_EOR));
	SHOW(send(fd, b, 1, MSG_NOSIGNAL | MSG_ZEROCOPY));
	SHOW(send(fd, b, 1, MSG_NOSIGNAL | MSG_PEEK | MSG_TRUNC | MSG_WAITALL));
	SHOW(send(fd, b, 1, MSG_NOSIGNAL | 0x40000000));
	m = (struct msghdr){.msg_iov = &v, .msg_iovlen = 1, .msg_name = &name, .msg_namelen = sizeof name};
	m.msg_control = space;
	m.msg_controllen = sizeof space;
	m.msg_flags = -1;
	SHOW(recvmsg(fd, &m, MSG_DONTWAIT));
	SAY("name %u control %zu flags %x", m.msg_namelen, m.msg_controllen, (unsigned int)m.msg_flags);
	socklen_t len = sizeof name;
	SHOW(recvfrom(fd, b, 1, MSG_DONTWAIT, (struct sockaddr *)&name, &len));
	SAY("length %u", len);
	SHOW(recvfrom(fd, b, 1, MSG_DONTWAIT, (struct sockaddr *)&name, NULL));
}

static void several(int fd)
{
	char b[4][4];
	struct iovec v[4];
	struct mmsghdr m[4];
	struct timespec ts = {0, 20000000}, bad = {0, -1};

	for (int i = 0; i < 4; i++) {
		v[i] = (struct iovec){b[i], 4};
		m[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &v[i], .msg_iovlen = 1}, .msg_len = 77};
	}
	SHOW(recvmmsg(fd, m, 0, MSG_DONTWAIT, NULL));
	SHOW(recvmmsg(fd, m, 4, MSG_DONTWAIT, NULL));
	SHOW(recvmmsg(fd, m, 4, MSG_DONTWAIT, &bad));
	SHOW(recvmmsg(fd, m, 4, MSG_DONTWAIT, &ts));
	SHOW(recvmmsg(fd, NULL, 4, MSG_DONTWAIT, NULL));
	SAY("lengths %u %u %u", m[0].msg_len, m[1].msg_len, m[2].msg_len);
	SHOW(sendmmsg(fd, m, 0, MSG_NOSIGNAL));
	v[2].iov_base = NULL;
	SHOW(sendmmsg(fd, m, 4, MSG_NOSIGNAL));
	SAY("lengths %u %u %u", m[0].msg_len, m[1].msg_len, m[2].msg_len);
	SHOW(sendmmsg(fd, m + 2, 2, MSG_NOSIGNAL));
	SHOW(sendmmsg(fd, NULL, 2, MSG_NOSIGNAL));
}

static void addresses(int fd)
{
	char b[128];
	struct sockaddr *sa = (struct sockaddr *)b;
	static const socklen_t lens[] = {0, 1, 2, 7, 16, 100};

	for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
		socklen_t len = lens[i];

		memset(b, 0x55, sizeof b);
		SHOW(getsockname(fd, sa, &len));
		SAY("%u, untouched from %u: %d", len, lens[i], b[lens[i]] == 0x55);
		len = lens[i];
		SHOW(getpeername(fd, sa, &len));
		SAY("%u", len);
	}
	SHOW(getsockname(fd, sa, &(socklen_t){-1}));
	SHOW(getpeername(fd, sa, &(socklen_t){-1}));
	SHOW(getsockname(fd, NULL, &(socklen_t){16}));
	SHOW(getsockname(fd, sa, NULL));
	SHOW(shutdown(fd, 3));
	SHOW(shutdown(fd, -1));
	SHOW(listen(fd, -1));
	sa->sa_family = AF_INET;
	SHOW(connect(fd, sa, 0));
	SHOW(connect(fd, sa, 1));
	SHOW(connect(fd, sa, 7));
	SHOW(connect(fd, sa, 500));
	SHOW(bind(fd, sa, 1));
	SHOW(bind(fd, sa, 500));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	SHOW(accept(fd, sa, &(socklen_t){-1}));
	SHOW(accept4(fd, NULL, NULL, 0x77));
}

static void readiness(int fd)
{
	struct pollfd p[4] = {{-1, -1, 77}, {fd, 0, 77}, {fd, -1 & ~POLLIN, 77}, {fd, POLLOUT, 77}};
	int ep = epoll_create1(0);
	struct epoll_event e = {.events = EPOLLIN};

	SHOW(poll(p, 4, 0));
	SAY("%x %x %x %x", p[0].revents, p[1].revents, p[2].revents, p[3].revents);
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &e));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
	SHOW(epoll_ctl(ep, 9, fd, &e));
	SHOW(epoll_ctl(fd, EPOLL_CTL_ADD, ep, &e));
	e.events = EPOLLIN | EPOLLEXCLUSIVE;
	SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
	SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
	e.events = EPOLLIN;
	SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
	SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
	e.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT;
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
	e.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLRDHUP;
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
	e.events = 0;
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
	SHOW(epoll_wait(ep, &e, 1, 0) >= 0);
	SHOW(epoll_wait(fd, &e, 1, 0));
	close(ep);
}

static void all(const char *state, int fd)
{
	SAY("-- %s", state);
	as_file(fd);
	controls(fd);
	requests(fd);
	vectors(fd);
	messages(fd);
	several(fd);
	addresses(fd);
	readiness(fd);
}

/* A place for the peer's name that is none costs the connection. */
static void badly_accepted(void)
{
	struct sockaddr_in sa;
	int port, l = listening(&port, 3);

	fcntl(l, F_SETFL, O_NONBLOCK);
	SHOW(accept(l, (struct sockaddr *)&sa, NULL));
	for (int i = 0; i < 3; i++) {
		socklen_t len = i == 1 ? (socklen_t)-1 : 1;

		peer("connect %d", port);
		polled(l, POLLIN, 20000);
		if (i < 2)
			SHOW(accept(l, (struct sockaddr *)&sa, i ? &len : NULL));
		else
			SHOW(accept(l, NULL, &len) >= 0);
		SHOW(accept(l, (struct sockaddr *)&sa, &len));
		SAY("length %u, peer reads %ld", len, i < 2 ? peer("read 1") : 0);
		peer("close");
	}
	close(l);
}

/* Both FINs are through. */
static void until_closed(int fd)
{
	struct tcp_info i = {0};
	socklen_t len = sizeof i;

	while (!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) && i.tcpi_state != TCP_CLOSE)
		nap(1);
}

static int mapped(int fd, int rights, int how)
{
	void *p = mmap(NULL, 4096, rights, how, fd, 0);

	return p == MAP_FAILED ? -1 : munmap(p, 4096);
}

/* The kernel makes a mapping for TCP_ZEROCOPY_RECEIVE, with nothing in it. */
static void map(int fd, int l)
{
	SHOW(mapped(fd, PROT_READ, MAP_SHARED));
	SHOW(mapped(fd, PROT_READ, MAP_PRIVATE));
	SHOW(mapped(fd, PROT_READ | PROT_WRITE, MAP_SHARED));
	SHOW(mapped(l, PROT_READ, MAP_SHARED));
}

int main(void)
{
	int port, fd;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGIO, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	fd = connected();
	all("connected", fd);
	close(fd);
	peer("close");
	fd = connected();
	peer("send 40000");
	polled(fd, POLLIN, 20000);
	char b[8];
	SHOW(recv(fd, NULL, 3, MSG_TRUNC));
	SHOW(recv(fd, NULL, 3, MSG_TRUNC | MSG_PEEK));
	SHOW(recv(fd, b, 8, MSG_PEEK));
	close(fd);
	peer("close");
	fd = connected();
	peer("close");
	polled(fd, POLLRDHUP, 20000);
	all("peer closed", fd);
	close(fd);
	fd = connected();
	shutdown(fd, SHUT_RDWR);
	peer("close");
	until_closed(fd);
	all("over", fd);
	close(fd);
	fd = listening(&port, 2);
	all("listening", fd);
	int c = connected();
	map(c, fd);
	close(c);
	peer("close");
	close(fd);
	badly_accepted();
	return 0;
}
