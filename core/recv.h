/*
 * recv.h - calls between the files of the receiving half that nobody else needs.
 */
#ifndef CORE_RECV_H
#define CORE_RECV_H

#include "core/tcb.h"

/* Every bit: what the kernel's sk_state_change wakes. */
#define SOCK_EDGES_ALL (SOCK_IN | SOCK_PRI | SOCK_OUT | SOCK_ERR | SOCK_HUP | SOCK_RDHUP)

/* Linux's numbers, shared by several rules. */
#define OOW_ACK_INTERVAL (500 * NS_PER_MS)	     /* tcp_invalid_ratelimit */
#define PAWS_IDLE_MAX	 (24 * 24 * 3600 * NS_PER_S) /* RFC 7323 5.5 */
#define SNDBUF_MIN	 4608			     /* SOCK_MIN_SNDBUF */
#define SOMAXCONN_MAX	 65535u			     /* what preload asks for is net.core.somaxconn at most */
#define SMALLEST_MSS	 48u			     /* net.ipv4.tcp_min_snd_mss: CVE-2019-11479 */

/* What one step of RFC 9293 3.10.7 says about the segment. */
enum verdict {
	NEXT,	  /* go on with the following step */
	DROP,	  /* done with it: nothing to send, or sent already, or the TCB is gone */
	ACK_DROP, /* unacceptable: answer with an ACK (rate limited), then drop */
	RST_DROP, /* answer with RST, then drop */
};

/* input.c */
enum verdict syn_sent_segment(struct stack_cx *cx, struct tcb *t, struct segment *s);
bool paws_reject(struct stack_cx *cx, uint32_t ts_recent, nsec age, const struct segment *s);

/* listen.c */
/* As listen_segment() for an acceptable SYN; iss_min: the ISN must lie above it (reuse of TIME-WAIT). */
void listen_syn(struct stack_cx *cx, struct tcb *listener, struct segment *s, const seq32 *iss_min);
bool listen_may_establish(struct stack_cx *cx, struct tcb *t, const struct segment *s);
void listen_child_established(struct stack_cx *cx, struct tcb *t);
void listen_unlink(struct stack_cx *cx, struct tcb *child);
void listen_stop(struct stack_cx *cx, struct tcb *listener);

/* open.c */
void tcb_reset_for_reuse(struct stack_cx *cx,
			 struct tcb *t); /* tcp_disconnect(): CLOSED, may connect again */
void tcb_syn_acked(struct stack_cx *cx, struct tcb *t, const struct segment *s);
void tcb_start(struct stack_cx *cx, struct tcb *t,
	       seq32 iss); /* the send variables and our window, before SYN or SYN-ACK */
void tcb_inherit(struct tcb *child, const struct tcb *listener);
int tcb_connect(struct stack_cx *cx, struct tcb *t, const struct endpoint *local,
		const struct endpoint *remote);

/* close.c */
void tcb_close(struct stack_cx *cx, struct tcb *t);
void tcb_fin_acked(struct stack_cx *cx, struct tcb *t, const struct segment *s);
void tcb_done(struct stack_cx *cx, struct tcb *t);
void timewait_free(struct stack_cx *cx, struct timewait *w);
/* May a new active open take the tuple of w over (RFC 6191)? */
bool timewait_reusable(struct stack_cx *cx, const struct timewait *w);

/* reass.c */
/* Throw the farthest range away, for want of memory; false: there is none. */
bool reass_prune(struct stack_cx *cx, struct tcb *t);
void reass_duplicate(struct tcb *t, seq32 start, seq32 end);
const char *reass_verify(struct stack_cx *cx, const struct tcb *t);

/* rcvbuf.c */
void rcv_established(struct stack_cx *cx, struct tcb *t);
void rcv_window_grow(struct stack_cx *cx, struct tcb *t, const struct segment *s);
uint32_t rcv_window_now(const struct tcb *t); /* what the peer may still send: rcv_adv - rcv_nxt */

/* ack.c */
void ack_quick_mode(struct stack_cx *cx,
		    struct tcb *t); /* something is odd: the next segments are answered at once */
void ack_read(struct stack_cx *cx, struct tcb *t); /* the application took bytes */
bool ack_limited(struct stack_cx *cx, nsec *last); /* true: too soon after *last */

/* The sequence number of the next byte that the application will read. */
static inline seq32 rcv_copied(const struct tcb *t)
{
	return seq_add(t->rcv_nxt, 0u - (uint32_t)buffer_len(&t->rcvbuf) - (t->fin_received ? 1u : 0u));
}

/* The sequence number behind everything queued to send, a queued FIN included (Linux's write_seq). */
static inline seq32 snd_write_seq(const struct tcb *t)
{
	return seq_add(t->iss, 1u + (uint32_t)t->sndbuf.end + (t->fin_queued ? 1u : 0u));
}

#endif
