// SPDX-License-Identifier: Apache-2.0
#include "receiver/keys.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fingerprint.h"
#include "common/keyfile.h"
#include "common/log.h"
#include "proto/relpath.h"
#include "receiver/keys_private.h"

enum { EVENTS_SIZE = 4096, SETTLE_MS = 100 };

static const uint32_t watched =
    IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_ONLYDIR;

static struct trust *copy(const struct trust *trust)
{
    return trust_from_entries(trust_count(trust) == 0 ? NULL : trust_at(trust, 0), trust_count(trust));
}

static void keep_problem(struct keys *keys, const struct trust_reading *reading)
{
    if (keys->problem[0] == '\0')
        snprintf(keys->problem, sizeof keys->problem, "%s", reading->problem);
}

/* The comment in a file of an announced key: who announces it, and when. */
static void read_announcement(const struct keys *keys, const char *name, char comment[static KEYS_COMMENT_SIZE])
{
    static const char prefix[] = "untrusted comment: ";
    char path[4096 + 64], *text, reason[256];
    const char *line;
    size_t size, length, skipped = sizeof prefix - 1;
    comment[0] = '\0';
    snprintf(path, sizeof path, "%s/%s.pub", keys->announced_directory, name);
    if (keyfile_read(path, false, &text, &size, reason) != STATUS_OK)
        return;
    if (keyfile_find_line(text, size, 0, &line, &length) && length > skipped && memcmp(line, prefix, skipped) == 0 &&
        length - skipped < KEYS_COMMENT_SIZE && relpath_check_text(line + skipped, length - skipped) == NULL) {
        memcpy(comment, line + skipped, length - skipped);
        comment[length - skipped] = '\0';
    }
    keyfile_free(text);
}

/* What can be read now of the keys that senders announced. */
static void read_announced(struct keys *keys)
{
    struct trust_reading reading = {.role = "announced key", .may_be_empty = true};
    struct trust *announced;
    if (trust_read(keys->announced_directory, &reading, &announced) == STATUS_OK) {
        trust_destroy(keys->announced);
        keys->announced = announced;
        for (size_t i = 0; i < trust_count(announced) && i < KEYS_ANNOUNCED; i++)
            read_announcement(keys, trust_at(announced, i)->name, keys->announcements[i]);
    }
    keep_problem(keys, &reading);
}

static enum status make_announced(struct keys *keys)
{
    if (asprintf(&keys->announced_directory, "%s/announced", keys->config->state) < 0)
        return status_from_errno(ENOMEM);
    if (mkdir(keys->announced_directory, 0755) == 0 || errno == EEXIST)
        return STATUS_OK;
    int error = errno;
    log_error("%s can't be made: %s", keys->announced_directory, strerror(error));
    return status_from_errno(error);
}

/* The approvers of the start; none configured is no error. */
static enum status load_approvers(const struct config *config, struct trust **approvers)
{
    struct trust_reading reading = {.role = "approval key", .may_be_empty = true};
    *approvers = NULL;
    if (config->approval_keys == NULL)
        return STATUS_OK;
    enum status status = trust_read(config->approval_keys, &reading, approvers);
    if (status != STATUS_OK || reading.problems == 0)
        return status;
    trust_destroy(*approvers);
    *approvers = NULL;
    return STATUS_INVALID;
}

enum status keys_create(const struct config *config, struct keys **out)
{
    struct trust *approvers = NULL;
    struct keys *keys = calloc(1, sizeof *keys);
    assert(keys != NULL);
    *out = NULL;
    *keys = (struct keys){.config = config, .inotify_fd = -1, .read_at_ns = clock_realtime_ns()};
    enum status status = trust_load(config->trusted_keys, &keys->running);
    if (status == STATUS_OK)
        status = load_approvers(config, &approvers);
    if (status == STATUS_OK)
        status = make_announced(keys);
    if (status != STATUS_OK) {
        trust_destroy(approvers);
        keys_destroy(keys);
        return status;
    }
    struct policy *policy = policy_create(&config->policy, keys->running, copy(keys->running), approvers);
    keys->policy = policy;
    keys->slot = policy_slot_create(policy);
    assert(keys->slot != NULL);
    keys->announced = trust_from_entries(NULL, 0);
    read_announced(keys);
    *out = keys;
    return STATUS_OK;
}

void keys_destroy(struct keys *keys)
{
    if (keys == NULL)
        return;
    policy_slot_destroy(keys->slot);
    trust_destroy(keys->running);
    trust_destroy(keys->announced);
    free(keys->announced_directory);
    if (keys->inotify_fd >= 0)
        close(keys->inotify_fd);
    free(keys);
}

const struct trust *keys_running(const struct keys *keys)
{
    return keys->running;
}

struct policy_slot *keys_slot(struct keys *keys)
{
    return keys->slot;
}

static const struct trust_key *find_same(const struct trust *trust, const struct trust_key *key)
{
    for (size_t i = 0; trust != NULL && i < trust_count(trust); i++) {
        const struct trust_key *other = trust_at(trust, i);
        if (memcmp(&other->public_key, &key->public_key, sizeof key->public_key) == 0)
            return other;
    }
    return NULL;
}

static void tell(struct keys *keys, const char *directory, const struct trust_key *key, const char *what,
                 const char *detail)
{
    char fingerprint[FINGERPRINT_SIZE], message[AUDIT_DETAIL_SIZE];
    fingerprint_text(&key->public_key, fingerprint);
    snprintf(message, sizeof message, "%s/%s.pub (%s) %s%s", directory, key->name, fingerprint, what, detail);
    log_notice("key %s", message);
    audit_note(keys->audit, &(struct audit_entry){.event = AUDIT_KEY, .detail = message});
}

/* Tells what is another than before. */
static void compare(struct keys *keys, const char *directory, const struct trust *before, const struct trust *after)
{
    char when[CLOCK_RFC3339_SIZE];
    for (size_t i = 0; after != NULL && i < trust_count(after); i++) {
        const struct trust_key *key = trust_at(after, i), *old = find_same(before, key);
        if (old == NULL)
            tell(keys, directory, key, "was added", "");
        if (key->revoked && (old == NULL || !old->revoked))
            tell(keys, directory, key, "is revoked: ", key->why_revoked);
        if (old == NULL)
            continue;
        if (!key->revoked && old->revoked)
            tell(keys, directory, key, "is not revoked any more", "");
        if (key->expires_ns != old->expires_ns && key->expires_ns == TRUST_NEVER)
            tell(keys, directory, key, "does not expire any more", "");
        else if (key->expires_ns != old->expires_ns) {
            clock_rfc3339(key->expires_ns, when);
            tell(keys, directory, key, "expires at ", when);
        }
    }
    for (size_t i = 0; before != NULL && i < trust_count(before); i++)
        if (find_same(after, trust_at(before, i)) == NULL)
            tell(keys, directory, trust_at(before, i), "was removed", "");
}

/* The directory's keys as they are now; where it can't be read, as they were. */
static struct trust *read_again(struct keys *keys, const char *directory, struct trust_reading *reading,
                                const struct trust *before)
{
    struct trust *trust;
    enum status status = trust_read(directory, reading, &trust);
    keep_problem(keys, reading);
    if (status != STATUS_OK)
        return copy(before);
    compare(keys, directory, before, trust);
    return trust;
}

/* The policy does not count such a key, whoever put it there. */
static void check_roles(struct keys *keys, const struct trust *senders, const struct trust *approvers)
{
    for (size_t i = 0; approvers != NULL && i < trust_count(approvers); i++) {
        const struct trust_key *key = trust_at(approvers, i);
        if (!trust_has_bytes(senders, key->public_key.key) && !trust_has_bytes(keys->running, key->public_key.key))
            continue;
        log_error("approval key %s/%s.pub is a sender's key too and approves nothing; remove it there",
                  keys->config->approval_keys, key->name);
        if (keys->problem[0] == '\0')
            snprintf(keys->problem, sizeof keys->problem,
                     "%s/%s.pub is a sender's key too and approves nothing; remove it there",
                     keys->config->approval_keys, key->name);
    }
}

void keys_reload(struct keys *keys)
{
    const struct config *config = keys->config;
    struct trust_reading of_senders = {.role = "trusted key", .by_sender_id = true};
    struct trust_reading of_approvers = {.role = "approval key", .may_be_empty = true};
    struct trust *approvers = NULL;
    keys->problem[0] = '\0';
    struct trust *senders = read_again(keys, config->trusted_keys, &of_senders, policy_senders(keys->policy));
    if (config->approval_keys != NULL)
        approvers = read_again(keys, config->approval_keys, &of_approvers, policy_approvers(keys->policy));
    check_roles(keys, senders, approvers);
    read_announced(keys);
    keys->read_at_ns = clock_realtime_ns();
    struct policy *policy = policy_create(&config->policy, keys->running, senders, approvers);
    keys->policy = policy;
    policy_slot_replace(keys->slot, policy);
}

static void on_settled(uv_timer_t *timer)
{
    keys_reload(timer->data);
}

static void on_change(uv_poll_t *poll, int failed, int events)
{
    struct keys *keys = poll->data;
    char buffer[EVENTS_SIZE] __attribute__((aligned(__alignof__(struct inotify_event))));
    bool any = false;
    (void)failed;
    (void)events;
    while (read(keys->inotify_fd, buffer, sizeof buffer) > 0)
        any = true;
    if (any && !uv_is_active((uv_handle_t *)&keys->settle))
        uv_timer_start(&keys->settle, on_settled, SETTLE_MS, 0);
}

static void on_hangup(uv_signal_t *signal, int number)
{
    (void)number;
    log_notice("reading the directories of keys again, as SIGHUP asks");
    keys_reload(signal->data);
}

static bool watch(const struct keys *keys, const char *directory)
{
    if (directory == NULL || inotify_add_watch(keys->inotify_fd, directory, watched) >= 0)
        return true;
    log_error("%s can't be watched for changes: %s", directory,
              errno == ENOSPC ? "raise fs.inotify.max_user_watches" : strerror(errno));
    return false;
}

enum status keys_watch(struct keys *keys, uv_loop_t *loop, struct audit *audit)
{
    keys->audit = audit;
    keys->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (keys->inotify_fd < 0) {
        log_error("the directories of keys can't be watched: %s", strerror(errno));
        return STATUS_SYSTEM;
    }
    if (!watch(keys, keys->config->trusted_keys) || !watch(keys, keys->config->approval_keys) ||
        !watch(keys, keys->announced_directory))
        return STATUS_SYSTEM;
    int result = uv_poll_init(loop, &keys->poll, keys->inotify_fd);
    assert(result == 0);
    uv_timer_init(loop, &keys->settle);
    uv_signal_init(loop, &keys->hangup);
    keys->poll.data = keys->settle.data = keys->hangup.data = keys;
    result = uv_poll_start(&keys->poll, UV_READABLE, on_change);
    assert(result == 0);
    result = uv_signal_start(&keys->hangup, on_hangup, SIGHUP);
    assert(result == 0);
    (void)result;
    keys_reload(keys); /* what changed since the start was read */
    return STATUS_OK;
}
