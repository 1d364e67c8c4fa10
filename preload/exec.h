/*
 * exec.h - the private side of exec.c: what exec() passes on.
 */
#ifndef PRELOAD_EXEC_H
#define PRELOAD_EXEC_H

#include "preload/preload.h"

struct exec_plan {
	bool begun;
	int vfork_line; /* 0: none */
	void *pages;	/* of the environment, if env is too small */
	size_t bytes;
	char preload[8192], line[32], *env[1024];
};

/* Before exec(): the environment to give it. Async-signal-safe. */
char *const *exec_begin(struct exec_plan *x, char *const *env);
/* It came back. */
void exec_failed(struct exec_plan *x);
/* In a new image: take over what the old one passed on. */
void exec_inherit(void);

#endif
