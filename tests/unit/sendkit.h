/*
 * sendkit.h - a connection of our stack with a peer made by hand, for the tests
 * of TCP's sending half: numbers are relative to the first octet of data (1, as
 * in captures), the peer's window is not scaled.
 */
#ifndef TESTS_UNIT_SENDKIT_H
#define TESTS_UNIT_SENDKIT_H

#include <stdlib.h>

#include "core/send.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

#define KIT_TS	 1u
#define KIT_SACK 2u
#define KIT_TSO	 4u
#define KIT_RENO 8u
#define KIT_MS	 NS_PER_MS

struct kit {
	struct testcx x;
	ref sock;
	unsigned options;
	uint32_t iss, peer_seq; /* the peer's next sequence number */
	uint32_t peer_ts;
	uint16_t port;
	uint32_t echo; /* the timestamp that the peer echoes; 0: the newest it saw */
	uint32_t last_ts;
};

struct kit_range {
	uint32_t start, end;
};

static struct ipaddr kit_peer_addr(void)
{
	return ipaddr_v4(10, 0, 0, 1);
}

static struct tcb *kit_tcb(struct kit *k)
{
	return tcb_at(&k->x.cx, k->sock);
}

/* A recorded frame; sequence number and length by name. */
static struct segment kit_frame(struct kit *k, uint32_t i)
{
	struct segment s;

	memset(&s, 0, sizeof s);
	CHECK(i < k->x.frame_count);
	if (i >= k->x.frame_count)
		return s;
	const struct testcx_frame *f = &k->x.frame[i];
	memset(&s, 0, sizeof s);
	CHECK_EQ(wire_parse(f->data + 34, f->len - 34, &s), 0);
	s.seq.v -= k->iss;
	s.gso_size = f->gso_size;
	if (s.has_ts)
		k->last_ts = s.ts_val;
	return s;
}

static void kit_learn(struct kit *k)
{
	for (uint32_t i = 0; i < k->x.frame_count; i++)
		(void)kit_frame(k, i);
}

/* ARP is no part of these tests: its requests are taken away and answered. */
static void kit_serve_arp(struct kit *k)
{
	struct ipaddr peer = kit_peer_addr();
	uint32_t kept = 0, asked = 0;

	for (uint32_t i = 0; i < k->x.frame_count; i++) {
		struct testcx_frame f = k->x.frame[i];
		if (f.data[12] == 8 && f.data[13] == 6) {
			free(f.data);
			asked++;
		} else {
			k->x.frame[kept++] = f;
		}
	}
	k->x.frame_count = kept;
	if (asked)
		testcx_arp(&k->x, 2, testcx_peer_mac, &peer, &k->x.config.addr);
}

static void kit_input(struct kit *k, uint8_t flags, uint32_t ack, uint32_t wnd, const struct wire_options *o,
		      uint32_t len)
{
	uint8_t tcp[60 + 1460], frame[34 + 60 + 1460];

	memset(tcp, 'p', sizeof tcp);
	uint32_t n = wire_build(tcp, 80, k->port, seq_of(k->peer_seq), seq_of(k->iss + ack), flags,
				(uint16_t)wnd, 0, o);
	struct ipaddr peer = kit_peer_addr();
	uint32_t total = testcx_ipv4(frame, &peer, &k->x.config.addr, 6, tcp, n + len);
	stack_input(&k->x.cx, &(struct frame_rx){.data = frame, .len = total, .csum = FRAME_CSUM_TRUSTED});
	stack_flush(&k->x.cx);
	kit_serve_arp(k);
	k->peer_seq += len + ((flags & TH_SYN) != 0) + ((flags & TH_FIN) != 0);
}

static struct wire_options kit_options(struct kit *k)
{
	struct wire_options o;

	memset(&o, 0, sizeof o);
	if (k->options & KIT_TS) {
		o.ts = true;
		o.ts_val = ++k->peer_ts;
		o.ts_ecr = k->echo ? k->echo : k->last_ts;
	}
	return o;
}

/* An ACK of the peer with SACK blocks; what we sent before is forgotten. */
__attribute__((unused)) static void kit_ack_sack(struct kit *k, uint32_t ack, uint32_t wnd, int n,
						 const struct kit_range *r)
{
	kit_learn(k);
	testcx_forget(&k->x);
	struct wire_options o = kit_options(k);
	o.sack_count = (uint8_t)n;
	for (int i = 0; i < n; i++)
		o.sack[i] = (struct sack_block){seq_of(k->iss + r[i].start), seq_of(k->iss + r[i].end)};
	kit_input(k, TH_ACK, ack, wnd, &o, 0);
}

__attribute__((unused)) static void kit_ack(struct kit *k, uint32_t ack, uint32_t wnd)
{
	kit_ack_sack(k, ack, wnd, 0, NULL);
}

__attribute__((unused)) static void kit_data(struct kit *k, uint32_t ack, uint32_t wnd, uint32_t len)
{
	kit_learn(k);
	testcx_forget(&k->x);
	struct wire_options o = kit_options(k);
	kit_input(k, TH_ACK | TH_PSH, ack, wnd, &o, len);
}

/* Let time pass, every timer at its moment. */
__attribute__((unused)) static void kit_wait(struct kit *k, nsec time)
{
	nsec end = k->x.cx.now + time;

	for (nsec d; (d = stack_deadline(&k->x.cx)) <= end;) {
		k->x.cx.now = MAX_OF(d, k->x.cx.now);
		stack_advance(&k->x.cx);
		kit_serve_arp(k);
	}
	k->x.cx.now = end;
}

__attribute__((unused)) static int64_t kit_write(struct kit *k, uint32_t len, uint32_t flags)
{
	static uint8_t zero[1 << 20];
	struct iovec v = {zero, len};
	int64_t n = sock_send(&k->x.cx, k->sock, &v, 1, flags);

	stack_flush(&k->x.cx);
	return n;
}

/* An established connection; the handshake took rtt. */
__attribute__((unused)) static void kit_open(struct kit *k, unsigned options, uint32_t wnd, uint16_t mss,
					     nsec rtt)
{
	struct endpoint local = {ipaddr_v4(0, 0, 0, 0), 0}, remote = {kit_peer_addr(), 80};

	memset(k, 0, sizeof *k);
	k->options = options;
	testcx_config(&k->x);
	k->x.config.device_caps = options & KIT_TSO ? DEVICE_TX_CSUM | DEVICE_TX_TSO4 : 0;
	k->x.config.cc = options & KIT_RENO ? STACK_CC_RENO : STACK_CC_CUBIC;
	k->x.config.mtu = 1500;
	CHECK_EQ(testcx_open(&k->x), 0);
	testcx_meet_peer(&k->x);
	k->sock = sock_create(&k->x.cx);
	CHECK_EQ(sock_connect(&k->x.cx, k->sock, &local, &remote), -EINPROGRESS);
	CHECK_EQ(k->x.frame_count, 1);
	struct segment syn = kit_frame(k, 0);
	k->iss = syn.seq.v;
	k->port = syn.src.port;
	k->port = kit_tcb(k)->local.port;
	k->peer_seq = 0x70000000;
	k->peer_ts = 5000;
	k->x.cx.now += rtt;
	testcx_forget(&k->x);
	struct wire_options o = kit_options(k);
	o.mss = true;
	o.mss_value = mss;
	o.sack_permitted = options & KIT_SACK;
	o.wscale = true;
	kit_input(k, TH_SYN | TH_ACK, 1, wnd, &o, 0);
	CHECK_EQ(kit_tcb(k)->state, TCPS_ESTABLISHED);
	kit_learn(k);
	testcx_forget(&k->x);
}

__attribute__((unused)) static void kit_close(struct kit *k)
{
	testcx_close(&k->x);
}

/* The i-th frame sent since the last input is [seq, seq + len). */
#define CHECK_SENT(k, i, at, length)                                                                         \
	do {                                                                                                 \
		struct segment s_ = kit_frame(k, i);                                                         \
		CHECK_EQ(s_.seq.v, at);                                                                      \
		CHECK_EQ(s_.len, length);                                                                    \
	} while (0)

#endif
