/*
 * dev_packet.c - an AF_PACKET socket: the stack as a second host on an interface.
 *
 * The stack has a MAC of its own, taken in by a promiscuous membership, so the
 * kernel sees our frames as somebody else's and stays silent. A socket filter
 * keeps what is meant for us (our MAC, or broadcast ARP): other traffic never
 * wakes the process. PACKET_VNET_HDR carries partial checksums and
 * super-segments, as on a TAP.
 *
 * The kernel lets any number of such sockets share an interface, but two stacks
 * with one address would answer each other's peers: whoever has the address holds
 * an abstract Unix name for it, which the kernel takes back when the process ends,
 * however it ends. Such names belong to a network namespace, as interfaces do.
 *
 * Interfaces without a link header (ARPHRD_NONE: tunnels) carry bare IP
 * datagrams: the core still speaks Ethernet, a synthetic header is put in front
 * on the way in and taken off on the way out, and nobody is asked by ARP.
 *
 * Place in the flow: device.h.
 */
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdio.h>
#include <sys/un.h>

#include "netio/internal.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

#define VNET_LEN       sizeof(struct virtio_net_hdr)
#define ETHER_LEN      14u
#define RECEIVE_BUFFER (32 << 20) /* of the socket: several windows of super-segments */
#define ACCEPT_WHOLE   0x40000u

static long set_option(int fd, int level, int name, const void *value, size_t len)
{
	return RAW6(SYS_setsockopt, fd, level, name, value, len, 0);
}

static int filter_set(int fd, struct sock_filter *code, unsigned short len)
{
	struct sock_fprog p = {.len = len, .filter = code};

	return (int)set_option(fd, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p);
}

/* Untagged, and for our MAC or broadcast ARP. */
static int filter_ethernet(int fd, const uint8_t mac[6])
{
	uint32_t high = (uint32_t)mac[0] << 24 | (uint32_t)mac[1] << 16 | (uint32_t)mac[2] << 8 | mac[3];
	uint32_t low = (uint32_t)mac[4] << 8 | mac[5];
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 10),
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, high, 0, 2),
	    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 4),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, low, 5, 6),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xffffffffu, 0, 5),
	    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 4),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xffff, 0, 3),
	    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_ARP, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, ACCEPT_WHOLE),
	    BPF_STMT(BPF_RET | BPF_K, 0),
	};

	return filter_set(fd, code, ARRAY_LEN(code));
}

/* IPv4 datagrams for our address. */
static int filter_bare(int fd, const struct ipaddr *addr)
{
	const uint8_t *b = addr->b + 12;
	uint32_t ip = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
	    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf0),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x40, 0, 3),
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 16),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ip, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, ACCEPT_WHOLE),
	    BPF_STMT(BPF_RET | BPF_K, 0),
	};

	return filter_set(fd, code, ARRAY_LEN(code));
}

/* ------------------------------------------------------------ opening */

static int check_interface(struct device *d, const char *name, struct netio_config *c, char *why,
			   size_t why_len)
{
	struct ifinfo i;
	char text[16];
	int err = strlen(name) < sizeof d->ifname ? ifinfo_get(name, &i) : -ENODEV;

	if (err) {
		why_set(why, why_len, "there is no interface %s; see `ip link`", name);
		return -ENODEV;
	}
	memcpy(d->ifname, name, strlen(name) + 1);
	d->no_link = i.hw_type == ARPHRD_NONE;
	if (!d->no_link && i.hw_type != ARPHRD_ETHER) {
		why_set(why, why_len, "%s is no Ethernet interface; choose another or a TAP (tap:NAME)",
			name);
		return -EINVAL;
	}
	if (!(i.flags & IFF_UP)) {
		why_set(why, why_len, "interface %s is down; bring it up (ip link set %s up)", name, name);
		return -ENETDOWN;
	}
	if (ipaddr_is_any(&c->stack.addr)) {
		why_set(why, why_len, "the stack has no address on %s; give it one (-a ADDRESS/LENGTH)",
			name);
		return -EINVAL;
	}
	if (ifinfo_is_local(&c->stack.addr)) {
		ifinfo_format(&c->stack.addr, text, sizeof text);
		why_set(why, why_len, "%s is an address of the kernel; give the stack another (-a)", text);
		return -EINVAL;
	}
	d->ifindex = i.index;
	d->mtu = i.mtu;
	memcpy(d->peer_mac, i.mac, sizeof i.mac);
	return device_choose_mtu(d, c, why, why_len);
}

static int setup_socket(struct device *d, struct netio_config *c)
{
	struct sockaddr_ll at = {
	    .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = d->ifindex};
	struct packet_mreq promisc = {.mr_ifindex = d->ifindex, .mr_type = PACKET_MR_PROMISC};
	int one = 1, size = RECEIVE_BUFFER;
	long err;

	/* The socket is born with protocol 0: it receives nothing before bind(). */
	err = d->no_link ? filter_bare(d->fd, &c->stack.addr) : filter_ethernet(d->fd, d->mac);
	if (!err)
		err = set_option(d->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
	if (err)
		return (int)err;
	/* Not optional: without it, frames of this host (veth) come with half a checksum and no word of it.
	 */
	err = set_option(d->fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one);
	if (err)
		return (int)err;
	d->vnet = true;
	d->caps = DEVICE_TX_CSUM | DEVICE_TX_TSO4 | (d->no_link ? DEVICE_NO_ARP : 0);
	if (set_option(d->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
		set_option(d->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (set_option(d->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
		set_option(d->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	if (!d->no_link)
		err = set_option(d->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promisc, sizeof promisc);
	if (!err)
		err = RAW3(SYS_bind, d->fd, &at, sizeof at);
	return (int)err;
}

static int claim_address(struct device *d, const struct netio_config *c, char *why, size_t why_len)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	char text[16];
	int fd, len;
	long err;

	ifinfo_format(&c->stack.addr, text, sizeof text);
	/* sun_path[0] stays 0: an abstract name */
	len = snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "utcp/packet/%d/%s", d->ifindex, text);
	fd = (int)netio_fd_call(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, 0);
	err = fd < 0 ? fd : fds_keep(fd, &d->claim_fd);
	if (err) {
		d->claim_fd = -1;
		why_set(why, why_len, "no file descriptor is free; raise `ulimit -n`");
		return (int)err;
	}
	err = RAW3(SYS_bind, d->claim_fd, &at, offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
	if (!err)
		return 0;
	fds_drop(&d->claim_fd);
	why_set(
	    why, why_len,
	    "packet:%s with %s is in use by another process; wait for it to end or choose another address",
	    d->ifname, text);
	return -EBUSY;
}

static int packet_open(struct device *d, const char *name, struct netio_config *c, char *why, size_t why_len)
{
	int err = check_interface(d, name, c, why, why_len), fd;

	if (err)
		return err;
	device_choose_mac(d, c);
	fd = (int)netio_fd_call(SYS_socket, AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, 0);
	if (fd < 0) {
		why_set(why, why_len, "no packet socket on %s (%s); run as root or with CAP_NET_RAW", name,
			strerror(-fd));
		return fd;
	}
	err = fds_keep(fd, &d->fd);
	if (err) {
		why_set(why, why_len, "no file descriptor is free; raise `ulimit -n`");
		return err;
	}
	err = claim_address(d, c, why, why_len);
	if (err)
		goto fail;
	err = setup_socket(d, c);
	if (!err)
		return 0;
	why_set(why, why_len, "packet:%s cannot be used (%s); choose another device", name, strerror(-err));
	fds_drop(&d->claim_fd);
fail:
	fds_drop(&d->fd);
	return err;
}

static void packet_close(struct device *d)
{
	fds_drop(&d->fd);
	fds_drop(&d->claim_fd);
}

/* ------------------------------------------------------------ frames */

/* Pretend that a bare datagram came by Ethernet. */
static void add_link_header(const struct device *d, struct device_rx *out)
{
	uint8_t *p = out->bytes - ETHER_LEN;
	bool v6 = out->bytes[0] >> 4 == 6;

	memcpy(p, d->mac, 6);
	memcpy(p + 6, d->mac, 6);
	p[6] ^= 0x04; /* a neighbour that is not us */
	p[12] = v6 ? 0x86 : 0x08;
	p[13] = v6 ? 0xdd : 0x00;
	out->bytes = p;
	out->frame.data = p;
	out->frame.len += ETHER_LEN;
	if (out->partial)
		out->csum_start = (uint16_t)(out->csum_start + ETHER_LEN);
}

static int packet_recv(struct device *d, uint8_t *buf, struct device_rx *out)
{
	uint32_t skip = d->no_link ? ETHER_LEN : 0;
	uint8_t *start = buf + RX_OFFSET + skip - VNET_LEN;
	struct virtio_net_hdr h;
	long n;

	do {
		n = RAW6(SYS_recvfrom, d->fd, start, VNET_LEN + FRAME_LEN_MAX, MSG_DONTWAIT, NULL, NULL);
	} while (n == -EINTR || n == -ENETDOWN); /* ENETDOWN is told once; frames may follow */
	if (n == -EBADF)
		return -ENODEV;
	if (n < (long)VNET_LEN)
		return 0;
	memset(out, 0, sizeof *out);
	out->bytes = start + VNET_LEN;
	out->frame.data = out->bytes;
	out->frame.len = (uint32_t)(n - (long)VNET_LEN);
	memcpy(&h, start, sizeof h);
	vnet_to_rx(&h, out);
	if (d->no_link && out->frame.len)
		add_link_header(d, out);
	return 1;
}

static long transmit(struct device *d, struct iovec *v, size_t count)
{
	struct sockaddr_ll to = {
	    .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = d->ifindex};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = count};

	if (d->no_link) { /* no header says what it is */
		m.msg_name = &to;
		m.msg_namelen = sizeof to;
	}
	return RAW3(SYS_sendmsg, d->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int packet_send(struct device *d, const struct frame_tx *f)
{
	struct iovec v[2 + FRAME_PIECES_MAX];
	struct virtio_net_hdr h;
	uint32_t skip = d->no_link ? ETHER_LEN : 0;
	size_t count = 0;
	long r;

	vnet_from_tx(f, &h);
	if (h.flags)
		h.csum_start = (uint16_t)(h.csum_start - skip);
	if (h.gso_type)
		h.hdr_len = (uint16_t)(h.hdr_len - skip);
	v[count++] = (struct iovec){&h, sizeof h};
	v[count++] = (struct iovec){(void *)(uintptr_t)(f->header + skip), f->header_len - skip};
	for (uint32_t i = 0; i < f->piece_count; i++)
		v[count++] = (struct iovec){(void *)(uintptr_t)f->piece[i].data, f->piece[i].len};
	r = transmit(d, v, count);
	if (r == -ENXIO)
		return -ENODEV; /* deleted; while it is down: ENETDOWN */
	return r < 0 ? (int)r : 0;
}

const struct device_ops dev_packet = {
    .kind = "packet",
    .open = packet_open,
    .recv = packet_recv,
    .send = packet_send,
    .close = packet_close,
};
