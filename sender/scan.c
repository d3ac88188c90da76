// SPDX-License-Identifier: Apache-2.0
#include "sender/scan.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/units.h"
#include "proto/relpath.h"
#include "proto/tally.h"
#include "sender/printable.h"

enum {
    REASON_SIZE = 400,
    SHOWN_SIZE = 220, /* of a path in a reason */
    POOL_BLOCK_SIZE = 64 << 10,
    /* Most that an entry takes in the statement beside its path and target: tags, lengths, kind, size, time, SHA-256.
     */
    ENTRY_OVERHEAD = 80,
    HEAD_SIZE = 4096, /* all of a manifest beside entries and chunk hashes, with room */
};

/* Strings of a listing, in blocks that are never moved. */
struct listing_pool {
    struct listing_pool *previous;
    size_t used, size;
    char bytes[];
};

struct walk {
    struct listing *listing;
    size_t capacity;
    struct tally tally;
    uint64_t manifest_size; /* so far, an upper bound */
    uint64_t max_size;
    uint64_t device;
    enum config_symlinks symlinks;
    char path[LIMIT_PATH_LENGTH + LIMIT_COMPONENT_LENGTH + 2];
    char *reason;
};

static const char *pool_copy(struct listing *listing, const char *text)
{
    size_t size = strlen(text) + 1;
    struct listing_pool *pool = listing->pool;
    if (pool == NULL || pool->size - pool->used < size) {
        pool = malloc(sizeof *pool + POOL_BLOCK_SIZE);
        assert(pool != NULL && size <= POOL_BLOCK_SIZE);
        *pool = (struct listing_pool){.previous = listing->pool, .size = POOL_BLOCK_SIZE};
        listing->pool = pool;
    }
    char *copy = memcpy(pool->bytes + pool->used, text, size);
    pool->used += size;
    return copy;
}

void scan_listing_destroy(struct listing *listing)
{
    if (listing == NULL)
        return;
    while (listing->pool != NULL) {
        struct listing_pool *previous = listing->pool->previous;
        free(listing->pool);
        listing->pool = previous;
    }
    free(listing->entries);
    free(listing);
}

__attribute__((format(printf, 3, 4))) static enum status refuse(struct walk *walk, enum status status,
                                                                const char *format, ...)
{
    char shown[SHOWN_SIZE];
    char text[REASON_SIZE - SHOWN_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    snprintf(walk->reason, REASON_SIZE, "%s: %s", printable_name(walk->path, shown, sizeof shown), text);
    return status;
}

static enum status refuse_errno(struct walk *walk, const char *what)
{
    int error = errno;
    enum status status = refuse(walk, STATUS_SYSTEM, "%s: %s", what, strerror(error));
    errno = error;
    return status;
}

static int open_beneath(int directory_fd, const char *name, uint64_t flags)
{
    struct open_how how = {.flags = flags | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    return (int)syscall(SYS_openat2, directory_fd, name, &how, sizeof how);
}

static int64_t timestamp_ns(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

static const char *kind_text(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFIFO:
        return "a FIFO";
    case S_IFSOCK:
        return "a socket";
    case S_IFCHR:
    case S_IFBLK:
        return "a device";
    default:
        return "of an unknown kind";
    }
}

/* The target of the symlink at walk->path, in the pool; refuses what may not cross. */
static enum status read_link(struct walk *walk, int directory_fd, const char *name, const char **target)
{
    char text[LIMIT_PATH_LENGTH + 2];
    if (walk->symlinks == CONFIG_SYMLINKS_REFUSE)
        return refuse(walk, STATUS_INVALID,
                      "is a symlink, which this channel refuses; replace it by what it points to, or set \"symlinks = "
                      "inside\" for links that stay inside their item");
    ssize_t size = readlinkat(directory_fd, name, text, sizeof text);
    if (size < 0)
        return refuse_errno(walk, "the symlink can't be read");
    if (size > LIMIT_PATH_LENGTH)
        return refuse(walk, STATUS_LIMIT, "has a target longer than 4000 bytes");
    text[size] = '\0';
    *target = pool_copy(walk->listing, text);
    return STATUS_OK;
}

/* Appends the entry at walk->path, after all checks. */
static enum status add(struct walk *walk, int directory_fd, const char *name, const struct stat *meta)
{
    struct manifest_entry entry = {.path = walk->path, .kind = MANIFEST_DIRECTORY};
    if (S_ISREG(meta->st_mode)) {
        entry.kind = MANIFEST_FILE;
        entry.size = (uint64_t)meta->st_size;
        entry.executable = (meta->st_mode & S_IXUSR) != 0;
        if (faccessat(directory_fd, name, R_OK, AT_EACCESS) != 0)
            return refuse_errno(walk, "can't be read by the sender; run \"chmod a+r\" on it and drop it again");
    } else if (S_ISLNK(meta->st_mode)) {
        entry.kind = MANIFEST_SYMLINK;
        enum status status = read_link(walk, directory_fd, name, &entry.target);
        if (status != STATUS_OK)
            return status;
    } else if (!S_ISDIR(meta->st_mode)) {
        return refuse(walk, STATUS_INVALID, "is %s; only regular files and directories can cross",
                      kind_text(meta->st_mode));
    }
    const char *wrong = tally_add(&walk->tally, &entry);
    if (wrong != NULL)
        return refuse(walk, STATUS_INVALID, "%s", wrong);
    if (walk->tally.total_bytes > walk->max_size) {
        char limit[UNITS_TEXT_SIZE];
        return refuse(walk, STATUS_LIMIT, "makes the item larger than max_size = %s; split it or raise the limit",
                      units_format_size(walk->max_size, limit));
    }
    walk->manifest_size += ENTRY_OVERHEAD + strlen(entry.path) + (entry.target != NULL ? strlen(entry.target) : 0);
    if (walk->manifest_size + walk->tally.chunk_hashes * CHUNK_HASH_SIZE > LIMIT_MANIFEST_SIZE)
        return refuse(walk, STATUS_LIMIT, "makes the manifest larger than 64 MiB; split the item");

    struct listing *listing = walk->listing;
    if (listing->count == walk->capacity) {
        walk->capacity = walk->capacity == 0 ? 16 : 2 * walk->capacity;
        listing->entries = reallocarray(listing->entries, walk->capacity, sizeof *listing->entries);
        assert(listing->entries != NULL);
    }
    listing->entries[listing->count++] = (struct listing_entry){
        .path = pool_copy(listing, walk->path),
        .target = entry.target,
        .size = entry.size,
        .mtime_ns = timestamp_ns(&meta->st_mtim),
        .ctime_ns = timestamp_ns(&meta->st_ctim),
        .inode = meta->st_ino,
        .kind = entry.kind,
        .executable = entry.executable,
    };
    return STATUS_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

/* All names in the directory, sorted byte by byte. Takes `fd`. */
static enum status read_names(struct walk *walk, int fd, char ***names, size_t *count)
{
    size_t capacity = 0;
    *names = NULL;
    *count = 0;
    DIR *stream = fdopendir(fd);
    if (stream == NULL) {
        enum status status = refuse_errno(walk, "can't be listed");
        close(fd);
        return status;
    }
    for (;;) {
        errno = 0;
        const struct dirent *found = readdir(stream);
        if (found == NULL)
            break;
        if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
            continue;
        if (*count == LIMIT_ENTRIES) {
            closedir(stream);
            return refuse(walk, STATUS_LIMIT, "holds more than %d entries; split the item", LIMIT_ENTRIES);
        }
        if (*count == capacity) {
            capacity = capacity == 0 ? 32 : 2 * capacity;
            *names = reallocarray(*names, capacity, sizeof **names);
            assert(*names != NULL);
        }
        (*names)[*count] = strdup(found->d_name);
        assert((*names)[*count] != NULL);
        (*count)++;
    }
    enum status status = errno != 0 ? refuse_errno(walk, "can't be listed") : STATUS_OK;
    closedir(stream);
    if (status == STATUS_OK && *count > 0)
        qsort(*names, *count, sizeof **names, compare_names);
    return status;
}

static enum status visit(struct walk *walk, int directory_fd, const char *name);

static enum status descend(struct walk *walk, int directory_fd, const char *name)
{
    char **names = NULL;
    size_t count = 0;
    size_t length = strlen(walk->path);
    int listed = -1;
    enum status status;

    int fd = open_beneath(directory_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0)
        return refuse_errno(walk, "can't be opened by the sender; run \"chmod -R a+rX\" on the item and drop it again");
    listed = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    status = listed < 0 ? refuse_errno(walk, "can't be listed") : read_names(walk, listed, &names, &count);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        /* The path was checked to be within LIMIT_PATH_LENGTH, and a name of the kernel's is within NAME_MAX. */
        snprintf(walk->path + length, sizeof walk->path - length, "/%s", names[i]);
        status = visit(walk, fd, names[i]);
        if (status == STATUS_OK)
            walk->path[length] = '\0';
    }
    int error = errno;
    free_names(names, count);
    close(fd);
    errno = error;
    return status;
}

static enum status visit(struct walk *walk, int directory_fd, const char *name)
{
    struct stat meta;
    if (fstatat(directory_fd, name, &meta, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0)
        return refuse_errno(walk, "can't be looked at");
    if (walk->listing->count == 0)
        walk->device = meta.st_dev;
    if (meta.st_dev != walk->device)
        return refuse(walk, STATUS_INVALID, "is a mount point; drop a copy of what is in it");
    enum status status = add(walk, directory_fd, name, &meta);
    if (status == STATUS_OK && S_ISDIR(meta.st_mode))
        status = descend(walk, directory_fd, name);
    return status;
}

enum status scan_item(int directory_fd, const char *name, enum config_symlinks symlinks, uint64_t max_size,
                      struct listing **listing, char reason[static REASON_SIZE])
{
    struct walk walk = {.symlinks = symlinks, .max_size = max_size, .manifest_size = HEAD_SIZE, .reason = reason};
    *listing = NULL;
    reason[0] = '\0';
    snprintf(walk.path, sizeof walk.path, "%s", name);
    const char *wrong = relpath_check_component(name, strlen(name));
    if (wrong != NULL)
        return refuse(&walk, STATUS_INVALID, "%s", wrong);

    walk.listing = calloc(1, sizeof *walk.listing);
    assert(walk.listing != NULL);
    tally_init(&walk.tally, name);
    enum status status = visit(&walk, directory_fd, name);
    if (status != STATUS_OK) {
        int error = errno;
        scan_listing_destroy(walk.listing);
        errno = error;
        return status;
    }
    walk.listing->artifact_count = walk.tally.artifacts;
    walk.listing->total_bytes = walk.tally.total_bytes;
    *listing = walk.listing;
    return STATUS_OK;
}

/* What differs between two entries of one path, or NULL. */
static const char *entry_difference(const struct listing_entry *before, const struct listing_entry *after)
{
    if (before->kind != after->kind)
        return "was replaced by something of another kind";
    if (before->inode != after->inode)
        return "was replaced";
    if (before->size != after->size)
        return "changed its size";
    if (before->mtime_ns != after->mtime_ns || before->ctime_ns != after->ctime_ns)
        return "was changed";
    if ((before->target == NULL) != (after->target == NULL) ||
        (before->target != NULL && strcmp(before->target, after->target) != 0))
        return "points elsewhere";
    return NULL;
}

bool scan_same(const struct listing *before, const struct listing *after, char difference[static REASON_SIZE])
{
    size_t count = before->count < after->count ? before->count : after->count;
    const char *path = NULL, *what = NULL;
    for (size_t i = 0; i < count && what == NULL; i++) {
        const struct listing_entry *a = &before->entries[i], *b = &after->entries[i];
        int order = manifest_path_compare(a->path, b->path);
        what = order < 0 ? "disappeared" : order > 0 ? "appeared" : entry_difference(a, b);
        path = order > 0 ? b->path : a->path;
    }
    if (what == NULL && before->count != after->count) {
        what = before->count > after->count ? "disappeared" : "appeared";
        path = (before->count > after->count ? before : after)->entries[count].path;
    }
    difference[0] = '\0';
    if (what == NULL)
        return true;
    char shown[SHOWN_SIZE];
    snprintf(difference, REASON_SIZE, "%s: %s while the item was read", printable_name(path, shown, sizeof shown),
             what);
    return false;
}

void scan_fingerprint(const struct listing *listing, uint8_t fingerprint[static CHECKSUM128_SIZE])
{
    struct checksum *checksum = checksum_create();
    for (size_t i = 0; i < listing->count; i++) {
        const struct listing_entry *entry = &listing->entries[i];
        const char *target = entry->target != NULL ? entry->target : "";
        const uint64_t numbers[] = {entry->size,  (uint64_t)entry->mtime_ns, (uint64_t)entry->ctime_ns,
                                    entry->inode, (uint64_t)entry->kind,     entry->executable};
        checksum_update(checksum, numbers, sizeof numbers);
        /* With their NULs, so that no two lists of entries look alike. */
        checksum_update(checksum, entry->path, strlen(entry->path) + 1);
        checksum_update(checksum, target, strlen(target) + 1);
    }
    checksum_final(checksum, fingerprint);
    checksum_destroy(checksum);
}
