/*
 * test_window.c - windows in both directions: scaling, zero, tiny, shrinking;
 * Nagle and cork.
 */
#include "dialogue.h"

TEST(window_is_unsigned, "MUST-1: a window of 65535 lets more than 32767 bytes into flight")
{
	struct peer *p = peer_established();
	uint64_t flight = 0;

	app_set(p, SOCK_OPT_SNDBUF, 400000);
	app_write(p, 200000);
	for (int i = 1; i < 10; i++) {
		flight = peer_takes_bytes(p);
		if (flight > 32767)
			break;
		peer_sends(p, AT_MS(10 * i), SEG());
	}
	expect_that(p, flight > 32767 && flight <= 65535);
}

TEST(idle_costs_little, "an idle connection costs at most 4 KiB of the region, before and after traffic")
{
	struct peer *p = peer_established();

	expect_that(p, sock_region_bytes(&p->cx, p->sock) <= 4096);
	app_set(p, SOCK_OPT_SNDBUF, 200000);
	app_write(p, 100000);
	expect_that(p, sock_region_bytes(&p->cx, p->sock) > 100000);
	for (int i = 1; i < 60; i++) {
		(void)peer_takes_bytes(p);
		peer_sends(p, AT_MS(10 * i), SEG());
	}
	expect_that(p, sock_region_bytes(&p->cx, p->sock) <= 4096);
}

static void big_window(struct peer *p, uint64_t want, int wscale)
{
	uint64_t flight = 0;
	(void)wscale;

	app_set(p, SOCK_OPT_SNDBUF, 2000000);
	for (int i = 1; i < 40 && flight <= want; i++) {
		while (app_try_write(p, 100000, 0) > 0)
			;
		flight = peer_takes_bytes(p);
		peer_sends(p, AT_MS(10 * i), SEG());
	}
	flight = MAX_OF(flight, peer_takes_bytes(p));
	expect_that(p, flight > want);
}

TEST(scaled_window, "REC-1, RFC 7323 2.3: a scaled window lets more than 64 KiB into flight")
{
	big_window(peer_established_with(WITH(.wscale = 7)), 200000, 7);
}

TEST(scale_above_14, "RFC 7323 2.3: a window scale above 14 counts as 14")
{
	struct peer *p = peer_established_with(WITH(.wscale = 15, .wnd = 10));

	expect_equal(p, info_of(p).snd_wscale, 14);
	peer_sends(p, AT_MS(1), SEG(.wnd = 10));
	expect_equal(p, info_of(p).snd_wnd, 10 << 14);
}

TEST(syn_window_unscaled, "RFC 7323 2.2: the window of a SYN-ACK is not scaled")
{
	struct peer *p = peer_established_with(WITH(.wscale = 7, .wnd = 2000));

	expect_equal(p, info_of(p).snd_wnd, 2000);
}

TEST(no_scale_without_offer, "RFC 7323 2.2: when the peer offers no scale, neither direction scales")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(1), SEG(.wnd = 3000));
	expect_equal(p, info_of(p).snd_wnd, 3000);
	expect_equal(p, info_of(p).rcv_wscale, 0);
}

static void no_wscale(struct stack_config *c)
{
	c->wscale = c->timestamps = c->sack = false;
}

TEST(options_off, "RFC 7323 2.2, RFC 2018 2: options that are switched off are neither offered nor used")
{
	struct peer *p = peer_closed(WITH(.wscale = 7, .configure = no_wscale, .sack = true));

	peer_switches(p, 4000, 80);
	app_connect(p);
	expect_segment(
	    p, SEG(.flags = SYN, .wscale = ABSENT, .ts_val = ABSENT, .sack_permitted = 0, .mss = 1460));
	peer_sends(p, AT_MS(1), SEG(.flags = SYN | ACK));
	expect_segment(p, SEG(.flags = ACK, .ts_val = ABSENT));
	peer_sends(p, AT_MS(1), SEG(.wnd = 3000));
	expect_equal(p, info_of(p).snd_wnd, 3000);
}

TEST(nagle, "SHLD-7: with data in flight a second small write waits for its ACK")
{
	struct peer *p = peer_established();

	app_write(p, 10);
	expect_segment(p, SEG(.len = 10, .seq = 1001));
	app_write(p, 10);
	app_write(p, 10);
	expect_nothing(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 1011));
	expect_segment(p, SEG(.len = 20, .seq = 1011, .psh = 1));
}

TEST(nagle_full_segment, "SHLD-7, SHLD-28: a full segment goes even while data is in flight")
{
	struct peer *p = peer_established();

	app_write(p, 10);
	expect_segment(p, SEG(.len = 10));
	app_write(p, 1500);
	expect_segment(p, SEG(.len = 1460, .seq = 1011));
	peer_takes_all(p);
}

TEST(nodelay, "MUST-17: TCP_NODELAY: a second small write goes at once")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_NODELAY, 1);
	app_write(p, 10);
	expect_segment(p, SEG(.len = 10));
	app_write(p, 10);
	expect_segment(p, SEG(.len = 10, .seq = 1011));
}

TEST(nodelay_releases, "MUST-17: setting TCP_NODELAY lets go what Nagle held back")
{
	struct peer *p = peer_established();

	app_write(p, 10);
	expect_segment(p, SEG(.len = 10));
	app_write(p, 10);
	expect_nothing(p);
	app_set(p, SOCK_OPT_NODELAY, 1);
	expect_segment(p, SEG(.len = 10, .seq = 1011));
}

TEST(cork, "requirements 4 (TCP_CORK honoured): a corked socket sends full segments only, the rest on uncork")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_CORK, 1);
	app_write(p, 100);
	expect_nothing(p);
	app_write(p, 1460);
	expect_segment(p, SEG(.len = 1460, .seq = 1001));
	expect_nothing(p);
	app_set(p, SOCK_OPT_CORK, 0);
	expect_segment(p, SEG(.len = 100, .seq = 2461, .psh = 1));
}

TEST(cork_timeout, "requirements 4 (TCP_CORK honoured): held data leaves after 200 ms at the latest")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_CORK, 1);
	app_write(p, 100);
	expect_nothing(p);
	advance_to(p, AT_MS(600));
	expect_segment(p, SEG(.len = 100, .seq = 1001));
	peer_takes_all(p);
}

TEST(send_more, "requirements 4: MSG_MORE holds a partial segment until the next write")
{
	struct peer *p = peer_established();

	expect_equal(p, app_try_write(p, 100, SOCK_MSG_MORE), 100);
	expect_nothing(p);
	app_write(p, 50);
	expect_segment(p, SEG(.len = 150, .seq = 1001));
}

TEST(close_uncorks, "RFC 9293 3.10.4: close sends what a cork held back, with FIN")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_CORK, 1);
	app_write(p, 100);
	app_close(p);
	expect_segment(p, SEG(.flags = FIN | ACK, .len = 100));
}

TEST(zero_window_probe,
     "MUST-36, SHLD-29, SHLD-30: a closed window is probed after the RTO, then with doubling intervals")
{
	struct peer *p = peer_established();
	nsec rto = (nsec)info_of(p).rto * NS_PER_US;

	peer_sends(p, AT_MS(0), SEG(.wnd = 0));
	app_write(p, 100);
	expect_nothing(p);
	expect_at(p, rto, SEG(.flags = ACK, .ack = 5001));
	peer_sends(p, NOW, SEG(.wnd = 0));
	expect_at(p, 3 * rto, SEG(.flags = ACK));
	peer_sends(p, NOW, SEG(.wnd = 0));
	expect_at(p, 7 * rto, SEG(.flags = ACK));
	peer_sends(p, NOW, SEG(.wnd = 0));
	expect_that(p, counter(p, tcp_persist) == 3);
	peer_sends(p, 7 * rto + AT_MS(50), SEG(.wnd = 65535));
	expect_segment(p, SEG(.len = 100, .seq = 1001));
}

TEST(zero_window_forever,
     "MUST-37, SHLD-17: with its probes acknowledged a connection lives on a closed window for a day")
{
	struct peer *p = peer_established();
	int probes = 0;

	peer_sends(p, AT_MS(0), SEG(.wnd = 0));
	app_write(p, 100);
	while (p->cx.now - p->epoch < AT_S(86400)) {
		advance_by(p, AT_S(10));
		if (peer_takes_all(p)) {
			probes++;
			peer_sends(p, NOW, SEG(.wnd = 0));
		}
	}
	expect_state(p, S_ESTABLISHED);
	expect_that(p, probes >= 86400 / 125);
	peer_sends(p, NOW, SEG(.wnd = 1000));
	expect_segment(p, SEG(.len = 100, .seq = 1001));
}

TEST(window_reopens_without_probe,
     "RFC 9293 3.8.6.1: a window update releases the data at once and stops the probing")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(0), SEG(.wnd = 0));
	app_write(p, 3000);
	peer_sends(p, AT_MS(50), SEG(.wnd = 1460));
	expect_segment(p, SEG(.len = 1460, .seq = 1001));
	peer_sends(p, AT_MS(60), SEG(.ack = 2461, .wnd = 65535));
	expect_segment(p, SEG(.len = 1460, .seq = 2461));
	expect_segment(p, SEG(.len = 80, .seq = 3921));
	peer_sends(p, AT_MS(70), SEG());
	advance_to(p, AT_S(60));
	expect_nothing(p);
}

TEST(window_update_rule,
     "RFC 9293 3.10.7.4 step 5 (SND.WL1, SND.WL2): an older segment does not update the window")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(1), SEG(.len = 10, .wnd = 5000));
	peer_takes_all(p);
	expect_equal(p, info_of(p).snd_wnd, 5000);
	peer_sends(p, AT_MS(2), SEG(.seq = 5001, .len = 5, .wnd = 100));
	peer_takes_all(p);
	expect_equal(p, info_of(p).snd_wnd, 5000);
}

TEST(shrinking_window,
     "MUST-34, SHLD-15: when the peer pulls its window in, nothing new is sent and nothing breaks")
{
	struct peer *p = peer_established();

	app_write(p, 14600);
	expect_equal(p, peer_takes_bytes(p), 14600);
	app_try_write(p, 2000, 0);
	peer_takes_all(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 2461, .wnd = 2920));
	expect_equal(p, peer_takes_bytes(p), 0);
	expect_state(p, S_ESTABLISHED);
}

TEST(shrunk_window_retransmits, "SHLD-16, MAY-7: data inside the shrunk window is still retransmitted")
{
	struct peer *p = peer_established();

	app_write(p, 14600);
	peer_takes_all(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 2461, .wnd = 2920));
	advance_to(p, AT_S(1));
	struct emitted *e = peer_takes(p);
	expect_that(p, e && e->im.seq == p->conv->our_iss + 1461);
	peer_takes_all(p);
}

TEST(shrunk_to_zero,
     "MUST-35, SHLD-17: a window shrunk to zero is probed and the connection survives an hour of it")
{
	struct peer *p = peer_established();
	int probes = 0;

	app_write(p, 5000);
	peer_takes_all(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 2461, .wnd = 0));
	while (p->cx.now - p->epoch < AT_S(3600)) {
		advance_by(p, AT_S(1));
		if (peer_takes_all(p)) {
			probes++;
			peer_sends(p, NOW, SEG(.ack = 2461, .wnd = 0));
		}
	}
	expect_that(p, probes > 20);
	expect_state(p, S_ESTABLISHED);
	peer_sends(p, NOW, SEG(.ack = 2461, .wnd = 65535));
	advance_by(p, AT_S(130));
	expect_that(p, peer_takes_bytes(p) > 0);
}

TEST(sender_sws, "MUST-38: a window opened by a few bytes draws no tiny segment before the override time")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(0), SEG(.wnd = 0));
	app_write(p, 5000);
	peer_sends(p, AT_MS(10), SEG(.wnd = 10));
	expect_nothing(p);
	advance_to(p, AT_MS(109));
	expect_equal(p, peer_takes_bytes(p), 0);
	advance_to(p, AT_MS(1100));
	expect_that(p, peer_takes_bytes(p) >= 10);
}

TEST(sender_half_window, "MUST-38: a peer whose whole window is small is sent half of it or more at once")
{
	struct peer *p = peer_established_with(WITH(.wnd = 500));

	app_write(p, 2000);
	expect_segment(p, SEG(.len = 500, .seq = 1001));
	peer_sends(p, AT_MS(10), SEG(.ack = 1501, .wnd = 300));
	expect_segment(p, SEG(.len = 300, .seq = 1501));
}

/* Fill our receive buffer until the window is closed; the bytes in it. */
static uint32_t fill(struct peer *p)
{
	uint32_t total = 0;

	for (int i = 0; i < 3000; i++) {
		uint32_t n = MIN_OF(info_of(p).rcv_wnd, 1460u);
		if (!n)
			break;
		peer_sends(p, NOW, SEG(.len = n));
		advance_by(p, AT_MS(1));
		total += n;
	}
	advance_by(p, AT_MS(300));
	peer_takes_all(p);
	expect_equal(p, info_of(p).rcv_wnd, 0);
	return total;
}

TEST(receiver_sws, "MUST-39: reading byte by byte opens the window only by a full segment or half the buffer")
{
	struct peer *p = peer_established();
	uint32_t total, edge, read = 0;

	app_set(p, SOCK_OPT_RCVBUF, 8192);
	total = fill(p);
	expect_that(p, total >= 8192);
	edge = p->conv->emitter.edge;
	while (read < total) {
		app_read(p, 1);
		read++;
		for (struct emitted *e; (e = peer_takes(p));) {
			uint32_t now = e->im.ack + e->im.wnd;
			expect_that(p, now - edge >= 1460 || now - edge >= 4096);
			edge = now;
		}
	}
	expect_that(p, info_of(p).rcv_wnd >= 4096);
}

TEST(zero_window_probe_answered,
     "MAY-8, RFC 9293 3.8.6.1: probes of our closed window are answered for ever, one byte or none")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_RCVBUF, 4096);
	fill(p);
	expect_that(p, counter(p, tcp_zero_window) >= 1);
	for (int i = 1; i < 20; i++) {
		uint32_t next = p->conv->peer_next;
		advance_by(p, AT_S(60));
		peer_sends(p, NOW, SEG(.seq = i % 2 ? next : next - 1, .len = i % 2));
		expect_segment(p, SEG(.flags = ACK, .ack = next, .wnd = 0));
		p->conv->peer_next = next;
	}
	app_edges(p);
}

TEST(window_update_after_read,
     "RFC 9293 3.8.6.2.2: reading a full buffer re-opens the closed window by an ACK")
{
	struct peer *p = peer_established();
	uint32_t total;

	app_set(p, SOCK_OPT_RCVBUF, 8192);
	total = fill(p);
	app_read(p, total);
	struct emitted *e = peer_takes(p);
	expect_that(p, e && e->im.wnd >= 1460);
	peer_takes_all(p);
}

TEST(idle_receiver_keeps_window, "SHLD-14: a smaller SO_RCVBUF does not pull the promised edge back")
{
	struct peer *p = peer_established_with(WITH(.wscale = 7));

	peer_sends(p, AT_MS(1), SEG(.len = 1000));
	app_set(p, SOCK_OPT_RCVBUF, 2048);
	for (int i = 0; i < 20; i++)
		peer_sends(p, AT_MS(2 + i), SEG(.len = 1));
	advance_by(p, AT_MS(500));
	peer_takes_all(p);
}

TEST(odd_sizes_with_scale,
     "SHLD-14, RFC 7323 2.4: with scaling, odd-sized segments do not move the right edge left by rounding")
{
	struct peer *p = peer_established_with(WITH(.wscale = 7));

	for (int i = 0; i < 300; i++) {
		peer_sends(p, AT_MS(i), SEG(.len = 1 + i % 13));
		if (i % 17 == 0)
			app_try_read(p, 40, 0);
	}
	advance_by(p, AT_MS(500));
	peer_takes_all(p);
}

TEST(write_readiness, "REC-1: a full send buffer is not writable; room makes an edge")
{
	struct peer *p = peer_established_with(WITH(.wnd = 1000));

	while (app_try_write(p, 10000, 0) > 0)
		;
	expect_equal(p, app_try_write(p, 1, 0), -EAGAIN);
	expect_events(p, SOCK_OUT, 0);
	app_edges(p);
	for (int i = 1; i < 3000 && !(app_edges(p) & SOCK_OUT); i++) {
		peer_takes_all(p);
		peer_sends(p, AT_MS(10 * i), SEG(.wnd = 20000));
	}
	expect_events(p, SOCK_OUT, SOCK_OUT);
	peer_takes_all(p);
}

static void small_rcvbuf(struct stack_cx *cx, ref s)
{
	sock_set_option(cx, s, SOCK_OPT_RCVBUF, 8192);
}

TEST(receiver_sws_crumbs, "MUST-39: with the buffer more than half full the edge moves by a segment or half "
			  "the buffer, or not at all")
{
	struct peer *p = peer_established_with(WITH(.prepare = small_rcvbuf));
	uint32_t edge;

	for (int i = 0; i < 5; i++)
		peer_sends(p, AT_MS(i), SEG(.len = 1000));
	peer_takes_all(p);
	edge = p->conv->emitter.edge;
	for (int i = 0; i < 8; i++) {
		app_read(p, 100);
		peer_sends(p, AT_MS(10 + i), SEG(.len = 100));
		for (struct emitted *e; (e = peer_takes(p));) {
			uint32_t now = e->im.ack + e->im.wnd;
			expect_that(p, now == edge || now - edge >= 1460);
			edge = now;
		}
	}
	peer_takes_all(p);
}

TEST(fin_and_zero_window,
     "MUST-36, RFC 9293 3.8.6.1: a FIN is in no closed window; it leaves when that opens")
{
	struct peer *p = peer_established();

	app_write(p, 1000);
	peer_takes_all(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 2001, .wnd = 0));
	app_shutdown(p, 1);
	expect_nothing(p);
	advance_to(p, AT_MS(900));
	expect_segment(p, SEG(.flags = ACK, .seq = 2000, .len = 0));
	peer_takes_all(p);
	peer_sends(p, AT_MS(901), SEG(.ack = 2001, .wnd = 1));
	expect_segment(p, SEG(.flags = FIN | ACK, .seq = 2001, .len = 0));
}

TEST(ack_in_a_shrunk_window,
     "MUST-34: an ACK does not lie beyond a window that shrank, where nobody would take it")
{
	struct peer *p = peer_established_with(WITH(.wnd = 5000));

	app_write(p, 5000);
	peer_takes_all(p);
	peer_sends(p, AT_MS(10), SEG(.ack = 1001, .wnd = 2000, .len = 100));
	expect_segment(p, SEG(.flags = ACK, .seq = 3001, .ack = 5101, .len = 0));
}
