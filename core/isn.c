/*
 * isn.c - initial sequence numbers (RFC 6528) and timestamp offsets
 * (RFC 7323 5.4): what a peer sees of them tells it nothing about others.
 */
#include "core/tcb.h"

_Static_assert(sizeof(struct endpoint) == 18, "struct endpoint has padding: it is hashed as bytes");

/* RFC 6528 3: ISN = M + F(localip, localport, remoteip, remoteport, secretkey), M ticks every 4 us. */
seq32 isn_choose(struct stack_cx *cx, const struct endpoint *local, const struct endpoint *remote)
{
	struct endpoint tuple[2] = {*local, *remote};
	uint64_t f = siphash(stack_of(cx)->key_isn, tuple, sizeof tuple);

	return seq_of((uint32_t)(f + cx->now / (4 * NS_PER_US)));
}

/*
 * One offset for a 4-tuple: timestamps of its successive connections are
 * monotonic, which is what makes a SYN in TIME-WAIT decidable (RFC 6191) and
 * PAWS hold across them. The ports are part of it, so that whoever shares an
 * address with a peer (behind a NAT) learns nothing of the peer's timestamps.
 */
uint32_t ts_offset_choose(struct stack_cx *cx, const struct endpoint *local, const struct endpoint *remote)
{
	struct endpoint tuple[2] = {*local, *remote};

	return (uint32_t)siphash(stack_of(cx)->key_ts, tuple, sizeof tuple);
}
