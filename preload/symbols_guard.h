/*
 * symbols_guard.h - calls that are intercepted in a build with -DUTCP_GUARD only:
 * the open() family, which a release must not slow down (calls_number.c).
 */
#ifndef PRELOAD_SYMBOLS_GUARD_H
#define PRELOAD_SYMBOLS_GUARD_H

#ifdef UTCP_GUARD
#define SYMBOLS_GUARD(X)                                                                                     \
	X(guard, int, open, (const char *, int, ...))                                                        \
	X(guard, int, open64, (const char *, int, ...))                                                      \
	X(guard, int, __open, (const char *, int, ...))                                                      \
	X(guard, int, __open64, (const char *, int, ...))                                                    \
	X(guard, int, openat, (int, const char *, int, ...))                                                 \
	X(guard, int, openat64, (int, const char *, int, ...))                                               \
	X(guard, int, __open_2, (const char *, int))                                                         \
	X(guard, int, __open64_2, (const char *, int))                                                       \
	X(guard, int, __openat_2, (int, const char *, int))                                                  \
	X(guard, int, __openat64_2, (int, const char *, int))                                                \
	X(guard, int, creat, (const char *, mode_t))                                                         \
	X(guard, int, creat64, (const char *, mode_t))                                                       \
	X(guard, int, mkstemp, (char *))                                                                     \
	X(guard, int, mkstemp64, (char *))                                                                   \
	X(guard, int, mkstemps, (char *, int))                                                               \
	X(guard, int, mkstemps64, (char *, int))                                                             \
	X(guard, int, mkostemp, (char *, int))                                                               \
	X(guard, int, mkostemp64, (char *, int))                                                             \
	X(guard, int, mkostemps, (char *, int, int))                                                         \
	X(guard, int, mkostemps64, (char *, int, int))
#else
#define SYMBOLS_GUARD(X)
#endif

#endif
