/*
 * process.h - the private side of init.c and process.c: the life of the process.
 */
#ifndef PRELOAD_PROCESS_H
#define PRELOAD_PROCESS_H

#include "preload/preload.h"

/* Read the configuration and resolve libc's functions, once; cheap afterwards. Safe before constructors. */
void process_init(void);
/* config_load() failed: everything goes to the kernel, or nowhere under UTCP_REQUIRE. */
bool process_config_broken(void);
/* A stack of another process becomes ours. */
void stack_adopt(struct netio *n);
/* fork() hooks and the drain at exit. */
void process_hooks(void);
/* Around fork(): the child gets its part in the stack (process.c). */
void process_before_fork(void);
void process_before_clone(bool shares); /* false: the child can have no part */
void process_parent(void);
void process_child(void);
/* In a child that has our descriptors, not copies of them, and a copy of our memory. */
void process_child_of_strangers(void);
/* calls_clone.c: a child made by syscall(). True: done, *r is what it returns. */
bool clone_by_syscall(long nr, const long *a, long *r);
/* Deliver what was accepted for sending, bounded by UTCP_EXIT_DRAIN; then tell the counters. Once. */
void process_drain(void);
/* The same where destructors of the application may follow, and wait for its threads. */
void process_drain_early(void);

/* The calling thread is about to end. */
void process_thread_ends(void);

#endif
