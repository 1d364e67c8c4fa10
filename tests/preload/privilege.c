/*
 * A process that gives up rights, or its file system, keeps its connections and its epoll sets, and can make
 * and accept new connections; what its threads are does not show in what the calls answer.
 */
#include "both.h"
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

static char bytes[100000];

static long read_all(int fd, long n)
{
	long done = 0, r;

	while (done < n && (r = read(fd, bytes, (size_t)(n - done))) > 0)
		done += r;
	return done;
}

struct world {
	int fd, e, listener, port;
};

static struct world world_make(void)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 7};
	struct world w;

	w.fd = connected();
	w.e = epoll_create1(0);
	epoll_ctl(w.e, EPOLL_CTL_ADD, w.fd, &ev);
	w.listener = listening(&w.port, 5);
	return w;
}

/* Old connection, set, a new connection, a new one accepted. */
static void all_works(struct world *w)
{
	struct epoll_event ev;
	int more, taken;

	SHOW(write(w->fd, bytes, 5000));
	SHOW(peer("recv 5000"));
	SHOW(epoll_wait(w->e, &ev, 1, 0));
	peer("send 70000");
	SHOW(epoll_wait(w->e, &ev, 1, 10000));
	SHOW(read_all(w->fd, 70000));
	peer("keep");
	more = connected();
	peer("send 10");
	SHOW(read_all(more, 10));
	peer("close");
	close(more);
	SHOW(peer("connect %d", w->port));
	SHOW((taken = accept(w->listener, NULL, NULL)) > 0);
	SHOW(write(taken, bytes, 10));
	SHOW(peer("recv 10"));
	peer("close");
	close(taken);
}

static void world_end(struct world *w)
{
	close(w->fd);
	close(w->e);
	close(w->listener);
}

static int ended(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Each part in a process of its own: there is no way back. */
static void part(const char *name, void (*f)(struct world *w))
{
	pid_t pid;

	SAY("-- %s", name);
	fflush(stdout);
	control = -1;
	pid = fork();
	if (!pid) {
		struct world w = world_make();

		f(&w);
		world_end(&w);
		exit(0);
	}
	SAY("it ended with %d", ended(pid));
}

static void user(struct world *w)
{
	SHOW(setgroups(0, NULL));
	SHOW(setgid(65534));
	SHOW(setuid(65534));
	SHOW(setuid(0));
	all_works(w);
}

/* As OpenSSH and vsftpd do, and back. */
static void effective(struct world *w)
{
	SHOW(setegid(65534));
	SHOW(seteuid(65534));
	all_works(w);
	peer("keep");
	close(w->fd);
	close(w->e);
	close(w->listener);
	*w = world_make();
	SHOW(seteuid(0));
	SHOW(setegid(0));
	all_works(w);
}

/* Capabilities that only this thread keeps, as setpriv(1) does it. */
__attribute__((used)) static void kept(struct world *w)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2];

	SHOW(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
	SHOW(setresuid(65534, 65534, 65534));
	syscall(SYS_capget, &h, d);
	for (int i = 0; i < 2; i++)
		d[i].effective = d[i].permitted;
	SHOW(syscall(SYS_capset, &h, d));
	SHOW(setgroups(0, NULL));
	SHOW(setresgid(65534, 65534, 65534));
	SHOW(initgroups("nobody", 65534));
	all_works(w);
}

static char dir[] = "/tmp/utcp-root.XXXXXX";

static void rooted(struct world *w)
{
	SHOW(chroot(dir) || chdir("/"));
	SHOW(open("/proc/self/status", O_RDONLY));
	SHOW(setuid(65534));
	all_works(w);
}

/* The kernel refuses it to a process with threads. */
__attribute__((used)) static void new_user_namespace(struct world *w)
{
	SHOW(unshare(CLONE_NEWUSER));
	all_works(w);
}

static void new_mounts(struct world *w)
{
	SHOW(unshare(CLONE_NEWNS | CLONE_FS | CLONE_FILES));
	all_works(w);
}

/* The leak checker can look neither into a process without rights or /proc, nor into a child of one with
 * threads. */
#include "noleaks.h"

int main(void)
{
	if (getuid()) {
		SAY("only root can");
		return 0;
	}
	part("setgroups, setgid, setuid", user);
	part("seteuid and back", effective);
	if (mkdtemp(dir))
		part("chroot", rooted);
	rmdir(dir);
#ifndef __SANITIZE_THREAD__ /* whose runtime has a thread without capabilities, in the namespace's way */
	part("PR_SET_KEEPCAPS", kept);
	part("a new user namespace", new_user_namespace);
#endif
	part("a new mount namespace", new_mounts);
	return 0;
}
