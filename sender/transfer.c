// SPDX-License-Identifier: Apache-2.0
#include "sender/transfer.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

struct transfer *transfer_create(void)
{
    struct transfer *transfer = calloc(1, sizeof *transfer);
    assert(transfer != NULL);
    transfer->directory_fd = -1;
    return transfer;
}

void transfer_destroy(struct transfer *transfer)
{
    if (transfer == NULL)
        return;
    if (transfer->directory_fd >= 0)
        close(transfer->directory_fd);
    scan_listing_destroy(transfer->listing);
    free(transfer->ranges);
    free(transfer->sha256);
    free(transfer->chunk_hashes);
    free(transfer->signed_bytes);
    free(transfer);
}
