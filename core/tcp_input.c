/*
 * tcp_input.c - a TCP segment as the network layer delivers it: checksum,
 * header, and the socket that it belongs to.
 *
 * Place in the flow: ipv4_input -> tcp_input -> segment_arrives (input.c),
 * listen_segment (listen.c) or timewait_segment (close.c).
 */
#include "core/recv.h"

/* RFC 9293 3.10.7.1. MUST-57: nothing that was sent to many is answered. */
static void no_socket(struct stack_cx *cx, const struct segment *s)
{
	COUNT(cx, tcp_no_socket);
	if (!addr_is_broadcast_or_multicast(cx, &s->dst.addr))
		output_rst_for(cx, s);
}

void tcp_dispatch(struct stack_cx *cx, struct segment *s)
{
	struct demux_result to = demux_find(cx, &s->dst, &s->src);
	ref outer;

	switch (to.kind) {
	case DEMUX_TCB:
		outer = dirty_begin(cx, to.r);
		segment_arrives(cx, tcb_at(cx, to.r), s);
		dirty_end(cx, outer);
		return;
	case DEMUX_TIMEWAIT:
		timewait_segment(cx, pool_at(cx, to.r), s);
		return;
	case DEMUX_LISTENER:
		if (!addr_is_broadcast_or_multicast(cx, &s->dst.addr))
			listen_segment(cx, tcb_at(cx, to.r), s);
		return;
	case DEMUX_NONE:
		no_socket(cx, s);
		return;
	}
}

void tcp_input(struct stack_cx *cx, const struct frame_rx *f, const struct ipaddr *src,
	       const struct ipaddr *dst, uint8_t tos, const uint8_t *tcp, uint32_t len)
{
	struct segment s;

	COUNT(cx, tcp_in);
	if (f->csum != FRAME_CSUM_TRUSTED && !wire_checksum_ok(src, dst, tcp, len)) {
		COUNT(cx, tcp_bad_csum); /* MUST-3 */
		return;
	}
	if (wire_parse(tcp, len, &s)) {
		COUNT(cx, tcp_bad_header);
		return;
	}
	s.src.addr = *src;
	s.dst.addr = *dst;
	s.tos = tos;
	s.gso_size = f->gso_size && f->gso_size < s.len ? f->gso_size : 0;
	s.seq_wire = s.seq;
	if (!s.src.port || !s.dst.port) {
		COUNT(cx, tcp_bad_header);
		return;
	}
	s.loose = NULL;
	tcp_dispatch(cx, &s);
}
