/*
 * neigh.c - link addresses of neighbours, and whether they still answer.
 *
 * Theory of operation. The states are those of neighbour unreachability
 * detection (RFC 4861 7.3), which Linux uses for ARP too:
 *
 *   INCOMPLETE  asked by broadcast, once a second, three times; frames wait
 *   REACHABLE   confirmed less than 30 s ago
 *   STALE       address known, no recent proof; used nevertheless
 *   DELAY       a stale entry was used: 5 s for TCP to confirm it by progress
 *   PROBE       asked by unicast, once a second, three times
 *
 * A neighbour that never answers makes the connects that wait for it fail with
 * EHOSTUNREACH after 3 s; one that stops answering is forgotten, and the next
 * frame to it starts over. The table is capped: requests of strangers never
 * push out what is in use.
 * Place in the flow: ipv4_output -> neigh_output -> ether_output; arp_input ->
 * neigh_learn; TCP's acknowledgements -> neigh_confirm.
 */
#include "core/net.h"

#define NEIGH_PENDING_MAX    3u		     /* frames that wait; the oldest gives way */
#define NEIGH_PROBES_MAX     3u		     /* RFC 4861 10: MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT */
#define NEIGH_RETRANS_NS     (1 * NS_PER_S)  /* RETRANS_TIMER; RFC 1122 2.3.2.1: at most one a second */
#define NEIGH_REACHABLE_NS   (30 * NS_PER_S) /* REACHABLE_TIME */
#define NEIGH_DELAY_NS	     (5 * NS_PER_S)  /* DELAY_FIRST_PROBE_TIME */
#define NEIGH_LOCK_NS	     (1 * NS_PER_S) /* an address just learnt is not overridden: the first answer wins */
#define NEIGH_KEEP_UNUSED_NS (30 * NS_PER_S) /* used more recently: not evicted for a stranger's request */

/* A frame that waits, flat. Bigger ones are dropped: TCP repeats them when the address is known. */
struct pending {
	struct pool_head head;
	ref next;
	uint16_t header_len, csum_start, csum_offset, gso_size;
	uint32_t payload_len;
	uint8_t data[2048 - 24];
};
_Static_assert(sizeof(struct pending) == 2048, "struct pending does not fill its pool class");

static struct neigh *neigh_at(const struct stack_cx *cx, ref r)
{
	return pool_at(cx, r);
}

static ref *neigh_bucket(struct stack_cx *cx, const struct ipaddr *a)
{
	ref *table = pool_at(cx, stack_of(cx)->neigh_buckets);

	return &table[ipaddr_hash(cx, a) & ((1u << NEIGH_BUCKET_BITS) - 1)];
}

static struct neigh *neigh_find(struct stack_cx *cx, const struct ipaddr *a)
{
	ref r = *neigh_bucket(cx, a);

	while (r && !ipaddr_eq(&neigh_at(cx, r)->addr, a))
		r = neigh_at(cx, r)->hash_next;
	return neigh_at(cx, r);
}

static void neigh_timer_start(struct stack_cx *cx, struct neigh *n, nsec in)
{
	timer_node_set(cx, &n->node, pool_ref(cx, n), POOL_NEIGH, cx->now + in);
}

static void neigh_state_set(struct stack_cx *cx, struct neigh *n, enum neigh_state to)
{
	n->state = (uint8_t)to;
	n->probes = 0;
	if (to == NEIGH_REACHABLE)
		n->confirmed = cx->now;
	if (to == NEIGH_REACHABLE || to == NEIGH_STALE)
		timer_node_cancel(cx, &n->node, pool_ref(cx, n));
}

/* --------------------------------------------------------------- waiting frames */

static void pending_drop_first(struct stack_cx *cx, struct neigh *n)
{
	ref r = n->pending_first;
	struct pending *p = pool_at(cx, r);

	n->pending_first = p->next;
	if (!n->pending_first)
		n->pending_last = REF_NONE;
	n->pending_count--;
	pool_free(cx, POOL_PENDING, r);
}

static void pending_fill(struct pending *p, const struct frame_tx *f)
{
	uint8_t *to = p->data + f->header_len;

	p->header_len = f->header_len;
	p->csum_start = f->csum_start;
	p->csum_offset = f->csum_offset;
	p->gso_size = f->gso_size;
	p->payload_len = f->payload_len;
	memcpy(p->data, f->header, f->header_len);
	for (uint32_t i = 0; i < f->piece_count; i++) {
		memcpy(to, f->piece[i].data, f->piece[i].len);
		to += f->piece[i].len;
	}
}

/* RFC 1122 2.3.2.2: keep at least the latest frame; we keep three, as Linux once did. */
static int pending_add(struct stack_cx *cx, struct neigh *n, const struct frame_tx *f)
{
	ref r = REF_NONE;

	if (f->header_len + f->payload_len <= sizeof((struct pending *)NULL)->data)
		r = pool_alloc(cx, POOL_PENDING, pool_ref(cx, n));
	if (!r) {
		COUNT(cx, arp_queue_drops);
		return -ENOBUFS;
	}
	if (n->pending_count == NEIGH_PENDING_MAX) {
		COUNT(cx, arp_queue_drops);
		pending_drop_first(cx, n);
	}
	pending_fill(pool_at(cx, r), f);
	if (n->pending_last)
		((struct pending *)pool_at(cx, n->pending_last))->next = r;
	else
		n->pending_first = r;
	n->pending_last = r;
	n->pending_count++;
	return 0;
}

static void pending_send(struct stack_cx *cx, struct neigh *n)
{
	while (n->pending_first) {
		const struct pending *p = pool_at(cx, n->pending_first);
		struct frame_tx f;

		f.header_len = p->header_len;
		f.csum_start = p->csum_start;
		f.csum_offset = p->csum_offset;
		f.gso_size = p->gso_size;
		f.payload_len = p->payload_len;
		memcpy(f.header, p->data, p->header_len);
		f.piece_count = p->payload_len != 0;
		f.piece[0] = (struct frame_piece){p->data + p->header_len, p->payload_len};
		ether_header(cx, f.header, n->mac, ETHERTYPE_IPV4);
		ether_output(cx, &f);
		pending_drop_first(cx, n);
	}
}

/* ----------------------------------------------------------------- the table */

static void neigh_free(struct stack_cx *cx, struct neigh *n)
{
	ref self = pool_ref(cx, n);
	ref *link = neigh_bucket(cx, &n->addr);

	while (*link && *link != self)
		link = &neigh_at(cx, *link)->hash_next;
	if (*link)
		*link = n->hash_next;
	while (n->pending_first)
		pending_drop_first(cx, n);
	timer_node_cancel(cx, &n->node, self);
	stack_of(cx)->neigh_count--;
	pool_free(cx, POOL_NEIGH, self);
}

/* The entry that was used longest ago, never one being resolved; for a stranger, only one out of use. */
static bool neigh_evict(struct stack_cx *cx, bool for_stranger)
{
	struct neigh *victim = NULL;

	for (ref r = pool_next(cx, POOL_NEIGH, REF_NONE); r; r = pool_next(cx, POOL_NEIGH, r)) {
		struct neigh *n = neigh_at(cx, r);
		if (n->state != NEIGH_INCOMPLETE && (!victim || n->used < victim->used))
			victim = n;
	}
	if (!victim || (for_stranger && cx->now - victim->used < NEIGH_KEEP_UNUSED_NS))
		return false;
	neigh_free(cx, victim);
	return true;
}

static struct neigh *neigh_create(struct stack_cx *cx, const struct ipaddr *a, bool for_stranger)
{
	struct stack *st = stack_of(cx);

	if (st->neigh_count >= NEIGH_MAX && !neigh_evict(cx, for_stranger))
		return NULL;
	ref r = pool_alloc(cx, POOL_NEIGH, REF_NONE);
	if (!r)
		return NULL;
	struct neigh *n = neigh_at(cx, r);
	ref *bucket = neigh_bucket(cx, a);
	n->addr = *a;
	n->used = cx->now;
	n->hash_next = *bucket;
	*bucket = r;
	st->neigh_count++;
	record_barrier();
	n->node.kind = POOL_NEIGH; /* complete (neigh_rebuild) */
	return n;
}

/* ------------------------------------------------------------------- outside */

static void neigh_solicit(struct stack_cx *cx, struct neigh *n)
{
	n->probes++;
	neigh_timer_start(cx, n, NEIGH_RETRANS_NS);
	arp_request(cx, &n->addr, n->state == NEIGH_PROBE ? n->mac : NULL);
}

int neigh_output(struct stack_cx *cx, struct frame_tx *f, const struct ipaddr *next_hop)
{
	if (stack_of(cx)->config.device_caps & DEVICE_NO_ARP) {
		memset(f->header, 0, 12);
		put16(f->header + 12, ETHERTYPE_IPV4);
		return ether_output(cx, f);
	}
	struct neigh *n = neigh_find(cx, next_hop);
	bool fresh = !n;
	if (fresh)
		n = neigh_create(cx, next_hop, false);
	if (!n) {
		COUNT(cx, arp_queue_drops);
		return -ENOBUFS;
	}
	n->used = cx->now;
	if (n->state == NEIGH_INCOMPLETE) {
		int r = pending_add(cx, n, f);
		if (fresh)
			neigh_solicit(cx, n);
		return r;
	}
	if (n->state == NEIGH_REACHABLE && cx->now - n->confirmed >= NEIGH_REACHABLE_NS)
		neigh_state_set(cx, n, NEIGH_STALE);
	if (n->state == NEIGH_STALE) {
		neigh_state_set(cx, n, NEIGH_DELAY);
		neigh_timer_start(cx, n, NEIGH_DELAY_NS);
	}
	ether_header(cx, f->header, n->mac, ETHERTYPE_IPV4);
	return ether_output(cx, f);
}

void neigh_learn(struct stack_cx *cx, const struct ipaddr *addr, const uint8_t mac[6], bool reply,
		 bool create)
{
	struct neigh *n = neigh_find(cx, addr);

	if (!n && create)
		n = neigh_create(cx, addr, true);
	if (!n)
		return;
	/* Did we ask? Then a reply is proof that it hears us; anything else is only a claim (RFC 4861 7.2.5).
	 */
	bool asked = (n->state == NEIGH_INCOMPLETE && n->probes) || n->state == NEIGH_PROBE;
	bool changed = memcmp(n->mac, mac, 6) != 0;

	if (n->state != NEIGH_INCOMPLETE && changed && cx->now - n->updated < NEIGH_LOCK_NS)
		return;
	if (changed) {
		n->node.kind = POOL_FREE; /* half an address is worse than none */
		record_barrier();
		memcpy(n->mac, mac, 6);
		n->updated = cx->now;
		record_barrier();
		n->node.kind = POOL_NEIGH;
	}
	if (reply && asked)
		neigh_state_set(cx, n, NEIGH_REACHABLE);
	else if (changed || n->state == NEIGH_INCOMPLETE)
		neigh_state_set(cx, n, NEIGH_STALE);
	pending_send(cx, n);
}

void neigh_confirm(struct stack_cx *cx, const struct ipaddr *dst)
{
	struct ipaddr next_hop;

	if ((stack_of(cx)->config.device_caps & DEVICE_NO_ARP) || route_lookup(cx, dst, &next_hop) < 0)
		return;
	struct neigh *n = neigh_find(cx, &next_hop);
	if (!n || n->state == NEIGH_INCOMPLETE)
		return;
	if (n->state == NEIGH_REACHABLE)
		n->confirmed = cx->now;
	else
		neigh_state_set(cx, n, NEIGH_REACHABLE);
}

/*
 * Nobody answers. The destinations of the frames that waited are told, since
 * the neighbour may be a gateway; the entry goes first, for what TCP does next
 * may be to send again.
 */
static void neigh_fail(struct stack_cx *cx, struct neigh *n)
{
	struct ipaddr told[NEIGH_PENDING_MAX + 1];
	bool unresolved = n->state == NEIGH_INCOMPLETE;
	uint32_t count = 0;

	told[count++] = n->addr;
	for (ref r = n->pending_first; r; r = ((struct pending *)pool_at(cx, r))->next) {
		const struct pending *p = pool_at(cx, r);
		struct ipaddr dst = ipaddr_from_v4(p->data + ETHER_HEADER + 16);
		if (!ipaddr_eq(&dst, &told[count - 1]))
			told[count++] = dst;
	}
	COUNT(cx, arp_failed);
	neigh_free(cx, n);
	for (uint32_t i = 0; unresolved && i < count; i++)
		tcp_unreachable(cx, &told[i], EHOSTUNREACH);
}

void neigh_timer(struct stack_cx *cx, ref neigh)
{
	if (!pool_valid(cx, POOL_NEIGH, neigh))
		return;
	struct neigh *n = neigh_at(cx, neigh);
	if (n->state == NEIGH_REACHABLE || n->state == NEIGH_STALE)
		return;
	if (n->state == NEIGH_DELAY)
		neigh_state_set(cx, n, NEIGH_PROBE);
	if (n->probes < NEIGH_PROBES_MAX)
		neigh_solicit(cx, n);
	else
		neigh_fail(cx, n);
}

/* --------------------------------------------------------------- rebuild.c */

void neigh_rebuild(struct stack_cx *cx)
{
	struct stack *st = stack_of(cx);

	memset(pool_at(cx, st->neigh_buckets), 0, sizeof(ref) << NEIGH_BUCKET_BITS);
	st->neigh_count = 0;
	/* Frames that wait are lost, as frames are. */
	for (ref r = pool_next(cx, POOL_PENDING, REF_NONE); r; r = pool_next(cx, POOL_PENDING, r))
		pool_discard(cx, r);
	for (ref r = pool_next(cx, POOL_NEIGH, REF_NONE); r; r = pool_next(cx, POOL_NEIGH, r)) {
		struct neigh *n = neigh_at(cx, r);

		if (n->node.kind != POOL_NEIGH || n->state > NEIGH_PROBE || neigh_find(cx, &n->addr)) {
			pool_discard(cx, r);
			continue;
		}
		ref *bucket = neigh_bucket(cx, &n->addr);
		n->pending_first = n->pending_last = REF_NONE;
		n->pending_count = 0;
		n->hash_next = *bucket;
		*bucket = r;
		st->neigh_count++;
	}
}

static const char *neigh_verify_one(struct stack_cx *cx, const struct neigh *n)
{
	uint32_t count = 0;

	for (ref r = n->pending_first; r; r = ((struct pending *)pool_at(cx, r))->next)
		if (!pool_valid(cx, POOL_PENDING, r) || ++count > NEIGH_PENDING_MAX)
			return "neigh: a queue leads to what is no waiting frame";
	if (count != n->pending_count || (count && n->state != NEIGH_INCOMPLETE))
		return "neigh: frames wait that should not";
	if (n->node.queued != (n->state == NEIGH_INCOMPLETE || n->state >= NEIGH_DELAY))
		return "neigh: a timer does not fit the state";
	return NULL;
}

const char *neigh_verify(struct stack_cx *cx)
{
	uint32_t count = 0, waiting = 0;

	for (ref r = pool_next(cx, POOL_NEIGH, REF_NONE); r; r = pool_next(cx, POOL_NEIGH, r)) {
		struct neigh *n = neigh_at(cx, r);
		const char *broken = neigh_verify_one(cx, n);
		if (broken)
			return broken;
		if (neigh_find(cx, &n->addr) != n)
			return "neigh: an entry is not found by its address";
		count++;
		waiting += n->pending_count;
	}
	if (count != stack_of(cx)->neigh_count || count > NEIGH_MAX)
		return "neigh: the count of entries is wrong";
	return waiting == pool_live(cx, POOL_PENDING) ? NULL : "neigh: waiting frames are lost";
}
