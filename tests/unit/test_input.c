/* test_input.c - the steps of RFC 9293 3.10.7 at their boundaries, and across the wrap of sequence numbers.
 */
#include "tests/unit/segpeer.h"

#define MS     NS_PER_MS
#define WINDOW (44 * 1460) /* what accepted() was promised */

static uint32_t iss, left; /* ours; the peer's next octet */
static uint8_t pattern[65536], got[65536];

static struct tcb *begin_at(uint32_t peer_isn, ref *s)
{
	start();
	for (unsigned i = 0; i < sizeof pattern; i++)
		pattern[i] = (uint8_t)(i * 31 + (i >> 8));
	*s = accepted_at(peer_isn, &iss);
	left = peer_isn + 1;
	CHECK_EQ(tcb_of(*s)->rcv_adv.v, left + WINDOW);
	return tcb_of(*s);
}
/* Octets [at, at + len) of the pattern, counted from `left`; at may be negative. */
static struct segment text(int32_t at, uint32_t len, uint8_t flags)
{
	struct segment g = segment_from(4000, 80, TH_ACK | flags, left + (uint32_t)at, iss + 1, len);

	g.data = pattern + 1000 + at;
	return g;
}

/* RFC 9293 3.4's test: whether the walk comes to step 5. Our tolerance on the left ends at the last ACK. */
static void test_window(void)
{
	static const struct {
		int32_t at;
		uint32_t len;
		bool ok;
	} row[] = {{0, 0, true},	  {-1, 0, false},	 {-1, 1, true},
		   {-10, 10, true},	  {-11, 10, false},	 {-11, 12, true},
		   {WINDOW - 1, 0, true}, {WINDOW - 1, 1, true}, {WINDOW - 1, 2, true},
		   {WINDOW, 0, true},	  {WINDOW, 1, false},	 {WINDOW + 1, 0, false},
		   {INT32_MAX, 0, false}, {INT32_MIN, 0, false}, {-1, WINDOW + 2, true}};
	static const uint32_t isn[] = {5000, 0xffffffffu - 30000, 0xffffffff, 0xfffffffe, 0x7fffffff};

	for (unsigned i = 0; i < ARRAY_LEN(isn) * ARRAY_LEN(row); i++) {
		ref s;
		struct tcb *c = begin_at(isn[i / ARRAY_LEN(row)], &s);
		unsigned r = i % ARRAY_LEN(row);
		struct segment g = text(0, row[r].len, 0);

		g.seq = g.seq_wire = seq_of(left + (uint32_t)row[r].at);
		t.cx.now += MS;
		deliver_segment(g);
		CHECK_MSG((c->last_recv == t.cx.now) == row[r].ok, "isn %u: [%d, +%u)",
			  isn[i / ARRAY_LEN(row)], row[r].at, row[r].len);
		if (!row[r].ok) /* unacceptable: answered */
			CHECK_EQ(heard().ack.v, left);
		finish();
	}
}

/* MUST-66: with the window closed, ACKs and resets at its edge count, and no data. */
static void test_closed_window(void)
{
	ref s;
	struct tcb *c = begin_at(0xfffffffe, &s); /* the window closes at number 0xffffffff */
	c->rcvbuf_limit = 0;
	c->rcv_adv = c->rcv_nxt;
	c->rcv_wnd = 0;
	t.cx.now += MS;
	deliver_segment(text(0, 1, TH_FIN));
	CHECK_EQ(c->last_recv, t.cx.now);
	CHECK_EQ(c->rcv_nxt.v, left);
	CHECK_EQ(state_at(s), TCPS_ESTABLISHED);
	struct segment a = heard();
	CHECK_EQ(a.ack.v, left);
	CHECK_EQ(a.wnd, 0);
	deliver(TH_RST, left + 1, 0, 0);
	CHECK_EQ(state_at(s), TCPS_ESTABLISHED);
	deliver(TH_RST, left, 0, 0);
	CHECK_EQ(state_at(s), TCPS_CLOSED);
	finish();
}

/* RFC 5961 3.2: only the exact number resets; the rest of the window is challenged, what is outside ignored.
 */
static void test_reset(void)
{
	enum { IGNORED, CHALLENGED, CLOSED };
	static const struct {
		int32_t at;
		int what;
	} row[] = {{0, CLOSED},		  {1, CHALLENGED}, {WINDOW - 1, CHALLENGED}, {WINDOW, CHALLENGED},
		   {WINDOW + 1, IGNORED}, {-1, IGNORED},   {INT32_MIN, IGNORED}};
	ref s;

	for (unsigned i = 0; i < 2 * ARRAY_LEN(row); i++) {
		begin_at(i % 2 ? 0xfffffffe : 5000, &s);
		deliver(TH_RST, left + (uint32_t)row[i / 2].at, 0, 0);
		CHECK_EQ(state_at(s) == TCPS_CLOSED, row[i / 2].what == CLOSED);
		CHECK_EQ(t.frame_count, row[i / 2].what == CHALLENGED);
		CHECK_EQ(stack_counters(&t.cx)->tcp_challenge_ack, row[i / 2].what == CHALLENGED);
		finish();
	}
	/* received but not acknowledged yet: RCV.NXT is the number, not our last ACK's */
	struct tcb *c = begin_at(5000, &s);
	deliver_segment(text(0, 10, 0));
	c->quickack = 0;
	deliver_segment(text(10, 10, 0));
	CHECK_EQ(c->last_ack_sent.v, left + 10);
	testcx_forget(&t);
	deliver(TH_RST, left + 10, 0, 0);
	CHECK_EQ(state_at(s), TCPS_ESTABLISHED);
	CHECK_EQ(t.frame_count, 0);
	deliver(TH_RST, left + 20, 0, 0);
	CHECK_EQ(state_at(s), TCPS_CLOSED);
	finish();
}

/* RFC 7323 5.3 R1 and 5.5: half of the circle is older, for 24 days. */
static void test_paws(void)
{
	static const struct {
		uint32_t recent, val;
		bool old;
	} row[] = {{100, 100, false},	   {100, 99, true},	  {100, 101, false},
		   {UINT32_MAX, 0, false}, {0, UINT32_MAX, true}, {0, 0x7fffffff, false},
		   {0, 0x80000000, true},  {0x80000000, 0, true}, {5, 0x80000004, false},
		   {5, 0x80000006u, true}};
	struct segment g = {0};

	testcx_start(&t);
	t.cx.now = 2 * PAWS_IDLE_MAX;
	for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
		g.ts_val = row[i].val;
		CHECK_MSG(paws_reject(&t.cx, row[i].recent, t.cx.now, &g) == row[i].old, "%u after %u",
			  row[i].val, row[i].recent);
		CHECK_EQ(paws_reject(&t.cx, row[i].recent, t.cx.now - PAWS_IDLE_MAX + 1, &g), row[i].old);
		CHECK(!paws_reject(&t.cx, row[i].recent, t.cx.now - PAWS_IDLE_MAX, &g));
	}
	testcx_close(&t);
}

static struct segment stamped(struct segment g, uint32_t val)
{
	g.has_ts = true;
	g.ts_val = val;
	return g;
}

/* RFC 7323 5.3 R3: TS.Recent follows only what touches the left edge; a RST needs no stamp, all else does. */
static void test_timestamps(void)
{
	ref s;
	struct tcb *c = begin_at(0xffffffff, &s);
	const struct stack_counters *n = stack_counters(&t.cx);

	c->ts_ok = true;
	c->ts_recent = 1000;
	c->ts_recent_age = t.cx.now;
	deliver_segment(stamped(text(1, 10, 0), 1005)); /* beyond a hole */
	CHECK_EQ(c->ts_recent, 1000);
	deliver_segment(stamped(text(0, 1, 0), 1004));
	CHECK_EQ(c->ts_recent, 1004);
	CHECK_EQ(c->rcv_nxt.v, left + 11);
	deliver_segment(text(11, 1, 0)); /* RFC 7323 3.2: without the option it is dropped, unanswered */
	CHECK_EQ(c->rcv_nxt.v, left + 11);
	deliver_segment(stamped(text(11, 1, 0), 1003));
	CHECK_EQ(c->rcv_nxt.v, left + 11);
	CHECK_EQ(n->tcp_paws, 1);
	/* a duplicate ACK that was overtaken by less than an RTO is no news and no crime */
	struct segment g = stamped(text(11, 0, 0), 1004 - 199);
	g.wnd = c->snd_wnd;
	c->rto_ns = 200 * MS;
	deliver_segment(g);
	CHECK_EQ(n->tcp_paws, 1);
	g.ts_val--;
	deliver_segment(g);
	CHECK_EQ(n->tcp_paws, 2);
	deliver(TH_RST, left + 11, 0, 0);
	CHECK_EQ(state_at(s), TCPS_CLOSED);
	finish();
}

/* What overlaps is cut on both sides; the application sees each octet once. RFC 2883 reports what was known.
 */
static void test_trim(void)
{
	ref s;
	struct tcb *c = begin_at(0xffffffff - 10, &s); /* the wrap lies in the first segment */
	struct iovec iov = {got, sizeof got};

	c->sack_ok = true;
	deliver_segment(text(0, 20, 0));
	testcx_forget(&t);
	deliver_segment(text(-5, 40, TH_PSH));
	struct segment a = heard();
	CHECK_EQ(a.ack.v, left + 35);
	CHECK_EQ(a.sack_count, 1);
	CHECK_EQ(a.sack[0].start.v, left - 5);
	CHECK_EQ(a.sack[0].end.v, left + 20);
	deliver_segment(text(34, 1, 0)); /* all of it old */
	CHECK_EQ(heard().sack[0].start.v, left + 34);
	CHECK_EQ(c->bytes_received, 35);
	c->rcv_adv = seq_add(c->rcv_nxt, 10);
	deliver_segment(text(30, 16, TH_FIN)); /* one octet too many: it goes, and the FIN */
	CHECK_EQ(c->rcv_nxt.v, left + 45);
	CHECK(!c->fin_known);
	c->rcv_adv = seq_add(c->rcv_nxt, 10);
	deliver_segment(text(45, 10, TH_FIN)); /* exactly to the edge: the FIN counts */
	CHECK_EQ(c->rcv_nxt.v, left + 56);
	CHECK_EQ(state_at(s), TCPS_CLOSE_WAIT);
	CHECK_EQ(sock_recv(&t.cx, s, &iov, 1, 0), 55);
	CHECK_MEM_EQ(got, pattern + 1000, 55);
	finish();
}

/* MUST-62: the mark is the octet before the pointer, whatever was trimmed; 0 is none; marks never go back. */
static void test_urgent(void)
{
	static const struct {
		int32_t at;
		uint16_t urg;
		int32_t mark; /* -1: none */
	} row[] = {{0, 1, 0},	{0, 0, -1},  {0, 10, 9}, {0, 11, 10}, {0, 65535, 65534},
		   {-5, 4, -1}, {-5, 5, -1}, {-5, 6, 0}, {-5, 7, 1},  {3, 1, 3}};
	ref s;
	struct tcb *c;

	for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
		c = begin_at(0xfffffffd, &s);
		struct segment g = text(row[i].at, 10, TH_URG);
		g.urg = row[i].urg;
		deliver_segment(g);
		CHECK_EQ(c->urg_in, row[i].mark >= 0);
		if (row[i].mark >= 0)
			CHECK_EQ(c->rcv_up.v, left + (uint32_t)row[i].mark);
		bool here = row[i].mark >= 0 && row[i].mark < row[i].at + 10;
		CHECK_EQ(c->urg_valid, here);
		if (here)
			CHECK_EQ(c->urg_byte, pattern[1000 + row[i].mark]);
		finish();
	}
	c = begin_at(0xfffffffd, &s);
	struct segment g = text(0, 10, TH_URG);
	g.urg = 5;
	deliver_segment(g);
	g = text(10, 10, TH_URG);
	g.urg = 20; /* a newer mark, whose octet is not here: the old one is lost to MSG_OOB */
	deliver_segment(g);
	CHECK_EQ(c->rcv_up.v, left + 29);
	CHECK(!c->urg_valid);
	g = text(20, 5, TH_URG);
	g.urg = 3; /* an older mark */
	deliver_segment(g);
	CHECK_EQ(c->rcv_up.v, left + 29);
	finish();
}

/* A FIN beyond a hole is kept in mind; nothing follows it. */
static void test_fin(void)
{
	ref s;
	struct tcb *c = begin_at(0xffffffff - 100, &s);

	deliver_segment(text(90, 10, TH_FIN)); /* the FIN is number 0 */
	CHECK(c->fin_known);
	CHECK_EQ(c->fin_seq.v, 0);
	CHECK_EQ(state_at(s), TCPS_ESTABLISHED);
	deliver_segment(text(95, 20, 0));  /* reaches beyond it: cut */
	deliver_segment(text(100, 20, 0)); /* lies behind it: refused */
	deliver_segment(text(110, 20, 0));
	CHECK_EQ(c->data_segs_in, 2);
	deliver_segment(text(120, 0, TH_FIN)); /* another end: the first one stands */
	CHECK_EQ(c->fin_seq.v, 0);
	testcx_forget(&t);
	deliver_segment(text(0, 90, 0));
	CHECK_EQ(c->rcv_nxt.v, 1);
	CHECK_EQ(heard().ack.v, 1);
	CHECK_EQ(c->bytes_received, 100);
	CHECK_EQ(state_at(s), TCPS_CLOSE_WAIT);
	deliver_segment(text(101, 10, 0));
	CHECK_EQ(c->rcv_nxt.v, 1);
	finish();
}

/* RFC 5961 4.2: a SYN is challenged wherever it lies; super-segments count as what they were. */
static void test_syn_and_counters(void)
{
	ref s;
	struct tcb *c = begin_at(5000, &s);

	deliver(TH_SYN, left + 5, 0, 0);
	CHECK_EQ(heard().ack.v, left);
	t.cx.now += OOW_ACK_INTERVAL;
	deliver(TH_SYN | TH_ACK, left + WINDOW + 5, iss + 1, 0);
	CHECK_EQ(heard().ack.v, left);
	CHECK_EQ(stack_counters(&t.cx)->tcp_challenge_ack, 2);
	CHECK_EQ(state_at(s), TCPS_ESTABLISHED);
	uint32_t segs = c->segs_in;
	struct segment g = text(0, 250, 0);
	g.gso_size = 100;
	deliver_segment(g);
	CHECK_EQ(c->segs_in, segs + 3);
	CHECK_EQ(c->data_segs_in, 3);
	deliver_segment(text(250, 0, 0));
	CHECK_EQ(c->segs_in, segs + 4);
	CHECK_EQ(c->data_segs_in, 3);
	finish();
}

static ref syn_sent(uint16_t *port, struct segment *syn)
{
	struct endpoint any = {0}, to = peer_end(4000), mine;
	ref s = sock_create(&t.cx);

	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), -EINPROGRESS);
	*syn = heard();
	sock_names(&t.cx, s, &mine, NULL);
	*port = mine.port;
	return s;
}

/* RFC 9293 3.10.7.3: ISS < SEG.ACK =< SND.NXT, and a RST counts only with such an ACK. */
static void test_syn_sent(void)
{
	enum { NOTHING, RESET, OPEN, REFUSED };
	static const struct {
		uint8_t flags;
		int32_t ack;
		int what;
	} row[] = {{TH_SYN | TH_ACK, 1, OPEN},
		   {TH_SYN | TH_ACK, 0, RESET},
		   {TH_SYN | TH_ACK, 2, RESET},
		   {TH_SYN | TH_ACK, INT32_MIN, RESET},
		   {TH_ACK, 0, RESET},
		   {TH_ACK, 1, NOTHING},
		   {TH_RST | TH_ACK, 1, REFUSED},
		   {TH_RST | TH_ACK, 0, NOTHING},
		   {TH_RST | TH_ACK, 2, NOTHING},
		   {TH_RST, 1, NOTHING}};

	for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
		struct segment syn;
		uint16_t port;

		start();
		ref s = syn_sent(&port, &syn);
		deliver_from(4000, port, row[i].flags, 5000, syn.seq.v + (uint32_t)row[i].ack, 0);
		CHECK_EQ(state_at(s), row[i].what == OPEN      ? TCPS_ESTABLISHED
				      : row[i].what == REFUSED ? TCPS_CLOSED
							       : TCPS_SYN_SENT);
		CHECK_EQ(sock_take_error(&t.cx, s), row[i].what == REFUSED ? ECONNREFUSED : 0);
		struct segment a = heard();
		if (row[i].what == RESET) {
			CHECK_EQ(a.flags, TH_RST);
			CHECK_EQ(a.seq.v, syn.seq.v + (uint32_t)row[i].ack);
		} else {
			CHECK_EQ(a.flags, row[i].what == OPEN ? TH_ACK : 0xff);
		}
		finish();
	}
}

/* The echo in a SYN-ACK lies between our first SYN (a clock's tick before it) and now. */
static void test_syn_echo(void)
{
	static const struct {
		int32_t echo; /* ms after our SYN */
		bool ok;
	} row[] = {{0, true}, {10, true}, {11, false}, {-1, true}, {-2, false}, {INT32_MAX, false}};

	for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
		struct segment syn;
		uint16_t port;

		start();
		ref s = syn_sent(&port, &syn);
		t.cx.now += 10 * MS;
		struct segment g = segment_from(4000, port, TH_SYN | TH_ACK, 5000, syn.seq.v + 1, 0);
		g.has_ts = true;
		g.ts_val = 1;
		g.ts_ecr = syn.ts_val + (uint32_t)row[i].echo;
		deliver_segment(g);
		CHECK_MSG((state_at(s) == TCPS_ESTABLISHED) == row[i].ok, "echo %d", row[i].echo);
		finish();
	}
}

CHECK_MAIN("input", {"RFC 9293 3.4: acceptable or not, to the octet", test_window},
	   {"MUST-66: a closed window", test_closed_window}, {"RFC 5961 3.2: which RST resets", test_reset},
	   {"RFC 7323 5.3: PAWS", test_paws},
	   {"RFC 7323: TS.Recent, missing and old stamps", test_timestamps},
	   {"overlaps are trimmed on both sides", test_trim}, {"MUST-62: the urgent mark", test_urgent},
	   {"a FIN beyond a hole", test_fin}, {"RFC 5961 4.2: SYN; counters", test_syn_and_counters},
	   {"RFC 9293 3.10.7.3: SYN-SENT", test_syn_sent}, {"the echo in a SYN-ACK", test_syn_echo})
