// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_CONF_H
#define DIODECAST_COMMON_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/*
 * Reads an INI file (libinih) against a table of keys. Every problem is reported as FILE:LINE: message, all of them,
 * not only the first. A section of the table may end in '*' ("channel *"): it matches "channel NAME", and `name` says
 * which one.
 */
struct conf_context {
    const char *file;
    int line;
    int problems; /* so far */
};

/* Reports "FILE:LINE: ..." on standard error and counts it. Line 0 means the file as a whole. */
void conf_problem(struct conf_context *context, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct conf_key {
    const char *section; /* "sender", or "channel *" */
    const char *key;
    bool required;
    /* Stores `value` into `target` (conf_load's); calls conf_problem() when it is wrong. `name` is what '*' matched,
     * else NULL. */
    void (*set)(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                void *target);
    size_t offset; /* for the ready-made setters below: offsetof in *target */
};

/* Ready-made setters for plain members at `offset`. Strings are malloc'ed (char *), the owner of target frees them. */
void conf_set_string(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                     void *target);
void conf_set_directory(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                        void *target); /* must exist and be one */
void conf_set_file(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                   void *target); /* must exist and be readable */
void conf_set_size(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                   void *target); /* uint64_t */
void conf_set_rate(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                   void *target); /* uint64_t */
void conf_set_duration(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                       void *target); /* uint64_t ns */
void conf_set_uint(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                   void *target); /* uint32_t */
void conf_set_bool(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                   void *target); /* bool: on|off */
void conf_set_log_names(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                        void *target); /* bool, whether names are hidden: full|hash */
/* struct cpus; each must be one that this process may run on. */
void conf_set_cpus(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                   void *target);

/*
 * Parses `file`. Unknown sections and keys, keys given twice, missing required keys and values without section are
 * problems. STATUS_OK when there was none; STATUS_INVALID when there were (all printed); STATUS_SYSTEM when the file
 * can't be read (printed).
 */
MUST_CHECK enum status conf_load(const char *file, const struct conf_key *keys, size_t key_count, void *target);

/*
 * One value of `file`, for a program that needs no more of it: the first `key` of `section`, malloc'ed. NULL when it
 * can't be had; errno then says why the file can't be read, or is 0 when the key is not in it. Checks nothing else.
 */
char *conf_get(const char *file, const char *section, const char *key);

#endif
