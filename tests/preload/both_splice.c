/*
 * splice(), tee(), vmsplice() and sendfile() between pipes, files and sockets:
 * every wrong pair, flag and offset, blocking and not, full and empty, bytes.
 */
#include "both.h"
#include "state.h"

static volatile int pipes;
static char buf[1 << 20];

static void on_sigpipe(int sig)
{
	(void)sig;
	pipes++;
}

static int p[2];

static void fresh_pipe(void)
{
	if (p[1]) {
		close(p[0]);
		close(p[1]);
	}
	if (pipe(p))
		exit(1);
}

static void wrong(int fd)
{
	off64_t off = 0;
	int file = open("/proc/self/exe", O_RDONLY), q[2], l, port;
	struct iovec v = {buf, 1};

	if (pipe(q))
		exit(1);
	fresh_pipe();
	if (write(p[1], "abc", 3) != 3)
		exit(1);
	l = listening(&port, 1);
	SHOW(splice(fd, &off, p[1], NULL, 10, 0));
	SHOW(splice(p[0], NULL, fd, &off, 10, 0));
	SHOW(splice(p[0], &off, fd, NULL, 10, 0));
	SHOW(splice(fd, NULL, p[1], &off, 10, 0));
	SHOW(splice(fd, NULL, fd, NULL, 10, 0));
	SHOW(splice(file, NULL, fd, NULL, 10, 0));
	SHOW(splice(fd, NULL, file, NULL, 10, 0));
	SHOW(splice(fd, NULL, p[0], NULL, 10, SPLICE_F_NONBLOCK));
	SHOW(splice(p[1], NULL, fd, NULL, 10, 0));
	SHOW(splice(fd, NULL, -1, NULL, 10, 0));
	SHOW(splice(-1, NULL, fd, NULL, 10, 0));
	SHOW(splice(fd, NULL, p[1], NULL, 10, 0x100));
	SHOW(splice(p[0], NULL, fd, NULL, 10, 0xfff0));
	SHOW(splice(fd, NULL, p[1], NULL, 0, 0));
	SHOW(splice(p[0], NULL, fd, NULL, 0, 0));
	SHOW(splice(fd, NULL, -1, NULL, 0, 0));
	SHOW(splice(l, NULL, p[1], NULL, 10, 0));
	pipes = 0;
	SHOW(splice(p[0], NULL, l, NULL, 10, 0));
	SHOW(pipes);
	SHOW(tee(fd, p[1], 10, 0));
	SHOW(tee(p[0], fd, 10, 0));
	SHOW(tee(p[0], q[1], 10, 0));
	SHOW(vmsplice(fd, &v, 1, 0));
	SHOW(vmsplice(p[1], &v, 1, 0));
	SHOW(sendfile(fd, fd, NULL, 10));
	SHOW(sendfile(p[1], fd, &off, 10));
	SHOW(sendfile(file, fd, NULL, 10));
	SHOW(sendfile(fd, p[0], NULL, 2));
	SHOW(sendfile(fd, -1, NULL, 10));
	SHOW(sendfile(fd, file, NULL, 0));
	off = -1;
	SHOW(sendfile(fd, file, &off, 10));
	SHOW(copy_file_range(file, NULL, fd, NULL, 10, 0));
	SHOW(readahead(fd, 0, 10));
	SHOW(posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL));
	close(l);
	close(file);
	close(q[0]);
	close(q[1]);
}

static void from_socket(void)
{
	int fd = connected();

	fresh_pipe();
	nonblocking(fd); /* SPLICE_F_NONBLOCK is for the pipe */
	SHOW(splice(fd, NULL, p[1], NULL, 100, 0));
	peer("send 1000");
	wait_bits(fd, IN | OUT, -1);
	SHOW(splice(fd, NULL, p[1], NULL, 100, 0));
	SHOW(read(p[0], buf, sizeof buf));
	SHOW(buf[99]);
	SHOW(splice(fd, NULL, p[1], NULL, 5000, SPLICE_F_MOVE | SPLICE_F_MORE));
	SHOW(read(p[0], buf, sizeof buf));
	SHOW(buf[899]);
	peer("send 20");
	wait_bits(fd, IN | OUT, -1);
	SHOW(sendfile(p[1], fd, NULL, 15)); /* a pipe may take from a socket */
	SHOW(read(p[0], buf, sizeof buf));
	SHOW(recv(fd, buf, sizeof buf, 0));
	/* a pipe that is full */
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	while (write(p[1], buf, 4096) > 0)
		;
	peer("send 10");
	wait_bits(fd, IN | OUT, -1);
	SHOW(splice(fd, NULL, p[1], NULL, 100, 0));
	fcntl(p[1], F_SETFL, 0);
	SHOW(splice(fd, NULL, p[1], NULL, 100, SPLICE_F_NONBLOCK));
	SHOW(recv(fd, buf, sizeof buf, 0)); /* nothing was taken */
	fresh_pipe();
	peer("shutdown");
	wait_bits(fd, IN | OUT | POLLRDHUP, -1);
	SHOW(splice(fd, NULL, p[1], NULL, 100, 0));
	close(p[0]);
	p[0] = dup(0);
	pipes = 0;
	SHOW(splice(fd, NULL, p[1], NULL, 100, 0));
	close(fd);
	fd = reset_data();
	wait_bits(fd, GONE | POLLERR, -1);
	fresh_pipe();
	SHOW(splice(fd, NULL, p[1], NULL, 100, 0));
	SHOW(splice(fd, NULL, p[1], NULL, 100, 0));
	close(fd);
}

static void to_socket(void)
{
	int fd = connected(), part;

	fresh_pipe();
	for (int i = 0; i < 251 * 40; i++)
		buf[i] = (char)(i % 251);
	SHOW(splice(p[0], NULL, fd, NULL, 100, SPLICE_F_NONBLOCK));
	SHOW(write(p[1], buf, 10000));
	SHOW(splice(p[0], NULL, fd, NULL, 4000, SPLICE_F_MORE));
	SHOW(splice(p[0], NULL, fd, NULL, 6000, 0));
	SHOW(peer("check 10000"));
	close(p[1]);
	p[1] = dup(0);
	SHOW(splice(p[0], NULL, fd, NULL, 100, 0)); /* the end of the pipe */
	close(fd);
	fd = full();
	fresh_pipe();
	if (write(p[1], "abc", 3) != 3)
		exit(1);
	SHOW(splice(p[0], NULL, fd, NULL, 3, 0));
	SHOW(splice(p[0], NULL, fd, NULL, 3, SPLICE_F_NONBLOCK));
	SHOW(ioctl(p[0], FIONREAD, &part) ? -1 : part); /* nothing is lost */
	close(fd);
	fd = reset_and_told();
	pipes = 0;
	SHOW(splice(p[0], NULL, fd, NULL, 3, 0));
	SHOW(pipes);
	SHOW(ioctl(p[0], FIONREAD, &part) ? -1 : part);
	close(fd);
	fd = shut_wr();
	pipes = 0;
	SHOW(splice(p[0], NULL, fd, NULL, 3, 0));
	SHOW(pipes);
	close(fd);
}

static int whole_in[2], whole_fd;

static void *drain_pipe(void *arg)
{
	long n = 0, bad = 0;
	static char block[65536];

	for (ssize_t r; (r = read(whole_in[0], block, sizeof block)) > 0; n += r)
		for (ssize_t i = 0; i < r; i++)
			bad += block[i] != (char)((n + i) % 251);
	*(long *)arg = bad ? -bad : n;
	return NULL;
}

/* A megabyte each way, blocking. */
static void whole(void)
{
	long got = 0, sent = 0, r;
	pthread_t t;

	whole_fd = connected();
	if (pipe(whole_in))
		exit(1);
	pthread_create(&t, NULL, drain_pipe, &got);
	peer_later("send 1000000");
	while (sent < 1000000 && (r = splice(whole_fd, NULL, whole_in[1], NULL, 300000, SPLICE_F_MOVE)) > 0)
		sent += r;
	close(whole_in[1]);
	pthread_join(t, NULL);
	SHOW(peer_answer());
	SHOW(sent);
	SHOW(got);
	close(whole_in[0]);
	fresh_pipe();
	peer_later("check 1000000");
	for (sent = 0; sent < 1000000;) {
		long part = 1000000 - sent < 50000 ? 1000000 - sent : 50000;
		for (long i = 0; i < part; i++)
			buf[i] = (char)((sent + i) % 251);
		if (write(p[1], buf, (size_t)part) != part)
			break;
		for (long left = part; left; left -= r)
			if ((r = splice(p[0], NULL, whole_fd, NULL, (size_t)left, SPLICE_F_MORE)) <= 0)
				return;
		sent += part;
	}
	SHOW(sent);
	SHOW(peer_answer());
	close(whole_fd);
}

int main(void)
{
	int fd;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, on_sigpipe);
	fd = connected();
	wrong(fd);
	close(fd);
	from_socket();
	to_socket();
	whole();
	return 0;
}
