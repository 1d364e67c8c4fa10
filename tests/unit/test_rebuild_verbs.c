/*
 * test_rebuild_verbs.c - stack_rebuild() after a death at each store of verbs that the random
 * work of test_rebuild.c does not do: a name that is used again, a socket that is, a
 * listener that ends with children in both queues, memory that is given back. And
 * of some random work as well: by instructions there are only samples.
 */
#include "tests/unit/rebuild_dead.h"
#include "tests/unit/store_watch.h"

#define WORLDS 4

static struct view copy;
static struct conn *subject; /* in live: what the verb is about, if it is a connection */
static bool relisten;
static uint32_t finish_every; /* of those that are rebuilt, one runs to the end */
static uint32_t deaths, resets;
static unsigned failures; /* before this case */

static bool failed(void)
{
	return CU_get_number_of_failures() != failures;
}

/* ---------------------------------------------------------------------- deaths */

static void after_a_store(struct store_watch *w)
{
	int side = live.w->busy;
	struct stack_rebuilt what;

	if (side < 0 || failed())
		return;
	deaths++;
	view_copy(&copy, &live);
	struct conn *c = conn_of_tcb(&copy, side);
	if (!c && subject)
		c = &copy.w->conn[subject - live.w->conn];
	CHECK_EQ(stack_rebuild(&copy.cx[side], &what), 0);
	CHECK(what.reset <= 1);
	resets += what.reset;
	const char *broken = stack_verify(&copy.cx[side]);
	CHECK_MSG(!broken, "after the rebuild: %s", broken);
	if (!broken && owned_remain(&copy, side) && deaths % finish_every == 0) {
		copy.w->busy = -1;
		owners_settle(&copy, side);
		if (relisten)
			copy.w->listener[side] = listener_make(&copy, side);
		run_to_end(&copy, c);
	}
	if (failed())
		printf("store %llu of the verb\n", (unsigned long long)w->stores);
}

static struct conn *conn_find_free(void)
{
	for (int i = 0; i < CONNS; i++)
		if (!live.w->conn[i].used)
			return &live.w->conn[i];
	return NULL;
}

static struct conn *conn_find_state(enum tcp_state state, int *end)
{
	for (int i = 0; i < 2 * CONNS; i++) {
		struct conn *c = &live.w->conn[i / 2];

		*end = i % 2;
		if (c->used && !conn_lost(c) && c->s[*end] && tcb_of(&live, c, *end)->state == state)
			return c;
	}
	return NULL;
}

/* What can end without time passing does; TIME-WAITs stay. */
static void quieten(void)
{
	uncork(&live);
	for (int i = 0; i < 200 && pump(&live); i++)
		;
}

/* ----------------------------------------------------------------------- verbs */

/* Each works on live, between enter() and leave(). False: there is nothing to do it with. */

static bool verb_disconnect(void)
{
	int end;
	struct conn *c = subject = conn_find_state(TCPS_ESTABLISHED, &end);

	if (!c)
		return false;
	c->aborted = true;
	enter(&live, side_of(c, end));
	sock_disconnect(&live.cx[side_of(c, end)], c->s[end]);
	leave(&live);
	c->lost[end] = true;
	return true;
}

/* The first attempt was refused; the second tells so, and the socket is as new. */
static bool verb_connect_again(void)
{
	struct conn *c = subject = conn_find_free();
	struct endpoint nobody = {address(0), SERVER_PORT + 1};
	int r;

	if (!c)
		return false;
	*c = (struct conn){.used = true, .aborted = true, .manner = LOOP, .port = live.w->next_port++};
	struct endpoint local = {address(0), c->port};

	watches->after = NULL;
	c->s[0] = sock_create(&live.cx[0]);
	CHECK_EQ(sock_connect(&live.cx[0], c->s[0], &local, &nobody), -EINPROGRESS);
	stack_flush(&live.cx[0]);
	CHECK_EQ(tcb_of(&live, c, 0)->state, TCPS_CLOSED);
	c->lost[0] = true;
	watches->after = after_a_store;
	enter(&live, 0);
	r = sock_connect(&live.cx[0], c->s[0], &local, &nobody);
	leave(&live);
	CHECK_EQ(r, -ECONNREFUSED);
	return true;
}

/* A new connection takes the name of one in TIME-WAIT. */
static bool verb_name_again(void)
{
	struct conn *c = subject = conn_find_free();
	struct timewait *w = NULL;
	int side = 0;

	for (; c && side < SIDES; side++) {
		struct stack_cx *cx = &live.cx[side];
		ref r = pool_next(cx, POOL_TIMEWAIT, REF_NONE);

		for (w = pool_at(cx, r); r; r = pool_next(cx, POOL_TIMEWAIT, r), w = pool_at(cx, r))
			if (w->remote.port == SERVER_PORT && w->ts_ok && !conn_by_port(live.w, w->local.port))
				break;
		if (w)
			break;
	}
	if (!c || !w)
		return false;
	bool loops = ipaddr_eq(&w->local.addr, &w->remote.addr);
	if (loops && side)
		return false;
	struct endpoint local = w->local, remote = w->remote;
	*c = (struct conn){.used = true, .port = local.port, .total = 3000};
	c->manner = loops ? LOOP : side ? WIRE_FROM_1 : WIRE_FROM_0;
	watches->after = NULL;
	c->s[0] = sock_create(&live.cx[side]);
	watches->after = after_a_store;
	enter(&live, side);
	int r = sock_connect(&live.cx[side], c->s[0], &local, &remote);
	leave(&live);
	CHECK_EQ(r, -EINPROGRESS);
	return true;
}

/* Who waits in one of its queues is told, or finds out. */
static bool verb_listener_ends(void)
{
	ref s = live.w->listener[0];

	for (int i = 0; i < CONNS; i++)
		if (live.w->conn[i].used && !live.w->conn[i].s[1])
			live.w->conn[i].aborted = true;
	if (!tcb_at(&live.cx[0], s)->accept_first)
		return false;
	relisten = true;
	live.w->listener[0] = REF_NONE;
	enter(&live, 0);
	sock_close(&live.cx[0], s);
	leave(&live);
	relisten = false;
	live.w->listener[0] = listener_make(&live, 0);
	return true;
}

static void given_back(void *arg, uint64_t at, uint64_t len)
{
	struct stack_cx *cx = arg;

	madvise(cx->base + at, len, MADV_DONTNEED);
}

static bool verb_release(void)
{
	enter(&live, 0);
	uint32_t count = pool_release(&live.cx[0], 0, 0, given_back, &live.cx[0]);
	leave(&live);
	return count != 0;
}

static bool verb_trim(void)
{
	uint64_t at, len;
	bool done;

	enter(&live, 0);
	done = pool_trim(&live.cx[0], 0, &at, &len);
	leave(&live);
	return done;
}

static bool verb_set_device(void)
{
	enter(&live, 0);
	stack_set_device(&live.cx[0], 600, 0);
	leave(&live);
	return true;
}

static bool verb_listen(void)
{
	struct stack_cx *cx = &live.cx[1];

	enter(&live, 1);
	ref s = sock_create(cx);
	CHECK_EQ(sock_listen(cx, s, &(struct endpoint){address(1), SERVER_PORT + 1}, 8), 0);
	sock_close(cx, s);
	leave(&live);
	return true;
}

static bool verb_anything(void)
{
	finish_every = 23;
	for (int i = 0; i < 60; i++)
		op(&live);
	return true;
}

/* ----------------------------------------------------------------------- worlds */

/* Worlds in which it can be done, with a death after each of its stores; all goes on to its end afterwards.
 */
static void dies_in(bool (*verb)(void), bool quiet)
{
	uint32_t done = 0;

	if (!STORE_WATCH) {
		printf("not on this machine: no trap flag\n");
		return;
	}
	deaths = resets = 0;
	finish_every = 1;
	failures = CU_get_number_of_failures();
	view_bind(&live, memory_map(MAP_PRIVATE));
	view_bind(&copy, memory_map(MAP_PRIVATE));
	for (uint64_t seed = 1; done < WORLDS && seed < 100 && !failed(); seed++) {
		struct store_watch w = {.at = live.cx[0].base, .len = SIDES * (size_t)REGION_BYTES};

		world_make(&live, seed);
		for (int i = 0; i < 300; i++)
			op(&live);
		if (quiet)
			quieten();
		subject = NULL;
		w.after = after_a_store;
		watch_begin(&w);
		bool could = verb();
		watch_end(&w);
		done += could;
		if (!failed())
			run_to_end(&live, subject);
		if (failed())
			printf("seed %llu\n", (unsigned long long)seed);
	}
	printf("%u deaths, %u resets\n", deaths, resets);
	CHECK_EQ(done, WORLDS);
	CHECK_GT(deaths, done);
	munmap(live.memory, MEMORY_BYTES);
	munmap(copy.memory, MEMORY_BYTES);
}

static void disconnect(void)
{
	dies_in(verb_disconnect, false);
}
static void connect_again(void)
{
	dies_in(verb_connect_again, true);
}
static void name_again(void)
{
	dies_in(verb_name_again, true);
}
static void listener_ends(void)
{
	dies_in(verb_listener_ends, false);
}
static void memory_released(void)
{
	dies_in(verb_release, true);
}
static void memory_trimmed(void)
{
	dies_in(verb_trim, false);
}
static void set_device(void)
{
	dies_in(verb_set_device, false);
}
static void anything(void)
{
	dies_in(verb_anything, false);
}
static void listens(void)
{
	dies_in(verb_listen, false);
}

CHECK_MAIN("rebuild verbs", {"connect(AF_UNSPEC): the socket stays its owner's", disconnect},
	   {"a second connect() after a failure: the socket stays its owner's", connect_again},
	   {"RFC 6191: a name in TIME-WAIT is used again", name_again},
	   {"a listener ends with children in its queues", listener_ends},
	   {"extents are given back", memory_released}, {"pages of chunks are given back", memory_trimmed},
	   {"another MTU, for all connections", set_device}, {"a listener comes and goes", listens},
	   {"random work", anything})
