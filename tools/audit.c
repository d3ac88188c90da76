// SPDX-License-Identifier: Apache-2.0
#include "tools/audit.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "common/log.h"
#include "common/units.h"
#include "tools/audit_files.h"
#include "tools/command.h"
#include "tools/terminal.h"

enum { SHOWN_PROBLEMS = 50, ANCHOR_LINE_SIZE = 4096 };

struct anchors {
    struct audit_anchor *list;
    size_t count, capacity;
};

struct printing {
    uint64_t count;
};

static void add_anchor(struct anchors *anchors, const struct audit_anchor *anchor)
{
    if (anchors->count == anchors->capacity) {
        anchors->capacity = anchors->capacity == 0 ? 64 : 2 * anchors->capacity;
        anchors->list = reallocarray(anchors->list, anchors->capacity, sizeof *anchors->list);
        assert(anchors->list != NULL);
    }
    anchors->list[anchors->count++] = *anchor;
}

/* Takes what the journal says of checkpoints out of any text. */
static bool read_anchors(const char *file, struct anchors *anchors)
{
    static const char mark[] = "audit anchor ";
    FILE *stream = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
    char line[ANCHOR_LINE_SIZE];
    if (stream == NULL) {
        log_error("%s: %s", file, strerror(errno));
        return false;
    }
    while (fgets(line, sizeof line, stream) != NULL) {
        struct audit_anchor anchor;
        char *at = strstr(line, mark);
        if (at == NULL)
            continue;
        at += sizeof mark - 1;
        at[strcspn(at, " \r\n")] = '\0';
        if (audit_check_parse_anchor(at, &anchor))
            add_anchor(anchors, &anchor);
    }
    bool good = ferror(stream) == 0;
    if (!good)
        log_error("%s: %s", file, strerror(errno));
    if (stream != stdin)
        fclose(stream);
    return good;
}

static void print_problem(void *context, const char *file, uint64_t line, const char *text)
{
    struct printing *printing = context;
    if (printing->count++ >= SHOWN_PROBLEMS)
        return;
    printf("PROBLEM    ");
    if (line > 0) {
        terminal_print(stdout, file);
        printf(":%" PRIu64 ": ", line);
    }
    terminal_print(stdout, text);
    putchar('\n');
}

static void print_proof(const struct audit_check_result *result)
{
    uint64_t proven = result->signed_number > result->anchored_number ? result->signed_number : result->anchored_number;
    char key_id[2 * SIGNATURE_KEY_ID_SIZE + 1] = "";
    for (int i = 0; i < SIGNATURE_KEY_ID_SIZE; i++)
        snprintf(key_id + 2 * i, 3, "%02X", result->key.key_id[SIGNATURE_KEY_ID_SIZE - 1 - i]);
    if (result->signed_number > 0)
        printf("signed     records %" PRIu64 " to %" PRIu64 ", by key %s\n", result->first_number,
               result->signed_number, key_id);
    if (result->anchored_number > 0)
        printf("anchored   records %" PRIu64 " to %" PRIu64 ", whatever the key\n", result->first_number,
               result->anchored_number);
    if (proven < result->last_number)
        printf("chained    records %" PRIu64 " to %" PRIu64 ": no checkpoint proves them yet, the last by nothing\n",
               proven + 1, result->last_number);
    if (result->unstopped_count > 0) {
        printf("note       %" PRIu64 " run%s ended without a stop (kill, power cut, or records cut off), before record",
               result->unstopped_count, result->unstopped_count == 1 ? "" : "s");
        for (uint64_t i = 0; i < result->unstopped_count && i < AUDIT_CHECK_RUNS; i++)
            printf("%s %" PRIu64, i > 0 ? "," : "", result->unstopped[i]);
        puts(result->unstopped_count > AUDIT_CHECK_RUNS ? ", ..." : "");
    }
    if (result->superseded_lines > 0)
        printf("note       %" PRIu64 " lines don't count: the disk never confirmed them, and a later file says so\n",
               result->superseded_lines);
    if (result->stopped)
        puts("end        the checkpoint of an orderly stop");
    else
        printf("end        open: the daemon runs, or was killed, or records behind %" PRIu64
               " were cut off; anchors from the journal can tell\n",
               result->last_number);
}

static int report(const struct audit_check_result *result, size_t file_count)
{
    if (result->records > 0)
        printf("log        %s side, records %" PRIu64 " to %" PRIu64 " in %zu file%s, %s to %s\n", result->side,
               result->first_number, result->last_number, file_count, file_count == 1 ? "" : "s", result->first_time,
               result->last_time);
    if (result->problems > 0) {
        printf("FAILED     %" PRIu64 " problem%s: this log was changed or damaged\n", result->problems,
               result->problems == 1 ? "" : "s");
        return EX_DATAERR;
    }
    print_proof(result);
    printf("VERIFIED   %" PRIu64 " record%s\n", result->records, units_plural(result->records));
    return EX_OK;
}

static int verify(const struct audit_files *files, const char *key_file, const struct anchors *anchors, bool partial)
{
    struct signature_public key;
    struct audit_check_result result;
    struct printing printing = {0};
    bool known;
    if (!audit_files_key(files, key_file, &key, &known))
        return EX_NOINPUT;
    struct audit_check *check =
        audit_check_create(known ? &key : NULL, anchors->list, anchors->count, partial, print_problem, &printing);
    bool good = audit_files_read(files, check, NULL, NULL);
    audit_check_end(check, &result);
    audit_check_destroy(check);
    if (!good)
        return EX_NOINPUT;
    if (printing.count > SHOWN_PROBLEMS)
        printf("           and %" PRIu64 " more\n", printing.count - SHOWN_PROBLEMS);
    return report(&result, files->count);
}

int audit_verify(int argc, char **argv)
{
    static const struct option options[] = {{"anchor", required_argument, NULL, 'a'},
                                            {"anchors", required_argument, NULL, 'A'},
                                            {"key", required_argument, NULL, 'k'},
                                            {"partial", no_argument, NULL, 'p'},
                                            {0}};
    struct anchors anchors = {0};
    struct audit_anchor anchor;
    const char *key = NULL;
    bool partial = false;
    int option, code = EX_OK;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1 && code == EX_OK) {
        if (option == 'a' && audit_check_parse_anchor(optarg, &anchor))
            add_anchor(&anchors, &anchor);
        else if (option == 'A')
            code = read_anchors(optarg, &anchors) ? EX_OK : EX_NOINPUT;
        else if (option == 'k')
            key = optarg;
        else if (option == 'p')
            partial = true;
        else
            code = command_usage("audit");
    }
    if (code == EX_OK && optind == argc)
        code = command_usage("audit");
    struct audit_files files;
    if (code == EX_OK && !audit_files_find(argv + optind, (size_t)(argc - optind), &files)) {
        code = EX_NOINPUT;
    } else if (code == EX_OK) {
        code = verify(&files, key, &anchors, partial);
        audit_files_deinit(&files);
    }
    free(anchors.list);
    return code;
}

int command_audit(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } parts[] = {{"verify", audit_verify}, {"show", audit_show}, {"join", audit_join}};
    for (size_t i = 0; argc > 1 && i < sizeof parts / sizeof *parts; i++)
        if (strcmp(argv[1], parts[i].name) == 0)
            return parts[i].run(argc - 1, argv + 1);
    return command_usage("audit");
}
