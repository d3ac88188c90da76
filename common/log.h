// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_LOG_H
#define DIODECAST_COMMON_LOG_H

#include <stdarg.h>
#include <stdint.h>

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
