/*
 * test_listen.c - listeners: backlog, queues, coexistence, and SYNs that must
 * not be believed.
 */
#include "dialogue.h"

static void syn_from(struct peer *p, uint16_t port)
{
	peer_switches(p, 80, port);
	peer_sends(p, NOW, SEG(.flags = SYN, .seq = 5000));
}

/* A finished handshake from that port. */
static void connect_from(struct peer *p, uint16_t port)
{
	syn_from(p, port);
	expect_segment(p, SEG(.flags = SYN | ACK));
	peer_sends(p, NOW, SEG(.flags = ACK));
}

TEST(listen_twice, "MUST-41: a second listener on the port is refused and the first is unaffected")
{
	struct peer *p = peer_listen();
	struct endpoint local = {ipaddr_v4(0, 0, 0, 0), 80};

	p->sock = sock_create(&p->cx);
	expect_equal(p, sock_listen(&p->cx, p->sock, &local, 5), -EADDRINUSE);
	connect_from(p, 4000);
	app_accept(p);
}

TEST(listen_beside_client, "MUST-42: a listener lives beside a connection from the same local port")
{
	struct peer *p = peer_syn_sent();
	struct endpoint local = {ipaddr_v4(0, 0, 0, 0), 4000};
	ref l = sock_create(&p->cx);

	expect_equal(p, sock_listen(&p->cx, l, &local, 5), 0);
	peer_sends(p, AT_MS(1), SEG(.flags = SYN | ACK, .ack = 1001));
	expect_segment(p, SEG(.flags = ACK));
	peer_switches(p, 4000, 999);
	peer_sends(p, AT_MS(2), SEG(.flags = SYN));
	expect_segment(p, SEG(.flags = SYN | ACK));
}

TEST(listen_specific_address,
     "RFC 9293 3.10.1, MUST-43: a listener on the stack's address takes its connections")
{
	struct peer *p = peer_closed(WITH());
	struct endpoint local = {ipaddr_v4(10, 0, 0, 2), 80};

	expect_equal(p, sock_listen(&p->cx, p->sock, &local, 5), 0);
	p->listener = p->sock;
	connect_from(p, 4000);
	app_accept(p);
}

TEST(accept_in_order, "RFC 9293 3.10.7.2: connections are accepted in the order of their completion")
{
	struct peer *p = peer_listen();
	struct endpoint remote;

	for (uint16_t port = 4000; port < 4005; port++)
		connect_from(p, port);
	int q = 0;
	sock_get_option(&p->cx, p->listener, SOCK_OPT_ACCEPTQ, &q);
	expect_equal(p, q, 5);
	for (uint16_t port = 4000; port < 4005; port++) {
		app_accept(p);
		sock_names(&p->cx, p->sock, NULL, &remote);
		expect_equal(p, remote.port, port);
	}
	expect_equal(p, sock_accept(&p->cx, p->listener), REF_NONE);
}

TEST(unaccept, "traps 26: a connection that accept could not deliver stays the first in the queue")
{
	struct peer *p = peer_listen();
	ref first;

	connect_from(p, 4000);
	connect_from(p, 4001);
	first = sock_accept(&p->cx, p->listener);
	sock_unaccept(&p->cx, p->listener, first);
	expect_that(p, sock_events(&p->cx, p->listener) & SOCK_IN);
	expect_equal(p, sock_accept(&p->cx, p->listener), first);
	expect_that(p, sock_accept(&p->cx, p->listener) != REF_NONE);
}

TEST(accept_queue_full, "RFC 4987, requirements 2 (backlog): with the accept queue full, further handshakes "
			"wait or are dropped, not reset")
{
	struct peer *p = peer_listen_with(WITH(.backlog = 2));
	int accepted = 0;

	for (uint16_t port = 4000; port < 4006; port++) {
		syn_from(p, port);
		for (struct emitted *e; (e = peer_takes(p));)
			expect_equal(p, e->im.flags & RST, 0);
		if (p->conv->our_iss_known)
			peer_sends(p, NOW, SEG(.flags = ACK));
		for (struct emitted *e; (e = peer_takes(p));)
			expect_equal(p, e->im.flags & RST, 0);
	}
	expect_that(p, counter(p, tcp_listen_overflow) + counter(p, tcp_listen_drop) >= 1);
	while (sock_accept(&p->cx, p->listener) != REF_NONE)
		accepted++;
	expect_that(p, accepted >= 2 && accepted <= 3);
	p->queue_first = p->queue_last = 0;
}

TEST(accept_queue_recovers,
     "requirements 2 (backlog): a handshake that found the queue full completes once there is room")
{
	struct peer *p = peer_listen_with(WITH(.backlog = 1));
	int got = 0;

	for (uint16_t port = 4000; port < 4003; port++) {
		syn_from(p, port);
		p->queue_first = p->queue_last = 0;
		if (p->conv->our_iss_known)
			peer_sends(p, NOW, SEG(.flags = ACK));
	}
	while (sock_accept(&p->cx, p->listener) != REF_NONE)
		got++;
	for (int s = 1; s < 20; s++) {
		advance_to(p, AT_S(s));
		p->queue_first = p->queue_last = 0;
		for (uint16_t port = 4000; port < 4003; port++) {
			peer_switches(p, 80, port);
			if (!p->conv->our_iss_known)
				syn_from(p, port);
			peer_sends(p, NOW, SEG(.flags = ACK, .seq = 5001));
			while (sock_accept(&p->cx, p->listener) != REF_NONE)
				got++;
		}
		p->queue_first = p->queue_last = 0;
	}
	expect_equal(p, got, 3);
}

TEST(backlog_zero, "traps 26: a backlog of 0 still admits one connection")
{
	struct peer *p = peer_listen_with(WITH(.backlog = 0));

	connect_from(p, 4000);
	app_accept(p);
}

TEST(syn_flood,
     "RFC 4987: a flood of SYNs from foreign ports is held in bounded memory and an established flow lives")
{
	struct peer *p = peer_listen_with(WITH(.backlog = 16));
	uint8_t frame[200];

	connect_from(p, 4000);
	app_accept(p);
	for (uint32_t i = 0; i < 20000; i++) {
		struct image im = {.src = 0x0a000010 + i % 200,
				   .dst = 0x0a000002,
				   .dport = 80,
				   .flags = SYN,
				   .sport = (uint16_t)(1024 + i / 200),
				   .seq = i,
				   .wnd = 1000,
				   .mss = 1460,
				   .wscale = -1};
		static const uint8_t to[6] = {2, 0, 0, 0, 0, 2}, from[6] = {2, 0, 0, 0, 0, 1};
		struct frame_rx rx = {.data = frame, .len = image_build(frame, to, from, &im)};
		int (*tx)(struct stack_cx *, const struct frame_tx *) = p->cx.tx;
		extern int swallow(struct stack_cx * cx, const struct frame_tx *f);
		p->cx.tx = swallow;
		stack_input(&p->cx, &rx);
		stack_flush(&p->cx);
		p->cx.tx = tx;
	}
	expect_that(p, pool_live(&p->cx, POOL_TCB) < 5000);
	expect_that(p, counter(p, tcp_listen_drop) > 0);
	peer_switches(p, 80, 4000);
	peer_sends(p, NOW, SEG(.len = 100));
	expect_segment(p, SEG(.ack = 5101));
	app_read(p, 100);
}

int swallow(struct stack_cx *cx, const struct frame_tx *f);
int swallow(struct stack_cx *cx, const struct frame_tx *f)
{
	(void)cx;
	(void)f;
	return 0;
}

TEST(listener_closed, "requirements 4 (listener freed while children live): closing a listener resets what "
		      "waits and keeps what was accepted")
{
	struct peer *p = peer_listen();
	ref kept;

	connect_from(p, 4000);
	kept = sock_accept(&p->cx, p->listener);
	connect_from(p, 4001);
	syn_from(p, 4002);
	expect_segment(p, SEG(.flags = SYN | ACK));
	sock_close(&p->cx, p->listener);
	stack_flush(&p->cx);
	int resets = 0;
	for (struct emitted *e; (e = peer_takes(p));)
		resets += (e->im.flags & RST) != 0;
	p->queue_first = p->queue_last = 0;
	expect_that(p, resets >= 1);
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 1);
	p->sock = kept;
	peer_switches(p, 80, 4000);
	peer_sends(p, AT_MS(1), SEG(.len = 10));
	expect_segment(p, SEG(.ack = 5011));
	app_read(p, 10);
	syn_from(p, 4003);
	struct emitted *e = peer_takes(p);
	expect_that(p, e && (e->im.flags & RST));
}

/* A SYN with these addresses must not be answered at all. */
static void silent(struct peer *p, uint32_t src, uint32_t dst, bool to_all)
{
	uint8_t frame[200];
	struct image im = {.src = src,
			   .dst = dst,
			   .sport = 4000,
			   .dport = 80,
			   .seq = 5,
			   .flags = SYN,
			   .wnd = 100,
			   .mss = 1460,
			   .wscale = -1};
	static const uint8_t to[6] = {2, 0, 0, 0, 0, 2}, from[6] = {2, 0, 0, 0, 0, 1},
			     all[6] = {255, 255, 255, 255, 255, 255};

	peer_sends_frame(p, NOW, frame, image_build(frame, to_all ? all : to, from, &im));
	expect_nothing(p);
}

TEST(syn_to_broadcast, "MUST-57: a SYN to a broadcast or multicast address is dropped silently")
{
	struct peer *p = peer_listen_with(WITH(.arp = true));

	silent(p, 0x0a000001, 0x0a0000ff, false);
	silent(p, 0x0a000001, 0x0a0000ff, true);
	silent(p, 0x0a000001, 0xffffffff, true);
	silent(p, 0x0a000001, 0xe0000001, true);
	silent(p, 0x0a000001, 0x0a000002, true); /* our address inside a link broadcast */
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 1);
}

TEST(syn_from_invalid_source,
     "MUST-63: a SYN from an address that cannot be a host is dropped silently (LAND among them)")
{
	struct peer *p = peer_listen();

	silent(p, 0x00000000, 0x0a000002, false);
	silent(p, 0x7f000001, 0x0a000002, false);
	silent(p, 0xe0000001, 0x0a000002, false);
	silent(p, 0xffffffff, 0x0a000002, false);
	silent(p, 0x0a0000ff, 0x0a000002, false);
	silent(p, 0x0a000002, 0x0a000002, false);
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 1);
}

TEST(syn_to_other_host, "RFC 1122 3.2.1.3: a datagram for another address is dropped")
{
	silent(peer_listen(), 0x0a000001, 0x0a000003, false);
}

TEST(syn_with_fin, "RFC 9293 3.10.7.2: SYN with FIN is nonsense, and a listener drops it as Linux does")
{
	struct peer *p = peer_listen();

	peer_sends(p, AT_MS(1), SEG(.flags = SYN | FIN));
	expect_nothing(p);
	expect_equal(p, sock_accept(&p->cx, p->listener), REF_NONE);
}

TEST(child_inherits, "SHLD-7, MUST-24: an accepted socket inherits the listener's options")
{
	struct peer *p = peer_listen();

	sock_set_option(&p->cx, p->listener, SOCK_OPT_NODELAY, 1);
	sock_set_option(&p->cx, p->listener, SOCK_OPT_KEEPALIVE, 1);
	connect_from(p, 4000);
	app_accept(p);
	expect_equal(p, app_get(p, SOCK_OPT_NODELAY), 1);
	expect_equal(p, app_get(p, SOCK_OPT_KEEPALIVE), 1);
	expect_equal(p, app_get(p, SOCK_OPT_ACCEPTCONN), 0);
}

TEST(reset_in_accept_queue,
     "MUST-12: a connection reset while it waits is still accepted and tells ECONNRESET")
{
	struct peer *p = peer_listen();

	connect_from(p, 4000);
	peer_sends(p, AT_MS(1), SEG(.flags = RST));
	ref s = sock_accept(&p->cx, p->listener);
	if (s) {
		p->sock = s;
		expect_equal(p, app_try_read(p, 1, 0), -ECONNRESET);
	}
	expect_nothing(p);
}
