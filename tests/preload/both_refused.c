/*
 * Options that few programs set, on a connected socket, a listener and one whose
 * fate is open: what can be read, set, and with what error.
 */
#include "both.h"
#include <linux/filter.h>
#include <linux/net_tstamp.h>

#ifndef TCP_TX_DELAY
#define TCP_TX_DELAY 37
#endif

#define INT(level, name, v)                                                                                  \
	{                                                                                                    \
		level, name, #name, v, sizeof(int)                                                           \
	}

static const struct {
	int level, name;
	const char *text;
	int value;
	socklen_t len;
} options[] = {
    INT(SOL_SOCKET, SO_PEERCRED, 1),
    INT(SOL_SOCKET, SO_BINDTODEVICE, 0),
    INT(SOL_SOCKET, SO_MAX_PACING_RATE, 1000000),
    INT(SOL_SOCKET, SO_SNDBUFFORCE, 40000),
    INT(SOL_SOCKET, SO_RCVBUFFORCE, 40000),
    INT(SOL_SOCKET, SO_TIMESTAMP, 1),
    INT(SOL_SOCKET, SO_DEBUG, 0),
    INT(SOL_SOCKET, SO_DONTROUTE, 0),
    INT(SOL_SOCKET, SO_BROADCAST, 1),
    INT(SOL_SOCKET, SO_TYPE, 1),
    INT(SOL_SOCKET, SO_PROTOCOL, 6),
    INT(SOL_SOCKET, SO_DOMAIN, 2),
    INT(SOL_SOCKET, SO_ERROR, 1),
    INT(SOL_SOCKET, SO_ACCEPTCONN, 1),
    INT(SOL_SOCKET, SO_SNDLOWAT, 1),
    INT(SOL_SOCKET, 999, 1),
    INT(IPPROTO_TCP, TCP_INFO, 1),
    INT(IPPROTO_TCP, 999, 1),
    INT(IPPROTO_IP, 999, 1),
    INT(IPPROTO_UDP, 1, 1),
    INT(999, 1, 1),
    INT(-1, -1, 1),
};

static const char *kind;

static const char *answer(long r)
{
	return r < 0 ? strerrorname_np(errno) : "0";
}

static void ints(int fd)
{
	for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
		int v = options[i].value;
		char big[256] = {0};
		socklen_t len = sizeof big;

		printf("%s %s: set %s,", kind, options[i].text,
		       answer(setsockopt(fd, options[i].level, options[i].name, &v, options[i].len)));
		printf(" short %s,", answer(setsockopt(fd, options[i].level, options[i].name, &v, 1)));
		printf(" NULL %s,", answer(setsockopt(fd, options[i].level, options[i].name, NULL, 4)));
		printf(" get %s", answer(getsockopt(fd, options[i].level, options[i].name, big, &len)));
		SAY(", no length %s", answer(getsockopt(fd, options[i].level, options[i].name, big, NULL)));
	}
}

/* With values of their own kind. */
static void structs(int fd)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, 0xffffffff);
	struct sock_fprog prog = {1, &all}, none = {0, NULL};
	struct sock_txtime txtime = {.clockid = CLOCK_MONOTONIC};
	struct tcp_md5sig md5 = {.tcpm_keylen = 3};
	int v = 0;

	SHOW(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &none, sizeof none));
	SHOW(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog));
	SHOW(setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &v, sizeof v));
	SHOW(setsockopt(fd, SOL_SOCKET, SO_TXTIME, &txtime, sizeof txtime));
	SHOW(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &v, sizeof v));
	SHOW(setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &md5, sizeof md5));
	SHOW(setsockopt(fd, IPPROTO_TCP, TCP_ULP, "none such", 9));
}

static void times(int fd)
{
	static const struct timeval tv[] = {{0, 0},  {1, 500000},  {0, 400000},	   {-1, 0},
					    {0, -1}, {0, 1000000}, {0x7fffffff, 0}};
	static const int names[] = {SO_RCVTIMEO, SO_SNDTIMEO};

	for (int k = 0; k < 2; k++)
		for (size_t i = 0; i < sizeof tv / sizeof tv[0]; i++) {
			struct timeval got = {-1, -1};
			socklen_t len = sizeof got;

			printf("%s %zu: %s,", k ? "SO_SNDTIMEO" : "SO_RCVTIMEO", i,
			       answer(setsockopt(fd, SOL_SOCKET, names[k], &tv[i], sizeof tv[i])));
			getsockopt(fd, SOL_SOCKET, names[k], &got, &len);
			SAY(" %ld %ld", (long)got.tv_sec, (long)got.tv_usec);
		}
	SHOW(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv[0], 8));
	SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv[0], 8));
}

int main(void)
{
	int port, fd = connected(), l = listening(&port, 1), s = socket(AF_INET, SOCK_STREAM, 0);

	setvbuf(stdout, NULL, _IOLBF, 0);
	SAY("%s", kind = "connected");
	ints(fd);
	structs(fd);
	times(fd);
	SAY("%s", kind = "listening");
	ints(l);
	times(l);
	SAY("%s", kind = "open");
	ints(s);
	times(s);
	return 0;
}
