// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "common/trust.h"
#include "receiver/epochs.h"
#include "receiver/handover.h"

/*
 * A handover file, as it is and with the checksum put right, which leads behind the check: whatever it says, blocks
 * come out with what they need for decoding, and the lane can export itself again.
 */
enum { LANE = 0, SHARE = 256 << 10 };
#define NOW_NS UINT64_C(1000000000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool discard(void *context, const void *bytes, size_t size)
{
    (void)bytes;
    *(size_t *)context += size;
    return true;
}

static void pop_all(struct epochs *epochs)
{
    for (struct block *block; (block = epochs_pop(epochs, NOW_NS)) != NULL;) {
        assert(block->received >= block->source_symbols);
        epochs_return(epochs, block);
    }
}

static void feed(const uint8_t *bytes, size_t size, const struct handover_origin *origin)
{
    static struct handover_reader reader;
    static struct trust *trust;
    if (handover_reader_init(&reader, bytes, size, origin) != HANDOVER_GOOD)
        return;
    if (trust == NULL) {
        struct signature_public keys[2] = {{.key_id = {1}}, {.key_id = {2}}};
        trust = trust_from_keys(keys, 2);
    }
    struct lane_progress *progress = progress_create(trust, LANE + 1);
    struct epochs *epochs = epochs_create(LANE, trust, SHARE, progress);
    struct handover_record record;
    while (handover_reader_next(&reader, &record))
        (void)epochs_import(epochs, &record, NOW_NS);
    epochs_release(epochs);
    pop_all(epochs);
    epochs_settle(epochs, NOW_NS);
    pop_all(epochs);
    size_t written = 0;
    struct handover_writer *writer = handover_writer_create(discard, &written);
    handover_writer_begin(writer, origin);
    (void)epochs_export(epochs, writer);
    assert(handover_writer_finish(writer) && written > 0);
    handover_writer_destroy(writer);
    epochs_destroy(epochs);
    progress_destroy(progress);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct handover_origin origin = {.boot_id = "0123456789abcdef0123456789abcdef0123"};
    feed(data, size, &origin);
    if (size < CHECKSUM128_SIZE)
        return 0;
    uint8_t *mended = malloc(size);
    memcpy(mended, data, size);
    checksum128(mended, size - CHECKSUM128_SIZE, mended + size - CHECKSUM128_SIZE);
    feed(mended, size, &origin);
    free(mended);
    return 0;
}
