/*
 * dialogue_peer.c - the peer: the segments that it sends, with natural values for all that a test leaves out,
 * and those that it expects.
 */
#include "dialogue_parts.h"

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
