/*
 * RLIMIT_AS falls when there are connections already: what is left is the
 * application's. The stack may grow all the same, by this process or another one.
 */
#include "both.h"

#define LIMIT	(512u << 20)
#define OWN	(100u << 20)
#define LINES	24
#define BUFFERS (3 << 20)

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__ /* need more of it than any limit leaves */
int main(void)
{
	return 0;
}
#else

static int line[LINES][2];

static void connect_all(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0), bytes = BUFFERS;

	inet_pton(AF_INET, own_addr(), &a.sin_addr);
	setsockopt(l, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
	if (bind(l, (struct sockaddr *)&a, sizeof a) || listen(l, LINES) ||
	    getsockname(l, (struct sockaddr *)&a, &len))
		abort();
	for (int i = 0; i < LINES; i++) {
		line[i][0] = socket(AF_INET, SOCK_STREAM, 0);
		setsockopt(line[i][0], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
		if (connect(line[i][0], (struct sockaddr *)&a, sizeof a) ||
		    (line[i][1] = accept(l, NULL, NULL)) < 0)
			abort();
	}
	close(l);
}

static unsigned char byte_at(int i, long at)
{
	return (unsigned char)(i * 31 + at * 7 + (at >> 8));
}

/* Until nothing more goes in: the bytes. */
static long fill(int i)
{
	static unsigned char piece[10000];
	long sent = 0, n;

	do {
		for (unsigned k = 0; k < sizeof piece; k++)
			piece[k] = byte_at(i, sent + k);
		n = send(line[i][0], piece, sizeof piece, MSG_DONTWAIT);
		sent += n > 0 ? n : 0;
	} while (n > 0);
	return sent;
}

/* Are these the bytes, and then the end? */
static bool empty(int i, long bytes)
{
	static unsigned char piece[65536];
	bool good = true;
	long at = 0, n;

	while ((n = recv(line[i][1], piece, sizeof piece, 0)) > 0)
		for (long k = 0; k < n; k++, at++)
			good &= piece[k] == byte_at(i, at);
	return good && !n && at == bytes;
}

static bool room(void)
{
	void *p = mmap(NULL, OWN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p != MAP_FAILED && !munmap(p, OWN);
}

int main(void)
{
	struct rlimit limit = {LIMIT, LIMIT};
	long bytes[LINES];
	int through[2], good = 0, status;
	pid_t p;

	connect_all();
	SHOW(setrlimit(RLIMIT_AS, &limit));
	SHOW(room());
	if (pipe(through))
		return 1;
	p = fork();
	if (!p) {
		for (int i = 0; i < LINES; i++)
			bytes[i] = fill(i);
		_exit(write(through[1], bytes, sizeof bytes) != sizeof bytes);
	}
	SHOW(read(through[0], bytes, sizeof bytes));
	for (int i = 0; i < LINES; i++) {
		close(line[i][0]);
		good += bytes[i] > BUFFERS / 4;
	}
	SAY("filled: %d", good);
	SHOW(waitpid(p, &status, 0) == p);
	SAY("status %d", status);
	good = 0;
	for (int i = 0; i < LINES; i++)
		good += empty(i, bytes[i]);
	SAY("whole: %d", good);
	SHOW(room());
	return 0;
}
#endif
