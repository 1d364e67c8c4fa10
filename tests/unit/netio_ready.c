/*
 * netio_ready.c - watches and ready lists against the kernel's epoll.
 *
 * The oracle is the kernel: the same random script of signals, additions,
 * changes, removals and waits runs over eventfds in an epoll set and over
 * sockets in an evset; events, their order and their data must be equal. A
 * listener whose "kernel bits" we set stands for an eventfd: it has no level of
 * its own.
 */
#include <sys/eventfd.h>

#include "tests/unit/netio_kit.h"

#define SOCKS 5
#define STEPS 200000

struct world {
	struct netio *n;
	ref set, sock[SOCKS];
	int epfd, event_fd[SOCKS];
	bool member[SOCKS], exclusive[SOCKS];
	uint64_t rng;
};

static uint32_t pick(struct world *w, uint32_t below)
{
	w->rng = w->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(w->rng >> 33) % below;
}

static void world_make(struct world *w, const char *device)
{
	struct stack_cx *cx;

	memset(w, 0, sizeof *w);
	w->n = kit_attach(device, NULL);
	CHECK_FATAL(w->n != NULL);
	w->epfd = epoll_create1(0);
	for (int i = 0; i < SOCKS; i++) {
		w->sock[i] = kit_listen(w->n, (uint16_t)(1000 + i));
		w->event_fd[i] = eventfd(0, EFD_NONBLOCK);
	}
	cx = netio_enter(w->n);
	w->set = evset_create(cx);
	netio_leave(w->n);
}

static void world_end(struct world *w)
{
	struct stack_cx *cx = netio_enter(w->n);

	evset_destroy(cx, w->set);
	for (int i = 0; i < SOCKS; i++) {
		CHECK_EQ(watch_first_of_socket(cx, w->sock[i]), REF_NONE);
		sock_close(cx, w->sock[i]);
	}
	netio_leave(w->n);
	for (int i = 0; i < SOCKS; i++)
		close(w->event_fd[i]);
	close(w->epfd);
	netio_detach(w->n);
}

static void signal_one(struct world *w, struct stack_cx *cx, int i)
{
	uint64_t one = 1;

	CHECK_EQ(write(w->event_fd[i], &one, 8), 8);
	watch_kernel_bits(cx, w->sock[i], 0);
	watch_kernel_bits(cx, w->sock[i], SOCK_IN); /* an edge each time, as each write is one */
}

static void clear_one(struct world *w, struct stack_cx *cx, int i)
{
	uint64_t count;

	if (read(w->event_fd[i], &count, 8) < 0)
		count = 0;
	watch_kernel_bits(cx, w->sock[i], 0);
}

static uint32_t random_mask(struct world *w)
{
	return (pick(w, 6) ? EPOLLIN : 0) | (pick(w, 3) == 0 ? (uint32_t)EPOLLET : 0) |
	       (pick(w, 4) == 0 ? EPOLLONESHOT : 0);
}

static void control(struct world *w, struct stack_cx *cx, int i)
{
	struct epoll_event e = {.events = random_mask(w),
				.data.u64 = (uint64_t)pick(w, 1000) << 33 | (uint64_t)i};
	ref r = watch_find(cx, w->set, (uint64_t)i);

	CHECK_EQ(r != REF_NONE, w->member[i]);
	if (!w->member[i]) {
		w->exclusive[i] = !(e.events & EPOLLONESHOT) && pick(w, 4) == 0;
		if (w->exclusive[i])
			e.events |= EPOLLEXCLUSIVE;
		CHECK_EQ(epoll_ctl(w->epfd, EPOLL_CTL_ADD, w->event_fd[i], &e), 0);
		CHECK_NE(watch_add(cx, w->set, w->sock[i], e.events, e.data.u64, (uint64_t)i), REF_NONE);
		w->member[i] = true;
	} else if (pick(w, 3) == 0) {
		CHECK_EQ(epoll_ctl(w->epfd, EPOLL_CTL_DEL, w->event_fd[i], &e), 0);
		watch_remove(cx, r);
		w->member[i] = false;
	} else if (!w->exclusive[i]) { /* the kernel refuses MOD of an exclusive member */
		CHECK_EQ(epoll_ctl(w->epfd, EPOLL_CTL_MOD, w->event_fd[i], &e), 0);
		watch_modify(cx, r, e.events, e.data.u64);
	}
}

static bool compare_wait(struct world *w, struct stack_cx *cx)
{
	struct epoll_event want[SOCKS];
	struct watch_event got[SOCKS];
	int max = 1 + (int)pick(w, SOCKS), a, b;

	a = epoll_wait(w->epfd, want, max, 0);
	b = evset_harvest(cx, w->set, got, max);
	if (!CHECK_EQ(b, a))
		return false;
	for (int i = 0; i < a; i++) {
		if (!CHECK_EQ(got[i].events, want[i].events) || !CHECK_EQ(got[i].data, want[i].data.u64))
			return false;
	}
	return true;
}

static void as_the_kernel(void)
{
	struct world w;
	struct stack_cx *cx;
	bool same = true;

	world_make(&w, "mem:ready");
	w.rng = 42;
	cx = netio_enter(w.n);
	for (int i = 0; i < STEPS && same; i++) {
		int s = (int)pick(&w, SOCKS);

		switch (pick(&w, 8)) {
		case 0:
		case 1:
		case 2:
			signal_one(&w, cx, s);
			break;
		case 3:
			clear_one(&w, cx, s);
			break;
		case 4:
			control(&w, cx, s);
			break;
		default:
			same = compare_wait(&w, cx);
		}
		if (!same)
			printf("diverged at step %d\n", i);
	}
	netio_leave(w.n);
	world_end(&w);
}

/* evset_ready() is what poll() says of the epoll descriptor. */
static void readiness_of_the_set(void)
{
	struct world w;
	struct stack_cx *cx;

	world_make(&w, "mem:ready2");
	w.rng = 7;
	cx = netio_enter(w.n);
	for (int i = 0; i < 20000; i++) {
		struct pollfd p = {.fd = w.epfd, .events = POLLIN};
		int s = (int)pick(&w, SOCKS);

		switch (pick(&w, 6)) {
		case 0:
			signal_one(&w, cx, s);
			break;
		case 1:
			clear_one(&w, cx, s);
			break;
		case 2:
			control(&w, cx, s);
			break;
		case 3:
			compare_wait(&w, cx);
			break;
		default:
			if (!CHECK_EQ(evset_ready(cx, w.set), poll(&p, 1, 0) == 1))
				i = 20000;
		}
	}
	netio_leave(w.n);
	world_end(&w);
}

/* The search tree: many keys, found, removed in another order, the rest still found. */
static void many_members(void)
{
	enum { COUNT = 5000 };
	static ref watch[COUNT];
	struct world w;
	struct stack_cx *cx;
	unsigned wrong = 0;

	world_make(&w, "mem:ready3");
	cx = netio_enter(w.n);
	for (uint64_t i = 0; i < COUNT; i++)
		watch[i] = watch_add(cx, w.set, w.sock[i % SOCKS], EPOLLIN, i, i * 3);
	CHECK_EQ(evset_watch_count(cx, w.set), COUNT);
	for (uint64_t i = 0; i < COUNT; i++)
		wrong +=
		    watch_find(cx, w.set, i * 3) != watch[i] || watch_find(cx, w.set, i * 3 + 1) != REF_NONE;
	for (uint64_t k = 0; k < COUNT; k++) {
		uint64_t i = k * 1237 % COUNT;

		if (i % 3)
			continue;
		watch_remove(cx, watch[i]);
		watch[i] = REF_NONE;
	}
	for (uint64_t i = 0; i < COUNT; i++)
		wrong += watch_find(cx, w.set, i * 3) != watch[i];
	CHECK_EQ(wrong, 0);
	watch_remove_socket(cx, w.sock[0]);
	CHECK_EQ(watch_first_of_socket(cx, w.sock[0]), REF_NONE);
	netio_leave(w.n);
	world_end(&w);
}

CHECK_MAIN("netio_ready", {"200000 random steps as the kernel's epoll: level, edge, oneshot", as_the_kernel},
	   {"an evset is ready when poll() says so of the kernel's set", readiness_of_the_set},
	   {"5000 members: find and remove by key", many_members})
