// SPDX-License-Identifier: Apache-2.0
#include "receiver/judge.h"

#include <string.h>

#include "common/log.h"

struct judging {
    const struct knowledge *knowledge;
    const struct lane_progress *progress;
    unsigned lane_count;
    uint64_t now_ns;
    uint32_t sender_id; /* that `lanes` are of */
    struct assembly_lanes lanes;
};

static void look_at_lanes(struct judging *judging, uint32_t sender_id)
{
    const struct lane_progress *progress = judging->progress;
    judging->sender_id = sender_id;
    judging->lanes = (struct assembly_lanes){.count = judging->lane_count,
                                             .confirmed_epoch = progress_confirmed_epoch(progress, sender_id)};
    const struct knowledge_chain *chain = knowledge_chain_of(judging->knowledge, sender_id);
    if (chain != NULL) {
        memcpy(judging->lanes.chain_id, chain->chain_id, CHAIN_ID_SIZE);
        judging->lanes.settled_sequence = chain->settled_sequence;
    }
    for (unsigned i = 0; i < judging->lanes.count; i++)
        judging->lanes.lane[i].heard =
            progress_passed(progress, sender_id, i, &judging->lanes.lane[i].epoch, &judging->lanes.lane[i].passed_sbn);
}

static void judge(struct assembly *assembly, void *context)
{
    struct judging *judging = context;
    if (assembly->state != ASSEMBLY_OPEN || assembly->reader == NULL)
        return;
    if (judging->lanes.count == 0 || judging->sender_id != assembly->sender_id)
        look_at_lanes(judging, assembly->sender_id);
    bool before = assembly->incomplete;
    if (assembly_is_incomplete(assembly, &judging->lanes, judging->now_ns) && !before)
        log_warning("%s/" LOG_NAME " (sequence %llu of sender %08x) is incomplete: %llu bytes are missing",
                    assembly->channel, assembly->name, (unsigned long long)assembly->sequence, assembly->sender_id,
                    (unsigned long long)assembly_missing_bytes(assembly));
}

void judge_all(struct catalog *catalog, const struct knowledge *knowledge, const struct lane_progress *progress,
               unsigned lane_count, uint64_t now_ns)
{
    struct judging judging = {.knowledge = knowledge, .progress = progress, .lane_count = lane_count, .now_ns = now_ns};
    catalog_each(catalog, judge, &judging);
}
