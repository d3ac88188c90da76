// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/durable.h"
#include "common/log.h"
#include "common/units.h"
#include "proto/approval.h"
#include "proto/relpath.h"
#include "proto/statement.h"
#include "tools/command.h"
#include "tools/copy.h"
#include "tools/terminal.h"

enum { APPROVAL_MODE = 0640 };

static volatile sig_atomic_t stop_requested;

static void request_stop(int signal)
{
    (void)signal;
    stop_requested = 1;
}

/* A signal must not leave a half copy behind; a second one ends the program at once. */
static void catch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = request_stop, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &action, NULL);
}

/* Opens spool/CHANNEL, which is made when missing (*made); -1 after the reason was printed. */
static int open_channel(int spool_fd, const char *spool, const char *channel, bool *made)
{
    *made = mkdirat(spool_fd, channel, 0777) == 0;
    if (!*made && errno != EEXIST) {
        log_error("%s/%s is missing and can't be made: %s", spool, channel, strerror(errno));
        return -1;
    }
    int fd = openat(spool_fd, channel, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        log_error("channel %s/%s: %s", spool, channel, strerror(errno));
    return fd;
}

/* A channel that was made for nothing, by a typing error perhaps, goes away again. */
static void settle_channel(int spool_fd, const char *spool, const char *channel)
{
    if (unlinkat(spool_fd, channel, AT_REMOVEDIR) == 0)
        return;
    log_notice("channel %s is new: %s/%s was made", channel, spool, channel);
    if (durable_sync_directory(spool_fd, NULL) != STATUS_OK)
        log_warning("spool %s can't be flushed: %s", spool, strerror(errno));
}

/* The last component of `path` as a malloc'ed string; of the real path when it is something like ".". */
static char *item_name(const char *path)
{
    char *copy = strdup(path);
    assert(copy != NULL);
    size_t size = strlen(copy);
    while (size > 1 && copy[size - 1] == '/')
        copy[--size] = '\0';
    const char *slash = strrchr(copy, '/');
    const char *last = slash == NULL ? copy : slash + 1;
    if (strcmp(last, ".") == 0 || strcmp(last, "..") == 0) {
        char *real = realpath(copy, NULL);
        if (real != NULL) {
            free(copy);
            copy = real;
            slash = strrchr(copy, '/');
            last = slash == NULL ? copy : slash + 1;
        }
    }
    char *name = strdup(last);
    assert(name != NULL);
    free(copy);
    return name;
}

static int report_rename(enum status status, const char *name, const char *channel)
{
    if (status == STATUS_EXISTS)
        log_error("%s: an item of this name still waits in channel %s; try again when it was taken, or rename yours",
                  name, channel);
    else
        log_error("%s can't be put into channel %s: %s", name, channel,
                  status == STATUS_NOT_FOUND ? "its copy vanished from the spool" : strerror(errno));
    return EX_CANTCREAT;
}

/* Reads the approvals and sees that they are for this item; the bytes are malloc'ed. An exit code, after the reason was
 * printed. */
static int read_approval(const char *file, const char *name, const char *channel, char **bytes, size_t *size)
{
    struct approval_bundle bundle;
    struct statement_reader *reader = NULL;
    char reason[256];
    enum status status = durable_read_file(AT_FDCWD, file, APPROVAL_FILE_SIZE_MAX, bytes, size);
    if (status != STATUS_OK) {
        log_error("%s: %s", file, status == STATUS_LIMIT ? "too large" : strerror(errno));
        return EX_NOINPUT;
    }
    status = approval_decode((const uint8_t *)*bytes, *size, &bundle, reason);
    if (status == STATUS_OK)
        status = statement_reader_create(bundle.statement, bundle.statement_size, &reader, reason);
    if (status != STATUS_OK) {
        log_error("%s: %s", file, reason);
        return EX_DATAERR;
    }
    const struct statement_head *head = statement_reader_head(reader);
    bool fits = strcmp(head->name, name) == 0 && strcmp(head->channel, channel) == 0;
    if (!fits)
        log_error("%s is for %s in channel %s, and not for %s in channel %s", file, head->name, head->channel, name,
                  channel);
    statement_reader_destroy(reader);
    return fits ? EX_OK : EX_DATAERR;
}

/* Lays the approvals beside the place that the item is about to take, so that no moment has the item without them. */
static int put_approval(const char *file, const char *name, int channel_fd, const char *channel)
{
    char target[LIMIT_COMPONENT_LENGTH + 1];
    char *bytes = NULL;
    size_t size = 0;
    struct stat there;
    if (snprintf(target, sizeof(target), "%s" RELPATH_APPROVAL_SUFFIX, name) >= (int)sizeof(target)) {
        log_error("%s: the name leaves no room for \"" RELPATH_APPROVAL_SUFFIX "\" behind it", name);
        return EX_DATAERR;
    }
    if (fstatat(channel_fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0)
        return report_rename(STATUS_EXISTS, name, channel);
    int code = read_approval(file, name, channel, &bytes, &size);
    if (code == EX_OK && durable_write_file(channel_fd, target, bytes, size, APPROVAL_MODE) != STATUS_OK) {
        log_error("%s can't be put into channel %s: %s", target, channel, strerror(errno));
        code = EX_CANTCREAT;
    }
    free(bytes);
    return code;
}

/* Puts one path into the channel's directory; `approval` may be NULL. */
static int put_path(const char *path, const char *approval, int channel_fd, const char *channel, mode_t mask)
{
    struct copy copy = {.stop = &stop_requested, .mask = mask};
    struct stat info;
    char hidden[] = ".put-0000000000000000";
    uint8_t unique[8];
    if (fstat(channel_fd, &info) == 0) {
        copy.forbidden_device = info.st_dev;
        copy.forbidden_inode = info.st_ino;
    }
    randombytes_buf(unique, sizeof(unique));
    sodium_bin2hex(hidden + 5, sizeof(hidden) - 5, unique, sizeof(unique));

    char *name = item_name(path);
    int code = EX_OK;
    if (!copy_item(&copy, path, name, channel_fd, hidden)) {
        log_error("%s", copy.what);
        code = copy.code;
    } else if (approval == NULL || (code = put_approval(approval, name, channel_fd, channel)) == EX_OK) {
        enum status status = durable_rename(channel_fd, hidden, channel_fd, name);
        /* After a rename that can't be flushed the item is there all the same: only the copy's name is removed. */
        if (status != STATUS_OK)
            code = report_rename(status, name, channel);
    }
    if (code == EX_OK) {
        char size[UNITS_TEXT_SIZE];
        terminal_print(stdout, name);
        printf(": %" PRIu64 " artifact%s, %s, in channel %s\n", copy.file_count, copy.file_count == 1 ? "" : "s",
               units_format_size(copy.byte_count, size), channel);
    } else if (durable_remove_tree(channel_fd, hidden) != STATUS_OK) {
        log_warning("%s can't be removed from the spool of channel %s: %s", hidden, channel, strerror(errno));
    }
    free(name);
    return code;
}

/* The spool's directory as malloc'ed text; NULL after the reason was printed. */
static char *configured_spool(const char *file)
{
    char *spool = conf_get(file, "sender", "spool");
    if (spool != NULL && spool[0] != '\0')
        return spool;
    if (spool == NULL && errno != 0)
        log_error("%s: %s", file, strerror(errno));
    else
        log_error("%s: 'spool' in section [sender] is missing", file);
    free(spool);
    return NULL;
}

/* Puts all paths; the first failure gives the exit code. */
static int put_all(char *const paths[], int count, const char *approval, int channel_fd, const char *channel)
{
    int code = EX_OK;
    mode_t mask = umask(0);
    umask(mask);
    catch_signals();
    for (int i = 0; i < count && !stop_requested; i++) {
        int result = put_path(paths[i], approval, channel_fd, channel, mask);
        if (code == EX_OK)
            code = result;
    }
    return stop_requested && code == EX_OK ? EX_TEMPFAIL : code;
}

int command_put(int argc, char **argv)
{
    static const struct option options[] = {{"approval", required_argument, NULL, 'a'}, {NULL, 0, NULL, 0}};
    const char *file = NULL, *approval = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "c:", options, NULL)) != -1) {
        if (option == 'c')
            file = optarg;
        else if (option == 'a')
            approval = optarg;
        else
            return command_usage("put");
    }
    /* Approvals are those of one item. */
    if (file == NULL || argc - optind < 2 || (approval != NULL && argc - optind != 2))
        return command_usage("put");
    const char *channel = argv[argc - 1];
    const char *wrong = relpath_check_channel(channel, strlen(channel));
    if (wrong != NULL) {
        log_error("'%s' is no channel: the name %s", channel, wrong);
        return EX_USAGE;
    }
    char *spool = configured_spool(file);
    if (spool == NULL)
        return EX_CONFIG;

    int code = EX_CANTCREAT;
    bool made = false;
    int spool_fd = open(spool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int channel_fd = -1;
    if (spool_fd < 0)
        log_error("spool %s: %s", spool, strerror(errno));
    else
        channel_fd = open_channel(spool_fd, spool, channel, &made);
    if (channel_fd >= 0) {
        code = put_all(argv + optind, argc - 1 - optind, approval, channel_fd, channel);
        close(channel_fd);
    }
    if (made)
        settle_channel(spool_fd, spool, channel);
    if (spool_fd >= 0)
        close(spool_fd);
    free(spool);
    return code;
}
