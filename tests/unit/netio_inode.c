/* netio_inode.c - the search for an inode in tables like /proc/net/tcp. */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "netio/passage.h"
#include "tests/check.h"
#include "utcp/sys.h"

/* A table of `lines` sockets; the inodes are 40000, 40001 ... 1000 owns them. */
static void table_make(char *path, int lines)
{
	int fd;
	FILE *f;

	strcpy(path, "/tmp/netio_inode.XXXXXX");
	fd = mkstemp(path);
	CHECK_FATAL(fd >= 0);
	f = fdopen(fd, "w");
	fprintf(f,
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
		"inode\n");
	for (int i = 0; i < lines; i++)
		fprintf(
		    f,
		    "%4d: 00000000:%04X 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 %8d "
		    "%d 1 0000000000000000 100 0 0 10 0%*s\n",
		    i, 1000 + i, 0, 40000 + i, 20, "");
	fclose(f);
}

static void columns(void)
{
	char path[64];

	CHECK_FATAL(sys_init() == 0);
	table_make(path, 200); /* more than one read() of it */
	CHECK_EQ(inode_in_table(path, 40000), 1);
	for (uint64_t i = 0; i < 200; i++)
		CHECK_MSG(inode_in_table(path, 40000 + i) == 1, "inode %d", 40000 + (int)i);
	CHECK_EQ(inode_in_table(path, 40200), 0);
	CHECK_EQ(inode_in_table(path, 1000), 0); /* the owner */
	CHECK_EQ(inode_in_table(path, 100), 0);	 /* a time-out of the socket's */
	CHECK_EQ(inode_in_table(path, 1), 0);	 /* references */
	CHECK_EQ(inode_in_table(path, 0), 0);
	CHECK_EQ(inode_in_table(path, 4000), 0);
	unlink(path);
	CHECK_EQ(inode_in_table(path, 40000), -ENOENT);
	CHECK_EQ(inode_in_table("/", 40000), -EISDIR); /* it cannot be read: nobody can tell */
}

static void real(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct stat st;

	CHECK_FATAL(!listen(fd, 1) && !fstat(fd, &st));
	CHECK_EQ(inode_in_table("/proc/net/tcp", st.st_ino), 1);
	close(fd);
	CHECK_EQ(inode_in_table("/proc/net/tcp", st.st_ino), 0);
}

CHECK_MAIN("netio_inode", {"only the column of the inodes counts, also across reads", columns},
	   {"a listener of the kernel's is found while it is there", real})
