/* test_tcp_icmp.c - RFC 5927: which quotes are believed, and what an error does in each state. */
#include "core/send.h"
#include "tests/unit/segpeer.h"

static uint8_t bytes[4096];
static uint32_t iss;
static uint16_t port;

/* An established connection with n octets in flight. */
static ref open_with(uint32_t n)
{
	struct iovec iov = {bytes, n};

	start();
	ref s = connected(&iss, &port);
	if (n)
		CHECK_EQ(sock_send(&t.cx, s, &iov, 1, 0), n);
	stack_flush(&t.cx);
	testcx_forget(&t);
	return s;
}

/* A SYN in flight. */
static ref open_syn(void)
{
	struct endpoint any = {0}, to = peer_end(4000), mine;

	start();
	ref s = sock_create(&t.cx);
	CHECK_EQ(sock_connect(&t.cx, s, &any, &to), -EINPROGRESS);
	sock_names(&t.cx, s, &mine, NULL);
	port = mine.port;
	iss = heard().seq.v;
	return s;
}

/* An error about our segment from `local` to peer:4000. */
static void report(uint16_t local, uint32_t seq, int err, bool hard, uint32_t mtu)
{
	struct endpoint from = our_end(local), to = peer_end(4000);

	tcp_icmp_error(&t.cx, &from, &to, seq_of(seq), err, hard, mtu);
	stack_flush(&t.cx);
}

static uint64_t ignored(void)
{
	return stack_counters(&t.cx)->icmp_ignored;
}

/* SND.UNA =< SEQ < SND.NXT, and no more. */
static void test_window_of_belief(void)
{
	ref s = open_with(100);
	struct tcb *c = tcb_at(&t.cx, s);

	report(port, iss, EHOSTUNREACH, false, 0); /* before SND.UNA */
	CHECK_EQ(ignored(), 1);
	report(port, iss + 101, EHOSTUNREACH, false, 0); /* SND.NXT: a bare ACK's, never to be sent again */
	CHECK_EQ(ignored(), 2);
	report(port, iss + 102, EHOSTUNREACH, false, 0);
	report(port, iss + 1 + 0x80000000u, EHOSTUNREACH, false, 0);
	CHECK_EQ(ignored(), 4);
	CHECK_EQ(c->soft_error, 0);
	report(port, iss + 1, EHOSTUNREACH, false, 0);
	CHECK_EQ(c->soft_error, EHOSTUNREACH);
	report(port, iss + 100, ENETUNREACH, false, 0); /* the last octet */
	CHECK_EQ(c->soft_error, ENETUNREACH);
	CHECK_EQ(ignored(), 4);
	deliver_from(4000, port, TH_ACK, 5001, iss + 101, 0);
	report(port, iss + 100, EPROTO, false, 0); /* acknowledged meanwhile */
	report(port, iss + 101, EPROTO, false, 0); /* nothing is in flight */
	CHECK_EQ(ignored(), 6);
	CHECK_NE(c->soft_error, EPROTO);
	finish();
}

/* A FIN takes a number and can be quoted. */
static void test_fin_quoted(void)
{
	ref s = open_with(0);

	CHECK_EQ(sock_shutdown(&t.cx, s, 1), 0);
	stack_flush(&t.cx);
	report(port, iss + 2, EHOSTUNREACH, false, 0);
	CHECK_EQ(ignored(), 1);
	report(port, iss + 1, EHOSTUNREACH, false, 0);
	CHECK_EQ(ignored(), 1);
	CHECK_EQ(tcb_at(&t.cx, s)->soft_error, EHOSTUNREACH);
	finish();
}

/* The SYN's number is ISS: it alone ends an open. */
static void test_syn_sent(void)
{
	ref s = open_syn();

	report(port, iss - 1, ECONNREFUSED, true, 0);
	report(port, iss + 1, ECONNREFUSED, true, 0);
	CHECK_EQ(ignored(), 2);
	CHECK_EQ(state_at(s), TCPS_SYN_SENT);
	report(port, iss, ECONNREFUSED, true, 0);
	CHECK_EQ(state_at(s), TCPS_CLOSED);
	CHECK_EQ(sock_take_error(&t.cx, s), ECONNREFUSED);
	CHECK_EQ(stack_counters(&t.cx)->tcp_attempt_fail, 1);
	finish();
	s = open_syn(); /* a soft one, too, as in Linux; the sign does not matter */
	report(port, iss, -EHOSTUNREACH, false, 0);
	CHECK_EQ(state_at(s), TCPS_CLOSED);
	CHECK_EQ(sock_take_error(&t.cx, s), EHOSTUNREACH);
	finish();
}

/* A child in SYN-RECEIVED goes by a hard error only. */
static void test_syn_received(void)
{
	start();
	ref l = listener(5);
	deliver(TH_SYN, 5000, 0, 0);
	iss = heard().seq.v;
	report(80, iss, EHOSTUNREACH, false, 0);
	CHECK_EQ(tcb_at(&t.cx, l)->syn_count, 1);
	report(80, iss + 1, ECONNREFUSED, true, 0);
	CHECK_EQ(tcb_at(&t.cx, l)->syn_count, 1);
	CHECK_EQ(ignored(), 1);
	report(80, iss, ECONNREFUSED, true, 0);
	CHECK_EQ(tcb_at(&t.cx, l)->syn_count, 0);
	CHECK_EQ(pool_live(&t.cx, POOL_TCB), 1);
	finish();
}

/* A synchronised connection only takes note; SO_ERROR shows it. */
static void test_established(void)
{
	ref s = open_with(100);

	report(port, iss + 1, ECONNREFUSED, true, 0);
	CHECK_EQ(state_at(s), TCPS_ESTABLISHED);
	CHECK_EQ(t.frame_count, 0);
	CHECK_EQ(sock_events(&t.cx, s) & SOCK_ERR, 0);
	CHECK_EQ(sock_take_error(&t.cx, s), ECONNREFUSED);
	CHECK_EQ(sock_take_error(&t.cx, s), 0);
	finish();
}

static void test_path_mtu(void)
{
	ref s = open_with(1460);
	struct tcb *c = tcb_at(&t.cx, s);

	report(port, iss + 1461, EMSGSIZE, false, 1000); /* not in flight */
	CHECK_EQ(ignored(), 1);
	CHECK_EQ(c->pmtu, 0);
	report(port, iss + 1, EMSGSIZE, false, 1500); /* what the device has: nothing new */
	report(port, iss + 1, EMSGSIZE, false, 9000);
	CHECK_EQ(c->pmtu, 0);
	CHECK_EQ(t.frame_count, 0);
	report(port, iss + 1, EMSGSIZE, false, 1499);
	CHECK_EQ(c->pmtu, 1499);
	CHECK_EQ(c->snd_mss, 1459);
	CHECK_GT(t.frame_count, 0); /* what was too long goes again at once */
	report(port, iss + 1, EMSGSIZE, false, 1499);
	report(port, iss + 1, EMSGSIZE, false, 1500); /* never up again */
	CHECK_EQ(c->pmtu, 1499);
	testcx_forget(&t);
	report(port, iss + 1, EMSGSIZE, false, 68); /* CVE-2019-11479, RFC 5927 7.2: the floor */
	CHECK_EQ(c->pmtu, PMTU_FLOOR);
	CHECK_EQ(c->snd_mss, 512);
	CHECK_EQ(c->soft_error, 0);
	finish();
}

/* Listeners, TIME-WAITs and tuples unknown are out of reach. */
static void test_nobody(void)
{
	ref s = open_with(0);

	listener(5);
	report(80, 1000, ECONNREFUSED, true, 0);
	report(81, 1000, ECONNREFUSED, true, 0);
	CHECK_EQ(ignored(), 2);
	sock_close(&t.cx, s);
	deliver_from(4000, port, TH_FIN | TH_ACK, 5001, iss + 2, 0);
	CHECK_EQ(pool_live(&t.cx, POOL_TIMEWAIT), 1);
	report(port, iss + 1, ECONNREFUSED, true, 0);
	CHECK_EQ(ignored(), 3);
	CHECK_EQ(pool_live(&t.cx, POOL_TIMEWAIT), 1);
	finish();
}

/* A neighbour's silence: every open to it ends; what is idle, or goes elsewhere, is left alone. */
static void test_unreachable(void)
{
	struct ipaddr silent = ipaddr_v4(10, 0, 0, 1), other = ipaddr_v4(10, 0, 0, 9);
	struct endpoint any = {0}, to = peer_end(4001), away = {other, 80};
	ref busy = open_with(100);
	uint32_t idle_iss;
	uint16_t idle_port;
	ref idle = connected(&idle_iss, &idle_port), a = sock_create(&t.cx), b = sock_create(&t.cx);

	CHECK_EQ(sock_connect(&t.cx, a, &any, &to), -EINPROGRESS);
	CHECK_EQ(sock_connect(&t.cx, b, &any, &away), -EINPROGRESS);
	ref l = listener(5);
	tcp_unreachable(&t.cx, &silent, -EHOSTUNREACH);
	CHECK_EQ(state_at(a), TCPS_CLOSED);
	CHECK_EQ(sock_take_error(&t.cx, a), EHOSTUNREACH);
	CHECK_EQ(state_at(b), TCPS_SYN_SENT);
	CHECK_EQ(state_at(busy), TCPS_ESTABLISHED);
	CHECK_EQ(tcb_at(&t.cx, busy)->soft_error, EHOSTUNREACH);
	CHECK_EQ(tcb_at(&t.cx, idle)->soft_error, 0);
	CHECK_EQ(state_at(l), TCPS_LISTEN);
	finish();
}

CHECK_MAIN("tcp_icmp", {"MUST-54, RFC 5927 4.1: SND.UNA =< SEQ < SND.NXT", test_window_of_belief},
	   {"RFC 5927 4.1: a FIN in flight", test_fin_quoted},
	   {"SHLD-26, RFC 5927 4.1: only ISS ends an open", test_syn_sent},
	   {"SHLD-26: a child goes by a hard error", test_syn_received},
	   {"MUST-56, SHLD-25: a connection takes note", test_established},
	   {"RFC 1191, CVE-2019-11479: the path MTU and its floor", test_path_mtu},
	   {"errors about nobody", test_nobody}, {"MUST-56: a silent neighbour", test_unreachable})
