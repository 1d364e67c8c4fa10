/*
 * exec.h - the private side of exec.c: what exec() passes on.
 */
#ifndef PRELOAD_EXEC_H
#define PRELOAD_EXEC_H

#include "preload/preload.h"

struct exec_plan {
	bool begun;
	void *pages; /* of the environment */
	size_t bytes;
	char preload[8192], line[32];
};

/* Before exec(): the environment to give it. Async-signal-safe. */
char *const *exec_begin(struct exec_plan *x, char *const *env);
/* It came back. */
void exec_failed(struct exec_plan *x);
/* In a new image: take over what the old one passed on. */
void exec_inherit(void);

#endif
