/*
 * longjmp.c - leaves recv() by siglongjmp() and never calls the library again,
 * while the peer goes on sending: nobody is left to count as a waiter, the
 * driver thread must take the frames. Trap 33.
 */
#include "../peer.h"

static sigjmp_buf env;

static void jump(int sig)
{
	siglongjmp(env, sig);
}

int main(void)
{
	int fd = peer_connect("d200 z30000 s");
	struct itimerval it = {{0, 0}, {0, 50000}};
	char b;

	handle(SIGALRM, jump, 0);
	if (!sigsetjmp(env, 1)) {
		setitimer(ITIMER_REAL, &it, NULL);
		recv(fd, &b, 1, 0);
		return 1;
	}
	msleep(600);
	return 0;
}
