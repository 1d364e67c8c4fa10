/*
 * test_open.c - opening connections: active, passive, simultaneous, refused, timed out.
 */
#include "dialogue.h"

TEST(active_open,
     "MUST-14, SHLD-5, MAY-3, MUST-67, RFC 6691: SYN carries MSS = MTU - 40; SYN-ACK is answered by ACK")
{
	struct peer *p = peer_closed(WITH());

	peer_switches(p, 4000, 80);
	expect_equal(p, app_connect(p), -EINPROGRESS);
	expect_segment(p, SEG(.flags = SYN, .seq = 1000, .len = 0, .mss = 1460, .sack_permitted = 1));
	expect_state(p, S_SYN_SENT);
	expect_equal(p, app_connect(p), -EALREADY);
	expect_equal(p, app_try_write(p, 1, 0), -EAGAIN);
	expect_equal(p, app_try_read(p, 1, 0), -EAGAIN);
	peer_sends(p, AT_MS(10), SEG(.flags = SYN | ACK, .ack = 1001));
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5001, .len = 0));
	expect_state(p, S_ESTABLISHED);
	expect_that(p, app_edges(p) & SOCK_OUT);
	expect_events(p, SOCK_OUT | SOCK_IN | SOCK_HUP | SOCK_ERR, SOCK_OUT);
	expect_equal(p, app_connect(p), 0);
	expect_equal(p, app_connect(p), -EISCONN);
}

TEST(syn_mss_follows_mtu, "SHLD-6: a smaller MTU of the device makes later SYNs advertise less")
{
	struct peer *p = peer_closed(WITH());

	stack_set_device(&p->cx, 1280, DEVICE_NO_ARP);
	peer_switches(p, 4000, 80);
	app_connect(p);
	expect_segment(p, SEG(.flags = SYN, .mss = 1240));
}

TEST(passive_open,
     "MUST-14, RFC 9293 3.10.7.2: a SYN to a listener is answered by SYN-ACK; the ACK makes it acceptable")
{
	struct peer *p = peer_listen();

	peer_sends(p, AT_MS(0), SEG(.flags = SYN, .seq = 5000));
	expect_segment(p, SEG(.flags = SYN | ACK, .seq = 1000, .ack = 5001, .mss = 1460, .len = 0,
			      .wscale = ABSENT, .ts_val = ABSENT, .sack_permitted = 0));
	expect_equal(p, sock_accept(&p->cx, p->listener), REF_NONE);
	expect_equal(p, sock_events(&p->cx, p->listener) & SOCK_IN, 0);
	peer_sends(p, AT_MS(10), SEG(.flags = ACK, .ack = 1001));
	expect_that(p, sock_events(&p->cx, p->listener) & SOCK_IN);
	app_accept(p);
	expect_state(p, S_ESTABLISHED);
	expect_equal(p, sock_events(&p->cx, p->listener) & SOCK_IN, 0);
}

TEST(passive_open_options, "RFC 7323 2.2, RFC 2018 2: a SYN-ACK answers only what was offered")
{
	struct peer *p = peer_listen_with(WITH(.wscale = 7, .sack = true, .ts = true));

	peer_sends(p, AT_MS(0), SEG(.flags = SYN, .seq = 5000, .ts_val = 777));
	struct emitted *e = peer_takes(p);
	expect_that(p, e && e->im.wscale >= 0 && e->im.sack_permitted && e->im.ts);
	expect_equal(p, e->im.ts_ecr, 777);
}

TEST(handshake_ack_with_data, "RFC 9293 3.10.7.4: data on the segment that completes the handshake is kept")
{
	struct peer *p = peer_syn_received();

	peer_sends(p, AT_MS(10), SEG(.flags = ACK | PSH, .len = 100));
	peer_takes_all(p);
	app_accept(p);
	app_read(p, 100);
	peer_takes_all(p);
}

TEST(handshake_ack_lost,
     "RFC 9293 3.10.7.4: when the handshake's ACK is lost, the first data segment completes it")
{
	struct peer *p = peer_syn_received();

	peer_sends(p, AT_MS(300), SEG(.flags = ACK, .len = 50, .seq = 5001));
	advance_to(p, AT_S(2));
	peer_takes_all(p);
	app_accept(p);
	app_read(p, 50);
	peer_takes_all(p);
}

TEST(syn_retransmission,
     "MUST-22, MUST-23, RFC 6298 2.1, 5.5: SYN goes again after 1, 3, 7, 15, 31, 63 s; ETIMEDOUT after 127 s")
{
	struct peer *p = peer_syn_sent();
	static const int at[] = {1, 3, 7, 15, 31, 63};

	for (size_t i = 0; i < ARRAY_LEN(at); i++)
		expect_at(p, AT_S(at[i]), SEG(.flags = SYN, .seq = 1000, .mss = 1460));
	advance_to(p, AT_S(127) - 1);
	expect_state(p, S_SYN_SENT);
	advance_to(p, AT_S(127));
	expect_nothing(p);
	expect_state(p, S_CLOSE);
	expect_that(p, app_edges(p) & SOCK_ERR);
	expect_equal(p, sock_take_error(&p->cx, p->sock), ETIMEDOUT);
	expect_equal(p, sock_take_error(&p->cx, p->sock), 0);
}

static void set_syncnt_1(struct stack_cx *cx, ref s)
{
	sock_set_option(cx, s, SOCK_OPT_SYNCNT, 1);
}

TEST(syn_count_option, "MUST-20, MUST-22: TCP_SYNCNT bounds the SYN's retransmissions")
{
	struct peer *p = peer_syn_sent_with(WITH(.prepare = set_syncnt_1));

	expect_at(p, AT_S(1), SEG(.flags = SYN));
	advance_to(p, AT_S(3));
	expect_state(p, S_CLOSE);
	expect_equal(p, app_connect(p), -ETIMEDOUT);
}

TEST(synack_retransmission,
     "MUST-22: SYN-ACK goes again after 1, 3, 7, 15, 31 s and is given up silently after 63 s")
{
	struct peer *p = peer_syn_received();
	static const int at[] = {1, 3, 7, 15, 31};

	for (size_t i = 0; i < ARRAY_LEN(at); i++)
		expect_at(p, AT_S(at[i]), SEG(.flags = SYN | ACK, .seq = 1000, .ack = 5001));
	advance_to(p, AT_S(64));
	expect_nothing(p);
	expect_state(p, S_NONE);
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 1);
}

TEST(syn_retransmitted_by_peer,
     "RFC 9293 3.10.7.4, RFC 5961 4: a repeated SYN in SYN-RECEIVED is answered and changes nothing")
{
	struct peer *p = peer_syn_received();

	peer_sends(p, AT_MS(700), SEG(.flags = SYN, .seq = 5000));
	struct emitted *e = peer_takes(p);
	expect_that(p, e && (e->im.flags & ACK));
	expect_state(p, S_SYN_RECV);
	peer_sends(p, AT_MS(710), SEG(.flags = ACK, .seq = 5001, .ack = 1001));
	app_accept(p);
}

TEST(simultaneous_open, "MUST-10: SYN crosses SYN: SYN-ACK goes out, the peer's ACK establishes")
{
	struct peer *p = peer_syn_sent();

	peer_sends(p, AT_MS(5), SEG(.flags = SYN, .seq = 5000));
	expect_segment(p, SEG(.flags = SYN | ACK, .seq = 1000, .ack = 5001, .mss = 1460));
	expect_state(p, S_SYN_RECV);
	peer_sends(p, AT_MS(10), SEG(.flags = ACK, .seq = 5001, .ack = 1001));
	expect_state(p, S_ESTABLISHED);
	expect_equal(p, counter(p, tcp_simultaneous_open), 1);
	expect_equal(p, app_connect(p), 0);
	app_write(p, 10);
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .len = 10));
}

TEST(simultaneous_open_synack,
     "MUST-10: in a simultaneous open the peer's SYN-ACK is answered by ACK and establishes")
{
	struct peer *p = peer_syn_received_active();

	peer_sends(p, AT_MS(5), SEG(.flags = SYN | ACK, .seq = 5000, .ack = 1001));
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5001, .len = 0));
	peer_sends(p, AT_MS(10), SEG(.flags = ACK, .seq = 5001, .ack = 1001));
	expect_state(p, S_ESTABLISHED);
	app_edges(p);
	peer_takes_all(p);
}

TEST(simultaneous_open_synack_lost, "MUST-10, MUST-22: the SYN-ACK of a simultaneous open is retransmitted")
{
	struct peer *p = peer_syn_received_active();

	advance_to(p, AT_S(1));
	struct emitted *e = peer_takes(p);
	expect_that(p, e && (e->im.flags & (SYN | ACK)) == (SYN | ACK));
	expect_nothing(p);
}

TEST(syn_sent_bad_ack, "RFC 9293 3.10.7.3 step 1: an unacceptable ACK in SYN-SENT draws RST with its number")
{
	struct peer *p = peer_syn_sent();

	peer_sends(p, AT_MS(1), SEG(.flags = SYN | ACK, .ack = 1002));
	expect_segment(p, SEG(.flags = RST, .seq = 1002, .len = 0));
	peer_sends(p, AT_MS(2), SEG(.flags = ACK, .ack = 1000));
	expect_segment(p, SEG(.flags = RST, .seq = 1000, .len = 0));
	expect_state(p, S_SYN_SENT);
	peer_sends(p, AT_MS(3), SEG(.flags = ACK, .seq = 5000, .ack = 1001)); /* no SYN, no RST: step 5 */
	expect_nothing(p);
	expect_state(p, S_SYN_SENT);
}

TEST(syn_sent_refused,
     "RFC 9293 3.10.7.3 step 2, MUST-12: RST with the right ACK in SYN-SENT: connection refused")
{
	struct peer *p = peer_syn_sent();

	peer_sends(p, AT_MS(1), SEG(.flags = RST | ACK, .seq = 0, .ack = 1002));
	peer_sends(p, AT_MS(2), SEG(.flags = RST, .seq = 0));
	expect_nothing(p);
	expect_state(p, S_SYN_SENT);
	peer_sends(p, AT_MS(3), SEG(.flags = RST | ACK, .seq = 0, .ack = 1001));
	expect_nothing(p);
	expect_state(p, S_CLOSE);
	expect_events(p, SOCK_ERR | SOCK_HUP | SOCK_OUT, SOCK_ERR | SOCK_HUP | SOCK_OUT);
	expect_equal(p, app_connect(p), -ECONNREFUSED);
}

TEST(connect_again, "RFC 9293 3.10.1: after a refused open the same socket can connect again")
{
	struct peer *p = peer_syn_sent();

	peer_sends(p, AT_MS(3), SEG(.flags = RST | ACK, .seq = 0, .ack = 1001));
	expect_equal(p, app_connect(p), -ECONNREFUSED);
	expect_equal(p, app_connect(p), -EINPROGRESS);
	expect_segment(p, SEG(.flags = SYN, .seq = 1000));
	peer_sends(p, AT_MS(10), SEG(.flags = SYN | ACK, .ack = 1001));
	expect_segment(p, SEG(.flags = ACK, .ack = 5001));
}

TEST(syn_received_reset_passive,
     "MUST-11, RFC 9293 3.10.7.4 step 2: RST in SYN-RECEIVED of a passive open: back to LISTEN, silently")
{
	struct peer *p = peer_syn_received();

	peer_sends(p, AT_MS(1), SEG(.flags = RST, .seq = 5001));
	expect_nothing(p);
	expect_state(p, S_NONE);
	expect_equal(p, sock_events(&p->cx, p->listener) & (SOCK_IN | SOCK_ERR), 0);
	peer_switches(p, 80, 4001);
	peer_sends(p, AT_MS(2), SEG(.flags = SYN, .seq = 5000));
	expect_segment(p, SEG(.flags = SYN | ACK, .ack = 5001));
}

TEST(syn_received_reset_active,
     "MUST-11, RFC 9293 3.10.7.4 step 2: RST in SYN-RECEIVED of an active open: connection refused")
{
	struct peer *p = peer_syn_received_active();

	peer_sends(p, AT_MS(1), SEG(.flags = RST, .seq = 5001));
	expect_nothing(p);
	expect_equal(p, app_connect(p), -ECONNREFUSED);
}

TEST(syn_received_bad_ack,
     "RFC 9293 3.10.7.4 step 5: an unacceptable ACK in SYN-RECEIVED draws RST with its number")
{
	struct peer *p = peer_syn_received();

	peer_sends(p, AT_MS(1), SEG(.flags = ACK, .seq = 5001, .ack = 1777));
	expect_segment(p, SEG(.flags = RST, .seq = 1777));
	expect_state(p, S_SYN_RECV);
	peer_sends(p, AT_MS(2), SEG(.flags = ACK, .seq = 5001, .ack = 1001));
	app_accept(p);
}

TEST(syn_received_fin, "RFC 9293 3.10.7.4 step 8: ACK and FIN together in SYN-RECEIVED lead to CLOSE-WAIT")
{
	struct peer *p = peer_syn_received();

	peer_sends(p, AT_MS(1), SEG(.flags = ACK | FIN, .seq = 5001, .ack = 1001));
	expect_segment(p, SEG(.flags = ACK, .ack = 5002));
	app_accept(p);
	expect_state(p, S_CLOSE_WAIT);
	expect_equal(p, app_try_read(p, 1, 0), 0);
}

TEST(connect_to_broadcast, "MUST-46: connect to a broadcast or multicast address fails and sends nothing")
{
	struct peer *p = peer_closed(WITH());
	static const uint8_t bad[][4] = {
	    {255, 255, 255, 255}, {10, 0, 0, 255}, {224, 0, 0, 1}, {239, 1, 2, 3}};
	struct endpoint local = {ipaddr_v4(0, 0, 0, 0), 0};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct endpoint remote = {ipaddr_from_v4(bad[i]), 80};
		expect_equal(p, sock_connect(&p->cx, p->sock, &local, &remote), -ENETUNREACH);
		stack_flush(&p->cx);
		expect_nothing(p);
	}
}

TEST(connect_without_route, "RFC 1122 3.3.1: connect beyond the prefix without a gateway is ENETUNREACH")
{
	struct peer *p = peer_closed(WITH());
	struct endpoint local = {ipaddr_v4(0, 0, 0, 0), 0}, remote = {ipaddr_v4(8, 8, 8, 8), 80};

	expect_equal(p, sock_connect(&p->cx, p->sock, &local, &remote), -ENETUNREACH);
}

TEST(connect_local_address,
     "MUST-43, MUST-44, MUST-45: a bound local address and port are used for the whole connection")
{
	struct peer *p = peer_closed(WITH());
	struct endpoint local = {ipaddr_v4(10, 0, 0, 2), 4000}, remote = {ipaddr_v4(10, 0, 0, 1), 80}, l, r;

	peer_switches(p, 4000, 80);
	expect_equal(p, sock_connect(&p->cx, p->sock, &local, &remote), -EINPROGRESS);
	stack_flush(&p->cx);
	expect_segment(p, SEG(.flags = SYN));
	peer_sends(p, AT_MS(1), SEG(.flags = SYN | ACK));
	expect_segment(p, SEG(.flags = ACK));
	expect_equal(p, sock_names(&p->cx, p->sock, &l, &r), 0);
	expect_that(p, l.port == 4000 && r.port == 80 && ipaddr_eq(&l.addr, &local.addr));
}

TEST(default_mss, "MUST-15: without an MSS option from the peer no segment is above 536 bytes")
{
	struct peer *p = peer_established_with(WITH(.mss = ABSENT));

	app_write(p, 2000);
	expect_segment(p, SEG(.len = 536, .seq = 1001));
	expect_segment(p, SEG(.len = 536, .seq = 1537));
	peer_takes_all(p);
}

TEST(effective_mss_with_timestamps, "MUST-16: the timestamp option comes off the segment's payload")
{
	struct peer *p = peer_established_with(WITH(.ts = true));

	app_write(p, 3000);
	expect_segment(p, SEG(.len = 1448, .seq = 1001));
	peer_takes_all(p);
}

TEST(effective_mss_is_ours, "MUST-16: a peer MSS above our MTU is cut to what we can send")
{
	struct peer *p = peer_established_with(WITH(.mss = 9000));

	app_write(p, 3000);
	expect_segment(p, SEG(.len = 1460, .seq = 1001));
	peer_takes_all(p);
}

TEST(isn_clock, "MUST-8, SHLD-1: the ISN of one 4-tuple advances by 250 a millisecond")
{
	uint32_t isn[2];
	struct peer *p = peer_syn_sent();

	isn[0] = p->conv->our_iss;
	peer_sends(p, AT_MS(3), SEG(.flags = RST | ACK, .seq = 0, .ack = 1001));
	app_connect(p);
	advance_to(p, AT_S(1));
	app_connect(p);
	isn[1] = p->conv->our_iss;
	peer_takes_all(p);
	uint32_t step = isn[1] - isn[0];
	expect_that(p, step > 240000 && step < 260000);
}

TEST(isn_per_tuple, "MUST-9, SHLD-1, RFC 6528: ISNs of neighbouring tuples are unrelated")
{
	struct peer *p = peer_listen();
	uint32_t last = 0;

	for (uint16_t port = 3000; port < 3008; port++) {
		peer_switches(p, 80, port);
		peer_sends(p, NOW, SEG(.flags = SYN, .seq = 5000));
		expect_segment(p, SEG(.flags = SYN | ACK));
		uint32_t far = p->conv->our_iss - last;
		expect_that(p, far > 100000 && -far > 100000);
		last = p->conv->our_iss;
	}
}

TEST(ephemeral_ports,
     "RFC 6056: automatic local ports lie in the configured range, differ, and are not consecutive")
{
	struct peer *p = peer_closed(WITH());
	struct endpoint local = {ipaddr_v4(0, 0, 0, 0), 0}, remote = {ipaddr_v4(10, 0, 0, 1), 80}, got;
	uint16_t seen[40];
	int consecutive = 0;

	for (int i = 0; i < 40; i++) {
		ref s = i ? sock_create(&p->cx) : p->sock;
		expect_equal(p, sock_connect(&p->cx, s, &local, &remote), -EINPROGRESS);
		sock_names(&p->cx, s, &got, NULL);
		expect_that(p, got.port >= 32768 && got.port <= 60999);
		for (int k = 0; k < i; k++)
			expect_that(p, seen[k] != got.port);
		consecutive += i && got.port == seen[i - 1] + 1;
		seen[i] = got.port;
	}
	expect_that(p, consecutive < 20);
	stack_flush(&p->cx);
	peer_takes_all(p);
}

TEST(tuple_in_use, "RFC 9293 3.10.1: a second connect on a 4-tuple in use is refused")
{
	struct peer *p = peer_established();

	p->sock = sock_create(&p->cx);
	int r = app_connect(p);
	expect_that(p, r == -EADDRNOTAVAIL || r == -EADDRINUSE);
	expect_nothing(p);
}

TEST(data_rto_after_syn_loss, "RFC 6298 5.7: after a lost SYN and no RTT sample the first data RTO is 3 s")
{
	struct peer *p = peer_syn_sent();

	expect_at(p, AT_S(1), SEG(.flags = SYN));
	peer_sends(p, AT_MS(1010), SEG(.flags = SYN | ACK));
	expect_segment(p, SEG(.flags = ACK));
	app_write(p, 100);
	expect_segment(p, SEG(.len = 100, .seq = 1001));
	expect_at(p, AT_MS(4010), SEG(.len = 100, .seq = 1001));
}

TEST(iw_after_syn_loss,
     "RFC 5681 3.1: after SYNs were lost twice (as Linux counts) the initial window is one segment")
{
	struct peer *p = peer_syn_sent();

	expect_at(p, AT_S(1), SEG(.flags = SYN));
	expect_at(p, AT_S(3), SEG(.flags = SYN));
	peer_sends(p, AT_MS(3010), SEG(.flags = SYN | ACK));
	expect_segment(p, SEG(.flags = ACK));
	app_try_write(p, 14600, 0);
	expect_equal(p, peer_takes_bytes(p), 1460);
}
