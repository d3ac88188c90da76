// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_UNITS_H
#define DIODECAST_COMMON_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Quantities with units, as operators write them. The parsers accept exactly one number (decimals allowed) and one
 * unit; false otherwise. */
bool units_parse_size(const char *text, uint64_t *bytes);           /* 64MiB 500GiB 1TiB 10MB 4096 (bytes) */
bool units_parse_rate(const char *text, uint64_t *bits_per_second); /* 1Gbit/s 500Mbit/s 64kbit/s */
bool units_parse_duration(const char *text, uint64_t *ns);          /* 5ms 1s 30s 10m 2h 7d */

/* For humans: "1.5 GiB", "500 Mbit/s", "2h 05m". `out` has UNITS_TEXT_SIZE bytes; returns out. */
enum { UNITS_TEXT_SIZE = 32 };
char *units_format_size(uint64_t bytes, char out[static UNITS_TEXT_SIZE]);
char *units_format_rate(uint64_t bits_per_second, char out[static UNITS_TEXT_SIZE]);
char *units_format_duration(uint64_t ns, char out[static UNITS_TEXT_SIZE]);
/* The ending of a noun behind a number: "" for one, else "s". */
const char *units_plural(uint64_t count);

#endif
