// SPDX-License-Identifier: Apache-2.0
#include "receiver/approved.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fingerprint.h"
#include "common/signature.h"
#include "proto/manifest.h"
#include "receiver/intake.h"

enum { FILE_MODE = 0660 };

static const char directory[] = "approvals";
static const char statement_file[] = "statement.pb";

/* Whether approval number `index` has a file of its own. */
static bool has_file(const struct manifest_reader *reader, size_t index, struct signature *approval)
{
    struct signature earlier;
    bool there = manifest_reader_approval(reader, index, approval);
    assert(there);
    (void)there;
    for (size_t i = 0; i < index; i++)
        if (manifest_reader_approval(reader, i, &earlier) && earlier.has_comment &&
            memcmp(earlier.bytes + 2, approval->bytes + 2, SIGNATURE_KEY_ID_SIZE) == 0)
            return false;
    return approval->has_comment;
}

static void file_path(const struct signature *approval, char path[static APPROVED_PATH_SIZE])
{
    char id[FINGERPRINT_KEY_ID_SIZE];
    fingerprint_key_id(approval->bytes + 2, id);
    snprintf(path, APPROVED_PATH_SIZE, "%s/%s.minisig", directory, id);
}

size_t approved_count(const struct manifest_reader *reader)
{
    struct signature approval;
    size_t count = 0;
    for (size_t i = 0; i < manifest_reader_approval_count(reader); i++)
        count += has_file(reader, i, &approval);
    return count;
}

bool approved_path(const struct manifest_reader *reader, size_t index, char path[static APPROVED_PATH_SIZE])
{
    struct signature approval;
    if (manifest_reader_approval_count(reader) == 0)
        return false;
    if (index < 2) {
        snprintf(path, APPROVED_PATH_SIZE, "%s", index == 0 ? statement_file : directory);
        return true;
    }
    index -= 2;
    for (size_t i = 0; i < manifest_reader_approval_count(reader); i++) {
        if (!has_file(reader, i, &approval) || index-- > 0)
            continue;
        file_path(&approval, path);
        return true;
    }
    return false;
}

static enum status write_file(int tree_fd, const char *path, const void *bytes, size_t size)
{
    int fd = openat(tree_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return status_from_errno(errno);
    enum status status = fchmod(fd, FILE_MODE) == 0 ? STATUS_OK : status_from_errno(errno);
    for (size_t done = 0; done < size && status == STATUS_OK;) {
        ssize_t written = write(fd, (const uint8_t *)bytes + done, size - done);
        if (written < 0 && errno != EINTR)
            status = status_from_errno(errno);
        done += written > 0 ? (size_t)written : 0;
    }
    int error = errno;
    if (close(fd) != 0 && status == STATUS_OK)
        return status_from_errno(errno);
    errno = error;
    return status;
}

enum status approved_write(int tree_fd, const struct manifest_reader *reader)
{
    struct signature approval;
    char path[APPROVED_PATH_SIZE];
    size_t size = 0;
    if (manifest_reader_approval_count(reader) == 0)
        return STATUS_OK;
    const uint8_t *statement = manifest_reader_statement(reader, &size);
    enum status status = write_file(tree_fd, statement_file, statement, size);
    if (status == STATUS_OK &&
        (mkdirat(tree_fd, directory, 0700) != 0 || fchmodat(tree_fd, directory, INTAKE_DIRECTORY_MODE, 0) != 0))
        status = status_from_errno(errno);
    for (size_t i = 0; i < manifest_reader_approval_count(reader) && status == STATUS_OK; i++) {
        if (!has_file(reader, i, &approval))
            continue;
        char *text = NULL;
        file_path(&approval, path);
        signature_to_file_text(&approval, &text, &size);
        status = write_file(tree_fd, path, text, size);
        free(text);
    }
    return status;
}
