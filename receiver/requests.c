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
#include "receiver/acceptance.h"

enum { EVENTS_SIZE = 4096 };

struct requests {
    int directory_fd, inotify_fd;
    uv_poll_t poll;
    uv_async_t decided;
    unsigned handles;     /* that are not closed yet */
    struct mailbox *done; /* struct acceptance, back from the store */
    struct store *store;  /* NULL: not taking requests up */
    bool busy;            /* one is with the store */
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

/* Any thread. */
static void on_done(struct acceptance *acceptance)
{
    struct requests *requests = acceptance->context;
    mailbox_post(requests->done, &acceptance->entry);
    uv_async_send(&requests->decided);
}

static void refuse(const struct requests *requests, const struct request *request, const char *message)
{
    char answer[512];
    snprintf(answer, sizeof answer, "{\"accepted\":false,\"message\":\"%s\",\"items\":[]}", message);
    if (request_answer(requests->directory_fd, request, answer) != STATUS_OK)
        log_error("a request of %s can't be answered: %s", request->requester, strerror(errno));
}

/* Hands the oldest request that waits to the store; the next one follows when it is answered. */
static void take_next(struct requests *requests)
{
    struct request request;
    enum status status;
    while (requests->store != NULL && !requests->busy &&
           (status = request_next(requests->directory_fd, &request)) != STATUS_NOT_FOUND) {
        if (status != STATUS_OK) {
            log_error("operators' requests can't be read: %s", strerror(errno));
            return;
        }
        struct acceptance *acceptance = NULL;
        if (request.kind != REQUEST_ACCEPT_LOSS)
            refuse(requests, &request, "the receiver only takes the acceptance of losses");
        else if (request.dry_run)
            refuse(requests, &request, "the acceptance of a loss can't be tried");
        else if ((acceptance = acceptance_create(&request)) == NULL)
            refuse(requests, &request, "memory is short");
        if (acceptance == NULL) {
            request_deinit(&request);
            continue;
        }
        acceptance->done = on_done;
        acceptance->context = requests;
        requests->busy = true;
        store_accept_loss(requests->store, acceptance);
    }
}

static void answer(const struct requests *requests, const struct acceptance *acceptance)
{
    char *text = acceptance_answer(acceptance);
    assert(text != NULL);
    log_notice("%s asked to accept a loss (%s): %s", acceptance->request.requester, acceptance->request.reason,
               acceptance->message);
    if (request_answer(requests->directory_fd, &acceptance->request, text) != STATUS_OK)
        log_error("a request of %s can't be answered: %s", acceptance->request.requester, strerror(errno));
    free(text);
}

static void take_done(struct requests *requests)
{
    struct mailbox_entry *entry;
    while ((entry = mailbox_take(requests->done)) != NULL) {
        struct acceptance *acceptance = (struct acceptance *)entry;
        if (acceptance->decided)
            answer(requests, acceptance);
        acceptance_destroy(acceptance);
        requests->busy = false;
    }
}

static void on_decided(uv_async_t *async)
{
    struct requests *requests = async->data;
    take_done(requests);
    request_expire(requests->directory_fd, clock_realtime_ns());
    take_next(requests);
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
    take_next(requests);
}

enum status requests_create(const char *state_directory, uv_loop_t *loop, struct requests **out)
{
    *out = NULL;
    struct requests *requests = calloc(1, sizeof *requests);
    if (requests == NULL)
        return status_from_errno(ENOMEM);
    requests->directory_fd = requests->inotify_fd = -1;
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
    requests->handles = 2;
    *out = requests;
    return STATUS_OK;
}

void requests_start(struct requests *requests, struct store *store)
{
    requests->store = store;
    request_expire(requests->directory_fd, clock_realtime_ns());
    uv_poll_start(&requests->poll, UV_READABLE, on_events);
    take_next(requests);
}

void requests_stop(struct requests *requests)
{
    if (requests == NULL)
        return;
    requests->store = NULL;
    uv_poll_stop(&requests->poll);
}

static void on_closed(uv_handle_t *handle)
{
    struct requests *requests = handle->data;
    if (--requests->handles > 0)
        return;
    close(requests->inotify_fd);
    free(requests);
}

void requests_destroy(struct requests *requests)
{
    if (requests == NULL)
        return;
    take_done(requests);
    mailbox_destroy(requests->done);
    close(requests->directory_fd);
    uv_close((uv_handle_t *)&requests->poll, on_closed);
    uv_close((uv_handle_t *)&requests->decided, on_closed);
}
