/*
 * pump_turn.c - turns of the others on a connection that has pumps (theory in pump.c).
 *
 * Place in the flow: netio_turn() -> keeper.c -> here -> pump_move.c.
 */
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "netio/pump_parts.h"

static void pair_look(struct pump *p)
{
	struct pollfd pfd = {.fd = p->fd, .events = POLLRDHUP};
	struct timespec zero = {0, 0};

	RAW6(SYS_ppoll, &pfd, 1, &zero, NULL, 0, 0);
	p->seen |= (uint32_t)pfd.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

/* What the heir has written until now goes to the connection. False: that is full. */
static bool drain(struct pump *p)
{
	int queued = 0;
	uint64_t end;

	raw_ioctl(p->fd, FIONREAD, &queued);
	end = p->moved + (uint64_t)MAX_OF(queued - !p->tcp, 0);
	do {
		if (p->from_done)
			return true;
	} while (pump_from_heir(p) && p->moved < end);
	return p->from_done || p->moved >= end;
}

static enum turn_answer turn_settle(struct pump *p, enum turn_kind kind)
{
	bool drained = true;

	if (p->gate >= 0)
		pump_gate_event(p); /* the exec may have happened just now */
	if (p->fd < 0 || p->gate >= 0)
		return TURN_YOURS;
	if (kind == TURN_END && !p->from_done)
		RAW2(SYS_shutdown, p->fd, SHUT_RD); /* what the heir writes from now on: EPIPE */
	if (kind == TURN_READ)
		pump_loan_back(p);
	pump_other_look(p);
	pair_look(p);
	if (kind != TURN_READ)
		drained = drain(p);
	if (!drained && kind == TURN_END)
		p->fin = true;
	pump_run(p);
	return drained ? TURN_YOURS : kind == TURN_END ? TURN_FOLLOWS : TURN_FULL;
}

static bool turn_add(ref object, int fd)
{
	uint32_t i = 0;
	struct turn *t;

	while (i < pumps.turns && pumps.turn[i].fd)
		i++;
	t = &pumps.turn[i];
	if (i == TURNS_MAX || pump_watch_fd(fd, EPOLLIN, TAG(TAG_TURN, i, (t->serial + 1) & 0x7fffff)))
		return false;
	*t = (struct turn){object, fd, (t->serial + 1) & 0x7fffff};
	pumps.turns = MAX_OF(pumps.turns, i + 1);
	return true;
}

void pump_turn_end(uint64_t tag)
{
	struct turn *t = &pumps.turn[(uint32_t)tag];

	if (!t->fd || t->serial != TAG_SERIAL(tag))
		return;
	raw_close(t->fd);
	t->fd = 0;
	while (pumps.turns && !pumps.turn[pumps.turns - 1].fd)
		pumps.turns--;
	pump_siblings_run(t->object);
}

void pump_turn(const struct turn_message *m, int fd)
{
	uint32_t word[2] = {MESSAGE_TURN, TURN_YOURS};
	bool kept = false;

	for (uint32_t i = 0; i < pumps.count; i++) {
		struct pump *p = &pumps.p[i];

		if (p->fd < 0 || p->cookie != m->cookie)
			continue;
		if (m->kind == TURN_READ && !kept)
			kept = turn_add(p->object, fd); /* first: nothing is lent from here on */
		word[1] = MAX_OF(word[1], turn_settle(p, m->kind));
	}
	message_send(fd, word, sizeof word, NULL, 0);
	if (!kept)
		raw_close(fd);
}

/* Those that have nobody beside them any more. */
void pump_others_look(void)
{
	struct stack_cx *cx = netio_enter(pumps.n);

	for (uint32_t i = 0; i < pumps.count; i++) {
		const struct pump *p = &pumps.p[i];

		if (p->fd >= 0 && p->other >= 0 && pump_object(cx, p)->holders <= pump_object(cx, p)->pumps)
			pump_list_add(i);
	}
	netio_leave(pumps.n);
}
