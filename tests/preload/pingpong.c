/*
 * Ping-pong of N threads in each of M processes that share one stack: half of the connections to the peer,
 * half to a process of the program itself, which echoes with a thread for each. Both ends wait in turn in
 * recv(), poll(), level- and edge-triggered epoll_wait(). One lost wake-up stops a connection, and the
 * watchdog tells: a thread that sleeps through a second in which nothing is sent to it.
 *
 * PING_ROUNDS of all together, PING_THREADS, PING_PROCESSES; with UTCP_TEST_PAUSE every thread sleeps
 * between the unlock and the block.
 */
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "peer.h"

#define SLOTS	1024
#define TICK_MS 100
#define TICKS	10 /* without a step: lost */
#define THE_END UINT32_MAX
#define WAYS	4

/* One connection; in memory that all processes share. */
struct slot {
	_Atomic long rounds;	    /* left to do */
	_Atomic int client, server; /* threads; 0: none, or the peer's */
	long seen, switches[2];
	int ticks;
};
static struct slot *slots;
static int own_port, threads, processes;
static long each;

static long number(const char *name, long otherwise)
{
	return getenv(name) ? atol(getenv(name)) : otherwise;
}

/* ------------------------------------------------------------ the two ends */

struct way {
	int how, fd, ep;
};

static void way_open(struct way *w, int fd, int how)
{
	*w = (struct way){how, fd, -1};
	if (how < 2)
		return;
	w->ep = epoll_create1(EPOLL_CLOEXEC);
	if (how == 3)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	ep_add(w->ep, fd, how == 3 ? EPOLLIN | EPOLLET : EPOLLIN, 1);
}

static void way_close(struct way *w)
{
	if (w->ep >= 0)
		close(w->ep);
	close(w->fd);
}

static bool byte_wait(struct way *w)
{
	struct pollfd p = {.fd = w->fd, .events = POLLIN};
	struct epoll_event e;
	char c;

	if (w->how == 1)
		poll(&p, 1, -1);
	else if (w->how == 2)
		epoll_wait(w->ep, &e, 1, -1);
	for (;;) {
		ssize_t r = recv(w->fd, &c, 1, 0);

		if (r >= 0 || errno != EAGAIN)
			return r == 1;
		epoll_wait(w->ep, &e, 1, -1);
	}
}

static void *echo(void *arg)
{
	int fd = (int)(intptr_t)arg;
	struct way w;
	uint32_t i;

	if (recv(fd, &i, sizeof i, MSG_WAITALL) != sizeof i)
		return NULL;
	if (i == THE_END)
		_exit(0);
	slots[i].server = (int)syscall(SYS_gettid);
	way_open(&w, fd, (int)(i / WAYS % WAYS));
	while (byte_wait(&w) && send(fd, "y", 1, 0) == 1)
		;
	slots[i].server = 0;
	way_close(&w);
	return NULL;
}

static void serve(int listener)
{
	pthread_t t;

	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0 || pthread_create(&t, NULL, echo, (void *)(intptr_t)fd)) {
			perror("serve");
			_exit(1);
		}
		pthread_detach(t);
	}
}

static int connect_own(uint32_t i)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)own_port)};
	const char *own = getenv("TEST_OWN");
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	inet_pton(AF_INET, own ? own : "127.0.0.1", &a.sin_addr);
	if (connect(fd, (struct sockaddr *)&a, sizeof a) || send(fd, &i, sizeof i, 0) != sizeof i) {
		perror("connect_own");
		_exit(1);
	}
	return fd;
}

static void *ping(void *arg)
{
	uint32_t i = (uint32_t)(intptr_t)arg;
	struct slot *s = &slots[i];
	struct way w;

	way_open(&w, i & 1 ? peer_connect("e") : connect_own(i), (int)(i / 2 % WAYS));
	s->client = (int)syscall(SYS_gettid);
	while (s->rounds && send(w.fd, "x", 1, 0) == 1 && byte_wait(&w))
		s->rounds--;
	s->client = 0;
	way_close(&w);
	return NULL;
}

/* ------------------------------------------------------------ the watchdog */

/* Switches of a thread so far if it sleeps, -1 if it runs or is gone. */
static long asleep(pid_t tid)
{
	char path[64], text[4096], *at;
	long a = 0, b = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/status", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
	close(fd);
	if (n <= 0)
		return -1;
	text[n] = 0;
	at = strstr(text, "State:\tS");
	if (!at)
		return -1;
	at = strstr(text, "\nvoluntary_ctxt_switches:");
	if (!at || sscanf(at, "\nvoluntary_ctxt_switches: %ld nonvoluntary_ctxt_switches: %ld", &a, &b) != 2)
		return -1;
	return a + b;
}

static void watch_slot(struct slot *s, bool counts)
{
	int client = s->client, server = s->server;
	long now[2] = {client ? asleep(client) : -1, server ? asleep(server) : 0};

	if (s->rounds != s->seen || now[0] < 0 || now[1] < 0 || now[0] != s->switches[0] ||
	    now[1] != s->switches[1])
		s->ticks = 0;
	else
		s->ticks += counts;
	s->seen = s->rounds;
	memcpy(s->switches, now, sizeof now);
	if (s->ticks < TICKS)
		return;
	printf("a wake-up was lost: %s, way %d and %d, %ld rounds left\n",
	       (s - slots) & 1 ? "the peer" : "own server", (int)((s - slots) / 2 % WAYS),
	       (int)((s - slots) / WAYS % WAYS), s->seen);
	fflush(stdout);
	kill(0, SIGKILL);
}

static void *watchdog(void *arg)
{
	(void)arg;
	for (;;) {
		long before = now_ms();

		msleep(TICK_MS);
		/* on a machine that lets us wait, too, this was no second */
		for (int i = 0; i < threads * processes; i++)
			watch_slot(&slots[i], now_ms() - before < 2 * TICK_MS);
	}
	return NULL;
}

/* ------------------------------------------------------------ */

static void run_clients(int process)
{
	pthread_t t[SLOTS];

	for (int i = 0; i < threads; i++)
		pthread_create(&t[i], NULL, ping, (void *)(intptr_t)(process * threads + i));
	for (int i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
}

static pid_t child(int process, int listener)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (process < 0)
		serve(listener);
	close(listener);
	run_clients(process);
	exit(0);
}

/* The leak checker looks for its parent's threads in a child that was forked among threads. */
#include "noleaks.h"

int main(void)
{
	int listener = listen_any(&own_port), status, failed = 0;
	long missing = 0;
	pthread_t w;

	setpgid(0, 0);
	threads = (int)number("PING_THREADS", 8);
	processes = (int)number("PING_PROCESSES", 3);
	each = number("PING_ROUNDS", 6000) / (threads * processes);
	slots = mmap(NULL, SLOTS * sizeof *slots, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < threads * processes; i++)
		slots[i].rounds = each;
	child(-1, listener);
	for (int i = 1; i < processes; i++)
		child(i, listener);
	close(listener);
	pthread_create(&w, NULL, watchdog, NULL);
	run_clients(0);
	for (int i = 1; i < processes; i++) {
		wait(&status);
		failed += status != 0;
	}
	close(connect_own(THE_END));
	wait(&status);
	for (int i = 0; i < threads * processes; i++)
		missing += slots[i].rounds;
	printf("%ld rounds missing, %d processes failed, the server %d\n", missing, failed, status);
	return 0;
}
