// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_CONFIG_PRIVATE_H
#define DIODECAST_RECEIVER_CONFIG_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/conf.h"
#include "common/trust.h"
#include "receiver/config.h"

/* What is being filled, and the lines that problems between several keys are reported at. */
struct loading {
    struct config config;
    int memory_line, listen_line, lanes_line, key_next_line, trusted_keys_line, approval_keys_line, required_line;
    struct trust *senders, *approvers; /* NULL: not given, or not usable */
    struct {
        int senders, approvers, required;
    } channel_lines[POLICY_CHANNELS]; /* as config.policy.channels */
};

/* True when `value` is a directory that this process may use with `mode`; else says how to make it so. */
bool config_check_directory(struct conf_context *context, const char *key, const char *value, int mode);

/* Setters of the keys about keys. */
void config_keys_set_trusted(struct conf_context *context, const struct conf_key *key, const char *name,
                             const char *value, void *target);
void config_keys_set_approval(struct conf_context *context, const struct conf_key *key, const char *name,
                              const char *value, void *target);
/* Of section [receiver] (`name` NULL) and of [channel NAME]. */
void config_keys_set_required(struct conf_context *context, const struct conf_key *key, const char *name,
                              const char *value, void *target);
void config_keys_set_senders(struct conf_context *context, const struct conf_key *key, const char *name,
                             const char *value, void *target);
void config_keys_set_approvers(struct conf_context *context, const struct conf_key *key, const char *name,
                               const char *value, void *target);
/* Of the keys that bound one transfer, and what is held back; ready-made setters by `offset`. */
void config_limits_set_size(struct conf_context *context, const struct conf_key *key, const char *name,
                            const char *value, void *target);
void config_limits_set_manifest(struct conf_context *context, const struct conf_key *key, const char *name,
                                const char *value, void *target);
void config_limits_set_artifacts(struct conf_context *context, const struct conf_key *key, const char *name,
                                 const char *value, void *target);
void config_limits_set_path(struct conf_context *context, const struct conf_key *key, const char *name,
                            const char *value, void *target);
void config_limits_set_depth(struct conf_context *context, const struct conf_key *key, const char *name,
                             const char *value, void *target);
void config_limits_set_age(struct conf_context *context, const struct conf_key *key, const char *name,
                           const char *value, void *target);
/* What can only be seen once all is read. */
void config_keys_check(struct conf_context *context, struct loading *loading);

#endif
