/*
 * test_bugs.c - bugs that other stacks shipped, one regression test each
 * (requirements, section 4).
 */
#include "dialogue.h"

TEST(bug_read_write_zero, "bug list: read(0) and write(0) return 0 and change nothing")
{
	struct peer *p = peer_established();

	expect_equal(p, app_try_write(p, 0, 0), 0);
	expect_equal(p, app_try_read(p, 0, 0), 0);
	expect_nothing(p);
	peer_sends(p, AT_MS(1), SEG(.len = 5));
	peer_takes_all(p);
	expect_equal(p, app_try_read(p, 0, 0), 0);
	app_read(p, 5);
}

TEST(bug_siocinq, "bug list: SIOCINQ is exact, and 0 after FIN")
{
	struct peer *p = peer_established();

	expect_equal(p, app_get(p, SOCK_OPT_INQ), 0);
	peer_sends(p, AT_MS(1), SEG(.len = 123));
	expect_equal(p, app_get(p, SOCK_OPT_INQ), 123);
	peer_sends(p, AT_MS(2), SEG(.flags = FIN | ACK));
	expect_equal(p, app_get(p, SOCK_OPT_INQ), 123);
	app_read(p, 123);
	expect_equal(p, app_get(p, SOCK_OPT_INQ), 0);
	peer_takes_all(p);
}

TEST(bug_siocoutq, "bug list: SIOCOUTQ counts unacknowledged bytes, SIOCOUTQNSD unsent ones")
{
	struct peer *p = peer_established_with(WITH(.wnd = 1000));

	app_write(p, 1500);
	peer_takes_all(p);
	expect_equal(p, app_get(p, SOCK_OPT_OUTQ), 1500);
	expect_equal(p, app_get(p, SOCK_OPT_OUTQNSD), 500);
	peer_sends(p, AT_MS(1), SEG(.ack = 2001));
	peer_takes_all(p);
	expect_equal(p, app_get(p, SOCK_OPT_OUTQ), 500);
}

TEST(bug_missing_psh, "bug list, MUST-61: the last segment of every write has PSH")
{
	struct peer *p = peer_established();

	for (int i = 1; i < 6; i++) {
		app_write(p, (uint32_t)i * 100);
		expect_segment(p, SEG(.len = i * 100, .psh = 1));
		peer_sends(p, AT_MS(i), SEG());
	}
}

TEST(bug_data_after_fin, "bug list, RFC 9293 3.10.7.4 step 7: data after the peer's FIN is not delivered")
{
	struct peer *p = peer_close_wait();

	peer_sends(p, AT_MS(1), SEG(.seq = 5002, .len = 100));
	peer_sends(p, AT_MS(2), SEG(.seq = 5001, .len = 100));
	peer_takes_all(p);
	expect_equal(p, app_try_read(p, 10, 0), 0);
	expect_equal(p, app_get(p, SOCK_OPT_INQ), 0);
}

TEST(bug_two_fins, "bug list: a second FIN, at the same or a later number, changes nothing")
{
	struct peer *p = peer_close_wait();

	peer_sends(p, AT_MS(1), SEG(.flags = FIN | ACK, .seq = 5001));
	peer_sends(p, AT_MS(600), SEG(.flags = FIN | ACK, .seq = 5002));
	for (struct emitted *e; (e = peer_takes(p));)
		expect_equal(p, e->im.ack - p->conv->peer_iss, 2);
	p->queue_first = p->queue_last = 0;
	expect_state(p, S_CLOSE_WAIT);
}

TEST(bug_ts_zero, "bug list: a timestamp value of 0 from the peer is valid and echoed; TS.Recent moves on")
{
	struct peer *p = peer_syn_sent_with(WITH(.ts = true));

	peer_sends(p, AT_MS(1), SEG(.flags = SYN | ACK, .ts_val = 0));
	expect_segment(p, SEG(.flags = ACK, .ts_ecr = 0));
	peer_sends(p, AT_MS(2), SEG(.len = 10, .ts_val = 1));
	expect_segment(p, SEG(.ack = 5011, .ts_ecr = 1));
	app_read(p, 10);
}

TEST(bug_two_timestamps, "bug list: two timestamp options in one segment do not confuse the parser")
{
	struct peer *p = peer_established_with(WITH(.ts = true));
	uint8_t o[24] = {1, 1, 8, 10, 0, 3, 0, 0, 0, 0, 0, 0, 1, 1, 8, 10, 0, 3, 0, 0, 0, 0, 0, 0};

	peer_sends(p, AT_MS(1), SEG(.len = 10, .raw_options = o, .raw_options_len = 24));
	advance_to(p, AT_MS(300));
	peer_takes_all(p);
	expect_state(p, S_ESTABLISHED);
}

TEST(bug_synack_odd_tsecr, "bug list, RFC 7323 3.2: a SYN-ACK whose TSecr we never sent is not taken as ours")
{
	struct peer *p = peer_syn_sent_with(WITH(.ts = true));

	peer_sends(p, AT_MS(1), SEG(.flags = SYN | ACK, .ts_ecr = 12345));
	for (struct emitted *e; (e = peer_takes(p));)
		expect_that(p, (e->im.flags & RST) || e->im.flags == ACK);
	p->queue_first = p->queue_last = 0;
	expect_that(p, info_of(p).rto <= 3000000);
}

TEST(bug_data_on_syn,
     "bug list: data on a SYN is not acknowledged and not lost; sent again it is delivered once")
{
	struct peer *p = peer_listen();

	peer_sends(p, AT_MS(1), SEG(.flags = SYN, .len = 10));
	struct emitted *e = peer_takes(p);
	expect_that(p, e && e->im.flags == (SYN | ACK));
	uint32_t acked = e->im.ack - p->conv->peer_iss - 1;
	expect_that(p, acked == 0 || acked == 10);
	peer_sends(p, AT_MS(2), SEG(.seq = 5001, .len = 10));
	advance_by(p, AT_MS(300));
	peer_takes_all(p);
	app_accept(p);
	app_read(p, 10);
	expect_equal(p, app_try_read(p, 1, 0), -EAGAIN);
	peer_takes_all(p);
}

TEST(bug_data_on_synack, "bug list: data on a SYN-ACK is delivered once, at the latest when it is sent again")
{
	struct peer *p = peer_syn_sent();

	peer_sends(p, AT_MS(1), SEG(.flags = SYN | ACK, .len = 10));
	expect_state(p, S_ESTABLISHED);
	peer_takes_all(p);
	peer_sends(p, AT_MS(300), SEG(.seq = 5001, .len = 10));
	peer_takes_all(p);
	app_read(p, 10);
	expect_equal(p, app_try_read(p, 1, 0), -EAGAIN);
	peer_takes_all(p);
}

TEST(bug_no_mss, "bug list, MUST-15: a peer without an MSS option can be sent to")
{
	struct peer *p = peer_accepted_with(WITH(.mss = ABSENT));

	app_write(p, 600);
	expect_segment(p, SEG(.len = 536));
	peer_takes_all(p);
}

TEST(bug_fin_out_of_order_after_close,
     "bug list: an out-of-order FIN after close neither crashes nor ends the wait early")
{
	struct peer *p = peer_fin_wait_2();

	app_close(p);
	peer_sends(p, AT_MS(1), SEG(.flags = FIN | ACK, .seq = 5101));
	p->queue_first = p->queue_last = 0;
	peer_sends(p, AT_MS(2), SEG(.flags = FIN | ACK, .seq = 5001));
	p->queue_first = p->queue_last = 0;
	advance_to(p, AT_S(130));
	expect_equal(p, pool_live(&p->cx, POOL_TCB) + pool_live(&p->cx, POOL_TIMEWAIT), 0);
	expect_equal(p, pool_live(&p->cx, POOL_OOO), 0);
	p->queue_first = p->queue_last = 0;
}

TEST(bug_same_seq_other_length,
     "bug list: segments of the same number and different length deliver every byte once")
{
	struct peer *p = peer_established_with(WITH(.sack = true));

	peer_sends(p, AT_MS(1), SEG(.seq = 5101, .len = 50));
	peer_sends(p, AT_MS(2), SEG(.seq = 5101, .len = 200));
	peer_sends(p, AT_MS(3), SEG(.seq = 5101, .len = 20));
	peer_sends(p, AT_MS(4), SEG(.seq = 5001, .len = 50));
	peer_sends(p, AT_MS(5), SEG(.seq = 5001, .len = 100));
	peer_takes_all(p);
	app_read(p, 300);
	expect_equal(p, app_try_read(p, 1, 0), -EAGAIN);
	peer_takes_all(p);
}

TEST(bug_large_read, "bug list: reads above 2041 bytes, in every size, return the right bytes")
{
	struct peer *p = peer_established_with(WITH(.wscale = 7));
	uint32_t sent = 0, got = 0;

	for (int i = 0; i < 40; i++, sent += 1460)
		peer_sends(p, AT_MS(i), SEG(.len = 1460));
	for (uint32_t n = 2000; got < sent; n += 333) {
		uint32_t k = MIN_OF(n, sent - got);
		app_read(p, k);
		got += k;
	}
	peer_takes_all(p);
}

TEST(bug_left_of_window, "bug list: a segment that starts left of RCV.NXT is not dropped whole")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(1), SEG(.len = 10));
	expect_segment(p, SEG(.ack = 5011));
	peer_sends(p, AT_MS(2), SEG(.seq = 5000 + 1, .len = 30, .flags = ACK | FIN));
	expect_segment(p, SEG(.ack = 5032));
	app_read(p, 30);
	expect_state(p, S_CLOSE_WAIT);
}

TEST(bug_tcp_info, "bug list: TCP_INFO tells the truth")
{
	struct peer *p = peer_established_with(WITH(.ts = true, .sack = true, .wscale = 7));
	struct sock_info i;

	app_write(p, 5000);
	peer_takes_all(p);
	peer_sends(p, AT_MS(20), SEG(.len = 300));
	peer_takes_all(p);
	i = info_of(p);
	expect_equal(p, i.state, S_ESTABLISHED);
	expect_equal(p, i.snd_mss, 1448);
	expect_equal(p, i.bytes_acked, 5001);
	expect_equal(p, i.bytes_received, 300);
	expect_that(p, i.rtt >= 10000 && i.rtt <= 20000);
	expect_that(p, i.snd_cwnd >= 10);
	expect_equal(p, i.pmtu, 1500);
	expect_equal(p, i.advmss, 1448);
	expect_equal(p, i.snd_wscale, 7);
	expect_that(p, i.options & 7);
	expect_that(p, i.segs_out >= 5 && i.segs_in >= 2 && i.data_segs_out == 4 && i.data_segs_in == 1);
	expect_that(p, i.rcv_mss >= 88 && i.rto >= 200000);
}

TEST(bug_linger_accepted, "bug list: SO_LINGER and TCP_CORK are read back as set and obeyed")
{
	struct peer *p = peer_established();

	expect_equal(p, app_get(p, SOCK_OPT_LINGER), -1);
	app_set(p, SOCK_OPT_LINGER, 7);
	expect_equal(p, app_get(p, SOCK_OPT_LINGER), 7);
	app_set(p, SOCK_OPT_CORK, 1);
	expect_equal(p, app_get(p, SOCK_OPT_CORK), 1);
}

TEST(bug_getsockopt, "bug list: getting an option does not set it; unknown ones are refused")
{
	struct peer *p = peer_established();
	int v = 1;

	expect_equal(p, sock_get_option(&p->cx, p->sock, SOCK_OPT_NODELAY, &v), 0);
	expect_equal(p, v, 0);
	expect_equal(p, app_get(p, SOCK_OPT_NODELAY), 0);
	expect_equal(p, sock_get_option(&p->cx, p->sock, SOCK_OPT_COUNT, &v), -ENOPROTOOPT);
	expect_equal(p, sock_set_option(&p->cx, p->sock, SOCK_OPT_ACCEPTCONN, 1), -ENOPROTOOPT);
}

TEST(bug_rcvbuf_doubles, "bug list: SO_RCVBUF and SO_SNDBUF read back doubled, as on Linux")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_RCVBUF, 10000);
	expect_equal(p, app_get(p, SOCK_OPT_RCVBUF), 20000);
	app_set(p, SOCK_OPT_SNDBUF, 10000);
	expect_equal(p, app_get(p, SOCK_OPT_SNDBUF), 20000);
}

TEST(bug_peek, "bug list: MSG_PEEK shows bytes and leaves them; MSG_TRUNC throws them away")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(1), SEG(.len = 100));
	peer_takes_all(p);
	expect_equal(p, app_try_read(p, 60, SOCK_MSG_PEEK), 60);
	expect_equal(p, app_try_read(p, 60, SOCK_MSG_PEEK), 60);
	expect_equal(p, app_try_read(p, 40, SOCK_MSG_TRUNC), 40);
	app_read(p, 60);
	expect_equal(p, app_get(p, SOCK_OPT_INQ), 0);
}

TEST(bug_xmas,
     "bug list, requirements 1 (cross product): odd flag combinations in every state break no invariant")
{
	struct peer *(*const make[])(struct setup) = {peer_listen_with,	      peer_syn_sent_with,
						      peer_syn_received_with, peer_syn_received_active_with,
						      peer_established_with,  peer_close_wait_with,
						      peer_fin_wait_1_with,   peer_fin_wait_2_with,
						      peer_closing_with,      peer_last_ack_with,
						      peer_time_wait_with,    peer_orphan_time_wait_with};
	static const int64_t seq[] = {4000, 5000, 5001, 5002, 5003, 30000, 0x10000000};
	static const int64_t ack[] = {0, 1000, 1001, 1002, 1003, 0x7fffffff};

	for (size_t m = 0; m < ARRAY_LEN(make); m++)
		for (int flags = 0; flags < 64; flags++) {
			struct peer *p = make[m](WITH(.sack = true));
			for (size_t s = 0; s < ARRAY_LEN(seq); s++)
				for (size_t a = 0; a < ARRAY_LEN(ack); a++)
					peer_sends(p, NOW,
						   SEG(.flags = flags, .seq = seq[s], .ack = ack[a],
						       .len = (int64_t)(s + a) % 3));
			expect_that(p, p->queue_last <= 120);
			p->queue_first = p->queue_last = 0;
		}
}
