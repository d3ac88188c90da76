// SPDX-License-Identifier: Apache-2.0
#include "tools/ask.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/conf.h"
#include "common/log.h"
#include "common/units.h"
#include "tools/terminal.h"

enum { NAME_SIZE = 64 };

static const char *user_name(uid_t uid, char text[static NAME_SIZE])
{
    const struct passwd *user = getpwuid(uid);
    if (user == NULL)
        snprintf(text, NAME_SIZE, "uid %u", (unsigned)uid);
    else
        snprintf(text, NAME_SIZE, "%s", user->pw_name);
    return text;
}

/* Who may ask, and what makes this user one of them. */
static void explain_denial(const struct ask *ask)
{
    struct stat meta;
    char owner[NAME_SIZE];

    if (stat(ask->path, &meta) != 0) {
        log_error("%s: this user may not look there; ask as root, or as the user of the daemon", ask->path);
        return;
    }
    const struct group *group = getgrgid(meta.st_gid);
    if ((meta.st_mode & S_IRWXG) == S_IRWXG && group != NULL)
        log_error(
            "%s: this user may not ask: be a member of the group %s (\"usermod -a -G %s USER\", then log in anew)",
            ask->path, group->gr_name, group->gr_name);
    else if ((meta.st_mode & S_IRWXG) == S_IRWXG)
        log_error("%s: this user may not ask: be a member of the group with gid %u", ask->path, (unsigned)meta.st_gid);
    else if (ask->group_key != NULL)
        log_error("%s: this user may not ask, only %s and root: name a group that may as %s in %s", ask->path,
                  user_name(meta.st_uid, owner), ask->group_key, ask->config);
    else
        log_error("%s: this user may not ask, only %s and root", ask->path, user_name(meta.st_uid, owner));
}

bool ask_take_wait(const char *value, uint64_t *wait_ns)
{
    if (units_parse_duration(value, wait_ns) && *wait_ns <= 3600 * CLOCK_SECOND_NS)
        return true;
    log_error("--wait %s: a time like 10s, at most 1h, is expected", value);
    return false;
}

int ask_open(struct ask *ask)
{
    ask->fd = -1;
    ask->path = NULL;
    char *parent = conf_get(ask->config, ask->section, ask->key);
    if (parent == NULL || parent[0] == '\0') {
        if (parent == NULL && errno != 0)
            log_error("%s: %s", ask->config, strerror(errno));
        else
            log_error("%s: '%s' in section [%s] is missing", ask->config, ask->key, ask->section);
        free(parent);
        return EX_CONFIG;
    }
    int length = asprintf(&ask->path, "%s/%s", parent, ask->directory);
    assert(length > 0);
    free(parent);
    ask->fd = open(ask->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (ask->fd >= 0)
        return EX_OK;
    if (errno == EACCES) {
        explain_denial(ask);
        return EX_NOPERM;
    }
    if (errno != ENOENT) {
        log_error("%s: %s", ask->path, strerror(errno));
        return EX_NOINPUT;
    }
    log_error("%s is not there: the %s makes it when it starts, which it has not done yet with this configuration",
              ask->path, ask->section);
    return EX_UNAVAILABLE;
}

void ask_close(struct ask *ask)
{
    if (ask->fd >= 0)
        close(ask->fd);
    free(ask->path);
}

static int report_post(const struct ask *ask, enum status status)
{
    if (status == STATUS_LIMIT) {
        log_error("%s: %d requests wait there already, or this one is too long; is the %s running?", ask->path,
                  (int)REQUEST_WAITING, ask->section);
        return EX_TEMPFAIL;
    }
    if (status == STATUS_DENIED || errno == EACCES || errno == EPERM) {
        explain_denial(ask);
        return EX_NOPERM;
    }
    log_error("%s: the request can't be written: %s", ask->path, strerror(errno));
    return EX_CANTCREAT;
}

static int report_silence(const struct ask *ask, const struct request *request, uint64_t wait_ns)
{
    char wait[UNITS_TEXT_SIZE];
    units_format_duration(wait_ns, wait);
    if (!request->dry_run) {
        log_warning("no answer within %s: the %s does not run, or is busy; the request waits in %s as %s and will be "
                    "taken up when the %s is there",
                    wait, ask->section, ask->path, request->id, ask->section);
        return EX_TEMPFAIL;
    }
    (void)request_withdraw(ask->fd, request->id);
    log_error("no answer within %s: the %s does not run, or is busy; a dry run needs it", wait, ask->section);
    return EX_UNAVAILABLE;
}

int ask_post(struct ask *ask, struct request *request, uint64_t wait_ns, json_t **answer)
{
    char *text = NULL;
    json_error_t error;

    *answer = NULL;
    enum status status = request_post(ask->fd, request);
    if (status != STATUS_OK)
        return report_post(ask, status);
    status = request_wait(ask->fd, request->id, wait_ns, &text);
    if (status == STATUS_NOT_FOUND)
        return report_silence(ask, request, wait_ns);
    if (status != STATUS_OK) {
        log_error("%s: the answer to request %s can't be read: %s", ask->path, request->id,
                  status == STATUS_LIMIT ? "it is too long" : strerror(errno));
        return EX_IOERR;
    }
    *answer = json_loads(text, 0, &error);
    free(text);
    if (json_is_object(*answer))
        return EX_OK;
    json_decref(*answer);
    *answer = NULL;
    log_error("%s: the answer to request %s is none: %s", ask->path, request->id, error.text);
    return EX_PROTOCOL;
}

/* "  7  wheels/torch.whl  2 MiB  will be sent", or with a ticket in front. */
static void print_item(const json_t *item, const char *word)
{
    const char *ticket = json_string_value(json_object_get(item, "ticket"));
    const char *name = json_string_value(json_object_get(item, "name"));
    json_int_t bytes = json_integer_value(json_object_get(item, "bytes"));
    char text[UNITS_TEXT_SIZE];

    printf("  ");
    if (ticket != NULL)
        terminal_print(stdout, ticket);
    else
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(item, "sequence")));
    if (name != NULL && name[0] != '\0') {
        printf("  ");
        terminal_print(stdout, name);
    }
    if (bytes > 0)
        printf("  %s", units_format_size((uint64_t)bytes, text));
    if (word != NULL && word[0] != '\0') {
        printf("  ");
        terminal_print(stdout, word);
    }
    putchar('\n');
}

static const char *message_of(const json_t *object)
{
    const char *message = json_string_value(json_object_get(object, "message"));
    return message != NULL ? message : "";
}

bool ask_is_accepted(const struct ask *ask, const json_t *answer)
{
    const json_t *item;
    size_t index;

    if (json_is_true(json_object_get(answer, "accepted")))
        return true;
    log_error("the %s refuses: %s", ask->section,
              message_of(answer)[0] != '\0' ? message_of(answer) : "no reason given");
    json_array_foreach(json_object_get(answer, "items"), index, item)
    {
        const char *ticket = json_string_value(json_object_get(item, "ticket"));
        if (ticket != NULL && json_is_false(json_object_get(item, "accepted")))
            log_error("ticket %s: %s", ticket, message_of(item));
    }
    return false;
}

bool ask_print(const json_t *answer, const char *(*state_word)(const char *state, bool *failure))
{
    json_int_t left_out = json_integer_value(json_object_get(answer, "left_out"));
    const json_t *item;
    size_t index;
    bool good = true;

    if (message_of(answer)[0] != '\0') {
        terminal_print(stdout, message_of(answer));
        putchar('\n');
    }
    json_array_foreach(json_object_get(answer, "items"), index, item)
    {
        bool failure = false;
        const char *word = json_string_value(json_object_get(item, "state"));
        if (word != NULL && state_word != NULL)
            word = state_word(word, &failure);
        print_item(item, message_of(item)[0] != '\0' ? message_of(item) : word);
        good &= !failure;
    }
    if (left_out > 0)
        printf("  and %" JSON_INTEGER_FORMAT " more\n", left_out);
    return good;
}
