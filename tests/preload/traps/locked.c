/*
 * locked.c chroot|capset|syscall - before its first socket the program gives up the way to the device: an
 * empty root, or no capabilities. Trap 23.
 */
#include "../peer.h"
#include <linux/capability.h>
#include <sys/syscall.h>

int capset(struct __user_cap_header_struct *, const struct __user_cap_data_struct *);

static int lock(const char *how)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {0};
	char dir[] = "/tmp/utcp-locked.XXXXXX";

	if (!strcmp(how, "capset"))
		return capset(&h, none);
	if (!strcmp(how, "syscall"))
		return (int)syscall(SYS_capset, &h, none);
	return mkdtemp(dir) && !chdir(dir) && !rmdir(dir) ? chroot(".") : -1;
}

int main(int argc, char **argv)
{
	char b[4] = "";
	int fd;

	if (argc != 2 || lock(argv[1])) {
		perror("lock");
		return 1;
	}
	fd = peer_connect("e");
	if (send(fd, "abc", 3, 0) != 3 || recv(fd, b, 3, MSG_WAITALL) != 3)
		perror("echo");
	puts(b);
	return 0;
}
