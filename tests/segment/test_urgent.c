/*
 * test_urgent.c - urgent data: on the wire the pointer names the octet after it
 * (RFC 6093 as deployed); the application sees what it sees on Linux.
 */
#include "dialogue.h"

TEST(urgent_send, "MUST-30, MUST-62: MSG_OOB sets URG; the pointer is the octet after the urgent one")
{
	struct peer *p = peer_established();

	expect_equal(p, app_try_write(p, 5, SOCK_MSG_OOB), 5);
	expect_segment(p, SEG(.flags = ACK | URG, .seq = 1001, .len = 5, .urg = 5));
	peer_sends(p, AT_MS(10), SEG());
	app_write(p, 5);
	expect_segment(p, SEG(.flags = ACK, .seq = 1006, .len = 5, .urg = 0));
}

TEST(urgent_send_at_once, "MUST-30: urgent data waits neither for Nagle nor for the cork")
{
	struct peer *p = peer_established();

	app_write(p, 10);
	peer_takes_all(p);
	app_set(p, SOCK_OPT_CORK, 1);
	expect_equal(p, app_try_write(p, 1, SOCK_MSG_OOB), 1);
	expect_segment(p, SEG(.flags = ACK | URG, .seq = 1011, .len = 1, .urg = 1));
}

TEST(urgent_send_zero_window,
     "MUST-66, MUST-31: an urgent pointer beyond the window is announced with the window closed")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(0), SEG(.wnd = 0));
	expect_equal(p, app_try_write(p, 5, SOCK_MSG_OOB), 5);
	advance_to(p, AT_S(1));
	bool urgent = false;
	for (struct emitted *e; (e = peer_takes(p));)
		urgent |= e->im.flags & URG;
	peer_takes_all(p);
	expect_that(p, urgent);
}

TEST(urgent_receive, "MUST-30, MUST-32, MUST-33: an urgent byte raises PRI, reading stops at the mark, "
		     "MSG_OOB delivers the byte")
{
	struct peer *p = peer_established();
	uint8_t b[20];
	struct iovec v = {b, 20};

	peer_sends(p, AT_MS(1), SEG(.flags = ACK | URG, .len = 10, .urg = 5));
	peer_takes_all(p);
	expect_that(p, app_edges(p) & SOCK_PRI);
	expect_events(p, SOCK_PRI | SOCK_IN, SOCK_PRI | SOCK_IN);
	expect_equal(p, app_get(p, SOCK_OPT_ATMARK), 0);
	expect_equal(p, sock_recv(&p->cx, p->sock, &v, 1, SOCK_MSG_OOB), 1);
	expect_equal(p, b[0], pattern_at(4));
	expect_equal(p, sock_recv(&p->cx, p->sock, &v, 1, SOCK_MSG_OOB), -EINVAL);
	expect_equal(p, app_try_read(p, 20, 0), 4);
	expect_equal(p, app_get(p, SOCK_OPT_ATMARK), 1);
	expect_equal(p, sock_recv(&p->cx, p->sock, &v, 1, 0), 5);
	expect_equal(p, b[0], pattern_at(5));
	peer_takes_all(p);
}

TEST(urgent_inline, "MUST-33: with SO_OOBINLINE the urgent byte stays in the stream; reading stops before it")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_OOBINLINE, 1);
	peer_sends(p, AT_MS(1), SEG(.flags = ACK | URG, .len = 10, .urg = 5));
	peer_takes_all(p);
	expect_equal(p, app_try_read(p, 20, 0), 4);
	expect_equal(p, app_get(p, SOCK_OPT_ATMARK), 1);
	expect_equal(p, app_try_read(p, 20, 0), 6);
	peer_takes_all(p);
}

TEST(urgent_not_here_yet,
     "MUST-31, MUST-32: a pointer far ahead of the data is announced; MSG_OOB says it has not arrived")
{
	struct peer *p = peer_established();
	uint8_t b;
	struct iovec v = {&b, 1};

	peer_sends(p, AT_MS(1), SEG(.flags = ACK | URG, .len = 10, .urg = 60000));
	peer_takes_all(p);
	expect_equal(p, sock_recv(&p->cx, p->sock, &v, 1, SOCK_MSG_OOB), -EAGAIN);
	app_read(p, 10);
	peer_takes_all(p);
}

TEST(urgent_advances, "MUST-32: an urgent pointer that advances is announced again")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(1), SEG(.flags = ACK | URG, .len = 10, .urg = 3));
	expect_that(p, app_edges(p) & SOCK_PRI);
	peer_sends(p, AT_MS(2), SEG(.flags = ACK | URG, .len = 10, .urg = 7));
	expect_that(p, app_edges(p) & SOCK_PRI);
	peer_sends(p, AT_MS(3), SEG(.flags = ACK | URG, .seq = 5011, .len = 10, .urg = 7));
	expect_that(p, !(app_edges(p) & SOCK_PRI));
	peer_takes_all(p);
}

TEST(urgent_again_before_read, "MUST-33: an urgent byte that is next to be read when the mark moves on is "
			       "skipped, as on Linux; others stay")
{
	struct peer *p = peer_established();
	uint8_t b[20];
	struct iovec v = {b, sizeof b};

	peer_sends(p, AT_MS(1), SEG(.flags = ACK | URG, .len = 1, .urg = 1));
	peer_sends(p, AT_MS(2), SEG(.flags = ACK | URG, .len = 2, .urg = 2));
	expect_equal(p, sock_recv(&p->cx, p->sock, &v, 1, 0), 1);
	expect_equal(p, b[0], pattern_at(1));
	peer_sends(p, AT_MS(3), SEG(.flags = ACK | URG, .len = 3, .urg = 2));
	peer_sends(p, AT_MS(4), SEG(.flags = ACK | URG, .len = 2, .urg = 2));
	expect_equal(p, sock_recv(&p->cx, p->sock, &v, 1, 0), 4);
	expect_equal(p, b[0], pattern_at(3));
	expect_equal(p, b[3], pattern_at(6));
	peer_takes_all(p);
}

TEST(urgent_no_oob, "MUST-33: MSG_OOB without urgent data is EINVAL")
{
	struct peer *p = peer_established();
	uint8_t b;
	struct iovec v = {&b, 1};

	expect_equal(p, sock_recv(&p->cx, p->sock, &v, 1, SOCK_MSG_OOB), -EINVAL);
}

TEST(urgent_arithmetic, "URGENT/11 (CVE-2019-12255 and kin), MUST-31: no urgent pointer makes a length wrong")
{
	static const uint16_t pointer[] = {0, 1, 9, 10, 11, 65535};
	static const uint8_t extra[] = {0, FIN, PSH};

	for (size_t i = 0; i < ARRAY_LEN(pointer); i++)
		for (size_t k = 0; k < ARRAY_LEN(extra); k++) {
			struct peer *p = peer_established_with(WITH(.peer_iss = 0xfffffff8u));
			uint8_t b[64];
			struct iovec v = {b, sizeof b};
			int64_t total = 0, r;
			peer_sends(p, AT_MS(1),
				   SEG(.flags = ACK | URG | extra[k], .len = 10, .urg = pointer[i]));
			peer_sends(p, AT_MS(2), SEG(.flags = ACK | URG, .seq = 5001, .len = 5, .urg = 2));
			while ((r = sock_recv(&p->cx, p->sock, &v, 1, 0)) > 0)
				total += r;
			r = sock_recv(&p->cx, p->sock, &v, 1, SOCK_MSG_OOB);
			expect_that(p, total <= 10 && total + (r > 0) >= 9 && r <= 1);
			peer_takes_all(p);
		}
}

TEST(urgent_in_every_state,
     "URGENT/11, MUST-66: URG in a handshake, a closed window and after FIN does no harm")
{
	struct peer *(*const make[])(struct setup) = {
	    peer_listen_with,	  peer_syn_sent_with,	peer_syn_received_with,
	    peer_fin_wait_1_with, peer_fin_wait_2_with, peer_close_wait_with,
	    peer_closing_with,	  peer_last_ack_with,	peer_time_wait_with};

	for (size_t i = 0; i < ARRAY_LEN(make); i++) {
		struct peer *p = make[i](WITH());
		for (int k = 0; k < 4; k++) {
			static const uint16_t urg[] = {0, 1, 1000, 65535};
			peer_sends(p, AT_MS(k + 1),
				   SEG(.flags = ACK | URG, .ack = 1001, .len = k * 5, .urg = urg[k]));
			peer_sends(p, AT_MS(k + 1), SEG(.flags = SYN | URG, .urg = urg[k]));
		}
		p->queue_first = p->queue_last = 0;
	}
}
