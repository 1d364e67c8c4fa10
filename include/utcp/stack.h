/*
 * stack.h - the stack as others see it: frames in, time in, socket verbs in;
 * frames out, readiness edges out, the next deadline out (design D1).
 *
 * Place in the flow: netio, the simulator and the dialogue tests drive these
 * calls; preload uses the socket verbs under netio's lock. Nothing here blocks,
 * allocates from the heap, reads a clock or keeps a pointer: the state is the
 * region at cx->base, and `cx` is the caller's private handle to it, made anew
 * by every process (and by every test) that works on the region.
 *
 * Every function that takes a cx requires the caller to hold whatever lock
 * guards the region, and cx->now to be set (never going backwards).
 *
 * Errors are negative errno values of Linux.
 */
#ifndef UTCP_STACK_H
#define UTCP_STACK_H

#include <errno.h>
#include <sys/uio.h> /* struct iovec only */

#include "utcp/frame.h"
#include "utcp/types.h"

struct stack; /* the root object, at the start of the region; opaque */

/* ------------------------------------------------------------------ handle */

/*
 * A caller's handle. grow() is asked to make at least `bytes` of the region
 * usable (cx->limit rises); it returns 0 or -ENOMEM, and never moves base.
 * tx() takes a frame; 0, or a negative errno: the frame is lost, as on any
 * network (-ENOBUFS, -EAGAIN, -EIO ...). The stack never retries a frame itself.
 * trace() may be NULL; it sees every trace point of trace.h.
 */
struct stack_cx {
	uint8_t *base;
	uint64_t limit; /* usable bytes from base */
	nsec now;
	int (*grow)(struct stack_cx *cx, uint64_t bytes);
	int (*tx)(struct stack_cx *cx, const struct frame_tx *f);
	void (*trace)(struct stack_cx *cx, int point, ref sock, uint64_t a, uint64_t b);
	void *arg; /* the caller's own */
};

/* ----------------------------------------------------------- configuration */

enum stack_cc { STACK_CC_RENO = 0, STACK_CC_CUBIC, STACK_CC_COUNT };
const char *stack_cc_name(int cc);		    /* "reno", "cubic"; NULL if out of range */
int stack_cc_by_name(const char *name, size_t len); /* index, or -ENOENT */

#define DEVICE_TX_CSUM 1u /* completes partial checksums */
#define DEVICE_TX_TSO4 2u /* takes IPv4 super-segments */
#define DEVICE_NO_ARP  4u /* link without neighbours: no Ethernet resolution */
#define DEVICE_NONE    8u /* no link: only what stays in the stack; addr may be 127.0.0.1 */

/* All sizes in bytes, times in ns. stack_config_defaults() fills in Linux's values. */
struct stack_config {
	struct ipaddr addr;    /* the stack's own address */
	uint8_t prefix_len;    /* 0..32 for IPv4 */
	struct ipaddr gateway; /* any (0.0.0.0): none */
	uint8_t mac[6];
	uint16_t mtu;		 /* of the device: largest IP datagram on the wire */
	uint32_t device_caps;	 /* DEVICE_* */
	uint8_t cc;		 /* enum stack_cc, default cubic */
	uint32_t rcvbuf_default; /* 131072 */
	uint32_t rcvbuf_max;	 /* 6 MiB */
	uint32_t sndbuf_default; /* 16384 */
	uint32_t sndbuf_max;	 /* 4 MiB */
	uint64_t mem_max;	 /* cap on all buffers of the stack, like tcp_mem[2] */
	uint32_t conn_max;	 /* cap on TCBs */
	uint32_t orphan_max, tw_max, ooo_ranges_max;
	uint16_t port_first, port_last;		      /* ephemeral, 32768..60999 */
	uint8_t syn_retries, synack_retries, retries; /* 6, 5, 15 */
	nsec rto_min, rto_max, rto_initial, delack_min, delack_max, tw_time, fin_timeout;
	nsec keepidle, keepintvl;
	uint8_t keepcnt;
	bool timestamps, sack, wscale; /* all true; off for tests and experiments */
};
void stack_config_defaults(struct stack_config *c);

/*
 * Lay out an empty stack in [cx->base, cx->base + cx->limit); limit must be at
 * least STACK_MIN_BYTES and base 4096-aligned and zero-filled. seed: 32 bytes
 * of entropy, the only randomness that the stack ever uses.
 * 0, or -EINVAL (configuration), -ENOMEM.
 */
#define STACK_MIN_BYTES (1u << 20)
int stack_init(struct stack_cx *cx, const struct stack_config *c, const uint8_t seed[32]);

/* A hash over the layout of every structure in the region: equal in two builds that may share one. */
uint64_t stack_layout_hash(void);

const struct stack_config *stack_configuration(struct stack_cx *cx);
/* Change the MTU or the capabilities while running; what does not fit any more is marked to go again. */
void stack_set_device(struct stack_cx *cx, uint16_t mtu, uint32_t device_caps);

/* ------------------------------------------------------- frames and timers */

/* Take one frame. Malformed ones are counted and dropped. May call cx->tx. */
void stack_input(struct stack_cx *cx, const struct frame_rx *f);

/*
 * End of a burst of stack_input() calls: send what was held back so that one
 * ACK answers a whole burst (RFC 9293 MUST-58/59) and new data leaves in one
 * super-segment. Call it once after each burst and before blocking.
 */
void stack_flush(struct stack_cx *cx);

/* Run every timer that is due at cx->now. */
void stack_advance(struct stack_cx *cx);

/* When stack_advance() must next be called; NSEC_NEVER: not before other input. */
nsec stack_deadline(struct stack_cx *cx);

/* ---------------------------------------------------------------- readiness */

/* The same bits as poll(2)'s. */
#define SOCK_IN	   0x001u
#define SOCK_PRI   0x002u
#define SOCK_OUT   0x004u
#define SOCK_ERR   0x008u
#define SOCK_HUP   0x010u
#define SOCK_RDHUP 0x2000u

/*
 * Among edges only, never a level: what SIGIO tells of (socket(7)), a signal
 * each. An edge of the bits above says "look again", these say what happened.
 */
#define SOCK_TOLD_IN  (1u << 16) /* data, a FIN, a caller */
#define SOCK_TOLD_OUT (1u << 17) /* connected; room again for who met the limit */
#define SOCK_TOLD_PRI (1u << 18) /* an urgent mark: SIGURG as well */
#define SOCK_TOLD_ERR (1u << 19)
#define SOCK_TOLD_HUP (1u << 20) /* the other half was closed too */
#define SOCK_TOLD     (SOCK_TOLD_IN | SOCK_TOLD_OUT | SOCK_TOLD_PRI | SOCK_TOLD_ERR | SOCK_TOLD_HUP)

/* Level: what poll() would say of this socket now, all bits. */
uint32_t sock_events(struct stack_cx *cx, ref s);

/*
 * Edges: each call yields one socket that had a wake-up since it was last
 * yielded, and the bits of those wake-ups (also when the bit was already up:
 * new data on a readable socket is an edge, as EPOLLET shows it). REF_NONE: none left.
 */
ref sock_next_edge(struct stack_cx *cx, uint32_t *edges);

/* Four words per socket for the caller (lists of waiters, owners); zero at birth. */
uint32_t *sock_user(struct stack_cx *cx, ref s);

/* ------------------------------------------------------------- socket verbs */

/* A closed TCP socket with default options. A ref, or REF_NONE (no memory, conn_max). */
ref sock_create(struct stack_cx *cx);

/*
 * Active open. local->addr any: the stack's own; local->port 0: an ephemeral
 * one (RFC 6056). Sends SYN; returns -EINPROGRESS (the outcome comes as an
 * edge), or -EISCONN, -EALREADY, -EADDRNOTAVAIL (no port left, or the 4-tuple
 * is in use), -EADDRINUSE, -ENETUNREACH (no route, broadcast, multicast), -EINVAL
 * (from a loopback address to the outside, or the other family), -ENOBUFS.
 * 127.0.0.0/8, ::1 and the stack's own address are reached inside the stack.
 * After an outcome by edge, a second call returns 0 once (connected) or the error once, as Linux's.
 * remote NULL: only what is said of an attempt that has begun; -EDESTADDRREQ if there is none.
 */
int sock_connect(struct stack_cx *cx, ref s, const struct endpoint *local, const struct endpoint *remote);

/*
 * Passive open on local (addr 0.0.0.0: every IPv4 address of the stack, loopback
 * included; `::` every address, without IPv4 if SOCK_OPT_V6ONLY). backlog as
 * listen(2); a second call changes it. 0, -EADDRINUSE, -EISCONN, -EINVAL.
 */
int sock_listen(struct stack_cx *cx, ref s, const struct endpoint *local, int backlog);

/* Take the oldest established connection. Its ref; REF_NONE: none waits. */
ref sock_accept(struct stack_cx *cx, ref s);

/* Put back a connection that accept(2) could not deliver (EMFILE): it is the oldest again. */
void sock_unaccept(struct stack_cx *cx, ref listener, ref child);

#define SOCK_MSG_OOB   0x01u
#define SOCK_MSG_PEEK  0x02u
#define SOCK_MSG_TRUNC 0x20u	/* receive: throw the bytes away, iov bases unused */
#define SOCK_MSG_MORE  0x8000u	/* send: more follows; hold back a partial segment */
#define SOCK_MSG_REST  0x10000u /* of a call that has bytes to answer with: a pending error stays pending */

/*
 * Queue bytes. Returns how many were taken (maybe fewer than asked),
 * -EAGAIN (no room), -EPIPE (shut down; the caller raises SIGPIPE), the pending
 * error (ECONNRESET, ETIMEDOUT ...; consumed), -ENOTCONN. A socket in SYN-SENT
 * gives -EAGAIN. Zero bytes asked: 0.
 */
int64_t sock_send(struct stack_cx *cx, ref s, const struct iovec *iov, int iovcnt, uint32_t flags);

/*
 * Take bytes. Returns how many; 0 at the end of the stream (FIN received and
 * all read, or shut down for reading); -EAGAIN; pending error; -ENOTCONN.
 * Stops at an urgent mark as Linux does. With SOCK_MSG_OOB: the urgent byte, or
 * -EINVAL (none, or inline), -EAGAIN (announced, not arrived).
 */
int64_t sock_recv(struct stack_cx *cx, ref s, const struct iovec *iov, int iovcnt, uint32_t flags);

/* how: 0 read, 1 write, 2 both (shutdown(2)). 0 or -ENOTCONN. */
int sock_shutdown(struct stack_cx *cx, ref s, int how);

/*
 * The last descriptor is gone. Unread data or a zero linger time sends RST;
 * else queued data and FIN go out and the state lives on as an orphan. The ref
 * is dead afterwards. A listener resets what waits in its queue. Watches on the
 * socket must have been removed by the caller.
 */
void sock_close(struct stack_cx *cx, ref s);

/* Abort: RST to the peer, ECONNABORTED-free: used for kill and for tests. The ref stays until sock_close().
 */
void sock_abort(struct stack_cx *cx, ref s);

/* A connect() was begun and not yet taken back by shutdown() or connect(AF_UNSPEC). */
bool sock_connect_begun(struct stack_cx *cx, ref s);

/*
 * connect(AF_UNSPEC): unconnected again, with its options and watches. The peer
 * of a connection gets a RST, and SO_ERROR is ECONNRESET.
 */
void sock_disconnect(struct stack_cx *cx, ref s);

/* True while a sock_close() of s now would leave bytes or a FIN unacknowledged (SO_LINGER, exit drain). */
bool sock_draining(struct stack_cx *cx, ref s);

/* Number of orphans that still owe the peer data or a FIN (exit drain). */
uint32_t stack_draining(struct stack_cx *cx);
/* Connections without a socket, these and those that only wait for the peer's FIN (FIN-WAIT-2). */
uint32_t stack_orphans(const struct stack_cx *cx);

/* Names; either pointer may be NULL. 0; remote of an unconnected socket: -ENOTCONN. */
int sock_names(struct stack_cx *cx, ref s, struct endpoint *local, struct endpoint *remote);

/* The pending error as a positive errno, cleared by the call (SO_ERROR). */
int sock_take_error(struct stack_cx *cx, ref s);

/* The pending hard error as a positive errno; `err`, positive or 0, is pending instead. */
int sock_swap_error(struct stack_cx *cx, ref s, int err);

/*
 * Options; every value is an int unless said. Get and set return 0,
 * -EINVAL (out of range), -ENOPROTOOPT (unknown, or get/set only), -EISCONN and kin as Linux.
 */
enum sock_option {
	SOCK_OPT_NODELAY,
	SOCK_OPT_CORK,
	SOCK_OPT_MAXSEG,       /* get: current send MSS; set before connect: clamp */
	SOCK_OPT_CC,	       /* enum stack_cc */
	SOCK_OPT_USER_TIMEOUT, /* ms */
	SOCK_OPT_QUICKACK,
	SOCK_OPT_KEEPALIVE,
	SOCK_OPT_KEEPIDLE, /* s */
	SOCK_OPT_KEEPINTVL,
	SOCK_OPT_KEEPCNT,
	SOCK_OPT_SYNCNT,
	SOCK_OPT_LINGER2,      /* s; FIN-WAIT-2 time of an orphan */
	SOCK_OPT_DEFER_ACCEPT, /* s */
	SOCK_OPT_WINDOW_CLAMP,
	SOCK_OPT_NOTSENT_LOWAT,
	SOCK_OPT_LINGER, /* -1 off, else seconds */
	SOCK_OPT_RCVBUF, /* as SO_RCVBUF: the value set is doubled, as Linux does; get returns it */
	SOCK_OPT_SNDBUF,
	SOCK_OPT_RCVBUFFORCE, /* set only: the same without a limit */
	SOCK_OPT_SNDBUFFORCE,
	SOCK_OPT_RCVLOWAT,
	SOCK_OPT_OOBINLINE,
	SOCK_OPT_TOS,
	SOCK_OPT_TTL,
	SOCK_OPT_REUSEADDR,
	SOCK_OPT_REUSEPORT,
	SOCK_OPT_V6ONLY,     /* a listener on :: takes no IPv4 */
	SOCK_OPT_ACCEPTCONN, /* get only */
	SOCK_OPT_INQ,	     /* get only: SIOCINQ, bytes readable now */
	SOCK_OPT_INQ_FIN,    /* get only: bytes received and not read, and the FIN behind them */
	SOCK_OPT_BUF_LOCK,   /* get only: 1 SNDBUF was set, 2 RCVBUF was set */
	SOCK_OPT_TIMESTAMP,  /* get only: the timestamp that a segment would carry now */
	SOCK_OPT_OUTQ,	     /* get only: SIOCOUTQ, unacknowledged bytes and FIN as Linux counts */
	SOCK_OPT_OUTQNSD,    /* get only: SIOCOUTQNSD */
	SOCK_OPT_ATMARK,     /* get only */
	SOCK_OPT_ACCEPTQ,    /* get only: connections waiting in a listener */
	SOCK_OPT_COUNT
};
int sock_set_option(struct stack_cx *cx, ref s, enum sock_option o, int value);
int sock_get_option(struct stack_cx *cx, ref s, enum sock_option o, int *value);

/* What TCP_INFO shows, in the units of struct tcp_info of Linux (times in us). */
struct sock_info {
	uint8_t state; /* Linux's numbering: 1 ESTABLISHED ... 10 LISTEN, 11 CLOSING */
	uint8_t ca_state, retransmits, probes, backoff, options, snd_wscale, rcv_wscale;
	uint32_t rto, ato, snd_mss, rcv_mss, unacked, sacked, lost, retrans;
	uint32_t last_data_sent, last_ack_sent, last_data_recv, last_ack_recv; /* ms ago */
	uint32_t pmtu, rcv_ssthresh, rtt, rttvar, snd_ssthresh, snd_cwnd, advmss, reordering;
	uint32_t rcv_rtt, rcv_space, total_retrans;
	uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
	uint32_t segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out;
	uint64_t delivery_rate;				  /* octets per second */
	uint64_t busy_time, rwnd_limited, sndbuf_limited; /* us */
	bool delivery_rate_app_limited;
	uint32_t delivered, delivered_ce;
	uint64_t bytes_sent, bytes_retrans;
	uint32_t dsack_dups, reord_seen, rcv_ooopack, snd_wnd, rcv_wnd, rehash;
	uint16_t total_rto, total_rto_recoveries;
	uint32_t total_rto_time;
};
int sock_info(struct stack_cx *cx, ref s, struct sock_info *out);
const char *sock_state_name(int linux_state);

/* Iterate over all sockets (ss-like listing, exit, tests): first with REF_NONE; REF_NONE: end. */
ref sock_next(struct stack_cx *cx, ref after);

/* ------------------------------------------------------------------ counters */

/* Names follow Linux's SNMP/TcpExt where one exists. X(field, "Name", "what it counts") */
#define STACK_COUNTERS(X)                                                                                    \
	X(frames_in, "FramesIn", "frames given to the stack")                                                \
	X(frames_out, "FramesOut", "frames sent (a super-segment is one)")                                   \
	X(tx_errors, "TxErrors", "frames that the device refused: lost")                                     \
	X(ether_bad, "EtherErrors", "runt or foreign Ethernet frames")                                       \
	X(arp_in, "ArpIn", "ARP packets taken")                                                              \
	X(arp_bad, "ArpErrors", "malformed ARP packets")                                                     \
	X(arp_conflict, "ArpConflicts", "ARP packets by others that claim our address (RFC 5227)")           \
	X(arp_failed, "ArpFailed", "neighbours that never answered")                                         \
	X(arp_queue_drops, "ArpQueueDrops", "frames dropped while a neighbour was unresolved")               \
	X(ip_bad_header, "IpInHdrErrors", "IPv4 header errors")                                              \
	X(ip_bad_addr, "IpInAddrErrors", "not for us, or an invalid source")                                 \
	X(ip_fragments, "IpFragDrops", "fragments, dropped")                                                 \
	X(ip_source_route, "IpSourceRouteDrops", "source-routed datagrams, dropped (RFC 7126)")              \
	X(ip_unknown_proto, "IpInUnknownProtos", "datagrams for another protocol")                           \
	X(icmp_in, "IcmpInMsgs", "ICMP messages taken")                                                      \
	X(icmp_bad, "IcmpInErrors", "malformed ICMP messages")                                               \
	X(icmp_echo, "IcmpOutEchoReps", "echo replies sent")                                                 \
	X(icmp_limited, "IcmpLimited", "replies suppressed by the rate limit")                               \
	X(icmp_ignored, "IcmpIgnored", "errors whose quote matches no segment in flight")                    \
	X(loop_segments, "LoopSegs", "segments from the stack to itself")                                    \
	X(loop_drops, "LoopDrops", "of these, lost or cut for want of memory")                               \
	X(tcp_in, "InSegs", "TCP segments received")                                                         \
	X(tcp_out, "OutSegs", "TCP segments sent")                                                           \
	X(tcp_bad_csum, "InCsumErrors", "TCP checksum errors")                                               \
	X(tcp_bad_header, "InErrs", "TCP header or option errors")                                           \
	X(tcp_no_socket, "NoSocket", "segments for no connection, answered by RST")                          \
	X(tcp_rst_out, "OutRsts", "RST segments sent")                                                       \
	X(tcp_active_open, "ActiveOpens", "active opens")                                                    \
	X(tcp_passive_open, "PassiveOpens", "passive opens")                                                 \
	X(tcp_simultaneous_open, "SimultaneousOpens", "SYN received in SYN-SENT")                            \
	X(tcp_simultaneous_close, "SimultaneousCloses", "CLOSING entered")                                   \
	X(tcp_attempt_fail, "AttemptFails", "opens that failed")                                             \
	X(tcp_estab_reset, "EstabResets", "connections reset")                                               \
	X(tcp_retrans, "RetransSegs", "segments retransmitted")                                              \
	X(tcp_fast_retrans, "TCPFastRetrans", "fast recoveries entered")                                     \
	X(tcp_rto, "TCPTimeouts", "retransmission time-outs")                                                \
	X(tcp_syn_retrans, "TCPSynRetrans", "SYN and SYN-ACK retransmitted")                                 \
	X(tcp_sack_in, "TCPSackIn", "segments with SACK blocks received")                                    \
	X(tcp_sack_out, "TCPSackOut", "segments with SACK blocks sent")                                      \
	X(tcp_sack_hole, "TCPSackHoles", "holes retransmitted by SACK recovery")                             \
	X(tcp_sack_bad, "TCPSackDiscard", "SACK blocks ignored as invalid")                                  \
	X(tcp_sack_reneging, "TCPSACKReneging", "scoreboards thrown away after reneging")                    \
	X(tcp_dsack_in, "TCPDSACKRecv", "duplicate-SACK blocks received")                                    \
	X(tcp_dsack_out, "TCPDSACKOldSent", "duplicate-SACK blocks sent")                                    \
	X(tcp_dup_ack, "TCPDupAcks", "duplicate ACKs received")                                              \
	X(tcp_partial_ack, "TCPPartialAcks", "NewReno partial ACKs")                                         \
	X(tcp_ooo, "TCPOFOQueue", "segments queued out of order")                                            \
	X(tcp_ooo_drop, "TCPOFODrop", "out-of-order data dropped at the reassembly cap")                     \
	X(tcp_mem_drop, "TCPMemDrops", "segments dropped for want of buffers")                               \
	X(tcp_paws, "PAWSEstab", "segments dropped by PAWS (RFC 7323)")                                      \
	X(tcp_challenge_ack, "TCPChallengeACK", "challenge ACKs sent (RFC 5961)")                            \
	X(tcp_challenge_limited, "TCPChallengeLimited", "challenge ACKs suppressed")                         \
	X(tcp_ack_bad, "TCPAckInvalid", "ACKs of data never sent or far too old")                            \
	X(tcp_zero_window, "TCPToZeroWindowAdv", "zero windows advertised")                                  \
	X(tcp_zero_window_in, "TCPZeroWindowIn", "zero windows received with data queued")                   \
	X(tcp_persist, "TCPWinProbe", "zero-window probes sent")                                             \
	X(tcp_keepalive, "TCPKeepAlive", "keep-alive probes sent")                                           \
	X(tcp_delayed_ack, "DelayedACKs", "ACKs sent by the delay timer")                                    \
	X(tcp_listen_overflow, "ListenOverflows", "final ACKs refused by a full accept queue")               \
	X(tcp_listen_drop, "ListenDrops", "SYNs dropped by a full SYN queue")                                \
	X(tcp_tw, "TW", "TIME-WAIT entered")                                                                 \
	X(tcp_tw_reuse, "TWRecycled", "TIME-WAIT tuples reused by a newer SYN")                              \
	X(tcp_tw_overflow, "TCPTimeWaitOverflow", "TIME-WAIT ended early by the cap")                        \
	X(tcp_orphan_overflow, "TCPAbortOnMemory", "orphans reset by the cap")                               \
	X(tcp_abort_data, "TCPAbortOnData", "RST because of unread or late data")                            \
	X(tcp_abort_timeout, "TCPAbortOnTimeout", "connections given up")                                    \
	X(tcp_tail_drop_urg, "TCPUrgent", "segments with URG")

struct stack_counters {
#define X(field, name, what) uint64_t field;
	STACK_COUNTERS(X)
#undef X
};
const struct stack_counters *stack_counters(struct stack_cx *cx);

/* Bytes of the region in use by buffers, and by everything. */
uint64_t stack_buffer_bytes(struct stack_cx *cx);
uint64_t stack_region_bytes(struct stack_cx *cx);
/* Region bytes that belong to one socket (TCB and its buffers). */
uint64_t sock_region_bytes(struct stack_cx *cx, ref s);

/*
 * The holder of the lock was killed inside the stack, at any instruction. Build every table, list, queue,
 * heap, free list and account anew from the records of the single connections, and reset the connection that
 * was being changed: a RST to its peer, ECONNRESET to who has it. The records' own indices are checked before
 * they are followed. Afterwards stack_verify() holds, no edge is lost that has not been taken, and
 * stack_flush() sends the resets. It may be killed itself: then it is called again.
 * 0, or -ENOTRECOVERABLE: not even the root is in order.
 */
struct stack_rebuilt {
	uint32_t reset; /* connections */
};
int stack_rebuild(struct stack_cx *cx, struct stack_rebuilt *out);
/* Nobody's: neither an orphan nor waiting to be accepted. Who keeps track of owners closes those without. */
bool sock_needs_owner(struct stack_cx *cx, ref s);

/* Walk every invariant; NULL, or a static text that names the broken one. For tests and debug builds. */
const char *stack_verify(struct stack_cx *cx);

#endif
