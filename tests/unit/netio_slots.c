/*
 * netio_slots.c - who reaps whom: messages to the keeper that are read late, and a line that hangs up
 * though its process lives.
 *
 * The program attaches to a TAP device in a network namespace of its own and is its
 * own keeper (executed again). It speaks to the keeper by hand.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "netio/internal.h"
#include "tests/unit/netio_kit.h"

#define WAIT_MS 10000

static struct netio *n;

/* What respawn.c executes is us. */
static void __attribute__((constructor)) keeper(void)
{
	const char *value = getenv(NETIO_KEEPER_VARIABLE);

	if (value)
		netio_keeper_main(value);
}

static void stack_begin(void)
{
	char self[512];
	ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);

	if (n)
		return;
	CHECK_FATAL(unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0);
	CHECK_FATAL(len > 0);
	self[len] = 0;
	netio_set_keeper(self, 0);
	n = kit_attach("tap:utcp0", NULL);
	CHECK_FATAL(n != NULL);
	CHECK_FATAL(n->keeper_fd >= 0);
}

/* The keeper has read everything that we sent on the line before. */
static void keeper_has_read(int line)
{
	struct flock mark = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)n->proc, .l_len = 1};
	uint32_t ask[2] = {MESSAGE_JOIN, 0};
	struct attach_message m;
	int fds[MESSAGE_FDS];

	CHECK_FATAL(message_send(line, ask, sizeof ask, NULL, 0) == 0);
	CHECK_FATAL(message_wait(line, WAIT_MS) == 0);
	CHECK(message_receive(line, &m, sizeof m, fds) == sizeof m);
	for (int i = 0; i < MESSAGE_FDS; i++)
		if (fds[i] >= 0)
			raw_close(fds[i]);
	/* One was the region's file: with its end our record lock went. */
	CHECK(RAW3(SYS_fcntl, n->region.fd, F_SETLK, &mark) == 0);
}

static bool current(ref proc, uint32_t serial)
{
	struct stack_cx *cx = netio_enter(n);
	bool yes = proc_is_current(cx, proc, serial);

	netio_leave(n);
	return yes;
}

static bool gone_soon(ref proc, uint32_t serial)
{
	for (int i = 0; i < WAIT_MS && current(proc, serial); i++)
		usleep(1000);
	return !current(proc, serial);
}

struct slot {
	ref proc;
	uint32_t serial;
};

static struct slot slot_make(void)
{
	struct stack_cx *cx = netio_enter(n);
	struct slot s = {.proc = proc_slot(n, cx)};

	CHECK_FATAL(s.proc);
	s.serial = ((struct proc *)pool_at(cx, s.proc))->serial;
	netio_leave(n);
	return s;
}

/* Our end of a line that is said to be that of slot s. */
static int line_announce(struct slot s)
{
	struct add_message m = {.type = MESSAGE_ADD, .proc = s.proc, .serial = s.serial};
	int pair[2];

	CHECK_FATAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	CHECK_FATAL(message_send(n->keeper_fd, &m, sizeof m, &pair[1], 1) == 0);
	close(pair[1]);
	return pair[0];
}

/* The word of a child that was reaped before it is read; the place is a newcomer's. */
static void word_of_the_dead(void)
{
	struct slot dead, heir;
	struct stack_cx *cx;
	int line, late;

	stack_begin();
	dead = slot_make();
	cx = netio_enter(n);
	proc_reap(n, cx, dead.proc);
	netio_leave(n);
	heir = slot_make();
	CHECK_EQ(heir.proc, dead.proc);
	CHECK(heir.serial != dead.serial);
	line = line_announce(heir);
	late = line_announce(dead);
	keeper_has_read(n->keeper_fd);
	CHECK(message_wait(late, WAIT_MS) == 0); /* hung up at once */
	close(late);
	keeper_has_read(n->keeper_fd);
	keeper_has_read(line);
	CHECK(current(heir.proc, heir.serial));
	close(line);
	CHECK(gone_soon(heir.proc, heir.serial));
}

/* Who has lost the line alone is not dead: he returns, and has his slot. */
static void line_without_a_death(void)
{
	struct slot other, own;
	nsec until;
	int line;

	stack_begin();
	other = slot_make();
	own = (struct slot){n->proc, n->serial};
	line = line_announce(other);
	keeper_has_read(n->keeper_fd);
	lock_acquire(n);
	fds_drop(&n->keeper_fd);
	lock_release(n);
	/* By the time of an answer on another line it knows. */
	keeper_has_read(line);
	keeper_has_read(line);
	CHECK(current(own.proc, own.serial));
	for (until = netio_now() + WAIT_MS * NS_PER_MS; n->keeper_fd < 0 && netio_now() < until;
	     usleep(1000)) {
		netio_enter(n);
		netio_leave(n);
	}
	keeper_has_read(n->keeper_fd);
	CHECK(current(own.proc, own.serial));
	CHECK(!netio_is_severed(n));
	close(line);
	CHECK(gone_soon(other.proc, other.serial));
}

/*
 * Slots that nobody has signed, and of which a new keeper has no line: that of a child killed with those who
 * knew of it is reaped while others live; that of a program which may not know of us is not.
 */
static void unsigned_slots(void)
{
	struct slot other, child, program;
	struct stack_cx *cx;
	int line;

	stack_begin();
	other = slot_make();
	child = slot_make();
	program = slot_make();
	cx = netio_enter(n);
	((struct proc *)pool_at(cx, child.proc))->forked = true;
	((struct proc *)pool_at(cx, child.proc))->doubted = 1; /* for longer than it takes */
	((struct proc *)pool_at(cx, program.proc))->doubted = 1;
	netio_leave(n);
	line = line_announce(other);
	keeper_has_read(n->keeper_fd);
	lock_acquire(n);
	fds_drop(&n->keeper_fd); /* it looks for us, and for all whose line it does not have */
	lock_release(n);
	CHECK(gone_soon(child.proc, child.serial));
	CHECK(current(program.proc, program.serial));
	CHECK(current(other.proc, other.serial));
	CHECK(!netio_is_severed(n));
	close(line);
	CHECK(gone_soon(other.proc, other.serial));
	CHECK(keeper_start(n) == 0);
	cx = netio_enter(n);
	proc_reap(n, cx, program.proc);
	netio_leave(n);
}

/* The kernel drops record locks when any descriptor of the file is closed. */
static bool is_marked(void)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(!proc_lives(n, n->proc));
	CHECK_FATAL(waitpid(pid, &status, 0) == pid);
	return status == 0;
}

static void mark_comes_back(void)
{
	int number;

	stack_begin();
	CHECK(is_marked());
	number = n->region.fd;
	CHECK(netio_vacate_fd(number) == 0);
	close(number); /* the application's dup2() */
	CHECK(!is_marked());
	CHECK(keeper_start(n) == 0);
	CHECK(is_marked());
}

static uint32_t severed_count;

static void on_severed(void)
{
	severed_count++;
}

static void no_line(const char *line)
{
	CHECK(strstr(line, "taken for dead"));
}

/* Ours is reaped: the next call is on a stack that nobody else has. Last: there is no way back. */
static void severed(void)
{
	struct region_head *shared;
	struct stack_cx *cx, there;
	int region, written = 0;
	struct timespec patience;
	uint64_t before;
	uint8_t *others;
	ref sock;

	stack_begin();
	cx = netio_enter(n);
	shared = n->region.head;
	sock = sock_create(cx);
	there = *cx;
	region = (int)RAW3(SYS_fcntl, n->region.fd, F_DUPFD_CLOEXEC, 3);
	others = mmap(NULL, shared->reserved, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, region, 0);
	CHECK_FATAL(others != MAP_FAILED && sock);
	there.base = others + REGION_HEAD_BYTES;
	netio_set_severed(on_severed);
	netio_set_report(no_line);
	proc_reap(n, cx, n->proc);
	netio_leave(n);
	before = stack_buffer_bytes(&there);
	CHECK_EQ(severed_count, 0);
	cx = netio_enter(n);
	CHECK_EQ(severed_count, 1);
	CHECK(netio_is_severed(n) && n->region.head != shared && !n->proc && n->keeper_fd < 0);
	clock_gettime(CLOCK_REALTIME, &patience);
	patience.tv_sec += 20;
	CHECK_EQ(pthread_mutex_timedlock(&shared->lock, &patience),
		 0); /* given back; the keeper may have it */
	pthread_mutex_unlock(&shared->lock);
	memset(pool_at(cx, sock), 0xff, 64); /* what a call in progress might do */
	for (int i = 0; i < 64; i++)
		written += ((uint8_t *)pool_at(&there, sock))[i] == 0xff;
	CHECK(written < 64);
	memset(pool_at(cx, sock), 0, 64);
	CHECK(netio_hold(n, cx, sock) == REF_NONE);
	CHECK(!netio_unhold(n, cx, sock));
	netio_drive(n, cx);
	netio_leave(n);
	CHECK_EQ(stack_buffer_bytes(&there), before);
	CHECK(keeper_start(n) != 0);
	netio_before_fork(n, NULL);
	CHECK(!n->forking.locked);
	netio_enter(n);
	netio_leave(n);
	CHECK_EQ(severed_count, 1);
	netio_set_report(NULL);
	netio_detach(n);
	munmap(others, shared->reserved);
	close(region);
}

CHECK_MAIN("netio_slots", {"the word of a dead child does not reap the heir of its place", word_of_the_dead},
	   {"a life line that ends is no death", line_without_a_death},
	   {"slots that nobody has signed", unsigned_slots},
	   {"the mark of who lives comes back", mark_comes_back},
	   {"a process whose slot was reaped touches nothing of the stack", severed})
