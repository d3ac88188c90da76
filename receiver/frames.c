// SPDX-License-Identifier: Apache-2.0
#include "receiver/frames.h"

static bool wants_announce(void *context, const struct unpack_source *source, const uint8_t *transfer_id, bool early)
{
    return catalog_wants_announce(((struct frames *)context)->catalog, source, transfer_id, early);
}

static void take_announce(void *context, const struct unpack_source *source, const struct message_announce *announce)
{
    catalog_announce(((struct frames *)context)->catalog, source, announce);
}

static void take_data(void *context, const struct unpack_source *source, const struct frame_data *data)
{
    catalog_data(((struct frames *)context)->catalog, source, data);
}

static void take_manifest(void *context, const struct unpack_source *source, const struct frame_manifest *part)
{
    catalog_manifest(((struct frames *)context)->catalog, source, part);
}

static void take_abort(void *context, const struct unpack_source *source, const struct message_abort *message)
{
    catalog_abort(((struct frames *)context)->catalog, source, message);
}

static void take_refusal(void *context, const struct unpack_source *source, const uint8_t *transfer_id)
{
    catalog_refuse(((struct frames *)context)->catalog, source, transfer_id);
}

static void take_heartbeat(void *context, const struct unpack_source *source, const struct message_heartbeat *beat)
{
    senders_heartbeat(((struct frames *)context)->senders, beat, source->now_ns);
}

static void take_key(void *context, const struct unpack_source *source, const struct message_key *key)
{
    announced_take(((struct frames *)context)->announced, source->sender_id, key);
}

const struct unpack_handler frames_handler = {.wants_announce = wants_announce,
                                              .announce = take_announce,
                                              .data = take_data,
                                              .manifest = take_manifest,
                                              .abort = take_abort,
                                              .heartbeat = take_heartbeat,
                                              .key = take_key,
                                              .refuse = take_refusal};
