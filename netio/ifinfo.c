/*
 * ifinfo.c - what the kernel knows of an interface, and setting up one of ours.
 *
 * netdevice(7) ioctls on a throw-away UDP socket: no netlink parser is worth
 * its weight for six values. Also the choices that depend on them: the stack's
 * own MAC and MTU.
 *
 * Place in the flow: called by the devices while they open.
 */
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "netio/internal.h"

static int control_socket(void)
{
	return (int)netio_fd_call(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0, 0);
}

static void request_init(struct ifreq *r, const char *name)
{
	memset(r, 0, sizeof *r);
	memcpy(r->ifr_name, name, MIN_OF(strlen(name), sizeof r->ifr_name - 1));
}

static uint8_t mask_to_prefix(uint32_t be_mask)
{
	return (uint8_t)__builtin_popcount(be_mask);
}

static void in_from(struct ipaddr *out, const struct sockaddr *sa)
{
	struct sockaddr_in in;

	memcpy(&in, sa, sizeof in);
	*out = ipaddr_from_v4(&in.sin_addr);
}

int ifinfo_get(const char *name, struct ifinfo *out)
{
	struct ifreq r;
	int fd = control_socket(), err;

	memset(out, 0, sizeof *out);
	if (fd < 0)
		return fd;
	request_init(&r, name);
	err = (int)raw_ioctl(fd, SIOCGIFINDEX, &r);
	if (err)
		goto out;
	out->index = r.ifr_ifindex;
	if (raw_ioctl(fd, SIOCGIFHWADDR, &r) == 0) {
		out->hw_type = r.ifr_hwaddr.sa_family;
		memcpy(out->mac, r.ifr_hwaddr.sa_data, sizeof out->mac);
	}
	if (raw_ioctl(fd, SIOCGIFMTU, &r) == 0)
		out->mtu = (uint16_t)MIN_OF(r.ifr_mtu, UINT16_MAX);
	if (raw_ioctl(fd, SIOCGIFFLAGS, &r) == 0)
		out->flags = (uint16_t)r.ifr_flags;
	out->addr = ipaddr_v4(0, 0, 0, 0);
	if (raw_ioctl(fd, SIOCGIFADDR, &r) == 0)
		in_from(&out->addr, &r.ifr_addr);
	if (raw_ioctl(fd, SIOCGIFNETMASK, &r) == 0) {
		struct sockaddr_in in;

		memcpy(&in, &r.ifr_netmask, sizeof in);
		out->prefix_len = mask_to_prefix(in.sin_addr.s_addr);
	}
out:
	raw_close(fd);
	return err;
}

uint16_t ifinfo_mtu(int fd, const char *name)
{
	struct ifreq r;

	request_init(&r, name);
	return raw_ioctl(fd, SIOCGIFMTU, &r) == 0 ? (uint16_t)MIN_OF(r.ifr_mtu, UINT16_MAX) : 0;
}

int ifinfo_set_mtu(const char *name, uint16_t mtu)
{
	struct ifreq r;
	int fd = control_socket(), err;

	if (fd < 0)
		return fd;
	request_init(&r, name);
	r.ifr_mtu = mtu;
	err = (int)raw_ioctl(fd, SIOCSIFMTU, &r);
	raw_close(fd);
	return err;
}

static void in_put(struct sockaddr *sa, uint32_t be_addr)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {be_addr}};

	memcpy(sa, &in, sizeof in);
}

int ifinfo_configure(const char *name, const struct ipaddr *addr, uint8_t prefix_len)
{
	struct ifreq r;
	uint32_t be_addr, mask = prefix_len ? 0xffffffffu << (32 - prefix_len) : 0;
	int fd = control_socket(), err;

	if (fd < 0)
		return fd;
	memcpy(&be_addr, addr->b + 12, 4);
	request_init(&r, name);
	in_put(&r.ifr_addr, be_addr);
	err = (int)raw_ioctl(fd, SIOCSIFADDR, &r);
	if (!err) {
		in_put(&r.ifr_netmask, htonl(mask));
		err = (int)raw_ioctl(fd, SIOCSIFNETMASK, &r);
	}
	if (!err)
		err = (int)raw_ioctl(fd, SIOCGIFFLAGS, &r);
	if (!err) {
		r.ifr_flags = (short)(r.ifr_flags | IFF_UP);
		err = (int)raw_ioctl(fd, SIOCSIFFLAGS, &r);
	}
	raw_close(fd);
	return err;
}

/* The kernel lets a socket bind to an address exactly when it is one of its own (port 0: nothing is taken).
 */
bool ifinfo_is_local(const struct ipaddr *addr)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	int fd = control_socket();
	long r;

	if (fd < 0)
		return false;
	memcpy(&in.sin_addr, addr->b + 12, 4);
	r = RAW3(SYS_bind, fd, &in, sizeof in);
	raw_close(fd);
	return r == 0;
}

bool ifinfo_same_net(const struct ipaddr *a, const struct ipaddr *b, uint8_t prefix_len)
{
	uint32_t x, y, mask = prefix_len ? htonl(0xffffffffu << (32 - prefix_len)) : 0;

	memcpy(&x, a->b + 12, 4);
	memcpy(&y, b->b + 12, 4);
	return ((x ^ y) & mask) == 0;
}

void ifinfo_format(const struct ipaddr *a, char *out, size_t len)
{
	snprintf(out, len, "%u.%u.%u.%u", a->b[12], a->b[13], a->b[14], a->b[15]);
}

static uint64_t hash_bytes(uint64_t h, const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		h = (h ^ b[i]) * 0x100000001b3ull; /* FNV-1a */
	return h;
}

/*
 * A locally administered address that is the same for every command on the
 * same link and address: neighbours that still cache it reach the next command
 * at once. On a TAP of ours the interface's own MAC is random, so ours is too.
 */
void device_choose_mac(struct device *d, struct netio_config *c)
{
	uint64_t h = 0xcbf29ce484222325ull;

	if (!c->mac_set) {
		h = hash_bytes(h, d->ifname, strlen(d->ifname));
		h = hash_bytes(h, d->peer_mac, sizeof d->peer_mac);
		h = hash_bytes(h, c->stack.addr.b, sizeof c->stack.addr.b);
		h ^= h >> 29;
		c->stack.mac[0] = 0x02;
		memcpy(c->stack.mac + 1, &h, 5);
	}
	memcpy(d->mac, c->stack.mac, sizeof d->mac);
}

/* TCP's least segment (48 octets, CVE-2019-11479) with timestamps and three SACK blocks; config.c says the
 * same. */
#define MTU_MIN 128u

int device_choose_mtu(struct device *d, struct netio_config *c, char *why, size_t why_len)
{
	if (d->mtu < MTU_MIN) {
		why_set(why, why_len, "the MTU of %s is %u, too small for TCP; make it %u at least",
			d->ifname, d->mtu, MTU_MIN);
		return -EINVAL;
	}
	if (c->mtu_set && c->stack.mtu > d->mtu) {
		why_set(why, why_len, "MTU %u is larger than that of %s, which is %u; choose a smaller one",
			c->stack.mtu, d->ifname, d->mtu);
		return -EINVAL;
	}
	if (!c->mtu_set)
		c->stack.mtu = d->mtu;
	return 0;
}

/* "32768\t60999\n" */
void ifinfo_port_range(uint16_t *first, uint16_t *last)
{
	long fd = netio_fd_call(SYS_openat, AT_FDCWD, (long)"/proc/sys/net/ipv4/ip_local_port_range",
				O_RDONLY | O_CLOEXEC, 0);
	unsigned low = 0, high = 0;
	char text[32] = "";

	if (fd < 0)
		return;
	raw_read((int)fd, text, sizeof text - 1);
	raw_close((int)fd);
	if (sscanf(text, "%u %u", &low, &high) == 2 && low && low <= high && high <= UINT16_MAX) {
		*first = (uint16_t)low;
		*last = (uint16_t)high;
	}
}
