/*
 * testcx.h - a stack over private memory for unit tests: a region that grows
 * inside a reserved range, a device that records what it is given, and the few
 * frames that a peer on the link would send.
 *
 * The stack is 10.0.0.2/24 with MAC 02:00:00:00:00:02 and gateway 10.0.0.1;
 * the peer is 10.0.0.1 with MAC 02:00:00:00:00:01.
 */
#ifndef TESTS_UNIT_TESTCX_H
#define TESTS_UNIT_TESTCX_H

#include "core/tcb.h"

#define TESTCX_FRAMES 64

struct testcx_frame {
	uint32_t len;
	uint16_t gso_size, csum_offset;
	uint8_t *data; /* headers and payload, as given: checksums may be partial */
};

struct testcx {
	struct stack_cx cx; /* first: the callbacks find the rest by it */
	struct stack_config config;
	uint64_t reserved;	     /* bytes of address space */
	uint64_t grow_max;	     /* grow() refuses beyond this */
	int tx_result;		     /* what tx() answers */
	uint32_t frame_count, heard; /* recorded now; ever */
	struct testcx_frame frame[TESTCX_FRAMES];
};

extern const uint8_t testcx_mac[6], testcx_peer_mac[6];

/* The configuration of the stack above; edit it before testcx_open(). */
void testcx_config(struct testcx *t);
/* Reserve memory and run stack_init(); its value. */
int testcx_open(struct testcx *t);
/* testcx_config() and testcx_open(), which must succeed. */
void testcx_start(struct testcx *t);
void testcx_close(struct testcx *t);
/* Forget the recorded frames. */
void testcx_forget(struct testcx *t);

/* Give a frame to the stack, and stack_flush(). */
void testcx_input(struct testcx *t, const uint8_t *frame, uint32_t len);
/* An ARP packet: op 1 request, 2 reply. */
void testcx_arp(struct testcx *t, uint16_t op, const uint8_t sender_mac[6], const struct ipaddr *sender,
		const struct ipaddr *target);
/* Compose Ethernet and IPv4 headers (from the peer's MAC) before `len` bytes of payload; the frame's length.
 */
uint32_t testcx_ipv4(uint8_t *frame, const struct ipaddr *src, const struct ipaddr *dst, uint8_t proto,
		     const void *payload, uint32_t len);
/* Recompute the header checksum of a composed frame after an edit. */
void testcx_ipv4_checksum(uint8_t *frame);
/* Make the peer's address known, as if it had asked for ours; forgets the frames of that. */
void testcx_meet_peer(struct testcx *t);

#endif
