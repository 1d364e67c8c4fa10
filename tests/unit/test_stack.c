/* test_stack.c - configuration, layout, keys, the device, the way in and the accounts. */
#include "core/net.h"
#include "tests/unit/segpeer.h"

static const uint8_t seed_a[32] = {1, 2, 3}, seed_b[32] = {1, 2, 4};

/* stack_init() on zeroed memory, whatever was there before. */
static int init(const uint8_t seed[32])
{
	memset(t.cx.base, 0, STACK_MIN_BYTES);
	return stack_init(&t.cx, &t.config, seed);
}

static void test_defaults(void)
{
	struct stack_config c;

	memset(&c, 0xee, sizeof c);
	stack_config_defaults(&c);
	CHECK_EQ(c.mtu, 1500);
	CHECK_EQ(c.cc, STACK_CC_CUBIC);
	CHECK_EQ(c.rcvbuf_default, 131072);
	CHECK_EQ(c.sndbuf_default, 16384);
	CHECK_EQ(c.port_first, 32768);
	CHECK_EQ(c.port_last, 60999);
	CHECK_EQ(c.rto_initial, NS_PER_S);	 /* RFC 6298 (2.1) */
	CHECK_EQ(c.keepidle, 7200 * NS_PER_S);	 /* MUST-28 */
	CHECK_LT(c.delack_max, 500 * NS_PER_MS); /* MUST-40 */
	CHECK(c.timestamps && c.sack && c.wscale);
	CHECK_EQ(c.device_caps, 0);
	testcx_start(&t);
	CHECK_EQ(stack_configuration(&t.cx)->tw_time, 60 * NS_PER_S);
	testcx_close(&t);
}

/* Each fault alone is refused, and leaves a region that nobody takes for one. */
#define REFUSED(edit)                                                                                        \
	do {                                                                                                 \
		struct stack_config kept = t.config, *c = &t.config;                                         \
		edit;                                                                                        \
		CHECK_MSG(init(seed_a) == -EINVAL, "accepted: " #edit);                                      \
		CHECK(memcmp(t.cx.base, region_magic, 8) != 0);                                              \
		t.config = kept;                                                                             \
	} while (0)

static void test_refused(void)
{
	testcx_start(&t);
	REFUSED(c->addr = ipaddr_v4(0, 0, 0, 0));
	REFUSED(c->addr = ipaddr_v4(0, 1, 2, 3));
	REFUSED(c->addr = ipaddr_v4(127, 0, 0, 1));
	REFUSED(c->addr = ipaddr_v4(224, 0, 0, 1));
	REFUSED(c->addr = ipaddr_v4(255, 255, 255, 255));
	REFUSED(memset(&c->addr, 0x20, 16));
	REFUSED(c->prefix_len = 33);
	REFUSED(c->gateway = c->addr);
	REFUSED(memset(&c->gateway, 0x20, 16));
	REFUSED(c->mac[0] = 1);
	REFUSED(c->mtu = 67);
	REFUSED(c->cc = STACK_CC_COUNT);
	REFUSED(c->port_first = 0);
	REFUSED(c->port_first = 61000);
	REFUSED(c->rcvbuf_default = 0);
	REFUSED(c->sndbuf_default = 0);
	REFUSED(c->rcvbuf_default = c->rcvbuf_max + 1);
	REFUSED(c->sndbuf_default = c->sndbuf_max + 1);
	REFUSED(c->conn_max = 0);
	REFUSED(c->rto_min = 0);
	REFUSED(c->rto_min = c->rto_max + 1);
	REFUSED(c->rto_initial = 0);
	REFUSED(c->rto_initial = c->rto_max + 1);
	REFUSED(c->delack_min = c->delack_max + 1);
	CHECK_EQ(init(seed_a), 0);
	CHECK(stack_verify(&t.cx) == NULL);
	testcx_close(&t);
}

/* What is just allowed; and the conditions that are not the configuration's. */
static void test_accepted(void)
{
	testcx_start(&t);
	t.config.mtu = 68;
	t.config.prefix_len = 32;
	t.config.port_first = t.config.port_last = 1;
	t.config.rto_min = t.config.rto_initial = t.config.rto_max;
	t.config.delack_min = t.config.delack_max;
	t.config.gateway = ipaddr_v4(0, 0, 0, 0);
	CHECK_EQ(init(seed_a), 0);
	t.config.addr = ipaddr_v4(127, 0, 0, 1);
	t.config.device_caps = DEVICE_NONE;
	CHECK_EQ(init(seed_a), 0);
	t.cx.limit = STACK_MIN_BYTES - 1;
	CHECK_EQ(init(seed_a), -ENOMEM);
	t.cx.limit = STACK_MIN_BYTES;
	int (*tx)(struct stack_cx *, const struct frame_tx *) = t.cx.tx;
	t.cx.tx = NULL;
	CHECK_EQ(init(seed_a), -EINVAL);
	t.cx.tx = tx;
	CHECK_EQ(init(seed_a), 0);
	CHECK_MEM_EQ(t.cx.base, region_magic, 8);
	CHECK_EQ(stack_of(&t.cx)->layout_hash, stack_layout_hash());
	testcx_close(&t);
}

/* MUST-9: five keys and the generator, no two alike, all of them the seed's. */
static void test_keys(void)
{
	uint8_t key[3][6][16];
	static const uint8_t *const seeds[] = {seed_a, seed_b, seed_a};

	testcx_start(&t);
	for (int i = 0; i < 3; i++) {
		const struct stack *st = stack_of(&t.cx);
		CHECK_EQ(init(seeds[i]), 0);
		memcpy(key[i][0], st->key_isn, 16);
		memcpy(key[i][1], st->key_port, 16);
		memcpy(key[i][2], st->key_ts, 16);
		memcpy(key[i][3], st->key_hash, 16);
		memcpy(key[i][4], st->key_ipid, 16);
		memcpy(key[i][5], st->rng, 16);
	}
	CHECK_MEM_EQ(key[0], key[2], sizeof key[0]);
	for (int i = 0; i < 12; i++)
		for (int j = 0; j < i; j++)
			CHECK(memcmp(key[i / 6][i % 6], key[j / 6][j % 6], 16) != 0);
	CHECK(stack_of(&t.cx)->rng[0] & 1);
	testcx_close(&t);
}

/* A change of the device: the MTU has a floor, and connections follow both ways. */
static void test_device(void)
{
	uint32_t iss;

	start();
	struct tcb *c = tcb_at(&t.cx, accepted(&iss));
	CHECK_EQ(c->snd_mss, 1460);
	static const uint8_t data[3000];
	struct iovec v = {(void *)(uintptr_t)data, sizeof data};
	CHECK_EQ(sock_send(&t.cx, pool_ref(&t.cx, c), &v, 1, 0), 3000);
	CHECK_EQ(c->snd_nxt.v - c->snd_una.v, 3000);
	uint64_t resent = c->total_retrans;
	stack_set_device(&t.cx, 1000, DEVICE_TX_CSUM);
	CHECK_EQ(c->snd_mss, 960);
	stack_flush(&t.cx); /* what is on its way does not fit: again at once, not after a time-out */
	CHECK_GT(c->total_retrans, resent);
	CHECK_EQ(c->total_rto, 0);
	CHECK_EQ(stack_configuration(&t.cx)->mtu, 1000);
	CHECK_EQ(stack_configuration(&t.cx)->device_caps, DEVICE_TX_CSUM);
	stack_set_device(&t.cx, 0, 0);
	CHECK_EQ(stack_configuration(&t.cx)->mtu, 68);
	CHECK_GE(c->snd_mss, 28);
	stack_set_device(&t.cx, 9000, 0);
	CHECK_EQ(c->snd_mss, 1460); /* the peer's */
	finish();
}

static void test_input(void)
{
	uint8_t runt[13] = {0};

	start();
	uint64_t before = stack_counters(&t.cx)->frames_in;
	for (uint32_t len = 0; len <= sizeof runt; len++)
		testcx_input(&t, runt, len);
	CHECK_EQ(stack_counters(&t.cx)->frames_in, before + 14);
	CHECK_EQ(stack_counters(&t.cx)->ether_bad, 14);
	CHECK_EQ(t.frame_count, 0);
	finish();
}

/* Buffers are accounted while they are held; extents stay with the stack. */
static void test_accounts(void)
{
	uint32_t iss;

	start();
	CHECK_EQ(stack_region_bytes(&t.cx) % EXTENT_BYTES, 0);
	uint64_t empty = stack_region_bytes(&t.cx);
	ref s = accepted(&iss);
	CHECK_EQ(stack_buffer_bytes(&t.cx), 0);
	deliver(TH_ACK, 5001, iss + 1, 10);
	CHECK_EQ(stack_buffer_bytes(&t.cx), 576);
	CHECK_GT(stack_region_bytes(&t.cx), empty);
	sock_close(&t.cx, s);
	CHECK_EQ(stack_buffer_bytes(&t.cx), 0);
	finish();
}

CHECK_MAIN("stack", {"MUST-28, MUST-40: the defaults", test_defaults},
	   {"a configuration that cannot work is refused", test_refused},
	   {"the limits of what is accepted; memory; a device", test_accepted},
	   {"MUST-9, SHLD-1: the keys are the seed's, and unrelated", test_keys},
	   {"SHLD-6: another MTU while running", test_device}, {"runts are counted", test_input},
	   {"the accounts of memory", test_accounts})
