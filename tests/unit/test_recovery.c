/* test_recovery.c - losses repaired: RFC 5681, 3042, 6582, 6675, 9937, 6298, 3522. */
#include "tests/unit/sendkit.h"

#define M      1448u
#define SEG(n) (1 + (n)*M) /* first octet of segment n */

static struct kit k;

/* An established connection with ten segments in flight and plenty queued. */
static void ten_in_flight(unsigned options)
{
	kit_open(&k, options, 65000, 1460, 10 * KIT_MS);
	if (!(options & KIT_TS))
		kit_tcb(&k)->snd_mss = M;
	kit_tcb(&k)->sndbuf_limit = 1 << 20;
	kit_tcb(&k)->cwnd = 10 * M;
	kit_write(&k, 100 * M, 0);
	CHECK_EQ(kit_tcb(&k)->snd_nxt.v, k.iss + SEG(10));
}

static void sack_recovery(void)
{
	ten_in_flight(KIT_TS | KIT_SACK);
	/* segments 0 and 4 are lost */
	kit_ack_sack(&k, 1, 65000, 1, (struct kit_range[]){{SEG(1), SEG(2)}});
	CHECK_EQ(k.x.frame_count, 1);
	CHECK_SENT(&k, 0, SEG(10), M); /* RFC 3042 */
	kit_ack_sack(&k, 1, 65000, 1, (struct kit_range[]){{SEG(1), SEG(3)}});
	CHECK_SENT(&k, 0, SEG(11), M);
	kit_ack_sack(&k, 1, 65000, 1, (struct kit_range[]){{SEG(1), SEG(4)}});
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_RECOVERY);
	CHECK_SENT(&k, 0, 1, M); /* the fast retransmit */
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_fast_retrans, 1);
	CHECK_EQ(kit_tcb(&k)->ssthresh, 7 * M);
	uint32_t resent = 0, fresh = 0;
	for (uint32_t i = 6; i <= 12; i++) {
		kit_ack_sack(&k, 1, 65000, 2, (struct kit_range[]){{SEG(5), SEG(i)}, {SEG(1), SEG(4)}});
		for (uint32_t f = 0; f < k.x.frame_count; f++) {
			struct segment s = kit_frame(&k, f);
			resent += s.seq.v == SEG(4);
			fresh += s.seq.v >= SEG(12);
			CHECK(s.seq.v != 1); /* once per recovery */
		}
	}
	CHECK_EQ(resent, 1);
	CHECK(fresh >= 2); /* RFC 9937: about seven tenths of what arrives lets new data leave */
	CHECK(snd_inflight(kit_tcb(&k)) <= 9 * M);
	kit_ack(&k, SEG(12), 65000);
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_OPEN);
	CHECK_EQ(kit_tcb(&k)->cwnd, 7 * M);
	CHECK_EQ(kit_tcb(&k)->lost_bytes, 0);
	CHECK_EQ(kit_tcb(&k)->retrans_out, 0);
	CHECK_EQ(kit_tcb(&k)->total_rto, 0);
	kit_close(&k);
}

static void newreno(void)
{
	ten_in_flight(KIT_TS | KIT_RENO);
	kit_ack(&k, 1, 65000);
	CHECK_SENT(&k, 0, SEG(10), M); /* RFC 3042 */
	kit_ack(&k, 1, 65000);
	CHECK_SENT(&k, 0, SEG(11), M);
	kit_ack(&k, 1, 65000);
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_RECOVERY);
	CHECK_SENT(&k, 0, 1, M);
	/* RFC 6582 3.2: segment 4 is missing too, a partial ACK resends it at once */
	for (int i = 0; i < 3; i++)
		kit_ack(&k, 1, 65000);
	kit_ack(&k, SEG(4), 65000);
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_RECOVERY);
	CHECK(k.x.frame_count >= 1);
	CHECK_SENT(&k, 0, SEG(4), M);
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_partial_ack, 1);
	kit_ack(&k, SEG(20), 65000);
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_fast_retrans, 1);
	kit_close(&k);
}

static void newreno_exit(void)
{
	ten_in_flight(KIT_TS | KIT_RENO);
	for (int i = 0; i < 3; i++)
		kit_ack(&k, 1, 65000);
	uint32_t recover = kit_tcb(&k)->recover.v - k.iss;
	kit_ack(&k, recover, 65000);
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_OPEN);
	CHECK_EQ(kit_tcb(&k)->cwnd, kit_tcb(&k)->ssthresh);
	CHECK_EQ(kit_tcb(&k)->ssthresh, 5 * M);
	kit_close(&k);
}

static void forged_duplicates(void)
{
	ten_in_flight(KIT_TS | KIT_RENO);
	/* Savage 1999: a thousand duplicate ACKs for ten segments in flight */
	uint32_t most = 0;
	for (int i = 0; i < 1000; i++) {
		kit_ack(&k, 1, 65000);
		most = MAX_OF(most, kit_tcb(&k)->snd_nxt.v - k.iss);
	}
	CHECK(most <= SEG(44)); /* the peer's window bounds it; the duplicates alone do not open it */
	CHECK(kit_tcb(&k)->sacked_bytes <= snd_outstanding(kit_tcb(&k)));
	kit_close(&k);
}

static void timeout(void)
{
	ten_in_flight(KIT_TS | KIT_SACK);
	testcx_forget(&k.x);
	nsec rto = kit_tcb(&k)->rto_ns;
	kit_wait(&k, rto + KIT_MS);
	CHECK_EQ(k.x.frame_count, 1);
	CHECK_SENT(&k, 0, 1, M);
	CHECK_EQ(kit_tcb(&k)->cwnd, M); /* RFC 5681: the loss window */
	CHECK_EQ(kit_tcb(&k)->ssthresh, 7 * M);
	testcx_forget(&k.x);
	kit_wait(&k, 2 * rto); /* RFC 6298 5.5 */
	CHECK_EQ(k.x.frame_count, 1);
	CHECK_EQ(kit_tcb(&k)->ssthresh, 7 * M); /* not reduced again for the same segment */
	CHECK_EQ(kit_tcb(&k)->retransmits, 2);
	/* go-back: slow start through the rest; the ACK is of the resent copy */
	kit_ack(&k, SEG(1), 65000);
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_LOSS);
	CHECK_EQ(k.x.frame_count, 2);
	CHECK_SENT(&k, 0, SEG(1), M);
	CHECK_SENT(&k, 1, SEG(2), M);
	CHECK_EQ(kit_tcb(&k)->retransmits, 0);
	kit_ack(&k, SEG(10), 65000);
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_OPEN);
	kit_close(&k);
}

static void timeout_keeps_sack(void)
{
	ten_in_flight(KIT_TS | KIT_SACK);
	/* one range of two segments: not enough for IsLost() */
	kit_ack_sack(&k, 1, 65000, 1, (struct kit_range[]){{SEG(2), SEG(4)}});
	uint32_t top = kit_tcb(&k)->snd_nxt.v - k.iss;
	testcx_forget(&k.x);
	kit_wait(&k, kit_tcb(&k)->rto_ns + KIT_MS);
	CHECK_SENT(&k, 0, 1, M);
	kit_ack_sack(&k, SEG(1), 65000, 1, (struct kit_range[]){{SEG(2), SEG(4)}});
	CHECK_EQ(k.x.frame_count, 2);
	CHECK_SENT(&k, 0, SEG(1), M);
	CHECK_SENT(&k, 1, SEG(4), M); /* RFC 6675 5.1: SACKed octets are not sent again */
	kit_ack(&k, top, 65000);
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_OPEN);
	kit_close(&k);
}

static void reneging(void)
{
	ten_in_flight(KIT_TS | KIT_SACK);
	kit_ack_sack(&k, 1, 65000, 1, (struct kit_range[]){{SEG(1), SEG(4)}});
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_RECOVERY);
	kit_ack(&k, SEG(1), 65000); /* the hole is filled, and the rest forgotten */
	kit_wait(&k, 2 * NS_PER_S);
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_sack_reneging, 1);
	CHECK_EQ(kit_tcb(&k)->sacked_bytes, 0);
	bool again = false;
	for (uint32_t i = 0; i < k.x.frame_count; i++)
		again |= kit_frame(&k, i).seq.v == SEG(1);
	CHECK(again);
	kit_close(&k);
}

static void spurious_timeout(void)
{
	ten_in_flight(KIT_TS | KIT_SACK);
	kit_learn(&k);
	uint32_t original = k.last_ts;
	testcx_forget(&k.x);
	kit_wait(&k, kit_tcb(&k)->rto_ns + KIT_MS);
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_LOSS);
	k.echo = original; /* RFC 3522: the ACK answers the first copy */
	kit_ack(&k, SEG(2), 65000);
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_OPEN);
	CHECK(kit_tcb(&k)->cwnd >= 10 * M);
	CHECK_EQ(kit_tcb(&k)->lost_bytes, 0);
	for (uint32_t i = 0; i < k.x.frame_count; i++)
		CHECK(kit_frame(&k, i).seq.v >= SEG(10)); /* nothing more is resent */
	kit_close(&k);
}

static void lost_retransmission(void)
{
	ten_in_flight(KIT_TS | KIT_SACK);
	kit_ack_sack(&k, 1, 65000, 1, (struct kit_range[]){{SEG(1), SEG(5)}});
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_RECOVERY);
	testcx_forget(&k.x);
	kit_wait(&k, kit_tcb(&k)->rto_ns + 50 * KIT_MS);
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_LOSS);
	CHECK_SENT(&k, 0, 1, M);
	kit_close(&k);
}

static void rescue(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 65000, 1460, 10 * KIT_MS);
	kit_write(&k, 8 * M, 0);
	testcx_forget(&k.x);
	/* 0 and the last two are lost, and there is nothing new to send */
	kit_ack_sack(&k, 1, 65000, 1, (struct kit_range[]){{SEG(1), SEG(6)}});
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_RECOVERY);
	bool tail = false;
	for (uint32_t i = 0; i < k.x.frame_count; i++)
		tail |= kit_frame(&k, i).seq.v == SEG(7);
	for (int n = 0; n < 3 && !tail; n++) {
		kit_ack_sack(&k, n ? SEG(6) : 1, 65000, n ? 0 : 1, (struct kit_range[]){{SEG(1), SEG(6)}});
		for (uint32_t i = 0; i < k.x.frame_count; i++)
			tail |= kit_frame(&k, i).seq.v == SEG(7);
	}
	CHECK(kit_tcb(&k)->total_rto == 0);
	kit_close(&k);
}

/* How often the first octet of segment n left since the last input. */
static uint32_t times_sent(uint32_t n)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < k.x.frame_count; i++)
		count += kit_frame(&k, i).seq.v == SEG(n);
	return count;
}

static void loss_above_recovery_point(void)
{
	ten_in_flight(KIT_TS | KIT_SACK);
	/* 0 is lost; everything else up to 11 arrives, and 12, sent during the recovery, is lost as well */
	for (uint32_t i = 2; i <= 12; i++)
		kit_ack_sack(&k, 1, 65000, 1, (struct kit_range[]){{SEG(1), SEG(i)}});
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_RECOVERY);
	uint32_t recover = kit_tcb(&k)->recover.v - k.iss, top = kit_tcb(&k)->snd_nxt.v - k.iss;
	CHECK_EQ(recover, SEG(12));
	CHECK(top >= SEG(16));
	uint32_t resent = 0;
	for (uint32_t i = 14; SEG(i) <= top; i++) {
		kit_ack_sack(&k, 1, 65000, 2, (struct kit_range[]){{SEG(13), SEG(i)}, {SEG(1), SEG(12)}});
		resent += times_sent(12);
	}
	CHECK_EQ(resent, 1);
	/* the first episode ends, the next begins: 12 is on its way already */
	kit_ack_sack(&k, SEG(12), 65000, 1, (struct kit_range[]){{SEG(13), top}});
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_RECOVERY);
	CHECK_EQ(times_sent(12), 0);
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_fast_retrans, 2);
	kit_ack(&k, kit_tcb(&k)->snd_nxt.v - k.iss, 65000);
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_OPEN);
	kit_close(&k);
}

static void super_retransmission(void)
{
	ten_in_flight(KIT_TS | KIT_SACK | KIT_TSO);
	kit_ack_sack(&k, 1, 65000, 1, (struct kit_range[]){{SEG(4), SEG(10)}});
	bool run = false;
	uint32_t octets = 0;
	for (uint32_t i = 0; i < k.x.frame_count; i++) {
		struct segment s = kit_frame(&k, i);
		if (s.seq.v < SEG(4)) {
			octets += s.len;
			run |= s.gso_size == M;
			CHECK(s.seq.v + s.len <= SEG(4)); /* limited to the lost run */
		}
	}
	CHECK_EQ(octets, 4 * M);
	CHECK(run);
	kit_close(&k);
}

static void karn(void)
{
	kit_open(&k, KIT_SACK, 65000, 1460, 10 * KIT_MS);
	nsec srtt = kit_tcb(&k)->srtt_ns;
	kit_write(&k, 100, 0);
	testcx_forget(&k.x);
	kit_wait(&k, 5 * NS_PER_S);
	nsec rto = kit_tcb(&k)->rto_ns;
	kit_ack(&k, 101, 65000);
	CHECK_EQ(kit_tcb(&k)->srtt_ns, srtt); /* MUST-18: no sample from a resent segment */
	CHECK_EQ(kit_tcb(&k)->rto_ns, rto);
	kit_close(&k);
}

static void restart_on_ack(void)
{
	ten_in_flight(KIT_TS | KIT_SACK);
	kit_wait(&k, 150 * KIT_MS);
	kit_ack(&k, SEG(1), 65000);
	nsec rto = kit_tcb(&k)->rto_ns;
	testcx_forget(&k.x);
	kit_wait(&k, rto - KIT_MS); /* RFC 6298 5.3: counted from the ACK */
	CHECK_EQ(k.x.frame_count, 0);
	kit_wait(&k, 2 * KIT_MS);
	CHECK_EQ(k.x.frame_count, 1);
	kit_close(&k);
}

CHECK_MAIN("recovery", {"RFC 6675, 3042, 9937: two holes, one round trip", sack_recovery},
	   {"RFC 6582 3.2: partial ACKs without SACK", newreno},
	   {"RFC 6582 3.2: a full ACK ends the recovery at ssthresh", newreno_exit},
	   {"Savage 1999: forged duplicate ACKs open no more than the data in flight", forged_duplicates},
	   {"RFC 5681 3.1, RFC 6298 5.4-5.6: time-out, back-off, go-back", timeout},
	   {"RFC 6675 5.1: SACK information survives a time-out", timeout_keeps_sack},
	   {"RFC 2018 8: reneging", reneging},
	   {"RFC 3522, 4015: a spurious time-out is taken back", spurious_timeout},
	   {"a lost retransmission waits for the RTO", lost_retransmission},
	   {"RFC 6675 4 (4): the rescue retransmission", rescue},
	   {"RFC 6675: what a recovery resent above its end is not sent again by the next",
	    loss_above_recovery_point},
	   {"a retransmission may be a super-segment of the lost run", super_retransmission},
	   {"MUST-18: Karn", karn},
	   {"RFC 6298 5.3: the timer restarts on an ACK of new data", restart_on_ack})
