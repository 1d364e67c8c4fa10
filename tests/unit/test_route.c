/* test_route.c - RFC 1122 3.3.1.1 and 3.2.1.3: the next hop, and kinds of addresses, at their boundaries. */
#include "core/net.h"
#include "tests/check.h"
#include "tests/unit/testcx.h"

static struct testcx t;

static void start(struct ipaddr own, uint8_t prefix_len, struct ipaddr gateway, uint32_t caps)
{
	testcx_config(&t);
	t.config.addr = own;
	t.config.prefix_len = prefix_len;
	t.config.gateway = gateway;
	t.config.device_caps = caps;
	CHECK_EQ(testcx_open(&t), 0);
}

#define V4(a, b, c, d) (&(const struct ipaddr){{[10] = 0xff, 0xff, a, b, c, d}})
static const struct ipaddr none = {{[10] = 0xff, 0xff}};
static const struct ipaddr v6_one = {{[15] = 1}}, v6_group = {{0xff, 2, [15] = 1}},
			   v6_doc = {{0x20, 1, 0xd, 0xb8}};

static void test_on_link(void)
{
	start(*V4(10, 0, 0, 2), 24, *V4(10, 0, 0, 1), 0);
	CHECK(addr_is_on_link(&t.cx, V4(10, 0, 0, 0)));
	CHECK(addr_is_on_link(&t.cx, V4(10, 0, 0, 255)));
	CHECK(!addr_is_on_link(&t.cx, V4(10, 0, 1, 0)));
	CHECK(!addr_is_on_link(&t.cx, V4(9, 255, 255, 255)));
	CHECK(!addr_is_on_link(&t.cx, &v6_doc));
	testcx_close(&t);
	start(*V4(10, 0, 0, 2), 0, none, 0); /* everything is a neighbour */
	CHECK(addr_is_on_link(&t.cx, V4(1, 1, 1, 1)));
	CHECK(addr_is_on_link(&t.cx, V4(223, 255, 255, 255)));
	testcx_close(&t);
	start(*V4(10, 0, 0, 2), 31, none, 0);
	CHECK(addr_is_on_link(&t.cx, V4(10, 0, 0, 3)));
	CHECK(!addr_is_on_link(&t.cx, V4(10, 0, 0, 1)));
	CHECK(!addr_is_on_link(&t.cx, V4(10, 0, 0, 4)));
	testcx_close(&t);
	start(*V4(10, 0, 0, 2), 32, *V4(192, 0, 2, 1), 0); /* the gateway is a neighbour by decree */
	CHECK(addr_is_on_link(&t.cx, V4(10, 0, 0, 2)));
	CHECK(!addr_is_on_link(&t.cx, V4(10, 0, 0, 3)));
	CHECK(addr_is_on_link(&t.cx, V4(192, 0, 2, 1)));
	CHECK(!addr_is_on_link(&t.cx, V4(192, 0, 2, 2)));
	testcx_close(&t);
}

static bool many(const struct ipaddr *a)
{
	return addr_is_broadcast_or_multicast(&t.cx, a);
}

/* RFC 1122 3.3.6, RFC 3021: a /31 and a /32 have no broadcast; nor can a /0 tell one. */
static void test_broadcast(void)
{
	start(*V4(10, 0, 0, 2), 24, none, 0);
	CHECK(many(V4(10, 0, 0, 255)));
	CHECK(many(V4(10, 0, 0, 0)));
	CHECK(!many(V4(10, 0, 0, 254)));
	CHECK(!many(V4(10, 0, 1, 255)));
	CHECK(many(V4(255, 255, 255, 255)));
	CHECK(!many(V4(255, 255, 255, 254)));
	testcx_close(&t);
	start(*V4(10, 0, 0, 2), 30, none, 0);
	CHECK(many(V4(10, 0, 0, 3)));
	CHECK(many(V4(10, 0, 0, 0)));
	CHECK(!many(V4(10, 0, 0, 1)));
	CHECK(!many(V4(10, 0, 0, 4)));
	testcx_close(&t);
	static const uint8_t without[] = {0, 31, 32};
	for (size_t i = 0; i < ARRAY_LEN(without); i++) {
		start(*V4(10, 0, 0, 2), without[i], none, 0);
		CHECK(!many(V4(10, 0, 0, 3)));
		CHECK(!many(V4(10, 0, 0, 2)));
		CHECK(!many(V4(10, 0, 0, 0)));
		CHECK(many(V4(255, 255, 255, 255)));
		testcx_close(&t);
	}
}

static void test_multicast(void)
{
	start(*V4(10, 0, 0, 2), 24, none, 0);
	CHECK(!many(V4(223, 255, 255, 255)));
	CHECK(many(V4(224, 0, 0, 0)));
	CHECK(many(V4(239, 255, 255, 255)));
	CHECK(!many(V4(240, 0, 0, 0)));
	CHECK(many(&v6_group));
	CHECK(!many(&v6_one));
	CHECK(!many(&v6_doc));
	testcx_close(&t);
}

static void test_sources(void)
{
	start(*V4(10, 0, 0, 2), 24, none, 0);
	CHECK(!addr_is_unicast_source(&t.cx, V4(0, 0, 0, 0)));
	CHECK(!addr_is_unicast_source(&t.cx, V4(0, 255, 255, 255)));
	CHECK(addr_is_unicast_source(&t.cx, V4(1, 0, 0, 0)));
	CHECK(addr_is_unicast_source(&t.cx, V4(126, 255, 255, 255)));
	CHECK(!addr_is_unicast_source(&t.cx, V4(127, 0, 0, 1)));
	CHECK(!addr_is_unicast_source(&t.cx, V4(127, 255, 255, 255)));
	CHECK(addr_is_unicast_source(&t.cx, V4(128, 0, 0, 0)));
	CHECK(!addr_is_unicast_source(&t.cx, V4(224, 0, 0, 1)));
	CHECK(!addr_is_unicast_source(&t.cx, V4(10, 0, 0, 255)));
	CHECK(!addr_is_unicast_source(&t.cx, V4(255, 255, 255, 255)));
	CHECK(!addr_is_unicast_source(&t.cx, &v6_doc));
	CHECK(addr_is_ours(&t.cx, V4(10, 0, 0, 2)));
	CHECK(!addr_is_ours(&t.cx, V4(10, 0, 0, 1)));
	testcx_close(&t);
}

/* The next hop of dst as a number; 0: -ENETUNREACH. */
static uint32_t hop(const struct ipaddr *dst)
{
	struct ipaddr next = none;
	int err = route_lookup(&t.cx, dst, &next);

	CHECK(err == 0 || err == -ENETUNREACH);
	return err ? 0 : ipaddr_v4_value(&next);
}

static void test_lookup(void)
{
	start(*V4(10, 0, 0, 2), 24, *V4(10, 0, 0, 1), 0);
	CHECK_EQ(hop(V4(10, 0, 0, 77)), 0x0a00004d);
	CHECK_EQ(hop(V4(10, 0, 0, 1)), 0x0a000001);
	CHECK_EQ(hop(V4(10, 0, 1, 0)), 0x0a000001);
	CHECK_EQ(hop(V4(8, 8, 8, 8)), 0x0a000001);
	static const uint8_t nowhere[][4] = {{0, 0, 0, 0},	   {10, 0, 0, 255}, {10, 0, 0, 0},
					     {255, 255, 255, 255}, {224, 0, 0, 1},  {127, 0, 0, 1},
					     {10, 0, 0, 2}};
	for (size_t i = 0; i < ARRAY_LEN(nowhere); i++) {
		struct ipaddr a = ipaddr_from_v4(nowhere[i]);
		CHECK_EQ(hop(&a), 0);
	}
	CHECK_EQ(hop(&v6_doc), 0);
	testcx_close(&t);
	start(*V4(10, 0, 0, 2), 24, none, 0); /* no gateway */
	CHECK_EQ(hop(V4(10, 0, 0, 77)), 0x0a00004d);
	CHECK_EQ(hop(V4(8, 8, 8, 8)), 0);
	testcx_close(&t);
	start(*V4(10, 0, 0, 2), 24, *V4(10, 0, 0, 1), DEVICE_NONE);
	CHECK_EQ(hop(V4(10, 0, 0, 77)), 0);
	CHECK_EQ(hop(V4(8, 8, 8, 8)), 0);
	testcx_close(&t);
}

static void test_mtu(void)
{
	start(*V4(10, 0, 0, 2), 24, none, 0);
	stack_set_device(&t.cx, 1400, 0);
	CHECK_EQ(route_mtu(&t.cx, V4(10, 0, 0, 1)), 1400);
	CHECK_EQ(route_mtu(&t.cx, V4(127, 0, 0, 1)), 65535);
	CHECK_EQ(route_mtu(&t.cx, V4(10, 0, 0, 2)), 65535);
	CHECK_EQ(route_mtu(&t.cx, &v6_one), 65536);
	CHECK_EQ(ip_header_len(V4(127, 0, 0, 1)), 20);
	CHECK_EQ(ip_header_len(&v6_one), 40);
	testcx_close(&t);
}

CHECK_MAIN("route", {"RFC 1122 3.3.1.1: who is on the link", test_on_link},
	   {"RFC 1122 3.3.6: broadcasts of the prefix", test_broadcast}, {"RFC 1112: groups", test_multicast},
	   {"RFC 1122 3.2.1.3: addresses that may be a source", test_sources},
	   {"MUST-46: the next hop, and no way to many, to nobody or to ourselves", test_lookup},
	   {"the MTU of the device and of the loopback", test_mtu})
