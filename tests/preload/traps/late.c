/*
 * A library that has more to say when its destructor runs, which is later than that of a preloaded library:
 * on a stream and on its number. late ADDRESS PORT
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

void late_use(int fd);

#ifdef LIBRARY
static FILE *stream;
static int number = -1;

void late_use(int fd)
{
	number = fd;
	stream = fdopen(dup(fd), "w");
	fprintf(stream, "main");
}

static void __attribute__((destructor)) late(void)
{
	if (number >= 0 && write(number, "first ", 6) != 6)
		_exit(2);
	if (stream)
		fprintf(stream, " destructor");
}
#else
int main(int argc, char **argv)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (argc != 3)
		return 1;
	sin.sin_port = htons((uint16_t)atoi(argv[2]));
	inet_pton(AF_INET, argv[1], &sin.sin_addr);
	if (connect(fd, (struct sockaddr *)&sin, sizeof sin))
		return 1;
	late_use(fd);
	return 0;
}
#endif
