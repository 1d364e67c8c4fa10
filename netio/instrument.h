/*
 * instrument.h - the keeper in a build with a sanitizer or with coverage
 * (scripts/sanitize defines UTCP_INSTRUMENT); nothing in any other.
 *
 * The keeper begins without the C library's start-up code and has an empty
 * environment and no stderr. An instrument's runtime begins with the
 * constructors of what it is linked into, is told what to do by variables,
 * reports to stderr, and has its last word in exit().
 *
 * Place in the flow: keeper.c, before the clone and at the end; preload's entry
 * point, before anything that is instrumented.
 */
#ifndef NETIO_INSTRUMENT_H
#define NETIO_INSTRUMENT_H

#include <stddef.h>

/*
 * A function that runs in another's memory and does not return, or before the
 * runtime has begun, or under a lock that the runtime cannot see.
 */
#define NOT_INSTRUMENTED __attribute__((no_sanitize("thread"), no_sanitize("address"), noinline))

#ifdef UTCP_INSTRUMENT
#define INSTRUMENT_VARIABLES 8
/* Run the constructors of this object. */
void instrument_begin(void);
/* exit(), destructors first. */
void instrument_end(void);
/* Our variables that are for the runtime: appended to a list; how many. */
int instrument_variables(char *env[INSTRUMENT_VARIABLES]);
/* The file for the keeper's reports, or NULL. */
const char *instrument_log(void);
#else
#define INSTRUMENT_VARIABLES 0
static inline void instrument_begin(void)
{
}
static inline void instrument_end(void)
{
}
static inline int instrument_variables(char *env[])
{
	(void)env;
	return 0;
}
static inline const char *instrument_log(void)
{
	return NULL;
}
#endif

#endif
