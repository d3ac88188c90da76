// SPDX-License-Identifier: Apache-2.0
#include "receiver/acceptance.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/units.h"
#include "proto/ticket.h"

enum { MESSAGE_SIZE = 256 };

struct acceptance_item {
    bool good;
    struct ticket ticket;
    char message[MESSAGE_SIZE];
};

struct acceptance *acceptance_create(struct request *request)
{
    struct acceptance *acceptance = calloc(1, sizeof *acceptance);
    if (acceptance == NULL)
        return NULL;
    size_t count = request->ticket_count == 0 ? 1 : request->ticket_count;
    acceptance->items = calloc(count, sizeof *acceptance->items);
    acceptance->chains = calloc(count, sizeof *acceptance->chains);
    if (acceptance->items == NULL || acceptance->chains == NULL) {
        acceptance_destroy(acceptance);
        return NULL;
    }
    acceptance->errand.request = *request;
    *request = (struct request){0};
    return acceptance;
}

void acceptance_destroy(struct acceptance *acceptance)
{
    if (acceptance == NULL)
        return;
    request_deinit(&acceptance->errand.request);
    free(acceptance->items);
    free(acceptance->ranges);
    free(acceptance->transfers);
    free(acceptance->chains);
    free(acceptance);
}

/* Looking for what one ticket names. */
struct search {
    struct acceptance *acceptance;
    const struct ticket *ticket;
    struct catalog *catalog;
    struct knowledge *knowledge;
    uint64_t now_ns;
    const struct knowledge_chain *chain; /* whose numbers are looked at */
    bool knows_chain;
    uint64_t lost;        /* numbers found to be missing */
    uint64_t written_off; /* numbers of the ticket, or 1, that were accepted before */
    uint64_t alarms;
};

static const char *is_or_are(uint64_t count)
{
    return count == 1 ? "is" : "are";
}

static bool names(const struct search *search, const uint8_t *chain_id, uint64_t sequence)
{
    return ticket_is_of_chain(search->ticket, chain_id) && sequence >= search->ticket->first_sequence &&
           sequence <= search->ticket->last_sequence;
}

/* Makes room for one more element of a list; memory for so little is there, or nothing goes on. */
static void *grow(void *list, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return list;
    *capacity = *capacity == 0 ? 16 : 2 * *capacity;
    void *grown = realloc(list, *capacity * size);
    assert(grown != NULL);
    return grown;
}

static void add_range(struct search *search, const uint8_t *chain_id, uint64_t first, uint64_t last)
{
    struct acceptance *acceptance = search->acceptance;
    acceptance->ranges =
        grow(acceptance->ranges, acceptance->range_count, &acceptance->range_capacity, sizeof *acceptance->ranges);
    struct ledger_write_off *range = &acceptance->ranges[acceptance->range_count++];
    *range = (struct ledger_write_off){.first = first, .last = last};
    memcpy(range->chain_id, chain_id, CHAIN_ID_SIZE);
    search->lost += last - first + 1;
}

static void add_transfer(struct search *search, const struct assembly *assembly)
{
    struct acceptance *acceptance = search->acceptance;
    acceptance->transfers = grow(acceptance->transfers, acceptance->transfer_count, &acceptance->transfer_capacity,
                                 sizeof *acceptance->transfers);
    struct ledger_key *key = &acceptance->transfers[acceptance->transfer_count++];
    key->sender_id = assembly->sender_id;
    memcpy(key->transfer_id, assembly->id, TRANSFER_ID_SIZE);
}

static void look_at_range(const struct knowledge_chain *chain, uint64_t first, uint64_t last, void *context)
{
    struct search *search = context;
    const struct ticket *ticket = search->ticket;
    if (chain != search->chain || last < ticket->first_sequence || first > ticket->last_sequence)
        return;
    add_range(search, chain->chain_id, first > ticket->first_sequence ? first : ticket->first_sequence,
              last < ticket->last_sequence ? last : ticket->last_sequence);
}

static void look_at_chain(const struct knowledge_chain *chain, void *context)
{
    struct search *search = context;
    if (!ticket_is_of_chain(search->ticket, chain->chain_id))
        return;
    search->knows_chain = true;
    search->written_off += knowledge_is_written_off(search->knowledge, chain->chain_id, search->ticket->first_sequence);
    search->written_off += knowledge_is_written_off(search->knowledge, chain->chain_id, search->ticket->last_sequence);
}

static void look_for_numbers(const struct knowledge_chain *chain, void *context)
{
    struct search *search = context;
    if (!ticket_is_of_chain(search->ticket, chain->chain_id))
        return;
    search->chain = chain;
    knowledge_each_never_seen(search->knowledge, chain->sender_id, search->now_ns, look_at_range, search);
}

static void look_at_transfer(struct assembly *assembly, void *context)
{
    struct search *search = context;
    if (assembly->state != ASSEMBLY_OPEN)
        return;
    if (assembly->reader != NULL) {
        if (!assembly->incomplete || !names(search, assembly->chain_id, assembly->sequence))
            return;
        add_range(search, assembly->chain_id, assembly->sequence, assembly->sequence);
        add_transfer(search, assembly);
        return;
    }
    uint64_t sequence = knowledge_lost_manifest(search->knowledge, assembly->sender_id, assembly->id, search->now_ns);
    const struct knowledge_chain *chain = knowledge_chain_of(search->knowledge, assembly->sender_id);
    if (sequence != 0 && names(search, chain->chain_id, sequence))
        add_transfer(search, assembly); /* its number is among those never seen */
}

static void look_at_alarm(const struct knowledge_alarm *alarm, void *context)
{
    struct search *search = context;
    struct acceptance *acceptance = search->acceptance;
    const struct ticket *ticket = search->ticket;
    if (!ticket_is_of_chain(ticket, alarm->chain_id) || alarm->last < ticket->first_sequence ||
        alarm->first > ticket->last_sequence)
        return;
    search->alarms++;
    for (size_t i = 0; i < acceptance->chain_count; i++)
        if (memcmp(acceptance->chains[i], alarm->chain_id, CHAIN_ID_SIZE) == 0)
            return;
    if (acceptance->chain_count < acceptance->errand.request.ticket_count)
        memcpy(acceptance->chains[acceptance->chain_count++], alarm->chain_id, CHAIN_ID_SIZE);
}

static void decide_ticket(struct search *search, const char *text, struct acceptance_item *item)
{
    enum ticket_problem problem = ticket_parse(text, &item->ticket);
    if (problem != TICKET_GOOD) {
        snprintf(item->message, sizeof item->message, "%s", ticket_problem_text(problem));
        return;
    }
    search->ticket = &item->ticket;
    knowledge_each_chain(search->knowledge, look_at_chain, search);
    if (!search->knows_chain) {
        snprintf(item->message, sizeof item->message, "names a chain that this receiver has not heard of");
        return;
    }
    knowledge_each_chain(search->knowledge, look_for_numbers, search);
    catalog_each(search->catalog, look_at_transfer, search);
    knowledge_each_alarm(search->knowledge, look_at_alarm, search);
    item->good = search->lost + search->alarms + search->written_off > 0;
    if (search->lost > 0 && search->alarms > 0)
        snprintf(item->message, sizeof item->message, "%llu transfer%s %s written off, and the alarm is over",
                 (unsigned long long)search->lost, units_plural(search->lost), is_or_are(search->lost));
    else if (search->lost > 0)
        snprintf(item->message, sizeof item->message, "%llu transfer%s %s written off",
                 (unsigned long long)search->lost, units_plural(search->lost), is_or_are(search->lost));
    else if (search->alarms > 0)
        snprintf(item->message, sizeof item->message, "the alarm is over");
    else if (item->good)
        snprintf(item->message, sizeof item->message, "was written off before");
    else
        snprintf(item->message, sizeof item->message,
                 "nothing of it is missing: it was delivered, or is still on its way, and no alarm names it");
}

void acceptance_decide(struct acceptance *acceptance, struct catalog *catalog, struct knowledge *knowledge,
                       uint64_t now_ns)
{
    const struct request *request = &acceptance->errand.request;
    size_t bad = 0;
    uint64_t lost = 0;
    acceptance->errand.decided = true;
    for (size_t i = 0; i < request->ticket_count; i++) {
        struct search search = {.acceptance = acceptance, .catalog = catalog, .knowledge = knowledge, .now_ns = now_ns};
        decide_ticket(&search, request->tickets[i], &acceptance->items[i]);
        bad += !acceptance->items[i].good;
        lost += search.lost;
    }
    acceptance->accepted = bad == 0 && request->ticket_count > 0;
    if (acceptance->accepted) {
        snprintf(acceptance->errand.message, sizeof acceptance->errand.message, "%llu transfer%s %s written off",
                 (unsigned long long)lost, units_plural(lost), is_or_are(lost));
        return;
    }
    acceptance->range_count = acceptance->transfer_count = acceptance->chain_count = 0;
    snprintf(acceptance->errand.message, sizeof acceptance->errand.message,
             "nothing was written off, because %zu of %zu tickets can't be accepted", bad, request->ticket_count);
}

bool acceptance_changes(const struct acceptance *acceptance)
{
    return acceptance->accepted && acceptance->range_count + acceptance->chain_count > 0;
}

static enum status record_audit(const struct acceptance *acceptance)
{
    size_t count = acceptance->range_count + acceptance->chain_count;
    struct audit_entry *entries = calloc(count, sizeof *entries);
    if (entries == NULL)
        return status_from_errno(ENOMEM);
    size_t used = 0;
    char detail[REQUEST_REASON_SIZE + 32];
    snprintf(detail, sizeof detail, "acknowledged: %s", acceptance->errand.request.reason);
    for (size_t i = 0; i < acceptance->range_count; i++)
        entries[used++] = (struct audit_entry){.event = AUDIT_WRITTEN_OFF,
                                               .chain_id = acceptance->ranges[i].chain_id,
                                               .sequence = acceptance->ranges[i].first,
                                               .last_sequence = acceptance->ranges[i].last,
                                               .actor = acceptance->errand.request.requester,
                                               .detail = acceptance->errand.request.reason};
    for (size_t i = 0; i < acceptance->chain_count; i++)
        entries[used++] = (struct audit_entry){.event = AUDIT_ALARM,
                                               .chain_id = acceptance->chains[i],
                                               .actor = acceptance->errand.request.requester,
                                               .detail = detail};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < used && status == STATUS_OK; i += AUDIT_BATCH)
        status = audit_record(acceptance->audit, entries + i, used - i < AUDIT_BATCH ? used - i : AUDIT_BATCH);
    free(entries);
    return status;
}

enum status acceptance_record(struct publish_job *job, struct ledger *ledger)
{
    const struct acceptance *acceptance = job->acceptance;
    enum status status = record_audit(acceptance);
    if (status != STATUS_OK)
        return status;
    return ledger_write_off(ledger, acceptance->ranges, acceptance->range_count,
                            (const uint8_t(*)[CHAIN_ID_SIZE])acceptance->chains, acceptance->chain_count,
                            acceptance->errand.request.requester, acceptance->errand.request.reason,
                            clock_realtime_ns());
}

void acceptance_apply(struct acceptance *acceptance, enum status recorded, struct catalog *catalog,
                      struct knowledge *knowledge)
{
    if (recorded != STATUS_OK) {
        acceptance->accepted = false;
        snprintf(acceptance->errand.message, sizeof acceptance->errand.message,
                 "nothing was written off: it can't be recorded in the state directory; see the receiver's log");
        return;
    }
    for (size_t i = 0; i < acceptance->range_count; i++)
        (void)knowledge_write_off(knowledge, acceptance->ranges[i].chain_id, acceptance->ranges[i].first,
                                  acceptance->ranges[i].last);
    for (size_t i = 0; i < acceptance->chain_count; i++)
        knowledge_clear_alarms(knowledge, acceptance->chains[i]);
    for (size_t i = 0; i < acceptance->transfer_count; i++) {
        const struct ledger_key *key = &acceptance->transfers[i];
        struct assembly *assembly = catalog_find(catalog, key->sender_id, key->transfer_id);
        /* What has become complete meanwhile is delivered. */
        if (assembly != NULL && assembly->state == ASSEMBLY_OPEN)
            catalog_close(catalog, assembly, CATALOG_WRITTEN_OFF);
    }
}

char *acceptance_answer(const struct acceptance *acceptance)
{
    json_t *items = json_array();
    for (size_t i = 0; i < acceptance->errand.request.ticket_count; i++)
        json_array_append_new(items,
                              json_pack("{s:s, s:b, s:s}", "ticket", acceptance->errand.request.tickets[i], "accepted",
                                        acceptance->items[i].good, "message", acceptance->items[i].message));
    json_t *root = json_pack("{s:b, s:s, s:o}", "accepted", acceptance->accepted, "message", acceptance->errand.message,
                             "items", items);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}
