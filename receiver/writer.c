// SPDX-License-Identifier: Apache-2.0
#include "receiver/writer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"

enum {
    PIECES = 64,
    BLOCKS = 32, /* that an operation writes from */
    PAGE = 4096,
    OPERATION_AT = 1 << 20, /* bytes from which an operation goes off */
    WRITEBACK_AT = 8 << 20, /* bytes written to a file after which the kernel is asked to put them on the disk */
};

/* Linux 6.14; not in the headers of the libc yet. */
#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80
#endif
#define WRITEBACK_MARK UINT64_C(1) /* in the user data: a file and not an operation */

struct transfer;

struct file {
    int fd; /* -1: the slot is free */
    struct transfer *transfer;
    struct assembly_artifact *artifact; /* NULL: the file of small artifacts, or one that was detached */
    unsigned under_way;
    uint64_t dirty; /* bytes written since the last writeback was asked for */
    bool in_writeback;
    bool uncached;              /* its pages are let go by the kernel as soon as they are on the disk */
    struct file *older, *newer; /* by use */
    struct file *next_of_transfer;
};

/* What the writer keeps of an assembly, at assembly->stage. */
struct transfer {
    struct assembly *assembly;
    unsigned under_way;        /* operations, and losses not yet taken */
    unsigned in_generation[2]; /* of these, by the lowest bit of the generation in which they were put */
    unsigned generation;       /* grows with each cut */
    bool made_directory;
    bool wants_idle, in_idle_list;
    struct file *small;
    uint64_t small_size; /* end of the file of small artifacts */
    struct file *files;
    struct transfer *next_idle;
};

/* One write of pieces that lie one behind the other in a file and anywhere in blocks. */
struct operation {
    struct transfer *transfer;
    struct file *file;
    unsigned generation;
    uint64_t ticket, begun_ns;
    uint64_t file_offset;
    uint64_t size; /* as it was filled */
    unsigned count, block_count;
    bool uncached; /* as it was submitted; others under way may have shown meanwhile that this is not to be had */
    struct writer_block *blocks[BLOCKS];
    struct iovec vector[PIECES];
    struct {
        uint32_t index;
        uint64_t offset; /* in the artifact */
    } piece[PIECES];
    struct operation *next;          /* free */
    struct operation *older, *newer; /* of those begun and not over */
};

struct writer {
    struct writer_setup setup;
    struct operation *current; /* being filled */
    struct operation *free_operations;
    struct operation *operations;   /* the array */
    struct operation *first, *last; /* begun and not over, by ticket */
    uint64_t ticket;                /* of the operation begun last */
    unsigned under_way;
    struct writer_loss *losses; /* not yet taken */
    size_t loss_count, loss_capacity;
    struct transfer *idle, **idle_end;
    struct file *oldest, *newest;
    struct file *free_files;
    uint64_t trash_count;
    bool caches; /* uncached writes are not to be had here */
    struct file files[WRITER_FILES];
};

struct writer *writer_create(const struct writer_setup *setup)
{
    struct writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return NULL;
    writer->setup = *setup;
    writer->caches = setup->reads_back;
    writer->idle_end = &writer->idle;
    writer->operations = calloc(WRITER_OPERATIONS, sizeof *writer->operations);
    if (writer->operations == NULL) {
        free(writer);
        return NULL;
    }
    for (unsigned i = 0; i < WRITER_OPERATIONS; i++) {
        writer->operations[i].next = writer->free_operations;
        writer->free_operations = &writer->operations[i];
    }
    for (unsigned i = 0; i < WRITER_FILES; i++) {
        writer->files[i].fd = -1;
        writer->files[i].next_of_transfer = writer->free_files;
        writer->free_files = &writer->files[i];
    }
    return writer;
}

void writer_destroy(struct writer *writer)
{
    if (writer == NULL)
        return;
    assert(writer->under_way == 0);
    free(writer->losses);
    for (unsigned i = 0; i < WRITER_FILES; i++)
        if (writer->files[i].fd >= 0)
            close(writer->files[i].fd);
    free(writer->operations);
    free(writer);
}

unsigned writer_under_way(const struct writer *writer)
{
    return writer->under_way;
}

static void unlink_by_use(struct writer *writer, struct file *file)
{
    *(file->older != NULL ? &file->older->newer : &writer->oldest) = file->newer;
    *(file->newer != NULL ? &file->newer->older : &writer->newest) = file->older;
    file->older = file->newer = NULL;
}

static void append_by_use(struct writer *writer, struct file *file)
{
    file->older = writer->newest;
    *(writer->newest != NULL ? &writer->newest->newer : &writer->oldest) = file;
    writer->newest = file;
}

static void close_file(struct writer *writer, struct file *file)
{
    assert(file->under_way == 0);
    struct transfer *transfer = file->transfer;
    struct file **link = &transfer->files;
    while (*link != file)
        link = &(*link)->next_of_transfer;
    *link = file->next_of_transfer;
    if (transfer->small == file)
        transfer->small = NULL;
    if (file->artifact != NULL)
        file->artifact->file = NULL;
    unlink_by_use(writer, file);
    close(file->fd);
    *file = (struct file){.fd = -1, .next_of_transfer = writer->free_files};
    writer->free_files = file;
}

/* A free slot; closes the file that was used least recently and is written to by nobody. */
static struct file *take_slot(struct writer *writer)
{
    while (writer->free_files == NULL) {
        struct file *file = writer->oldest;
        while (file != NULL && file->under_way > 0)
            file = file->newer;
        if (file != NULL)
            close_file(writer, file);
        else
            writer->setup.wait(writer->setup.context);
    }
    struct file *slot = writer->free_files;
    writer->free_files = slot->next_of_transfer;
    return slot;
}

static int open_staged(struct writer *writer, struct transfer *transfer, const char *name)
{
    char path[INTAKE_STAGING_NAME_SIZE + 1 + INTAKE_ARTIFACT_NAME_SIZE];
    char directory[INTAKE_STAGING_NAME_SIZE];
    int staging_fd = writer->setup.intake->staging_fd;
    intake_staging_name(transfer->assembly->sender_id, transfer->assembly->id, directory);
    if (!transfer->made_directory && mkdirat(staging_fd, directory, 0700) != 0 && errno != EEXIST)
        return -1;
    transfer->made_directory = true;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return openat(staging_fd, path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* The open file for the artifact, or NULL with errno. */
static struct file *file_for(struct writer *writer, struct transfer *transfer, uint32_t index,
                             struct assembly_artifact *artifact)
{
    struct file *file = artifact->placed ? transfer->small : artifact->file;
    if (file != NULL) {
        unlink_by_use(writer, file);
        append_by_use(writer, file);
        return file;
    }
    struct file *slot = take_slot(writer);
    char name[INTAKE_ARTIFACT_NAME_SIZE];
    intake_artifact_name(index, name);
    int fd = open_staged(writer, transfer, artifact->placed ? INTAKE_SMALL_NAME : name);
    if (fd < 0) {
        slot->next_of_transfer = writer->free_files;
        writer->free_files = slot;
        return NULL;
    }
    *slot = (struct file){.fd = fd, .transfer = transfer, .next_of_transfer = transfer->files};
    transfer->files = slot;
    if (artifact->placed) {
        transfer->small = slot;
    } else {
        slot->artifact = artifact;
        slot->uncached = !writer->caches && artifact->size >= WRITER_UNCACHED;
        artifact->file = slot;
    }
    append_by_use(writer, slot);
    return slot;
}

static struct transfer *transfer_of(struct assembly *assembly)
{
    if (assembly->stage == NULL) {
        struct transfer *transfer = calloc(1, sizeof *transfer);
        assert(transfer != NULL);
        transfer->assembly = assembly;
        assembly->stage = transfer;
    }
    return assembly->stage;
}

/* Holds the transfer busy until the caller has taken the loss. */
static void lose(struct writer *writer, struct transfer *transfer, unsigned generation, uint32_t index, uint64_t offset,
                 uint64_t size, int error)
{
    if (writer->loss_count == writer->loss_capacity) {
        writer->loss_capacity = writer->loss_capacity == 0 ? PIECES : 2 * writer->loss_capacity;
        writer->losses = realloc(writer->losses, writer->loss_capacity * sizeof *writer->losses);
        assert(writer->losses != NULL);
    }
    writer->losses[writer->loss_count++] = (struct writer_loss){.assembly = transfer->assembly,
                                                                .index = index,
                                                                .first = offset,
                                                                .end = offset + size,
                                                                .generation = generation,
                                                                .error = error};
    transfer->under_way++;
    transfer->in_generation[generation & 1]++;
}

static void tell_idle(struct writer *writer, struct transfer *transfer)
{
    if (!transfer->wants_idle || transfer->in_idle_list || transfer->under_way > 0)
        return;
    transfer->in_idle_list = true;
    transfer->next_idle = NULL;
    *writer->idle_end = transfer;
    writer->idle_end = &transfer->next_idle;
}

static struct operation *take_operation(struct writer *writer)
{
    while (writer->free_operations == NULL)
        writer->setup.wait(writer->setup.context);
    struct operation *operation = writer->free_operations;
    writer->free_operations = operation->next;
    return operation;
}

static void begin(struct writer *writer, struct operation *operation)
{
    operation->ticket = ++writer->ticket;
    operation->begun_ns = clock_monotonic_ns();
    operation->older = writer->last;
    operation->newer = NULL;
    *(writer->last != NULL ? &writer->last->newer : &writer->first) = operation;
    writer->last = operation;
    operation->transfer->under_way++;
    operation->transfer->in_generation[operation->generation & 1]++;
}

static void end(struct writer *writer, struct operation *operation)
{
    *(operation->older != NULL ? &operation->older->newer : &writer->first) = operation->newer;
    *(operation->newer != NULL ? &operation->newer->older : &writer->last) = operation->older;
    operation->file->under_way--;
    operation->transfer->under_way--;
    operation->transfer->in_generation[operation->generation & 1]--;
}

/* Whether a piece from the block continues the operation and still fits. */
static bool may_extend(const struct operation *operation, const struct file *file, const struct writer_block *block,
                       uint64_t at)
{
    return operation != NULL && operation->file == file && operation->file_offset == at && operation->count < PIECES &&
           (operation->blocks[operation->block_count - 1] == block || operation->block_count < BLOCKS);
}

/* The operation that a piece from the block goes into: the current one, or the next. */
static struct operation *operation_for(struct writer *writer, struct transfer *transfer, struct file *file,
                                       struct writer_block *block, uint64_t at)
{
    if (!may_extend(writer->current, file, block, at)) {
        writer_flush(writer);
        file->under_way++; /* before any waiting, which may close files */
        struct operation *operation = take_operation(writer);
        operation->transfer = transfer;
        operation->file = file;
        operation->file_offset = at;
        operation->size = 0;
        operation->count = 0;
        operation->block_count = 0;
        operation->generation = transfer->generation;
        writer->current = operation;
        begin(writer, operation);
    }
    struct operation *operation = writer->current;
    if (operation->block_count == 0 || operation->blocks[operation->block_count - 1] != block) {
        operation->blocks[operation->block_count++] = block;
        block->uses++;
    }
    return operation;
}

void writer_put(struct writer *writer, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                uint64_t offset, const uint8_t *bytes, uint32_t size, struct writer_block *block)
{
    struct transfer *transfer = transfer_of(assembly);
    if (artifact->size <= INTAKE_SMALL && !artifact->placed) {
        artifact->placed = true;
        artifact->place = transfer->small_size;
        transfer->small_size += artifact->size;
    }
    while (size > 0) {
        struct file *file = file_for(writer, transfer, index, artifact);
        if (file == NULL) {
            lose(writer, transfer, transfer->generation, index, offset, size, errno);
            return;
        }
        uint64_t at = (artifact->placed ? artifact->place : 0) + offset;
        /* The current operation's file_offset is where its next piece goes, until it is flushed. */
        struct operation *operation = operation_for(writer, transfer, file, block, at);
        uint32_t piece = size, beyond = (uint32_t)((at + size) % PAGE);
        bool full = operation->size + size >= OPERATION_AT;
        if (full && beyond < size)
            piece -= beyond; /* so that no page belongs to two operations */
        operation->vector[operation->count] = (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = piece};
        operation->piece[operation->count].index = index;
        operation->piece[operation->count].offset = offset;
        operation->count++;
        operation->file_offset += piece;
        operation->size += piece;
        if (full)
            writer_flush(writer);
        offset += piece;
        bytes += piece;
        size -= piece;
    }
}

static void submit(struct writer *writer, struct operation *operation)
{
    struct io_uring_sqe *sqe = ring_sqe(writer->setup.ring);
    operation->uncached = operation->file->uncached;
    int flags = operation->uncached ? RWF_DONTCACHE : 0;
    io_uring_prep_writev2(sqe, operation->file->fd, operation->vector, operation->count, operation->file_offset, flags);
    io_uring_sqe_set_data(sqe, operation);
    writer->under_way++;
}

void writer_flush(struct writer *writer)
{
    struct operation *operation = writer->current;
    if (operation == NULL)
        return;
    writer->current = NULL;
    operation->file_offset -= operation->size;
    submit(writer, operation);
}

void writer_unuse(struct writer *writer, struct writer_block *block)
{
    assert(block->uses > 0);
    if (--block->uses == 0)
        writer->setup.release(writer->setup.context, block);
}

/* Takes `written` bytes off the front; what is left stays to be written or lost. */
static void advance(struct operation *operation, size_t written)
{
    unsigned done = 0;
    operation->file_offset += written;
    while (done < operation->count && written >= operation->vector[done].iov_len)
        written -= operation->vector[done++].iov_len;
    operation->count -= done;
    memmove(operation->vector, operation->vector + done, operation->count * sizeof operation->vector[0]);
    memmove(operation->piece, operation->piece + done, operation->count * sizeof operation->piece[0]);
    if (operation->count > 0) {
        operation->vector[0].iov_base = (uint8_t *)operation->vector[0].iov_base + written;
        operation->vector[0].iov_len -= written;
        operation->piece[0].offset += written;
    }
}

/*
 * Left to itself the kernel collects dirty pages up to a tenth of the memory, and the fsync at the end of a large
 * transfer would hold up all deliveries for as long as the disk takes for them. Errors are the fsync's to tell.
 */
static void start_writeback(struct writer *writer, struct file *file)
{
    struct io_uring_sqe *sqe = ring_sqe(writer->setup.ring);
    io_uring_prep_sync_file_range(sqe, file->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    io_uring_sqe_set_data64(sqe, (uintptr_t)file | WRITEBACK_MARK);
    file->dirty = 0;
    file->in_writeback = true;
    file->under_way++;
    file->transfer->under_way++;
    writer->under_way++;
}

static void end_writeback(struct writer *writer, struct file *file)
{
    struct transfer *transfer = file->transfer;
    file->in_writeback = false;
    file->under_way--;
    transfer->under_way--;
    tell_idle(writer, transfer);
}

void writer_complete(struct writer *writer, const struct io_uring_cqe *cqe)
{
    uint64_t data = io_uring_cqe_get_data64(cqe);
    writer->under_way--;
    if ((data & WRITEBACK_MARK) != 0) {
        end_writeback(writer, (struct file *)(uintptr_t)(data & ~WRITEBACK_MARK));
        return;
    }
    struct operation *operation = io_uring_cqe_get_data(cqe);
    if (cqe->res > 0) {
        advance(operation, (size_t)cqe->res);
        operation->file->dirty += (size_t)cqe->res;
        if (operation->file->dirty >= WRITEBACK_AT && !operation->file->uncached && !operation->file->in_writeback)
            start_writeback(writer, operation->file);
    }
    if (cqe->res == -EOPNOTSUPP && operation->uncached) {
        writer->caches = true; /* this kernel or file system does not know how: the checkpoints let the pages go */
        operation->file->uncached = false;
        submit(writer, operation);
        return;
    }
    if (operation->count > 0 && (cqe->res > 0 || cqe->res == -EINTR || cqe->res == -EAGAIN)) {
        submit(writer, operation);
        return;
    }
    for (unsigned i = 0; i < operation->count; i++)
        lose(writer, operation->transfer, operation->generation, operation->piece[i].index, operation->piece[i].offset,
             operation->vector[i].iov_len, cqe->res == 0 ? EIO : -cqe->res);
    end(writer, operation);
    tell_idle(writer, operation->transfer);
    for (unsigned i = 0; i < operation->block_count; i++)
        writer_unuse(writer, operation->blocks[i]);
    operation->next = writer->free_operations;
    writer->free_operations = operation;
}

bool writer_next_loss(struct writer *writer, struct writer_loss *loss)
{
    if (writer->loss_count == 0)
        return false;
    *loss = writer->losses[--writer->loss_count];
    struct transfer *transfer = loss->assembly->stage;
    transfer->under_way--;
    transfer->in_generation[loss->generation & 1]--;
    tell_idle(writer, transfer);
    return true;
}

uint64_t writer_ticket(const struct writer *writer)
{
    return writer->ticket;
}

bool writer_has_passed(const struct writer *writer, uint64_t ticket)
{
    return writer->first == NULL || writer->first->ticket > ticket;
}

uint64_t writer_oldest_ns(const struct writer *writer)
{
    return writer->first == NULL ? 0 : writer->first->begun_ns;
}

void writer_hold(struct writer *writer, struct assembly *assembly)
{
    (void)writer;
    transfer_of(assembly)->under_way++;
}

void writer_unhold(struct writer *writer, struct assembly *assembly)
{
    struct transfer *transfer = assembly->stage;
    assert(transfer->under_way > 0);
    transfer->under_way--;
    tell_idle(writer, transfer);
}

void writer_when_idle(struct writer *writer, struct assembly *assembly)
{
    struct transfer *transfer = transfer_of(assembly);
    transfer->wants_idle = true;
    tell_idle(writer, transfer);
}

struct assembly *writer_next_idle(struct writer *writer)
{
    struct transfer *transfer = writer->idle;
    if (transfer == NULL)
        return NULL;
    writer->idle = transfer->next_idle;
    if (writer->idle == NULL)
        writer->idle_end = &writer->idle;
    transfer->in_idle_list = false;
    transfer->wants_idle = false;
    return transfer->assembly;
}

void writer_cut(struct writer *writer, struct assembly *assembly)
{
    struct transfer *transfer = transfer_of(assembly);
    assert(writer_is_settled(writer, assembly));
    writer_flush(writer);
    transfer->generation++;
}

bool writer_is_settled(const struct writer *writer, const struct assembly *assembly)
{
    const struct transfer *transfer = assembly->stage;
    (void)writer;
    return transfer == NULL || transfer->in_generation[(transfer->generation & 1) ^ 1] == 0;
}

void writer_restore(struct writer *writer, struct assembly *assembly, uint64_t small_size, bool has_directory)
{
    struct transfer *transfer = transfer_of(assembly);
    (void)writer;
    transfer->made_directory = has_directory;
    transfer->small_size = small_size;
}

void writer_detach(struct writer *writer, struct assembly *assembly)
{
    (void)writer;
    struct transfer *transfer = assembly->stage;
    for (struct file *file = transfer == NULL ? NULL : transfer->files; file != NULL; file = file->next_of_transfer) {
        if (file->artifact != NULL)
            file->artifact->file = NULL;
        file->artifact = NULL;
    }
}

void writer_close_files(struct writer *writer, struct assembly *assembly)
{
    struct transfer *transfer = assembly->stage;
    while (transfer != NULL && transfer->files != NULL)
        close_file(writer, transfer->files);
}

void writer_forget(struct writer *writer, struct assembly *assembly, char *trash)
{
    struct transfer *transfer = assembly->stage;
    if (trash != NULL)
        trash[0] = '\0';
    if (transfer == NULL)
        return;
    assert(transfer->under_way == 0 && !transfer->in_idle_list);
    writer_close_files(writer, assembly);
    if (trash != NULL && transfer->made_directory) {
        char name[INTAKE_STAGING_NAME_SIZE];
        intake_staging_name(assembly->sender_id, assembly->id, name);
        intake_put_aside(writer->setup.intake, name, &writer->trash_count, trash);
    }
    assembly->stage = NULL;
    free(transfer);
}
