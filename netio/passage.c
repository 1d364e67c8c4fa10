/*
 * passage.c - connections and listeners on their way from one process to another
 * (SCM_RIGHTS).
 *
 * Theory of operation. A descriptor in a message that nobody has received yet is a
 * reference like any other: its sender may close its own, or die, and the
 * connection lives until the message is read, or thrown away unread. The kernel
 * tells nobody which of the two happens to a placeholder. So in a connection's
 * stead the sender puts one end of an AF_UNIX stream pair into the message, the
 * token. The keeper has the other end, the placeholder itself, and a hold:
 *
 *   sender    netio_pass()    hold (of the slot `passages`), PASS to the keeper,
 *                             then the message with the token
 *   keeper                    token hung up: nobody has it, the hold is dropped by
 *                             the rules of close()
 *   receiver  netio_claim()   the token's peer has a name that says "ours"; CLAIM
 *                             with its cookie; the answer is the placeholder and
 *                             the object. It replaces the token, which hangs up.
 *
 * So the receiver has the very open file description that was sent, flags and
 * identity (SO_COOKIE) included. MSG_PEEK, which copies descriptors, MSG_CTRUNC and
 * a process that passes to itself need nothing else: each token is claimed, or it
 * is gone.
 *
 * A listener is a kernel socket that works for strangers as well, and goes as it
 * is. It has a hold, too, from PASS until somebody who received it says TAKEN. If
 * nobody does, the keeper looks for its inode among the kernel's sockets at growing
 * intervals; once it is not there the message was thrown away.
 *
 * A receiver that does not load this library has the token, which is never
 * answered unless the keeper pumps it (pump.c).
 *
 * Place in the flow: preload/passing.c -> netio_pass(), netio_claim() -> keeper.c ->
 * passage_*() in the keeper.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "netio/passage.h"

#define PREFIX	   "utcp-token/"
#define ANSWER_MS  2000
#define LOOK_FIRST (50 * NS_PER_MS)
#define LOOK_LAST  (2 * NS_PER_S)
#define LOOK_BLIND (30 * NS_PER_S) /* without /proc it is given up then */

/* ------------------------------------------------------------ names */

/* What the keeper's end of a token is called: the stack, as far as a stranger to it can know, and a number.
 */
static size_t name_prefix(const struct netio_config *c, char *out, size_t size)
{
	struct sockaddr_un sun;
	socklen_t len = rendezvous_name(c, &sun);
	uint64_t h = 0xcbf29ce484222325ull;

	for (socklen_t i = 0; i < len; i++)
		h = (h ^ ((const uint8_t *)&sun)[i]) * 0x100000001b3ull;
	return (size_t)snprintf(out, size, PREFIX "%016llx/", (unsigned long long)h);
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof cookie;

	return RAW6(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, &cookie, &len, 0) ? 0 : cookie;
}

bool netio_is_token(const struct netio_config *c, int fd)
{
	struct sockaddr_un sun = {0};
	socklen_t len = sizeof sun;
	char prefix[64] = PREFIX;
	size_t n = sizeof PREFIX - 1;

	if (RAW3(SYS_getpeername, fd, &sun, &len) || sun.sun_family != AF_UNIX)
		return false;
	if (c)
		n = name_prefix(c, prefix, sizeof prefix);
	return len > offsetof(struct sockaddr_un, sun_path) + 1 + n && !sun.sun_path[0] &&
	       !memcmp(sun.sun_path + 1, prefix, n);
}

/* token[0] is for the message, token[1] for the keeper. */
static int token_make(const struct netio_config *c, int token[2])
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int err = (int)RAW4(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, token);
	size_t n;

	if (err)
		return err;
	n = name_prefix(c, sun.sun_path + 1, sizeof sun.sun_path - 1);
	n += (size_t)snprintf(sun.sun_path + 1 + n, sizeof sun.sun_path - 1 - n, "%llx",
			      (unsigned long long)cookie_of(token[0]));
	err = (int)RAW3(SYS_bind, token[1], &sun, offsetof(struct sockaddr_un, sun_path) + 1 + n);
	if (err) {
		raw_close(token[0]);
		raw_close(token[1]);
	}
	return err;
}

bool netio_stack_runs(const struct netio_config *c)
{
	int fd = (int)RAW3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), err;
	struct sockaddr_un sun;
	socklen_t len = rendezvous_name(c, &sun);

	if (fd < 0)
		return false;
	err = (int)RAW3(SYS_bind, fd, &sun, len);
	raw_close(fd);
	return err == -EADDRINUSE;
}

/* ------------------------------------------------------------ the sender */

static ref passage_hold(struct netio *n, ref object)
{
	struct stack_cx *cx = netio_enter(n);
	struct region_head *h = n->region.head;
	ref hold;

	if (!h->passages)
		h->passages = pool_alloc(cx, POOL_PROC, REF_NONE);
	hold = hold_new(cx, h->passages, object);
	netio_leave(n);
	return hold;
}

static void passage_unhold(struct netio *n, ref hold)
{
	proc_hold_end(netio_enter(n), hold);
	netio_leave(n);
}

int netio_pass(struct netio *n, const struct netio_config *c, ref object, int placeholder)
{
	struct pass_message m = {.type = MESSAGE_PASS};
	int token[2], err = keeper_start(n);

	if (!err)
		err = token_make(c, token);
	if (err)
		return err;
	m.cookie = cookie_of(token[0]);
	m.object = object;
	m.hold = passage_hold(n, object);
	err = m.hold ? message_send(n->keeper_fd, &m, sizeof m, (int[]){token[1], placeholder}, 2) : -ENOMEM;
	raw_close(token[1]);
	if (err) {
		raw_close(token[0]);
		if (m.hold)
			passage_unhold(n, m.hold);
	}
	return err ? err : token[0];
}

int netio_pass_listener(struct netio *n, ref object, uint64_t cookie, uint64_t inode)
{
	struct pass_message m = {.type = MESSAGE_PASS, .object = object, .cookie = cookie, .inode = inode};
	int err = keeper_start(n);

	if (err)
		return err;
	m.hold = passage_hold(n, object);
	if (!m.hold)
		return -ENOMEM;
	err = message_send(n->keeper_fd, &m, sizeof m, NULL, 0);
	if (err)
		passage_unhold(n, m.hold);
	return err;
}

/* ------------------------------------------------------------ the receiver */

int netio_claim(struct netio *n, int fd, ref *object)
{
	struct pass_message m = {.type = MESSAGE_CLAIM, .cookie = cookie_of(fd)}, got = {0};
	int pair[2], fds[MESSAGE_FDS] = {-1, -1, -1, -1}, err = -ENOTCONN;

	if (n->keeper_fd >= 0)
		err = (int)RAW4(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	if (err)
		return err;
	err = message_send(n->keeper_fd, &m, sizeof m, &pair[1], 1);
	raw_close(pair[1]);
	if (!err)
		err = message_wait(pair[0], ANSWER_MS);
	if (!err && (message_receive(pair[0], &got, sizeof got, fds) != sizeof got || fds[0] < 0))
		err = -ENOENT;
	raw_close(pair[0]);
	*object = got.object;
	return err ? err : fds[0];
}

ref netio_object_of(struct netio *n, struct stack_cx *cx, uint64_t cookie)
{
	(void)n;
	for (ref r = pool_next(cx, POOL_DESCRIPTION, REF_NONE); r && cookie;
	     r = pool_next(cx, POOL_DESCRIPTION, r)) {
		const struct shared_object *o = pool_at(cx, r);

		if (o->holders && o->cookie == cookie)
			return r;
	}
	return REF_NONE;
}

void netio_taken(struct netio *n, uint64_t cookie)
{
	struct pass_message m = {.type = MESSAGE_TAKEN, .cookie = cookie};

	if (n->keeper_fd >= 0)
		message_send(n->keeper_fd, &m, sizeof m, NULL, 0);
}

/* ------------------------------------------------------------ the keeper */

struct passage {
	int fd;		 /* of the token; -1: a listener's passage */
	int placeholder; /* -1 */
	bool used;
	ref object, hold;
	uint64_t cookie, inode;
	nsec begun, look, step; /* a listener's: when next, and how long after that */
};

struct claim {
	uint64_t cookie;
	int answer;
};

static struct {
	struct passage *at;
	struct claim *claim; /* of tokens that we have not heard of yet */
	uint32_t room, live, claims;
} passages;

#define CLAIMS_MAX 256u

uint32_t passages_live(void)
{
	return passages.live;
}

static struct passage *passage_free(void)
{
	uint32_t i = 0, room = MAX_OF(passages.room * 2, 64u);
	struct passage *more;

	while (i < passages.room && passages.at[i].used)
		i++;
	if (i < passages.room)
		return &passages.at[i];
	more = pages_alloc(room * sizeof *more);
	if (!more)
		return NULL;
	if (passages.at) {
		memcpy(more, passages.at, passages.room * sizeof *more);
		pages_free(passages.at, passages.room * sizeof *more);
	}
	passages.at = more;
	passages.room = room;
	return &passages.at[i];
}

static void passage_end(struct netio *n, struct passage *p)
{
	if (p->fd >= 0)
		raw_close(p->fd);
	if (p->placeholder >= 0)
		raw_close(p->placeholder);
	p->used = false;
	passages.live--;
	passage_unhold(n, p->hold);
}

void passage_begin(struct netio *n, int epfd, const struct pass_message *m, const int fds[2])
{
	struct passage *p = passage_free();
	struct epoll_event e = {.events = 0}; /* EPOLLHUP: the token is closed */
	bool token = fds[0] >= 0 && fds[1] >= 0;

	if (!p || (!token && !m->inode)) {
		passage_unhold(n, m->hold);
		for (int i = 0; i < 2; i++)
			if (fds[i] >= 0)
				raw_close(fds[i]);
		return;
	}
	*p = (struct passage){.fd = token ? fds[0] : -1,
			      .placeholder = token ? fds[1] : -1,
			      .used = true,
			      .object = m->object,
			      .hold = m->hold,
			      .cookie = m->cookie,
			      .inode = m->inode,
			      .begun = netio_now(),
			      .look = netio_now() + LOOK_FIRST,
			      .step = LOOK_FIRST};
	passages.live++;
	e.data.u64 = PASSAGE_EVENTS + (uint64_t)(p - passages.at);
	if (token && RAW4(SYS_epoll_ctl, epfd, EPOLL_CTL_ADD, p->fd, &e))
		passage_end(n, p);
}

void passage_event(struct netio *n, uint64_t tag)
{
	struct passage *p = &passages.at[tag - PASSAGE_EVENTS];

	if (tag - PASSAGE_EVENTS < passages.room && p->used && p->fd >= 0)
		passage_end(n, p);
}

static bool claim_try(const struct claim *c)
{
	struct pass_message m = {.type = MESSAGE_CLAIM};

	for (uint32_t i = 0; i < passages.room; i++) {
		const struct passage *p = &passages.at[i];

		if (!p->used || p->fd < 0 || p->cookie != c->cookie)
			continue;
		m.object = p->object;
		message_send(c->answer, &m, sizeof m, &p->placeholder, 1);
		raw_close(c->answer);
		return true;
	}
	return false;
}

void passage_claim(const struct pass_message *m, int answer)
{
	struct claim c = {m->cookie, answer};

	if (claim_try(&c))
		return;
	/* The sender's word may still lie in another line. */
	if (!passages.claim)
		passages.claim = pages_alloc(CLAIMS_MAX * sizeof *passages.claim);
	if (passages.claim && passages.claims < CLAIMS_MAX)
		passages.claim[passages.claims++] = c;
	else
		raw_close(answer);
}

bool passage_claims_wait(void)
{
	return passages.claims != 0;
}

void passage_claims_end(void)
{
	for (uint32_t i = 0; i < passages.claims; i++)
		if (!claim_try(&passages.claim[i]))
			raw_close(passages.claim[i].answer);
	passages.claims = 0;
}

void passage_taken(struct netio *n, uint64_t cookie)
{
	for (uint32_t i = 0; i < passages.room; i++) {
		struct passage *p = &passages.at[i];

		if (p->used && p->fd < 0 && p->cookie == cookie) {
			passage_end(n, p);
			return;
		}
	}
}

/* Is there a kernel TCP socket with this inode? A negative errno: nobody can tell. */
static int listens(const char *table, uint64_t inode)
{
	char text[4096], wanted[32];
	int fd = (int)RAW4(SYS_openat, AT_FDCWD, table, O_RDONLY | O_CLOEXEC, 0);
	size_t have = 0, len = (size_t)snprintf(wanted, sizeof wanted, " %llu ", (unsigned long long)inode);
	bool found = false;
	long r;

	if (fd < 0)
		return fd;
	while (!found && (r = raw_read(fd, text + have, sizeof text - 1 - have)) > 0) {
		have += (size_t)r;
		text[have] = 0;
		found = memmem(text, have, wanted, len) != NULL;
		/* the end of this piece may be the beginning of what we look for */
		if (have > len) {
			memmove(text, text + have - len, len);
			have = len;
		}
	}
	raw_close(fd);
	return found;
}

static bool thrown_away(const struct passage *p, nsec now)
{
	int v4 = listens("/proc/net/tcp", p->inode), v6 = v4 == 1 ? 0 : listens("/proc/net/tcp6", p->inode);

	if (v4 == 1 || v6 == 1)
		return false;
	return v4 == 0 || now >= p->begun + LOOK_BLIND;
}

nsec passages_look(struct netio *n)
{
	nsec now = netio_now(), next = NSEC_NEVER;

	for (uint32_t i = 0; i < passages.room; i++) {
		struct passage *p = &passages.at[i];

		if (!p->used || p->fd >= 0)
			continue;
		if (now >= p->look) {
			if (thrown_away(p, now)) {
				passage_end(n, p);
				continue;
			}
			p->step = MIN_OF(p->step * 2, (nsec)LOOK_LAST);
			p->look = now + p->step;
		}
		next = MIN_OF(next, p->look);
	}
	return next;
}

void passages_forget(struct netio *n)
{
	struct stack_cx *cx = netio_enter(n);
	struct region_head *h = n->region.head;

	if (h->passages)
		proc_holds_end(cx, h->passages);
	netio_leave(n);
}
