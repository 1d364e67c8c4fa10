/* passage.h - what keeper.c and passage.c offer each other (theory in passage.c). */
#ifndef NETIO_PASSAGE_H
#define NETIO_PASSAGE_H

#include "netio/internal.h"

/* PASS: with the keeper's end of the token and the placeholder, or a listener's. CLAIM, and its answer.
 * TAKEN. */
struct pass_message {
	uint32_t type;
	ref object, hold;
	uint64_t cookie, inode; /* the token's; the listener's */
};

#define PASSES_SET NETIO_NOWHERE_SEEN /* inode: an epoll set */

/* CLAIM, and its answer. 0 or a negative errno. */
int passage_ask(struct netio *n, uint64_t cookie, ref *object, int fds[MESSAGE_FDS]);

/* kept.c, in the keeper. Takes the descriptors over. */
void kept_begin(struct netio *n, const struct pass_message *m, const int fds[2]);
/* False: no such set. Else `answer` is closed. */
bool kept_answer(uint64_t tag, int answer);
/* Sets that are gone. */
void kept_sweep(struct netio *n);

#define PASSAGE_EVENTS (1ull << 63) /* tags of the keeper's epoll set from here on are ours */

uint32_t passages_live(void);
/* Takes the descriptors over. */
void passage_begin(struct netio *n, int epfd, const struct pass_message *m, const int fds[2]);
void passage_event(struct netio *n, uint64_t tag, uint32_t events);
void passage_claim(const struct pass_message *m, int answer);
/* Claims of tokens that were not known: once all lines were read it is yes or no. */
bool passage_claims_wait(void);
void passage_claims_end(void);
void passage_taken(struct netio *n, uint64_t cookie);
/* Listeners that nobody has any more, tokens that a stranger has; when to look again. */
nsec passages_look(struct netio *n);
/* inode.c. Has a table like /proc/net/tcp a socket with this inode? A negative errno: nobody can tell. */
int inode_in_table(const char *table, uint64_t inode);
/* Before a keeper is made, by who makes it: what was on its way hung up with the one before. */
void passages_forget(struct netio *n);

#endif
