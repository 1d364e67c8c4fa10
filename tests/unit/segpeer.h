/*
 * segpeer.h - for unit tests of the receiving half: parsed segments go straight
 * to the socket that demux names, and what leaves is read back from the frames
 * that testcx recorded.
 */
#ifndef TESTS_UNIT_SEGPEER_H
#define TESTS_UNIT_SEGPEER_H

#include "core/recv.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

static struct testcx t;
static const uint8_t peer_bytes[65536];

static struct endpoint our_end(uint16_t port)
{
	return (struct endpoint){ipaddr_v4(10, 0, 0, 2), port};
}
static struct endpoint peer_end(uint16_t port)
{
	return (struct endpoint){ipaddr_v4(10, 0, 0, 1), port};
}

/* A segment from peer:from to us:port; a SYN comes with an MSS option. */
static struct segment segment_from(uint16_t from, uint16_t port, uint8_t flags, uint32_t seq, uint32_t ack,
				   uint32_t len)
{
	struct segment s = {.src = peer_end(from),
			    .dst = our_end(port),
			    .seq = seq_of(seq),
			    .seq_wire = seq_of(seq),
			    .ack = seq_of(ack),
			    .len = len,
			    .wnd = 65535,
			    .flags = flags,
			    .data = peer_bytes};

	if (flags & TH_SYN) {
		s.has_mss = true;
		s.mss = 1460;
	}
	return s;
}
/* Deliver it where it belongs, then flush. */
static void deliver_segment(struct segment s)
{
	tcp_dispatch(&t.cx, &s);
	stack_flush(&t.cx);
}
__attribute__((unused)) static void deliver_from(uint16_t from, uint16_t port, uint8_t flags, uint32_t seq,
						 uint32_t ack, uint32_t len)
{
	deliver_segment(segment_from(from, port, flags, seq, ack, len));
}
__attribute__((unused)) static void deliver(uint8_t flags, uint32_t seq, uint32_t ack, uint32_t len)
{
	deliver_from(4000, 80, flags, seq, ack, len);
}

/* The newest recorded frame as a segment; forgets all of them. flags 0xff: there was none. */
__attribute__((unused)) static struct segment heard(void)
{
	struct segment s = {.flags = 0xff};

	if (t.frame_count) {
		struct testcx_frame *f = &t.frame[t.frame_count - 1];
		CHECK_EQ(wire_parse(f->data + IPV4_TRANSPORT_OFFSET, f->len - IPV4_TRANSPORT_OFFSET, &s), 0);
		s.data = NULL;
	}
	testcx_forget(&t);
	return s;
}

__attribute__((unused)) static void start(void)
{
	testcx_start(&t);
	testcx_meet_peer(&t);
}
__attribute__((unused)) static void finish(void)
{
	const char *broken = stack_verify(&t.cx);

	CHECK_MSG(!broken, "%s", broken ? broken : "");
	testcx_forget(&t);
	testcx_close(&t);
}

__attribute__((unused)) static ref listener(int backlog)
{
	ref s = sock_create(&t.cx);
	struct endpoint any = {ipaddr_v4(0, 0, 0, 0), 80};

	CHECK_EQ(sock_listen(&t.cx, s, &any, backlog), 0);
	return s;
}

/* An accepted connection peer:4000 -> us:80; the peer's next number is peer_isn + 1, *iss + 1 is our next. */
__attribute__((unused)) static ref accepted_at(uint32_t peer_isn, uint32_t *iss)
{
	ref l = listener(5);

	deliver(TH_SYN, peer_isn, 0, 0);
	*iss = heard().seq.v;
	deliver(TH_ACK, peer_isn + 1, *iss + 1, 0);
	ref s = sock_accept(&t.cx, l);
	CHECK_FATAL(s != REF_NONE);
	testcx_forget(&t);
	return s;
}
__attribute__((unused)) static ref accepted(uint32_t *iss)
{
	return accepted_at(5000, iss);
}
/* start(), at the moment when the ISN of accepted() is iss: the ISN's clock ticks every 4 us (RFC
 * 9293 3.4.1). */
__attribute__((unused)) static void start_with_isn(uint32_t iss)
{
	testcx_start(&t);
	struct endpoint local = our_end(80), remote = peer_end(4000);
	t.cx.now += (iss - isn_choose(&t.cx, &local, &remote).v) * (4 * NS_PER_US);
	testcx_meet_peer(&t);
}

/* An active connection from us:port; the same numbers. */
__attribute__((unused)) static ref connected(uint32_t *iss, uint16_t *port)
{
	struct endpoint any = {0}, to = peer_end(4000), mine;
	ref s = sock_create(&t.cx);

	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), -EINPROGRESS);
	*iss = heard().seq.v;
	sock_names(&t.cx, s, &mine, NULL);
	*port = mine.port;
	deliver_from(4000, *port, TH_SYN | TH_ACK, 5000, *iss + 1, 0);
	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), 0);
	testcx_forget(&t);
	return s;
}

__attribute__((unused)) static struct tcb *tcb_of(ref s)
{
	return tcb_at(&t.cx, s);
}
__attribute__((unused)) static enum tcp_state state_at(ref s)
{
	return (enum tcp_state)tcb_at(&t.cx, s)->state;
}

#endif
