/*
 * calls_spawn.c - wrappers: children that are another program from the start.
 *
 * libc's system() and popen() reach its posix_spawn() by a way that no wrapper
 * sees, so both are here, over ours; with popen() its end, which is fclose(), too.
 * Both do what POSIX and glibc's manual say of them: system() ignores SIGINT and
 * SIGQUIT and blocks SIGCHLD meanwhile, for all threads that are in it as for
 * one, and is a cancellation point that kills its child; a child of popen() has
 * none of the streams of earlier popen()s.
 *
 * Place in the flow: -> spawn.c.
 */
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>

#include "preload/calls.h"
#include "preload/process.h"
#include "preload/spawn.h"

#define SHELL "/bin/sh"

extern char **environ;

/* ------------------------------------------------------------ posix_spawn */

#define SPAWN(path, search, call)                                                                            \
	({                                                                                                   \
		struct spawn_plan plan_;                                                                     \
		int saved_errno_ = errno, r_;                                                                \
		spawn_begin(&plan_, path, search, &actions, &env);                                           \
		r_ = (call);                                                                                 \
		spawn_end(&plan_, r_ == 0);                                                                  \
		errno = saved_errno_;                                                                        \
		r_;                                                                                          \
	})

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		const posix_spawnattr_t *attr, char *const argv[], char *const env[])
{
	return SPAWN(path, false, REAL(posix_spawn)(pid, path, actions, attr, argv, env));
}

int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
		 const posix_spawnattr_t *attr, char *const argv[], char *const env[])
{
	return SPAWN(file, true, REAL(posix_spawnp)(pid, file, actions, attr, argv, env));
}

/* glibc 2.39; where it is missing the answer is that of an old kernel. */
int pidfd_spawn(int *pidfd, const char *path, const posix_spawn_file_actions_t *actions,
		const posix_spawnattr_t *attr, char *const argv[], char *const env[])
{
	int r = SPAWN(path, false, REAL(pidfd_spawn)(pidfd, path, actions, attr, argv, env));
	return r < 0 ? ENOSYS : r;
}

int pidfd_spawnp(int *pidfd, const char *file, const posix_spawn_file_actions_t *actions,
		 const posix_spawnattr_t *attr, char *const argv[], char *const env[])
{
	int r = SPAWN(file, true, REAL(pidfd_spawnp)(pidfd, file, actions, attr, argv, env));
	return r < 0 ? ENOSYS : r;
}

/* ------------------------------------------------------------ system */

/* SIGINT and SIGQUIT while at least one thread is in system(). */
static struct {
	pthread_mutex_t lock;
	int count;
	struct sigaction intr, quit;
} quiet = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void quiet_begin(sigset_t *reset)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};

	pthread_mutex_lock(&quiet.lock);
	if (!quiet.count++) {
		/* libc's own: what the kernel has there may be our handler, and comes back as it was */
		REAL(sigaction)(SIGINT, &ignore, &quiet.intr);
		REAL(sigaction)(SIGQUIT, &ignore, &quiet.quit);
	}
	sigemptyset(reset);
	if (quiet.intr.sa_handler != SIG_IGN)
		sigaddset(reset, SIGINT);
	if (quiet.quit.sa_handler != SIG_IGN)
		sigaddset(reset, SIGQUIT);
	pthread_mutex_unlock(&quiet.lock);
}

static void quiet_end(void)
{
	pthread_mutex_lock(&quiet.lock);
	if (!--quiet.count) {
		REAL(sigaction)(SIGINT, &quiet.intr, NULL);
		REAL(sigaction)(SIGQUIT, &quiet.quit, NULL);
	}
	pthread_mutex_unlock(&quiet.lock);
}

struct command {
	pid_t pid;
	sigset_t mask;
};

static pid_t pid_wait(pid_t pid, int *status)
{
	pid_t r;

	do {
		r = waitpid(pid, status, 0);
	} while (r < 0 && errno == EINTR);
	return r;
}

static void command_cancelled(void *arg)
{
	struct command *c = arg;

	kill(c->pid, SIGKILL);
	pid_wait(c->pid, NULL);
	quiet_end();
	pthread_sigmask(SIG_SETMASK, &c->mask, NULL);
}

static int command_run(const char *line)
{
	char *const argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)line,
			      NULL};
	int status = -1, err;
	posix_spawnattr_t attr;
	struct command c;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &set, &c.mask);
	quiet_begin(&set);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &c.mask);
	posix_spawnattr_setsigdefault(&attr, &set);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	err = posix_spawn(&c.pid, SHELL, NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	if (err) {
		status = 127 << 8; /* as if the shell had ended with it */
	} else {
		pthread_cleanup_push(command_cancelled, &c);
		if (pid_wait(c.pid, &status) != c.pid)
			status = -1;
		pthread_cleanup_pop(0);
	}
	quiet_end();
	pthread_sigmask(SIG_SETMASK, &c.mask, NULL);
	if (err)
		errno = err;
	return status;
}

int system(const char *line)
{
	int saved_errno = errno, r;

	if (!line) {
		r = command_run("exit 0") == 0;
		errno = saved_errno;
		return r;
	}
	return command_run(line);
}

/* ------------------------------------------------------------ popen */

struct command_stream {
	FILE *f;
	int fd; /* fileno() at the start */
	pid_t pid;
	struct command_stream *next;
};

static _Atomic(struct command_stream *) streams;
static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;

/* Whoever held them is not in the child. */
void spawn_after_fork(void)
{
	pthread_mutex_init(&streams_lock, NULL);
	pthread_mutex_init(&quiet.lock, NULL);
	quiet.count = 0;
}

/* "r" or "w", with "e" at will. */
static int mode_parse(const char *mode, bool *reads, bool *cloexec)
{
	bool r = false, w = false;

	*cloexec = false;
	for (; *mode; mode++) {
		if (*mode != 'r' && *mode != 'w' && *mode != 'e')
			return -EINVAL;
		r |= *mode == 'r';
		w |= *mode == 'w';
		*cloexec |= *mode == 'e';
	}
	*reads = r;
	return r == w ? -EINVAL : 0;
}

/* The child; streams_lock held. 0 or a negative errno. */
static int stream_spawn(struct command_stream *s, const char *line, int its_end, int standard)
{
	char *const argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)line,
			      NULL};
	posix_spawn_file_actions_t a;
	int err = posix_spawn_file_actions_init(&a);

	if (err)
		return -err;
	err = posix_spawn_file_actions_adddup2(&a, its_end, standard);
	for (struct command_stream *o = atomic_load(&streams); o && !err; o = o->next)
		if (o->fd != standard)
			err = posix_spawn_file_actions_addclose(&a, o->fd);
	if (!err)
		err = posix_spawn(&s->pid, SHELL, &a, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&a);
	return -err;
}

static int stream_open(struct command_stream *s, const char *line, bool reads, bool cloexec)
{
	int end[2], err, ours = reads ? 0 : 1;

	if (pipe2(end, O_CLOEXEC))
		return -errno;
	s->fd = end[ours];
	s->f = fdopen(s->fd, reads ? "r" : "w");
	if (!s->f) {
		err = -errno;
		close(end[0]);
		close(end[1]);
		return err;
	}
	pthread_mutex_lock(&streams_lock);
	err = stream_spawn(s, line, end[1 - ours], 1 - ours ? STDOUT_FILENO : STDIN_FILENO);
	if (!err) {
		s->next = atomic_load(&streams);
		atomic_store(&streams, s);
	}
	pthread_mutex_unlock(&streams_lock);
	close(end[1 - ours]);
	if (err)
		REAL(fclose)(s->f);
	else if (!cloexec)
		fcntl(s->fd, F_SETFD, 0);
	return err;
}

FILE *popen(const char *line, const char *mode)
{
	struct command_stream *s;
	bool reads, cloexec;
	int saved_errno = errno, err = mode_parse(mode, &reads, &cloexec);

	s = err ? NULL : malloc(sizeof *s);
	if (!err && !s)
		err = -ENOMEM;
	if (!err)
		err = stream_open(s, line, reads, cloexec);
	if (err) {
		free(s);
		errno = -err;
		return NULL;
	}
	errno = saved_errno;
	return s->f;
}

static struct command_stream *stream_take(FILE *f)
{
	struct command_stream *s = atomic_load(&streams), *before = NULL;

	if (LIKELY(!s))
		return NULL;
	pthread_mutex_lock(&streams_lock);
	for (s = atomic_load(&streams); s && s->f != f; s = s->next)
		before = s;
	if (s && before)
		before->next = s->next;
	else if (s)
		atomic_store(&streams, s->next);
	pthread_mutex_unlock(&streams_lock);
	return s;
}

static int stream_close(struct command_stream *s)
{
	int status = -1, cancel;

	if (REAL(fclose)(s->f) == 0) {
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
		if (pid_wait(s->pid, &status) < 0)
			status = -1;
		pthread_setcancelstate(cancel, NULL);
	}
	free(s);
	return status;
}

int fclose(FILE *f)
{
	struct command_stream *s = stream_take(f);

	return UNLIKELY(s != NULL) ? stream_close(s) : REAL(fclose)(f);
}

int pclose(FILE *f)
{
	struct command_stream *s = stream_take(f);

	return LIKELY(s != NULL) ? stream_close(s) : REAL(pclose)(f);
}
