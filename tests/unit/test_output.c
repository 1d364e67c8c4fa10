/* test_output.c - what is sent when: windows, Nagle, SWS, cork, super-segments, probes, limits. */
#include "tests/unit/sendkit.h"

static struct kit k;

static void initial_burst(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
	CHECK_EQ(kit_tcb(&k)->snd_mss, 1448); /* MUST-16 */
	kit_write(&k, 16000, 0);
	/* RFC 6928: ten segments */
	CHECK_EQ(k.x.frame_count, 10);
	for (uint32_t i = 0; i < 10; i++)
		CHECK_SENT(&k, i, 1 + i * 1448, 1448);
	kit_ack(&k, 1 + 2 * 1448, 60000);
	CHECK_EQ(k.x.frame_count, 2); /* two and the rest of the write */
	CHECK_SENT(&k, 0, 1 + 10 * 1448, 1448);
	CHECK_SENT(&k, 1, 1 + 11 * 1448, 16000 - 11 * 1448);
	struct segment last = kit_frame(&k, 1);
	CHECK_EQ(last.flags, TH_ACK | TH_PSH); /* MUST-61 */
	kit_close(&k);
}

static void super_segment(void)
{
	kit_open(&k, KIT_TS | KIT_SACK | KIT_TSO, 60000, 1460, 10 * KIT_MS);
	kit_write(&k, 16000, 0);
	CHECK_EQ(k.x.frame_count, 1);
	CHECK_SENT(&k, 0, 1, 14480);
	CHECK_EQ(kit_frame(&k, 0).gso_size, 1448);
	CHECK(!(kit_frame(&k, 0).flags & TH_PSH));
	kit_ack(&k, 1 + 14480, 60000);
	CHECK_SENT(&k, 0, 14481, 1520);
	CHECK(kit_frame(&k, 0).flags & TH_PSH);
	kit_close(&k);
}

/* Two super-segments and a tail: frames that leave at once, on a path with that round trip. */
static uint32_t frames_of_a_write(nsec rtt)
{
	kit_open(&k, KIT_TS | KIT_SACK | KIT_TSO, 60000, 1460, rtt);
	struct tcb *t = kit_tcb(&k);
	t->cwnd = t->snd_wnd = t->snd_wnd_max = 1000000;
	t->sndbuf_limit = 1000000;
	t->sndbuf_locked = true;
	kit_write(&k, 2 * 65160 + 3000, 0);
	CHECK_SENT(&k, 1, 65161, 65160);
	return k.x.frame_count;
}

/* The tail waits for an ACK where that is microseconds away, and leaves with it; elsewhere it does not wait.
 */
static void coalescing(void)
{
	CHECK_EQ(frames_of_a_write(10 * KIT_MS), 3);
	CHECK_SENT(&k, 2, 1 + 2 * 65160, 3000);
	kit_close(&k);
	CHECK_EQ(frames_of_a_write(KIT_MS / 5), 2);
	kit_ack(&k, 1 + 2 * 65160, 60000);
	CHECK_EQ(k.x.frame_count, 1);
	CHECK_SENT(&k, 0, 1 + 2 * 65160, 3000);
	kit_close(&k);
}

static void nagle(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
	kit_write(&k, 10, 0); /* MUST-60: nothing in flight, it goes at once */
	CHECK_EQ(k.x.frame_count, 1);
	kit_write(&k, 10, 0); /* SHLD-7 */
	kit_write(&k, 10, 0);
	CHECK_EQ(k.x.frame_count, 1);
	kit_ack(&k, 11, 60000);
	CHECK_EQ(k.x.frame_count, 1);
	CHECK_SENT(&k, 0, 11, 20);
	kit_close(&k);
}

static void minshall(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
	kit_write(&k, 1448, 0); /* full: it does not hold back a small one */
	kit_write(&k, 10, 0);
	CHECK_EQ(k.x.frame_count, 2);
	kit_write(&k, 10, 0);
	CHECK_EQ(k.x.frame_count, 2);
	kit_close(&k);
}

static void nodelay(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_NODELAY, 1), 0);
	kit_write(&k, 10, 0);
	kit_write(&k, 10, 0);
	CHECK_EQ(k.x.frame_count, 2);
	kit_close(&k);
}

static void cork(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_CORK, 1), 0);
	kit_write(&k, 10, 0);
	CHECK_EQ(k.x.frame_count, 0);
	kit_wait(&k, 199 * KIT_MS);
	CHECK_EQ(k.x.frame_count, 0);
	kit_wait(&k, 2 * KIT_MS);
	CHECK_EQ(k.x.frame_count, 1);
	kit_ack(&k, 11, 60000);
	kit_write(&k, 2000, 0); /* whole segments pass */
	CHECK_EQ(k.x.frame_count, 1);
	CHECK_SENT(&k, 0, 11, 1448);
	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_CORK, 0), 0);
	stack_flush(&k.x.cx);
	CHECK_EQ(k.x.frame_count, 2);
	CHECK_SENT(&k, 1, 1459, 552);
	kit_close(&k);
}

static void msg_more(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
	kit_write(&k, 10, SOCK_MSG_MORE);
	CHECK_EQ(k.x.frame_count, 0);
	kit_write(&k, 10, 0);
	CHECK_EQ(k.x.frame_count, 1);
	CHECK_SENT(&k, 0, 1, 20);
	kit_close(&k);
}

static void silly_window(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 8000, 1460, 10 * KIT_MS);
	kit_write(&k, 16000, 0);
	CHECK_EQ(k.x.frame_count, 5);  /* five segments fit in 8000; the rest is less than half the window */
	kit_ack(&k, 1 + 5 * 1448, 10); /* opens by ten octets */
	CHECK_EQ(k.x.frame_count, 0);
	kit_wait(&k, 150 * KIT_MS);
	CHECK_EQ(k.x.frame_count, 0);
	kit_wait(&k, 60 * KIT_MS); /* the override time-out, 0.1 to 1 s */
	CHECK_EQ(k.x.frame_count, 1);
	CHECK_SENT(&k, 0, 1 + 5 * 1448, 10);
	kit_ack(&k, 11 + 5 * 1448, 4000); /* half the largest window */
	CHECK_EQ(k.x.frame_count, 2);
	kit_close(&k);
}

static void small_windows_flow(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 1000, 1460, 10 * KIT_MS);
	kit_write(&k, 3000, 0);
	CHECK_EQ(k.x.frame_count, 1); /* MUST-38 (3): all of a window below the MSS */
	CHECK_SENT(&k, 0, 1, 1000);
	kit_ack(&k, 1001, 1000);
	CHECK_SENT(&k, 0, 1001, 1000);
	kit_close(&k);
}

static void persist(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 1448, 1460, 10 * KIT_MS);
	kit_write(&k, 4000, 0);
	CHECK_EQ(k.x.frame_count, 1);
	kit_ack(&k, 1449, 0);
	CHECK_EQ(k.x.frame_count, 0);
	nsec interval = kit_tcb(&k)->rto_ns; /* SHLD-29 */
	for (int i = 0; i < 20; i++) {
		kit_wait(&k, interval - (i ? 2 : 1) * KIT_MS); /* the last one was passed by a millisecond */
		CHECK_EQ(k.x.frame_count, 0);
		kit_wait(&k, 2 * KIT_MS);
		CHECK_EQ(k.x.frame_count, 1); /* SHLD-30 */
		CHECK_SENT(&k, 0, 1448, 0);   /* one below SND.UNA, without data */
		interval = MIN_OF(2 * interval, 120 * NS_PER_S);
		kit_ack(&k, 1449, 0); /* MUST-37: as long as probes are answered */
		CHECK_EQ(kit_tcb(&k)->state, TCPS_ESTABLISHED);
	}
	kit_ack(&k, 1449, 60000);
	CHECK_EQ(k.x.frame_count, 2);
	CHECK_SENT(&k, 0, 1449, 1448);
	kit_close(&k);
}

static void persist_gives_up(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 1448, 1460, 10 * KIT_MS);
	kit_write(&k, 4000, 0);
	kit_ack(&k, 1449, 0);
	kit_wait(&k, 3600 * NS_PER_S);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_CLOSED);
	CHECK_EQ(sock_take_error(&k.x.cx, k.sock), ETIMEDOUT);
	kit_close(&k);
}

static void shrunk_window(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 20000, 1460, 10 * KIT_MS);
	kit_write(&k, 16000, 0);
	CHECK_EQ(k.x.frame_count, 10);
	kit_ack(&k, 1449, 1448);      /* MUST-34: the right edge moved left over what is in flight */
	CHECK_EQ(k.x.frame_count, 0); /* SHLD-15 */
	kit_wait(&k, 300 * KIT_MS);
	CHECK_EQ(k.x.frame_count, 1); /* SHLD-16 */
	CHECK_SENT(&k, 0, 1449, 1448);
	/* SHLD-17: an hour of answers with a closed window */
	for (int i = 0; i < 60; i++) {
		kit_ack(&k, 1449, 0);
		kit_wait(&k, 60 * NS_PER_S);
		CHECK_EQ(kit_tcb(&k)->state, TCPS_ESTABLISHED);
	}
	kit_close(&k);
}

static void gives_up(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 20000, 1460, 10 * KIT_MS);
	kit_write(&k, 100, 0);
	kit_wait(&k, 900 * NS_PER_S); /* SHLD-11: far beyond 100 s */
	CHECK_EQ(kit_tcb(&k)->state, TCPS_ESTABLISHED);
	CHECK(kit_tcb(&k)->retransmits >= 14);
	kit_wait(&k, 200 * NS_PER_S);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_CLOSED); /* MUST-20 */
	CHECK_EQ(sock_take_error(&k.x.cx, k.sock), ETIMEDOUT);
	kit_close(&k);
}

static void user_timeout(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 20000, 1460, 10 * KIT_MS);
	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_USER_TIMEOUT, 5000), 0);
	kit_write(&k, 100, 0);
	kit_wait(&k, 4990 * KIT_MS);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_ESTABLISHED);
	kit_wait(&k, 20 * KIT_MS);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_CLOSED); /* MUST-21 */
	CHECK_EQ(sock_take_error(&k.x.cx, k.sock), ETIMEDOUT);
	kit_close(&k);
}

static void keepalive(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 20000, 1460, 10 * KIT_MS);
	kit_wait(&k, 3 * 3600 * NS_PER_S); /* MUST-25 */
	CHECK_EQ(k.x.frame_count, 0);
	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_KEEPALIVE, 1), 0);
	kit_data(&k, 1, 20000, 10);
	kit_wait(&k, NS_PER_S);
	testcx_forget(&k.x);
	kit_wait(&k, 7198 * NS_PER_S); /* MUST-28 */
	CHECK_EQ(k.x.frame_count, 0);
	kit_wait(&k, 2 * NS_PER_S);
	CHECK_EQ(k.x.frame_count, 1);
	CHECK_SENT(&k, 0, 0, 0); /* SHLD-12: SND.NXT - 1, no data */
	kit_wait(&k, 75 * NS_PER_S);
	CHECK_EQ(k.x.frame_count, 2);
	kit_ack(&k, 1, 20000); /* MUST-29 */
	kit_wait(&k, 7190 * NS_PER_S);
	CHECK_EQ(k.x.frame_count, 0);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_ESTABLISHED);
	kit_wait(&k, 9 * 75 * NS_PER_S + 20 * NS_PER_S);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_CLOSED);
	CHECK_EQ(sock_take_error(&k.x.cx, k.sock), ETIMEDOUT);
	kit_close(&k);
}

static void syn_retransmission(void)
{
	struct endpoint local = {ipaddr_v4(0, 0, 0, 0), 0}, remote = {kit_peer_addr(), 80};

	memset(&k, 0, sizeof k);
	testcx_start(&k.x);
	testcx_meet_peer(&k.x);
	k.sock = sock_create(&k.x.cx);
	CHECK_EQ(sock_connect(&k.x.cx, k.sock, &local, &remote), -EINPROGRESS);
	struct segment first = kit_frame(&k, 0);
	static const unsigned at_s[] = {1, 3, 7, 15, 31, 63};
	nsec start = k.x.cx.now;
	for (unsigned i = 0; i < ARRAY_LEN(at_s); i++) {
		testcx_forget(&k.x);
		kit_wait(&k, start + at_s[i] * NS_PER_S - KIT_MS - k.x.cx.now);
		CHECK_EQ(k.x.frame_count, 0);
		kit_wait(&k, 2 * KIT_MS);
		CHECK_EQ(k.x.frame_count, 1);
		struct segment again = kit_frame(&k, 0);
		CHECK_EQ(again.seq.v, first.seq.v);
		CHECK_EQ(again.mss, first.mss);
		CHECK_EQ(again.wnd, first.wnd);
		CHECK(again.has_sack_permitted && again.has_wscale && again.has_ts);
		CHECK(again.ts_val != first.ts_val && again.ts_ecr == 0);
	}
	kit_wait(&k, 60 * NS_PER_S);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_SYN_SENT);
	kit_wait(&k, 10 * NS_PER_S);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_CLOSED);
	CHECK_EQ(sock_take_error(&k.x.cx, k.sock), ETIMEDOUT);
	testcx_close(&k.x);
}

static void fin_rides(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
	kit_write(&k, 14480 + 100, 0);
	CHECK_EQ(k.x.frame_count, 10);
	CHECK_EQ(sock_shutdown(&k.x.cx, k.sock, 1), 0);
	kit_ack(&k, 14481, 60000);
	CHECK_EQ(k.x.frame_count, 1);
	CHECK_SENT(&k, 0, 14481, 100);
	CHECK_EQ(kit_frame(&k, 0).flags, TH_ACK | TH_PSH | TH_FIN);
	kit_wait(&k, 400 * KIT_MS); /* and again, with its data */
	CHECK_EQ(k.x.frame_count, 2);
	CHECK_SENT(&k, 1, 14481, 100);
	CHECK_EQ(kit_frame(&k, 1).flags, TH_ACK | TH_PSH | TH_FIN);
	kit_ack(&k, 14582, 60000);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_FIN_WAIT_2);
	CHECK_EQ(kit_tcb(&k)->timer[TIMER_RTO], NSEC_NEVER);
	kit_close(&k);
}

static void unacceptable_ack(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
	kit_write(&k, 100, 0);
	kit_ack(&k, 102, 60000); /* never sent */
	CHECK_EQ(k.x.frame_count, 1);
	CHECK_SENT(&k, 0, 101, 0);
	CHECK_EQ(kit_tcb(&k)->snd_una.v, k.iss + 1);
	kit_wait(&k, NS_PER_S);
	kit_ack(&k, 1 - 60001u, 60000); /* RFC 5961 5.2: too old */
	CHECK_EQ(k.x.frame_count, 1);
	kit_close(&k);
}

static void old_segment_keeps_window(void)
{
	kit_open(&k, KIT_SACK, 60000, 1460, 10 * KIT_MS);
	kit_data(&k, 1, 50000, 10);
	CHECK_EQ(kit_tcb(&k)->snd_wnd, 50000);
	k.peer_seq -= 10;
	kit_ack(&k, 1, 100); /* SND.WL1: from before the last update */
	CHECK_EQ(kit_tcb(&k)->snd_wnd, 50000);
	k.peer_seq += 10;
	kit_ack(&k, 1, 100);
	CHECK_EQ(kit_tcb(&k)->snd_wnd, 100);
	kit_close(&k);
}

static void path_mtu(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
	struct tcb *t = kit_tcb(&k);
	kit_write(&k, 14480, 0);
	testcx_forget(&k.x);
	tcp_icmp_error(&k.x.cx, &t->local, &t->remote, seq_of(k.iss + 100000), EMSGSIZE, false, 1000);
	CHECK_EQ(t->snd_mss, 1448); /* RFC 5927: not in flight */
	tcp_icmp_error(&k.x.cx, &t->local, &t->remote, seq_of(k.iss + 1), EMSGSIZE, false, 1000);
	stack_flush(&k.x.cx);
	CHECK_EQ(t->snd_mss, 948);
	CHECK(k.x.frame_count >= 10);
	CHECK_SENT(&k, 0, 1, 948);
	tcp_icmp_error(&k.x.cx, &t->local, &t->remote, seq_of(k.iss + 1), EMSGSIZE, false, 68);
	CHECK_EQ(t->snd_mss, 500); /* the floor: 552 */
	tcp_icmp_error(&k.x.cx, &t->local, &t->remote, seq_of(k.iss + 1), EMSGSIZE, false, 1400);
	CHECK_EQ(t->snd_mss, 500); /* never raised */
	kit_close(&k);
}

static void soft_errors(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
	struct tcb *t = kit_tcb(&k);
	kit_write(&k, 100, 0);
	tcp_icmp_error(&k.x.cx, &t->local, &t->remote, seq_of(k.iss + 1), EHOSTUNREACH, false, 0);
	tcp_icmp_error(&k.x.cx, &t->local, &t->remote, seq_of(k.iss + 1), ECONNREFUSED, true, 0);
	CHECK_EQ(t->state, TCPS_ESTABLISHED); /* MUST-56, RFC 5461 */
	tcp_icmp_error(&k.x.cx, &t->local, &t->remote, seq_of(k.iss + 1), EHOSTUNREACH, false, 0);
	kit_wait(&k, 1200 * NS_PER_S);
	CHECK_EQ(sock_take_error(&k.x.cx, k.sock), EHOSTUNREACH); /* MUST-47 */
	kit_close(&k);
}

static void lost_frames(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
	k.x.tx_result = -ENOBUFS;
	kit_write(&k, 100, 0);
	CHECK_EQ(k.x.frame_count, 0);
	CHECK(stack_counters(&k.x.cx)->tx_errors >= 1);
	k.x.tx_result = 0;
	kit_wait(&k, 300 * KIT_MS); /* lost as on any network: the RTO brings it */
	CHECK_EQ(k.x.frame_count, 1);
	CHECK_SENT(&k, 0, 1, 100);
	kit_close(&k);
}

static void tiny_mss(void)
{
	kit_open(&k, KIT_TS | KIT_SACK | KIT_TSO, 60000, 1, 10 * KIT_MS);
	CHECK_EQ(kit_tcb(&k)->snd_mss, 48); /* CVE-2019-11479 */
	kit_write(&k, 1000, 0);
	CHECK_EQ(k.x.frame_count, 1);
	CHECK_EQ(kit_frame(&k, 0).gso_size, 48);
	kit_close(&k);
}

static void info(void)
{
	struct sock_info o;

	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
	kit_write(&k, 16000, 0);
	kit_ack(&k, 1 + 2896, 60000);
	CHECK_EQ(sock_info(&k.x.cx, k.sock, &o), 0);
	CHECK_EQ(o.state, 1);
	CHECK_EQ(o.bytes_acked, 2897); /* Linux counts the SYN */
	CHECK_EQ(o.bytes_sent, 16000);
	CHECK_EQ(o.snd_mss, 1448);
	CHECK_EQ(o.advmss, 1448);
	CHECK_EQ(o.pmtu, 1500);
	CHECK_EQ(o.unacked, 10);
	CHECK_EQ(o.notsent_bytes, 0);
	CHECK_EQ(o.options & 7, 7);
	CHECK(o.rtt > 0 && o.rtt <= 10000);
	CHECK(o.rto >= 200000);
	kit_close(&k);
}

CHECK_MAIN("output", {"RFC 6928, MUST-16, MUST-61: ten full segments, PSH on the last octet", initial_burst},
	   {"a super-segment carries what cwnd lets leave", super_segment},
	   {"the tail of a large write coalesces on a short path", coalescing},
	   {"SHLD-7, MUST-60: Nagle", nagle},
	   {"Minshall: only an earlier small segment holds one back", minshall},
	   {"MUST-17: TCP_NODELAY", nodelay}, {"TCP_CORK holds small segments for 200 ms", cork},
	   {"MSG_MORE", msg_more},
	   {"MUST-38: the sender avoids silly windows; the override time-out", silly_window},
	   {"MUST-38 (3): windows below the MSS", small_windows_flow},
	   {"MUST-35, MUST-36, MUST-37, SHLD-29, SHLD-30: zero-window probes", persist},
	   {"unanswered probes end", persist_gives_up},
	   {"MUST-34, SHLD-15, SHLD-16, SHLD-17: a window that shrinks", shrunk_window},
	   {"MUST-20, SHLD-11: retransmission ends after 924 s", gives_up},
	   {"MUST-21: TCP_USER_TIMEOUT", user_timeout},
	   {"MUST-24, MUST-25, MUST-27, MUST-28, MUST-29, SHLD-12: keep-alive", keepalive},
	   {"MUST-22: SYN retransmission with back-off, the same options", syn_retransmission},
	   {"a FIN rides on the last data, also when resent", fin_rides},
	   {"RFC 5961 5.2: acknowledgements of what was never sent, or long ago", unacceptable_ack},
	   {"RFC 9293 3.10.7.4: SND.WL1 guards the window", old_segment_keeps_window},
	   {"RFC 1191, RFC 5927: fragmentation needed", path_mtu},
	   {"MUST-47, MUST-56, SHLD-25: soft errors", soft_errors},
	   {"a frame that the device refuses is lost, not retried", lost_frames},
	   {"MUST-15, CVE-2019-11479: an absurd MSS", tiny_mss}, {"TCP_INFO has true values", info})
