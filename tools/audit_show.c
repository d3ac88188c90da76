// SPDX-License-Identifier: Apache-2.0
#include "tools/audit.h"

#include <assert.h>
#include <getopt.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/units.h"
#include "proto/identity.h"
#include "tools/audit_files.h"
#include "tools/command.h"
#include "tools/terminal.h"

enum { TRANSFERS_MAX = 4096, SHORT_ID = 8 }; /* transfers of one name or number whose story is told */

/* What is asked for. With a transfer named by number or name, its id is looked for first: early records have no
 * number, and late ones no name. */
struct query {
    const char *transfer;
    bool by_id, by_sequence;
    uint8_t id[TRANSFER_ID_SIZE];
    uint64_t sequence;
    char since[AUDIT_TIME_SIZE]; /* compared as text */
    uint8_t (*found)[TRANSFER_ID_SIZE];
    size_t found_count;
    bool too_many;
    uint64_t printed;
};

static bool is_found(const struct query *query, const uint8_t *id)
{
    for (size_t i = 0; i < query->found_count; i++)
        if (memcmp(query->found[i], id, TRANSFER_ID_SIZE) == 0)
            return true;
    return false;
}

static bool covers(const struct audit_record *record, uint64_t sequence)
{
    uint64_t last = record->last_sequence > record->sequence ? record->last_sequence : record->sequence;
    return record->sequence != 0 && record->sequence <= sequence && sequence <= last;
}

static bool matches(const struct query *query, const struct audit_record *record)
{
    if (query->by_id)
        return record->has_transfer && memcmp(record->transfer_id, query->id, TRANSFER_ID_SIZE) == 0;
    if (query->by_sequence)
        return covers(record, query->sequence);
    return strcmp(record->name, query->transfer) == 0;
}

static void find(void *context, const struct audit_record *record)
{
    struct query *query = context;
    if (!record->has_transfer || !matches(query, record) || is_found(query, record->transfer_id))
        return;
    if (query->found_count == TRANSFERS_MAX) {
        query->too_many = true;
        return;
    }
    memcpy(query->found[query->found_count++], record->transfer_id, TRANSFER_ID_SIZE);
}

static const char *phrase(const struct audit_record *record)
{
    static const char *const phrases[AUDIT_EVENT_COUNT] = {
        [AUDIT_STARTED] = "the daemon started",
        [AUDIT_STOPPED] = "the daemon stopped",
        [AUDIT_ACCEPTED] = "accepted from the spool",
        [AUDIT_REFUSED] = "refused",
        [AUDIT_RETURNED] = "given back to the spool",
        [AUDIT_SEALED] = "signed and numbered",
        [AUDIT_SENT] = "sent, with all copies",
        [AUDIT_ASKED] = "asked for again",
        [AUDIT_REPLAYED] = "sent again",
        [AUDIT_EXPIRED] = "no longer retained",
        [AUDIT_SEEN] = "manifest received",
        [AUDIT_COMPLETED] = "all of it received",
        [AUDIT_VERIFIED] = "verified against its signed manifest",
        [AUDIT_DELIVERED] = "delivered into the intake queue",
        [AUDIT_QUARANTINED] = "manifest refused and quarantined",
        [AUDIT_HELD] = "verified, and held back in the quarantine",
        [AUDIT_RELEASED] = "released from the quarantine",
        [AUDIT_DISCARDED] = "discarded",
        [AUDIT_WRITTEN_OFF] = "its loss was accepted",
        [AUDIT_ALARM] = "ALARM",
        [AUDIT_SEGMENT] = "a file of the log begins",
        [AUDIT_CHECKPOINT] = "checkpoint",
        [AUDIT_REPAIRED] = "the log's torn end was cut off",
        [AUDIT_RESUMED] = "the log could be written again",
    };
    return record->event == AUDIT_EVENT_COUNT ? record->event_name : phrases[record->event];
}

static void print_what(const struct audit_record *record)
{
    char id[TRANSFER_ID_TEXT_SIZE], size[UNITS_TEXT_SIZE];
    if (record->channel[0] != '\0') {
        printf("  ");
        terminal_print(stdout, record->channel);
    }
    if (record->name[0] != '\0') {
        putchar(record->channel[0] != '\0' ? '/' : ' ');
        terminal_print(stdout, record->name);
    }
    if (record->sequence != 0)
        printf("  sequence %" PRIu64, record->sequence);
    if (record->last_sequence > record->sequence)
        printf(" to %" PRIu64, record->last_sequence);
    if (record->bytes != 0)
        printf("  %s", units_format_size(record->bytes, size));
    if (record->has_transfer) {
        identity_transfer_text(record->transfer_id, id);
        printf("  id %.*s", SHORT_ID, id);
    }
    if (record->actor[0] != '\0') {
        printf("  by ");
        terminal_print(stdout, record->actor);
    }
    if (record->detail[0] != '\0') {
        printf("  (");
        terminal_print(stdout, record->detail);
        putchar(')');
    }
}

static void show(void *context, const struct audit_record *record)
{
    struct query *query = context;
    if (strcmp(record->time, query->since) < 0)
        return;
    bool own = record->event == AUDIT_SEGMENT || record->event == AUDIT_CHECKPOINT;
    if (query->transfer == NULL ? own
                                : !((record->has_transfer && is_found(query, record->transfer_id)) ||
                                    (!record->has_transfer && query->by_sequence && matches(query, record))))
        return;
    printf("%.19sZ  %-4s %s", record->time, record->side, phrase(record));
    print_what(record);
    putchar('\n');
    query->printed++;
}

/* A time as in the log, or its beginning; or how long ago. */
static bool parse_since(const char *text, char since[static AUDIT_TIME_SIZE])
{
    static const char pattern[] = "0000-00-00T00:00:00.000000000Z";
    uint64_t ago_ns;
    size_t length = strlen(text);
    if (units_parse_duration(text, &ago_ns)) {
        audit_time_text(clock_realtime_ns() - (int64_t)(ago_ns < INT64_MAX ? ago_ns : INT64_MAX), since);
        return true;
    }
    if (length < 4 || length >= AUDIT_TIME_SIZE)
        return false;
    for (size_t i = 0; i < length; i++)
        if (pattern[i] == '0' ? text[i] < '0' || text[i] > '9'
                              : text[i] != pattern[i] && !(pattern[i] == '.' && text[i] == 'Z') &&
                                    !(pattern[i] == 'T' && text[i] == ' '))
            return false;
    snprintf(since, AUDIT_TIME_SIZE, "%s", text);
    if (length > 10)
        since[10] = 'T';
    since[strcspn(since, "Z")] = '\0';
    return true;
}

static void understand(struct query *query)
{
    size_t length = strlen(query->transfer), size = 0;
    query->by_id = length == 2 * TRANSFER_ID_SIZE &&
                   sodium_hex2bin(query->id, TRANSFER_ID_SIZE, query->transfer, length, NULL, &size, NULL) == 0 &&
                   size == TRANSFER_ID_SIZE;
    query->by_sequence = !query->by_id && length > 0 && length <= 16 && strspn(query->transfer, "0123456789") == length;
    if (query->by_sequence)
        query->sequence = strtoull(query->transfer, NULL, 10);
}

static int tell(const struct audit_files *files, struct query *query)
{
    query->found = calloc(TRANSFERS_MAX, sizeof *query->found);
    assert(query->found != NULL);
    bool good = true;
    if (query->transfer != NULL) {
        understand(query);
        good = audit_files_each(files, find, query);
    }
    if (good && query->too_many)
        log_warning("only the first %d transfers are shown; name one by its id", TRANSFERS_MAX);
    good = good && audit_files_each(files, show, query);
    free(query->found);
    if (!good)
        return EX_NOINPUT;
    if (query->printed == 0 && query->transfer != NULL) {
        log_error("the log says nothing of this transfer");
        return EX_DATAERR;
    }
    return EX_OK;
}

int audit_show(int argc, char **argv)
{
    static const struct option options[] = {
        {"transfer", required_argument, NULL, 't'}, {"since", required_argument, NULL, 's'}, {0}};
    struct query query = {.transfer = NULL};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 't')
            query.transfer = optarg;
        else if (option != 's' || !parse_since(optarg, query.since))
            return command_usage("audit");
    }
    struct audit_files files;
    if (optind == argc)
        return command_usage("audit");
    if (!audit_files_find(argv + optind, (size_t)(argc - optind), &files))
        return EX_NOINPUT;
    int code = tell(&files, &query);
    audit_files_deinit(&files);
    return code;
}
