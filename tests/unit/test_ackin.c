/* test_ackin.c - what an acknowledgement does to the sender: its limits, window, samples, wrap-around. */
#include "core/send.h"
#include "tests/unit/segpeer.h"

#define MS NS_PER_MS

static uint32_t iss;
static uint8_t bytes[65536];

static ref begin_with(uint32_t isn)
{
	start_with_isn(isn);
	ref s = accepted(&iss);

	CHECK_EQ(iss, isn);
	return s;
}
static void put(ref s, uint64_t n)
{
	struct iovec iov = {bytes, n};

	CHECK_EQ(sock_send(&t.cx, s, &iov, 1, 0), n);
	testcx_forget(&t);
}
/* Step 5 alone, on a pure ACK of n octets of data. */
static bool ack(ref s, uint32_t n, uint32_t wnd)
{
	struct segment g = segment_from(4000, 80, TH_ACK, 5001, iss + 1 + n, 0);

	g.wnd = wnd;
	return ack_process(&t.cx, tcb_of(s), &g);
}

/* RFC 5961 5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT, to the octet. */
static void test_range(void)
{
	ref s = begin_with(1000);
	const struct stack_counters *n = stack_counters(&t.cx);

	put(s, 5000);
	CHECK(ack(s, 2000, 65535));
	CHECK_EQ(tcb_of(s)->snd_wnd_max, 65535);
	CHECK(ack(s, 2000 - 65535, 65535)); /* far below 0 of the sequence space, too */
	CHECK_EQ(n->tcp_ack_bad, 0);
	CHECK(!ack(s, 2000 - 65536, 65535));
	CHECK_EQ(n->tcp_ack_bad, 1);
	CHECK_EQ(n->tcp_challenge_ack, 1);
	CHECK(!ack(s, 5001, 65535)); /* never sent */
	CHECK_EQ(n->tcp_ack_bad, 2);
	CHECK_EQ(n->tcp_challenge_limited, 1);
	CHECK_EQ(tcb_of(s)->snd_una.v, iss + 2001);
	CHECK(ack(s, 5000, 65535));
	CHECK_EQ(tcb_of(s)->snd_una.v, iss + 5001);
	finish();
}

/* The sequence numbers wrap within the data; queue, counters and timers go on. */
static void test_wrap(void)
{
	ref s = begin_with(0xffffffffu - 2000);
	struct tcb *c = tcb_of(s);

	put(s, 6000);
	CHECK_EQ(c->snd_nxt.v, 4000);
	CHECK(ack(s, 1999, 60000));
	CHECK_EQ(c->snd_una.v, 0xffffffffu);
	CHECK_EQ(buffer_len(&c->sndbuf), 4001);
	CHECK(ack(s, 2000, 60001));
	CHECK_EQ(c->snd_una.v, 0);
	CHECK_EQ(c->snd_wnd, 60001);
	CHECK(ack(s, 1999, 60002)); /* older by one, across the wrap: changes nothing */
	CHECK_EQ(c->snd_una.v, 0);
	CHECK_EQ(c->snd_wnd, 60001);
	CHECK(!ack(s, 6001, 65535));
	CHECK(c->timer[TIMER_RTO] != NSEC_NEVER);
	CHECK(ack(s, 6000, 65535));
	CHECK_EQ(buffer_len(&c->sndbuf), 0);
	CHECK_EQ(c->sndbuf.start, 6000);
	CHECK_EQ(c->bytes_acked, 6000);
	CHECK_EQ(c->timer[TIMER_RTO], NSEC_NEVER); /* RFC 6298 (5.2) */
	finish();
}

static void window(ref s, uint32_t seq, uint32_t n, uint32_t wnd, uint32_t want)
{
	struct segment g = segment_from(4000, 80, TH_ACK, seq, iss + 1 + n, 0);

	g.wnd = wnd;
	CHECK(ack_process(&t.cx, tcb_of(s), &g));
	CHECK_MSG(tcb_of(s)->snd_wnd == want, "seq %u ack %u: window %u, want %u", seq, n, tcb_of(s)->snd_wnd,
		  want);
}

/* RFC 9293 3.10.7.4: WL1 < SEQ, or WL1 = SEQ and WL2 <= ACK; what is older says nothing about the window. */
static void test_window(void)
{
	ref s = begin_with(77);

	put(s, 5000);
	window(s, 5001, 100, 1000, 1000);
	window(s, 5001, 100, 900, 900); /* the same pair again: newer, for all we know */
	window(s, 5000, 100, 800, 900); /* an older segment */
	window(s, 5002, 100, 700, 700); /* newer by sequence number */
	window(s, 5001, 100, 600, 700); /* and back */
	window(s, 5001, 101, 500, 500); /* newer by acknowledgement, whatever its number */
	window(s, 5001, 100, 400, 500); /* an old acknowledgement */
	CHECK_EQ(tcb_of(s)->snd_wl1.v, 5001);
	CHECK_EQ(tcb_of(s)->snd_wl2.v, iss + 102);
	CHECK_EQ(tcb_of(s)->snd_wnd_max, 65535); /* the largest ever, not the latest */
	tcb_of(s)->snd_wscale = 14;
	window(s, 5003, 101, 65535, 65535u << 14); /* REC-1, MUST-1: 30 bits, unsigned */
	finish();
}

/* Zero windows count when something waits for them, once. */
static void test_zero_window(void)
{
	ref s = begin_with(5);
	const struct stack_counters *n = stack_counters(&t.cx);

	put(s, 1000);
	CHECK(ack(s, 1000, 0)); /* nothing waits */
	CHECK_EQ(n->tcp_zero_window_in, 0);
	CHECK(ack(s, 1000, 500));
	put(s, 1000);
	CHECK(snd_unsent(tcb_of(s)) > 0);
	CHECK(ack(s, 1000 + (1000 - (uint32_t)snd_unsent(tcb_of(s))), 0));
	CHECK_EQ(n->tcp_zero_window_in, 1);
	CHECK(ack(s, 1000 + (1000 - (uint32_t)snd_unsent(tcb_of(s))), 0));
	CHECK_EQ(n->tcp_zero_window_in, 1);
	finish();
}

/* MUST-18, RFC 6298 3: the timed octet must be covered, not only reached. */
static void test_timed_sample(void)
{
	ref s = begin_with(0xffffffffu);
	struct tcb *c = tcb_of(s);

	rtt_init(&t.cx, c);
	put(s, 1000); /* the first octet is number 0 */
	CHECK(c->rtt_timing);
	CHECK_EQ(c->rtt_seq.v, 0);
	t.cx.now += 70 * MS + 1;
	struct segment reached = segment_from(4000, 80, TH_ACK, 5001, 0, 0);
	rtt_on_ack(&t.cx, c, &reached);
	CHECK(c->rtt_timing);
	CHECK(ack(s, 1, 60000));
	CHECK(!c->rtt_timing);
	CHECK_EQ(c->srtt_ns, 70 * MS + 1);
	CHECK_EQ(c->rttvar_ns, (70 * MS + 1) / 2);
	CHECK_EQ(c->min_rtt_ns, 70 * MS + 1);
	t.cx.now += 5 * MS;
	CHECK(ack(s, 1000, 60000)); /* one sample a flight */
	CHECK_EQ(c->min_rtt_ns, 70 * MS + 1);
	finish();
}

/* RFC 7323 4: after a retransmission the echo says which copy; never an echo from the future. */
static void test_echo_sample(void)
{
	static const struct {
		uint32_t age; /* of the echo, ms */
		nsec want;
	} row[] = {{7, 7 * MS}, {0, MS / 2}, {UINT32_MAX, 0}, {INT32_MAX, 120 * NS_PER_S}, {1u << 31, 0}};
	ref s = begin_with(9);
	struct tcb *c = tcb_of(s);
	struct segment g = segment_from(4000, 80, TH_ACK, 5001, iss + 2, 0);

	c->ts_ok = g.has_ts = true;
	for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
		rtt_init(&t.cx, c);
		c->retransmits = 1;
		g.ts_ecr = ts_now(&t.cx, c) - row[i].age;
		rtt_on_ack(&t.cx, c, &g);
		CHECK_MSG(c->srtt_ns == row[i].want, "age %u: %llu", row[i].age,
			  (unsigned long long)c->srtt_ns);
	}
	rtt_sample(&t.cx, c, 10 * MS);
	c->retransmits = 0; /* nothing ambiguous: the timed segment is more exact */
	g.ts_ecr = ts_now(&t.cx, c) - 3;
	rtt_on_ack(&t.cx, c, &g);
	CHECK_EQ(c->srtt_ns, 10 * MS);
	c->retransmits = 1;
	g.ts_ecr = 0; /* none */
	rtt_on_ack(&t.cx, c, &g);
	CHECK_EQ(c->srtt_ns, 10 * MS);
	c->retransmits = 0;
	finish();
}

/* RFC 5681 2: a duplicate ACK is one by all five conditions. */
static void test_duplicates(void)
{
	ref s = begin_with(0xfffffffeu);
	struct tcb *c = tcb_of(s);
	const struct stack_counters *n = stack_counters(&t.cx);

	CHECK(ack(s, 0, 60000));
	CHECK(ack(s, 0, 60000)); /* (a) nothing is outstanding */
	CHECK_EQ(n->tcp_dup_ack, 0);
	put(s, 5000);
	CHECK(ack(s, 0, 60001)); /* (e) the window moved */
	struct segment g = segment_from(4000, 80, TH_ACK, 5001, iss + 1, 10);
	g.wnd = 60001;
	CHECK(ack_process(&t.cx, c, &g)); /* (b) it has data */
	g.len = 0;
	g.flags |= TH_FIN;
	CHECK(ack_process(&t.cx, c, &g)); /* (c) */
	g.flags = TH_ACK;
	g.seq_wire = seq_of(4991);
	CHECK(ack_process(&t.cx, c, &g)); /* it had data, all of it old */
	CHECK(ack(s, UINT32_MAX, 60001)); /* (d) below SND.UNA */
	CHECK_EQ(n->tcp_dup_ack, 0);
	CHECK(ack(s, 0, 60001));
	CHECK_EQ(n->tcp_dup_ack, 1);
	CHECK_EQ(c->dup_acks, 1);
	finish();
}

/* A current ACK proves that the peer lives; one that advances ends the back-off; an old one does neither. */
static void test_proof_of_life(void)
{
	ref s = begin_with(3);
	struct tcb *c = tcb_of(s);

	put(s, 3000);
	CHECK(ack(s, 1000, 60000));
	c->keep_probes = c->persist_probes = c->persist_backoff = c->retransmits = 4;
	c->soft_error = EHOSTUNREACH;
	nsec before = c->last_ack_recv;
	t.cx.now += MS;
	CHECK(ack(s, 999, 60000));
	CHECK_EQ(c->keep_probes, 4);
	CHECK_EQ(c->soft_error, EHOSTUNREACH);
	CHECK_EQ(c->last_ack_recv, before);
	CHECK(ack(s, 1000, 60000));
	CHECK_EQ(c->keep_probes + c->persist_probes, 0);
	CHECK_EQ(c->soft_error, 0);
	CHECK_EQ(c->last_ack_recv, t.cx.now);
	CHECK_EQ(c->retransmits, 4);
	CHECK(ack(s, 1001, 60000));
	CHECK_EQ(c->retransmits + c->persist_backoff, 0);
	finish();
}

/* The FIN is an octet of sequence space but none of the queue; the urgent mark goes when it is passed. */
static void test_fin_and_urgent(void)
{
	ref s = begin_with(0xffffffffu - 10); /* the last octet is number 0xffffffff, the FIN 0 */
	struct tcb *c = tcb_of(s);
	struct iovec iov = {bytes, 10};

	CHECK_EQ(sock_send(&t.cx, s, &iov, 1, SOCK_MSG_OOB), 10);
	CHECK_EQ(c->snd_up.v, 0);
	CHECK_EQ(sock_shutdown(&t.cx, s, 1), 0);
	stack_flush(&t.cx);
	CHECK_EQ(c->snd_nxt.v, 1);
	CHECK(ack(s, 9, 60000));
	CHECK(c->urg_out && !c->fin_acked);
	CHECK(ack(s, 10, 60000));
	CHECK(!c->urg_out && !c->fin_acked);
	CHECK_EQ(buffer_len(&c->sndbuf), 0);
	deliver(TH_ACK, 5001, iss + 12, 0);
	CHECK(c->fin_acked);
	CHECK_EQ(c->bytes_acked, 11); /* as Linux counts */
	CHECK_EQ(state_at(s), TCPS_FIN_WAIT_2);
	finish();
}

CHECK_MAIN("ackin", {"RFC 5961 5.2: which ACKs are acceptable", test_range},
	   {"sequence numbers wrap within the data", test_wrap},
	   {"REC-1: SND.WL1 and SND.WL2 guard the window", test_window},
	   {"zero windows are counted", test_zero_window}, {"MUST-18: the timed sample", test_timed_sample},
	   {"RFC 7323 4: the echoed sample", test_echo_sample}, {"RFC 5681 2: duplicates", test_duplicates},
	   {"proof of life", test_proof_of_life}, {"FIN and urgent mark", test_fin_and_urgent})
