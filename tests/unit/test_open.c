/* test_open.c - the birth of a connection: addresses, MSS, negotiated options, ISN, what reuse keeps. */
#include "tests/unit/segpeer.h"

#define MS NS_PER_MS

static const struct endpoint any;
static uint8_t bytes[4096];

static int connect_between(struct endpoint local, struct endpoint remote, ref *s)
{
	*s = sock_create(&t.cx);
	return tcb_connect(&t.cx, tcb_of(*s), &local, &remote);
}

/* conn_max is a limit on TCBs: to the last one, and freed ones count no more. */
static void test_limit(void)
{
	testcx_config(&t);
	t.config.conn_max = 3;
	t.config.keepidle = 11 * NS_PER_S;
	t.config.sndbuf_default = 7777;
	CHECK_FATAL(testcx_open(&t) == 0);
	ref a = sock_create(&t.cx);
	CHECK(a && sock_create(&t.cx) && sock_create(&t.cx));
	CHECK_EQ(sock_create(&t.cx), REF_NONE);
	CHECK_EQ(stack_of(&t.cx)->tcb_count, 3);
	sock_close(&t.cx, a);
	a = sock_create(&t.cx);
	CHECK_FATAL(a != REF_NONE);
	const struct tcb *c = tcb_of(a);
	CHECK_EQ(c->keepidle_s, 11);
	CHECK_EQ(c->sndbuf_limit, 7777);
	CHECK_EQ(c->linger_s, -1);
	CHECK_EQ(c->ttl, 64);
	CHECK_EQ(c->rto_ns, NS_PER_S);
	CHECK_EQ(c->oow_ack_last, NSEC_NEVER); /* no answer was ever given: the first is due at once */
	for (int i = 0; i < TIMER_COUNT; i++)
		CHECK_EQ(c->timer[i], NSEC_NEVER);
	finish();
}

/* MUST-46 and RFC 1122 3.2.1.3: where nobody connects to or from. Nothing leaves, nothing stays. */
static void test_addresses(void)
{
	struct endpoint lo = {ipaddr_v4(127, 0, 0, 1), 0}, foreign = {ipaddr_v4(10, 0, 0, 3), 0};
	struct endpoint six = {{{[0] = 0x20, [15] = 1}}, 80};
	const struct {
		struct endpoint local, remote;
		int err;
	} row[] = {{any, {ipaddr_v4(255, 255, 255, 255), 80}, -ENETUNREACH},
		   {any, {ipaddr_v4(10, 0, 0, 255), 80}, -ENETUNREACH},
		   {any, {ipaddr_v4(10, 0, 0, 0), 80}, -ENETUNREACH},
		   {any, {ipaddr_v4(224, 0, 0, 1), 80}, -ENETUNREACH},
		   {any, {ipaddr_v4(10, 0, 0, 1), 0}, -EADDRNOTAVAIL},
		   {foreign, peer_end(80), -EADDRNOTAVAIL},
		   {lo, peer_end(80), -EINVAL},
		   {any, six, -ENETUNREACH}};
	ref s;

	start();
	for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
		int err = connect_between(row[i].local, row[i].remote, &s);
		CHECK_MSG(err == row[i].err, "row %u: %d, want %d", i, err, row[i].err);
		CHECK_EQ(state_at(s), TCPS_CLOSED);
		CHECK(!tcb_of(s)->hashed && !tcb_of(s)->connect_started);
	}
	CHECK_EQ(t.frame_count, 0);
	CHECK_EQ(stack_counters(&t.cx)->tcp_active_open, 0);
	CHECK_EQ(connect_between(our_end(5555), peer_end(80), &s), 0);
	CHECK_EQ(connect_between(our_end(5555), peer_end(80), &s), -EADDRNOTAVAIL); /* the same four-tuple */
	CHECK_EQ(connect_between(our_end(5555), peer_end(81), &s), 0);
	CHECK_EQ(stack_counters(&t.cx)->tcp_active_open, 2);
	finish();
}

/* MUST-67, SHLD-6: the MTU less forty, or what the user wants if that is less. */
static void test_announced(void)
{
	static const struct {
		uint16_t mtu, user, want;
	} row[] = {{1500, 0, 1460}, {1500, 1461, 1460}, {1500, 1459, 1459},
		   {576, 0, 536},   {9000, 0, 8960},	{65535, 0, 65495}};
	ref s;

	start();
	for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
		stack_set_device(&t.cx, row[i].mtu, 0);
		s = sock_create(&t.cx);
		tcb_of(s)->user_mss = row[i].user;
		struct endpoint to = peer_end(80);
		CHECK_EQ(tcb_connect(&t.cx, tcb_of(s), &any, &to), 0);
		CHECK_EQ(heard().mss, row[i].want);
		CHECK_EQ(tcb_of(s)->adv_mss, row[i].want);
		CHECK_EQ(tcb_of(s)->snd_mss, 536); /* MUST-15 */
	}
	finish();
}

/* The peer's SYN: MUST-15, the floor of 48 (CVE-2019-11479), the ceiling of scale 14 (RFC 7323 2.3). */
static void test_negotiate(void)
{
	static const struct {
		uint16_t mss, user, want;
		bool has;
	} mss[] = {{9, 0, 536, false},	     {0, 0, 536, true},	      {1, 0, 48, true},
		   {47, 0, 48, true},	     {48, 0, 48, true},	      {49, 0, 49, true},
		   {1460, 0, 1460, true},    {65535, 0, 65535, true}, {0, 500, 500, false},
		   {1460, 1459, 1459, true}, {1460, 1461, 1460, true}};
	struct segment syn = {0};

	start();
	ref s = sock_create(&t.cx);
	struct tcb *c = tcb_of(s);
	c->remote = peer_end(80);
	c->local = our_end(80);
	tcb_start(&t.cx, c, seq_of(1));
	for (unsigned i = 0; i < ARRAY_LEN(mss); i++) {
		syn.has_mss = mss[i].has;
		syn.mss = mss[i].mss;
		c->user_mss = mss[i].user;
		tcb_negotiate(&t.cx, c, &syn);
		CHECK_MSG(c->peer_mss == mss[i].want, "mss %u: %u", mss[i].mss, c->peer_mss);
		CHECK_LE(c->snd_mss, 1460); /* MUST-16: our own limit */
	}
	CHECK(!c->ts_ok && !c->sack_ok && !c->wscale_ok);
	CHECK_EQ(c->rcv_wscale, 0); /* the peer does not scale: nor do we */
	syn.has_wscale = syn.has_ts = syn.has_sack_permitted = true;
	syn.ts_val = 0xfffffff0;
	for (unsigned w = 0; w < 256; w++) {
		syn.wscale = (uint8_t)w;
		tcb_negotiate(&t.cx, c, &syn);
		CHECK_EQ(c->snd_wscale, w < 14 ? w : 14);
	}
	CHECK(c->ts_ok && c->sack_ok && c->wscale_ok);
	CHECK_EQ(c->ts_recent, 0xfffffff0);
	CHECK_EQ(c->ts_recent_age, t.cx.now);
	struct stack_config *cfg = &stack_of(&t.cx)->config;
	cfg->timestamps = cfg->sack = cfg->wscale = false;
	tcb_negotiate(&t.cx, c, &syn);
	CHECK(!c->ts_ok && !c->sack_ok && !c->wscale_ok && !c->snd_wscale);
	finish();
}

/* Open and close us:80 -> peer:4000 with or without timestamps: a TIME-WAIT whose SND.NXT is ISN + 2. */
static void leave_timewait(bool ts)
{
	ref s;

	CHECK_EQ(connect_between(our_end(80), peer_end(4000), &s), 0);
	struct segment syn = heard();
	struct segment g = segment_from(4000, 80, TH_SYN | TH_ACK, 5000, syn.seq.v + 1, 0);
	g.has_ts = ts;
	g.ts_val = 1;
	g.ts_ecr = syn.ts_val;
	deliver_segment(g);
	sock_close(&t.cx, s);
	g = segment_from(4000, 80, TH_FIN | TH_ACK, 5001, syn.seq.v + 2, 0);
	g.has_ts = ts;
	g.ts_val = 2;
	deliver_segment(g);
	CHECK_EQ(pool_live(&t.cx, POOL_TIMEWAIT), 1);
	testcx_forget(&t);
}

/* MAY-2, RFC 6191: the new ISN lies 65537 above all that the old connection sent, or where the clock is by
 * then. */
static void test_timewait(void)
{
	ref s;

	start_with_isn(0xffffff00);
	leave_timewait(true);
	CHECK_EQ(connect_between(our_end(80), peer_end(4000), &s), 0);
	CHECK_EQ(heard().seq.v, 0xffffff00 + 2 + 65537); /* beyond the wrap */
	CHECK_EQ(pool_live(&t.cx, POOL_TIMEWAIT), 0);
	CHECK_EQ(stack_counters(&t.cx)->tcp_tw_reuse, 1);
	finish();

	start_with_isn(0xffffff00);
	leave_timewait(true);
	t.cx.now += NS_PER_S;
	CHECK_EQ(connect_between(our_end(80), peer_end(4000), &s), 0);
	CHECK_EQ(heard().seq.v, 0xffffff00u + 250000); /* four microseconds a tick */
	finish();

	start_with_isn(1);
	leave_timewait(false); /* nothing would tell old segments from new ones */
	CHECK_EQ(connect_between(our_end(80), peer_end(4000), &s), -EADDRNOTAVAIL);
	CHECK_EQ(pool_live(&t.cx, POOL_TIMEWAIT), 1);
	finish();
}

/* MUST-18: the SYN's round trip, exact; resent, only the echo tells which copy was answered. */
static void test_syn_sample(void)
{
	for (int resent = 0; resent < 2; resent++) {
		ref s;

		start();
		CHECK_EQ(connect_between(our_end(80), peer_end(4000), &s), 0);
		if (resent) {
			t.cx.now += NS_PER_S;
			stack_advance(&t.cx);
		}
		t.cx.now += 123 * MS + 456;
		deliver(TH_SYN | TH_ACK, 5000, tcb_of(s)->snd_nxt.v, 0);
		CHECK_EQ(tcb_of(s)->srtt_ns, resent ? 0 : 123 * MS + 456);
		/* RFC 6298 (5.7): no sample of a resent SYN: three seconds */
		CHECK_EQ(tcb_of(s)->rto_ns,
			 resent ? 3 * NS_PER_S : 123 * MS + 456 + 4 * ((123 * MS + 456) / 2));
		CHECK_EQ(tcb_of(s)->timer[TIMER_RTO], NSEC_NEVER);
		finish();
	}
	static const struct {
		uint32_t age;
		nsec want;
	} row[] = {{30, 30 * MS}, {0, MS}, {59999, 59999 * MS}, {60000, 0}, {UINT32_MAX, 0}};
	for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
		ref s;

		start();
		CHECK_EQ(connect_between(our_end(80), peer_end(4000), &s), 0);
		struct tcb *c = tcb_of(s);
		struct segment g = segment_from(4000, 80, TH_SYN | TH_ACK, 5000, c->snd_nxt.v, 0);
		c->retransmits = 1;
		c->ts_ok = g.has_ts = true;
		g.ts_ecr = ts_now(&t.cx, c) - row[i].age;
		tcb_syn_acked(&t.cx, c, &g);
		CHECK_MSG(c->srtt_ns == row[i].want, "age %u: %llu", row[i].age,
			  (unsigned long long)c->srtt_ns);
		finish();
	}
}

/* What becoming ESTABLISHED sets: marks at SND.UNA, the window's start, Linux's count of the SYN, every edge.
 */
static void test_established(void)
{
	uint32_t e;
	ref s;

	start_with_isn(0xffffffff);
	CHECK_EQ(connect_between(our_end(80), peer_end(4000), &s), 0);
	struct tcb *c = tcb_of(s);
	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_KEEPALIVE, 1), 0);
	deliver(TH_SYN | TH_ACK, 0xffffffff, 0, 0);
	CHECK_EQ(state_at(s), TCPS_ESTABLISHED);
	CHECK_EQ(c->snd_una.v, 0);
	CHECK_EQ(c->high_rxt.v | c->high_sacked.v | c->lost_edge.v | c->cwnd_usage_seq.v, 0);
	CHECK_EQ(c->recover.v, 0xffffffff); /* RFC 6582 3.2: the ISS */
	CHECK_EQ(c->rcv_nxt.v, 0);
	CHECK_EQ(c->bytes_acked, 1);
	CHECK_EQ(c->cwnd, 10 * 1460); /* RFC 6928 */
	CHECK_EQ(c->timer[TIMER_KEEPALIVE], t.cx.now + 7200 * NS_PER_S);
	CHECK_EQ(sock_next_edge(&t.cx, &e), s);
	CHECK_EQ(e, SOCK_EDGES_ALL | SOCK_TOLD_OUT);
	finish();
}

/* tcp_disconnect(): options, the caller's words and unread edges stay; all else is as at birth. */
static void test_reuse(void)
{
	uint32_t iss, e;
	uint16_t port;

	start();
	ref before = sock_create(&t.cx), s = connected(&iss, &port), after = sock_create(&t.cx);
	struct tcb *c = tcb_of(s);
	struct iovec iov = {bytes, sizeof bytes};
	while (sock_next_edge(&t.cx, &e))
		;
	sock_signal(&t.cx, tcb_of(before), SOCK_IN);
	sock_signal(&t.cx, c, SOCK_PRI);
	sock_signal(&t.cx, tcb_of(after), SOCK_IN);
	sock_user(&t.cx, s)[3] = 42;
	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_NODELAY, 1), 0);
	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_TTL, 9), 0);
	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_KEEPIDLE, 77), 0);
	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_SNDBUF, 10000), 0);
	CHECK_EQ(sock_send(&t.cx, s, &iov, 1, 0), sizeof bytes);
	deliver_from(4000, port, TH_ACK, 5001, iss + 1, 10);
	deliver_from(4000, port, TH_ACK, 5021, iss + 1, 10); /* out of order */
	output_mark(&t.cx, c);
	uint32_t tcbs = stack_of(&t.cx)->tcb_count;
	tcb_reset_for_reuse(&t.cx, c);
	CHECK_EQ(stack_buffer_bytes(&t.cx), 0);
	CHECK_EQ(state_at(s), TCPS_CLOSED);
	CHECK(!c->hashed && !c->output_queued && !c->node.queued && !c->connect_started);
	CHECK_EQ(c->remote.port, 0);
	CHECK_EQ(c->rcvbuf_limit, 131072);
	CHECK_EQ(c->sndbuf_limit, 20000);
	CHECK(c->nodelay && c->ttl == 9 && c->keepidle_s == 77);
	CHECK_EQ(sock_user(&t.cx, s)[3], 42);
	CHECK_EQ(stack_of(&t.cx)->tcb_count, tcbs);
	CHECK_EQ(sock_next_edge(&t.cx, &e), before);
	CHECK_EQ(sock_next_edge(&t.cx, &e), s);
	CHECK(e & SOCK_PRI);
	CHECK_EQ(sock_next_edge(&t.cx, &e), after);
	struct endpoint to = peer_end(4000);
	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), -EINPROGRESS);
	finish();
}

/* A TCB goes from the first, a middle and the last place of stack_flush()'s list; the others are still
 * visited. */
static void test_freed_in_output(void)
{
	for (int gone = 0; gone < 3; gone++) {
		uint32_t iss[3];
		uint16_t port[3];
		ref s[3];

		start();
		for (int i = 0; i < 3; i++)
			s[i] = connected(&iss[i], &port[i]);
		for (int i = 0; i < 3; i++)
			ack_schedule_now(&t.cx, tcb_of(s[i]));
		tcb_free(&t.cx, tcb_of(s[gone]));
		CHECK_EQ(stack_of(&t.cx)->tcb_count, 2);
		CHECK(stack_verify(&t.cx) == NULL);
		testcx_forget(&t);
		stack_flush(&t.cx);
		CHECK_EQ(t.frame_count, 2);
		finish();
	}
}

CHECK_MAIN("open", {"conn_max, and defaults", test_limit}, {"MUST-46: addresses of an open", test_addresses},
	   {"MUST-67, SHLD-6: the announced MSS", test_announced},
	   {"MUST-15, MUST-16: what the peer's SYN brings", test_negotiate},
	   {"MAY-2, RFC 6191: an ISN above the TIME-WAIT's", test_timewait},
	   {"MUST-18: the SYN's round trip", test_syn_sample}, {"what ESTABLISHED sets", test_established},
	   {"reuse after a failed connect", test_reuse}, {"freed while output waits", test_freed_in_output})
