/*
 * rawsys.h - system calls without the C library.
 *
 * The data path runs inside arbitrary application threads. libc's read(),
 * write() and close() are cancellation points and write errno: a thread
 * cancelled in the middle of netio_leave() would keep the lock for ever, and a
 * wrapper that succeeds must leave errno alone. So everything that netio calls
 * except the two blocking waits (sys.epoll_pwait2, sys.ppoll) comes through
 * here: no cancellation, no errno, a negative errno as the result.
 */
#ifndef NETIO_RAWSYS_H
#define NETIO_RAWSYS_H

#include <errno.h>
#include <sys/syscall.h>
#include <sys/types.h>

#if defined(__x86_64__)
static inline long raw6(long nr, long a, long b, long c, long d, long e, long f)
{
	long r;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}
#elif defined(__aarch64__)
static inline long raw6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}
#else
#error "libutcp supports x86-64 and aarch64"
#endif

#define RAW1(nr, a)	     raw6((nr), (long)(a), 0, 0, 0, 0, 0)
#define RAW2(nr, a, b)	     raw6((nr), (long)(a), (long)(b), 0, 0, 0, 0)
#define RAW3(nr, a, b, c)    raw6((nr), (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define RAW4(nr, a, b, c, d) raw6((nr), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define RAW6(nr, a, b, c, d, e, f)                                                                           \
	raw6((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static inline long raw_read(int fd, void *p, size_t n)
{
	return RAW3(SYS_read, fd, p, n);
}
static inline long raw_write(int fd, const void *p, size_t n)
{
	return RAW3(SYS_write, fd, p, n);
}
#ifdef __SANITIZE_THREAD__
long raw_close(int fd); /* sys.c */
#else
static inline long raw_close(int fd)
{
	return RAW1(SYS_close, fd);
}
#endif
static inline long raw_ioctl(int fd, unsigned long request, const void *arg)
{
	return RAW3(SYS_ioctl, fd, request, arg);
}

#endif
