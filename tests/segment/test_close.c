/*
 * test_close.c - orderly close from either side, half-close, crossing FINs,
 * TIME-WAIT, and the resets that an application's close can cause.
 */
#include "dialogue.h"

TEST(active_close, "RFC 9293 3.6 case 1, MUST-13: FIN, its ACK, the peer's FIN, TIME-WAIT for 2 MSL, gone")
{
	struct peer *p = peer_fin_wait_2();

	peer_sends(p, AT_MS(10), SEG(.flags = FIN | ACK));
	expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002, .len = 0));
	expect_state(p, S_TIME_WAIT);
	expect_equal(p, app_try_read(p, 10, 0), 0);
	app_close(p);
	advance_to(p, AT_MS(10) + AT_S(59));
	expect_equal(p, pool_live(&p->cx, POOL_TIMEWAIT), 1);
	advance_to(p, AT_MS(10) + AT_S(61));
	expect_equal(p, pool_live(&p->cx, POOL_TIMEWAIT), 0);
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 0);
	expect_that(p, stack_deadline(&p->cx) == NSEC_NEVER);
}

TEST(passive_close, "RFC 9293 3.6 case 2, MUST-12: the peer's FIN reads as end of stream; our FIN ends in "
		    "LAST-ACK and CLOSED")
{
	struct peer *p = peer_close_wait();

	expect_events(p, SOCK_IN | SOCK_RDHUP | SOCK_HUP, SOCK_IN | SOCK_RDHUP);
	expect_equal(p, app_try_read(p, 10, 0), 0);
	expect_equal(p, app_try_read(p, 10, 0), 0);
	app_write(p, 100);
	expect_segment(p, SEG(.flags = ACK, .seq = 1001, .len = 100, .psh = 1));
	app_close(p);
	expect_segment(p, SEG(.flags = FIN | ACK, .seq = 1101, .ack = 5002));
	expect_state(p, S_LAST_ACK);
	peer_sends(p, AT_MS(10), SEG(.flags = ACK, .ack = 1102));
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 0);
	expect_that(p, stack_deadline(&p->cx) == NSEC_NEVER);
}

TEST(half_close, "RFC 9293 3.6, MAY-1: after shutdown for writing, data still arrives; writing is EPIPE")
{
	struct peer *p = peer_fin_wait_1();

	expect_equal(p, app_try_write(p, 1, 0), -EPIPE);
	peer_sends(p, AT_MS(5), SEG(.flags = ACK, .ack = 1002, .len = 500));
	peer_takes_all(p);
	expect_state(p, S_FIN_WAIT2);
	app_read(p, 500);
	peer_sends(p, AT_MS(6), SEG(.flags = ACK | FIN, .len = 300));
	expect_segment(p, SEG(.flags = ACK, .ack = 5001 + 500 + 300 + 1));
	app_read(p, 300);
	expect_equal(p, app_try_read(p, 1, 0), 0);
	expect_state(p, S_TIME_WAIT);
}

TEST(half_close_by_peer, "RFC 9293 3.6: in CLOSE-WAIT the application goes on sending")
{
	struct peer *p = peer_close_wait();

	for (int i = 0; i < 5; i++) {
		app_write(p, 1460);
		expect_segment(p, SEG(.len = 1460, .seq = 1001 + 1460 * i, .ack = 5002));
		peer_sends(p, AT_MS(10 * i + 10), SEG());
	}
	app_shutdown(p, 1);
	expect_segment(p, SEG(.flags = FIN | ACK));
	expect_state(p, S_LAST_ACK);
}

TEST(fin_follows_data, "RFC 9293 3.10.4: close queues FIN behind unsent data; the last segment carries it")
{
	struct peer *p = peer_established_with(WITH(.wnd = 1000));

	app_write(p, 1500);
	expect_segment(p, SEG(.len = 1000, .flags = ACK));
	app_shutdown(p, 1);
	expect_nothing(p);
	expect_state(p, S_FIN_WAIT1);
	peer_sends(p, AT_MS(5), SEG(.ack = 2001));
	expect_segment(p, SEG(.flags = FIN | ACK, .seq = 2001, .len = 500));
}

TEST(simultaneous_close, "RFC 9293 3.6 case 3: FINs cross: CLOSING, then TIME-WAIT on the ACK of ours")
{
	struct peer *p = peer_closing();

	expect_equal(p, counter(p, tcp_simultaneous_close), 1);
	peer_sends(p, AT_MS(5), SEG(.flags = ACK, .ack = 1002));
	expect_state(p, S_TIME_WAIT);
	expect_nothing(p);
}

TEST(closing_fin_retransmitted,
     "RFC 9293 3.10.7.4 step 8: a repeated FIN in CLOSING is ACKed, ours goes again on time-out")
{
	struct peer *p = peer_closing();

	peer_sends(p, AT_MS(5), SEG(.flags = FIN | ACK, .seq = 5001, .ack = 1001));
	expect_segment(p, SEG(.flags = ACK, .ack = 5002));
	advance_to(p, AT_MS(400));
	expect_segment(p, SEG(.flags = FIN | ACK, .seq = 1001, .ack = 5002));
	peer_takes_all(p);
}

TEST(fin_ack_of_fin,
     "RFC 9293 3.10.7.4: FIN that acknowledges ours leads from FIN-WAIT-1 straight to TIME-WAIT")
{
	struct peer *p = peer_fin_wait_1();

	peer_sends(p, AT_MS(5), SEG(.flags = FIN | ACK, .ack = 1002));
	expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002));
	expect_state(p, S_TIME_WAIT);
}

TEST(fin_retransmission, "RFC 6298 5.1, 5.5: an unacknowledged FIN is retransmitted with back-off")
{
	struct peer *p = peer_fin_wait_1();
	nsec rto = (nsec)info_of(p).rto * NS_PER_US;

	expect_at(p, rto, SEG(.flags = FIN | ACK, .seq = 1001));
	expect_at(p, 3 * rto, SEG(.flags = FIN | ACK, .seq = 1001));
	expect_at(p, 7 * rto, SEG(.flags = FIN | ACK, .seq = 1001));
}

TEST(time_wait_reacks_fin,
     "MUST-13, RFC 9293 3.10.7.4 step 8: a repeated FIN in TIME-WAIT is ACKed and restarts 2 MSL")
{
	struct peer *p = peer_orphan_time_wait();

	peer_sends(p, AT_S(30), SEG(.flags = FIN | ACK, .seq = 5001, .ack = 1002));
	expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002));
	advance_to(p, AT_S(85));
	expect_equal(p, pool_live(&p->cx, POOL_TIMEWAIT), 1);
	advance_to(p, AT_S(91));
	expect_equal(p, pool_live(&p->cx, POOL_TIMEWAIT), 0);
}

TEST(time_wait_keeps_tuple, "MUST-13: a tuple in TIME-WAIT is not given to a new connect")
{
	struct peer *p = peer_orphan_time_wait();

	p->sock = sock_create(&p->cx);
	int r = app_connect(p);
	expect_that(p, r == -EADDRNOTAVAIL || r == -EADDRINUSE);
	expect_nothing(p);
}

/* A passive connection, closed by us first, so that TIME-WAIT is on the listener's side. */
static struct peer *server_time_wait(struct setup s)
{
	struct peer *p = peer_accepted_with(s);

	app_close(p);
	expect_segment(p, SEG(.flags = FIN | ACK, .seq = 1001));
	peer_sends(p, NOW, SEG(.flags = FIN | ACK, .ack = 1002));
	expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002));
	expect_equal(p, pool_live(&p->cx, POOL_TIMEWAIT), 1);
	return p;
}

TEST(time_wait_reuse_by_sequence,
     "MAY-2, RFC 9293 3.10.7.4 step 4: a SYN above the old window opens anew out of TIME-WAIT")
{
	struct peer *p = server_time_wait(WITH());
	uint32_t old_iss = p->conv->our_iss, old_end = 2;

	peer_sends(p, AT_S(2), SEG(.flags = SYN, .seq = 5000 + 1000000));
	struct emitted *e = peer_takes(p);
	expect_that(p, e && e->im.flags == (SYN | ACK));
	expect_equal(p, e->im.ack, p->conv->peer_iss + 1000001);
	expect_that(p, (int32_t)(e->im.seq - (old_iss + old_end)) > 0);
	expect_equal(p, counter(p, tcp_tw_reuse), 1);
}

TEST(time_wait_reuse_by_timestamp,
     "SHLD-4, RFC 6191 2: a SYN with a newer timestamp opens anew even with a lower sequence number")
{
	struct peer *p = server_time_wait(WITH(.ts = true));

	p->conv->emitter.edge_known = false;
	peer_sends(p, AT_S(2), SEG(.flags = SYN, .seq = 4000));
	struct emitted *e = peer_takes(p);
	expect_that(p, e && e->im.flags == (SYN | ACK));
}

TEST(time_wait_refuses_old_syn, "MAY-2, RFC 6191 2: an old SYN in TIME-WAIT is answered by ACK only")
{
	struct peer *p = server_time_wait(WITH(.ts = true));

	peer_sends(p, AT_S(2), SEG(.flags = SYN, .seq = 4000, .ts_val = 5));
	expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002, .len = 0));
	expect_equal(p, pool_live(&p->cx, POOL_TIMEWAIT), 1);
}

TEST(time_wait_ignores_reset, "RFC 1337: RST in TIME-WAIT does not end it")
{
	struct peer *p = peer_orphan_time_wait();

	peer_sends(p, AT_S(1), SEG(.flags = RST, .seq = 5002));
	peer_sends(p, AT_S(2), SEG(.flags = RST, .seq = 5001));
	peer_sends(p, AT_S(3), SEG(.flags = RST | ACK, .seq = 5010));
	expect_nothing(p); /* and none is answered */
	expect_equal(p, pool_live(&p->cx, POOL_TIMEWAIT), 1);
}

static void tw_max_2(struct stack_config *c)
{
	c->tw_max = 2;
}

TEST(time_wait_cap, "RFC 4987, requirements 3: TIME-WAITs beyond the cap end early, the rest live")
{
	struct peer *p = peer_listen_with(WITH(.configure = tw_max_2));

	for (uint16_t port = 4000; port < 4004; port++) {
		peer_switches(p, 80, port);
		peer_sends(p, NOW, SEG(.flags = SYN));
		peer_sends(p, NOW, SEG(.flags = ACK));
		app_accept(p);
		app_close(p);
		peer_sends(p, NOW, SEG(.flags = FIN | ACK));
		peer_takes_all(p);
	}
	expect_equal(p, pool_live(&p->cx, POOL_TIMEWAIT), 2);
	expect_equal(p, counter(p, tcp_tw_overflow), 2);
}

TEST(close_with_unread_data, "SHLD-3, RFC 1122 4.2.2.13: close with unread data resets")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(1), SEG(.len = 100));
	peer_takes_all(p);
	app_close(p);
	expect_segment(p, SEG(.flags = RST | ACK, .seq = 1001, .ack = 5101));
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 0);
	expect_equal(p, counter(p, tcp_abort_data), 1);
}

TEST(data_after_close, "SHLD-3: data that arrives after a full close resets")
{
	struct peer *p = peer_fin_wait_2();

	app_close(p);
	peer_sends(p, AT_MS(1), SEG(.len = 100));
	struct emitted *e = peer_takes(p);
	expect_that(p, e && (e->im.flags & RST));
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 0);
}

TEST(linger_zero, "RFC 9293 3.10.5: close with linger time 0 aborts: RST, no FIN")
{
	struct peer *p = peer_established();

	app_set(p, SOCK_OPT_LINGER, 0);
	app_write(p, 10);
	expect_segment(p, SEG(.len = 10));
	app_close(p);
	struct emitted *e = peer_takes(p);
	expect_that(p, e && (e->im.flags & RST));
	expect_equal(p, (uint32_t)(e->im.seq - p->conv->our_iss), 11);
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 0);
	expect_equal(p, stack_buffer_bytes(&p->cx), 0);
}

TEST(close_in_syn_sent, "RFC 9293 3.10.4: close in SYN-SENT drops the TCB; a late SYN-ACK meets RST")
{
	struct peer *p = peer_syn_sent();

	app_close(p);
	expect_nothing(p);
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 0);
	peer_sends(p, AT_MS(5), SEG(.flags = SYN | ACK));
	expect_segment(p, SEG(.flags = RST, .seq = 1001));
}

TEST(abort_sends_reset, "RFC 9293 3.10.5: abort in a synchronised state sends RST and drops the queues")
{
	struct peer *p = peer_established();

	sock_abort(&p->cx, p->sock);
	stack_flush(&p->cx);
	struct emitted *e = peer_takes(p);
	expect_that(p, e && (e->im.flags & RST));
	expect_equal(p, e->im.seq, p->conv->our_iss + 1);
	expect_equal(p, stack_buffer_bytes(&p->cx), 0);
	app_close(p);
	expect_nothing(p);
}

TEST(fin_wait_2_of_orphan, "RFC 9293 3.6, requirements 3: an orphan in FIN-WAIT-2 ends after fin_timeout")
{
	struct peer *p = peer_fin_wait_2();

	app_close(p);
	advance_to(p, AT_S(59));
	expect_that(p, pool_live(&p->cx, POOL_TCB) + pool_live(&p->cx, POOL_TIMEWAIT) == 1);
	advance_to(p, AT_S(125));
	expect_equal(p, pool_live(&p->cx, POOL_TCB) + pool_live(&p->cx, POOL_TIMEWAIT), 0);
	expect_nothing(p);
}

TEST(fin_wait_2_of_owner,
     "RFC 9293 3.6: while the application holds the socket, FIN-WAIT-2 has no time limit")
{
	struct peer *p = peer_fin_wait_2();

	advance_to(p, AT_S(7000));
	expect_state(p, S_FIN_WAIT2);
	peer_sends(p, NOW, SEG(.len = 10));
	peer_takes_all(p);
	app_read(p, 10);
}

TEST(linger2_of_orphan, "RFC 9293 3.6: TCP_LINGER2 sets the orphan's time in FIN-WAIT-2")
{
	struct peer *p = peer_fin_wait_2();

	app_set(p, SOCK_OPT_LINGER2, 5);
	app_close(p);
	advance_to(p, AT_S(4));
	expect_that(p, pool_live(&p->cx, POOL_TCB) + pool_live(&p->cx, POOL_TIMEWAIT) == 1);
	advance_to(p, AT_S(6));
	expect_equal(p, pool_live(&p->cx, POOL_TCB) + pool_live(&p->cx, POOL_TIMEWAIT), 0);
}

TEST(linger2_on_a_slow_path, "RFC 9293 3.6: TCP_LINGER2 leaves the peer's FIN the time to be sent again")
{
	struct peer *p = peer_fin_wait_2_with(WITH(.rtt = AT_MS(900)));

	app_set(p, SOCK_OPT_LINGER2, 1);
	app_close(p);
	advance_to(p, AT_S(5));
	expect_that(p, pool_live(&p->cx, POOL_TCB) + pool_live(&p->cx, POOL_TIMEWAIT) == 1);
	advance_to(p, AT_S(20));
	expect_equal(p, pool_live(&p->cx, POOL_TCB) + pool_live(&p->cx, POOL_TIMEWAIT), 0);
}

TEST(linger2_negative, "RFC 9293 3.6: a negative TCP_LINGER2 resets instead of waiting in FIN-WAIT-2")
{
	struct peer *p = peer_fin_wait_2();

	app_set(p, SOCK_OPT_LINGER2, -1);
	app_close(p);
	expect_segment(p, SEG(.flags = RST | ACK, .seq = 1002));
	expect_equal(p, pool_live(&p->cx, POOL_TCB), 0);
}

TEST(last_ack_retransmits,
     "RFC 9293 3.10.7.4: in LAST-ACK a repeated FIN of the peer is ACKed; the ACK of ours closes")
{
	struct peer *p = peer_last_ack();

	peer_sends(p, AT_MS(5), SEG(.flags = FIN | ACK, .seq = 5001, .ack = 1001));
	expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002));
	peer_sends(p, AT_MS(6), SEG(.flags = ACK, .ack = 1002));
	expect_state(p, S_CLOSE);
	expect_nothing(p);
}

TEST(fin_out_of_order, "SHLD-31: a FIN beyond a hole waits until the hole is filled")
{
	struct peer *p = peer_established();

	peer_sends(p, AT_MS(1), SEG(.flags = FIN | ACK, .seq = 5101, .len = 100));
	expect_segment(p, SEG(.flags = ACK, .ack = 5001));
	expect_state(p, S_ESTABLISHED);
	peer_sends(p, AT_MS(2), SEG(.seq = 5001, .len = 100));
	expect_segment(p, SEG(.flags = ACK, .ack = 5202));
	expect_state(p, S_CLOSE_WAIT);
	app_read(p, 200);
	expect_equal(p, app_try_read(p, 1, 0), 0);
}

TEST(shutdown_read, "RFC 9293 3.6: shutdown for reading reads as end of stream; the connection goes on")
{
	struct peer *p = peer_established();

	app_shutdown(p, 0);
	expect_equal(p, app_try_read(p, 1, 0), 0);
	expect_events(p, SOCK_IN | SOCK_RDHUP, SOCK_IN | SOCK_RDHUP);
	app_write(p, 10);
	expect_segment(p, SEG(.len = 10));
}

TEST(closed_both_ways_events, "MUST-12: after both FINs poll shows HUP")
{
	struct peer *p = peer_last_ack();

	peer_sends(p, AT_MS(6), SEG(.flags = ACK, .ack = 1002));
	expect_events(p, SOCK_HUP | SOCK_IN | SOCK_RDHUP, SOCK_HUP | SOCK_IN | SOCK_RDHUP);
	expect_equal(p, app_try_read(p, 1, 0), 0);
}

TEST(draining,
     "RFC 9293 3.10.4: what an exiting process must wait for is known until the FIN is acknowledged")
{
	struct peer *p = peer_established();

	expect_equal(p, stack_draining(&p->cx), 0);
	app_write(p, 100);
	expect_segment(p, SEG(.len = 100));
	expect_that(p, sock_draining(&p->cx, p->sock));
	app_close(p);
	expect_segment(p, SEG(.flags = FIN | ACK, .seq = 1101));
	expect_equal(p, stack_draining(&p->cx), 1);
	peer_sends(p, AT_MS(5), SEG(.ack = 1102));
	expect_equal(p, stack_draining(&p->cx), 0);
	app_edges(p);
}

TEST(tw_old_data_answered,
     "RFC 9293 3.10.7.4: old data is acknowledged each time in TIME-WAIT; without data twice a second")
{
	struct peer *p = peer_orphan_time_wait();

	for (int i = 1; i <= 3; i++) {
		peer_sends(p, AT_MS(i), SEG(.seq = 4901, .len = 100));
		expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002, .len = 0, .at = AT_MS(i)));
	}
	peer_sends(p, AT_MS(10), SEG(.seq = 4901));
	expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002, .len = 0, .at = AT_MS(10)));
	peer_sends(p, AT_MS(20), SEG(.seq = 4901));
	expect_nothing(p);
}

TEST(tw_old_timestamp, "RFC 7323 5.3 R1: an old timestamp is counted in TIME-WAIT, too, and answered")
{
	struct peer *p = peer_orphan_time_wait_with(WITH(.ts = true));

	peer_sends(p, AT_MS(1), SEG(.seq = 5002, .len = 100, .ts_val = 1000));
	expect_segment(p, SEG(.flags = ACK, .seq = 1002, .ack = 5002, .len = 0));
	expect_equal(p, counter(p, tcp_paws), 1);
}

TEST(reset_handshake_counted, "RFC 4022 tcpAttemptFails: a handshake that the peer resets, whoever began it")
{
	struct peer *p = peer_syn_received();

	peer_sends(p, AT_MS(1), SEG(.flags = RST, .seq = 5001));
	expect_equal(p, counter(p, tcp_attempt_fail), 1);
	p = peer_syn_received_active();
	peer_sends(p, AT_MS(1), SEG(.flags = RST, .seq = 5001));
	expect_equal(p, counter(p, tcp_attempt_fail), 1);
	expect_equal(p, counter(p, tcp_estab_reset), 0);
}
