/* poll over kernel and stack descriptors: level bits, POLLNVAL, negative numbers, time-outs, errors. */
#include "peer.h"
#include <sys/eventfd.h>

static void show(const char *what, struct pollfd *p, int n, int timeout)
{
	long t0 = now_ms();
	int r = poll(p, (nfds_t)n, timeout);
	long t = now_ms() - t0;

	printf("%s: %s", what, result_text(r));
	for (int i = 0; i < n; i++)
		printf(" [%s]", bits((uint32_t)p[i].revents & 0xffff));
	printf("%s\n",
	       timeout > 0 && r == 0 ? t >= timeout && t < timeout + 5000 ? " on time" : " LATE" : "");
}

static void connecting(void)
{
	struct sockaddr_in a = peer_address();
	struct pollfd p = {.events = POLLIN | POLLOUT | POLLRDHUP};
	int err = -1;
	socklen_t len = sizeof err;

	p.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	show("fresh", &p, 1, 0);
	a.sin_port = htons(9); /* nobody listens there */
	connect(p.fd, (struct sockaddr *)&a, sizeof a);
	show("refused", &p, 1, 5000);
	getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &err, &len);
	printf("SO_ERROR %s\n", strerrorname_np(err));
	show("after SO_ERROR", &p, 1, 0);
	close(p.fd);
	a = peer_address();
	p.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	printf("connect %s\n", result_text(connect(p.fd, (struct sockaddr *)&a, sizeof a)));
	show("connected", &p, 1, 5000);
	getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &err, &len);
	printf("SO_ERROR %d\n", err);
	close(p.fd);
}

static void listening(void)
{
	int port, back;
	struct pollfd p[2] = {{.fd = listen_any(&port), .events = POLLIN | POLLOUT | POLLRDNORM}, {.fd = -1}};

	show("listener", p, 2, 0);
	back = peer_call_back(port, "s");
	show("a connection", p, 2, 5000);
	close(accept(p[0].fd, NULL, NULL));
	show("accepted", p, 2, 0);
	close(back);
	close(p[0].fd);
}

int main(void)
{
	int pfd[2], ev = eventfd(0, 0), a = peer_connect("r1 wabc r1 f s"), b = peer_connect("r1 x");
	uint64_t one = 1;
	char buf[64];
	struct pollfd p[7] = {{.fd = a, .events = POLLIN},
			      {.fd = -1, .events = POLLIN},
			      {.fd = 999, .events = 0},
			      {.fd = ev, .events = POLLIN},
			      {.fd = b, .events = POLLIN | POLLRDHUP},
			      {.fd = a, .events = POLLOUT | POLLWRNORM | POLLRDNORM | POLLPRI},
			      {.fd = -1}};

	if (pipe(pfd))
		return 1;
	p[6].fd = pfd[0];
	p[6].events = POLLIN;
	show("bad number", p, 7, 0);
	p[2].fd = -5;
	show("writable", p, 7, -1);
	send(a, "0", 1, 0);
	show("data", p, 1, 5000);
	show("data and all", p, 7, -1);
	printf("read %s\n", result_text(read(a, buf, 64)));
	p[5].events = 0;
	show("time-out", p, 7, 50);
	show("stack only, time-out", p, 1, 50);
	if (write(ev, &one, 8) != 8)
		return 1;
	show("eventfd", p, 7, -1);
	if (read(ev, &one, 8) != 8)
		return 1;
	send(b, "0", 1, 0);
	show("reset", p, 7, 5000);
	printf("read %s\n", result_text(read(b, buf, 64)));
	show("after the error was told", &p[4], 1, 0);
	send(a, "1", 1, 0);
	show("end of stream", p, 1, 5000);
	show("no numbers", p, 0, 20);
	printf("null array: %s\n", result_text(poll(NULL, 3, 0)));
	close(a);
	show("closed", p, 1, 0);
	connecting();
	listening();
	return 0;
}
