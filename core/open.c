/*
 * open.c - the birth of a connection: the TCB and its defaults, the active
 * open, the options that the peer's SYN brings, and what becoming ESTABLISHED
 * means. Passive opens begin in listen.c.
 */
#include "core/recv.h"

/* RFC 9293 MUST-67: from the MTU, whatever options later take. */
static uint16_t announced_mss(struct stack_cx *cx, const struct tcb *t)
{
	uint32_t mss = route_mtu(cx, &t->remote.addr) - 20u - ip_header_len(&t->remote.addr);

	if (t->user_mss)
		mss = MIN_OF(mss, (uint32_t)t->user_mss);
	return (uint16_t)mss;
}

void tcb_defaults(struct stack_cx *cx, struct tcb *t)
{
	const struct stack_config *c = &stack_of(cx)->config;

	t->sndbuf_limit = c->sndbuf_default;
	t->rcvbuf_limit = c->rcvbuf_default;
	t->cc = c->cc;
	t->ttl = 64;
	t->linger_s = -1;
	t->rcvlowat = 1;
	t->keepidle_s = (uint32_t)(c->keepidle / NS_PER_S);
	t->keepintvl_s = (uint32_t)(c->keepintvl / NS_PER_S);
	t->keepcnt = c->keepcnt;
	t->oow_ack_last = t->challenge_last = NSEC_NEVER;
	for (unsigned i = 0; i < TIMER_COUNT; i++)
		t->timer[i] = NSEC_NEVER;
	t->last_recv = cx->now;
}

struct tcb *tcb_create(struct stack_cx *cx)
{
	struct stack *st = stack_of(cx);

	if (st->tcb_count >= st->config.conn_max)
		return NULL;
	ref r = pool_alloc(cx, POOL_TCB, REF_NONE);
	if (!r)
		return NULL;
	struct tcb *t = tcb_at(cx, r);
	st->tcb_count++;
	t->accepted = true;
	tcb_defaults(cx, t);
	rtt_init(cx, t);
	record_barrier();
	t->node.kind = POOL_TCB; /* complete (rebuild.c) */
	return t;
}

/* Out of a singly linked list of the stack (edges, output). */
static void list_unlink(struct stack_cx *cx, ref *first, ref *last, ref r, bool edge)
{
	ref before = REF_NONE;

	for (ref i = *first; i;
	     before = i, i = edge ? tcb_at(cx, i)->edge_next : tcb_at(cx, i)->output_next) {
		if (i != r)
			continue;
		ref next = edge ? tcb_at(cx, r)->edge_next : tcb_at(cx, r)->output_next;
		if (!before)
			*first = next;
		else if (edge)
			tcb_at(cx, before)->edge_next = next;
		else
			tcb_at(cx, before)->output_next = next;
		if (*last == r)
			*last = before;
		return;
	}
}

static void edge_unlink(struct stack_cx *cx, struct tcb *t)
{
	struct stack *st = stack_of(cx);

	if (t->edge_queued)
		list_unlink(cx, &st->edge_first, &st->edge_last, pool_ref(cx, t), true);
	t->edge_queued = false;
}

void tcb_free(struct stack_cx *cx, struct tcb *t)
{
	struct stack *st = stack_of(cx);
	ref r = pool_ref(cx, t);

	listen_unlink(cx, t);
	timer_cancel_all(cx, t);
	demux_remove(cx, t);
	edge_unlink(cx, t);
	if (t->output_queued)
		list_unlink(cx, &st->output_first, &st->output_last, r, false);
	buffer_clear(cx, &t->sndbuf);
	buffer_clear(cx, &t->rcvbuf);
	reass_clear(cx, t);
	sack_clear(cx, t);
	if (t->orphan)
		st->orphan_count--;
	st->tcb_count--;
	pool_free(cx, POOL_TCB, r);
}

/* The identity and options that outlive tcp_disconnect(), copied over a fresh TCB. */
static void copy_options(struct tcb *to, const struct tcb *from)
{
	to->nodelay = from->nodelay;
	to->cork = from->cork;
	to->keepalive = from->keepalive;
	to->oobinline = from->oobinline;
	to->reuseaddr = from->reuseaddr;
	to->reuseport = from->reuseport;
	to->v6only = from->v6only;
	to->tos = from->tos;
	to->ttl = from->ttl;
	to->keepcnt = from->keepcnt;
	to->syn_retries_opt = from->syn_retries_opt;
	to->user_timeout_ms = from->user_timeout_ms;
	to->keepidle_s = from->keepidle_s;
	to->keepintvl_s = from->keepintvl_s;
	to->notsent_lowat = from->notsent_lowat;
	to->rcvlowat = from->rcvlowat;
	to->defer_accept_s = from->defer_accept_s;
	to->linger_s = from->linger_s;
	to->linger2_s = from->linger2_s;
	to->user_mss = from->user_mss;
	to->cc = from->cc;
	to->sndbuf_locked = from->sndbuf_locked;
	to->rcvbuf_locked = from->rcvbuf_locked;
	to->rcv_window_clamp = from->rcv_window_clamp;
	if (from->sndbuf_locked)
		to->sndbuf_limit = from->sndbuf_limit;
	if (from->rcvbuf_locked)
		to->rcvbuf_limit = from->rcvbuf_limit;
}

void tcb_inherit(struct tcb *child, const struct tcb *listener)
{
	copy_options(child, listener);
	child->defer_accept_s = 0; /* it waits for nobody any more */
}

void tcb_reset_for_reuse(struct stack_cx *cx, struct tcb *t)
{
	const struct tcb old = *t;
	struct stack *st = stack_of(cx);

	timer_cancel_all(cx, t);
	demux_remove(cx, t);
	if (t->output_queued)
		list_unlink(cx, &st->output_first, &st->output_last, pool_ref(cx, t), false);
	buffer_clear(cx, &t->sndbuf);
	buffer_clear(cx, &t->rcvbuf);
	reass_clear(cx, t);
	sack_clear(cx, t);
	state_set(cx, t, TCPS_CLOSED);
	t->node.kind = POOL_FREE; /* unborn: rebuild.c makes it whole, and leaves it to its owner */
	record_barrier();
	memset(&t->local, 0, sizeof *t - offsetof(struct tcb, local)); /* the head and user[] stay */
	t->edges = old.edges;
	t->edge_queued = old.edge_queued;
	t->edge_next = old.edge_next;
	t->accepted = true;
	tcb_defaults(cx, t);
	copy_options(t, &old);
	t->rcv_window_clamp = 0; /* as tcp_disconnect(): the next connection finds its own */
	rtt_init(cx, t);
	record_barrier();
	t->node.kind = POOL_TCB;
}

void tcb_start(struct stack_cx *cx, struct tcb *t, seq32 iss)
{
	t->iss = t->snd_una = t->snd_nxt = t->snd_max = t->snd_up = t->snd_sml = iss;
	t->ts_offset = ts_offset_choose(cx, &t->local, &t->remote);
	t->adv_mss = announced_mss(cx, t);
	t->peer_mss = 536; /* MUST-15, until the peer says otherwise */
	t->snd_mss = 536;
	t->rcv_mss = 536;
	rcv_init_window(cx, t);
}

/* Is there a way to the remote end, and may *mine (any: not chosen yet) use it? */
static int connect_source(struct stack_cx *cx, struct ipaddr *mine, const struct ipaddr *remote)
{
	struct ipaddr next_hop;
	bool local = addr_is_local(cx, remote), any = ipaddr_is_any(mine);
	int err = local ? 0 : route_lookup(cx, remote, &next_hop); /* MUST-46: no broadcast, no multicast */

	if (err)
		return err;
	if (any)
		*mine = local ? loop_source(remote) : stack_of(cx)->config.addr;
	else if (!addr_is_local(cx, mine))
		return -EADDRNOTAVAIL;
	/* RFC 1122 3.2.1.3 (g): a loopback address never appears outside the host */
	if ((!local && ipaddr_is_loopback(mine)) || ipaddr_is_v4(mine) != ipaddr_is_v4(remote))
		return -EINVAL;
	return 0;
}

/* Choose both ends. 0, or as sock_connect(). */
static int connect_addresses(struct stack_cx *cx, struct tcb *t, const struct endpoint *local,
			     const struct endpoint *remote, struct demux_result *old)
{
	struct endpoint mine = *local;

	if (!remote->port)
		return -EADDRNOTAVAIL;
	int err = connect_source(cx, &mine.addr, &remote->addr);
	if (err)
		return err;
	if (!mine.port) {
		err = port_choose(cx, &mine.addr, remote, &mine.port);
		if (err)
			return err;
	}
	*old = (struct demux_result){DEMUX_NONE, REF_NONE};
	if (demux_tuple_used(cx, &mine, remote)) {
		*old = demux_find(cx, &mine, remote);
		/* Linux: who names the port takes it over at once, if timestamps tell the two connections
		 * apart */
		const struct timewait *w = old->kind == DEMUX_TIMEWAIT ? pool_at(cx, old->r) : NULL;
		if (!w || !(local->port ? w->ts_ok : timewait_reusable(cx, w)))
			return -EADDRNOTAVAIL;
	}
	t->local = mine;
	t->remote = *remote;
	return 0;
}

int tcb_connect(struct stack_cx *cx, struct tcb *t, const struct endpoint *local,
		const struct endpoint *remote)
{
	struct demux_result old;
	int err = connect_addresses(cx, t, local, remote, &old);

	if (err)
		return err;
	seq32 iss = isn_choose(cx, &t->local, &t->remote);
	if (old.kind == DEMUX_TIMEWAIT) {
		/* RFC 6191, RFC 9293 MAY-2: above what the old connection used; the timestamps go on by
		 * themselves. */
		struct timewait *w = pool_at(cx, old.r);
		seq32 above = seq_add(w->snd_nxt, 65535u + 2u);
		iss = seq_max(iss, above);
		timewait_free(cx, w);
		COUNT(cx, tcp_tw_reuse);
	}
	err = demux_insert(cx, t);
	if (err)
		return err == -ENOMEM ? -ENOBUFS : -EADDRNOTAVAIL;
	tcb_start(cx, t, iss);
	t->so_error = 0; /* of an earlier connection */
	t->connect_started = true;
	t->connect_reported = false;
	COUNT(cx, tcp_active_open);
	state_set(cx, t, TCPS_SYN_SENT);
	output_syn(cx, t);
	return 0;
}

void tcb_negotiate(struct stack_cx *cx, struct tcb *t, const struct segment *syn)
{
	const struct stack_config *c = &stack_of(cx)->config;

	/* MUST-15; tiny values would make us send more header than data (CVE-2019-11479). */
	t->peer_mss = syn->has_mss && syn->mss ? (uint16_t)MAX_OF((uint32_t)syn->mss, SMALLEST_MSS) : 536;
	if (t->user_mss)
		t->peer_mss = MIN_OF(t->peer_mss, t->user_mss);
	t->wscale_ok = c->wscale && syn->has_wscale;
	t->snd_wscale = t->wscale_ok ? (uint8_t)MIN_OF((uint32_t)syn->wscale, 14u) : 0; /* RFC 7323 2.3 */
	if (!t->wscale_ok)
		t->rcv_wscale = 0;
	t->sack_ok = c->sack && syn->has_sack_permitted;
	t->ts_ok = c->timestamps && syn->has_ts;
	if (t->ts_ok) {
		t->ts_recent = syn->ts_val;
		t->ts_recent_age = cx->now;
	}
	snd_mss_update(cx, t);
}

/*
 * Our SYN was acknowledged: it counts for the round trip unless it was resent
 * (Karn), where the echoed timestamp tells which copy was answered.
 */
void tcb_syn_acked(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	uint32_t ms = ts_now(cx, t) - s->ts_ecr;

	t->snd_una = seq_add(t->iss, 1);
	t->snd_nxt = seq_max(t->snd_nxt, t->snd_una);
	t->snd_max = seq_max(t->snd_max, t->snd_nxt);
	timer_cancel(cx, t, TIMER_RTO);
	if (t->rtt_timing && !t->retransmits)
		rtt_sample(cx, t, cx->now - t->rtt_start);
	else if (t->ts_ok && s->has_ts && s->ts_ecr && ms < 60000)
		rtt_sample(cx, t, MAX_OF(ms, 1u) * NS_PER_MS);
	t->rtt_timing = false;
}

void tcb_established(struct stack_cx *cx, struct tcb *t)
{
	t->retransmits = 0;
	rtt_established(cx, t);
	timer_cancel(cx, t, TIMER_KEEPALIVE);
	t->last_recv = cx->now;
	t->cwnd_usage_seq = t->recover = t->high_rxt = t->high_sacked = t->lost_edge = t->snd_una;
	cc_of(t)->init(cx, t);
	sndbuf_tune(cx, t);
	rcv_established(cx, t);
	state_set(cx, t, TCPS_ESTABLISHED);
	if (t->keepalive)
		keepalive_arm(cx, t);
	if (t->listener) {
		listen_child_established(cx, t);
		return;
	}
	t->bytes_acked = 1; /* Linux counts the SYN of an active open (RFC 4898) */
	sock_signal(cx, t, SOCK_EDGES_ALL | SOCK_TOLD_OUT);
	/* Closed or shut down while a simultaneous open was under way. */
	if (t->wr_shut && !t->fin_queued)
		tcb_send_fin(cx, t);
	output_mark(cx, t);
}
