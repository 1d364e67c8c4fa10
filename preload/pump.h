/*
 * pump.h - the private side of pump.c: connections for who cannot be hooked.
 */
#ifndef PRELOAD_PUMP_H
#define PRELOAD_PUMP_H

#include "preload/preload.h"

/* A number that a new program inherits, and what it held. */
struct pump_number {
	int fd;
	int first; /* the entry of the same connection that has the pump */
	int saved; /* the placeholder; CLOEXEC */
	uint64_t cookie;
	struct netio_pump pump;
};

struct pump_plan {
	int count, room;
	struct pump_number few[32], *number; /* few, or pages */
	size_t bytes;
};

/*
 * Before exec() of a program without hooks: `fd` holds one end of a pair, the
 * keeper works the other from the exec on. take: this process's own part in the
 * connection ends then. 0 or a negative errno (-ENOENT: no connection of the
 * stack's). Takes no lock: also for a child of vfork().
 */
int pump_number(struct pump_plan *p, int fd, bool take);
/* What a pair's end can have of a connection's options. */
void pump_options(int fd, int heir);
/* It came back: everything as before. */
void pump_undo(struct pump_plan *p);
/*
 * epoll_heir.c. Around exec() of a program without hooks, when the pumps are in place: they, and listeners,
 * are members of epoll sets in the kernel; where another process goes on with a set it shows its bell. It
 * came back, the pumps still in place: as before.
 */
void epoll_pumped(const struct pump_plan *p);
void epoll_unpumped(const struct pump_plan *p);
void pump_plan_init(struct pump_plan *p);

#endif
