/* test_sndbuf.c - how much may be queued, and when poll(2) calls a socket writable: the boundaries. */
#include "tests/unit/sendkit.h"

static struct kit k;

static void open_kit(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, 10 * KIT_MS);
}

/* As if n octets were queued; nothing walks the queue here. */
static void pretend_queued(uint64_t n)
{
	kit_tcb(&k)->sndbuf.end = kit_tcb(&k)->sndbuf.start + n;
}

static bool writable(void)
{
	return sndbuf_writable(&k.x.cx, kit_tcb(&k));
}

/* Linux's sk_stream_is_writeable(): what is free is at least half of what is queued. */
static void a_third(void)
{
	open_kit();
	kit_tcb(&k)->sndbuf_limit = 3000;
	pretend_queued(0);
	CHECK(writable());
	pretend_queued(2000);
	CHECK(writable());
	pretend_queued(2002);
	CHECK(!writable());
	pretend_queued(3000);
	CHECK(!writable());
	pretend_queued(3001); /* the limit was lowered after the write */
	CHECK(!writable());
	pretend_queued((uint64_t)1 << 32);
	CHECK(!writable());
	pretend_queued(0);
	kit_close(&k);
}

/* TCP_NOTSENT_LOWAT looks only at what was never sent. */
static void notsent(void)
{
	open_kit();
	struct tcb *t = kit_tcb(&k);

	t->sndbuf_limit = 30000;
	pretend_queued(1000);
	t->notsent_lowat = 1000;
	CHECK(!writable());
	t->notsent_lowat = 1001;
	CHECK(writable());
	t->notsent_lowat = 1;
	CHECK(!writable());
	t->snd_nxt = t->snd_max = seq_add(t->snd_nxt, 1000); /* all of it left */
	CHECK(writable());
	t->snd_nxt = t->snd_max = t->snd_una;
	pretend_queued(0);
	kit_close(&k);
}

/* Only who met the limit is woken, once, and when it is worth it. */
static void wake(void)
{
	uint32_t edges = 0;

	open_kit();
	struct tcb *t = kit_tcb(&k);
	while (sock_next_edge(&k.x.cx, &edges))
		;
	sndbuf_wake(&k.x.cx, t);
	CHECK_EQ(sock_next_edge(&k.x.cx, &edges), REF_NONE);
	t->nospace = true;
	t->sndbuf_limit = 3000;
	pretend_queued(2002);
	sndbuf_wake(&k.x.cx, t);
	CHECK_EQ(sock_next_edge(&k.x.cx, &edges), REF_NONE);
	CHECK(t->nospace);
	pretend_queued(2000);
	sndbuf_wake(&k.x.cx, t);
	CHECK_EQ(sock_next_edge(&k.x.cx, &edges), k.sock);
	CHECK_EQ(edges, SOCK_OUT | SOCK_TOLD_OUT);
	CHECK(!t->nospace);
	sndbuf_wake(&k.x.cx, t);
	CHECK_EQ(sock_next_edge(&k.x.cx, &edges), REF_NONE);
	pretend_queued(0);
	kit_close(&k);
}

/* Linux's tcp_sndbuf_expand(): twice the window in segments of 2304; ten at least; up, never down. */
static void tune(void)
{
	open_kit();
	struct tcb *t = kit_tcb(&k);

	t->sndbuf_limit = 1000;
	t->cwnd = 1448;
	sndbuf_tune(&k.x.cx, t);
	CHECK_EQ(t->sndbuf_limit, 46080);
	t->cwnd = 100 * 1448;
	sndbuf_tune(&k.x.cx, t);
	CHECK_EQ(t->sndbuf_limit, 460800);
	t->cwnd = 50 * 1448;
	sndbuf_tune(&k.x.cx, t);
	CHECK_EQ(t->sndbuf_limit, 460800);
	t->cwnd = CWND_MAX; /* no overflow on the way to the cap */
	sndbuf_tune(&k.x.cx, t);
	CHECK_EQ(t->sndbuf_limit, 4u << 20);
	kit_close(&k);
}

/* The room for a segment is a power of two and 256, as Linux allocates: what SO_SNDBUF reads there. */
static void segment_sizes(void)
{
	static const struct {
		uint16_t snd, peer;
		uint32_t limit;
	} sizes[] = {
	    {524, 536, 20 * (2048 + 256)},	 /* no MSS option: 1112 */
	    {1448, 8960, 20 * (16384 + 256)},	 /* behind a narrow path: by the larger */
	    {1472, 1472, 20 * (2048 + 256)},	 /* 2048 exactly */
	    {1473, 1473, 20 * (4096 + 256)},	 /* and one more */
	    {8948, 8960, 20 * (16384 + 256)},	 /* jumbo frames */
	    {65483, 65495, 20 * (131072 + 256)}, /* lo */
	};

	open_kit();
	struct tcb *t = kit_tcb(&k);
	uint16_t snd = t->snd_mss, peer = t->peer_mss;

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		t->sndbuf_limit = 1000;
		t->snd_mss = sizes[i].snd;
		t->peer_mss = sizes[i].peer;
		t->cwnd = 10 * (uint32_t)sizes[i].snd;
		sndbuf_tune(&k.x.cx, t);
		CHECK_EQ(t->sndbuf_limit, sizes[i].limit);
	}
	t->snd_mss = snd;
	t->peer_mss = peer;
	kit_close(&k);
}

/* Not once SO_SNDBUF has spoken, nor while the stack is short of memory. */
static void tune_not(void)
{
	open_kit();
	struct tcb *t = kit_tcb(&k);
	struct stack *st = stack_of(&k.x.cx);
	uint64_t held = st->buffer_bytes;

	t->cwnd = 100 * 1448;
	t->sndbuf_limit = 5000;
	t->sndbuf_locked = true;
	sndbuf_tune(&k.x.cx, t);
	CHECK_EQ(t->sndbuf_limit, 5000);
	t->sndbuf_locked = false;
	st->buffer_bytes = st->mem_limit / 4 * 3 + 1;
	sndbuf_tune(&k.x.cx, t);
	CHECK_EQ(t->sndbuf_limit, 5000);
	st->buffer_bytes = st->mem_limit / 4 * 3;
	sndbuf_tune(&k.x.cx, t);
	CHECK_EQ(t->sndbuf_limit, 460800);
	st->buffer_bytes = held;
	kit_close(&k);
}

/* The whole way: a write meets the limit, ACKs free a third, the writer is woken. */
static void round_trip(void)
{
	uint32_t edges;

	open_kit();
	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_SNDBUF, 10000), 0);
	CHECK_EQ(kit_write(&k, 30000, 0), 20000);
	CHECK_EQ(kit_write(&k, 1, 0), -EAGAIN);
	CHECK(!(sock_events(&k.x.cx, k.sock) & SOCK_OUT));
	while (sock_next_edge(&k.x.cx, &edges))
		;
	kit_ack(&k, 1 + 4 * 1448, 60000); /* 14208 are left: less than a third is free */
	CHECK_EQ(sock_next_edge(&k.x.cx, &edges), REF_NONE);
	kit_ack(&k, 1 + 5 * 1448, 60000);
	CHECK_EQ(sock_next_edge(&k.x.cx, &edges), k.sock);
	CHECK_EQ(edges, SOCK_OUT | SOCK_TOLD_OUT);
	CHECK(sock_events(&k.x.cx, k.sock) & SOCK_OUT);
	CHECK(stack_verify(&k.x.cx) == NULL);
	kit_close(&k);
}

static int refuse(struct stack_cx *cx, uint64_t want)
{
	(void)cx;
	(void)want;
	return -ENOMEM;
}

static uint32_t next_edges(void)
{
	uint32_t edges = 0;

	sock_next_edge(&k.x.cx, &edges);
	return edges;
}

/*
 * Nothing is queued, and there is no memory for a first byte: no ACK will come that makes room. Linux waits
 * for memory (sk_stream_wait_memory) and looks again after a while.
 */
static void starved(void)
{
	struct stack_cx *cx = &k.x.cx;
	ref held[1 << 14];
	int (*grow)(struct stack_cx *, uint64_t);
	uint32_t n = 0;

	open_kit();
	grow = cx->grow;
	cx->grow = refuse;
	while (n < ARRAY_LEN(held) && ((held[n] = pool_alloc(cx, POOL_CHUNK, k.sock)) != REF_NONE ||
				       (held[n] = pool_alloc(cx, POOL_CHUNK_SMALL, k.sock)) != REF_NONE))
		n++;
	CHECK(n < ARRAY_LEN(held));
	while (next_edges())
		;
	CHECK_EQ(kit_write(&k, 100, 0), -EAGAIN);
	CHECK(!(sock_events(cx, k.sock) & SOCK_OUT));
	CHECK_EQ(next_edges(), 0);
	kit_wait(&k, 49 * KIT_MS);
	CHECK_EQ(next_edges(), 0);
	kit_wait(&k, KIT_MS);
	CHECK_EQ(next_edges(), SOCK_OUT | SOCK_TOLD_OUT); /* look again */
	CHECK(sock_events(cx, k.sock) & SOCK_OUT);
	CHECK_EQ(kit_write(&k, 100, 0), -EAGAIN);
	while (n)
		pool_free(cx, ((struct pool_head *)pool_at(cx, held[n - 1]))->class, held[n - 1]), n--;
	CHECK_EQ(kit_write(&k, 100, 0), 100); /* who does not wait for the edge */
	CHECK(sock_events(cx, k.sock) & SOCK_OUT);
	CHECK_EQ(kit_tcb(&k)->timer[TIMER_SPACE], NSEC_NEVER);
	cx->grow = grow;
	CHECK(stack_verify(cx) == NULL);
	kit_close(&k);
}

CHECK_MAIN("sndbuf", {"poll's OUT: a third of the limit is free", a_third}, {"TCP_NOTSENT_LOWAT", notsent},
	   {"who met the limit is woken once", wake}, {"the limit follows the window", tune},
	   {"by Linux's sizes of segments", segment_sizes},
	   {"but not SO_SNDBUF's, nor in want of memory", tune_not},
	   {"MUST-60: from full to writable", round_trip}, {"no memory for the first byte", starved})
