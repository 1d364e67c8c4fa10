/*
 * test_matrix.c - the cross product of RFC 9293 3.10.7.4: every synchronised
 * state x flags x place of SEG.SEQ x place of SEG.ACK, judged by an oracle that
 * follows the numbered steps of the text.
 *
 * Each case is a dialogue of one segment. The oracle says what must come back
 * (nothing, an ACK, either) and the state afterwards. "Either" is for in-order
 * text, whose ACK may be delayed. In two places Linux and we are laxer than the
 * RFC's table, and the oracle allows it: a segment without text exactly at the
 * right edge counts as inside, and of a duplicate that ends exactly at RCV.NXT
 * (a repeated FIN, mostly) the ACK field is still believed.
 */
#include "dialogue.h"

enum answer { NOTHING, AN_ACK, EITHER };

struct place {
	struct peer *p;
	uint32_t rcv_nxt, wnd, una, nxt; /* relative, before the segment */
	int state;
};

struct verdict {
	enum answer answer;
	int state;
};

static struct peer *established_busy(struct setup s)
{
	struct peer *p = peer_established_with(s);

	app_write(p, 100);
	peer_takes_all(p);
	return p;
}

static struct peer *close_wait_busy(struct setup s)
{
	struct peer *p = peer_close_wait_with(s);

	app_write(p, 100);
	peer_takes_all(p);
	return p;
}

static bool in_window(const struct place *at, uint32_t seq)
{
	return seq - at->rcv_nxt < at->wnd;
}

/* Step 1: the table of acceptable segments, for a window that is open. */
static bool acceptable(const struct place *at, uint32_t seq, uint32_t span)
{
	return in_window(at, seq) || (span && in_window(at, seq + span - 1));
}

/* Step 5: the ACK field. False: answered and dropped. */
static bool step_ack(const struct place *at, uint32_t ack, int *state)
{
	if ((int32_t)(ack - at->nxt) > 0 || (int32_t)(at->una - ack) > 65535)
		return false;
	if (ack != at->nxt || at->una == at->nxt)
		return true;
	if (*state == S_FIN_WAIT1)
		*state = S_FIN_WAIT2;
	else if (*state == S_CLOSING)
		*state = S_TIME_WAIT;
	else if (*state == S_LAST_ACK)
		*state = S_CLOSE;
	return true;
}

/* Step 8: a FIN that is in order. */
static int step_fin(int state)
{
	switch (state) {
	case S_ESTABLISHED:
		return S_CLOSE_WAIT;
	case S_FIN_WAIT1:
		return S_CLOSING;
	case S_FIN_WAIT2:
		return S_TIME_WAIT;
	default:
		return state;
	}
}

static struct verdict oracle(const struct place *at, int flags, uint32_t seq, uint32_t ack, uint32_t len)
{
	uint32_t span = len + ((flags & FIN) != 0);
	struct verdict v = {NOTHING, at->state};
	bool at_edge = !len && seq == at->rcv_nxt + at->wnd, repeats = span && seq + span == at->rcv_nxt;
	bool receiving = at->state == S_ESTABLISHED || at->state == S_FIN_WAIT1 || at->state == S_FIN_WAIT2;

	if (flags & RST) { /* step 2, RFC 5961 3.2 */
		if (seq == at->rcv_nxt)
			v.state = S_CLOSE;
		else if (in_window(at, seq) || at_edge)
			v.answer = at_edge ? EITHER : AN_ACK;
		return v;
	}
	if (flags & SYN) /* step 4, RFC 5961 4.2 */
		return (struct verdict){AN_ACK, at->state};
	if (!acceptable(at, seq, span)) {
		if ((at_edge || repeats) && (flags & ACK) && step_ack(at, ack, &v.state))
			return (struct verdict){repeats && v.state != S_CLOSE ? AN_ACK : EITHER, v.state};
		if ((at_edge || repeats) && !(flags & ACK))
			return (struct verdict){EITHER, at->state};
		return (struct verdict){AN_ACK, at->state};
	}
	if (!(flags & ACK))
		return v;
	if (!step_ack(at, ack, &v.state))
		return (struct verdict){AN_ACK, at->state};
	if (v.state == S_CLOSE || !span)
		return v;
	if (!receiving) { /* text or FIN after the peer's FIN: ignored, an ACK does no harm */
		v.answer = EITHER;
		return v;
	}
	v.answer = EITHER;
	if ((int32_t)(seq - at->rcv_nxt) > 0)
		v.answer = AN_ACK; /* out of order: at once */
	else if (flags & FIN) {
		v.answer = AN_ACK;
		v.state = step_fin(v.state);
	}
	return v;
}

static void judge(struct place *at, int flags, uint32_t seq, uint32_t ack, uint32_t len)
{
	struct peer *p = at->p;
	struct verdict v = oracle(at, flags, seq, ack, len);
	struct emitted *e;
	bool acked = false;

	peer_sends(p, NOW, SEG(.flags = flags, .seq = seq, .ack = ack, .len = len));
	while ((e = peer_takes(p))) {
		if (e->im.flags & RST)
			dialogue_fail(p, __FILE__, __LINE__, "a RST was emitted");
		acked = true;
	}
	p->queue_first = p->queue_last = 0;
	if (v.answer != EITHER)
		expect_equal(p, acked, v.answer == AN_ACK);
	expect_state(p, v.state);
}

static void run_state(struct peer *(*make)(struct setup), int state)
{
	static const int flags[] = {ACK, ACK | FIN, RST, RST | ACK, SYN, SYN | ACK, 0, FIN};
	static const uint32_t lengths[] = {0, 10};

	for (size_t f = 0; f < ARRAY_LEN(flags); f++)
		for (size_t l = 0; l < ARRAY_LEN(lengths); l++)
			for (int s = 0; s < 6; s++)
				for (int a = 0; a < 5; a++) {
					struct place at = {.p = make(WITH(.sack = true)), .state = state};
					struct sock_info i = info_of(at.p);
					at.rcv_nxt = at.p->conv->peer_next;
					at.wnd = i.rcv_wnd;
					at.nxt = at.p->conv->heard_next;
					at.una =
					    at.nxt - (state == S_ESTABLISHED || state == S_CLOSE_WAIT ? 100
						      : state == S_FIN_WAIT2			      ? 0
												      : 1);
					const uint32_t seqs[] = {at.rcv_nxt - 1,      at.rcv_nxt,
								 at.rcv_nxt + 1,      at.rcv_nxt + at.wnd - 1,
								 at.rcv_nxt + at.wnd, at.rcv_nxt - 100000};
					const uint32_t acks[] = {at.una - 70000, at.una - 1, at.una, at.nxt,
								 at.nxt + 1};
					expect_that(at.p, at.wnd > 1000);
					judge(&at, flags[f], seqs[s], acks[a], lengths[l]);
				}
}

TEST(matrix_established, "RFC 9293 3.10.7.4, RFC 5961: ESTABLISHED x flags x SEG.SEQ x SEG.ACK")
{
	run_state(established_busy, S_ESTABLISHED);
}

TEST(matrix_close_wait, "RFC 9293 3.10.7.4, RFC 5961: CLOSE-WAIT x flags x SEG.SEQ x SEG.ACK")
{
	run_state(close_wait_busy, S_CLOSE_WAIT);
}

TEST(matrix_fin_wait_1, "RFC 9293 3.10.7.4, RFC 5961: FIN-WAIT-1 x flags x SEG.SEQ x SEG.ACK")
{
	run_state(peer_fin_wait_1_with, S_FIN_WAIT1);
}

TEST(matrix_fin_wait_2, "RFC 9293 3.10.7.4, RFC 5961: FIN-WAIT-2 x flags x SEG.SEQ x SEG.ACK")
{
	run_state(peer_fin_wait_2_with, S_FIN_WAIT2);
}

TEST(matrix_closing, "RFC 9293 3.10.7.4, RFC 5961: CLOSING x flags x SEG.SEQ x SEG.ACK")
{
	run_state(peer_closing_with, S_CLOSING);
}

TEST(matrix_last_ack, "RFC 9293 3.10.7.4, RFC 5961: LAST-ACK x flags x SEG.SEQ x SEG.ACK")
{
	run_state(peer_last_ack_with, S_LAST_ACK);
}
