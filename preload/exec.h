/*
 * exec.h - the private side of exec.c: what exec() passes on.
 */
#ifndef PRELOAD_EXEC_H
#define PRELOAD_EXEC_H

#include "preload/preload.h"
#include "preload/pump.h"
#include "preload/reach.h"

struct exec_plan {
	bool begun, blind, paused, sets;
	int vfork_line; /* 0: none */
	void *pages;	/* of the environment, if env is too small */
	size_t bytes;
	struct pump_plan pumps; /* the new program has no hooks */
	char preload[8192], line[32], *env[1024];
};

/* Before exec() of `target`: the environment to give it. Async-signal-safe. */
char *const *exec_begin(struct exec_plan *x, const struct exec_target *target, char *const *env);
/* It came back. */
void exec_failed(struct exec_plan *x);
/*
 * Is the stack of another user by now, and the new image to load this library? Then it needs a life line to
 * get in, even if no socket passes. Async-signal-safe.
 */
bool exec_lets_in(const struct exec_target *target, char *const *env);
#define EXEC_NO_NUMBERS (-1) /* `last`: no socket passes */
/* env with what an heir with this life line needs, whose sockets are at most at `last`, in x; NULL: no
 * memory. pages_put(x->pages) when it was used. */
char **exec_environment(struct exec_plan *x, char *const *env, int line, int last);
/* The kernel half of a listener that came from another process or image, as listen() keeps it. */
void listener_half_restore(int fd);
/* In a new image: take over what the old one passed on. */
void exec_inherit(void);

#endif
