/*
 * seal.h - a process that locks itself into a sandbox (seal.c, seccomp.c).
 */
#ifndef PRELOAD_SEAL_H
#define PRELOAD_SEAL_H

#include "preload/preload.h"

struct sock_fprog;

/* Does the filter let through every system call that the stack makes, whatever the arguments? */
bool seccomp_harmless(const struct sock_fprog *p);

/*
 * Around the call that closes the sandbox. begin: connections go to pump mode, and
 * nothing of ours makes a system call of its own afterwards. end: it worked, or not.
 */
void seal_begin(void);
void seal_end(bool worked);

/* Connections go to pump mode while there are still descriptors for it. */
void seal_streams(void);

#endif
