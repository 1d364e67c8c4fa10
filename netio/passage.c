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
 * An epoll set is the kernel's, and goes as it is (kept.c); a hold of its half here
 * lasts until TAKEN, or some seconds: nobody can tell when it was thrown away.
 *
 * A listener is a kernel socket that works for strangers as well, and goes as it
 * is. It has a hold, too, from PASS until somebody who received it says TAKEN. If
 * nobody does, the keeper looks for its inode among the kernel's sockets at growing
 * intervals; once it is not there the message was thrown away.
 *
 * A receiver that does not load this library, or uses another stack, has the
 * token, which is one end of a pump (pump.c). The keeper starts it when the
 * stranger writes, or when it finds the token among the descriptors of a process
 * that has no part in the stack, twice in a row, so that a receiver has the time
 * to claim. Where it cannot look (no /proc, another user's process) it starts in
 * the end if nobody else has the connection. A token that is pumped cannot be
 * claimed any more: who receives it later is a stranger, too.
 *
 * A keeper that is killed takes what is on its way with it: tokens hang up, and who
 * makes the next keeper drops the holds first.
 *
 * Place in the flow: preload/passing.c -> netio_pass(), netio_claim() -> keeper.c ->
 * passage_*() in the keeper.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "netio/passage.h"
#include "netio/pump.h"

#define PREFIX	    "utcp-token/"
#define ANSWER_MS   2000
#define LOOK_FIRST  (50 * NS_PER_MS)
#define LOOK_LAST   (2 * NS_PER_S)
#define LOOK_AGAIN  (20 * NS_PER_MS)
#define LOOK_HOOKED (3 * NS_PER_S)  /* for who has loaded us, and may be about to claim */
#define LOOK_BLIND  (10 * NS_PER_S) /* what cannot be told by then is decided all the same */

/* ------------------------------------------------------------ names */

/* The stack, as far as a stranger to it can know. */
static uint64_t stack_hash(const struct netio_config *c)
{
	struct sockaddr_un sun;
	socklen_t len = rendezvous_address(c, &sun);
	uint64_t h = 0xcbf29ce484222325ull;

	for (socklen_t i = 0; i < len; i++)
		h = (h ^ ((const uint8_t *)&sun)[i]) * 0x100000001b3ull;
	return h;
}

/* What the keeper's end of a token is called: the stack, and a number. */
static size_t name_prefix(const struct netio_config *c, char *out, size_t size)
{
	return (size_t)snprintf(out, size, PREFIX "%016llx/", (unsigned long long)stack_hash(c));
}

/* No address of a program's looks like that, and no small number. */
uint32_t netio_set_mark(const struct netio_config *c)
{
	uint64_t h = stack_hash(c);

	return (uint32_t)(h ^ h >> 32) | 0x80000000u;
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
	int err = pump_pair(token);
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
	int fd = (int)netio_fd_call(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, 0), err;
	struct sockaddr_un sun;
	socklen_t len = rendezvous_address(c, &sun);

	if (fd < 0)
		return false;
	err = (int)RAW3(SYS_bind, fd, &sun, len);
	raw_close(fd);
	return err == -EADDRINUSE;
}

/* ------------------------------------------------------------ the sender */

static void passage_unhold(struct netio *n, ref hold)
{
	proc_hold_end(netio_enter(n), hold);
	netio_leave(n);
}

/*
 * The hold, and the word of it to the keeper, which drops it in the end. Under the
 * lock, so that a hold belongs to the sender or to one keeper at any time
 * (passages_forget).
 */
static int pass_on(struct netio *n, struct pass_message *m, const int *fds, uint32_t count)
{
	struct stack_cx *cx = netio_enter(n);
	struct region_head *h = n->region.head;
	int err = -ENOMEM;

	if (!h->passages)
		h->passages = pool_alloc(cx, POOL_PROC, REF_NONE);
	m->hold = hold_new(cx, h->passages, m->object);
	if (m->hold) {
		err = message_send(n->keeper_fd, m, sizeof *m, fds, count);
		if (err)
			proc_hold_end(cx, m->hold);
	}
	netio_leave(n);
	return err;
}

int netio_pass(struct netio *n, const struct netio_config *c, ref object, int placeholder)
{
	struct pass_message m = {.type = MESSAGE_PASS, .object = object};
	struct stat st;
	int token[2], err = keeper_start(n);

	if (!err)
		err = token_make(c, token);
	if (err)
		return err;
	m.cookie = cookie_of(token[0]);
	m.inode = RAW2(SYS_fstat, token[0], &st) ? 0 : st.st_ino;
	err = pass_on(n, &m, (int[]){token[1], placeholder}, 2);
	raw_close(token[1]);
	if (err)
		raw_close(token[0]);
	return err ? err : token[0];
}

int netio_pass_listener(struct netio *n, ref object, uint64_t cookie, uint64_t inode)
{
	struct pass_message m = {.type = MESSAGE_PASS, .object = object, .cookie = cookie, .inode = inode};
	int err = keeper_start(n);

	return err ? err : pass_on(n, &m, NULL, 0);
}

int netio_pass_set(struct netio *n, struct waitset *ws)
{
	struct pass_message m = {.type = MESSAGE_PASS, .object = ws->set, .inode = PASSES_SET};
	int err = netio_keep_set(n, ws);

	if (err)
		return err;
	m.cookie = evset_tag(netio_enter(n), ws->set);
	netio_leave(n);
	return pass_on(n, &m, NULL, 0);
}

/* ------------------------------------------------------------ the receiver */

/* Under the lock the line is not replaced by a new one. */
static int keeper_tell(struct netio *n, const struct pass_message *m, const int *fds, uint32_t count)
{
	int err;

	lock_acquire(n);
	err = n->keeper_fd < 0 ? -ENOTCONN : message_send(n->keeper_fd, m, sizeof *m, fds, count);
	lock_release(n);
	return err;
}

int passage_ask(struct netio *n, uint64_t cookie, ref *object, int fds[MESSAGE_FDS])
{
	struct pass_message m = {.type = MESSAGE_CLAIM, .cookie = cookie}, got = {0};
	int pair[2], err = -ENOTCONN;

	if (n->keeper_fd >= 0)
		err =
		    (int)netio_fd_call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (long)pair);
	if (err)
		return err;
	err = keeper_tell(n, &m, &pair[1], 1);
	raw_close(pair[1]);
	if (!err)
		err = message_wait(pair[0], ANSWER_MS);
	if (!err && (message_receive_fds(pair[0], &got, sizeof got, fds) != sizeof got || fds[0] < 0))
		err = -ENOENT;
	raw_close(pair[0]);
	*object = got.object;
	return err;
}

int netio_claim(struct netio *n, int fd, ref *object)
{
	int fds[MESSAGE_FDS] = {-1, -1, -1, -1, -1}, err = passage_ask(n, cookie_of(fd), object, fds);

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

	keeper_tell(n, &m, NULL, 0);
}

/* ------------------------------------------------------------ the keeper */

struct passage {
	int fd;		 /* of the token; -1: a listener's passage */
	int placeholder; /* -1 */
	bool used, seen; /* seen: a stranger had the token at the last look */
	ref object, hold;
	uint64_t cookie, inode;
	nsec begun, look, step; /* when to look, and how long after that */
};

struct claim {
	uint64_t cookie;
	int answer;
};

static struct {
	struct passage *at;
	struct claim *claim; /* of tokens that we have not heard of yet */
	uint32_t room, live, claims;
	int epfd;
} passages;

#define CLAIMS_MAX 256u

uint32_t passages_live(void)
{
	return passages.live;
}

static struct passage *passage_free(void)
{
	uint32_t i = 0;

	while (i < passages.room && passages.at[i].used)
		i++;
	if (i == passages.room) {
		struct passage *more = pages_table_grow(passages.at, &passages.room, sizeof *more);

		if (!more)
			return NULL;
		passages.at = more;
	}
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
	struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};
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
	passages.epfd = epfd;
	e.data.u64 = PASSAGE_EVENTS + (uint64_t)(p - passages.at);
	if (token && RAW4(SYS_epoll_ctl, epfd, EPOLL_CTL_ADD, p->fd, &e))
		passage_end(n, p);
}

/* Who has the token knows nothing of us. */
static void stranger_has(struct netio *n, struct passage *p)
{
	RAW4(SYS_epoll_ctl, passages.epfd, EPOLL_CTL_DEL, p->fd, NULL);
	if (!pump_stranger(n, passages.epfd, p->object, p->fd))
		p->fd = -1;
	passage_end(n, p);
}

/* The token is closed, or somebody writes to it, whom we do not know: the pair's own byte is not the only
 * one. */
void passage_event(struct netio *n, uint64_t tag, uint32_t events)
{
	struct passage *p = &passages.at[tag - PASSAGE_EVENTS];
	int bytes = 0;

	if (tag - PASSAGE_EVENTS >= passages.room || !p->used || p->fd < 0)
		return;
	raw_ioctl(p->fd, FIONREAD, &bytes);
	if (bytes > 1 || (events & (EPOLLRDHUP | EPOLLHUP)) == EPOLLRDHUP)
		stranger_has(n, p);
	else if (events & EPOLLHUP)
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
	return kept_answer(c->cookie, c->answer);
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

static bool thrown_away(const struct passage *p, nsec now)
{
	int v4, v6;

	if (p->inode == PASSES_SET) /* nobody can tell where an epoll set is, or an undecided socket */
		return now >= p->begun + LOOK_BLIND;
	v4 = inode_in_table("/proc/net/tcp", p->inode);
	v6 = v4 == 1 ? 0 : inode_in_table("/proc/net/tcp6", p->inode);

	if (v4 == 1 || v6 == 1)
		return false;
	return v4 == 0 || now >= p->begun + LOOK_BLIND;
}

/* ------------------------------------------------------------ strangers */

#define PIDS_MAX 4096u

struct entry { /* linux_dirent64, with its name behind it */
	uint64_t ino, off;
	uint16_t len;
	uint8_t type;
	char name[];
};

/* Numbers in a directory of /proc: calls f until it says enough. A negative errno: cannot be read. */
static int each_number(int dir, bool (*f)(int dir, const char *name, void *arg), void *arg)
{
	_Alignas(struct entry) char bytes[4096];
	long r;

	while ((r = RAW3(SYS_getdents64, dir, bytes, sizeof bytes)) > 0) {
		for (long at = 0; at < r;) {
			const struct entry *e = (const struct entry *)(void *)(bytes + at);

			if (e->name[0] >= '0' && e->name[0] <= '9' && f(dir, e->name, arg))
				return 1;
			at += e->len;
		}
	}
	return (int)r;
}

static int number_of(const char *name)
{
	int n = 0;

	for (; *name >= '0' && *name <= '9'; name++)
		n = n * 10 + *name - '0';
	return n;
}

struct search {
	int32_t *known; /* processes of the stack */
	uint32_t count;
	nsec now;
	int proc, pid; /* whose descriptors these are */
	int hooked;    /* -1: not asked yet */
};

/* Has it loaded this library? Then it may be about to enter the stack. */
static bool is_hooked(struct search *s)
{
	static const char library[] = "/libutcp.so";
	char path[32], text[4096 + 1];
	size_t have = 0;
	long r;
	int fd;

	if (s->hooked >= 0)
		return s->hooked;
	s->hooked = 0;
	snprintf(path, sizeof path, "%d/maps", s->pid);
	fd = (int)RAW4(SYS_openat, s->proc, path, O_RDONLY | O_CLOEXEC, 0);
	while (fd >= 0 && !s->hooked && (r = raw_read(fd, text + have, sizeof text - 1 - have)) > 0) {
		have += (size_t)r;
		s->hooked = memmem(text, have, library, sizeof library - 1) != NULL;
		if (have > sizeof library) {
			memmove(text, text + have - sizeof library, sizeof library);
			have = sizeof library;
		}
	}
	if (fd >= 0)
		raw_close(fd);
	return s->hooked;
}

/* A descriptor of a process: is it a token? */
static bool descriptor_look(int dir, const char *name, void *arg)
{
	char link[64];
	uint64_t inode = 0;
	struct search *s = arg;
	long r = RAW4(SYS_readlinkat, dir, name, link, sizeof link - 1);

	if (r < 9 || memcmp(link, "socket:[", 8) != 0)
		return false;
	link[r] = 0;
	for (const char *d = link + 8; *d >= '0' && *d <= '9'; d++)
		inode = inode * 10 + (uint64_t)(*d - '0');
	for (uint32_t i = 0; i < passages.room; i++) {
		struct passage *p = &passages.at[i];

		if (p->used && p->fd >= 0 && p->inode == inode &&
		    (!is_hooked(s) || s->now >= p->begun + LOOK_HOOKED))
			p->look = 0; /* found */
	}
	return false;
}

static bool process_look(int dir, const char *name, void *arg)
{
	struct search *s = arg;
	int pid = number_of(name), fds;
	char path[32];

	for (uint32_t i = 0; i < s->count; i++)
		if (s->known[i] == pid)
			return false;
	snprintf(path, sizeof path, "%d/fd", pid);
	fds = (int)RAW4(SYS_openat, dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fds < 0)
		return false;
	s->proc = dir;
	s->pid = pid;
	s->hooked = -1;
	each_number(fds, descriptor_look, s);
	raw_close(fds);
	return false;
}

/* Who has them? What was found has `look` 0. */
static void strangers_look(struct netio *n, nsec now)
{
	struct search s = {.known = pages_alloc(PIDS_MAX * sizeof *s.known), .now = now};
	int dir = (int)RAW4(SYS_openat, AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	if (s.known && dir >= 0) {
		s.count = procs_pids(n, netio_enter(n), s.known, PIDS_MAX - 1);
		netio_leave(n);
		s.known[s.count++] = (int32_t)RAW1(SYS_getpid, 0);
		each_number(dir, process_look, &s);
	}
	if (dir >= 0)
		raw_close(dir);
	if (s.known)
		pages_free(s.known, PIDS_MAX * sizeof *s.known);
}

/* Nobody but the message has the connection. */
static bool alone(struct netio *n, const struct passage *p)
{
	struct stack_cx *cx = netio_enter(n);
	bool r = ((struct shared_object *)pool_at(cx, p->object))->holders == 1;

	netio_leave(n);
	return r;
}

static void token_judge(struct netio *n, struct passage *p, nsec now)
{
	bool found = !p->look;

	if ((found && p->seen) || (!found && now >= p->begun + LOOK_BLIND && alone(n, p))) {
		stranger_has(n, p);
		return;
	}
	p->seen = found;
	p->step = MIN_OF(p->step * 2, (nsec)LOOK_LAST);
	p->look = now + (found ? LOOK_AGAIN : p->step);
}

/* ------------------------------------------------------------ looking */

nsec passages_look(struct netio *n)
{
	nsec now = netio_now(), next = NSEC_NEVER;
	bool due = false;

	for (uint32_t i = 0; i < passages.room; i++)
		due = due || (passages.at[i].used && passages.at[i].fd >= 0 && now >= passages.at[i].look);
	if (due)
		strangers_look(n, now);
	for (uint32_t i = 0; i < passages.room; i++) {
		struct passage *p = &passages.at[i];

		if (!p->used)
			continue;
		if (p->fd >= 0 && now >= p->look) {
			token_judge(n, p, now);
		} else if (p->fd < 0 && now >= p->look) {
			p->step = MIN_OF(p->step * 2, (nsec)LOOK_LAST);
			p->look = now + p->step;
			if (thrown_away(p, now))
				passage_end(n, p);
		}
		if (p->used)
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
