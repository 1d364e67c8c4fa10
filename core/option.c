/*
 * option.c - socket options, with the ranges, roundings and doublings of Linux.
 *
 * Place in the flow: preload translates setsockopt(2), getsockopt(2) and
 * ioctl(2) into enum sock_option and calls here.
 */
#include "core/recv.h"

#define BUF_MAX	      212992 /* net.core.rmem_max, wmem_max: what SO_RCVBUF and SO_SNDBUF may ask for */
#define RCVBUF_MIN    2304
#define MSS_MIN	      88
#define MSS_MAX	      32767
#define KEEP_TIME_MAX 32767
#define COUNT_MAX     127
#define FIN_TIME_MAX  120 /* s */
#define ECN_BITS      3

static bool connected(const struct tcb *t)
{
	return t->state >= TCPS_ESTABLISHED && t->state != TCPS_TIME_WAIT;
}

/* TCP_DEFER_ACCEPT counts in retransmissions of the SYN-ACK: the sum of their time-outs that covers
 * `seconds`. */
static uint32_t defer_round(int seconds)
{
	uint32_t period = 1, timeout = 1;

	if (seconds <= 0)
		return 0;
	for (int i = 1; i < 255 && (uint32_t)seconds > period; i++) {
		timeout = MIN_OF(timeout * 2, 120u);
		period += timeout;
	}
	return period;
}

static void wake_writer(struct stack_cx *cx, struct tcb *t)
{
	if (t->nospace && sndbuf_writable(cx, t)) {
		t->nospace = false;
		sock_signal(cx, t, SOCK_OUT);
	}
}

/* What may be asked for; as in Linux, where the comparison is unsigned. */
static int allowed(int value)
{
	return value < 0 || value > BUF_MAX ? BUF_MAX : value;
}

static int forced(int value)
{
	return value < 0 ? 0 : MIN_OF(value, INT32_MAX / 2);
}

static void set_rcvbuf(struct tcb *t, int value)
{
	t->rcvbuf_locked = true;
	t->rcvbuf_limit = (uint32_t)MAX_OF(value * 2, RCVBUF_MIN);
}

static void set_sndbuf(struct stack_cx *cx, struct tcb *t, int value)
{
	t->sndbuf_locked = true;
	t->sndbuf_limit = (uint32_t)MAX_OF(value * 2, SNDBUF_MIN);
	wake_writer(cx, t);
}

/* Linux's tcp_set_rcvlowat(): never more than the buffer can come to hold. */
static void set_rcvlowat(struct stack_cx *cx, struct tcb *t, int value)
{
	uint32_t most = t->rcvbuf_locked ? t->rcvbuf_limit / 2 : stack_of(cx)->config.rcvbuf_max / 2;
	uint32_t v = value < 0 ? (uint32_t)INT32_MAX : MAX_OF((uint32_t)value, 1u);

	t->rcvlowat = MIN_OF(v, most);
	if (!t->rcvbuf_locked && t->rcvbuf_limit < 2 * t->rcvlowat)
		t->rcvbuf_limit = 2 * t->rcvlowat;
	if (sock_events(cx, pool_ref(cx, t)) & SOCK_IN)
		sock_signal(cx, t, SOCK_IN);
}

static int set_window_clamp(struct tcb *t, int value)
{
	if (!value && t->state != TCPS_CLOSED)
		return -EINVAL;
	t->rcv_window_clamp = value ? (uint32_t)MAX_OF(value, RCVBUF_MIN / 2) : 0;
	if (value && connected(t))
		t->rcv_ssthresh = MIN_OF(t->rcv_wnd, t->rcv_window_clamp);
	return 0;
}

static int set_cc(struct stack_cx *cx, struct tcb *t, int value)
{
	if (value < 0 || value >= STACK_CC_COUNT)
		return -ENOENT;
	if (t->cc == value)
		return 0;
	t->cc = (uint8_t)value;
	memset(&t->ccs, 0, sizeof t->ccs);
	if (connected(t))
		cc_of(t)->init(cx, t);
	return 0;
}

/* 0 turns quick mode off, else it is on; an even value that found an ACK to send turns it off after that. */
static void set_quickack(struct stack_cx *cx, struct tcb *t, int value)
{
	t->pingpong = !value;
	if (!value || !t->ack_pending || (t->state != TCPS_ESTABLISHED && t->state != TCPS_CLOSE_WAIT))
		return;
	output_ack(cx, t);
	if (!(value & 1))
		t->pingpong = true;
}

static void set_keepalive(struct stack_cx *cx, struct tcb *t, bool on)
{
	t->keepalive = on;
	if (!connected(t))
		return;
	if (on)
		keepalive_arm(cx, t);
	else
		timer_cancel(cx, t, TIMER_KEEPALIVE);
}

static int set_ranged(uint32_t *to, int value, int least, int most)
{
	if (value < least || value > most)
		return -EINVAL;
	*to = (uint32_t)value;
	return 0;
}

static int set_count(uint8_t *to, int value)
{
	if (value < 1 || value > COUNT_MAX)
		return -EINVAL;
	*to = (uint8_t)value;
	return 0;
}

static int set_maxseg(struct stack_cx *cx, struct tcb *t, int value)
{
	if (value && (value < MSS_MIN || value > MSS_MAX))
		return -EINVAL;
	t->user_mss = (uint16_t)value;
	if (connected(t))
		snd_mss_update(cx, t);
	return 0;
}

/* TCP_KEEP*: a change takes effect from now. */
static int set_keep_time(struct stack_cx *cx, struct tcb *t, uint32_t *to, int value)
{
	int err = set_ranged(to, value, 1, KEEP_TIME_MAX);

	if (!err && t->keepalive && connected(t))
		keepalive_arm(cx, t);
	return err;
}

static int set_tcp_option(struct stack_cx *cx, struct tcb *t, enum sock_option o, int value)
{
	switch (o) {
	case SOCK_OPT_NODELAY:
		t->nodelay = value != 0;
		if (value && connected(t))
			tcp_output(cx, t);
		return 0;
	case SOCK_OPT_CORK:
		t->cork = value != 0;
		if (!value && connected(t)) {
			t->more = false;
			tcp_output(cx, t);
		}
		return 0;
	case SOCK_OPT_MAXSEG:
		return set_maxseg(cx, t, value);
	case SOCK_OPT_CC:
		return set_cc(cx, t, value);
	case SOCK_OPT_USER_TIMEOUT:
		return set_ranged(&t->user_timeout_ms, value, 0, INT32_MAX);
	case SOCK_OPT_QUICKACK:
		set_quickack(cx, t, value);
		return 0;
	case SOCK_OPT_KEEPIDLE:
		return set_keep_time(cx, t, &t->keepidle_s, value);
	case SOCK_OPT_KEEPINTVL:
		return set_ranged(&t->keepintvl_s, value, 1, KEEP_TIME_MAX);
	case SOCK_OPT_KEEPCNT:
		return set_count(&t->keepcnt, value);
	case SOCK_OPT_SYNCNT:
		return set_count(&t->syn_retries_opt, value);
	case SOCK_OPT_LINGER2:
		t->linger2_s = value < 0 ? -1 : MIN_OF(value, FIN_TIME_MAX);
		return 0;
	case SOCK_OPT_DEFER_ACCEPT:
		t->defer_accept_s = defer_round(value);
		return 0;
	case SOCK_OPT_WINDOW_CLAMP:
		return set_window_clamp(t, value);
	case SOCK_OPT_NOTSENT_LOWAT:
		t->notsent_lowat = (uint32_t)value;
		wake_writer(cx, t);
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

static int set_ttl(struct tcb *t, int value)
{
	if (value != -1 && (value < 1 || value > 255))
		return -EINVAL;
	t->ttl = value == -1 ? 64 : (uint8_t)value;
	return 0;
}

static int tcb_set_option(struct stack_cx *cx, struct tcb *t, enum sock_option o, int value)
{
	switch (o) {
	case SOCK_OPT_KEEPALIVE:
		set_keepalive(cx, t, value != 0);
		return 0;
	case SOCK_OPT_LINGER:
		t->linger_s = value < 0 ? -1 : value;
		return 0;
	case SOCK_OPT_RCVBUF:
		set_rcvbuf(t, allowed(value));
		return 0;
	case SOCK_OPT_SNDBUF:
		set_sndbuf(cx, t, allowed(value));
		return 0;
	case SOCK_OPT_RCVBUFFORCE:
		set_rcvbuf(t, forced(value));
		return 0;
	case SOCK_OPT_SNDBUFFORCE:
		set_sndbuf(cx, t, forced(value));
		return 0;
	case SOCK_OPT_RCVLOWAT:
		set_rcvlowat(cx, t, value);
		return 0;
	case SOCK_OPT_OOBINLINE:
		t->oobinline = value != 0;
		return 0;
	case SOCK_OPT_TOS: /* the two ECN bits belong to TCP (MUST-48) */
		t->tos = (uint8_t)((value & 0xff & ~ECN_BITS) | (t->tos & ECN_BITS));
		return 0;
	case SOCK_OPT_TTL:
		return set_ttl(t, value);
	case SOCK_OPT_REUSEADDR:
		t->reuseaddr = value != 0;
		return 0;
	case SOCK_OPT_REUSEPORT:
		t->reuseport = value != 0;
		return 0;
	case SOCK_OPT_V6ONLY:
		t->v6only = value != 0;
		return 0;
	default:
		return set_tcp_option(cx, t, o, value);
	}
}

int sock_set_option(struct stack_cx *cx, ref s, enum sock_option o, int value)
{
	ref outer = dirty_begin(cx, s);
	int result = tcb_set_option(cx, tcb_at(cx, s), o, value);

	dirty_end(cx, outer);
	return result;
}

/* ------------------------------------------------------------------ reading */

/* SIOCINQ: up to the urgent mark; a FIN does not count. */
static int readable_now(const struct tcb *t)
{
	uint64_t held = buffer_len(&t->rcvbuf);
	int32_t to_mark = seq_diff(t->rcv_up, rcv_copied(t));

	if (t->state == TCPS_SYN_SENT || t->state == TCPS_SYN_RECEIVED)
		return 0;
	if (!t->oobinline && t->urg_in && to_mark >= 0 && (uint64_t)to_mark < held)
		return to_mark;
	return (int)MIN_OF(held, (uint64_t)INT32_MAX);
}

/* SIOCOUTQ, SIOCOUTQNSD: a queued FIN counts, as in Linux's write_seq. */
static int unacknowledged(const struct tcb *t, seq32 from)
{
	if (t->state < TCPS_ESTABLISHED)
		return 0;
	return MAX_OF(seq_diff(snd_write_seq(t), from), 0);
}

static int get_queue(const struct tcb *t, enum sock_option o, int *value)
{
	if (t->state == TCPS_LISTEN && o != SOCK_OPT_ACCEPTQ && o != SOCK_OPT_ATMARK)
		return -EINVAL;
	switch (o) {
	case SOCK_OPT_INQ:
		*value = readable_now(t);
		return 0;
	case SOCK_OPT_INQ_FIN:
		*value = (int)MIN_OF(buffer_len(&t->rcvbuf) + t->fin_received, (uint64_t)INT32_MAX);
		return 0;
	case SOCK_OPT_OUTQ:
		*value = unacknowledged(t, t->snd_una);
		return 0;
	case SOCK_OPT_OUTQNSD:
		*value = unacknowledged(t, t->snd_nxt);
		return 0;
	case SOCK_OPT_ATMARK:
		*value = t->urg_in && seq_eq(t->rcv_up, rcv_copied(t));
		return 0;
	case SOCK_OPT_ACCEPTQ:
		*value = t->state == TCPS_LISTEN ? (int)t->accept_count : 0;
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

static int get_tcp_option(struct stack_cx *cx, const struct tcb *t, enum sock_option o, int *value)
{
	const struct stack_config *c = &stack_of(cx)->config;

	switch (o) {
	case SOCK_OPT_NODELAY:
		*value = t->nodelay;
		return 0;
	case SOCK_OPT_CORK:
		*value = t->cork;
		return 0;
	case SOCK_OPT_MAXSEG:
		*value = connected(t) ? t->snd_mss : t->user_mss ? t->user_mss : 536;
		return 0;
	case SOCK_OPT_CC:
		*value = t->cc;
		return 0;
	case SOCK_OPT_USER_TIMEOUT:
		*value = (int)t->user_timeout_ms;
		return 0;
	case SOCK_OPT_QUICKACK:
		*value = !t->pingpong;
		return 0;
	case SOCK_OPT_KEEPIDLE:
		*value = (int)t->keepidle_s;
		return 0;
	case SOCK_OPT_KEEPINTVL:
		*value = (int)t->keepintvl_s;
		return 0;
	case SOCK_OPT_KEEPCNT:
		*value = t->keepcnt;
		return 0;
	case SOCK_OPT_SYNCNT:
		*value = t->syn_retries_opt ? t->syn_retries_opt : c->syn_retries;
		return 0;
	case SOCK_OPT_LINGER2:
		*value = t->linger2_s ? t->linger2_s : (int)(c->fin_timeout / NS_PER_S);
		return 0;
	case SOCK_OPT_DEFER_ACCEPT:
		*value = (int)t->defer_accept_s;
		return 0;
	case SOCK_OPT_WINDOW_CLAMP:
		*value = (int)t->rcv_window_clamp;
		return 0;
	case SOCK_OPT_NOTSENT_LOWAT:
		*value = (int)t->notsent_lowat;
		return 0;
	case SOCK_OPT_BUF_LOCK:
		*value = t->sndbuf_locked | t->rcvbuf_locked << 1;
		return 0;
	case SOCK_OPT_TIMESTAMP:
		*value = (int)ts_now(cx, t);
		return 0;
	default:
		return get_queue(t, o, value);
	}
}

int sock_get_option(struct stack_cx *cx, ref s, enum sock_option o, int *value)
{
	const struct tcb *t = tcb_at(cx, s);

	switch (o) {
	case SOCK_OPT_KEEPALIVE:
		*value = t->keepalive;
		return 0;
	case SOCK_OPT_LINGER:
		*value = t->linger_s;
		return 0;
	case SOCK_OPT_RCVBUF:
		*value = (int)t->rcvbuf_limit;
		return 0;
	case SOCK_OPT_SNDBUF:
		*value = (int)t->sndbuf_limit;
		return 0;
	case SOCK_OPT_RCVLOWAT:
		*value = (int)t->rcvlowat;
		return 0;
	case SOCK_OPT_OOBINLINE:
		*value = t->oobinline;
		return 0;
	case SOCK_OPT_TOS:
		*value = t->tos;
		return 0;
	case SOCK_OPT_TTL:
		*value = t->ttl;
		return 0;
	case SOCK_OPT_REUSEADDR:
		*value = t->reuseaddr;
		return 0;
	case SOCK_OPT_REUSEPORT:
		*value = t->reuseport;
		return 0;
	case SOCK_OPT_V6ONLY:
		*value = t->v6only;
		return 0;
	case SOCK_OPT_ACCEPTCONN:
		*value = t->state == TCPS_LISTEN;
		return 0;
	default:
		return get_tcp_option(cx, t, o, value);
	}
}
