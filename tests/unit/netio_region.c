/*
 * netio_region.c - the region under limits, the lock after a death, and our
 * descriptors' numbers.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "netio/internal.h"
#include "tests/unit/netio_kit.h"

#define MIB (1ull << 20)

/* Run f in a child; its exit status, or 1000 + the signal that killed it. */
static int in_child(int (*f)(void))
{
	int status = 0;
	pid_t p;

	fflush(stdout);
	p = fork();
	if (p == 0)
		_exit(f());
	waitpid(p, &status, 0);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void grows_in_place(void)
{
	struct region r = {.fd = -1};
	char why[256] = "";
	uint8_t *base, *p;

	CHECK_EQ(sys_init(), 0);
	CHECK_FATAL(region_create(&r, why, sizeof why) == 0);
	base = (uint8_t *)r.head + REGION_HEAD_BYTES;
	CHECK_EQ((uintptr_t)base % 4096, 0);
	for (uint64_t want = 1 * MIB; want <= 256 * MIB; want *= 2) {
		CHECK_EQ(region_grow(&r, want), 0);
		CHECK_GE(r.head->limit, want);
		p = base + r.head->limit - 1;
		*p = 1; /* usable to the last byte */
	}
	CHECK_EQ(region_grow(&r, r.reserved + MIB), -ENOMEM);
	/* F_SEAL_SHRINK: nobody can make it a SIGBUS. */
	CHECK_EQ(ftruncate(r.fd, 4096), -1);
	CHECK(fcntl(r.fd, F_GETFD) & FD_CLOEXEC);
	region_destroy(&r);
	CHECK_EQ(r.fd, -1);
}

static int under_fsize(void)
{
	struct rlimit l = {16 * MIB, 16 * MIB};
	struct region r = {.fd = -1};
	char why[256];
	sigset_t pending;

	if (sys_init() || region_create(&r, why, sizeof why))
		return 1;
	setrlimit(RLIMIT_FSIZE, &l);
	if (region_grow(&r, 15 * MIB) != 0) /* the generous step is refused, the bare need fits */
		return 2;
	if (region_grow(&r, 17 * MIB) != -ENOMEM)
		return 3;
	sigpending(&pending);
	if (sigismember(&pending, SIGXFSZ))
		return 4;
	((uint8_t *)r.head)[REGION_HEAD_BYTES + 15 * MIB - 1] = 1;
	return 0;
}

static int fsize_too_small(void)
{
	struct rlimit l = {MIB, MIB};
	struct region r = {.fd = -1};
	char why[256] = "";

	setrlimit(RLIMIT_FSIZE, &l);
	if (sys_init() || region_create(&r, why, sizeof why) != -ENOMEM)
		return 1;
	return strstr(why, "ulimit -f") ? 0 : 2;
}

static int under_as(void)
{
	struct rlimit l = {256 * MIB, 256 * MIB};
	struct region r = {.fd = -1};
	char why[256] = "";

	setrlimit(RLIMIT_AS, &l);
	if (sys_init() || region_create(&r, why, sizeof why))
		return 1;
	if (r.reserved > 32 * MIB)
		return 2;
	if (region_grow(&r, r.reserved) != -ENOMEM)
		return 3;
	return region_grow(&r, r.reserved - REGION_HEAD_BYTES) ? 4 : 0;
}

static void limits(void)
{
	CHECK_EQ(in_child(under_fsize), 0);
	CHECK_EQ(in_child(fsize_too_small), 0);
	/* Sanitizers need terabytes of address space. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	CHECK_EQ(in_child(under_as), 0);
#else
	(void)under_as;
#endif
}

/* A whole stack that runs out of region says "no memory", and stays sound. */
static int stack_under_fsize(void)
{
	struct rlimit l = {6 * MIB, 6 * MIB};
	struct netio_config c;
	struct netio *n = NULL;
	struct stack_cx *cx;
	char why[256];
	int made = 0;

	netio_config_defaults(&c);
	memcpy(c.device, "mem:small", sizeof "mem:small");
	setrlimit(RLIMIT_FSIZE, &l);
	if (netio_attach(&c, &n, why, sizeof why))
		return 1;
	cx = netio_enter(n);
	while (made < 1000000 && sock_create(cx))
		made++;
	if (made == 1000000 || made < 1000 || stack_verify(cx))
		return 2;
	netio_leave(n);
	return 0;
}

static void stack_out_of_memory(void)
{
	CHECK_EQ(in_child(stack_under_fsize), 0);
}

/* A holder of the lock dies; the next one goes on. */
static void owner_dies(void)
{
	struct netio *n = kit_attach("mem:death", NULL);
	struct stack_cx *cx;
	int status;
	pid_t p;

	CHECK_FATAL(n != NULL);
	for (int i = 1; i <= 20; i++) {
		p = fork();
		if (p == 0) {
			netio_enter(n);
			raise(SIGKILL);
		}
		waitpid(p, &status, 0);
		cx = netio_enter(n);
		CHECK_EQ(n->region.head->recovered, i);
		CHECK_NE(sock_create(cx), REF_NONE);
		netio_leave(n);
	}
	CHECK_EQ(netio_status(n), 0);
	netio_detach(n);
}

static void descriptors(void)
{
	int fd = dup(0), low, moved = -1, old;

	CHECK_EQ(sys_init(), 0);
	CHECK_EQ(netio_owns_fd(fd), false);
	CHECK_EQ(netio_owns_fd(-1), false);
	CHECK_EQ(netio_owns_fd(1 << 30), false);
	CHECK_EQ(netio_protect_fd_at(fd, &moved), 0);
	CHECK_GE(moved, 500);
	CHECK(netio_owns_fd(moved));
	CHECK(fcntl(moved, F_GETFD) & FD_CLOEXEC);
	low = dup(0);
	CHECK_EQ(low, fd); /* the low number is free again */
	old = moved;
	CHECK_EQ(netio_vacate_fd(old), 0);
	CHECK_NE(moved, old);
	CHECK(netio_owns_fd(moved));
	CHECK(!netio_owns_fd(old));
	CHECK_EQ(dup2(low, old), old);
	CHECK_EQ(netio_vacate_fd(low), -EBADF);
	close(low);
	close(old);
	netio_unprotect_close(moved);
	CHECK_EQ(fcntl(moved, F_GETFD), -1);
}

/* The application takes the numbers of a running stack, one after the other; traffic goes on. */
static void vacate_everything(void)
{
	struct netio *a = kit_attach("mem:vacate", NULL), *b = kit_attach("mem:vacate", NULL);
	struct kit_sock listener, client, server;
	int null = open("/dev/null", O_RDWR);
	char c = 'x';

	CHECK_FATAL(a && b);
	CHECK_EQ(netio_start_driver(a), 0);
	CHECK_EQ(netio_start_driver(b), 0);
	CHECK_FATAL(kit_watch(&listener, b, kit_listen(b, 80)));
	CHECK_FATAL(kit_connect(&client, a, ipaddr_v4(10, 77, 0, 2), 80));
	CHECK_FATAL(kit_accept(&listener, &server));
	for (int fd = 3; fd < 1200; fd++) {
		if (!netio_owns_fd(fd))
			continue;
		CHECK_EQ(netio_vacate_fd(fd), 0);
		CHECK_EQ(dup2(null, fd), fd);
		CHECK_EQ(kit_send(&client, &c, 1), 1);
		CHECK_EQ(kit_recv(&server, &c, 1), 1);
	}
	kit_close(&client);
	kit_close(&server);
	kit_close(&listener);
	netio_detach(a);
	netio_detach(b);
	for (int fd = 3; fd < 1200; fd++)
		close(fd);
}

CHECK_MAIN("netio_region", {"D2: grows in place, sealed, close-on-exec", grows_in_place},
	   {"RLIMIT_FSIZE and RLIMIT_AS: no signal, -ENOMEM", limits},
	   {"a stack without room for more stays sound", stack_out_of_memory},
	   {"a lock holder killed by SIGKILL: the next one goes on", owner_dies},
	   {"our descriptors are high, known, and move away", descriptors},
	   {"all numbers of a running stack taken by dup2", vacate_everything})
