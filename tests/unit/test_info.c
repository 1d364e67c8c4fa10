/* test_info.c - the figures of TCP_INFO: rounding, units, saturation, and what a listener shows. */
#include "tests/unit/sendkit.h"

static struct kit k;
static struct sock_info o;

static void look(void)
{
	memset(&o, 0xa5, sizeof o);
	CHECK_EQ(sock_info(&k.x.cx, k.sock, &o), 0);
}

/* Segments are octets rounded up: one octet outstanding is not nothing. */
static void test_rounding(void)
{
	static const struct {
		uint32_t octets, segments;
	} row[] = {{0, 0}, {1, 1}, {1448, 1}, {1449, 2}, {2896, 2}, {0x7fffffff, 1483069}};

	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, KIT_MS);
	struct tcb *c = kit_tcb(&k);
	for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
		c->sacked_bytes = c->lost_bytes = c->retrans_out = row[i].octets;
		c->snd_una = seq_of(c->snd_nxt.v - row[i].octets);
		look();
		CHECK_EQ(o.sacked, row[i].segments);
		CHECK_EQ(o.lost, row[i].segments);
		CHECK_EQ(o.retrans, row[i].segments);
		CHECK_EQ(o.unacked, row[i].segments);
	}
	kit_close(&k);
}

/* cwnd rounds down, for what does not fit does not leave; "no threshold" is Linux's largest number. */
static void test_windows(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, KIT_MS);
	struct tcb *c = kit_tcb(&k);
	c->cwnd = 3 * 1448 - 1;
	c->ssthresh = CWND_MAX;
	look();
	CHECK_EQ(o.snd_mss, 1448);
	CHECK_EQ(o.snd_cwnd, 2);
	CHECK_EQ(o.snd_ssthresh, 0x7fffffff);
	c->ssthresh = CWND_MAX - 1;
	look();
	CHECK_EQ(o.snd_ssthresh, (CWND_MAX - 1) / 1448);
	CHECK_EQ(o.snd_wnd, 60000);
	CHECK_EQ(o.rcv_wnd, c->rcv_wnd);
	/* the most that cwnd lets leave in a second */
	c->cwnd = CWND_MAX;
	c->srtt_ns = 1000;
	look();
	CHECK_EQ(o.pacing_rate, (uint64_t)CWND_MAX * 1000000);
	CHECK_EQ(o.max_pacing_rate, UINT64_MAX);
	c->srtt_ns = 0;
	look();
	CHECK_EQ(o.pacing_rate, 0);
	kit_close(&k);
}

/* Times in us from the handshake's round trip of 10 ms; then at the ends of their ranges. */
static void test_times(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
	struct tcb *c = kit_tcb(&k);
	look();
	CHECK_EQ(o.rtt, 10000);
	CHECK_EQ(o.rttvar, 5000);
	CHECK_EQ(o.min_rtt, 10000);
	CHECK_EQ(o.rto, 210000);
	c->srtt_ns = c->min_rtt_ns = 1; /* something was measured: not nothing */
	c->rttvar_ns = 999;
	c->rto_ns = UINT32_MAX * NS_PER_US + 999;
	look();
	CHECK_EQ(o.rtt, 1);
	CHECK_EQ(o.min_rtt, 1);
	CHECK_EQ(o.rttvar, 0);
	CHECK_EQ(o.rto, UINT32_MAX);
	c->rto_ns += 1;
	c->min_rtt_ns = NSEC_NEVER;
	c->srtt_ns = 0;
	c->ato_ms = 40;
	look();
	CHECK_EQ(o.rto, UINT32_MAX);
	CHECK_EQ(o.min_rtt, UINT32_MAX);
	CHECK_EQ(o.rtt, 0);
	CHECK_EQ(o.ato, 40000);
	kit_close(&k);
}

/* "Last" is milliseconds ago, whole ones; never and just now are both 0. */
static void test_last(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
	look();
	CHECK_EQ(o.last_data_sent, 0);
	CHECK_EQ(o.last_data_recv, 0);
	kit_write(&k, 10, 0);
	k.x.cx.now += 7 * KIT_MS;
	kit_data(&k, 11, 60000, 5);
	k.x.cx.now += 3 * KIT_MS - 1;
	look();
	CHECK_EQ(o.last_data_sent, 9);
	CHECK_EQ(o.last_data_recv, 2);
	CHECK_EQ(o.last_ack_recv, 2);
	k.x.cx.now += 1;
	look();
	CHECK_EQ(o.last_data_sent, 10);
	CHECK_EQ(o.last_data_recv, 3);
	k.x.cx.now = 0; /* a clock behind is no age */
	look();
	CHECK_EQ(o.last_data_sent, 0);
	kit_close(&k);
}

static void test_options(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, KIT_MS);
	struct tcb *c = kit_tcb(&k);
	look();
	CHECK_EQ(o.options, 1 | 2 | 4);
	CHECK_EQ(o.advmss, 1448); /* as Linux shows it */
	CHECK_EQ(o.rcv_wscale, 7);
	CHECK_EQ(o.pmtu, 1500);
	CHECK_EQ(o.reordering, 3);
	CHECK_EQ(o.state, 1);
	c->pmtu = 600;
	c->keep_probes = 2;
	c->persist_probes = 3;
	c->backoff = 5;
	c->persist_backoff = 4;
	c->retransmits = 6;
	look();
	CHECK_EQ(o.pmtu, 600);
	CHECK_EQ(o.probes, 3);
	CHECK_EQ(o.backoff, 5);
	CHECK_EQ(o.retransmits, 6);
	c->keep_probes = 4;
	c->persist_backoff = 6;
	look();
	CHECK_EQ(o.probes, 4);
	CHECK_EQ(o.backoff, 6);
	kit_close(&k);

	kit_open(&k, 0, 60000, 1460, KIT_MS);
	look();
	CHECK_EQ(o.options, 4);
	CHECK_EQ(o.advmss, 1460);
	CHECK_EQ(o.snd_mss, 1460);
	kit_close(&k);
}

/* What travelled: counted in octets and segments, the SYN of an active open among the acknowledged. */
static void test_totals(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 4 * 1448, 1460, KIT_MS);
	look();
	CHECK_EQ(o.bytes_acked, 1);
	CHECK_EQ(o.delivered, 1);
	CHECK_EQ(o.segs_in, 1);
	CHECK_EQ(o.segs_out, 2);
	kit_write(&k, 10000, 0);
	look();
	CHECK_EQ(o.bytes_sent, 4 * 1448);
	CHECK_EQ(o.unacked, 4);
	CHECK_EQ(o.notsent_bytes, 10000 - 4 * 1448);
	CHECK_EQ(o.data_segs_out, 4);
	CHECK_EQ(o.segs_out, 6);
	kit_ack(&k, 1449, 0);
	kit_data(&k, 1449, 0, 77);
	look();
	CHECK_EQ(o.bytes_acked, 1449);
	CHECK_EQ(o.unacked, 3);
	CHECK_EQ(o.bytes_received, 77);
	CHECK_EQ(o.data_segs_in, 1);
	CHECK_EQ(o.segs_in, 3);
	CHECK_EQ(o.snd_wnd, 0);
	kit_close(&k);
}

/* A listener shows its queue and its backlog, and nothing else (Linux's tcp_get_info). */
static void test_listener(void)
{
	struct endpoint any = {ipaddr_v4(0, 0, 0, 0), 80};

	memset(&k, 0, sizeof k);
	testcx_start(&k.x);
	k.sock = sock_create(&k.x.cx);
	CHECK_EQ(sock_listen(&k.x.cx, k.sock, &any, 7), 0);
	kit_tcb(&k)->accept_count = 3;
	look();
	struct sock_info want;
	memset(&want, 0, sizeof want);
	want.state = 10;
	want.unacked = 3;
	want.sacked = (uint32_t)kit_tcb(&k)->backlog;
	CHECK_EQ(want.sacked, 7);
	CHECK_MEM_EQ(&o, &want, sizeof o);
	kit_tcb(&k)->accept_count = 0;
	kit_close(&k);
}

/* A fresh socket has no segment size yet: nothing is divided by it. A dead ref is refused. */
static void test_fresh_and_dead(void)
{
	memset(&k, 0, sizeof k);
	testcx_start(&k.x);
	k.sock = sock_create(&k.x.cx);
	look();
	CHECK_EQ(o.state, 7);
	CHECK_EQ(o.unacked, 0);
	CHECK_EQ(o.notsent_bytes, 0);
	CHECK_EQ(o.min_rtt, UINT32_MAX);
	CHECK_EQ(o.rto, 1000000); /* RFC 6298 (2.1) */
	sock_close(&k.x.cx, k.sock);
	CHECK_EQ(sock_info(&k.x.cx, k.sock, &o), -EINVAL);
	CHECK_EQ(sock_info(&k.x.cx, REF_NONE, &o), -EINVAL);
	CHECK_EQ(sock_info(&k.x.cx, k.sock + 1, &o), -EINVAL);
	CHECK_EQ(sock_info(&k.x.cx, UINT32_MAX, &o), -EINVAL);
	kit_close(&k);
}

CHECK_MAIN("info", {"octets become segments", test_rounding}, {"windows and rates", test_windows},
	   {"times and their limits", test_times}, {"milliseconds since", test_last},
	   {"options, probes, back-off", test_options}, {"totals", test_totals},
	   {"a listener", test_listener}, {"a fresh socket and a dead one", test_fresh_and_dead})
