/*
 * kept.c - the bells of epoll sets that are passed on.
 *
 * Theory of operation. A process that comes to have an application's epoll set E, by
 * exec(), posix_spawn() or a message, must know which set of the stack is E's other
 * half, and be rung for it as those are who had E before. An epoll descriptor has no
 * identity that could be asked for. But what E watches can be read
 * (/proc/self/fdinfo), with the 64 bits that were given along: the set's bell is a
 * member of E under the set's tag, which is in the region. It stays a member as long
 * as anybody has the bell's file open.
 *
 *   who passes E on   puts the bell into E, for no event if it is not to be seen,
 *                     and gives bell and post to the keeper (KEEP)
 *   keeper            has them open until the set is gone
 *   who gets E        finds the tag in E, the set in the region, and asks for both
 *                     descriptors (CLAIM, by the tag)
 *
 * What a keeper that is killed had is lost: sets that are passed on while no other
 * process has them then show the kernel's members only.
 *
 * Place in the flow: preload/epoll_heir.c -> netio_keep_set(), waitset_adopt() ->
 * keeper.c -> kept_*() in the keeper.
 */
#include "netio/passage.h"

int netio_keep_set_vfork(struct netio *n, struct waitset *ws, uint64_t tag)
{
	struct pass_message m = {.type = MESSAGE_KEEP, .object = ws->set, .cookie = tag};

	return keeper_say_vfork(n, &m, sizeof m, (int[]){ws->bell, ws->post}, 2);
}

int netio_keep_set(struct netio *n, struct waitset *ws)
{
	struct pass_message m = {.type = MESSAGE_KEEP, .object = ws->set};
	int err = keeper_start(n);

	if (err)
		return err;
	m.cookie = evset_tag(netio_enter(n), ws->set);
	netio_leave(n);
	return keeper_say(n, &m, sizeof m, (int[]){ws->bell, ws->post}, 2);
}

int kept_fetch(struct netio *n, uint64_t tag, int out[2])
{
	int fds[MESSAGE_FDS] = {-1, -1, -1, -1, -1}, err;
	ref set;

	err = passage_ask(n, tag, &set, fds);
	if (!err && fds[1] < 0) {
		raw_close(fds[0]);
		err = -ENOENT;
	}
	out[0] = fds[0];
	out[1] = fds[1];
	return err;
}

/* ------------------------------------------------------------ the keeper */

struct kept {
	ref set; /* REF_NONE: free */
	uint64_t tag;
	int fd[2]; /* bell and post */
};

static struct {
	struct kept *at;
	uint32_t room;
} keeps;

static struct kept *kept_find(uint64_t tag)
{
	for (uint32_t i = 0; i < keeps.room; i++)
		if (keeps.at[i].set && keeps.at[i].tag == tag)
			return &keeps.at[i];
	return NULL;
}

static void kept_end(struct kept *k)
{
	raw_close(k->fd[0]);
	raw_close(k->fd[1]);
	*k = (struct kept){0};
}

static struct kept *kept_free(void)
{
	uint32_t i = 0;

	while (i < keeps.room && keeps.at[i].set)
		i++;
	if (i == keeps.room) {
		struct kept *more = pages_table_grow(keeps.at, &keeps.room, sizeof *more);

		if (!more)
			return NULL;
		keeps.at = more;
	}
	return &keeps.at[i];
}

void kept_begin(struct netio *n, const struct pass_message *m, const int fds[2])
{
	struct kept *k = kept_find(m->cookie);

	kept_sweep(n);
	if (k && k->set)
		kept_end(k);
	k = kept_free();
	if (k && m->object && m->cookie && fds[0] >= 0 && fds[1] >= 0) {
		*k = (struct kept){m->object, m->cookie, {fds[0], fds[1]}};
		return;
	}
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			raw_close(fds[i]);
}

bool kept_answer(uint64_t tag, int answer)
{
	const struct kept *k = kept_find(tag);
	struct pass_message m = {.type = MESSAGE_CLAIM};

	if (!k)
		return false;
	m.object = k->set;
	message_send(answer, &m, sizeof m, k->fd, 2);
	raw_close(answer);
	return true;
}

void kept_sweep(struct netio *n)
{
	struct stack_cx *cx;

	if (!keeps.room)
		return;
	cx = netio_enter(n);
	for (uint32_t i = 0; i < keeps.room; i++) {
		struct kept *k = &keeps.at[i];

		if (k->set && (!pool_valid(cx, POOL_EVSET, k->set) || evset_tag(cx, k->set) != k->tag))
			kept_end(k);
	}
	netio_leave(n);
}
