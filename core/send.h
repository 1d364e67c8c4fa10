/*
 * send.h - what the files of TCP's sending half offer one another.
 *
 * ackin.c takes an ACK apart; sack.c and recovery.c decide what is lost;
 * cc*.c decide how much may be in flight; output.c decides what to send now;
 * emit.c builds the frames; rto.c, persist.c and keepalive.c are its timers.
 */
#ifndef CORE_SEND_H
#define CORE_SEND_H

#include "core/tcb.h"

/* Linux's tcp_min_snd_mss: no peer and no ICMP message makes us send smaller segments (CVE-2019-11479). */
#define SND_MSS_MIN 48u
/* IPv4's floor for a path MTU that ICMP announces (Linux's min_pmtu). */
#define PMTU_FLOOR 552u
/* RFC 5681 3.2 */
#define DUP_THRESH 3u
/* Between the bounds of RFC 9293 3.8.6.2.1 (0.1 to 1 s) and as Linux's cork. */
#define OVERRIDE_TIME (200 * NS_PER_MS)

/* The sequence number of the octet after the last one queued: where the FIN goes. */
static inline seq32 snd_queue_end(const struct tcb *t)
{
	return seq_add(t->iss, 1 + (uint32_t)t->sndbuf.end);
}
/* The stream offset of a sequence number at or after the first octet queued. */
static inline uint64_t snd_offset(const struct tcb *t, seq32 seq)
{
	return t->sndbuf.start + (seq.v - (t->iss.v + 1 + (uint32_t)t->sndbuf.start));
}
static inline uint32_t snd_outstanding(const struct tcb *t)
{
	return t->snd_nxt.v - t->snd_una.v;
}
/* Octets queued and never sent. */
static inline uint64_t snd_unsent(const struct tcb *t)
{
	return t->fin_sent || t->snd_nxt.v == t->iss.v ? 0 : t->sndbuf.end - snd_offset(t, t->snd_nxt);
}
/* The options fix the segment size at least at SND_MSS_MIN. */
static inline uint32_t snd_mss_of(const struct tcb *t)
{
	return MAX_OF(t->snd_mss, SND_MSS_MIN);
}

/* emit.c: the reset of a connection whose record is not to be trusted (rebuild.c). */
void output_rst_torn(struct stack_cx *cx, struct tcb *t);

/* emit.c: one segment or super-segment. len octets of sndbuf from seq; TH_ACK implies ack_sent(). */
struct emit {
	seq32 seq;
	uint32_t len;  /* payload octets; > mss: a super-segment */
	uint32_t mss;  /* of the pieces of a super-segment */
	uint8_t flags; /* TH_* */
};
int emit_segment(struct stack_cx *cx, struct tcb *t, struct emit *e);
uint32_t emit_super_max(struct stack_cx *cx, uint32_t mss); /* payload of the largest frame */

/* ackin.c: the round-trip sample that an ACK yields, if any; before snd_una moves. */
void rtt_on_ack(struct stack_cx *cx, struct tcb *t, const struct segment *s);

/* output.c */
void output_override_timer(struct stack_cx *cx, struct tcb *t);

/* rate.c */
enum busy_account { BUSY_NOTHING = 0, BUSY_SENDING, BUSY_WINDOW, BUSY_SNDBUF };
void rate_sent(struct stack_cx *cx, struct tcb *t);  /* new octets have left: snd_nxt has moved */
void rate_acked(struct stack_cx *cx, struct tcb *t); /* snd_una has moved */
/* window_limited: the last look at the queue found the peer's window in the way. */
void busy_update(struct stack_cx *cx, struct tcb *t, bool window_limited);
nsec busy_time(const struct stack_cx *cx, const struct tcb *t, enum busy_account of);

/* sndbuf.c */
void sndbuf_wake(struct stack_cx *cx, struct tcb *t);
void sndbuf_starve(struct stack_cx *cx, struct tcb *t);

/* sack.c */
/* Octets below `to`, at or above snd_una, that the peer has not SACKed. */
uint32_t sack_unsacked_below(struct stack_cx *cx, struct tcb *t, seq32 to);
/* Everything un-SACKed below it is lost by RFC 6675's IsLost(); snd_una if nothing is. */
seq32 sack_lost_edge(struct stack_cx *cx, struct tcb *t);
/* The next run in [*from, to) that is not SACKed. */
bool sack_next_hole(struct stack_cx *cx, struct tcb *t, seq32 *from, seq32 to, uint32_t *len);
/* The first octet outstanding is SACKed, yet not acknowledged: the peer threw data away (RFC 2018 8). */
bool sack_reneged(struct stack_cx *cx, struct tcb *t);

/* recovery.c */
void recovery_account(struct stack_cx *cx, struct tcb *t); /* lost_bytes, retrans_out */
/* Resend by rule 1, 3 or 4 of NextSeg() (RFC 6675 4) and account for it. */
void recovery_resend(struct stack_cx *cx, struct tcb *t, seq32 from, uint32_t len, int rule);
void recovery_resend_first(struct stack_cx *cx, struct tcb *t); /* at snd_una, whatever cwnd says */
void recovery_judge(struct stack_cx *cx, struct tcb *t, const struct segment *s); /* RFC 3522 */

/* rto.c: when n retransmissions with doubling from rto_min end (Linux's reading of tcp_retries2). */
nsec rto_span(const struct stack_config *c, unsigned n);
/* Count the time-out against every limit; true when the connection was given up (t may be gone). */
bool rto_give_up(struct stack_cx *cx, struct tcb *t);

/* cc.c */
void cc_start(struct stack_cx *cx, struct tcb *t);
void cc_idle_restart(struct stack_cx *cx, struct tcb *t);
bool cc_may_grow(const struct tcb *t);
uint32_t cc_slow_start(struct tcb *t, uint32_t acked); /* octets left for congestion avoidance */
uint32_t cc_flight(const struct tcb *t);
#define CWND_MAX (1u << 30) /* RFC 7323 2.3: no window is larger */

#endif
