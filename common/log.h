// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_LOG_H
#define DIODECAST_COMMON_LOG_H

#include <stdarg.h>
#include <stdint.h>

#include "common/namekey.h"

/*
 * Messages for the operator, on standard error. Under systemd each line carries the <N> priority prefix that journald
 * reads (sd-daemon(3)). Thread-safe; one write(2) a line; control characters of untrusted names come out escaped.
 */
enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_NOTICE = 5,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7
};

/* Sets the name in front of each line and the least urgent level that is printed. Call once, before any thread. */
void log_open(const char *name, enum log_level threshold);

/*
 * What stands in a format for a %s that is the name of an item or transfer, or LOG_DETAIL for a text that may hold
 * names of what is inside one, such as the reason of a refusal. They print as they are, unless log_hide_names() was
 * called: then a name is its keyed hash (namekey.h), and such a text is left out.
 */
#define LOG_NAME   "\x0e%s\x0f"
#define LOG_DETAIL "\x10%s\x11"
/* The same for SEQUENCE-SENDERID-NAME, with the arguments (name, log_delivered(name)). */
#define LOG_DELIVERED "%.26s" LOG_NAME
const char *log_delivered(const char *name);
/* Call once, before any thread. */
void log_hide_names(const uint8_t key[static NAMEKEY_SIZE]);

void log_print(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...)   log_print(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_print(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_print(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_print(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_print(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* Lets one message in `interval_ns` through; *suppressed then holds how many were held back since. One thread per
 * limiter. */
struct log_limit {
    uint64_t interval_ns;
    uint64_t next_ns;
    uint64_t suppressed;
};
int log_limit_pass(struct log_limit *limit, uint64_t now_ns, uint64_t *suppressed);

#endif
