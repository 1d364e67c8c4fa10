/*
 * emit.c - frames from the state of a connection.
 *
 * output.c and the timers decide that something leaves; here it gets its header,
 * options (Linux's set: timestamps in every segment once negotiated, SACK blocks
 * where there is room), window, payload pieces and partial checksum. A frame that
 * the device refuses is lost like any other and never retried in place; layers
 * below count it. No frame is zeroed: only the fields in use are written.
 */
#include "core/net.h"
#include "core/send.h"

#define TCP_CHECKSUM_OFFSET 16u
#define WSCALE_SHIFT_MAX    14u
/* IPv4's largest datagram less the longest headers. */
#define SUPER_PAYLOAD_MAX (65535u - 20u - 60u)

uint32_t ts_now(struct stack_cx *cx, const struct tcb *t)
{
	uint32_t now = (uint32_t)(cx->now / NS_PER_MS) + t->ts_offset;

	return now ? now : 1; /* peers take 0 for "none" */
}

uint32_t emit_super_max(struct stack_cx *cx, uint32_t mss)
{
	const uint32_t caps = stack_of(cx)->config.device_caps;

	if (!(caps & DEVICE_TX_TSO4))
		return mss;
	return MAX_OF(SUPER_PAYLOAD_MAX / mss, 1) * mss;
}

/* A frame with everything but the transport header. */
static void frame_begin(struct frame_tx *f)
{
	f->gso_size = 0;
	f->payload_len = 0;
	f->piece_count = 0;
}

/* header_len octets of TCP header stand at IPV4_TRANSPORT_OFFSET: partial checksum, then down the stack. */
static int frame_finish(struct stack_cx *cx, struct frame_tx *f, uint32_t header_len,
			const struct ipaddr *src, const struct ipaddr *dst, uint8_t tos, uint8_t ttl)
{
	COUNT_N(cx, tcp_out, f->gso_size ? (f->payload_len + f->gso_size - 1u) / f->gso_size : 1u);
	if (addr_is_local(cx, dst))
		return loop_output(cx, f, f->header + IPV4_TRANSPORT_OFFSET, header_len, src, dst, tos);
	uint16_t sum = csum_tcp_pseudo(src, dst, header_len + f->payload_len);

	memcpy(f->header + IPV4_TRANSPORT_OFFSET + TCP_CHECKSUM_OFFSET, &sum, sizeof sum);
	f->header_len = (uint16_t)(IPV4_TRANSPORT_OFFSET + header_len);
	f->csum_start = IPV4_TRANSPORT_OFFSET;
	f->csum_offset = TCP_CHECKSUM_OFFSET;
	return ipv4_output(cx, f, src, dst, IPPROTO_TCP_, tos, ttl);
}

static void options_begin(struct wire_options *o)
{
	o->mss = o->wscale = o->sack_permitted = o->ts = false;
	o->sack_count = 0;
}

static void options_timestamps(struct stack_cx *cx, const struct tcb *t, struct wire_options *o)
{
	o->ts = true;
	o->ts_val = ts_now(cx, t);
	o->ts_ecr = t->ts_recent;
}

/* Options of every segment but SYN. */
static void options_fill(struct stack_cx *cx, struct tcb *t, struct wire_options *o)
{
	options_begin(o);
	if (t->ts_ok)
		options_timestamps(cx, t, o);
	if (t->sack_ok && (t->ooo_root || t->dsack_pending)) {
		/* 40 octets of options hold four blocks, three beside timestamps */
		o->sack_count = (uint8_t)reass_sack_blocks(cx, t, o->sack, t->ts_ok ? 3 : 4);
		if (o->sack_count)
			COUNT(cx, tcp_sack_out);
	}
}

static uint16_t window_field(struct stack_cx *cx, struct tcb *t)
{
	uint32_t shift = t->wscale_ok ? t->rcv_wscale : 0, wnd = rcv_window_select(cx, t);

	/* before ESTABLISHED it is the unscaled window of our SYN: not less of it (SHLD-14), now or later */
	if (t->state < TCPS_ESTABLISHED && t->rcv_adv.v == t->rcv_nxt.v + wnd) {
		wnd = (wnd + (1u << shift) - 1) & ~((1u << shift) - 1);
		t->rcv_wnd = MAX_OF(wnd, t->rcv_wnd);
		t->rcv_adv = seq_add(t->rcv_nxt, t->rcv_wnd);
	}
	wnd >>= shift;
	return (uint16_t)MIN_OF(wnd, UINT16_MAX);
}

/* RFC 9293 3.8.5, MUST-62: the pointer leads to the octet after the urgent one, seen from this segment. */
static uint16_t urgent_field(const struct tcb *t, seq32 seq, uint8_t *flags)
{
	if (!t->urg_out || seq_geq(seq, t->snd_up))
		return 0;
	*flags |= TH_URG;
	return (uint16_t)MIN_OF(t->snd_up.v - seq.v, UINT16_MAX);
}

/* Payload into f; what the pieces cover, cut to whole segments if they cover less than asked. */
static uint32_t payload_gather(struct stack_cx *cx, struct tcb *t, struct frame_tx *f, const struct emit *e)
{
	uint64_t covered = 0, at = snd_offset(t, e->seq);
	uint32_t len = e->len;
	int n = buffer_pieces(cx, &t->sndbuf, at, len, f->piece, FRAME_PIECES_MAX, &covered);

	if (covered < len) {
		len = (uint32_t)covered;
		if (len > e->mss) {
			len -= len % e->mss;
			n = buffer_pieces(cx, &t->sndbuf, at, len, f->piece, FRAME_PIECES_MAX, &covered);
		}
	}
	f->piece_count = (uint16_t)n;
	f->payload_len = len;
	f->gso_size = len > e->mss ? (uint16_t)e->mss : 0;
	return len;
}

/*
 * A segment of a synchronised connection. The payload may turn out shorter than
 * asked (too many pieces): then e->len is what left and FIN stays behind.
 */
int emit_segment(struct stack_cx *cx, struct tcb *t, struct emit *e)
{
	struct frame_tx f;
	struct wire_options o;
	uint8_t *tcp = f.header + IPV4_TRANSPORT_OFFSET;

	frame_begin(&f);
	options_fill(cx, t, &o);
	if (e->len) {
		uint32_t asked = e->len;

		e->len = payload_gather(cx, t, &f, e);
		if (e->len < asked)
			e->flags &= (uint8_t)~TH_FIN;
		/* MUST-61: the last octet queued carries PSH */
		if (snd_offset(t, e->seq) + e->len == t->sndbuf.end)
			e->flags |= TH_PSH;
	}
	uint16_t urgent = urgent_field(t, e->seq, &e->flags);
	uint32_t header = wire_build(tcp, t->local.port, t->remote.port, e->seq, t->rcv_nxt, e->flags,
				     window_field(cx, t), urgent, &o);
	t->segs_out += f.gso_size ? (f.payload_len + f.gso_size - 1u) / f.gso_size : 1u;
	int status = frame_finish(cx, &f, header, &t->local.addr, &t->remote.addr, t->tos, t->ttl);
	ack_sent(cx, t);
	return status;
}

/* ------------------------------------------------------------------- SYN */

/* What we offer in a SYN; in a SYN-ACK what the peer offered and we take. */
static void syn_options(struct stack_cx *cx, const struct tcb *t, struct wire_options *o)
{
	const struct stack_config *c = &stack_of(cx)->config;
	bool answer = t->state == TCPS_SYN_RECEIVED;

	options_begin(o);
	o->mss = true; /* SHLD-5, MUST-14 */
	o->mss_value = t->adv_mss;
	o->sack_permitted = answer ? t->sack_ok : c->sack;
	o->wscale = answer ? t->wscale_ok : c->wscale;
	o->wscale_value = MIN_OF(t->rcv_wscale, (uint8_t)WSCALE_SHIFT_MAX);
	if (answer ? t->ts_ok : c->timestamps)
		options_timestamps(cx, t, o);
	if (!answer)
		o->ts_ecr = 0; /* RFC 7323 3.2: only valid with ACK */
}

/* RFC 9293 3.10.1 and 3.10.7.2; also each retransmission, with the same options and a fresh timestamp. */
void output_syn(struct stack_cx *cx, struct tcb *t)
{
	struct frame_tx f;
	struct wire_options o;
	uint8_t flags = t->state == TCPS_SYN_RECEIVED ? TH_SYN | TH_ACK : TH_SYN;
	bool again = seq_gt(t->snd_nxt, t->iss);

	frame_begin(&f);
	syn_options(cx, t, &o);
	/* RFC 7323 2.2: the window of a SYN is never scaled */
	uint16_t wnd = (uint16_t)MIN_OF(rcv_window_select(cx, t), UINT16_MAX);
	uint32_t header = wire_build(f.header + IPV4_TRANSPORT_OFFSET, t->local.port, t->remote.port, t->iss,
				     flags & TH_ACK ? t->rcv_nxt : seq_of(0), flags, wnd, 0, &o);
	if (again) {
		COUNT(cx, tcp_retrans);
		COUNT(cx, tcp_syn_retrans);
		t->total_retrans++;
		t->rtt_timing = false; /* Karn */
	} else {
		t->snd_nxt = t->snd_max = seq_add(t->iss, 1);
		t->rtt_timing = true;
		t->rtt_seq = t->iss;
		t->rtt_start = cx->now;
	}
	t->segs_out++;
	if (t->timer[TIMER_RTO] == NSEC_NEVER)
		timer_set(cx, t, TIMER_RTO, cx->now + t->rto_ns);
	(void)frame_finish(cx, &f, header, &t->local.addr, &t->remote.addr, t->tos, t->ttl);
	if (flags & TH_ACK)
		ack_sent(cx, t);
}

/* ---------------------------------------------------------- no connection */

#define RST_PER_SECOND 10000u
#define DEFAULT_TTL    64u

/* A flood of strays is answered at a bounded rate, so that it cannot be reflected at will. */
static bool rst_permitted(struct stack_cx *cx)
{
	struct token_bucket *b = &stack_of(cx)->rst_limit;
	nsec since = cx->now - b->last, interval = NS_PER_S / RST_PER_SECOND;

	if (b->last == 0 || since >= NS_PER_S) {
		b->tokens = RST_PER_SECOND;
		b->last = cx->now;
	} else if (since >= interval) {
		uint32_t earned = (uint32_t)(since / interval);

		b->tokens = MIN_OF(b->tokens + earned, RST_PER_SECOND);
		b->last += earned * interval;
	}
	if (b->tokens == 0)
		return false;
	b->tokens--;
	return true;
}

static void emit_bare(struct stack_cx *cx, const struct endpoint *from, const struct endpoint *to, seq32 seq,
		      seq32 ack, uint8_t flags, uint16_t wnd, const struct wire_options *o)
{
	struct frame_tx f;

	frame_begin(&f);
	uint32_t header =
	    wire_build(f.header + IPV4_TRANSPORT_OFFSET, from->port, to->port, seq, ack, flags, wnd, 0, o);
	(void)frame_finish(cx, &f, header, &from->addr, &to->addr, 0, DEFAULT_TTL);
}

/* RFC 9293 3.10.7.1: <SEQ=SEG.ACK><CTL=RST>, or <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>. */
void output_rst_for(struct stack_cx *cx, const struct segment *s)
{
	if (s->flags & TH_RST || !rst_permitted(cx))
		return;
	COUNT(cx, tcp_rst_out);
	if (s->flags & TH_ACK)
		emit_bare(cx, &s->dst, &s->src, s->ack, seq_of(0), TH_RST, 0, NULL);
	else
		emit_bare(cx, &s->dst, &s->src, seq_of(0), seq_add(s->seq, segment_span(s)), TH_RST | TH_ACK,
			  0, NULL);
}

/* Abort of a connection: at SND.NXT, so that the peer finds it exactly where it expects it (RFC 5961 3.2). */
void output_rst(struct stack_cx *cx, struct tcb *t)
{
	struct emit e = {.seq = t->snd_nxt, .flags = TH_RST | TH_ACK, .mss = SND_MSS_MIN};

	/* beyond the window it would only draw a challenge ACK: take the window's edge, as Linux does */
	if (seq_gt(t->snd_nxt, seq_add(t->snd_una, t->snd_wnd)) && t->state >= TCPS_ESTABLISHED)
		e.seq = seq_max(t->snd_una, seq_add(t->snd_una, t->snd_wnd));
	COUNT(cx, tcp_rst_out);
	(void)emit_segment(cx, t, &e);
}

/*
 * Nobody knows how far the sender got: a reset at either place, and then an old
 * number, which the peer, if it is still there, must answer with an ACK; that
 * meets no socket any more and gets the reset that fits it exactly.
 */
void output_rst_torn(struct stack_cx *cx, struct tcb *t)
{
	struct emit probe = {.seq = seq_add(t->snd_una, UINT32_MAX), .flags = TH_ACK, .mss = SND_MSS_MIN};

	output_rst(cx, t);
	if (!seq_eq(t->snd_max, t->snd_nxt)) {
		struct emit e = {.seq = t->snd_max, .flags = TH_RST | TH_ACK, .mss = SND_MSS_MIN};
		(void)emit_segment(cx, t, &e);
	}
	(void)emit_segment(cx, t, &probe);
}

void output_timewait_ack(struct stack_cx *cx, const struct timewait *w)
{
	struct wire_options o;

	options_begin(&o);
	if (w->ts_ok) {
		uint32_t now = (uint32_t)(cx->now / NS_PER_MS) + w->ts_offset;

		o.ts = true;
		o.ts_val = now ? now : 1;
		o.ts_ecr = w->ts_recent;
	}
	uint32_t wnd = w->rcv_wnd >> MIN_OF(w->rcv_wscale, (uint8_t)WSCALE_SHIFT_MAX);
	emit_bare(cx, &w->local, &w->remote, w->snd_nxt, w->rcv_nxt, TH_ACK,
		  (uint16_t)MIN_OF(wnd, UINT16_MAX), &o);
}
