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
 * Place in the flow: preload/pump.c -> netio_pump() -> keeper.c -> here.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netio/forward.h"
#include "netio/pump.h"

#define PUMPS_MAX     32768u
#define PIECE_BYTES   65536u
#define LOAN_BYTES    4096u
#define PIECES_A_TURN 4 /* then the others' turn */
#define TURNS_MAX     1024u
#define HARVEST	      16

/* Tags: the entry, which descriptor, and the entry's serial number: events outlive a pump by one round. */
#define TAG_PAIR	     PUMP_TAGS
#define TAG_GATE	     (PUMP_TAGS << 1)
#define TAG_TURN	     (PUMP_TAGS << 2)
#define TAG(kind, i, serial) ((kind) | (i) | (uint64_t)(serial) << 40)
#define TAG_SERIAL(tag)	     ((tag) >> 40)

/* ------------------------------------------------------------ the keeper's side */

struct pump {
	ref object, hold; /* the description, our part in it */
	ref from;	  /* the process whose part ends with the start */
	ref sock;	  /* that the watch is on */
	int fd;		  /* our end of the pair; -1: free */
	int gate;	  /* -1: at work */
	int other;	  /* a duplicate of the heir's end; -1 */
	uint64_t cookie;
	uint64_t moved; /* bytes from the heir */
	uint32_t seen;	/* RDHUP, HUP, ERR of the pair */
	uint32_t serial;
	uint32_t lent; /* bytes in the pair that the connection still has */
	uint32_t next; /* of the list of those with something to do */
	bool listed;
	bool tcp;	/* `fd` is a TCP socket: no byte stays in its queue */
	bool to_done;	/* nothing more goes to the heir */
	bool from_done; /* nor comes from it */
	bool failed;	/* the connection: ECONNRESET and kin */
	bool unread;	/* the heir closed with bytes unread */
	bool fin;	/* somebody else said SHUT_WR, after what the heir wrote */
};

/* Somebody reads: nothing is lent. */
struct turn {
	ref object;
	int fd; /* of free ones 0: never ours */
	uint32_t serial;
};

/* The keeper has one thread: the lock guards what is in the region, not this. */
static struct {
	struct netio *n;
	struct waitset *ws; /* while there are pumps */
	struct pump *p;
	uint8_t *piece;
	uint32_t count, live; /* count: entries ever used */
	uint32_t first, last; /* with something to do; 0: none, else index + 1 */
	uint32_t newest;
	uint32_t others; /* pumps with a duplicate */
	int epfd;	 /* the keeper's epoll set */
	struct turn turn[TURNS_MAX];
	uint32_t turns; /* entries in use */
} pumps;

uint32_t pumps_live(void)
{
	return pumps.live + forwards_live();
}

ref pumps_evset(void)
{
	return waitset_evset(pumps.ws);
}

static void list_add(uint32_t i)
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

static struct shared_object *object_of(struct stack_cx *cx, const struct pump *p)
{
	return pool_at(cx, p->object);
}

/* connect(AF_UNSPEC) in another process gives the description a new socket. Under the lock. */
static ref socket_of(struct stack_cx *cx, struct pump *p)
{
	uint64_t index = (uint64_t)(p - pumps.p);
	ref s = object_of(cx, p)->sock;

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

static void other_close(struct pump *p)
{
	if (p->other < 0)
		return;
	raw_close(p->other);
	p->other = -1;
	pumps.others--;
}

/* Others of the connection may lend now. */
static void siblings_run(ref object)
{
	for (uint32_t i = 0; i < pumps.count; i++)
		if (pumps.p[i].fd >= 0 && pumps.p[i].object == object)
			list_add(i);
}

/* Our part in the connection ends, by the rules of close(). */
static void pump_end(struct pump *p)
{
	const struct linger reset = {1, 0};
	struct netio *n = pumps.n;
	struct stack_cx *cx = netio_enter(n);
	ref s = object_of(cx, p)->sock;

	object_of(cx, p)->pumps--;
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
	other_close(p);
	p->fd = p->gate = -1;
	pumps.live--;
	siblings_run(p->object);
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

static int watch_fd(int fd, uint32_t events, uint64_t tag)
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
		p->cookie = object_of(cx, p)->cookie;
		object_of(cx, p)->pumps++;
	}
	netio_leave(n);
	if (!p->hold)
		return -ENOENT;
	p->from = m && m->take ? from : REF_NONE;
	p->fd = pair;
	p->gate = gate;
	pumps.live++;
	err = gate < 0 ? 0 : watch_fd(gate, EPOLLIN, TAG(TAG_GATE, i, p->serial));
	if (!err)
		err = watch_fd(pair, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, TAG(TAG_PAIR, i, p->serial));
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
static void gate_event(struct pump *p)
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
	list_add((uint32_t)(p - pumps.p));
}

/* ------------------------------------------------------------ moving */

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
static void loan_back(struct pump *p)
{
	struct stack_cx *cx = netio_enter(pumps.n);
	ref s = socket_of(cx, p);
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
static void other_look(struct pump *p)
{
	struct stack_cx *cx;
	const struct shared_object *o;
	bool there, alone;

	if (p->other < 0)
		return;
	there = heir_is_there(p);
	if (!there)
		loan_back(p);
	cx = netio_enter(pumps.n);
	o = object_of(cx, p);
	alone = o->holders <= o->pumps;
	if (alone && o->pumps == 1) {
		taken(cx, socket_of(cx, p), p->lent);
		p->lent = 0;
	}
	netio_leave(pumps.n);
	if (!there || alone)
		other_close(p);
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
	if (object_of(cx, p)->pumps > 1)
		siblings_run(p->object);
	return true;
}

/* One piece to the heir. True: there may be more. */
static bool to_heir(struct pump *p)
{
	struct stack_cx *cx = netio_enter(pumps.n);
	bool shared = !p->tcp && object_of(cx, p)->holders > 1;
	struct iovec iov = {pumps.piece, shared && p->other < 0 ? LOAN_BYTES : PIECE_BYTES};
	ref s = socket_of(cx, p);
	int64_t there;
	long took = 0;

	if (!loan_settle(cx, p, s) || (shared && must_not_lend(p))) {
		netio_leave(pumps.n);
		return false;
	}
	there = s && !p->unread ? sock_recv(cx, s, &iov, 1, SOCK_MSG_PEEK) : 0;
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
	s = socket_of(cx, p);
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
static bool from_heir(struct pump *p)
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
	s = socket_of(cx, p);
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

static void pump_run(struct pump *p)
{
	bool to = true, from = true;
	int err = 0;
	socklen_t len = sizeof err;

	other_look(p);
	for (int i = 0; i < PIECES_A_TURN && (to || from); i++) {
		to = to && !p->to_done && to_heir(p);
		from = from && !p->from_done && from_heir(p);
	}
	if (p->seen & EPOLLERR && !RAW6(SYS_getsockopt, p->fd, SOL_SOCKET, SO_ERROR, &err, &len, 0) && err)
		p->unread = true;
	/* HUP says that neither direction goes on. What the heir wrote last is still to be sent. */
	if ((p->seen & EPOLLHUP || p->to_done) && p->from_done)
		pump_end(p);
	else if (p->failed && p->to_done)
		pump_end(p);
	else if (to || from)
		list_add((uint32_t)(p - pumps.p));
}

/* ------------------------------------------------------------ turns */

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
	} while (from_heir(p) && p->moved < end);
	return p->from_done || p->moved >= end;
}

static enum turn_answer turn_settle(struct pump *p, enum turn_kind kind)
{
	bool drained = true;

	if (p->gate >= 0)
		gate_event(p); /* the exec may have happened just now */
	if (p->fd < 0 || p->gate >= 0)
		return TURN_YOURS;
	if (kind == TURN_END && !p->from_done)
		RAW2(SYS_shutdown, p->fd, SHUT_RD); /* what the heir writes from now on: EPIPE */
	if (kind == TURN_READ)
		loan_back(p);
	other_look(p);
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
	if (i == TURNS_MAX || watch_fd(fd, EPOLLIN, TAG(TAG_TURN, i, (t->serial + 1) & 0x7fffff)))
		return false;
	*t = (struct turn){object, fd, (t->serial + 1) & 0x7fffff};
	pumps.turns = MAX_OF(pumps.turns, i + 1);
	return true;
}

static void turn_end(uint64_t tag)
{
	struct turn *t = &pumps.turn[(uint32_t)tag];

	if (!t->fd || t->serial != TAG_SERIAL(tag))
		return;
	raw_close(t->fd);
	t->fd = 0;
	while (pumps.turns && !pumps.turn[pumps.turns - 1].fd)
		pumps.turns--;
	siblings_run(t->object);
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
static void others_look(void)
{
	struct stack_cx *cx = netio_enter(pumps.n);

	for (uint32_t i = 0; i < pumps.count; i++) {
		const struct pump *p = &pumps.p[i];

		if (p->fd >= 0 && p->other >= 0 && object_of(cx, p)->holders <= object_of(cx, p)->pumps)
			list_add(i);
	}
	netio_leave(pumps.n);
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
				list_add((uint32_t)ev[i].data);
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
		turn_end(tag);
		return;
	}
	if (p->fd < 0 || p->serial != TAG_SERIAL(tag))
		return;
	if (tag & TAG_GATE) {
		gate_event(p);
		return;
	}
	p->seen |= events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
	list_add((uint32_t)tag);
}

/* Each that has something to do, once. */
void pumps_run(void)
{
	forwards_run();
	if (pumps.others)
		others_look();
	for (uint32_t turns = pumps.live; turns && pumps.first; turns--) {
		struct pump *p = &pumps.p[list_take()];

		if (p->fd >= 0 && p->gate < 0)
			pump_run(p);
	}
	close_down();
}
