/*
 * rng.c - xoshiro256** (Blackman and Vigna, 2018): the stack's coin.
 *
 * Good for jitter and for choosing among equals; not for secrets. What an
 * attacker must not predict (ISNs, ports, timestamps) comes from keyed hashes
 * whose keys stack_init() derives from the seed by another way, so that
 * nothing seen of this generator helps to find them.
 */
#include "core/tcb.h"

static inline uint64_t rotl(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

uint64_t rng_next(struct stack_cx *cx)
{
	uint64_t *s = stack_of(cx)->rng;
	uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

/* Multiply and take the high half; reject the few low values that would bias it (Lemire, 2019). */
uint32_t rng_below(struct stack_cx *cx, uint32_t n)
{
	if (n < 2)
		return 0;
	uint32_t threshold = (0u - n) % n;
	for (;;) {
		uint64_t m = (rng_next(cx) >> 32) * n;
		if ((uint32_t)m >= threshold)
			return (uint32_t)(m >> 32);
	}
}
