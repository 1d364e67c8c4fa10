/*
 * image.h - the tester's own view of TCP/IPv4 frames.
 *
 * Everything that the stack emits is parsed here, by code that shares nothing
 * with core/wire.c, so that an error there cannot hide itself. Place in the
 * flow: the dialogues and the simulator hand each emitted frame to
 * image_parse() (header legality, checksums) and then to emitter_check() (the
 * rules that hold over a whole connection); frames are built by image_build()
 * and kept for post-mortem by pcap_*().
 */
#ifndef TESTS_IMAGE_H
#define TESTS_IMAGE_H

#include <stdio.h>

#include "utcp/types.h"

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, URG = 32, ECE = 64, CWR = 128 };

#define IMAGE_SACK_MAX 4
#define IMAGE_ETHER    14u

/* One TCP segment as the wire shows it. Options that are absent: -1, or false. */
struct image {
	uint32_t src, dst; /* IPv4, host byte order */
	uint16_t sport, dport;
	uint32_t seq, ack, len;
	uint8_t flags, tos, ttl;
	uint16_t wnd, urg;
	const uint8_t *data;
	int mss, wscale;
	bool sack_permitted, ts;
	uint32_t ts_val, ts_ecr;
	int sack_count;
	uint32_t sack[IMAGE_SACK_MAX][2];
	/* image_build() only: option bytes taken as they are (NULL: none), spoilt checksum */
	const uint8_t *raw_options;
	uint32_t raw_options_len;
	bool bad_checksum;
};

/*
 * Parse an Ethernet frame that must be TCP over IPv4. NULL when every rule for
 * a single segment holds, else a text that names the broken one.
 */
const char *image_parse(const uint8_t *frame, uint32_t len, struct image *im);
bool image_is_tcp(const uint8_t *frame, uint32_t len);

/* Build a frame; im->data may be NULL when im->len is 0. Returns its length. */
uint32_t image_build(uint8_t *frame, const uint8_t dst_mac[6], const uint8_t src_mac[6],
		     const struct image *im);
/* Recompute both checksums of a frame that was altered by hand. */
void image_seal(uint8_t *frame, uint32_t len);
/* RFC 1071, complemented. */
uint16_t image_checksum(const uint8_t *p, uint32_t len, uint32_t sum);

/* "S. seq 1000 ack 5001 win 65535 len 0 <mss 1460>": into out; seq and ack shifted by the given amounts. */
void image_print(const struct image *im, uint32_t seq_shift, uint32_t ack_shift, char *out, size_t size);

/* What one end of a connection has promised so far. */
struct emitter {
	bool syn_sent, ts_on, edge_known, peer_known;
	int own_wscale, peer_wscale; /* as in the SYNs, -1: none */
	bool peer_ts, peer_sack;     /* offered by the peer's SYN */
	uint32_t iss;
	int generation, heard_generation; /* the simulator's: which incarnation the last SYN began */
	uint32_t edge;			  /* highest right edge promised */
	uint32_t syn_seq;		  /* of the last SYN: another one begins another connection */
	bool before_known;
	uint32_t peer_end_before; /* of the incarnation before, which TIME-WAIT still acknowledges */
	uint32_t peer_end;	  /* one past the highest octet that the peer has shown to this end */
};
/* The peer's segment arrives, intact, at this end. */
void emitter_hears(struct emitter *e, const struct image *im);
/* This end emits: NULL, or the broken rule. */
const char *emitter_check(struct emitter *e, const struct image *im);

FILE *pcap_open(const char *path);
void pcap_write(FILE *f, uint64_t ns, const uint8_t *frame, uint32_t len);

#endif
