// SPDX-License-Identifier: Apache-2.0
#include "common/keyfile.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/durable.h"

/* acl(5) as the kernel gives it (linux/posix_acl_xattr.h): a version, then tag, rights and id of each entry. */
enum {
    ACL_HEADER_SIZE = 4,
    ACL_ENTRY_SIZE = 8,
    ACL_SIZE_MAX = ACL_HEADER_SIZE + 64 * ACL_ENTRY_SIZE, /* one with more entries counts as open to others */
    ACL_TAG_USER = 0x02,
    ACL_TAG_GROUP_OBJ = 0x04,
    ACL_TAG_GROUP = 0x08,
    ACL_TAG_MASK = 0x10,
};

/* Little-endian. */
static uint32_t acl_number(const uint8_t *at, int size)
{
    uint32_t number = 0;
    for (int i = size - 1; i >= 0; i--)
        number = number << 8 | at[i];
    return number;
}

static enum status write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t done = write(fd, bytes, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return status_from_errno(errno);
        bytes += done;
        size -= (size_t)done;
    }
    return STATUS_OK;
}

static enum status sync_parent(const char *path)
{
    char *copy = strdup(path);
    assert(copy != NULL);
    enum status status = durable_sync_directory(AT_FDCWD, dirname(copy));
    free(copy);
    return status;
}

enum status keyfile_create(const char *path, const void *bytes, size_t size, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode & 0600);
    if (fd < 0)
        return errno == EEXIST ? STATUS_EXISTS : status_from_errno(errno);
    enum status status = write_all(fd, bytes, size);
    if (status == STATUS_OK && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
        status = status_from_errno(errno);
    if (close(fd) < 0 && status == STATUS_OK)
        status = status_from_errno(errno);
    if (status == STATUS_OK)
        status = sync_parent(path);
    if (status != STATUS_OK) {
        int error = errno;
        unlink(path);
        errno = error;
    }
    return status;
}

/*
 * Whether an access control list leaves the file to its owner and to this process alone. The group bits of such a file
 * are the list's mask: systemd's credentials (LoadCredential=) come with mode 0440 and an entry for the unit's user.
 */
static bool is_private_by_acl(int fd, const struct stat *info)
{
    uint8_t list[ACL_SIZE_MAX];
    uint16_t mask = 07, group = 07;
    ssize_t size = fgetxattr(fd, "system.posix_acl_access", list, sizeof list);
    if (size < ACL_HEADER_SIZE || (size - ACL_HEADER_SIZE) % ACL_ENTRY_SIZE != 0 || (info->st_mode & 07) != 0)
        return false;
    for (ssize_t at = ACL_HEADER_SIZE; at < size; at += ACL_ENTRY_SIZE)
        if (acl_number(list + at, 2) == ACL_TAG_MASK)
            mask = (uint16_t)acl_number(list + at + 2, 2);
    for (ssize_t at = ACL_HEADER_SIZE; at < size; at += ACL_ENTRY_SIZE) {
        uint32_t tag = acl_number(list + at, 2), rights = acl_number(list + at + 2, 2) & mask;
        uint32_t user = acl_number(list + at + 4, 4);
        if (tag == ACL_TAG_GROUP_OBJ)
            group = (uint16_t)rights;
        else if (rights != 0 && (tag == ACL_TAG_GROUP || (tag == ACL_TAG_USER && user != 0 && user != geteuid())))
            return false;
    }
    return group == 0;
}

/* Checks what was opened before any byte of it is read. */
static enum status check_file(int fd, const char *path, bool secret, char reason[static 256])
{
    struct stat info;
    if (fstat(fd, &info) < 0) {
        int error = errno;
        snprintf(reason, 256, "%s: %s", path, strerror(error));
        return status_from_errno(error);
    }
    if (!S_ISREG(info.st_mode)) {
        snprintf(reason, 256, "%s: not a regular file", path);
        return STATUS_INVALID;
    }
    if (secret && (info.st_mode & 077) != 0 && !is_private_by_acl(fd, &info)) {
        snprintf(reason, 256, "%s: secret key with mode %04o, others may read it; run: chmod 600 %s", path,
                 (unsigned int)(info.st_mode & 07777), path);
        return STATUS_DENIED;
    }
    if (info.st_size > KEYFILE_MAX_SIZE) {
        snprintf(reason, 256, "%s: too large for a key file", path);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

enum status keyfile_read(const char *path, bool secret, char **text, size_t *size, char reason[static 256])
{
    *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        int error = errno;
        snprintf(reason, 256, "%s: %s", path, strerror(error));
        return error == ENOENT ? STATUS_NOT_FOUND : status_from_errno(error);
    }
    enum status status = check_file(fd, path, secret, reason);
    if (status != STATUS_OK)
        goto cleanup;

    char *buffer = sodium_malloc(KEYFILE_MAX_SIZE + 1);
    assert(buffer != NULL);
    size_t filled = 0;
    while (filled < KEYFILE_MAX_SIZE) {
        ssize_t got = read(fd, buffer + filled, KEYFILE_MAX_SIZE - filled);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int error = errno;
            snprintf(reason, 256, "%s: %s", path, strerror(error));
            keyfile_free(buffer);
            status = status_from_errno(error);
            goto cleanup;
        }
        if (got == 0)
            break;
        filled += (size_t)got;
    }
    buffer[filled] = '\0';
    *text = buffer;
    *size = filled;
cleanup:
    close(fd);
    return status;
}

void keyfile_free(char *text)
{
    sodium_free(text);
}

bool keyfile_find_line(const char *text, size_t text_size, int line, const char **start, size_t *size)
{
    const char *end = text + text_size;
    for (; line > 0; line--) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        if (newline == NULL)
            return false;
        text = newline + 1;
    }
    if (text == end)
        return false;
    const char *newline = memchr(text, '\n', (size_t)(end - text));
    const char *stop = newline == NULL ? end : newline;
    if (stop > text && stop[-1] == '\r')
        stop--;
    *start = text;
    *size = (size_t)(stop - text);
    return true;
}

bool keyfile_decode_line(const char *text, size_t text_size, int line, uint8_t *out, size_t size)
{
    const char *start = NULL;
    size_t length = 0;
    if (!keyfile_find_line(text, text_size, line, &start, &length))
        return false;
    size_t decoded = 0;
    const char *stop = NULL;
    return sodium_base642bin(out, size, start, length, NULL, &decoded, &stop, sodium_base64_VARIANT_ORIGINAL) == 0 &&
           decoded == size && stop == start + length;
}
