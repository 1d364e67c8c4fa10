/*
 * netio_recover.c - a process that shares the region is killed at any instruction, and
 * the next holder of the lock goes on.
 *
 * A child with a process slot of its own works at random on sockets, descriptions, sets and
 * watches, some of them the parent's too; the parent lets it run, steps it by single
 * instructions (ptrace) for a while and kills it. Its own next entry recovers the
 * region; before that, sometimes, another child's does, which dies at a store of the recovery. Everything
 * must be in order then, and again when the dead process was reaped; nothing of the parent's may be missing,
 * nothing of the child's be left.
 *
 * UTCP_TEST_RECOVER_KILLS=n asks for n kills (default 120).
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "netio/internal.h"
#include "tests/unit/netio_kit.h"
#include "tests/unit/store_watch.h"

#define MINE   12      /* sockets of the parent, and watches on them */
#define THEIRS 16      /* of a child */
#ifdef UTCP_INSTRUMENT /* most instructions are the instrument's, and before the lock */
#define STEPS_MAX 6000
#else
#define STEPS_MAX 1000 /* instructions */
#endif
#define OPS_MAX	    60	  /* before them */
#define KEY_THEIRS  10000 /* keys from here on are the child's */
#define BACKLOG	    4
#define END_STORES  800u
#define AGAIN_EVERY 4 /* kills, of which one is followed by a death in the recovery */

struct object {
	ref description, hold, sock;
};

static struct {
	struct netio *n;
	struct object mine[MINE];
	ref set, set_hold;  /* shared */
	struct waitset *ws; /* in which we are said to sleep */
	uint32_t processes; /* attached, without a child */
	uint32_t live[POOL_CLASS_COUNT];
} p;

static uint64_t rng;

static uint32_t pick(uint32_t below)
{
	rng = rng * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(rng >> 33) % below;
}

/* As preload makes them, in one hold of the lock. */
static struct object object_make(struct netio *n, struct stack_cx *cx)
{
	struct object o = {.sock = sock_create(cx)};

	if (!o.sock)
		return o;
	o.description = pool_alloc(cx, POOL_DESCRIPTION, o.sock);
	o.hold = o.description ? netio_hold(n, cx, o.description) : REF_NONE;
	if (o.hold)
		((struct shared_object *)pool_at(cx, o.description))->sock = o.sock;
	else
		sock_close(cx, o.sock);
	return o;
}

static void object_drop(struct netio *n, struct stack_cx *cx, struct object *o)
{
	struct shared_object *d = pool_at(cx, o->description);

	if (netio_unhold(n, cx, o->hold)) {
		if (d->sock) {
			watch_remove_socket(cx, d->sock);
			sock_close(cx, d->sock);
			d->sock = REF_NONE;
		}
		pool_free(cx, POOL_DESCRIPTION, o->description);
	}
	*o = (struct object){0};
}

static struct endpoint at_port(uint16_t port)
{
	return (struct endpoint){ipaddr_v4(127, 0, 0, 1), port};
}

/* ---------------------------------------------------------------- the child */

struct child {
	struct netio *n;
	struct object theirs[THEIRS];
	ref set, set_hold;
	struct waitset *ws;
	uint64_t key;
};

static void op_socket(struct child *c, struct stack_cx *cx)
{
	struct object *o = &c->theirs[pick(THEIRS)];
	char bytes[1500] = {0};
	struct endpoint to_now, any = {ipaddr_v4(0, 0, 0, 0), 0}, to = at_port((uint16_t)(2000 + pick(MINE)));

	if (!o->sock) {
		*o = object_make(c->n, cx);
		return;
	}
	if (sock_names(cx, o->sock, NULL, &to_now) && pick(4)) {
		sock_connect(cx, o->sock, &any, &to);
		stack_flush(cx);
	}
	switch (pick(8)) {
	case 0:
		object_drop(c->n, cx, o);
		break;
	case 1:
	case 2:
		sock_recv(cx, o->sock, &(struct iovec){bytes, sizeof bytes}, 1, 0);
		break;
	case 3:
		sock_shutdown(cx, o->sock, (int)pick(3));
		break;
	default:
		sock_send(cx, o->sock, &(struct iovec){bytes, 1 + pick(1500)}, 1, 0);
	}
}

static void op_watch(struct child *c, struct stack_cx *cx)
{
	static const uint32_t modes[] = {0, EPOLLET, EPOLLONESHOT, EPOLLEXCLUSIVE};
	ref set = pick(2) && c->set ? c->set : p.set;
	ref sock = pick(2) ? p.mine[pick(MINE)].sock : c->theirs[pick(THEIRS)].sock;
	ref w;

	switch (sock ? pick(5) : 4) {
	case 0:
	case 1:
		watch_add(cx, set, sock, (pick(2) ? SOCK_IN : SOCK_OUT) | modes[pick(4)], 7,
			  KEY_THEIRS + c->key++);
		break;
	case 2:
		w = watch_find(cx, set, KEY_THEIRS + pick((uint32_t)c->key + 1));
		if (w)
			watch_remove(cx, w);
		break;
	case 3:
		w = watch_find(cx, set, KEY_THEIRS + pick((uint32_t)c->key + 1));
		if (w)
			watch_modify(cx, w, SOCK_IN | SOCK_OUT, 8);
		break;
	default:
		watch_kernel_bits(cx, p.mine[pick(MINE)].sock, 0);
		watch_kernel_bits(cx, p.mine[pick(MINE)].sock, SOCK_IN);
	}
}

static void op_set(struct child *c, struct stack_cx *cx)
{
	struct watch_event ev[4];
	struct region_head *h = c->n->region.head;
	ref slot;

	switch (pick(6)) {
	case 0:
		if (!c->set) {
			c->set = evset_create(cx);
			c->set_hold = c->set ? netio_hold(c->n, cx, c->set) : REF_NONE;
		} else if (netio_unhold(c->n, cx, c->set_hold)) {
			evset_destroy(cx, c->set);
			c->set = REF_NONE;
		}
		break;
	case 1:
		evset_harvest(cx, c->set ? c->set : p.set, ev, 4);
		break;
	case 2:
		evset_harvest(cx, p.set, ev, 1);
		break;
	case 3: /* as before a fork() that fails */
		slot = proc_slot(c->n, cx);
		if (slot) {
			hold_new(cx, slot, p.mine[pick(MINE)].description);
			proc_reap(c->n, cx, slot);
		}
		h->making = REF_NONE;
		break;
	case 4:
		waitset_publish(c->ws, cx);
		break;
	default:
		netio_drive(c->n, cx);
	}
}

static void op(struct child *c)
{
	struct stack_cx *cx = netio_enter(c->n);
	uint32_t what = pick(10);

	/* Many at once: the time is to pass in them, and not in enter and leave. */
	for (uint32_t i = 1 + pick(12); i; i--) {
		if (what < 3)
			op_socket(c, cx);
		else if (what < 7)
			op_watch(c, cx);
		else
			op_set(c, cx);
	}
	netio_leave(c->n);
}

static _Noreturn void child_main(ref slot)
{
	struct child c = {.n = p.n};

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	p.n->proc = slot;
	if (waitset_create(p.n, &c.ws))
		_exit(1);
	for (uint32_t ops = pick(OPS_MAX); ops; ops--)
		op(&c);
	raise(SIGSTOP);
	for (;;)
		op(&c);
}

/* --------------------------------------------------------------- the parent */

static void in_order(struct stack_cx *cx, const char *when)
{
	const char *broken = stack_verify(cx);

	CHECK_MSG(!broken, "%s: %s", when, broken);
	broken = ready_verify(cx);
	CHECK_MSG(!broken, "%s: %s", when, broken);
	broken = procs_verify(p.n, cx);
	CHECK_MSG(!broken, "%s: %s", when, broken);
}

/* Watches, holds and sockets of ours are what they were. */
static void nothing_missing(struct stack_cx *cx)
{
	for (uint32_t i = 0; i < MINE; i++) {
		const struct shared_object *d = pool_at(cx, p.mine[i].description);
		ref w = watch_find(cx, p.set, i);

		CHECK(pool_valid(cx, POOL_DESCRIPTION, p.mine[i].description) && d->holders == (i ? 1 : 2));
		CHECK_EQ(d->sock, p.mine[i].sock);
		CHECK(pool_valid(cx, POOL_TCB, p.mine[i].sock));
		CHECK(w && watch_socket(cx, w) == p.mine[i].sock);
		int listening = 0;
		CHECK_EQ(sock_get_option(cx, p.mine[i].sock, SOCK_OPT_ACCEPTCONN, &listening), 0);
		CHECK_EQ(listening, 1);
	}
}

/* What the child did in common things: connections that nobody has accepted, watches in our set. */
static void tidy(struct stack_cx *cx)
{
	ref s;

	for (uint32_t i = 0; i < MINE; i++) {
		while ((s = sock_accept(cx, p.mine[i].sock)) != REF_NONE) {
			sock_abort(cx, s);
			sock_close(cx, s);
		}
		watch_kernel_bits(cx, p.mine[i].sock, 0);
		for (ref next, w = watch_first_of_socket(cx, p.mine[i].sock); w; w = next) {
			next = watch_next_of_socket(cx, w);
			if (watch_key(cx, w) >= KEY_THEIRS)
				watch_remove(cx, w);
		}
	}
}

/* Its last words are on the way still: until only what was there before is there. */
static void nothing_left(void)
{
	static const enum pool_class lasting[] = {POOL_TCB,  POOL_DESCRIPTION, POOL_EVSET, POOL_WATCH,
						  POOL_PROC, POOL_HOLD,	       POOL_CHUNK, POOL_CHUNK_SMALL};
	struct stack_cx *cx = netio_enter(p.n);

	for (int i = 0; i < 10000 && pool_live(cx, POOL_TCB) > p.live[POOL_TCB]; i++) {
		netio_leave(p.n);
		usleep(2000);
		cx = netio_enter(p.n);
		netio_drive(p.n, cx);
		tidy(cx);
	}
	for (uint32_t i = 0; i < ARRAY_LEN(lasting); i++)
		CHECK_MSG(pool_live(cx, lasting[i]) == p.live[lasting[i]], "class %u: %u are live, not %u",
			  lasting[i], pool_live(cx, lasting[i]), p.live[lasting[i]]);
	netio_leave(p.n);
}

static bool stopped(pid_t pid, int signal)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == signal;
}

static uint64_t dies_at; /* the store */
static struct {
	uint64_t stores; /* of a recovery that was not cut short */
	uint32_t deaths; /* in others */
} * again;		 /* shared */

static void at_a_store(struct store_watch *w)
{
	if (w->stores != dies_at)
		return;
	again->deaths++;
	watch_end(w); /* the kernel must be able to mark the lock */
	kill(getpid(), SIGKILL);
}

/* Whoever enters next recovers, and dies at it. All but the head is watched: that has the lock. */
static void recoverer_dies(ref slot)
{
	struct stack_cx *cx = &p.n->cx;
	struct store_watch w = {.at = cx->base, .len = stack_region_bytes(cx), .after = at_a_store};
	uint64_t recovered = p.n->region.head->recovered;
	pid_t pid;

	/* Half of them at the end: netio's part is small. */
	dies_at = 1 + (pick(2) ? pick((uint32_t)again->stores) : (uint32_t)again->stores - pick(END_STORES));
	pid = fork();
	CHECK_FATAL(pid >= 0);
	if (!pid) {
		p.n->proc = slot;
		watch_begin(&w);
		netio_enter(p.n);
		if (p.n->region.head->recovered > recovered) /* not so if it was killed outside */
			again->stores = w.stores;
		watch_end(&w);
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, NULL, 0);
}

/* True: it died inside. */
static bool one_kill(uint64_t seed)
{
	struct region_head *h = p.n->region.head;
	uint64_t recovered = h->recovered;
	struct stack_cx *cx = netio_enter(p.n);
	ref slot = proc_slot(p.n, cx);
	pid_t pid;

	netio_leave(p.n);
	rng = seed * 0x9e3779b97f4a7c15ull;
	uint32_t steps = pick(STEPS_MAX);
	fflush(stdout);
	pid = fork();
	CHECK_FATAL(pid >= 0);
	if (!pid)
		child_main(slot);
	bool sound = stopped(pid, SIGSTOP);
	for (; sound && steps; steps--)
		sound = ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0 && stopped(pid, SIGTRAP);
	CHECK_MSG(sound, "the child of seed %llu cannot be stepped", (unsigned long long)seed);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (STORE_WATCH && seed % AGAIN_EVERY == 0)
		recoverer_dies(slot);
	cx = netio_enter(p.n);
	in_order(cx, "after the recovery");
	nothing_missing(cx);
	CHECK_EQ(h->broken, 0);
	proc_reap(p.n, cx, slot);
	in_order(cx, "after the end of the process");
	tidy(cx);
	netio_drive(p.n, cx);
	in_order(cx, "after a drive");
	nothing_missing(cx);
	CHECK_EQ(h->proc_count, p.processes);
	netio_leave(p.n);
	nothing_left();
	if (CU_get_number_of_failures())
		printf("seed %llu\n", (unsigned long long)seed);
	return h->recovered > recovered;
}

static void set_up(void)
{
	struct netio_config c;
	struct stack_cx *cx;

	netio_config_defaults(&c);
	c.stack.addr = ipaddr_v4(127, 0, 0, 1);
	memcpy(c.stack_name, "none", sizeof "none");
	p.n = kit_attach("none", &c);
	CHECK_FATAL(p.n != NULL);
	CHECK_EQ(waitset_create(p.n, &p.ws), 0);
	cx = netio_enter(p.n);
	p.set = evset_create(cx);
	p.set_hold = netio_hold(p.n, cx, p.set);
	for (uint32_t i = 0; i < MINE; i++) {
		struct endpoint e = at_port((uint16_t)(2000 + i));

		p.mine[i] = object_make(p.n, cx);
		CHECK_EQ(sock_listen(cx, p.mine[i].sock, &e, BACKLOG), 0);
		CHECK_NE(watch_add(cx, p.set, p.mine[i].sock, SOCK_IN | (i % 3 ? 0 : EPOLLEXCLUSIVE), i, i),
			 REF_NONE);
	}
	/* One is on its way to another process as well: its hold is no process's. */
	p.n->region.head->passages = pool_alloc(cx, POOL_PROC, REF_NONE);
	CHECK_NE(hold_new(cx, p.n->region.head->passages, p.mine[0].description), REF_NONE);
	waitset_publish(p.ws, cx);
	p.processes = p.n->region.head->proc_count;
	for (int class = 1; class < POOL_CLASS_COUNT; class ++)
		p.live[class] = pool_live(cx, (enum pool_class) class);
	in_order(cx, "at the start");
	netio_leave(p.n);
}

static void any_instruction(void)
{
	const char *asked = getenv("UTCP_TEST_RECOVER_KILLS");
	unsigned long kills = asked ? strtoul(asked, NULL, 10) : 120;
	uint32_t inside = 0;

	again = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK_FATAL(again != MAP_FAILED);
	again->stores = 30000; /* more than there are */
	set_up();
	for (unsigned long i = 1; i <= kills && CU_get_number_of_failures() == 0; i++)
		inside += one_kill(i);
	printf(
	    "%lu kills, %u inside the lock, %llu connections reset; %u more in a recovery of %llu stores\n",
	    kills, inside, (unsigned long long)p.n->region.head->resets, again->deaths,
	    (unsigned long long)again->stores);
	CHECK_GT(inside, kills / 3);
	CHECK(!STORE_WATCH || again->deaths > kills / AGAIN_EVERY / 3);
	CHECK_EQ(netio_status(p.n), 0);
	netio_detach(p.n);
}

CHECK_MAIN("netio_recover", {"design D2: a process may be killed at any instruction", any_instruction})
