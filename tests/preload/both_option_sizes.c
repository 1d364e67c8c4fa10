/*
 * getsockopt() of every number that has a meaning for TCP, on a connected socket that nobody touched, with
 * buffers of all sizes: result, error, length, and the value where it does not depend on the path or the
 * machine. (sshd ends a connection that comes with IP options: four bytes of IP_OPTIONS instead of none were
 * such.)
 */
#include "both.h"

static const struct {
	const char *name;
	int level, last;
} levels[] = {
    {"SOL_SOCKET", SOL_SOCKET, 82}, {"IPPROTO_TCP", IPPROTO_TCP, 42}, {"IPPROTO_IP", IPPROTO_IP, 31}};

/* What the stack does not have at all: ENOPROTOOPT. */
static bool built(int level, int name)
{
	static const char no_socket[] = {14, 16, 28, 34, 40, 41, 43, 44, 45, 48, 55, 59, 62, 63, 64,
					 65, 66, 67, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82};
	static const char no_tcp[] = {17, 20, 21, 24, 26, 28, 29, 33, 34, 35};
	static const char ip[] = {IP_TOS,     IP_TTL, IP_OPTIONS,  IP_MTU_DISCOVER,
				  IP_RECVERR, IP_MTU, IP_FREEBIND, IP_MINTTL};

	switch (level) {
	case SOL_SOCKET:
		return !memchr(no_socket, name, sizeof no_socket);
	case IPPROTO_TCP:
		return !memchr(no_tcp, name, sizeof no_tcp);
	default:
		return memchr(ip, name, sizeof ip);
	}
}

/* Buffer sizes, clocks, MSS and the like: their own tests look at them. */
static bool varies(int level, int name)
{
	switch (level) {
	case SOL_SOCKET:
		return name == SO_SNDBUF || name == SO_RCVBUF || name == SO_COOKIE ||
		       name == SO_INCOMING_CPU || name == SO_INCOMING_NAPI_ID || name == SO_MEMINFO;
	case IPPROTO_TCP:
		return name == TCP_MAXSEG || name == TCP_INFO || name == TCP_CC_INFO ||
		       name == TCP_CONGESTION || name == TCP_WINDOW_CLAMP || name == TCP_TIMESTAMP;
	default:
		return name == IP_MTU;
	}
}

int main(void)
{
	static const socklen_t sizes[] = {0, 1, 3, 4, 7, 8, 12, 64};
	int fd = connected();

	for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
		for (int name = 0; name <= levels[i].last; name++) {
			if (!built(levels[i].level, name))
				continue;
			printf("%s %d:", levels[i].name, name);
			for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
				unsigned char b[64];
				socklen_t len = sizes[k];

				memset(b, 0xee, sizeof b);
				if (getsockopt(fd, levels[i].level, name, b, &len)) {
					printf(" %s", strerrorname_np(errno));
					continue;
				}
				printf(" %u", len);
				for (socklen_t n = 0; n < len && !varies(levels[i].level, name); n++)
					printf("%s%02x", n ? "" : "=", b[n]);
			}
			printf("\n");
		}
	}
	return 0;
}
