// SPDX-License-Identifier: Apache-2.0
#include "receiver/requests.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mailbox.h"
#include "common/request.h"
#include "receiver/errand.h"

enum { EVENTS_SIZE = 4096, RETRY_MS = 5000 };

struct requests {
    int directory_fd, inotify_fd;
    uv_loop_t *loop;
    uv_poll_t poll;
    uv_async_t decided;
    uv_timer_t retry;
    uv_work_t work;
    unsigned holds;       /* handles that are not closed yet, and the worker */
    struct mailbox *done; /* struct errand, back from the store */
    struct store *store;  /* NULL: not taking requests up */
    bool due;             /* something may wait in the directory */
    bool working;         /* a worker is at the directory, and has what follows */
    bool is_out;          /* one is with the store */

    struct errand *decision; /* to be answered; NULL: none */
    struct errand *taken;    /* for the store; NULL: none waits */
    bool failed;
};

static enum status open_directory(struct requests *requests, const char *state_directory)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/requests", state_directory);
    bool made = mkdir(path, 0770) == 0;
    requests->directory_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    requests->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    /* Not left to the umask; what an administrator made of an older one stays. */
    if (requests->directory_fd >= 0 && (!made || fchmod(requests->directory_fd, 0770) == 0) &&
        requests->inotify_fd >= 0 && inotify_add_watch(requests->inotify_fd, path, IN_MOVED_TO | IN_ONLYDIR) >= 0)
        return STATUS_OK;
    int error = errno;
    log_error("%s can't be used for operators' requests: %s", path, strerror(error));
    return status_from_errno(error);
}

/* False when it has to be tried again. */
static bool put_answer(const struct requests *requests, const struct request *request, const char *text)
{
    if (request_answer(requests->directory_fd, request, text) == STATUS_OK)
        return true;
    log_error("a request of %s can't be answered: %s", request->requester, strerror(errno));
    return false;
}

static bool refuse(const struct requests *requests, const struct request *request, const char *message)
{
    char answer[512];
    snprintf(answer, sizeof answer, "{\"accepted\":false,\"message\":\"%s\",\"items\":[]}", message);
    return put_answer(requests, request, answer);
}

static bool answer(const struct requests *requests, const struct errand *errand)
{
    char *text = errand_answer(errand);
    assert(text != NULL);
    if (errand->request.kind == REQUEST_ACCEPT_LOSS)
        log_notice("%s asked to accept a loss (%s): %s", errand->request.requester, errand->request.reason,
                   errand->message);
    bool good = put_answer(requests, &errand->request, text);
    free(text);
    return good;
}

/* Takes the oldest request that may go to the store, and answers those before it that may not. */
static bool take(struct requests *requests)
{
    struct request request;
    bool good = true;
    while (good && requests->taken == NULL) {
        enum status status = request_next(requests->directory_fd, &request);
        if (status == STATUS_NOT_FOUND)
            return true;
        if (status != STATUS_OK) {
            log_error("operators' requests can't be read: %s", strerror(errno));
            return false;
        }
        if (request.kind == REQUEST_REPLAY)
            good = refuse(requests, &request, "the sender replays, not the receiver");
        else if (request.dry_run)
            good = refuse(requests, &request, "the acceptance of a loss can't be tried");
        else if ((requests->taken = errand_create(&request)) == NULL)
            good = refuse(requests, &request, "memory is short");
        if (requests->taken == NULL)
            request_deinit(&request);
    }
    return good;
}

/* The disk, and whatever others put into the directory, don't hold up the control thread. */
static void work(uv_work_t *work)
{
    struct requests *requests = work->data;
    requests->failed = requests->decision != NULL && !answer(requests, requests->decision);
    errand_destroy(requests->decision);
    requests->decision = NULL;
    request_expire(requests->directory_fd, clock_realtime_ns());
    if (!requests->failed)
        requests->failed = !take(requests);
}

/* Any thread. */
static void on_done(struct errand *errand)
{
    struct requests *requests = errand->context;
    mailbox_post(requests->done, &errand->entry);
    uv_async_send(&requests->decided);
}

static void let_go(struct requests *requests)
{
    if (--requests->holds > 0)
        return;
    errand_destroy(requests->taken);
    mailbox_destroy(requests->done);
    close(requests->directory_fd);
    close(requests->inotify_fd);
    free(requests);
}

static void after_work(uv_work_t *work, int result);

/* Looks at the directory, unless one is with the store: the next one follows when that is answered. */
static void start(struct requests *requests)
{
    if (requests->store == NULL || requests->working || requests->is_out || !requests->due)
        return;
    requests->due = false;
    requests->working = true;
    requests->holds++;
    int result = uv_queue_work(requests->loop, &requests->work, work, after_work);
    assert(result == 0);
    (void)result;
}

static void on_retry(uv_timer_t *timer)
{
    struct requests *requests = timer->data;
    requests->due = true;
    start(requests);
}

static void after_work(uv_work_t *work, int result)
{
    struct requests *requests = work->data;
    struct errand *errand = requests->taken;
    (void)result;
    requests->working = false;
    if (requests->store != NULL) {
        if (requests->failed)
            uv_timer_start(&requests->retry, on_retry, RETRY_MS, 0);
        if (errand != NULL) {
            errand->done = on_done;
            errand->context = requests;
            requests->taken = NULL;
            requests->is_out = true;
            store_carry_out(requests->store, errand);
        }
        start(requests);
    }
    let_go(requests); /* what was taken so late is left to the next run */
}

static void take_decision(struct requests *requests)
{
    struct errand *errand = (struct errand *)mailbox_take(requests->done);
    if (errand == NULL)
        return;
    requests->is_out = false;
    requests->due = true;
    if (errand->decided)
        requests->decision = errand;
    else
        errand_destroy(errand);
}

static void on_decided(uv_async_t *async)
{
    struct requests *requests = async->data;
    take_decision(requests);
    start(requests);
}

static void on_events(uv_poll_t *poll, int status, int events)
{
    struct requests *requests = poll->data;
    char buffer[EVENTS_SIZE];
    (void)status;
    (void)events;
    /* Which file it was does not matter: the oldest one comes first. */
    while (read(requests->inotify_fd, buffer, sizeof buffer) > 0)
        continue;
    requests->due = true;
    start(requests);
}

enum status requests_create(const char *state_directory, uv_loop_t *loop, struct requests **out)
{
    *out = NULL;
    struct requests *requests = calloc(1, sizeof *requests);
    if (requests == NULL)
        return status_from_errno(ENOMEM);
    requests->directory_fd = requests->inotify_fd = -1;
    requests->loop = loop;
    requests->work.data = requests;
    requests->done = mailbox_create(NULL);
    enum status status = requests->done == NULL ? status_from_errno(ENOMEM) : open_directory(requests, state_directory);
    if (status != STATUS_OK) {
        mailbox_destroy(requests->done);
        if (requests->directory_fd >= 0)
            close(requests->directory_fd);
        if (requests->inotify_fd >= 0)
            close(requests->inotify_fd);
        free(requests);
        return status;
    }
    int result = uv_poll_init(loop, &requests->poll, requests->inotify_fd);
    assert(result == 0);
    requests->poll.data = requests;
    result = uv_async_init(loop, &requests->decided, on_decided);
    assert(result == 0);
    (void)result;
    requests->decided.data = requests;
    uv_timer_init(loop, &requests->retry);
    requests->retry.data = requests;
    requests->holds = 3;
    *out = requests;
    return STATUS_OK;
}

void requests_start(struct requests *requests, struct store *store)
{
    requests->store = store;
    requests->due = true;
    uv_poll_start(&requests->poll, UV_READABLE, on_events);
    start(requests);
}

void requests_stop(struct requests *requests)
{
    if (requests == NULL)
        return;
    requests->store = NULL;
    uv_poll_stop(&requests->poll);
    uv_timer_stop(&requests->retry);
}

static void on_closed(uv_handle_t *handle)
{
    let_go(handle->data);
}

void requests_destroy(struct requests *requests)
{
    if (requests == NULL)
        return;
    /* What was decided is answered; nothing is out while a worker is at the directory. */
    take_decision(requests);
    if (!requests->working && requests->decision != NULL) {
        (void)answer(requests, requests->decision);
        errand_destroy(requests->decision);
        requests->decision = NULL;
    }
    uv_close((uv_handle_t *)&requests->poll, on_closed);
    uv_close((uv_handle_t *)&requests->decided, on_closed);
    uv_close((uv_handle_t *)&requests->retry, on_closed);
}
