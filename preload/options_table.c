/*
 * options_table.c - every socket option that the stack knows, and what is done with it
 * (theory in options.c).
 *
 * Place in the flow: options.c -> here.
 */
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "preload/options.h"
#include "preload/socket.h"

/* Options that glibc 2.36 has no name for. */
#define OPT_SO_RCVTIMEO_NEW    66
#define OPT_SO_SNDTIMEO_NEW    67
#define OPT_TXREHASH	       74
#define OPT_RCVMARK	       75
#define OPT_IP_LOCAL_RANGE     51
#define OPT_IP_PROTOCOL	       52
#define OPT_TCP_TX_DELAY       37
#define OPT_IPV6_MULTICAST_ALL 29

#define ROW(...)                                                                                             \
	{                                                                                                    \
		__VA_ARGS__                                                                                  \
	}
#define SO(o, how, arg)	  ROW(SOL_SOCKET, SO_##o, how, arg, "SO_" #o, AN_INT)
#define TCP(o, how, arg)  ROW(IPPROTO_TCP, TCP_##o, how, arg, "TCP_" #o, AN_INT)
#define IPV4(o, how, arg) ROW(IPPROTO_IP, IP_##o, how, arg, "IP_" #o, AN_INT)
#define IPV6(o, how, arg) ROW(IPPROTO_IPV6, IPV6_##o, how, arg, "IPV6_" #o, AN_INT)
/* KERNEL options that getsockopt() does not answer with an int. */
#define NO_INT(level, o, answer) ROW(level, o, KERNEL, 0, #o, answer)

/* Rows 0..CARRIED_ROWS-1 are bits of fd_options(): what can be set before the decision comes first. */
const struct option option_table[] = {
    SO(KEEPALIVE, CORE_BOOL, SOCK_OPT_KEEPALIVE),
    SO(OOBINLINE, CORE_BOOL, SOCK_OPT_OOBINLINE),
    SO(REUSEADDR, CORE_BOOL, SOCK_OPT_REUSEADDR),
    SO(REUSEPORT, CORE_BOOL, SOCK_OPT_REUSEPORT),
    SO(SNDBUF, CORE, SOCK_OPT_SNDBUF),
    SO(RCVBUF, CORE, SOCK_OPT_RCVBUF),
    SO(LINGER, SPECIAL, 0),
    SO(RCVLOWAT, SPECIAL, 0),
    SO(RCVTIMEO, SPECIAL, 0),
    SO(SNDTIMEO, SPECIAL, 0),
    SO(PRIORITY, HINT, 0),
    SO(MARK, HINT, 0),
    SO(BUSY_POLL, HINT, 0),
    SO(PREFER_BUSY_POLL, HINT, 0),
    SO(BROADCAST, HINT, 0),
    SO(NO_CHECK, HINT, 0),
    SO(DEBUG, HINT, 0),
    SO(INCOMING_CPU, HINT, -1),
    NO_INT(SOL_SOCKET, SO_ATTACH_FILTER, NOTHING),
    NO_INT(SOL_SOCKET, SO_ATTACH_BPF, SET_ONLY),
    TCP(NODELAY, CORE_BOOL, SOCK_OPT_NODELAY),
    TCP(MAXSEG, CORE, SOCK_OPT_MAXSEG),
    TCP(CORK, CORE_BOOL, SOCK_OPT_CORK),
    TCP(KEEPIDLE, CORE, SOCK_OPT_KEEPIDLE),
    TCP(KEEPINTVL, CORE, SOCK_OPT_KEEPINTVL),
    TCP(KEEPCNT, CORE, SOCK_OPT_KEEPCNT),
    TCP(SYNCNT, CORE, SOCK_OPT_SYNCNT),
    TCP(LINGER2, CORE, SOCK_OPT_LINGER2),
    TCP(DEFER_ACCEPT, CORE, SOCK_OPT_DEFER_ACCEPT),
    TCP(WINDOW_CLAMP, CORE, SOCK_OPT_WINDOW_CLAMP),
    TCP(QUICKACK, CORE_BOOL, SOCK_OPT_QUICKACK),
    TCP(USER_TIMEOUT, CORE, SOCK_OPT_USER_TIMEOUT),
    TCP(NOTSENT_LOWAT, CORE, SOCK_OPT_NOTSENT_LOWAT),
    TCP(CONGESTION, SPECIAL, 0),
    NO_INT(IPPROTO_TCP, TCP_MD5SIG, SET_ONLY),
    TCP(INQ, SPECIAL, 0),
    IPV4(TOS, CORE, SOCK_OPT_TOS),
    IPV4(TTL, CORE, SOCK_OPT_TTL),
    IPV4(MTU_DISCOVER, HINT, IP_PMTUDISC_WANT),
    IPV6(V6ONLY, SPECIAL, 0),
    IPV6(UNICAST_HOPS, HINT, 64),
    IPV6(TCLASS, HINT, 0),
    IPV6(MTU_DISCOVER, HINT, IPV6_PMTUDISC_WANT),
    IPV6(AUTOFLOWLABEL, HINT, 1),
    IPV4(FREEBIND, HINT, 0),
    IPV4(BIND_ADDRESS_NO_PORT, HINT, 0),
    /* From here on: nothing to carry over. What only the kernel does has one bit for all of them. */
    [CARRIED_ROWS] = SO(DONTROUTE, KERNEL, 0),
    NO_INT(SOL_SOCKET, SO_BINDTODEVICE, NOTHING),
    SO(ZEROCOPY, KERNEL, 0),
    SO(TIMESTAMP, KERNEL, 0),
    SO(TIMESTAMPNS, KERNEL, 0),
    NO_INT(SOL_SOCKET, SO_TIMESTAMPING, TWO_WORDS),
    {SOL_SOCKET, SO_MAX_PACING_RATE, KERNEL, -1, "SO_MAX_PACING_RATE", TWO_WORDS},
    NO_INT(SOL_SOCKET, SO_TXTIME, TWO_WORDS),
    SO(PEEK_OFF, KERNEL, -1),
    TCP(REPAIR, KERNEL, 0),
    TCP(FASTOPEN, KERNEL, 0),
    TCP(FASTOPEN_CONNECT, KERNEL, 0),
    TCP(SAVE_SYN, KERNEL, 0),
    NO_INT(IPPROTO_TCP, TCP_ULP, NOTHING),
    TCP(THIN_LINEAR_TIMEOUTS, KERNEL, 0),
    {IPPROTO_TCP, OPT_TCP_TX_DELAY, KERNEL, 0, "TCP_TX_DELAY", AN_INT},
    IPV4(RECVERR, KERNEL, 0),
    NO_INT(IPPROTO_IP, IP_OPTIONS, NOTHING),
    IPV4(MINTTL, KERNEL, 0),
    IPV6(RECVERR, KERNEL, 0),
    IPV4(MTU, SPECIAL, 0),
    {IPPROTO_IP, OPT_IP_PROTOCOL, FIGURE, 0, "IP_PROTOCOL", AN_INT},
    IPV6(ADDRFORM, CONST, AF_INET6),
    IPV6(MTU, SPECIAL, 0),
    SO(TYPE, CONST, SOCK_STREAM),
    SO(PROTOCOL, CONST, IPPROTO_TCP),
    SO(DOMAIN, SPECIAL, 0),
    SO(ERROR, SPECIAL, 0),
    SO(ACCEPTCONN, CORE, SOCK_OPT_ACCEPTCONN),
    SO(SNDLOWAT, CONST, 1),
    SO(SNDBUFFORCE, SPECIAL, 0),
    SO(RCVBUFFORCE, SPECIAL, 0),
    SO(PEERCRED, SPECIAL, 0),
    SO(COOKIE, SPECIAL, 0),
    SO(INCOMING_NAPI_ID, CONST, 0),
    SO(PEERNAME, FIGURE, 0),
    SO(MEMINFO, FIGURE, 0),
    SO(NETNS_COOKIE, FIGURE, 0),
    SO(BUF_LOCK, FIGURE, 0),
    TCP(INFO, SPECIAL, 0),
    TCP(CC_INFO, FIGURE, 0),
    TCP(TIMESTAMP, FIGURE, 0),
    NO_INT(IPPROTO_TCP, TCP_FASTOPEN_KEY, NOTHING),
    {IPPROTO_TCP, OPT_TCP_RTO_MAX_MS, FIGURE, 0, "TCP_RTO_MAX_MS", AN_INT},
    {IPPROTO_TCP, OPT_TCP_RTO_MIN_US, FIGURE, 0, "TCP_RTO_MIN_US", AN_INT},
    {IPPROTO_TCP, OPT_TCP_DELACK_MAX_US, FIGURE, 0, "TCP_DELACK_MAX_US", AN_INT},
};
const int option_rows = ARRAY_LEN(option_table);
_Static_assert(CARRIED_ROWS <= OPTION_BIT_KERNEL, "the rows do not fit the bits of fd_options()");
_Static_assert(CARRIED_ROWS <= OPTION_ROWS_MAX, "the rows do not fit struct option_values");

/* The two time-outs have a second number each, for 32-bit programs with 64-bit times: the same here. */
static int one_name(int level, int name)
{
	if (level != SOL_SOCKET || sizeof(long) < 8)
		return name;
	return name == OPT_SO_RCVTIMEO_NEW ? SO_RCVTIMEO : name == OPT_SO_SNDTIMEO_NEW ? SO_SNDTIMEO : name;
}

int option_row(int level, int name)
{
	name = one_name(level, name);
	for (int i = 0; i < (int)ARRAY_LEN(option_table); i++)
		if (option_table[i].level == level && option_table[i].name == name)
			return i;
	return -1;
}

int option_hint_slot(int row)
{
	int slot = 0;

	for (int i = 0; i < row; i++)
		slot += option_table[i].how == HINT;
	return slot;
}
