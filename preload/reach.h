/*
 * reach.h - will a program that is about to be executed load this library?
 */
#ifndef PRELOAD_REACH_H
#define PRELOAD_REACH_H

#include <stdbool.h>

/* What an exec call was given. */
struct exec_target {
	int dir; /* or AT_FDCWD */
	const char *path;
	int flags;   /* AT_* of execveat() */
	bool search; /* along PATH */
};

enum reach {
	REACH_NOWHERE, /* there is nothing to execute: exec will fail */
	REACH_HOOKS,   /* it will load us */
	REACH_NO_HOOKS /* it will not, or nobody can tell */
};
/* Async-signal-safe, takes no lock: also for a child of vfork(). */
enum reach exec_reach(const struct exec_target *t);

#endif
