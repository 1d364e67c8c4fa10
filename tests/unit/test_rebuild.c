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
 * A death in the rebuild itself: test_rebuild_again.c.
 *
 * UTCP_REBUILD_RUNS=n asks for n children (default 24).
 */
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/rebuild_dead.h"

#define STEPS	     6000 /* single instructions of each child */
#define GAP	     61	  /* between two copies, at most */
#define FREE_OPS     900u /* before them, at most */
#define FINISH_EVERY 6	  /* copies that run to the end */
#ifdef __SANITIZE_THREAD__
#define SHARE 6 /* most instructions are the runtime's */
#else
#define SHARE 1
#endif

static struct view copy;
static uint32_t kills_inside, kills_dirty, resets, finished;

/* The child is dead at this instruction. */
static bool autopsy(uint32_t number)
{
	struct stack_rebuilt what;
	int side = live.w->busy;

	if (side < 0)
		return true;
	view_copy(&copy, &live);
	kills_inside++;
	kills_dirty += stack_of(&copy.cx[side])->dirty != REF_NONE;
	struct conn *c = conn_of_tcb(&copy, side);
	CHECK_EQ(stack_rebuild(&copy.cx[side], &what), 0);
	resets += what.reset;
	CHECK(what.reset <= 1);
	CHECK_EQ(stack_of(&copy.cx[side])->dirty, REF_NONE);
	const char *broken = stack_verify(&copy.cx[side]);
	CHECK_MSG(!broken, "after the rebuild: %s", broken);
	if (broken || !owned_remain(&copy, side))
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
	for (unsigned long i = 1; i <= runs && CU_get_number_of_failures() == 0; i++)
		one_child(i);
	printf("%u deaths inside (%u with a connection being changed), %u resets, %u run to the end\n",
	       kills_inside, kills_dirty, resets, finished);
	if (asked)
		return;
	CHECK_GT(kills_inside, 1000 / SHARE);
	CHECK_GT(kills_dirty, 200 / SHARE);
	CHECK_GT(resets, 50 / SHARE);
	CHECK_GT(finished, 100);
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
