// SPDX-License-Identifier: Apache-2.0
#include "receiver/inspection.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/durable.h"
#include "common/fingerprint.h"
#include "common/log.h"
#include "common/units.h"
#include "proto/manifest.h"
#include "receiver/release.h"

enum { REASON_SIZE_MAX = 1024, RECHECKED = 256 /* at once, when no name is given */ };

struct inspection *inspection_create(struct request *request)
{
    struct inspection *inspection = calloc(1, sizeof *inspection);
    if (inspection == NULL)
        return NULL;
    inspection->items = json_array();
    inspection->released = calloc(RECHECKED, sizeof *inspection->released);
    if (inspection->items == NULL || inspection->released == NULL) {
        inspection_destroy(inspection);
        return NULL;
    }
    inspection->errand.request = *request;
    *request = (struct request){0};
    return inspection;
}

void inspection_destroy(struct inspection *inspection)
{
    if (inspection == NULL)
        return;
    request_deinit(&inspection->errand.request);
    json_decref(inspection->items);
    free(inspection->released);
    free(inspection);
}

/* One turn: the inspection, and what it is carried out with. */
struct turn {
    struct inspection *inspection;
    const struct inspection_stage *stage;
    size_t bad;
};

static void set_text(json_t *item, const char *key, const char *text)
{
    json_t *value = json_string(text); /* NULL: not UTF-8, so none of our names */
    json_object_set_new(item, key, value != NULL ? value : json_null());
}

static void set_count(json_t *item, const char *key, uint64_t count)
{
    json_object_set_new(item, key, json_integer((json_int_t)count));
}

static void set_time(json_t *item, const char *key, int64_t at_ns)
{
    char text[CLOCK_RFC3339_SIZE];
    clock_rfc3339(at_ns, text);
    set_text(item, key, text);
}

static json_t *add_item(struct turn *turn, const char *name)
{
    json_t *item = json_object();
    assert(item != NULL);
    set_text(item, "name", name);
    int failed = json_array_append_new(turn->inspection->items, item);
    assert(failed == 0);
    return item;
}

/* What became of an item; `good` says whether that was asked for. */
static void conclude(struct turn *turn, json_t *item, bool good, const char *message)
{
    json_object_set_new(item, "accepted", json_boolean(good));
    set_text(item, "message", message);
    turn->bad += !good;
}

static void fill_row(json_t *item, const struct ledger_held *row)
{
    static const char *const kept[] = {"nothing", "manifest", "all"};
    char sender[SENDER_ID_TEXT_SIZE], id[TRANSFER_ID_TEXT_SIZE];
    identity_sender_text(row->delivery.sender_id, sender);
    identity_transfer_text(row->delivery.transfer_id, id);
    set_text(item, "kind", "transfer");
    set_text(item, "channel", row->delivery.channel);
    set_text(item, "transfer", row->delivery.name);
    set_count(item, "sequence", row->delivery.sequence);
    set_text(item, "sender_id", sender);
    set_text(item, "transfer_id", id);
    set_count(item, "bytes", row->delivery.bytes);
    set_text(item, "kept", kept[row->kept]);
    set_time(item, "since", row->since_ns);
    set_text(item, "reason", row->reason);
}

static bool list_row(const struct ledger_held *row, void *context)
{
    struct turn *turn = context;
    if (json_array_size(turn->inspection->items) >= INSPECTION_LISTED)
        turn->inspection->left_out++;
    else
        fill_row(add_item(turn, row->place), row);
    return true;
}

static int open_case(const struct turn *turn, const char *name)
{
    return openat(turn->stage->intake->quarantine_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The file `reason` of a refused manifest, without its newline. */
static void set_reason(const struct turn *turn, json_t *item, const char *name)
{
    char *text;
    size_t size;
    int fd = open_case(turn, name);
    if (fd < 0 || durable_read_file(fd, "reason", REASON_SIZE_MAX, &text, &size) != STATUS_OK) {
        set_text(item, "reason", "");
    } else {
        text[strcspn(text, "\n")] = '\0';
        set_text(item, "reason", text);
        free(text);
    }
    if (fd >= 0)
        close(fd);
}

static void fill_refused(const struct turn *turn, json_t *item, const char *name)
{
    struct stat stat;
    set_text(item, "kind", "manifest");
    if (fstatat(turn->stage->intake->quarantine_fd, name, &stat, AT_SYMLINK_NOFOLLOW) == 0)
        set_time(item, "since", (int64_t)stat.st_mtim.tv_sec * 1000000000 + stat.st_mtim.tv_nsec);
    set_reason(turn, item, name);
}

/* Whatever lies there and is no transfer that is held back. */
static void list_refused(struct turn *turn)
{
    struct ledger_held *row = malloc(sizeof *row);
    int fd = open_case(turn, ".");
    DIR *directory = fd < 0 || row == NULL ? NULL : fdopendir(fd);
    struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.' || ledger_find_held(turn->stage->ledger, entry->d_name, row) == STATUS_OK)
            continue;
        if (json_array_size(turn->inspection->items) >= INSPECTION_LISTED)
            turn->inspection->left_out++;
        else
            fill_refused(turn, add_item(turn, entry->d_name), entry->d_name);
    }
    if (directory != NULL)
        closedir(directory);
    else if (fd >= 0)
        close(fd);
    free(row);
}

static void list(struct turn *turn)
{
    struct inspection *inspection = turn->inspection;
    turn->bad += ledger_each_held(turn->stage->ledger, list_row, turn) != STATUS_OK;
    uint64_t held = json_array_size(inspection->items) + inspection->left_out;
    list_refused(turn);
    uint64_t refused = json_array_size(inspection->items) + inspection->left_out - held;
    snprintf(inspection->errand.message, sizeof inspection->errand.message,
             "%llu transfer%s held back, %llu manifest%s refused", (unsigned long long)held, units_plural(held),
             (unsigned long long)refused, units_plural(refused));
}

static json_t *entries_json(struct manifest_reader *reader)
{
    static const char *const kinds[] = {"", "file", "directory", "symlink"};
    struct manifest_entry entry;
    json_t *entries = json_array();
    manifest_reader_rewind(reader);
    while (json_array_size(entries) < INSPECTION_ENTRIES && manifest_reader_next(reader, &entry)) {
        json_t *object = json_object();
        set_text(object, "path", entry.path);
        set_text(object, "kind", kinds[entry.kind]);
        if (entry.kind == MANIFEST_FILE)
            set_count(object, "size", entry.size);
        if (entry.kind == MANIFEST_SYMLINK)
            set_text(object, "target", entry.target);
        json_array_append_new(entries, object);
    }
    return entries;
}

static json_t *approvals_json(const struct manifest_reader *reader)
{
    json_t *approvals = json_array();
    struct signature signature;
    for (size_t i = 0; i < manifest_reader_approval_count(reader); i++) {
        char id[FINGERPRINT_KEY_ID_SIZE] = "";
        if (manifest_reader_approval(reader, i, &signature))
            fingerprint_key_id(signature.bytes + 2, id);
        json_array_append_new(approvals, json_string(id));
    }
    return approvals;
}

/* What the manifest that lies there says, where it can be read. */
static void fill_manifest(const struct turn *turn, json_t *item, const char *name)
{
    struct manifest_reader *reader = NULL;
    char *bytes = NULL;
    char reason[256];
    size_t size;
    int fd = open_case(turn, name);
    if (fd >= 0 && durable_read_file(fd, "manifest.pb", LIMIT_MANIFEST_SIZE, &bytes, &size) == STATUS_OK &&
        manifest_reader_create((const uint8_t *)bytes, size, &reader, reason) == STATUS_OK) {
        const struct manifest_head *head = manifest_reader_head(reader);
        set_text(item, "origin_user", head->origin_user);
        set_time(item, "sealed_at", head->time_ns);
        set_count(item, "artifact_count", head->artifact_count);
        set_count(item, "total_bytes", head->total_bytes);
        json_object_set_new(item, "approvals", approvals_json(reader));
        json_object_set_new(item, "entries", entries_json(reader));
        manifest_reader_destroy(reader);
    }
    free(bytes);
    if (fd >= 0)
        close(fd);
}

static bool is_there(const struct turn *turn, const char *name)
{
    struct stat stat;
    return fstatat(turn->stage->intake->quarantine_fd, name, &stat, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(stat.st_mode);
}

static void show(struct turn *turn, const char *name, const struct ledger_held *row)
{
    json_t *item = add_item(turn, name);
    if (row != NULL)
        fill_row(item, row);
    else
        fill_refused(turn, item, name);
    set_text(item, "path", ""); /* keeps its place in front of the lists */
    json_object_set_new(item, "path", json_sprintf("%s/%s/%s", turn->stage->intake->path, INTAKE_QUARANTINE, name));
    fill_manifest(turn, item, name);
}

static void release(struct turn *turn, json_t *item, struct ledger_held *row)
{
    const struct inspection_stage *stage = turn->stage;
    struct inspection *inspection = turn->inspection;
    char message[512];
    bool attested = false;
    enum status status =
        release_begin(stage->intake, stage->ledger, stage->audit, row, inspection->errand.request.requester);
    if (status == STATUS_OK) {
        status = release_finish(stage->intake, stage->ledger, stage->audit, row, &attested);
        if (status != STATUS_OK)
            interrupted_add(stage->interrupted, row, attested);
    }
    held_changed(stage->held);
    if (status != STATUS_OK) {
        snprintf(message, sizeof message, "may be delivered, which fails at the moment: %s; %s", strerror(errno),
                 row->state == LEDGER_HELD ? "it stays held back" : "it is tried again");
        conclude(turn, item, false, message);
        return;
    }
    log_notice("delivered %s/%s/" LOG_DELIVERED " from the quarantine, at the request of %s", stage->intake->path,
               row->delivery.channel, row->delivery.directory, log_delivered(row->delivery.directory),
               inspection->errand.request.requester);
    inspection->released[inspection->released_count++] = row->delivery;
    json_object_set_new(item, "path",
                        json_sprintf("%s/%s/%s", stage->intake->path, row->delivery.channel, row->delivery.directory));
    conclude(turn, item, true, "delivered");
}

static void recheck(struct turn *turn, const char *name, struct ledger_held *row)
{
    json_t *item = add_item(turn, name);
    char reason[HELD_REASON_SIZE] = "", message[HELD_REASON_SIZE + 64];
    bool good = false;
    if (row == NULL) {
        conclude(turn, item, false, "is a manifest that was refused: there is nothing to deliver");
        return;
    }
    fill_row(item, row);
    if (row->state != LEDGER_HELD) {
        conclude(turn, item, false, "is on its way already");
    } else if (row->kept != LEDGER_KEPT_ALL) {
        conclude(turn, item, false,
                 "its data was not kept, as the quarantine was full: discard it, and have it dropped into the spool of "
                 "the low side again");
    } else {
        enum status status = held_judge_again(turn->stage->held, row, &good, reason);
        if (status == STATUS_CORRUPT)
            snprintf(message, sizeof message, "its manifest.pb is not what was held back: somebody changed it");
        else if (status != STATUS_OK)
            snprintf(message, sizeof message, "its manifest.pb can't be read: %s", strerror(errno));
        else
            snprintf(message, sizeof message, "stays held back: %s", reason);
        if (status == STATUS_OK && good)
            release(turn, item, row);
        else
            conclude(turn, item, false, message);
    }
}

static void discard(struct turn *turn, const char *name, const struct ledger_held *row)
{
    const struct inspection_stage *stage = turn->stage;
    const struct request *request = &turn->inspection->errand.request;
    const char *why = request->reason[0] != '\0' ? request->reason : "an operator discarded it";
    json_t *item = add_item(turn, name);
    char message[256];
    enum status status;
    if (row != NULL && row->state != LEDGER_HELD) {
        conclude(turn, item, false, "is on its way into or out of the quarantine");
        return;
    }
    if (row != NULL) {
        status = held_discard(stage->held, row, request->requester, why);
    } else {
        struct audit_entry entry = {.event = AUDIT_DISCARDED, .name = name, .actor = request->requester, .detail = why};
        status = audit_record(stage->audit, &entry, 1);
        if (status == STATUS_OK)
            status = durable_remove_tree(stage->intake->quarantine_fd, name);
    }
    if (status == STATUS_OK)
        log_notice("%s/.quarantine/" LOG_DELIVERED " is discarded at the request of %s", stage->intake->path, name,
                   log_delivered(name), request->requester);
    snprintf(message, sizeof message, "can't be discarded: %s", status == STATUS_OK ? "" : strerror(errno));
    conclude(turn, item, status == STATUS_OK, status == STATUS_OK ? "discarded" : message);
}

static void take_name(struct turn *turn, const char *name)
{
    struct ledger_held *row = malloc(sizeof *row);
    assert(row != NULL);
    bool held = ledger_find_held(turn->stage->ledger, name, row) == STATUS_OK;
    if (!held && !is_there(turn, name)) {
        conclude(turn, add_item(turn, name), false, "nothing of that name is in the quarantine");
    } else {
        switch (turn->inspection->errand.request.action) {
        case REQUEST_LIST:
        case REQUEST_SHOW:
            show(turn, name, held ? row : NULL);
            break;
        case REQUEST_RECHECK:
            recheck(turn, name, held ? row : NULL);
            break;
        case REQUEST_DISCARD:
            discard(turn, name, held ? row : NULL);
            break;
        }
    }
    free(row);
}

/* Names of all that may be released. */
struct names {
    char (*list)[LIMIT_COMPONENT_LENGTH + 1];
    size_t count;
    uint64_t left_out;
};

static bool collect_name(const struct ledger_held *row, void *context)
{
    struct names *names = context;
    if (row->state != LEDGER_HELD || row->kept != LEDGER_KEPT_ALL)
        return true;
    if (names->count < RECHECKED)
        memcpy(names->list[names->count++], row->place, sizeof row->place);
    else
        names->left_out++;
    return true;
}

static void recheck_all(struct turn *turn)
{
    struct names names = {.list = calloc(RECHECKED, sizeof *names.list)};
    assert(names.list != NULL);
    turn->bad += ledger_each_held(turn->stage->ledger, collect_name, &names) != STATUS_OK;
    for (size_t i = 0; i < names.count; i++)
        take_name(turn, names.list[i]);
    turn->inspection->left_out = names.left_out;
    free(names.list);
}

void inspection_run(struct inspection *inspection, const struct inspection_stage *stage)
{
    struct request *request = &inspection->errand.request;
    struct turn turn = {.inspection = inspection, .stage = stage};
    for (size_t i = 0; i < request->name_count; i++)
        take_name(&turn, request->names[i]);
    if (request->name_count == 0 && request->action == REQUEST_LIST)
        list(&turn);
    else if (request->name_count == 0)
        recheck_all(&turn);
    size_t count = json_array_size(inspection->items);
    char *message = inspection->errand.message;
    if (request->action == REQUEST_RECHECK)
        snprintf(message, sizeof inspection->errand.message, "%zu of %zu transfer%s delivered",
                 inspection->released_count, count, units_plural(count));
    else if (request->action == REQUEST_DISCARD)
        snprintf(message, sizeof inspection->errand.message, "%zu of %zu discarded", count - turn.bad, count);
    inspection->accepted = turn.bad == 0;
    inspection->errand.decided = true;
}

char *inspection_answer(const struct inspection *inspection)
{
    json_t *root =
        json_pack("{s:b, s:s, s:O, s:I}", "accepted", inspection->accepted, "message", inspection->errand.message,
                  "items", inspection->items, "left_out", (json_int_t)inspection->left_out);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}
