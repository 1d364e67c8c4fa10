/*
 * epoll_heir.c - epoll sets that go to another image or process, and those that
 * come from there: by exec(), posix_spawn() or in a message.
 *
 * Theory of operation. E is a kernel object and goes as it is, with the kernel's
 * members. Its other half is an evset in the region, which anybody can have a part
 * in. The two find each other by the tag: the bell is a member of E under the
 * evset's tag, and the keeper has the bell (netio/kept.c has the theory). Before E
 * goes it is marked so; for exec() and posix_spawn() the heir's slot has a part in
 * the evset as it has in connections, for a message the keeper has one meanwhile.
 *
 * The heir makes a wait set W(E) of its own on that evset: the same members, ready
 * list, edges and ONESHOT states for all who have E, as after fork(). Members keep
 * the key that they were added by, (number, description), as in the kernel.
 *
 * An heir without hooks (static, setuid) that is the only one to have E gets pump
 * ends for its connections (pump.c), and these become members of E in the kernel
 * with the events and data that the connections had (epoll_pumped). Where others go on
 * with E, it sees the bell: readable while one of the stack's members is.
 *
 * Place in the flow: exec.c, spawn.c, passing.c -> here -> netio/wait.c, kept.c.
 */
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/syscall.h>

#include "netio/rawsys.h"
#include "preload/epoll.h"
#include "preload/fdtable.h"
#include "preload/process.h"
#include "preload/pump.h"

/* ------------------------------------------------------------ going */

/* Without `sys`: most processes that get something have nothing to do with us. */
static bool is_epoll(int fd)
{
	static const char name[] = "anon_inode:[eventpoll]";
	char path[48], link[sizeof name];
	long n;

	log_format(path, sizeof path, "/proc/self/fd/%d", fd);
	n = RAW4(SYS_readlinkat, AT_FDCWD, path, link, sizeof link);
	return n == sizeof name - 1 && !memcmp(link, name, sizeof name - 1);
}

static void set_mark(struct set *s)
{
	if (!s->exposed)
		epoll_kernel_ctl(s->fd, EPOLL_CTL_ADD, waitset_bell(s->ws), 0, s->tag);
}

ref epoll_pass(int fd)
{
	struct set *s;
	ref evset = REF_NONE;

	if (!atomic_load(&epoll_joined))
		return REF_NONE;
	sets_lock();
	s = set_of(fd);
	if (s && s->ws) {
		set_mark(s);
		netio_keep_set(the_stack, s->ws);
		evset = waitset_evset(s->ws);
	}
	sets_unlock();
	return evset;
}

/* Is our number the same file as the parent's that lent us its memory? Where the kernel does not tell: by
 * number.
 */
static bool parents_file(int fd, int theirs)
{
	long r = RAW6(SYS_kcmp, RAW1(SYS_getpid, 0), process.pid, KCMP_FILE, fd, theirs, 0);

	return r < 0 ? fd == theirs : r == 0;
}

/*
 * The table says nothing of the child's numbers; the mutex is good in it, because whoever holds it runs, and
 * this thread does not. The stack's lock is not.
 */
uint64_t epoll_pass_vfork(int fd)
{
	uint64_t tag = 0;

	if (!atomic_load(&epoll_joined) || !is_epoll(fd))
		return 0;
	sets_lock();
	for (struct set *s = epoll_sets; s && !tag; s = s->next) {
		if (!s->ws || !parents_file(fd, s->fd))
			continue;
		tag = s->tag;
		if (!s->exposed)
			epoll_kernel_ctl(fd, EPOLL_CTL_ADD, waitset_bell(s->ws), 0, tag);
		netio_keep_set_vfork(the_stack, s->ws, tag);
	}
	sets_unlock();
	return tag;
}

void epoll_send(int fd)
{
	struct set *s;

	if (!atomic_load(&epoll_joined))
		return;
	sets_lock();
	s = set_of(fd);
	if (s && s->ws) {
		set_mark(s);
		netio_pass_set(the_stack, s->ws);
	}
	sets_unlock();
}

/* ------------------------------------------------------------ to a program without hooks */

/* The number under which it will have description d, that was added as `fd`; -1: it will not. */
static int heirs_number(const struct pump_plan *p, int fd, ref d)
{
	uint64_t cookie = description_of(d)->cookie;
	int other = -1;

	if (description_of(d)->kind == FD_LISTENER)
		return cookie_of(fd) == cookie ? fd : -1;
	for (int i = 0; i < p->count; i++) {
		if (p->number[i].cookie != cookie)
			continue;
		if (p->number[i].fd == fd)
			return fd;
		other = p->number[i].fd;
	}
	return other;
}

/* The stack's members of s, what is theirs in the heir. */
static void members_pump(struct set *s, const struct pump_plan *p, int op)
{
	struct stack_cx *cx = netio_enter(the_stack);
	ref w = REF_NONE;

	while ((w = watch_next_of_set(cx, waitset_evset(s->ws), w)) != REF_NONE) {
		ref d = key_description(watch_key(cx, w));
		uint32_t events;
		uint64_t data;
		int fd = -1;

		if (pool_valid(cx, POOL_DESCRIPTION, d) && description_at(cx, d)->sock == watch_socket(cx, w))
			fd = heirs_number(p, key_number(watch_key(cx, w)), d);
		watch_read(cx, w, &events, &data);
		if (fd >= 0)
			epoll_kernel_ctl(s->fd, op, fd, events, data);
	}
	netio_leave(the_stack);
}

/* Nothing in E is ours any more. */
static void set_hush(struct set *s)
{
	epoll_kernel_ctl(s->fd, EPOLL_CTL_DEL, waitset_bell(s->ws), 0, 0);
	epoll_kernel_ctl(s->fd, EPOLL_CTL_DEL, waitset_post(s->ws), 0, 0);
	for (struct member *m = s->listeners; s->exposed && m; m = m->next)
		epoll_kernel_ctl(s->fd, EPOLL_CTL_DEL, m->kernel_fd, 0, 0);
	s->exposed = false;
}

void epoll_pumped(const struct pump_plan *p)
{
	sets_lock();
	for (struct set *s = epoll_sets; s; s = s->next) {
		if (!s->ws)
			continue;
		if (waitset_is_shared(s->ws)) {
			set_expose(s);
			continue;
		}
		set_hush(s);
		members_pump(s, p, EPOLL_CTL_ADD);
	}
	sets_unlock();
}

void epoll_unpumped(const struct pump_plan *p)
{
	sets_lock();
	for (struct set *s = epoll_sets; s; s = s->next) {
		if (!s->ws || waitset_is_shared(s->ws))
			continue;
		members_pump(s, p, EPOLL_CTL_DEL);
		if (waitset_is_shown(s->ws))
			set_expose(s);
	}
	sets_unlock();
}

void epoll_show(ref evset)
{
	sets_lock();
	for (struct set *s = epoll_sets; s; s = s->next)
		if (s->ws && waitset_evset(s->ws) == evset)
			set_expose(s);
	sets_unlock();
}

/* ------------------------------------------------------------ coming */

static bool mark_looks(uint64_t data)
{
	return data >> 32 == netio_set_mark(&the_config.net);
}

static bool item_marked(const struct epoll_item *i, void *arg)
{
	uint64_t *tag = arg;
	struct stack_cx *cx;
	bool known;

	if (!mark_looks(i->data))
		return false;
	*tag = i->data;
	if (!the_stack)
		return true; /* it may be; the stack is not entered yet */
	cx = netio_enter(the_stack);
	known = evset_of_tag(cx, i->data) != REF_NONE;
	netio_leave(the_stack);
	return known;
}

bool epoll_is_marked(int fd)
{
	uint64_t tag;

	if (!is_epoll(fd))
		return false;
	process_init();
	return epoll_each_item(fd, item_marked, &tag);
}

/* The next listener of ours among the members whose kernel half is not in W(E) yet; false: none. */
static bool listener_left(struct set *s, int *fd, ref *d)
{
	ref evset = waitset_evset(s->ws), w = REF_NONE;
	struct stack_cx *cx = netio_enter(the_stack);
	bool found = false;

	while (!found && (w = watch_next_of_set(cx, evset, w)) != REF_NONE) {
		*d = key_description(watch_key(cx, w));
		*fd = key_number(watch_key(cx, w));
		found = pool_valid(cx, POOL_DESCRIPTION, *d) && description_at(cx, *d)->kind == FD_LISTENER &&
			description_at(cx, *d)->sock == watch_socket(cx, w) && local_of(*d)->hold &&
			local_of(*d)->kernel_fd >= 0 && !listener_member(s, *d);
	}
	netio_leave(the_stack);
	return found;
}

static void listeners_find(struct set *s)
{
	ref d;
	int fd;

	while (listener_left(s, &fd, &d))
		if (listener_add(s, fd, d))
			return;
}

void epoll_half_found(ref d)
{
	if (!atomic_load(&epoll_joined) || local_of(d)->kernel_fd < 0)
		return;
	sets_lock();
	for (struct set *s = epoll_sets; s; s = s->next)
		if (s->ws)
			listeners_find(s);
	sets_unlock();
}

static struct set *set_adopt(int fd, uint64_t tag)
{
	struct set *s = set_new(fd, 1);

	if (!s)
		return NULL;
	if (waitset_adopt(the_stack, tag, &s->ws)) {
		s->ws = NULL;
		return s;
	}
	s->tag = tag;
	s->exposed = waitset_is_shown(s->ws);
	if (s->exposed)
		atomic_store(&epoll_any_exposed, true);
	atomic_fetch_add(&epoll_joined, 1);
	if (waitset_add_fd(s->ws, fd, EPOLLIN, TAG_KERNEL))
		s->polled = true;
	listeners_find(s);
	return s;
}

uint64_t epoll_arrived(int fd)
{
	struct set *s;
	uint64_t tag;

	if (!is_epoll(fd) || !epoll_each_item(fd, item_marked, &tag) || fd_install(fd, FD_EPOLL, REF_NONE))
		return 0;
	atomic_store(&epoll_any, true);
	sets_lock();
	for (s = epoll_sets; s; s = s->next)
		if (s->ws && s->tag == tag)
			break;
	if (s)
		number_add(fd, s);
	else
		set_adopt(fd, tag);
	sets_unlock();
	return tag;
}

/* ------------------------------------------------------------ sets in sets */

/* Is the file of number `inner` the member of `outer` that was added by number `as`? */
static bool same_file(int outer, int as, int inner)
{
	struct kcmp_epoll_slot slot = {(uint32_t)outer, (uint32_t)as, 0};
	long pid = sys.syscall(SYS_getpid), r;

	r = sys.syscall(SYS_kcmp, pid, pid, KCMP_EPOLL_TFD, inner, &slot);
	return r < 0 && errno != ENOENT ? as == inner : r == 0;
}

static bool item_nests(const struct epoll_item *i, void *arg)
{
	struct set *outer = arg;

	for (struct set *s = epoll_sets; s; s = s->next)
		if (s != outer && s->ws && same_file(outer->fd, i->fd, s->fd))
			nest_record(outer, EPOLL_CTL_ADD, s->fd);
	return false;
}

void epoll_nest_arrived(void)
{
	int saved_errno = errno;

	sets_lock();
	for (struct set *s = epoll_sets; s; s = s->next)
		if (s->ws)
			epoll_each_item(s->fd, item_nests, s);
	sets_unlock();
	errno = saved_errno;
}
