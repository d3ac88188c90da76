// SPDX-License-Identifier: Apache-2.0
#include "tools/terminal.h"

#include <stdbool.h>
#include <string.h>

#include "proto/relpath.h"

/* U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069: they make a name look like another one. */
static bool turns_direction(const unsigned char *bytes, size_t size)
{
    if (size != 3 || bytes[0] != 0xe2)
        return false;
    if (bytes[1] == 0x80)
        return bytes[2] == 0x8e || bytes[2] == 0x8f || (bytes[2] >= 0xaa && bytes[2] <= 0xae);
    return bytes[1] == 0x81 && bytes[2] >= 0xa6 && bytes[2] <= 0xa9;
}

/* Bytes of the printable character that `text` starts with; 0 when there is none. */
static size_t printable_size(const char *text)
{
    size_t left = strnlen(text, 4);
    for (size_t size = 1; size <= left; size++)
        if (relpath_check_text(text, size) == NULL)
            return turns_direction((const unsigned char *)text, size) ? 0 : size;
    return 0;
}

void terminal_print(FILE *stream, const char *text)
{
    while (*text != '\0') {
        size_t size = printable_size(text);
        if (*text == '\\')
            fputs("\\\\", stream);
        else if (size > 0)
            fwrite(text, 1, size, stream);
        else
            fprintf(stream, "\\x%02x", (unsigned int)(unsigned char)*text);
        text += size > 0 ? size : 1;
    }
}

double terminal_percent(uint64_t done, uint64_t total)
{
    if (done >= total)
        return 100.0;
    double percent = 100.0 * (double)done / (double)total;
    return percent > 99.9 ? 99.9 : percent;
}

void terminal_bar(FILE *stream, uint64_t done, uint64_t total, int width)
{
    int filled = (int)(terminal_percent(done, total) / 100.0 * width);
    fputc('[', stream);
    for (int i = 0; i < width; i++)
        fputc(i < filled ? '#' : '-', stream);
    fputc(']', stream);
}
