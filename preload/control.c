/*
 * control.c - control messages (cmsg(3)) of stack sockets: what recvmsg() adds, and what the kernel says of
 * those in sendmsg().
 *
 * TCP sends none of them to the peer. The kernel looks at each all the same, while
 * the connection is one that can send: a malformed one, or one of the socket level
 * that is not known there, is EINVAL; descriptors and credentials are ignored.
 *
 * Place in the flow: calls_io.c -> here.
 */
#include <linux/net_tstamp.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "preload/socket.h"

#define SO_TIMESTAMPING_OLD_ 37 /* glibc has one name for the two */
#define SO_TIMESTAMPING_NEW_ 65
#define RECORDS                                                                                              \
	(SOF_TIMESTAMPING_TX_HARDWARE | SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_SCHED |           \
	 SOF_TIMESTAMPING_TX_ACK)

/* net/core/sock.c: __sock_cmsg_send(). */
static bool known(const struct cmsghdr *c)
{
	uint32_t v;

	switch (c->cmsg_type) {
	case SCM_RIGHTS:
	case SCM_CREDENTIALS:
		return true;
	case SO_MARK:
	case SO_PRIORITY:
		return c->cmsg_len == CMSG_LEN(sizeof v);
	case SO_TIMESTAMPING_OLD_:
	case SO_TIMESTAMPING_NEW_:
		memcpy(&v, CMSG_DATA(c), sizeof v);
		return c->cmsg_len == CMSG_LEN(sizeof v) && !(v & ~(uint32_t)RECORDS);
	default:
		return false;
	}
}

int control_check(const struct msghdr *m)
{
	const uint8_t *at = m->msg_control;
	size_t left = m->msg_controllen;
	struct cmsghdr c;

	if (left > INT32_MAX)
		return -ENOBUFS;
	if (!memory_readable(at, left))
		return -EFAULT;
	while (left >= sizeof c) {
		size_t size;

		memcpy(&c, at, sizeof c);
		if (c.cmsg_len < sizeof c || c.cmsg_len > left)
			return -EINVAL;
		if (c.cmsg_level == SOL_SOCKET && !known((const struct cmsghdr *)(const void *)at))
			return -EINVAL;
		size = CMSG_ALIGN(c.cmsg_len);
		if (size > left)
			break;
		at += size;
		left -= size;
	}
	return 0;
}

size_t control_put_inq(struct msghdr *m, int left)
{
	struct cmsghdr head = {CMSG_LEN(sizeof left), IPPROTO_TCP, TCP_CM_INQ};
	uint8_t *to = m->msg_control;

	if (!to || m->msg_controllen < sizeof head) {
		m->msg_flags |= MSG_CTRUNC;
		return 0;
	}
	if (m->msg_controllen < head.cmsg_len) {
		m->msg_flags |= MSG_CTRUNC;
		head.cmsg_len = m->msg_controllen;
	}
	memcpy(to, &head, sizeof head);
	memcpy(to + sizeof head, &left, head.cmsg_len - sizeof head);
	return MIN_OF(CMSG_SPACE(sizeof left), m->msg_controllen);
}
