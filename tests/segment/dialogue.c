/*
 * dialogue.c - a stack and the world around it, for one dialogue: its region, its clock, the frames that it
 * emits and the application above it.
 *
 * The stack's frames are cut to wire size by frame_segment(), checked, and put on a queue from which
 * expect_segment() (dialogue_peer.c) takes them in order. After whatever a dialogue does settle() flushes the
 * stack, collects the readiness edges and verifies every invariant.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "dialogue_parts.h"

#define REGION_BYTES (256ull << 20)

const uint8_t stack_mac[6] = {2, 0, 0, 0, 0, 2}, peer_mac[6] = {2, 0, 0, 0, 0, 1};
static struct peer *current;

struct peer *dialogue_current(void)
{
	return current;
}

void log_line(struct peer *p, const char *format, ...)
{
	va_list ap;
	int64_t us = (int64_t)(p->cx.now - p->epoch) / (int64_t)NS_PER_US;

	fprintf(p->log_file, "  %+12.3f ms  ", (double)us / 1000);
	va_start(ap, format);
	vfprintf(p->log_file, format, ap);
	va_end(ap);
	fputc('\n', p->log_file);
}

/* ------------------------------------------------------------------ frames from the stack */

void pcap_append(struct peer *p, const uint8_t *frame, uint32_t len)
{
	pcap_write(p->pcap_file, p->cx.now, frame, len);
}

struct conversation *conversation(struct peer *p, uint16_t our_port, uint16_t peer_port)
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
			fail_here(p, "emitted payload differs at stream offset %u", offset + i);
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
		fail_here(p, "%s", bad);
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
		fail_here(p, "%s", bad);
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

void settle(struct peer *p)
{
	uint32_t edges;
	ref s;

	stack_flush(&p->cx);
	while ((s = sock_next_edge(&p->cx, &edges)) != REF_NONE)
		if (s == p->sock)
			p->edges |= edges;
	const char *bad = stack_verify(&p->cx);
	if (bad)
		fail_here(p, "stack_verify: %s", bad);
}

void dialogue_end(void)
{
	struct peer *p = current;

	if (!p)
		return;
	current = NULL;
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

	dialogue_end();
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
			fail_here(p, "wrong byte delivered at stream offset %llu",
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
