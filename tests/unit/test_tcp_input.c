/* test_tcp_input.c - from IP to the socket: checksum, header, ports, and each kind of receiver. */
#include "tests/unit/segpeer.h"

static uint8_t wire[4096];

/* A TCP segment of the peer's, its checksum right; its length. */
static uint32_t compose(uint16_t from, uint16_t to, uint8_t flags, uint32_t seq, uint32_t ack, uint32_t len)
{
	struct endpoint src = peer_end(from), dst = our_end(to);
	uint32_t n = wire_build(wire, from, to, seq_of(seq), seq_of(ack), flags, 60000, 0, NULL);

	memset(wire + n, 'x', len);
	uint16_t sum =
	    (uint16_t)~csum_fold(csum_partial(wire, n + len, csum_tcp_pseudo(&src.addr, &dst.addr, n + len)));
	memcpy(wire + 16, &sum, 2);
	return n + len;
}

static void input(struct frame_rx *f, struct ipaddr dst, uint32_t len)
{
	struct ipaddr src = peer_end(0).addr;

	tcp_input(&t.cx, f, &src, &dst, 0, wire, len);
	stack_flush(&t.cx);
}

static void arrive(uint32_t len)
{
	struct frame_rx f = {.data = wire};

	input(&f, our_end(0).addr, len);
}

/* MUST-3: one wrong bit anywhere; and who has looked at it already is believed. */
static void test_checksum(void)
{
	struct frame_rx trusted = {.data = wire, .csum = FRAME_CSUM_TRUSTED};

	start();
	uint32_t len = compose(4000, 80, TH_ACK, 1, 2, 7);
	for (uint32_t bit = 0; bit < 8 * len; bit++) {
		wire[bit / 8] ^= (uint8_t)(1 << bit % 8);
		arrive(len);
		wire[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	CHECK_EQ(stack_counters(&t.cx)->tcp_bad_csum, 8 * len);
	CHECK_EQ(stack_counters(&t.cx)->tcp_in, 8 * len);
	CHECK_EQ(t.frame_count, 0);
	arrive(len);
	CHECK_EQ(t.frame_count, 1);
	wire[len - 1] ^= 1;
	input(&trusted, our_end(0).addr, len);
	CHECK_EQ(t.frame_count, 2);
	CHECK_EQ(stack_counters(&t.cx)->tcp_no_socket, 2);
	finish();
}

/* A right checksum does not make a header: every length below the header's own, and port 0. */
static void test_header(void)
{
	struct frame_rx trusted = {.data = wire, .csum = FRAME_CSUM_TRUSTED};

	start();
	compose(4000, 80, TH_ACK, 1, 2, 0);
	for (uint32_t len = 0; len < 20; len++)
		input(&trusted, our_end(0).addr, len);
	CHECK_EQ(stack_counters(&t.cx)->tcp_bad_header, 20);
	wire[12] = 0x60; /* 24 octets, of which there are 20 */
	input(&trusted, our_end(0).addr, 20);
	wire[12] = 0x40; /* 16 */
	input(&trusted, our_end(0).addr, 20);
	CHECK_EQ(stack_counters(&t.cx)->tcp_bad_header, 22);
	arrive(compose(0, 80, TH_ACK, 1, 2, 0));
	arrive(compose(4000, 0, TH_ACK, 1, 2, 0));
	CHECK_EQ(stack_counters(&t.cx)->tcp_bad_header, 24);
	CHECK_EQ(stack_counters(&t.cx)->tcp_no_socket, 0);
	CHECK_EQ(t.frame_count, 0);
	finish();
}

/* RFC 9293 3.10.7.1: the two forms of the answer; none to a RST. */
static void test_no_socket(void)
{
	start();
	arrive(compose(4000, 80, TH_ACK, 1, 77, 0));
	struct segment s = heard();
	CHECK_EQ(s.flags, TH_RST);
	CHECK_EQ(s.seq.v, 77);
	arrive(compose(4000, 80, TH_SYN | TH_FIN, 100, 0, 5));
	s = heard();
	CHECK_EQ(s.flags, TH_RST | TH_ACK);
	CHECK_EQ(s.seq.v, 0);
	CHECK_EQ(s.ack.v, 107);
	CHECK_EQ(s.dst.port, 4000);
	arrive(compose(4000, 80, TH_RST, 100, 0, 0));
	CHECK_EQ(t.frame_count, 0);
	CHECK_EQ(stack_counters(&t.cx)->tcp_no_socket, 3);
	CHECK_EQ(stack_counters(&t.cx)->tcp_rst_out, 2);
	finish();
}

/* MUST-57: what was sent to many opens nothing and draws no answer. */
static void test_to_many(void)
{
	static const uint8_t many[][4] = {
	    {10, 0, 0, 255}, {10, 0, 0, 0}, {255, 255, 255, 255}, {224, 0, 0, 1}};
	struct frame_rx trusted = {.data = wire, .csum = FRAME_CSUM_TRUSTED};

	start();
	ref l = listener(5);
	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		uint32_t len = compose(4000, 80, TH_SYN, 1, 0, 0);
		input(&trusted, ipaddr_from_v4(many[i]), len);
		len = compose(4000, 80, TH_ACK, 1, 2, 0);
		input(&trusted, ipaddr_from_v4(many[i]), len);
		len = compose(4000, 81, TH_SYN, 1, 0, 0); /* no listener */
		input(&trusted, ipaddr_from_v4(many[i]), len);
	}
	CHECK_EQ(t.frame_count, 0);
	CHECK_EQ(tcb_at(&t.cx, l)->syn_count, 0);
	arrive(compose(4000, 80, TH_SYN, 1, 0, 0));
	CHECK_EQ(t.frame_count, 1);
	CHECK_EQ(tcb_at(&t.cx, l)->syn_count, 1);
	finish();
}

/* A connection, a TIME-WAIT, a listener: each gets what is its own. */
static void test_receivers(void)
{
	uint32_t iss;
	uint16_t port;

	start();
	ref s = connected(&iss, &port);
	ref l = listener(5);
	arrive(compose(4000, port, TH_ACK | TH_PSH, 5001, iss + 1, 10));
	CHECK_EQ(tcb_at(&t.cx, s)->bytes_received, 10);
	arrive(compose(4001, port, TH_ACK | TH_PSH, 5001, iss + 1, 10)); /* another port: nobody's */
	CHECK_EQ(tcb_at(&t.cx, s)->bytes_received, 10);
	CHECK_EQ(stack_counters(&t.cx)->tcp_no_socket, 1);
	arrive(compose(4000, 80, TH_SYN, 9000, 0, 0));
	CHECK_EQ(tcb_at(&t.cx, l)->syn_count, 1);
	int64_t n = sock_recv(&t.cx, s, &(struct iovec){wire, 100}, 1, 0);
	CHECK_EQ(n, 10);
	sock_close(&t.cx, s);
	arrive(compose(4000, port, TH_FIN | TH_ACK, 5011, iss + 2, 0));
	CHECK_EQ(pool_live(&t.cx, POOL_TIMEWAIT), 1);
	testcx_forget(&t);
	arrive(compose(4000, port, TH_FIN | TH_ACK, 5011, iss + 2, 0));
	CHECK_EQ(heard().ack.v, 5012); /* the TIME-WAIT's */
	CHECK_EQ(stack_counters(&t.cx)->tcp_no_socket, 1);
	finish();
}

/* A super-segment tells the peer's segment size; one that is no larger than its segments is none. */
static void test_super_segment(void)
{
	uint32_t iss;
	struct frame_rx f = {.data = wire, .csum = FRAME_CSUM_TRUSTED};

	start();
	struct tcb *c = tcb_at(&t.cx, accepted(&iss));
	f.gso_size = 1000;
	input(&f, our_end(0).addr, compose(4000, 80, TH_ACK, 5001, iss + 1, 3000));
	CHECK_EQ(c->rcv_mss, 1000);
	CHECK_EQ(c->rcv_nxt.v, 8001);
	f.gso_size = 1200;
	input(&f, our_end(0).addr, compose(4000, 80, TH_ACK, 8001, iss + 1, 1200));
	CHECK_EQ(c->rcv_mss, 1200);
	f.gso_size = 1400; /* a lie: it is one segment of 1300 */
	input(&f, our_end(0).addr, compose(4000, 80, TH_ACK, 9201, iss + 1, 1300));
	CHECK_EQ(c->rcv_mss, 1300);
	finish();
}

CHECK_MAIN("tcp_input", {"MUST-3: a wrong bit anywhere", test_checksum},
	   {"MUST-7: short headers, port 0", test_header},
	   {"RFC 9293 3.10.7.1: nobody is there", test_no_socket}, {"MUST-57: sent to many", test_to_many},
	   {"each receiver gets its own", test_receivers}, {"super-segments", test_super_segment})
