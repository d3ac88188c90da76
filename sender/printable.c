// SPDX-License-Identifier: Apache-2.0
#include "sender/printable.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/relpath.h"

enum { ELLIPSIS_SIZE = 4 /* "..." and its NUL */, ESCAPE_SIZE = 4 /* \xNN */ };

char *printable_name(const char *name, char *out, size_t size)
{
    size_t length = strlen(name);
    assert(size >= 16);

    if (relpath_check_text(name, length) == NULL) {
        if (length < size)
            return memcpy(out, name, length + 1);
        size_t cut = relpath_cut(name, size - ELLIPSIS_SIZE);
        memcpy(out, name, cut);
        memcpy(out + cut, "...", ELLIPSIS_SIZE);
        return out;
    }
    size_t used = 0;
    for (const char *next = name; *next != '\0'; next++) {
        if (used + ESCAPE_SIZE + ELLIPSIS_SIZE > size) {
            memcpy(out + used, "...", ELLIPSIS_SIZE);
            return out;
        }
        if (*next >= 0x20 && *next < 0x7f)
            out[used++] = *next;
        else
            used += (size_t)snprintf(out + used, ESCAPE_SIZE + 1, "\\x%02x", (unsigned char)*next);
    }
    out[used] = '\0';
    return out;
}
