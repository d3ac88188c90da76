// SPDX-License-Identifier: Apache-2.0
#include "sender/watch.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "common/log.h"

enum { BUCKET_COUNT = 4096, BUFFER_SIZE = 64 << 10, PROC_PATH_SIZE = 32 };

static const uint32_t event_mask = IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO |
                                   IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

struct watch {
    int fd;
    struct watch_place *buckets[BUCKET_COUNT]; /* by watch descriptor */
    struct watch_place *ended;                 /* of the last event, freed at the next call */
    size_t filled, position;
    _Alignas(struct inotify_event) char buffer[BUFFER_SIZE];
};

_Static_assert(sizeof(struct inotify_event) + NAME_MAX + 1 <= BUFFER_SIZE, "any event fits");

static void free_place(struct watch_place *place)
{
    if (place == NULL)
        return;
    free(place->path);
    free(place);
}

enum status watch_create(struct watch **watch)
{
    *watch = calloc(1, sizeof **watch);
    assert(*watch != NULL);
    (*watch)->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if ((*watch)->fd >= 0)
        return STATUS_OK;
    int error = errno;
    log_error("inotify can't be used: %s; raise fs.inotify.max_user_instances", strerror(error));
    free(*watch);
    *watch = NULL;
    return status_from_errno(error);
}

void watch_destroy(struct watch *watch)
{
    if (watch == NULL)
        return;
    for (size_t i = 0; i < BUCKET_COUNT; i++) {
        while (watch->buckets[i] != NULL) {
            struct watch_place *next = watch->buckets[i]->next;
            free_place(watch->buckets[i]);
            watch->buckets[i] = next;
        }
    }
    free_place(watch->ended);
    close(watch->fd);
    free(watch);
}

int watch_fd(const struct watch *watch)
{
    return watch->fd;
}

static struct watch_place **find(struct watch *watch, int descriptor)
{
    struct watch_place **link = &watch->buckets[(unsigned)descriptor % BUCKET_COUNT];
    while (*link != NULL && (*link)->descriptor != descriptor)
        link = &(*link)->next;
    return link;
}

bool watch_add(struct watch *watch, int fd, const char *channel, const char *item, const char *path)
{
    char proc[PROC_PATH_SIZE];
    /* By way of the open descriptor, so that a directory that is renamed meanwhile is still the one that was meant. */
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    int descriptor = inotify_add_watch(watch->fd, proc, event_mask);
    if (descriptor < 0)
        return false;
    struct watch_place **link = find(watch, descriptor);
    if (*link == NULL) {
        *link = calloc(1, sizeof **link);
        assert(*link != NULL);
        (*link)->descriptor = descriptor;
    }
    struct watch_place *place = *link;
    snprintf(place->channel, sizeof place->channel, "%s", channel);
    snprintf(place->item, sizeof place->item, "%s", item);
    free(place->path);
    place->path = strdup(path);
    assert(place->path != NULL);
    return true;
}

bool watch_has_channel(const struct watch *watch, const char *channel)
{
    for (size_t i = 0; i < BUCKET_COUNT; i++)
        for (const struct watch_place *place = watch->buckets[i]; place != NULL; place = place->next)
            if (place->item[0] == '\0' && strcmp(place->channel, channel) == 0)
                return true;
    return false;
}

void watch_remove(struct watch *watch, const char *channel, const char *item)
{
    for (size_t i = 0; i < BUCKET_COUNT; i++) {
        for (struct watch_place **link = &watch->buckets[i]; *link != NULL;) {
            struct watch_place *place = *link;
            if (strcmp(place->channel, channel) != 0 || (item != NULL && strcmp(place->item, item) != 0)) {
                link = &place->next;
                continue;
            }
            (void)inotify_rm_watch(watch->fd, place->descriptor); /* gone already with its directory is fine */
            *link = place->next;
            free_place(place);
        }
    }
}

/* True when buffer[position..filled) holds an event. */
static bool fill(struct watch *watch)
{
    if (watch->position < watch->filled)
        return true;
    ssize_t got = read(watch->fd, watch->buffer, sizeof watch->buffer);
    watch->position = 0;
    watch->filled = got > 0 ? (size_t)got : 0;
    return got > 0;
}

bool watch_next(struct watch *watch, struct watch_event *event)
{
    free_place(watch->ended);
    watch->ended = NULL;
    while (fill(watch)) {
        const struct inotify_event *raw = (const struct inotify_event *)(const void *)(watch->buffer + watch->position);
        watch->position += sizeof *raw + raw->len;
        assert(watch->position <= watch->filled);
        *event = (struct watch_event){.mask = raw->mask, .name = raw->len > 0 ? raw->name : ""};
        if ((raw->mask & IN_Q_OVERFLOW) != 0)
            return true;
        struct watch_place **link = find(watch, raw->wd);
        if (*link == NULL)
            continue;
        event->place = *link;
        if ((raw->mask & IN_IGNORED) != 0) {
            watch->ended = *link;
            *link = watch->ended->next;
        }
        return true;
    }
    return false;
}
