/*
 * pump.c - connections for users that no hook can reach (design D4: pump mode).
 *
 * Theory of operation. A static or setuid program, a process in a seccomp
 * sandbox, a stranger who got the descriptor by SCM_RIGHTS: what it does with the
 * placeholder would stay in the kernel. So the placeholder is replaced by one end
 * of an AF_UNIX stream pair, the heir's; the keeper has the other end, has a part
 * in the connection like any process, and moves the bytes.
 *
 *   heir  ==pair==>  keeper: from_heir()  --sock_send()-->  connection
 *   heir  <==pair==  keeper: to_heir()    <--sock_recv()--  connection
 *
 * Nothing is stored in between: bytes are looked at (MSG_PEEK) on one side, offered
 * to the other, and only what that took is taken off. So each side's own buffer is
 * the limit, and what nobody took is "unread" by the rules of close().
 *
 *   FIN from the peer          shutdown(SHUT_WR): the heir reads the rest, then the end
 *   the heir's SHUT_WR         sock_shutdown(): FIN after what it wrote
 *   the heir's close()         the rest of what it wrote, then our part in the connection
 *                              ends as any process's: FIN, or RST if bytes were unread
 *                              here or in the pair (which the kernel tells by ECONNRESET)
 *   RST from the peer          the heir reads the rest, then ECONNRESET. AF_UNIX says that
 *                              to the one end when the other closes with bytes unread; so
 *                              the first byte of the heir's direction is written by us, and
 *                              one byte that has been dealt with always stays in the queue.
 *                              Where the end is an orderly one it is taken off first.
 *
 * The heir's SHUT_RDWR looks like its close(). Its SHUT_RD lets the rest wait in the
 * connection. It sees an AF_UNIX socket: names and TCP options are not to be had.
 *
 * A pump begins before the exec() that needs it, but moves nothing until that has
 * happened: the gate, a descriptor that exec() closes, is hung up then. If exec()
 * fails a word over the gate takes the pump back, and no byte is lost.
 *
 * Other processes may go on with the connection beside the heir, or after it (sshd's
 * monitor, when its child has the user's name): each byte goes to one of them, and
 * what the heir wrote first is sent first. A connection that has pumps says so
 * (shared_object.pumps), and whoever wants to read, write or say the end there asks
 * for its turn (netio_turn):
 *
 *   to write, to end  what lies in the pairs is moved first. If the connection is full
 *                     it is full for who asks, too; an end is said by us then, after it
 *   to read           while others have a part in it only one piece at a time lies in one
 *                     pair, on loan: the connection has it, too. What the heir has read
 *                     of it is taken off the connection, the rest off the pair, and
 *                     nothing is lent until who asked hangs up
 *
 * To take back what the heir has not read we have a duplicate of its end, which keeps
 * us from seeing it closed. So we have it only while somebody else has a part in the
 * connection, so that the heir's close() says nothing to the peer, and while the
 * process that became the heir has it open. A record lock of that process on the
 * socket's inode says so, which the kernel drops when it ends or closes any number of
 * it. Without the duplicate (a stranger's, posix_spawn()'s, a child of the heir that
 * outlives it) a loan cannot be taken back: if somebody else wants to read it is the
 * heir's; if the heir ends with a part of it unread the others get the whole.
 *
 * The keeper sleeps as any thread of the stack does: in a wait set, which exists
 * while there are pumps. The events of pairs are edge-triggered: each one only says
 * that a pump has to try both directions again.
 *
 * This file makes and ends pumps and sleeps for them; pump_move.c moves the bytes,
 * pump_turn.c gives turns.
 *
 * Place in the flow: preload/pump.c -> netio_pump() -> keeper.c -> here.
 */
#include <sys/socket.h>

#include "netio/forward.h"
#include "netio/pump_parts.h"

#define PUMPS_MAX 32768u
#define HARVEST	  16

/* ------------------------------------------------------------ the keeper's side */

struct pumps pumps;

uint32_t pumps_live(void)
{
	return pumps.live + forwards_live();
}

ref pumps_evset(void)
{
	return waitset_evset(pumps.ws);
}

void pump_list_add(uint32_t i)
{
	struct pump *p = &pumps.p[i];

	if (p->listed || p->fd < 0)
		return;
	p->listed = true;
	p->next = 0;
	if (pumps.last)
		pumps.p[pumps.last - 1].next = i + 1;
	else
		pumps.first = i + 1;
	pumps.last = i + 1;
}

static uint32_t list_take(void)
{
	uint32_t i = pumps.first - 1;

	pumps.first = pumps.p[i].next;
	if (!pumps.first)
		pumps.last = 0;
	pumps.p[i].listed = false;
	return i;
}

/* ------------------------------------------------------------ beginning and end */

/* What its heir wrote last is lost with the pair: the peer must not take the end for an orderly one. */
static void object_abort(ref object, ref hold, void *arg)
{
	struct stack_cx *cx = arg;
	struct shared_object *o = pool_at(cx, object);

	(void)hold;
	o->pumps = 0;
	if (o->sock && o->holders == 1)
		sock_abort(cx, o->sock);
}

void pumps_recover(struct netio *n)
{
	struct region_head *h = n->region.head;
	struct stack_cx *cx = netio_enter(n);

	if (pool_valid(cx, POOL_PROC, h->keeper)) {
		n->proc = h->keeper;
		netio_each_hold(n, cx, object_abort, cx);
		n->proc = REF_NONE;
		proc_reap(n, cx, h->keeper);
	}
	h->keeper = REF_NONE;
	netio_leave(n);
}

static void close_down(void)
{
	struct netio *n = pumps.n;
	struct stack_cx *cx;

	if (pumps_live() || !n || !n->proc)
		return;
	if (pumps.ws)
		waitset_destroy(pumps.ws);
	pumps.ws = NULL;
	cx = netio_enter(n);
	proc_reap(n, cx, n->proc);
	n->proc = n->region.head->keeper = REF_NONE;
	netio_leave(n);
}

int pumps_open_up(struct netio *n, int epfd)
{
	struct stack_cx *cx;
	int err = 0;

	if (pumps.ws)
		return 0;
	if (!pumps.p) {
		pumps.p = pages_alloc(PUMPS_MAX * sizeof *pumps.p);
		pumps.piece = pages_alloc(PIECE_BYTES + 1);
	}
	if (!pumps.p || !pumps.piece)
		return -ENOMEM;
	pumps.n = n;
	pumps.epfd = epfd;
	cx = netio_enter(n);
	n->region.head->keeper = proc_new(n, cx);
	err = n->proc ? 0 : -ENOMEM;
	netio_leave(n);
	if (!err)
		err = waitset_create(n, &pumps.ws);
	if (!err)
		err = waitset_add_fd(pumps.ws, epfd, EPOLLIN, 0);
	if (err)
		close_down();
	return err;
}

struct shared_object *pump_object(struct stack_cx *cx, const struct pump *p)
{
	return pool_at(cx, p->object);
}

/* connect(AF_UNSPEC) in another process gives the description a new socket. Under the lock. */
ref pump_socket(struct stack_cx *cx, struct pump *p)
{
	uint64_t index = (uint64_t)(p - pumps.p);
	ref s = pump_object(cx, p)->sock;

	if (s && s != p->sock &&
	    watch_add(cx, waitset_evset(pumps.ws), s, SOCK_IN | SOCK_OUT | SOCK_RDHUP | EPOLLET, index,
		      index))
		p->sock = s;
	return s;
}

static void watch_drop(struct stack_cx *cx, const struct pump *p)
{
	ref w = watch_find(cx, waitset_evset(pumps.ws), (uint64_t)(p - pumps.p));

	if (w)
		watch_remove(cx, w);
}

/* The byte that stays in the queue, and what else the heir wrote in vain. */
static void queue_empty(const struct pump *p)
{
	while (RAW6(SYS_recvfrom, p->fd, pumps.piece, PIECE_BYTES, MSG_DONTWAIT, NULL, NULL) > 0)
		;
}

void pump_other_close(struct pump *p)
{
	if (p->other < 0)
		return;
	raw_close(p->other);
	p->other = -1;
	pumps.others--;
}

/* Others of the connection may lend now. */
void pump_siblings_run(ref object)
{
	for (uint32_t i = 0; i < pumps.count; i++)
		if (pumps.p[i].fd >= 0 && pumps.p[i].object == object)
			pump_list_add(i);
}

/* Our part in the connection ends, by the rules of close(). */
void pump_end(struct pump *p)
{
	const struct linger reset = {1, 0};
	struct netio *n = pumps.n;
	struct stack_cx *cx = netio_enter(n);
	ref s = pump_object(cx, p)->sock;

	pump_object(cx, p)->pumps--;
	watch_drop(cx, p);
	if (netio_unhold(n, cx, p->hold)) {
		if (s) {
			if (p->unread)
				sock_abort(cx, s);
			watch_remove_socket(cx, s);
			sock_close(cx, s);
		}
		pool_free(cx, POOL_DESCRIPTION, p->object);
	}
	netio_leave(n);
	if (p->tcp && p->failed)
		RAW6(SYS_setsockopt, p->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset, 0);
	else if (!p->failed && !p->tcp)
		queue_empty(p);
	raw_close(p->fd);
	if (p->gate >= 0)
		raw_close(p->gate);
	pump_other_close(p);
	p->fd = p->gate = -1;
	pumps.live--;
	pump_siblings_run(p->object);
}

static void object_drop(struct stack_cx *cx, ref object)
{
	sock_close(cx, ((struct shared_object *)pool_at(cx, object))->sock);
	pool_free(cx, POOL_DESCRIPTION, object);
}

static ref object_find(struct stack_cx *cx, uint64_t cookie)
{
	for (ref r = pool_next(cx, POOL_DESCRIPTION, REF_NONE); r; r = pool_next(cx, POOL_DESCRIPTION, r)) {
		const struct shared_object *o = pool_at(cx, r);

		if (o->holders && o->sock && o->cookie == cookie)
			return r;
	}
	return REF_NONE;
}

static uint32_t entry_free(void)
{
	uint32_t i = 0;

	while (i < pumps.count && (pumps.p[i].fd >= 0 || pumps.p[i].listed))
		i++;
	return i;
}

int pump_watch_fd(int fd, uint32_t events, uint64_t tag)
{
	struct epoll_event e = {.events = events, .data.u64 = tag};

	return (int)RAW4(SYS_epoll_ctl, pumps.epfd, EPOLL_CTL_ADD, fd, &e);
}

/* m or object says which connection. Without a gate it is at work at once. */
static int pump_make(struct netio *n, int epfd, const struct pump_message *m, ref object, int pair, int gate,
		     ref from)
{
	uint32_t i = pumps.p ? entry_free() : 0;
	struct stack_cx *cx;
	struct pump *p;
	int err = i < PUMPS_MAX ? pumps_open_up(n, epfd) : -ENFILE;

	if (err)
		return err;
	p = &pumps.p[i];
	*p = (struct pump){.fd = -1, .gate = -1, .other = -1, .serial = (p->serial + 1) & 0x7fffff};
	pumps.count = MAX_OF(pumps.count, i + 1);
	pumps.newest = i;
	cx = netio_enter(n);
	p->object = m ? object_find(cx, m->cookie) : object;
	p->hold = p->object ? netio_hold(n, cx, p->object) : REF_NONE;
	if (p->hold) {
		p->cookie = pump_object(cx, p)->cookie;
		pump_object(cx, p)->pumps++;
	}
	netio_leave(n);
	if (!p->hold)
		return -ENOENT;
	p->from = m && m->take ? from : REF_NONE;
	p->fd = pair;
	p->gate = gate;
	pumps.live++;
	err = gate < 0 ? 0 : pump_watch_fd(gate, EPOLLIN, TAG(TAG_GATE, i, p->serial));
	if (!err)
		err = pump_watch_fd(pair, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
				    TAG(TAG_PAIR, i, p->serial));
	if (err) {
		p->fd = p->gate = -1; /* the caller's */
		pump_end(p);
	}
	return err;
}

void pump_begin(struct netio *n, int epfd, const struct pump_message *m, const int fds[3], ref from)
{
	int pair = fds[0], gate = fds[1], other = fds[2];
	int err = pair < 0 || gate < 0 ? -EBADF : pump_make(n, epfd, m, REF_NONE, pair, gate, from);
	uint32_t known[2] = {MESSAGE_PUMP, !err};

	message_send(gate, known, sizeof known, NULL, 0);
	if (!err) {
		pumps.p[pumps.newest].other = other;
		pumps.others += other >= 0;
		return;
	}
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			raw_close(fds[i]);
	close_down();
}

int pump_stranger(struct netio *n, int epfd, ref object, int pair)
{
	int err = pump_make(n, epfd, NULL, object, pair, -1, REF_NONE);

	if (err)
		close_down();
	return err;
}

/* The accepted connection gets an object, as one that has a descriptor. */
static ref object_make(struct stack_cx *cx, ref listener)
{
	ref child = sock_accept(cx, listener), object;

	if (!child)
		return REF_NONE;
	object = pool_alloc(cx, POOL_DESCRIPTION, child);
	if (object)
		((struct shared_object *)pool_at(cx, object))->sock = child;
	else
		sock_unaccept(cx, listener, child);
	return object;
}

int pump_accepted(struct netio *n, ref listener, int fd)
{
	struct stack_cx *cx = netio_enter(n);
	ref object = object_make(cx, listener), hold = object ? netio_hold(n, cx, object) : REF_NONE;
	int err = -ENOBUFS;

	if (hold)
		err = 0;
	else if (object)
		object_drop(cx, object);
	netio_leave(n);
	if (err)
		return err;
	err = pump_make(n, pumps.epfd, NULL, object, fd, -1, REF_NONE);
	cx = netio_enter(n);
	if (netio_unhold(n, cx, hold))
		object_drop(cx, object);
	netio_leave(n);
	if (!err)
		pumps.p[pumps.newest].tcp = true;
	return err;
}

void pumps_forget_process(ref proc)
{
	for (uint32_t i = 0; i < pumps.count; i++)
		if (pumps.p[i].fd >= 0 && pumps.p[i].from == proc)
			pumps.p[i].from = REF_NONE;
}

/* The gate was hung up, or a word came through it. */
void pump_gate_event(struct pump *p)
{
	uint32_t word[2];
	int fds[MESSAGE_FDS], r = message_receive(p->gate, word, sizeof word, fds);

	if (r == -EAGAIN)
		return;
	raw_close(p->gate);
	p->gate = -1;
	if (r > 0) {
		pump_end(p);
		return;
	}
	if (p->from) {
		struct stack_cx *cx = netio_enter(pumps.n);

		proc_give_up(cx, p->from, p->object);
		netio_leave(pumps.n);
		p->from = REF_NONE;
	}
	pump_list_add((uint32_t)(p - pumps.p));
}

/* ------------------------------------------------------------ sleeping */

static void events_take(struct stack_cx *cx)
{
	struct watch_event ev[HARVEST];
	int count;

	do {
		count = evset_harvest(cx, waitset_evset(pumps.ws), ev, HARVEST);
		for (int i = 0; i < count; i++)
			if (ev[i].data & FORWARD_DATA)
				forward_event(ev[i].data);
			else
				pump_list_add((uint32_t)ev[i].data);
	} while (count == HARVEST);
}

void pumps_sleep(nsec deadline)
{
	struct netio *n = pumps.n;
	struct stack_cx *cx = netio_enter(n);
	struct wait_result res;

	events_take(cx);
	waitset_publish(pumps.ws, cx);
	netio_leave(n);
	waitset_block(pumps.ws, pumps.first ? 0 : deadline, NULL, &res);
	cx = netio_enter(n);
	waitset_withdraw(pumps.ws, cx);
	netio_drive(n, cx);
	events_take(cx);
	netio_leave(n);
}

void pumps_event(uint64_t tag, uint32_t events)
{
	struct pump *p = &pumps.p[(uint32_t)tag];

	if (tag & TAG_TURN) {
		pump_turn_end(tag);
		return;
	}
	if (p->fd < 0 || p->serial != TAG_SERIAL(tag))
		return;
	if (tag & TAG_GATE) {
		pump_gate_event(p);
		return;
	}
	p->seen |= events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
	pump_list_add((uint32_t)tag);
}

/* Each that has something to do, once. */
void pumps_run(void)
{
	forwards_run();
	if (pumps.others)
		pump_others_look();
	for (uint32_t turns = pumps.live; turns && pumps.first; turns--) {
		struct pump *p = &pumps.p[list_take()];

		if (p->fd >= 0 && p->gate < 0)
			pump_run(p);
	}
	close_down();
}
