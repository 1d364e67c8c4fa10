/*
 * stack.c - the root object: configuration, layout, the way in for frames and
 * the counters.
 *
 * The region begins with extent 0:
 *
 *   struct stack | listeners by port | neighbours | IP identifiers | extent map
 *
 * and everything else is allocated behind it by pool.c.
 * Place in the flow: netio, the simulator and tests call stack_init() once and
 * stack_input() per frame; stack_flush() is in output.c, stack_advance() and
 * stack_deadline() in timer.c, stack_verify() in verify.c.
 */
#include "core/net.h"

const char region_magic[8] = {'l', 'i', 'b', 'u', 't', 'c', 'p', '1'};

/* ------------------------------------------------------------ configuration */

void stack_config_defaults(struct stack_config *c)
{
	*c = (struct stack_config){
	    .addr = ipaddr_v4(0, 0, 0, 0),
	    .prefix_len = 24,
	    .gateway = ipaddr_v4(0, 0, 0, 0),
	    .mtu = 1500,
	    .cc = STACK_CC_CUBIC,
	    .rcvbuf_default = 131072, /* tcp_rmem, tcp_wmem */
	    .rcvbuf_max = 6u << 20,
	    .sndbuf_default = 16384,
	    .sndbuf_max = 4u << 20,
	    .mem_max = 512ull << 20, /* tcp_mem[2] of a machine with 6 GiB */
	    .conn_max = 262144,
	    .orphan_max = 65536, /* tcp_max_orphans, tcp_max_tw_buckets */
	    .tw_max = 65536,
	    .ooo_ranges_max = 1024,
	    .port_first = 32768,
	    .port_last = 60999,
	    .syn_retries = 6,
	    .synack_retries = 5,
	    .retries = 15,
	    .rto_min = 200 * NS_PER_MS,
	    .rto_max = 120 * NS_PER_S,
	    .rto_initial = 1 * NS_PER_S, /* RFC 6298 2.1 */
	    .delack_min = 40 * NS_PER_MS,
	    .delack_max = 200 * NS_PER_MS,
	    .tw_time = 60 * NS_PER_S,
	    .fin_timeout = 60 * NS_PER_S,
	    .keepidle = 7200 * NS_PER_S,
	    .keepintvl = 75 * NS_PER_S,
	    .keepcnt = 9,
	    .timestamps = true,
	    .sack = true,
	    .wscale = true,
	};
}

static bool addresses_valid(const struct stack_config *c)
{
	uint8_t first = c->addr.b[12];

	if (!ipaddr_is_v4(&c->addr) || c->prefix_len > 32)
		return false;
	if (first == 0 || first >= 224 || (first == 127 && !(c->device_caps & DEVICE_NONE)))
		return false;
	return ipaddr_is_any(&c->gateway) || (ipaddr_is_v4(&c->gateway) && !ipaddr_eq(&c->gateway, &c->addr));
}

static bool config_valid(const struct stack_config *c)
{
	return addresses_valid(c) && !(c->mac[0] & 1) && c->mtu >= 68 && c->cc < STACK_CC_COUNT &&
	       c->port_first && c->port_first <= c->port_last && c->rcvbuf_default && c->sndbuf_default &&
	       c->rcvbuf_default <= c->rcvbuf_max && c->sndbuf_default <= c->sndbuf_max && c->conn_max &&
	       c->rto_min && c->rto_min <= c->rto_max && c->rto_initial && c->rto_initial <= c->rto_max &&
	       c->delack_min <= c->delack_max;
}

const struct stack_config *stack_configuration(struct stack_cx *cx)
{
	return &stack_of(cx)->config;
}

void stack_set_device(struct stack_cx *cx, uint16_t mtu, uint32_t device_caps)
{
	struct stack_config *c = &stack_of(cx)->config;

	c->mtu = mtu >= 68 ? mtu : 68; /* RFC 791: every link carries 68 octets */
	c->device_caps = device_caps;
	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = pool_next(cx, POOL_TCB, r)) {
		struct tcb *t = tcb_at(cx, r);
		uint16_t before = t->snd_mss;

		if (t->state < TCPS_SYN_RECEIVED)
			continue;
		ref outer = dirty_begin(cx, r);
		snd_mss_update(cx, t);
		if (t->snd_mss < before) /* what is on its way did not fit */
			recovery_on_icmp_mtu(cx, t);
		dirty_end(cx, outer);
	}
}

/* ------------------------------------------------------------------- layout */

uint64_t stack_layout_hash(void)
{
#define FIELD(type, field) offsetof(struct type, field), sizeof(((struct type *)NULL)->field)
	static const size_t facts[] = {sizeof(struct stack),
				       sizeof(struct tcb),
				       sizeof(struct timewait),
				       sizeof(struct neigh),
				       sizeof(struct stack_config),
				       sizeof(struct stack_counters),
				       sizeof(struct buffer),
				       sizeof(struct timer_node),
				       sizeof(struct endpoint),
				       sizeof(struct sack_block),
				       sizeof(struct pool_head),
				       sizeof(struct pool_state),
				       REF_GRAIN,
				       EXTENT_BYTES,
				       POOL_CLASS_COUNT,
				       TIMER_COUNT,
				       TCPS_COUNT,
				       STACK_CC_COUNT,
				       LISTEN_BUCKET_BITS,
				       NEIGH_BUCKET_BITS,
				       IPID_COUNTERS,
				       FIELD(stack, config),
				       FIELD(stack, counters),
				       FIELD(stack, pools),
				       FIELD(stack, rng),
				       FIELD(stack, conn_buckets),
				       FIELD(stack, edge_first),
				       FIELD(stack, timer_root),
				       FIELD(stack, neigh_buckets),
				       FIELD(stack, loop_first),
				       FIELD(stack, in_flush),
				       FIELD(stack, dirty),
				       FIELD(stack_config, device_caps),
				       FIELD(stack_config, mem_max),
				       FIELD(stack_config, rto_min),
				       FIELD(stack_config, wscale),
				       FIELD(tcb, user),
				       FIELD(tcb, local),
				       FIELD(tcb, listener),
				       FIELD(tcb, edges),
				       FIELD(tcb, state),
				       FIELD(tcb, syn_first),
				       FIELD(tcb, iss),
				       FIELD(tcb, snd_base),
				       FIELD(tcb, irs),
				       FIELD(tcb, rcv_wnd),
				       FIELD(tcb, snd_mss),
				       FIELD(tcb, ts_recent),
				       FIELD(tcb, sndbuf),
				       FIELD(tcb, rcvbuf),
				       FIELD(tcb, ooo_root),
				       FIELD(tcb, sack_recent),
				       FIELD(tcb, rcv_space),
				       FIELD(tcb, srtt_ns),
				       FIELD(tcb, retransmit_since),
				       FIELD(tcb, cwnd),
				       FIELD(tcb, sackboard),
				       FIELD(tcb, ccs),
				       FIELD(tcb, node),
				       FIELD(tcb, timer),
				       FIELD(tcb, last_recv),
				       FIELD(tcb, ack_now),
				       FIELD(tcb, nodelay),
				       FIELD(tcb, linger_s),
				       FIELD(tcb, bytes_acked),
				       FIELD(tcb, total_rto),
				       FIELD(tcb, busy_ns),
				       FIELD(timewait, snd_nxt),
				       FIELD(timewait, node),
				       FIELD(timewait, ts_ok),
				       FIELD(neigh, mac),
				       FIELD(neigh, node),
				       FIELD(neigh, pending_count),
				       FIELD(buffer, charged),
				       FIELD(buffer, cursor_start),
#define X(name, size) (size),
				       POOL_CLASSES(X)
#undef X
	};
#undef FIELD
	uint64_t hash = 0xcbf29ce484222325; /* FNV-1a over words */

	for (size_t i = 0; i < ARRAY_LEN(facts); i++)
		hash = (hash ^ facts[i]) * 0x100000001b3;
	return hash;
}

/*
 * Keys and the generator's state are separate outputs of a keyed hash of the
 * seed: seeing one tells nothing of another (rng.c says why that matters).
 */
static void derive(const uint8_t seed[32], uint8_t label, void *out, size_t bytes)
{
	uint8_t input[18], *to = out;

	memcpy(input, seed + 16, 16);
	input[16] = label;
	for (size_t at = 0; at < bytes; at += 8) {
		input[17] = (uint8_t)(at / 8);
		uint64_t word = siphash(seed, input, sizeof input);
		memcpy(to + at, &word, 8);
	}
}

static void randomness_init(struct stack *st, const uint8_t seed[32])
{
	derive(seed, 'r', st->rng, sizeof st->rng);
	st->rng[0] |= 1; /* all zero is the one state that xoshiro cannot leave */
	derive(seed, 'i', st->key_isn, sizeof st->key_isn);
	derive(seed, 'p', st->key_port, sizeof st->key_port);
	derive(seed, 't', st->key_ts, sizeof st->key_ts);
	derive(seed, 'h', st->key_hash, sizeof st->key_hash);
	derive(seed, 'd', st->key_ipid, sizeof st->key_ipid);
	st->port_cursor = 0; /* the hash that is added to it is as good as random */
}

/* Place a table of `bytes` at *at, rounded to the grain. */
static ref table_place(uint32_t *at, size_t bytes)
{
	ref r = *at / REF_GRAIN;

	*at += (uint32_t)(bytes + REF_GRAIN - 1) / REF_GRAIN * REF_GRAIN;
	return r;
}

int stack_init(struct stack_cx *cx, const struct stack_config *c, const uint8_t seed[32])
{
	struct stack *st = stack_of(cx);
	uint32_t at = 0;

	if (cx->limit < STACK_MIN_BYTES)
		return -ENOMEM;
	if (!config_valid(c) || !cx->tx)
		return -EINVAL;
	table_place(&at, sizeof *st);
	st->listen_buckets = table_place(&at, sizeof(ref) << LISTEN_BUCKET_BITS);
	st->neigh_buckets = table_place(&at, sizeof(ref) << NEIGH_BUCKET_BITS);
	st->ipid_counters = table_place(&at, sizeof(uint16_t) * IPID_COUNTERS);
	st->listen_bucket_bits = LISTEN_BUCKET_BITS;
	st->config = *c;
	st->mem_limit = c->mem_max;
	st->layout_hash = stack_layout_hash();
	st->born = cx->now;
	randomness_init(st, seed);
	int err = pool_init(cx, at);
	if (err)
		return err;
	st->conn_buckets = pool_extents(cx, 1);
	if (!st->conn_buckets)
		return -ENOMEM;
	while (sizeof(ref) << (st->conn_bucket_bits + 2) <=
	       EXTENT_BYTES) /* one level more fits than is in use */
		st->conn_bucket_bits++;
	memcpy(st->magic, region_magic, sizeof st->magic); /* last: a region with it is complete */
	return 0;
}

/* ------------------------------------------------------------------- frames */

void stack_input(struct stack_cx *cx, const struct frame_rx *f)
{
	COUNT(cx, frames_in);
	ether_input(cx, f);
}

/* --------------------------------------------------------------- accounting */

const struct stack_counters *stack_counters(struct stack_cx *cx)
{
	return &stack_of(cx)->counters;
}

uint64_t stack_buffer_bytes(struct stack_cx *cx)
{
	return stack_of(cx)->buffer_bytes;
}

uint64_t stack_region_bytes(struct stack_cx *cx)
{
	return stack_of(cx)->bytes_used;
}
