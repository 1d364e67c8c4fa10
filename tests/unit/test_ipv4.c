/* test_ipv4.c - RFC 791, RFC 1122 3.2: which datagrams are taken, and what is sent. */
#include "core/net.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

static struct testcx t;
static const struct ipaddr peer = {{[10] = 0xff, 0xff, 10, 0, 0, 1}};
static uint8_t frame[2048];

/* A TCP ACK to a closed port, which a sound stack answers with RST. */
static uint32_t tcp_frame(const struct ipaddr *src, const struct ipaddr *dst)
{
	uint8_t tcp[20];

	wire_build(tcp, 1000, 2000, seq_of(1), seq_of(2), TH_ACK, 100, 0, NULL);
	uint16_t sum = (uint16_t)~csum_fold(csum_partial(tcp, 20, csum_tcp_pseudo(src, dst, 20)));
	memcpy(tcp + 16, &sum, 2);
	return testcx_ipv4(frame, src, dst, 6, tcp, 20);
}

static uint64_t tcp_in(void)
{
	return stack_counters(&t.cx)->tcp_in;
}

static void start(void)
{
	testcx_start(&t);
	testcx_meet_peer(&t);
}

static void test_accepted(void)
{
	start();
	uint32_t len = tcp_frame(&peer, &t.config.addr);
	testcx_input(&t, frame, len);
	CHECK_EQ(tcp_in(), 1);
	CHECK_EQ(t.frame_count, 1);    /* RST */
	memset(frame + len, 0xee, 10); /* Ethernet padding is not payload */
	testcx_input(&t, frame, len + 10);
	CHECK_EQ(tcp_in(), 2);
	CHECK_EQ(stack_counters(&t.cx)->tcp_bad_csum, 0);
	CHECK_EQ(t.frame_count, 2);
	testcx_close(&t);
}

/* Every combination of version, header length, total length and frame length (Ripple20, NicheStack, mTCP,
 * TLDK). */
static void test_length_grid(void)
{
	static const uint16_t totals[] = {0, 1, 19, 20, 21, 39, 40, 41, 60, 61, 100, 1500, 65535};
	uint64_t taken = 0;

	start();
	for (unsigned version_ihl = 0; version_ihl < 256; version_ihl++) {
		for (size_t i = 0; i < ARRAY_LEN(totals); i++) {
			for (uint32_t len = 14; len < 80; len += 1 + len % 3) {
				uint32_t ip_len = len - 14, header = (version_ihl & 15) * 4;
				memset(frame + 34, 0, 100);
				tcp_frame(&peer, &t.config.addr);
				frame[14] = (uint8_t)version_ihl;
				frame[16] = (uint8_t)(totals[i] >> 8);
				frame[17] = (uint8_t)totals[i];
				if (header > 20)
					memset(frame + 34, 1, header - 20); /* options: NOPs */
				testcx_ipv4_checksum(frame);
				taken += version_ihl >> 4 == 4 && header >= 20 && totals[i] >= header &&
					 totals[i] <= ip_len;
				testcx_input(&t, frame, len);
				testcx_forget(&t);
			}
		}
	}
	CHECK_EQ(tcp_in(), taken);
	CHECK_GT(taken, 100);
	CHECK_GT(stack_counters(&t.cx)->ip_bad_header, 10000);
	testcx_close(&t);
}

static void test_header_checksum(void)
{
	start();
	uint32_t len = tcp_frame(&peer, &t.config.addr);
	for (int bit = 0; bit < 160; bit++) {
		frame[14 + bit / 8] ^= (uint8_t)(1 << bit % 8);
		testcx_input(&t, frame, len);
		frame[14 + bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	CHECK_EQ(stack_counters(&t.cx)->ip_bad_header, 160);
	CHECK_EQ(tcp_in(), 0);
	testcx_close(&t);
}

static void input_from_to(struct ipaddr src, struct ipaddr dst)
{
	testcx_input(&t, frame, tcp_frame(&src, &dst));
}

/* RFC 1122 3.2.1.3; RFC 9293 MUST-57, 63. */
static void test_addresses(void)
{
	static const uint8_t sources[][4] = {{0, 0, 0, 0},    {0, 1, 2, 3},   {127, 0, 0, 1},
					     {224, 0, 0, 1},  {239, 1, 1, 1}, {255, 255, 255, 255},
					     {10, 0, 0, 255}, {10, 0, 0, 0},  {10, 0, 0, 2}};
	start();
	for (size_t i = 0; i < ARRAY_LEN(sources); i++)
		input_from_to(ipaddr_from_v4(sources[i]), t.config.addr);
	CHECK_EQ(stack_counters(&t.cx)->ip_bad_addr, ARRAY_LEN(sources)); /* the last one is LAND */
	input_from_to(peer, ipaddr_v4(10, 0, 0, 3));
	input_from_to(peer, ipaddr_v4(224, 0, 0, 1));
	CHECK_EQ(stack_counters(&t.cx)->ip_bad_addr, ARRAY_LEN(sources) + 2);
	input_from_to(peer, ipaddr_v4(255, 255, 255, 255));
	input_from_to(peer, ipaddr_v4(10, 0, 0, 255));
	CHECK_EQ(tcp_in(), 0);
	uint32_t len = tcp_frame(&peer, &t.config.addr);
	memset(frame, 0xff, 6); /* RFC 1122 3.3.6: a link broadcast */
	testcx_input(&t, frame, len);
	CHECK_EQ(tcp_in(), 0);
	CHECK_EQ(t.frame_count, 0);
	testcx_close(&t);
}

static void test_fragments(void)
{
	static const uint16_t fields[] = {0x2000, 0x0001, 0x1fff, 0x3fff, 0x6000};

	start();
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		uint32_t len = tcp_frame(&peer, &t.config.addr);
		frame[20] = (uint8_t)(fields[i] >> 8);
		frame[21] = (uint8_t)fields[i];
		testcx_ipv4_checksum(frame);
		testcx_input(&t, frame, len);
	}
	CHECK_EQ(stack_counters(&t.cx)->ip_fragments, ARRAY_LEN(fields));
	CHECK_EQ(tcp_in(), 0);
	testcx_close(&t);
}

/* Insert `n` bytes of options (a multiple of 4) into a TCP datagram. */
static void input_with_options(const uint8_t *o, uint32_t n)
{
	uint32_t len = tcp_frame(&peer, &t.config.addr);

	memmove(frame + 34 + n, frame + 34, len - 34);
	memcpy(frame + 34, o, n);
	frame[14] = (uint8_t)(0x45 + n / 4);
	frame[17] = (uint8_t)(frame[17] + n);
	testcx_ipv4_checksum(frame);
	testcx_input(&t, frame, len + n);
}

static void test_options(void)
{
	start();
	input_with_options((const uint8_t[]){7, 7, 4, 0, 0, 0, 0, 0}, 8); /* record route: skipped */
	input_with_options((const uint8_t[]){148, 4, 0, 0}, 4);		  /* router alert */
	input_with_options((const uint8_t[]){1, 1, 0, 131}, 4);		  /* END hides what follows */
	CHECK_EQ(tcp_in(), 3);
	CHECK_EQ(stack_counters(&t.cx)->tcp_bad_csum, 0);
	input_with_options((const uint8_t[]){131, 7, 4, 1, 2, 3, 4, 0}, 8);
	input_with_options((const uint8_t[]){1, 137, 3, 4}, 4);
	CHECK_EQ(stack_counters(&t.cx)->ip_source_route, 2);
	input_with_options((const uint8_t[]){7, 0, 0, 0}, 4); /* lengths 0, 1, beyond the header */
	input_with_options((const uint8_t[]){7, 1, 0, 0}, 4);
	input_with_options((const uint8_t[]){7, 5, 0, 0}, 4);
	input_with_options((const uint8_t[]){1, 1, 1, 7}, 4);
	CHECK_EQ(stack_counters(&t.cx)->ip_bad_header, 4);
	CHECK_EQ(tcp_in(), 3);
	testcx_close(&t);
}

static void test_link_layer(void)
{
	start();
	uint32_t len = tcp_frame(&peer, &t.config.addr);
	for (uint32_t n = 0; n < 14; n++)
		testcx_input(&t, frame, n);
	CHECK_EQ(stack_counters(&t.cx)->ether_bad, 14);
	frame[5] = 77; /* another station */
	testcx_input(&t, frame, len);
	tcp_frame(&peer, &t.config.addr);
	memcpy(frame + 6, testcx_mac, 6); /* our own frame */
	testcx_input(&t, frame, len);
	tcp_frame(&peer, &t.config.addr);
	frame[6] |= 1; /* a group as source */
	testcx_input(&t, frame, len);
	tcp_frame(&peer, &t.config.addr);
	frame[12] = 0x81; /* VLAN tag */
	testcx_input(&t, frame, len);
	CHECK_EQ(stack_counters(&t.cx)->ether_bad, 18);
	tcp_frame(&peer, &t.config.addr);
	memcpy(frame, (const uint8_t[]){1, 0, 0x5e, 0, 0, 1}, 6); /* multicast: not an error, not for us */
	testcx_input(&t, frame, len);
	CHECK_EQ(stack_counters(&t.cx)->ether_bad, 18);
	CHECK_EQ(tcp_in(), 0);
	CHECK_EQ(stack_counters(&t.cx)->frames_in, 14 + 5 + 1);
	testcx_close(&t);
}

static struct frame_tx out;

static int output(struct ipaddr to, uint32_t payload, uint16_t gso)
{
	static uint8_t data[70000];

	out.header_len = IPV4_TRANSPORT_OFFSET + 20;
	memset(out.header + IPV4_TRANSPORT_OFFSET, 0, 20);
	out.gso_size = gso;
	out.payload_len = payload;
	out.piece_count = 1;
	out.piece[0] = (struct frame_piece){data, payload};
	return ipv4_output(&t.cx, &out, &t.config.addr, &to, 6, 0x48, 33);
}

static uint16_t id_of(const struct testcx_frame *f)
{
	return (uint16_t)(f->data[18] << 8 | f->data[19]);
}

static void test_output(void)
{
	start();
	CHECK_EQ(output(peer, 100, 0), 0);
	const uint8_t *ip = t.frame[0].data + 14;
	CHECK_EQ(csum_fold(csum_partial(ip, 20, 0)), 0xffff);
	CHECK_EQ(ip[0], 0x45);
	CHECK_EQ(ip[1], 0x48);
	CHECK_EQ(ip[2] << 8 | ip[3], 140);
	CHECK_EQ(ip[6] << 8 | ip[7], 0x4000); /* DF */
	CHECK_EQ(ip[8], 33);
	CHECK_EQ(ip[9], 6);
	CHECK_MEM_EQ(ip + 12, t.config.addr.b + 12, 4);
	CHECK_MEM_EQ(ip + 16, peer.b + 12, 4);
	CHECK_EQ(out.csum_start, 34);
	CHECK_EQ(out.csum_offset, 16);
	CHECK_EQ(output(peer, 1460, 0), 0);
	CHECK_EQ(output(peer, 1461, 0), -EMSGSIZE);
	CHECK_EQ(output(peer, 14600, 1460), 0); /* a super-segment's total length covers it all */
	CHECK_EQ(t.frame[2].data[16] << 8 | t.frame[2].data[17], 14640);
	CHECK_EQ(output(peer, 14600, 1461), -EMSGSIZE);
	CHECK_EQ(output(peer, 65496, 1460), -EMSGSIZE);
	CHECK_EQ(output(peer, 100, 0), 0);
	/* RFC 6864: one identifier per packet on the wire */
	CHECK_EQ((uint16_t)(id_of(&t.frame[1]) - id_of(&t.frame[0])), 1);
	CHECK_EQ((uint16_t)(id_of(&t.frame[3]) - id_of(&t.frame[2])), 10);
	testcx_close(&t);
}

/* What one destination sees of identifiers tells nothing of another's (idle scan). */
static void test_identifiers(void)
{
	start();
	output(peer, 1, 0);
	for (int i = 0; i < 50; i++)
		output(ipaddr_v4(8, 8, 4, (uint8_t)i), 1, 0);
	output(peer, 1, 0);
	CHECK_EQ((uint16_t)(id_of(&t.frame[51]) - id_of(&t.frame[0])), 1);
	int near = 0;
	for (int i = 1; i < 50; i++)
		near += (uint16_t)(id_of(&t.frame[i + 1]) - id_of(&t.frame[i]) + 64) < 128;
	CHECK_LT(near, 5);
	testcx_close(&t);
}

/* RFC 1122 3.3.1, RFC 9293 MUST-46: where one can send to. */
static void test_routes(void)
{
	static const uint8_t nowhere[][4] = {{0, 0, 0, 0},    {0, 1, 1, 1},   {127, 0, 0, 1},
					     {224, 0, 0, 5},  {239, 9, 9, 9}, {255, 255, 255, 255},
					     {10, 0, 0, 255}, {10, 0, 0, 0},  {10, 0, 0, 2}};
	struct ipaddr hop, to = ipaddr_v4(10, 0, 0, 200), v6 = {{0x20, 1}};

	start();
	for (size_t i = 0; i < ARRAY_LEN(nowhere); i++) {
		to = ipaddr_from_v4(nowhere[i]);
		CHECK_EQ(route_lookup(&t.cx, &to, &hop), -ENETUNREACH);
	}
	CHECK_EQ(route_lookup(&t.cx, &v6, &hop), -ENETUNREACH);
	to = ipaddr_v4(10, 0, 0, 200);
	CHECK_EQ(route_lookup(&t.cx, &to, &hop), 0);
	CHECK(ipaddr_eq(&hop, &to));
	to = ipaddr_v4(10, 0, 1, 200);
	CHECK_EQ(route_lookup(&t.cx, &to, &hop), 0);
	CHECK(ipaddr_eq(&hop, &t.config.gateway));
	testcx_close(&t);

	testcx_config(&t);
	t.config.gateway = ipaddr_v4(0, 0, 0, 0);
	t.config.prefix_len = 31; /* RFC 3021: no broadcast on a link of two */
	CHECK_FATAL(testcx_open(&t) == 0);
	CHECK_EQ(route_lookup(&t.cx, &to, &hop), -ENETUNREACH);
	to = ipaddr_v4(10, 0, 0, 3);
	CHECK_EQ(route_lookup(&t.cx, &to, &hop), 0);
	testcx_close(&t);
}

static void test_device_errors(void)
{
	start();
	t.tx_result = -ENOBUFS;
	CHECK_EQ(output(peer, 1, 0), -ENOBUFS);
	CHECK_EQ(stack_counters(&t.cx)->tx_errors, 1);
	testcx_close(&t);
}

static int init_with(void (*edit)(struct stack_config *))
{
	testcx_config(&t);
	edit(&t.config);
	int err = testcx_open(&t);
	testcx_close(&t);
	return err;
}
static void no_address(struct stack_config *c)
{
	c->addr = ipaddr_v4(0, 0, 0, 0);
}
static void group_address(struct stack_config *c)
{
	c->addr = ipaddr_v4(224, 0, 0, 1);
}
static void long_prefix(struct stack_config *c)
{
	c->prefix_len = 33;
}
static void small_mtu(struct stack_config *c)
{
	c->mtu = 67;
}
static void group_mac(struct stack_config *c)
{
	c->mac[0] = 1;
}
static void reversed_ports(struct stack_config *c)
{
	c->port_first = 50000;
	c->port_last = 49999;
}
static void nothing(struct stack_config *c)
{
	(void)c;
}

static void test_configuration(void)
{
	CHECK_EQ(init_with(nothing), 0);
	CHECK_EQ(init_with(no_address), -EINVAL);
	CHECK_EQ(init_with(group_address), -EINVAL);
	CHECK_EQ(init_with(long_prefix), -EINVAL);
	CHECK_EQ(init_with(small_mtu), -EINVAL);
	CHECK_EQ(init_with(group_mac), -EINVAL);
	CHECK_EQ(init_with(reversed_ports), -EINVAL);
	testcx_start(&t);
	CHECK(stack_verify(&t.cx) == NULL);
	CHECK_EQ(stack_configuration(&t.cx)->mtu, 1500);
	stack_set_device(&t.cx, 9000, DEVICE_TX_CSUM);
	CHECK_EQ(stack_configuration(&t.cx)->mtu, 9000);
	CHECK_EQ(stack_configuration(&t.cx)->device_caps, DEVICE_TX_CSUM);
	CHECK_EQ(stack_region_bytes(&t.cx), 2 * EXTENT_BYTES);
	CHECK_EQ(stack_buffer_bytes(&t.cx), 0);
	testcx_close(&t);
}

CHECK_MAIN("ipv4", {"a datagram for us, with Ethernet padding", test_accepted},
	   {"the grid of versions and lengths", test_length_grid},
	   {"any bit error in the header", test_header_checksum},
	   {"RFC 1122 3.2.1.3: addresses", test_addresses}, {"fragments are dropped", test_fragments},
	   {"options; RFC 7126: source routes are dropped", test_options}, {"Ethernet", test_link_layer},
	   {"output", test_output}, {"identifiers leak nothing", test_identifiers}, {"routes", test_routes},
	   {"a device that refuses", test_device_errors},
	   {"stack_init checks its configuration", test_configuration})
