// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/log.h"
#include "common/units.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct target {
    char *spool;
    char *key;
    char *text;
    uint64_t memory;
    uint64_t rate;
    uint64_t settle;
    uint32_t lanes;
    bool idle;
    unsigned channels;
};

static void set_channel(struct conf_context *context, const struct conf_key *key, const char *name, const char *value,
                        void *target)
{
    (void)key;
    assert(name != NULL && name[0] != '\0' && context->line > 0);
    if (value[0] == '\0')
        conf_problem(context, "empty");
    ((struct target *)target)->channels++;
}

static const struct conf_key keys[] = {
    {"sender", "spool", true, conf_set_directory, offsetof(struct target, spool)},
    {"sender", "signing_key", false, conf_set_file, offsetof(struct target, key)},
    {"sender", "text", false, conf_set_string, offsetof(struct target, text)},
    {"sender", "memory", false, conf_set_size, offsetof(struct target, memory)},
    {"sender", "settle", false, conf_set_duration, offsetof(struct target, settle)},
    {"link", "rate", true, conf_set_rate, offsetof(struct target, rate)},
    {"link", "lanes", false, conf_set_uint, offsetof(struct target, lanes)},
    {"link", "idle", false, conf_set_bool, offsetof(struct target, idle)},
    {"channel *", "priority", true, set_channel, 0},
};

static int file_descriptor = -1;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    log_open("fuzz_conf", (enum log_level)0); /* problems are counted; what they say is not of interest */
    file_descriptor = memfd_create("conf", MFD_CLOEXEC);
    assert(file_descriptor >= 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct target target = {.spool = NULL};
    char file[64];
    char text[UNITS_TEXT_SIZE];
    int truncated = ftruncate(file_descriptor, 0);
    ssize_t written = pwrite(file_descriptor, bytes, size, 0);
    assert(truncated == 0 && written == (ssize_t)size);
    snprintf(file, sizeof file, "/proc/self/fd/%d", file_descriptor);
    enum status status = conf_load(file, keys, sizeof keys / sizeof *keys, &target);
    assert(status == STATUS_OK || status == STATUS_INVALID);
    assert(status != STATUS_OK || target.spool != NULL);
    assert(strlen(units_format_size(target.memory, text)) > 0 && strlen(units_format_rate(target.rate, text)) > 0 &&
           strlen(units_format_duration(target.settle, text)) > 0);
    free(target.spool);
    free(target.key);
    free(target.text);
    return 0;
}
