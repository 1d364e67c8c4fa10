/*
 * ports.c - the choice of an ephemeral port (RFC 6056).
 *
 * Where the search begins is a keyed hash of the remote end (algorithm 3) plus
 * a cursor that moves on by a random step with each choice (algorithm 5), so
 * that ports of one destination say nothing about those of another, and one
 * destination sees a port again as late as possible. Ports in TIME-WAIT come last.
 */
#include "core/recv.h"

#define PORT_STEP_MAX 4u /* mean step 2.5: the range is still used through before a port returns */

/* reuse: a TIME-WAIT that RFC 6191 lets a new connection take over is no hindrance. */
static bool port_free(struct stack_cx *cx, const struct endpoint *local, const struct endpoint *remote,
		      bool reuse)
{
	/* A listener's port is not taken although the 4-tuple would be unique: bind(2) users expect it
	 * theirs. */
	if (demux_find_listener(cx, local))
		return false;
	if (!demux_tuple_used(cx, local, remote))
		return true;
	if (!reuse)
		return false;
	struct demux_result old = demux_find(cx, local, remote);
	return old.kind == DEMUX_TIMEWAIT && timewait_reusable(cx, pool_at(cx, old.r));
}

int port_choose(struct stack_cx *cx, const struct ipaddr *local, const struct endpoint *remote,
		uint16_t *port)
{
	struct stack *st = stack_of(cx);
	uint32_t first = st->config.port_first, range = (uint32_t)(st->config.port_last - first) + 1;
	struct endpoint key[2] = {{.addr = *local}, *remote}, mine = {.addr = *local};
	uint32_t offset = (uint32_t)siphash(st->key_port, key, sizeof key) + st->port_cursor;

	/* The second round, when every port is in use: connections that ended a while ago. */
	for (uint32_t i = 0; i < 2 * range; i++) {
		mine.port = (uint16_t)(first + (offset + i) % range);
		if (!port_free(cx, &mine, remote, i >= range))
			continue;
		st->port_cursor += i + 1 + rng_below(cx, PORT_STEP_MAX);
		*port = mine.port;
		return 0;
	}
	return -EADDRNOTAVAIL;
}
