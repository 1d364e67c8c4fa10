/*
 * A program that nothing can be preloaded into (linked statically).
 *   still            waits for the end of its input
 *   say FD           says something on a socket, prints what came back
 *   is FD            prints whether the number is open
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static const char text[] = "a static child's words";
	char b[sizeof text] = "";
	size_t n = 0;
	long r;

	if (argc == 3 && !strcmp(argv[1], "is")) {
		printf("static child: F_GETFD %d\n", fcntl(atoi(argv[2]), F_GETFD));
		return 0;
	}
	if (argc < 3 || strcmp(argv[1], "say") != 0) {
		while (read(0, b, 1) > 0)
			;
		return 0;
	}
	r = write(atoi(argv[2]), text, sizeof text - 1);
	printf("static child: wrote %ld", r);
	while (n < sizeof text - 1 && (r = read(atoi(argv[2]), b + n, sizeof text - 1 - n)) > 0)
		n += (size_t)r;
	printf(", read '%s'\n", b);
	return n != sizeof text - 1;
}
