// SPDX-License-Identifier: Apache-2.0
#include "proto/signed.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/diodecast.pb-c.h"
#include "proto/field.h"
#include "proto/relpath.h"

_Static_assert((int)LIMIT_COMMENT_LENGTH + 1 == (int)SIGNATURE_COMMENT_SIZE, "a legal comment fits its place");
_Static_assert(SIGNATURE_SIZE + SIGNATURE_GLOBAL_SIZE + LIMIT_COMMENT_LENGTH + 32 <= LIMIT_SIGNED_OVERHEAD,
               "what surrounds a body fits its allowance");

static void encode(const uint8_t *body, size_t body_size, const struct signature *signature, uint8_t **out,
                   size_t *out_size)
{
    Diodecast__Signed envelope = DIODECAST__SIGNED__INIT;
    envelope.body = (ProtobufCBinaryData){.len = body_size, .data = (uint8_t *)body};
    envelope.signature = (ProtobufCBinaryData){.len = SIGNATURE_SIZE, .data = (uint8_t *)signature->bytes};
    if (signature->has_comment) {
        envelope.trusted_comment = (char *)signature->trusted_comment;
        envelope.global_signature =
            (ProtobufCBinaryData){.len = SIGNATURE_GLOBAL_SIZE, .data = (uint8_t *)signature->global};
    }
    *out_size = diodecast__signed__get_packed_size(&envelope);
    assert(*out_size <= body_size + LIMIT_SIGNED_OVERHEAD);
    *out = malloc(*out_size);
    assert(*out != NULL);
    diodecast__signed__pack(&envelope, *out);
}

void signed_encode(const struct signature_key *key, const uint8_t *body, size_t body_size, const char *trusted_comment,
                   uint8_t **out, size_t *out_size, struct signature *signature)
{
    struct signature made;

    assert(trusted_comment == NULL || (strlen(trusted_comment) <= LIMIT_COMMENT_LENGTH &&
                                       relpath_check_text(trusted_comment, strlen(trusted_comment)) == NULL));
    signature_sign(key, body, body_size, trusted_comment, &made);
    encode(body, body_size, &made, out, out_size);
    if (signature != NULL)
        *signature = made;
}

void signed_message_encode(const struct signed_message *message, uint8_t **out, size_t *out_size)
{
    encode(message->body, message->body_size, &message->signature, out, out_size);
}

static bool is_legal(const Diodecast__Signed *envelope, size_t body_limit)
{
    size_t comment_size = strlen(envelope->trusted_comment);

    if (envelope->body.len == 0 || envelope->body.len > body_limit)
        return false;
    if (envelope->signature.len != SIGNATURE_SIZE || memcmp(envelope->signature.data, "ED", 2) != 0)
        return false;
    if (envelope->global_signature.len == 0)
        return comment_size == 0;
    return envelope->global_signature.len == SIGNATURE_GLOBAL_SIZE && comment_size <= LIMIT_COMMENT_LENGTH &&
           relpath_check_text(envelope->trusted_comment, comment_size) == NULL;
}

enum status signed_decode(const uint8_t *bytes, size_t size, size_t body_limit, struct signed_message *message)
{
    *message = (struct signed_message){0};
    /* Checked before protobuf-c sees it, so that a few bytes cannot make it allocate many. */
    if (size == 0 || body_limit > SIZE_MAX - LIMIT_SIGNED_OVERHEAD || size > body_limit + LIMIT_SIGNED_OVERHEAD ||
        !field_check(&diodecast__signed__descriptor, bytes, size))
        return STATUS_INVALID;
    Diodecast__Signed *envelope = diodecast__signed__unpack(NULL, size, bytes);
    if (envelope == NULL) {
        errno = ENOMEM; /* the bytes are well-formed, so memory is all that can be missing */
        return STATUS_SYSTEM;
    }

    enum status status = STATUS_INVALID;
    if (is_legal(envelope, body_limit)) {
        struct signature *signature = &message->signature;
        memcpy(signature->bytes, envelope->signature.data, SIGNATURE_SIZE);
        signature->has_comment = envelope->global_signature.len != 0;
        if (signature->has_comment) {
            memcpy(signature->trusted_comment, envelope->trusted_comment, strlen(envelope->trusted_comment) + 1);
            memcpy(signature->global, envelope->global_signature.data, SIGNATURE_GLOBAL_SIZE);
        }
        message->body = envelope->body.data;
        message->body_size = envelope->body.len;
        envelope->body = (ProtobufCBinaryData){0};
        status = STATUS_OK;
    }
    diodecast__signed__free_unpacked(envelope, NULL);
    return status;
}

void signed_message_deinit(struct signed_message *message)
{
    free(message->body);
    *message = (struct signed_message){0};
}
