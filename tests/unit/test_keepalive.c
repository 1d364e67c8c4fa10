/* test_keepalive.c - probing an idle peer: every probe at its nanosecond, the limits, what ends it. */
#include "tests/unit/sendkit.h"

#define S NS_PER_S

static struct kit k;

static void begin(int idle, int interval, int count)
{
	kit_open(&k, KIT_TS | KIT_SACK, 60000, 1460, KIT_MS);
	if (idle)
		CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_KEEPIDLE, idle), 0);
	if (interval)
		CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_KEEPINTVL, interval), 0);
	if (count)
		CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_KEEPCNT, count), 0);
	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_KEEPALIVE, 1), 0);
}
static uint64_t probes(void)
{
	return stack_counters(&k.x.cx)->tcp_keepalive;
}

/* MUST-25: off unless asked for; asked for, only where a connection is. */
static void test_off(void)
{
	struct endpoint any = {0}, to = {kit_peer_addr(), 81};

	kit_open(&k, KIT_TS, 60000, 1460, KIT_MS);
	struct tcb *c = kit_tcb(&k);
	CHECK_EQ(c->timer[TIMER_KEEPALIVE], NSEC_NEVER);
	kit_wait(&k, 100000 * S);
	CHECK_EQ(probes(), 0);
	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_KEEPALIVE, 1), 0);
	CHECK_EQ(c->timer[TIMER_KEEPALIVE], k.x.cx.now + 7200 * S);
	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_KEEPALIVE, 0), 0);
	CHECK_EQ(c->timer[TIMER_KEEPALIVE], NSEC_NEVER);
	keepalive_timer(&k.x.cx, c); /* it fired all the same */
	CHECK_EQ(probes(), 0);
	ref s = sock_create(&k.x.cx);
	CHECK_EQ(sock_set_option(&k.x.cx, s, SOCK_OPT_KEEPALIVE, 1), 0);
	CHECK_EQ(sock_connect(&k.x.cx, s, &any, &to), -EINPROGRESS);
	CHECK_EQ(tcb_at(&k.x.cx, s)->timer[TIMER_KEEPALIVE], NSEC_NEVER);
	kit_close(&k);
}

/* MUST-28, MUST-29, SHLD-12: two hours, nine empty probes 75 s apart, then a RST and ETIMEDOUT. */
static void test_schedule(void)
{
	begin(0, 0, 0);
	kit_wait(&k, 7200 * S - 1);
	CHECK_EQ(k.x.frame_count, 0);
	for (uint32_t i = 1; i <= 9; i++) {
		kit_wait(&k, i == 1 ? 1 : 75 * S - 1);
		CHECK_EQ(k.x.frame_count, i - (i > 1));
		kit_wait(&k, i == 1 ? 0 : 1);
		CHECK_EQ(k.x.frame_count, i);
		CHECK_SENT(&k, i - 1, 0, 0); /* one below SND.UNA */
		CHECK_EQ(kit_frame(&k, i - 1).flags, TH_ACK);
		CHECK_EQ(kit_tcb(&k)->keep_probes, i);
	}
	kit_wait(&k, 75 * S - 1);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_ESTABLISHED);
	kit_wait(&k, 1);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_CLOSED);
	CHECK_EQ(k.x.frame_count, 10);
	CHECK_EQ(kit_frame(&k, 9).flags, TH_RST | TH_ACK);
	CHECK_SENT(&k, 9, 1, 0);
	CHECK_EQ(sock_take_error(&k.x.cx, k.sock), ETIMEDOUT);
	CHECK_EQ(probes(), 9);
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_abort_timeout, 1);
	kit_close(&k);
}

/* An arrival does not touch the timer: it fires, looks, and waits for what is left. */
static void test_arrival(void)
{
	begin(100, 10, 3);
	nsec old = kit_tcb(&k)->timer[TIMER_KEEPALIVE];
	kit_wait(&k, 60 * S + 1);
	nsec arrived = k.x.cx.now;
	kit_data(&k, 1, 60000, 10);
	CHECK_EQ(kit_tcb(&k)->timer[TIMER_KEEPALIVE], old);
	kit_wait(&k, 40 * S);
	CHECK_EQ(probes(), 0);
	CHECK_EQ(kit_tcb(&k)->timer[TIMER_KEEPALIVE], arrived + 100 * S);
	kit_wait(&k, 60 * S - 1);
	CHECK_EQ(probes(), 0);
	kit_wait(&k, 1);
	CHECK_EQ(probes(), 1);
	kit_close(&k);
}

/* MUST-29: an answer to the last probe starts everything anew. */
static void test_answer(void)
{
	begin(100, 10, 3);
	kit_wait(&k, 120 * S + 9 * S);
	CHECK_EQ(probes(), 3);
	kit_ack(&k, 1, 60000);
	CHECK_EQ(kit_tcb(&k)->keep_probes, 0);
	kit_wait(&k, 100 * S - 1);
	CHECK_EQ(probes(), 3);
	kit_wait(&k, 1);
	CHECK_EQ(probes(), 4);
	kit_wait(&k, 29 * S);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_ESTABLISHED);
	kit_wait(&k, 1 * S);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_CLOSED);
	CHECK_EQ(probes(), 6);
	kit_close(&k);
}

/* MUST-26: while data waits, sent or not, its own timers test the peer. */
static void test_busy(void)
{
	begin(100, 10, 3);
	struct tcb *c = kit_tcb(&k);
	kit_write(&k, 10, 0);
	c->last_recv = k.x.cx.now - 200 * S;
	c->keep_probes = 3;
	keepalive_timer(&k.x.cx, c);
	CHECK_EQ(c->timer[TIMER_KEEPALIVE], k.x.cx.now + 100 * S);
	kit_ack(&k, 11, 0);
	kit_write(&k, 10, 0); /* the window is closed: nothing in flight, something queued */
	CHECK_EQ(c->snd_una.v, c->snd_nxt.v);
	c->last_recv = k.x.cx.now - 200 * S;
	c->keep_probes = 3;
	k.x.cx.now += S;
	keepalive_timer(&k.x.cx, c);
	CHECK_EQ(c->timer[TIMER_KEEPALIVE], k.x.cx.now + 100 * S);
	CHECK_EQ(c->state, TCPS_ESTABLISHED);
	CHECK_EQ(probes(), 0);
	kit_close(&k);
}

/* MUST-27: idle time, interval and count at the ends of their ranges. */
static void test_ranges(void)
{
	begin(1, 1, 1);
	kit_wait(&k, 1 * S);
	CHECK_EQ(probes(), 1);
	kit_wait(&k, 1 * S - 1);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_ESTABLISHED);
	kit_wait(&k, 1);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_CLOSED);
	kit_close(&k);
	begin(32767, 32767, 127);
	kit_wait(&k, 32767 * S * 127 + 32767 * S - 1);
	CHECK_EQ(probes(), 127);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_ESTABLISHED);
	kit_wait(&k, 1);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_CLOSED);
	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_KEEPIDLE, 0), -EINVAL);
	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_KEEPIDLE, 32768), -EINVAL);
	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_KEEPINTVL, 32768), -EINVAL);
	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_KEEPCNT, 128), -EINVAL);
	kit_close(&k);
}

/* TCP_USER_TIMEOUT takes the place of the count: more probes, or fewer, but never none. */
static void test_user_timeout(void)
{
	begin(10, 1, 2);
	kit_tcb(&k)->user_timeout_ms = 60000;
	kit_wait(&k, 60 * S - 1);
	CHECK_EQ(probes(), 50);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_ESTABLISHED);
	kit_wait(&k, 1);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_CLOSED);
	kit_close(&k);
	begin(100, 10, 9);
	kit_tcb(&k)->user_timeout_ms = 1;
	kit_wait(&k, 110 * S - 1);
	CHECK_EQ(probes(), 1);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_ESTABLISHED);
	kit_wait(&k, 1);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_CLOSED);
	CHECK_EQ(probes(), 1);
	kit_close(&k);
}

/* What the network said in the meantime is the better reason (SHLD-25). */
static void test_reason(void)
{
	begin(10, 1, 1);
	kit_wait(&k, 10 * S);
	kit_tcb(&k)->soft_error = EHOSTUNREACH;
	kit_wait(&k, 1 * S);
	CHECK_EQ(kit_tcb(&k)->state, TCPS_CLOSED);
	CHECK_EQ(sock_take_error(&k.x.cx, k.sock), EHOSTUNREACH);
	kit_close(&k);
}

CHECK_MAIN("keepalive", {"MUST-25: off by default", test_off},
	   {"MUST-28, SHLD-12: two hours, then nine probes", test_schedule},
	   {"MUST-24: an arrival counts from its own moment", test_arrival},
	   {"MUST-29: an answer starts anew", test_answer}, {"MUST-26: not while data waits", test_busy},
	   {"MUST-27: the ranges", test_ranges}, {"TCP_USER_TIMEOUT", test_user_timeout},
	   {"SHLD-25: the reason", test_reason})
