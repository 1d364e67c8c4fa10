/* A set that is known to others lives through fork(): the child sees kernel members, and nothing that is
 * ours. */
#include "peer.h"
#include <sys/wait.h>

int main(void)
{
	int ep = epoll_create1(0), outer = epoll_create1(0), fd = peer_connect("wabc d1000 s"), p[2];
	char b[8];

	if (pipe(p))
		return 1;
	ep_add(outer, ep, EPOLLIN, 1);
	ep_add(ep, p[0], EPOLLIN, 2);
	ep_add(ep, fd, EPOLLIN, 3);
	ep_show("outer", outer, 4, 20000);
	fflush(stdout);
	pid_t child = fork();
	if (!child) {
		struct epoll_event e[4];
		int n;

		if (write(p[1], "x", 1) != 1)
			_exit(1);
		n = epoll_wait(ep, e, 4, 1000);
		for (int i = 0; i < n; i++)
			if (e[i].data.u64 != 2 && e[i].data.u64 != 3)
				_exit(3);
		_exit(0);
	}
	int status;
	waitpid(child, &status, 0);
	printf("child %d\n", WEXITSTATUS(status));
	ep_show("parent", ep, 4, 20000);
	printf("read %s\n", result_text(read(fd, b, 8)));
	ep_show("parent", ep, 4, 20000);
	return 0;
}
