// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TOOLS_TERMINAL_H
#define DIODECAST_TOOLS_TERMINAL_H

#include <stdint.h>
#include <stdio.h>

/* Text for a person's terminal, whatever the locale. */

/*
 * Prints `text`, which others chose: bytes that are not UTF-8, control characters and the characters that turn the
 * direction of writing come out as \xNN, a backslash as \\.
 */
void terminal_print(FILE *stream, const char *text);

/* Prints "[######------------]" of `width` cells inside; `done` beyond `total` counts as all, 0 of 0 as all. */
void terminal_bar(FILE *stream, uint64_t done, uint64_t total, int width);

/* done / total in per cent, 0 to 100, and never 100 before all is done. */
double terminal_percent(uint64_t done, uint64_t total);

#endif
