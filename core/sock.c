/*
 * sock.c - the socket verbs that move bytes and connect: what connect(2),
 * send(2) and recv(2) do on Linux, without the blocking.
 *
 * Theory of operation. A socket's errors are reported once: so_error is taken
 * by the first of connect, send, recv or SO_ERROR. The order in which recv
 * looks is Linux's: bytes first, then a FIN, then the error, then a shut-down
 * half. A connect goes through Linux's three socket states: unconnected,
 * connecting (connect_started) and connected (connect_reported); a failed one
 * becomes unconnected again, usable for another try.
 *
 * Place in the flow: preload's wrappers call these under netio's lock; sndbuf
 * and rcvbuf lie between them and output.c and input.c. The passive verbs are
 * in listen.c, shutdown and close in close.c, options in option.c.
 */
#include "core/recv.h"
#include "core/send.h"

ref sock_create(struct stack_cx *cx)
{
	return pool_ref(cx, tcb_create(cx));
}

ref sock_next(struct stack_cx *cx, ref after)
{
	return pool_next(cx, POOL_TCB, after);
}

int sock_take_error(struct stack_cx *cx, ref s)
{
	struct tcb *t = tcb_at(cx, s);
	int err = t->so_error ? t->so_error : t->soft_error;

	if (t->so_error)
		t->so_error = 0;
	else
		t->soft_error = 0;
	return err;
}

int sock_swap_error(struct stack_cx *cx, ref s, int err)
{
	struct tcb *t = tcb_at(cx, s);
	int before = t->so_error;

	t->so_error = err;
	return before;
}

/* Only the hard error: what a verb fails with. Positive. */
static int take_hard_error(struct tcb *t, uint32_t flags)
{
	int err = t->so_error;

	if (!(flags & SOCK_MSG_REST))
		t->so_error = 0;
	return err;
}

int sock_names(struct stack_cx *cx, ref s, struct endpoint *local, struct endpoint *remote)
{
	const struct tcb *t = tcb_at(cx, s);

	if (local)
		*local = t->local;
	if (!remote)
		return 0;
	*remote = t->remote; /* filled also for accept(2), whose peer may be gone already */
	if (!t->remote.port || t->state == TCPS_CLOSED || t->state == TCPS_SYN_SENT ||
	    t->state == TCPS_TIME_WAIT)
		return -ENOTCONN;
	return 0;
}

uint64_t sock_region_bytes(struct stack_cx *cx, ref s)
{
	static const uint32_t size[] = {0,
#define X(name, bytes) bytes,
					POOL_CLASSES(X)
#undef X
	};
	const struct tcb *t = tcb_at(cx, s);

	return size[POOL_TCB] + t->sndbuf.charged + t->rcvbuf.charged + t->ooo_charged +
	       (t->sackboard ? size[POOL_SACKBOARD] : 0);
}

/* ----------------------------------------------------------------- connect */

/* A second call while one is under way, or after its outcome. */
static int connect_again(struct stack_cx *cx, struct tcb *t)
{
	if (t->state == TCPS_SYN_RECEIVED && (t->wr_shut || t->rd_shut))
		return -EINVAL; /* Linux's SS_DISCONNECTING */
	if (t->state == TCPS_SYN_SENT || t->state == TCPS_SYN_RECEIVED)
		return -EALREADY;
	if (t->state == TCPS_CLOSED || t->state == TCPS_TIME_WAIT) {
		int err = take_hard_error(t, 0);
		tcb_reset_for_reuse(cx, t);
		return err ? -err : -ECONNABORTED;
	}
	t->connect_reported = true;
	return 0;
}

static int connect_begin(struct stack_cx *cx, struct tcb *t, const struct endpoint *local,
			 const struct endpoint *remote)
{
	if (t->connect_reported)
		return -EISCONN;
	if (t->connect_started)
		return connect_again(cx, t);
	if (t->state != TCPS_CLOSED)
		return -EISCONN;
	if (!remote)
		return -EDESTADDRREQ;
	int err = tcb_connect(cx, t, local, remote);
	return err ? err : -EINPROGRESS;
}

bool sock_connect_begun(struct stack_cx *cx, ref s)
{
	return tcb_at(cx, s)->connect_started;
}

int sock_connect(struct stack_cx *cx, ref s, const struct endpoint *local, const struct endpoint *remote)
{
	ref outer = dirty_begin(cx, s);
	int result = connect_begin(cx, tcb_at(cx, s), local, remote);

	dirty_end(cx, outer);
	return result;
}

/* -------------------------------------------------------------------- send */

/* Linux's sk_stream_wait_connect() and the checks behind it. 0: go on. */
static int send_permitted(struct tcb *t, uint32_t flags)
{
	if (t->state == TCPS_SYN_SENT)
		return t->wr_shut ? -EPIPE : -EAGAIN;
	if (t->state == TCPS_SYN_RECEIVED)
		return -EAGAIN; /* also where the FIN waits for the end of the handshake */
	if (t->so_error)
		return -take_hard_error(t, flags);
	if (t->wr_shut || (t->state != TCPS_ESTABLISHED && t->state != TCPS_CLOSE_WAIT))
		return -EPIPE;
	return 0;
}

/* Bytes that the limits let in now. */
static uint64_t send_room(const struct tcb *t)
{
	uint64_t queued = buffer_len(&t->sndbuf);

	if (queued >= t->sndbuf_limit)
		return 0;
	if (t->notsent_lowat) {
		uint64_t sent = t->snd_nxt.v - t->snd_una.v;
		if (queued > sent && queued - sent >= t->notsent_lowat)
			return 0;
	}
	return t->sndbuf_limit - queued;
}

/*
 * The stack has no memory although the socket has room: lower its limit
 * (Linux's sk_stream_moderate_sndbuf), or poll would call it writable and a
 * writer would spin. sndbuf_tune() raises it again.
 */
static void send_moderate(struct tcb *t)
{
	uint64_t half = buffer_len(&t->sndbuf) / 2;

	if (!t->sndbuf_locked && half < t->sndbuf_limit)
		t->sndbuf_limit = (uint32_t)MAX_OF(half, (uint64_t)SNDBUF_MIN);
}

static uint64_t iov_length(const struct iovec *iov, int iovcnt)
{
	uint64_t n = 0;

	for (int i = 0; i < iovcnt; i++)
		n += iov[i].iov_len;
	return n;
}

static int64_t tcb_queue(struct stack_cx *cx, struct tcb *t, const struct iovec *iov, int iovcnt,
			 uint32_t flags)
{
	int err = send_permitted(t, flags);

	if (err)
		return err;
	uint64_t wanted = iov_length(iov, iovcnt), room = send_room(t);
	if (!wanted)
		return 0;
	uint64_t taken =
	    room ? buffer_append(cx, &t->sndbuf, pool_ref(cx, t), iov, iovcnt, 0, MIN_OF(room, wanted)) : 0;
	if (taken < wanted)
		t->nospace = true;
	if (taken < MIN_OF(room, wanted))
		send_moderate(t);
	if (!taken) {
		if (!buffer_len(&t->sndbuf) && room)
			sndbuf_starve(cx, t);
		return -EAGAIN;
	}
	timer_cancel(cx, t, TIMER_SPACE);
	if ((flags & SOCK_MSG_OOB) && taken == wanted) {
		/* MUST-30, MUST-62: the mark is the octet behind the urgent one. */
		t->snd_up = seq_add(t->iss, 1u + (uint32_t)t->sndbuf.end);
		t->urg_out = true;
	}
	/* What did not fit follows at once: a partial write is no reason to hold back. */
	t->more = (flags & SOCK_MSG_MORE) && taken == wanted;
	tcp_output(cx, t);
	return (int64_t)taken;
}

int64_t sock_send(struct stack_cx *cx, ref s, const struct iovec *iov, int iovcnt, uint32_t flags)
{
	ref outer = dirty_begin(cx, s);
	int64_t result = tcb_queue(cx, tcb_at(cx, s), iov, iovcnt, flags);

	dirty_end(cx, outer);
	return result;
}

/* -------------------------------------------------------------------- recv */

/* Linux's tcp_recv_urg(). */
static int64_t recv_urgent(struct stack_cx *cx, struct tcb *t, const struct iovec *iov, int iovcnt,
			   uint32_t flags)
{
	(void)cx;
	if (t->oobinline || !t->urg_in || t->urg_seen)
		return -EINVAL;
	if (t->state == TCPS_CLOSED && !t->fin_received)
		return -ENOTCONN;
	if (!t->urg_valid)
		return t->state == TCPS_CLOSED || t->rd_shut ? 0 : -EAGAIN;
	if (!(flags & SOCK_MSG_PEEK)) {
		t->urg_valid = false;
		t->urg_seen = true;
	}
	for (int i = 0; i < iovcnt; i++) {
		if (!iov[i].iov_len)
			continue;
		if (!(flags & SOCK_MSG_TRUNC))
			memcpy(iov[i].iov_base, &t->urg_byte, 1);
		return 1;
	}
	return 0;
}

/* What may be read in one go from the front. */
struct readable {
	uint64_t skip, len; /* an urgent byte that is not part of the stream; bytes up to the next mark */
};

static struct readable recv_range(const struct tcb *t, uint64_t wanted)
{
	struct readable r = {0, MIN_OF(buffer_len(&t->rcvbuf), wanted)};
	int32_t to_mark = seq_diff(t->rcv_up, rcv_copied(t));

	if (!t->urg_in || to_mark < 0 || !buffer_len(&t->rcvbuf))
		return r;
	if (to_mark > 0) {
		r.len = MIN_OF(r.len, (uint64_t)(uint32_t)to_mark); /* stop at the mark */
	} else if (!t->oobinline) {
		r.skip = 1;
		r.len = MIN_OF(buffer_len(&t->rcvbuf) - 1, wanted);
	}
	return r;
}

static void recv_consume(struct stack_cx *cx, struct tcb *t, uint64_t n)
{
	buffer_consume(cx, &t->rcvbuf, n);
	if (t->urg_in && seq_gt(rcv_copied(t), t->rcv_up))
		t->urg_in = t->urg_valid = t->urg_seen = false;
	rcv_tune(cx, t, n);
	ack_read(cx, t);
}

/* Nothing to read: why. */
static int64_t recv_nothing(struct tcb *t, uint32_t flags)
{
	if (t->fin_received)
		return 0;
	if (t->so_error)
		return -take_hard_error(t, flags);
	if (t->rd_shut)
		return 0;
	return t->state == TCPS_CLOSED ? -ENOTCONN : -EAGAIN;
}

int64_t sock_recv(struct stack_cx *cx, ref s, const struct iovec *iov, int iovcnt, uint32_t flags)
{
	struct tcb *t = tcb_at(cx, s);

	if (t->state == TCPS_LISTEN)
		return -ENOTCONN;
	if (flags & SOCK_MSG_OOB)
		return recv_urgent(cx, t, iov, iovcnt, flags);
	uint64_t wanted = iov_length(iov, iovcnt);
	if (!wanted)
		return 0;
	struct readable r = recv_range(t, wanted);
	if (r.len && !(flags & SOCK_MSG_TRUNC))
		buffer_copy(cx, &t->rcvbuf, t->rcvbuf.start + r.skip, iov, iovcnt, r.len);
	if ((r.skip || r.len) && !(flags & SOCK_MSG_PEEK)) {
		ref outer = dirty_begin(cx, s);
		recv_consume(cx, t, r.skip + r.len);
		dirty_end(cx, outer);
	}
	return r.len ? (int64_t)r.len : recv_nothing(t, flags);
}
