// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/request.h"
#include "common/request_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* A request as anybody in the operators' group may write it: what is accepted says the same when it is written anew. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct request request = {.id = ""}, again = {.id = ""};
    char message[REQUEST_TEXT_MESSAGE_SIZE] = "";

    enum status status = request_text_decode((const char *)bytes, size, &request, message);
    assert(status == STATUS_OK || (status == STATUS_INVALID && message[0] != '\0'));
    for (const char *at = message; *at != '\0'; at++)
        assert((unsigned char)*at >= ' ' && (unsigned char)*at < 0x7f);
    if (status != STATUS_OK)
        return 0;
    char *text = request_text_encode(&request);
    if (text != NULL) {
        status = request_text_decode(text, strlen(text), &again, message);
        assert(status == STATUS_OK);
        assert(again.kind == request.kind && again.ticket_count == request.ticket_count);
        assert(again.since_ns == request.since_ns && again.first_sequence == request.first_sequence &&
               again.last_sequence == request.last_sequence && again.last_count == request.last_count);
        assert(again.now == request.now && again.dry_run == request.dry_run);
        assert(strcmp(again.reason, request.reason) == 0);
        assert(again.action == request.action && again.name_count == request.name_count);
        for (size_t i = 0; i < request.ticket_count; i++)
            assert(strcmp(again.tickets[i], request.tickets[i]) == 0);
        request_deinit(&again);
        free(text);
    }
    request_deinit(&request);
    return 0;
}
