/* test_persist.c - RFC 9293 3.8.6.1: window probes to the nanosecond, and who is not probed for ever. */
#include "tests/unit/sendkit.h"

static struct kit k;

#define RTO (210 * KIT_MS)

/* 4000 octets wait behind a window that is shut. */
static nsec open_shut(unsigned sent)
{
	kit_open(&k, KIT_TS | KIT_SACK, 1448, 1460, 10 * KIT_MS);
	kit_write(&k, sent, 0);
	kit_ack(&k, 1449, 0);
	CHECK_EQ(k.x.frame_count, 0);
	kit_tcb(&k)->rto_ns = RTO; /* whatever the sample of that ACK made of it */
	timer_cancel(&k.x.cx, kit_tcb(&k), TIMER_PERSIST);
	persist_arm(&k.x.cx, kit_tcb(&k));
	return k.x.cx.now;
}

/* Nothing until a nanosecond before `time`, counted from `from`; then one frame. */
static void probe_at(nsec from, nsec time)
{
	testcx_forget(&k.x);
	kit_wait(&k, from + time - 1 - k.x.cx.now);
	CHECK_EQ(k.x.frame_count, 0);
	kit_wait(&k, 1);
	CHECK_EQ(k.x.frame_count, 1);
}

static void times(void)
{
	nsec start = open_shut(4000), at = 0, interval = RTO;
	struct tcb *t = kit_tcb(&k);

	for (unsigned i = 1; i <= 15; i++) {
		at += interval;
		interval = MIN_OF(2 * interval, 120 * NS_PER_S);
		probe_at(start, at);
		CHECK_SENT(&k, 0, 1448, 0);
		CHECK_EQ(t->persist_probes, i);
		CHECK_EQ(t->timer[TIMER_PERSIST], k.x.cx.now + interval);
	}
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_persist, 15);
	kit_wait(&k, start + 934830 * KIT_MS - 1 - k.x.cx.now);
	CHECK_EQ(t->state, TCPS_ESTABLISHED);
	kit_wait(&k, 1);
	CHECK_EQ(t->state, TCPS_CLOSED);
	CHECK_EQ(sock_take_error(&k.x.cx, k.sock), ETIMEDOUT);
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_abort_timeout, 1);
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_rst_out, 0);
	kit_close(&k);
}

/* An armed timer stays where it is; an RTO below the minimum does not make probes denser. */
static void arm(void)
{
	nsec start = open_shut(4000);
	struct tcb *t = kit_tcb(&k);

	k.x.cx.now += 100 * KIT_MS;
	persist_arm(&k.x.cx, t);
	CHECK_EQ(t->timer[TIMER_PERSIST], start + RTO);
	timer_cancel(&k.x.cx, t, TIMER_PERSIST);
	t->rto_ns = 1 * KIT_MS;
	persist_arm(&k.x.cx, t);
	CHECK_EQ(t->timer[TIMER_PERSIST], k.x.cx.now + 200 * KIT_MS);
	timer_cancel(&k.x.cx, t, TIMER_PERSIST);
	t->persist_backoff = 255; /* no overflow */
	persist_arm(&k.x.cx, t);
	CHECK_EQ(t->timer[TIMER_PERSIST], k.x.cx.now + 120 * NS_PER_S);
	kit_close(&k);
}

/* An answer that keeps the window shut starts the count of probes again, not their interval. */
static void answered(void)
{
	nsec start = open_shut(4000);
	struct tcb *t = kit_tcb(&k);

	probe_at(start, RTO);
	probe_at(start, 3 * RTO);
	CHECK_EQ(t->persist_probes, 2);
	kit_ack(&k, 1449, 0);
	CHECK_EQ(t->persist_probes, 0);
	CHECK_EQ(t->persist_backoff, 2);
	probe_at(start, 7 * RTO);
	kit_close(&k);
}

/* CVE-2008-4609: nobody owns it, so its memory is not held for ever, even if the peer answers. */
static void orphan(void)
{
	nsec start = open_shut(4000);

	sock_close(&k.x.cx, k.sock);
	stack_flush(&k.x.cx);
	for (unsigned i = 1; i <= 8; i++)
		probe_at(start, ((1u << i) - 1) * RTO);
	probe_at(start, 511 * RTO); /* the ninth is the reset */
	CHECK(kit_frame(&k, 0).flags & TH_RST);
	CHECK_EQ(pool_live(&k.x.cx, POOL_TCB), 0);
	CHECK_EQ(stack_buffer_bytes(&k.x.cx), 0);
	kit_close(&k);

	start = open_shut(4000);
	sock_close(&k.x.cx, k.sock);
	stack_flush(&k.x.cx);
	for (unsigned i = 1; i <= 10; i++) {
		CHECK_EQ(pool_live(&k.x.cx, POOL_TCB), 1);
		kit_wait(&k, start + ((1u << i) - 1) * RTO - k.x.cx.now);
		if (pool_live(&k.x.cx, POOL_TCB))
			kit_ack(&k, 1449, 0);
	}
	kit_wait(&k, 120 * NS_PER_S);
	CHECK_EQ(pool_live(&k.x.cx, POOL_TCB), 0);
	CHECK(stack_verify(&k.x.cx) == NULL);
	kit_close(&k);
}

/* RFC 5482: counted from the first probe. */
static void user_limit(void)
{
	nsec start = open_shut(4000);
	struct tcb *t = kit_tcb(&k);

	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_USER_TIMEOUT, 1000), 0);
	probe_at(start, RTO);
	probe_at(start, 3 * RTO);
	t->soft_error = ENETUNREACH;
	kit_wait(&k, start + 7 * RTO - 1 - k.x.cx.now);
	CHECK_EQ(t->state, TCPS_ESTABLISHED);
	kit_wait(&k, 1);
	CHECK_EQ(t->state, TCPS_CLOSED);
	CHECK_EQ(sock_take_error(&k.x.cx, k.sock), ENETUNREACH);
	kit_close(&k);
}

/* What the timer finds when it is too late: data in flight, an open window, nothing to send. */
static void stale(void)
{
	open_shut(4000);
	struct tcb *t = kit_tcb(&k);

	t->snd_wnd = 5000;
	persist_timer(&k.x.cx, t);
	CHECK_EQ(k.x.frame_count, 2); /* what waited */
	CHECK_SENT(&k, 0, 1449, 1448);
	testcx_forget(&k.x);
	t->snd_wnd = 0;
	persist_timer(&k.x.cx, t); /* in flight: the RTO has it */
	CHECK_EQ(k.x.frame_count, 0);
	kit_ack(&k, 4001, 0);
	CHECK(t->timer[TIMER_PERSIST] == NSEC_NEVER);
	persist_timer(&k.x.cx, t);
	CHECK_EQ(k.x.frame_count, 0);
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_persist, 0);
	kit_close(&k);
}

/* A FIN alone waits behind a shut window as data does. */
static void lone_fin(void)
{
	nsec start = open_shut(1448);

	CHECK_EQ(sock_shutdown(&k.x.cx, k.sock, 1), 0);
	stack_flush(&k.x.cx);
	struct tcb *t = kit_tcb(&k);
	CHECK(!t->fin_sent);
	probe_at(start, RTO);
	CHECK_SENT(&k, 0, 1448, 0);
	kit_ack(&k, 1449, 100);
	CHECK(t->fin_sent);
	CHECK_EQ(kit_frame(&k, 0).flags & TH_FIN, TH_FIN);
	kit_close(&k);
}

CHECK_MAIN("persist", {"MUST-36, SHLD-29, SHLD-30: the times of the probes and their end", times},
	   {"an armed timer is not moved; the least and the largest interval", arm},
	   {"MUST-37: an answer starts the count again", answered},
	   {"CVE-2008-4609: an orphan is not probed for ever", orphan},
	   {"RFC 5482: the user's limit", user_limit}, {"a stale timer does no harm", stale},
	   {"MUST-36: a FIN behind a shut window", lone_fin})
