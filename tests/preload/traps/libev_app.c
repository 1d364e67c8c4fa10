/*
 * libev_app.c - an application on libev's default loop, with a child watcher
 * (which owns SIGCHLD), a timer and sockets of the stack; the library's driver
 * has a loop of its own in the same process. Trap 22.
 */
#include "../peer.h"
#include <ev.h>
#include <sys/wait.h>

#define CHILDREN 5

static int children, statuses, ticks, echoes, fd;

static void done(struct ev_loop *loop)
{
	if (children == CHILDREN && ticks >= 10 && echoes >= 20)
		ev_break(loop, EVBREAK_ALL);
}

static void on_child(struct ev_loop *loop, ev_child *w, int revents)
{
	(void)revents;
	children++;
	statuses += WEXITSTATUS(w->rstatus) == 3;
	ev_child_stop(loop, w);
	done(loop);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)w;
	(void)revents;
	ticks++;
	done(loop);
}

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
	char b[64];

	(void)revents;
	if (recv(w->fd, b, sizeof b, MSG_DONTWAIT) > 0) {
		echoes++;
		send(w->fd, "x", 1, 0);
	}
	done(loop);
}

int main(void)
{
	struct ev_loop *loop = ev_default_loop(0);
	static ev_child child[CHILDREN];
	ev_timer timer;
	ev_io io;

	fd = peer_connect("e");
	ev_io_init(&io, on_io, fd, EV_READ);
	ev_io_start(loop, &io);
	ev_timer_init(&timer, on_timer, 0.01, 0.01);
	ev_timer_start(loop, &timer);
	for (int i = 0; i < CHILDREN; i++) {
		pid_t p = fork();
		if (!p)
			_exit(3);
		ev_child_init(&child[i], on_child, p, 0);
		ev_child_start(loop, &child[i]);
	}
	send(fd, "x", 1, 0);
	ev_run(loop, 0);
	printf("children %d, statuses %d, ticks %s, echoes %s, default loop %s\n", children, statuses,
	       ticks >= 10 ? "yes" : "no", echoes >= 20 ? "yes" : "no",
	       ev_default_loop(0) == loop && ev_is_default_loop(loop) ? "ours" : "lost");
	return 0;
}
