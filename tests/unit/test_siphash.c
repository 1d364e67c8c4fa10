/* test_siphash.c - SipHash-2-4 against the vectors of its authors. */
#include "core/tcb.h"
#include "tests/check.h"

/* Aumasson and Bernstein, "SipHash: a fast short-input PRF", appendix A and the reference vectors. */
static void test_vectors(void)
{
	static const struct {
		size_t len;
		uint64_t hash;
	} v[] = {
	    {0, 0x726fdb47dd0e0e31}, {1, 0x74f839c593dc67fd},  {2, 0x0d6c8009d9a94f5a},
	    {3, 0x85676696d7fb7e2d}, {4, 0xcf2794e0277187b7},  {5, 0x18765564cd99a68d},
	    {6, 0xcbc9466e58fee3ce}, {7, 0xab0200f58b01d137},  {8, 0x93f5f5799a932462},
	    {9, 0x9e0082df0ba9e4b0}, {10, 0x7a5dbbc594ddb9f3}, {15, 0xa129ca6149be45e5},
	};
	uint8_t key[16], data[64];

	for (int i = 0; i < 16; i++)
		key[i] = (uint8_t)i;
	for (int i = 0; i < 64; i++)
		data[i] = (uint8_t)i;
	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		CHECK_EQ(siphash(key, data, v[i].len), v[i].hash);
}

static void test_keyed(void)
{
	uint8_t key[16] = {0};
	uint64_t before = siphash(key, "abc", 3);

	for (int bit = 0; bit < 128; bit++) {
		key[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK_NE(siphash(key, "abc", 3), before);
		key[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

CHECK_MAIN("siphash", {"the official vectors", test_vectors},
	   {"each bit of the key changes the hash", test_keyed})
