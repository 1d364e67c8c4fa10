/*
 * dev_tap.c - a TAP interface: the kernel of this host is the other end.
 *
 * Frames carry a virtio_net_hdr, so that checksums stay partial and TCP
 * super-segments of up to 64 KB cross in one system call in both directions
 * (per-frame cost dominates everything else). One read() takes header and
 * frame, one write() or writev() sends them.
 *
 * An absent interface is created (it vanishes with our descriptor): the
 * kernel's side gets an address in the stack's network and is brought up. An
 * existing one is attached to as it is.
 *
 * Place in the flow: device.h.
 */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include "netio/internal.h"

#define VNET_LEN    sizeof(struct virtio_net_hdr)
#define SMALL_FRAME 512u /* below: flatten and write() is cheaper than a gather list */

/* ------------------------------------------------------------ opening */

static int name_check(const char *name, char *why, size_t why_len)
{
	size_t len = strlen(name);

	if (len && len < IFNAMSIZ && !strpbrk(name, "/:% \t\n") && strcmp(name, ".") && strcmp(name, ".."))
		return 0;
	why_set(why, why_len, "'%s' is no name for an interface; use up to %d letters and digits", name,
		IFNAMSIZ - 1);
	return -EINVAL;
}

static int tun_open(char *why, size_t why_len)
{
	int fd = (int)netio_fd_call(SYS_openat, AT_FDCWD, (long)"/dev/net/tun",
				    O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);

	if (fd == -ENOENT || fd == -ENODEV || fd == -ENXIO) {
		why_set(why, why_len, "/dev/net/tun is missing; load the module (modprobe tun)");
		return -ENODEV;
	}
	if (fd < 0)
		why_set(why, why_len,
			"/dev/net/tun cannot be opened (%s); run as root or ask for access to it",
			strerror(-fd));
	return fd;
}

static int set_iff(int fd, const char *name, int flags)
{
	struct ifreq r;

	memset(&r, 0, sizeof r);
	memcpy(r.ifr_name, name, strlen(name));
	r.ifr_flags = (short)flags;
	return (int)raw_ioctl(fd, TUNSETIFF, &r);
}

/* Attach to or create the interface; with a virtio_net_hdr if the kernel lets us. */
static int tap_attach(struct device *d, int fd, const char *name)
{
	static const struct {
		int flags;
		bool vnet;
	} ways[] = {
	    {IFF_VNET_HDR, true},
	    {IFF_VNET_HDR | IFF_MULTI_QUEUE, true}, /* made with multi_queue by its owner */
	    {0, false},
	    {IFF_MULTI_QUEUE, false},
	};
	int err = -EINVAL;

	for (unsigned i = 0; i < ARRAY_LEN(ways) && err == -EINVAL; i++) {
		err = set_iff(fd, name, IFF_TAP | IFF_NO_PI | ways[i].flags);
		d->vnet = ways[i].vnet;
	}
	return err;
}

static int attach_error(int err, const char *name, bool existed, char *why, size_t why_len)
{
	if (err == -EBUSY)
		why_set(why, why_len,
			"tap:%s is in use by another process; wait for it to end or choose another device",
			name);
	else if (err == -EPERM && existed)
		why_set(why, why_len, "tap:%s belongs to somebody else; run as its owner or as root", name);
	else if (err == -EPERM)
		why_set(why, why_len,
			"no permission to create tap:%s; run as root or have one prepared (ip tuntap add %s "
			"mode tap user %u)",
			name, name, (unsigned)RAW1(SYS_getuid, 0));
	else if (err == -EINVAL && existed)
		why_set(why, why_len, "%s exists and is no TAP interface; choose another name", name);
	else
		why_set(why, why_len, "tap:%s cannot be opened (%s); choose another device", name,
			strerror(-err));
	return err;
}

static void set_offloads(struct device *d)
{
	int header = VNET_LEN;

	if (!d->vnet)
		return;
	raw_ioctl(d->fd, TUNSETVNETHDRSZ, &header);
	d->caps = DEVICE_TX_CSUM | DEVICE_TX_TSO4;
	/* What we are ready to receive; sending needs no permission. */
	if (RAW3(SYS_ioctl, d->fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) != 0)
		RAW3(SYS_ioctl, d->fd, TUNSETOFFLOAD, TUN_F_CSUM);
}

static struct ipaddr kernel_side(const struct netio_config *c)
{
	struct ipaddr a = c->stack.addr;
	uint32_t host, mask = c->stack.prefix_len ? 0xffffffffu << (32 - c->stack.prefix_len) : 0;

	if (!ipaddr_is_any(&c->kernel_addr))
		return c->kernel_addr;
	memcpy(&host, a.b + 12, 4);
	host = __builtin_bswap32(host);
	/* the network's .1, or .2 when the stack has that */
	host = (host & mask) + 1 == host ? host + 1 : (host & mask) + 1;
	host = __builtin_bswap32(host);
	memcpy(a.b + 12, &host, 4);
	return a;
}

/*
 * On a TAP of ours the kernel hands over only what can be meant for the stack;
 * its multicast chatter would wake us. The filter stays with an interface, so
 * one that outlives us gets none.
 */
static void filter_multicast(struct device *d)
{
	union {
		struct tun_filter f;
		uint8_t bytes[sizeof(struct tun_filter) + 2 * 6];
	} filter;
	uint8_t *addr = filter.bytes + sizeof(struct tun_filter);

	memset(&filter, 0, sizeof filter);
	filter.f.count = 2;
	memcpy(addr, d->mac, 6);
	memset(addr + 6, 0xff, 6);
	raw_ioctl(d->fd, TUNSETTXFILTER, &filter);
}

static int setup_created(struct device *d, struct netio_config *c, char *why, size_t why_len)
{
	struct ipaddr peer = kernel_side(c);
	char text[16];
	int err = 0;

	d->created = true;
	if (c->mtu_set)
		err = ifinfo_set_mtu(d->ifname, c->stack.mtu);
	if (err) {
		why_set(why, why_len, "MTU %u is refused for tap:%s (%s); choose another", c->stack.mtu,
			d->ifname, strerror(-err));
		return err;
	}
	err = ifinfo_configure(d->ifname, &peer, c->stack.prefix_len);
	ifinfo_format(&peer, text, sizeof text);
	if (err)
		why_set(why, why_len,
			"the kernel's side of tap:%s cannot be given %s/%u (%s); choose another address",
			d->ifname, text, c->stack.prefix_len, strerror(-err));
	return err;
}

static int check_existing(struct device *d, struct netio_config *c, const struct ifinfo *i, bool default_addr,
			  char *why, size_t why_len)
{
	char text[16];

	if (!(i->flags & IFF_UP)) {
		why_set(why, why_len, "interface %s is down; bring it up (ip link set %s up)", d->ifname,
			d->ifname);
		return -ENETDOWN;
	}
	if (default_addr && !ipaddr_is_any(&i->addr) &&
	    !ifinfo_same_net(&i->addr, &c->stack.addr, i->prefix_len)) {
		ifinfo_format(&i->addr, text, sizeof text);
		why_set(why, why_len,
			"interface %s is in the network %s/%u; give the stack an address there (-a)",
			d->ifname, text, i->prefix_len);
		return -EINVAL;
	}
	return 0;
}

static int tap_configure(struct device *d, struct netio_config *c, bool existed, char *why, size_t why_len)
{
	bool default_addr = ipaddr_is_any(&c->stack.addr);
	struct ifinfo i;
	char text[16];
	int err;

	if (default_addr) {
		c->stack.addr = ipaddr_v4(10, 77, 0, 2);
		c->stack.prefix_len = 24;
	}
	set_offloads(d);
	err = ifinfo_get(d->ifname, &i);
	if (!err && !existed) {
		err = setup_created(d, c, why, why_len);
		if (err)
			return err;
		err = ifinfo_get(d->ifname, &i);
	}
	if (err) {
		why_set(why, why_len, "tap:%s cannot be looked at (%s); choose another device", d->ifname,
			strerror(-err));
		return err;
	}
	d->ifindex = i.index;
	d->mtu = i.mtu;
	memcpy(d->peer_mac, i.mac, sizeof i.mac);
	if (existed)
		err = check_existing(d, c, &i, default_addr, why, why_len);
	if (!err && ifinfo_is_local(&c->stack.addr)) {
		ifinfo_format(&c->stack.addr, text, sizeof text);
		why_set(why, why_len, "%s is an address of the kernel; give the stack another (-a)", text);
		err = -EINVAL;
	}
	if (!err)
		err = device_choose_mtu(d, c, why, why_len);
	if (err)
		return err;
	device_choose_mac(d, c);
	if (d->created)
		filter_multicast(d);
	return 0;
}

static int tap_open(struct device *d, const char *name, struct netio_config *c, char *why, size_t why_len)
{
	struct ifinfo before;
	bool existed;
	int err = name_check(name, why, why_len), fd;

	if (err)
		return err;
	memcpy(d->ifname, name, strlen(name) + 1);
	fd = tun_open(why, why_len);
	if (fd < 0)
		return fd;
	existed = ifinfo_get(name, &before) == 0;
	err = tap_attach(d, fd, name);
	if (err) {
		raw_close(fd);
		return attach_error(err, name, existed, why, why_len);
	}
	err = fds_keep(fd, &d->fd);
	if (err) {
		why_set(why, why_len, "no file descriptor is free; raise `ulimit -n`");
		return err;
	}
	err = tap_configure(d, c, existed, why, why_len);
	if (err)
		fds_drop(&d->fd);
	return err;
}

static void tap_close(struct device *d)
{
	fds_drop(&d->fd);
}

/* ------------------------------------------------------------ frames */

static int tap_recv(struct device *d, uint8_t *buf, struct device_rx *out)
{
	uint32_t head = d->vnet ? VNET_LEN : 0;
	uint8_t *start = buf + RX_OFFSET - head;
	struct virtio_net_hdr h;
	long n;

	do {
		n = raw_read(d->fd, start, head + FRAME_LEN_MAX);
	} while (n == -EINTR);
	if (n == -EAGAIN || n == -ENOBUFS || n == -ENOMEM)
		return 0;
	if (n < 0)
		return -ENODEV; /* EBADFD: the interface was deleted */
	memset(out, 0, sizeof *out);
	out->bytes = buf + RX_OFFSET;
	out->frame.data = out->bytes;
	out->frame.len = (uint32_t)n > head ? (uint32_t)n - head : 0;
	if (head && (uint32_t)n >= head) {
		memcpy(&h, start, sizeof h);
		vnet_to_rx(&h, out);
	}
	return 1;
}

static int emit_plain(void *arg, const uint8_t *frame, uint32_t len)
{
	struct device *d = arg;
	long r = raw_write(d->fd, frame, len);

	return r < 0 ? (int)r : 0;
}

static long send_small(struct device *d, const struct frame_tx *f, const struct virtio_net_hdr *h,
		       size_t head)
{
	uint8_t flat[VNET_LEN + SMALL_FRAME];
	uint8_t *p = flat;

	memcpy(p, h, sizeof *h);
	p += head;
	memcpy(p, f->header, f->header_len);
	p += f->header_len;
	for (uint32_t i = 0; i < f->piece_count; i++) {
		memcpy(p, f->piece[i].data, f->piece[i].len);
		p += f->piece[i].len;
	}
	return raw_write(d->fd, flat, (size_t)(p - flat));
}

static long send_gathered(struct device *d, const struct frame_tx *f, struct virtio_net_hdr *h, size_t head)
{
	struct iovec v[2 + FRAME_PIECES_MAX];
	int count = 0;

	if (head)
		v[count++] = (struct iovec){h, head};
	v[count++] = (struct iovec){(void *)(uintptr_t)f->header, f->header_len};
	for (uint32_t i = 0; i < f->piece_count; i++)
		v[count++] = (struct iovec){(void *)(uintptr_t)f->piece[i].data, f->piece[i].len};
	return RAW3(SYS_writev, d->fd, v, count);
}

static int tap_send(struct device *d, const struct frame_tx *f)
{
	size_t head = d->vnet ? VNET_LEN : 0;
	struct virtio_net_hdr h;
	long r;

	if (!d->vnet && (f->csum_offset || f->gso_size))
		return frame_segment(f, d->tx_scratch, emit_plain, d);
	vnet_from_tx(f, &h);
	if (f->header_len + f->payload_len <= SMALL_FRAME)
		r = send_small(d, f, &h, head);
	else
		r = send_gathered(d, f, &h, head);
	return r < 0 ? (int)r : 0;
}

const struct device_ops dev_tap = {
    .kind = "tap",
    .open = tap_open,
    .recv = tap_recv,
    .send = tap_send,
    .close = tap_close,
};
