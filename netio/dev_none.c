/*
 * dev_none.c - no device at all: "none". Only the loop inside the stack is
 * there, so nothing is opened and no capability is needed.
 *
 * The stack's address is 127.0.0.1 unless one was given; an address of its own
 * is reached like loopback, and only from this stack.
 *
 * Its descriptor is an eventfd that is never ready: so the keeper, the wait sets
 * and other processes of the stack need no case of their own for it.
 *
 * Place in the flow: device.h.
 */
#include <sys/eventfd.h>

#include "netio/internal.h"

/*
 * No interface keeps two stacks of one name apart when the keeper of the first
 * has just been killed: this name does, as long as a process of the stack lives.
 */
static int claim_name(struct device *d, const struct netio_config *c, char *why, size_t why_len)
{
	struct stack_name name;
	int fd, err;

	rendezvous_name(c, &name);
	memmove(name.path + 2, name.path + 1, sizeof name.path - 2);
	name.path[1] = '!';
	name.len = MIN_OF(name.len + 1, (uint32_t)sizeof name.path);
	fd = rendezvous_listen(&name);
	err = fd < 0 ? fd : fds_keep(fd, &d->claim_fd);
	if (!err)
		return 0;
	d->claim_fd = -1;
	if (err == -EADDRINUSE)
		why_set(why, why_len, "the stack is in use by processes that do not answer; end them");
	else
		why_set(why, why_len, "no local socket (%s); raise `ulimit -n`", strerror(-err));
	return err == -EADDRINUSE ? -EBUSY : err;
}

static int none_open(struct device *d, const char *name, struct netio_config *c, char *why, size_t why_len)
{
	int fd = (int)netio_fd_call(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC, 0, 0), err;

	(void)name;
	err = fd < 0 ? fd : fds_keep(fd, &d->fd);
	if (err) {
		why_set(why, why_len, "no file descriptor is free; raise `ulimit -n`");
		return err;
	}
	err = rendezvous_wanted(c) && keeper_possible() ? claim_name(d, c, why, why_len) : 0;
	if (err) {
		fds_drop(&d->fd);
		return err;
	}
	d->caps = DEVICE_NONE | DEVICE_NO_ARP;
	d->mtu = 65535;
	memcpy(d->ifname, "none", sizeof "none");
	if (ipaddr_is_any(&c->stack.addr)) {
		c->stack.addr = ipaddr_v4(127, 0, 0, 1);
		c->stack.prefix_len = 8;
	}
	if (!c->mtu_set)
		c->stack.mtu = d->mtu;
	device_choose_mac(d, c);
	return 0;
}

static int none_recv(struct device *d, uint8_t *buf, struct device_rx *out)
{
	(void)d;
	(void)buf;
	(void)out;
	return 0;
}

static int none_send(struct device *d, const struct frame_tx *f)
{
	(void)d;
	(void)f;
	return -ENETDOWN;
}

static void none_close(struct device *d)
{
	fds_drop(&d->fd);
	fds_drop(&d->claim_fd);
}

const struct device_ops dev_none = {
    .kind = "none",
    .open = none_open,
    .recv = none_recv,
    .send = none_send,
    .close = none_close,
};
