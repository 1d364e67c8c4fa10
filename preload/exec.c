/*
 * exec.c - connections that live on over exec().
 *
 * Theory of operation. The placeholders of connections and the real sockets of
 * listeners are descriptors that exec() passes on; the memory that says what they
 * are is gone. What stays is the process's slot in the stack with its holds, as
 * long as its life line to the keeper is open (netio/lifeline.c). So the old image
 *   - relies on the SO_COOKIE in each description, which is the open file's
 *     identity and the same in the new image;
 *   - lets the life line pass, and names its number in UTCP_INHERIT;
 *   - sees to it that the new image is preloaded, whatever environment it gets.
 * The new image, when it is loaded with that variable, asks the keeper over the
 * line for the region and the device, probes its descriptors for the cookies of
 * its holds, and gives up the holds that no descriptor has any more (CLOEXEC).
 * Epoll sets are known by a mark in them (epoll_heir.c).
 *
 * The line also passes where no socket does, if this process is no longer of the
 * user who made the stack: what it executes could not enter by itself. That is left
 * to the environment: it names this library, or the new image is none of ours.
 *
 * If nothing is passed on, the line is closed by exec() and the keeper closes the
 * rest by the rules of close(). A program that will not be preloaded (reach.c:
 * static, setuid) gets its connections in pump mode (pump.c), of which the keeper
 * has the part. A listener it keeps as it is, and the line with it.
 *
 * A child of vfork() shares our memory and has no slot, and must not take the
 * stack's lock, which would be its parent's. It tells the keeper the cookies of
 * its sockets, and the keeper makes slot, holds and line for it.
 *
 * Place in the flow: calls_exec.c -> here; init.c calls exec_inherit() at load.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/exec.h"
#include "preload/fdtable.h"
#include "preload/process.h"
#include "preload/socket.h"
#include "preload/undecided.h"
#include "preload/wait.h"

#define VARIABLE      "UTCP_INHERIT"
#define PRELOAD	      "LD_PRELOAD"
#define FDS_LEAST     1024 /* numbers that are probed at least */
#define VFORK_NUMBERS 255  /* a child of vfork() looks at least that far */

extern char **environ;

/* ------------------------------------------------------------ the old image */

struct passing {
	int streams, listeners, sets;
};

static bool number_passes(int fd, enum fd_kind kind)
{
	int flags = fd_kind(fd) == kind ? sys.fcntl(fd, F_GETFD) : -1;

	return flags >= 0 && !(flags & FD_CLOEXEC);
}

static const char *value_of(char *const *env, const char *name)
{
	size_t len = strlen(name);

	for (; env && *env; env++)
		if (!strncmp(*env, name, len) && (*env)[len] == '=')
			return *env + len + 1;
	return NULL;
}

static bool is_setting(const char *entry)
{
	return !strncmp(entry, "UTCP_", 5) && strncmp(entry, VARIABLE "=", sizeof VARIABLE) != 0;
}

/* Will the new image load this library by what its environment says? */
static bool preloads_us(char *const *env)
{
	const char *theirs = value_of(env, PRELOAD), *slash;
	Dl_info self;

	if (!theirs || !dladdr((void *)(uintptr_t)preloads_us, &self))
		return false;
	slash = strrchr(self.dli_fname, '/');
	return strstr(theirs, slash ? slash + 1 : self.dli_fname);
}

bool exec_lets_in(const struct exec_target *target, char *const *env)
{
	return the_stack && netio_is_strange(the_stack) && preloads_us(env) &&
	       exec_reach(target) == REACH_HOOKS;
}

/* "LD_PRELOAD=ours" and what the new environment has itself. False: it names us already. */
static bool preload_line(char *line, size_t size, const char *theirs)
{
	Dl_info self;

	if (!dladdr((void *)(uintptr_t)preload_line, &self) || (theirs && strstr(theirs, self.dli_fname)))
		return false;
	log_format(line, size, PRELOAD "=%s%s%s", self.dli_fname, theirs ? ":" : "", theirs ? theirs : "");
	return true;
}

static size_t env_count(char *const *env)
{
	size_t n = 0;

	while (env && env[n])
		n++;
	return n;
}

char **exec_environment(struct exec_plan *x, char *const *env, int line, int last)
{
	size_t n = 0, room = env_count(env) + env_count(environ) + 4;
	char **out;
	bool preload;

	out = x->env;
	if (room > ARRAY_LEN(x->env)) {
		x->bytes = room * sizeof *out;
		x->pages = out = pages_get(x->bytes);
	}
	if (!out)
		return NULL;
	preload = preload_line(x->preload, sizeof x->preload, value_of(env, PRELOAD));
	for (char *const *e = env; e && *e; e++)
		if (strncmp(*e, VARIABLE "=", sizeof VARIABLE) != 0 &&
		    (!preload || strncmp(*e, PRELOAD "=", sizeof PRELOAD) != 0))
			out[n++] = *e;
	/* An environment made from scratch: our settings, too. */
	for (char **e = environ; preload && e && *e; e++)
		if (is_setting(*e))
			out[n++] = *e;
	if (preload)
		out[n++] = x->preload;
	log_format(x->line, sizeof x->line, VARIABLE "=%d,%d", line, last);
	out[n++] = x->line;
	out[n] = NULL;
	return out;
}

/* A placeholder, as far as a child of vfork() can tell. */
static bool like_placeholder(int fd)
{
	int domain = 0, listens = 0;
	socklen_t len = sizeof domain;

	if (sys.getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len))
		return false;
	if (domain == AF_INET || domain == AF_INET6) /* one that was shared before it was connected */
		return fd_stream_has(cookie_of(fd));
	return domain == AF_UNIX && !sys.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) && listens;
}

/*
 * A child of vfork() runs in its parent's memory, but its numbers are its own, and
 * the table knows nothing of what it did with them: ask the kernel.
 */
static char *const *vfork_begin(struct exec_plan *x, const struct exec_target *target, char *const *env)
{
	uint64_t cookie[VFORK_COOKIES_MAX];
	uint32_t count = 0;
	int last = MAX_OF(fd_highest(), VFORK_NUMBERS);
	enum reach reach = exec_reach(target);
	char **mine;

	for (int fd = 0; fd <= last && count < VFORK_COOKIES_MAX; fd++) {
		int flags = sys.fcntl(fd, F_GETFD);

		if (flags < 0 || flags & FD_CLOEXEC || netio_owns_fd(fd))
			continue;
		if (reach == REACH_NO_HOOKS && like_placeholder(fd)) {
			pump_number(&x->pumps, fd, false);
			continue;
		}
		cookie[count] = cookie_of(fd);
		if (!cookie[count] && reach != REACH_NO_HOOKS)
			cookie[count] = epoll_pass_vfork(fd);
		count += cookie[count] != 0;
	}
	/* Our memory is the parent's: it must not use these placeholders for other connections. */
	atomic_fetch_add(&process.fork_count, count + (uint32_t)x->pumps.count != 0);
	x->vfork_line = count || (!x->pumps.count && exec_lets_in(target, env))
			    ? netio_vfork_line(the_stack, cookie, count, reach == REACH_NO_HOOKS)
			    : 0;
	if (x->vfork_line <= 0 || reach == REACH_NO_HOOKS)
		return env;
	mine = exec_environment(x, env, x->vfork_line, count ? last : EXEC_NO_NUMBERS);
	return mine ? mine : env;
}

/* The connections, for a program without hooks. */
static void pumps_begin(struct exec_plan *x, int last)
{
	int err;

	for (int fd = 0; fd <= last; fd++) {
		err = number_passes(fd, FD_STREAM) ? pump_number(&x->pumps, fd, true) : 0;
		if (err)
			log_line("a connection cannot be passed on to a program without preloading (%s); it "
				 "will see "
				 "nothing of it",
				 err == -EMFILE ? "too many open files" : "no keeper");
	}
}

static void sets_begin(int last)
{
	for (int fd = 0; fd <= last; fd++)
		if (number_passes(fd, FD_EPOLL))
			epoll_pass(fd);
}

char *const *exec_begin(struct exec_plan *x, const struct exec_target *target, char *const *env)
{
	struct passing p = {0};
	enum reach reach;
	char **mine = NULL;
	bool any, entry;
	int line, last;

	memset(x, 0, offsetof(struct exec_plan, pumps));
	pump_plan_init(&x->pumps);
	undecided_share_all(true, true);
	if (!the_stack || atomic_load(&process.finished) || thread_marks.depth)
		return env;
	if (process_is_vfork_child())
		return vfork_begin(x, target, env);
	last = fd_highest();
	for (int fd = 0; fd <= last; fd++) {
		p.streams += number_passes(fd, FD_STREAM);
		p.listeners += number_passes(fd, FD_LISTENER);
		p.sets += number_passes(fd, FD_EPOLL) && epoll_has_shadow(fd);
	}
	any = p.streams + p.listeners + p.sets;
	entry = !any && exec_lets_in(target, env);
	reach = any ? exec_reach(target) : REACH_HOOKS;
	lib_enter();
	line = netio_before_exec(the_stack, p.listeners || entry || (any && reach != REACH_NO_HOOKS));
	x->begun = true;
	x->blind = reach == REACH_NO_HOOKS && p.listeners;
	if (x->blind)
		netio_blind(the_stack, true);
	x->sets = reach == REACH_NO_HOOKS && p.sets;
	if (reach == REACH_NO_HOOKS)
		pumps_begin(x, last);
	if (x->sets)
		epoll_pumped(&x->pumps);
	if (reach != REACH_NO_HOOKS && line >= 0 && (any || entry)) {
		sets_begin(p.sets ? last : -1);
		mine = exec_environment(x, env, line, any ? last : EXEC_NO_NUMBERS);
	}
	/* exec() ends all threads wherever they are: none inside the stack, with its lock. */
	x->paused = netio_pause_driver(the_stack);
	netio_gate_close(the_stack);
	lib_leave();
	return mine ? mine : env;
}

void exec_failed(struct exec_plan *x)
{
	if (x->begun)
		netio_gate_open(the_stack);
	if (x->vfork_line > 0)
		sys.syscall(SYS_close, x->vfork_line);
	if (x->sets)
		epoll_unpumped(&x->pumps);
	pump_undo(&x->pumps);
	if (x->blind)
		netio_blind(the_stack, false);
	if (x->paused)
		netio_start_driver(the_stack);
	if (x->begun)
		netio_exec_failed(the_stack);
	if (x->pages)
		pages_put(x->pages, x->bytes);
}

/* ------------------------------------------------------------ the new image */

struct heir {
	struct stack_cx *cx;
	uint64_t cookie;
	int fd;
	bool matched;
};

static void hold_match(ref object, ref hold, void *arg)
{
	struct heir *h = arg;
	struct description *p = description_at(h->cx, object);

	if (p->cookie && p->cookie == h->cookie && description_adopt(object, hold)) {
		fd_install(h->fd, p->kind, object);
		h->matched = true;
	}
}

/*
 * Not ours by a hold: more than a child of vfork() can name, or made by another
 * thread while posix_spawn() was on its way. It is all the same, if anybody has it still.
 */
static void object_match(struct heir *h)
{
	ref d = netio_object_of(the_stack, h->cx, h->cookie);

	if (!d || !description_take(h->cx, d))
		return;
	if (!fd_install(h->fd, description_at(h->cx, d)->kind, d))
		fd_release(d); /* not the last reference: the lock is ours */
}

/* A hold of the old image without a descriptor now. */
static void hold_sweep(ref object, ref hold, void *arg)
{
	struct heir *h = arg;
	struct description *p = description_at(h->cx, object);

	if (local_of(object)->hold == hold)
		return;
	if (netio_unhold(the_stack, h->cx, hold)) {
		if (p->sock) {
			watch_remove_socket(h->cx, p->sock);
			sock_close(h->cx, p->sock);
		}
		pool_free(h->cx, POOL_DESCRIPTION, object);
	}
}

void listener_half_restore(int fd)
{
	ref d = fd_kind(fd) == FD_LISTENER ? fd_hold(fd) : REF_NONE;
	struct local *l = local_of(d);
	struct endpoint e;
	int half;

	if (!d)
		return;
	if (l->kernel_fd < 0 && establish_both_halves(fd, &e)) {
		half = (int)netio_fd_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3, 0);
		if (half >= 0)
			netio_protect_fd_at(half, &l->kernel_fd);
	}
	fd_release(d);
}

static void numbers_probe(struct heir *h, int last)
{
	int misses = 0;

	for (int fd = 0; fd <= last || fd < FDS_LEAST || misses < FDS_LEAST; fd++) {
		socklen_t len = sizeof h->cookie;

		misses++;
		if (netio_owns_fd(fd) || sys.getsockopt(fd, SOL_SOCKET, SO_COOKIE, &h->cookie, &len))
			continue;
		misses = 0;
		h->fd = fd;
		h->matched = false;
		netio_each_hold(the_stack, h->cx, hold_match, h);
		if (!h->matched)
			object_match(h);
	}
}

/* Epoll sets: when everything that can be a member is in its place. */
static void sets_inherit(int last)
{
	bool any = netio_any_set(the_stack, netio_enter(the_stack));

	netio_leave(the_stack);
	if (!any)
		return;
	for (int fd = 0; fd <= last || fd < FDS_LEAST; fd++)
		if (!netio_owns_fd(fd))
			epoll_arrived(fd);
	netio_sweep_sets(the_stack, netio_enter(the_stack));
	netio_leave(the_stack);
	epoll_nest_arrived();
}

void exec_inherit(void)
{
	const char *value = value_of(environ, VARIABLE), *comma = value ? strchr(value, ',') : NULL;
	struct heir h = {0};
	int saved_errno = errno, line, last;
	struct netio *n;

	if (!value)
		return;
	line = atoi(value);
	last = comma ? atoi(comma + 1) : 0;
	process_init();
	unsetenv(VARIABLE);
	if (line > 2 && !netio_rejoin(line, &n)) {
		lib_enter();
		stack_adopt(n);
		h.cx = netio_enter(n);
		if (last != EXEC_NO_NUMBERS)
			numbers_probe(&h, last);
		netio_each_hold(n, h.cx, hold_sweep, &h);
		netio_leave(n);
		for (int fd = 0; fd <= fd_highest(); fd++)
			listener_half_restore(fd);
		if (last != EXEC_NO_NUMBERS)
			sets_inherit(last);
		lib_leave();
	}
	errno = saved_errno;
}
