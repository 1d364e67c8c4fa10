/*
 * tcb.h - the transmission control block and the calls between core's files.
 *
 * Theory of operation. A segment travels
 *   stack_input -> ether_input -> ipv4_input -> tcp_input (demux) ->
 *   segment_arrives (input.c: one function per numbered step of RFC 9293
 *   3.10.7) -> output_mark -> [end of burst] stack_flush -> tcp_output.
 * A write travels sock_send -> sndbuf_append -> tcp_output.
 * A timer travels stack_advance -> timer_run -> {rto, persist, keepalive,
 * delayed ACK, FIN-WAIT-2 ...} -> tcp_output.
 * Everything here lives in the region: refs, no pointers (design D2).
 *
 * Variables of RFC 9293 3.3.1 keep their names, in lower case: snd_una, rcv_nxt.
 */
#ifndef CORE_TCB_H
#define CORE_TCB_H

#include "utcp/pool.h"
#include "utcp/stack.h"

/* --------------------------------------------------------------- segment */

struct chain; /* chunk.h */

#define TH_FIN 0x01u
#define TH_SYN 0x02u
#define TH_RST 0x04u
#define TH_PSH 0x08u
#define TH_ACK 0x10u
#define TH_URG 0x20u
#define TH_ECE 0x40u
#define TH_CWR 0x80u

#define SACK_BLOCKS_MAX 4

struct sack_block {
	seq32 start, end;
};

/* A parsed segment: after wire_parse() no code sees TCP bytes again. */
struct segment {
	struct endpoint src, dst;
	seq32 seq, ack;
	seq32 seq_wire; /* seq before trimming to the window */
	uint32_t len;	/* payload bytes */
	uint32_t wnd;	/* the field, unscaled */
	uint16_t urg;	/* the urgent pointer field */
	uint8_t flags;	/* TH_* */
	uint8_t tos;
	uint16_t gso_size; /* of a received super-segment, else 0 */
	const uint8_t *data;
	struct chain *loose; /* looped: the chunk that holds this payload, to be taken (loop.c); or NULL */
	/* options */
	bool has_mss, has_wscale, has_sack_permitted, has_ts;
	uint16_t mss;
	uint8_t wscale;
	uint8_t sack_count;
	uint32_t ts_val, ts_ecr;
	struct sack_block sack[SACK_BLOCKS_MAX];
};
/* Sequence space that the segment takes (SYN and FIN count). */
static inline uint32_t segment_span(const struct segment *s)
{
	return s->len + ((s->flags & TH_SYN) != 0) + ((s->flags & TH_FIN) != 0);
}

/* ----------------------------------------------------------------- states */

/* Ordered, so that "synchronised or later" is a comparison (4.4BSD). */
enum tcp_state {
	TCPS_CLOSED = 0,
	TCPS_LISTEN,
	TCPS_SYN_SENT,
	TCPS_SYN_RECEIVED,
	TCPS_ESTABLISHED,
	TCPS_CLOSE_WAIT,
	TCPS_FIN_WAIT_1,
	TCPS_CLOSING,
	TCPS_LAST_ACK,
	TCPS_FIN_WAIT_2,
	TCPS_TIME_WAIT,
	TCPS_COUNT
};
/* state.c: the only writer of tcb->state; asserts the transition is legal and emits a trace point. */
struct tcb;
void state_set(struct stack_cx *cx, struct tcb *t, enum tcp_state to);
const char *state_name(enum tcp_state s);
int state_to_linux(enum tcp_state s);

/* ---------------------------------------------------------------- buffers */

/*
 * A queue of bytes in chunks (buffer.c). Stream offsets are 64-bit and never
 * wrap: `start` is the offset of the first byte held, `end` one past the last.
 */
struct buffer {
	ref first, last;
	uint64_t start, end;
	uint64_t charged; /* region bytes taken by the chunks */
	/* cursor: a chunk and the stream offset of its first byte, so that walks near the last place are O(1)
	 */
	ref cursor;
	uint64_t cursor_start;
};
static inline uint64_t buffer_len(const struct buffer *b)
{
	return b->end - b->start;
}
/* Append from iov (skipping `skip` bytes of it), at most `max` bytes; bytes appended (fewer: no memory). */
uint64_t buffer_append(struct stack_cx *cx, struct buffer *b, ref owner, const struct iovec *iov, int iovcnt,
		       uint64_t skip, uint64_t max);
/* Append one flat run of bytes. */
uint64_t buffer_append_flat(struct stack_cx *cx, struct buffer *b, ref owner, const void *p, uint64_t n);
/* Copy out from stream offset `at` without consuming. Bytes copied. */
uint64_t buffer_copy(struct stack_cx *cx, struct buffer *b, uint64_t at, const struct iovec *iov, int iovcnt,
		     uint64_t max);
/* Pieces that cover [at, at+len): count, at most max; *covered: bytes covered. */
int buffer_pieces(struct stack_cx *cx, struct buffer *b, uint64_t at, uint64_t len, struct frame_piece *p,
		  int max, uint64_t *covered);
void buffer_consume(struct stack_cx *cx, struct buffer *b,
		    uint64_t n); /* from the start; frees empty chunks */
void buffer_clear(struct stack_cx *cx, struct buffer *b);

/* ----------------------------------------------------------------- timers */

enum tcb_timer {
	TIMER_RTO,	 /* retransmission, or SYN / SYN-ACK retransmission */
	TIMER_PERSIST,	 /* zero-window probe */
	TIMER_DELACK,	 /* delayed ACK */
	TIMER_KEEPALIVE, /* also SYN-RECEIVED limit */
	TIMER_FIN_WAIT_2,
	TIMER_OVERRIDE, /* SWS override, cork (200 ms) */
	TIMER_SPACE,	/* there was no memory for a write: not writable until then (sndbuf.c) */
	TIMER_COUNT
};

/* A node of the stack-wide pairing heap (timer.c); embedded in TCBs, TIME-WAITs, neighbours. */
struct timer_node {
	nsec deadline;	       /* key in the heap */
	ref child, next, prev; /* refs of the embedding objects */
	uint8_t queued;
	uint8_t kind; /* enum pool_class of the embedding object */
};

/* -------------------------------------------------------------------- TCB */

struct cc_cubic_state {
	uint64_t epoch_start_ns, k_ns;
	uint32_t w_max, w_last_max, w_est, origin_cwnd, acked_bytes;
	uint32_t prior_w_max;
};

struct tcb {
	struct pool_head head;
	uint32_t user[4]; /* sock_user() */

	/* identity and lists */
	struct endpoint local, remote;
	ref hash_next;		    /* demux bucket */
	ref listener;		    /* SYN-RECEIVED or queued child: its listener */
	ref queue_next, queue_prev; /* in the listener's SYN queue or accept queue */
	ref edge_next;		    /* list of sockets with unread edges */
	ref output_next;	    /* list of sockets that stack_flush() visits */
	uint32_t edges;
	bool edge_queued, output_queued;
	uint8_t reset_due; /* enum reset_due: only while core/rebuild.c works */
	uint8_t state;	   /* enum tcp_state; written by state.c only */
	bool passive;	   /* came by LISTEN (RFC 9293 MUST-11) */
	bool orphan;	   /* no descriptor left */
	bool hashed, bound_any;
	bool hashed_listener;  /* with hashed: in the table of listeners */
	bool open_acked;       /* SYN-RECEIVED, but its final ACK has come: no forged SYN */
	bool accepted;	       /* has left the accept queue (or was never in one) */
	bool connect_started;  /* connect() was called: SS_CONNECTING until reported */
	bool connect_reported; /* the outcome of connect() was collected */
	bool nospace; /* a write hit the limit, or poll said "not writable": OUT edge owed (SOCK_NOSPACE) */
	int32_t so_error;   /* pending, positive errno */
	int32_t soft_error; /* last ICMP hint (EHOSTUNREACH ...), reported if the connection dies */

	/* listener */
	ref syn_first, syn_last, accept_first, accept_last;
	uint32_t syn_count, accept_count, backlog;

	/* send sequence variables */
	seq32 iss, snd_una, snd_nxt, snd_max; /* snd_max == snd_nxt: resending never moves snd_nxt back */
	seq32 snd_wl1, snd_wl2;
	uint32_t snd_wnd, snd_wnd_max;
	seq32 snd_up;	   /* urgent: octet after the last urgent one */
	seq32 snd_sml;	   /* Minshall/Nagle: end of the last small segment */
	uint64_t snd_base; /* stream offset in sndbuf of sequence iss+1 is 0; kept by sock_send */
	bool fin_queued, fin_sent, fin_acked, urg_out;
	/* receive sequence variables */
	seq32 irs, rcv_nxt, rcv_up, rcv_adv; /* rcv_adv: right edge advertised; never moves left */
	seq32 last_ack_sent;
	uint32_t rcv_wnd;
	bool fin_known; /* fin_seq is the peer's FIN: nothing beyond it counts */
	seq32 fin_seq;
	bool fin_received, urg_in, urg_valid, urg_seen; /* urg_valid: the OOB byte waits in urg_byte */
	uint8_t urg_byte;
	bool rd_shut, wr_shut;

	/* options in force */
	uint16_t snd_mss;  /* payload of a full segment after TCP options */
	uint16_t peer_mss; /* from the SYN, 536 without one */
	uint16_t adv_mss;  /* what we announced */
	uint16_t user_mss; /* TCP_MAXSEG, 0: none */
	uint8_t snd_wscale, rcv_wscale;
	bool wscale_ok, ts_ok, sack_ok;
	uint32_t ts_recent, ts_offset; /* TS.Recent; our random offset */
	nsec ts_recent_age;
	uint32_t rcv_mss; /* largest segment seen: delayed-ACK decision */

	/* buffers */
	struct buffer sndbuf, rcvbuf;
	ref ooo_root; /* out-of-order ranges (reass.c) */
	uint32_t ooo_count;
	uint64_t ooo_charged;
	seq32 ooo_newest;	 /* start of the range that the last segment fell in: first SACK block */
	struct sack_block dsack; /* to report once */
	bool dsack_pending;
	struct sack_block sack_recent[SACK_BLOCKS_MAX]; /* recently reported, newest first */
	uint32_t sndbuf_limit, rcvbuf_limit;
	bool sndbuf_locked, rcvbuf_locked; /* set by SO_SNDBUF/SO_RCVBUF: no auto-tuning */
	uint32_t rcv_window_clamp, rcv_ssthresh;
	/* receive auto-tuning (dynamic right-sizing) */
	nsec rcv_tune_start;
	uint64_t rcv_tune_offset, rcv_copied;
	uint32_t rcv_space, rcv_rtt_us;
	seq32 rcv_rtt_seq;
	nsec rcv_rtt_start;

	/* round trip (rtt.c) */
	nsec srtt_ns, rttvar_ns, rto_ns, min_rtt_ns;
	nsec rtt_start; /* Karn's timed segment, without timestamps */
	seq32 rtt_seq;
	bool rtt_timing;
	uint8_t backoff;
	uint8_t retransmits;   /* consecutive, of the oldest unacknowledged data, SYN or FIN */
	nsec retransmit_since; /* when the oldest unacknowledged segment first timed out */

	/* congestion (recovery.c, cc_*.c), all in bytes */
	uint8_t cc;	  /* enum stack_cc */
	uint8_t ca_state; /* enum ca_state */
	uint8_t dup_acks;
	uint32_t cwnd, ssthresh, prior_cwnd, prior_ssthresh;
	uint32_t cwnd_acked; /* for Reno's congestion avoidance */
	seq32 recover;	     /* RFC 6582/6675 recovery point */
	seq32 high_rxt, rescue_rxt;
	bool rescue_done, cwnd_limited;
	ref sackboard; /* ranges above snd_una that the peer holds (sack.c) */
	uint32_t sacked_bytes, lost_bytes, retrans_out;
	seq32 high_sacked;
	seq32 lost_edge;		 /* what is below and not SACKed counts as lost (RFC 6675 IsLost) */
	uint32_t prr_delivered, prr_out; /* RFC 9937 */
	uint32_t recovery_flight;	 /* RFC 9937 RecoverFS */
	uint32_t undo_ts;		 /* RFC 3522: TSval of the first resent segment */
	bool undo_armed;		 /* undo_ts is valid: no ACK has judged it yet */
	uint32_t max_flight;		 /* most in flight since cwnd_usage_seq was sent */
	seq32 cwnd_usage_seq;
	uint16_t pmtu;	/* path MTU learnt from ICMP, 0: the device's */
	nsec last_send; /* of data: idle restart */
	union {
		struct cc_cubic_state cubic;
		uint64_t words[8];
	} ccs;

	/* timers */
	struct timer_node node;
	nsec timer[TIMER_COUNT]; /* NSEC_NEVER: not set */
	uint8_t keep_probes, persist_backoff, persist_probes;
	nsec last_recv; /* any segment: keep-alive idleness */

	/* acknowledgement state (ack.c) */
	bool ack_now, ack_pending;
	uint8_t quickack; /* segments still to be acknowledged at once */
	bool pingpong;	  /* interactive: delay ACKs */
	bool ack_pushed;  /* a segment smaller than rcv_mss waits for its ACK */
	uint32_t ato_ms;
	uint32_t unacked_bytes; /* received since our last ACK */
	nsec oow_ack_last;	/* rate limit of ACKs for out-of-window segments (500 ms) */
	nsec challenge_last;

	/* socket options */
	bool v6only;
	bool nodelay, cork, more, keepalive, oobinline, reuseaddr, reuseport, syn_data;
	uint8_t tos, ttl, keepcnt, syn_retries_opt;
	uint32_t user_timeout_ms, keepidle_s, keepintvl_s, notsent_lowat, rcvlowat, defer_accept_s;
	int32_t linger_s;  /* SO_LINGER: -1 off */
	int32_t linger2_s; /* TCP_LINGER2 */

	/* statistics for sock_info() */
	uint64_t bytes_acked, bytes_received, bytes_sent, bytes_retrans;
	uint32_t segs_in, segs_out, data_segs_in, data_segs_out, total_retrans, dsack_dups, rcv_ooopack;
	nsec last_data_sent, last_ack_recv, last_data_recv;
	uint16_t total_rto;
	/* rate.c */
	bool rate_timing, rate_app_limited, rate_octets_app_limited;
	uint8_t busy; /* enum busy_account */
	seq32 rate_seq;
	nsec rate_start, busy_start;
	uint64_t rate_delivered, rate_octets; /* octets per second, of the last sample that counts */
	nsec busy_ns[3];		      /* by enum busy_account, less one */
};
_Static_assert(sizeof(struct tcb) <= 1088, "struct tcb outgrew its pool class");

enum ca_state { CA_OPEN = 0, CA_DISORDER, CA_CWR, CA_RECOVERY, CA_LOSS };

/* A connection in TIME-WAIT, without its TCB (close.c). */
struct timewait {
	struct pool_head head;
	struct endpoint local, remote;
	ref hash_next, tw_next, tw_prev;
	seq32 snd_nxt, rcv_nxt;
	uint32_t rcv_wnd, ts_recent, ts_offset;
	nsec ts_recent_age;
	struct timer_node node;
	uint8_t rcv_wscale;
	bool ts_ok;
	nsec oow_ack_last; /* rate limit of its ACKs (500 ms) */
};
_Static_assert(sizeof(struct timewait) <= 192, "struct timewait outgrew its pool class");

/* What is known of a neighbour's link address (neigh.c; the states of RFC 4861 7.3.2, used for ARP too). */
enum neigh_state { NEIGH_INCOMPLETE = 0, NEIGH_REACHABLE, NEIGH_STALE, NEIGH_DELAY, NEIGH_PROBE };
struct neigh {
	struct pool_head head;
	struct ipaddr addr;
	ref hash_next;
	uint8_t mac[6];
	uint8_t state;	/* enum neigh_state */
	uint8_t probes; /* requests sent since the state began */
	struct timer_node node;
	nsec confirmed;			 /* last proof that it is alive */
	nsec updated;			 /* last change of mac */
	nsec used;			 /* last frame to it */
	ref pending_first, pending_last; /* frames that wait for the address */
	uint32_t pending_count;
};
_Static_assert(sizeof(struct neigh) <= 256, "struct neigh outgrew its pool class");

static inline struct tcb *tcb_at(const struct stack_cx *cx, ref r)
{
	return (struct tcb *)pool_at(cx, r);
}

/* ------------------------------------------------------------- the stack */

struct token_bucket {
	nsec last;
	uint32_t tokens;
};

struct pool_state {
	ref free_first, trimmed_first; /* two lists of free objects: see pool_trim() */
	uint32_t free_count;	       /* on the first of them */
	uint32_t live;
	ref fresh, fresh_end; /* not yet carved part of the newest extent */
};

struct stack {
	char magic[8];
	uint64_t layout_hash;
	struct stack_config config;
	struct stack_counters counters;
	uint64_t bytes_used;   /* extents given out */
	uint64_t buffer_bytes; /* charged by buffers */
	uint64_t mem_limit; /* cap on buffer_bytes: config.mem_max, or less once the region could not grow */
	struct pool_state pools[POOL_CLASS_COUNT];
	ref extent_map;			    /* one byte per extent: enum pool_class, EXTENT_TABLE or _EMPTY */
	uint32_t extents_empty, empty_hint; /* how many are EXTENT_EMPTY; none below this one */
	uint32_t extent_map_bytes;	    /* its capacity */
	uint64_t rng[4];
	uint8_t key_isn[16], key_port[16], key_ts[16], key_hash[16], key_ipid[16];
	nsec born;
	/* demux */
	ref conn_buckets, listen_buckets;
	uint32_t conn_bucket_bits, conn_bucket_split; /* linear hashing: 2^bits + split buckets in use */
	uint32_t conn_count, listen_bucket_bits;
	uint32_t port_cursor; /* RFC 6056 */
	/* lists */
	ref edge_first, edge_last, output_first, output_last;
	ref loop_first, loop_last; /* loop.c */
	ref timer_root;
	ref tw_first, tw_last;
	uint32_t tw_count, orphan_count, tcb_count;
	/* neighbours */
	ref neigh_buckets;
	uint32_t neigh_count;
	struct token_bucket icmp_limit, challenge_limit, rst_limit;
	ref ipid_counters; /* RFC 6864: per keyed hash of the destination */
	bool in_flush;
	ref dirty; /* the TCB whose record is being changed: dirty_begin() */
};
static inline struct stack *stack_of(const struct stack_cx *cx)
{
	return (struct stack *)(void *)cx->base; /* page-aligned */
}
/*
 * A process may be killed at any instruction. So whoever changes the record of a
 * connection names it here first: if the process dies in between, rebuild.c
 * resets that connection and puts right whatever follows from the records (tables,
 * lists, queues, the heap, accounts), which therefore needs no mark. Returns
 * what dirty_end() puts back: a listener's end visits its children.
 * record_barrier(): what is above is in memory before what is below; the compiler's
 * order suffices, for a dead process's stores are all there when another gets the lock.
 */
#define record_barrier() __atomic_signal_fence(__ATOMIC_SEQ_CST)
static inline ref dirty_begin(struct stack_cx *cx, ref r)
{
	ref outer = stack_of(cx)->dirty;

	stack_of(cx)->dirty = r;
	record_barrier();
	return outer;
}
static inline void dirty_end(struct stack_cx *cx, ref outer)
{
	record_barrier();
	stack_of(cx)->dirty = outer;
}

#define COUNT(cx, field)      ((void)(stack_of(cx)->counters.field++))
#define COUNT_N(cx, field, n) ((void)(stack_of(cx)->counters.field += (n)))

/* rng.c: xoshiro256** over the seed (deterministic), siphash.c: SipHash-2-4 */
uint64_t rng_next(struct stack_cx *cx);
uint32_t rng_below(struct stack_cx *cx, uint32_t n); /* uniform in [0, n) */
uint64_t siphash(const uint8_t key[16], const void *data, size_t len);

/*
 * checksum.c: RFC 1071. Sums are of 16-bit words as they lie in memory: a
 * folded sum is stored into a header with memcpy(), never with a byte swap.
 */
uint64_t csum_partial(const void *data, size_t len,
		      uint64_t sum); /* data at an even offset of the datagram */
uint16_t csum_fold(uint64_t sum);    /* not complemented */
uint16_t csum_tcp_pseudo(const struct ipaddr *src, const struct ipaddr *dst, uint32_t tcp_len); /* folded */

/* isn.c (RFC 6528, RFC 7323 5.4: timestamp offset), ports.c (RFC 6056) */
seq32 isn_choose(struct stack_cx *cx, const struct endpoint *local, const struct endpoint *remote);
uint32_t ts_offset_choose(struct stack_cx *cx, const struct endpoint *local, const struct endpoint *remote);
int port_choose(struct stack_cx *cx, const struct ipaddr *local, const struct endpoint *remote,
		uint16_t *port); /* 0 or -EADDRNOTAVAIL */

/* demux.c: the table of connections (TCBs and TIME-WAITs, exact 4-tuple) and of listeners. */
enum demux_kind { DEMUX_NONE = 0, DEMUX_TCB, DEMUX_TIMEWAIT, DEMUX_LISTENER };
struct demux_result {
	enum demux_kind kind;
	ref r;
};
struct demux_result demux_find(struct stack_cx *cx, const struct endpoint *local,
			       const struct endpoint *remote);
ref demux_find_listener(struct stack_cx *cx, const struct endpoint *local);
bool demux_tuple_used(struct stack_cx *cx, const struct endpoint *local, const struct endpoint *remote);
int demux_insert(struct stack_cx *cx, struct tcb *t);	       /* connection; -EADDRINUSE, -ENOMEM */
int demux_insert_listener(struct stack_cx *cx, struct tcb *t); /* -EADDRINUSE unless both reuseport */
void demux_remove(struct stack_cx *cx, struct tcb *t);	       /* either table */
int demux_insert_timewait(struct stack_cx *cx, struct timewait *w);
void demux_remove_timewait(struct stack_cx *cx, struct timewait *w);

/* ------------------------------------------------- network layer (ether arp neigh ipv4 icmp route) */
void ether_input(struct stack_cx *cx, const struct frame_rx *f);
void arp_input(struct stack_cx *cx, const uint8_t *p, uint32_t len);
void ipv4_input(struct stack_cx *cx, const struct frame_rx *f, const uint8_t *p, uint32_t len,
		bool to_us_at_link);
void icmp_input(struct stack_cx *cx, const uint8_t *ip, uint32_t header_len, uint32_t total_len,
		bool broadcast);
/*
 * Send an IPv4 datagram: f holds the transport header at f->header + 14 + 20
 * (header_len counts it, and 34 bytes of room before it) and the pieces. Fills
 * Ethernet and IP headers, resolves the neighbour (queues while unresolved),
 * calls cx->tx. 0, -ENETUNREACH, -EHOSTUNREACH or tx's value.
 */
#define IPV4_TRANSPORT_OFFSET 34u
int ipv4_output(struct stack_cx *cx, struct frame_tx *f, const struct ipaddr *src, const struct ipaddr *dst,
		uint8_t proto, uint8_t tos, uint8_t ttl);
/* 0 and *next_hop; -ENETUNREACH (no route, broadcast, multicast, unspecified). */
int route_lookup(struct stack_cx *cx, const struct ipaddr *dst, struct ipaddr *next_hop);
bool addr_is_ours(struct stack_cx *cx, const struct ipaddr *a);
bool addr_is_broadcast_or_multicast(struct stack_cx *cx, const struct ipaddr *a);
/* loop.c: loopback or the stack's own; what a connection to such an address comes from */
bool addr_is_local(struct stack_cx *cx, const struct ipaddr *a);
struct ipaddr loop_source(const struct ipaddr *dst);
#define LOOP_MTU 65535u /* what an IPv4 datagram can hold; Linux's lo has one octet more, to no avail */
/* A segment to a local address: into the queue. 0, or -ENOBUFS: lost. */
int loop_output(struct stack_cx *cx, const struct frame_tx *f, const uint8_t *tcp, uint32_t header_len,
		const struct ipaddr *src, const struct ipaddr *dst, uint8_t tos);
/* Deliver what is queued now; *budget counts. False: nothing was, or the burst is over. */
bool loop_deliver(struct stack_cx *cx, uint32_t *budget);
/* Link the chunk of a looped segment that is all in order into b; false: copy it. */
bool loop_take_chunk(struct stack_cx *cx, struct buffer *b, ref owner, const struct segment *s);
/* The MTU between two addresses, and what IP takes of it. */
uint32_t route_mtu(struct stack_cx *cx, const struct ipaddr *dst);
uint32_t ip_header_len(const struct ipaddr *dst);
/* neigh.c */
int neigh_output(struct stack_cx *cx, struct frame_tx *f,
		 const struct ipaddr *next_hop); /* fills the Ethernet header */
void neigh_confirm(struct stack_cx *cx,
		   const struct ipaddr *dst);	  /* forward progress: the next hop is alive */
void neigh_timer(struct stack_cx *cx, ref neigh); /* from timer.c */
/* The neighbour never answered: tcp reacts as to host unreachable (icmp.c and neigh.c call it). */
void tcp_unreachable(struct stack_cx *cx, const struct ipaddr *dst, int err);
/*
 * An ICMP error quoted a segment of ours: tuple, the quoted sequence number, and what it
 * says. hard: RFC 1122's hard error. The callee checks that seq is in flight
 * (RFC 5927). mtu != 0: fragmentation needed with that next-hop MTU.
 */
void tcp_icmp_error(struct stack_cx *cx, const struct endpoint *local, const struct endpoint *remote,
		    seq32 seq, int err, bool hard, uint32_t mtu);

/* ------------------------------------------------------------------- wire.c: the only file that touches TCP
 * bytes */
/* 0; -EBADMSG (header or options malformed). Checks lengths, not the checksum. */
int wire_parse(const uint8_t *tcp, uint32_t len, struct segment *s);
bool wire_checksum_ok(const struct ipaddr *src, const struct ipaddr *dst, const uint8_t *tcp, uint32_t len);
/* What output wants on the wire; wire_build() writes header and options in Linux's order. Header length. */
struct wire_options {
	bool mss, wscale, sack_permitted, ts;
	uint16_t mss_value;
	uint8_t wscale_value, sack_count;
	uint32_t ts_val, ts_ecr;
	struct sack_block sack[SACK_BLOCKS_MAX];
};
uint32_t wire_build(uint8_t *tcp, uint16_t sport, uint16_t dport, seq32 seq, seq32 ack, uint8_t flags,
		    uint16_t wnd, uint16_t urg, const struct wire_options *o);
uint32_t wire_options_len(const struct wire_options *o);

/* ------------------------------------------------------------------- TCP, receiving half */
/* tcp_input.c (demux of a segment), input.c (RFC 9293 3.10.7) */
void tcp_input(struct stack_cx *cx, const struct frame_rx *f, const struct ipaddr *src,
	       const struct ipaddr *dst, uint8_t tos, const uint8_t *tcp, uint32_t len);
void tcp_dispatch(struct stack_cx *cx, struct segment *s); /* to the socket it is for */
void segment_arrives(struct stack_cx *cx, struct tcb *t, struct segment *s);
void listen_segment(struct stack_cx *cx, struct tcb *listener, struct segment *s);
void timewait_segment(struct stack_cx *cx, struct timewait *w, struct segment *s);

/* open.c */
struct tcb *tcb_create(struct stack_cx *cx); /* defaults from the configuration; NULL */
void tcb_defaults(struct stack_cx *cx, struct tcb *t);
void tcb_free(struct stack_cx *cx, struct tcb *t); /* buffers, timers, demux, lists; the ref dies */
void tcb_negotiate(struct stack_cx *cx, struct tcb *t,
		   const struct segment *syn);		  /* options of the peer's SYN */
void tcb_established(struct stack_cx *cx, struct tcb *t); /* edges, accept queue, timers, cc_init */

/* close.c */
/* Enter CLOSED with an error for the application (0: orderly): timers off, buffers dropped, edges up; frees
 * orphans. */
void tcb_drop(struct stack_cx *cx, struct tcb *t, int err);
void tcb_send_fin(struct stack_cx *cx, struct tcb *t);	     /* queue a FIN behind the data; state change */
void tcb_enter_timewait(struct stack_cx *cx, struct tcb *t); /* replaces an orphan TCB by a struct timewait */
void timewait_expire(struct stack_cx *cx, ref w);

/* reass.c: out-of-order data */
void reass_add(struct stack_cx *cx, struct tcb *t, const struct segment *s); /* s trimmed to the window */
/* Move what is now in order to rcvbuf; true when a FIN was reached. */
void reass_deliver(struct stack_cx *cx, struct tcb *t);
int reass_sack_blocks(struct stack_cx *cx, struct tcb *t, struct sack_block *out, int max);
void reass_clear(struct stack_cx *cx, struct tcb *t);

/* rcvbuf.c: the window we offer (Linux-like auto-tuning, SWS avoidance MUST-39) */
uint32_t rcv_window_select(struct stack_cx *cx,
			   struct tcb *t); /* bytes to advertise now; keeps rcv_adv from moving left */
void rcv_init_window(struct stack_cx *cx, struct tcb *t); /* before our SYN or SYN-ACK: rcv_wscale, rcv_wnd */
void rcv_tune(struct stack_cx *cx, struct tcb *t, uint64_t copied); /* after a read */
void rcv_measure_rtt(struct stack_cx *cx, struct tcb *t, const struct segment *s);
bool rcv_window_update_due(struct stack_cx *cx, struct tcb *t); /* after a read: worth an ACK? */

/* ack.c: when to acknowledge (MUST-40, SHLD-18/19, quick-ack phase) */
void ack_data_received(struct stack_cx *cx, struct tcb *t, const struct segment *s); /* after in-order data */
void ack_schedule_now(struct stack_cx *cx, struct tcb *t); /* at the end of the burst */
void ack_challenge(struct stack_cx *cx, struct tcb *t);	   /* RFC 5961, rate limited */
void ack_out_of_window(struct stack_cx *cx,
		       struct tcb *t); /* duplicate or unacceptable: rate limited (500 ms) */
void ack_delack_timer(struct stack_cx *cx, struct tcb *t);
void ack_sent(struct stack_cx *cx, struct tcb *t); /* called by output when a segment with ACK left */

/* edges.c */
void sock_signal(struct stack_cx *cx, struct tcb *t, uint32_t edges);

/* ------------------------------------------------------------------- TCP, sending half */
/* output.c */
void output_mark(struct stack_cx *cx, struct tcb *t); /* visit t in stack_flush() */
void tcp_output(struct stack_cx *cx,
		struct tcb *t); /* send what may be sent now: data, FIN, ACK if ack_now */
void output_ack(struct stack_cx *cx, struct tcb *t); /* an ACK without data, now */
void output_syn(struct stack_cx *cx, struct tcb *t); /* SYN or SYN-ACK by state; also retransmitted */
void output_rst(struct stack_cx *cx, struct tcb *t); /* of a connection */
void output_probe(struct stack_cx *cx, struct tcb *t, bool keepalive); /* seq = snd_una - 1, no data */
/* Answer a segment that has no connection (RFC 9293 3.10.7.1). */
void output_rst_for(struct stack_cx *cx, const struct segment *s);
void output_timewait_ack(struct stack_cx *cx, const struct timewait *w);
/* len <= snd_mss or a super-segment; how much of it left */
uint32_t output_retransmit(struct stack_cx *cx, struct tcb *t, seq32 from, uint32_t len);
uint32_t snd_mss_current(struct stack_cx *cx, struct tcb *t); /* after options (SACK blocks included) */
void snd_mss_update(struct stack_cx *cx, struct tcb *t);      /* after negotiation or a PMTU change */
uint32_t ts_now(struct stack_cx *cx, const struct tcb *t);    /* our TSval: ms + offset, never 0 */
uint32_t snd_inflight(const struct tcb *t);		  /* RFC 6675 pipe, or snd_nxt - snd_una adjusted */
bool sndbuf_writable(struct stack_cx *cx, struct tcb *t); /* poll's OUT: Linux's one-third rule */
void sndbuf_tune(struct stack_cx *cx, struct tcb *t);

/* ackin.c: what an acceptable ACK does to the sender (step 5) */
/* Returns false when the segment must be dropped (its ACK was answered already). */
bool ack_process(struct stack_cx *cx, struct tcb *t, struct segment *s);

/* timer.c */
void timer_set(struct stack_cx *cx, struct tcb *t, enum tcb_timer which, nsec deadline);
void timer_cancel(struct stack_cx *cx, struct tcb *t, enum tcb_timer which);
void timer_cancel_all(struct stack_cx *cx, struct tcb *t);
void timer_node_set(struct stack_cx *cx, struct timer_node *n, ref self, enum pool_class kind, nsec deadline);
void timer_node_cancel(struct stack_cx *cx, struct timer_node *n, ref self);
/* tcb timers call these: */
void rto_timer(struct stack_cx *cx, struct tcb *t);
void persist_timer(struct stack_cx *cx, struct tcb *t);
void keepalive_timer(struct stack_cx *cx, struct tcb *t);
void fin_wait_2_timer(struct stack_cx *cx, struct tcb *t);
void rto_arm(struct stack_cx *cx, struct tcb *t); /* (re)start from now, or stop when nothing is in flight */
void persist_arm(struct stack_cx *cx, struct tcb *t);
void keepalive_arm(struct stack_cx *cx, struct tcb *t);

/* rtt.c (RFC 6298, RFC 7323 4) */
void rtt_sample(struct stack_cx *cx, struct tcb *t, nsec sample);
void rtt_init(struct stack_cx *cx, struct tcb *t);
void rtt_established(struct stack_cx *cx, struct tcb *t); /* the open is over: RFC 6298 (5.7) */
void rtt_backoff(struct stack_cx *cx, struct tcb *t);

/* sack.c (RFC 2018, 6675, 2883) */
/* Take the blocks of a segment; bytes newly SACKed; sets *dsack when the first block reports a duplicate. */
uint32_t sack_update(struct stack_cx *cx, struct tcb *t, const struct segment *s, bool *dsack);
void sack_advance(struct stack_cx *cx, struct tcb *t); /* snd_una moved */
void sack_clear(struct stack_cx *cx, struct tcb *t);
bool sack_is_lost(struct stack_cx *cx, struct tcb *t, seq32 at);
/* RFC 6675 NextSeg() rules 1-4 with run length; false: nothing to send. *rule tells which. */
bool sack_next_seg(struct stack_cx *cx, struct tcb *t, seq32 *from, uint32_t *len, int *rule);

/* recovery.c */
/* acked: cumulatively; delivered: acked or SACKed for the first time (RFC 9937 DeliveredData). */
void recovery_on_ack(struct stack_cx *cx, struct tcb *t, uint32_t acked, uint32_t delivered, bool dup,
		     bool dsack);
void recovery_on_rto(struct stack_cx *cx, struct tcb *t);
void recovery_on_icmp_mtu(struct stack_cx *cx, struct tcb *t);

/* cc.c: a const table indexed by tcb->cc */
struct cc_ops {
	const char *name;
	void (*init)(struct stack_cx *cx, struct tcb *t);
	void (*on_ack)(struct stack_cx *cx, struct tcb *t, uint32_t acked,
		       nsec rtt);				  /* slow start and avoidance */
	uint32_t (*ssthresh)(struct stack_cx *cx, struct tcb *t); /* after a congestion event */
	void (*on_exit_recovery)(struct stack_cx *cx, struct tcb *t);
	void (*on_rto)(struct stack_cx *cx, struct tcb *t);
	void (*on_idle)(struct stack_cx *cx, struct tcb *t, nsec idle);
	void (*on_undo)(struct stack_cx *cx, struct tcb *t);
};
const struct cc_ops *cc_of(const struct tcb *t);
uint32_t cc_initial_window(const struct tcb *t); /* RFC 6928 */
extern const struct cc_ops cc_reno, cc_cubic;

#endif
