/*
 * pump.c - connections of the stack for programs that do not load this library
 * (design D4; netio/pump.c has the theory).
 *
 * exec(): each number that is passed on gets the heir's end of a pump in place of
 * the placeholder. The table is left alone, because it ends with this image; if
 * exec() fails the placeholders go back and nothing has been lost: the keeper moves
 * no byte before the exec has closed the gates.
 *
 * Place in the flow: exec.c -> here -> netio_pump().
 */
#include <fcntl.h>
#include <sys/syscall.h>

#include "preload/fdtable.h"
#include "preload/placeholder.h"
#include "preload/pump.h"
#include "preload/wait.h"

void pump_plan_init(struct pump_plan *p)
{
	p->count = 0;
	p->room = ARRAY_LEN(p->few);
	p->number = p->few;
	p->bytes = 0;
}

static bool plan_grow(struct pump_plan *p)
{
	size_t bytes = (size_t)p->room * 4 * sizeof *p->number;
	struct pump_number *more = pages_get(bytes);

	if (!more)
		return false;
	memcpy(more, p->number, (size_t)p->count * sizeof *more);
	if (p->number != p->few)
		pages_put(p->number, p->bytes);
	p->number = more;
	p->bytes = bytes;
	p->room *= 4;
	return true;
}

static int first_of(const struct pump_plan *p, uint64_t cookie)
{
	for (int i = 0; i < p->count; i++)
		if (p->number[i].cookie == cookie)
			return i;
	return p->count;
}

void pump_options(int fd, int heir)
{
	static const int names[] = {SO_RCVTIMEO, SO_SNDTIMEO};
	ref d = process_is_vfork_child() ? REF_NONE : fd_hold(fd);

	placeholder_flags(fd, heir);
	if (!d)
		return;
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		const struct description *o = description_of(d);
		nsec t = atomic_load(names[i] == SO_RCVTIMEO ? &o->rcvtimeo : &o->sndtimeo);
		struct timeval tv = {(time_t)(t / NS_PER_S), (suseconds_t)(t % NS_PER_S / 1000)};

		if (t)
			sys.setsockopt(heir, SOL_SOCKET, names[i], &tv, sizeof tv);
	}
	fd_release(d);
}

int pump_number(struct pump_plan *p, int fd, bool take)
{
	struct pump_number *n;
	int heir, err;

	if (p->count == p->room && !plan_grow(p))
		return -ENOMEM;
	n = &p->number[p->count];
	n->fd = fd;
	n->cookie = cookie_of(fd);
	n->first = first_of(p, n->cookie);
	n->saved = -1;
	if (n->first == p->count) {
		err = netio_pump(the_stack, n->cookie, take, &n->pump);
		if (err)
			return err;
		n->saved = (int)netio_fd_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3, 0);
		pump_options(fd, n->pump.heir);
	}
	heir = n->first == p->count ? n->pump.heir : p->number[n->first].fd;
	err = p->number[n->first].saved;
	if (err >= 0)
		err = netio_fd_onto(heir, fd, 0);
	if (err < 0) {
		if (n->first == p->count) {
			if (n->saved >= 0)
				sys.syscall(SYS_close, n->saved);
			netio_pump_cancel(&n->pump);
		}
		return err;
	}
	if (n->first == p->count) {
		/* before the mark: exec() would close it, and with it end the mark */
		sys.syscall(SYS_close, n->pump.heir);
		n->pump.heir = -1;
		netio_pump_mark(fd);
	}
	p->count++;
	return 0;
}

void pump_undo(struct pump_plan *p)
{
	for (int i = 0; i < p->count; i++) {
		struct pump_number *n = &p->number[i];

		if (sys.fcntl(n->fd, F_GETFD) >= 0)
			netio_fd_onto(p->number[n->first].saved, n->fd, 0);
	}
	for (int i = 0; i < p->count; i++) {
		struct pump_number *n = &p->number[i];

		if (n->first != i)
			continue;
		sys.syscall(SYS_close, n->saved);
		netio_pump_cancel(&n->pump);
	}
	if (p->number != p->few)
		pages_put(p->number, p->bytes);
	pump_plan_init(p);
}
