/*
 * sim.c - the simulator's run: many worlds, one verdict (see sim.h).
 *
 * sim [--seed S] [--connections N] [--world K] [--twice] [--counters] [--verbose] [--pcap FILE]
 * sim [--seed S] --long BYTES      one connection, so many bytes (above 2^32: the numbers wrap)
 *
 * Prints the run's hash; the same seed gives the same hash. The run fails when
 * a world fails, when a world that is run again hashes differently, or when one
 * of the mechanisms that it exists to exercise was never exercised.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "sim.h"

struct run {
	uint64_t seed, long_bytes, hash, bytes, frames, steps;
	int connections, only, repeated;
	bool verbose, twice;
	const char *program, *pcap;
	struct stack_counters counters;
};

static uint64_t world_seed(uint64_t seed, int k)
{
	uint64_t z = seed * 0x9e3779b97f4a7c15ull + (uint64_t)k * 0xd1342543de82ef95ull + 1;

	z = (z ^ z >> 31) * 0x7fb5d329728ea185ull;
	return z ^ z >> 27;
}

static int run_world(struct run *r, int k, uint64_t *hash)
{
	static struct world w;
	int left = r->connections - k * WORLD_CONNECTIONS;
	struct world_options o = {.seed = world_seed(r->seed, k),
				  .connections = MIN_OF(left, WORLD_CONNECTIONS),
				  .verbose = r->verbose,
				  .pcap = r->pcap,
				  .long_bytes = r->long_bytes};

	int failed = world_run(&w, &o);
	*hash = w.hash;
	if (failed) {
		printf("sim: FAILED in world %d %s\n", k, w.failure);
		printf("replay: %s --seed %" PRIu64
		       " --connections %d --world %d --verbose --pcap world.pcap\n",
		       r->program, r->seed, r->connections, k);
		return -1;
	}
	uint64_t *to = (uint64_t *)&r->counters, *from = (uint64_t *)&w.counters;
	for (size_t i = 0; i < sizeof r->counters / sizeof *to; i++)
		to[i] += from[i];
	r->bytes += w.bytes;
	r->frames += w.frames;
	r->steps += w.steps;
	return 0;
}

static int run_all(struct run *r)
{
	int worlds = (r->connections + WORLD_CONNECTIONS - 1) / WORLD_CONNECTIONS;

	for (int k = 0; k < worlds; k++) {
		uint64_t hash, again;
		if (r->only >= 0 && k != r->only)
			continue;
		if (run_world(r, k, &hash))
			return -1;
		r->hash = (r->hash ^ hash) * 0x100000001b3ull;
		if (!r->twice && k % 25 != 3)
			continue;
		struct run second = *r;
		if (run_world(&second, k, &again))
			return -1;
		r->repeated++;
		if (hash != again) {
			printf("sim: FAILED: world %d hashes %016" PRIx64 ", then %016" PRIx64 "\n", k, hash,
			       again);
			return -1;
		}
	}
	return 0;
}

static int check_exercised(const struct run *r)
{
	const struct {
		const char *name;
		uint64_t count;
	} needed[] = {
	    {"fast retransmit", r->counters.tcp_fast_retrans},
	    {"retransmission time-out", r->counters.tcp_rto},
	    {"SACK hole", r->counters.tcp_sack_hole},
	    {"zero window", r->counters.tcp_zero_window},
	    {"reassembly cap", r->counters.tcp_ooo_drop},
	    {"simultaneous open", r->counters.tcp_simultaneous_open},
	    {"simultaneous close", r->counters.tcp_simultaneous_close},
	    {"PAWS drop", r->counters.tcp_paws},
	};
	int missing = 0;

	for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
		printf("  %-24s %" PRIu64 "\n", needed[i].name, needed[i].count);
		missing += !needed[i].count;
	}
	if (missing && r->only < 0 && r->connections >= 1000) {
		printf("sim: FAILED: %d mechanisms were never exercised\n", missing);
		return -1;
	}
	return 0;
}

static void print_counters(const struct run *r)
{
#define X(field, name, what)                                                                                 \
	if (r->counters.field)                                                                               \
		printf("  %-24s %12" PRIu64 "  %s\n", name, r->counters.field, what);
	STACK_COUNTERS(X)
#undef X
}

int main(int argc, char **argv)
{
	struct run r = {.seed = 1, .connections = 5000, .only = -1, .program = argv[0]};
	bool counters = false;

	for (int i = 1; i < argc; i++) {
		const char *v = i + 1 < argc ? argv[i + 1] : "";
		if (strcmp(argv[i], "--seed") == 0)
			r.seed = strtoull(v, NULL, 0), i++;
		else if (strcmp(argv[i], "--connections") == 0)
			r.connections = atoi(v), i++;
		else if (strcmp(argv[i], "--world") == 0)
			r.only = atoi(v), i++;
		else if (strcmp(argv[i], "--long") == 0)
			r.long_bytes = strtoull(v, NULL, 0), r.connections = 1, i++;
		else if (strcmp(argv[i], "--pcap") == 0)
			r.pcap = v, i++;
		else if (strcmp(argv[i], "--verbose") == 0)
			r.verbose = true;
		else if (strcmp(argv[i], "--twice") == 0)
			r.twice = true;
		else if (strcmp(argv[i], "--counters") == 0)
			counters = true;
		else {
			fprintf(stderr, "sim: unknown option %s; see the head of tests/sim/sim.c\n", argv[i]);
			return 2;
		}
	}
	app_setup();
	printf("sim: seed %" PRIu64 ", %d connections\n", r.seed, r.connections);
	clock_t start = clock();
	if (run_all(&r))
		return 1;
	printf("sim: %" PRIu64 " MB, %" PRIu64 " frames, %" PRIu64
	       " steps, %d worlds run twice, %.1f s CPU\n",
	       r.bytes >> 20, r.frames, r.steps, r.repeated, (double)(clock() - start) / CLOCKS_PER_SEC);
	if (counters)
		print_counters(&r);
	if (check_exercised(&r))
		return 1;
	printf("sim: hash %016" PRIx64 "; again: %s --seed %" PRIu64 " --connections %d\n", r.hash, r.program,
	       r.seed, r.connections);
	return 0;
}
