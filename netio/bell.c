/*
 * bell.c - how a sleeping thread is woken, in this process or another.
 *
 * Bells are rung after the unlock, so that the woken thread does not run into
 * the lock; `ringers` keeps a waitset's descriptors open until such a ring is out.
 *
 * Waitsets live in slots that evsets name by number: the region holds no pointers.
 * A number means something only in the process that made the set. Any other one
 * rings by a datagram to the address of the set's post, one more member: that
 * needs no descriptor of the sleeper's and works across setuid and chroot. The
 * queue of the post is short; a full one means that it has been rung already,
 * because whoever is woken by it empties it before it looks at its sockets.
 *
 * Place in the flow: ready.c (readiness) -> here -> the sleeper in wait.c.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include "netio/internal.h"

static void bell_write(struct waitset *ws)
{
	uint64_t one = 1;

	raw_write(ws->bell, &one, sizeof one);
}

static bool bell_is_ours(const struct netio *n, const struct bell *b)
{
	return b->proc && b->proc == n->proc && b->slot - 1 < n->slot_count;
}

/* A full queue, or an address that is gone with its process: nothing to do. */
static void bell_post(const struct netio *n, const struct bell *b)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	size_t len = MIN_OF((size_t)b->addr_len, sizeof b->addr);
	char c = 0;

	memcpy(sun.sun_path, b->addr, len);
	RAW6(SYS_sendto, n->post_fd, &c, 1, MSG_DONTWAIT | MSG_NOSIGNAL, &sun, sizeof sun.sun_family + len);
}

void bell_ring(struct netio *n, const struct bell *b, bool now)
{
	n->count.bells++;
	if (now || n->ring_count == RINGS_MAX) {
		if (bell_is_ours(n, b))
			bell_write(&n->slots[b->slot]);
		else
			bell_post(n, b);
		return;
	}
	if (bell_is_ours(n, b))
		atomic_fetch_add(&n->slots[b->slot].ringers, 1);
	n->ring[n->ring_count++] = *b;
}

void waitset_ring(struct waitset *ws)
{
	bell_write(ws);
}

void post_drain(struct waitset *ws)
{
	char c[8];

	while (RAW6(SYS_recvfrom, ws->post, c, sizeof c, MSG_DONTWAIT, NULL, NULL) >= 0)
		;
}

void waitset_drain(struct waitset *ws)
{
	uint64_t count;

	raw_read(ws->bell, &count, sizeof count);
	post_drain(ws);
}

bool bell_drain(struct netio *n, const struct bell *b, ref set)
{
	if (bell_is_ours(n, b)) {
		waitset_drain(&n->slots[b->slot]);
		return true;
	}
	/* A set inherited over fork(): another process's slot, but our bell as well. */
	for (uint32_t i = 1; i <= n->slot_count; i++) {
		struct waitset *ws = &n->slots[i];

		if (ws->n && !ws->dead && ws->set == set) {
			waitset_drain(ws);
			return true;
		}
	}
	return false;
}

void ring_collect(struct netio *n, struct ring_list *l)
{
	l->count = n->ring_count;
	for (uint32_t i = 0; i < n->ring_count; i++) {
		bool local = bell_is_ours(n, &n->ring[i]);

		l->ws[i] = local ? &n->slots[n->ring[i].slot] : NULL;
		if (!local)
			l->bell[i] = n->ring[i];
	}
	n->ring_count = 0;
}

void ring_all(struct netio *n, struct ring_list *l)
{
	for (uint32_t i = 0; i < l->count; i++) {
		if (!l->ws[i]) {
			bell_post(n, &l->bell[i]);
			continue;
		}
		bell_write(l->ws[i]);
		atomic_fetch_sub(&l->ws[i]->ringers, 1);
	}
}
