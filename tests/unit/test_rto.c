/* test_rto.c - RFC 6298 5 and the limits of RFC 9293 3.8.3, to the nanosecond. */
#include "core/send.h" /* before segpeer.h, whose file-wide t its parameters would shadow */
#include "tests/unit/segpeer.h"
#include "tests/unit/sendkit.h"

static struct kit k;

/* The handshake took 10 ms: SRTT 10, 4 * RTTVAR 20, which counts as the minimum of 200. */
#define RTO (210 * KIT_MS)

static void open_kit(void)
{
	kit_open(&k, KIT_TS | KIT_SACK, 20000, 1460, 10 * KIT_MS);
	CHECK_EQ(kit_tcb(&k)->rto_ns, RTO);
	testcx_forget(&k.x);
}

/* Nothing happens until a nanosecond before `time`, counted from `from`; then `frames` leave. */
static void expect_at(nsec from, nsec time, uint32_t frames)
{
	testcx_forget(&k.x);
	kit_wait(&k, from + time - 1 - k.x.cx.now);
	CHECK_EQ(k.x.frame_count, 0);
	kit_wait(&k, 1);
	CHECK_EQ(k.x.frame_count, frames);
}

/* Linux's reading of tcp_retries2: the time that n doublings of the minimum take. */
static void span(void)
{
	struct stack_config c;

	stack_config_defaults(&c);
	CHECK_EQ(rto_span(&c, 0), 200 * NS_PER_MS);
	CHECK_EQ(rto_span(&c, 1), 600 * NS_PER_MS);
	CHECK_EQ(rto_span(&c, 8), 102200 * NS_PER_MS);
	CHECK_EQ(rto_span(&c, 9), 204600 * NS_PER_MS);
	CHECK_EQ(rto_span(&c, 10), 324600 * NS_PER_MS); /* 120 s are the most */
	CHECK_EQ(rto_span(&c, c.retries), 924600 * NS_PER_MS);
}

static void arm(void)
{
	open_kit();
	struct tcb *tcb = kit_tcb(&k);
	rto_arm(&k.x.cx, tcb);
	CHECK(tcb->timer[TIMER_RTO] == NSEC_NEVER);
	kit_write(&k, 100, 0);
	CHECK_EQ(tcb->timer[TIMER_RTO], k.x.cx.now + RTO); /* RFC 6298 (5.1) */
	k.x.cx.now += 50 * KIT_MS;
	rto_arm(&k.x.cx, tcb);
	CHECK_EQ(tcb->timer[TIMER_RTO], k.x.cx.now + RTO); /* (5.3) */
	kit_ack(&k, 101, 20000);
	CHECK(tcb->timer[TIMER_RTO] == NSEC_NEVER); /* (5.2) */
	kit_close(&k);
}

/* (5.5): twice as long each time, 120 s at most; R2 ends it at the first time-out beyond 924.6 s. */
static void doubling(void)
{
	open_kit();
	struct tcb *tcb = kit_tcb(&k);
	nsec start = k.x.cx.now, at = 0, rto = RTO;

	kit_write(&k, 100, 0);
	for (unsigned i = 1; i <= 15; i++) {
		at += rto;
		rto = MIN_OF(2 * rto, 120 * NS_PER_S);
		expect_at(start, at, 1);
		CHECK_SENT(&k, 0, 1, 100);
		CHECK_EQ(tcb->retransmits, i);
		CHECK_EQ(tcb->rto_ns, rto);
	}
	CHECK_EQ(at, 814830 * KIT_MS);
	expect_at(start, 934830 * KIT_MS, 0); /* SHLD-11 */
	CHECK_EQ(tcb->state, TCPS_CLOSED);
	CHECK_EQ(sock_take_error(&k.x.cx, k.sock), ETIMEDOUT);
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_rto, 15);
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_abort_timeout, 1);
	CHECK_EQ(tcb->total_rto, 15);
	kit_close(&k);
}

/* RFC 5482: the time-out after the user's patience is moved to its end. */
static void user_limit(void)
{
	open_kit();
	struct tcb *tcb = kit_tcb(&k);
	nsec start = k.x.cx.now;

	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_USER_TIMEOUT, 1000), 0);
	kit_write(&k, 100, 0);
	expect_at(start, RTO, 1);
	expect_at(start, 3 * RTO, 1);
	tcb->soft_error = EHOSTUNREACH;
	expect_at(start, 1000 * KIT_MS, 0);
	CHECK_EQ(tcb->state, TCPS_CLOSED);
	CHECK_EQ(sock_take_error(&k.x.cx, k.sock), EHOSTUNREACH); /* MUST-47: what the network said last */
	kit_close(&k);
}

/* Progress starts the count again. */
static void progress(void)
{
	open_kit();
	struct tcb *tcb = kit_tcb(&k);

	CHECK_EQ(sock_set_option(&k.x.cx, k.sock, SOCK_OPT_USER_TIMEOUT, 1000), 0);
	kit_write(&k, 100, 0);
	kit_wait(&k, 900 * KIT_MS);
	CHECK_EQ(tcb->retransmits, 2);
	kit_ack(&k, 51, 20000);
	CHECK_EQ(tcb->retransmits, 0);
	kit_wait(&k, 950 * KIT_MS);
	CHECK_EQ(tcb->state, TCPS_ESTABLISHED);
	kit_close(&k);
}

/* Eight doublings for an orphan; a reset tells the peer. */
static void orphan(void)
{
	open_kit();
	nsec start = k.x.cx.now;

	kit_write(&k, 100, 0);
	sock_close(&k.x.cx, k.sock);
	stack_flush(&k.x.cx);
	kit_wait(&k, 107310 * KIT_MS - 1);
	CHECK_EQ(pool_live(&k.x.cx, POOL_TCB), 1);
	expect_at(start, 107310 * KIT_MS, 1);
	CHECK_EQ(kit_frame(&k, 0).flags, TH_RST | TH_ACK);
	CHECK_EQ(pool_live(&k.x.cx, POOL_TCB), 0);
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_abort_timeout, 1);
	CHECK(stack_verify(&k.x.cx) == NULL);
	kit_close(&k);
}

static void advance_to(nsec time)
{
	for (nsec d; (d = stack_deadline(&t.cx)) <= time;) {
		t.cx.now = MAX_OF(d, t.cx.now);
		stack_advance(&t.cx);
	}
	t.cx.now = time;
}

/* A count for SYNs: sent at 0, 1 and 3 s, given up at 7. */
static void syn(void)
{
	struct endpoint any = {0}, to = peer_end(4000);

	start();
	nsec began = t.cx.now;
	ref s = sock_create(&t.cx);
	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_SYNCNT, 2), 0);
	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), -EINPROGRESS);
	CHECK_EQ(t.frame_count, 1);
	advance_to(began + 1 * NS_PER_S - 1);
	CHECK_EQ(t.frame_count, 1);
	advance_to(began + 1 * NS_PER_S);
	CHECK_EQ(t.frame_count, 2);
	advance_to(began + 3 * NS_PER_S);
	CHECK_EQ(t.frame_count, 3);
	advance_to(began + 7 * NS_PER_S - 1);
	CHECK_EQ(state_at(s), TCPS_SYN_SENT);
	advance_to(began + 7 * NS_PER_S);
	CHECK_EQ(state_at(s), TCPS_CLOSED);
	CHECK_EQ(sock_take_error(&t.cx, s), ETIMEDOUT);
	CHECK_EQ(stack_counters(&t.cx)->tcp_attempt_fail, 1);
	CHECK_EQ(stack_counters(&t.cx)->tcp_syn_retrans, 2);
	finish();
}

/* The user's patience ends an open, too. */
static void syn_user_limit(void)
{
	struct endpoint any = {0}, to = peer_end(4000);

	start();
	nsec began = t.cx.now;
	ref s = sock_create(&t.cx);
	CHECK_EQ(sock_set_option(&t.cx, s, SOCK_OPT_USER_TIMEOUT, 2500), 0);
	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), -EINPROGRESS);
	advance_to(began + 2500 * NS_PER_MS - 1);
	CHECK_EQ(state_at(s), TCPS_SYN_SENT);
	advance_to(began + 2500 * NS_PER_MS);
	CHECK_EQ(state_at(s), TCPS_CLOSED);
	CHECK_EQ(sock_take_error(&t.cx, s), ETIMEDOUT);
	finish();
}

/* A SYN-ACK goes five times more, and the child is forgotten after 63 s. */
static void syn_ack(void)
{
	start();
	nsec began = t.cx.now;
	ref l = listener(5);
	deliver(TH_SYN, 5000, 0, 0);
	CHECK_EQ(t.frame_count, 1);
	advance_to(began + 63 * NS_PER_S - 1);
	CHECK_EQ(tcb_at(&t.cx, l)->syn_count, 1);
	CHECK_EQ(stack_counters(&t.cx)->tcp_syn_retrans, 5);
	advance_to(began + 63 * NS_PER_S);
	CHECK_EQ(tcb_at(&t.cx, l)->syn_count, 0);
	CHECK_EQ(pool_live(&t.cx, POOL_TCB), 1);
	CHECK_EQ(stack_counters(&t.cx)->tcp_rst_out, 0);
	finish();
}

/* Fired late, when nothing is in flight any more: nothing happens. */
static void nothing_outstanding(void)
{
	open_kit();
	rto_timer(&k.x.cx, kit_tcb(&k));
	CHECK_EQ(k.x.frame_count, 0);
	CHECK_EQ(kit_tcb(&k)->retransmits, 0);
	CHECK_EQ(kit_tcb(&k)->ca_state, CA_OPEN);
	CHECK_EQ(stack_counters(&k.x.cx)->tcp_rto, 0);
	kit_close(&k);
}

CHECK_MAIN("rto", {"the time that n doublings take", span},
	   {"RFC 6298 (5.1) to (5.3): start, restart, stop", arm},
	   {"MUST-20, SHLD-11, RFC 6298 (5.5): the back-off and its end", doubling},
	   {"MUST-21, MUST-47, RFC 5482: the user's limit", user_limit},
	   {"progress starts the count again", progress}, {"an orphan is given up sooner, with RST", orphan},
	   {"MUST-22, MUST-23: the SYN's count", syn},
	   {"RFC 5482: the user's limit of an open", syn_user_limit},
	   {"MUST-22: the SYN-ACK's count", syn_ack},
	   {"a time-out with nothing in flight", nothing_outstanding})
