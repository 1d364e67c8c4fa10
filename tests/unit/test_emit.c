/* test_emit.c - frames from the state of a connection: fields at their limits, options, counters, RST's rate.
 */
#include "tests/unit/sendkit.h"

#include "tests/unit/segpeer.h" /* its `t` would shadow names in the other's headers */

static struct kit k;

/* One segment as asked; what left. */
static struct segment emitted(uint32_t from, uint32_t len, uint8_t flags, struct emit *e)
{
	*e = (struct emit){.seq = seq_of(k.iss + from), .len = len, .mss = 1448, .flags = flags};
	testcx_forget(&k.x);
	CHECK_EQ(emit_segment(&k.x.cx, kit_tcb(&k), e), 0);
	CHECK_EQ(k.x.frame_count, 1);
	return kit_frame(&k, 0);
}

/* Milliseconds from the connection's own offset, modulo 2^32, and never 0. */
static void test_timestamp(void)
{
	struct tcb *c;

	kit_open(&k, KIT_TS, 60000, 1460, KIT_MS);
	c = kit_tcb(&k);
	uint32_t ms = (uint32_t)(k.x.cx.now / NS_PER_MS);
	c->ts_offset = UINT32_MAX - ms;
	CHECK_EQ(ts_now(&k.x.cx, c), UINT32_MAX);
	c->ts_offset++;
	CHECK_EQ(ts_now(&k.x.cx, c), 1); /* peers take 0 for none */
	k.x.cx.now = (ms + 1) * NS_PER_MS - 1;
	CHECK_EQ(ts_now(&k.x.cx, c), 1);
	k.x.cx.now++;
	CHECK_EQ(ts_now(&k.x.cx, c), 1);
	k.x.cx.now += NS_PER_MS;
	CHECK_EQ(ts_now(&k.x.cx, c), 2);
	kit_close(&k);
}

/* The largest frame: whole segments that fit an IPv4 datagram, one at least. */
static void test_super_max(void)
{
	testcx_start(&t);
	CHECK_EQ(emit_super_max(&t.cx, 1448), 1448);
	stack_set_device(&t.cx, 1500, DEVICE_TX_CSUM | DEVICE_TX_TSO4);
	CHECK_EQ(emit_super_max(&t.cx, 1448), 45 * 1448);
	CHECK_EQ(emit_super_max(&t.cx, 1), 65455);
	CHECK_EQ(emit_super_max(&t.cx, 32727), 65454);
	CHECK_EQ(emit_super_max(&t.cx, 32728), 32728);
	CHECK_EQ(emit_super_max(&t.cx, 65455), 65455);
	CHECK_EQ(emit_super_max(&t.cx, 65456), 65456);
	testcx_close(&t);
}

/* MUST-62: the pointer leads behind the urgent octet; it saturates, and ends exactly at the mark. */
static void test_urgent(void)
{
	struct emit e;

	kit_open(&k, KIT_TS, 60000, 1460, KIT_MS);
	struct tcb *c = kit_tcb(&k);
	c->urg_out = true;
	c->snd_up = seq_of(k.iss + 70000);
	CHECK_EQ(emitted(1, 0, TH_ACK, &e).urg, 65535);
	CHECK_EQ(emitted(70000 - 65536, 0, TH_ACK, &e).urg, 65535);
	CHECK_EQ(emitted(70000 - 65535, 0, TH_ACK, &e).urg, 65535);
	CHECK_EQ(emitted(70000 - 65534, 0, TH_ACK, &e).urg, 65534);
	struct segment s = emitted(69999, 0, TH_ACK, &e);
	CHECK_EQ(s.urg, 1);
	CHECK_EQ(s.flags, TH_ACK | TH_URG);
	s = emitted(70000, 0, TH_ACK, &e);
	CHECK_EQ(s.urg, 0);
	CHECK_EQ(s.flags, TH_ACK);
	c->urg_out = false;
	CHECK_EQ(emitted(1, 0, TH_ACK, &e).flags, TH_ACK);
	kit_close(&k);
}

/* Counters count segments, not frames: the last piece of a super-segment may be one octet. MUST-61 */
static void test_super_segment(void)
{
	struct emit e;

	kit_open(&k, KIT_TS | KIT_TSO, 60000, 1460, KIT_MS);
	kit_write(&k, 5000, 0);
	uint64_t out = stack_counters(&k.x.cx)->tcp_out;
	uint32_t segs = kit_tcb(&k)->segs_out;
	CHECK_EQ(emitted(1, 2 * 1448, TH_ACK, &e).gso_size, 1448);
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_out - out, 2);
	struct segment s = emitted(1, 2 * 1448 + 1, TH_ACK, &e);
	CHECK_EQ(s.len, 2 * 1448 + 1);
	CHECK_EQ(s.flags, TH_ACK);
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_out - out, 5);
	CHECK_EQ(emitted(1, 1448, TH_ACK, &e).gso_size, 0);
	CHECK_EQ(emitted(4553, 448, TH_ACK, &e).flags, TH_ACK | TH_PSH);
	CHECK_EQ(emitted(4552, 448, TH_ACK, &e).flags, TH_ACK);
	CHECK_EQ(kit_tcb(&k)->segs_out - segs, 8);
	kit_close(&k);
}

/* More pieces than a frame holds (small chunks, for want of memory): whole segments leave, FIN and PSH stay.
 */
static void test_too_many_pieces(void)
{
	struct emit e;

	kit_open(&k, KIT_TS | KIT_TSO, 0, 1460, KIT_MS);
	stack_of(&k.x.cx)->mem_limit = 16000;
	CHECK_EQ(kit_write(&k, 13000, 0), 13000);
	struct segment s = emitted(1, 13000, TH_ACK | TH_FIN, &e);
	CHECK_EQ(e.len, 8 * 1448); /* 24 pieces of 512 octets are 8.5 segments */
	CHECK_EQ(s.len, 8 * 1448);
	CHECK_EQ(s.gso_size, 1448);
	CHECK_EQ(s.flags, TH_ACK);
	kit_close(&k);
}

/* REC-1, RFC 7323 2.2: the field is the window over 2^scale; without scaling it saturates. */
static void test_window(void)
{
	struct emit e;

	kit_open(&k, KIT_TS, 60000, 1460, KIT_MS);
	struct tcb *c = kit_tcb(&k);
	CHECK_EQ(c->rcv_wscale, 7);
	c->rcvbuf_limit = 4u << 20;
	c->rcv_ssthresh = 1000000;
	uint32_t field = emitted(1, 0, TH_ACK, &e).wnd;
	CHECK_EQ(field, (1000000 + 127) / 128);
	CHECK_EQ(c->rcv_adv.v, c->rcv_nxt.v + field * 128);
	kit_close(&k);

	kit_open(&k, KIT_TS, 60000, 1460, KIT_MS);
	c = kit_tcb(&k);
	c->wscale_ok = false;
	c->rcv_wscale = 0;
	c->rcvbuf_limit = 4u << 20;
	c->rcv_ssthresh = 1000000;
	CHECK_EQ(emitted(1, 0, TH_ACK, &e).wnd, 65535);
	CHECK_EQ(c->rcv_adv.v, c->rcv_nxt.v + 65535);
	kit_close(&k);
}

/* SHLD-14: the SYN-ACK promised octets that are no multiple of 2^scale; a scaled field must not take any
 * back. */
static void test_window_in_handshake(void)
{
	start();
	ref l = listener(5);
	struct segment syn = segment_from(4000, 80, TH_SYN, 5000, 0, 0);
	syn.has_wscale = true;
	deliver_segment(syn);
	struct segment answer = heard();
	CHECK_EQ(answer.wnd, 44 * 1460);
	deliver(TH_ACK, 5000 - 1, answer.seq.v + 1, 0); /* old: answered by an ACK */
	struct segment g = heard();
	CHECK_EQ(g.flags, TH_ACK);
	CHECK_GE(g.wnd << answer.wscale, answer.wnd);
	CHECK_LT((uint32_t)(g.wnd << answer.wscale), answer.wnd + (1u << answer.wscale));
	sock_close(&t.cx, l);
	finish();
}

/* 40 octets of options hold four SACK blocks, three beside timestamps. */
static void test_sack_room(void)
{
	for (int ts = 0; ts < 2; ts++) {
		kit_open(&k, KIT_SACK | (ts ? KIT_TS : 0), 60000, 1460, KIT_MS);
		for (int i = 0; i < 6; i++) {
			k.peer_seq += 100;
			kit_data(&k, 1, 60000, 10);
		}
		struct segment s = kit_frame(&k, 0);
		CHECK_EQ(s.sack_count, ts ? 3 : 4);
		CHECK_EQ(s.sack[0].start.v, k.peer_seq - 10);
		CHECK_EQ(s.sack[0].end.v, k.peer_seq);
		CHECK_EQ(s.has_ts, ts != 0);
		CHECK_EQ(stack_counters(&k.x.cx)->tcp_sack_out, 6);
		kit_close(&k);
	}
}

/* MUST-14, MUST-65, SHLD-5: a SYN and its copies carry the same options; time and counters do not stand
 * still. */
static void test_syn(void)
{
	struct endpoint any = {0}, to = peer_end(4000);

	start();
	ref s = sock_create(&t.cx);
	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), -EINPROGRESS);
	CHECK(tcb_of(s)->rtt_timing);
	CHECK_EQ(tcb_of(s)->timer[TIMER_RTO], t.cx.now + NS_PER_S);
	struct segment first = heard();
	CHECK_EQ(first.flags, TH_SYN);
	CHECK_EQ(first.mss, 1460);
	CHECK(first.has_wscale && first.wscale == 7 && first.has_sack_permitted && first.has_ts);
	CHECK_EQ(first.ts_ecr, 0);
	CHECK_EQ(first.ack.v, 0);
	t.cx.now += NS_PER_S;
	stack_advance(&t.cx);
	struct segment second = heard();
	CHECK_EQ(second.ts_val, first.ts_val + 1000);
	CHECK_EQ(second.seq.v, first.seq.v);
	CHECK_EQ(second.wnd, first.wnd);
	CHECK(second.has_mss && second.has_wscale && second.has_sack_permitted);
	CHECK(!tcb_of(s)->rtt_timing); /* MUST-18: Karn */
	CHECK_EQ(tcb_of(s)->snd_nxt.v, first.seq.v + 1);
	CHECK_EQ(tcb_of(s)->total_retrans, 1);
	CHECK_EQ(stack_counters(&t.cx)->tcp_syn_retrans, 1);
	CHECK_EQ(stack_counters(&t.cx)->tcp_retrans, 1);
	finish();
}

/* RFC 9293 3.10.7.1: the numbers of a RST to a stranger; SYN and FIN count; a RST is never answered. */
static void test_stray(void)
{
	start();
	deliver(TH_ACK | TH_FIN, 7, 0xdeadbeef, 10);
	struct segment s = heard();
	CHECK_EQ(s.flags, TH_RST);
	CHECK_EQ(s.seq.v, 0xdeadbeef);
	CHECK_EQ(s.ack.v, 0);
	deliver(TH_SYN, 0xffffffff, 0, 0);
	s = heard();
	CHECK_EQ(s.flags, TH_RST | TH_ACK);
	CHECK_EQ(s.seq.v, 0);
	CHECK_EQ(s.ack.v, 0);
	deliver(TH_SYN | TH_FIN, 0xfffffff0, 0, 20);
	CHECK_EQ(heard().ack.v, 6);
	deliver(TH_RST, 1, 0, 0);
	deliver(TH_RST | TH_ACK, 1, 1, 0);
	CHECK_EQ(t.frame_count, 0);
	CHECK_EQ(stack_counters(&t.cx)->tcp_rst_out, 3);
	finish();
}

/* Ten thousand a second, earned one every 100 us, never more than that in store. */
static void test_stray_rate(void)
{
	start();
	struct segment s = segment_from(4000, 80, TH_ACK, 1, 1, 0);
	const struct stack_counters *n = stack_counters(&t.cx);

	for (int i = 0; i < 10010; i++)
		output_rst_for(&t.cx, &s);
	CHECK_EQ(n->tcp_rst_out, 10000);
	t.cx.now += 100 * NS_PER_US - 1;
	output_rst_for(&t.cx, &s);
	CHECK_EQ(n->tcp_rst_out, 10000);
	t.cx.now += 1;
	output_rst_for(&t.cx, &s);
	output_rst_for(&t.cx, &s);
	CHECK_EQ(n->tcp_rst_out, 10001);
	t.cx.now += 250 * NS_PER_US; /* two, and half of one more is kept */
	for (int i = 0; i < 5; i++)
		output_rst_for(&t.cx, &s);
	CHECK_EQ(n->tcp_rst_out, 10003);
	t.cx.now += 50 * NS_PER_US;
	for (int i = 0; i < 5; i++)
		output_rst_for(&t.cx, &s);
	CHECK_EQ(n->tcp_rst_out, 10004);
	t.cx.now += 10 * NS_PER_S;
	for (int i = 0; i < 10010; i++)
		output_rst_for(&t.cx, &s);
	CHECK_EQ(n->tcp_rst_out, 20004);
	finish();
}

/* RFC 5961 3.2: a RST must be where the peer expects it: at SND.NXT, or at the edge of a window that shrank.
 */
static void test_reset(void)
{
	kit_open(&k, KIT_TS, 20000, 1460, KIT_MS);
	kit_write(&k, 5000, 0);
	struct tcb *c = kit_tcb(&k);
	static const struct {
		uint32_t wnd, want;
	} row[] = {{5000, 5001}, {20000, 5001}, {4999, 5000}, {0, 1}};
	for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
		testcx_forget(&k.x);
		c->snd_wnd = row[i].wnd;
		output_rst(&k.x.cx, c);
		struct segment s = kit_frame(&k, 0);
		CHECK_EQ(s.flags, TH_RST | TH_ACK);
		CHECK_MSG(s.seq.v == row[i].want, "window %u: RST at %u", row[i].wnd, s.seq.v);
	}
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_rst_out, ARRAY_LEN(row));
	kit_close(&k);
}

/* A TIME-WAIT's ACK: the window in the old scale, timestamps that go on from the old offset, never 0. */
static void test_timewait(void)
{
	struct timewait w = {.local = our_end(80),
			     .remote = peer_end(4000),
			     .snd_nxt = {7},
			     .rcv_nxt = {0xffffffff},
			     .rcv_wnd = 65535u << 3,
			     .rcv_wscale = 3,
			     .ts_ok = true,
			     .ts_recent = 99};

	start();
	w.ts_offset = 0u - (uint32_t)(t.cx.now / NS_PER_MS);
	output_timewait_ack(&t.cx, &w);
	struct segment s = heard();
	CHECK_EQ(s.flags, TH_ACK);
	CHECK_EQ(s.seq.v, 7);
	CHECK_EQ(s.ack.v, 0xffffffff);
	CHECK_EQ(s.wnd, 65535);
	CHECK_EQ(s.ts_val, 1);
	CHECK_EQ(s.ts_ecr, 99);
	w.rcv_wnd = UINT32_MAX;
	w.ts_ok = false;
	output_timewait_ack(&t.cx, &w);
	s = heard();
	CHECK_EQ(s.wnd, 65535);
	CHECK(!s.has_ts);
	finish();
}

CHECK_MAIN("emit", {"RFC 7323: timestamps wrap and are never 0", test_timestamp},
	   {"the largest super-segment", test_super_max}, {"MUST-62: the urgent pointer", test_urgent},
	   {"MUST-61: super-segments, PSH, counters", test_super_segment},
	   {"more pieces than fit a frame", test_too_many_pieces}, {"REC-1: the window field", test_window},
	   {"SHLD-14: the window of the handshake is kept", test_window_in_handshake},
	   {"room for SACK blocks", test_sack_room}, {"MUST-14, SHLD-5: SYN and its copies", test_syn},
	   {"RFC 9293 3.10.7.1: RST to a stranger", test_stray}, {"the rate of such RSTs", test_stray_rate},
	   {"RFC 5961 3.2: where a RST goes", test_reset}, {"the ACK of a TIME-WAIT", test_timewait})
