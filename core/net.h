/*
 * net.h - what the files of the network layer offer each other (ether, arp,
 * neigh, ipv4, icmp, route, demux's hash), and big-endian fields.
 *
 * Place in the flow: below tcb.h, which holds what TCP uses of this layer.
 */
#ifndef CORE_NET_H
#define CORE_NET_H

#include "core/tcb.h"

#define ETHER_HEADER	14u
#define ETHERTYPE_IPV4	0x0800u
#define ETHERTYPE_ARP	0x0806u
#define IPV4_HEADER_MIN 20u
#define IPPROTO_ICMP_	1u
#define IPPROTO_TCP_	6u

static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static inline void put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}
/* The IPv4 address in host byte order; a must be one (ipaddr_is_v4). */
static inline uint32_t ipaddr_v4_value(const struct ipaddr *a)
{
	return get32(a->b + 12);
}

/* demux.c: a keyed hash of short fixed-size keys for the tables of this layer; not for the wire. */
uint64_t keyed_mix(const uint8_t key[16], uint64_t a, uint64_t b);
uint64_t ipaddr_hash(const struct stack_cx *cx, const struct ipaddr *a);
/* NULL, or a text that names the broken invariant. */
const char *demux_verify(struct stack_cx *cx);
const char *pool_verify(struct stack_cx *cx);
const char *neigh_verify(struct stack_cx *cx);
const char *loop_verify(struct stack_cx *cx, uint64_t *charged); /* also: what its payloads are charged */

/*
 * rebuild.c walks over all objects and lets each file put its own in order. discard: an object goes while
 * there is no free list. False: the region is beyond repair; _tcb, _timewait: the tuple is taken.
 */
bool pool_rebuild_begin(struct stack_cx *cx);
void pool_rebuild_end(struct stack_cx *cx);
void pool_discard(struct stack_cx *cx, ref r);
bool demux_rebuild_begin(struct stack_cx *cx);
bool demux_rebuild_tcb(struct stack_cx *cx, struct tcb *t);
bool demux_rebuild_timewait(struct stack_cx *cx, struct timewait *w);
void neigh_rebuild(struct stack_cx *cx);
void loop_rebuild(struct stack_cx *cx);
void timer_rebuild(struct stack_cx *cx);
void reass_rebuild_begin(struct tcb *t);
void reass_rebuild(struct stack_cx *cx);
void listen_rebuild(struct stack_cx *cx);
void timewait_rebuild(struct stack_cx *cx);

/* stack.c: at the start of a region that is complete. */
extern const char region_magic[8];

/* pool.c: extent 0 holds first_bytes of fixed tables (struct stack is the first) and the extent map. */
int pool_init(struct stack_cx *cx, uint32_t first_bytes);
#define EXTENT_BYTES   65536u
#define EXTENT_TABLE   0xffu /* extent_map: belongs to no class */
#define EXTENT_EMPTY   0xfeu /* to no class any more: pool_release() */
#define EXTENT_LEAVING 0xfdu /* on the way there */

/* demux.c, neigh.c: sizes of the fixed tables in extent 0 */
#define LISTEN_BUCKET_BITS 10u
#define NEIGH_BUCKET_BITS  8u
#define IPID_COUNTERS	   1024u
#define NEIGH_MAX	   1024u

/* ether.c: count and hand a complete frame to the device. 0 or the device's error: the frame is lost. */
int ether_output(struct stack_cx *cx, struct frame_tx *f);
void ether_header(struct stack_cx *cx, uint8_t *frame, const uint8_t dst[6], uint16_t ethertype);

/* arp.c: a request for target, to mac or (NULL) broadcast. */
void arp_request(struct stack_cx *cx, const struct ipaddr *target, const uint8_t *mac);

/*
 * neigh.c: an ARP packet says that addr is at mac. solicited: it answers a
 * request of ours; create: it asked for us, so that we shall soon talk to it.
 */
void neigh_learn(struct stack_cx *cx, const struct ipaddr *addr, const uint8_t mac[6], bool reply,
		 bool create);

/* icmp.c: an error about the datagram at ip (RFC 1122 3.2.2: never about what must not be answered). */
#define ICMP_UNREACHABLE	  3u
#define ICMP_UNREACHABLE_PROTOCOL 2u
void icmp_send_error(struct stack_cx *cx, const uint8_t *ip, uint32_t total_len, uint8_t type, uint8_t code);

/* route.c: the classes of addresses (RFC 6890). */
bool addr_is_unicast_source(struct stack_cx *cx, const struct ipaddr *a);
bool addr_is_on_link(struct stack_cx *cx, const struct ipaddr *a);

#endif
