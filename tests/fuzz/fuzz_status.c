// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/mutate.h"
#include "tools/status_view.h"

/* A status file as `diodecast status` reads it: whatever a name in it holds, nothing that a terminal would obey. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    json_error_t error;
    json_t *root = json_loadb((const char *)bytes, size, 0, &error);
    if (root == NULL)
        return 0;
    char *text = NULL;
    size_t text_size = 0;
    FILE *stream = open_memstream(&text, &text_size);
    assert(stream != NULL);
    int64_t now_ns = INT64_C(1800000000000000000);
    (void)status_view_is_stale(root, now_ns);
    (void)status_view_has_failed(root);
    status_view_print(stream, root, NULL, now_ns);
    status_view_print(stream, root, root, now_ns);
    int failed = fclose(stream);
    assert(failed == 0);
    for (size_t i = 0; i < text_size; i++) {
        unsigned char byte = (unsigned char)text[i];
        assert((byte >= ' ' || byte == '\n') && byte != 0x7f);
        assert(byte != 0xc2 || (unsigned char)text[i + 1] >= 0xa0); /* nor the control characters of Latin-1 */
    }
    free(text);
    json_decref(root);
    return 0;
}

static const char *const words[] = {
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "1e308",
    "\"\"",
    "\"health\"",
    "\"link\"",
    "\"open\"",
    "\"name\"",
    "\"\\u001b[2J\"",
    "\"keys\"",
    "0.5",
    "2026-11-22T01:50:16.123Z",
    "9223372036854775807",
};

/* A value in the place of another one: what stands between two marks of JSON. */
static size_t replace_value(struct mutate *mutate, uint8_t *bytes, size_t size, size_t size_max)
{
    size_t first = mutate_below(mutate, size), end;
    while (first < size && strchr(":,[{", bytes[first]) == NULL)
        first++;
    if (first >= size)
        return size;
    first++;
    for (end = first; end < size && strchr(",]}", bytes[end]) == NULL; end++)
        ;
    const char *word = words[mutate_below(mutate, sizeof words / sizeof *words)];
    (void)mutate_splice(bytes, &size, size_max, first, end - first, (const uint8_t *)word, strlen(word));
    return size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t size_max, unsigned seed)
{
    struct mutate mutate = {seed};
    if (size == 0 || mutate_chance(&mutate, 2))
        return LLVMFuzzerMutate(bytes, size, size_max);
    return replace_value(&mutate, bytes, size, size_max);
}
