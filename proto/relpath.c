// SPDX-License-Identifier: Apache-2.0
#include "proto/relpath.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "proto/limits.h"

/*
 * Length of the well-formed UTF-8 sequence at text[0..left), left > 0, and its code point; 0 when it is malformed,
 * over-long, a surrogate or beyond U+10FFFF (Unicode 15, table 3-7).
 */
static size_t decode(const unsigned char *text, size_t left, uint32_t *code)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = text[0] < 0x80 ? 1 : text[0] < 0xc0 ? 0 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;

    if (length == 0 || text[0] > 0xf4 || length > left)
        return 0;
    *code = length == 1 ? text[0] : text[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (text[i] & 0x3fu);
    }
    if (*code < smallest[length] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff))
        return 0;
    return length;
}

const char *relpath_check_text(const char *text, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)text;

    for (size_t i = 0; i < size;) {
        uint32_t code;
        size_t length = decode(bytes + i, size - i, &code);
        if (length == 0)
            return "is not valid UTF-8";
        if (code < 0x20 || (code >= 0x7f && code < 0xa0))
            return "contains a control character";
        i += length;
    }
    return NULL;
}

static const char *check_component_form(const char *text, size_t size)
{
    if (size == 0)
        return "contains an empty component";
    if (size > LIMIT_COMPONENT_LENGTH)
        return "has a component longer than 255 bytes";
    if (text[0] == '.' && (size == 1 || (size == 2 && text[1] == '.')))
        return "contains a \".\" or \"..\" component";
    return NULL;
}

const char *relpath_check(const char *text, size_t size)
{
    if (size == 0)
        return "is empty";
    if (size > LIMIT_PATH_LENGTH)
        return "is longer than 4000 bytes";
    if (text[0] == '/')
        return "is absolute";
    const char *wrong = relpath_check_text(text, size);
    if (wrong != NULL)
        return wrong;

    size_t depth = 0;
    for (size_t start = 0; start <= size;) {
        const char *slash = memchr(text + start, '/', size - start);
        size_t end = slash != NULL ? (size_t)(slash - text) : size;
        wrong = check_component_form(text + start, end - start);
        if (wrong != NULL)
            return wrong;
        if (++depth > LIMIT_PATH_DEPTH)
            return "has more than 128 components";
        start = end + 1;
    }
    return NULL;
}

const char *relpath_check_component(const char *text, size_t size)
{
    if (size == 0)
        return "is empty";
    if (memchr(text, '/', size) != NULL)
        return "contains a slash";
    return relpath_check(text, size);
}

const char *relpath_check_channel(const char *text, size_t size)
{
    if (size == 0)
        return "is empty";
    if (size > LIMIT_CHANNEL_LENGTH)
        return "is longer than 64 bytes";
    if (text[0] == '.')
        return "starts with a dot";
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        bool legal = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
                     c == '_' || c == '-';
        if (!legal)
            return "contains something else than A-Z, a-z, 0-9, '.', '_' and '-'";
    }
    return NULL;
}

const char *relpath_check_symlink(const char *path, const char *target, size_t target_size)
{
    if (target_size == 0)
        return "has an empty target";
    if (target_size > LIMIT_PATH_LENGTH)
        return "has a target longer than 4000 bytes";
    if (target[0] == '/')
        return "has an absolute target";
    if (relpath_check_text(target, target_size) != NULL)
        return "has a target that is not valid UTF-8 or contains a control character";

    size_t depth = 0; /* of the link's directory: 0 is payload/, which the target must not reach */
    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/'))
        depth++;
    if (depth == 0)
        return "is itself the item";

    /*
     * ".." may only lead the target. Behind a name it would be resolved from wherever a symlink of that name leads, so
     * that two links, each harmless, together could climb out of the item.
     */
    bool named = false;
    for (size_t start = 0; start < target_size;) {
        const char *slash = memchr(target + start, '/', target_size - start);
        size_t end = slash != NULL ? (size_t)(slash - target) : target_size;
        size_t length = end - start;
        if (length > LIMIT_COMPONENT_LENGTH)
            return "has a target with a component longer than 255 bytes";
        if (length == 2 && memcmp(target + start, "..", 2) == 0) {
            if (named)
                return "has a target with \"..\" behind a name";
            if (--depth == 0)
                return "has a target outside the item";
        } else if (length > 0 && !(length == 1 && target[start] == '.')) {
            named = true;
        }
        start = end + 1;
    }
    return NULL;
}

static bool ends_with(const char *name, const char *suffix)
{
    size_t name_size = strlen(name), suffix_size = strlen(suffix);
    return name_size >= suffix_size && memcmp(name + name_size - suffix_size, suffix, suffix_size) == 0;
}

bool relpath_is_hidden_item(const char *name)
{
    return name[0] == '.' || ends_with(name, ".part") || ends_with(name, ".tmp") || relpath_is_approval(name);
}

bool relpath_is_approval(const char *name)
{
    return ends_with(name, RELPATH_APPROVAL_SUFFIX);
}

size_t relpath_cut(const char *text, size_t limit)
{
    size_t size = strnlen(text, limit + 1);
    if (size <= limit)
        return size;
    size = limit;
    while (size > 0 && ((unsigned char)text[size] & 0xc0) == 0x80)
        size--;
    return size;
}
