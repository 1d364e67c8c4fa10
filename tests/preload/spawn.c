/*
 * Children that are another program from the start: posix_spawn() with its file
 * actions and environments, system(), popen(), vfork() and exec, daemon(),
 * forkpty(). They share the connections and listeners that they inherit; a
 * parent may close its own as soon as the call has returned. Whoever closes last
 * closes the connection.
 */
#include <pty.h>
#include <spawn.h>

#include "shared.h"

#pragma GCC diagnostic ignored "-Wmismatched-dealloc" /* fclose() of popen()'s is glibc's pclose() */

extern char **environ;

/* ------------------------------------------------------------ what the child does */

static int child(char **argv)
{
	int fd = atoi(argv[2]);

	if (!strcmp(argv[1], "say")) /* FD */
		return say("child", fd, "a child's words");
	if (!strcmp(argv[1], "wait")) { /* FD; until 0 ends */
		char b;

		if (read(0, &b, 1) < 0)
			return 1;
		return say("child", fd, "later words");
	}
	if (!strcmp(argv[1], "is")) { /* FD: what is it?, then until 0 ends */
		const char *flags = result_text(fcntl(fd, F_GETFD));
		char b;

		if (read(0, &b, 1) < 0)
			return 1;
		printf("child: F_GETFD %s\n", flags);
		return 0;
	}
	if (!strcmp(argv[1], "accept")) {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		printf("child: poll %s\n", result_text(poll(&p, 1, 5000)));
		return say("child", accept(fd, NULL, NULL), "accepted here");
	}
	if (!strcmp(argv[1], "dup")) { /* numbers of one socket, and one that changes its meaning */
		int to = dup(fd), p[2], status = say("child", to, "on the copy");

		close(fd);
		status |= pipe(p) || dup2(p[1], fd) != fd || write(fd, "pipe", 4) != 4;
		printf("child: the number is %s\n", write(p[1], "", 0) == 0 ? "a pipe's" : "?");
		status |= say("child", to, "still there");
		return status | close(to);
	}
	return 9;
}

static pid_t spawn(const char *how, int fd, posix_spawn_file_actions_t *fa, char **env)
{
	char number[16], *argv[] = {self, (char *)(uintptr_t)how, number, NULL};
	bool hooked = strncmp(how, "st", 2) != 0; /* still, static, static-is */
	char *program = hooked ? self : getenv("TEST_STILL");
	pid_t p = -1;
	int r;

	if (!strncmp(how, "static", 6))
		argv[1] = (char *)(uintptr_t)(how[6] ? "is" : "say");
	snprintf(number, sizeof number, "%d", fd);
	fflush(stdout);
	r = posix_spawn(&p, program, fa, NULL, argv, env);
	if (r)
		printf("posix_spawn: %s\n", strerrorname_np(r));
	return p;
}

/* ------------------------------------------------------------ posix_spawn */

static void parent_closes_at_once(void)
{
	int ask, c = called("e", &ask);
	pid_t p = spawn("say", c, NULL, environ);

	close(c);
	ended("closes_at_once", p);
	peer_sees("the child has ended", ask, 3000);
	close(ask);
}

static void child_lives_on(void)
{
	int ask, c = called("e", &ask), in[2];
	posix_spawn_file_actions_t fa;
	pid_t p;

	if (pipe2(in, O_CLOEXEC))
		exit(1);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, in[0], 0);
	p = spawn("wait", c, &fa, environ);
	posix_spawn_file_actions_destroy(&fa);
	say("parent", c, "both have it");
	close(c);
	peer_sees("the child has it", ask, 100);
	close(in[1]);
	ended("child_lives_on", p);
	peer_sees("nobody has it", ask, 3000);
	close(in[0]);
	close(ask);
}

/* Actions that leave the child without the connection: its peer sees the parent's close. */
static void child_without(const char *what, int how, const char *program)
{
	int ask, c = called("e", &ask), in[2];
	posix_spawn_file_actions_t fa;
	pid_t p;

	if (pipe2(in, O_CLOEXEC))
		exit(1);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, in[0], 0);
	if (how == 0)
		fcntl(c, F_SETFD, FD_CLOEXEC);
	else if (how == 1)
		posix_spawn_file_actions_addclose(&fa, c);
	else if (how == 2)
		posix_spawn_file_actions_addclosefrom_np(&fa, 3);
	else
		posix_spawn_file_actions_addopen(&fa, c, "/dev/null", O_RDONLY, 0);
	puts(what);
	p = spawn(program, c, &fa, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(c);
	peer_sees("the child has it not", ask, 3000);
	close(in[1]);
	close(in[0]);
	ended(what, p);
	close(ask);
}

/* It holds the connection until it ends. */
static void static_child(void)
{
	int ask, c = called("e", &ask), in[2];
	posix_spawn_file_actions_t fa;
	pid_t p;

	if (pipe2(in, O_CLOEXEC))
		exit(1);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, in[0], 0);
	p = spawn("still", c, &fa, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(c);
	peer_sees("a static child has it", ask, 100);
	close(in[1]);
	close(in[0]);
	ended("static_child", p);
	peer_sees("it has ended", ask, 3000);
	close(ask);
}

/* Its number is closed by exec, a copy that an action makes is not. */
static void static_copy(void)
{
	int ask, c = called("e", &ask);
	posix_spawn_file_actions_t fa;

	fcntl(c, F_SETFD, FD_CLOEXEC);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, c, 77);
	ended("the number itself", spawn("static-is", c, &fa, environ));
	ended("the copy", spawn("static-is", 77, &fa, environ));
	posix_spawn_file_actions_destroy(&fa);
	say("parent", c, "goes on");
	close(c);
	peer_sees("static_copy", ask, 3000);
	close(ask);
}

/* Numbers made by the actions, and what closefrom spares. */
static void child_with(const char *what, int how, const char *program)
{
	int ask, c = called("e", &ask), fd = c;
	posix_spawn_file_actions_t fa;
	pid_t p;

	fcntl(c, F_SETFD, FD_CLOEXEC);
	posix_spawn_file_actions_init(&fa);
	if (how == 0) {
		posix_spawn_file_actions_adddup2(&fa, c, c);
	} else if (how == 1) {
		posix_spawn_file_actions_adddup2(&fa, c, fd = 77);
		posix_spawn_file_actions_addclose(&fa, c);
	} else if (how == 2) {
		posix_spawn_file_actions_adddup2(&fa, c, fd = 0);
		posix_spawn_file_actions_addclosefrom_np(&fa, 3);
	} else {
		posix_spawn_file_actions_adddup2(&fa, c, 0);
		posix_spawn_file_actions_addclosefrom_np(&fa, 3);
		posix_spawn_file_actions_adddup2(&fa, 0, 3);
		posix_spawn_file_actions_addclose(&fa, 0);
		posix_spawn_file_actions_adddup2(&fa, 3, 1030);
		posix_spawn_file_actions_addclosefrom_np(&fa, 1040);
		fd = 1030;
	}
	puts(what);
	p = spawn(program, fd, &fa, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(c);
	ended(what, p);
	peer_sees(what, ask, 3000);
	close(ask);
}

static void environment_from_scratch(void)
{
	char *none[] = {NULL}, *one[] = {"HOME=/", NULL};
	int ask, c = called("e", &ask);

	ended("no environment", spawn("say", c, NULL, none));
	ended("one variable", spawn("say", c, NULL, one));
	say("parent", c, "has it too");
	close(c);
	peer_sees("environment", ask, 3000);
	close(ask);
}

static void spawn_fails(void)
{
	int ask, c = called("e", &ask), r;
	char *argv[] = {"x", NULL};
	posix_spawn_file_actions_t bad;
	pid_t p;

	posix_spawn_file_actions_init(&bad);
	posix_spawn_file_actions_adddup2(&bad, 99, 98);

	r = posix_spawn(&p, "/nowhere/x", NULL, NULL, argv, environ);
	printf("posix_spawn of nothing: %s\n", strerrorname_np(r));
	r = posix_spawnp(&p, "no-such-command", NULL, NULL, argv, environ);
	printf("posix_spawnp of nothing: %s\n", strerrorname_np(r));
	r = posix_spawn(&p, getenv("TEST_STILL"), &bad, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&bad);
	printf("posix_spawn with a bad action: %s\n", strerrorname_np(r));
	say("parent", c, "has it alone");
	close(c);
	peer_sees("the parent has closed", ask, 3000);
	close(ask);
}

static void child_accepts(void)
{
	int p2, l = listen_any(&p2), ask;
	char call[32];
	pid_t p = spawn("accept", l, NULL, environ);

	close(l);
	snprintf(call, sizeof call, "c%d e", p2);
	ask = peer_connect(call);
	ended("child_accepts", p);
	peer_sees("accepted in the child", ask, 3000);
	close(ask);
}

static void many_numbers(void)
{
	int ask, c = called("e", &ask);

	ended("dup", spawn("dup", c, NULL, environ));
	close(c);
	peer_sees("dup", ask, 3000);
	close(ask);
}

/* ------------------------------------------------------------ system, popen */

static void commands(void)
{
#ifdef __SANITIZE_THREAD__
	puts("the thread sanitizer's runtime does not start in a shell, which was not built with it");
	return;
#endif
	int ask, c = called("w12345,67890 r7", &ask), status;
	char command[200], line[64] = "";
	FILE *f;

	printf("system(NULL) %d, false %d\n", system(NULL) != 0, WEXITSTATUS(system("exit 7")));
	snprintf(command, sizeof command, "head -c 6 <&%d", c);
	fflush(stdout);
	status = system(command);
	printf("\nsystem: status %d\n", WEXITSTATUS(status));
	snprintf(command, sizeof command, "cat <&%d; exit 4", c);
	/* a reader that gets what is there, and the end when the peer has got seven bytes */
	f = popen(command, "r");
	printf("read '%s'", fread(line, 1, 5, f) == 5 ? line : "?");
	printf(", popen's stream closes on exec: %d\n", fcntl(fileno(f), F_GETFD));
	fflush(stdout);
	snprintf(command, sizeof command, "cat >&%d", c);
	FILE *w = popen(command, "w");
	close(c);
	fprintf(w, "written");
	printf("writer: %d\n", pclose(w));
	printf("reader: %zu, ", fread(line, 1, 1, f));
	printf("status %d\n", WEXITSTATUS(pclose(f)));
	peer_sees("commands", ask, 3000);
	f = popen("exit 5", "re");
	printf("fclose of a popen stream: %d", WEXITSTATUS(fclose(f)));
	printf(", bad modes: %d %d\n", popen("true", "x") == NULL, popen("true", "rw") == NULL);
	close(ask);
}

/* ------------------------------------------------------------ the others */

/* vfork(): a number past the first few hundred, and an environment from scratch. */
static void vforked(void)
{
	int ask, c = called("e", &ask), high = fcntl(c, F_DUPFD, 600);
	char number[16], *none[] = {NULL}, *argv[] = {self, "say", number, NULL};
	pid_t p;

	snprintf(number, sizeof number, "%d", high);
	fflush(stdout);
	p = vfork();
	if (!p) {
		close(c);
		execve(self, argv, none);
		_exit(9);
	}
	close(c);
	close(high);
	ended("vforked", p);
	peer_sees("vforked", ask, 3000);
	close(ask);
}

/* vfork() with more connections than fit into a message to the keeper. */
static void vforked_with_many(void)
{
	int ask[3], c[3], copies[600], n = 0;
	char number[16], *argv[] = {self, "say", number, NULL};
	pid_t p;

	for (int i = 0; i < 3; i++)
		c[i] = called("e", &ask[i]);
	while (n < 600)
		copies[n++] = socket(AF_INET, SOCK_STREAM, 0);
	snprintf(number, sizeof number, "%d", dup2(c[2], 1022));
	close(c[2]);
	fflush(stdout);
	p = vfork();
	if (!p) {
		execv(self, argv);
		_exit(9);
	}
	ended("vforked with many", p);
	while (n > 0)
		close(copies[--n]);
	close(1022);
	for (int i = 0; i < 3; i++) {
		if (i < 2)
			close(c[i]);
		peer_sees("with many", ask[i], 3000);
		close(ask[i]);
	}
}

static void daemonised(void)
{
	int ask, c = called("e", &ask), go[2];
	char b;
	pid_t p;

	if (pipe2(go, O_CLOEXEC))
		exit(1);
	p = begin();
	if (!p) {
		int out = dup(1);

		if (daemon(0, 0) || read(go[0], &b, 1) != 1)
			_exit(1);
		dup2(out, 1);
		say("daemon", c, "from afar");
		_exit(0);
	}
	close(c);
	ended("daemonised", p);
	if (write(go[1], "x", 1) != 1)
		exit(1);
	close(go[0]);
	close(go[1]);
	peer_sees("daemon", ask, 5000);
	close(ask);
}

static void on_a_terminal(void)
{
	int ask, c = called("e", &ask), master, out = dup(1);
	pid_t p;

	fflush(stdout);
	p = forkpty(&master, NULL, NULL, NULL);
	if (!p) {
		int bad;

		dup2(out, 1);
		bad = say("on a terminal", c, "tty");
		_exit(!isatty(0) + bad);
	}
	close(c);
	ended("on_a_terminal", p);
	close(master);
	close(out);
	peer_sees("terminal", ask, 3000);
	close(ask);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1)
		return child(argv);
	signal(SIGPIPE, SIG_IGN);
	shared_begin();
	parent_closes_at_once();
	child_lives_on();
	for (int i = 0; i < 2; i++) { /* a static one cannot put right what the parent guessed wrong */
		const char *program = i ? "still" : "is";

		child_without("close on exec", 0, program);
		child_without("an action closes it", 1, program);
		child_without("an action closes from 3", 2, program);
		child_without("an action opens another file", 3, program);
	}
	static_child();
	static_copy();
	for (int i = 0; i < 2; i++) {
		const char *program = i ? "static" : "say";

		child_with("dup2 onto itself", 0, program);
		child_with("dup2 to 77", 1, program);
		child_with("dup2 to 0, the rest closed", 2, program);
		child_with("back and forth", 3, program);
	}
	environment_from_scratch();
	spawn_fails();
	child_accepts();
	many_numbers();
	commands();
	vforked();
	vforked_with_many();
	daemonised();
	on_a_terminal();
	return 0;
}

/* The leak checker cannot stop threads that a forked child does not have. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0:verify_asan_link_order=0"; /* the environment that says so is cleaned */
}
