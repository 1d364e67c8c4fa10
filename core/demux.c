/*
 * demux.c - which socket a segment belongs to.
 *
 * Theory of operation. Connections (TCBs) and TIME-WAITs share one table, keyed
 * by the exact 4-tuple; objects are chained by hash_next and told apart by
 * pool_head.class. The table grows by linear hashing: 2^bits + split buckets
 * are in use; an insertion that makes the load exceed one splits one bucket,
 * so that no packet ever pays for a rehash of the whole. Its memory doubles when
 * split reaches 2^bits. When that memory is refused, chains just get longer.
 * Listeners are in a small table by port. An exact address wins over a
 * wildcard; among listeners that share address and port (SO_REUSEPORT) the
 * hash of the 4-tuple chooses.
 *
 * The hash is keyed (a peer chooses its address and port freely) but never
 * leaves the host, so it need not be a PRF: two 64x64->128 multiplications.
 */
#include "core/net.h"

struct tuple_links {
	const struct endpoint *local, *remote;
	ref *hash_next;
};

static inline uint64_t load64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, 8);
	return v;
}

static inline uint64_t multiply_fold(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)a * b;
	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

uint64_t keyed_mix(const uint8_t key[16], uint64_t a, uint64_t b)
{
	uint64_t k0 = load64(key), k1 = load64(key + 8);
	/* the odd constant, a fraction of the golden ratio, keeps a factor from being zero twice */
	return multiply_fold(multiply_fold(a ^ k0, b ^ k1) ^ 0x9e3779b97f4a7c15, k0 ^ b);
}

uint64_t ipaddr_hash(const struct stack_cx *cx, const struct ipaddr *a)
{
	return keyed_mix(stack_of(cx)->key_hash, load64(a->b), load64(a->b + 8));
}

static uint64_t tuple_hash(const struct stack_cx *cx, const struct endpoint *local,
			   const struct endpoint *remote)
{
	const uint8_t *key = stack_of(cx)->key_hash;
	uint64_t ports = (uint64_t)local->port << 16 | remote->port;
	uint64_t h = keyed_mix(key, load64(local->addr.b + 8) ^ load64(remote->addr.b) ^ ports << 32,
			       load64(remote->addr.b + 8) ^ ports);

	/* local->addr.b[0..8) is zero for IPv4, and differs little between the few addresses of one host */
	return h ^ multiply_fold(load64(local->addr.b) ^ load64(key), ports ^ load64(key + 8));
}

static inline bool endpoint_eq(const struct endpoint *a, const struct endpoint *b)
{
	return a->port == b->port && ipaddr_eq(&a->addr, &b->addr);
}

/* --------------------------------------------------------- connections */

static ref *conn_bucket(const struct stack_cx *cx, uint64_t hash)
{
	const struct stack *st = stack_of(cx);
	ref *table = pool_at(cx, st->conn_buckets);
	uint64_t i = hash & ((1ull << st->conn_bucket_bits) - 1);

	if (i < st->conn_bucket_split)
		i = hash & ((2ull << st->conn_bucket_bits) - 1);
	return &table[i];
}

/* A member of a chain, whichever class it has; false for a ref that is neither. */
static bool member(const struct stack_cx *cx, ref r, struct tuple_links *m)
{
	const struct pool_head *h = pool_at(cx, r);

	if (h->class == POOL_TCB) {
		struct tcb *t = tcb_at(cx, r);
		*m = (struct tuple_links){&t->local, &t->remote, &t->hash_next};
		return true;
	}
	if (h->class == POOL_TIMEWAIT) {
		struct timewait *w = pool_at(cx, r);
		*m = (struct tuple_links){&w->local, &w->remote, &w->hash_next};
		return true;
	}
	return false;
}

static ref conn_find(const struct stack_cx *cx, const struct endpoint *local, const struct endpoint *remote,
		     uint64_t hash)
{
	struct tuple_links m;

	for (ref r = *conn_bucket(cx, hash); r && member(cx, r, &m); r = *m.hash_next)
		if (endpoint_eq(m.remote, remote) && endpoint_eq(m.local, local))
			return r;
	return REF_NONE;
}

/* Memory for twice the buckets; the lower half keeps its chains. */
static bool conn_table_double(struct stack_cx *cx)
{
	struct stack *st = stack_of(cx);
	uint64_t bytes = sizeof(ref) << (st->conn_bucket_bits + 1); /* in use now: 2 * 2^bits buckets */
	ref bigger = pool_extents(cx, (uint32_t)((2 * bytes + EXTENT_BYTES - 1) / EXTENT_BYTES));

	if (!bigger)
		return false;
	memcpy(pool_at(cx, bigger), pool_at(cx, st->conn_buckets), bytes);
	/* in this order, so that the table is never said to be larger than it is */
	record_barrier();
	st->conn_buckets = bigger;
	record_barrier();
	st->conn_bucket_bits++;
	record_barrier();
	st->conn_bucket_split = 0;
	return true;
}

/* Move what belongs to the new buddy of bucket `split` there. */
static void conn_table_split(struct stack_cx *cx)
{
	struct stack *st = stack_of(cx);
	uint64_t size = 1ull << st->conn_bucket_bits;

	if (st->conn_bucket_split == size && !conn_table_double(cx))
		return;
	size = 1ull << st->conn_bucket_bits;
	ref *table = pool_at(cx, st->conn_buckets);
	ref *low = &table[st->conn_bucket_split], *high = low + size;
	ref r = *low;
	struct tuple_links m;

	*low = *high = REF_NONE;
	st->conn_bucket_split++;
	while (r && member(cx, r, &m)) {
		ref next = *m.hash_next;
		ref *to = tuple_hash(cx, m.local, m.remote) & size ? high : low;
		*m.hash_next = *to;
		*to = r;
		r = next;
	}
}

static int conn_insert(struct stack_cx *cx, ref self, const struct endpoint *local,
		       const struct endpoint *remote, ref *hash_next)
{
	struct stack *st = stack_of(cx);
	uint64_t hash = tuple_hash(cx, local, remote);

	if (conn_find(cx, local, remote, hash))
		return -EADDRINUSE;
	st->conn_count++;
	if (st->conn_count > (1ull << st->conn_bucket_bits) + st->conn_bucket_split)
		conn_table_split(cx);
	ref *bucket = conn_bucket(cx, hash);
	*hash_next = *bucket;
	*bucket = self;
	return 0;
}

static bool conn_remove(struct stack_cx *cx, ref self, const struct endpoint *local,
			const struct endpoint *remote)
{
	ref *link = conn_bucket(cx, tuple_hash(cx, local, remote));
	struct tuple_links m;

	for (; *link && member(cx, *link, &m); link = m.hash_next) {
		if (*link != self)
			continue;
		*link = *m.hash_next;
		*m.hash_next = REF_NONE;
		stack_of(cx)->conn_count--;
		return true;
	}
	return false;
}

bool demux_tuple_used(struct stack_cx *cx, const struct endpoint *local, const struct endpoint *remote)
{
	return conn_find(cx, local, remote, tuple_hash(cx, local, remote)) != REF_NONE;
}

int demux_insert(struct stack_cx *cx, struct tcb *t)
{
	int err =
	    t->hashed ? -EADDRINUSE : conn_insert(cx, pool_ref(cx, t), &t->local, &t->remote, &t->hash_next);

	if (err)
		return err;
	t->hashed = true;
	t->hashed_listener = false;
	return 0;
}

int demux_insert_timewait(struct stack_cx *cx, struct timewait *w)
{
	return conn_insert(cx, pool_ref(cx, w), &w->local, &w->remote, &w->hash_next);
}

void demux_remove_timewait(struct stack_cx *cx, struct timewait *w)
{
	conn_remove(cx, pool_ref(cx, w), &w->local, &w->remote);
}

/* ----------------------------------------------------------- listeners */

static ref *listen_bucket(const struct stack_cx *cx, uint16_t port)
{
	const struct stack *st = stack_of(cx);
	ref *table = pool_at(cx, st->listen_buckets);

	return &table[port & ((1u << st->listen_bucket_bits) - 1)];
}

/* 0.0.0.0 stands for every IPv4 address, :: for all, or for those of IPv6 alone. */
static bool any_covers(const struct tcb *t, const struct ipaddr *a)
{
	if (!ipaddr_is_any(&t->local.addr))
		return false;
	if (ipaddr_is_v4(&t->local.addr))
		return ipaddr_is_v4(a);
	return !t->v6only || !ipaddr_is_v4(a);
}

/* 2: bound to this very address, 1: to any, 0: another port or address. */
static int listener_score(const struct tcb *t, const struct endpoint *local)
{
	if (t->local.port != local->port)
		return 0;
	if (ipaddr_eq(&t->local.addr, &local->addr))
		return 2;
	return any_covers(t, &local->addr) ? 1 : 0;
}

/* The best listener; among `count` equals the one at position hash % count. */
static ref listener_choose(struct stack_cx *cx, const struct endpoint *local, uint64_t hash)
{
	ref first = *listen_bucket(cx, local->port), best = REF_NONE;
	int best_score = 0;
	uint32_t count = 0;

	for (ref r = first; r; r = tcb_at(cx, r)->hash_next) {
		int score = listener_score(tcb_at(cx, r), local);
		if (score > best_score) {
			best_score = score;
			best = r;
			count = 0;
		}
		count += score && score == best_score;
	}
	if (count < 2)
		return best;
	uint32_t skip = (uint32_t)((hash >> 32) * count >> 32);
	for (ref r = first; r; r = tcb_at(cx, r)->hash_next)
		if (listener_score(tcb_at(cx, r), local) == best_score && skip-- == 0)
			return r;
	return best;
}

ref demux_find_listener(struct stack_cx *cx, const struct endpoint *local)
{
	return listener_choose(cx, local, 0);
}

struct demux_result demux_find(struct stack_cx *cx, const struct endpoint *local,
			       const struct endpoint *remote)
{
	uint64_t hash = tuple_hash(cx, local, remote);
	ref r = conn_find(cx, local, remote, hash);

	if (r) {
		const struct pool_head *h = pool_at(cx, r);
		return (struct demux_result){h->class == POOL_TCB ? DEMUX_TCB : DEMUX_TIMEWAIT, r};
	}
	r = listener_choose(cx, local, hash);
	return (struct demux_result){r ? DEMUX_LISTENER : DEMUX_NONE, r};
}

/*
 * Two listeners of one port collide when their addresses are equal or one is
 * the wildcard, unless both asked for SO_REUSEPORT (as Linux; SO_REUSEADDR does
 * not help two sockets that both listen).
 */
static bool listeners_collide(const struct tcb *a, const struct tcb *b)
{
	if (a->local.port != b->local.port || (a->reuseport && b->reuseport))
		return false;
	return ipaddr_eq(&a->local.addr, &b->local.addr) || any_covers(a, &b->local.addr) ||
	       any_covers(b, &a->local.addr);
}

int demux_insert_listener(struct stack_cx *cx, struct tcb *t)
{
	ref *bucket = listen_bucket(cx, t->local.port);

	if (t->hashed)
		return -EADDRINUSE;
	for (ref r = *bucket; r; r = tcb_at(cx, r)->hash_next)
		if (listeners_collide(tcb_at(cx, r), t))
			return -EADDRINUSE;
	t->hash_next = *bucket;
	*bucket = pool_ref(cx, t);
	t->hashed = t->hashed_listener = true;
	return 0;
}

static void listener_remove(struct stack_cx *cx, struct tcb *t)
{
	ref self = pool_ref(cx, t);

	for (ref *link = listen_bucket(cx, t->local.port); *link; link = &tcb_at(cx, *link)->hash_next) {
		if (*link != self)
			continue;
		*link = t->hash_next;
		t->hash_next = REF_NONE;
		return;
	}
}

void demux_remove(struct stack_cx *cx, struct tcb *t)
{
	if (!t->hashed)
		return;
	if (t->hashed_listener)
		listener_remove(cx, t);
	else
		conn_remove(cx, pool_ref(cx, t), &t->local, &t->remote);
	t->hashed = t->hashed_listener = false;
}

/* --------------------------------------------------------------- rebuild.c */

/* The table lies where it may, and is as large as it says. */
static bool table_sound(const struct stack_cx *cx)
{
	const struct stack *st = stack_of(cx);
	uint64_t at = (uint64_t)st->conn_buckets * REF_GRAIN;

	return st->conn_bucket_bits && st->conn_bucket_bits < 30 &&
	       st->conn_bucket_split <= 1u << st->conn_bucket_bits && at >= EXTENT_BYTES &&
	       at % EXTENT_BYTES == 0 && at + (sizeof(ref) << (st->conn_bucket_bits + 1)) <= st->bytes_used;
}

/* Into a table that is never enlarged here. False: the tuple is there already. */
static bool conn_reinsert(struct stack_cx *cx, ref self, const struct endpoint *local,
			  const struct endpoint *remote, ref *hash_next)
{
	uint64_t hash = tuple_hash(cx, local, remote);

	if (conn_find(cx, local, remote, hash))
		return false;
	ref *bucket = conn_bucket(cx, hash);
	*hash_next = *bucket;
	*bucket = self;
	stack_of(cx)->conn_count++;
	return true;
}

bool demux_rebuild_begin(struct stack_cx *cx)
{
	struct stack *st = stack_of(cx);

	if (!table_sound(cx))
		return false;
	memset(pool_at(cx, st->conn_buckets), 0, sizeof(ref) << (st->conn_bucket_bits + 1));
	memset(pool_at(cx, st->listen_buckets), 0, sizeof(ref) << LISTEN_BUCKET_BITS);
	st->conn_count = 0;
	return true;
}

bool demux_rebuild_tcb(struct stack_cx *cx, struct tcb *t)
{
	ref self = pool_ref(cx, t);

	t->hash_next = REF_NONE;
	t->hashed = t->hashed_listener = t->state == TCPS_LISTEN;
	if (t->hashed_listener) {
		ref *bucket = listen_bucket(cx, t->local.port);
		t->hash_next = *bucket;
		*bucket = self;
		return true;
	}
	if (t->state < TCPS_SYN_SENT || t->state >= TCPS_TIME_WAIT)
		return true;
	t->hashed = conn_reinsert(cx, self, &t->local, &t->remote, &t->hash_next);
	return t->hashed;
}

bool demux_rebuild_timewait(struct stack_cx *cx, struct timewait *w)
{
	return conn_reinsert(cx, pool_ref(cx, w), &w->local, &w->remote, &w->hash_next);
}

/* --------------------------------------------------------- verification */

static const char *conn_verify(struct stack_cx *cx)
{
	const struct stack *st = stack_of(cx);
	ref *table = pool_at(cx, st->conn_buckets);
	uint64_t buckets = (1ull << st->conn_bucket_bits) + st->conn_bucket_split, seen = 0;

	for (uint64_t i = 0; i < buckets; i++) {
		struct tuple_links m;
		for (ref r = table[i]; r; r = *m.hash_next) {
			bool alive = pool_valid(cx, POOL_TCB, r) || pool_valid(cx, POOL_TIMEWAIT, r);
			if (!alive || !member(cx, r, &m))
				return "demux: a chain leads to a dead object";
			if (conn_bucket(cx, tuple_hash(cx, m.local, m.remote)) != &table[i])
				return "demux: a connection is in the wrong bucket";
			if (pool_valid(cx, POOL_TCB, r) &&
			    (!tcb_at(cx, r)->hashed || tcb_at(cx, r)->hashed_listener))
				return "demux: a connection in the table is not marked so";
			if (++seen > st->conn_count)
				return "demux: more connections in chains than counted, or a loop";
		}
	}
	return seen == st->conn_count ? NULL : "demux: fewer connections in chains than counted";
}

const char *demux_verify(struct stack_cx *cx)
{
	const struct stack *st = stack_of(cx);
	ref *table = pool_at(cx, st->listen_buckets);
	uint32_t seen = 0, marked = 0;
	const char *broken = conn_verify(cx);

	for (uint32_t i = 0; !broken && i < 1u << st->listen_bucket_bits; i++) {
		for (ref r = table[i]; r; r = tcb_at(cx, r)->hash_next) {
			if (!pool_valid(cx, POOL_TCB, r) || !tcb_at(cx, r)->hashed_listener)
				return "demux: a listener chain leads to what is no listener";
			if (listen_bucket(cx, tcb_at(cx, r)->local.port) != &table[i])
				return "demux: a listener is in the wrong bucket";
			if (++seen > pool_live(cx, POOL_TCB))
				return "demux: a listener chain has a loop";
		}
	}
	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); !broken && r; r = pool_next(cx, POOL_TCB, r))
		marked += tcb_at(cx, r)->hashed_listener;
	return broken ? broken : seen == marked ? NULL : "demux: a listener is marked but in no chain";
}
