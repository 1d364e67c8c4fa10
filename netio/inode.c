/*
 * inode.c - is there a TCP socket with this inode? Asked of a table like /proc/net/tcp.
 *
 * A line has the inode as its tenth word; numbers as small as an inode can be stand
 * in other columns, too (the owner, counters), so the words are counted. The first
 * line is the heading.
 *
 * Place in the flow: passage.c -> here.
 */
#include <fcntl.h>

#include "netio/passage.h"

#define INODE_WORD 10
#define PIECE	   4096

struct reading {
	uint64_t inode, number; /* wanted; that of the word so far */
	unsigned word;		/* of this line, from 1; 0: none yet */
	bool inside;		/* a word */
	bool is_number;
};

/* One more character. True: a line has ended its tenth word, which is the inode. */
static bool feed(struct reading *r, char c)
{
	bool blank = c == ' ' || c == '\n', found;

	if (!blank && !r->inside) {
		r->word++;
		r->number = 0;
		r->is_number = true;
	}
	found = blank && r->inside && r->word == INODE_WORD && r->is_number && r->number == r->inode;
	r->inside = !blank;
	if (!blank) {
		r->is_number = r->is_number && c >= '0' && c <= '9';
		r->number = r->number * 10 + (uint64_t)(c - '0');
	}
	if (c == '\n')
		r->word = 0;
	return found;
}

int inode_in_table(const char *table, uint64_t inode)
{
	struct reading reading = {.inode = inode};
	char text[PIECE];
	int fd = (int)netio_fd_call(SYS_openat, AT_FDCWD, (long)table, O_RDONLY | O_CLOEXEC, 0);
	bool found = false;
	long r;

	if (fd < 0)
		return fd;
	while (!found && (r = raw_read(fd, text, sizeof text)) > 0)
		for (long i = 0; !found && i < r; i++)
			found = feed(&reading, text[i]);
	raw_close(fd);
	return found ? 1 : (int)MIN_OF(r, 0L);
}
