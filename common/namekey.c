// SPDX-License-Identifier: Apache-2.0
#include "common/namekey.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/durable.h"
#include "common/log.h"

#define FILE_NAME "names.key"

_Static_assert(NAMEKEY_SIZE >= crypto_generichash_KEYBYTES_MIN && NAMEKEY_SIZE <= crypto_generichash_KEYBYTES_MAX,
               "a key of BLAKE2b");

static enum status read_or_make(int fd, uint8_t key[static NAMEKEY_SIZE])
{
    char *bytes;
    size_t size;
    enum status status = durable_read_file(fd, FILE_NAME, NAMEKEY_SIZE, &bytes, &size);
    if (status == STATUS_OK) {
        if (size == NAMEKEY_SIZE)
            memcpy(key, bytes, NAMEKEY_SIZE);
        else
            status = STATUS_CORRUPT;
        free(bytes);
        return status;
    }
    if (status == STATUS_LIMIT)
        return STATUS_CORRUPT;
    if (errno != ENOENT)
        return status;
    randombytes_buf(key, NAMEKEY_SIZE);
    return durable_write_file(fd, FILE_NAME, key, NAMEKEY_SIZE, 0600);
}

enum status namekey_load(const char *state_directory, uint8_t key[static NAMEKEY_SIZE])
{
    int fd = open(state_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status status = fd < 0 ? status_from_errno(errno) : read_or_make(fd, key);
    int error = errno;
    if (status == STATUS_CORRUPT)
        log_error("%s/" FILE_NAME " is not a key of %d bytes: remove it, and another one is made", state_directory,
                  (int)NAMEKEY_SIZE);
    else if (status != STATUS_OK)
        log_error("%s/" FILE_NAME ", by which names are hidden in the log, can't be read or made: %s", state_directory,
                  strerror(error));
    if (fd >= 0)
        close(fd);
    errno = error;
    return status;
}

enum status namekey_hide_names(const char *state_directory)
{
    uint8_t key[NAMEKEY_SIZE];
    enum status status = namekey_load(state_directory, key);
    if (status == STATUS_OK)
        log_hide_names(key);
    sodium_memzero(key, sizeof key);
    return status;
}

void namekey_text(const uint8_t key[static NAMEKEY_SIZE], const char *name, size_t size,
                  char text[static NAMEKEY_TEXT_SIZE])
{
    enum { SHOWN = (NAMEKEY_TEXT_SIZE - 2) / 2 };
    uint8_t hash[crypto_generichash_BYTES];
    crypto_generichash(hash, sizeof hash, (const uint8_t *)name, size, key, NAMEKEY_SIZE);
    text[0] = '#';
    for (int i = 0; i < SHOWN; i++)
        snprintf(text + 1 + 2 * i, 3, "%02x", hash[i]);
}
