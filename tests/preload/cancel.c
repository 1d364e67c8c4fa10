/* pthread_cancel of a thread that blocks in recv, accept, poll, select, epoll_wait, send: prompt, nothing
 * held. */
#include "peer.h"
#include <sys/select.h>

static int sock, full, listener, ep, sig_pipe[2];
static char big[1 << 20];

static void *block(void *arg)
{
	struct pollfd p[2] = {{.fd = sock, .events = POLLIN}, {.fd = sig_pipe[0], .events = POLLIN}};
	struct epoll_event e;
	fd_set r;
	char b[4];

	switch ((long)arg) {
	case 0:
		recv(sock, b, 4, 0);
		break;
	case 1:
		poll(p, 1, -1);
		break;
	case 2:
		poll(p, 2, -1);
		break;
	case 3:
		FD_ZERO(&r);
		FD_SET(sock, &r);
		select(sock + 1, &r, NULL, NULL, NULL);
		break;
	case 4:
		accept(listener, NULL, NULL);
		break;
	case 5:
		epoll_wait(ep, &e, 1, -1);
		break;
	case 6:
		while (send(full, big, sizeof big, 0) > 0)
			;
		break;
	}
	return NULL;
}

int main(void)
{
	static const char *name[] = {"recv", "poll", "poll mixed", "select", "accept", "epoll_wait", "send"};
	int port;
	char b[16];

	if (pipe(sig_pipe))
		return 1;
	sock = peer_connect("e");
	full = peer_connect("d20000");
	listener = listen_any(&port);
	ep = epoll_create1(0);
	ep_add(ep, sock, EPOLLIN, 1);
	for (int round = 0; round < 3; round++)
		for (long i = 0; i < 7; i++) {
			pthread_t t;
			void *r = NULL;
			struct timespec ts;

			pthread_create(&t, NULL, block, (void *)i);
			msleep(i == 6 ? 300 : 30);
			pthread_cancel(t);
			clock_gettime(CLOCK_REALTIME, &ts);
			ts.tv_sec += 20;
			int err = pthread_timedjoin_np(t, &r, &ts);
			printf("%s: %s\n", name[i],
			       err		       ? "hangs"
			       : r == PTHREAD_CANCELED ? "cancelled"
						       : "returned");
		}
	send(sock, "ping", 4, 0);
	ep_show("epoll works", ep, 4, 5000);
	printf("recv %s\n", result_text(recv(sock, b, 16, 0)));
	int back = peer_call_back(port, "whello s"), c = accept(listener, NULL, NULL);
	printf("accepted, recv %s\n", result_text(recv(c, b, 5, MSG_WAITALL)));
	close(back);
	struct linger l = {1, 0};
	setsockopt(full, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(full);
	puts("done");
	return 0;
}
