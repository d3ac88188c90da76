// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/approval.h"
#include "proto/diodecast.pb-c.h"
#include "proto/statement.h"
#include "tests/fuzz/mutate.h"

/* A NAME.approval file: what is accepted is the one encoding of what it says, and its statement can be read. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct approval_bundle bundle, again;
    struct statement_reader *reader;
    char reason[256] = "";
    uint8_t *out;
    size_t out_size;

    enum status status = approval_decode(bytes, size, &bundle, reason);
    assert(status == STATUS_OK || (status == STATUS_INVALID && reason[0] != '\0'));
    if (status != STATUS_OK)
        return 0;
    assert(bundle.count <= LIMIT_APPROVALS && bundle.statement >= bytes && bundle.statement_size <= size);
    for (size_t i = 0; i < bundle.count; i++) {
        assert(bundle.approvals[i].has_comment && memcmp(bundle.approvals[i].bytes, "ED", 2) == 0);
        assert(i == 0 || memcmp(bundle.approvals[i - 1].bytes + 2, bundle.approvals[i].bytes + 2, 8) < 0);
    }
    status = statement_reader_create(bundle.statement, bundle.statement_size, &reader, reason);
    assert(status == STATUS_OK);
    statement_reader_destroy(reader);
    approval_encode(&bundle, &out, &out_size);
    assert(out_size == size && memcmp(out, bytes, size) == 0);
    status = approval_decode(out, out_size, &again, reason);
    assert(status == STATUS_OK && again.count == bundle.count);
    for (size_t i = 0; i < bundle.count; i++) {
        assert(memcmp(again.approvals[i].bytes, bundle.approvals[i].bytes, SIGNATURE_SIZE) == 0);
        assert(strcmp(again.approvals[i].trusted_comment, bundle.approvals[i].trusted_comment) == 0);
    }
    if (bundle.count > 0)
        assert(approval_add(&again, &bundle.approvals[0]) == APPROVAL_REPEATED);
    free(out);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t size_max, unsigned seed)
{
    struct mutate mutate = {seed};
    return mutate_message(&mutate, &diodecast__approval_bundle__descriptor, bytes, size, size_max);
}
