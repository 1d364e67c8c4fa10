/*
 * A listener on the wildcard address hears both worlds: callers over loopback
 * (always the kernel's) and the peer. Level, edge and oneshot, in epoll, nested
 * epoll, poll and blocking accept().
 */
#include <sys/wait.h>

#include "peer.h"

static int listener, port, client = -1, back = -1;

static void call_loopback(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};

	inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
	client = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(client, (struct sockaddr *)&a, sizeof a))
		perror("call_loopback");
}

/* The answer comes after the call: then that is in the queue. */
static void call_peer(void)
{
	char script[32], b;

	snprintf(script, sizeof script, "C%d s", port);
	back = peer_connect(script);
	if (recv(back, &b, 1, 0) != 1)
		puts("the peer does not call");
}

static void call(int loopback)
{
	if (loopback)
		call_loopback();
	else
		call_peer();
}

static void take(void)
{
	int c = accept(listener, NULL, NULL);

	printf("accept %s\n", c >= 0 ? "a connection" : result_text(c));
	close(c);
}

static void in_epoll(int loopback)
{
	int ep = epoll_create1(0), outer = epoll_create1(0);
	struct pollfd p = {.fd = ep, .events = POLLIN};

	printf("-- %s\n", loopback ? "loopback" : "peer");
	ep_add(ep, listener, EPOLLIN, 1);
	call(loopback);
	ep_show("level", ep, 4, 20000);
	call(loopback);
	ep_show("level, two", ep, 4, 0);
	take();
	ep_show("level, one left", ep, 4, 0);
	take();
	ep_show("level, empty", ep, 4, 0);
	ep_mod(ep, listener, EPOLLIN | EPOLLET, 2);
	ep_show("edge", ep, 4, 0);
	call(loopback);
	ep_show("edge, one", ep, 4, 20000);
	ep_show("edge, told", ep, 4, 20);
	call(loopback);
	ep_show("edge, another", ep, 4, 20000);
	take();
	take();
	ep_mod(ep, listener, EPOLLIN | EPOLLONESHOT, 3);
	call(loopback);
	ep_show("oneshot", ep, 4, 20000);
	call(loopback);
	ep_show("oneshot, told", ep, 4, 20);
	take();
	take();
	ep_mod(ep, listener, EPOLLIN, 4);
	ep_show("nothing", ep, 4, 0);
	ep_add(outer, ep, EPOLLIN, 5);
	ep_show("outer", outer, 4, 0);
	call(loopback);
	ep_show("outer, a connection", outer, 4, 20000);
	printf("poll of the set: %d\n", poll(&p, 1, 0));
	ep_show("inner", ep, 4, 0);
	take();
	ep_show("inner, empty", ep, 4, 0);
	ep_show("outer, empty", outer, 4, 0);
	printf("poll of the set: %d\n", poll(&p, 1, 0));
	close(outer);
	close(ep);
}

static void *late_loopback(void *arg)
{
	(void)arg;
	msleep(150);
	call_loopback();
	return NULL;
}

static void *late_peer(void *arg)
{
	(void)arg;
	msleep(150);
	back = peer_call_back(port, "s");
	return NULL;
}

static void blocking(void *(*caller)(void *))
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	int ep = epoll_create1(0);
	pthread_t t;

	pthread_create(&t, NULL, caller, NULL);
	take();
	pthread_join(t, NULL);
	pthread_create(&t, NULL, caller, NULL);
	printf("poll %d\n", poll(&p, 1, 20000));
	pthread_join(t, NULL);
	take();
	ep_add(ep, listener, EPOLLIN, 6);
	pthread_create(&t, NULL, caller, NULL);
	ep_show("epoll", ep, 1, 20000);
	pthread_join(t, NULL);
	take();
	close(ep);
}

/* It is to be cancelled before it asks. */
static void *cancelled_waiter(void *ep)
{
	struct epoll_event e;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_cancel(pthread_self());
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	epoll_wait(*(int *)ep, &e, 1, 0);
	return NULL;
}

static void cancelled_once(void)
{
	int ep = epoll_create1(0);
	pthread_t t;

	listener = listen_any(&port);
	ep_add(ep, listener, EPOLLIN, 7);
	call_loopback();
	ep_show("epoll", ep, 1, 20000);
	pthread_create(&t, NULL, cancelled_waiter, &ep);
	pthread_join(t, NULL);
	ep_show("epoll", ep, 1, 0);
	take();
	fflush(stdout);
}

/* A process of its own, for its counters: nobody was cancelled with the stack's lock in his hands. */
static void cancelled(void)
{
	char path[] = "/tmp/ep_halves.XXXXXX", line[80];
	int status, fd = mkstemp(path), deaths = 0;
	pid_t p = fork();
	FILE *f;

	if (!p) {
		setenv("UTCP_STATS", path, 1);
		cancelled_once();
		exit(0);
	}
	waitpid(p, &status, 0);
	f = fdopen(fd, "r");
	while (f && fgets(line, sizeof line, f))
		sscanf(line, "OwnerDeaths %d", &deaths);
	printf("cancelled: status %d, died inside %d\n", status, deaths);
	fclose(f);
	unlink(path);
}

int main(void)
{
	cancelled();
	listener = listen_any(&port);
	fcntl(listener, F_SETFL, O_NONBLOCK);
	for (int loopback = 0; loopback < 2; loopback++)
		in_epoll(loopback);
	fcntl(listener, F_SETFL, 0);
	blocking(late_peer);
	blocking(late_loopback);
	return 0;
}
