/*
 * A call that has moved some bytes when the connection fails says how many; the
 * error is the next call's. send() and recv() with MSG_WAITALL, writev(), readv(),
 * with a reset and with a time-out, SO_ERROR in between.
 */
#include "../asleep.h"
#include "both.h"

#define MUCH (8 << 20)

static char much[MUCH];
static int fd;

static void *sends(void *arg)
{
	struct iovec v[2] = {{much, MUCH / 2}, {much + MUCH / 2, MUCH / 2}};

	return (void *)(arg ? writev(fd, v, 2) : send(fd, much, MUCH, MSG_NOSIGNAL));
}

static void *receives(void *arg)
{
	struct iovec v[2] = {{much, 50}, {much + 50, 50}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};

	return (void *)(arg ? recvmsg(fd, &m, MSG_WAITALL) : recv(fd, much, 100, MSG_WAITALL));
}

static void after(bool sending, bool ask)
{
	int error = -1;
	socklen_t len = sizeof error;

	if (ask) {
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
		SAY("SO_ERROR %s", strerrorname_np(error));
	}
	for (int i = 0; i < 2; i++) {
		if (sending)
			SHOW(send(fd, much, 1, MSG_NOSIGNAL));
		SHOW(recv(fd, much, 1, 0));
	}
	close(fd);
}

static void cut_sender(long vector, bool ask)
{
	pthread_t t;
	void *r;

	SAY("-- reset under a %s%s", vector ? "writev" : "send", ask ? ", asked" : "");
	peer("rcvbuf 8192");
	fd = connected();
	peer("rcvbuf 0");
	t = asleep_create(sends, (void *)vector);
	peer("rst");
	pthread_join(t, &r);
	SAY("%s", (long)r > 0 && (long)r < MUCH ? "a part" : (long)r < 0 ? "an error" : "all");
	after(true, ask);
}

static void cut_receiver(long vector, bool ask)
{
	pthread_t t;
	void *r;

	SAY("-- reset under a %s%s", vector ? "recvmsg" : "recv", ask ? ", asked" : "");
	fd = connected();
	peer("send 10");
	peer("taken");
	t = asleep_create(receives, (void *)vector);
	peer("rst");
	pthread_join(t, &r);
	SAY("%ld bytes", (long)r);
	after(false, ask);
}

/* Nobody takes anything, and the window stays shut: TCP_USER_TIMEOUT ends it. */
static void timed_out(void)
{
	unsigned int ms = 500;
	pthread_t t;
	void *r;

	SAY("-- a time-out under a send");
	peer("rcvbuf 8192");
	fd = connected();
	peer("rcvbuf 0");
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
	t = asleep_create(sends, NULL);
	pthread_join(t, &r);
	SAY("%s", (long)r > 0 && (long)r < MUCH ? "a part" : (long)r < 0 ? "an error" : "all");
	after(true, false);
	peer("close");
}

static void *receives_messages(void *arg)
{
	struct iovec v[2] = {{much, 100}, {much + 100, 100}};
	struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = v, .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = v + 1, .msg_iovlen = 1}}};

	(void)arg;
	SHOW(recvmmsg(fd, m, 2, 0, NULL));
	SHOW(m[0].msg_len);
	return NULL;
}

/* recvmmsg(2): an error behind the first message is the next call's, and one that is there goes before all
 * data. */
static void cut_messages(bool asleep, bool ask)
{
	pthread_t t;

	SAY("-- reset %s a message%s", asleep ? "behind" : "before", ask ? ", asked" : "");
	fd = connected();
	peer("send 10");
	peer("taken");
	if (asleep)
		t = asleep_create(receives_messages, NULL);
	peer("rst");
	polled(fd, POLLRDHUP, 20000);
	if (asleep)
		pthread_join(t, NULL);
	else
		receives_messages(NULL);
	after(false, ask);
}

int main(void)
{
	for (int ask = 0; ask < 2; ask++) {
		for (long vector = 0; vector < 2; vector++) {
			cut_sender(vector, ask);
			cut_receiver(vector, ask);
		}
	}
	for (int i = 0; i < 4; i++)
		cut_messages(i & 1, i & 2);
	timed_out();
	return 0;
}
