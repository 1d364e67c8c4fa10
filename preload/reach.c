/*
 * reach.c - will a program that is about to be executed load this library?
 *
 * LD_PRELOAD is for programs with glibc's dynamic linker that gain no privileges
 * by the exec (AT_SECURE), and the library's file must be there and readable for
 * whoever we are by then. Where this cannot be told (a file that may be executed
 * but not read, a format that is not ELF) the answer is no: pump mode is right for
 * every program, only slower.
 *
 * Place in the flow: exec.c asks before it decides how to pass connections on.
 */
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/preload.h"
#include "preload/reach.h"

#ifdef __x86_64__
#define OUR_MACHINE EM_X86_64
#define OUR_LINKER  "ld-linux-x86-64.so.2"
#else
#define OUR_MACHINE EM_AARCH64
#define OUR_LINKER  "ld-linux-aarch64.so.1"
#endif

#define SCRIPTS_MAX 5 /* interpreters of interpreters, as the kernel counts */
#define LINE_MAX_   256

static int file_open(int dir, const char *path)
{
	return (int)sys.syscall(SYS_openat, dir, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
}

static void file_close(int fd)
{
	sys.syscall(SYS_close, fd);
}

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/*
 * The linker looks for it under the name that LD_PRELOAD will have. access(2) asks
 * without the capabilities that a user other than root loses by the exec.
 */
static bool library_there(void)
{
	Dl_info self;

	return dladdr((void *)(uintptr_t)library_there, &self) &&
	       !sys.syscall(SYS_faccessat, AT_FDCWD, self.dli_fname, R_OK);
}

/* AT_SECURE: the linker does not preload what has a path. */
static bool gains_privileges(int fd)
{
	char value[64];
	struct stat st;

	if (getuid() != geteuid() || getgid() != getegid() || fstat(fd, &st))
		return true;
	if (st.st_mode & S_ISUID && st.st_uid != getuid())
		return true;
	if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getgid())
		return true;
	return getuid() != 0 &&
	       sys.syscall(SYS_fgetxattr, fd, "security.capability", value, sizeof value) > 0;
}

static long file_read(int fd, void *p, size_t len, uint64_t at)
{
	return sys.syscall(SYS_pread64, fd, p, len, at);
}

static bool elf_loads_us(const char *path, int fd, const Elf64_Ehdr *h)
{
	char linker[PATH_MAX];
	Elf64_Phdr ph;

	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_machine != OUR_MACHINE)
		return false;
	for (unsigned i = 0; i < h->e_phnum; i++) {
		if (file_read(fd, &ph, sizeof ph, h->e_phoff + (uint64_t)i * h->e_phentsize) != sizeof ph)
			return false;
		if (ph.p_type != PT_INTERP)
			continue;
		if (!ph.p_filesz || ph.p_filesz > sizeof linker ||
		    file_read(fd, linker, ph.p_filesz, ph.p_offset) != (long)ph.p_filesz)
			return false;
		linker[ph.p_filesz - 1] = '\0';
		return !strcmp(base_of(linker), OUR_LINKER);
	}
	/* The linker run as a command has no interpreter, and preloads. */
	return path && !strncmp(base_of(path), "ld-linux", 8);
}

static enum reach reach_file(int dir, const char *path, int depth);

/* "#! interpreter": that is what runs. */
static enum reach reach_script(char *line, long len, int depth)
{
	char *p = line + 2, *end;

	line[len] = '\0';
	p += strspn(p, " \t");
	end = p + strcspn(p, " \t\n");
	if (depth >= SCRIPTS_MAX || end == p || end == line + len)
		return REACH_NO_HOOKS;
	*end = '\0';
	return reach_file(AT_FDCWD, p, depth + 1);
}

static enum reach reach_opened(const char *path, int fd, int depth)
{
	union {
		Elf64_Ehdr elf;
		char text[LINE_MAX_ + 1];
	} head;
	long n = file_read(fd, &head, LINE_MAX_, 0);

	if (n >= 2 && head.text[0] == '#' && head.text[1] == '!')
		return reach_script(head.text, n, depth);
	if (n < (long)sizeof head.elf || memcmp(head.elf.e_ident, ELFMAG, SELFMAG) != 0)
		return REACH_NO_HOOKS;
	return elf_loads_us(path, fd, &head.elf) && !gains_privileges(fd) ? REACH_HOOKS : REACH_NO_HOOKS;
}

static enum reach reach_file(int dir, const char *path, int depth)
{
	int fd = file_open(dir, path), saved;
	struct stat st;
	enum reach r;

	if (fd < 0)
		return errno == EACCES && !sys.syscall(SYS_faccessat, dir, path, X_OK) ? REACH_NO_HOOKS
										       : REACH_NOWHERE;
	saved = errno;
	r = fstat(fd, &st) || !S_ISREG(st.st_mode) ? REACH_NOWHERE : reach_opened(path, fd, depth);
	file_close(fd);
	errno = saved;
	return r;
}

/* The first of PATH that can be executed, as execvpe(3) goes along it. */
static enum reach reach_search(const char *name)
{
	const char *p = getenv("PATH");
	char path[PATH_MAX];
	enum reach r;

	for (p = p ? p : "/bin:/usr/bin";; p++) {
		size_t n = strcspn(p, ":"), len = strlen(name);

		if (n + len + 2 <= sizeof path) {
			memcpy(path, p, n);
			path[n] = '/';
			memcpy(path + n + (n != 0), name, len + 1);
			r = sys.syscall(SYS_faccessat, AT_FDCWD, path, X_OK) ? REACH_NOWHERE
									     : reach_file(AT_FDCWD, path, 0);
			if (r != REACH_NOWHERE)
				return r;
		}
		p += n;
		if (!*p)
			return REACH_NOWHERE;
	}
}

enum reach exec_reach(const struct exec_target *t)
{
	int saved_errno = errno;
	enum reach r;

	if (!t->path)
		return REACH_NOWHERE;
	if (t->flags & AT_EMPTY_PATH && !*t->path)
		r = reach_opened(NULL, t->dir, 0);
	else if (t->search && !strchr(t->path, '/'))
		r = *t->path ? reach_search(t->path) : REACH_NOWHERE;
	else
		r = reach_file(t->dir, t->path, 0);
	if (r == REACH_HOOKS && !library_there())
		r = REACH_NO_HOOKS;
	errno = saved_errno;
	return r;
}
