/*
 * A socket as a file, by the calls that the library leaves to libc: what they say of a connection's number is
 * what they say of a socket in the kernel (it is one there). Kinds, names, terminals, locks, memory,
 * attributes, directories, other kinds of descriptors, and the calls that libc makes of others: source
 * filters, bindresvport(), aio_fsync(), streams that seek, streams over streams.
 */
#include "both.h"
#include <aio.h>
#include <dirent.h>
#include <dlfcn.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <sys/timerfd.h>
#include <sys/xattr.h>
#include <termios.h>
#include <wchar.h>

#pragma GCC diagnostic ignored "-Wnonnull"
#pragma GCC diagnostic ignored "-Wstringop-overflow"

int isfdtype(int, int);
int bindresvport(int, struct sockaddr_in *);
int like_fxstat(int, int, struct stat *);

static char buf[4096];

static void show_stat(const char *what, const struct stat *st)
{
	SAY("%s: mode %o, links %ld, owner %d, size %ld, blocks %ld of %ld, device %d", what, st->st_mode,
	    (long)st->st_nlink, st->st_uid == geteuid(), (long)st->st_size, (long)st->st_blocks,
	    (long)st->st_blksize, st->st_rdev == 0);
}

static void kinds(int fd)
{
	static const char *const names[] = {"__fxstat", "__fxstat64", "fstat64"};
	struct stat st = {0};
	struct statx sx;
	char path[64], *end;
	ssize_t n;

	SHOW(isfdtype(fd, S_IFSOCK));
	SHOW(isfdtype(fd, S_IFREG));
	SHOW(fstat(fd, &st));
	show_stat("fstat", &st);
	for (int i = 0; i < 2; i++) {
		__typeof__(&like_fxstat) f = (__typeof__(&like_fxstat))dlsym(RTLD_DEFAULT, names[i]);
		memset(&st, 0, sizeof st);
		if (f && !f(1, fd, &st))
			show_stat(names[i], &st);
	}
	SHOW(fstatat(fd, "", &st, AT_EMPTY_PATH));
	show_stat("fstatat", &st);
	SHOW(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &sx));
	SAY("statx: mode %o, size %llu, attributes %llx", sx.stx_mode, (unsigned long long)sx.stx_size,
	    (unsigned long long)sx.stx_attributes);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	SHOW(stat(path, &st));
	SAY("socket %d", S_ISSOCK(st.st_mode));
	n = readlink(path, buf, sizeof buf - 1);
	buf[n < 0 ? 0 : n] = 0;
	end = strchr(buf, '[');
	SAY("link %.*s", end ? (int)(end - buf) : 20, buf);
	SHOW(open(path, O_RDWR));
	SHOW(access(path, R_OK | W_OK));
	SHOW(faccessat(fd, "", R_OK, AT_EMPTY_PATH));
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	FILE *f = fopen(path, "r");
	for (int i = 0; f && i < 2 && fgets(buf, sizeof buf, f); i++)
		printf("%s", buf);
	if (f)
		fclose(f);
}

static void terminal(int fd)
{
	struct termios t;

	SHOW(isatty(fd));
	SHOW(ttyname(fd) != NULL);
	SHOW(ttyname_r(fd, buf, sizeof buf));
	SHOW(tcgetattr(fd, &t));
	SHOW(tcsetattr(fd, TCSANOW, &(struct termios){0}));
	SHOW(tcgetpgrp(fd));
	SHOW(tcsetpgrp(fd, getpid()));
	SHOW(tcgetsid(fd));
	SHOW(tcdrain(fd));
	SHOW(tcflush(fd, TCIOFLUSH));
	SHOW(tcflow(fd, TCOON));
	SHOW(tcsendbreak(fd, 0));
}

static void attributes(int fd)
{
	struct statvfs sv;
	struct timespec now[2] = {{1, 0}, {1, 0}};
	struct iovec v = {buf, 1};
	off64_t off = 0;
	int null = open("/dev/null", O_RDWR);

	SHOW(fstatvfs(fd, &sv));
	SHOW(fpathconf(fd, _PC_PIPE_BUF));
	SHOW(futimens(fd, now));
	SHOW(fgetxattr(fd, "system.sockprotoname", buf, sizeof buf));
	SHOW(flistxattr(fd, buf, sizeof buf) > 0);
	SHOW(fsetxattr(fd, "trusted.none", "x", 1, 0));
	SHOW(fremovexattr(fd, "trusted.none"));
	SHOW(fchownat(fd, "", (uid_t)-1, (gid_t)-1, AT_EMPTY_PATH));
	SHOW(lockf(fd, F_TEST, 0));
	SHOW(lockf(fd, F_TLOCK, 0));
	SHOW(syncfs(fd));
	SHOW(posix_fallocate(fd, 0, 1));
	SHOW(posix_fadvise64(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
	SHOW(lseek64(fd, 0, SEEK_END));
	SHOW(lseek(fd, 0, 99));
	SHOW(pread64(fd, buf, 1, 0));
	SHOW(pread(fd, buf, 1, -1));
	SHOW(pwrite64(fd, buf, 1, 0));
	SHOW(pwritev(fd, &v, 1, 0));
	SHOW(preadv64(fd, &v, 1, 0));
	SHOW(ftruncate64(fd, 1));
	SHOW(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
	SHOW(mmap(NULL, 4096, PROT_WRITE, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0);
	SHOW(copy_file_range(null, NULL, fd, NULL, 1, 0));
	SHOW(sendfile64(null, fd, &off, 1));
	SHOW(fdopendir(fd) != NULL);
	SHOW(fchdir(fd));
	SHOW(syscall(SYS_getdents64, fd, buf, sizeof buf));
	SHOW(mkdirat(fd, "x", 0700));
	SHOW(linkat(fd, "", AT_FDCWD, "/tmp/utcp-no-such-link", AT_EMPTY_PATH) == 0);
	close(null);
}

/* A socket is none of these. */
static void other_kinds(int fd)
{
	struct itimerspec it = {{0, 0}, {0, 0}};
	struct epoll_event e = {.events = EPOLLIN};
	eventfd_t count;
	sigset_t s;

	sigemptyset(&s);
	SHOW(timerfd_settime(fd, 0, &it, NULL));
	SHOW(timerfd_gettime(fd, &it));
	SHOW(signalfd(fd, &s, 0));
	SHOW(inotify_add_watch(fd, "/", IN_CREATE));
	SHOW(inotify_rm_watch(fd, 1));
	SHOW(epoll_wait(fd, &e, 1, 0));
	SHOW(epoll_ctl(fd, EPOLL_CTL_ADD, 0, &e));
	SHOW(fcntl(fd, F_SETPIPE_SZ, 4096));
	SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
	SHOW(fcntl(fd, F_OFD_GETLK, &(struct flock){.l_type = F_RDLCK}));
	SHOW(fcntl(fd, F_OFD_SETLK, &(struct flock){.l_type = F_RDLCK}));
	SHOW(fcntl(fd, F_GET_RW_HINT, &count));
	SHOW(fcntl(fd, 17 /* F_GETOWNER_UIDS */, buf));
	SHOW(fcntl(fd, 1028 /* F_CREATED_QUERY */, 0));
	SHOW(fcntl(fd, 1027 /* F_DUPFD_QUERY */, fd));
}

static void filters(int fd)
{
	struct in_addr any = {0}, group = {htonl(0xe0000009)}, sources[2];
	struct sockaddr_in g = {.sin_family = AF_INET, .sin_addr = group};
	struct sockaddr_storage list[2];
	uint32_t mode = 0, n = 2;

	SHOW(getipv4sourcefilter(fd, any, group, &mode, &n, sources));
	SHOW(setipv4sourcefilter(fd, any, group, MCAST_INCLUDE, 0, sources));
	n = 2;
	SHOW(getsourcefilter(fd, 1, (struct sockaddr *)&g, sizeof g, &mode, &n, list));
	SHOW(setsourcefilter(fd, 1, (struct sockaddr *)&g, sizeof g, MCAST_INCLUDE, 0, list));
	SHOW(bindresvport(fd, NULL));
}

static void asynchronous(int fd)
{
	struct aiocb cb = {.aio_fildes = fd, .aio_buf = buf, .aio_nbytes = 1};

	cb.aio_sigevent.sigev_notify = SIGEV_NONE;
	SHOW(aio_fsync(O_SYNC, &cb));
	for (int i = 0; i < 1000 && aio_error(&cb) == EINPROGRESS; i++)
		nap(1);
	SHOW(aio_error(&cb));
	SHOW(aio_return(&cb));
	SHOW(aio_cancel(fd, NULL));
}

static void all(const char *state, int fd)
{
	SAY("-- %s", state);
	kinds(fd);
	terminal(fd);
	attributes(fd);
	other_kinds(fd);
	filters(fd);
	asynchronous(fd);
}

/* What a stream over a socket can and cannot do. */
static void streams(void)
{
	int fd = connected();
	FILE *f = fdopen(fd, "r+"), *g;
	char *line = NULL;
	size_t room = 0;
	fpos_t at;
	wchar_t wide[8] = {0};

	SAY("-- streams");
	SHOW(fileno(f) == fd);
	SHOW(fseek(f, 0, SEEK_SET));
	SHOW(ftell(f));
	SHOW(fgetpos(f, &at));
	clearerr(f);
	SHOW(fprintf(f, "ab\ncd\n0123456789"));
	SHOW(fflush_unlocked(f));
	SHOW(peer("sum 16"));
	peer("send 40"); /* the pattern: 0, 1, ... 10 is a newline */
	SHOW(getc(f));
	SHOW(ungetc('z', f));
	SHOW(fgetc_unlocked(f));
	SHOW(fgets(buf, 4, f) != NULL);
	SHOW(buf[0] * 100 + buf[2]);
	SHOW(getline(&line, &room, f));
	SHOW(fread(buf, 3, 2, f));
	SHOW(getdelim(&line, &room, 20, f));
	SHOW(fread_unlocked(buf, 1, 5, f));
	SHOW(getw(f));
	peer("shutdown");
	SHOW(fread(buf, 1, 100, f));
	SHOW(feof(f));
	SHOW(ferror(f));
	SHOW(fgetc(f));
	/* one stream on another's number, one that takes another's place */
	g = fdopen(dup(fd), "w");
	SHOW(setvbuf(g, NULL, _IOLBF, 64));
	SHOW(fputs("line\nrest", g));
	SHOW(peer("sum 5"));
	SHOW(fwrite_unlocked("!", 1, 1, g));
	SHOW(putw(0x41424344, g));
	SHOW(fclose(g));
	SHOW(peer("sum 9"));
	SHOW(fclose(f));
	SHOW(peer("recv 1"));
	free(line);
	fd = connected();
	f = fdopen(fd, "r");
	SHOW(fputs("x", f));
	SHOW(ferror(f) != 0);
	clearerr(f);
	peer("send 3");
	SHOW(fwide(f, 1) > 0);
	SHOW(fgetws(wide, 4, f) != NULL);
	SHOW(wide[0] + wide[1] * 10 + wide[2] * 100);
	peer("rst");
	SHOW(fgetwc(f));
	SHOW(ferror(f) != 0);
	SHOW(fclose(f));
	SHOW(fcntl(fd, F_GETFD));
	SHOW(fdopen(fd, "r") != NULL);
	fd = connected();
	SHOW(fdopen(fd, "x") != NULL);
	SHOW((f = fdopen(fd, "a+")) != NULL); /* O_APPEND, of a socket */
	SHOW(fcntl(fd, F_GETFL));
	SHOW(fputs("appended", f));
	SHOW(fclose(f));
	SHOW(peer("sum 8"));
	SHOW(peer("recv 1"));
}

int main(void)
{
	int port, fd = connected();

	all("connected", fd);
	SHOW(send(fd, "unharmed", 8, 0));
	SHOW(peer("recv 8"));
	close(fd);
	fd = listening(&port, 3);
	all("listening", fd);
	close(fd);
	fd = connected();
	peer("rst");
	polled(fd, POLLHUP, 5000);
	all("reset", fd);
	close(fd);
	streams();
	return 0;
}
