/*
 * rcvbuf.c - how much the peer may send: the window we advertise, and how the
 * receive limit grows with what the application reads.
 *
 * Theory of operation. rcvbuf_limit is Linux's sk_rcvbuf: half of it is window
 * (tcp_adv_win_scale 1). The window starts near 64 KB and opens in two ways:
 * rcv_ssthresh rises with every full segment that arrives (so that a peer which
 * sends dwarfs does not get the whole buffer), and rcv_tune() raises the limit
 * itself when the application reads more in a round trip than it did before
 * (dynamic right-sizing, Fisk and Feng 2001).
 *
 * What was promised is kept: rcv_adv, the right edge, never moves left (RFC
 * 9293 SHLD-14). Nothing is promised in crumbs: once the buffer is more than
 * half full the edge moves by a segment or not at all (MUST-39).
 *
 * Place in the flow: output.c asks rcv_window_select() for each segment with an
 * ACK, sock.c reports reads, input.c arrivals.
 */
#include "core/recv.h"

/* What rounding windows up may add to a buffer in all. */
#define CRUMBS_MAX 131072u

static uint32_t window_from_limit(uint64_t limit)
{
	return (uint32_t)MIN_OF(limit / 2, (uint64_t)1 << 30);
}

/* Bytes that the buffer may hold in all, as window. */
static uint32_t full_space(const struct tcb *t)
{
	uint32_t space = window_from_limit(t->rcvbuf_limit);

	return t->rcv_window_clamp ? MIN_OF(space, t->rcv_window_clamp) : space;
}

static uint32_t free_space(const struct tcb *t)
{
	uint32_t full = window_from_limit(t->rcvbuf_limit);
	uint64_t held = buffer_len(&t->rcvbuf);

	return held >= full ? 0 : full - (uint32_t)held;
}

/* Buffers of the whole stack above three quarters of the cap. */
static bool memory_pressure(struct stack_cx *cx)
{
	const struct stack *st = stack_of(cx);

	return st->buffer_bytes > st->mem_limit / 4 * 3;
}

uint32_t rcv_window_now(const struct tcb *t)
{
	int32_t w = seq_diff(t->rcv_adv, t->rcv_nxt);

	return w > 0 ? (uint32_t)w : 0;
}

static uint32_t align_up(uint32_t n, uint8_t shift)
{
	uint32_t mask = (1u << shift) - 1;

	return (n + mask) & ~mask;
}

/* The window that the buffer's state suggests, before the promise of rcv_adv. */
static uint32_t window_wish(struct stack_cx *cx, struct tcb *t)
{
	uint32_t allowed = window_from_limit(t->rcvbuf_limit), full = full_space(t), space = free_space(t);
	uint32_t mss = MIN_OF(t->rcv_mss ? t->rcv_mss : t->adv_mss, full), now = rcv_window_now(t);

	if (space < full / 2) {
		t->quickack = 0;
		if (memory_pressure(cx))
			t->rcv_ssthresh = MIN_OF(t->rcv_ssthresh, 4u * t->adv_mss);
		space &= ~((1u << t->rcv_wscale) - 1);
		if (space < allowed >> 4 || space < mss)
			return 0;
		/* MUST-39: RFC 1122 4.2.3.3's min(fr * RCV.BUFF, MSS), fr = 1/2. */
		if (space > now && space - now < MIN_OF((uint32_t)t->adv_mss, full / 2))
			return now;
	}
	space = MIN_OF(space, t->rcv_ssthresh);
	if (t->rcv_wscale)
		return align_up(space, t->rcv_wscale);
	/* Without scaling, keep to multiples of the segment size, and to what was said while that is near. */
	if (t->rcv_wnd + mss <= space || t->rcv_wnd > space)
		return mss ? space / mss * mss : 0;
	if (mss == full && space > t->rcv_wnd + full / 2)
		return space;
	return t->rcv_wnd;
}

uint32_t rcv_window_select(struct stack_cx *cx, struct tcb *t)
{
	/* A SYN says what rcv_init_window() chose, also when it is sent again. */
	if (t->state < TCPS_ESTABLISHED)
		return t->rcv_wnd;
	uint32_t now = rcv_window_now(t), window = window_wish(cx, t);
	uint32_t most = (uint32_t)MIN_OF((uint64_t)65535 << t->rcv_wscale, (uint64_t)1 << 30);

	/*
	 * What was promised stays promised, and the field cannot say less than the
	 * next multiple: a crumb more each time, so that a peer which sends crumbs
	 * is told the lower multiple once the buffer holds far more than its window.
	 */
	if (window <= now && buffer_len(&t->rcvbuf) < (uint64_t)t->rcvbuf_limit + CRUMBS_MAX)
		window = align_up(now, t->rcv_wscale);
	else if (window <= now)
		window = now;
	window = MIN_OF(window, most);
	if (!window && t->rcv_wnd)
		COUNT(cx, tcp_zero_window);
	t->rcv_wnd = window;
	t->rcv_adv = seq_max(t->rcv_adv, seq_add(t->rcv_nxt, window));
	return window;
}

void rcv_init_window(struct stack_cx *cx, struct tcb *t)
{
	const struct stack_config *c = &stack_of(cx)->config;
	uint32_t space = full_space(t), mss = t->adv_mss ? t->adv_mss : 536;

	/* Whole segments; timestamps shorten them, if they are agreed upon already (SYN-ACK), as in Linux. */
	if (t->ts_ok && mss > 12)
		mss -= 12;
	if (space > mss)
		space = space / mss * mss;
	t->rcv_wscale = 0;
	if (c->wscale && (t->wscale_ok || !t->passive)) {
		/* Room for what auto-tuning may reach later: the scale is said once. */
		uint64_t most = MAX_OF((uint64_t)t->rcvbuf_limit, (uint64_t)c->rcvbuf_max);
		if (t->rcvbuf_locked || t->rcv_window_clamp)
			most = MIN_OF(most, (uint64_t)full_space(t));
		while (t->rcv_wscale < 14 && most > 65535) {
			most >>= 1;
			t->rcv_wscale++;
		}
	}
	/* The window of a SYN is never scaled (RFC 7323 2.2). */
	t->rcv_wnd = MIN_OF(space, 65535u);
	t->rcv_ssthresh = t->rcv_wnd;
	t->rcv_adv = seq_add(t->rcv_nxt, t->rcv_wnd);
}

void rcv_established(struct stack_cx *cx, struct tcb *t)
{
	/* Linux's first guess at the peer's segments: not above 536 before any was seen. */
	uint32_t mss = MIN_OF((uint32_t)MIN_OF(t->adv_mss, t->snd_mss ? t->snd_mss : 536), t->rcv_wnd / 2);

	if (!t->rcv_wscale && !t->rcvbuf_locked)
		t->rcv_window_clamp = t->rcv_window_clamp ? MIN_OF(t->rcv_window_clamp, 65535u) : 65535u;
	t->rcv_mss = MAX_OF(MIN_OF(mss, 536u), 88u);
	t->rcv_space = MIN_OF(t->rcv_wnd, 10u * t->adv_mss);
	t->rcv_tune_start = cx->now;
	t->rcv_tune_offset = t->rcvbuf.start;
	t->rcv_rtt_seq = seq_add(t->rcv_nxt, t->rcv_wnd);
	t->rcv_rtt_start = cx->now;
}

/* Linux's tcp_grow_window(): a peer that fills its segments earns a larger window. */
void rcv_window_grow(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	uint32_t full = full_space(t);

	if (s->len < 128 || t->rcv_ssthresh >= full || memory_pressure(cx))
		return;
	uint32_t step = MAX_OF(2u * t->adv_mss, 2u * s->len);
	t->rcv_ssthresh += MIN_OF(step, full - t->rcv_ssthresh);
	t->quickack |= 1;
}

static void rtt_update(struct tcb *t, uint64_t sample_us, bool window_dependent)
{
	uint32_t us = (uint32_t)MIN_OF(MAX_OF(sample_us, (uint64_t)1), (uint64_t)UINT32_MAX / 8);

	if (!t->rcv_rtt_us)
		t->rcv_rtt_us = us;
	else if (window_dependent)
		t->rcv_rtt_us = MIN_OF(t->rcv_rtt_us, us);
	else
		t->rcv_rtt_us = MAX_OF(t->rcv_rtt_us - t->rcv_rtt_us / 8 + us / 8, 1u);
}

/*
 * The receiver's own estimate of the round trip: from the echoed timestamp of a
 * full segment, else the time in which one window of data arrives.
 */
void rcv_measure_rtt(struct stack_cx *cx, struct tcb *t, const struct segment *s)
{
	if (t->ts_ok && s->has_ts && s->ts_ecr && s->len >= t->rcv_mss) {
		uint32_t ms = ts_now(cx, t) - s->ts_ecr;
		if (ms < 60000)
			rtt_update(t, (uint64_t)MAX_OF(ms, 1u) * 1000, false);
		return;
	}
	if (seq_lt(t->rcv_nxt, t->rcv_rtt_seq))
		return;
	if (!t->ts_ok)
		rtt_update(t, (cx->now - t->rcv_rtt_start) / NS_PER_US, true);
	t->rcv_rtt_seq = seq_add(t->rcv_nxt, MAX_OF(t->rcv_wnd, 1u));
	t->rcv_rtt_start = cx->now;
}

/* Once a round trip: if the application read more than in the last one, allow for twice that and growth. */
void rcv_tune(struct stack_cx *cx, struct tcb *t, uint64_t copied)
{
	const struct stack_config *c = &stack_of(cx)->config;

	t->rcv_copied += copied;
	if (!t->rcv_rtt_us || cx->now - t->rcv_tune_start < (nsec)t->rcv_rtt_us * NS_PER_US)
		return;
	uint64_t taken = t->rcvbuf.start - t->rcv_tune_offset;
	if (taken > t->rcv_space) {
		if (!t->rcvbuf_locked && !memory_pressure(cx)) {
			uint64_t window = 2 * taken + 16u * t->adv_mss;
			window += 2 * (window * (taken - t->rcv_space) / MAX_OF(t->rcv_space, 1u));
			uint64_t limit = MIN_OF(2 * window, (uint64_t)c->rcvbuf_max);
			if (limit > t->rcvbuf_limit)
				t->rcvbuf_limit = (uint32_t)limit;
		}
		t->rcv_space = (uint32_t)MIN_OF(taken, (uint64_t)UINT32_MAX);
	}
	t->rcv_tune_start = cx->now;
	t->rcv_tune_offset = t->rcvbuf.start;
}

/* Linux's tcp_cleanup_rbuf(): a read is worth an ACK when it at least doubles what the peer may send. */
bool rcv_window_update_due(struct stack_cx *cx, struct tcb *t)
{
	uint32_t now = rcv_window_now(t);

	if (t->state < TCPS_ESTABLISHED || t->state == TCPS_TIME_WAIT || t->fin_received || t->rd_shut)
		return false;
	if (2ull * now > full_space(t))
		return false;
	uint32_t window = window_wish(cx, t);
	return window && window >= 2 * now && window - now >= MIN_OF((uint32_t)t->adv_mss, full_space(t) / 2);
}
