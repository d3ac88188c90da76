// SPDX-License-Identifier: Apache-2.0
#include "tools/status_view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/units.h"
#include "tools/terminal.h"

enum { BAR_WIDTH = 30, LABEL_WIDTH = 16, ROWS_MAX = 20 };

/* All that printing needs. */
struct view {
    FILE *stream;
    const json_t *root;
    const json_t *earlier;
    int64_t now_ns;
};

bool status_view_parse_time(const char *text, int64_t *realtime_ns)
{
    struct tm parts = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &parts);
    if (rest == NULL)
        return false;
    int64_t fraction_ns = 0;
    if (*rest == '.') {
        int64_t unit = (int64_t)CLOCK_SECOND_NS / 10;
        const char *digit = rest + 1;
        for (; *digit >= '0' && *digit <= '9'; digit++, unit /= 10)
            fraction_ns += (*digit - '0') * unit;
        if (digit == rest + 1)
            return false;
        rest = digit;
    }
    if (strcmp(rest, "Z") != 0 || parts.tm_year < 0 || parts.tm_year > 300)
        return false;
    *realtime_ns = (int64_t)timegm(&parts) * (int64_t)CLOCK_SECOND_NS + fraction_ns;
    return true;
}

static bool get_time(const json_t *object, const char *key, int64_t *realtime_ns)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL && status_view_parse_time(text, realtime_ns);
}

static uint64_t get_count(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

static bool has(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value != NULL && !json_is_null(value);
}

bool status_view_is_stale(const json_t *root, int64_t now_ns)
{
    int64_t written_ns = 0;
    double valid_s = json_number_value(json_object_get(root, "valid_for_s"));
    return !get_time(root, "written_at", &written_ns) || !(valid_s < 1e9) ||
           (double)(now_ns - written_ns) > valid_s * (double)CLOCK_SECOND_NS;
}

bool status_view_has_failed(const json_t *root)
{
    const char *health = json_string_value(json_object_get(root, "health"));
    return health != NULL && strcmp(health, "failed") == 0;
}

static void print_text(const struct view *view, const json_t *object, const char *key, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(object, key));
    terminal_print(view->stream, text != NULL ? text : otherwise);
}

static void print_label(const struct view *view, const char *label)
{
    fprintf(view->stream, "%-*s", LABEL_WIDTH, label);
}

static void print_size(const struct view *view, uint64_t bytes)
{
    char text[UNITS_TEXT_SIZE];
    fputs(units_format_size(bytes, text), view->stream);
}

static void print_age(const struct view *view, const json_t *object, const char *key)
{
    int64_t then_ns = 0;
    char text[UNITS_TEXT_SIZE];
    if (!get_time(object, key, &then_ns))
        fputs(has(object, key) ? "at an unknown time" : "never", view->stream);
    else if (then_ns > view->now_ns + (int64_t)CLOCK_SECOND_NS)
        fprintf(view->stream, "%s in the future", units_format_duration((uint64_t)(then_ns - view->now_ns), text));
    else
        fprintf(view->stream, "%s ago",
                units_format_duration(then_ns > view->now_ns ? 0 : (uint64_t)(view->now_ns - then_ns), text));
}

static void print_health(const struct view *view)
{
    FILE *stream = view->stream;
    size_t index;
    json_t *reason;
    print_text(view, view->root, "program", "diodecast");
    fputs("  health ", stream);
    print_text(view, view->root, "health", "unknown");
    if (has(view->root, "state")) {
        fputs("  state ", stream);
        print_text(view, view->root, "state", "unknown");
    }
    if (has(view->root, "pid"))
        fprintf(stream, "  pid %" PRIu64, get_count(view->root, "pid"));
    fputs("  written ", stream);
    print_age(view, view->root, "written_at");
    fputc('\n', stream);
    if (status_view_is_stale(view->root, view->now_ns))
        fputs("  STALE: the figures are old; is the daemon running?\n", stream);
    json_array_foreach(json_object_get(view->root, "reasons"), index, reason)
    {
        fputs("  ", stream);
        print_text(view, reason, "level", "problem");
        fputs(" ", stream);
        print_text(view, reason, "code", "unnamed");
        fputs(", since ", stream);
        print_text(view, reason, "since", "an unknown time");
        fputs(": ", stream);
        print_text(view, reason, "action", "no advice");
        fputc('\n', stream);
    }
}

static void print_drops(const struct view *view, const json_t *drops)
{
    const char *separator = "  dropped: ";
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)drops, key, value)
    {
        if (json_integer_value(value) <= 0)
            continue;
        fputs(separator, view->stream);
        terminal_print(view->stream, key);
        fprintf(view->stream, " %" JSON_INTEGER_FORMAT, json_integer_value(value));
        separator = ", ";
    }
}

static void print_sending_link(const struct view *view, const json_t *link)
{
    fputs("to ", view->stream);
    print_text(view, link, "peer", "?");
    fputs(" by ", view->stream);
    print_text(view, link, "interface", "?");
    fprintf(view->stream, "%s, %" PRIu64 " datagram%s, %" PRIu64 " send error%s\n",
            json_is_false(json_object_get(link, "carrier")) ? " (no carrier)" : "", get_count(link, "datagrams_sent"),
            units_plural(get_count(link, "datagrams_sent")), get_count(link, "send_errors"),
            units_plural(get_count(link, "send_errors")));
}

static void print_link(const struct view *view)
{
    const json_t *link = json_object_get(view->root, "link");
    FILE *stream = view->stream;
    if (!json_is_object(link))
        return;
    print_label(view, "link");
    if (has(link, "peer")) {
        print_sending_link(view, link);
        return;
    }
    const char *separator = "";
    if (json_object_get(link, "last_datagram_at") != NULL) {
        fputs("last datagram ", stream);
        print_age(view, link, "last_datagram_at");
        separator = ", ";
    }
    if (json_object_get(link, "last_heartbeat_at") != NULL) {
        fprintf(stream, "%slast heartbeat ", separator);
        print_age(view, link, "last_heartbeat_at");
        separator = ", ";
    }
    if (json_is_number(json_object_get(link, "clock_offset_s"))) {
        fprintf(stream, "%sclock offset %+.3f s", separator,
                json_number_value(json_object_get(link, "clock_offset_s")));
        separator = ", ";
    }
    uint64_t datagrams = get_count(link, "datagrams_total"), lost = get_count(link, "lost_total");
    if (has(link, "datagrams_total"))
        fprintf(stream, "%s%" PRIu64 " datagram%s", separator, datagrams, units_plural(datagrams));
    if (has(link, "lost_total"))
        fprintf(stream, ", %" PRIu64 " lost (%.2f %%)", lost,
                lost == 0 ? 0.0 : 100.0 * (double)lost / ((double)lost + (double)datagrams));
    print_drops(view, json_object_get(link, "drops"));
    fputc('\n', stream);
}

static void print_fec(const struct view *view)
{
    const json_t *fec = json_object_get(view->root, "fec");
    if (!json_is_object(fec))
        return;
    print_label(view, "fec");
    if (has(fec, "source_symbols")) {
        fprintf(view->stream, "%" PRIu64 "+%" PRIu64 " symbols\n", get_count(fec, "source_symbols"),
                get_count(fec, "repair_symbols"));
        return;
    }
    fprintf(view->stream, "%" PRIu64 " blocks, %" PRIu64 " repaired, %" PRIu64 " failed\n",
            get_count(fec, "blocks_total"), get_count(fec, "repaired_total"), get_count(fec, "failed_total"));
}

/* The transfer with the same id in the same list of the earlier file; NULL when there is none. */
static const json_t *find_earlier(const json_t *list, const json_t *transfer)
{
    const char *id = json_string_value(json_object_get(transfer, "id"));
    size_t index;
    json_t *other;
    json_array_foreach((json_t *)(uintptr_t)list, index, other)
    {
        const char *other_id = json_string_value(json_object_get(other, "id"));
        if (id != NULL && other_id != NULL && strcmp(id, other_id) == 0)
            return other;
    }
    return NULL;
}

/* Bits per second: what the file says, else how far the transfer came between the two files; 0 when unknown. */
static uint64_t transfer_rate(const struct view *view, const json_t *transfer, const json_t *earlier_list,
                              const char *done_key)
{
    if (has(transfer, "rate_bits_per_second"))
        return get_count(transfer, "rate_bits_per_second");
    const json_t *earlier = find_earlier(earlier_list, transfer);
    int64_t from_ns = 0, to_ns = 0;
    if (earlier == NULL || !get_time(view->earlier, "written_at", &from_ns) ||
        !get_time(view->root, "written_at", &to_ns) || to_ns <= from_ns)
        return 0;
    uint64_t before = get_count(earlier, done_key), after = get_count(transfer, done_key);
    if (after <= before)
        return 0;
    return (uint64_t)((double)(after - before) * 8 * (double)CLOCK_SECOND_NS / (double)(to_ns - from_ns));
}

static void print_transfer(const struct view *view, const json_t *transfer, const json_t *earlier_list,
                           const char *done_key)
{
    FILE *stream = view->stream;
    char text[UNITS_TEXT_SIZE];
    uint64_t done = get_count(transfer, done_key), total = get_count(transfer, "bytes_total");
    fputs("  ", stream);
    if (has(transfer, "bytes_total")) {
        terminal_bar(stream, done, total, BAR_WIDTH);
        fprintf(stream, " %5.1f %%  ", terminal_percent(done, total));
    }
    if (has(transfer, "channel")) {
        print_text(view, transfer, "channel", "");
        fputc('/', stream);
    }
    print_text(view, transfer, "name", "(not announced yet)");
    fprintf(stream, "  %s", units_format_size(done, text));
    if (has(transfer, "bytes_total"))
        fprintf(stream, " of %s", units_format_size(total, text));
    uint64_t rate = transfer_rate(view, transfer, earlier_list, done_key);
    if (rate > 0) {
        fprintf(stream, "  %s", units_format_rate(rate, text));
        if (total > done)
            fprintf(stream, "  %s to go",
                    units_format_duration(
                        (uint64_t)((double)(total - done) * 8 / (double)rate * (double)CLOCK_SECOND_NS), text));
    }
    if (get_count(transfer, "artifact_count") > 1)
        fprintf(stream, "  %" PRIu64 " artifacts", get_count(transfer, "artifact_count"));
    if (has(transfer, "state")) {
        fputs("  ", stream);
        print_text(view, transfer, "state", "");
    }
    if (has(transfer, "sender")) {
        fputs("  from ", stream);
        print_text(view, transfer, "sender", "?");
    }
    fputc('\n', stream);
}

static bool cut_rows(const struct view *view, size_t index, const json_t *list)
{
    if (index < ROWS_MAX)
        return false;
    fprintf(view->stream, "  and %zu more\n", json_array_size(list) - index);
    return true;
}

static void print_transfers(const struct view *view, const char *label, const json_t *list, const json_t *earlier_list,
                            const char *done_key)
{
    size_t index;
    json_t *transfer;
    if (json_array_size(list) == 0)
        return;
    fprintf(view->stream, "%s\n", label);
    json_array_foreach((json_t *)(uintptr_t)list, index, transfer)
    {
        if (cut_rows(view, index, list))
            break;
        print_transfer(view, transfer, earlier_list, done_key);
    }
}

/* Ends the line of a loss. The ticket has one of its own, so that it is easily copied, by hand or by mouse. */
static void print_ticket(const struct view *view, const json_t *object)
{
    fputs(json_is_true(json_object_get(object, "healing")) ? ", will be sent again by itself\n" : "\n", view->stream);
    if (!has(object, "ticket"))
        return;
    fputs("    ticket  ", view->stream);
    print_text(view, object, "ticket", "?");
    fputc('\n', view->stream);
}

static void print_sender_id(const struct view *view, const json_t *object)
{
    if (!has(object, "sender_id"))
        return;
    fputs(" of sender ", view->stream);
    print_text(view, object, "sender_id", "?");
}

static void print_incomplete(const struct view *view, const json_t *list)
{
    size_t index;
    json_t *transfer;
    if (json_array_size(list) > 0)
        fputs("incomplete\n", view->stream);
    json_array_foreach((json_t *)(uintptr_t)list, index, transfer)
    {
        if (cut_rows(view, index, list))
            break;
        fprintf(view->stream, "  sequence %" PRIu64 " ", get_count(transfer, "sequence"));
        print_text(view, transfer, "name", "");
        fputs(": ", view->stream);
        print_size(view, get_count(transfer, "missing_bytes"));
        fputs(" missing", view->stream);
        const json_t *chunks = json_object_get(transfer, "missing_chunks");
        if (json_is_object(chunks))
            fprintf(view->stream, " in %" PRIu64 " chunk%s", get_count(chunks, "count"),
                    units_plural(get_count(chunks, "count")));
        else if (json_is_false(json_object_get(transfer, "manifest_held")))
            fputs(", and its manifest", view->stream);
        print_ticket(view, transfer);
    }
}

/* Received, and held back by the rules of the receiver. */
static void print_held(const struct view *view, const json_t *transfers)
{
    const json_t *list = json_object_get(transfers, "held");
    size_t index;
    json_t *transfer;
    if (json_array_size(list) == 0)
        return;
    fprintf(view->stream, "held back  %" PRIu64 " in the quarantine\n", get_count(transfers, "held_total"));
    json_array_foreach((json_t *)(uintptr_t)list, index, transfer)
    {
        if (cut_rows(view, index, list))
            break;
        fprintf(view->stream, "  sequence %" PRIu64 " ", get_count(transfer, "sequence"));
        print_text(view, transfer, "channel", "");
        fputc('/', view->stream);
        print_text(view, transfer, "name", "");
        fputs(": ", view->stream);
        print_text(view, transfer, "reason", "");
        fputc('\n', view->stream);
    }
}

static void print_never_seen(const struct view *view, const json_t *list)
{
    size_t index;
    json_t *range;
    if (json_array_size(list) > 0)
        fputs("never seen\n", view->stream);
    json_array_foreach((json_t *)(uintptr_t)list, index, range)
    {
        if (cut_rows(view, index, list))
            break;
        uint64_t first = get_count(range, "first"), last = get_count(range, "last");
        if (first == last)
            fprintf(view->stream, "  sequence %" PRIu64, first);
        else
            fprintf(view->stream, "  sequences %" PRIu64 " to %" PRIu64, first, last);
        print_sender_id(view, range);
        if (json_is_true(json_object_get(range, "chain_replaced")))
            fputs(", of a chain that was replaced", view->stream);
        print_ticket(view, range);
    }
}

static void print_alarms(const struct view *view, const json_t *list)
{
    size_t index;
    json_t *alarm;
    if (json_array_size(list) > 0)
        fputs("alarms\n", view->stream);
    json_array_foreach((json_t *)(uintptr_t)list, index, alarm)
    {
        if (cut_rows(view, index, list))
            break;
        fputs("  ", view->stream);
        print_text(view, alarm, "code", "?");
        print_sender_id(view, alarm);
        fprintf(view->stream, ", sequences %" PRIu64 " to %" PRIu64 ", since ", get_count(alarm, "first"),
                get_count(alarm, "last"));
        print_text(view, alarm, "since", "an unknown time");
        print_ticket(view, alarm);
    }
}

/* Keys that do not count. */
static void print_ended_keys(const struct view *view, const char *role, const json_t *list)
{
    size_t index, shown = 0;
    json_t *key;
    json_array_foreach((json_t *)(uintptr_t)list, index, key)
    {
        const char *state = json_string_value(json_object_get(key, "state"));
        if (state == NULL || strcmp(state, "good") == 0)
            continue;
        if (shown++ == ROWS_MAX) {
            fputs("  ...\n", view->stream);
            break;
        }
        fprintf(view->stream, "  %s ", role);
        print_text(view, key, "name", "?");
        fputs(": ", view->stream);
        terminal_print(view->stream, state);
        if (strcmp(state, "expired") == 0) {
            fputs(" since ", view->stream);
            print_text(view, key, "expires", "?");
        } else if (json_string_length(json_object_get(key, "why_revoked")) > 0) {
            fputs(", ", view->stream);
            print_text(view, key, "why_revoked", "");
        }
        fputc('\n', view->stream);
    }
}

static void print_keys(const struct view *view)
{
    const json_t *keys = json_object_get(view->root, "keys");
    const json_t *senders = json_object_get(keys, "senders"), *approvers = json_object_get(keys, "approvers");
    size_t index;
    json_t *announced;
    if (!json_is_object(keys))
        return;
    print_label(view, "keys");
    fprintf(view->stream, "%zu sender%s, %zu approver%s, %" PRIu64 " approval%s required\n", json_array_size(senders),
            units_plural(json_array_size(senders)), json_array_size(approvers),
            units_plural(json_array_size(approvers)), get_count(keys, "required_signatures"),
            units_plural(get_count(keys, "required_signatures")));
    print_ended_keys(view, "sender", senders);
    print_ended_keys(view, "approver", approvers);
    json_array_foreach(json_object_get(keys, "announced"), index, announced)
    {
        if (json_is_true(json_object_get(announced, "in_use")))
            continue;
        fputs("  announced ", view->stream);
        print_text(view, announced, "fingerprint", "?");
        fputc('\n', view->stream);
    }
}

static void print_delivered(const struct view *view, const json_t *transfers)
{
    const json_t *last = json_object_get(view->root, "last_delivered");
    FILE *stream = view->stream;
    if (has(transfers, "delivered_total")) {
        print_label(view, "delivered");
        fprintf(stream, "%" PRIu64 " transfer%s\n", get_count(transfers, "delivered_total"),
                units_plural(get_count(transfers, "delivered_total")));
    }
    if (!json_is_object(last))
        return;
    print_label(view, "last delivered");
    fprintf(stream, "sequence %" PRIu64 " ", get_count(last, "sequence"));
    print_text(view, last, "channel", "?");
    fputc('/', stream);
    print_text(view, last, "name", "?");
    fputs(", ", stream);
    print_age(view, last, "at");
    if (has(last, "path")) {
        fputs(", in ", stream);
        print_text(view, last, "path", "?");
    }
    fputc('\n', stream);
}

static void print_intake(const struct view *view)
{
    const json_t *intake = json_object_get(view->root, "intake");
    if (!json_is_object(intake))
        return;
    print_label(view, "intake");
    fprintf(view->stream, "%" PRIu64 " transfer%s for the consumer to take (", get_count(intake, "backlog_count"),
            units_plural(get_count(intake, "backlog_count")));
    print_size(view, get_count(intake, "backlog_bytes"));
    fputs(")", view->stream);
    if (has(intake, "free_bytes")) {
        fputs(", ", view->stream);
        print_size(view, get_count(intake, "free_bytes"));
        fputs(" free", view->stream);
    }
    fputc('\n', view->stream);
}

static void print_sender(const struct view *view)
{
    const json_t *queue = json_object_get(view->root, "queue");
    FILE *stream = view->stream;
    char text[UNITS_TEXT_SIZE];
    if (json_is_object(queue)) {
        print_label(view, "queue");
        fprintf(stream, "%" PRIu64 " transfer%s (", get_count(queue, "depth"), units_plural(get_count(queue, "depth")));
        print_size(view, get_count(queue, "bytes"));
        fputs(")\n", stream);
    }
    if (has(view->root, "rate_bits_per_second")) {
        print_label(view, "rate");
        fprintf(stream, "%s\n", units_format_rate(get_count(view->root, "rate_bits_per_second"), text));
    }
    if (has(view->root, "sent_total")) {
        print_label(view, "sent");
        fprintf(stream, "%" PRIu64 " transfer%s, %" PRIu64 " failed, last sequence %" PRIu64 "\n",
                get_count(view->root, "sent_total"), units_plural(get_count(view->root, "sent_total")),
                get_count(view->root, "failed_total"), get_count(view->root, "last_sequence"));
    }
}

void status_view_print(FILE *stream, const json_t *root, const json_t *earlier, int64_t now_ns)
{
    const struct view view = {.stream = stream, .root = root, .earlier = earlier, .now_ns = now_ns};
    const json_t *transfers = json_object_get(root, "transfers");
    const json_t *earlier_transfers = json_object_get(earlier, "transfers");
    print_health(&view);
    print_link(&view);
    print_fec(&view);
    print_sender(&view);
    print_delivered(&view, transfers);
    print_intake(&view);
    print_transfers(&view, "sending", json_object_get(root, "sending"), json_object_get(earlier, "sending"),
                    "bytes_sent");
    print_transfers(&view, "open", json_object_get(transfers, "open"), json_object_get(earlier_transfers, "open"),
                    "bytes_received");
    print_incomplete(&view, json_object_get(transfers, "incomplete"));
    print_held(&view, transfers);
    print_never_seen(&view, json_object_get(transfers, "never_seen"));
    print_alarms(&view, json_object_get(root, "alarms"));
    print_keys(&view);
}
