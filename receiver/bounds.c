// SPDX-License-Identifier: Apache-2.0
#include "receiver/bounds.h"

#include <stdio.h>
#include <string.h>

#include "common/units.h"

const struct bounds bounds_none = {.size = LIMIT_TRANSFER_SIZE,
                                   .artifacts = LIMIT_ARTIFACTS,
                                   .path = LIMIT_PATH_LENGTH,
                                   .depth = LIMIT_PATH_DEPTH,
                                   .manifest = LIMIT_MANIFEST_SIZE};

static bool allow_totals(const struct bounds *bounds, uint64_t bytes, uint32_t artifacts,
                         char reason[static BOUNDS_REASON_SIZE])
{
    char is[UNITS_TEXT_SIZE], may[UNITS_TEXT_SIZE];
    if (bytes > bounds->size)
        snprintf(reason, BOUNDS_REASON_SIZE, "names %s, more than max_size = %s allows", units_format_size(bytes, is),
                 units_format_size(bounds->size, may));
    else if (artifacts > bounds->artifacts)
        snprintf(reason, BOUNDS_REASON_SIZE, "names %u files, more than max_artifacts = %u allows", artifacts,
                 bounds->artifacts);
    else
        return true;
    return false;
}

bool bounds_allow_announce(const struct bounds *bounds, const struct message_announce *announce,
                           char reason[static BOUNDS_REASON_SIZE])
{
    return allow_totals(bounds, announce->total_bytes, announce->artifact_count, reason);
}

static uint32_t count_components(const char *path)
{
    uint32_t count = 1;
    while ((path = strchr(path, '/')) != NULL) {
        path++;
        count++;
    }
    return count;
}

bool bounds_allow_manifest(const struct bounds *bounds, struct manifest_reader *reader,
                           char reason[static BOUNDS_REASON_SIZE])
{
    const struct manifest_head *head = manifest_reader_head(reader);
    struct manifest_entry entry;
    bool good = allow_totals(bounds, head->total_bytes, head->artifact_count, reason);
    if (bounds->path >= LIMIT_PATH_LENGTH && bounds->depth >= LIMIT_PATH_DEPTH)
        return good;
    manifest_reader_rewind(reader);
    while (good && manifest_reader_next(reader, &entry)) {
        good = false;
        if (strlen(entry.path) > bounds->path)
            snprintf(reason, BOUNDS_REASON_SIZE, "names a path of %zu bytes, more than max_path = %u allows",
                     strlen(entry.path), bounds->path);
        else if (count_components(entry.path) > bounds->depth)
            snprintf(reason, BOUNDS_REASON_SIZE, "names a path of %u components, more than max_depth = %u allows",
                     count_components(entry.path), bounds->depth);
        else
            good = true;
    }
    manifest_reader_rewind(reader);
    return good;
}
