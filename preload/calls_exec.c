/*
 * calls_exec.c - wrappers: exec().
 *
 * libc's own variants reach execve() by a way that no wrapper sees, so each one
 * is here. All end in three that take an environment: execve, execvpe, fexecve
 * (and execveat). Place in the flow: -> exec.c.
 */
#include <stdarg.h>

#include "preload/calls.h"
#include "preload/exec.h"

extern char **environ;

#define TARGET(dir, path, flags, search) ((struct exec_target){dir, path, flags, search})

#define EXEC(target, call)                                                                                   \
	({                                                                                                   \
		struct exec_plan plan_;                                                                      \
		struct exec_target target_ = target;                                                         \
		char *const *env_ = exec_begin(&plan_, &target_, env);                                       \
		int r_ = (call), e_ = errno;                                                                 \
		exec_failed(&plan_);                                                                         \
		errno = e_;                                                                                  \
		r_;                                                                                          \
	})

int execve(const char *path, char *const argv[], char *const env[])
{
	return EXEC(TARGET(AT_FDCWD, path, 0, false), REAL(execve)(path, argv, env_));
}

int execvpe(const char *file, char *const argv[], char *const env[])
{
	return EXEC(TARGET(AT_FDCWD, file, 0, true), REAL(execvpe)(file, argv, env_));
}

int fexecve(int fd, char *const argv[], char *const env[])
{
	return EXEC(TARGET(fd, "", AT_EMPTY_PATH, false), REAL(fexecve)(fd, argv, env_));
}

int execveat(int dir, const char *path, char *const argv[], char *const env[], int flags)
{
	return EXEC(TARGET(dir, path, flags, false), REAL(execveat)(dir, path, argv, env_, flags));
}

int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

/* Arguments up to NULL as an array; with `env` what follows it. */
static int list_count(const char *arg, va_list ap)
{
	int n = 1;

	for (; arg; n++)
		arg = va_arg(ap, const char *);
	return n;
}

#define LIST(arg, argv, ap)                                                                                  \
	do {                                                                                                 \
		(argv)[0] = (char *)(uintptr_t)(arg);                                                        \
		for (int i_ = 0; (argv)[i_]; i_++)                                                           \
			(argv)[i_ + 1] = va_arg(ap, char *);                                                 \
	} while (0)

static int counted(const char *arg, va_list *ap)
{
	va_list copy;
	int n;

	va_copy(copy, *ap);
	n = list_count(arg, copy);
	va_end(copy);
	return n;
}

int execl(const char *path, const char *arg, ...)
{
	va_list ap;

	va_start(ap, arg);
	char **argv = __builtin_alloca(((size_t)counted(arg, &ap) + 1) * sizeof *argv);
	LIST(arg, argv, ap);
	va_end(ap);
	return execve(path, argv, environ);
}

int execlp(const char *file, const char *arg, ...)
{
	va_list ap;

	va_start(ap, arg);
	char **argv = __builtin_alloca(((size_t)counted(arg, &ap) + 1) * sizeof *argv);
	LIST(arg, argv, ap);
	va_end(ap);
	return execvpe(file, argv, environ);
}

int execle(const char *path, const char *arg, ...)
{
	va_list ap;
	char *const *env;

	va_start(ap, arg);
	char **argv = __builtin_alloca(((size_t)counted(arg, &ap) + 1) * sizeof *argv);
	LIST(arg, argv, ap);
	env = va_arg(ap, char *const *);
	va_end(ap);
	return execve(path, argv, env);
}
