/*
 * tcp_icmp.c - what the network says about our segments.
 *
 * icmp.c hands over errors that quote a TCP segment, neigh.c the silence of a
 * neighbour. RFC 5927: only a quoted sequence number that is in flight makes an
 * error credible. In SYN-SENT it ends the attempt, as in Linux; a synchronised connection never
 * dies of ICMP (RFC 9293 MUST-56; for hard errors deviating from SHLD-26 as RFC
 * 5461 and 5927 advise): the error is kept and reported if the connection dies.
 * "Fragmentation needed" lowers the path MTU (RFC 1191), not below Linux's floor.
 */
#include "core/send.h"

/* RFC 5927 4.1: SND.UNA =< SEG.SEQ < SND.NXT. A SYN in flight is ISS alone; a bare ACK's number is not. */
static bool quote_in_flight(const struct tcb *t, seq32 seq)
{
	return seq_geq(seq, t->snd_una) && seq_lt(seq, t->snd_nxt);
}

static void lower_path_mtu(struct stack_cx *cx, struct tcb *t, uint32_t mtu)
{
	uint32_t now = t->pmtu ? t->pmtu : route_mtu(cx, &t->remote.addr), before = snd_mss_of(t);

	mtu = MAX_OF(mtu, PMTU_FLOOR);
	if (mtu >= now)
		return; /* the path carries what it carried: stale, or forged */
	t->pmtu = (uint16_t)mtu;
	snd_mss_update(cx, t);
	if (snd_mss_of(t) < before)
		recovery_on_icmp_mtu(cx, t);
}

/* The network cannot deliver to the peer. */
static void unreachable(struct stack_cx *cx, struct tcb *t, int err)
{
	if (t->state == TCPS_SYN_SENT || (t->state == TCPS_SYN_RECEIVED && !t->passive))
		tcb_drop(cx, t, err);
	else if (t->state > TCPS_SYN_RECEIVED)
		t->soft_error = err;
}

void tcp_icmp_error(struct stack_cx *cx, const struct endpoint *local, const struct endpoint *remote,
		    seq32 seq, int err, bool hard, uint32_t mtu)
{
	struct demux_result found = demux_find(cx, local, remote);

	if (found.kind != DEMUX_TCB) {
		COUNT(cx, icmp_ignored);
		return;
	}
	struct tcb *t = tcb_at(cx, found.r);
	if (t->state < TCPS_SYN_SENT || !quote_in_flight(t, seq)) {
		COUNT(cx, icmp_ignored);
		return;
	}
	ref outer = dirty_begin(cx, found.r);
	if (mtu)
		lower_path_mtu(cx, t, mtu);
	else if (hard && t->state == TCPS_SYN_RECEIVED && t->passive)
		tcb_drop(cx, t, err < 0 ? -err : err); /* the SYN's sender does not exist */
	else
		unreachable(cx, t, err < 0 ? -err : err);
	dirty_end(cx, outer);
}

void tcp_unreachable(struct stack_cx *cx, const struct ipaddr *dst, int err)
{
	ref next;

	for (ref r = pool_next(cx, POOL_TCB, REF_NONE); r; r = next) {
		struct tcb *t = tcb_at(cx, r);

		next = pool_next(cx, POOL_TCB, r);
		if (t->state < TCPS_SYN_SENT || !ipaddr_eq(&t->remote.addr, dst) || !snd_outstanding(t))
			continue;
		ref outer = dirty_begin(cx, r);
		unreachable(cx, t, err < 0 ? -err : err);
		dirty_end(cx, outer);
	}
}
