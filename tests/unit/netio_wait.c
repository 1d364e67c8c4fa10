/*
 * netio_wait.c - sleeping and waking (design D3, traps 2, 16, 31, 32, 33): no
 * wake-up is lost between unlock and sleep, a cancelled or interrupted sleeper
 * leaves no trace, a frame never waits beside sleepers, and the retransmission
 * timer works whoever sleeps.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>

#include "netio/internal.h"
#include "tests/asleep.h"
#include "tests/unit/netio_kit.h"

#define THREADS 8

struct cable {
	struct netio *a, *b; /* 10.77.0.1, 10.77.0.2 */
	struct kit_sock listener;
};

static void cable_up(struct cable *c, const char *name, uint32_t pause_us, uint32_t spin_us)
{
	struct netio_config config;

	netio_config_defaults(&config);
	config.test_pause_us = pause_us;
	config.spin_us = spin_us;
	c->a = kit_attach(name, &config);
	c->b = kit_attach(name, &config);
	CHECK_FATAL(c->a && c->b);
	CHECK_FATAL(kit_watch(&c->listener, c->b, kit_listen(c->b, 80)));
}

static void cable_down(struct cable *c)
{
	kit_close(&c->listener);
	netio_detach(c->a);
	netio_detach(c->b);
}

static void drive(struct netio *n)
{
	struct stack_cx *cx = netio_enter(n);

	netio_drive(n, cx);
	netio_leave(n);
}

/* A connection, made by hand: works without drivers and other threads. */
static void cable_connect(struct cable *c, struct kit_sock *client, struct kit_sock *server)
{
	struct endpoint local = {.addr = ipaddr_v4(0, 0, 0, 0)};
	struct endpoint remote = {.addr = ipaddr_v4(10, 77, 0, 2), .port = 80};
	struct stack_cx *cx = netio_enter(c->a);
	ref s = sock_create(cx);

	CHECK_EQ(sock_connect(cx, s, &local, &remote), -EINPROGRESS);
	netio_leave(c->a);
	for (int i = 0; i < 20; i++) {
		drive(c->b);
		drive(c->a);
	}
	CHECK_FATAL(kit_watch(client, c->a, s));
	CHECK_FATAL(kit_accept(&c->listener, server));
}

/* ------------------------------------------------------------ lost wake-ups */

struct ping {
	struct kit_sock k;
	int rounds;
	int64_t err;
};

static void *ponger(void *arg)
{
	struct ping *p = arg;
	char c;

	for (int i = 0; i < p->rounds && !p->err; i++) {
		if ((p->err = kit_recv(&p->k, &c, 1)) != 1)
			break;
		p->err = kit_send(&p->k, &c, 1) == 1 ? 0 : -EIO;
	}
	return NULL;
}

static void *pinger(void *arg)
{
	struct ping *p = arg;
	char c = 'x';

	for (int i = 0; i < p->rounds && !p->err; i++) {
		if (kit_send(&p->k, &c, 1) != 1 || kit_recv(&p->k, &c, 1) != 1)
			p->err = -EIO;
	}
	return NULL;
}

/* Several pairs of threads over one cable: each frame wakes somebody, who must ring the right one. */
static void ping_pong(const char *name, uint32_t pause_us, uint32_t spin_us, int rounds)
{
	struct ping a[THREADS / 2] = {0}, b[THREADS / 2] = {0};
	pthread_t ta[THREADS / 2], tb[THREADS / 2];
	struct cable c;

	cable_up(&c, name, pause_us, spin_us);
	CHECK_EQ(netio_start_driver(c.a), 0);
	CHECK_EQ(netio_start_driver(c.b), 0);
	for (int i = 0; i < THREADS / 2; i++) {
		a[i].rounds = b[i].rounds = rounds;
		cable_connect(&c, &a[i].k, &b[i].k);
	}
	for (int i = 0; i < THREADS / 2; i++) {
		pthread_create(&ta[i], NULL, pinger, &a[i]);
		pthread_create(&tb[i], NULL, ponger, &b[i]);
	}
	for (int i = 0; i < THREADS / 2; i++) {
		pthread_join(ta[i], NULL);
		pthread_join(tb[i], NULL);
		CHECK_EQ(a[i].err, 0);
		CHECK_EQ(b[i].err, 0);
		kit_close(&a[i].k);
		kit_close(&b[i].k);
	}
	cable_down(&c);
}

static void no_lost_wakeup(void)
{
	ping_pong("mem:ping", 0, 0, 4000);
	ping_pong("mem:pause", 300, 0, 200);
	ping_pong("mem:spin", 0, 20, 1000);
}

/* ------------------------------------------------------------ cancellation */

static void *blocked_reader(void *arg)
{
	struct kit_sock *k = arg;
	struct wait_result r;
	struct stack_cx *cx;

	for (;;) {
		cx = netio_enter(k->n);
		netio_drive(k->n, cx);
		if (sock_events(cx, k->s) & SOCK_IN) {
			netio_leave(k->n);
			return (void *)1;
		}
		waitset_publish(k->ws, cx);
		netio_leave(k->n);
		pthread_cleanup_push(waitset_cleanup, k->ws);
		waitset_block(k->ws, NSEC_NEVER, NULL, &r);
		pthread_cleanup_pop(0);
		cx = netio_enter(k->n);
		waitset_withdraw(k->ws, cx);
		netio_leave(k->n);
	}
}

/*
 * Half of the sleepers are cancelled while frames arrive for the other half: one
 * of the cancelled may have been elected for a frame that is somebody else's.
 */
static void cancelled_sleepers(void)
{
	struct kit_sock client[THREADS], server[THREADS];
	pthread_t t[THREADS];
	struct cable c;
	void *status;

	cable_up(&c, "mem:cancel", 0, 0);
	CHECK_EQ(netio_start_driver(c.b), 0);
	for (int round = 0; round < 30; round++) {
		for (int i = 0; i < THREADS; i++)
			cable_connect(&c, &client[i], &server[i]);
		for (int i = 0; i < THREADS; i++)
			pthread_create(&t[i], NULL, blocked_reader, &server[i]);
		usleep(1000);
		for (int i = 0; i < THREADS; i++) {
			if (i % 2)
				pthread_cancel(t[(i + round) % THREADS]);
			else
				CHECK_EQ(kit_send(&client[(i + round) % THREADS], "x", 1), 1);
		}
		for (int i = 0; i < THREADS; i++) {
			pthread_join(t[(i + round) % THREADS], &status);
			if (i % 2 == 0)
				CHECK_EQ((intptr_t)status, 1);
		}
		for (int i = 0; i < THREADS; i++) {
			kit_close(&client[i]);
			kit_close(&server[i]);
		}
	}
	/* No waiter is left counted: the driver takes over. */
	cable_connect(&c, &client[0], &server[0]);
	struct netio_counters before, after;
	usleep(30000);
	netio_counters(c.b, &before);
	CHECK_EQ(kit_send(&client[0], "x", 1), 1);
	for (int i = 0; i < 4000; i++) {
		netio_counters(c.b, &after);
		if (after.rx_helper > before.rx_helper)
			break;
		usleep(5000);
	}
	CHECK_GT(after.rx_helper, before.rx_helper);
	kit_close(&client[0]);
	kit_close(&server[0]);
	cable_down(&c);
}

/* ------------------------------------------------------------ signals */

static sigjmp_buf escape;
static bool jump;
static int handled;

static void on_signal(int sig)
{
	struct waitset *ws = waitset_sleeping();

	(void)sig;
	handled++;
	if (!ws)
		return;
	waitset_suspend(ws);
	CHECK(waitset_sleeping() == NULL);
	usleep(20000); /* the application's handler takes its time; the driver looks after the stack */
	if (jump)
		siglongjmp(escape, 1);
	waitset_resume(ws);
}

static void *kicker(void *arg)
{
	until_asleep(getpid()); /* the main thread */
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

static void interrupted_sleeper(void)
{
	struct sigaction sa = {.sa_handler = on_signal};
	struct netio_counters before, after;
	struct kit_sock client, server;
	struct wait_result r;
	struct stack_cx *cx;
	pthread_t self = pthread_self(), t;
	struct cable c;
	char ch;

	cable_up(&c, "mem:signal", 0, 0);
	CHECK_EQ(netio_start_driver(c.b), 0);
	cable_connect(&c, &client, &server);
	sigaction(SIGUSR1, &sa, NULL);
	/* A normal return: the wait ends with EINTR, the slot is as it was. */
	cx = netio_enter(c.b);
	waitset_publish(server.ws, cx);
	netio_leave(c.b);
	pthread_create(&t, NULL, kicker, &self);
	CHECK_EQ(waitset_block(server.ws, netio_now() + 5 * NS_PER_S, NULL, &r), -EINTR);
	CHECK(waitset_sleeping() == NULL);
	cx = netio_enter(c.b);
	waitset_withdraw(server.ws, cx);
	netio_leave(c.b);
	pthread_join(t, NULL);
	/* siglongjmp() out of it (trap 33): nobody is counted as waiting, the driver takes frames. */
	jump = true;
	pthread_create(&t, NULL, kicker, &self);
	if (sigsetjmp(escape, 1) == 0) {
		cx = netio_enter(c.b);
		waitset_publish(server.ws, cx);
		netio_leave(c.b);
		waitset_block(server.ws, netio_now() + 5 * NS_PER_S, NULL, &r);
		CHECK_MSG(false, "the handler came back");
	}
	pthread_join(t, NULL);
	CHECK_EQ(handled, 2);
	netio_counters(c.b, &before);
	CHECK_EQ(kit_send(&client, "x", 1), 1);
	for (int i = 0; i < 4000; i++) {
		netio_counters(c.b, &after);
		if (after.rx_helper > before.rx_helper)
			break;
		usleep(5000);
	}
	CHECK_GT(after.rx_helper, before.rx_helper);
	CHECK_EQ(kit_recv(&server, &ch, 1), 1);
	kit_close(&client);
	kit_close(&server);
	cable_down(&c);
}

/* ------------------------------------------------------------ time */

static void timeouts(void)
{
	struct wait_result r;
	struct kit_sock client, server;
	struct stack_cx *cx;
	struct cable c;
	int pipe_fd[2];
	nsec from;

	cable_up(&c, "mem:time", 0, 0);
	cable_connect(&c, &client, &server);
	cx = netio_enter(c.b);
	waitset_publish(server.ws, cx);
	netio_leave(c.b);
	from = netio_now();
	CHECK_EQ(waitset_block(server.ws, from + 30 * NS_PER_MS, NULL, &r), 0);
	while (!r.timed_out) /* a late ACK or the lazy timer may come first */
		CHECK_EQ(waitset_block(server.ws, from + 30 * NS_PER_MS, NULL, &r), 0);
	CHECK_GE(netio_now() - from, 30 * NS_PER_MS);
	CHECK_EQ(waitset_block(server.ws, 1, NULL, &r), 0); /* a deadline in the past: one look */

	CHECK_EQ(pipe(pipe_fd), 0);
	struct pollfd p[2] = {{.fd = pipe_fd[0], .events = POLLIN}, {.fd = -1, .revents = 7}};
	CHECK_EQ(write(pipe_fd[1], "x", 1), 1);
	CHECK_EQ(waitset_block_poll(server.ws, p, 2, NSEC_NEVER, NULL, &r), 0);
	CHECK_EQ(p[0].revents, POLLIN);
	CHECK_EQ(p[1].revents, 0);
	CHECK(!r.timed_out);
	/* More descriptors than fit on the stack. */
	static struct pollfd many[300];
	for (int i = 0; i < 300; i++)
		many[i] = (struct pollfd){.fd = pipe_fd[0], .events = POLLIN};
	CHECK_EQ(waitset_block_poll(server.ws, many, 300, NSEC_NEVER, NULL, &r), 0);
	CHECK_EQ(many[299].revents, POLLIN);
	/* Extra members report by tag. */
	CHECK_EQ(waitset_add_fd(server.ws, pipe_fd[0], EPOLLIN, 0x123456789abcdefull), 0);
	CHECK_EQ(waitset_block(server.ws, NSEC_NEVER, NULL, &r), 0);
	CHECK_EQ(r.tag_count, 1);
	CHECK_EQ(r.tag[0], 0x123456789abcdefull);
	CHECK_EQ(r.tag_events[0], EPOLLIN);
	CHECK_EQ(waitset_del_fd(server.ws, pipe_fd[0]), 0);
	cx = netio_enter(c.b);
	waitset_withdraw(server.ws, cx);
	netio_leave(c.b);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	kit_close(&client);
	kit_close(&server);
	cable_down(&c);
}

static void *sleeper(void *arg)
{
	char c;

	return (void *)(intptr_t)kit_recv(arg, &c, 1);
}

/*
 * Trap 32: A sleeps without a deadline; B then sends into a void and computes.
 * The SYN is sent again on time, by whoever the stack's timer wakes.
 */
static void deadline_of_another(bool with_sleeper, bool with_driver)
{
	struct endpoint local = {.addr = ipaddr_v4(0, 0, 0, 0)};
	struct endpoint remote = {.addr = ipaddr_v4(10, 77, 0, 2), .port = 81};
	struct netio_counters before, after;
	struct kit_sock client, server;
	struct stack_cx *cx;
	pthread_t t = 0;
	struct cable c;
	ref s;

	cable_up(&c, "mem:deadline", 0, 0);
	cable_connect(&c, &client, &server);
	if (with_driver)
		CHECK_EQ(netio_start_driver(c.a), 0);
	if (with_sleeper)
		pthread_create(&t, NULL, sleeper, &client);
	usleep(300000); /* the sleeper sleeps, old timers have run out */
	cx = netio_enter(c.a);
	netio_drive(c.a, cx);
	s = sock_create(cx);
	CHECK_EQ(sock_connect(cx, s, &local, &remote), -EINPROGRESS);
	netio_leave(c.a);
	netio_counters(c.a, &before);
	/* Nobody drives b: no answer. "Compute" until the SYN has gone out again, or for ever. */
	for (int i = 0; i < 3000; i++) {
		netio_counters(c.a, &after);
		if (after.tx_frames > before.tx_frames)
			break;
		usleep(10000);
	}
	CHECK_GT(after.tx_frames, before.tx_frames);
	if (with_sleeper) {
		CHECK_EQ(kit_send(&server, "x", 1), 1);
		pthread_join(t, NULL);
	}
	kit_close(&client);
	kit_close(&server);
	cx = netio_enter(c.a);
	sock_close(cx, s);
	netio_leave(c.a);
	cable_down(&c);
}

static void stack_timer(void)
{
	deadline_of_another(true, false);
	deadline_of_another(false, true);
	deadline_of_another(true, true);
}

/* ------------------------------------------------------------ a shared set and its bell */

struct team {
	struct waitset *ws;
	struct netio *n;
	_Atomic int taken;
	int total;
};

/* As epoll_wait() on one epoll set by many threads: one event at a time. */
static void *team_member(void *arg)
{
	struct team *team = arg;
	struct watch_event e;
	struct wait_result r;
	struct stack_cx *cx;
	int got;

	while (atomic_load(&team->taken) < team->total) {
		cx = netio_enter(team->n);
		netio_drive(team->n, cx);
		got = evset_harvest(cx, waitset_evset(team->ws), &e, 1);
		if (!got)
			waitset_publish(team->ws, cx);
		netio_leave(team->n);
		if (got) {
			atomic_fetch_add(&team->taken, 1);
			continue;
		}
		waitset_block(team->ws, netio_now() + 60 * NS_PER_S, NULL, &r);
		cx = netio_enter(team->n);
		waitset_withdraw(team->ws, cx);
		netio_leave(team->n);
		if (r.timed_out && atomic_load(&team->taken) < team->total)
			return (void *)1;
	}
	return NULL;
}

/* Edges on 16 sockets at a time, four threads on one set with an exposed bell: each edge is taken once. */
static void shared_set(void)
{
	enum { SOCKS = 16, ROUNDS = 200, MEMBERS = 4 };
	struct team team = {.total = SOCKS * ROUNDS};
	struct netio *n = kit_attach("mem:team", NULL);
	pthread_t t[MEMBERS];
	struct stack_cx *cx;
	ref s[SOCKS];
	void *status;

	CHECK_FATAL(n != NULL);
	CHECK_FATAL(waitset_create(n, &team.ws) == 0);
	CHECK_GE(waitset_bell(team.ws), 0);
	team.n = n;
	for (uint16_t i = 0; i < SOCKS; i++) {
		s[i] = kit_listen(n, (uint16_t)(100 + i));
		cx = netio_enter(n);
		watch_add(cx, waitset_evset(team.ws), s[i], EPOLLIN | EPOLLET, i, i);
		netio_leave(n);
	}
	for (int i = 0; i < MEMBERS; i++)
		pthread_create(&t[i], NULL, team_member, &team);
	for (int round = 0; round < ROUNDS; round++) {
		cx = netio_enter(n);
		for (int i = 0; i < SOCKS; i++) {
			watch_kernel_bits(cx, s[i], 0);
			watch_kernel_bits(cx, s[i], SOCK_IN);
		}
		netio_leave(n);
		for (int i = 0; i < 200000 && atomic_load(&team.taken) < (round + 1) * SOCKS; i++)
			usleep(100);
		if (!CHECK_EQ(atomic_load(&team.taken), (round + 1) * SOCKS))
			break;
	}
	for (int i = 0; i < MEMBERS; i++) {
		/* the last ones may sleep: one more edge each */
		cx = netio_enter(n);
		watch_kernel_bits(cx, s[i], 0);
		watch_kernel_bits(cx, s[i], SOCK_IN);
		netio_leave(n);
		usleep(1000);
	}
	for (int i = 0; i < MEMBERS; i++) {
		pthread_join(t[i], &status);
		CHECK_EQ((intptr_t)status, 0);
	}
	waitset_destroy(team.ws);
	netio_detach(n);
}

/* The bell as a level: up while the set has something, down with the last entry (D5, nested sets). */
static void bell_is_a_level(void)
{
	struct netio *n = kit_attach("mem:bell", NULL);
	struct waitset *ws;
	struct watch_event e[4];
	struct stack_cx *cx;
	struct pollfd p = {.events = POLLIN};
	ref s;

	CHECK_FATAL(n != NULL);
	CHECK_FATAL(waitset_create(n, &ws) == 0);
	p.fd = waitset_bell(ws);
	s = kit_listen(n, 80);
	cx = netio_enter(n);
	watch_add(cx, waitset_evset(ws), s, EPOLLIN, 1, 1);
	watch_kernel_bits(cx, s, SOCK_IN);
	CHECK_EQ(poll(&p, 1, 0), 0); /* nobody waits, nobody watches */
	waitset_ring_always(ws, cx, true);
	CHECK_EQ(poll(&p, 1, 0), 1);
	CHECK_EQ(evset_harvest(cx, waitset_evset(ws), e, 4), 1);
	CHECK_EQ(poll(&p, 1, 0), 1); /* level-triggered: still there */
	watch_kernel_bits(cx, s, 0);
	CHECK_EQ(evset_harvest(cx, waitset_evset(ws), e, 4), 0);
	CHECK_EQ(poll(&p, 1, 0), 0);
	watch_kernel_bits(cx, s, SOCK_IN);
	CHECK_EQ(poll(&p, 1, 0), 1);
	watch_remove_socket(cx, s);
	CHECK_EQ(poll(&p, 1, 0), 0);
	sock_close(cx, s);
	netio_leave(n);
	waitset_destroy(ws);
	netio_detach(n);
}

/* ------------------------------------------------------------ the parked driver */

/* Another process's driver, which parks after ours was woken and before it slept. */
static void *parks_too(void *arg)
{
	struct region_head *h = arg;

	while (atomic_load(&h->parked))
		usleep(10);
	atomic_store(&h->parked, 1);
	return NULL;
}

/* A driver between its last look and its sleep is not passed over. */
static void driver_parks(void)
{
	struct netio_config config;
	struct region_head *h;
	struct waitset *ws;
	struct netio *n;
	pthread_t other;

	netio_config_defaults(&config);
	config.test_pause_us = 50000;
	n = kit_attach("none", &config);
	CHECK_FATAL(n && waitset_create(n, &ws) == 0);
	h = n->region.head;
	waitset_publish(ws, netio_enter(n));
	netio_leave(n);
	CHECK_EQ(netio_start_driver(n), 0);
	while (!atomic_load(&h->parked)) /* and pauses now */
		usleep(1000);
	pthread_create(&other, NULL, parks_too, h);
	alarm(20);
	CHECK(netio_pause_driver(n)); /* which waits for the thread */
	alarm(0);
	pthread_join(other, NULL);
	waitset_destroy(ws);
	netio_detach(n);
}

/* TSan runs handlers late, after the call that they were to interrupt. */
#ifdef __SANITIZE_THREAD__
#define SIGNAL_CASE
__attribute__((unused)) static void (*const not_run)(void) = interrupted_sleeper;
#else
#define SIGNAL_CASE                                                                                          \
	{"traps 31, 33: a handler over a sleeper, and out of it by siglongjmp", interrupted_sleeper},
#endif

CHECK_MAIN("netio_wait", {"trap 2: no lost wake-up, also with a pause before the sleep", no_lost_wakeup},
	   {"traps 16, 31: cancelled sleepers beside frames", cancelled_sleepers},
	   SIGNAL_CASE{"time-outs, ppoll mix, extra members", timeouts},
	   {"trap 32: the stack's timer works whoever sleeps", stack_timer},
	   {"threads that share a set take each edge once", shared_set},
	   {"a watched bell is a level", bell_is_a_level},
	   {"D3.5: a driver that is about to sleep is not passed over", driver_parks})
