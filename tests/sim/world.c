/*
 * world.c - virtual time, the event heap, the faulty path and the loop (see sim.h).
 */
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/tcb.h" /* white box: the sequence variables, for the invariants */
#include "sim.h"

#define REGION_BYTES (512ull << 20)
#define LIVENESS     (4000 * NS_PER_S) /* by then every connection must have ended */
#define VERIFY_EVERY 1024
#define PPM	     1000000u

/* ------------------------------------------------------------------ small tools */

void world_fail(struct world *w, const char *format, ...)
{
	va_list ap;

	if (w->failure[0])
		return;
	int n = snprintf(w->failure, sizeof w->failure, "at %.6f s, step %llu: ", (double)w->now / 1e9,
			 (unsigned long long)w->steps);
	va_start(ap, format);
	vsnprintf(w->failure + n, sizeof w->failure - (size_t)n, format, ap);
	va_end(ap);
}

void world_say(struct world *w, const char *format, ...)
{
	va_list ap;

	if (!w->verbose)
		return;
	printf("%14.6f  ", (double)w->now / 1e6);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
}

uint64_t world_random(struct world *w)
{
	/* splitmix64 */
	uint64_t z = w->rng += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint64_t world_below(struct world *w, uint64_t n)
{
	return n ? world_random(w) % n : 0;
}

bool world_chance(struct world *w, uint32_t ppm)
{
	return ppm && world_below(w, PPM) < ppm;
}

/* FNV-1a's shape on 64-bit words. */
void world_hash(struct world *w, const void *p, size_t n)
{
	const uint8_t *b = p;
	uint64_t v;

	for (; n >= 8; b += 8, n -= 8) {
		memcpy(&v, b, 8);
		w->hash = (w->hash ^ v) * 0x100000001b3ull;
		w->hash ^= w->hash >> 29;
	}
	for (; n; b++, n--)
		w->hash = (w->hash ^ *b) * 0x100000001b3ull;
}

/* ------------------------------------------------------------------ events */

static bool before(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void event_push(struct world *w, struct event e)
{
	size_t i = w->heap_len++;

	if (w->heap_len > w->heap_cap) {
		w->heap_cap = w->heap_cap * 2 + 64;
		w->heap = realloc(w->heap, w->heap_cap * sizeof *w->heap);
	}
	e.order = w->order++;
	for (; i && before(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
		w->heap[i] = w->heap[(i - 1) / 2];
	w->heap[i] = e;
}

static struct event event_pop(struct world *w)
{
	struct event top = w->heap[0], last = w->heap[--w->heap_len];
	size_t i = 0, k;

	while ((k = 2 * i + 1) < w->heap_len) {
		if (k + 1 < w->heap_len && before(&w->heap[k + 1], &w->heap[k]))
			k++;
		if (!before(&w->heap[k], &last))
			break;
		w->heap[i] = w->heap[k];
		i = k;
	}
	w->heap[i] = last;
	return top;
}

void world_wake(struct world *w, int connection, int side, nsec at)
{
	event_push(w, (struct event){.at = at, .kind = EVENT_WAKE, .connection = connection, .side = side});
}

void world_start(struct world *w, int connection, int side, nsec at)
{
	event_push(w, (struct event){.at = at, .kind = EVENT_START, .connection = connection, .side = side});
}

/* ------------------------------------------------------------------ the path */

static int connection_of(const struct world *w, const struct image *im, int from)
{
	unsigned port = from == 0 ? im->sport : im->dport;

	return port - A_PORT < (unsigned)w->count ? (int)(port - A_PORT) : -1;
}

static bool path_loses(struct world *w, struct path *p)
{
	if (p->in_burst ? world_chance(w, p->burst_leave) : world_chance(w, p->burst_enter))
		p->in_burst = !p->in_burst;
	return p->in_burst || world_chance(w, p->loss);
}

/* When a frame of this size would arrive; NSEC_NEVER: the queue is full. */
static nsec path_time(struct world *w, struct path *p, uint32_t len)
{
	nsec start = MAX_OF(w->now, p->free_at);

	if (p->rate) {
		if ((start - w->now) * p->rate / NS_PER_S > p->queue_bytes)
			return NSEC_NEVER;
		start += len * NS_PER_S / p->rate;
		p->free_at = start;
	}
	return start + p->delay + world_below(w, p->jitter + 1);
}

static void path_deliver(struct world *w, int to, nsec at, const uint8_t *frame, uint32_t len,
			 const struct event *like)
{
	struct event e = *like;

	e.at = at;
	e.kind = EVENT_FRAME;
	e.side = to;
	e.len = len;
	e.frame = malloc(len);
	memcpy(e.frame, frame, len);
	event_push(w, e);
}

/* One to three bits within one byte: a change that the checksum cannot miss. */
static void spoil(struct world *w, uint8_t *frame, uint32_t len)
{
	uint32_t at = IMAGE_ETHER + (uint32_t)world_below(w, len - IMAGE_ETHER);
	uint8_t bits = (uint8_t)(1 + world_below(w, 7));

	frame[at] ^= (uint8_t)(bits << world_below(w, 6));
}

static void path_take(struct side *s, const uint8_t *frame, uint32_t len, struct event like)
{
	struct world *w = s->world;
	struct path *p = &s->out;
	int to = !s->index;
	bool faults = w->now < w->faults_end;
	nsec at = path_time(w, p, len);

	if (like.connection < 0) { /* ARP: not what this is about */
		path_deliver(w, to, w->now + p->delay, frame, len, &like);
		return;
	}
	if (at == NSEC_NEVER || (faults && path_loses(w, p)))
		return;
	if (faults && world_chance(w, p->reorder))
		at += 1 + world_below(w, p->reorder_by);
	if (faults && world_chance(w, p->hold)) /* an old duplicate that turns up much later */
		path_deliver(w, to, at + world_below(w, 20) * 500 * NS_PER_MS, frame, len, &like);
	if (faults && world_chance(w, p->duplicate))
		path_deliver(w, to, at + world_below(w, 2 * NS_PER_MS), frame, len, &like);
	if (faults && !like.gso_size && !like.trusted && world_chance(w, p->corrupt)) {
		uint8_t *bad = malloc(len);
		memcpy(bad, frame, len);
		spoil(w, bad, len);
		like.intact = false;
		path_deliver(w, to, at, bad, len, &like);
		free(bad);
		return;
	}
	path_deliver(w, to, at, frame, len, &like);
}

/* ------------------------------------------------------------------ what the stacks emit */

static void check_frame(struct side *s, const uint8_t *frame, uint32_t len, struct event *like)
{
	struct world *w = s->world;
	struct image *im = &like->im;
	struct connection *c;
	struct emitter *e;
	const char *bad;
	char text[300];

	world_hash(w, &w->now, sizeof w->now);
	world_hash(w, frame, len);
	w->frames++;
	if (w->pcap)
		pcap_write(w->pcap, w->now, frame, len);
	like->connection = -1;
	like->intact = true;
	if (!image_is_tcp(frame, len))
		return;
	bad = image_parse(frame, len, im);
	like->connection = connection_of(w, im, s->index);
	if (like->connection < 0 && !bad)
		bad = "segment of an unknown connection";
	if (!bad) {
		c = &w->connection[like->connection];
		e = &c->end[s->index].emitter;
		if ((im->flags & SYN) && im->seq != e->iss)
			e->generation = c->generation;
		like->generation = e->generation;
		bad = emitter_check(e, im);
	}
	if (w->verbose || bad) {
		image_print(im, 0, 0, text, sizeof text);
		world_say(w, "%c %d  %s", s->index ? 'B' : 'A', like->connection, text);
	}
	if (bad)
		world_fail(w, "stack %c, connection %d: %s: %s", s->index ? 'B' : 'A', like->connection, bad,
			   text);
}

static int cut_frame(void *arg, const uint8_t *frame, uint32_t len)
{
	struct side *s = arg;
	struct event like = {0};

	check_frame(s, frame, len, &like);
	path_take(s, frame, len, like);
	return 0;
}

static int check_only(void *arg, const uint8_t *frame, uint32_t len)
{
	struct event like = {0};

	check_frame(arg, frame, len, &like);
	return 0;
}

static uint32_t flatten(const struct frame_tx *f, uint8_t *out)
{
	uint32_t n = f->header_len;

	memcpy(out, f->header, n);
	for (int i = 0; i < f->piece_count; i++) {
		memcpy(out + n, f->piece[i].data, f->piece[i].len);
		n += f->piece[i].len;
	}
	return n;
}

/* Hand a super-segment over whole, as a TAP would: partial checksum, gso size. */
static void pass_whole(struct side *s, const struct frame_tx *f)
{
	static uint8_t whole[FRAME_LEN_MAX + 200];
	struct event like = {.trusted = true, .gso_size = f->gso_size, .intact = true};
	uint32_t len = flatten(f, whole);
	uint32_t field = f->csum_start + f->csum_offset;
	uint8_t partial[2] = {whole[field], whole[field + 1]};
	const char *bad;

	image_seal(whole, len); /* what the device would complete, so that it can be judged */
	bad = image_parse(whole, len, &like.im);
	memcpy(whole + field, partial, 2);
	if (bad) {
		world_fail(s->world, "super-segment: %s", bad);
		return;
	}
	like.connection = connection_of(s->world, &like.im, s->index);
	like.generation = s->world->connection[like.connection].end[s->index].emitter.generation;
	path_take(s, whole, len, like);
}

static int side_tx(struct stack_cx *cx, const struct frame_tx *f)
{
	static uint8_t scratch[FRAME_LEN_MAX];
	struct side *s = cx->arg;
	int r;

	if (s->world->now < s->world->faults_end && world_chance(s->world, s->tx_refuse))
		return -ENOBUFS;
	if (s->super && f->csum_offset) {
		r = frame_segment(f, scratch, check_only, s);
		pass_whole(s, f);
	} else {
		r = frame_segment(f, scratch, cut_frame, s);
	}
	if (r == -EINVAL) {
		struct event like = {.connection = -1, .intact = true};
		uint32_t len = flatten(f, scratch);
		check_frame(s, scratch, len, &like);
		path_take(s, scratch, len, like);
	}
	return 0;
}

static int side_grow(struct stack_cx *cx, uint64_t bytes)
{
	if (bytes > REGION_BYTES)
		return -ENOMEM;
	if (bytes > cx->limit)
		cx->limit = MIN_OF(REGION_BYTES, (bytes + 0xfffff) & ~0xfffffull);
	return 0;
}

/* ------------------------------------------------------------------ invariants */

static void check_sequences(struct world *w, struct side *s)
{
	for (ref r = pool_next(&s->cx, POOL_TCB, REF_NONE); r; r = pool_next(&s->cx, POOL_TCB, r)) {
		const struct tcb *t = tcb_at(&s->cx, r);
		if (t->state < TCPS_SYN_SENT)
			continue;
		if (seq_gt(t->snd_una, t->snd_max) || seq_gt(t->snd_nxt, t->snd_max) ||
		    (seq_lt(t->snd_nxt, t->snd_una)))
			world_fail(w, "SND.UNA %u, SND.NXT %u, SND.MAX %u out of order", t->snd_una.v,
				   t->snd_nxt.v, t->snd_max.v);
	}
}

static void verify(struct world *w)
{
	for (int i = 0; i < 2; i++) {
		w->side[i].cx.now = w->now;
		const char *bad = stack_verify(&w->side[i].cx);
		if (bad)
			world_fail(w, "stack_verify of stack %c: %s", i ? 'B' : 'A', bad);
		check_sequences(w, &w->side[i]);
	}
}

static void check_empty(struct world *w)
{
	static const struct {
		enum pool_class class;
		const char *name;
	} pools[] = {{POOL_TCB, "TCB"},
		     {POOL_TIMEWAIT, "TIME-WAIT"},
		     {POOL_CHUNK_SMALL, "small chunk"},
		     {POOL_CHUNK, "chunk"},
		     {POOL_OOO, "range"},
		     {POOL_SACKBOARD, "scoreboard"},
		     {POOL_PENDING, "waiting frame"}};

	for (int i = 0; i < 2; i++) {
		struct stack_cx *cx = &w->side[i].cx;
		for (size_t k = 0; k < ARRAY_LEN(pools); k++)
			if (pool_live(cx, pools[k].class))
				world_fail(w, "stack %c leaks %u x %s", i ? 'B' : 'A',
					   pool_live(cx, pools[k].class), pools[k].name);
		if (stack_buffer_bytes(cx))
			world_fail(w, "stack %c: %llu buffer bytes remain charged", i ? 'B' : 'A',
				   (unsigned long long)stack_buffer_bytes(cx));
	}
}

/* ------------------------------------------------------------------ set-up */

static void draw_path(struct world *w, struct path *p)
{
	static const uint32_t levels[] = {0, 0, 1000, 10000, 30000, 100000};

	p->loss = levels[world_below(w, ARRAY_LEN(levels))];
	p->duplicate = levels[world_below(w, 5)];
	p->corrupt = levels[world_below(w, 5)];
	p->reorder = levels[world_below(w, 6)];
	p->hold = levels[world_below(w, 4)];
	if (world_chance(w, 300000)) {
		p->burst_enter = 500 + (uint32_t)world_below(w, 3000);
		p->burst_leave = 100000 + (uint32_t)world_below(w, 400000);
	}
	p->delay =
	    world_below(w, 4) ? NS_PER_US * (20 + world_below(w, 30000)) : NS_PER_MS * world_below(w, 200);
	p->jitter = world_chance(w, 400000) ? world_below(w, p->delay / 2 + 1) : 0;
	p->reorder_by = world_below(w, 2 * p->delay + NS_PER_MS);
	p->rate = world_chance(w, 500000) ? 200000ull << world_below(w, 9) : 0;
	p->queue_bytes = 20000u << world_below(w, 6);
}

static void draw_config(struct world *w, struct side *s, struct stack_config *c)
{
	stack_config_defaults(c);
	c->addr = ipaddr_v4(10, 0, 0, (uint8_t)(1 + s->index));
	c->prefix_len = 24;
	memcpy(c->mac, s->mac, 6);
	c->timestamps = !world_chance(w, 250000);
	c->sack = !world_chance(w, 250000);
	c->wscale = !world_chance(w, 250000);
	c->cc = (uint8_t)world_below(w, STACK_CC_COUNT);
	if (world_chance(w, 250000))
		c->ooo_ranges_max = 2 + (uint32_t)world_below(w, 8);
	if (world_chance(w, 200000))
		c->rcvbuf_default = 4096u << world_below(w, 5);
	if (world_chance(w, 200000))
		c->rcvbuf_max = MAX_OF(c->rcvbuf_default, 32768u);
	c->rcvbuf_max = MAX_OF(c->rcvbuf_max, c->rcvbuf_default);
	if (world_chance(w, 50000)) /* want of buffers */
		c->mem_max = 300000 + world_below(w, 1000000);
	s->tx_refuse = world_chance(w, 100000) ? 5000 : 0;
}

static int side_init(struct world *w, int i, uint16_t mtu, uint32_t caps)
{
	struct side *s = &w->side[i];
	struct stack_config c;
	uint8_t seed[32];
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};

	s->world = w;
	s->index = i;
	memcpy(s->mac, mac, 6);
	s->mac[5] = (uint8_t)(1 + i);
	s->cx.base = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	s->cx.limit = STACK_MIN_BYTES;
	s->cx.now = w->now;
	s->cx.grow = side_grow;
	s->cx.tx = side_tx;
	s->cx.arg = s;
	draw_config(w, s, &c);
	draw_path(w, &s->out);
	c.mtu = mtu;
	c.device_caps = caps;
	s->super = (caps & DEVICE_TX_TSO4) && world_chance(w, 500000);
	for (int k = 0; k < 32; k += 8) {
		uint64_t r = world_random(w);
		memcpy(seed + k, &r, 8);
	}
	return stack_init(&s->cx, &c, seed);
}

/* One long transfer over a fast path that loses little: the sequence numbers wrap on the way. */
static void make_long(struct world *w, uint64_t bytes)
{
	struct connection *c = &w->connection[0];

	for (int i = 0; i < 2; i++) {
		struct end *e = &c->end[i];
		memset(e, 0, sizeof *e);
		e->read_max = e->write_max = 65536;
		e->emitter.own_wscale = e->emitter.peer_wscale = -1;
		w->side[i].out = (struct path){.loss = 20, .delay = 50 * NS_PER_US};
	}
	c->simultaneous_open = c->together = c->may_fail = false;
	w->heap_len = 0;
	world_start(w, 0, 0, w->now);
	c->end[0].to_send = c->end[1].to_receive = bytes;
	c->end[1].manner = CLOSE_AFTER_PEER;
	w->faults_end = w->now + LIVENESS;
}

static int world_init(struct world *w, const struct world_options *o)
{
	struct endpoint local = {ipaddr_v4(0, 0, 0, 0), LISTEN_PORT};
	uint16_t mtu;
	uint32_t caps;
	int r;

	memset(w, 0, sizeof *w);
	w->seed = w->rng = o->seed;
	w->hash = 0xcbf29ce484222325ull;
	w->verbose = o->verbose;
	w->count = o->connections;
	w->now = NS_PER_S * world_below(w, 1000000);
	w->faults_end = w->now + 30 * NS_PER_S;
	w->pcap = o->pcap ? pcap_open(o->pcap) : NULL;
	mtu = (uint16_t)(world_chance(w, 200000) ? 576 + world_below(w, 925) : 1500);
	caps = world_below(w, 2) ? DEVICE_NO_ARP : 0;
	if (world_below(w, 2))
		caps |= DEVICE_TX_CSUM | DEVICE_TX_TSO4;
	for (int i = 0; i < 2; i++) {
		r = side_init(w, i, mtu, caps);
		if (r) {
			world_fail(w, "stack_init: %d", r);
			return -1;
		}
	}
	w->side[1].listener = sock_create(&w->side[1].cx);
	r = sock_listen(&w->side[1].cx, w->side[1].listener, &local,
			world_chance(w, 300000) ? (int)world_below(w, 4) : WORLD_CONNECTIONS);
	if (r)
		world_fail(w, "listen: %d", r);
	for (int i = 0; i < w->count; i++) {
		struct connection *c = &w->connection[i];
		c->generations = world_chance(w, 100000) ? 1 + (int)world_below(w, 3) : 0;
		app_plan(w, i);
		for (int k = 0; k < 2; k++)
			c->end[k].emitter.own_wscale = c->end[k].emitter.peer_wscale = -1;
	}
	if (o->long_bytes)
		make_long(w, o->long_bytes);
	return r;
}

static void world_exit(struct world *w)
{
	const uint64_t *from;
	uint64_t *to = (uint64_t *)&w->counters;

	for (int i = 0; i < 2; i++) {
		if (!w->side[i].cx.base)
			continue;
		from = (const uint64_t *)stack_counters(&w->side[i].cx);
		for (size_t k = 0; k < sizeof w->counters / sizeof *to; k++)
			to[k] += from[k];
		munmap(w->side[i].cx.base, REGION_BYTES);
	}
	while (w->heap_len)
		free(event_pop(w).frame);
	free(w->heap);
	if (w->pcap)
		fclose(w->pcap);
}

/* ------------------------------------------------------------------ the loop */

/* After anything happened to a stack: transmissions, then the applications that were woken. */
static void settle(struct world *w, int side)
{
	struct side *s = &w->side[side];
	uint32_t edges;
	ref r;

	s->cx.now = w->now;
	stack_flush(&s->cx);
	while (!w->failure[0] && (r = sock_next_edge(&s->cx, &edges)) != REF_NONE) {
		if (r == s->listener)
			app_accept_all(w);
		else if (sock_user(&s->cx, r)[0])
			app_step(w, (int)sock_user(&s->cx, r)[0] - 1, side);
	}
	stack_flush(&s->cx);
}

/* Old duplicates of an earlier incarnation show this end nothing. */
static void hear(struct emitter *to, const struct event *e)
{
	if (e->generation > to->heard_generation && (e->im.flags & SYN)) {
		to->heard_generation = e->generation;
		to->before_known = to->peer_known;
		to->peer_end_before = to->peer_end;
		to->peer_known = false;
	}
	if (e->generation == to->heard_generation)
		emitter_hears(to, &e->im);
}

static void happen(struct world *w, struct event *e)
{
	struct side *s = &w->side[e->side];

	s->cx.now = w->now;
	switch (e->kind) {
	case EVENT_START:
		app_start(w, e->connection, e->side);
		break;
	case EVENT_WAKE:
		w->connection[e->connection].end[e->side].stalled = false;
		app_step(w, e->connection, e->side);
		break;
	default:
		if (e->connection >= 0 && e->intact)
			hear(&w->connection[e->connection].end[e->side].emitter, e);
		stack_input(&s->cx,
			    &(struct frame_rx){.data = e->frame,
					       .len = e->len,
					       .gso_size = e->gso_size,
					       .csum = e->trusted ? FRAME_CSUM_TRUSTED : FRAME_CSUM_VERIFY});
		free(e->frame);
	}
}

static nsec next_time(struct world *w)
{
	nsec t = w->heap_len ? w->heap[0].at : NSEC_NEVER;

	for (int i = 0; i < 2; i++)
		t = MIN_OF(t, stack_deadline(&w->side[i].cx));
	return t;
}

static void run_until_quiet(struct world *w, nsec limit)
{
	uint64_t stuck = 0;
	bool touched[2];

	while (!w->failure[0]) {
		nsec t = next_time(w);
		if (t == NSEC_NEVER)
			return;
		stuck = t <= w->now ? stuck + 1 : 0;
		w->now = MAX_OF(t, w->now);
		if (w->now > limit)
			world_fail(w, "connections live on although the faults ended long ago");
		if (stuck > 100000)
			world_fail(w, "a deadline in the past does not go away");
		touched[0] = touched[1] = false;
		for (int i = 0; i < 2; i++)
			if (stack_deadline(&w->side[i].cx) <= w->now) {
				w->side[i].cx.now = w->now;
				stack_advance(&w->side[i].cx);
				touched[i] = true;
			}
		/* What arrives at one time is one burst. */
		while (w->heap_len && w->heap[0].at <= w->now && !w->failure[0]) {
			struct event e = event_pop(w);
			touched[e.side] = true;
			happen(w, &e);
		}
		for (int i = 0; i < 2; i++)
			if (touched[i])
				settle(w, i);
		if (++w->steps % VERIFY_EVERY == 0)
			verify(w);
	}
}

static void name_survivors(struct world *w)
{
	for (int i = 0; i < w->count && !w->failure[0]; i++) {
		struct connection *c = &w->connection[i];
		for (int k = 0; k < 2; k++) {
			struct end *e = &c->end[k];
			struct sock_info info = {0};
			if (e->closed || (!e->born && c->may_fail))
				continue;
			if (e->s)
				sock_info(&w->side[k].cx, e->s, &info);
			world_fail(
			    w,
			    "connection %d end %d never ends: born %d connected %d sent %llu/%llu received "
			    "%llu/%llu eof %d shut %d, state %u, events %x",
			    i, k, e->born, e->connected, (unsigned long long)e->sent,
			    (unsigned long long)e->to_send, (unsigned long long)e->received,
			    (unsigned long long)e->to_receive, e->eof, e->shut, info.state,
			    e->s ? sock_events(&w->side[k].cx, e->s) : 0);
		}
	}
}

int world_run(struct world *w, const struct world_options *o)
{
	if (world_init(w, o) == 0) {
		run_until_quiet(w, w->faults_end + LIVENESS);
		if (!w->failure[0] || strstr(w->failure, "live on"))
			if (!app_all_done(w)) {
				w->failure[0] = 0;
				name_survivors(w);
			}
		app_final_check(w);
		if (!w->failure[0]) {
			sock_close(&w->side[1].cx, w->side[1].listener);
			run_until_quiet(w, NSEC_NEVER);
			verify(w);
			check_empty(w);
		}
	}
	world_exit(w);
	return w->failure[0] ? -1 : 0;
}
