/*
 * dialogue.h - segment dialogues: one stack, driven by hand in virtual time.
 *
 * The test is the peer. It sends segments, expects segments, moves the clock
 * and calls socket verbs; nothing happens that the test did not ask for.
 *
 * Numbers are relative, so that dialogues read the same whatever the initial
 * sequence numbers are: the peer's SYN has sequence 5000, the stack's 1000. So
 * the peer's first byte is 5001 and the stack's 1001. Times are relative to the
 * moment at which the state's constructor was done.
 *
 * Every emitted segment also passes the rules of image.h. A dialogue ends with
 * an error when a segment was emitted that it did not mention.
 */
#ifndef TESTS_DIALOGUE_H
#define TESTS_DIALOGUE_H

#include "image.h"
#include "utcp/pool.h"
#include "utcp/stack.h"

#define OUR_ISS	 1000u
#define PEER_ISS 5000u
#define AT_MS(x) ((nsec)(x)*NS_PER_MS)
#define AT_US(x) ((nsec)(x)*NS_PER_US)
#define AT_S(x)	 ((nsec)(x)*NS_PER_S)
#define NOW	 NSEC_NEVER /* peer_sends(): without moving the clock */

/* A segment to send (fields left out: the natural value) or to expect (left out: anything). */
#define ANY	  INT64_MIN
#define ABSENT	  (-1) /* the option must not be there */
#define SEG_SACKS 8
struct seg {
	int64_t flags; /* expected: compared without PSH */
	int64_t psh;   /* expected only: 0 or 1 */
	int64_t seq, ack, wnd, len, urg;
	int64_t mss, wscale, sack_permitted, ts_val, ts_ecr;
	int64_t sack[SEG_SACKS]; /* {start, end, ...}, {ABSENT} */
	int64_t tos, ttl;
	int64_t at;		    /* expected only: time of emission */
	const uint8_t *raw_options; /* sent only */
	uint32_t raw_options_len;
	const uint8_t *payload; /* sent only: other bytes than the pattern */
	uint32_t gso;		/* sent only: a super-segment of such pieces */
	bool hold;		/* sent only: more frames of the same burst follow */
	bool bad_checksum;
};
#define SEG(...)                                                                                             \
	(struct seg)                                                                                         \
	{                                                                                                    \
		.flags = ANY, .psh = ANY, .seq = ANY, .ack = ANY, .wnd = ANY, .len = ANY, .urg = ANY,        \
		.mss = ANY, .wscale = ANY, .sack_permitted = ANY, .ts_val = ANY, .ts_ecr = ANY,              \
		.sack = {ANY}, .tos = ANY, .ttl = ANY, .at = ANY, __VA_ARGS__                                \
	}

/* What the peer's SYN offers, and how the dialogue is set up. -1: option not sent. */
struct setup {
	int mss, wscale;
	bool sack, ts;
	int64_t wnd;	   /* peer's window */
	uint32_t peer_iss; /* actual value behind PEER_ISS */
	int our_iss_near_wrap;
	nsec rtt;
	int backlog;
	bool arp;				     /* neighbours must be resolved */
	void (*configure)(struct stack_config *c);   /* NULL: defaults */
	void (*prepare)(struct stack_cx *cx, ref s); /* options before connect or listen */
};
#define WITH(...)                                                                                            \
	(struct setup)                                                                                       \
	{                                                                                                    \
		.mss = 1460, .wscale = -1, .wnd = 65535, .peer_iss = 0x12345678u, .rtt = 10 * NS_PER_MS,     \
		.backlog = 8, __VA_ARGS__                                                                    \
	}

/* One conversation: a pair of ports. */
struct conversation {
	uint16_t our_port, peer_port;
	uint32_t our_iss, peer_iss; /* actual */
	bool our_iss_known;
	uint32_t peer_next, heard_next; /* relative: what the peer sends next; what it acknowledges */
	bool ts_on, peer_syn_sent;
	uint32_t ts_heard;
	struct emitter emitter;
};

struct emitted {
	nsec at;
	bool tcp;
	struct image im;
	struct conversation *conv;
	uint32_t len;
	uint8_t frame[1600];
};

#define DIALOGUE_QUEUE	       2048
#define DIALOGUE_CONVERSATIONS 64

struct peer {
	struct stack_cx cx;
	struct setup setup;
	nsec epoch;
	ref sock, listener;
	struct conversation *conv, conversations[DIALOGUE_CONVERSATIONS];
	int conversation_count;
	uint32_t ip;			 /* the peer's address */
	uint64_t app_sent, app_received; /* stream offsets of the application under test */
	uint32_t edges;
	struct emitted *queue;
	int queue_first, queue_last;
	char *log;
	size_t log_len;
	FILE *log_file;
	uint8_t *pcap;
	size_t pcap_len;
	FILE *pcap_file;
	uint64_t region_bytes;
};

/* --------------------------------------------------------------- constructors */
/* Each checks that the state was reached. Active opens go 4000 -> 80, passive ones 80 <- 4000. */
struct peer *peer_closed(struct setup s);
struct peer *peer_listen_with(struct setup s);
struct peer *peer_syn_sent_with(struct setup s);
struct peer *peer_syn_received_with(struct setup s);	    /* came by LISTEN */
struct peer *peer_syn_received_active_with(struct setup s); /* came by simultaneous open */
struct peer *peer_established_with(struct setup s);	    /* active */
struct peer *peer_accepted_with(struct setup s);	    /* passive, accepted */
struct peer *peer_close_wait_with(struct setup s);
struct peer *peer_fin_wait_1_with(struct setup s);
struct peer *peer_fin_wait_2_with(struct setup s);
struct peer *peer_closing_with(struct setup s);
struct peer *peer_last_ack_with(struct setup s);
struct peer *peer_time_wait_with(struct setup s); /* descriptor still open */
struct peer *peer_orphan_time_wait_with(struct setup s);
#define peer_listen()		   peer_listen_with(WITH())
#define peer_syn_sent()		   peer_syn_sent_with(WITH())
#define peer_syn_received()	   peer_syn_received_with(WITH())
#define peer_syn_received_active() peer_syn_received_active_with(WITH())
#define peer_established()	   peer_established_with(WITH())
#define peer_accepted()		   peer_accepted_with(WITH())
#define peer_close_wait()	   peer_close_wait_with(WITH())
#define peer_fin_wait_1()	   peer_fin_wait_1_with(WITH())
#define peer_fin_wait_2()	   peer_fin_wait_2_with(WITH())
#define peer_closing()		   peer_closing_with(WITH())
#define peer_last_ack()		   peer_last_ack_with(WITH())
#define peer_time_wait()	   peer_time_wait_with(WITH())
#define peer_orphan_time_wait()	   peer_orphan_time_wait_with(WITH())

/* --------------------------------------------------------------- the peer */
void peer_sends(struct peer *p, nsec at, struct seg s);
/* Bytes of a frame as peer_sends() would send it; and any bytes as a frame. */
uint32_t peer_frame(struct peer *p, struct seg s, uint8_t *frame);
void peer_sends_frame(struct peer *p, nsec at, const uint8_t *frame, uint32_t len);
/* Speak on another pair of ports from now on. */
void peer_switches(struct peer *p, uint16_t our_port, uint16_t peer_port);
/* ICMP error that quotes a segment of ours with this relative sequence number. */
void peer_sends_icmp(struct peer *p, nsec at, int type, int code, int64_t seq, uint16_t mtu);

#define expect_segment(p, s) expect_segment_at(p, s, __FILE__, __LINE__)
#define expect_nothing(p)    expect_nothing_at(p, __FILE__, __LINE__)
/* Move the clock to `when`; the segment must be emitted at exactly that time, and nothing before. */
#define expect_at(p, when, s) expect_timed_at(p, when, s, __FILE__, __LINE__)
void expect_segment_at(struct peer *p, struct seg s, const char *file, int line);
void expect_nothing_at(struct peer *p, const char *file, int line);
void expect_timed_at(struct peer *p, nsec when, struct seg s, const char *file, int line);
/* Take and forget all that was emitted; how many frames that was, and how many payload bytes. */
int peer_takes_all(struct peer *p);
uint64_t peer_takes_bytes(struct peer *p);
/* The next emitted segment, or NULL; consumed. */
struct emitted *peer_takes(struct peer *p);

void advance_to(struct peer *p, nsec at);
void advance_by(struct peer *p, nsec by);

/* --------------------------------------------------------------- the application */
/* Exactly n bytes of the pattern must be taken, or delivered. */
#define app_write(p, n) expect_that(p, app_try_write(p, n, 0) == (int64_t)(n))
#define app_read(p, n)	expect_that(p, app_try_read(p, n, 0) == (int64_t)(n))
int64_t app_try_write(struct peer *p, uint32_t n, uint32_t flags);
int64_t app_try_read(struct peer *p, uint32_t n, uint32_t flags); /* verifies the pattern */
void app_set(struct peer *p, enum sock_option o, int value);
int app_get(struct peer *p, enum sock_option o);
int app_connect(struct peer *p);
void app_accept(struct peer *p);
void app_shutdown(struct peer *p, int how);
void app_close(struct peer *p);
uint32_t app_edges(struct peer *p); /* gathered since the last call */
uint8_t pattern_at(uint64_t offset);

/* --------------------------------------------------------------- judgement */
/* Linux's state numbers, as sock_info() shows them; 0: no such connection. */
enum {
	S_NONE = 0,
	S_ESTABLISHED,
	S_SYN_SENT,
	S_SYN_RECV,
	S_FIN_WAIT1,
	S_FIN_WAIT2,
	S_TIME_WAIT,
	S_CLOSE,
	S_CLOSE_WAIT,
	S_LAST_ACK,
	S_LISTEN,
	S_CLOSING
};
int state_of(struct peer *p);
#define expect_state(p, s)    expect_equal_at(p, state_of(p), s, "state", __FILE__, __LINE__)
#define expect_equal(p, a, b) expect_equal_at(p, (int64_t)(a), (int64_t)(b), #a, __FILE__, __LINE__)
#define expect_that(p, c)     ((c) ? (void)0 : dialogue_fail(p, __FILE__, __LINE__, "not true: %s", #c))
#define expect_events(p, mask, bits)                                                                         \
	expect_equal_at(p, sock_events(&(p)->cx, (p)->sock) & (mask), bits, "events", __FILE__, __LINE__)
#define counter(p, field) (stack_counters(&(p)->cx)->field)
struct sock_info info_of(struct peer *p);
void expect_equal_at(struct peer *p, int64_t got, int64_t want, const char *what, const char *file, int line);
void dialogue_fail(struct peer *p, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5), noreturn));

/* --------------------------------------------------------------- the tests themselves */
/*
 * TEST(name, "ID, ID: requirement in one sentence") { dialogue }. Every dialogue
 * registers itself; the suite is the file.
 */
struct test {
	const char *name, *sentence, *file;
	void (*body)(void);
	struct test *next;
};
void test_register(struct test *t);
#define TEST(id, text)                                                                                       \
	static void id(void);                                                                                \
	__attribute__((constructor)) static void register_##id(void)                                         \
	{                                                                                                    \
		static struct test t = {#id, text, __FILE__, id, NULL};                                      \
		test_register(&t);                                                                           \
	}                                                                                                    \
	static void id(void)

#endif
