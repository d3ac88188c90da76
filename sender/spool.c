// SPDX-License-Identifier: Apache-2.0
#include "sender/spool.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "proto/relpath.h"
#include "sender/printable.h"
#include "sender/probe.h"
#include "sender/watch.h"

enum { SHOWN_SIZE = 128 };

#define SCAN_INTERVAL_NS        (30 * CLOCK_SECOND_NS)
#define SCAN_INTERVAL_UNSURE_NS (5 * CLOCK_SECOND_NS)

static const char marker_suffix[] = ".ready";
enum { MARKER_SUFFIX_SIZE = sizeof marker_suffix - 1 };

struct spool {
    const struct config *config;
    const struct spooldirs *dirs;
    struct settle *settle;
    struct watch *watch;
    struct spool_trouble trouble;
    bool events_unsure; /* of any channel: then scans come more often */
    bool scan_wanted;
};

/* Where a scan or an event stands. */
struct channel {
    struct spool *spool;
    const char *directory;
    const struct config_channel *rule;
    int fd;
    bool watched;
    uint64_t now_ns;
    int64_t realtime_ns;
};

/* Sets watches on the directories of one item, seen from the directory at `prefix` in the channel. */
struct tree_watch {
    struct spool *spool;
    const char *directory, *item, *prefix;
    bool complete;
};

const char *spool_channel_name(const char *directory)
{
    return directory[0] != '\0' ? directory : "default";
}

static const struct config_channel *rule_of(const struct spool *spool, const char *directory)
{
    return config_channel_find(spool->config, spool_channel_name(directory));
}

enum status spool_create(const struct config *config, const struct spooldirs *dirs, struct settle *settle,
                         struct spool **spool)
{
    struct watch *watch;
    *spool = NULL;
    enum status status = watch_create(&watch);
    if (status != STATUS_OK)
        return status;
    *spool = calloc(1, sizeof **spool);
    assert(*spool != NULL);
    **spool = (struct spool){.config = config, .dirs = dirs, .settle = settle, .watch = watch};
    return STATUS_OK;
}

void spool_destroy(struct spool *spool)
{
    if (spool == NULL)
        return;
    watch_destroy(spool->watch);
    free(spool);
}

int spool_fd(const struct spool *spool)
{
    return watch_fd(spool->watch);
}

const struct spool_trouble *spool_trouble(const struct spool *spool)
{
    return &spool->trouble;
}

uint64_t spool_scan_interval_ns(const struct spool *spool)
{
    return spool->events_unsure ? SCAN_INTERVAL_UNSURE_NS : SCAN_INTERVAL_NS;
}

static bool add_watch(struct spool *spool, int fd, const char *directory, const char *item, const char *path)
{
    if (watch_add(spool->watch, fd, directory, item, path))
        return true;
    if (!spool->trouble.watch_limit)
        log_warning("the spool can't be watched completely: %s; raise fs.inotify.max_user_watches; until then it is "
                    "scanned instead",
                    strerror(errno));
    spool->trouble.watch_limit = true;
    spool->events_unsure = true;
    return false;
}

static void watch_directory(int fd, const char *path, void *context)
{
    struct tree_watch *tree = context;
    char full[2 * LIMIT_PATH_LENGTH];
    int size = snprintf(full, sizeof full, "%s%s%s", tree->prefix, tree->prefix[0] != '\0' ? "/" : "", path);
    if (size >= (int)sizeof full || !add_watch(tree->spool, fd, tree->directory, tree->item, full))
        tree->complete = false;
}

static bool is_marker(const struct config_channel *rule, const char *name)
{
    size_t size = strlen(name);
    return rule->complete == CONFIG_COMPLETE_MARKER && size > MARKER_SUFFIX_SIZE &&
           strcmp(name + size - MARKER_SUFFIX_SIZE, marker_suffix) == 0;
}

static bool has_marker(const struct channel *channel, const char *name)
{
    char marker[LIMIT_COMPONENT_LENGTH + sizeof marker_suffix];
    struct stat meta;
    int size = snprintf(marker, sizeof marker, "%s%s", name, marker_suffix);
    return size < (int)sizeof marker && fstatat(channel->fd, marker, &meta, AT_SYMLINK_NOFOLLOW) == 0;
}

static void see(const struct channel *channel, const char *name, enum settle_how how, bool tree)
{
    struct spool *spool = channel->spool;
    struct settle_item item = {.rule = channel->rule, .how = how, .tree = tree, .watched = channel->watched};
    uint64_t age_ns = 0;
    struct tree_watch watches = {
        .spool = spool, .directory = channel->directory, .item = name, .prefix = "", .complete = true};

    snprintf(item.channel, sizeof item.channel, "%s", channel->directory);
    snprintf(item.name, sizeof item.name, "%s", name);
    if (how != SETTLE_MOVED || !tree) {
        struct probe probe;
        bool watch_tree = channel->watched && how != SETTLE_MOVED;
        if (probe_item(channel->fd, name, false, watch_tree ? watch_directory : NULL, &watches, &probe) != STATUS_OK)
            return;
        item.tree = probe.tree;
        item.watched = channel->watched && watches.complete;
        item.bytes = probe.bytes;
        if (how == SETTLE_FOUND) {
            item.has_fingerprint = true;
            item.fingerprint = probe.fingerprint;
            if (channel->realtime_ns > probe.changed_ns && channel->watched)
                age_ns = (uint64_t)(channel->realtime_ns - probe.changed_ns);
        }
    }
    settle_see(spool->settle, &item, age_ns, channel->now_ns);
    if (channel->rule->complete == CONFIG_COMPLETE_MARKER && has_marker(channel, name))
        settle_mark(spool->settle, channel->directory, name, true, channel->now_ns);
}

static void complain(struct spool *spool, const char *directory, const char *what)
{
    char shown[SHOWN_SIZE];
    if (spool->trouble.unreadable)
        return;
    spool->trouble.unreadable = true;
    snprintf(spool->trouble.unreadable_message, sizeof spool->trouble.unreadable_message, "%s/%s: %s",
             spool->dirs->path, printable_name(directory, shown, sizeof shown), what);
}

/* Opens the channel's directory and watches it; false when it can't be used. */
static bool open_channel(struct spool *spool, const char *directory, struct channel *channel)
{
    *channel = (struct channel){.spool = spool, .directory = directory, .rule = rule_of(spool, directory)};
    const char *name = spool_channel_name(directory);
    const char *wrong = relpath_check_channel(name, strlen(name));
    if (strcmp(directory, "lost+found") == 0)
        return false; /* ext4 has one where the spool is a file system of its own */
    if (wrong != NULL) {
        char what[SHOWN_SIZE];
        snprintf(what, sizeof what, "is no channel, for its name %s; rename it", wrong);
        complain(spool, directory, what);
        return false;
    }
    channel->fd = spooldirs_channel(spool->dirs, directory);
    if (channel->fd < 0) {
        if (errno != ENOENT)
            complain(spool, directory,
                     "can't be listed by the sender; run \"chmod g+rwxs\" on it and give it its group");
        return false;
    }
    channel->watched = watch_has_channel(spool->watch, directory) || add_watch(spool, channel->fd, directory, "", "");
    const char *kind = spooldirs_network_kind(channel->fd);
    if (kind != NULL) {
        channel->watched = false; /* inotify tells of local writers only */
        spool->events_unsure = true;
        if (channel->rule->complete == CONFIG_COMPLETE_SETTLE && !spool->trouble.network) {
            spool->trouble.network = true;
            snprintf(spool->trouble.network_channel, sizeof spool->trouble.network_channel, "%s (%s)", name, kind);
        }
    }
    return true;
}

/* The item that a companion belongs to. */
static void approved_item(const char *companion, char item[static LIMIT_COMPONENT_LENGTH + 1])
{
    size_t size = strlen(companion) - RELPATH_APPROVAL_SUFFIX_SIZE;
    snprintf(item, LIMIT_COMPONENT_LENGTH + 1, "%.*s", (int)size, companion);
}

/* Approvals may come before their item; those whose item never comes are told of. */
static void count_approval(const struct channel *channel, const char *companion)
{
    char item[LIMIT_COMPONENT_LENGTH + 1];
    struct stat meta;
    approved_item(companion, item);
    if (fstatat(channel->fd, item, &meta, AT_SYMLINK_NOFOLLOW) != 0)
        channel->spool->trouble.approvals_alone++;
}

static bool is_directory(int fd, const struct dirent *found)
{
    struct stat meta;
    if (found->d_type != DT_UNKNOWN)
        return found->d_type == DT_DIR;
    return fstatat(fd, found->d_name, &meta, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(meta.st_mode);
}

static void scan_channel(struct spool *spool, const char *directory, uint64_t now_ns, int64_t realtime_ns);

/* Sees all that is in the open channel; directories in the spool itself are channels. Takes the descriptor. */
static void scan_names(const struct channel *channel)
{
    int listed = fcntl(channel->fd, F_DUPFD_CLOEXEC, 0);
    DIR *stream = listed >= 0 ? fdopendir(listed) : NULL;
    if (stream == NULL) {
        if (listed >= 0)
            close(listed);
        complain(channel->spool, channel->directory, "can't be listed; raise LimitNOFILE");
        return;
    }
    rewinddir(stream);
    for (const struct dirent *found; (found = readdir(stream)) != NULL;) {
        const char *name = found->d_name;
        if (name[0] != '.' && relpath_is_approval(name))
            count_approval(channel, name);
        if (relpath_is_hidden_item(name) || is_marker(channel->rule, name))
            continue;
        bool tree = is_directory(channel->fd, found);
        if (tree && channel->directory[0] == '\0')
            scan_channel(channel->spool, name, channel->now_ns, channel->realtime_ns);
        else
            see(channel, name, SETTLE_FOUND, tree);
    }
    closedir(stream);
}

static void scan_channel(struct spool *spool, const char *directory, uint64_t now_ns, int64_t realtime_ns)
{
    struct channel channel;
    if (!open_channel(spool, directory, &channel))
        return;
    channel.now_ns = now_ns;
    channel.realtime_ns = realtime_ns;
    scan_names(&channel);
    close(channel.fd);
}

void spool_scan(struct spool *spool, uint64_t now_ns, int64_t realtime_ns)
{
    bool gone = spool->trouble.gone;
    spool->trouble = (struct spool_trouble){.gone = gone};
    spool->events_unsure = false;
    spool->scan_wanted = false;
    settle_scan_begin(spool->settle);
    scan_channel(spool, "", now_ns, realtime_ns);
    settle_scan_end(spool->settle);
}

/* An event of a name directly in a channel. */
static void channel_event(struct channel *channel, const struct watch_event *event)
{
    struct spool *spool = channel->spool;
    const char *directory = channel->directory, *name = event->name;
    bool tree = (event->mask & IN_ISDIR) != 0;

    if (is_marker(channel->rule, name)) {
        char item[LIMIT_COMPONENT_LENGTH + 1];
        snprintf(item, sizeof item, "%.*s", (int)(strlen(name) - MARKER_SUFFIX_SIZE), name);
        bool present = (event->mask & (IN_DELETE | IN_MOVED_FROM)) == 0;
        settle_mark(spool->settle, directory, item, present, channel->now_ns);
        return;
    }
    if ((event->mask & (IN_DELETE | IN_MOVED_FROM)) != 0) {
        settle_forget(spool->settle, directory, name);
        if (tree)
            watch_remove(spool->watch, directory, name);
    } else if ((event->mask & IN_MOVED_TO) != 0) {
        see(channel, name, SETTLE_MOVED, tree);
    } else if ((event->mask & IN_CREATE) != 0) {
        see(channel, name, SETTLE_CREATED, tree);
    } else {
        see(channel, name, SETTLE_FOUND, tree);
    }
}

/* A directory appeared in an item that grows in place: what is below it must be watched too. */
static void watch_below(struct spool *spool, const struct watch_place *place, const char *name, uint64_t now_ns)
{
    struct tree_watch watches = {
        .spool = spool, .directory = place->channel, .item = place->item, .prefix = place->path, .complete = true};
    struct probe probe;
    int channel_fd = spooldirs_channel(spool->dirs, place->channel);
    int fd = channel_fd >= 0 ? openat(channel_fd, place->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    /* A directory that is gone again needs no watch, and the event of its going is in the queue. */
    enum status status = fd >= 0 ? probe_item(fd, name, false, watch_directory, &watches, &probe) : STATUS_SYSTEM;
    if (fd < 0 || (status == STATUS_OK && !watches.complete))
        spool->scan_wanted = true;
    if (fd >= 0)
        close(fd);
    if (channel_fd >= 0)
        close(channel_fd);
    (void)settle_touch(spool->settle, place->channel, place->item, false, now_ns);
}

static void root_event(struct spool *spool, const struct watch_event *event, uint64_t now_ns)
{
    if ((event->mask & (IN_DELETE | IN_MOVED_FROM)) != 0) {
        settle_forget_channel(spool->settle, event->name);
        watch_remove(spool->watch, event->name, NULL);
    } else if ((event->mask & (IN_CREATE | IN_MOVED_TO)) != 0) {
        scan_channel(spool, event->name, now_ns, clock_realtime_ns());
    }
}

static void handle(struct spool *spool, const struct watch_event *event, uint64_t now_ns)
{
    if ((event->mask & IN_Q_OVERFLOW) != 0) {
        log_notice("the kernel's queue of spool events overflowed; the spool is scanned (raise "
                   "fs.inotify.max_queued_events if this is frequent)");
        spool->scan_wanted = true;
        return;
    }
    const struct watch_place *place = event->place;
    bool in_root = place->channel[0] == '\0' && place->item[0] == '\0';
    if (event->name[0] == '\0') {
        if (in_root && (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)) != 0)
            spool->trouble.gone = true;
        else if (place->item[0] != '\0' && (event->mask & IN_IGNORED) == 0)
            (void)settle_touch(spool->settle, place->channel, place->item, false, now_ns);
        return;
    }
    if (place->item[0] != '\0') {
        if ((event->mask & IN_ISDIR) != 0 && (event->mask & (IN_CREATE | IN_MOVED_TO)) != 0)
            watch_below(spool, place, event->name, now_ns);
        else
            (void)settle_touch(spool->settle, place->channel, place->item, (event->mask & IN_CLOSE_WRITE) != 0, now_ns);
        return;
    }
    if (event->name[0] != '.' && relpath_is_approval(event->name)) {
        char item[LIMIT_COMPONENT_LENGTH + 1];
        approved_item(event->name, item);
        settle_approval(spool->settle, place->channel, item, now_ns);
    }
    if (relpath_is_hidden_item(event->name))
        return;
    if (in_root && (event->mask & IN_ISDIR) != 0) {
        root_event(spool, event, now_ns);
        return;
    }
    /* The many events of a file that is being written need no more than this. */
    uint32_t structural = IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE;
    if ((event->mask & structural) == 0 &&
        settle_touch(spool->settle, place->channel, event->name, (event->mask & IN_CLOSE_WRITE) != 0, now_ns))
        return;
    struct channel channel = {.spool = spool,
                              .directory = place->channel,
                              .rule = rule_of(spool, place->channel),
                              .watched = true,
                              .now_ns = now_ns,
                              .realtime_ns = clock_realtime_ns()};
    channel.fd = spooldirs_channel(spool->dirs, place->channel);
    if (channel.fd < 0)
        return;
    channel.watched = spooldirs_network_kind(channel.fd) == NULL;
    channel_event(&channel, event);
    close(channel.fd);
}

bool spool_read(struct spool *spool, uint64_t now_ns)
{
    struct watch_event event;
    while (watch_next(spool->watch, &event))
        handle(spool, &event, now_ns);
    return spool->scan_wanted;
}

void spool_left(struct spool *spool, const char *channel, const char *name)
{
    watch_remove(spool->watch, channel, name);
}

bool spool_came_back(struct spool *spool, const char *channel, const char *name)
{
    struct tree_watch watches = {.spool = spool, .directory = channel, .item = name, .prefix = "", .complete = true};
    struct probe probe;
    int fd = spooldirs_channel(spool->dirs, channel);
    if (fd < 0)
        return false;
    enum status status = probe_item(fd, name, false, watch_directory, &watches, &probe);
    bool network = spooldirs_network_kind(fd) != NULL;
    close(fd);
    return status == STATUS_OK && watches.complete && !network && watch_has_channel(spool->watch, channel);
}
