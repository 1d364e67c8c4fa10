/*
 * epoll_move.c - a kernel TCP socket that is a member of sets becomes a stack
 * socket: its memberships move from the kernel's sets into our lists (D4).
 *
 * Place in the flow: establish.c -> here -> epoll_ctl.c.
 */
#include <fcntl.h>
#include <sys/syscall.h>

#include "preload/epoll.h"

/* The next number in a line of /proc/self/fdinfo, after `name`. */
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

/*
 * Has a ONESHOT member fired, and not been armed again? Only the kernel knows;
 * it tells in fdinfo ("tfd: 5 events: 4000001d data: ..."). Without /proc: no.
 */
static bool oneshot_fired(const struct tcp_member *m)
{
	char path[48], text[4096];
	uint64_t tfd, events;
	long fd, n;

	log_format(path, sizeof path, "/proc/self/fdinfo/%d", m->set->fd);
	netio_births_begin();
	fd = sys.syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : sys.read((int)fd, text, sizeof text - 1);
	if (fd >= 0)
		sys.close((int)fd);
	netio_births_end();
	text[n > 0 ? n : 0] = 0;
	for (const char *p = text; p;) {
		p = field(p, "tfd:", 10, &tfd);
		p = p ? field(p, "events:", 16, &events) : NULL;
		if (p && tfd == (uint64_t)m->fd)
			return !((uint32_t)events & ~MODIFIERS);
	}
	return false;
}

int epoll_before_replace(int fd)
{
	struct tcp_member **l, *m;

	sets_lock();
	for (l = tcp_bucket(fd); (m = *l) != NULL;) {
		if (m->fd != fd) {
			l = &m->next;
			continue;
		}
		if ((m->event.events & EPOLLONESHOT) && oneshot_fired(m))
			m->event.events &= MODIFIERS;
		if (epoll_kernel_ctl(m->set->fd, EPOLL_CTL_DEL, fd, 0, 0) < 0) {
			*l = m->next; /* the number meant another file then */
			cell_put(m);
			continue;
		}
		m->moving = true;
		if (m->set->kernel_members > 0)
			m->set->kernel_members--;
		l = &m->next;
	}
	sets_unlock();
	return 0;
}

int epoll_after_replace(int fd, ref d)
{
	struct tcp_member **l, *m;
	int r = 0;

	sets_lock();
	for (l = tcp_bucket(fd); (m = *l) != NULL;) {
		if (m->fd != fd || !m->moving) {
			l = &m->next;
			continue;
		}
		if (!d) { /* it stays in the kernel after all */
			m->moving = false;
			if (!epoll_kernel_ctl(m->set->fd, EPOLL_CTL_ADD, fd, m->event.events,
					      m->event.data.u64))
				m->set->kernel_members++;
			l = &m->next;
			continue;
		}
		r = member_add(m->set, fd, d, &m->event);
		*l = m->next;
		cell_put(m);
		if (r < 0)
			break;
	}
	sets_unlock();
	return r;
}

/*
 * The watches stay while another process has the description: as in the kernel,
 * a membership lives as long as the open file. With the last one they go.
 */
void epoll_description_gone(ref d)
{
	struct member *m;

	if (!atomic_load(&epoll_joined))
		return;
	sets_lock();
	for (struct set *s = epoll_sets; s; s = s->next)
		while ((m = listener_member(s, d)) != NULL)
			listener_remove(s, m->fd, d);
	sets_unlock();
}
