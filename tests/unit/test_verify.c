/*
 * test_verify.c - stack_verify() names what is broken: in a stack with one of
 * everything a single field is changed, and the text must be that field's.
 */
#include "core/chunk.h"
#include "core/net.h"
#include "tests/unit/segpeer.h"

static uint8_t bytes[4096];

/* The stack of every test. */
static struct {
	ref listener, half_open, waiting; /* a child in each queue */
	ref open;			  /* established: data both ways and out of order, timers */
	ref closed;
	struct timewait *tw[3];
	struct tcb *o, *l;
	struct stack *st;
} w;

static void timewait_add(void)
{
	uint32_t iss;
	uint16_t port;
	ref s = connected(&iss, &port);

	sock_close(&t.cx, s);
	deliver_from(4000, port, TH_FIN | TH_ACK, 5001, iss + 2, 0);
}

static void build(void)
{
	uint32_t iss;
	uint16_t port;

	start();
	for (int i = 0; i < 3; i++)
		timewait_add();
	ref r = REF_NONE;
	for (int i = 0; i < 3; i++)
		w.tw[i] = pool_at(&t.cx, r = pool_next(&t.cx, POOL_TIMEWAIT, r));
	w.listener = listener(5);
	deliver_from(4001, 80, TH_SYN, 5000, 0, 0);
	w.half_open = tcb_at(&t.cx, w.listener)->syn_first;
	deliver_from(4002, 80, TH_SYN, 5000, 0, 0);
	iss = heard().seq.v;
	deliver_from(4002, 80, TH_ACK, 5001, iss + 1, 0);
	w.waiting = tcb_at(&t.cx, w.listener)->accept_first;
	w.open = connected(&iss, &port);
	deliver_from(4000, port, TH_ACK, 5001, iss + 1, 1000);
	deliver_from(4000, port, TH_ACK, 6101, iss + 1, 100);
	deliver_from(4000, port, TH_ACK, 6301, iss + 1, 100);
	CHECK_EQ(sock_send(&t.cx, w.open, &(struct iovec){bytes, 1200}, 1, 0), 1200);
	stack_flush(&t.cx);
	w.closed = sock_create(&t.cx);
	output_mark(&t.cx, tcb_at(&t.cx, w.open));
	w.o = tcb_at(&t.cx, w.open);
	w.l = tcb_at(&t.cx, w.listener);
	w.st = stack_of(&t.cx);
	CHECK_FATAL(w.half_open && w.waiting && w.o->ooo_root && w.o->edge_queued && w.o->output_queued);
	const char *sound = stack_verify(&t.cx);
	CHECK_MSG(!sound, "broken before anything was changed: %s", sound);
}

/* Break one thing of a fresh stack; the text that stack_verify() must have for it. */
#define BROKEN(edit, text)                                                                                   \
	do {                                                                                                 \
		build();                                                                                     \
		edit;                                                                                        \
		const char *said_ = stack_verify(&t.cx);                                                     \
		CHECK_MSG(said_ &&strcmp(said_, text) == 0, "%s: got \"%s\", want \"%s\"", #edit,            \
			  said_ ? said_ : "sound", text);                                                    \
		testcx_close(&t);                                                                            \
	} while (0)

static void test_region(void)
{
	BROKEN(w.st->magic[7] = '0', "stack: not a region of this library");
	BROKEN(w.st->layout_hash++, "stack: not a region of this library");
}

/* The walks of the other files are taken, and their texts come through. */
static void test_walks(void)
{
	BROKEN(w.st->bytes_used++, "pool: more extents than the region has");
	BROKEN(w.st->pools[POOL_TCB].live++, "pool: the count of live objects is wrong");
	BROKEN(w.o->hashed = false, "demux: a connection in the table is not marked so");
	BROKEN(w.o->local.port ^= 1, "demux: a connection is in the wrong bucket");
	BROKEN(w.st->conn_count++, "demux: fewer connections in chains than counted");
	BROKEN(w.l->hashed_listener = false, "demux: a listener chain leads to what is no listener");
	BROKEN(w.st->neigh_count++, "neigh: the count of entries is wrong");
	BROKEN(pool_alloc(&t.cx, POOL_LOOP, REF_NONE), "loop: segments are lost");
	BROKEN(w.o->ooo_count++, "the accounts of out-of-order data do not add up");
}

static void test_edges(void)
{
	BROKEN(w.o->edge_queued = false, "stack: the list of edges holds what is not marked");
	BROKEN(tcb_at(&t.cx, w.st->edge_last)->edge_next = w.closed,
	       "stack: the list of edges holds what is not marked");
	BROKEN(tcb_at(&t.cx, w.st->edge_last)->edge_next = w.st->edge_first,
	       "stack: the list of edges holds what is not marked");
	BROKEN(tcb_at(&t.cx, w.closed)->edge_queued = true, "stack: the list of edges is broken");
	BROKEN(w.st->edge_last = w.closed, "stack: the list of edges is broken");
	BROKEN(w.st->edge_first = 1, "stack: the list of edges holds what is not marked");
}

static void test_output(void)
{
	BROKEN(w.o->output_queued = false, "stack: the list for output holds what is not marked");
	BROKEN(w.o->output_next = w.open, "stack: the list for output holds what is not marked");
	BROKEN(tcb_at(&t.cx, w.closed)->output_queued = true, "stack: the list for output is broken");
	BROKEN(w.st->output_last = REF_NONE, "stack: the list for output is broken");
}

static void test_timewait(void)
{
	BROKEN(w.st->tw_first = w.open, "stack: the TIME-WAIT list leads to a dead object, or loops");
	BROKEN(w.tw[2]->tw_next = w.st->tw_first,
	       "stack: the TIME-WAIT list leads to a dead object, or loops");
	BROKEN(w.tw[1]->tw_prev = REF_NONE, "stack: the TIME-WAIT list is broken backwards");
	BROKEN(w.st->tw_count++, "stack: the count of TIME-WAITs is wrong");
	BROKEN(w.st->tw_last = w.tw[1]->tw_prev, "stack: the count of TIME-WAITs is wrong");
	BROKEN((w.tw[1]->tw_next = REF_NONE, w.st->tw_last = pool_ref(&t.cx, w.tw[1]), w.st->tw_count = 2),
	       "stack: the count of TIME-WAITs is wrong");
}

static struct timer_node *node(ref r)
{
	switch (((const struct pool_head *)pool_at(&t.cx, r))->class) {
	case POOL_TCB:
		return &tcb_at(&t.cx, r)->node;
	case POOL_TIMEWAIT:
		return &((struct timewait *)pool_at(&t.cx, r))->node;
	default:
		return &((struct neigh *)pool_at(&t.cx, r))->node;
	}
}

/* A queued node without children: somebody's first child, or the last of several; never the root. */
static ref leaf(bool first_child)
{
	static const enum pool_class classes[] = {POOL_TCB, POOL_TIMEWAIT};

	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		for (ref r = pool_next(&t.cx, classes[i], REF_NONE); r; r = pool_next(&t.cx, classes[i], r)) {
			const struct timer_node *n = node(r);

			if (!n->queued || !n->prev || n->child || (!first_child && n->next))
				continue;
			if ((node(n->prev)->child == r) == first_child)
				return r;
		}
	CHECK_FATAL(!"the heap has no such node");
	return REF_NONE;
}

/* Who comes before r in the heap forgets it. */
static void forget(ref r)
{
	struct timer_node *before = node(node(r)->prev);

	if (before->child == r)
		before->child = REF_NONE;
	else
		before->next = REF_NONE;
}

static void root_not_queued(void)
{
	start();
	stack_of(&t.cx)->timer_root = sock_create(&t.cx);
	CHECK_STR_EQ(stack_verify(&t.cx), "timer: the root is not queued");
	testcx_close(&t);
}

static void test_timers(void)
{
	root_not_queued();
	BROKEN(node(leaf(true))->child = w.closed, "timer: a link has no counterpart");
	BROKEN(node(leaf(true))->child = 1, "timer: a link has no counterpart");
	BROKEN(w.st->timer_root = REF_NONE, "timer: a queued node is not in the heap");
	BROKEN(forget(leaf(true)), "timer: a node hangs from a dead one");
	BROKEN(forget(leaf(false)), "timer: a node hangs from a dead one");
	BROKEN(node(leaf(false))->queued = 0, "timer: a child is not queued, or the children loop");
	BROKEN(node(w.st->timer_root)->deadline = NSEC_NEVER - 1, "timer: a child is due before its parent");
	BROKEN(node(leaf(true))->deadline = 0, "timer: a child is due before its parent");
	BROKEN(node(leaf(false))->deadline = 0, "timer: a child is due before its parent");
	BROKEN(w.o->timer[TIMER_DELACK] = 1, "timer: a deadline of a socket is not in the heap");
	BROKEN(tcb_at(&t.cx, w.closed)->timer[TIMER_RTO] = t.cx.now + 1,
	       "timer: a deadline of a socket is not in the heap");
}

static const char *while_sending;

static int look_inside(struct stack_cx *cx, const struct frame_tx *f)
{
	(void)f;
	while_sending = stack_verify(cx);
	return 0;
}

/* A process may die while a timer's handler sends: the socket's other timers must be in the heap then. */
static void test_timer_handler(void)
{
	uint32_t iss;

	start();
	ref s = accepted(&iss);
	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_KEEPALIVE, 1), 0);
	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_QUICKACK, 0), 0);
	deliver(TH_ACK, 5001, iss + 1, 10);
	CHECK(tcb_at(&t.cx, s)->timer[TIMER_DELACK] != NSEC_NEVER);
	while_sending = "nothing was sent";
	t.cx.tx = look_inside;
	t.cx.now = stack_deadline(&t.cx);
	stack_advance(&t.cx);
	CHECK_MSG(!while_sending, "%s", while_sending ? while_sending : "");
	finish();
}

static void test_owners(void)
{
	BROKEN(chunk_at(&t.cx, w.o->rcvbuf.first)->head.owner = REF_NONE,
	       "memory: an object outlived its socket");
	BROKEN(((struct pool_head *)pool_at(&t.cx, w.o->ooo_root))->owner = 1,
	       "memory: an object outlived its socket");
	BROKEN(pool_alloc(&t.cx, POOL_SACKBOARD, REF_NONE), "memory: an object outlived its socket");
}

static void test_buffers(void)
{
	BROKEN(w.o->sndbuf.first = w.closed, "buffer: a chain leads to what is no chunk");
	BROKEN(chunk_at(&t.cx, w.o->rcvbuf.last)->next = 1, "buffer: a chain leads to what is no chunk");
	BROKEN(chunk_at(&t.cx, w.o->rcvbuf.first)->head.owner = w.closed,
	       "buffer: a chunk is another's, or broken");
	BROKEN(chunk_at(&t.cx, w.o->rcvbuf.first)->begin = 600, "buffer: a chunk is another's, or broken");
	BROKEN(chunk_at(&t.cx, w.o->rcvbuf.last)->end = 20000, "buffer: a chunk is another's, or broken");
	BROKEN(chunk_at(&t.cx, w.o->sndbuf.last)->next = w.o->sndbuf.first, "buffer: a chain has a loop");
	BROKEN(w.o->sndbuf.end++, "buffer: it holds other bytes than it says");
	BROKEN(w.o->rcvbuf.start++, "buffer: it holds other bytes than it says");
	BROKEN(w.o->rcvbuf.last = w.o->sndbuf.last, "buffer: it holds other bytes than it says");
	BROKEN(w.o->rcvbuf.charged++, "buffer: the charge is not what its chunks cost");
}

static void test_queues(void)
{
	BROKEN(w.l->syn_first = 1, "listener: a queue leads to a dead object, or is longer than counted");
	BROKEN(w.l->syn_count = 0, "listener: a queue leads to a dead object, or is longer than counted");
	BROKEN(w.l->accept_count = 0, "listener: a queue leads to a dead object, or is longer than counted");
	BROKEN(tcb_at(&t.cx, w.half_open)->listener = w.closed,
	       "listener: a queued child is not linked to its listener");
	BROKEN(tcb_at(&t.cx, w.waiting)->queue_prev = w.half_open,
	       "listener: a queued child is not linked to its listener");
	BROKEN(w.l->syn_count = 2, "listener: the count of a queue is wrong");
	BROKEN(w.l->accept_count = 2, "listener: the count of a queue is wrong");
	BROKEN(w.l->accept_last = w.half_open, "listener: the count of a queue is wrong");
}

static void test_tcbs(void)
{
	BROKEN(w.o->state = TCPS_COUNT, "tcb: no such state");
	BROKEN(tcb_at(&t.cx, w.closed)->state = TCPS_LISTEN,
	       "tcb: LISTEN and the table of listeners disagree");
	BROKEN(w.l->state = TCPS_CLOSED, "tcb: LISTEN and the table of listeners disagree");
	BROKEN(demux_remove(&t.cx, w.o), "tcb: a connection is not in the table");
	BROKEN(w.o->snd_una = seq_add(w.o->snd_nxt, 1),
	       "tcb: SND.UNA <= SND.NXT <= the highest sent does not hold");
	BROKEN(w.o->snd_max = seq_add(w.o->snd_nxt, 0u - 1),
	       "tcb: SND.UNA <= SND.NXT <= the highest sent does not hold");
	BROKEN(w.o->rcv_adv = seq_add(w.o->rcv_nxt, 0u - 1),
	       "tcb: RCV.NXT is beyond the window that was offered");
}

static void test_accounts(void)
{
	BROKEN(w.st->buffer_bytes++, "stack: the sum of the buffers' charges is wrong");
	BROKEN(w.st->tcb_count--, "stack: the count of TCBs is wrong");
	BROKEN(w.st->orphan_count++, "stack: the count of orphans is wrong");
	BROKEN(w.o->orphan = true, "stack: the count of orphans is wrong");
}

CHECK_MAIN("verify", {"a region of another build", test_region}, {"the walks of other files", test_walks},
	   {"the list of edges", test_edges}, {"the list for output", test_output},
	   {"the list of TIME-WAITs", test_timewait}, {"the heap of timers", test_timers},
	   {"a timer's handler loses no other deadline", test_timer_handler},
	   {"owners of memory", test_owners}, {"buffers", test_buffers}, {"a listener's queues", test_queues},
	   {"RFC 9293 3.3.1: states and sequence variables", test_tcbs},
	   {"the accounts of the stack", test_accounts})
