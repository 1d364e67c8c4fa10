/*
 * dialogue_states.c - a constructor for each state of TCP: the shortest dialogue that leads there, checked on
 * the way.
 */
#include "dialogue_parts.h"

static void starts_now(struct peer *p)
{
	p->epoch = p->cx.now;
	expect_nothing(p);
}

static void wait_rtt(struct peer *p)
{
	advance_by(p, p->setup.rtt);
}

struct peer *peer_listen_with(struct setup s)
{
	struct peer *p = peer_closed(s);
	struct endpoint local = {ipaddr_v4(0, 0, 0, 0), 80};

	peer_switches(p, 80, 4000);
	if (s.prepare)
		s.prepare(&p->cx, p->sock);
	expect_equal(p, sock_listen(&p->cx, p->sock, &local, s.backlog), 0);
	expect_state(p, S_LISTEN);
	p->listener = p->sock;
	p->sock = REF_NONE;
	starts_now(p);
	return p;
}

struct peer *peer_syn_sent_with(struct setup s)
{
	struct peer *p = peer_closed(s);

	peer_switches(p, 4000, 80);
	if (s.prepare)
		s.prepare(&p->cx, p->sock);
	expect_equal(p, app_connect(p), -EINPROGRESS);
	expect_segment(p, SEG(.flags = SYN, .seq = 1000, .len = 0));
	expect_state(p, S_SYN_SENT);
	starts_now(p);
	return p;
}

struct peer *peer_syn_received_with(struct setup s)
{
	struct peer *p = peer_listen_with(s);

	peer_sends(p, NOW, SEG(.flags = SYN, .seq = 5000));
	expect_segment(p, SEG(.flags = SYN | ACK, .seq = 1000, .ack = 5001, .len = 0));
	expect_state(p, S_SYN_RECV);
	starts_now(p);
	return p;
}

struct peer *peer_syn_received_active_with(struct setup s)
{
	struct peer *p = peer_syn_sent_with(s);

	wait_rtt(p);
	peer_sends(p, NOW, SEG(.flags = SYN, .seq = 5000));
	expect_segment(p, SEG(.flags = SYN | ACK, .seq = 1000, .ack = 5001, .len = 0));
	expect_state(p, S_SYN_RECV);
	starts_now(p);
	return p;
}

struct peer *peer_established_with(struct setup s)
{
	struct peer *p = peer_syn_sent_with(s);

	wait_rtt(p);
	peer_sends(p, NOW, SEG(.flags = SYN | ACK, .seq = 5000, .ack = 1001));
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5001, .len = 0));
	expect_state(p, S_ESTABLISHED);
	expect_that(p, app_edges(p) & SOCK_OUT);
	expect_equal(p, app_connect(p), 0);
	starts_now(p);
	return p;
}

struct peer *peer_accepted_with(struct setup s)
{
	struct peer *p = peer_syn_received_with(s);

	wait_rtt(p);
	peer_sends(p, NOW, SEG(.flags = ACK, .seq = 5001, .ack = 1001));
	app_accept(p);
	expect_state(p, S_ESTABLISHED);
	starts_now(p);
	return p;
}

struct peer *peer_close_wait_with(struct setup s)
{
	struct peer *p = peer_established_with(s);

	peer_sends(p, NOW, SEG(.flags = FIN | ACK));
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .ack = 5002));
	expect_state(p, S_CLOSE_WAIT);
	starts_now(p);
	return p;
}

struct peer *peer_fin_wait_1_with(struct setup s)
{
	struct peer *p = peer_established_with(s);

	app_shutdown(p, 1);
	expect_segment(p, SEG(.flags = FIN | ACK, .seq = 1001, .ack = 5001, .len = 0));
	expect_state(p, S_FIN_WAIT1);
	starts_now(p);
	return p;
}

struct peer *peer_fin_wait_2_with(struct setup s)
{
	struct peer *p = peer_fin_wait_1_with(s);

	wait_rtt(p);
	peer_sends(p, NOW, SEG(.flags = ACK, .ack = 1002));
	expect_state(p, S_FIN_WAIT2);
	starts_now(p);
	return p;
}

struct peer *peer_closing_with(struct setup s)
{
	struct peer *p = peer_fin_wait_1_with(s);

	peer_sends(p, NOW, SEG(.flags = FIN | ACK, .ack = 1001));
	expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002));
	expect_state(p, S_CLOSING);
	starts_now(p);
	return p;
}

struct peer *peer_last_ack_with(struct setup s)
{
	struct peer *p = peer_close_wait_with(s);

	app_shutdown(p, 1);
	expect_segment(p, SEG(.flags = FIN | ACK, .seq = 1001, .ack = 5002));
	expect_state(p, S_LAST_ACK);
	starts_now(p);
	return p;
}

struct peer *peer_time_wait_with(struct setup s)
{
	struct peer *p = peer_fin_wait_2_with(s);

	peer_sends(p, NOW, SEG(.flags = FIN | ACK));
	expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002));
	expect_state(p, S_TIME_WAIT);
	starts_now(p);
	return p;
}

struct peer *peer_orphan_time_wait_with(struct setup s)
{
	struct peer *p = peer_fin_wait_2_with(s);

	app_close(p);
	peer_sends(p, NOW, SEG(.flags = FIN | ACK));
	expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002));
	expect_equal(p, pool_live(&p->cx, POOL_TIMEWAIT), 1);
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 0);
	starts_now(p);
	return p;
}
