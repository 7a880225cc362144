/* SPDX-License-Identifier: BSD-3-Clause */
#include "stats_connect.h"

static void add64(uint64_t *to, const uint64_t *from)
{
	*to += __atomic_load_n(from, __ATOMIC_RELAXED);
}

void stats_connect_answered(struct stats_connect *connect, uint64_t us)
{
	uint32_t *time = &connect->times[stats_connect_bucket(us)];

	__atomic_store_n(time, *time + 1, __ATOMIC_RELAXED);
	connect->answer_us = stats_connect_smooth(connect->answer_us, us);
}

void stats_connect_add(struct stats_connect *sum, const struct stats_connect *from)
{
	add64(&sum->refused, &from->refused);
	add64(&sum->timed_out, &from->timed_out);
	add64(&sum->moved_away, &from->moved_away);
	add64(&sum->syn_not_kept, &from->syn_not_kept);
	add64(&sum->challenged, &from->challenged);
	add64(&sum->fails, &from->fails);
	sum->in_row += __atomic_load_n(&from->in_row, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < STATS_CONNECT_BUCKETS; i++)
		sum->times[i] += __atomic_load_n(&from->times[i], __ATOMIC_RELAXED);
}

void stats_connect_subtract(struct stats_connect *sum, const struct stats_connect *before)
{
	sum->refused -= before->refused;
	sum->timed_out -= before->timed_out;
	sum->moved_away -= before->moved_away;
	sum->syn_not_kept -= before->syn_not_kept;
	sum->challenged -= before->challenged;
	sum->fails -= before->fails;
	for (unsigned i = 0; i < STATS_CONNECT_BUCKETS; i++)
		sum->times[i] -= before->times[i];
}

uint64_t stats_connect_answers(const struct stats_connect *sum)
{
	uint64_t answers = 0;

	for (unsigned i = 0; i < STATS_CONNECT_BUCKETS; i++)
		answers += sum->times[i];
	return answers;
}

uint64_t stats_connect_percentile(const struct stats_connect *sum, unsigned percent)
{
	uint64_t wanted = (stats_connect_answers(sum) * percent + 99) / 100;

	for (unsigned i = 0; i < STATS_CONNECT_BUCKETS; i++) {
		uint64_t in_bucket = sum->times[i], from = stats_connect_from(i);
		if (wanted > in_bucket) {
			wanted -= in_bucket;
			continue;
		}
		if (wanted == 0)
			return 0;
		return from + (stats_connect_from(i + 1) - from) * wanted / in_bucket;
	}
	return 0;
}
