/*
 * A process that locks itself into seccomp keeps its connections, and makes no system call but those that it
 * would make over the kernel's TCP: the filters here kill it for any other. Filters that leave the stack what
 * it needs change nothing.
 */
#include "both.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

static char bytes[100000];

/* Not exit(): in strict mode only this one is allowed. */
static void leave(int status)
{
	syscall(SYS_exit, status);
}

/* read() all of n; what came in total. */
static long read_all(int fd, long n)
{
	long done = 0, r;

	while (done < n && (r = read(fd, bytes, (size_t)(n - done))) > 0)
		done += r;
	return done;
}

static int ended(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Allow the calls in the list, up to -1; everything else is death (or an error). */
static int filter_load(const int *allowed, uint32_t otherwise, int by_syscall)
{
	struct sock_filter f[80] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
	struct sock_fprog p = {1, f};

	for (; *allowed >= 0; allowed++) {
		f[p.len++] =
		    (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)*allowed, 0, 1);
		f[p.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	f[p.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return by_syscall ? (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p)
			  : prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p);
}

static const int server_calls[] = {SYS_read,
				   SYS_write,
				   SYS_recvfrom,
				   SYS_sendto,
				   SYS_close,
				   SYS_shutdown,
				   SYS_ppoll,
				   SYS_dup,
				   SYS_epoll_pwait,
				   SYS_exit,
				   SYS_exit_group,
				   SYS_writev,
				   SYS_clone,
				   SYS_wait4,
				   SYS_set_robust_list,
				   SYS_rseq,
				   SYS_gettid,
				   SYS_fcntl,
				   SYS_rt_sigreturn,
				   SYS_rt_sigprocmask,
#ifdef SYS_poll
				   SYS_poll,
				   SYS_epoll_wait,
#endif
				   SYS_socket,
				   -1};

static void strict(void)
{
	int fd = connected(), d = dup(fd);
	pid_t pid;

	SAY("-- strict: read, write, exit");
	peer("send 1000");
	pid = fork();
	if (!pid) {
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
			leave(9);
		if (read_all(fd, 51000) != 51000 || write(d, bytes, 7) != 7)
			leave(8);
		leave(read(d, bytes, 1) == 0 ? 0 : 7);
	}
	close(fd);
	close(d);
	SHOW(peer("send 50000"));
	SHOW(peer("recv 7"));
	SHOW(peer("shutdown"));
	SAY("it ended with %d", ended(pid));
	SHOW(peer("recv 1"));
	peer("close");
}

static void work(int fd, int e)
{
	struct epoll_event ev = {0};
	int n, s;
	pid_t pid;

	SHOW(n = epoll_wait(e, &ev, 1, 10000));
	SAY("%x, %lx", ev.events, (long)ev.data.u64);
	SHOW(read_all(fd, 1000));
	SHOW(epoll_wait(e, &ev, 1, 0));
	SHOW(recv(fd, bytes, 1, MSG_DONTWAIT));
	SHOW(polled(fd, POLLIN | POLLOUT, 0));
	SHOW(send(fd, bytes, 5, 0));
	SHOW(epoll_wait(e, &ev, 1, 10000));
	SHOW(read_all(fd, 60000));
	SHOW(close(dup(fd)));
	pid = fork();
	if (!pid)
		leave((int)send(fd, bytes, 3, 0));
	SAY("its child: %d", ended(pid));
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (!pid)
		leave((int)send(fd, bytes, 4, 0));
	SAY("a child by the system call: %d", ended(pid));
	SAY("a new socket, not connected");
	SHOW(close(s = socket(AF_INET, SOCK_DGRAM, 0)) + 0 * s);
	SHOW(shutdown(fd, SHUT_WR));
	SHOW(read(fd, bytes, 10));
	SHOW(close(e));
	SHOW(close(fd));
	leave(0);
}

/* limited: first the limits fall, as in sshd's child. */
static void filtered(int by_syscall, int limited)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 0x1234567890};
	int fd = connected(), e = epoll_create1(0);
	long answer[6];
	pid_t pid;

	SAY("-- a filter, by %s%s", by_syscall ? "seccomp()" : "prctl()",
	    limited ? ", and no descriptors" : "");
	SHOW(epoll_ctl(e, EPOLL_CTL_ADD, fd, &ev));
	SHOW(epoll_wait(e, &ev, 1, 0));
	pid = fork();
	if (!pid) {
		struct rlimit none = {1, 1};

		if (limited)
			SHOW(setrlimit(RLIMIT_NOFILE, &none));
		SHOW(filter_load(server_calls, SECCOMP_RET_KILL_PROCESS, by_syscall));
		work(fd, e);
	}
	close(e);
	close(fd);
	/* Told when the child has told its part. */
	answer[0] = peer("send 1000");
	answer[1] = peer("recv 5");
	answer[2] = peer("send 60000");
	answer[3] = peer("recv 7");
	answer[4] = peer("recv 1");
	answer[5] = peer("shutdown");
	SAY("it ended with %d", ended(pid));
	for (int i = 0; i < 6; i++)
		SAY("the peer's answer: %ld", answer[i]);
	peer("close");
}

/* What arrives for a listener of a sandboxed process. */
static void listens(void)
{
	static const int calls[] = {SYS_accept, SYS_accept4, SYS_read, SYS_write, SYS_close, SYS_exit, -1};
	int port, fd = listening(&port, 5), c;
	long answer[4];
	pid_t pid;

	SAY("-- a listener");
	pid = fork();
	if (!pid) {
		SHOW(filter_load(calls, SECCOMP_RET_KILL_PROCESS, 0));
		c = accept(fd, NULL, NULL);
		SHOW(c >= 0);
		SHOW(read_all(c, 100));
		SHOW(write(c, bytes, 5));
		SHOW(read(c, bytes, 1));
		SHOW(close(c));
		SHOW(close(fd));
		leave(0);
	}
	close(fd);
	answer[0] = peer("connect %d", port);
	answer[1] = peer("send 100");
	answer[2] = peer("recv 5");
	peer("shutdown");
	answer[3] = peer("recv 1");
	SAY("it ended with %d", ended(pid));
	for (int i = 0; i < 4; i++)
		SAY("the peer's answer: %ld", answer[i]);
	peer("close");
}

/* Still TCP, and new ones can be made. */
static void as_before(int fd)
{
	struct sockaddr_in sin = {0};
	socklen_t len = sizeof sin;
	int more;

	SHOW(getpeername(fd, (struct sockaddr *)&sin, &len));
	SAY("family %d", sin.sin_family);
	peer("send 100");
	SHOW(read_all(fd, 100));
	SHOW(write(fd, bytes, 100));
	SHOW(peer("check 100"));
	peer("close");
	more = connected();
	SHOW(write(more, bytes, 10));
	SHOW(peer("recv 10"));
	peer("close");
	close(more);
}

static void harmless(void)
{
	static const int denied[] = {SYS_mount, SYS_ptrace, SYS_reboot};
	struct sock_filter f[8] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
	struct sock_fprog p = {1, f};
	int fd = connected();

	SAY("-- what is no sandbox for the stack: a probe, a filter that denies other things");
	SHOW(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL));
	SHOW(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL));
	SHOW(prctl(PR_GET_SECCOMP));
	for (int i = 0; i < 3; i++)
		f[p.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)denied[i],
							  (uint8_t)(3 - i), 0);
	f[p.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	f[p.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	SHOW(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
	SHOW(syscall(SYS_reboot, 0, 0, 0, 0));
	as_before(fd);
	close(fd);
}

static void refused(void)
{
	struct sock_filter f[1] = {{.code = 0xffff}};
	struct sock_fprog p = {1, f};
	int fd = connected();

	SAY("-- a filter that the kernel refuses");
	SHOW(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
	peer("send 100");
	SHOW(read_all(fd, 100));
	SHOW(write(fd, bytes, 100));
	SHOW(peer("recv 100"));
	peer("close");
	SHOW(read(fd, bytes, 1));
	close(fd);
	fd = connected();
	as_before(fd);
	close(fd);
}

/* What a process in its sandbox was sent and did not read is there for who goes on with the connection. */
static void handed_back(void)
{
	int fd = connected(), first[2];
	pid_t pid;
	char c;

	SAY("-- what it has not read");
	if (pipe(first))
		leave(9);
	pid = fork();
	if (!pid) {
		SHOW(filter_load(server_calls, SECCOMP_RET_KILL_PROCESS, 0));
		SHOW(recv(fd, bytes, 1, 0));
		if (write(first[1], bytes, 1) != 1)
			leave(8);
		SHOW(recv(fd, bytes, sizeof bytes, MSG_PEEK) > 0);
		leave(0);
	}
	peer("send 1");
	read(first[0], &c, 1); /* not in one piece with the rest, which is read whole or not at all */
	peer("send 9000");
	SAY("it ended with %d", ended(pid));
	SHOW(read_all(fd, 9000));
	SHOW(write(fd, bytes, 9000));
	SHOW(peer("check 9000"));
	peer("close");
	SHOW(read(fd, bytes, 1));
	close(fd);
	close(first[0]);
	close(first[1]);
}

/* The leak checker makes system calls that the sandbox does not let through. */
#include "noleaks.h"

int main(void)
{
#ifdef __SANITIZE_THREAD__
	puts("the thread sanitizer's runtime makes calls that the sandbox does not let through");
	return 0;
#endif
	strict();
	filtered(0, 0);
	filtered(1, 0);
	filtered(0, 1);
	listens();
	handed_back();
	refused();
	harmless();
	return 0;
}
