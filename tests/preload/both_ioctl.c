/*
 * ioctl() of every request of terminals and sockets (0x54.., 0x89..), in a few states: the answer, and what
 * it wrote. Requests that look at an interface get the name of one. And fcntl() of every command, with
 * nothing.
 */
#include "both.h"
#include <linux/sockios.h>
#include <net/if.h>

static bool looks_at_interface(unsigned long r)
{
	static const unsigned long requests[] = {
	    SIOCGIFADDR, SIOCGIFNETMASK, SIOCGIFBRDADDR, SIOCGIFDSTADDR, SIOCGIFFLAGS,	SIOCGIFMETRIC,
	    SIOCGIFMTU,	 SIOCGIFINDEX,	 SIOCGIFTXQLEN,	 SIOCGIFMAP,	 SIOCGIFHWADDR, SIOCGIFPFLAGS,
	    SIOCGIFMEM,	 SIOCGIFSLAVE,	 SIOCGARP,	 SIOCETHTOOL};

	for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
		if (requests[i] == r)
			return true;
	return false;
}

/* Clocks, and what differs from one machine to the next. */
static bool varies(unsigned long r)
{
	return r == SIOCGSTAMP || r == SIOCGSTAMPNS;
}

static void request(int fd, const char *state, unsigned long r)
{
	union {
		unsigned char b[256];
		struct ifreq ifr;
	} a = {{0}};

	if (looks_at_interface(r))
		strcpy(a.ifr.ifr_name, "lo");
	int n = ioctl(fd, r, a.b);
	int e = n < 0 ? errno : 0;
	printf("%s %lx: %s", state, r, e ? strerrorname_np(e) : "0");
	for (size_t i = 0; !e && !varies(r) && i < 40; i++)
		printf("%s%02x", i ? "" : " ", a.b[i]);
	if (r == SIOCGSKNS && n > 0)
		printf(" a number, %d", close(n));
	n = ioctl(fd, r, NULL);
	printf(" nowhere %s\n", n < 0 ? strerrorname_np(errno) : "0");
	if (r == SIOCGSKNS && n > 0)
		close(n);
}

static void command(int fd, const char *state, int cmd)
{
	int r = fcntl(fd, cmd, 0);

	if (r < 0)
		SAY("%s fcntl %d: %s", state, cmd, strerrorname_np(errno));
	else if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)
		SAY("%s fcntl %d: a number, %d", state, cmd, close(r));
	else
		SAY("%s fcntl %d: %d", state, cmd, r);
}

static void all(const char *state, int fd)
{
	for (int cmd = 0; cmd < 50; cmd++)
		command(fd, state, cmd);
	for (int cmd = 1020; cmd < 1050; cmd++)
		command(fd, state, cmd);
	for (unsigned long r = 0x5400; r < 0x5480; r++)
		request(fd, state, r);
	for (unsigned long r = 0x8900; r < 0x8a00; r++)
		request(fd, state, r);
	fcntl(fd, F_SETFL, 0);
}

int main(void)
{
	int port, fd = connected();

	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	all("connected", fd);
	SHOW(send(fd, "unharmed", 8, 0));
	SHOW(peer("recv 8"));
	peer("send 10");
	polled(fd, POLLIN, 5000);
	all("data", fd);
	peer("close");
	polled(fd, POLLRDHUP, 5000);
	all("peer closed", fd);
	close(fd);
	fd = listening(&port, 2);
	all("listening", fd);
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	all("fresh", fd);
	SHOW(connect_to(fd, peer_addr(), (int)peer("listen")));
	close(fd);
	return 0;
}
