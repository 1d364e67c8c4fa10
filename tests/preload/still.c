/* A program that nothing can be preloaded into (linked statically): it waits for the end of its input. */
#include <unistd.h>

int main(void)
{
	char b;

	while (read(0, &b, 1) > 0)
		;
	return 0;
}
