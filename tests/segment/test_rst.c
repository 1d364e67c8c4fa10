/*
 * test_rst.c - resets sent and received: segments without a connection, and the
 * rules of RFC 5961 against blind attacks.
 */
#include "dialogue.h"

TEST(closed_port_syn, "RFC 9293 3.10.7.1: a SYN to a closed port is answered by RST,ACK with sequence 0")
{
	struct peer *p = peer_closed(WITH());

	peer_switches(p, 80, 4000);
	p->conv->our_iss = 0;
	peer_sends(p, AT_MS(1), SEG(.flags = SYN));
	struct emitted *e = peer_takes(p);
	expect_that(p, e && e->im.flags == (RST | ACK));
	expect_equal(p, e->im.seq, 0);
	expect_equal(p, e->im.ack, p->conv->peer_iss + 1);
	peer_sends(p, AT_MS(2), SEG(.flags = SYN | FIN, .seq = 5000, .len = 10));
	e = peer_takes(p);
	expect_that(p, e && e->im.flags == (RST | ACK));
	expect_equal(p, e->im.ack, p->conv->peer_iss + 12);
}

TEST(closed_port_ack, "RFC 9293 3.10.7.1: an ACK to a closed port is answered by RST with its ACK number")
{
	struct peer *p = peer_closed(WITH());

	peer_switches(p, 80, 4000);
	peer_sends(p, AT_MS(1), SEG(.flags = ACK, .ack = 1234, .len = 10));
	struct emitted *e = peer_takes(p);
	expect_that(p, e && e->im.flags == RST);
	expect_equal(p, e->im.seq, 1234 - OUR_ISS);
}

TEST(closed_port_rst, "RFC 9293 3.10.7.1: a RST is never answered by RST")
{
	struct peer *p = peer_closed(WITH());

	peer_switches(p, 80, 4000);
	peer_sends(p, AT_MS(1), SEG(.flags = RST));
	peer_sends(p, AT_MS(1), SEG(.flags = RST | ACK, .ack = 77));
	expect_nothing(p);
}

TEST(listen_ack,
     "RFC 9293 3.10.7.2: an ACK to a listener is answered by RST; a RST is ignored; no flags: dropped")
{
	struct peer *p = peer_listen();

	peer_sends(p, AT_MS(1), SEG(.flags = RST));
	peer_sends(p, AT_MS(1), SEG(.flags = 0));
	peer_sends(p, AT_MS(1), SEG(.flags = FIN));
	expect_nothing(p);
	peer_sends(p, AT_MS(2), SEG(.flags = ACK, .ack = 1500));
	struct emitted *e = peer_takes(p);
	expect_that(p, e && e->im.flags == RST && e->im.seq == 500);
	peer_sends(p, AT_MS(2), SEG(.flags = SYN | ACK, .seq = 5000, .ack = 1600));
	e = peer_takes(p);
	expect_that(p, e && e->im.flags == RST && e->im.seq == 600);
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 1);
}

TEST(rst_exact, "RFC 5961 3.2, RFC 9293 3.10.7.4 step 2, MUST-12: RST at RCV.NXT resets: ECONNRESET, HUP")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(10), SEG(.flags = RST, .seq = 5001));
	expect_nothing(p);
	expect_state(p, S_CLOSE);
	expect_events(p, SOCK_ERR | SOCK_HUP | SOCK_IN, SOCK_ERR | SOCK_HUP | SOCK_IN);
	expect_that(p, app_edges(p) & SOCK_ERR);
	expect_equal(p, app_try_read(p, 1, 0), -ECONNRESET);
	expect_equal(p, app_try_read(p, 1, 0), 0);
	expect_equal(p, app_try_write(p, 1, 0), -EPIPE);
	expect_equal(p, counter(p, tcp_estab_reset), 1);
}

TEST(rst_in_window, "RFC 5961 3.2: RST inside the window but not at RCV.NXT draws a challenge ACK")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(10), SEG(.flags = RST, .seq = 5008));
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5001, .len = 0));
	expect_state(p, S_ESTABLISHED);
	expect_equal(p, counter(p, tcp_challenge_ack), 1);
}

TEST(rst_out_of_window, "RFC 5961 3.2: RST outside the window is dropped silently")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(10), SEG(.flags = RST, .seq = 5000));
	peer_sends(p, AT_MS(10), SEG(.flags = RST, .seq = 5001 + 20000000));
	peer_sends(p, AT_MS(10), SEG(.flags = RST | ACK, .seq = 4000));
	expect_nothing(p);
	expect_state(p, S_ESTABLISHED);
}

TEST(rst_with_data, "SHLD-2: a RST may carry data: it resets, the data is ignored")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(10), SEG(.flags = RST, .seq = 5001, .len = 10));
	expect_nothing(p);
	expect_equal(p, app_try_read(p, 1, 0), -ECONNRESET);
}

TEST(rst_keeps_unread_data_away, "RFC 9293 3.10.7.4 step 2: RST flushes the queues; the error comes first")
{
	struct peer *p = peer_established();

	app_write(p, 100);
	peer_takes_all(p);
	peer_sends(p, AT_MS(10), SEG(.flags = RST, .seq = 5001));
	expect_nothing(p);
	expect_equal(p, sock_take_error(&p->cx, p->sock), ECONNRESET);
	app_close(p);
	expect_equal(p, stack_buffer_bytes(&p->cx), 0);
}

TEST(rst_at_zero_window, "MUST-66: with a closed window a RST at RCV.NXT is still taken")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_RCVBUF, 2048);
	for (int i = 0; i < 400 && info_of(p).rcv_wnd; i++)
		peer_sends(p, AT_MS(i + 1), SEG(.len = MIN_OF(info_of(p).rcv_wnd, 1460u)));
	peer_takes_all(p);
	expect_equal(p, info_of(p).rcv_wnd, 0);
	peer_sends(p, NOW, SEG(.flags = RST));
	expect_nothing(p);
	expect_state(p, S_CLOSE);
}

TEST(rst_in_close_wait, "RFC 9293 3.10.7.4 step 2: RST in CLOSE-WAIT: EPIPE for the writer, as Linux says")
{
	struct peer *p = peer_close_wait();

	peer_sends(p, AT_MS(1), SEG(.flags = RST, .seq = 5002));
	expect_state(p, S_CLOSE);
	expect_equal(p, sock_take_error(&p->cx, p->sock), EPIPE);
}

TEST(rst_in_every_late_state,
     "RFC 9293 3.10.7.4 step 2: exact RST ends FIN-WAIT-1, FIN-WAIT-2, CLOSING and LAST-ACK")
{
	struct peer *(*const make[])(struct setup) = {peer_fin_wait_1_with, peer_fin_wait_2_with,
						      peer_closing_with, peer_last_ack_with};

	for (size_t i = 0; i < ARRAY_LEN(make); i++) {
		struct peer *p = make[i](WITH());
		peer_sends(p, AT_MS(1), SEG(.flags = RST));
		expect_nothing(p);
		expect_state(p, S_CLOSE);
		app_close(p);
		expect_equal(p, pool_live(&p->cx, POOL_TCB), 0);
	}
}

TEST(rst_challenge_in_every_state,
     "RFC 5961 3.2: RST next to the exact number is challenged in every synchronised state")
{
	struct peer *(*const make[])(struct setup) = {peer_established_with, peer_close_wait_with,
						      peer_fin_wait_1_with,  peer_fin_wait_2_with,
						      peer_closing_with,     peer_last_ack_with};

	for (size_t i = 0; i < ARRAY_LEN(make); i++) {
		struct peer *p = make[i](WITH());
		int before = state_of(p);
		advance_to(p, AT_MS(1));
		peer_sends(p, NOW, SEG(.flags = RST, .seq = p->conv->peer_next + 1));
		expect_segment(p, SEG(.flags = ACK, .len = 0));
		expect_state(p, before);
	}
}

TEST(syn_in_every_state, "RFC 5961 4.2, RFC 9293 3.10.7.4 step 4: SYN in a synchronised state draws a "
			 "challenge ACK, in or out of the window")
{
	struct peer *(*const make[])(struct setup) = {peer_established_with, peer_close_wait_with,
						      peer_fin_wait_1_with,  peer_fin_wait_2_with,
						      peer_closing_with,     peer_last_ack_with};
	static const uint32_t seq[] = {5000, 5005, 5001 + 0x1000000};

	for (size_t k = 0; k < ARRAY_LEN(seq); k++)
		for (size_t i = 0; i < ARRAY_LEN(make); i++) {
			struct peer *p = make[i](WITH());
			int before = state_of(p);
			uint32_t next = p->conv->peer_next;
			peer_sends(p, AT_MS(1), SEG(.flags = SYN, .seq = seq[k]));
			expect_segment(p, SEG(.flags = ACK, .ack = next, .len = 0));
			expect_state(p, before);
		}
}

TEST(synack_in_established, "RFC 5961 4.2: a repeated SYN-ACK (our ACK was lost) is answered by ACK")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_S(1), SEG(.flags = SYN | ACK, .seq = 5000, .ack = 1001));
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5001, .len = 0));
	expect_state(p, S_ESTABLISHED);
}

TEST(challenge_ack_is_limited,
     "RFC 5961 7, 10, CVE-2016-5696: challenge ACKs of one connection are rate limited")
{
	struct peer *p = peer_established();
	int sent = 0;

	for (int i = 0; i < 1000; i++) {
		peer_sends(p, AT_MS(i), SEG(.flags = RST, .seq = 5008));
		sent += peer_takes_all(p);
	}
	expect_that(p, sent >= 1 && sent <= 20);
}

TEST(challenge_ack_not_shared,
     "CVE-2016-5696: saturating one connection's challenge ACKs leaves another's unaffected")
{
	struct peer *p = peer_listen();

	for (uint16_t port = 4000; port < 4002; port++) {
		peer_switches(p, 80, port);
		peer_sends(p, NOW, SEG(.flags = SYN));
		expect_segment(p, SEG(.flags = SYN | ACK));
		peer_sends(p, NOW, SEG());
	}
	peer_switches(p, 80, 4000);
	for (int i = 0; i < 500; i++)
		peer_sends(p, AT_MS(i), SEG(.flags = RST, .seq = 5008));
	peer_takes_all(p);
	peer_switches(p, 80, 4001);
	peer_sends(p, NOW, SEG(.flags = RST, .seq = 5008));
	expect_segment(p, SEG(.flags = ACK, .len = 0));
}

TEST(segment_without_ack,
     "RFC 9293 3.10.7.4 step 5: a segment without ACK in a synchronised state is dropped")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(1), SEG(.flags = 0, .len = 100, .seq = 5001));
	peer_sends(p, AT_MS(2), SEG(.flags = FIN, .seq = 5001));
	expect_nothing(p);
	expect_state(p, S_ESTABLISHED);
	expect_equal(p, app_try_read(p, 1, 0), -EAGAIN);
}

TEST(rst_for_old_connection, "RFC 9293 3.5.2: data for a connection that was dropped is answered by RST")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_LINGER, 0);
	app_close(p);
	expect_segment(p, SEG(.flags = RST | ACK, .seq = 1001));
	peer_sends(p, AT_MS(5), SEG(.len = 10));
	expect_segment(p, SEG(.flags = RST, .seq = 1001));
}
