/*
 * Every call on a socket in every state of TCP, each on a socket of its own:
 * what it answers, its errno, SIGPIPE, and the poll() bits after it.
 */
#include "state_calls.h"

int main(void)
{
	signal(SIGPIPE, on_sigpipe);
	for (size_t i = 0; i < STATES; i++)
		for (size_t k = 0; k < CALLS; k++)
			if (!state_is_slow(&states[i]) || calls[k].always)
				show_call(&states[i], k);
	return 0;
}
