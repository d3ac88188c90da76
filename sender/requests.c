// SPDX-License-Identifier: Apache-2.0
#include "sender/requests.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/durable.h"
#include "common/log.h"
#include "common/request.h"
#include "common/units.h"
#include "sender/ledger_again.h"
#include "sender/ledger_replay.h"
#include "sender/reopen.h"
#include "sender/replay.h"

enum {
    PRIVATE_MODE = 0700,
    GROUP_MODE = 03770, /* as common/request.h says */
    TAKE_MAX = 1024,    /* in one go */
    EVENTS_SIZE = 4096,
};

static const char directory_name[] = ".requests";

struct requests {
    const struct claim *claim;
    int directory_fd, watch_fd;
    char witnessed[REQUEST_ID_SIZE]; /* in the audit trail already, while the ledger can't record it */
};

/* Gives the directory its group and mode, also one that is there from another configuration. */
static bool set_access(int fd, const char *group_name)
{
    mode_t mode = group_name != NULL ? GROUP_MODE : PRIVATE_MODE;
    const struct group *group = group_name != NULL ? getgrnam(group_name) : NULL;
    struct stat meta;
    if (group_name != NULL && group == NULL) {
        errno = ESRCH;
        return false;
    }
    if (fstat(fd, &meta) != 0)
        return false;
    if (meta.st_gid == (group != NULL ? group->gr_gid : meta.st_gid) && (meta.st_mode & 07777) == mode)
        return true;
    /* Closed before it changes hands, and the mode last: a change of group takes the setgid bit. */
    if (group != NULL && (fchmod(fd, PRIVATE_MODE) != 0 || fchown(fd, (uid_t)-1, group->gr_gid) != 0))
        return false;
    return fchmod(fd, mode) == 0 && fsync(fd) == 0;
}

static bool open_directory(struct requests *requests)
{
    const struct spooldirs *dirs = requests->claim->dirs;
    if (durable_make_directory(dirs->root, directory_name, PRIVATE_MODE) == STATUS_OK)
        requests->directory_fd = openat(dirs->root, directory_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (requests->directory_fd < 0) {
        log_error("%s/%s can't be made and opened: %s; give it to uid %u", dirs->path, directory_name, strerror(errno),
                  (unsigned)geteuid());
        return false;
    }
    const char *group = requests->claim->config->replay_group;
    if (set_access(requests->directory_fd, group))
        return true;
    log_error("%s/%s can't be given to %s: %s; give it to uid %u, and make that user a member of the group", dirs->path,
              directory_name, group != NULL ? group : "its owner alone", strerror(errno), (unsigned)geteuid());
    return false;
}

static bool open_watch(struct requests *requests)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", requests->directory_fd);
    requests->watch_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (requests->watch_fd >= 0 && inotify_add_watch(requests->watch_fd, path, IN_MOVED_TO | IN_ONLYDIR) >= 0)
        return true;
    log_error("%s/%s can't be watched: %s; raise fs.inotify.max_user_instances or max_user_watches",
              requests->claim->dirs->path, directory_name, strerror(errno));
    return false;
}

enum status requests_open(const struct claim *claim, struct requests **requests)
{
    struct requests *made = calloc(1, sizeof *made);
    assert(made != NULL);
    *made = (struct requests){.claim = claim, .directory_fd = -1, .watch_fd = -1};
    *requests = NULL;
    if (!open_directory(made) || !open_watch(made)) {
        requests_close(made);
        return STATUS_SYSTEM;
    }
    *requests = made;
    return STATUS_OK;
}

void requests_close(struct requests *requests)
{
    if (requests == NULL)
        return;
    if (requests->watch_fd >= 0)
        close(requests->watch_fd);
    if (requests->directory_fd >= 0)
        close(requests->directory_fd);
    free(requests);
}

int requests_fd(const struct requests *requests)
{
    return requests->watch_fd;
}

void requests_clear(struct requests *requests)
{
    char events[EVENTS_SIZE];
    while (read(requests->watch_fd, events, sizeof events) > 0)
        continue;
}

static enum status source_next(void *context, uint64_t after, int64_t since_ns, struct ledger_transfer *transfer)
{
    const struct claim *claim = context;
    return ledger_next(claim->ledger, after, since_ns, transfer);
}

static enum status source_sizes(void *context, uint64_t sequence, uint64_t **sizes, size_t *count)
{
    const struct claim *claim = context;
    return reopen_sizes(claim->ledger, sequence, sizes, count);
}

static bool source_is_kept(void *context, const struct ledger_transfer *transfer)
{
    return reopen_is_kept(context, transfer);
}

static enum status resolve(const struct claim *claim, const struct request *request, struct replay_plan *plan)
{
    uint8_t chain_id[CHAIN_ID_SIZE], hash[SHA256_SIZE];
    struct claim borrowed = *claim;
    struct replay_source source = {.context = &borrowed,
                                   .chain_id = chain_id,
                                   .next = source_next,
                                   .sizes = source_sizes,
                                   .is_kept = source_is_kept};
    *plan = (struct replay_plan){0};
    ledger_chain_id(claim->ledger, chain_id);
    enum status status = ledger_newest(claim->ledger, &source.newest_sequence, hash);
    return status == STATUS_OK ? replay_resolve(request, &source, plan) : status;
}

/* Makes what the request asks for durable. */
static enum status record(struct requests *requests, const struct request *request, const struct replay_plan *plan,
                          const char *answer)
{
    const struct claim *claim = requests->claim;
    char what[REPLAY_WHAT_SIZE];
    size_t count = 0;
    struct ledger_replay *replays = calloc(plan->queued + 1, sizeof *replays);
    assert(replays != NULL);
    for (size_t i = 0; i < plan->count; i++) {
        const struct replay_item *item = &plan->items[i];
        if (item->state == REPLAY_QUEUED)
            replays[count++] = (struct ledger_replay){
                .sequence = item->sequence, .parts = item->parts, .now = request->now, .bytes = item->bytes};
    }
    struct ledger_request taken = {.id = request->id,
                                   .requester = request->requester,
                                   .what = replay_what(request, what),
                                   .answer = answer,
                                   .made_at_ns = request->made_at_ns,
                                   .replays = replays,
                                   .replay_count = count};
    uint8_t chain_id[CHAIN_ID_SIZE];
    struct audit_entry asked = {
        .event = AUDIT_ASKED, .chain_id = chain_id, .actor = request->requester, .detail = taken.what};
    ledger_chain_id(claim->ledger, chain_id);
    for (size_t i = 0; i < count; i++) {
        if (asked.sequence == 0 || replays[i].sequence < asked.sequence)
            asked.sequence = replays[i].sequence;
        if (replays[i].sequence > asked.last_sequence)
            asked.last_sequence = replays[i].sequence;
    }
    enum status status = STATUS_OK;
    if (strcmp(requests->witnessed, request->id) != 0)
        status = audit_record(claim->audit, &asked, 1);
    if (status == STATUS_OK) {
        memcpy(requests->witnessed, request->id, sizeof requests->witnessed);
        status = ledger_request_take(claim->ledger, &taken, clock_realtime_ns());
    }
    free(replays);
    if (status == STATUS_OK)
        log_notice("%s asks for a replay of %s: %zu transfer%s", request->requester, what, count, units_plural(count));
    return status;
}

/* The answer to a request, malloc'ed; NULL when it has to wait. */
static char *answer_to(struct requests *requests, const struct request *request, size_t *queued)
{
    const struct claim *claim = requests->claim;
    struct replay_plan plan;
    char *answer = NULL;
    enum status status = ledger_request_answer(claim->ledger, request->id, &answer);
    if (status == STATUS_OK)
        return answer; /* recorded before a crash that came before the answer */
    if (status != STATUS_NOT_FOUND)
        return NULL;
    status = resolve(claim, request, &plan);
    if (status == STATUS_OK) {
        answer = replay_answer(&plan, claim->config);
        if (plan.accepted && !request->dry_run)
            status = record(requests, request, &plan, answer);
        if (!plan.accepted)
            log_notice("%s asks for a replay, which is refused: %s", request->requester, plan.message);
    }
    if (status != STATUS_OK) {
        log_error("a request for a replay can't be taken up now: %s; it is tried again", status_text(status));
        free(answer);
        answer = NULL;
    } else if (plan.accepted && !request->dry_run) {
        *queued += plan.queued;
    }
    replay_plan_deinit(&plan);
    return answer;
}

void requests_take(struct requests *requests, struct requests_result *result)
{
    struct request request;
    *result = (struct requests_result){0};
    request_expire(requests->directory_fd, clock_realtime_ns());
    while (result->taken < TAKE_MAX) {
        enum status status = request_next(requests->directory_fd, &request);
        if (status == STATUS_NOT_FOUND)
            return;
        if (status != STATUS_OK)
            break;
        char *answer = answer_to(requests, &request, &result->queued);
        bool good = answer != NULL;
        if (good && request_answer(requests->directory_fd, &request, answer) != STATUS_OK) {
            log_warning("the answer to %s's request for a replay can't be written: %s", request.requester,
                        strerror(errno));
            good = false;
        }
        free(answer);
        request_deinit(&request);
        if (!good)
            break;
        result->taken++;
    }
    result->again = true;
}
