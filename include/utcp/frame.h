/*
 * frame.h - what crosses the line between a device and the stack.
 *
 * A frame is an Ethernet frame without its check sequence. With segmentation
 * offload it may be a super-segment: one TCP header and up to 64 KB of payload
 * that a device cuts into gso_size pieces (the model is struct virtio_net_hdr,
 * Virtual I/O Device 1.1, 5.1.6). Place in the flow: devices produce frame_rx
 * for stack_input(); the stack hands frame_tx to its cx->tx function.
 */
#ifndef UTCP_FRAME_H
#define UTCP_FRAME_H

#include "utcp/types.h"

#define FRAME_HEADER_MAX  128u		 /* Ethernet 14 + IPv6 40 + TCP 60 = 114 */
#define FRAME_PAYLOAD_MAX 65495u	 /* IPv4 total length 65535 - 20 - 20 */
#define FRAME_LEN_MAX	  (14u + 65535u) /* longest frame a device may deliver */
#define FRAME_PIECES_MAX  24u		 /* payload pieces in one super-segment */

enum frame_csum {
	FRAME_CSUM_VERIFY = 0, /* the stack must verify the TCP checksum */
	FRAME_CSUM_TRUSTED,    /* verified by the device, or never left this host (partial) */
};

/* A received frame; data is valid only during the call that delivers it. */
struct frame_rx {
	const uint8_t *data;
	uint32_t len;
	uint16_t gso_size; /* payload bytes of each original segment, 0: one segment */
	uint8_t csum;	   /* enum frame_csum */
};

struct frame_piece {
	const void *data;
	uint32_t len;
};

/*
 * A frame to send: the headers inline, the payload as pieces that point into
 * the region and stay valid only during the call.
 *
 * csum_offset != 0: the TCP checksum field, at csum_start + csum_offset, holds
 * the folded pseudo-header sum (not complemented); whoever sends the frame on a
 * medium completes it over [csum_start, end). gso_size != 0: payload is cut
 * into pieces of gso_size bytes, each with a copy of the headers.
 */
struct frame_tx {
	uint16_t header_len;
	uint16_t csum_start;
	uint16_t csum_offset;
	uint16_t gso_size;
	uint32_t payload_len;
	uint16_t piece_count;
	uint8_t header[FRAME_HEADER_MAX];
	struct frame_piece piece[FRAME_PIECES_MAX];
};

/*
 * Cut a super-segment into wire-size frames and/or complete its checksums in
 * software: for devices without offload, for captures of what a wire would
 * carry, and for tests. Works for IPv4 (ID and total length advance as Linux's
 * GSO does) and, later, IPv6. emit() is called once per wire frame with a
 * contiguous buffer (valid during the call); a non-zero return stops and is
 * returned. scratch must hold FRAME_LEN_MAX bytes.
 * Returns 0 or emit's value; -EINVAL if the headers are not TCP over IP.
 */
int frame_segment(const struct frame_tx *f, uint8_t *scratch,
		  int (*emit)(void *arg, const uint8_t *frame, uint32_t len), void *arg);

#endif
