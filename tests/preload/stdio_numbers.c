/*
 * Numbers that libc gives out, takes or overwrites inside itself: nothing of a
 * connection is left on them. Calls that move bytes between descriptors say of a
 * socket what they say in the kernel. Traps 5 and 27.
 */
#include "both.h"
#include <aio.h>
#include <dlfcn.h>
#include <pty.h>
#include <sys/eventfd.h>
#include <utmp.h>

static int (*hidden_close)(int); /* libc's own: a close that no other library sees */

/* A connection whose number was closed unseen. */
static int lost(void)
{
	int fd = connected();
	hidden_close(fd);
	return fd;
}

static const char *through(int out, int in)
{
	static char text[16];
	ssize_t n = write(out, "local", 5);

	n = n == 5 ? read(in, text, sizeof text - 1) : 0;
	text[n < 0 ? 0 : n] = 0;
	return text;
}

static void unseen(void)
{
	int pair[2], fd, e;
	uint64_t count = 0;

	SAY("-- closed unseen");
	fd = lost();
	SHOW(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	SHOW(pair[0] == fd);
	SAY("%s %s", through(pair[0], pair[1]), through(pair[1], pair[0]));
	SHOW(peer("recv 1"));
	close(pair[0]), close(pair[1]);
	fd = lost();
	SHOW(pipe(pair));
	SHOW(pair[0] == fd);
	SAY("%s", through(pair[1], pair[0]));
	SHOW(peer("recv 1"));
	close(pair[0]), close(pair[1]);
	fd = lost();
	SHOW(pipe2(pair, O_CLOEXEC));
	SAY("%s", through(pair[1], pair[0]));
	close(pair[0]), close(pair[1]);
	fd = lost();
	SHOW((e = eventfd(3, 0)) == fd);
	SHOW(read(e, &count, sizeof count));
	SHOW(count);
	SHOW(peer("recv 1"));
	close(e);
	fd = lost();
	SHOW((e = dup(1)) == fd);
	SHOW(write(e, "to stdout\n", 10));
	SHOW(peer("recv 1"));
	close(e);
	fd = lost();
	SHOW((e = connected()) == fd);
	SHOW(send(e, "new", 3, 0));
	SHOW(peer("sum 3"));
	close(e);
	SHOW(peer("recv 1"));
}

static void terminal(void)
{
	int parent, child, fd = connected(), keep[3];
	struct stat st;

	SAY("-- login_tty");
	signal(SIGHUP, SIG_IGN); /* the terminal goes before its session does */
	fflush(stdout);
	for (int i = 0; i < 3; i++) {
		keep[i] = fcntl(i, F_DUPFD, 100);
		dup2(fd, i);
	}
	close(fd);
	openpty(&parent, &child, NULL, NULL, NULL);
	int r = login_tty(child);
	fd = open("/dev/null", O_RDONLY);
	bool tty = isatty(1);
	ssize_t n = write(1, "to the terminal", 15);
	for (int i = 0; i < 3; i++)
		dup2(keep[i], i), close(keep[i]);
	SHOW(r);
	SHOW(tty);
	SHOW(n);
	SHOW(peer("recv 1"));
	SHOW(fstat(fd, &st) == 0 && S_ISCHR(st.st_mode));
	char text[32];
	SHOW(read(parent, text, sizeof text));
	close(parent);
	close(fd);
}

/* A connection on 0, 1 and 2, as a service has it. */
static void put_on_standard(void)
{
	int fd = connected();

	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	close(fd);
}

/* daemon() and forkpty() in a process of its own, which tells through a pipe what its fd 1 is. */
static void forked(const char *name, int (*call)(int report))
{
	int report[2], status;
	char text[128] = "";
	pid_t pid;

	fflush(stdout);
	if (pipe(report))
		exit(1);
	pid = fork();
	if (!pid) {
		close(report[0]);
		put_on_standard();
		_exit(call(report[1]));
	}
	close(report[1]);
	waitpid(pid, &status, 0);
	for (ssize_t n, at = 0; (n = read(report[0], text + at, sizeof text - 1 - at)) > 0;)
		at += n;
	close(report[0]);
	SAY("-- %s: status %d\n%s", name, WEXITSTATUS(status), text);
}

static int as_daemon(int report)
{
	ssize_t n;

	if (daemon(1, 0))
		return 1;
	n = write(1, "nowhere", 7);
	dprintf(report, "wrote %zd, read %zd", n, read(0, &n, 1));
	return 0;
}

static int on_pty(int report)
{
	int terminal;
	char text[64] = "";
	pid_t pid = forkpty(&terminal, NULL, NULL, NULL);

	if (!pid) {
		ssize_t n = write(1, "hello\n", 6);
		_exit(n == 6 && isatty(0) ? 0 : 2);
	}
	if (pid < 0) { /* no devpts here, over the kernel neither */
		dprintf(report, "no terminal");
		return 0;
	}
	int status, n = (int)read(terminal, text, sizeof text - 1);
	waitpid(pid, &status, 0);
	dprintf(report, "%d %.5s, child %d, ours %zd", n, text, WEXITSTATUS(status), write(1, "own", 3));
	return 0;
}

static void movers(void)
{
	int fd = connected(), pair[2], file = memfd_create("f", 0);
	char text[16] = "text";
	struct iovec iov = {text, 4};
	off64_t at = 0;

	SAY("-- movers");
	if (pipe(pair) || write(file, "file", 4) != 4 || write(pair[1], "pipe", 4) != 4)
		exit(1);
	peer("send 4");
	SHOW(vmsplice(fd, &iov, 1, 0));
	SHOW(tee(fd, pair[1], 4, 0));
	SHOW(tee(pair[0], fd, 4, 0));
	SHOW(tee(fd, fd, 4, SPLICE_F_NONBLOCK));
	SHOW(copy_file_range(file, &at, fd, NULL, 4, 0));
	SHOW(copy_file_range(fd, NULL, file, &at, 4, 0));
	SHOW(pread(fd, text, 4, 0));
	SHOW(pwrite(fd, text, 4, 0));
	SHOW(preadv(fd, &iov, 1, 0));
	SHOW(pwritev(fd, &iov, 1, 0));
	SHOW(preadv2(fd, &iov, 1, 5, 0));
	SHOW(lseek(fd, 0, SEEK_END));
	SHOW(fsync(fd));
	SHOW(fdatasync(fd));
	SHOW(readahead(fd, 0, 1));
	SHOW(posix_fadvise(fd, 0, 1, POSIX_FADV_NORMAL));
	SHOW(fallocate(fd, 0, 0, 1));
	SHOW(sendfile(file, fd, NULL, 4));
	SHOW(splice(fd, NULL, file, NULL, 4, 0));
	SHOW(read(fd, text, sizeof text));
	close(pair[0]), close(pair[1]), close(file), close(fd);
}

/* The kernel's socket does it, the stack's says that it is not there: both are told from a wrong answer. */
static void asynchronous(void)
{
	int fd = connected(), r;
	char text[8] = "";
	struct aiocb cb = {.aio_fildes = fd, .aio_buf = text, .aio_nbytes = 4};
	struct aiocb *const list[] = {&cb};

	SAY("-- asynchronous");
	peer("send 4");
	r = aio_read(&cb);
	if (!r) {
		while (aio_suspend((const struct aiocb *const *)list, 1, NULL))
			;
		r = (int)aio_return(&cb);
	} else if (errno == ENOSYS) {
		r = (int)read(fd, text, 4);
	}
	SHOW(r);
	SHOW(text[3]);
	SHOW(aio_cancel(fd, NULL) == AIO_ALLDONE);
	cb.aio_lio_opcode = LIO_NOP;
	SHOW(lio_listio(LIO_WAIT, list, 1, NULL));
	close(fd);
}

int main(void)
{
	void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);

	setenv("UTCP_LOG", "/dev/null", 1); /* it tells of what only the stack refuses */
	hidden_close = (int (*)(int))dlsym(libc, "close");
	control_open();
	forked("daemon", as_daemon);
	forked("forkpty", on_pty);
	unseen();
	movers();
	asynchronous();
	terminal();
	return 0;
}
