/*
 * A connection that a process in a sandbox and one outside have at the same time, as sshd's child and its
 * monitor do. They take turns by a baton: what one wrote before it handed it over comes before what the
 * other writes then, and each byte that arrives is read by one of them, in order.
 */
#include "both.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

#define TURNS 2000

static uint8_t bytes[100000];
static int to_child[2], to_parent[2];

static void leave(int status)
{
	syscall(SYS_exit, status);
}

static int ended(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Everything that the stack would need, and which the program itself does not, is death. */
static void sandbox(void)
{
	static const int allowed[] = {SYS_read,	 SYS_write, SYS_recvfrom, SYS_sendto, SYS_shutdown,
				      SYS_close, SYS_exit,  SYS_ppoll,	  -1};
	struct sock_filter f[20] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
	struct sock_fprog p = {1, f};

	for (const int *nr = allowed; *nr >= 0; nr++) {
		f[p.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)*nr, 0, 1);
		f[p.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	f[p.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p))
		leave(99);
}

/* The baton: where in the stream the next one begins. */
static void baton_give(const int pipe[2], uint32_t at)
{
	if (write(pipe[1], &at, sizeof at) != sizeof at)
		leave(98);
}

static uint32_t baton_take(const int pipe[2])
{
	uint32_t at = 0;

	if (read(pipe[0], &at, sizeof at) != sizeof at)
		leave(97);
	return at;
}

/* The next `n` bytes of the stream, whose place in it is known by what they are. */
static int write_some(int fd, uint32_t at, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)((at + i) % 251);
	return write(fd, bytes, n) == (ssize_t)n;
}

/* All n, and the right ones? */
static int read_some(int fd, uint32_t at, uint32_t n)
{
	for (uint32_t done = 0; done < n;) {
		ssize_t r = read(fd, bytes, n - done);

		if (r <= 0)
			return 0;
		for (ssize_t i = 0; i < r; i++, done++)
			if (bytes[i] != (uint8_t)((at + done) % 251))
				return 0;
	}
	return 1;
}

/* How much is moved in a turn: from one byte to a few thousand. */
static uint32_t amount(int turn)
{
	return turn % 50 == 49 ? 6000 : (uint32_t)turn * 7 % 40 + 1;
}

/* Child and parent in turns: what is true of all turns. */
static int in_turns(int fd, int (*some)(int fd, uint32_t at, uint32_t n), const int in[2], const int out[2])
{
	int good = 0;

	for (int turn = 0; turn < TURNS; turn++) {
		uint32_t at = baton_take(in), n = amount(turn);

		good += some(fd, at, n);
		baton_give(out, at + n);
	}
	return good == TURNS;
}

static void batons(void)
{
	if (pipe(to_child) || pipe(to_parent))
		exit(94);
}

static void batons_away(void)
{
	for (int i = 0; i < 2; i++) {
		close(to_child[i]);
		close(to_parent[i]);
	}
}

static void turns(const char *what, int (*some)(int fd, uint32_t at, uint32_t n), const char *peers)
{
	uint32_t total = 0;
	int fd = connected();
	pid_t pid;

	SAY("-- %s in turns", what);
	for (int turn = 0; turn < TURNS; turn++)
		total += 2 * amount(turn);
	batons();
	peer_later("%s %u", peers, total);
	pid = fork();
	if (!pid) {
		sandbox();
		leave(!in_turns(fd, some, to_child, to_parent));
	}
	baton_give(to_child, 0);
	SHOW(in_turns(fd, some, to_parent, to_child));
	SAY("the child: %d, the peer: %ld of %u", ended(pid), peer_answer(), total);
	SHOW(recv(fd, bytes, 1, MSG_DONTWAIT));
	close(fd);
	SHOW(peer("recv 1"));
	peer("close");
	batons_away();
}

/* The child's last words, then its end; what the parent says comes after them. */
static void last_words(void)
{
	int good = 0;

	SAY("-- last words");
	for (int i = 0; i < 30; i++) {
		int fd = connected();
		pid_t pid = fork();

		if (!pid) {
			sandbox();
			leave(!(read_some(fd, 0, 10) && write_some(fd, 0, 3000)));
		}
		peer("send 10");
		good += !ended(pid) && write_some(fd, 3000, 50);
		good += peer("check 3050") == 1;
		close(fd);
		peer("close");
	}
	SHOW(good);
}

/* It reads a part of what is there, and ends, or lives on without reading. */
static void the_rest(int lives)
{
	int good = 0;

	SAY("-- the rest is for the other, when it %s", lives ? "reads no more" : "ends");
	for (int i = 0; i < 30; i++) {
		uint32_t part = (uint32_t)i * 37 + 1;
		int fd = connected();
		pid_t pid;

		batons();
		pid = fork();
		if (!pid) {
			sandbox();
			if (!read_some(fd, 0, part))
				leave(1);
			baton_give(to_parent, part);
			leave(lives && baton_take(to_child) != part);
		}
		peer("send 9000");
		baton_take(to_parent);
		if (!lives)
			good += !ended(pid);
		good += read_some(fd, part, 9000 - part);
		good += recv(fd, bytes, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
		if (lives) {
			baton_give(to_child, part);
			good += !ended(pid);
		}
		good += write_some(fd, 0, 100) && peer("check 100") == 1;
		close(fd);
		good += peer("recv 1") == 0; /* all was read: no reset */
		peer("close");
		batons_away();
	}
	SHOW(good);
}

/* The end of the stream is said by one: after what the other wrote. */
static void the_end(void)
{
	int good = 0;

	SAY("-- the end");
	for (int i = 0; i < 20; i++) {
		int fd = connected();
		pid_t pid;

		batons();
		pid = fork();
		if (!pid) {
			sandbox();
			if (!write_some(fd, 0, 5000))
				leave(1);
			baton_give(to_parent, 0);
			baton_take(to_child);
			leave(write(fd, bytes, 1) != -1);
		}
		baton_take(to_parent);
		good += !shutdown(fd, SHUT_WR);
		good += peer("check 5000") == 1;
		good += peer("recv 1") == 0;
		good += write(fd, bytes, 1) < 0 && errno == EPIPE;
		baton_give(to_child, 0);
		good += !ended(pid);
		close(fd);
		peer("close");
		batons_away();
	}
	SHOW(good);
}

/* Until nothing more goes in, and stays so. How much it was. */
static uint32_t fill(int fd)
{
	const struct timespec patience = {0, 200000000};
	uint32_t at = 0, before;

	do {
		ssize_t r = 0;

		before = at;
		do {
			at += (uint32_t)r;
			for (uint32_t i = 0; i < 10000; i++)
				bytes[i] = (uint8_t)((at + i) % 251);
		} while ((r = send(fd, bytes, 10000, MSG_DONTWAIT)) > 0);
		ppoll(NULL, 0, &patience, NULL);
	} while (at != before);
	return at;
}

/* The child has filled the connection: what the parent writes, and its end, come after all of that. */
static void full(int end)
{
	int fd = connected(), size = 50000;
	uint32_t at;
	pid_t pid;

	SAY("-- a full connection%s", end ? ", and its end" : "");
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	batons();
	pid = fork();
	if (!pid) {
		sandbox();
		baton_give(to_parent, fill(fd));
		leave(baton_take(to_child) != 0);
	}
	at = baton_take(to_parent);
	SHOW(send(fd, bytes, 1, MSG_DONTWAIT));
	if (end) {
		SHOW(shutdown(fd, SHUT_WR));
		baton_give(to_child, 0);
		SAY("the child: %d", ended(pid));
		SHOW(peer("check %u", at));
	} else {
		peer_later("check %u", at + 70000);
		SHOW(write_some(fd, at, 70000));
		SHOW(peer_answer());
		SHOW(shutdown(fd, SHUT_WR));
	}
	SHOW(peer("recv 1"));
	SHOW(write(fd, bytes, 1));
	if (!end) {
		baton_give(to_child, 0);
		SAY("the child: %d", ended(pid));
	}
	close(fd);
	peer("close");
	batons_away();
}

/* The other closes: now the child's end is the connection's. */
static void left_alone(uint32_t reads)
{
	int fd = connected();
	pid_t pid;

	SAY("-- left alone, %u bytes read", reads);
	batons();
	pid = fork();
	if (!pid) {
		sandbox();
		if (!read_some(fd, 0, 10))
			leave(1);
		baton_give(to_parent, 0);
		baton_take(to_child);
		if (reads && !(read_some(fd, 10, reads) && write_some(fd, 0, 20)))
			leave(1);
		close(fd);
		leave(baton_take(to_child) != 1);
	}
	peer("send 100");
	baton_take(to_parent);
	close(fd);
	baton_give(to_child, 0);
	if (reads == 90)
		SHOW(peer("check 20"));
	SHOW(peer("recv 1") == 0);
	baton_give(to_child, 1);
	SAY("the child: %d", ended(pid));
	peer("close");
	batons_away();
}

/* The leak checker makes system calls that the sandbox does not let through. */
#include "noleaks.h"

int main(void)
{
#ifdef __SANITIZE_THREAD__
	puts("the thread sanitizer's runtime makes calls that the sandbox does not let through");
	return 0;
#endif
	signal(SIGPIPE, SIG_IGN);
	turns("writing", write_some, "check");
	turns("reading", read_some, "send");
	last_words();
	the_rest(0);
	the_rest(1);
	the_end();
	full(0);
	full(1);
	left_alone(90);
	left_alone(30);
	for (int i = 0; i < 10; i++) /* at one moment: it does not go the same way each time */
		left_alone(0);
	return 0;
}
