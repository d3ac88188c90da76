// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_INTAKE_H
#define DIODECAST_RECEIVER_INTAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/identity.h"

/*
 * The intake directory: what lies where in it, and the descriptors of its hidden parts.
 *
 *     intake/.staging/SENDERID-TRANSFERID/small     artifacts of at most INTAKE_SMALL bytes, one behind the other
 *     intake/.staging/SENDERID-TRANSFERID/INDEX     each larger artifact, INDEX in decimal
 *     intake/.staging/SENDERID-TRANSFERID.tree/     the delivery, until it is renamed to intake/CHANNEL/DIRECTORY
 *     intake/.staging/trash-N/                      on its way out
 *     intake/.quarantine/                           quarantine.h
 *
 * Small artifacts share a file because making 50,000 files takes longer than their bytes take on the link; that is left
 * to the publish stage.
 */
struct intake {
    char *path;
    int fd;
    int staging_fd;
    int quarantine_fd;
};

enum {
    INTAKE_SMALL = 64 << 10, /* bytes */
    INTAKE_STAGING_NAME_SIZE = 8 + 1 + TRANSFER_ID_TEXT_SIZE + 5,
    INTAKE_ARTIFACT_NAME_SIZE = 12,
    INTAKE_TRASH_NAME_SIZE = 32,
    INTAKE_DIRECTORY_MODE = 02770,
};
#define INTAKE_SMALL_NAME "small"
#define INTAKE_QUARANTINE ".quarantine"

/* Opens the directory and makes the hidden ones (0700) where they are missing. Logs what is wrong. */
MUST_CHECK enum status intake_open(const char *path, struct intake *intake);
void intake_close(struct intake *intake);

void intake_staging_name(uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE],
                         char name[static INTAKE_STAGING_NAME_SIZE]);
void intake_tree_name(uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE],
                      char name[static INTAKE_STAGING_NAME_SIZE]);
void intake_artifact_name(uint32_t index, char name[static INTAKE_ARTIFACT_NAME_SIZE]);

/* Renames what is staged under a name to `trash`, a name for the removal made of the caller's count; "" when that
 * fails, which is logged. */
void intake_put_aside(const struct intake *intake, const char *name, uint64_t *count,
                      char trash[static INTAKE_TRASH_NAME_SIZE]);

/* Whether a transfer has a directory in .staging. */
bool intake_is_staged(const struct intake *intake, uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE]);
/* Bytes of a file in it; 0 when the file is not there. */
uint64_t intake_staged_size(const struct intake *intake, uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE],
                            const char *file);

/* Opens intake/CHANNEL, made with mode 2770 when it is not there; the caller closes *fd. Does not log. */
MUST_CHECK enum status intake_open_channel(const struct intake *intake, const char *channel, int *fd);

#endif
