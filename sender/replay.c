// SPDX-License-Identifier: Apache-2.0
#include "sender/replay.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "proto/datagram.h"
#include "proto/ticket.h"
#include "sender/printable.h"

enum { SHOWN_SIZE = 64 };

/* A request on its way to a plan. */
struct resolution {
    const struct replay_source *source;
    struct replay_plan *plan;
};

static void refuse(struct replay_plan *plan, const char *message)
{
    plan->accepted = false;
    snprintf(plan->message, sizeof plan->message, "%s", message);
}

/* Where `sequence` stands or belongs in plan->by_sequence. They mostly come in order, so the search begins there. */
static size_t place_of(const struct replay_plan *plan, uint64_t sequence)
{
    size_t low = 0, high = plan->count;
    if (high > 0 && plan->items[plan->by_sequence[high - 1]].sequence < sequence)
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (plan->items[plan->by_sequence[middle]].sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct replay_item *find_item(const struct replay_plan *plan, uint64_t sequence)
{
    size_t place = place_of(plan, sequence);
    if (place == plan->count || plan->items[plan->by_sequence[place]].sequence != sequence)
        return NULL;
    return &plan->items[plan->by_sequence[place]];
}

/* NULL when there are too many; the plan then says so. */
static struct replay_item *add_item(struct replay_plan *plan, uint64_t sequence, enum replay_state state)
{
    if (plan->count == REPLAY_ITEMS) {
        char message[REPLAY_MESSAGE_SIZE];
        snprintf(message, sizeof message, "this names more than %d transfers: ask for them in several requests",
                 REPLAY_ITEMS);
        refuse(plan, message);
        return NULL;
    }
    if (plan->count == plan->capacity) {
        plan->capacity = plan->capacity == 0 ? 16 : 2 * plan->capacity;
        plan->items = reallocarray(plan->items, plan->capacity, sizeof plan->items[0]);
        plan->by_sequence = reallocarray(plan->by_sequence, plan->capacity, sizeof plan->by_sequence[0]);
        assert(plan->items != NULL && plan->by_sequence != NULL);
    }
    uint32_t *place = &plan->by_sequence[place_of(plan, sequence)];
    memmove(place + 1, place, (size_t)(plan->by_sequence + plan->count - place) * sizeof *place);
    *place = (uint32_t)plan->count;
    struct replay_item *item = &plan->items[plan->count++];
    memset(item, 0, sizeof *item);
    item->sequence = sequence;
    item->state = state;
    return item;
}

static void add_unknown(struct resolution *resolution, uint64_t first, uint64_t last)
{
    struct replay_item *item = find_item(resolution->plan, first);
    if (item == NULL)
        item = add_item(resolution->plan, first, REPLAY_UNKNOWN);
    if (item == NULL || item->state != REPLAY_UNKNOWN)
        return;
    bool is_new = first > resolution->source->newest_sequence;
    if (first == last)
        snprintf(item->message, sizeof item->message, "sequence %" PRIu64 " %s", first,
                 is_new ? "was not given out yet" : "is no longer known to this sender: drop its item again");
    else
        snprintf(item->message, sizeof item->message, "sequences %" PRIu64 " to %" PRIu64 " %s", first, last,
                 is_new ? "were not given out yet" : "are no longer known to this sender: drop their items again");
}

/* Whether what is asked of the transfer can be sent, and what to say about it. */
static enum replay_state judge(const struct resolution *resolution, const struct ledger_transfer *transfer,
                               const struct parts *parts, const char **message)
{
    *message = "";
    switch (transfer->state) {
    case LEDGER_CLAIMING:
    case LEDGER_CLAIMED:
    case LEDGER_SEALED:
        *message = "is still being sent for the first time and comes by itself";
        return REPLAY_IN_FLIGHT;
    case LEDGER_SENT:
        if (parts->manifest_only || resolution->source->is_kept(resolution->source->context, transfer))
            return REPLAY_QUEUED;
        *message = "was removed from .sent by somebody: drop it again";
        return REPLAY_NOT_RETAINED;
    case LEDGER_EXPIRED:
        *message = "is no longer retained ([replay] retain, retain_bytes, retain_free): drop it again";
        break;
    case LEDGER_FAILED:
    case LEDGER_RETURNED:
    case LEDGER_FORGOTTEN:
        *message = "was given up after it had its number, and is no longer there: drop it again";
        break;
    }
    return parts->manifest_only ? REPLAY_QUEUED : REPLAY_NOT_RETAINED;
}

/* The bytes that the item sends; false with a refused plan when it names chunks that the transfer does not have. */
static enum status measure(struct resolution *resolution, struct replay_item *item, uint64_t total_bytes)
{
    uint64_t *sizes = NULL;
    size_t count = 0;
    item->bytes = item->parts.manifest_only ? 0 : total_bytes;
    if (item->parts.range_count == 0)
        return STATUS_OK;
    enum status status = resolution->source->sizes(resolution->source->context, item->sequence, &sizes, &count);
    if (status != STATUS_OK)
        return status;
    uint64_t chunks = parts_chunk_count(sizes, count);
    item->bytes = parts_bytes(&item->parts, sizes, count);
    free(sizes);
    if (item->parts.ranges[item->parts.range_count - 1].last < chunks)
        return STATUS_OK;
    char message[REPLAY_MESSAGE_SIZE];
    snprintf(message, sizeof message,
             "a ticket names chunks that sequence %" PRIu64 " does not have: it is of another state of this sender",
             item->sequence);
    refuse(resolution->plan, message);
    return STATUS_OK;
}

static enum status add_transfer(struct resolution *resolution, const struct ledger_transfer *transfer,
                                const struct parts *parts)
{
    const char *message;
    struct replay_item *item = find_item(resolution->plan, transfer->sequence);
    bool is_new = item == NULL;
    if (is_new)
        item = add_item(resolution->plan, transfer->sequence, REPLAY_QUEUED);
    if (item == NULL)
        return STATUS_OK;
    if (is_new)
        item->parts = *parts;
    else
        parts_merge(&item->parts, parts);
    if (is_new)
        snprintf(item->name, sizeof item->name, "%s/%s", transfer->channel, transfer->name);
    item->state = judge(resolution, transfer, &item->parts, &message);
    snprintf(item->message, sizeof item->message, "%s", message);
    return measure(resolution, item, transfer->bytes);
}

/* Transfers [first, last] that were sent at `since_ns` or later; `gaps`: numbers in between without one are told. */
static enum status add_sequences(struct resolution *resolution, uint64_t first, uint64_t last, int64_t since_ns,
                                 bool gaps, const struct parts *parts)
{
    const struct replay_source *source = resolution->source;
    struct ledger_transfer transfer;
    uint64_t next = first;
    while (next <= last && resolution->plan->accepted) {
        enum status status = source->next(source->context, next - 1, since_ns, &transfer);
        if (status != STATUS_OK && status != STATUS_NOT_FOUND)
            return status;
        bool found = status == STATUS_OK && transfer.sequence <= last;
        uint64_t end = found ? transfer.sequence - 1 : last;
        /* Numbers that were never given out are told apart from those that are forgotten. */
        uint64_t known_end = end < source->newest_sequence ? end : source->newest_sequence;
        if (gaps && next <= known_end)
            add_unknown(resolution, next, known_end);
        if (gaps && end > known_end)
            add_unknown(resolution, next > known_end ? next : known_end + 1, end);
        if (!found)
            return STATUS_OK;
        status = add_transfer(resolution, &transfer, parts);
        if (status != STATUS_OK)
            return status;
        next = transfer.sequence + 1;
    }
    return STATUS_OK;
}

static void refuse_ticket(struct replay_plan *plan, const char *text, const char *why)
{
    char shown[SHOWN_SIZE], message[REPLAY_MESSAGE_SIZE];
    snprintf(message, sizeof message, "ticket %s: %s", printable_name(text, shown, sizeof shown), why);
    refuse(plan, message);
}

static enum status add_ticket(struct resolution *resolution, const char *text)
{
    struct ticket ticket;
    struct parts parts = {0};
    enum ticket_problem problem = ticket_parse(text, &ticket);
    if (problem != TICKET_GOOD) {
        refuse_ticket(resolution->plan, text, ticket_problem_text(problem));
        return STATUS_OK;
    }
    if (!ticket_is_of_chain(&ticket, resolution->source->chain_id)) {
        refuse_ticket(resolution->plan, text,
                      "is of another chain: it belongs to another sender, or to the state directory that this one had "
                      "before");
        return STATUS_OK;
    }
    parts.manifest_only = ticket.kind != TICKET_WHOLE;
    for (unsigned i = 0; i < ticket.range_count; i++)
        parts_add(&parts, ticket.ranges[i].first, ticket.ranges[i].last);
    return add_sequences(resolution, ticket.first_sequence, ticket.last_sequence, INT64_MIN, true, &parts);
}

static void summarize(struct replay_plan *plan)
{
    size_t others = 0;
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->items[i].state == REPLAY_QUEUED) {
            plan->queued++;
            plan->bytes += plan->items[i].bytes;
        } else {
            others++;
        }
    }
    if (plan->count == 0)
        snprintf(plan->message, sizeof plan->message, "nothing was sent that this asks for");
    else if (others > 0)
        snprintf(plan->message, sizeof plan->message, "%zu of %zu can be sent again", plan->queued, plan->count);
}

enum status replay_resolve(const struct request *request, const struct replay_source *source, struct replay_plan *plan)
{
    const struct parts everything = {0};
    enum status status = STATUS_OK;
    uint64_t newest = source->newest_sequence;
    *plan = (struct replay_plan){.accepted = true};
    struct resolution resolution = {.source = source, .plan = plan};
    if (request->kind != REQUEST_REPLAY) {
        refuse(plan, "a sender takes requests for replays only");
    } else if (request->ticket_count > 0) {
        for (size_t i = 0; i < request->ticket_count && status == STATUS_OK && plan->accepted; i++)
            status = add_ticket(&resolution, request->tickets[i]);
    } else if (request->first_sequence != 0) {
        status =
            add_sequences(&resolution, request->first_sequence, request->last_sequence, INT64_MIN, true, &everything);
    } else if (request->last_count != 0) {
        uint64_t first = request->last_count < newest ? newest - request->last_count + 1 : 1;
        status = add_sequences(&resolution, first, newest, INT64_MIN, false, &everything);
    } else {
        status = add_sequences(&resolution, 1, newest, request->since_ns, false, &everything);
    }
    if (status == STATUS_OK && plan->accepted)
        summarize(plan);
    return status;
}

void replay_plan_deinit(struct replay_plan *plan)
{
    free(plan->items);
    free(plan->by_sequence);
    *plan = (struct replay_plan){0};
}

double replay_seconds(const struct replay_plan *plan, const struct config *config)
{
    double wire_bits = (double)datagram_wire_bits(config->symbol_size, socket_address_is_ipv6(&config->peer));
    double symbols = (double)plan->bytes / config->symbol_size;
    double repair = symbols * config->repair_symbols / config->source_symbols;
    return (symbols + repair) * wire_bits / (double)config->rate_bits_per_s;
}

static const char *state_text(enum replay_state state)
{
    switch (state) {
    case REPLAY_QUEUED:
        return "queued";
    case REPLAY_IN_FLIGHT:
        return "in_flight";
    case REPLAY_NOT_RETAINED:
        return "not_retained";
    case REPLAY_UNKNOWN:
        break;
    }
    return "unknown";
}

char *replay_answer(const struct replay_plan *plan, const struct config *config)
{
    json_t *root = json_object(), *items = json_array();
    size_t told = plan->accepted ? plan->count : 0;
    told = told < REPLAY_ITEMS_ANSWERED ? told : REPLAY_ITEMS_ANSWERED;
    for (size_t i = 0; i < told; i++) {
        const struct replay_item *item = &plan->items[i];
        char name[sizeof item->name];
        json_array_append_new(items,
                              json_pack("{s:I, s:s, s:I, s:s, s:s}", "sequence", (json_int_t)item->sequence, "name",
                                        printable_name(item->name, name, sizeof name), "bytes", (json_int_t)item->bytes,
                                        "state", state_text(item->state), "message", item->message));
    }
    json_object_set_new(root, "accepted", json_boolean(plan->accepted));
    json_object_set_new(root, "message", json_string(plan->message));
    json_object_set_new(root, "transfers", json_integer((json_int_t)plan->queued));
    json_object_set_new(root, "bytes", json_integer((json_int_t)plan->bytes));
    json_object_set_new(root, "seconds", json_real(replay_seconds(plan, config)));
    json_object_set_new(root, "items", items);
    json_object_set_new(root, "left_out",
                        json_integer(plan->accepted ? (json_int_t)(plan->count - told) : (json_int_t)0));
    char *text = json_dumps(root, JSON_COMPACT);
    assert(text != NULL);
    json_decref(root);
    return text;
}

char *replay_what(const struct request *request, char what[static REPLAY_WHAT_SIZE])
{
    const char *how = request->now ? ", now" : "";
    char text[CLOCK_RFC3339_SIZE], shown[SHOWN_SIZE];
    if (request->ticket_count == 1)
        snprintf(what, REPLAY_WHAT_SIZE, "ticket %s%s", printable_name(request->tickets[0], shown, sizeof shown), how);
    else if (request->ticket_count > 1)
        snprintf(what, REPLAY_WHAT_SIZE, "%zu tickets, the first %s%s", request->ticket_count,
                 printable_name(request->tickets[0], shown, sizeof shown), how);
    else if (request->first_sequence != 0)
        snprintf(what, REPLAY_WHAT_SIZE, "sequences %" PRIu64 " to %" PRIu64 "%s", request->first_sequence,
                 request->last_sequence, how);
    else if (request->last_count != 0)
        snprintf(what, REPLAY_WHAT_SIZE, "the last %" PRIu64 "%s", request->last_count, how);
    else {
        clock_rfc3339(request->since_ns, text);
        snprintf(what, REPLAY_WHAT_SIZE, "sent since %s%s", text, how);
    }
    return what;
}
