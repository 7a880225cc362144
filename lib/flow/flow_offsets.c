/* SPDX-License-Identifier: BSD-3-Clause */
#include "flow_offsets.h"

// Above the end of the stream before: what Linux leaves when it reuses a tuple of its own, and a
// part that nobody can guess (RFC 6528), small against the 2^31 that count as above.
#define SEQ_MARGIN 65537
#define SEQ_RANDOM_MASK ((1u << 26) - 1)
#define TICKS_A_SECOND 1000 // of Linux; RFC 7323 allows nothing faster

static uint32_t *last_ts_of(struct flow *flow)
{
	return flow_has(flow, FLOW_TS_MOVED) ? &flow->last_ts_moved : &flow->last_ts;
}

void flow_lingers(struct flow *flow)
{
	if (flow_has(flow, FLOW_LINGERS))
		return;
	flow_set_flag(flow, FLOW_LINGERS);
	__atomic_store_n(last_ts_of(flow), 0, __ATOMIC_RELAXED);
}

void flow_note_ts(struct flow *flow, uint32_t ts)
{
	uint32_t *last = last_ts_of(flow);
	uint32_t known = __atomic_load_n(last, __ATOMIC_RELAXED);

	ts += flow_offsets(flow).ts[FLOW_FROM_CLIENT];
	if (known == 0 || tcp_seq_after(ts, known))
		__atomic_store_n(last, ts != 0 ? ts : 1, __ATOMIC_RELAXED);
}

/* Into a number that can't be foreseen; the finalizer of SplitMix64. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

bool flow_take_over(
	struct flow *flow, const struct flow_syn *syn, const struct flow *before, uint32_t now_s)
{
	flow->flags &= ~FLOW_TRANSLATED;
	flow->seq_offset = flow->ts_offset = 0;
	if (before == NULL || !flow_has(before, FLOW_LINGERS))
		return false;

	uint32_t end = flow_seq_at_other(before, FLOW_FROM_CLIENT,
		__atomic_load_n(&before->end[FLOW_FROM_CLIENT], __ATOMIC_RELAXED));
	uint32_t last_ts = __atomic_load_n(last_ts_of((struct flow *)before), __ATOMIC_RELAXED);
	bool compares_ts = syn->has_ts && last_ts != 0;
	bool seq_is_above = tcp_seq_after(syn->seq, end);
	bool ts_is_newer = compares_ts && tcp_seq_after(syn->ts, last_ts);
	bool ts_is_older = compares_ts && tcp_seq_after(last_ts, syn->ts);

	if (ts_is_newer || (seq_is_above && !ts_is_older))
		return false;
	if (!seq_is_above) {
		flow->seq_offset = end + SEQ_MARGIN +
			(mix(syn->secret ^ (uint64_t)syn->seq << 32 ^ end) & SEQ_RANDOM_MASK) -
			syn->seq;
		flow->flags |= FLOW_SEQ_MOVED;
	}
	if (compares_ts) {
		uint16_t idle_s = now_s - __atomic_load_n(&before->last_seen, __ATOMIC_RELAXED);
		flow->ts_offset = last_ts + idle_s * TICKS_A_SECOND + 1 - syn->ts;
		flow->flags |= FLOW_TS_MOVED;
	}
	return true;
}
