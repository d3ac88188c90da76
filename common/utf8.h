// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_UTF8_H
#define DIODECAST_COMMON_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length of the UTF-8 sequence that `text` (size > 0) starts with, and its code point; 0 when it is not well-formed
 * (RFC 3629). Pure. */
size_t utf8_decode(const char *text, size_t size, uint32_t *code);
/* What a terminal obeys instead of showing: C0, DEL, C1, line separators, bidirectional overrides. Pure. */
bool utf8_is_control(uint32_t code);

#endif
