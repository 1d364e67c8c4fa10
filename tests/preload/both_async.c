/*
 * O_ASYNC: a signal when the socket becomes readable, to the owner, with
 * F_SETSIG's information; set before connect() and after. fcntl(2). Trap 35.
 */
#include "both.h"

static volatile int ran, fd_seen, band_in;

static void handler(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (sig != SIGIO) {
		fd_seen = info->si_fd;
		band_in = (info->si_band & POLLIN) != 0;
	}
	ran = 1;
}

static int signalled(void)
{
	int r;

	for (int i = 0; i < 4000 && !ran; i++)
		nap(5);
	r = ran;
	nap(50);
	ran = 0;
	return r;
}

int main(void)
{
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
	int port = (int)peer("listen"), fd = socket(AF_INET, SOCK_STREAM, 0);
	char buf[16];

	sigaction(SIGIO, &sa, NULL);
	sigaction(SIGRTMIN, &sa, NULL);
	SHOW(fcntl(fd, F_SETOWN, getpid()));
	SHOW(fcntl(fd, F_SETFL, O_ASYNC));
	SHOW(connect_to(fd, peer_addr(), port));
	peer("accept");
	SHOW(fcntl(fd, F_GETFL) & (O_ASYNC | O_NONBLOCK));
	SHOW(fcntl(fd, F_GETOWN) == getpid());
	signalled();
	peer("send 3");
	SHOW(signalled());
	SHOW(recv(fd, buf, 16, 0));
	SHOW(fcntl(fd, F_SETSIG, SIGRTMIN));
	peer("send 3");
	SHOW(signalled());
	SHOW(fd_seen == fd);
	SHOW(band_in);
	SHOW(fcntl(fd, F_SETFL, 0));
	ran = 0;
	peer("send 3");
	nap(150);
	SHOW(ran);
	int on = 1;
	SHOW(ioctl(fd, FIOASYNC, &on));
	peer("send 3");
	SHOW(signalled());
	return 0;
}
