/*
 * pump_move.c - the bytes of a pump, one piece at a time, in both directions (theory in
 * pump.c), and what is on loan to the heir.
 *
 * Place in the flow: pump.c, pump_turn.c -> here -> sock_send(), sock_recv().
 */
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "netio/pump_parts.h"

#define LOAN_BYTES    4096u
#define PIECES_A_TURN 4 /* then the others' turn */

/* Is the pair's queue empty because the heir has read it? Its close() empties it, too, and says so first. */
static bool loan_is_read(struct pump *p)
{
	struct pollfd pfd = {.fd = p->fd};
	struct timespec zero = {0, 0};
	int queued = 0;

	if (raw_ioctl(p->fd, SIOCOUTQ, &queued) || queued)
		return false;
	RAW6(SYS_ppoll, &pfd, 1, &zero, NULL, 0, 0);
	if (pfd.revents & (POLLHUP | POLLERR))
		p->seen |= EPOLLHUP;
	p->unread = p->unread || pfd.revents & POLLERR;
	return true;
}

static void taken(struct stack_cx *cx, ref s, size_t bytes)
{
	struct iovec iov = {NULL, bytes};

	if (s && bytes)
		sock_recv(cx, s, &iov, 1, SOCK_MSG_TRUNC);
}

/*
 * Nothing is lent any more: what the heir has read is taken off the connection,
 * and the rest off the pair, by one call, so that the heir reads nothing in
 * between. Where we cannot the heir keeps it all.
 */
void pump_loan_back(struct pump *p)
{
	struct stack_cx *cx = netio_enter(pumps.n);
	ref s = pump_socket(cx, p);
	long back = 0;

	if (p->lent && p->other >= 0)
		back = RAW6(SYS_recvfrom, p->other, pumps.piece, PIECE_BYTES, MSG_DONTWAIT, NULL, NULL);
	else if (p->lent)
		loan_is_read(p);
	if (p->lent && !p->unread)
		taken(cx, s, p->lent - (size_t)MAX_OF(back, 0));
	p->lent = 0;
	netio_leave(pumps.n);
}

/* Is the process that became the heir alive, with its end open? */
static bool heir_is_there(const struct pump *p)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return !RAW3(SYS_fcntl, p->other, F_GETLK, &l) && l.l_type != F_UNLCK;
}

/* The duplicate, while it is of use: it keeps us from seeing the heir's close(). */
void pump_other_look(struct pump *p)
{
	struct stack_cx *cx;
	const struct shared_object *o;
	bool there, alone;

	if (p->other < 0)
		return;
	there = heir_is_there(p);
	if (!there)
		pump_loan_back(p);
	cx = netio_enter(pumps.n);
	o = pump_object(cx, p);
	alone = o->holders <= o->pumps;
	if (alone && o->pumps == 1) {
		taken(cx, pump_socket(cx, p), p->lent);
		p->lent = 0;
	}
	netio_leave(pumps.n);
	if (!there || alone)
		pump_other_close(p);
}

/* Somebody reads, or another pump has the next bytes in its pair. */
static bool must_not_lend(const struct pump *p)
{
	for (uint32_t i = 0; i < pumps.turns; i++)
		if (pumps.turn[i].fd && pumps.turn[i].object == p->object)
			return true;
	for (uint32_t i = 0; i < pumps.count; i++)
		if (pumps.p[i].lent && pumps.p[i].fd >= 0 && pumps.p[i].object == p->object)
			return true;
	return false;
}

/* What is lent has been read, if anything was. Under the lock. */
static bool loan_settle(struct stack_cx *cx, struct pump *p, ref s)
{
	if (!p->lent)
		return true;
	if (!loan_is_read(p))
		return false;
	if (!p->unread)
		taken(cx, s, p->lent);
	p->lent = 0;
	if (pump_object(cx, p)->pumps > 1)
		pump_siblings_run(p->object);
	return true;
}

/*
 * What the connection has for the heir. A pending error is reported once, to whoever asks first: that is not
 * us while somebody without a pump may ask (the heir hears of it without).
 */
static int64_t peek(struct stack_cx *cx, const struct pump *p, ref s, const struct iovec *iov)
{
	const struct shared_object *o = pump_object(cx, p);
	int queued = 0;

	if (o->holders > o->pumps && sock_events(cx, s) & SOCK_ERR &&
	    !sock_get_option(cx, s, SOCK_OPT_INQ, &queued) && !queued)
		return -ECONNRESET;
	return sock_recv(cx, s, iov, 1, SOCK_MSG_PEEK);
}

/* One piece to the heir. True: there may be more. */
static bool to_heir(struct pump *p)
{
	struct stack_cx *cx = netio_enter(pumps.n);
	bool shared = !p->tcp && pump_object(cx, p)->holders > 1;
	struct iovec iov = {pumps.piece, shared && p->other < 0 ? LOAN_BYTES : PIECE_BYTES};
	ref s = pump_socket(cx, p);
	int64_t there;
	long took = 0;

	if (!loan_settle(cx, p, s) || (shared && must_not_lend(p))) {
		netio_leave(pumps.n);
		return false;
	}
	there = s && !p->unread ? peek(cx, p, s, &iov) : 0;
	if (there > 0) {
		took = RAW6(SYS_sendto, p->fd, pumps.piece, there, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
		if (took > 0 && shared)
			p->lent = (uint32_t)took;
		else if (took > 0)
			taken(cx, s, (size_t)took);
	}
	netio_leave(pumps.n);
	if (there > 0) {
		if (took < 0 && took != -EAGAIN)
			p->to_done = true; /* it will read no more: what is here stays unread */
		return took == there && !p->lent;
	}
	if ((there == -EAGAIN || there == -ENOTCONN) && !p->failed)
		return false;
	p->failed = p->failed || there < 0;
	p->to_done = true;
	if (!p->failed)
		RAW2(SYS_shutdown, p->fd, SHUT_WR);
	return false;
}

/* The heir's end is closed, or will write no more, and all that it wrote is with the connection. */
static void heir_ended(struct pump *p)
{
	struct stack_cx *cx;
	ref s;

	p->from_done = true;
	if (p->seen & EPOLLHUP && !p->fin)
		return; /* close() does the rest */
	cx = netio_enter(pumps.n);
	s = pump_socket(cx, p);
	if (s)
		sock_shutdown(cx, s, SHUT_WR);
	netio_leave(pumps.n);
}

/* The front of the queue, without the byte that stays. */
static int64_t queue_peek(struct pump *p)
{
	long there =
	    RAW6(SYS_recvfrom, p->fd, pumps.piece, PIECE_BYTES + 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);

	if (p->tcp && there < 0 && there != -EAGAIN) {
		p->unread = true; /* reset, or nobody there: so is the peer */
		p->seen |= EPOLLHUP;
	}
	return there > 0 ? there - !p->tcp : 0;
}

static void queue_take(const struct pump *p, int64_t bytes)
{
	while (bytes > 0) {
		long r = RAW6(SYS_recvfrom, p->fd, pumps.piece, bytes, MSG_DONTWAIT, NULL, NULL);

		if (r <= 0)
			return;
		bytes -= r;
	}
}

/* One piece from the heir. True: there may be more. */
bool pump_from_heir(struct pump *p)
{
	bool end = p->seen & (EPOLLRDHUP | EPOLLHUP); /* before the look: what was written came before it */
	int64_t there = queue_peek(p), took;
	struct iovec iov = {pumps.piece + !p->tcp, (size_t)there};
	struct stack_cx *cx;
	ref s;

	if (!there) {
		if (end || p->fin)
			heir_ended(p);
		return false;
	}
	cx = netio_enter(pumps.n);
	s = pump_socket(cx, p);
	took = s ? sock_send(cx, s, &iov, 1, 0) : -EPIPE;
	netio_leave(pumps.n);
	if (took > 0) {
		queue_take(p, took);
		p->moved += (uint64_t)took;
		return true; /* until it is refused: only then an edge comes when there is room */
	}
	if (took == -EAGAIN || took == -ENOTCONN)
		return false;
	p->from_done = true;
	p->failed = p->failed || took != -EPIPE;
	if (!p->failed)
		RAW2(SYS_shutdown, p->fd, SHUT_RD); /* the heir's next write: EPIPE */
	return false;
}

void pump_run(struct pump *p)
{
	bool to = true, from = true;
	int err = 0;
	socklen_t len = sizeof err;

	pump_other_look(p);
	for (int i = 0; i < PIECES_A_TURN && (to || from); i++) {
		to = to && !p->to_done && to_heir(p);
		from = from && !p->from_done && pump_from_heir(p);
	}
	if (p->seen & EPOLLERR && !RAW6(SYS_getsockopt, p->fd, SOL_SOCKET, SO_ERROR, &err, &len, 0) && err)
		p->unread = true;
	/* HUP says that neither direction goes on. What the heir wrote last is still to be sent. */
	if ((p->seen & EPOLLHUP || p->to_done) && p->from_done)
		pump_end(p);
	else if (p->failed && p->to_done)
		pump_end(p);
	else if (to || from)
		pump_list_add((uint32_t)(p - pumps.p));
}
