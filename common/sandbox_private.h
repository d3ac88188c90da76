// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_SANDBOX_PRIVATE_H
#define DIODECAST_COMMON_SANDBOX_PRIVATE_H

#include "common/sandbox.h"

/* The mechanisms of the sandbox, each in its file. Only sandbox*.c includes this. */

/* Confines the calling thread, and those that it starts, to `paths` and what all programs read. Logs as
 * sandbox_enter(). */
MUST_CHECK enum status sandbox_landlock_confine(const struct sandbox_path paths[], size_t count);

/* Lets all threads of the process make only the system calls of the role. Logs as sandbox_seal(). */
MUST_CHECK enum status sandbox_seccomp_load(enum sandbox_role role);

/* Sets what sandbox_capabilities_limit() leaves. Before sandbox_landlock_confine(). */
void sandbox_capabilities_choose(enum sandbox_role role);
/* Gives up all but the chosen capabilities in the calling thread, and CAP_SYS_NICE if it is the starter. False with
 * errno. */
bool sandbox_capabilities_limit(bool starter);
/* Whether all threads have none but the chosen ones. Once. */
bool sandbox_capabilities_hold(void);

/* Tries what must not work. NULL when nothing of it does, else what did. */
const char *sandbox_proof_find(void);

#endif
