/*
 * sim.h - a world of two stacks in virtual time.
 *
 * Theory of operation. The run is cut into worlds of a few dozen connections.
 * A world draws everything from its own seed: both stacks' configurations, the
 * path's faults, the connections' sizes and manners. Its loop takes the earliest
 * of {frame arrival, application action, either stack's deadline}, moves the
 * clock there and lets it happen; applications act only on readiness edges or
 * on their own pauses, so a lost edge shows as a connection that never ends.
 * Faults stop at a set time; afterwards everything must end by itself, and a
 * finished world must leave nothing in the stacks.
 *
 * Files: sim.c (the run), world.c (clock, events, path), app.c (applications).
 */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include "tests/segment/image.h"
#include "utcp/pool.h"
#include "utcp/stack.h"

#define WORLD_CONNECTIONS 50
#define A_PORT		  10000u
#define B_PORT		  20000u /* of simultaneous opens */
#define LISTEN_PORT	  80u

/* Chance is in parts per million. */
struct path {
	uint32_t loss, duplicate, corrupt, reorder, burst_enter, burst_leave, hold;
	nsec delay, jitter, reorder_by;
	uint64_t rate; /* bytes a second, 0: no limit */
	uint32_t queue_bytes;
	/* state */
	nsec free_at;
	bool in_burst;
};

enum close_manner {
	CLOSE_SHUTDOWN_FIRST, /* shutdown as soon as all is sent; close after the peer's end of stream */
	CLOSE_AFTER_PEER,     /* wait for the peer's end of stream, then close */
	CLOSE_AT_ONCE,	      /* close when all is sent and nothing more is to come */
};

enum abort_manner { ABORT_NOT, ABORT_CALL, ABORT_LINGER, ABORT_UNREAD };

struct end {
	ref s;
	bool born, connected, shut, eof, closed, stalled, in_step;
	uint64_t to_send, sent, to_receive, received;
	uint32_t write_max, read_max, stall_chance; /* ppm per read */
	nsec stall_time;
	enum close_manner manner;
	enum abort_manner abort;
	uint64_t abort_at; /* bytes moved, both directions */
	bool nodelay, cork, keepalive, corked;
	int rcvbuf, sndbuf;
	int error;
	struct emitter emitter;
};

struct connection {
	nsec start;
	bool simultaneous_open, together, may_fail;
	int generation, generations; /* the same ports again, after the end */
	struct end end[2];	     /* 0: the client, on stack A */
};

struct side {
	struct stack_cx cx;
	struct world *world;
	int index;
	uint8_t mac[6];
	ref listener;
	struct path out;    /* the path from this side to the other */
	bool super;	    /* hands super-segments over whole */
	uint32_t tx_refuse; /* chance that the device refuses a frame */
};

struct event {
	nsec at;
	uint64_t order;
	int kind; /* enum event_kind */
	int side; /* that it happens to */
	int connection, generation;
	uint8_t *frame;
	uint32_t len;
	uint16_t gso_size;
	bool trusted, intact;
	struct image im;
};
enum event_kind { EVENT_FRAME, EVENT_START, EVENT_WAKE };

struct world {
	uint64_t seed, rng, hash, steps, order;
	nsec now, faults_end;
	struct side side[2];
	struct connection connection[WORLD_CONNECTIONS];
	int count;
	struct event *heap;
	size_t heap_len, heap_cap;
	bool verbose;
	FILE *pcap;
	char failure[400];
	struct stack_counters counters;
	uint64_t bytes, frames;
};

struct world_options {
	uint64_t seed;
	int connections;
	bool verbose;
	const char *pcap;
	uint64_t long_bytes; /* 0, or: one connection that carries so much from A to B */
};

/* Run one world to its end. 0, or -1 with w->failure set. */
int world_run(struct world *w, const struct world_options *o);

/* world.c, for app.c */
void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint64_t world_random(struct world *w);
uint64_t world_below(struct world *w, uint64_t n);
bool world_chance(struct world *w, uint32_t ppm);
void world_hash(struct world *w, const void *p, size_t n);
void world_wake(struct world *w, int connection, int side, nsec at);
void world_start(struct world *w, int connection, int side, nsec at);
void world_say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* app.c */
void app_setup(void);
void app_plan(struct world *w, int connection);
void app_start(struct world *w, int connection, int side);
void app_accept_all(struct world *w);
void app_step(struct world *w, int connection, int side);
bool app_all_done(struct world *w);
void app_final_check(struct world *w);

#endif
