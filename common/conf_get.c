// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/conf.h"

enum { LINE_SIZE = 8192 };

struct wanted {
    const char *section;
    const char *key;
    char *value;
};

/* libinih's handler; 1 means: go on. */
static int take(void *user, const char *section, const char *key, const char *value)
{
    struct wanted *wanted = user;
    if (wanted->value != NULL || strcmp(section, wanted->section) != 0 || strcmp(key, wanted->key) != 0)
        return 1;
    wanted->value = strdup(value);
    assert(wanted->value != NULL);
    return 1;
}

char *conf_get(const char *file, const char *section, const char *key)
{
    struct wanted wanted = {.section = section, .key = key};
    FILE *stream = fopen(file, "re");
    struct stat info;
    if (stream == NULL)
        return NULL;
    if (fstat(fileno(stream), &info) < 0 || !S_ISREG(info.st_mode)) {
        int error = S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
        fclose(stream);
        errno = error;
        return NULL;
    }
    /* As conf_load() sets them: the library's switches are global. */
    ini_allow_multiline = false;
    ini_use_stack = false;
    ini_initial_alloc = LINE_SIZE;
    ini_max_line = LINE_SIZE;
    ini_parse_file(stream, take, &wanted);
    int error = ferror(stream) ? EIO : 0;
    fclose(stream);
    errno = error;
    return wanted.value;
}
