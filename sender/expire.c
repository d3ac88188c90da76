// SPDX-License-Identifier: Apache-2.0
#include "sender/expire.h"

static bool is_too_old(const struct config *config, const struct expire_item *item, int64_t now_ns)
{
    uint64_t retain_ns = item->channel->retain_ns != 0 ? item->channel->retain_ns : config->retain_ns;
    return now_ns > item->finished_at_ns && (uint64_t)(now_ns - item->finished_at_ns) > retain_ns;
}

/*
 * Gives `reason` to the oldest that are kept (of `channel`, or of all when it is NULL) until no more than `excess`
 * bytes too much are left. Returns what is left of the excess.
 */
static uint64_t remove_oldest(struct expire_item *items, size_t count, const struct config_channel *channel,
                              uint64_t excess, enum expire_reason reason)
{
    for (size_t i = 0; i < count && excess > 0; i++) {
        struct expire_item *item = &items[i];
        if (item->held || item->reason != EXPIRE_KEEP || (channel != NULL && item->channel != channel))
            continue;
        item->reason = reason;
        excess -= item->bytes < excess ? item->bytes : excess;
    }
    return excess;
}

static uint64_t kept_bytes(const struct expire_item *items, size_t count, const struct config_channel *channel)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        if (items[i].reason == EXPIRE_KEEP && (channel == NULL || items[i].channel == channel))
            bytes += items[i].bytes;
    return bytes;
}

uint64_t expire_choose(const struct config *config, struct expire_item *items, size_t count, int64_t now_ns,
                       uint64_t free_bytes)
{
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        items[i].reason = !items[i].held && is_too_old(config, &items[i], now_ns) ? EXPIRE_AGE : EXPIRE_KEEP;
        total += items[i].bytes;
    }
    for (size_t i = 0; i < config->channel_count; i++) {
        const struct config_channel *channel = &config->channels[i];
        uint64_t kept = channel->retain_bytes != 0 ? kept_bytes(items, count, channel) : 0;
        if (kept > channel->retain_bytes)
            (void)remove_oldest(items, count, channel, kept - channel->retain_bytes, EXPIRE_CHANNEL);
    }
    uint64_t kept = kept_bytes(items, count, NULL);
    if (kept > config->retain_bytes)
        (void)remove_oldest(items, count, NULL, kept - config->retain_bytes, EXPIRE_BYTES);
    /* What goes already counts as free. */
    free_bytes += total - kept_bytes(items, count, NULL);
    if (free_bytes >= config->retain_free)
        return 0;
    return remove_oldest(items, count, NULL, config->retain_free - free_bytes, EXPIRE_FREE);
}
