/*
 * Trap 23: limits and losses that a process may have when its stack starts, or
 * that come afterwards. Each case is a process of its own; the same work must
 * succeed as over the kernel.
 */
#include "peer.h"
#include <grp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define NOBODY 65534
#define BULK   (3 << 20)
#define PILES  16

/* Echo, bulk in both directions beyond the first buffers, a listener, poll, a set. */
static void work(const char *what)
{
	static char b[65536];
	int port, l = listen_any(&port), ep = epoll_create1(0), s = peer_connect("e"), bulk, back, c;
	char script[64];
	long got = 0, n;

	send(s, "ping", 4, 0);
	printf("%s: echo %s", what, result_text(recv(s, b, 4, MSG_WAITALL)));
	snprintf(script, sizeof script, "z%d r%d wend", BULK, BULK);
	bulk = peer_connect(script);
	msleep(50); /* let it pile up: the region grows */
	while (got < BULK && (n = recv(bulk, b, sizeof b, 0)) > 0)
		got += n;
	printf(", received %ld", got);
	for (got = 0;
	     got < BULK &&
	     (n = send(bulk, b, got + (long)sizeof b > BULK ? BULK - (size_t)got : sizeof b, 0)) > 0;)
		got += n;
	printf(", sent %ld, then %s", got, result_text(recv(bulk, b, 3, MSG_WAITALL)));
	ep_add(ep, l, EPOLLIN, 1);
	back = peer_call_back(port, "whello s");
	ep_show(", set", ep, 4, 20000);
	c = accept(l, NULL, NULL);
	printf("%s: accepted, %s\n", what, result_text(recv(c, b, 5, MSG_WAITALL)));
	close(c);
	close(back);
	close(bulk);
	close(s);
	close(ep);
	close(l);
}

static void limit(int which, rlim_t soft)
{
	struct rlimit l;

	getrlimit((__rlimit_resource_t)which, &l);
	l.rlim_cur = soft;
	if (l.rlim_max != RLIM_INFINITY && l.rlim_max < soft)
		l.rlim_max = soft;
	if (setrlimit((__rlimit_resource_t)which, &l))
		printf("the limit cannot be set\n");
}

static void few_numbers(void)
{
	limit(RLIMIT_NOFILE, 64);
	work("64 numbers");
}

/* Some programs use the highest number of all; a million of them where the machine allows it. */
static void many_numbers(void)
{
	struct rlimit l = {1 << 20, 1 << 20};
	int s, high;
	char b[8] = "";

	if (setrlimit(RLIMIT_NOFILE, &l)) {
		getrlimit(RLIMIT_NOFILE, &l);
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
	s = peer_connect("e");
	high = dup2(s, (int)l.rlim_cur - 1);
	close(s);
	send(high, "ping", 4, 0);
	printf("number %d: %s", high, result_text(recv(high, b, 4, MSG_WAITALL)));
	printf(" '%s'\n", b);
	work("the highest number");
	printf("close_range %s\n", result_text(close_range(3, ~0u, 0)));
	work("after it");
}

/* Every number taken, then some given back: no call may fail for want of one of ours, then all works. */
static void exhausted(void)
{
	struct sockaddr_in a = peer_address();
	int fd[64], n = 0, s, late[2];
	char b[8] = "";

	limit(RLIMIT_NOFILE, 64);
	s = peer_connect("e");
	for (int i = 0; i < 2; i++)
		late[i] = socket(AF_INET, SOCK_STREAM, 0);
	while (n < 64 && (fd[n] = open("/dev/null", O_RDONLY)) >= 0)
		n++;
	printf("full: %s", strerrorname_np(errno));
	send(s, "ping", 4, 0);
	printf(", recv %s", result_text(recv(s, b, 4, MSG_WAITALL)));
	printf(", socket %s", result_text(socket(AF_INET, SOCK_STREAM, 0)));
	for (int i = 0; i < 2; i++) {
		printf(", connect %s", result_text(connect(late[i], (struct sockaddr *)&a, sizeof a)));
		peer_script(late[i], "e");
		send(late[i], "pong", 4, 0);
		printf(", recv %s", result_text(recv(late[i], b, 4, MSG_WAITALL)));
	}
	printf("\n");
	while (n > 0)
		close(fd[--n]);
	close(late[0]);
	close(late[1]);
	close(s);
	work("afterwards");
}

/* A sanitizer's runtime has an address space of its own size. */
static int instrumented(void)
{
	const char *flags = getenv("SAN"), *runtime = getenv("UTCP_TEST_RUNTIME");

	return (flags && *flags) || (runtime && *runtime);
}

static void address_space(void)
{
	if (instrumented())
		return;
	limit(RLIMIT_AS, 512u << 20);
	work("ulimit -v 512 MB");
}

static void little_address_space(void)
{
	if (instrumented())
		return;
	limit(RLIMIT_AS, 96u << 20);
	work("ulimit -v 96 MB");
}

/*
 * Connections that nobody reads for a while: their buffers want more memory than there was. They are read one
 * after the other, so the first to be read must not starve behind those that hold the memory.
 *
 * The windows are little more than the memory holds. What is dropped inside a larger one comes again by the
 * peer's time-outs alone, each twice the last, and no receiver can hasten them.
 */
static void pile(const char *what)
{
	static char b[65536];
	struct sockaddr_in a = peer_address();
	int size = 212992, fd[PILES]; /* the window that this gives, in bytes */
	long got = 0, n;

	for (int i = 0; i < PILES; i++) {
		fd[i] = socket(AF_INET, SOCK_STREAM, 0);
		setsockopt(fd[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
		if (connect(fd[i], (struct sockaddr *)&a, sizeof a))
			printf("connect: %s\n", strerrorname_np(errno));
		peer_script(fd[i], "z1000000 wend f s");
	}
	msleep(300);
	for (int i = 0; i < PILES; i++) {
		while ((n = recv(fd[i], b, sizeof b, 0)) > 0)
			got += n;
		close(fd[i]);
	}
	printf("%s: piled up %ld\n", what, got);
}

/* Of memory that grows like a file; the default action of SIGXFSZ is death. */
static void file_size(void)
{
	int s;

	limit(RLIMIT_FSIZE, 64u << 20);
	work("ulimit -f 64 MB");
	limit(RLIMIT_FSIZE, 4096); /* no more growth */
	pile("then 4 KB");
	work("then 4 KB");
	s = open("/dev/null", O_WRONLY);
	printf("pending: %d\n",
	       sigtimedwait(&(sigset_t){{1ul << (SIGXFSZ - 1)}}, NULL, &(struct timespec){0, 0}));
	close(s);
}

/* Everything that is mapped is locked: a reserved range must not become real memory. */
static void locked(void)
{
	char line[128];
	long kb = 0;
	FILE *f;

	if (instrumented())
		return;
	printf("mlockall %s\n", result_text(mlockall(MCL_CURRENT | MCL_FUTURE)));
	work("mlockall");
	f = fopen("/proc/self/status", "r");
	while (f && fgets(line, sizeof line, f))
		sscanf(line, "VmHWM: %ld", &kb);
	if (f)
		fclose(f);
	printf("resident: %s\n", kb < 128 << 10 ? "little" : "much");
}

static void drop(void)
{
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY))
		printf("cannot be somebody else: %s\n", strerrorname_np(errno));
}

/* Most servers: a socket, then another user in an empty root, no way to /dev, /proc or libraries. */
static void privileges(void)
{
	char dir[] = "/tmp/utcp-trap.XXXXXX", b[8] = "";
	int s, port, l;

	if (instrumented())
		return;
	s = peer_connect("e");
	l = listen_any(&port);
	/* in a directory that has no name any more: nothing is left behind */
	if (!mkdtemp(dir) || chmod(dir, 0755) || chdir(dir) || rmdir(dir) || chroot("."))
		printf("no root of its own: %s\n", strerrorname_np(errno));
	drop();
	send(s, "ping", 4, 0);
	printf("dropped: %s", result_text(recv(s, b, 4, MSG_WAITALL)));
	printf(" '%s'\n", b);
	prctl(PR_SET_DUMPABLE, 0);
	work("dropped");
	close(l);
	puts("done");
}

static void no_proc(void)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/proc", "tmpfs", MS_RDONLY, NULL))
		printf("/proc stays: %s\n", strerrorname_np(errno));
	work("no /proc");
}

static void no_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	limit(RLIMIT_SIGPENDING, 0);
	work("no signals");
}

static void little_stack(void)
{
	limit(RLIMIT_STACK, 128 << 10);
	work("ulimit -s 128 KB");
}

/* The leak checker needs /proc, numbers and memory. */
#include "noleaks.h"

int main(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} c[] = {{"few_numbers", few_numbers},
		 {"many_numbers", many_numbers},
		 {"exhausted", exhausted},
		 {"address_space", address_space},
		 {"little_address_space", little_address_space},
		 {"file_size", file_size},
		 {"locked", locked},
		 {"privileges", privileges},
		 {"no_proc", no_proc},
		 {"no_signals", no_signals},
		 {"little_stack", little_stack}};

	for (unsigned i = 0; i < sizeof c / sizeof c[0]; i++) {
		int status;

		printf("-- %s\n", c[i].name);
		fflush(stdout);
		pid_t p = fork(); /* before any socket: the stack is the child's own */
		if (!p) {
			c[i].run();
			fflush(stdout);
			exit(0);
		}
		waitpid(p, &status, 0);
		printf("%s: %s %d\n", c[i].name, WIFSIGNALED(status) ? "killed by" : "status",
		       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	}
	return 0;
}
