/* spawn.h - the private side of spawn.c: what posix_spawn() passes on. */
#ifndef PRELOAD_SPAWN_H
#define PRELOAD_SPAWN_H

#include <spawn.h>

#include "preload/exec.h"

struct spawn_plan {
	struct spawn_line line;
	bool passes;		    /* sockets of the stack go to the child */
	int last;		    /* the highest number of them there */
	ref *object;		    /* they, once each, held; pages */
	uint32_t count, sets, room; /* sockets, then evsets; entries */
	size_t object_bytes, pump_bytes;
	struct netio_pump *pump; /* one for each object, of a child without hooks; pages */
	void *entries;		 /* of our version of the file actions; pages */
	size_t entries_bytes;
	posix_spawn_file_actions_t actions;
	struct exec_plan exec;
};

/* Before posix_spawn() of path (search: along PATH): the actions and the environment that it is to get. */
void spawn_begin(struct spawn_plan *p, const char *path, bool search,
		 const posix_spawn_file_actions_t **actions, char *const **env);
/* After it; done: there is a child. */
void spawn_end(struct spawn_plan *p, bool done);
/* calls_spawn.c: its locks in a forked child. */
void spawn_after_fork(void);

#endif
