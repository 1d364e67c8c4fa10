/* test_timer.c - the pairing heap of deadlines against a plain table. */
#include "core/send.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

#define SOCKETS 40

static uint64_t rng_state = 88172645463325252ull;

static uint32_t any(uint32_t n)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return (uint32_t)(rng_state >> 20) % n;
}

struct model {
	struct testcx x;
	struct tcb *t[SOCKETS];
	nsec due[SOCKETS][TIMER_COUNT];
};

/* Handlers of sockets in CLOSED do nothing, so that what fired is seen by the timer being off. */
static void model_check(struct model *m)
{
	nsec first = NSEC_NEVER;

	for (int i = 0; i < SOCKETS; i++) {
		for (int w = 0; w < TIMER_COUNT; w++) {
			CHECK_EQ(m->t[i]->timer[w], m->due[i][w]);
			first = MIN_OF(first, m->due[i][w]);
		}
	}
	CHECK_EQ(stack_deadline(&m->x.cx), first);
}

static void model_advance(struct model *m, nsec by)
{
	m->x.cx.now += by;
	stack_advance(&m->x.cx);
	for (int i = 0; i < SOCKETS; i++) {
		for (int w = 0; w < TIMER_COUNT; w++) {
			if (m->due[i][w] <= m->x.cx.now)
				m->due[i][w] = NSEC_NEVER;
		}
	}
}

static void model_step(struct model *m)
{
	uint32_t i = any(SOCKETS), w = any(TIMER_COUNT);

	switch (any(8)) {
	case 0:
	case 1:
	case 2:
	case 3:
		m->due[i][w] = m->x.cx.now + 1 + any(1000);
		timer_set(&m->x.cx, m->t[i], (enum tcb_timer)w, m->due[i][w]);
		break;
	case 4:
		m->due[i][w] = NSEC_NEVER;
		timer_cancel(&m->x.cx, m->t[i], (enum tcb_timer)w);
		break;
	case 5:
		for (w = 0; w < TIMER_COUNT; w++)
			m->due[i][w] = NSEC_NEVER;
		timer_cancel_all(&m->x.cx, m->t[i]);
		break;
	default:
		model_advance(m, any(200));
	}
}

static void heap_equals_table(void)
{
	struct model m;

	testcx_start(&m.x);
	for (int i = 0; i < SOCKETS; i++) {
		m.t[i] = tcb_create(&m.x.cx);
		CHECK_FATAL(m.t[i] != NULL);
		for (int w = 0; w < TIMER_COUNT; w++)
			m.due[i][w] = NSEC_NEVER;
	}
	for (int step = 0; step < 50000; step++) {
		model_step(&m);
		if (step % 16 == 0)
			model_check(&m);
	}
	model_advance(&m, 100000);
	model_check(&m);
	CHECK_EQ(stack_deadline(&m.x.cx), NSEC_NEVER);
	testcx_close(&m.x);
}

static void later_does_not_touch_the_heap(void)
{
	struct testcx x;

	testcx_start(&x);
	struct tcb *t = tcb_create(&x.cx);
	nsec start = x.cx.now;
	timer_set(&x.cx, t, TIMER_RTO, start + 100);
	timer_set(&x.cx, t, TIMER_RTO, start + 500);
	CHECK_EQ(t->node.deadline, start + 100);
	CHECK_EQ(stack_deadline(&x.cx), start + 500);
	x.cx.now = start + 100;
	stack_advance(&x.cx);
	CHECK_EQ(t->timer[TIMER_RTO], start + 500);
	CHECK_EQ(stack_deadline(&x.cx), start + 500);
	timer_set(&x.cx, t, TIMER_PERSIST, start + 200);
	CHECK_EQ(stack_deadline(&x.cx), start + 200);
	x.cx.now = start + 500;
	stack_advance(&x.cx);
	CHECK_EQ(stack_deadline(&x.cx), NSEC_NEVER);
	testcx_close(&x);
}

static void past_deadline_is_next_instant(void)
{
	struct testcx x;

	testcx_start(&x);
	struct tcb *t = tcb_create(&x.cx);
	timer_set(&x.cx, t, TIMER_DELACK, x.cx.now - 10);
	CHECK_EQ(stack_deadline(&x.cx), x.cx.now + 1);
	testcx_close(&x);
}

CHECK_MAIN("timer", {"random sets, cancels and ticks fire what a table says", heap_equals_table},
	   {"moving a deadline later leaves the heap alone", later_does_not_touch_the_heap},
	   {"a deadline in the past fires at the next instant, so that advancing ends",
	    past_deadline_is_next_instant})
