/*
 * blackhole.c waiter|nobody - says "ready" on a connection, waits for a line of
 * input, sends 1000 bytes to a peer that is gone by then, and computes for twenty
 * retransmission time-outs without a call into the library. With "waiter" another
 * thread blocks in recv() since before there was any deadline. The script looks for
 * the retransmissions. Trap 32.
 */
#include "../peer.h"
#include <netinet/tcp.h>

static int sock;

static void *waiter(void *arg)
{
	char b;

	(void)arg;
	recv(sock, &b, 1, 0);
	return NULL;
}

static long rto_ms(void)
{
	struct tcp_info ti = {0};
	socklen_t len = sizeof ti;

	getsockopt(sock, IPPROTO_TCP, TCP_INFO, &ti, &len);
	return (long)ti.tcpi_rto / 1000;
}

int main(int argc, char **argv)
{
	char data[1000] = "";
	volatile unsigned long x = 0;
	pthread_t t;

	sock = peer_connect("e");
	/* Until slow round trips of a busy machine are forgotten. */
	for (int i = 0; i < 1000 && rto_ms() > 300; i++)
		if (send(sock, data, 1, 0) != 1 || recv(sock, data, 1, 0) != 1)
			return 1;
	if (argc > 1 && !strcmp(argv[1], "waiter"))
		pthread_create(&t, NULL, waiter, NULL);
	msleep(300); /* nothing is on the way any more */
	puts("ready");
	fflush(stdout);
	if (!fgets(data, sizeof data, stdin))
		return 1;
	send(sock, data, sizeof data, 0);
	for (long end = now_ms() + 20 * rto_ms(); now_ms() < end;)
		for (int i = 0; i < 100000; i++)
			x += (unsigned long)i;
	_exit(0);
}
