/*
 * netio_kit.h - blocking socket calls over netio, as small as they can be, for
 * the netio_* tests: what preload does, without descriptors.
 */
#ifndef TESTS_NETIO_KIT_H
#define TESTS_NETIO_KIT_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/check.h"
#include "utcp/netio.h"
#include "utcp/sys.h"

#define KIT __attribute__((unused)) static

/* An attachment to `device`, or NULL after a failed check that shows why. */
KIT struct netio *kit_attach(const char *device, const struct netio_config *with)
{
	struct netio_config c;
	struct netio *n = NULL;
	char why[256] = "";
	int err;

	if (with)
		c = *with;
	else
		netio_config_defaults(&c);
	snprintf(c.device, sizeof c.device, "%s", device);
	err = netio_attach(&c, &n, why, sizeof why);
	CHECK_MSG(err == 0, "netio_attach(%s): %d: %s", device, err, why);
	return n;
}

/* A thread's end of a socket: the socket, and a waitset that watches it. */
struct kit_sock {
	struct netio *n;
	struct waitset *ws;
	ref s;
};

KIT bool kit_watch(struct kit_sock *k, struct netio *n, ref s)
{
	struct stack_cx *cx;
	ref w;

	k->n = n;
	k->s = s;
	if (waitset_create(n, &k->ws) != 0)
		return false;
	cx = netio_enter(n);
	w = watch_add(cx, waitset_evset(k->ws), s, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 0, 1);
	netio_leave(n);
	return w != REF_NONE;
}

/* Wait until the socket has one of `events`; false: nothing for ten seconds. */
KIT bool kit_wait(struct kit_sock *k, uint32_t events)
{
	nsec deadline = netio_now() + 10 * NS_PER_S;
	struct wait_result r;
	struct stack_cx *cx;
	bool ready;

	for (;;) {
		cx = netio_enter(k->n);
		netio_drive(k->n, cx);
		ready = sock_events(cx, k->s) & (events | SOCK_ERR | SOCK_HUP);
		if (!ready)
			waitset_publish(k->ws, cx);
		netio_leave(k->n);
		if (ready)
			return true;
		waitset_block(k->ws, deadline, NULL, &r);
		cx = netio_enter(k->n);
		waitset_withdraw(k->ws, cx);
		netio_leave(k->n);
		if (r.timed_out)
			return false;
	}
}

KIT ref kit_listen(struct netio *n, uint16_t port)
{
	struct stack_cx *cx = netio_enter(n);
	struct endpoint local = {.addr = ipaddr_v4(0, 0, 0, 0), .port = port};
	ref s = sock_create(cx);
	int err = sock_listen(cx, s, &local, 16);

	netio_leave(n);
	CHECK_EQ(err, 0);
	return s;
}

KIT bool kit_connect(struct kit_sock *k, struct netio *n, struct ipaddr to, uint16_t port)
{
	struct endpoint local = {.addr = ipaddr_v4(0, 0, 0, 0)}, remote = {.addr = to, .port = port};
	struct stack_cx *cx = netio_enter(n);
	ref s = sock_create(cx);
	int err;

	netio_leave(n);
	if (!kit_watch(k, n, s))
		return false;
	cx = netio_enter(n);
	err = sock_connect(cx, s, &local, &remote);
	netio_leave(n);
	if (err != -EINPROGRESS || !kit_wait(k, SOCK_OUT))
		return false;
	cx = netio_enter(n);
	err = sock_connect(cx, s, &local, &remote);
	netio_leave(n);
	return err == 0;
}

KIT bool kit_accept(struct kit_sock *listener, struct kit_sock *out)
{
	struct stack_cx *cx;
	ref s;

	if (!kit_wait(listener, SOCK_IN))
		return false;
	cx = netio_enter(listener->n);
	s = sock_accept(cx, listener->s);
	netio_leave(listener->n);
	return s && kit_watch(out, listener->n, s);
}

/* Bytes, 0 at the end, or a negative errno. */
KIT int64_t kit_recv(struct kit_sock *k, void *p, size_t len)
{
	struct iovec v = {p, len};
	struct wait_result w;

	for (;;) {
		struct stack_cx *cx = netio_enter(k->n);
		int64_t r;

		netio_drive(k->n, cx);
		r = sock_recv(cx, k->s, &v, 1, 0);
		if (r == -EAGAIN)
			waitset_publish(k->ws, cx);
		netio_leave(k->n);
		if (r != -EAGAIN)
			return r;
		waitset_block(k->ws, netio_now() + 10 * NS_PER_S, NULL, &w);
		cx = netio_enter(k->n);
		waitset_withdraw(k->ws, cx);
		netio_leave(k->n);
		if (w.timed_out)
			return -ETIME;
	}
}

KIT int64_t kit_send(struct kit_sock *k, const void *p, size_t len)
{
	size_t done = 0;

	while (done < len) {
		struct iovec v = {(char *)(uintptr_t)p + done, len - done};
		struct stack_cx *cx = netio_enter(k->n);
		int64_t r;

		netio_drive(k->n, cx);
		r = sock_send(cx, k->s, &v, 1, 0);
		netio_leave(k->n);
		if (r == -EAGAIN) {
			if (!kit_wait(k, SOCK_OUT))
				return -ETIME;
		} else if (r < 0) {
			return r;
		} else {
			done += (size_t)r;
		}
	}
	return (int64_t)done;
}

KIT void kit_close(struct kit_sock *k)
{
	struct stack_cx *cx = netio_enter(k->n);

	watch_remove_socket(cx, k->s);
	sock_close(cx, k->s);
	netio_leave(k->n);
	waitset_destroy(k->ws);
}

KIT void kit_shutdown(struct kit_sock *k, int how)
{
	struct stack_cx *cx = netio_enter(k->n);

	sock_shutdown(cx, k->s, how);
	netio_leave(k->n);
}

/* The byte at offset i of the stream that the tests send. */
static inline uint8_t kit_byte(uint64_t i)
{
	return (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16));
}
KIT void kit_fill(uint8_t *p, uint64_t at, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = kit_byte(at + i);
}
KIT bool kit_matches(const uint8_t *p, uint64_t at, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] != kit_byte(at + i))
			return false;
	}
	return true;
}

#endif
