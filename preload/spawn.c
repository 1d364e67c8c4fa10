/*
 * spawn.c - connections that a child of posix_spawn() inherits.
 *
 * Theory of operation. The child that libc makes runs none of our code before
 * its exec, and when posix_spawn() has returned its parent may close what it
 * passed on. So the parent does beforehand what a child of fork() and exec()
 * does itself: it works out which numbers the child will have, takes a hold for
 * it in each of those sockets, and gives it a life line and the environment that
 * names it (exec.c). The new image adopts what it finds and gives up the rest.
 *
 * Which numbers these are is the parent's own ones as the file actions leave
 * them, less those that are closed by exec. The actions are an array private to
 * libc; its layout, the same since they exist, is tried out before it is
 * believed (layout_known). The life line becomes one more action, at a number
 * that no other action touches; closefrom is given a gap for it.
 *
 *   action closefrom(3)  ->  dup2(line, 3), closefrom(4)
 *
 * Should the spawn fail the keeper sees the line hang up, and drops the holds.
 *
 * For a program that will not load this library (reach.c) the first actions put a
 * pump's end (pump.c) onto each number of a connection that the child gets in any
 * way: what the other actions make of the numbers is as it was. The pumps start
 * when the spawn has succeeded. Only listeners then need the line.
 *
 * Place in the flow: calls_spawn.c -> here -> netio_spawn_begin().
 */
#include <fcntl.h>
#include <sys/syscall.h>

#include "preload/calls.h"
#include "preload/fdtable.h"
#include "preload/pump.h"
#include "preload/reach.h"
#include "preload/spawn.h"
#include "preload/undecided.h"
#include "preload/wait.h"

/* libc's struct __spawn_action. */
enum action_tag { ACTION_CLOSE, ACTION_DUP2, ACTION_OPEN, ACTION_CHDIR, ACTION_FCHDIR, ACTION_CLOSEFROM };
struct action {
	int tag;
	union {
		int fd; /* close, open, fchdir, closefrom */
		struct {
			int from, to;
		} dup2;
		struct {
			int fd;
			char *path;
			int flags;
			mode_t mode;
		} open;
	};
};

static const struct action *actions_of(const posix_spawn_file_actions_t *a)
{
	return (const struct action *)(const void *)a->__actions;
}

static bool layout_try(void)
{
	posix_spawn_file_actions_t a;
	const struct action *e;
	bool good = false;

	if (posix_spawn_file_actions_init(&a))
		return false;
	if (!posix_spawn_file_actions_addopen(&a, 5, "x", O_RDWR, 0640) &&
	    !posix_spawn_file_actions_adddup2(&a, 7, 9) && !posix_spawn_file_actions_addclose(&a, 11) &&
	    !posix_spawn_file_actions_addfchdir_np(&a, 13) &&
	    !posix_spawn_file_actions_addclosefrom_np(&a, 15) && a.__used == 5 && a.__allocated >= 5) {
		e = actions_of(&a);
		good = e[0].tag == ACTION_OPEN && e[0].open.fd == 5 && e[0].open.path &&
		       !strcmp(e[0].open.path, "x") && e[0].open.flags == O_RDWR && e[0].open.mode == 0640 &&
		       e[1].tag == ACTION_DUP2 && e[1].dup2.from == 7 && e[1].dup2.to == 9 &&
		       e[2].tag == ACTION_CLOSE && e[2].fd == 11 && e[3].tag == ACTION_FCHDIR &&
		       e[3].fd == 13 && e[4].tag == ACTION_CLOSEFROM && e[4].fd == 15;
	}
	posix_spawn_file_actions_destroy(&a);
	return good;
}

static bool layout_known(void)
{
	static _Atomic int known; /* 0: not tried, 1: yes, 2: no */
	int k = atomic_load(&known);

	if (!k) {
		k = layout_try() ? 1 : 2;
		atomic_store(&known, k);
		if (k == 2)
			log_line(
			    "the file actions of this C library's posix_spawn are unknown to utcp; programs "
			    "started with such actions have no part in the connections");
	}
	return k == 1;
}

/* ------------------------------------------------------------ what the child will have */

/* The parent's number behind the child's `fd` after the first n actions, or -1; *cloexec: closed by its exec.
 */
static int origin_of(const struct action *a, int n, int fd, bool *cloexec)
{
	bool kept = false;

	while (n-- > 0) {
		switch (a[n].tag) {
		case ACTION_CLOSE:
		case ACTION_OPEN:
			if (a[n].fd == fd)
				return -1;
			break;
		case ACTION_CLOSEFROM:
			if (fd >= a[n].fd)
				return -1;
			break;
		case ACTION_DUP2:
			if (a[n].dup2.to == fd) {
				fd = a[n].dup2.from;
				kept = true;
			}
			break;
		default:
			break;
		}
	}
	*cloexec = !kept && sys.fcntl(fd, F_GETFD) & FD_CLOEXEC;
	return fd;
}

static uint32_t object_index(const struct spawn_plan *p, ref d)
{
	uint32_t i = 0;

	while (i < p->count && p->object[i] != d)
		i++;
	return i;
}

/* The child will have number fd. dup'ed: two numbers may be one socket; else only through actions. */
static void number_passes(struct spawn_plan *p, const struct action *a, int n, int fd)
{
	bool cloexec = false;
	int from = origin_of(a, n, fd, &cloexec);
	ref d;

	if (from < 0 || cloexec || fd_kind(from) == FD_KERNEL)
		return;
	if (fd_kind(from) == FD_TCP)
		undecided_share(from, true);
	if (fd_kind(from) == FD_EPOLL) {
		d = epoll_pass(from);
		if (!d)
			return;
		p->object[p->room - ++p->sets] = d; /* from the end; they need no reference */
	}
	p->passes = true;
	p->last = MAX_OF(p->last, fd);
	d = fd_hold(from);
	if (!d)
		return;
	if (atomic_load(&local_of(d)->numbers) + (uint32_t)n > 1 && object_index(p, d) < p->count)
		fd_release(d);
	else
		p->object[p->count++] = d;
}

static bool numbers_collect(struct spawn_plan *p, const struct action *a, int n)
{
	int last = fd_highest();

	p->object_bytes = ((size_t)last + 1 + (size_t)n) * sizeof *p->object;
	p->object = p->object_bytes ? pages_get(p->object_bytes) : NULL;
	p->room = (uint32_t)(p->object_bytes / sizeof *p->object);
	if (!p->object)
		return false;
	for (int fd = 0; fd <= last; fd++)
		if (fd_kind(fd) != FD_KERNEL)
			number_passes(p, a, n, fd);
	/* What the actions make of numbers that are nothing of ours here. */
	for (int i = 0; i < n; i++)
		if (a[i].tag == ACTION_DUP2 && (a[i].dup2.to > last || fd_kind(a[i].dup2.to) == FD_KERNEL))
			number_passes(p, a, n, a[i].dup2.to);
	memmove(p->object + p->count, p->object + p->room - p->sets, p->sets * sizeof *p->object);
	return true;
}

/* ------------------------------------------------------------ the life line's number */

static bool touched(const struct action *a, int n, int fd)
{
	for (int i = 0; i < n; i++)
		if ((a[i].tag == ACTION_DUP2 && (a[i].dup2.to == fd || a[i].dup2.from == fd)) ||
		    ((a[i].tag == ACTION_CLOSE || a[i].tag == ACTION_OPEN || a[i].tag == ACTION_FCHDIR) &&
		     a[i].fd == fd))
			return true;
	return false;
}

/* Where every closefrom leaves a gap: the lowest of them decides. INT32_MAX: there is none. */
static int closed_from(const struct action *a, int n)
{
	int from = INT32_MAX;

	for (int i = 0; i < n; i++)
		if (a[i].tag == ACTION_CLOSEFROM)
			from = MIN_OF(from, a[i].fd);
	return from;
}

/* closefrom(first) that spares `number`; returns the entries written. */
static int closefrom_around(struct action *out, int first, int number)
{
	int w = 0;

	for (int fd = first; fd < number; fd++)
		out[w++] = (struct action){.tag = ACTION_CLOSE, .fd = fd};
	out[w++] = (struct action){.tag = ACTION_CLOSEFROM, .fd = MAX_OF(first, number + 1)};
	return w;
}

/* A number for the line that the actions spare. */
static int line_number(const struct spawn_plan *p, const struct action *a, int n)
{
	int from = closed_from(a, n), number = p->line.fd;

	if (number < 0 || (number < from && !touched(a, n, number)))
		return number;
	number = from == INT32_MAX ? 3 : MAX_OF(from, 3);
	while (touched(a, n, number) || (number < from && sys.fcntl(number, F_GETFD) >= 0))
		number++;
	return number;
}

/* The pump's end for a number of ours; -1: none. */
static int heir_of(const struct spawn_plan *p, int fd)
{
	ref d = p->pump && fd_kind(fd) == FD_STREAM ? fd_hold(fd) : REF_NONE;
	uint32_t i = d ? object_index(p, d) : p->count;

	if (d)
		fd_release(d);
	return i < p->count ? p->pump[i].heir : -1;
}

/* Our numbers that pumps replace in the child: before the actions, and those that exec is to close, after. */
static int heirs_begin(const struct spawn_plan *p, struct action *out)
{
	int w = 0, last = p->pump ? fd_highest() : -1;

	for (int fd = 0; fd <= last; fd++) {
		int heir = heir_of(p, fd);
		if (heir >= 0)
			out[w++] = (struct action){.tag = ACTION_DUP2, .dup2 = {heir, fd}};
	}
	return w;
}

static int heirs_end(const struct spawn_plan *p, const struct action *a, int n, struct action *out)
{
	int w = 0, last = p->pump ? fd_highest() : -1;

	for (int fd = 0; fd <= last; fd++) {
		bool cloexec = false;
		if (heir_of(p, fd) >= 0 && origin_of(a, n, fd, &cloexec) == fd && cloexec)
			out[w++] = (struct action){.tag = ACTION_CLOSE, .fd = fd};
	}
	return w;
}

static size_t entries_max(const struct action *a, int n, int number)
{
	size_t max = (size_t)n + 1 + 2 * ((size_t)fd_highest() + 1);

	for (int i = 0; i < n; i++)
		if (a[i].tag == ACTION_CLOSEFROM && number > a[i].fd)
			max += (size_t)(number - a[i].fd);
	return max;
}

/* The actions with the line and the pumps in them. The line's number in the child, or a negative errno. */
static int actions_make(struct spawn_plan *p, const struct action *a, int n)
{
	int number = line_number(p, a, n), w;
	struct action *out;

	p->entries_bytes = entries_max(a, n, number) * sizeof *out;
	p->entries = out = pages_get(p->entries_bytes);
	if (!out)
		return -ENOMEM;
	w = heirs_begin(p, out);
	if (number >= 0)
		out[w++] = (struct action){.tag = ACTION_DUP2, .dup2 = {p->line.fd, number}};
	for (int i = 0; i < n; i++) {
		if (a[i].tag == ACTION_CLOSEFROM && number >= 0)
			w += closefrom_around(&out[w], a[i].fd, number);
		else
			out[w++] = a[i];
	}
	w += heirs_end(p, a, n, &out[w]);
	p->actions.__actions = (void *)out;
	p->actions.__used = p->actions.__allocated = w;
	return number;
}

/* ------------------------------------------------------------ around the call */

static void objects_release(struct spawn_plan *p)
{
	for (uint32_t i = 0; i < p->count; i++)
		fd_release(p->object[i]);
	p->count = 0;
}

/* A number of this process that holds d; where options are looked up. */
static void number_note(int fd, void *arg)
{
	*(int *)arg = fd;
}

/* A pump for each connection. What is left for the line to hold: the listeners, in `rest`. */
static uint32_t pumps_make(struct spawn_plan *p, ref *rest)
{
	uint32_t left = 0;

	p->pump_bytes = p->count * sizeof *p->pump;
	p->pump = pages_get(p->pump_bytes);
	for (uint32_t i = 0; p->pump && i < p->count; i++) {
		int fd = -1, err;

		p->pump[i] = (struct netio_pump){-1, -1};
		if (description_of(p->object[i])->kind == FD_LISTENER) {
			rest[left++] = p->object[i];
			continue;
		}
		err = netio_pump(the_stack, description_of(p->object[i])->cookie, false, &p->pump[i]);
		fd_each_of(p->object[i], number_note, &fd);
		if (!err && fd >= 0)
			pump_options(fd, p->pump[i].heir);
		else if (err)
			log_line("a connection cannot be passed on to a program without preloading (error "
				 "%d); it will see nothing of it",
				 -err);
	}
	return left;
}

static void spawn_pumped(struct spawn_plan *p, const posix_spawn_file_actions_t **actions)
{
	const struct action *a = *actions ? actions_of(*actions) : NULL;
	size_t bytes = p->count * sizeof(ref);
	ref *rest = pages_get(bytes);
	uint32_t left = rest ? pumps_make(p, rest) : 0;

	if (left && netio_spawn_begin(the_stack, &p->line, rest, left, true))
		p->line.fd = -1;
	if (rest)
		pages_put(rest, bytes);
	actions_make(p, a, *actions ? (*actions)->__used : 0);
	if (p->entries)
		*actions = &p->actions;
}

#define NOWHERE_KNOWN (-1) /* target->dir: a pump is right for every program */

static void spawn_shares(struct spawn_plan *p, const struct exec_target *target,
			 const posix_spawn_file_actions_t **actions, char *const **env)
{
	const struct action *a = *actions ? actions_of(*actions) : NULL;
	int n = *actions ? (*actions)->__used : 0, number;
	char **mine;

	if (numbers_collect(p, a, n) && p->passes)
		/* From here on the child may have these sockets, and their placeholders, too. */
		atomic_fetch_add(&process.fork_count, 1);
	if (!(p->count + p->sets)) {
		if (target->dir == NOWHERE_KNOWN || !exec_lets_in(target, *env))
			return;
		p->last = EXEC_NO_NUMBERS;
	}
	if (!the_stack)
		return;
	if ((target->dir == NOWHERE_KNOWN || exec_reach(target) == REACH_NO_HOOKS) &&
	    netio_is_kept(the_stack)) {
		for (uint32_t i = 0; i < p->sets; i++)
			epoll_show(p->object[p->count + i]);
		if (p->count)
			spawn_pumped(p, actions);
		return;
	}
	if (netio_spawn_begin(the_stack, &p->line, p->object, p->count + p->sets, false))
		return;
	number = actions_make(p, a, n);
	mine = number > 2 ? exec_environment(&p->exec, *env, number, p->last) : NULL;
	if (!mine) {
		netio_spawn_end(the_stack, &p->line);
		p->line.fd = -1;
		return;
	}
	*actions = &p->actions;
	*env = mine;
}

/* A directory changed by an action: a relative path cannot be judged from here. */
static bool moves(const posix_spawn_file_actions_t *actions)
{
	for (int i = 0; actions && i < actions->__used; i++)
		if (actions_of(actions)[i].tag == ACTION_CHDIR || actions_of(actions)[i].tag == ACTION_FCHDIR)
			return true;
	return false;
}

void spawn_begin(struct spawn_plan *p, const char *path, bool search,
		 const posix_spawn_file_actions_t **actions, char *const **env)
{
	struct exec_target target = {AT_FDCWD, path, 0, search};

	memset(p, 0, offsetof(struct spawn_plan, exec));
	p->exec.pages = NULL;
	p->line.fd = -1;
	if ((fd_highest() < 0 && !the_stack) || atomic_load(&process.finished) ||
	    atomic_load(&process.sealed) || thread_marks.depth || process_is_vfork_child())
		return;
	lib_enter();
	if (!*actions || layout_known()) {
		if (path[0] != '/' && moves(*actions) && (!search || strchr(path, '/')))
			target.dir = NOWHERE_KNOWN;
		spawn_shares(p, &target, actions, env);
	} else {
		atomic_fetch_add(&process.fork_count, 1);
	}
	lib_leave();
}

void spawn_end(struct spawn_plan *p, bool done)
{
	lib_enter();
	for (uint32_t i = 0; p->pump && i < p->count; i++) {
		if (p->pump[i].heir < 0)
			continue;
		if (done) {
			netio_pump_start(&p->pump[i]);
			sys.syscall(SYS_close, p->pump[i].heir);
		} else {
			netio_pump_cancel(&p->pump[i]);
		}
	}
	if (p->line.fd >= 0)
		netio_spawn_end(the_stack, &p->line);
	objects_release(p);
	if (p->pump)
		pages_put(p->pump, p->pump_bytes);
	if (p->object)
		pages_put(p->object, p->object_bytes);
	if (p->entries)
		pages_put(p->entries, p->entries_bytes);
	if (p->exec.pages)
		pages_put(p->exec.pages, p->exec.bytes);
	lib_leave();
}
