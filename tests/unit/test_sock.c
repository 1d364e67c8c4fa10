/* test_sock.c - the verbs: the order of their outcomes, partial writes, urgent bytes, names, accounts. */
#include "core/send.h"
#include "tests/unit/segpeer.h"

static uint8_t bytes[1 << 20];

static int64_t put_flags(ref s, uint64_t n, uint32_t flags)
{
	int64_t r = sock_send(&t.cx, s, &(struct iovec){bytes, n}, 1, flags);

	stack_flush(&t.cx);
	testcx_forget(&t);
	return r;
}
static int64_t put(ref s, uint64_t n)
{
	return put_flags(s, n, 0);
}
static int64_t take(ref s, uint64_t n, uint32_t flags)
{
	return sock_recv(&t.cx, s, &(struct iovec){bytes, n}, 1, flags);
}

/* The hard error goes first, the network's hint after it, each once. */
static void test_take_error(void)
{
	start();
	ref s = sock_create(&t.cx);
	struct tcb *c = tcb_at(&t.cx, s);
	c->so_error = ECONNRESET;
	c->soft_error = EHOSTUNREACH;
	CHECK_EQ(sock_take_error(&t.cx, s), ECONNRESET);
	CHECK_EQ(sock_take_error(&t.cx, s), EHOSTUNREACH);
	CHECK_EQ(sock_take_error(&t.cx, s), 0);
	finish();
}

static void test_names(void)
{
	struct endpoint mine, peer;
	uint32_t iss;
	uint16_t port;

	start();
	ref s = sock_create(&t.cx);
	CHECK_EQ(sock_names(&t.cx, s, NULL, NULL), 0);
	CHECK_EQ(sock_names(&t.cx, s, &mine, NULL), 0);
	CHECK_EQ(mine.port, 0);
	CHECK_EQ(sock_names(&t.cx, s, NULL, &peer), -ENOTCONN);
	ref l = listener(5);
	CHECK_EQ(sock_names(&t.cx, l, &mine, &peer), -ENOTCONN);
	CHECK_EQ(mine.port, 80);
	ref c = connected(&iss, &port);
	CHECK_EQ(sock_names(&t.cx, c, &mine, &peer), 0);
	CHECK_EQ(mine.port, port);
	CHECK_EQ(peer.port, 4000);
	struct ipaddr want = peer_end(0).addr;
	CHECK(ipaddr_eq(&peer.addr, &want));
	deliver_from(4000, port, TH_RST, 5001, 0, 0);
	memset(&peer, 0, sizeof peer);
	CHECK_EQ(sock_names(&t.cx, c, NULL, &peer), -ENOTCONN);
	CHECK_EQ(peer.port, 4000); /* accept(2) still names a peer that is gone */
	finish();
}

/* conn_max; every socket once by sock_next(); what one costs. */
static void test_count_and_cost(void)
{
	uint32_t iss, seen = 0;

	testcx_config(&t);
	t.config.conn_max = 3;
	CHECK_EQ(testcx_open(&t), 0);
	testcx_meet_peer(&t);
	ref s = accepted(&iss); /* and its listener */
	CHECK(sock_create(&t.cx) != REF_NONE);
	CHECK_EQ(sock_create(&t.cx), REF_NONE);
	for (ref r = sock_next(&t.cx, REF_NONE); r; r = sock_next(&t.cx, r))
		seen++;
	CHECK_EQ(seen, 3);
	CHECK_EQ(sock_region_bytes(&t.cx, s), 1088);
	deliver(TH_ACK, 5001, iss + 1, 10);
	CHECK_EQ(sock_region_bytes(&t.cx, s), 1088 + 576);
	deliver(TH_ACK, 5021, iss + 1, 10); /* out of order: the range and its chunk */
	CHECK_EQ(sock_region_bytes(&t.cx, s), 1088 + 576 + 64 + 576);
	CHECK_EQ(put(s, 10000), 10000);
	CHECK_EQ(sock_region_bytes(&t.cx, s), 1088 + 576 + 64 + 576 + 16384);
	finish();
}

/* connect(2) where there is nothing to connect. */
static void test_connect(void)
{
	struct endpoint any = {0}, to = peer_end(4000), many = {ipaddr_v4(10, 0, 0, 255), 80};
	uint32_t iss;
	uint16_t port;

	start();
	ref l = listener(5);
	CHECK_EQ(sock_connect(&t.cx, l, &any, &to), -EISCONN);
	ref s = sock_create(&t.cx);
	CHECK_EQ(sock_connect(&t.cx, s, &any, &many), -ENETUNREACH); /* MUST-46 */
	CHECK_EQ(state_at(s), TCPS_CLOSED);
	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), -EINPROGRESS); /* no harm was done */
	ref c = connected(&iss, &port);
	CHECK_EQ(sock_connect(&t.cx, c, &any, &to), -EISCONN);
	deliver_from(4000, port, TH_RST, 5001, 0, 0);
	CHECK_EQ(sock_connect(&t.cx, c, &any, &to), -EISCONN);
	finish();
}

/* A write takes what fits, then nothing, and remembers that somebody waits. */
static void test_send_room(void)
{
	uint32_t iss;

	start();
	ref s = accepted(&iss);
	struct tcb *c = tcb_at(&t.cx, s);
	CHECK_EQ(put(s, 0), 0);
	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_SNDBUF, 2500), 0);
	CHECK_EQ(put(s, 5000), 5000);
	CHECK(!c->nospace);
	CHECK_EQ(put(s, 1), -EAGAIN);
	CHECK(c->nospace);
	deliver(TH_ACK, 5001, iss + 1 + 3000, 0);
	c->nospace = false;
	CHECK_EQ(put(s, 4000), 3000);
	CHECK(c->nospace);
	deliver(TH_ACK, 5001, iss + 1 + 7920, 0); /* Nagle held the last 80 */
	deliver(TH_ACK, 5001, iss + 1 + 8000, 0);
	CHECK_EQ(buffer_len(&c->sndbuf), 0);
	c->notsent_lowat = 100; /* what is in flight does not count, what is not does */
	c->cwnd = 1000;
	CHECK_EQ(put(s, 1100), 1100);
	CHECK_EQ(snd_unsent(c), 100);
	CHECK_EQ(put(s, 1), -EAGAIN);
	finish();
}

/* Want of memory with room in the socket: an error with an empty queue, else the limit comes down. */
static void test_send_memory(void)
{
	uint32_t iss;

	start();
	ref s = accepted(&iss);
	struct tcb *c = tcb_at(&t.cx, s);
	struct stack *st = stack_of(&t.cx);
	st->mem_limit = 20000;
	c->sndbuf_limit = 100000;
	int64_t n = put(s, 90000);
	CHECK_GT(n, 16000);
	CHECK_LT(n, 20000);
	CHECK_EQ(c->sndbuf_limit, n / 2);
	CHECK_EQ(put(s, 1), -EAGAIN);
	CHECK(!(sock_events(&t.cx, s) & SOCK_OUT));
	finish();
}

/* Who may send at all; a pending error is told once. */
static void test_send_permitted(void)
{
	uint32_t iss;

	start();
	ref s = accepted(&iss);
	struct tcb *c = tcb_at(&t.cx, s);
	c->so_error = ECONNRESET;
	CHECK_EQ(put_flags(s, 10, SOCK_MSG_REST), -ECONNRESET);
	CHECK_EQ(c->so_error, ECONNRESET); /* the next call's */
	CHECK_EQ(put(s, 0), -ECONNRESET);  /* even for nothing */
	CHECK_EQ(put(s, 1), 1);
	CHECK_EQ(sock_shutdown(&t.cx, s, 1), 0);
	CHECK_EQ(put(s, 1), -EPIPE);
	c->so_error = ETIMEDOUT;
	CHECK_EQ(put(s, 1), -ETIMEDOUT);
	CHECK_EQ(put(s, 1), -EPIPE);
	ref l = sock_create(&t.cx);
	struct endpoint at = our_end(81);
	CHECK_EQ(sock_listen(&t.cx, l, &at, 1), 0);
	CHECK_EQ(put(l, 1), -EPIPE);
	CHECK_EQ(take(l, 1, 0), -ENOTCONN);
	finish();
}

/* The mark lies behind the last octet, and only where all of the write was taken. */
static void test_send_flags(void)
{
	uint32_t iss;

	start();
	ref s = accepted(&iss);
	struct tcb *c = tcb_at(&t.cx, s);
	CHECK_EQ(put_flags(s, 3, SOCK_MSG_OOB), 3);
	CHECK(c->urg_out);
	CHECK_EQ(c->snd_up.v, iss + 4);
	deliver(TH_ACK, 5001, iss + 4, 0);
	CHECK_EQ(put_flags(s, 10, SOCK_MSG_MORE), 10);
	CHECK(c->more);
	CHECK_EQ(put(s, 10), 10);
	CHECK(!c->more);
	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_SNDBUF, 2500), 0);
	seq32 mark = c->snd_up;
	CHECK_EQ(put_flags(s, 9000, SOCK_MSG_OOB | SOCK_MSG_MORE), 4980);
	CHECK_EQ(c->snd_up.v, mark.v);
	CHECK(!c->more);
	finish();
}

/* Bytes, then the FIN, then the error, then a half that is shut. */
static void test_recv_order(void)
{
	uint32_t iss;

	start();
	ref s = accepted(&iss);
	struct tcb *c = tcb_at(&t.cx, s);
	CHECK_EQ(take(s, 100, 0), -EAGAIN);
	CHECK_EQ(take(s, 0, 0), 0);
	deliver(TH_ACK, 5001, iss + 1, 10);
	c->so_error = ECONNRESET;
	CHECK_EQ(take(s, 4, SOCK_MSG_PEEK), 4);
	CHECK_EQ(take(s, 4, 0), 4);
	CHECK_EQ(sock_recv(&t.cx, s, &(struct iovec){NULL, 100}, 1, SOCK_MSG_TRUNC), 6);
	CHECK_EQ(take(s, 100, SOCK_MSG_REST), -ECONNRESET);
	CHECK_EQ(take(s, 100, 0), -ECONNRESET);
	CHECK_EQ(take(s, 100, 0), -EAGAIN);
	deliver(TH_FIN | TH_ACK, 5011, iss + 1, 0);
	c->so_error = ECONNRESET;
	CHECK_EQ(take(s, 100, 0), 0);
	CHECK_EQ(take(s, 100, 0), 0); /* again and again */
	CHECK_EQ(c->so_error, ECONNRESET);
	c->so_error = 0;
	finish();
	start();
	s = accepted(&iss);
	CHECK_EQ(sock_shutdown(&t.cx, s, 0), 0);
	CHECK_EQ(take(s, 100, 0), 0);
	finish();
}

/* Ten octets, the sixth of them urgent. */
static ref with_mark(void)
{
	uint32_t iss;
	struct segment s = {.src = peer_end(4000),
			    .dst = our_end(80),
			    .seq = seq_of(5001),
			    .seq_wire = seq_of(5001),
			    .len = 10,
			    .wnd = 65535,
			    .urg = 6,
			    .flags = TH_ACK | TH_URG,
			    .data = peer_bytes};

	start();
	ref r = accepted(&iss);
	CHECK_EQ(take(r, 1, SOCK_MSG_OOB), -EINVAL); /* none was announced */
	s.ack = seq_of(iss + 1);
	segment_arrives(&t.cx, tcb_at(&t.cx, r), &s);
	stack_flush(&t.cx);
	return r;
}

static void test_urgent_apart(void)
{
	ref s = with_mark();

	CHECK(sock_events(&t.cx, s) & SOCK_PRI);
	CHECK_EQ(take(s, 1, SOCK_MSG_OOB | SOCK_MSG_PEEK), 1);
	CHECK_EQ(sock_recv(&t.cx, s, &(struct iovec){bytes, 0}, 1, SOCK_MSG_OOB | SOCK_MSG_PEEK), 0);
	CHECK_EQ(take(s, 100, 0), 5); /* up to the mark */
	CHECK_EQ(take(s, 100, SOCK_MSG_OOB), 1);
	CHECK(!(sock_events(&t.cx, s) & SOCK_PRI));
	CHECK_EQ(take(s, 1, SOCK_MSG_OOB), -EINVAL); /* taken already */
	CHECK_EQ(take(s, 100, 0), 4);		     /* the urgent one is no part of the stream */
	CHECK(!tcb_at(&t.cx, s)->urg_in);
	CHECK_EQ(take(s, 100, 0), -EAGAIN);
	finish();
}

static void test_urgent_inline(void)
{
	ref s = with_mark();

	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_OOBINLINE, 1), 0);
	CHECK_EQ(take(s, 1, SOCK_MSG_OOB), -EINVAL);
	CHECK_EQ(take(s, 100, 0), 5);
	int at = 0;
	CHECK_EQ(sock_get_option(&t.cx, s, SOCK_OPT_ATMARK, &at), 0);
	CHECK_EQ(at, 1);
	CHECK_EQ(take(s, 100, 0), 5);
	finish();
}

/* Announced, and not here yet. */
static void test_urgent_awaited(void)
{
	uint32_t iss;

	start();
	ref s = accepted(&iss);
	struct tcb *c = tcb_at(&t.cx, s);
	c->urg_in = true;
	c->rcv_up = seq_of(5001);
	CHECK_EQ(take(s, 1, SOCK_MSG_OOB), -EAGAIN);
	c->rd_shut = true;
	CHECK_EQ(take(s, 1, SOCK_MSG_OOB), 0);
	finish();
}

CHECK_MAIN("sock", {"SO_ERROR: hard, then soft, then none", test_take_error}, {"MUST-43: names", test_names},
	   {"conn_max, sock_next(), the cost of a socket", test_count_and_cost},
	   {"MUST-46: what connect() refuses", test_connect},
	   {"MUST-60: a write takes what fits", test_send_room},
	   {"MUST-60: want of memory", test_send_memory}, {"MUST-12: who may send", test_send_permitted},
	   {"MUST-30, MUST-62: the mark; MSG_MORE", test_send_flags},
	   {"the order of what recv() tells", test_recv_order},
	   {"MUST-31, MUST-32: the urgent octet apart", test_urgent_apart},
	   {"MUST-33: the urgent octet inline", test_urgent_inline},
	   {"MUST-32: announced, not arrived", test_urgent_awaited})
