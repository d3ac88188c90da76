// SPDX-License-Identifier: Apache-2.0
#include "proto/approval.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/diodecast.pb-c.h"
#include "proto/field.h"
#include "proto/relpath.h"
#include "proto/statement.h"

static const char bundle_context[] = "diodecast approval 1";

enum { FIELD_CONTEXT = 1, FIELD_STATEMENT = 2, FIELD_APPROVALS = 3 };

_Static_assert(SIGNATURE_SIZE + SIGNATURE_GLOBAL_SIZE + LIMIT_COMMENT_LENGTH + 16 <= APPROVAL_ENCODED_SIZE_MAX,
               "an approval fits its allowance");

static const uint8_t *key_id(const struct signature *approval)
{
    return approval->bytes + 2;
}

enum approval_result approval_add(struct approval_bundle *bundle, const struct signature *approval)
{
    size_t place = 0;

    for (; place < bundle->count; place++) {
        int order = memcmp(key_id(&bundle->approvals[place]), key_id(approval), SIGNATURE_KEY_ID_SIZE);
        if (order == 0)
            return APPROVAL_REPEATED;
        if (order > 0)
            break;
    }
    if (bundle->count == LIMIT_APPROVALS)
        return APPROVAL_FULL;
    memmove(&bundle->approvals[place + 1], &bundle->approvals[place],
            (bundle->count - place) * sizeof bundle->approvals[0]);
    bundle->approvals[place] = *approval;
    bundle->count++;
    return APPROVAL_ADDED;
}

size_t approval_to_wire(const struct signature *approvals, size_t count, struct Diodecast__Approval *wire,
                        struct Diodecast__Approval **list)
{
    assert(count <= LIMIT_APPROVALS);
    for (size_t i = 0; i < count; i++) {
        const struct signature *approval = &approvals[i];
        wire[i] = (Diodecast__Approval)DIODECAST__APPROVAL__INIT;
        wire[i].signature = (ProtobufCBinaryData){.len = SIGNATURE_SIZE, .data = (uint8_t *)approval->bytes};
        if (approval->has_comment) {
            wire[i].trusted_comment = (char *)approval->trusted_comment;
            wire[i].global_signature =
                (ProtobufCBinaryData){.len = SIGNATURE_GLOBAL_SIZE, .data = (uint8_t *)approval->global};
        }
        list[i] = &wire[i];
    }
    return count;
}

void approval_encode(const struct approval_bundle *bundle, uint8_t **out, size_t *size)
{
    Diodecast__Approval approvals[LIMIT_APPROVALS];
    Diodecast__Approval *list[LIMIT_APPROVALS];
    Diodecast__ApprovalBundle wire = DIODECAST__APPROVAL_BUNDLE__INIT;

    wire.context = (char *)bundle_context;
    wire.statement = (ProtobufCBinaryData){.len = bundle->statement_size, .data = (uint8_t *)bundle->statement};
    wire.n_approvals = approval_to_wire(bundle->approvals, bundle->count, approvals, list);
    wire.approvals = list;
    *size = diodecast__approval_bundle__get_packed_size(&wire);
    *out = malloc(*size);
    assert(*out != NULL);
    diodecast__approval_bundle__pack(&wire, *out);
}

bool approval_is_bundle(const uint8_t *bytes, size_t size)
{
    size_t position = 0;
    struct field field;
    return field_next(bytes, size, &position, &field) == FIELD_OK && field.number == FIELD_CONTEXT &&
           field.wire == FIELD_BYTES && field.size == strlen(bundle_context) &&
           memcmp(field.bytes, bundle_context, field.size) == 0;
}

bool approval_read(const struct field *field, struct signature *approval)
{
    struct signature made = {0};
    size_t position = 0, comment_size = 0;
    struct field part;
    bool has_signature = false;

    while (field_next(field->bytes, field->size, &position, &part) == FIELD_OK) {
        if (part.number == 1) {
            has_signature = part.size == SIGNATURE_SIZE && memcmp(part.bytes, "ED", 2) == 0;
            if (has_signature)
                memcpy(made.bytes, part.bytes, SIGNATURE_SIZE);
        } else if (part.number == 2) {
            comment_size = part.size;
            if (part.size > LIMIT_COMMENT_LENGTH || relpath_check_text((const char *)part.bytes, part.size) != NULL)
                return false;
            if (part.size > 0)
                memcpy(made.trusted_comment, part.bytes, part.size);
        } else if (part.number == 3) {
            if (part.size != 0 && part.size != SIGNATURE_GLOBAL_SIZE)
                return false;
            made.has_comment = part.size != 0;
            if (made.has_comment)
                memcpy(made.global, part.bytes, SIGNATURE_GLOBAL_SIZE);
        }
    }
    if (!has_signature || (comment_size > 0 && !made.has_comment))
        return false;
    if (approval != NULL)
        *approval = made;
    return true;
}

static enum status refuse(char reason[static 256], const char *what)
{
    snprintf(reason, 256, "%s", what);
    return STATUS_INVALID;
}

static enum status read_fields(const uint8_t *bytes, size_t size, struct approval_bundle *bundle,
                               char reason[static 256])
{
    struct field field;
    struct signature approval;
    size_t position = 0;
    bool has_context = false;

    if (!field_check(&diodecast__approval_bundle__descriptor, bytes, size) ||
        !field_check_each(&diodecast__approval__descriptor, FIELD_APPROVALS, LIMIT_APPROVALS, bytes, size))
        return refuse(reason, "it is not a well-formed bundle of approvals");
    while (field_next(bytes, size, &position, &field) == FIELD_OK) {
        if (field.number == FIELD_CONTEXT) {
            has_context = field.size == strlen(bundle_context) && memcmp(field.bytes, bundle_context, field.size) == 0;
        } else if (field.number == FIELD_STATEMENT) {
            bundle->statement = field.bytes;
            bundle->statement_size = field.size;
        } else if (field.number == FIELD_APPROVALS) {
            if (!approval_read(&field, &approval) || !approval.has_comment)
                return refuse(reason, "it holds an approval that breaks a rule");
            if (approval_add(bundle, &approval) != APPROVAL_ADDED)
                return refuse(reason, "it holds two approvals of one key");
        }
    }
    if (!has_context)
        return refuse(reason, "it is not a bundle of approvals");
    if (bundle->statement_size == 0 || bundle->statement_size > LIMIT_MANIFEST_SIZE)
        return refuse(reason, "its statement is missing or too large");
    return STATUS_OK;
}

enum status approval_decode(const uint8_t *bytes, size_t size, struct approval_bundle *bundle, char reason[static 256])
{
    struct statement_reader *reader = NULL;
    uint8_t *again = NULL;
    size_t again_size = 0;

    *bundle = (struct approval_bundle){0};
    reason[0] = '\0';
    if (size == 0 || size > APPROVAL_FILE_SIZE_MAX)
        return refuse(reason, "it is empty or larger than a bundle of approvals can be");
    enum status status = read_fields(bytes, size, bundle, reason);
    if (status != STATUS_OK)
        return status;
    status = statement_reader_create(bundle->statement, bundle->statement_size, &reader, reason);
    statement_reader_destroy(reader);
    if (status != STATUS_OK)
        return status;
    approval_encode(bundle, &again, &again_size);
    bool canonical = again_size == size && memcmp(again, bytes, size) == 0;
    free(again);
    return canonical ? STATUS_OK : refuse(reason, "it is not encoded as a bundle of approvals has to be");
}
