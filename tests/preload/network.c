/*
 * A process that moves to another network namespace keeps its connections and listeners in the old one;
 * sockets that it makes from then on are the new one's.
 */
#include "both.h"
#include <sched.h>

static char bytes[16];

static void *echo(void *arg)
{
	int fd = *(int *)arg;
	ssize_t r;

	while ((r = read(fd, bytes, 1)) == 1)
		if (write(fd, bytes, 1) != 1)
			break;
	return (void *)r;
}

/*
 * A thread that begins over there, and its parent in the old world, sleep beside each other: the one that is
 * elected for a frame must be able to ring the other.
 */
static void beside(int conn)
{
	long good = 0;
	pthread_t t;
	void *r;

	pthread_create(&t, NULL, echo, &conn);
	for (int i = 0; i < 200; i++)
		good += peer("send 1") == 1 && peer("recv 1") == 1;
	SAY("%ld of 200", good);
	peer("shutdown");
	pthread_join(t, &r);
	SAY("echo's end: %ld", (long)r);
}

static void moved(int conn, int listener, int listening_port)
{
	struct sockaddr_in sin = {0};
	socklen_t len = sizeof sin;
	int port, fd, more[2], status;
	pid_t pid;

	/* Another process sleeps on a connection of its own, before us in the line for frames. */
	pipe(more);
	pid = fork();
	if (!pid) {
		control = -1;
		fd = connected();
		if (write(more[1], "", 1) != 1)
			_exit(1);
		_exit(read(fd, &len, 1) == -1);
	}
	read(more[0], &status, 1);
	nap(50);
	SHOW(unshare(CLONE_NEWNET));
	beside(conn);
	peer("close");
	SAY("a listener of before");
	SHOW(peer("connect %d", listening_port));
	SHOW((fd = accept(listener, NULL, NULL)) > 0);
	SHOW(write(fd, bytes, 10));
	SHOW(peer("recv 10"));
	SHOW(getpeername(fd, (struct sockaddr *)&sin, &len));
	close(fd);
	peer("close");
	SAY("sockets of now");
	port = (int)peer("listen");
	fd = socket(AF_INET, SOCK_STREAM, 0);
	SHOW(connect_to(fd, peer_addr(), port));
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	SHOW(bind(fd, (struct sockaddr *)&(struct sockaddr_in){.sin_family = AF_INET}, sizeof sin));
	SHOW(listen(fd, 1));
	close(fd);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	int port, listener, status = -1;
	pid_t pid;

	if (getuid()) {
		SAY("only root can");
		return 0;
	}
	pid = fork();
	if (!pid) {
		int conn = connected();

		listener = listening(&port, 5);
		moved(conn, listener, port);
		close(conn);
		close(listener);
		exit(0);
	}
	waitpid(pid, &status, 0);
	SAY("it ended with %d", status);
	return 0;
}
