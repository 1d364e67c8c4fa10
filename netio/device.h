/*
 * device.h - what a link must be able to do.
 *
 * Place in the flow: drive.c calls the operations with the region's lock held;
 * dev_tap.c, dev_packet.c, dev_mem.c and dev_none.c implement them. None ever blocks.
 */
#ifndef NETIO_DEVICE_H
#define NETIO_DEVICE_H

#include <linux/virtio_net.h>

#include "utcp/netio.h"

/*
 * A receive buffer: RX_OFFSET bytes of room, then the frame, so that a
 * virtio_net_hdr read in front of it and a synthetic Ethernet header fit, the
 * IP header (14 bytes into the frame) is aligned to 4, and the payload of a TCP
 * segment with timestamps (66 bytes into it) starts a cache line: it is copied
 * in and out once more, 1 to 2 % of a bulk transfer's CPU.
 */
#define RX_OFFSET   62u
#define RX_BUF_SIZE (RX_OFFSET + FRAME_LEN_MAX + 64u)

struct device_rx {
	struct frame_rx frame;
	uint8_t *bytes; /* frame.data, writable: it lies in our buffer */
	/* partial: the checksum field holds the pseudo-header sum only */
	bool partial;
	uint16_t csum_start, csum_offset;
};

struct device_ops;
struct mem_port;

struct device {
	const struct device_ops *ops;
	int fd;	       /* readable when a frame waits; -1 once the device failed, or without one */
	uint32_t caps; /* DEVICE_* of the link itself; what is missing is done in software on the way out */
	uint16_t mtu;
	uint8_t mac[6];	     /* the stack's */
	uint8_t peer_mac[6]; /* of the interface that we are attached to */
	char ifname[16];
	int ifindex;
	int claim_fd; /* packet: holds the name that keeps a second stack off the same address; -1 */
	bool vnet;    /* frames carry a virtio_net_hdr */
	bool created; /* the interface is ours and vanishes with fd */
	bool no_link; /* the interface carries IP datagrams without a link header */
	uint8_t *tx_scratch;
	struct mem_port *mem;
};

struct device_ops {
	const char *kind; /* "tap" */
	/*
	 * Open `name` by the wishes in c and fill in d; c->stack gets the address,
	 * prefix, MTU and MAC in force. 0, or a negative errno with a line in why.
	 */
	int (*open)(struct device *d, const char *name, struct netio_config *c, char *why, size_t why_len);
	/* Take one frame into buf[RX_BUF_SIZE]. 1; 0: none waits; -ENODEV: the device is gone for good. */
	int (*recv)(struct device *d, uint8_t *buf, struct device_rx *out);
	/* 0, or a negative errno: the frame is lost. -ENODEV: the device is gone for good. */
	int (*send)(struct device *d, const struct frame_tx *f);
	void (*close)(struct device *d);
};
extern const struct device_ops dev_tap, dev_packet, dev_mem, dev_none;

/* The stack's own MAC on this link, by d->ifname, d->peer_mac and the address in c (unless the user gave
 * one). */
void device_choose_mac(struct device *d, struct netio_config *c);
/* Resolve c->stack.mtu against the link's. 0 or -EINVAL. */
int device_choose_mtu(struct device *d, struct netio_config *c, char *why, size_t why_len);

/* ifinfo.c: the kernel's view of an interface */
struct ifinfo {
	int index;
	uint16_t hw_type; /* ARPHRD_* */
	uint8_t mac[6];
	uint16_t mtu;
	uint32_t flags;	    /* IFF_* */
	struct ipaddr addr; /* first IPv4 address, any: none */
	uint8_t prefix_len;
};
/* 0, -ENODEV, or another negative errno. */
int ifinfo_get(const char *name, struct ifinfo *out);
/* The MTU of a packet socket's interface, in whatever namespace we are by now; 0: not to be had. */
uint16_t ifinfo_mtu(int fd, const char *name);
int ifinfo_set_mtu(const char *name, uint16_t mtu);
/* Give the interface an IPv4 address and bring it up. */
int ifinfo_configure(const char *name, const struct ipaddr *addr, uint8_t prefix_len);
/* The kernel's ephemeral ports; unreadable: both stay as they are. */
void ifinfo_port_range(uint16_t *first, uint16_t *last);
/* True if the IPv4 address belongs to any interface of the kernel. */
bool ifinfo_is_local(const struct ipaddr *addr);
bool ifinfo_same_net(const struct ipaddr *a, const struct ipaddr *b, uint8_t prefix_len);
void ifinfo_format(const struct ipaddr *a, char *out, size_t len);

/* Where a frame_tx needs a virtio_net_hdr (Virtual I/O Device 1.1, 5.1.6.2). */
static inline void vnet_from_tx(const struct frame_tx *f, struct virtio_net_hdr *h)
{
	bool v6 = f->header[12] == 0x86 && f->header[13] == 0xdd;

	memset(h, 0, sizeof *h);
	if (f->csum_offset) {
		h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		h->csum_start = f->csum_start;
		h->csum_offset = f->csum_offset;
	}
	if (f->gso_size) {
		h->gso_type = v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
		h->gso_size = f->gso_size;
		h->hdr_len = f->header_len;
	}
}
static inline void vnet_to_rx(const struct virtio_net_hdr *h, struct device_rx *out)
{
	if (h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		out->partial = true;
		out->csum_start = h->csum_start;
		out->csum_offset = h->csum_offset;
	}
	if (h->flags & (VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID))
		out->frame.csum = FRAME_CSUM_TRUSTED;
	if (h->gso_type != VIRTIO_NET_HDR_GSO_NONE)
		out->frame.gso_size = h->gso_size;
}

#endif
