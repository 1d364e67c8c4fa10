/*
 * Trap 34: children that work on kernel descriptors only, exec or exit, under a
 * running transfer. The parent's connections, its listener and its epoll set
 * stay untouched.
 */
#include "peer.h"
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define CHILDREN 200
#define CHUNK	 5000

extern char **environ;

static int sock;
static _Atomic int stop;
static long echoed, wrong;

static void *transfer(void *arg)
{
	static unsigned char out[CHUNK], in[CHUNK];
	uint32_t x = 1;

	(void)arg;
	while (!stop) {
		for (int i = 0; i < CHUNK; i++)
			out[i] = (unsigned char)((x = x * 1664525 + 1013904223) >> 24);
		if (send(sock, out, CHUNK, 0) != CHUNK || recv(sock, in, CHUNK, MSG_WAITALL) != CHUNK)
			wrong++;
		wrong += memcmp(in, out, CHUNK) != 0;
		echoed++;
		if (wrong)
			break;
	}
	return NULL;
}

/* What a child may do: files, pipes, closing everything, and to end in each way. */
static void child(int how, int result)
{
	char b;
	int p[2];

	if (pipe(p) || write(p[1], "x", 1) != 1 || read(p[0], &b, 1) != 1)
		_exit(9);
	if (how & 1)
		for (int i = 3; i < 1200; i++)
			close(i);
	if (how & 2)
		close_range(3, ~0u, 0);
	if (how & 4)
		exit(result);
	_exit(result);
}

static int status_of(pid_t p)
{
	int status = 0;

	while (p > 0 && waitpid(p, &status, 0) < 0 && errno == EINTR)
		;
	return p > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int one(int i)
{
	char *argv[] = {"sh", "-c", "exit 3", NULL}, line[8] = "";
	posix_spawn_file_actions_t fa;
	pid_t p = -1;
	FILE *f;

	switch (i % 10) {
	case 0:
		return WEXITSTATUS(system("exit 3"));
	case 1:
		f = popen("echo 3; read x", "r");
		if (!f || !fgets(line, sizeof line, f))
			return -1;
		pclose(f);
		return atoi(line);
	case 2:
		posix_spawn_file_actions_init(&fa);
		posix_spawn_file_actions_addclose(&fa, sock);
		posix_spawn_file_actions_adddup2(&fa, 1, sock);
		if (posix_spawn(&p, "/bin/sh", &fa, NULL, argv, environ))
			return -1;
		posix_spawn_file_actions_destroy(&fa);
		return status_of(p);
	case 3:
		p = fork();
		if (!p) {
			execv("/bin/sh", argv);
			_exit(9);
		}
		return status_of(p);
	case 4:
		p = vfork();
		if (!p) {
			close(sock);
			dup2(1, sock + 1);
			execv("/bin/sh", argv);
			_exit(9);
		}
		return status_of(p);
	case 5:
		p = vfork();
		if (!p)
			_exit(3);
		return status_of(p);
	default:
		p = fork();
		if (!p)
			child(i % 10 - 3, 3);
		return status_of(p);
	}
}

/* The leak checker cannot stop threads that a forked child does not have. */
#include "noleaks.h"

int main(void)
{
#ifdef __SANITIZE_THREAD__
	puts("the thread sanitizer does not live through fork()");
	return 0;
#endif
	int port, l = listen_any(&port), ep = epoll_create1(0), good = 0, back, c;
	pthread_t t;
	char b[16] = "";

	sock = peer_connect("e");
	int idle = peer_connect("s"); /* the next number: what dup2() in a child falls on */
	ep_add(ep, l, EPOLLIN, 1);
	ep_add(ep, idle, EPOLLIN | EPOLLRDHUP, 2);
	pthread_create(&t, NULL, transfer, NULL);
	fflush(stdout);
	for (int i = 0; i < CHILDREN; i++)
		good += one(i) == 3;
	stop = 1;
	pthread_join(t, NULL);
	printf("%d children, %ld wrong, %s\n", good, wrong, echoed > 0 ? "echoed" : "nothing echoed");
	ep_show("silent", ep, 4, 0);
	back = peer_call_back(port, "whello s");
	ep_show("a connection", ep, 4, 20000);
	c = accept(l, NULL, NULL);
	printf("accepted: %s", result_text(recv(c, b, 5, MSG_WAITALL)));
	printf(" '%s'\n", b);
	/* Nobody else holds it: our close is the FIN that ends the peer's side. */
	shutdown(sock, SHUT_WR);
	printf("the end: %s\n", result_text(recv(sock, b, 1, 0)));
	close(back);
	return 0;
}
