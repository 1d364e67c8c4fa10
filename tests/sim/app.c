/*
 * app.c - what the simulated applications do (see sim.h).
 *
 * An application end behaves as a program on edge-triggered epoll does: woken,
 * it reads until there is nothing and writes until there is no room. Its data
 * follows from (connection, direction, offset), so that each received byte can
 * be judged at once.
 */
#include <stdlib.h>

#include "sim.h"

/* One period of noise, repeated once so that a run of CHUNK bytes from any phase is flat. */
#define PERIOD 65521u
#define CHUNK  65536u
static uint8_t noise[PERIOD + CHUNK];

void app_setup(void)
{
	uint64_t x = 0x9e3779b97f4a7c15ull;

	for (size_t i = 0; i < sizeof noise; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		noise[i] = i < PERIOD ? (uint8_t)x : noise[i - PERIOD];
	}
}

static const uint8_t *bytes_at(const struct world *w, int connection, int from_side, uint64_t offset)
{
	uint64_t stream =
	    (uint64_t)connection + WORLD_CONNECTIONS * (uint64_t)w->connection[connection].generation;

	return noise + (offset + stream * 7919 + (uint64_t)from_side * 32749) % PERIOD;
}

/* 0 bytes to 4 MiB, mostly small: uniform in the logarithm. */
static uint64_t draw_size(struct world *w)
{
	uint64_t kind = world_below(w, 100);
	unsigned bits = kind < 12   ? 0
			: kind < 97 ? 1 + (unsigned)world_below(w, 17)
				    : 18 + (unsigned)world_below(w, 5);

	return bits == 0 ? 0 : (1ull << (bits - 1)) + world_below(w, 1ull << (bits - 1));
}

static void plan_end(struct world *w, struct end *e)
{
	struct emitter keep = e->emitter; /* what was promised outlives an incarnation */

	memset(e, 0, sizeof *e);
	e->emitter = keep;
	e->to_send = draw_size(w);
	e->write_max = 1u << world_below(w, 17);
	e->read_max = 1u << world_below(w, 17);
	if (e->write_max < e->to_send / 2000) /* bounded number of calls */
		e->write_max = (uint32_t)(e->to_send / 2000 + 1);
	if (world_chance(w, 150000)) {
		e->stall_chance = 20000 + (uint32_t)world_below(w, 200000);
		e->stall_time = NS_PER_MS * (1 + world_below(w, 1000));
	}
	e->nodelay = world_chance(w, 300000);
	e->cork = world_chance(w, 150000);
	e->keepalive = world_chance(w, 200000);
	e->rcvbuf = world_chance(w, 200000) ? 2048 << world_below(w, 6) : 0;
	e->sndbuf = world_chance(w, 100000) ? 4096 << world_below(w, 6) : 0;
}

void app_plan(struct world *w, int connection)
{
	struct connection *c = &w->connection[connection];

	c->simultaneous_open = c->together = c->may_fail = false;
	c->start = w->now + world_below(w, 3000) * NS_PER_MS;
	plan_end(w, &c->end[0]);
	plan_end(w, &c->end[1]);
	for (int i = 0; i < 2; i++) {
		struct end *e = &c->end[i];
		e->to_receive = c->end[!i].to_send;
		if (e->read_max < e->to_receive / 2000)
			e->read_max = (uint32_t)(e->to_receive / 2000 + 1);
		if (e->stall_chance) /* about five pauses a transfer, at most */
			e->stall_chance = (uint32_t)MIN_OF(
			    (uint64_t)e->stall_chance, 5000000ull * e->read_max / (e->to_receive + 1) + 1000);
	}
	c->simultaneous_open = world_chance(w, 60000) && !c->generations;
	uint64_t how = world_below(w, 100);
	int first = (int)world_below(w, 2);
	c->end[first].manner = CLOSE_SHUTDOWN_FIRST;
	c->end[!first].manner = how < 40 ? CLOSE_SHUTDOWN_FIRST : how < 80 ? CLOSE_AFTER_PEER : CLOSE_AT_ONCE;
	if (how >= 90)
		c->end[first].manner = CLOSE_AT_ONCE;
	if (world_chance(w, 50000)) { /* nothing to say, both close at one moment: FINs cross */
		c->together = true;
		for (int i = 0; i < 2; i++) {
			c->end[i].to_send = c->end[i].to_receive = 0;
			c->end[i].manner = CLOSE_SHUTDOWN_FIRST;
		}
	}
	if (world_chance(w, 80000)) {
		struct end *e = &c->end[world_below(w, 2)];
		e->abort = (enum abort_manner)(1 + world_below(w, 3));
		e->abort_at = world_below(w, e->to_send + e->to_receive + 1);
		c->may_fail = true;
		c->end[0].keepalive = c->end[1].keepalive = true;
	}
	world_start(w, connection, 0, c->start);
	if (c->simultaneous_open)
		world_start(w, connection, 1, c->start);
}

/* ------------------------------------------------------------------ calls, hashed and judged */

static struct stack_cx *cx_of(struct world *w, int side)
{
	w->side[side].cx.now = w->now;
	return &w->side[side].cx;
}

static void note(struct world *w, int connection, int side, int what, int64_t result)
{
	int64_t v[5] = {(int64_t)w->now, connection, side, what, result};

	world_hash(w, v, sizeof v);
	world_say(w, "%c %d  %c = %lld", side ? 'B' : 'A', connection, what, (long long)result);
}

static void set_options(struct world *w, int side, struct end *e)
{
	struct stack_cx *cx = cx_of(w, side);

	if (e->nodelay)
		sock_set_option(cx, e->s, SOCK_OPT_NODELAY, 1);
	if (e->cork) {
		sock_set_option(cx, e->s, SOCK_OPT_CORK, 1);
		e->corked = true;
	}
	if (e->keepalive) {
		sock_set_option(cx, e->s, SOCK_OPT_KEEPIDLE, 5);
		sock_set_option(cx, e->s, SOCK_OPT_KEEPINTVL, 2);
		sock_set_option(cx, e->s, SOCK_OPT_KEEPCNT, 20);
		sock_set_option(cx, e->s, SOCK_OPT_KEEPALIVE, 1);
	}
	if (e->rcvbuf)
		sock_set_option(cx, e->s, SOCK_OPT_RCVBUF, e->rcvbuf);
	if (e->sndbuf)
		sock_set_option(cx, e->s, SOCK_OPT_SNDBUF, e->sndbuf);
}

static void remember(struct world *w, int connection, int side, ref s)
{
	struct end *e = &w->connection[connection].end[side];

	e->s = s;
	e->born = true;
	sock_user(cx_of(w, side), s)[0] = (uint32_t)connection + 1;
}

void app_start(struct world *w, int connection, int side)
{
	struct connection *c = &w->connection[connection];
	struct stack_cx *cx = cx_of(w, side);
	struct endpoint local = {ipaddr_v4(0, 0, 0, 0), 0},
			remote = {ipaddr_v4(10, 0, 0, (uint8_t)(2 - side)), 0};
	int r;

	remember(w, connection, side, sock_create(cx));
	if (!c->end[side].s) {
		world_fail(w, "sock_create: no memory");
		return;
	}
	set_options(w, side, &c->end[side]);
	local.port = (uint16_t)((side ? B_PORT : A_PORT) + (unsigned)connection);
	remote.port =
	    (uint16_t)(c->simultaneous_open ? (side ? A_PORT : B_PORT) + (unsigned)connection : LISTEN_PORT);
	r = sock_connect(cx, c->end[side].s, &local, &remote);
	note(w, connection, side, 'c', r);
	if (r == -EADDRNOTAVAIL && c->generation) { /* TIME-WAIT, or a FIN that is not acknowledged yet */
		sock_close(cx, c->end[side].s);
		c->end[side].born = false;
		world_start(w, connection, side, w->now + 5 * NS_PER_S);
		return;
	}
	if (r != -EINPROGRESS)
		world_fail(w, "connection %d: connect gives %d", connection, r);
}

void app_accept_all(struct world *w)
{
	struct stack_cx *cx = cx_of(w, 1);
	struct endpoint remote;
	ref s;

	while ((s = sock_accept(cx, w->side[1].listener)) != REF_NONE) {
		sock_names(cx, s, NULL, &remote);
		unsigned i = remote.port - A_PORT;
		if (i >= (unsigned)w->count || w->connection[i].end[1].born) {
			world_fail(w, "accepted an unknown or second connection, port %u", remote.port);
			return;
		}
		remember(w, (int)i, 1, s);
		w->connection[i].end[1].connected = true;
		set_options(w, 1, &w->connection[i].end[1]);
		note(w, (int)i, 1, 'a', 0);
		app_step(w, (int)i, 1);
	}
}

static void check_delivered(struct world *w, int connection)
{
	struct connection *c = &w->connection[connection];

	for (int k = 0; k < 2; k++)
		if (!c->may_fail && c->end[k].received != c->end[!k].sent)
			world_fail(w, "connection %d: end %d sent %llu, %llu arrived", connection, !k,
				   (unsigned long long)c->end[!k].sent,
				   (unsigned long long)c->end[k].received);
}

static void end_close(struct world *w, int connection, int side)
{
	struct end *e = &w->connection[connection].end[side];

	note(w, connection, side, 'x', e->error);
	sock_close(cx_of(w, side), e->s);
	e->s = REF_NONE;
	e->closed = true;
	struct connection *c = &w->connection[connection];
	if (!c->end[!side].closed || c->may_fail || c->generation == c->generations)
		return;
	check_delivered(w, connection);
	c->generation++;
	app_plan(w, connection);
}

/* A call gave an error: legitimate only where somebody aborts. */
static void end_error(struct world *w, int connection, int side, const char *call, int64_t error)
{
	struct connection *c = &w->connection[connection];
	struct end *e = &c->end[side];

	e->error = (int)-error;
	if (!c->may_fail)
		world_fail(w, "connection %d end %d: %s gives %lld after %llu sent, %llu received",
			   connection, side, call, (long long)error, (unsigned long long)e->sent,
			   (unsigned long long)e->received);
	end_close(w, connection, side);
}

static bool aborts_now(struct world *w, int connection, int side)
{
	struct end *e = &w->connection[connection].end[side];

	if (!e->abort || e->sent + e->received < e->abort_at)
		return false;
	if (e->abort == ABORT_CALL)
		sock_abort(cx_of(w, side), e->s);
	if (e->abort == ABORT_LINGER)
		sock_set_option(cx_of(w, side), e->s, SOCK_OPT_LINGER, 0);
	end_close(w, connection, side);
	return true;
}

/* Read until nothing is there. True: go on with this end. */
static bool end_reads(struct world *w, int connection, int side, int *budget)
{
	static uint8_t buffer[CHUNK];
	struct end *e = &w->connection[connection].end[side];

	while (!e->eof && !e->stalled && *budget > 0) {
		uint32_t want = 1 + (uint32_t)world_below(w, e->read_max);
		struct iovec v = {buffer, want};
		int64_t r = sock_recv(cx_of(w, side), e->s, &v, 1, 0);
		note(w, connection, side, 'r', r);
		if (r == -EAGAIN)
			return true;
		if (r < 0) {
			end_error(w, connection, side, "recv", r);
			return false;
		}
		*budget -= (int)r + 100;
		if (r == 0) {
			e->eof = true;
			if (e->received != e->to_receive && !w->connection[connection].may_fail)
				world_fail(w, "connection %d end %d: end of stream after %llu of %llu",
					   connection, side, (unsigned long long)e->received,
					   (unsigned long long)e->to_receive);
			return true;
		}
		if (e->received + (uint64_t)r > e->to_receive ||
		    memcmp(buffer, bytes_at(w, connection, !side, e->received), (size_t)r) != 0) {
			const uint8_t *right = bytes_at(w, connection, !side, e->received);
			int64_t k = 0;
			while (k < r && buffer[k] == right[k])
				k++;
			world_fail(w,
				   "connection %d end %d: wrong byte at %lld of [%llu, +%lld), %llu expected",
				   connection, side, (long long)k, (unsigned long long)e->received,
				   (long long)r, (unsigned long long)e->to_receive);
			return false;
		}
		e->received += (uint64_t)r;
		w->bytes += (uint64_t)r;
		if (aborts_now(w, connection, side))
			return false;
		if (world_chance(w, e->stall_chance)) {
			e->stalled = true;
			world_wake(w, connection, side, w->now + 1 + world_below(w, e->stall_time));
		}
	}
	return true;
}

static bool end_writes(struct world *w, int connection, int side, int *budget)
{
	struct end *e = &w->connection[connection].end[side];

	while (e->sent<e->to_send && * budget> 0) {
		uint64_t left = e->to_send - e->sent, draw = 1 + world_below(w, e->write_max);
		uint32_t n = (uint32_t)MIN_OF(left, draw), first = n / 3;
		uint8_t *p = (uint8_t *)(uintptr_t)bytes_at(w, connection, side, e->sent);
		struct iovec v[2] = {{p, first}, {p + first, n - first}};
		uint32_t flags = world_chance(w, 50000) ? SOCK_MSG_MORE : 0;
		int64_t r = sock_send(cx_of(w, side), e->s, v, 2, flags);
		note(w, connection, side, 'w', r);
		if (r == -EAGAIN)
			return true;
		if (r <= 0 || r > (int64_t)n) {
			end_error(w, connection, side, "send", r);
			return false;
		}
		e->sent += (uint64_t)r;
		*budget -= (int)r + 100;
		if (e->corked && world_chance(w, 300000)) {
			sock_set_option(cx_of(w, side), e->s, SOCK_OPT_CORK, 0);
			e->corked = false;
		} else if (e->cork && !e->corked && world_chance(w, 300000)) {
			sock_set_option(cx_of(w, side), e->s, SOCK_OPT_CORK, 1);
			e->corked = true;
		}
		if (aborts_now(w, connection, side))
			return false;
	}
	return true;
}

/* Shut or close, when this end's manner says so. */
static void end_finishes(struct world *w, int connection, int side)
{
	struct connection *c = &w->connection[connection];
	struct end *e = &c->end[side];

	if (e->sent < e->to_send)
		return;
	if (c->together && !e->shut && w->now < c->start + 8 * NS_PER_S) {
		world_wake(w, connection, side, c->start + 8 * NS_PER_S);
		return;
	}
	if (e->manner == CLOSE_SHUTDOWN_FIRST && !e->shut) {
		int r = sock_shutdown(cx_of(w, side), e->s, 1);
		note(w, connection, side, 's', r);
		e->shut = true;
		if (r && !c->may_fail)
			world_fail(w, "connection %d end %d: shutdown gives %d", connection, side, r);
	}
	if (e->eof || (e->manner == CLOSE_AT_ONCE && e->received == e->to_receive)) {
		/* Closing before the peer's FIN was read is orderly only when nothing more will come. */
		end_close(w, connection, side);
	}
}

static bool end_connects(struct world *w, int connection, int side)
{
	struct end *e = &w->connection[connection].end[side];
	struct endpoint any = {ipaddr_v4(0, 0, 0, 0), 0},
			remote = {ipaddr_v4(10, 0, 0, (uint8_t)(2 - side)), 80};
	uint32_t events = sock_events(cx_of(w, side), e->s);
	int r;

	if (!(events & (SOCK_OUT | SOCK_ERR | SOCK_HUP)))
		return false;
	r = sock_connect(cx_of(w, side), e->s, &any, &remote);
	note(w, connection, side, 'C', r);
	if (r) {
		end_error(w, connection, side, "connect", r);
		return false;
	}
	e->connected = true;
	return true;
}

void app_step(struct world *w, int connection, int side)
{
	struct end *e = &w->connection[connection].end[side];
	int budget = 200000;

	if (!e->born || e->closed || w->failure[0])
		return;
	if (!e->connected && !end_connects(w, connection, side))
		return;
	if (aborts_now(w, connection, side))
		return;
	if (!end_reads(w, connection, side, &budget) || w->failure[0])
		return;
	if (!end_writes(w, connection, side, &budget) || w->failure[0])
		return;
	if (budget <= 0) {
		world_wake(w, connection, side, w->now + 1);
		return;
	}
	end_finishes(w, connection, side);
}

bool app_all_done(struct world *w)
{
	for (int i = 0; i < w->count; i++) {
		struct connection *c = &w->connection[i];
		for (int k = 0; k < 2; k++)
			if (!c->end[k].closed && (c->end[k].born || !c->may_fail))
				return false;
	}
	return true;
}

/* What was delivered when all is over. */
void app_final_check(struct world *w)
{
	for (int i = 0; i < w->count; i++)
		check_delivered(w, i);
}
