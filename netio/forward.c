/*
 * forward.c - listeners whose holders cannot serve the stack.
 *
 * A static program that inherits a listener, or a process that enters a sandbox
 * with one, still has its kernel half, and waits there. What arrives on the stack
 * for it would wait in the stack's half for ever. So while such processes ("blind")
 * are the only ones that have a part in the listener, the keeper accepts for them:
 * it connects to the kernel half over loopback, as any client of this machine, and
 * pumps between the two (pump.c). The program sees all of the connection but the
 * peer's address, which is 127.0.0.1.
 *
 *   peer == TCP ==> stack's half -> keeper == TCP over lo ==> kernel half -> program
 *
 * If nobody listens there any more the program has closed its listener: so does the
 * stack. A listener on the stack's own address cannot be reached over loopback, and
 * is left as it is.
 *
 * Place in the flow: keeper.c -> here -> pump.c.
 */
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "netio/forward.h"
#include "netio/pump.h"

#define FORWARDS_MAX 256
#define ANSWER_NS    5000000
#define AGAIN_NS     (100 * NS_PER_MS) /* what could not be taken is looked at again */

struct forward {
	ref object, sock; /* of a listener; object REF_NONE: free */
	bool ready;
	nsec again; /* what waits could not be taken: when to try again; 0: nothing such */
};

static struct {
	struct netio *n;
	struct forward f[FORWARDS_MAX];
	uint32_t live;
} forwards;

uint32_t forwards_live(void)
{
	return forwards.live;
}

/* Where the kernel half of a listener on `local` can be reached. 0: nowhere. */
static socklen_t kernel_address(const struct endpoint *local, struct sockaddr_storage *ss)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof *ss);
	if (ipaddr_is_any(&local->addr) || (ipaddr_is_v4(&local->addr) && ipaddr_is_loopback(&local->addr))) {
		sin->sin_family = AF_INET;
		sin->sin_port = htons(local->port);
		sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		if (!ipaddr_is_any(&local->addr))
			memcpy(&sin->sin_addr, local->addr.b + 12, sizeof sin->sin_addr);
		return sizeof *sin;
	}
	if (!ipaddr_is_loopback(&local->addr))
		return 0;
	six->sin6_family = AF_INET6;
	six->sin6_port = htons(local->port);
	six->sin6_addr = in6addr_loopback;
	return sizeof *six;
}

static bool listens(struct stack_cx *cx, ref s, struct sockaddr_storage *ss, socklen_t *len)
{
	struct endpoint local;
	int yes = 0;

	if (sock_get_option(cx, s, SOCK_OPT_ACCEPTCONN, &yes) || !yes || sock_names(cx, s, &local, NULL))
		return false;
	*len = kernel_address(&local, ss);
	return *len != 0;
}

/* Is it still the listener that it was, with holders that are all blind? Under the lock. */
static bool unattended(struct stack_cx *cx, const struct forward *f)
{
	const struct shared_object *o = pool_at(cx, f->object);

	return pool_valid(cx, POOL_DESCRIPTION, f->object) && o->sock == f->sock && o->holders &&
	       procs_all_blind(forwards.n, cx, f->object);
}

static void forward_end(struct stack_cx *cx, struct forward *f)
{
	ref w = watch_find(cx, pumps_evset(), FORWARD_DATA | (uint64_t)(f - forwards.f));

	if (w)
		watch_remove(cx, w);
	f->object = REF_NONE;
	forwards.live--;
}

/* A listener of a blind process. */
static void forward_note(ref object, void *arg)
{
	struct stack_cx *cx = arg;
	const struct shared_object *o = pool_at(cx, object);
	struct sockaddr_storage ss;
	uint32_t free = FORWARDS_MAX;
	socklen_t len;

	if (!o->sock || !listens(cx, o->sock, &ss, &len))
		return;
	for (uint32_t i = FORWARDS_MAX; i-- > 0;) {
		if (forwards.f[i].object == object)
			return;
		if (!forwards.f[i].object)
			free = i;
	}
	if (free == FORWARDS_MAX || !watch_add(cx, pumps_evset(), o->sock, SOCK_IN | EPOLLET,
					       FORWARD_DATA | free, FORWARD_DATA | free))
		return;
	forwards.f[free] = (struct forward){.object = object, .sock = o->sock, .ready = true};
	forwards.live++;
}

void forwards_update(struct netio *n, int epfd)
{
	struct stack_cx *cx;

	forwards.n = n;
	if (!forwards.live && !procs_any_blind(n))
		return;
	if (pumps_open_up(n, epfd))
		return;
	cx = netio_enter(n);
	for (uint32_t i = 0; i < FORWARDS_MAX; i++) {
		struct forward *f = &forwards.f[i];

		if (!f->object)
			continue;
		/* What somebody else attends to now may be left to us again. */
		if (!procs_blind_holder(n, cx, f->object) ||
		    ((const struct shared_object *)pool_at(cx, f->object))->sock != f->sock)
			forward_end(cx, f);
		else
			f->ready = true;
	}
	procs_each_blind(n, cx, forward_note, cx);
	netio_leave(n);
}

void forward_event(uint64_t data)
{
	forwards.f[(uint32_t)data % FORWARDS_MAX].ready = true;
}

/*
 * Over loopback the answer is there at once, but for a full backlog: that
 * connection goes on being made while it is pumped, as the kernel tries again.
 */
static int outcome(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	struct timespec ts = {0, ANSWER_NS};
	int err = 0;
	socklen_t size = sizeof err;

	if (RAW6(SYS_ppoll, &p, 1, &ts, NULL, 0, 0) == 1)
		RAW6(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &err, &size, 0);
	return -err;
}

static int dial(const struct sockaddr_storage *ss, socklen_t len)
{
	int fd = (int)RAW3(SYS_socket, ss->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err = fd < 0 ? fd : (int)RAW3(SYS_connect, fd, ss, len);

	if (err == -EINPROGRESS)
		err = outcome(fd);
	if (!err)
		return fd;
	if (fd >= 0)
		raw_close(fd);
	return err;
}

/* One connection. False: none waits, or it is not ours to take. */
static bool forward_one(struct forward *f)
{
	struct netio *n = forwards.n;
	struct stack_cx *cx = netio_enter(n);
	struct sockaddr_storage ss;
	socklen_t len = 0;
	int waiting = 0, fd;
	bool ours = f->object && unattended(cx, f) && listens(cx, f->sock, &ss, &len) &&
		    !sock_get_option(cx, f->sock, SOCK_OPT_ACCEPTQ, &waiting) && waiting > 0;

	netio_leave(n);
	if (!ours)
		return false;
	fd = dial(&ss, len);
	if (fd >= 0) {
		if (!pump_accepted(n, f->sock, fd))
			return true;
		raw_close(fd);
	}
	if (fd == -ECONNREFUSED) {
		/* The program has closed it: whoever waits there is reset. */
		ref object = f->object;

		cx = netio_enter(n);
		forward_end(cx, f);
		procs_give_up(n, cx, object);
		netio_leave(n);
	} else {
		f->again = netio_now() + AGAIN_NS; /* no descriptor, no memory: nobody tells when there is */
	}
	return false;
}

nsec forwards_next(void)
{
	nsec next = NSEC_NEVER;

	for (uint32_t i = 0; forwards.live && i < FORWARDS_MAX; i++)
		if (forwards.f[i].object && forwards.f[i].again)
			next = MIN_OF(next, forwards.f[i].again);
	return next;
}

void forwards_run(void)
{
	nsec now = forwards_next() < NSEC_NEVER ? netio_now() : 0;

	for (uint32_t i = 0; forwards.live && i < FORWARDS_MAX; i++) {
		struct forward *f = &forwards.f[i];

		if (f->object && f->again && now >= f->again) {
			f->again = 0;
			f->ready = true;
		}
		while (f->object && f->ready)
			f->ready = forward_one(f);
	}
}
