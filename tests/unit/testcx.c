/* testcx.c - see testcx.h. */
#include "tests/unit/testcx.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

const uint8_t testcx_mac[6] = {2, 0, 0, 0, 0, 2}, testcx_peer_mac[6] = {2, 0, 0, 0, 0, 1};

static int grow(struct stack_cx *cx, uint64_t bytes)
{
	struct testcx *t = (struct testcx *)cx;

	if (bytes > t->grow_max || bytes > t->reserved)
		return -ENOMEM;
	cx->limit = bytes;
	return 0;
}

static int record(struct stack_cx *cx, const struct frame_tx *f)
{
	struct testcx *t = (struct testcx *)cx;

	t->heard++;
	if (t->tx_result < 0 || t->frame_count == TESTCX_FRAMES)
		return t->tx_result;
	struct testcx_frame *r = &t->frame[t->frame_count++];
	*r = (struct testcx_frame){
	    .len = f->header_len + f->payload_len, .gso_size = f->gso_size, .csum_offset = f->csum_offset};
	r->data = malloc(r->len);
	memcpy(r->data, f->header, f->header_len);
	for (uint32_t i = 0, at = f->header_len; i < f->piece_count; at += f->piece[i++].len)
		memcpy(r->data + at, f->piece[i].data, f->piece[i].len);
	return t->tx_result;
}

void testcx_config(struct testcx *t)
{
	memset(t, 0, sizeof *t);
	stack_config_defaults(&t->config);
	t->config.addr = ipaddr_v4(10, 0, 0, 2);
	t->config.gateway = ipaddr_v4(10, 0, 0, 1);
	memcpy(t->config.mac, testcx_mac, 6);
	t->reserved = t->grow_max = 1ull << 32;
	t->cx.now = 1000 * NS_PER_S;
}

int testcx_open(struct testcx *t)
{
	uint8_t seed[32];

	for (int i = 0; i < 32; i++)
		seed[i] = (uint8_t)(7 * i + 1);
	void *p = mmap(NULL, t->reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	t->cx.base = p;
	t->cx.limit = STACK_MIN_BYTES;
	t->cx.grow = grow;
	t->cx.tx = record;
	return stack_init(&t->cx, &t->config, seed);
}

void testcx_start(struct testcx *t)
{
	testcx_config(t);
	int err = testcx_open(t);
	if (err) {
		fprintf(stderr, "testcx_start: stack_init: %s\n", strerror(-err));
		abort();
	}
}

void testcx_forget(struct testcx *t)
{
	while (t->frame_count)
		free(t->frame[--t->frame_count].data);
}

void testcx_close(struct testcx *t)
{
	testcx_forget(t);
	if (t->cx.base)
		munmap(t->cx.base, t->reserved);
	t->cx.base = NULL;
}

void testcx_input(struct testcx *t, const uint8_t *frame, uint32_t len)
{
	/* in a block of its own size, so that a sanitizer sees a read beyond it */
	uint8_t *exact = malloc(len ? len : 1);
	memcpy(exact, frame, len);
	stack_input(&t->cx, &(struct frame_rx){.data = exact, .len = len});
	stack_flush(&t->cx);
	free(exact);
}

static void put_be16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

void testcx_arp(struct testcx *t, uint16_t op, const uint8_t sender_mac[6], const struct ipaddr *sender,
		const struct ipaddr *target)
{
	static const uint8_t head[8] = {0, 1, 8, 0, 6, 4, 0, 0};
	uint8_t f[60] = {0};

	memcpy(f, op == 2 ? testcx_mac : (const uint8_t[6]){255, 255, 255, 255, 255, 255}, 6);
	memcpy(f + 6, sender_mac, 6);
	put_be16(f + 12, 0x0806);
	memcpy(f + 14, head, 8);
	put_be16(f + 20, op);
	memcpy(f + 22, sender_mac, 6);
	memcpy(f + 28, sender->b + 12, 4);
	memcpy(f + 38, target->b + 12, 4);
	testcx_input(t, f, sizeof f);
}

void testcx_ipv4_checksum(uint8_t *frame)
{
	uint32_t len = (frame[14] & 15u) * 4, sum = 0;

	put_be16(frame + 24, 0);
	for (uint32_t i = 0; i < len; i += 2)
		sum += (uint32_t)frame[14 + i] << 8 | frame[15 + i];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put_be16(frame + 24, ~sum & 0xffff);
}

uint32_t testcx_ipv4(uint8_t *frame, const struct ipaddr *src, const struct ipaddr *dst, uint8_t proto,
		     const void *payload, uint32_t len)
{
	memset(frame, 0, 34);
	memcpy(frame, testcx_mac, 6);
	memcpy(frame + 6, testcx_peer_mac, 6);
	put_be16(frame + 12, 0x0800);
	frame[14] = 0x45;
	put_be16(frame + 16, 20 + len);
	frame[22] = 64;
	frame[23] = proto;
	memcpy(frame + 26, src->b + 12, 4);
	memcpy(frame + 30, dst->b + 12, 4);
	testcx_ipv4_checksum(frame);
	memmove(frame + 34, payload, len);
	return 34 + len;
}

void testcx_meet_peer(struct testcx *t)
{
	struct ipaddr peer = ipaddr_v4(10, 0, 0, 1);

	testcx_arp(t, 1, testcx_peer_mac, &peer, &t->config.addr);
	testcx_forget(t);
}
