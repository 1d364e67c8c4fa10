/*
 * setsockopt() of what an option is already, on a connected socket of each family that nobody touched: to ask
 * for nothing is no request, whoever has the option. And with what no option is: three bytes (which will do
 * for IP), and no memory.
 */
#include "both.h"

#define OPTION(level, name)                                                                                  \
	{                                                                                                    \
#name, level, name                                                                           \
	}

static const struct {
	const char *text;
	int level, name;
} options[] = {
    OPTION(SOL_SOCKET, SO_BUSY_POLL),
    OPTION(SOL_SOCKET, SO_MARK),
    OPTION(SOL_SOCKET, SO_NETNS_COOKIE),
    OPTION(SOL_SOCKET, SO_NO_CHECK),
    OPTION(SOL_SOCKET, SO_PEEK_OFF),
    OPTION(SOL_SOCKET, SO_PREFER_BUSY_POLL),
    OPTION(SOL_SOCKET, SO_TIMESTAMPNS),
    OPTION(SOL_SOCKET, SO_ZEROCOPY),
    OPTION(IPPROTO_TCP, TCP_DEFER_ACCEPT),
    OPTION(IPPROTO_TCP, TCP_FASTOPEN_CONNECT),
    OPTION(IPPROTO_TCP, TCP_REPAIR),
    OPTION(IPPROTO_TCP, TCP_SAVE_SYN),
    OPTION(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS),
    OPTION(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT),
    OPTION(IPPROTO_IP, IP_FREEBIND),
    OPTION(IPPROTO_IP, IP_MINTTL),
    OPTION(IPPROTO_IP, IP_RECVERR),
    OPTION(IPPROTO_IPV6, IPV6_AUTOFLOWLABEL),
    OPTION(IPPROTO_IPV6, IPV6_MTU_DISCOVER),
    OPTION(IPPROTO_IPV6, IPV6_RECVERR),
    OPTION(IPPROTO_IPV6, IPV6_UNICAST_HOPS),
    OPTION(IPPROTO_IPV6, IPV6_V6ONLY),
};

static int get(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof v;

	return getsockopt(fd, level, name, &v, &len) ? -errno : v;
}

int main(void)
{
	int fd = connected();

	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		int level = options[i].level, name = options[i].name, v = get(fd, level, name);

		SAY("%s is %d", options[i].text, v);
		SHOW(setsockopt(fd, level, name, &v, sizeof v));
		SHOW(setsockopt(fd, level, name, &v, 3));
		SHOW(setsockopt(fd, level, name, NULL, sizeof v));
		SAY("and is %d", get(fd, level, name));
	}
	SHOW(send(fd, "unharmed", 8, 0));
	SHOW(close(fd));
	return 0;
}
