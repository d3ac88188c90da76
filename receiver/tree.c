// SPDX-License-Identifier: Apache-2.0
#include "receiver/tree.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/durable.h"
#include "common/log.h"
#include "proto/manifest.h"
#include "receiver/approved.h"
#include "receiver/describe.h"

enum { FILE_MODE = 0660, EXECUTABLE_MODE = 0770, FLUSH_WINDOW = 64 };

struct build {
    const struct intake *intake;
    struct assembly *assembly;
    const struct tree_facts *facts;
    const char *what;
    int tree_fd, payload_fd;
    int staged_fd; /* -1: the transfer has no staged bytes */
    int small_fd;
    bool has_symlinks;
    uint8_t *buffer;
};

/* The group of what is made inside a setgid directory is right already; it is only given where it is not. */
static bool give_group(int fd, gid_t group)
{
    struct stat stat;
    if (fstat(fd, &stat) != 0)
        return false;
    if (stat.st_gid == group || fchown(fd, (uid_t)-1, group) == 0)
        return true;
    /* Not ours to give: the delivery is whole all the same, and an operator sees what to do. */
    if (errno == EPERM) {
        static atomic_bool told;
        if (!atomic_exchange(&told, true))
            log_warning("deliveries can't be given to group %u of their channel's directory: make the receiver's user "
                        "a member of that group",
                        (unsigned)group);
        return true;
    }
    return false;
}

static void set_times(struct timespec times[2], int64_t mtime_ns)
{
    int64_t seconds = mtime_ns / 1000000000;
    int64_t rest = mtime_ns % 1000000000;
    if (rest < 0) {
        rest += 1000000000;
        seconds--;
    }
    times[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
    times[1] = (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)rest};
}

/* Owner, mode and time of a file that is open for writing. */
static bool dress_file(const struct build *build, int fd, const struct manifest_entry *entry)
{
    struct timespec times[2];
    set_times(times, entry->mtime_ns);
    return give_group(fd, build->facts->group) && fchmod(fd, entry->executable ? EXECUTABLE_MODE : FILE_MODE) == 0 &&
           futimens(fd, times) == 0;
}

static bool copy_small(struct build *build, int fd, const struct assembly_artifact *artifact)
{
    if (build->small_fd < 0)
        build->small_fd = openat(build->staged_fd, INTAKE_SMALL_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (build->small_fd < 0)
        return false;
    size_t done = 0;
    while (done < artifact->size) {
        ssize_t got = pread(build->small_fd, build->buffer, artifact->size - done, (off_t)(artifact->place + done));
        if (got == 0)
            errno = EIO;
        if (got <= 0)
            return false;
        for (ssize_t at = 0; at < got;) {
            ssize_t written = write(fd, build->buffer + at, (size_t)(got - at));
            if (written < 0)
                return false;
            at += written;
        }
        done += (size_t)got;
    }
    return true;
}

/* Makes the file of an empty or small artifact, or links a large one in; *fd is open for writing. */
static bool place_file(struct build *build, uint32_t index, const struct manifest_entry *entry, int *fd)
{
    const struct assembly_artifact *artifact = assembly_artifact(build->assembly, index);
    assert(artifact != NULL && artifact->size == entry->size);
    if (artifact->size == 0 || artifact->placed) {
        *fd = openat(build->payload_fd, entry->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        return *fd >= 0 && (artifact->size == 0 || copy_small(build, *fd, artifact));
    }
    char name[INTAKE_ARTIFACT_NAME_SIZE];
    intake_artifact_name(index, name);
    *fd = openat(build->staged_fd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0)
        return false;
    /* It is longer than the artifact when a forged size came before the manifest. */
    struct stat stat;
    if (fstat(*fd, &stat) != 0 ||
        ((uint64_t)stat.st_size != artifact->size && ftruncate(*fd, (off_t)artifact->size) != 0))
        return false;
    if (linkat(build->staged_fd, name, build->payload_fd, entry->path, 0) == 0)
        return true;
    /* File systems without hard links: then a failed publication starts again from nothing. */
    return (errno == EPERM || errno == EOPNOTSUPP) &&
           renameat2(build->staged_fd, name, build->payload_fd, entry->path, RENAME_NOREPLACE) == 0;
}

static bool make_file(struct build *build, uint32_t index, const struct manifest_entry *entry)
{
    int fd = -1;
    bool made = place_file(build, index, entry, &fd) && dress_file(build, fd, entry);
    int error = errno;
    if (fd >= 0 && close(fd) != 0 && made) {
        error = errno;
        made = false;
    }
    errno = error;
    return made;
}

/* Directories and files; symlinks wait, so that while files are made no path can lead through one. */
static bool make_files(struct build *build)
{
    struct manifest_entry entry;
    uint32_t index = 0;
    manifest_reader_rewind(build->assembly->reader);
    while (manifest_reader_next(build->assembly->reader, &entry)) {
        switch (entry.kind) {
        case MANIFEST_DIRECTORY:
            build->what = "a directory";
            if (mkdirat(build->payload_fd, entry.path, 0700) != 0 ||
                fchmodat(build->payload_fd, entry.path, INTAKE_DIRECTORY_MODE, 0) != 0)
                return false;
            break;
        case MANIFEST_FILE:
            build->what = "a file";
            if (!make_file(build, index++, &entry))
                return false;
            break;
        case MANIFEST_SYMLINK:
            build->has_symlinks = true;
            break;
        }
    }
    return true;
}

/* Last, because each entry made changes the time of its directory. */
static bool make_symlinks_and_times(struct build *build)
{
    struct manifest_entry entry;
    struct timespec times[2];
    build->what = "a symlink";
    manifest_reader_rewind(build->assembly->reader);
    while (build->has_symlinks && manifest_reader_next(build->assembly->reader, &entry)) {
        set_times(times, entry.mtime_ns);
        if (entry.kind == MANIFEST_SYMLINK &&
            (symlinkat(entry.target, build->payload_fd, entry.path) != 0 ||
             utimensat(build->payload_fd, entry.path, times, AT_SYMLINK_NOFOLLOW) != 0))
            return false;
    }
    build->what = "the time of a directory";
    manifest_reader_rewind(build->assembly->reader);
    while (manifest_reader_next(build->assembly->reader, &entry)) {
        set_times(times, entry.mtime_ns);
        if (entry.kind == MANIFEST_DIRECTORY &&
            utimensat(build->payload_fd, entry.path, times, AT_SYMLINK_NOFOLLOW) != 0)
            return false;
    }
    return true;
}

static int make_directory(int dirfd, const char *name)
{
    if (mkdirat(dirfd, name, 0700) != 0)
        return -1;
    return openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static bool make_roots(struct build *build)
{
    char name[INTAKE_STAGING_NAME_SIZE];
    build->what = "the leftover of an earlier try";
    intake_tree_name(build->assembly->sender_id, build->assembly->id, name);
    if (durable_remove_tree(build->intake->staging_fd, name) != STATUS_OK)
        return false;
    build->what = "the delivery's directory";
    build->tree_fd = make_directory(build->intake->staging_fd, name);
    if (build->tree_fd < 0 || !give_group(build->tree_fd, build->facts->group) ||
        fchmod(build->tree_fd, INTAKE_DIRECTORY_MODE) != 0)
        return false;
    if (build->facts->form == TREE_MANIFEST)
        return true;
    build->payload_fd = make_directory(build->tree_fd, "payload");
    if (build->payload_fd < 0 || fchmod(build->payload_fd, INTAKE_DIRECTORY_MODE) != 0)
        return false;
    intake_staging_name(build->assembly->sender_id, build->assembly->id, name);
    build->what = "the staged artifacts";
    build->staged_fd = openat(build->intake->staging_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return build->staged_fd >= 0 || (errno == ENOENT && build->assembly->total_bytes == 0);
}

static bool make_payload(struct build *build)
{
    return build->facts->form == TREE_MANIFEST || (make_files(build) && make_symlinks_and_times(build));
}

/* One line, for who looks into the quarantine. */
static enum status write_reason(struct build *build)
{
    build->what = "the reason";
    int fd = openat(build->tree_fd, TREE_REASON_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
    int error = fd < 0 || dprintf(fd, "%s\n", build->facts->reason) < 0 ? errno : 0;
    if (fd >= 0 && close(fd) != 0 && error == 0)
        error = errno;
    errno = error;
    return error == 0 ? STATUS_OK : status_from_errno(error);
}

enum status tree_build(const struct intake *intake, struct assembly *assembly, const struct tree_facts *facts,
                       const char **what)
{
    struct build build = {.intake = intake,
                          .assembly = assembly,
                          .facts = facts,
                          .what = "memory",
                          .tree_fd = -1,
                          .payload_fd = -1,
                          .staged_fd = -1,
                          .small_fd = -1,
                          .buffer = malloc(INTAKE_SMALL)};
    bool made = build.buffer != NULL && make_roots(&build) && make_payload(&build);
    enum status status = made ? STATUS_OK : status_from_errno(errno);
    if (made) {
        build.what = "the manifest's files";
        status = describe_delivery(build.tree_fd, assembly, facts->manifest_hash, facts->late, facts->delivered_at_ns);
        if (status == STATUS_OK)
            status = approved_write(build.tree_fd, assembly->reader);
    }
    if (status == STATUS_OK && facts->form != TREE_DELIVERY)
        status = write_reason(&build);
    int error = errno;
    int fds[] = {build.tree_fd, build.payload_fd, build.staged_fd, build.small_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(build.buffer);
    *what = build.what;
    errno = error;
    return status;
}

uint64_t tree_file_count(const struct assembly *assembly)
{
    return (uint64_t)assembly->artifact_count + DESCRIBE_FILE_COUNT + approved_count(assembly->reader);
}

struct flush {
    struct io_uring *ring;
    unsigned waiting;
    int error; /* the first */
};

static void note_error(struct flush *flush, int error)
{
    if (flush->error == 0)
        flush->error = error;
}

static void reap(struct flush *flush, unsigned leave)
{
    while (flush->waiting > leave) {
        struct io_uring_cqe *cqe;
        int result = io_uring_submit_and_wait(flush->ring, 1);
        assert(result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY);
        (void)result;
        while (io_uring_peek_cqe(flush->ring, &cqe) == 0) {
            if (cqe->res < 0)
                note_error(flush, -cqe->res);
            close((int)io_uring_cqe_get_data64(cqe));
            io_uring_cqe_seen(flush->ring, cqe);
            flush->waiting--;
        }
    }
}

/* Takes a descriptor; a negative one is an error in errno. */
static void flush_fd(struct flush *flush, int fd)
{
    if (fd < 0) {
        note_error(flush, errno);
        return;
    }
    reap(flush, FLUSH_WINDOW - 1);
    struct io_uring_sqe *sqe = ring_sqe(flush->ring);
    io_uring_prep_fsync(sqe, fd, 0);
    io_uring_sqe_set_data64(sqe, (unsigned)fd);
    flush->waiting++;
}

/* What the manifest lists, and the directory around it. */
static void flush_payload(struct flush *flush, int tree_fd, struct assembly *assembly)
{
    enum { FLAGS = O_RDONLY | O_NOFOLLOW | O_CLOEXEC };
    struct manifest_entry entry;
    int payload_fd = openat(tree_fd, "payload", FLAGS | O_DIRECTORY);
    if (payload_fd < 0) {
        note_error(flush, errno);
        return;
    }
    manifest_reader_rewind(assembly->reader);
    while (flush->error == 0 && manifest_reader_next(assembly->reader, &entry))
        if (entry.kind != MANIFEST_SYMLINK)
            flush_fd(flush, openat(payload_fd, entry.path, FLAGS));
    flush_fd(flush, payload_fd);
}

enum status tree_flush(const struct intake *intake, struct assembly *assembly, enum tree_form form,
                       struct io_uring *ring)
{
    enum { FLAGS = O_RDONLY | O_NOFOLLOW | O_CLOEXEC };
    struct flush flush = {.ring = ring};
    char name[INTAKE_STAGING_NAME_SIZE];
    intake_tree_name(assembly->sender_id, assembly->id, name);
    int tree_fd = openat(intake->staging_fd, name, FLAGS | O_DIRECTORY);
    if (tree_fd < 0)
        return status_from_errno(errno);
    if (form != TREE_MANIFEST)
        flush_payload(&flush, tree_fd, assembly);
    for (int i = 0; i < DESCRIBE_FILE_COUNT && flush.error == 0; i++)
        flush_fd(&flush, openat(tree_fd, describe_files[i], FLAGS));
    char path[APPROVED_PATH_SIZE];
    for (size_t i = 0; approved_path(assembly->reader, i, path); i++)
        flush_fd(&flush, openat(tree_fd, path, FLAGS));
    if (form != TREE_DELIVERY && flush.error == 0)
        flush_fd(&flush, openat(tree_fd, TREE_REASON_FILE, FLAGS));
    flush_fd(&flush, tree_fd);
    reap(&flush, 0);
    return flush.error == 0 ? STATUS_OK : status_from_errno(flush.error);
}

void tree_remove(const struct intake *intake, uint32_t sender_id, const uint8_t id[static TRANSFER_ID_SIZE])
{
    char name[INTAKE_STAGING_NAME_SIZE];
    intake_tree_name(sender_id, id, name);
    if (durable_remove_tree(intake->staging_fd, name) != STATUS_OK)
        log_warning("%s/.staging/%s can't be removed: %s; the next start tries again", intake->path, name,
                    strerror(errno));
}
