/*
 * epoll_info.c - what the kernel says of the members of an epoll set: the lines
 * "tfd:  5 events: 4000001d data: 7f00 ..." of /proc/self/fdinfo.
 *
 * Place in the flow: epoll_move.c, epoll_heir.c -> here.
 */
#include <fcntl.h>
#include <sys/syscall.h>

#include "preload/epoll.h"

/* The number after `name`; where it ends, or NULL. */
static const char *field(const char *line, const char *name, int base, uint64_t *value)
{
	const char *p = strstr(line, name);
	uint64_t v = 0;

	if (!p)
		return NULL;
	for (p += strlen(name); *p == ' '; p++)
		;
	for (;; p++) {
		int digit = *p >= '0' && *p <= '9' ? *p - '0' : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10 : 99;
		if (digit >= base)
			break;
		v = v * (uint64_t)base + (uint64_t)digit;
	}
	*value = v;
	return p;
}

static bool line_parse(const char *line, struct epoll_item *i)
{
	uint64_t fd, events;
	const char *p = field(line, "tfd:", 10, &fd);

	p = p ? field(p, "events:", 16, &events) : NULL;
	p = p ? field(p, "data:", 16, &i->data) : NULL;
	if (!p)
		return false;
	i->fd = (int)fd;
	i->events = (uint32_t)events;
	return true;
}

/* The whole lines in text; what is left of the last one is moved to its front. */
static bool lines_look(char *text, size_t *have, bool (*f)(const struct epoll_item *i, void *arg), void *arg)
{
	char *line = text, *end;
	struct epoll_item i;
	bool found = false;

	while (!found && (end = memchr(line, '\n', *have - (size_t)(line - text))) != NULL) {
		*end = 0;
		found = line_parse(line, &i) && f(&i, arg);
		line = end + 1;
	}
	*have -= (size_t)(line - text);
	memmove(text, line, *have);
	return found;
}

bool epoll_each_item(int epfd, bool (*f)(const struct epoll_item *i, void *arg), void *arg)
{
	char path[48], text[4096];
	bool found = false;
	size_t have = 0;
	long fd, n;

	log_format(path, sizeof path, "/proc/self/fdinfo/%d", epfd);
	netio_births_begin();
	fd = sys.syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && !found && have < sizeof text &&
	       (n = sys.read((int)fd, text + have, sizeof text - have)) > 0) {
		have += (size_t)n;
		found = lines_look(text, &have, f, arg);
	}
	if (fd >= 0)
		sys.syscall(SYS_close, fd);
	netio_births_end();
	return found;
}
