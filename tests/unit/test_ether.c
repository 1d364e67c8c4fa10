/* test_ether.c - Ethernet frames: which are taken, which are counted, and what leaves. */
#include <stdlib.h>

#include "core/net.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

static struct testcx t;
static const struct ipaddr peer = {{[10] = 0xff, 0xff, 10, 0, 0, 1}};
static const uint8_t everybody[6] = {255, 255, 255, 255, 255, 255};

/* An echo request from the peer: answered if and only if it comes through. */
static uint32_t echo_request(uint8_t *frame)
{
	static const uint8_t icmp[12] = {8, 0, 0xf7, 0xff}; /* checksum: all else is zero */

	return testcx_ipv4(frame, &peer, &t.config.addr, 1, icmp, sizeof icmp);
}
static uint64_t bad(void)
{
	return stack_counters(&t.cx)->ether_bad;
}
static void begin(void)
{
	testcx_start(&t);
	testcx_meet_peer(&t);
}

/* Fourteen octets are a frame (of nothing), thirteen are none. */
static void test_runts(void)
{
	uint8_t f[64];

	begin();
	echo_request(f);
	for (uint32_t len = 0; len < 14; len++)
		testcx_input(&t, f, len);
	CHECK_EQ(bad(), 14);
	CHECK_EQ(stack_counters(&t.cx)->ip_bad_header, 0);
	testcx_input(&t, f, 14);
	CHECK_EQ(bad(), 14);
	CHECK_EQ(stack_counters(&t.cx)->ip_bad_header, 1);
	CHECK_EQ(stack_counters(&t.cx)->frames_in, 1 /* the ARP of begin() */ + 15);
	testcx_close(&t);
}

/* The longest IPv4 datagram fits; one octet more is no frame of any device. */
static void test_longest(void)
{
	uint8_t *f = calloc(1, FRAME_LEN_MAX + 1);

	begin();
	echo_request(f);
	testcx_input(&t, f, FRAME_LEN_MAX); /* padding behind the datagram is none of IP's business */
	CHECK_EQ(bad(), 0);
	CHECK_EQ(t.frame_count, 1);
	testcx_input(&t, f, FRAME_LEN_MAX + 1);
	CHECK_EQ(bad(), 1);
	CHECK_EQ(t.frame_count, 1);
	free(f);
	testcx_close(&t);
}

/* Ours and broadcast are taken; groups are not for us, silently; a foreign unicast address is an error. */
static void test_destination(void)
{
	uint8_t f[64];

	begin();
	uint32_t len = echo_request(f);
	testcx_input(&t, f, len);
	CHECK_EQ(stack_counters(&t.cx)->icmp_echo, 1);
	memcpy(f, everybody, 6);
	testcx_input(&t, f, len); /* taken, but RFC 1122 3.2.2.6 and 3.3.6: such an echo is not answered */
	CHECK_EQ(stack_counters(&t.cx)->icmp_in, 2);
	CHECK_EQ(stack_counters(&t.cx)->icmp_echo, 1);
	memcpy(f, (const uint8_t[6]){1, 0, 0x5e, 0, 0, 1}, 6);
	testcx_input(&t, f, len);
	memcpy(f, everybody, 6);
	f[5] = 0xfe; /* nearly broadcast is a group */
	testcx_input(&t, f, len);
	CHECK_EQ(stack_counters(&t.cx)->icmp_in, 2);
	CHECK_EQ(bad(), 0);
	for (int i = 0; i < 6; i++) { /* each octet of our address counts */
		memcpy(f, testcx_mac, 6);
		f[i] ^= 0x10;
		testcx_input(&t, f, len);
		CHECK_EQ(bad(), i + 1);
	}
	CHECK_EQ(stack_counters(&t.cx)->icmp_in, 2);
	testcx_close(&t);
}

/* Nobody sends from a group, and our own frames do not come back. */
static void test_source(void)
{
	uint8_t f[64];

	begin();
	uint32_t len = echo_request(f);
	f[6] |= 1;
	testcx_input(&t, f, len);
	CHECK_EQ(bad(), 1);
	memcpy(f + 6, testcx_mac, 6);
	testcx_input(&t, f, len);
	CHECK_EQ(bad(), 2);
	memcpy(f, (const uint8_t[6]){1, 0, 0x5e, 0, 0, 1}, 6);
	testcx_input(&t, f, len); /* whatever it was sent to */
	CHECK_EQ(bad(), 3);
	CHECK_EQ(stack_counters(&t.cx)->icmp_in, 0);
	testcx_close(&t);
}

static void test_types(void)
{
	static const uint16_t foreign[] = {0,	   46,	   0x05dc, 0x0600, 0x07ff,
					   0x0801, 0x8035, 0x8100, 0x86dd, 0x88a8};
	uint8_t f[64];

	begin();
	uint32_t len = echo_request(f);
	for (unsigned i = 0; i < ARRAY_LEN(foreign); i++) {
		put16(f + 12, foreign[i]);
		testcx_input(&t, f, len);
		CHECK_EQ(bad(), i + 1);
	}
	put16(f + 12, ETHERTYPE_ARP);
	testcx_input(&t, f, len);
	CHECK_EQ(bad(), ARRAY_LEN(foreign));
	CHECK_EQ(stack_counters(&t.cx)->arp_bad, 1);
	CHECK_EQ(t.frame_count, 0);
	testcx_close(&t);
}

/* A link without neighbours: addresses mean nothing. */
static void test_no_neighbours(void)
{
	uint8_t f[64];

	testcx_config(&t);
	t.config.device_caps = DEVICE_NO_ARP;
	CHECK_FATAL(testcx_open(&t) == 0);
	uint32_t len = echo_request(f);
	memset(f, 0, 12);
	testcx_input(&t, f, len);
	memset(f, 0xff, 12);
	testcx_input(&t, f, len);
	CHECK_EQ(bad(), 0);
	CHECK_EQ(stack_counters(&t.cx)->icmp_echo, 2);
	testcx_input(&t, f, 13);
	CHECK_EQ(bad(), 1);
	testcx_close(&t);
}

static void test_header(void)
{
	uint8_t f[16] = {[14] = 0xaa, [15] = 0xbb};
	static const uint8_t to_peer[16] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5, 0xaa, 0xbb};

	testcx_start(&t);
	ether_header(&t.cx, f, testcx_peer_mac, 0x88b5);
	CHECK_MEM_EQ(f, to_peer, 16);
	ether_header(&t.cx, f, NULL, ETHERTYPE_ARP);
	CHECK_MEM_EQ(f, everybody, 6);
	CHECK_MEM_EQ(f + 6, testcx_mac, 6);
	CHECK_EQ(get16(f + 12), ETHERTYPE_ARP);
	testcx_close(&t);
}

/* The device's answer is passed up; a refused frame counts as sent, and as lost. */
static void test_output(void)
{
	struct frame_tx f = {.header_len = 14};
	static const struct {
		int answer;
		uint64_t errors;
	} row[] = {{0, 0}, {1, 0}, {-ENOBUFS, 1}, {-EIO, 2}, {0, 2}};

	testcx_start(&t);
	for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
		t.tx_result = row[i].answer;
		CHECK_EQ(ether_output(&t.cx, &f), row[i].answer);
		CHECK_EQ(stack_counters(&t.cx)->frames_out, i + 1);
		CHECK_EQ(stack_counters(&t.cx)->tx_errors, row[i].errors);
	}
	testcx_close(&t);
}

CHECK_MAIN("ether", {"runts", test_runts}, {"the longest frame", test_longest},
	   {"RFC 1122 3.3.6: destinations", test_destination}, {"sources", test_source},
	   {"foreign types", test_types}, {"a link without neighbours", test_no_neighbours},
	   {"the header", test_header}, {"the device's answer", test_output})
