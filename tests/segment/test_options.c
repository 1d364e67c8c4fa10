/*
 * test_options.c - TCP options as they come, well formed or not, and IP's.
 */
#include "dialogue.h"

/* A SYN with these option bytes to a listener; the segment size that follows from it. */
static uint32_t mss_after(struct peer *p, const uint8_t *options, uint32_t len)
{
	static uint16_t port = 3000;

	peer_switches(p, 80, ++port);
	peer_sends(p, NOW, SEG(.flags = SYN, .mss = ABSENT, .raw_options = options, .raw_options_len = len));
	expect_segment(p, SEG(.flags = SYN | ACK, .ack = 5001));
	peer_sends(p, NOW, SEG(.flags = ACK));
	app_accept(p);
	app_write(p, 4000);
	struct emitted *e = peer_takes(p);
	expect_that(p, e);
	uint32_t mss = e->im.len;
	peer_takes_all(p);
	return mss;
}

TEST(mss_in_any_place, "MUST-4, MUST-64, MUST-68: MSS is found between NOPs, before EOL, at odd offsets")
{
	struct peer *p = peer_listen();
	static const uint8_t a[] = {2, 4, 3, 232}, b[] = {1, 2, 4, 3, 232, 1, 1, 1},
			     c[] = {1, 1, 1, 2, 4, 3, 232, 0}, d[] = {2, 4, 3, 232, 0, 9, 9, 9},
			     e[] = {253, 4, 1, 2, 2, 4, 3, 232}, f[] = {1, 253, 3, 0, 2, 4, 3, 232};

	expect_equal(p, mss_after(p, a, sizeof a), 1000);
	expect_equal(p, mss_after(p, b, sizeof b), 1000);
	expect_equal(p, mss_after(p, c, sizeof c), 1000);
	expect_equal(p, mss_after(p, d, sizeof d), 1000);
	expect_equal(p, mss_after(p, e, sizeof e), 1000);
	expect_equal(p, mss_after(p, f, sizeof f), 1000);
}

TEST(garbage_after_eol, "MUST-69: what follows EOL is ignored")
{
	struct peer *p = peer_listen();
	static const uint8_t a[] = {0, 2, 4, 1, 0, 3, 3, 3};

	expect_equal(p, mss_after(p, a, sizeof a), 536);
}

TEST(unknown_option, "MUST-5, MUST-6: unknown options are skipped by their length in SYN, data, FIN and RST")
{
	struct peer *p = peer_established();
	static const uint8_t o[] = {253, 6, 1, 2, 3, 4, 1, 1};

	peer_sends(p, AT_MS(1), SEG(.len = 10, .raw_options = o, .raw_options_len = sizeof o));
	expect_segment(p, SEG(.ack = 5011));
	app_read(p, 10);
	peer_sends(p, AT_MS(2), SEG(.flags = FIN | ACK, .raw_options = o, .raw_options_len = sizeof o));
	expect_segment(p, SEG(.ack = 5012));
	peer_sends(p, AT_MS(3), SEG(.flags = RST, .raw_options = o, .raw_options_len = sizeof o));
	expect_state(p, S_CLOSE);
}

TEST(illegal_option_length,
     "MUST-7, AMNESIA:33, TLDK: option length 0, 1 or beyond the header neither loops nor is believed")
{
	struct peer *p = peer_listen();

	for (int kind = 2; kind < 256; kind++)
		for (int size = 0; size < 42; size++) {
			uint8_t o[8] = {(uint8_t)kind, (uint8_t)size, 1, 1, 1, 1, 1, 1};
			peer_switches(p, 80, 4000);
			peer_sends(p, NOW,
				   SEG(.flags = SYN, .mss = ABSENT, .raw_options = o, .raw_options_len = 8));
			p->queue_first = p->queue_last = 0;
			peer_sends(p, NOW, SEG(.flags = RST, .seq = 5001));
			p->conv->emitter.edge_known = false;
			p->conv->peer_next = PEER_ISS;
			/* keep the log small */
			rewind(p->log_file);
			rewind(p->pcap_file);
			p->queue_first = p->queue_last = 0;
		}
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 1);
}

TEST(illegal_option_on_data, "MUST-7: a data segment with a malformed option does not break the connection")
{
	struct peer *p = peer_established();
	static const uint8_t o[] = {5, 0, 0, 0};

	peer_sends(p, AT_MS(1), SEG(.len = 10, .raw_options = o, .raw_options_len = sizeof o));
	peer_takes_all(p);
	peer_sends(p, AT_MS(2), SEG(.seq = 5001, .len = 10));
	peer_takes_all(p);
	app_read(p, 10);
	expect_equal(p, app_try_read(p, 10, 0), -EAGAIN);
}

TEST(mss_on_data_ignored, "MUST-65: an MSS option outside a SYN changes nothing")
{
	struct peer *p = peer_established();
	static const uint8_t o[] = {2, 4, 0, 100};

	peer_sends(p, AT_MS(1), SEG(.raw_options = o, .raw_options_len = sizeof o));
	app_write(p, 2000);
	expect_segment(p, SEG(.len = 1460));
	peer_takes_all(p);
}

TEST(tiny_mss, "CVE-2019-11479, requirements 4 (missing MSS, division by zero): MSS 0 or 1 from the peer is "
	       "raised to a floor")
{
	struct peer *p = peer_listen();
	static const uint8_t zero[] = {2, 4, 0, 0}, one[] = {2, 4, 0, 1};

	expect_that(p, mss_after(p, zero, 4) >= 24);
	uint32_t small = mss_after(p, one, 4);
	expect_that(p, small >= 24 && small <= 536);
}

TEST(maxseg_option,
     "MUST-16, SHLD-5: TCP_MAXSEG set before the open limits both what we announce and what we send")
{
	struct peer *p = peer_closed(WITH());

	peer_switches(p, 4000, 80);
	app_set(p, SOCK_OPT_MAXSEG, 700);
	app_connect(p);
	expect_segment(p, SEG(.flags = SYN, .mss = 700));
	peer_sends(p, AT_MS(1), SEG(.flags = SYN | ACK));
	expect_segment(p, SEG(.flags = ACK));
	app_write(p, 2000);
	expect_segment(p, SEG(.len = 700));
	peer_takes_all(p);
}

TEST(checksum_verified,
     "MUST-3: a segment with a wrong checksum is dropped without an answer; the good copy is taken")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(1), SEG(.len = 100, .bad_checksum = true));
	expect_nothing(p);
	expect_equal(p, counter(p, tcp_bad_csum), 1);
	expect_equal(p, app_try_read(p, 1, 0), -EAGAIN);
	peer_sends(p, AT_MS(2), SEG(.seq = 5001, .len = 100));
	expect_segment(p, SEG(.ack = 5101));
	app_read(p, 100);
}

TEST(checksum_emitted, "MUST-2: segments of every small and odd length carry a right checksum")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_NODELAY, 1);
	for (uint32_t n = 1; n < 80; n++) {
		app_write(p, n);
		expect_segment(p, SEG(.len = n));
		peer_sends(p, NOW, SEG());
	}
}

TEST(tos_and_ttl,
     "MUST-48, SHLD-21, SHLD-22, MUST-49: IP_TOS and IP_TTL show on the wire, also when changed on the way")
{
	struct peer *p = peer_established();

	app_write(p, 1);
	expect_segment(p, SEG(.len = 1, .tos = 0, .ttl = 64));
	app_set(p, SOCK_OPT_TOS, 0x48);
	app_set(p, SOCK_OPT_TTL, 33);
	app_set(p, SOCK_OPT_NODELAY, 1);
	app_write(p, 1);
	expect_segment(p, SEG(.len = 1, .tos = 0x48, .ttl = 33));
}

/* The frame of a SYN, with room for `extra` bytes of IP options. */
static uint32_t syn_with_ip_options(struct peer *p, uint8_t *frame, const uint8_t *options, uint32_t extra)
{
	uint8_t plain[200];
	uint32_t len = peer_frame(p, SEG(.flags = SYN, .seq = 5000), plain);

	memcpy(frame, plain, IMAGE_ETHER + 20);
	memcpy(frame + IMAGE_ETHER + 20, options, extra);
	memcpy(frame + IMAGE_ETHER + 20 + extra, plain + IMAGE_ETHER + 20, len - IMAGE_ETHER - 20);
	frame[IMAGE_ETHER] = (uint8_t)(0x45 + extra / 4);
	frame[IMAGE_ETHER + 3] = (uint8_t)(frame[IMAGE_ETHER + 3] + extra);
	image_seal(frame, len + extra);
	return len + extra;
}

TEST(ip_options, "MUST-50, MAY-10, MAY-11: IP options that we do not know are ignored, the segment is taken")
{
	struct peer *p = peer_listen();
	static const uint8_t router_alert[4] = {0x94, 4, 0, 0};
	uint8_t frame[300];

	peer_sends_frame(p, AT_MS(1), frame, syn_with_ip_options(p, frame, router_alert, 4));
	expect_segment(p, SEG(.flags = SYN | ACK, .ack = 5001));
}

TEST(source_route, "MUST-51, MUST-52, MUST-53, RFC 7126: source-routed datagrams are dropped and counted "
		   "(documented deviation)")
{
	struct peer *p = peer_listen();
	static const uint8_t lsrr[8] = {0x83, 7, 4, 10, 0, 0, 9, 0};
	uint8_t frame[300];

	peer_sends_frame(p, AT_MS(1), frame, syn_with_ip_options(p, frame, lsrr, 8));
	expect_nothing(p);
	expect_equal(p, counter(p, ip_source_route), 1);
}

TEST(data_offset, "requirements 4 (bad data offset), CVE-2021-31401: a data offset below 20 or beyond the "
		  "segment is dropped")
{
	struct peer *p = peer_listen();
	uint8_t frame[300];

	for (int words = 0; words < 16; words++) {
		uint32_t len = peer_frame(p, SEG(.flags = SYN, .seq = 5000), frame);
		if (words == 5 || words == 6)
			continue;
		frame[IMAGE_ETHER + 20 + 12] = (uint8_t)(words << 4);
		image_seal(frame, len);
		peer_sends_frame(p, AT_MS(words), frame, len);
	}
	expect_nothing(p);
	expect_that(p, counter(p, tcp_bad_header) >= 14);
}

TEST(ip_lengths,
     "requirements 3 (IP length inconsistency), Ripple20: every disagreement of lengths is dropped")
{
	struct peer *p = peer_listen();
	uint8_t frame[300] = {0};

	for (int ihl = 0; ihl < 16; ihl++)
		for (uint32_t total = 0; total < 60; total++) {
			uint32_t len = peer_frame(p, SEG(.flags = SYN, .seq = 5000), frame);
			if (ihl == 5 && total == len - IMAGE_ETHER)
				continue;
			frame[IMAGE_ETHER] = (uint8_t)(0x40 | ihl);
			frame[IMAGE_ETHER + 3] = (uint8_t)total;
			frame[IMAGE_ETHER + 10] = frame[IMAGE_ETHER + 11] = 0;
			uint16_t sum = image_checksum(frame + IMAGE_ETHER, MAX_OF(20u, (uint32_t)ihl * 4), 0);
			frame[IMAGE_ETHER + 10] = (uint8_t)(sum >> 8);
			frame[IMAGE_ETHER + 11] = (uint8_t)sum;
			peer_sends_frame(p, NOW, frame, len);
			for (uint32_t cut = 0; cut < len; cut += 3) {
				/* heap copies, so that a sanitizer sees an overrun */
				uint8_t *short_frame = __builtin_malloc(cut + 1);
				memcpy(short_frame, frame, cut);
				peer_sends_frame(p, NOW, short_frame, cut);
				__builtin_free(short_frame);
			}
			rewind(p->log_file);
			rewind(p->pcap_file);
		}
	expect_nothing(p);
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 1);
}

TEST(ip_version, "requirements 4 (bad IP version): only version 4 is taken")
{
	struct peer *p = peer_listen();
	uint8_t frame[300];

	for (int v = 0; v < 16; v++) {
		uint32_t len = peer_frame(p, SEG(.flags = SYN, .seq = 5000), frame);
		if (v == 4)
			continue;
		frame[IMAGE_ETHER] = (uint8_t)(v << 4 | 5);
		image_seal(frame, len);
		peer_sends_frame(p, AT_MS(v), frame, len);
	}
	expect_nothing(p);
}

TEST(ip_padding, "requirements 2 (IPv4): Ethernet padding behind the datagram is cut off")
{
	struct peer *p = peer_established();
	uint8_t frame[300] = {0};
	uint32_t len = peer_frame(p, SEG(.len = 1), frame);

	memset(frame + len, 0xaa, 60 - len);
	peer_sends_frame(p, AT_MS(1), frame, 60);
	peer_takes_all(p);
	app_read(p, 1);
	expect_equal(p, app_try_read(p, 1, 0), -EAGAIN);
	peer_takes_all(p);
}

TEST(ip_fragment, "requirements 3 (fragments): fragments are dropped and counted")
{
	struct peer *p = peer_listen();
	uint8_t frame[300];
	uint32_t len = peer_frame(p, SEG(.flags = SYN, .seq = 5000), frame);

	frame[IMAGE_ETHER + 6] = 0x20;
	image_seal(frame, len);
	peer_sends_frame(p, AT_MS(1), frame, len);
	frame[IMAGE_ETHER + 6] = 0;
	frame[IMAGE_ETHER + 7] = 1;
	image_seal(frame, len);
	peer_sends_frame(p, AT_MS(1), frame, len);
	expect_nothing(p);
	expect_equal(p, counter(p, ip_fragments), 2);
}
