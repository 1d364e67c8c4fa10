/*
 * test_rebuild.c - stack_rebuild() after a death at any instruction.
 *
 * A child process works at random on two stacks that share a path which loses
 * and reorders: connections over the wire in both directions and inside one
 * stack are opened, accepted, written, read, shut, closed, aborted. Everything
 * is in shared memory. The parent lets it run, then steps it by single
 * instructions (ptrace) and at random ones of them takes a copy of the memory,
 * as a kill there would have left it. If one of the stacks was being worked on, that
 * one is rebuilt in the copy: every invariant must hold, at most the connection
 * that was being changed may be reset, and all others must go on to their end
 * with every byte in its place, and leave nothing behind.
 *
 * UTCP_REBUILD_RUNS=n asks for n children (default 24).
 */
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/rebuild_kit.h"

#define STEPS	     6000 /* single instructions of each child */
#define GAP	     61	  /* between two copies, at most */
#define FREE_OPS     900u /* before them, at most */
#define FINISH_EVERY 6	  /* copies that run to the end */
#define TRIES	     3	  /* to hit a rebuild */
#ifdef __SANITIZE_THREAD__
#define SHARE 6 /* most instructions are the runtime's */
#else
#define SHARE 1
#endif

static struct view copy;
static uint32_t kills_inside, kills_dirty, kills_again, resets, finished;
static volatile uint32_t *rebuilding; /* shared */

/* ------------------------------------------------------------ copies of the dead */

static struct conn *conn_of_tcb(struct view *v, int side)
{
	struct stack_cx *cx = &v->cx[side];
	ref r = stack_of(cx)->dirty;

	if (!pool_valid(cx, POOL_TCB, r))
		return NULL;
	struct conn *c = conn_by_port(v->w, tcb_at(cx, r)->local.port);
	if (!c)
		c = conn_by_port(v->w, tcb_at(cx, r)->remote.port);
	for (int i = 0; !c && i < 2 * CONNS; i++) /* it has no name yet, or no more */
		if (v->w->conn[i / 2].used && v->w->conn[i / 2].s[i % 2] == r &&
		    side_of(&v->w->conn[i / 2], i % 2) == side)
			c = &v->w->conn[i / 2];
	return c;
}

static bool owned(struct view *v, int side, ref s)
{
	if (s == v->w->listener[side])
		return true;
	for (int i = 0; i < CONNS; i++)
		for (int end = 0; end < 2; end++) {
			const struct conn *c = &v->w->conn[i];
			if (c->used && c->s[end] == s && side_of(c, end) == side && !c->leaving[end])
				return true;
		}
	return false;
}

/* What netio does: close what nobody has; and forget what the dead one was about to close. */
static void owners_settle(struct view *v, int side)
{
	struct stack_cx *cx = &v->cx[side];
	ref next;

	for (ref r = sock_next(cx, REF_NONE); r; r = next) {
		next = sock_next(cx, r);
		if (sock_needs_owner(cx, r) && !owned(v, side, r))
			sock_close(cx, r);
	}
	for (int i = 0; i < CONNS; i++) {
		struct conn *c = &v->w->conn[i];

		for (int end = 0; end < 2; end++)
			if (c->leaving[end]) {
				c->s[end] = REF_NONE;
				c->closed[end] = true;
			}
		/* it was about to be born: its connect() never came */
		if (c->used && !c->closed[0] && (!c->s[0] || !tcb_of(v, c, 0)->connect_started))
			c->aborted = c->lost[0] = true;
	}
}

static void copy_take(void)
{
	*copy.w = *live.w;
	for (int i = 0; i < SIDES; i++) {
		uint64_t before = stack_of(&copy.cx[i])->bytes_used, used = stack_of(&live.cx[i])->bytes_used;

		used = MIN_OF(used + EXTENT_BYTES, (uint64_t)REGION_BYTES); /* what is being added to it */
		memcpy(copy.cx[i].base, live.cx[i].base, used);
		if (before > used) /* of the copy before: a region is zero behind what is in use */
			memset(copy.cx[i].base + used, 0, before - used);
	}
}

/*
 * Whoever rebuilds the copy is killed, too. By the clock: it is over and over at it, from the
 * same state, so any instant is as good as another.
 */
static bool die_again(int side, uint32_t us)
{
	struct stack_rebuilt what;
	pid_t pid = fork();

	CHECK_FATAL(pid >= 0);
	while (!pid) {
		copy_take();
		copy.cx[side].now = copy.w->now;
		*rebuilding = 1;
		record_barrier();
		stack_rebuild(&copy.cx[side], &what);
		record_barrier();
		*rebuilding = 0;
	}
	/* An instrument's fork() takes longer than that: then the time counts from the first rebuild. */
	for (uint32_t i = 0; SHARE > 1 && i < 100000 && !__atomic_load_n(rebuilding, __ATOMIC_RELAXED); i++)
		usleep(10);
	usleep(us);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	bool inside = *rebuilding;
	*rebuilding = 0;
	kills_again += inside;
	if (!inside)
		copy_take();
	return inside;
}

/* The child is dead at this instruction. */
static bool autopsy(uint32_t number)
{
	struct stack_rebuilt what;
	int side = live.w->busy;

	if (side < 0)
		return true;
	copy_take();
	kills_inside++;
	kills_dirty += stack_of(&copy.cx[side])->dirty != REF_NONE;
	struct conn *c = conn_of_tcb(&copy, side);
	for (uint32_t i = 0; i < TRIES && number % FINISH_EVERY == 0; i++)
		if (die_again(side, 300 + (number + i) % 7 * 100))
			break;
	copy.cx[0].now = copy.cx[1].now = copy.w->now;
	CHECK_EQ(stack_rebuild(&copy.cx[side], &what), 0);
	resets += what.reset;
	CHECK(what.reset <= 1);
	CHECK_EQ(stack_of(&copy.cx[side])->dirty, REF_NONE);
	const char *broken = stack_verify(&copy.cx[side]);
	CHECK_MSG(!broken, "after the rebuild: %s", broken);
	if (broken)
		return false;
	if (number % FINISH_EVERY == 0) {
		copy.w->busy = -1;
		owners_settle(&copy, side);
		run_to_end(&copy, c);
		finished++;
	}
	return CU_get_number_of_failures() == 0;
}

static _Noreturn void child_main(uint32_t ops)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	for (uint32_t i = 0; i < ops; i++)
		op(&live);
	raise(SIGSTOP);
	for (;;)
		op(&live);
}

static bool stopped(pid_t pid, int signal)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == signal;
}

static void one_child(uint64_t seed)
{
	uint64_t script = seed * 2654435761u + 12345;
	struct world dice = {.rng = script};
	pid_t pid;

	world_make(&live, seed);
	pid = fork();
	CHECK_FATAL(pid >= 0);
	if (!pid)
		child_main(pick(&dice, seed % 3 ? FREE_OPS : 20)); /* some from the first steps on */
	bool sound = stopped(pid, SIGSTOP);
	CHECK_MSG(sound, "the child of seed %llu did not stop", (unsigned long long)seed);
	uint32_t next = 1, number = 0;
	for (uint32_t i = 0; sound && i < STEPS; i++) {
		sound = ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0 && stopped(pid, SIGTRAP);
		CHECK_MSG(sound, "the child of seed %llu cannot be stepped", (unsigned long long)seed);
		if (!sound || --next)
			continue;
		next = 1 + pick(&dice, GAP);
		sound = autopsy(number++);
		if (!sound)
			printf("seed %llu, instruction %u\n", (unsigned long long)seed, i);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void any_instruction(void)
{
	const char *asked = getenv("UTCP_REBUILD_RUNS");
	unsigned long runs = asked ? strtoul(asked, NULL, 10) : 24;

	view_bind(&live, memory_map(MAP_SHARED));
	view_bind(&copy, memory_map(MAP_SHARED));
	rebuilding = (uint32_t *)(void *)memory_map(MAP_SHARED);
	for (unsigned long i = 1; i <= runs && CU_get_number_of_failures() == 0; i++)
		one_child(i);
	printf("%u deaths inside (%u with a connection being changed), %u more in a rebuild, %u resets, %u "
	       "run to the "
	       "end\n",
	       kills_inside, kills_dirty, kills_again, resets, finished);
	if (asked)
		return;
	CHECK_GT(kills_inside, 1000 / SHARE);
	CHECK_GT(kills_dirty, 200 / SHARE);
	CHECK_GT(resets, 50 / SHARE);
	CHECK_GT(finished, 100);
	CHECK_GT(kills_again, 10 / SHARE);
	CHECK_GT(kills_inside, resets);
}

/* The world itself: nothing is reset when nobody dies. */
static void nobody_dies(void)
{
	view_bind(&live, memory_map(MAP_PRIVATE));
	for (uint64_t seed = 1; seed < 40; seed++) {
		world_make(&live, seed);
		for (int i = 0; i < 2000; i++)
			op(&live);
		run_to_end(&live, NULL);
	}
}

CHECK_MAIN("rebuild", {"random work ends with every byte in its place", nobody_dies},
	   {"design D2: a process may be killed at any instruction inside the stack", any_instruction})
