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
