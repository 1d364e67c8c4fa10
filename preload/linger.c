/*
 * linger.c - close() that waits (SO_LINGER, socket(7)).
 *
 * Place in the flow: fdtable.c, before the last reference goes -> here -> wait.c.
 */
#include <pthread.h>

#include "preload/fdtable.h"
#include "preload/wait.h"

/* How long this close() must linger: SO_LINGER with a time, nothing unread, data on the way. 0: not at all.
 */
static nsec linger_time(struct stack_cx *cx, ref s)
{
	int linger = -1, unread = 0;

	if (sock_get_option(cx, s, SOCK_OPT_LINGER, &linger) < 0 || linger <= 0)
		return 0;
	sock_get_option(cx, s, SOCK_OPT_INQ, &unread);
	return unread > 0 ? 0 : (nsec)linger * NS_PER_S;
}

/*
 * SO_LINGER (socket(7)): close() returns when the queued data and the FIN were
 * acknowledged or the time is over; a signal ends it too. No poll event tells of
 * the last acknowledgement, and ERR and HUP may be up long before it: the thread
 * sleeps for frames and timers alone and looks again at short, growing intervals,
 * because another thread may have taken the frame.
 */
static bool linger_sleep(struct waitset *ws, nsec until)
{
	uint32_t before = thread_marks.ran;
	struct wait_result res;
	int slept = wait_sleep(ws, NULL, 0, until, NULL, &res);

	struct stack_cx *cx = netio_enter(the_stack);
	waitset_withdraw(ws, cx);
	netio_leave(the_stack);
	return !wait_interrupted(before) && slept != -EINTR; /* SIGCONT has no handler */
}

/*
 * Begin to linger: everything is queued, with the FIN. The time at which it ends; 0: not asked for.
 * What the device holds counts as received: unread, it makes of the close a reset, as in the kernel.
 */
static nsec linger_begin(struct description *p)
{
	struct stack_cx *cx = netio_enter(the_stack);
	nsec time = 0, deadline;

	/* no socket: another thread ends the process, and closed it */
	if (p->sock && p->holders == 1) {
		netio_drive(the_stack, cx);
		time = linger_time(cx, p->sock);
	}
	deadline = time ? cx->now + time : 0;
	if (deadline)
		sock_shutdown(cx, p->sock, 1);
	netio_leave(the_stack);
	return deadline;
}

void linger_wait(struct description *p)
{
	nsec deadline, step = NS_PER_MS, until;
	struct waitset *ws;
	bool more = true;
	int cancel;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	lib_enter();
	deadline = linger_begin(p);
	if (deadline && !thread_waitset(&ws)) {
		while (more) {
			struct stack_cx *cx = netio_enter(the_stack);
			netio_drive(the_stack, cx);
			more = p->sock && cx->now < deadline && sock_draining(cx, p->sock);
			if (more)
				waitset_publish(ws, cx);
			until = MIN_OF(deadline, cx->now + step);
			netio_leave(the_stack);
			more = more && linger_sleep(ws, until);
			step = MIN_OF(step * 2, 50 * NS_PER_MS);
		}
	}
	lib_leave();
	pthread_setcancelstate(cancel, NULL);
}
