/* siglongjmp() out of recv, poll, accept and epoll_wait: nothing is left behind, everything works on. */
#include "peer.h"

static sigjmp_buf env;
static void jump(int sig)
{
	siglongjmp(env, sig);
}

static int sock, listener, ep;

static void block(int how)
{
	struct pollfd p[2] = {{.fd = sock, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
	struct epoll_event e;
	char b[4];

	switch (how) {
	case 0:
		recv(sock, b, 4, 0);
		break;
	case 1:
		poll(p, 2, -1);
		break;
	case 2:
		accept(listener, NULL, NULL);
		break;
	case 3:
		epoll_wait(ep, &e, 1, -1);
		break;
	}
}

static _Atomic int ready;

static void cleaned(void *what)
{
	printf("%s cleaned up\n", (char *)what);
}

/* A thread that has jumped ends as any: what it is to clean up is its own, and nothing of the call's. */
static void *ends_by(void *how)
{
	void *r = (void *)7;

	pthread_cleanup_push(cleaned, how);
	if (!sigsetjmp(env, 1)) {
		ready = 1;
		recv(sock, &r, 1, 0);
	}
	ready = 2;
	if (!strcmp(how, "pthread_exit"))
		pthread_exit(r);
	for (;;)
		pause();
	pthread_cleanup_pop(0);
	return NULL;
}

static void ends(const char *how)
{
	struct itimerval none = {0};
	pthread_t t;
	void *r = NULL;

	ready = 0;
	setitimer(ITIMER_REAL, &none, NULL);
	pthread_create(&t, NULL, ends_by, (void *)(uintptr_t)how);
	while (ready != 1)
		msleep(1);
	msleep(30);
	pthread_kill(t, SIGUSR1);
	while (ready != 2)
		msleep(1);
	if (strcmp(how, "pthread_exit"))
		pthread_cancel(t);
	pthread_join(t, &r);
	printf("%s: %s\n", how, r == PTHREAD_CANCELED ? "cancelled" : r == (void *)7 ? "ended" : "odd");
}

int main(void)
{
	int port;
	char b[16];
	struct itimerval it = {{0, 0}, {0, 10000}};

	handle(SIGALRM, jump, 0);
	sock = peer_connect("e");
	listener = listen_any(&port);
	ep = epoll_create1(0);
	ep_add(ep, sock, EPOLLIN, 1);
	for (volatile int i = 0; i < 40; i++) {
		if (!sigsetjmp(env, 1)) {
			setitimer(ITIMER_REAL, &it, NULL);
			block(i % 4);
			printf("%d: returned\n", i);
		}
	}
	handle(SIGUSR1, jump, 0);
	ends("pthread_exit");
	ends("pthread_cancel");
	send(sock, "ping", 4, 0);
	ep_show("epoll works", ep, 4, 5000);
	printf("recv %s\n", result_text(recv(sock, b, 16, 0)));
	int back = peer_call_back(port, "whello s"), c = accept(listener, NULL, NULL);
	printf("accepted, recv %s\n", result_text(recv(c, b, 5, MSG_WAITALL)));
	/* close() sends FIN although calls on it were left in the middle: the peer's echo ends. */
	for (volatile int i = 0; i < 8; i++) {
		if (!sigsetjmp(env, 1)) {
			setitimer(ITIMER_REAL, &it, NULL);
			recv(c, b, 16, 0);
		}
	}
	close(c);
	/* The peer answers our FIN with its own: the asking connection ends. */
	shutdown(back, SHUT_WR);
	printf("FIN went out: %s\n", result_text(recv(back, b, 16, 0)));
	puts("done");
	return 0;
}
