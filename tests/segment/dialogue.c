/*
 * dialogue.c - the engine behind dialogue.h and the program that runs the tests.
 *
 * The stack's frames are cut to wire size by frame_segment(), checked, and put
 * on a queue from which expect_segment() takes them in order. A failure prints
 * the dialogue in arrow notation, writes it as a capture beside the program and
 * leaves the test by longjmp.
 *
 * segment [-v] [name...]: run all, or those tests whose names contain one of the words.
 */
#include <CUnit/CUnit.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "dialogue.h"

#define REGION_BYTES   (256ull << 20)
#define DIALOGUE_BEGIN (1000 * NS_PER_S)

static const uint8_t stack_mac[6] = {2, 0, 0, 0, 0, 2}, peer_mac[6] = {2, 0, 0, 0, 0, 1};
static struct peer *current;
static const struct test *running;
static jmp_buf leave;
static const char *out_dir = ".";
static struct test *tests;
static bool verbose;
static unsigned failed_count;

/* ------------------------------------------------------------------ log */

static void log_line(struct peer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void log_line(struct peer *p, const char *format, ...)
{
	va_list ap;
	int64_t us = (int64_t)(p->cx.now - p->epoch) / (int64_t)NS_PER_US;

	fprintf(p->log_file, "  %+12.3f ms  ", (double)us / 1000);
	va_start(ap, format);
	vfprintf(p->log_file, format, ap);
	va_end(ap);
	fputc('\n', p->log_file);
}

void dialogue_fail(struct peer *p, const char *file, int line, const char *format, ...)
{
	va_list ap;
	char path[512], text[512];

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	fflush(p->log_file);
	printf("\n%s\n  %s\n%s  FAILED %s:%d: %s\n", running->name, running->sentence, p->log, file, line,
	       text);
	snprintf(path, sizeof path, "%s/%s.pcap", out_dir, running->name);
	fflush(p->pcap_file);
	FILE *f = fopen(path, "wb");
	if (f) {
		fwrite(p->pcap, p->pcap_len, 1, f);
		fclose(f);
		printf("  capture: %s\n", path);
	}
	failed_count++;
	CU_FAIL("dialogue");
	longjmp(leave, 1);
}

static void fail_here(struct peer *p, const char *what)
{
	dialogue_fail(p, running->file, 0, "%s", what);
}

void expect_equal_at(struct peer *p, int64_t got, int64_t want, const char *what, const char *file, int line)
{
	if (got != want)
		dialogue_fail(p, file, line, "%s is %lld, expected %lld", what, (long long)got,
			      (long long)want);
}

/* ------------------------------------------------------------------ frames from the stack */

static void pcap_append(struct peer *p, const uint8_t *frame, uint32_t len)
{
	pcap_write(p->pcap_file, p->cx.now, frame, len);
}

static struct conversation *conversation(struct peer *p, uint16_t our_port, uint16_t peer_port)
{
	struct conversation *c = p->conversations;

	for (int i = 0; i < p->conversation_count; i++, c++)
		if (c->our_port == our_port && c->peer_port == peer_port)
			return c;
	if (p->conversation_count == DIALOGUE_CONVERSATIONS)
		fail_here(p, "too many conversations");
	p->conversation_count++;
	memset(c, 0, sizeof *c);
	c->our_port = our_port;
	c->peer_port = peer_port;
	c->peer_iss = p->setup.peer_iss;
	c->peer_next = PEER_ISS;
	c->emitter.own_wscale = c->emitter.peer_wscale = -1;
	return c;
}

static void check_payload(struct peer *p, const struct conversation *c, const struct image *im)
{
	uint32_t offset = im->seq - c->our_iss - 1;

	for (uint32_t i = 0; i < im->len; i++)
		if (im->data[i] != pattern_at(offset + i))
			dialogue_fail(p, running->file, 0, "emitted payload differs at stream offset %u",
				      offset + i);
}

static void note_tcp(struct peer *p, struct emitted *e)
{
	struct image *im = &e->im;
	struct conversation *c = conversation(p, im->sport, im->dport);
	char text[200];
	const char *bad;
	uint32_t end;

	e->conv = c;
	if ((im->flags & SYN) && (!c->our_iss_known || im->seq != c->our_iss)) {
		c->our_iss = im->seq;
		c->our_iss_known = true;
		c->heard_next = OUR_ISS;
		c->emitter.edge_known = false;
	}
	image_print(im, c->our_iss - OUR_ISS, c->peer_iss - PEER_ISS, text, sizeof text);
	log_line(p, "> %s%s", text, c == p->conv ? "" : "   (other ports)");
	bad = emitter_check(&c->emitter, im);
	if (bad)
		fail_here(p, bad);
	if (c->our_iss_known)
		check_payload(p, c, im);
	if (im->ts)
		c->ts_heard = im->ts_val;
	end = im->seq - c->our_iss + OUR_ISS + im->len + ((im->flags & SYN) != 0) + ((im->flags & FIN) != 0);
	if (!(im->flags & RST) && c->our_iss_known && (int32_t)(end - c->heard_next) > 0)
		c->heard_next = end;
}

static int take_frame(void *arg, const uint8_t *frame, uint32_t len)
{
	struct peer *p = arg;
	struct emitted *e = &p->queue[p->queue_last];
	const char *bad;

	pcap_append(p, frame, len);
	if (p->queue_last == DIALOGUE_QUEUE)
		fail_here(p, "more frames than a dialogue can hold");
	if (len > sizeof e->frame)
		fail_here(p, "frame above the MTU");
	p->queue_last++;
	e->at = p->cx.now - p->epoch;
	e->len = len;
	memcpy(e->frame, frame, len);
	e->tcp = image_is_tcp(e->frame, len);
	if (!e->tcp) {
		log_line(p, "> (frame of type %02x%02x, %u bytes)", frame[12], frame[13], len);
		return 0;
	}
	bad = image_parse(e->frame, len, &e->im);
	if (bad)
		fail_here(p, bad);
	note_tcp(p, e);
	return 0;
}

static int stack_sends(struct stack_cx *cx, const struct frame_tx *f)
{
	static uint8_t scratch[FRAME_LEN_MAX];
	int error = frame_segment(f, scratch, take_frame, cx->arg);

	if (error == -EINVAL) /* not TCP: as it is */ {
		uint32_t n = f->header_len;
		memcpy(scratch, f->header, n);
		for (int i = 0; i < f->piece_count; i++) {
			memcpy(scratch + n, f->piece[i].data, f->piece[i].len);
			n += f->piece[i].len;
		}
		return take_frame(cx->arg, scratch, n);
	}
	return error;
}

static int region_grows(struct stack_cx *cx, uint64_t bytes)
{
	if (bytes > REGION_BYTES)
		return -ENOMEM;
	if (bytes > cx->limit)
		cx->limit = MIN_OF(REGION_BYTES, (bytes + 0xfffff) & ~0xfffffull);
	return 0;
}

static void settle(struct peer *p)
{
	uint32_t edges;
	ref s;

	stack_flush(&p->cx);
	while ((s = sock_next_edge(&p->cx, &edges)) != REF_NONE)
		if (s == p->sock)
			p->edges |= edges;
	const char *bad = stack_verify(&p->cx);
	if (bad)
		dialogue_fail(p, running->file, 0, "stack_verify: %s", bad);
}

/* ------------------------------------------------------------------ time */

void advance_to(struct peer *p, nsec at)
{
	nsec target = p->epoch + at;
	int idle = 0;

	for (;;) {
		nsec next = stack_deadline(&p->cx);
		if (next > target)
			break;
		if (next <= p->cx.now && ++idle > 10000)
			fail_here(p, "a deadline in the past does not go away");
		p->cx.now = MAX_OF(next, p->cx.now);
		stack_advance(&p->cx);
		settle(p);
	}
	if (target < p->cx.now)
		fail_here(p, "the dialogue goes back in time");
	p->cx.now = target;
}

void advance_by(struct peer *p, nsec by)
{
	advance_to(p, p->cx.now - p->epoch + by);
}

/* ------------------------------------------------------------------ the peer's segments */

static uint32_t natural_ts(const struct peer *p)
{
	return 100000 + (uint32_t)((p->cx.now - DIALOGUE_BEGIN) / NS_PER_MS);
}

static int64_t given(int64_t v, int64_t natural)
{
	return v == ANY ? natural : v;
}

static void fill_options(struct peer *p, const struct seg *s, struct image *im)
{
	struct conversation *c = p->conv;
	bool syn = im->flags & SYN;
	bool ts = syn ? p->setup.ts : c->ts_on;

	im->mss = (int)given(s->mss, syn ? p->setup.mss : ABSENT);
	im->wscale = (int)given(s->wscale, syn ? p->setup.wscale : ABSENT);
	im->sack_permitted = given(s->sack_permitted, syn ? p->setup.sack : 0) == 1;
	im->ts = given(s->ts_val, ts && !s->raw_options ? 0 : ABSENT) != ABSENT;
	if (im->flags & RST)
		im->ts = s->ts_val != ANY && s->ts_val != ABSENT;
	im->ts_val = (uint32_t)given(s->ts_val, natural_ts(p));
	im->ts_ecr = (uint32_t)given(s->ts_ecr, im->flags & ACK ? c->ts_heard : 0);
	if (s->sack[0] != ANY && s->sack[0] != ABSENT)
		for (int i = 0; i < SEG_SACKS && s->sack[i + 1]; i += 2, im->sack_count++) {
			im->sack[i / 2][0] = (uint32_t)s->sack[i] - OUR_ISS + c->our_iss;
			im->sack[i / 2][1] = (uint32_t)s->sack[i + 1] - OUR_ISS + c->our_iss;
		}
	im->raw_options = s->raw_options;
	im->raw_options_len = s->raw_options_len;
}

static void make_image(struct peer *p, const struct seg *s, struct image *im, uint8_t *payload)
{
	struct conversation *c = p->conv;
	uint32_t seq = (uint32_t)given(s->seq, c->peer_next);

	memset(im, 0, sizeof *im);
	im->src = p->ip;
	im->dst = 0x0a000002;
	im->sport = c->peer_port;
	im->dport = c->our_port;
	im->flags = (uint8_t)given(s->flags, ACK);
	im->seq = seq - PEER_ISS + c->peer_iss;
	if ((im->flags & ACK) || s->ack != ANY)
		im->ack = (uint32_t)given(s->ack, c->heard_next) - OUR_ISS + c->our_iss;
	im->wnd = (uint16_t)given(s->wnd, p->setup.wnd);
	im->urg = (uint16_t)given(s->urg, 0);
	im->tos = (uint8_t)given(s->tos, 0);
	im->ttl = (uint8_t)given(s->ttl, 64);
	im->len = (uint32_t)given(s->len, 0);
	im->bad_checksum = s->bad_checksum;
	im->data = s->payload ? s->payload : payload;
	if (!s->payload)
		for (uint32_t i = 0; i < im->len; i++)
			payload[i] = pattern_at(seq - (PEER_ISS + 1) + ((im->flags & SYN) != 0) + i);
	fill_options(p, s, im);
}

uint32_t peer_frame(struct peer *p, struct seg s, uint8_t *frame)
{
	static uint8_t payload[65536];
	struct image im;

	make_image(p, &s, &im, payload);
	return image_build(frame, stack_mac, peer_mac, &im);
}

void peer_sends_frame(struct peer *p, nsec at, const uint8_t *frame, uint32_t len)
{
	struct frame_rx rx = {.data = frame, .len = len};
	struct image im;

	if (at != NOW)
		advance_to(p, at);
	log_line(p, "< (frame of %u bytes)", len);
	pcap_append(p, frame, len);
	if (image_parse(frame, len, &im) == NULL && im.dport == p->conv->our_port)
		emitter_hears(&p->conv->emitter, &im);
	stack_input(&p->cx, &rx);
	settle(p);
}

void peer_sends(struct peer *p, nsec at, struct seg s)
{
	static uint8_t frame[FRAME_LEN_MAX + 200], payload[65536];
	struct conversation *c = p->conv;
	struct image im;
	struct frame_rx rx = {.data = frame, .gso_size = (uint16_t)s.gso};
	char text[200];
	uint32_t end;

	if (at != NOW)
		advance_to(p, at);
	make_image(p, &s, &im, payload);
	rx.len = image_build(frame, stack_mac, peer_mac, &im);
	image_print(&im, c->peer_iss - PEER_ISS, c->our_iss - OUR_ISS, text, sizeof text);
	log_line(p, "< %s%s", text, s.bad_checksum ? " (bad checksum)" : "");
	pcap_append(p, frame, rx.len);
	end = im.seq - c->peer_iss + PEER_ISS + im.len + ((im.flags & SYN) != 0) + ((im.flags & FIN) != 0);
	if (!s.bad_checksum) {
		struct image seen;
		image_parse(frame, rx.len, &seen); /* options given as bytes included */
		emitter_hears(&c->emitter, s.raw_options ? &seen : &im);
		if (!(im.flags & RST) && (int32_t)(end - c->peer_next) > 0 &&
		    (s.seq == ANY || (uint32_t)s.seq == c->peer_next))
			c->peer_next = end;
	}
	if ((im.flags & SYN) && im.ts)
		c->ts_on = true;
	if (im.flags & SYN)
		c->peer_syn_sent = true;
	stack_input(&p->cx, &rx);
	if (!s.hold)
		settle(p);
}

void peer_switches(struct peer *p, uint16_t our_port, uint16_t peer_port)
{
	p->conv = conversation(p, our_port, peer_port);
}

void peer_sends_icmp(struct peer *p, nsec at, int type, int code, int64_t seq, uint16_t mtu)
{
	uint8_t frame[IMAGE_ETHER + 20 + 8 + 28] = {0}, *ip = frame + IMAGE_ETHER, *icmp = ip + 20,
					     *quote = icmp + 8;
	uint32_t wire_seq = (uint32_t)seq - OUR_ISS + p->conv->our_iss;
	uint16_t sum;

	memcpy(frame, stack_mac, 6);
	memcpy(frame + 6, peer_mac, 6);
	frame[12] = 8;
	static const uint8_t head[20] = {0x45, 0, 0, 56, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2};
	memcpy(ip, head, 20);
	sum = image_checksum(ip, 20, 0);
	ip[10] = (uint8_t)(sum >> 8), ip[11] = (uint8_t)sum;
	static const uint8_t inner[20] = {0x45, 0, 5,  220, 0, 1, 64, 0, 64, 6,
					  0,	0, 10, 0,   0, 2, 10, 0, 0,  1};
	memcpy(quote, inner, 20);
	sum = image_checksum(quote, 20, 0);
	quote[10] = (uint8_t)(sum >> 8), quote[11] = (uint8_t)sum;
	quote[20] = (uint8_t)(p->conv->our_port >> 8), quote[21] = (uint8_t)p->conv->our_port;
	quote[22] = (uint8_t)(p->conv->peer_port >> 8), quote[23] = (uint8_t)p->conv->peer_port;
	for (int i = 0; i < 4; i++)
		quote[24 + i] = (uint8_t)(wire_seq >> (24 - 8 * i));
	icmp[0] = (uint8_t)type;
	icmp[1] = (uint8_t)code;
	icmp[6] = (uint8_t)(mtu >> 8), icmp[7] = (uint8_t)mtu;
	sum = image_checksum(icmp, 36, 0);
	icmp[2] = (uint8_t)(sum >> 8), icmp[3] = (uint8_t)sum;
	if (at != NOW)
		advance_to(p, at);
	log_line(p, "< ICMP %d/%d quoting seq %lld mtu %u", type, code, (long long)seq, mtu);
	peer_sends_frame(p, NOW, frame, sizeof frame);
}

/* ------------------------------------------------------------------ expectations */

static void compare(struct peer *p, const char *what, int64_t got, int64_t want, const char *file, int line)
{
	if (want != ANY && got != want)
		dialogue_fail(p, file, line, "%s is %lld, expected %lld", what, (long long)got,
			      (long long)want);
}

static void compare_options(struct peer *p, const struct emitted *e, const struct seg *s, const char *file,
			    int line)
{
	const struct image *im = &e->im;
	const struct conversation *c = e->conv;

	compare(p, "mss", im->mss, s->mss, file, line);
	compare(p, "wscale", im->wscale, s->wscale, file, line);
	compare(p, "sack_permitted", im->sack_permitted, s->sack_permitted, file, line);
	compare(p, "ts_val", im->ts ? (int64_t)im->ts_val : ABSENT, s->ts_val, file, line);
	compare(p, "ts_ecr", im->ts ? (int64_t)im->ts_ecr : ABSENT, s->ts_ecr, file, line);
	if (s->sack[0] == ANY)
		return;
	int blocks = 0;
	while (s->sack[0] != ABSENT && blocks < 4 && s->sack[2 * blocks + 1])
		blocks++;
	compare(p, "number of SACK blocks", im->sack_count, blocks, file, line);
	for (int i = 0; i < blocks; i++)
		for (int k = 0; k < 2; k++)
			compare(p, k ? "SACK block end" : "SACK block start",
				im->sack[i][k] - c->peer_iss + PEER_ISS, s->sack[2 * i + k], file, line);
}

struct emitted *peer_takes(struct peer *p)
{
	if (p->queue_first == p->queue_last)
		return NULL;
	return &p->queue[p->queue_first++];
}

void expect_segment_at(struct peer *p, struct seg s, const char *file, int line)
{
	struct emitted *e = peer_takes(p);
	const struct image *im;
	const struct conversation *c;

	if (!e)
		dialogue_fail(p, file, line, "no segment was emitted");
	if (!e->tcp)
		dialogue_fail(p, file, line, "a frame that is not TCP was emitted");
	im = &e->im;
	c = e->conv;
	if (c != p->conv)
		dialogue_fail(p, file, line, "the segment is on other ports: %u -> %u", im->sport, im->dport);
	compare(p, "flags", im->flags & ~PSH, s.flags == ANY ? ANY : s.flags & ~PSH, file, line);
	compare(p, "PSH", (im->flags & PSH) != 0, s.psh, file, line);
	compare(p, "seq", (uint32_t)(im->seq - (c->our_iss_known ? c->our_iss - OUR_ISS : 0)), s.seq, file,
		line);
	if (s.ack != ANY)
		compare(p, "ack", (uint32_t)(im->ack - c->peer_iss + PEER_ISS), s.ack, file, line);
	compare(p, "window", im->wnd, s.wnd, file, line);
	compare(p, "len", im->len, s.len, file, line);
	compare(p, "urgent pointer", im->urg, s.urg, file, line);
	compare(p, "tos", im->tos, s.tos, file, line);
	compare(p, "ttl", im->ttl, s.ttl, file, line);
	if (s.at != ANY && (int64_t)e->at != s.at)
		dialogue_fail(p, file, line, "emitted at %.6f ms, expected at %.6f ms", (double)e->at / 1e6,
			      (double)s.at / 1e6);
	compare_options(p, e, &s, file, line);
	if (p->queue_first == p->queue_last)
		p->queue_first = p->queue_last = 0;
}

void expect_nothing_at(struct peer *p, const char *file, int line)
{
	if (p->queue_first != p->queue_last)
		dialogue_fail(p, file, line, "a frame was emitted, expected none");
}

void expect_timed_at(struct peer *p, nsec when, struct seg s, const char *file, int line)
{
	expect_nothing_at(p, file, line);
	advance_to(p, when);
	s.at = (int64_t)when;
	expect_segment_at(p, s, file, line);
}

uint64_t peer_takes_bytes(struct peer *p)
{
	uint64_t bytes = 0;

	for (struct emitted *e; (e = peer_takes(p));)
		bytes += e->tcp ? e->im.len : 0;
	p->queue_first = p->queue_last = 0;
	return bytes;
}

int peer_takes_all(struct peer *p)
{
	int n = p->queue_last - p->queue_first;

	p->queue_first = p->queue_last = 0;
	return n;
}

/* ------------------------------------------------------------------ the application */

uint8_t pattern_at(uint64_t o)
{
	return (uint8_t)(o * 31 + (o >> 8) * 7 + (o >> 16) * 13 + 1);
}

int64_t app_try_write(struct peer *p, uint32_t n, uint32_t flags)
{
	uint8_t *b = malloc(n + 1);
	struct iovec v = {b, n};
	int64_t r;

	for (uint32_t i = 0; i < n; i++)
		b[i] = pattern_at(p->app_sent + i);
	log_line(p, "write %u%s", n, flags & SOCK_MSG_OOB ? " urgent" : "");
	r = sock_send(&p->cx, p->sock, &v, 1, flags);
	free(b);
	if (r > 0)
		p->app_sent += (uint64_t)r;
	settle(p);
	return r;
}

int64_t app_try_read(struct peer *p, uint32_t n, uint32_t flags)
{
	uint8_t *b = malloc(n + 1);
	struct iovec v = {b, n};
	int64_t r = sock_recv(&p->cx, p->sock, &v, 1, flags);
	uint64_t at = p->app_received;

	log_line(p, "read %u = %lld", n, (long long)r);
	for (int64_t i = 0; i < r && !(flags & (SOCK_MSG_OOB | SOCK_MSG_TRUNC)); i++)
		if (b[i] != pattern_at(at + (uint64_t)i)) {
			free(b);
			dialogue_fail(p, running->file, 0, "wrong byte delivered at stream offset %llu",
				      (unsigned long long)(at + (uint64_t)i));
		}
	free(b);
	if (r > 0 && !(flags & (SOCK_MSG_OOB | SOCK_MSG_PEEK)))
		p->app_received += (uint64_t)r;
	settle(p);
	return r;
}

void app_set(struct peer *p, enum sock_option o, int value)
{
	expect_equal(p, sock_set_option(&p->cx, p->sock, o, value), 0);
	settle(p);
}

int app_get(struct peer *p, enum sock_option o)
{
	int v = 0;

	expect_equal(p, sock_get_option(&p->cx, p->sock, o, &v), 0);
	return v;
}

int app_connect(struct peer *p)
{
	struct endpoint local = {ipaddr_v4(0, 0, 0, 0), p->conv->our_port};
	struct endpoint remote = {ipaddr_v4(10, 0, 0, 1), p->conv->peer_port};
	int r = sock_connect(&p->cx, p->sock, &local, &remote);

	log_line(p, "connect = %d", r);
	settle(p);
	return r;
}

void app_accept(struct peer *p)
{
	p->sock = sock_accept(&p->cx, p->listener);
	expect_that(p, p->sock != REF_NONE);
	p->app_sent = p->app_received = 0;
	settle(p);
}

void app_shutdown(struct peer *p, int how)
{
	log_line(p, "shutdown %d", how);
	expect_equal(p, sock_shutdown(&p->cx, p->sock, how), 0);
	settle(p);
}

void app_close(struct peer *p)
{
	log_line(p, "close");
	sock_close(&p->cx, p->sock);
	p->sock = REF_NONE;
	settle(p);
}

uint32_t app_edges(struct peer *p)
{
	uint32_t e = p->edges;

	p->edges = 0;
	return e;
}

/* ------------------------------------------------------------------ state */

struct sock_info info_of(struct peer *p)
{
	struct sock_info i = {0};
	struct endpoint local, remote;
	ref s = p->sock;

	for (ref r = s ? REF_NONE : sock_next(&p->cx, REF_NONE); r; r = sock_next(&p->cx, r))
		if (sock_names(&p->cx, r, &local, &remote) == 0 && local.port == p->conv->our_port &&
		    remote.port == p->conv->peer_port)
			s = r;
	if (s)
		sock_info(&p->cx, s, &i);
	return i;
}

int state_of(struct peer *p)
{
	return info_of(p).state;
}

/* ------------------------------------------------------------------ constructors */

static void peer_destroy(struct peer *p)
{
	munmap(p->cx.base, REGION_BYTES);
	fclose(p->log_file);
	fclose(p->pcap_file);
	free(p->log);
	free(p->pcap);
	free(p->queue);
	free(p);
}

struct peer *peer_closed(struct setup s)
{
	struct peer *p = calloc(1, sizeof *p);
	struct stack_config c;
	uint8_t seed[32] = "segment dialogues, fixed seed..";
	static const uint32_t head[6] = {0xa1b23c4d, 2 | 4u << 16, 0, 0, 65535 + 14, 1};

	if (current)
		peer_destroy(current);
	current = p;
	p->setup = s;
	p->queue = calloc(DIALOGUE_QUEUE + 1, sizeof *p->queue);
	p->log_file = open_memstream(&p->log, &p->log_len);
	p->pcap_file = open_memstream((char **)&p->pcap, &p->pcap_len);
	fwrite(head, sizeof head, 1, p->pcap_file);
	p->ip = 0x0a000001;
	p->cx.base = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	p->cx.limit = STACK_MIN_BYTES;
	p->cx.now = p->epoch = DIALOGUE_BEGIN;
	p->cx.grow = region_grows;
	p->cx.tx = stack_sends;
	p->cx.arg = p;
	stack_config_defaults(&c);
	c.addr = ipaddr_v4(10, 0, 0, 2);
	c.prefix_len = 24;
	memcpy(c.mac, stack_mac, 6);
	c.mtu = 1500;
	c.device_caps = s.arp ? 0 : DEVICE_NO_ARP;
	if (s.configure)
		s.configure(&c);
	int r = stack_init(&p->cx, &c, seed);
	expect_equal(p, r, 0);
	p->sock = sock_create(&p->cx);
	expect_that(p, p->sock != REF_NONE);
	return p;
}

static void starts_now(struct peer *p)
{
	p->epoch = p->cx.now;
	expect_nothing(p);
}

static void wait_rtt(struct peer *p)
{
	advance_by(p, p->setup.rtt);
}

struct peer *peer_listen_with(struct setup s)
{
	struct peer *p = peer_closed(s);
	struct endpoint local = {ipaddr_v4(0, 0, 0, 0), 80};

	peer_switches(p, 80, 4000);
	if (s.prepare)
		s.prepare(&p->cx, p->sock);
	expect_equal(p, sock_listen(&p->cx, p->sock, &local, s.backlog), 0);
	expect_state(p, S_LISTEN);
	p->listener = p->sock;
	p->sock = REF_NONE;
	starts_now(p);
	return p;
}

struct peer *peer_syn_sent_with(struct setup s)
{
	struct peer *p = peer_closed(s);

	peer_switches(p, 4000, 80);
	if (s.prepare)
		s.prepare(&p->cx, p->sock);
	expect_equal(p, app_connect(p), -EINPROGRESS);
	expect_segment(p, SEG(.flags = SYN, .seq = 1000, .len = 0));
	expect_state(p, S_SYN_SENT);
	starts_now(p);
	return p;
}

struct peer *peer_syn_received_with(struct setup s)
{
	struct peer *p = peer_listen_with(s);

	peer_sends(p, NOW, SEG(.flags = SYN, .seq = 5000));
	expect_segment(p, SEG(.flags = SYN | ACK, .seq = 1000, .ack = 5001, .len = 0));
	expect_state(p, S_SYN_RECV);
	starts_now(p);
	return p;
}

struct peer *peer_syn_received_active_with(struct setup s)
{
	struct peer *p = peer_syn_sent_with(s);

	wait_rtt(p);
	peer_sends(p, NOW, SEG(.flags = SYN, .seq = 5000));
	expect_segment(p, SEG(.flags = SYN | ACK, .seq = 1000, .ack = 5001, .len = 0));
	expect_state(p, S_SYN_RECV);
	starts_now(p);
	return p;
}

struct peer *peer_established_with(struct setup s)
{
	struct peer *p = peer_syn_sent_with(s);

	wait_rtt(p);
	peer_sends(p, NOW, SEG(.flags = SYN | ACK, .seq = 5000, .ack = 1001));
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5001, .len = 0));
	expect_state(p, S_ESTABLISHED);
	expect_that(p, app_edges(p) & SOCK_OUT);
	expect_equal(p, app_connect(p), 0);
	starts_now(p);
	return p;
}

struct peer *peer_accepted_with(struct setup s)
{
	struct peer *p = peer_syn_received_with(s);

	wait_rtt(p);
	peer_sends(p, NOW, SEG(.flags = ACK, .seq = 5001, .ack = 1001));
	app_accept(p);
	expect_state(p, S_ESTABLISHED);
	starts_now(p);
	return p;
}

struct peer *peer_close_wait_with(struct setup s)
{
	struct peer *p = peer_established_with(s);

	peer_sends(p, NOW, SEG(.flags = FIN | ACK));
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5002));
	expect_state(p, S_CLOSE_WAIT);
	starts_now(p);
	return p;
}

struct peer *peer_fin_wait_1_with(struct setup s)
{
	struct peer *p = peer_established_with(s);

	app_shutdown(p, 1);
	expect_segment(p, SEG(.flags = FIN | ACK, .seq = 1001, .ack = 5001, .len = 0));
	expect_state(p, S_FIN_WAIT1);
	starts_now(p);
	return p;
}

struct peer *peer_fin_wait_2_with(struct setup s)
{
	struct peer *p = peer_fin_wait_1_with(s);

	wait_rtt(p);
	peer_sends(p, NOW, SEG(.flags = ACK, .ack = 1002));
	expect_state(p, S_FIN_WAIT2);
	starts_now(p);
	return p;
}

struct peer *peer_closing_with(struct setup s)
{
	struct peer *p = peer_fin_wait_1_with(s);

	peer_sends(p, NOW, SEG(.flags = FIN | ACK, .ack = 1001));
	expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002));
	expect_state(p, S_CLOSING);
	starts_now(p);
	return p;
}

struct peer *peer_last_ack_with(struct setup s)
{
	struct peer *p = peer_close_wait_with(s);

	app_shutdown(p, 1);
	expect_segment(p, SEG(.flags = FIN | ACK, .seq = 1001, .ack = 5002));
	expect_state(p, S_LAST_ACK);
	starts_now(p);
	return p;
}

struct peer *peer_time_wait_with(struct setup s)
{
	struct peer *p = peer_fin_wait_2_with(s);

	peer_sends(p, NOW, SEG(.flags = FIN | ACK));
	expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002));
	expect_state(p, S_TIME_WAIT);
	starts_now(p);
	return p;
}

struct peer *peer_orphan_time_wait_with(struct setup s)
{
	struct peer *p = peer_fin_wait_2_with(s);

	app_close(p);
	peer_sends(p, NOW, SEG(.flags = FIN | ACK));
	expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002));
	expect_equal(p, pool_live(&p->cx, POOL_TIMEWAIT), 1);
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 0);
	starts_now(p);
	return p;
}

/* ------------------------------------------------------------------ the program */

void test_register(struct test *t)
{
	struct test **at = &tests;

	while (*at && strcmp((*at)->file, t->file) <= 0)
		at = &(*at)->next;
	t->next = *at;
	*at = t;
}

static void run(const struct test *t)
{
	running = t;
	if (setjmp(leave) == 0) {
		t->body();
		if (current && current->queue_first != current->queue_last)
			fail_here(current, "a frame was emitted that the dialogue does not mention");
		CU_PASS("dialogue");
	}
	if (verbose && current) {
		fflush(current->log_file);
		printf("\n%s: %s\n%s", t->name, t->sentence, current->log);
	}
	if (current)
		peer_destroy(current);
	current = NULL;
}

static const struct test *to_run;
static void run_next(void)
{
	run(to_run);
}

static bool wanted(const struct test *t, int argc, char **argv)
{
	bool any = false;

	for (int i = 1; i < argc; i++) {
		if (argv[i][0] == '-')
			continue;
		any = true;
		if (strstr(t->name, argv[i]) || strstr(t->file, argv[i]))
			return true;
	}
	return !any;
}

/* Each dialogue is one CUnit test; CUnit has no argument for tests, so they run one by one. */
static unsigned run_suites(int argc, char **argv)
{
	CU_pSuite suite = NULL;
	const char *file = "";
	unsigned run_count = 0;

	for (struct test *t = tests; t; t = t->next) {
		if (!wanted(t, argc, argv))
			continue;
		if (strcmp(file, t->file) != 0)
			suite = CU_add_suite(file = t->file, NULL, NULL);
		CU_pTest unit = CU_add_test(suite, t->name, run_next);
		to_run = t;
		CU_run_test(suite, unit);
		run_count++;
	}
	return run_count;
}

int main(int argc, char **argv)
{
	static char dir[512];
	unsigned run_count;
	char *slash = strrchr(argv[0], '/');

	if (slash) {
		snprintf(dir, sizeof dir, "%.*s", (int)(slash - argv[0]), argv[0]);
		out_dir = dir;
	}
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-v") == 0)
			verbose = true;
		if (strcmp(argv[i], "--list") == 0) {
			for (struct test *t = tests; t; t = t->next)
				printf("%s: %s\n", t->name, t->sentence);
			return 0;
		}
	}
	CU_initialize_registry();
	CU_set_error_action(CUEA_IGNORE);
	run_count = run_suites(argc, argv);
	printf("segment dialogues: %u of %u passed\n", run_count - failed_count, run_count);
	CU_cleanup_registry();
	return failed_count != 0 || run_count == 0;
}
