/*
 * plain.c - a plain network program, for what programs that ignore preloading may expect (outside.sh). It is
 * built statically, as Go's compiler builds, or run setuid; and once to ask for io_uring.
 *
 *     plain echo                 standard input to standard output
 *     plain get ADDRESS PORT     what comes from there to standard output
 *     plain serve PORT FILE      the file to everyone who connects
 *     plain ring ADDRESS PORT    as get; by io_uring where there is one, and says so on standard error
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static char buf[65536];

static int copy(int from, int to)
{
	ssize_t n;

	while ((n = read(from, buf, sizeof buf)) > 0)
		for (ssize_t done = 0, w; done < n; done += w)
			if ((w = write(to, buf + done, (size_t)(n - done))) < 0)
				return 1;
	return n < 0;
}

static struct sockaddr_in address(const char *ip, const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static int get(const char *ip, const char *port)
{
	struct sockaddr_in a = address(ip, port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (struct sockaddr *)&a, sizeof a)) {
		perror("connect");
		return 1;
	}
	return copy(fd, 1);
}

static int serve(const char *port, const char *path)
{
	struct sockaddr_in a = address("0.0.0.0", port);
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, 8)) {
		perror("listen");
		return 1;
	}
	for (;;) {
		int fd = accept(listener, NULL, NULL), file = open(path, O_RDONLY);

		if (fd < 0 || file < 0 || copy(file, fd))
			return 1;
		close(file);
		close(fd);
	}
}

/* What programs do that can use a ring: ask for one, and do without where there is none. */
static void ring(void)
{
	uint32_t params[30] = {0}; /* struct io_uring_params is 120 bytes */
	long fd = syscall(SYS_io_uring_setup, 8, params);

	fprintf(stderr, "io_uring_setup: %s\n", fd < 0 ? strerrorname_np(errno) : "a ring");
	if (fd >= 0)
		close((int)fd);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "echo"))
		return copy(0, 1);
	if (!strcmp(what, "serve") && argc == 4)
		return serve(argv[2], argv[3]);
	if (!strcmp(what, "ring"))
		ring();
	else if (strcmp(what, "get") != 0)
		argc = 0;
	if (argc != 4)
		return 2;
	return get(argv[2], argv[3]);
}
