/*
 * stdio.c - FILE streams on stack sockets.
 *
 * Theory of operation. libc's streams reach read(), write() and close() inside
 * libc, past every wrapper. They do so through tables of functions, one per kind
 * of stream, which hold _IO_file_read, _IO_file_write and _IO_file_close in
 * neighbouring slots. At the first stack socket those slots are given functions
 * of ours: a stream whose number is a stack socket goes to our own call of that
 * name, any other to the function that was there. So fprintf(), fgets(), wide
 * streams, fclose(), and stdout on a number that dup2() made a socket, all work,
 * whoever opened the stream and when.
 *
 * The tables lie in the part of libc that the loader made read-only (RELRO).
 * They are found by content, inside the bounds that dl_iterate_phdr() gives for
 * the very library that holds _IO_file_read: a slot counts only if read, write
 * and seek stand side by side. The pages are writable for that moment. What
 * else differs between a socket and its placeholder in a stream's eyes? Nothing:
 * seek fails with ESPIPE on both, stat finds a socket of the same kind.
 *
 * Where that cannot be done (another libc, pages that may not be changed),
 * fdopen() makes the stream on functions of ours (fopencookie()), with its
 * number in place so that fileno() answers. Such streams know bytes only, and
 * freopen() refuses them.
 *
 * The end: exit() runs handlers and destructors first, and flushes the streams
 * last. The connections must live until then. stdio_at_end() puts a stream of
 * ours, made beforehand, at the tail of libc's list, with one byte waiting: when libc writes that
 * byte, all other streams were flushed, and the last call is made.
 *
 * freopen() replaces a number with dup3() inside libc: its wrapper does the
 * bookkeeping. dprintf() writes through a table in some versions of libc and
 * directly in others: it is formatted here.
 *
 * Place in the flow: init.c (attach; destructor), libc's tables -> read(),
 * write(), close() of calls_io.c and calls_fd.c.
 */
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>

#include "netio/instrument.h"
#include "netio/rawsys.h"
#include "preload/calls.h"
#include "preload/stdio.h"

/* ------------------------------------------------------------ what the slots hold */

/*
 * The functions that were there. Set before the first slot is: another thread may
 * go through that at once. Read by atomic_load(): gcc's call of an atomic pointer
 * is a plain read.
 */
static struct {
	ssize_t (*_Atomic read)(FILE *, void *, ssize_t);
	ssize_t (*_Atomic write)(FILE *, const void *, ssize_t);
	int (*_Atomic close)(FILE *);
} libc_file;

static ssize_t stream_read(FILE *f, void *buf, ssize_t n)
{
	if (!fd_is_stack(f->_fileno))
		return atomic_load(&libc_file.read)(f, buf, n);
	return read(f->_fileno, buf, (size_t)n);
}

/* All of it, or the stream is marked as failed: the callers in libc do not come back for the rest. */
static ssize_t stream_write(FILE *f, const void *buf, ssize_t n)
{
	ssize_t done = 0, r;

	if (!fd_is_stack(f->_fileno))
		return atomic_load(&libc_file.write)(f, buf, n);
	while (done < n) {
		r = write(f->_fileno, (const char *)buf + done, (size_t)(n - done));
		if (r < 0) {
			f->_flags |= _IO_ERR_SEEN;
			break;
		}
		done += r;
	}
	return done;
}

static int stream_close(FILE *f)
{
	if (LIKELY(fd_kind(f->_fileno) == FD_KERNEL) && !netio_owns_fd(f->_fileno))
		return atomic_load(&libc_file.close)(f);
	return close(f->_fileno);
}

/* ------------------------------------------------------------ finding and changing the slots */

/* Neighbours in a table: read, write, seek, close. */
enum { SLOT_READ, SLOT_WRITE, SLOT_SEEK, SLOT_CLOSE, SLOT_COUNT };

struct slots {
	void *function[SLOT_COUNT]; /* libc's */
	uintptr_t begin, end;	    /* read-only after relocation, of the library that holds them */
	uintptr_t first, last;	    /* the outermost tables found */
	int tables, closing;	    /* how many, and how many of them close by libc's _IO_file_close */
};

static int relro_of(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct slots *s = arg;
	uintptr_t begin = 0, end = 0;
	bool here = false;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t at = info->dlpi_addr + p->p_vaddr;

		if (p->p_type == PT_LOAD && (uintptr_t)s->function[SLOT_READ] - at < p->p_memsz)
			here = true;
		if (p->p_type == PT_GNU_RELRO) {
			begin = at;
			end = at + p->p_memsz;
		}
	}
	if (here) {
		s->begin = begin;
		s->end = end;
	}
	return here;
}

/* Calls f for each table in the read-only part. */
static void each_table(struct slots *s, void (*f)(struct slots *s, void **table))
{
	uintptr_t at = (s->begin + sizeof(void *) - 1) & ~(sizeof(void *) - 1);

	for (; at + SLOT_COUNT * sizeof(void *) <= s->end; at += sizeof(void *)) {
		void **t = (void **)at;
		if (t[SLOT_READ] == s->function[SLOT_READ] && t[SLOT_WRITE] == s->function[SLOT_WRITE] &&
		    t[SLOT_SEEK] == s->function[SLOT_SEEK])
			f(s, t);
	}
}

static void table_note(struct slots *s, void **t)
{
	if (!s->tables++)
		s->first = (uintptr_t)t;
	s->last = (uintptr_t)(t + SLOT_COUNT);
	s->closing += t[SLOT_CLOSE] == s->function[SLOT_CLOSE];
}

static void slot_set(void **slot, void *function)
{
	__atomic_store_n(slot, function, __ATOMIC_RELEASE);
}

static void table_change(struct slots *s, void **t)
{
	/* streams of popen() close in a way of their own */
	if (t[SLOT_CLOSE] == s->function[SLOT_CLOSE])
		slot_set(&t[SLOT_CLOSE], (void *)stream_close);
	slot_set(&t[SLOT_WRITE], (void *)stream_write);
	slot_set(&t[SLOT_READ], (void *)stream_read);
}

/* NULL, or why it cannot be. */
static const char *slots_find(struct slots *s)
{
	static const char *const names[SLOT_COUNT] = {"_IO_file_read", "_IO_file_write", "_IO_file_seek",
						      "_IO_file_close"};

	for (int i = 0; i < SLOT_COUNT; i++) {
		s->function[i] = dlsym(RTLD_NEXT, names[i]);
		if (!s->function[i])
			return "this C library does not name its stream functions";
	}
	if (!dl_iterate_phdr(relro_of, s) || !s->begin)
		return "the C library's tables were not found";
	each_table(s, table_note);
	/* narrow and wide streams at least */
	if (s->tables < 2 || s->closing < 2)
		return "the C library's tables look different";
	return NULL;
}

/* The loader protects whole pages only: what lies on the last, partial one is writable anyway and stays so.
 */
static const char *slots_change(struct slots *s)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = s->first & ~(page - 1);
	uintptr_t to = (s->last + page - 1) & ~(page - 1), protected_end = s->end & ~(page - 1);

	to = MIN_OF(to, protected_end);
	if (from < to && RAW3(SYS_mprotect, from, to - from, PROT_READ | PROT_WRITE) < 0)
		return "the C library's tables of stream functions may not be changed";
	libc_file.read = (ssize_t(*)(FILE *, void *, ssize_t))s->function[SLOT_READ];
	libc_file.write = (ssize_t(*)(FILE *, const void *, ssize_t))s->function[SLOT_WRITE];
	libc_file.close = (int (*)(FILE *))s->function[SLOT_CLOSE];
	each_table(s, table_change);
	if (from < to)
		RAW3(SYS_mprotect, from, to - from, PROT_READ);
	return NULL;
}

static pthread_once_t redirect_once = PTHREAD_ONCE_INIT;
static bool redirected;

static void redirect(void)
{
	struct slots s = {.first = 0};
	const char *why = slots_find(&s);

	if (!why)
		why = slots_change(&s);
	redirected = !why;
	if (why)
		log_line("%s; of all streams only those that fdopen() makes can use the stack's sockets",
			 why);
}

bool stdio_redirect(void)
{
	int saved_errno = errno;

	pthread_once(&redirect_once, redirect);
	errno = saved_errno;
	return redirected;
}

/* ------------------------------------------------------------ fdopen, freopen */

/* A stream on functions of ours. The cookie is the number. */
static ssize_t cookie_read(void *cookie, char *buf, size_t n)
{
	return read((int)(intptr_t)cookie, buf, n);
}

static ssize_t cookie_write(void *cookie, const char *buf, size_t n)
{
	size_t done = 0;
	ssize_t r = 0;

	while (done < n) {
		r = write((int)(intptr_t)cookie, buf + done, n - done);
		if (r < 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done; /* less than n: libc marks the stream as failed */
}

static int cookie_seek(void *cookie, off64_t *offset, int whence)
{
	(void)cookie, (void)offset, (void)whence;
	errno = ESPIPE;
	return -1;
}

static int cookie_close(void *cookie)
{
	return close((int)(intptr_t)cookie);
}

static FILE *cookie_open(int fd, const char *mode)
{
	static const cookie_io_functions_t io = {cookie_read, cookie_write, cookie_seek, cookie_close};
	int flags = fcntl(fd, F_GETFL);
	FILE *f = flags < 0 ? NULL : fopencookie((void *)(intptr_t)fd, mode, io);

	if (f) {
		f->_fileno = fd;
		if (*mode == 'a' && !(flags & O_APPEND))
			fcntl(fd, F_SETFL, flags | O_APPEND);
	}
	return f;
}

FILE *fdopen(int fd, const char *mode)
{
	if (UNLIKELY(netio_owns_fd(fd)) && !process_is_vfork_child()) {
		errno = EBADF;
		return NULL;
	}
	/* an undecided socket, too: fclose() must be seen, whatever becomes of it */
	if (LIKELY(fd_kind(fd) == FD_KERNEL) || stdio_redirect())
		return REAL(fdopen)(fd, mode);
	return cookie_open(fd, mode);
}

FILE *_IO_fdopen(int fd, const char *mode)
{
	return fdopen(fd, mode);
}

/*
 * Before libc puts another file on the stream's number: what waits in it goes
 * out, then the number is closed. False: a stream on functions of ours, which
 * libc's freopen() cannot turn into one of its own (it crashes on them): closed,
 * as it is after every freopen() that fails.
 */
static bool stream_retire(FILE *f)
{
	int saved_errno = errno, fd = f ? fileno_unlocked(f) : -1;
	bool foreign = fd >= 0 && UNLIKELY(!redirected) && !f->_wide_data;

	if (UNLIKELY(foreign || fd_kind(fd) != FD_KERNEL)) {
		fflush(f);
		fd_closing(fd);
	}
	if (UNLIKELY(foreign)) {
		close(fd);
		f->_fileno = -1;
		errno = EOPNOTSUPP;
		return false;
	}
	errno = saved_errno;
	return true;
}

FILE *freopen(const char *path, const char *mode, FILE *f)
{
	return stream_retire(f) ? REAL(freopen)(path, mode, f) : NULL;
}

FILE *freopen64(const char *path, const char *mode, FILE *f)
{
	return stream_retire(f) ? REAL(freopen64)(path, mode, f) : NULL;
}

/* ------------------------------------------------------------ dprintf */

/* Not among the public declarations of an unfortified build. */
int __vsnprintf_chk(char *buf, size_t n, int flag, size_t size, const char *format, va_list ap);

static int write_all(int fd, const char *text, int n)
{
	for (int done = 0; done < n;) {
		ssize_t r = write(fd, text + done, (size_t)(n - done));
		if (r < 0)
			return -1;
		done += (int)r;
	}
	return n;
}

/* Longer than the caller's buffer: n bytes and the zero. */
static int print_long(int fd, int flag, const char *format, va_list ap, size_t n)
{
	char *text = malloc(n + 1);
	int r;

	if (!text)
		return -1;
	pthread_cleanup_push(free, text);
	r = __vsnprintf_chk(text, n + 1, flag, n + 1, format, ap) < 0 ? -1 : write_all(fd, text, (int)n);
	pthread_cleanup_pop(1);
	return r;
}

/* flag > 0: with the checks of _FORTIFY_SOURCE. */
static int print(int fd, int flag, const char *format, va_list ap)
{
	char text[1024];
	va_list again;
	int n;

	va_copy(again, ap);
	n = __vsnprintf_chk(text, sizeof text, flag, sizeof text, format, ap);
	if (n >= (int)sizeof text)
		n = print_long(fd, flag, format, again, (size_t)n);
	else if (n >= 0)
		n = write_all(fd, text, n);
	va_end(again);
	return n;
}

int vdprintf(int fd, const char *format, va_list ap)
{
	return fd_is_stack(fd) ? print(fd, 0, format, ap) : REAL(vdprintf)(fd, format, ap);
}

int __vdprintf_chk(int fd, int flag, const char *format, va_list ap)
{
	return fd_is_stack(fd) ? print(fd, flag, format, ap) : REAL(__vdprintf_chk)(fd, flag, format, ap);
}

int dprintf(int fd, const char *format, ...)
{
	va_list ap;
	int r;

	va_start(ap, format);
	r = vdprintf(fd, format, ap);
	va_end(ap);
	return r;
}

int __dprintf_chk(int fd, int flag, const char *format, ...)
{
	va_list ap;
	int r;

	va_start(ap, format);
	r = __vdprintf_chk(fd, flag, format, ap);
	va_end(ap);
	return r;
}

/* ------------------------------------------------------------ the end */

/* libc's list of streams, newest first, and its lock. */
struct stream_list {
	FILE **all;
	void (*lock)(void);
	void (*unlock)(void);
	void (*take_out)(FILE *);
};

static bool list_find(struct stream_list *l)
{
	l->all = (FILE **)dlsym(RTLD_NEXT, "_IO_list_all");
	l->lock = (void (*)(void))dlsym(RTLD_NEXT, "_IO_list_lock");
	l->unlock = (void (*)(void))dlsym(RTLD_NEXT, "_IO_list_unlock");
	l->take_out = (void (*)(FILE *))dlsym(RTLD_NEXT, "_IO_un_link");
	return l->all && l->lock && l->unlock && l->take_out;
}

/*
 * To the tail. _IO_un_link() also clears the flag that says it is in the list,
 * which only fclose() would ask. A stream may be on another thread's stack
 * (dprintf); libc's own lock, which no sanitizer sees, keeps it there.
 */
NOT_INSTRUMENTED static void list_move_last(const struct stream_list *l, FILE *f)
{
	FILE **at;

	l->lock();
	l->take_out(f);
	for (at = l->all; *at; at = &(*at)->_chain)
		;
	f->_chain = NULL;
	*at = f;
	l->unlock();
}

static void (*last_call)(void);
static FILE *last_stream;
static struct stream_list streams;

static ssize_t last_write(void *cookie, const char *buf, size_t n)
{
	(void)cookie, (void)buf;
	last_call();
	return (ssize_t)n;
}

/* The memory for it: at the end it may be too late, as in a handler that interrupted malloc(). */
void stdio_prepare_end(void)
{
	static const cookie_io_functions_t io = {.write = last_write};
	static char buffer[16];

	if (last_stream || !list_find(&streams))
		return;
	last_stream = fopencookie(NULL, "w", io);
	if (last_stream)
		setvbuf(last_stream, buffer, _IOFBF, sizeof buffer);
}

void stdio_at_end(void (*last)(void), void (*early)(void))
{
	if (!last_stream) {
		fflush(NULL); /* what is written later than now is lost */
		early();
		return;
	}
	last_call = last;
	list_move_last(&streams, last_stream);
	putc_unlocked('.', last_stream);
}
