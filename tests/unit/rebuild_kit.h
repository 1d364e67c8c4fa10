/*
 * rebuild_kit.h - two stacks at work for test_rebuild*.c: connections over a path that loses
 * and reorders, in both directions, and inside one stack, are opened, accepted,
 * written, read, shut, closed, aborted, at random, by seed. What an application knows
 * of its connections lies beside the stacks in one piece of memory, without
 * pointers, so that a copy of it can go on by itself.
 */
#ifndef TESTS_UNIT_REBUILD_KIT_H
#define TESTS_UNIT_REBUILD_KIT_H

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/chunk.h"
#include "core/net.h"
#include "tests/check.h"

#define CONNS	     14
#define QUEUE	     256u
#define FRAME_MAX    1600u
#define REGION_BYTES (3u << 20)
#define SIDES	     2
#define SERVER_PORT  80u
#define ROUNDS_MAX   20000 /* of a run to the end: a hang, not a measure of speed */

struct frame {
	uint32_t len;
	uint8_t data[FRAME_MAX];
};

struct queue {
	uint32_t first, count;
	struct frame frame[QUEUE];
};

enum manner { WIRE_FROM_0, WIRE_FROM_1, LOOP };

struct conn {
	bool used, aborted;
	uint8_t manner;
	uint16_t port;		    /* the client's */
	uint64_t total;		    /* in each direction */
	ref s[2];		    /* client, server */
	bool leaving[2], closed[2]; /* sock_close() was called; has returned */
	bool lost[2];		    /* an error was told */
	bool whole[2];		    /* everything and the end of the stream were read */
};

struct world {
	nsec now;
	uint64_t rng;
	int busy; /* the stack that is being worked on; -1: none */
	uint16_t next_port;
	ref listener[SIDES];
	struct conn conn[CONNS];
	struct queue to[SIDES];
};

/* A world and handles for it: the shared one, or a copy. */
struct view {
	struct stack_cx cx[SIDES]; /* first: a callback finds the rest by cx->arg */
	struct world *w;
	uint8_t *memory;
};

static struct view live;

#define MEMORY_BYTES (sizeof(struct world) + 4096u + SIDES * (uint64_t)REGION_BYTES)

static uint32_t pick(struct world *w, uint32_t below)
{
	w->rng = w->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(w->rng >> 33) % below;
}

static uint8_t pattern(const struct conn *c, int end, uint64_t at)
{
	return (uint8_t)(at * 31 + (at >> 8) * 7 + c->port * 13u + (end ? 101 : 0));
}

/* ------------------------------------------------------------------ the path */

static int transmit(struct stack_cx *cx, const struct frame_tx *f)
{
	struct view *v = cx->arg;
	struct queue *q = &v->w->to[cx == &v->cx[0]];

	if (q->count == QUEUE || f->header_len + f->payload_len > FRAME_MAX)
		return -ENOBUFS;
	struct frame *to = &q->frame[(q->first + q->count) % QUEUE];
	uint32_t at = f->header_len;
	memcpy(to->data, f->header, f->header_len);
	for (uint32_t i = 0; i < f->piece_count; at += f->piece[i++].len)
		memcpy(to->data + at, f->piece[i].data, f->piece[i].len);
	to->len = at;
	q->count++;
	return 0;
}

static void enter(struct view *v, int side)
{
	v->cx[side].now = v->w->now;
	record_barrier();
	v->w->busy = side;
	record_barrier();
}

static void leave(struct view *v)
{
	record_barrier();
	v->w->busy = -1;
	record_barrier();
}

/* One frame out of the queue to `side`, and, unless faults, into the stack. */
static bool deliver(struct view *v, int side, bool faults)
{
	struct frame one;
	struct queue *q = &v->w->to[side];

	if (!q->count)
		return false;
	if (faults && q->count > 1 && !pick(v->w, 6)) { /* reorder */
		struct frame *a = &q->frame[q->first], *b = &q->frame[(q->first + 1) % QUEUE];
		struct frame t = *a;
		*a = *b;
		*b = t;
	}
	one = q->frame[q->first];
	q->first = (q->first + 1) % QUEUE;
	q->count--;
	bool arp = one.data[12] == 8 && one.data[13] == 6; /* without answers a connect() may fail */
	if (faults && !arp && !pick(v->w, 12))
		return true;
	enter(v, side);
	stack_input(&v->cx[side],
		    &(struct frame_rx){.data = one.data, .len = one.len, .csum = FRAME_CSUM_TRUSTED});
	leave(v);
	return true;
}

static void flush(struct view *v, int side)
{
	enter(v, side);
	stack_flush(&v->cx[side]);
	leave(v);
}

/* ------------------------------------------------------------------- worlds */

static void view_bind(struct view *v, uint8_t *memory)
{
	v->memory = memory;
	v->w = (struct world *)(void *)memory;
	uint8_t *base = memory + ((sizeof(struct world) + 4095u) & ~4095u);
	for (int i = 0; i < SIDES; i++)
		v->cx[i] = (struct stack_cx){.base = base + i * (uint64_t)REGION_BYTES,
					     .limit = REGION_BYTES,
					     .tx = transmit,
					     .arg = v};
}

static struct ipaddr address(int side)
{
	return ipaddr_v4(10, 0, 0, (uint8_t)(1 + side));
}

static ref listener_make(struct view *v, int side)
{
	ref s = sock_create(&v->cx[side]);

	CHECK_EQ(sock_listen(&v->cx[side], s, &(struct endpoint){address(side), SERVER_PORT}, 8), 0);
	return s;
}

static void world_make(struct view *v, uint64_t seed)
{
	memset(v->memory, 0, MEMORY_BYTES);
	v->w->now = 1000 * NS_PER_S;
	v->w->rng = seed;
	v->w->busy = -1;
	v->w->next_port = 20000;
	for (int i = 0; i < SIDES; i++) {
		struct stack_config c;
		uint8_t bytes[32];

		for (unsigned k = 0; k < sizeof bytes; k++)
			bytes[k] = (uint8_t)(pick(v->w, 256));
		stack_config_defaults(&c);
		c.addr = address(i);
		c.mac[0] = 2;
		c.mac[5] = (uint8_t)(i + 1);
		c.tw_time = NS_PER_S;
		v->cx[i].now = v->w->now;
		CHECK_EQ(stack_init(&v->cx[i], &c, bytes), 0);
		v->w->listener[i] = listener_make(v, i);
	}
}

/* --------------------------------------------------------------- connections */

static bool conn_lost(const struct conn *c)
{
	return c->lost[0] || c->lost[1];
}

/*
 * Nothing more to see. Each end must come to know of the other's by itself, but
 * where our own abort may have been lost on the way.
 */
static bool conn_over(const struct conn *c)
{
	if (c->aborted && conn_lost(c))
		return true;
	if (c->lost[0] && !c->s[1])
		return true; /* never accepted, or closed */
	return (c->lost[0] || c->whole[0]) && (c->lost[1] || c->whole[1]);
}

static int side_of(const struct conn *c, int end)
{
	return c->manner == LOOP ? 0 : (c->manner == WIRE_FROM_0) == (end == 0) ? 0 : 1;
}

static struct tcb *tcb_of(struct view *v, const struct conn *c, int end)
{
	return c->s[end] ? tcb_at(&v->cx[side_of(c, end)], c->s[end]) : NULL;
}

static void conn_open(struct view *v, struct conn *c)
{
	int side;

	*c = (struct conn){.used = true, .port = v->w->next_port++, .total = pick(v->w, 12000)};
	c->manner = (uint8_t)pick(v->w, 3);
	side = side_of(c, 0);
	enter(v, side);
	ref s = sock_create(&v->cx[side]);
	leave(v);
	c->s[0] = s;
	if (!s)
		return;
	enter(v, side);
	sock_connect(&v->cx[side], s, &(struct endpoint){address(side), c->port},
		     &(struct endpoint){address(side_of(c, 1)), SERVER_PORT});
	leave(v);
}

static struct conn *conn_by_port(struct world *w, uint16_t port)
{
	for (int i = 0; i < CONNS; i++)
		if (w->conn[i].used && w->conn[i].port == port)
			return &w->conn[i];
	return NULL;
}

static bool accept_one(struct view *v, int side, bool put_back)
{
	struct stack_cx *cx = &v->cx[side];
	struct endpoint peer;

	enter(v, side);
	ref s = sock_accept(cx, v->w->listener[side]);
	if (s && put_back) {
		sock_unaccept(cx, v->w->listener[side], s);
		s = REF_NONE;
	}
	if (!s) {
		leave(v);
		return false;
	}
	sock_names(cx, s, NULL, &peer);
	struct conn *c = conn_by_port(v->w, peer.port);
	if (c && !c->s[1] && !c->closed[1])
		c->s[1] = s;
	else
		sock_close(cx, s); /* the client gave up */
	leave(v);
	return true;
}

/* Bytes moved; the connection may turn out lost. */
static int64_t write_some(struct view *v, struct conn *c, int end, uint32_t most)
{
	struct tcb *t = tcb_of(v, c, end);
	uint8_t bytes[3000];
	uint64_t at = t->sndbuf.end;
	uint32_t n = (uint32_t)MIN_OF((uint64_t)most, c->total - MIN_OF(at, c->total));

	if (t->wr_shut || !n)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		bytes[i] = pattern(c, end, at + i);
	enter(v, side_of(c, end));
	int64_t r = sock_send(&v->cx[side_of(c, end)], c->s[end], &(struct iovec){bytes, n}, 1, 0);
	leave(v);
	if (r < 0 && r != -EAGAIN && r != -ENOBUFS)
		c->lost[end] = true;
	return r > 0 ? r : 0;
}

static int64_t read_some(struct view *v, struct conn *c, int end, uint32_t most)
{
	struct tcb *t = tcb_of(v, c, end);
	uint8_t bytes[3000];
	uint64_t at = t->rcvbuf.start;

	enter(v, side_of(c, end));
	int64_t r = sock_recv(&v->cx[side_of(c, end)], c->s[end], &(struct iovec){bytes, most}, 1, 0);
	leave(v);
	for (int64_t i = 0; i < r; i++) {
		if (bytes[i] == pattern(c, !end, at + (uint64_t)i))
			continue;
		CHECK_MSG(false, "port %u end %d: wrong byte at %llu", c->port, end,
			  (unsigned long long)at + (unsigned long long)i);
		return -1;
	}
	if (r == 0 && at == c->total && t->fin_received)
		c->whole[end] = true;
	if ((r == 0 && !c->whole[end]) || (r < 0 && r != -EAGAIN && r != -ENOTCONN))
		c->lost[end] = true;
	if (r == -ENOTCONN && t->state == TCPS_CLOSED)
		c->lost[end] = true;
	return r > 0 ? r : 0;
}

static bool shut_due(struct view *v, struct conn *c, int end)
{
	struct tcb *t = tcb_of(v, c, end);

	return !t->wr_shut && t->state >= TCPS_ESTABLISHED && t->sndbuf.end == c->total;
}

static void shut(struct view *v, struct conn *c, int end)
{
	enter(v, side_of(c, end));
	sock_shutdown(&v->cx[side_of(c, end)], c->s[end], 1);
	leave(v);
}

static void end_close(struct view *v, struct conn *c, int end)
{
	if (!c->s[end] || c->closed[end])
		return;
	c->leaving[end] = true;
	enter(v, side_of(c, end));
	sock_close(&v->cx[side_of(c, end)], c->s[end]);
	leave(v);
	c->s[end] = REF_NONE;
	c->closed[end] = true;
}

/* Both ends have all, or it is lost: the slot is free. */
static void conn_end(struct view *v, struct conn *c)
{
	end_close(v, c, 0);
	end_close(v, c, 1);
	c->used = false;
}

/* ------------------------------------------------------------- random work */

static void op_on_end(struct view *v, struct conn *c, int end)
{
	int side = side_of(c, end);
	struct stack_cx *cx = &v->cx[side];

	switch (pick(v->w, 20)) {
	case 0:
		if (c->whole[end] && shut_due(v, c, end))
			shut(v, c, end);
		break;
	case 1:
		enter(v, side);
		sock_set_option(cx, c->s[end], pick(v->w, 2) ? SOCK_OPT_NODELAY : SOCK_OPT_CORK,
				(int)pick(v->w, 2));
		leave(v);
		break;
	case 2:
		enter(v, side);
		(void)sock_events(cx, c->s[end]);
		leave(v);
		break;
	case 3:
		if (pick(v->w, 6))
			break;
		c->aborted = true;
		enter(v, side);
		sock_abort(cx, c->s[end]);
		leave(v);
		c->lost[end] = true;
		break;
	case 4:
	case 5:
		if (shut_due(v, c, end))
			shut(v, c, end);
		break;
	case 6:
	case 7:
	case 8:
	case 9:
	case 10:
	case 11:
		if (!c->whole[end])
			read_some(v, c, end, 1 + pick(v->w, 3000));
		break;
	default:
		write_some(v, c, end, 1 + pick(v->w, 3000));
	}
}

static void op_on_conn(struct view *v)
{
	struct conn *c = &v->w->conn[pick(v->w, CONNS)];
	int end = (int)pick(v->w, 2);

	if (!c->used) {
		conn_open(v, c);
		return;
	}
	if (conn_over(c)) {
		if (conn_lost(c) && !c->aborted)
			CHECK_MSG(false, "port %u was reset, and nobody was killed", c->port);
		conn_end(v, c);
		return;
	}
	if (c->s[end])
		op_on_end(v, c, end);
}

static void op_on_stack(struct view *v)
{
	int side = (int)pick(v->w, 2);
	uint32_t edges;
	nsec due;

	switch (pick(v->w, 8)) {
	case 0:
		v->w->now += pick(v->w, 3) * NS_PER_MS;
		enter(v, side);
		stack_advance(&v->cx[side]);
		leave(v);
		break;
	case 1:
		due = stack_deadline(&v->cx[side]);
		if (due != NSEC_NEVER && due > v->w->now && due - v->w->now < NS_PER_S)
			v->w->now = due;
		enter(v, side);
		stack_advance(&v->cx[side]);
		leave(v);
		break;
	case 2:
		accept_one(v, side, !pick(v->w, 4));
		break;
	case 3:
		enter(v, side);
		while (sock_next_edge(&v->cx[side], &edges))
			;
		leave(v);
		break;
	default:
		for (uint32_t i = 1 + pick(v->w, 4); i && deliver(v, side, true); i--)
			;
		flush(v, side);
	}
}

static void op(struct view *v)
{
	if (pick(v->w, 2))
		op_on_conn(v);
	else
		op_on_stack(v);
}

/* ------------------------------------------------------------ to the end */

/* Everything that can happen now; false: nothing did. */
static bool pump(struct view *v)
{
	bool moved = false;

	for (int side = 0; side < SIDES; side++) {
		while (accept_one(v, side, false))
			moved = true;
		while (deliver(v, side, false))
			moved = true;
		flush(v, side);
	}
	for (int i = 0; i < CONNS; i++) {
		struct conn *c = &v->w->conn[i];

		for (int end = 0; end < 2 && c->used; end++) {
			if (!c->s[end] || c->lost[end])
				continue;
			moved |= write_some(v, c, end, 3000) > 0;
			moved |= !c->whole[end] && read_some(v, c, end, 3000) > 0;
		}
		for (int end = 0; end < 2 && c->used; end++) {
			if (c->s[end] && !c->lost[end] && shut_due(v, c, end)) {
				shut(v, c, end);
				moved = true;
			}
			if (c->s[end] && c->lost[end])
				end_close(v, c, end);
		}
		if (c->used && conn_over(c)) {
			conn_end(v, c);
			moved = true;
		}
	}
	return moved;
}

static bool next_deadline(struct view *v)
{
	nsec due = NSEC_NEVER;

	for (int side = 0; side < SIDES; side++) {
		nsec d = stack_deadline(&v->cx[side]);
		due = MIN_OF(due, d);
	}
	if (due == NSEC_NEVER)
		return false;
	v->w->now = MAX_OF(v->w->now, due);
	for (int side = 0; side < SIDES; side++) {
		v->cx[side].now = v->w->now;
		stack_advance(&v->cx[side]);
	}
	return true;
}

static void uncork(struct view *v)
{
	for (int i = 0; i < CONNS; i++)
		for (int end = 0; end < 2; end++)
			if (v->w->conn[i].used && v->w->conn[i].s[end])
				sock_set_option(&v->cx[side_of(&v->w->conn[i], end)], v->w->conn[i].s[end],
						SOCK_OPT_CORK, 0);
}

static bool all_ended(const struct world *w)
{
	for (int i = 0; i < CONNS; i++)
		if (w->conn[i].used)
			return false;
	return !w->to[0].count && !w->to[1].count;
}

/* Both stacks end with their listeners, and nothing else. */
static void check_empty(struct view *v)
{
	for (int side = 0; side < SIDES; side++) {
		struct stack_cx *cx = &v->cx[side];

		CHECK_EQ(pool_live(cx, POOL_TCB), 1);
		CHECK_EQ(pool_live(cx, POOL_TIMEWAIT), 0);
		CHECK_EQ(pool_live(cx, POOL_CHUNK) + pool_live(cx, POOL_CHUNK_SMALL), 0);
		CHECK_EQ(pool_live(cx, POOL_OOO) + pool_live(cx, POOL_SACKBOARD) + pool_live(cx, POOL_LOOP),
			 0);
		CHECK_EQ(stack_of(cx)->buffer_bytes, 0);
		const char *broken = stack_verify(cx);
		CHECK_MSG(!broken, "at the end: %s", broken);
	}
}

static void unfinished_print(struct view *v)
{
	for (int i = 0; i < CONNS; i++) {
		const struct conn *c = &v->w->conn[i];

		for (int end = 0; end < 2 && c->used; end++) {
			const struct tcb *t = tcb_of(v, c, end);
			printf("port %u manner %u end %d: %s%s%s\n", c->port, c->manner, end,
			       c->aborted ? "aborted " : "", c->whole[end] ? "whole " : "",
			       t ? state_name(t->state) : "no socket");
		}
	}
}

static void run_to_end(struct view *v, const struct conn *spared)
{
	int rounds = 0;
	uint16_t port = spared ? spared->port : 0;

	uncork(v);
	while (rounds++ < ROUNDS_MAX) {
		for (int i = 0; i < CONNS; i++) {
			struct conn *c = &v->w->conn[i];
			if (c->used && conn_lost(c) && !c->aborted && c->port != port)
				CHECK_MSG(false, "port %u was reset, but %u was being changed", c->port,
					  port);
		}
		if (!pump(v) && all_ended(v->w) && !next_deadline(v))
			break;
		if (!all_ended(v->w) && !v->w->to[0].count && !v->w->to[1].count && !pump(v))
			next_deadline(v);
	}
	CHECK_LT(rounds, ROUNDS_MAX);
	if (rounds >= ROUNDS_MAX)
		unfinished_print(v);
	check_empty(v);
}

static uint8_t *memory_map(int sharing)
{
	void *p = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);

	CHECK_FATAL(p != MAP_FAILED);
	return p;
}

__attribute__((unused)) static void busy_world(uint64_t seed, int ops)
{
	view_bind(&live, memory_map(MAP_PRIVATE));
	world_make(&live, seed);
	for (int i = 0; i < ops; i++)
		op(&live);
}

#endif
