// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/signature.h"
#include "proto/relpath.h"
#include "tests/fuzz/mutate.h"

/* A .minisig file: what is accepted is one that minisign would write, and says the same when it is written anew. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct signature signature, again;
    char *text = NULL;
    size_t text_size = 0;

    if (signature_from_file_text((const char *)bytes, size, &signature) != STATUS_OK)
        return 0;
    assert(signature.has_comment);
    assert(memchr(signature.trusted_comment, '\0', sizeof signature.trusted_comment) != NULL);
    assert(strpbrk(signature.trusted_comment, "\r\n") == NULL);
    signature_to_file_text(&signature, &text, &text_size);
    enum status status = signature_from_file_text(text, text_size, &again);
    assert(status == STATUS_OK && memcmp(again.bytes, signature.bytes, sizeof again.bytes) == 0);
    assert(memcmp(again.global, signature.global, sizeof again.global) == 0);
    assert(strcmp(again.trusted_comment, signature.trusted_comment) == 0);
    free(text);
    return 0;
}

/* A line has base64 of a fixed length, which chance does not meet: what is changed keeps it. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t size_max, unsigned seed)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= \r\n";
    struct mutate mutate = {seed};
    if (size == 0 || mutate_chance(&mutate, 2))
        return LLVMFuzzerMutate(bytes, size, size_max);
    for (uint64_t left = 1 + mutate_below(&mutate, 3); left > 0; left--)
        bytes[mutate_below(&mutate, size)] = (uint8_t)alphabet[mutate_below(&mutate, sizeof alphabet - 1)];
    return size;
}
