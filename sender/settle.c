// SPDX-License-Identifier: Apache-2.0
#include "sender/settle.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"

enum { BUCKETS_MIN = 1024, MESSAGE_SIZE = 400 };

#define NEVER          UINT64_MAX
#define RETRY_MIN_NS   UINT64_C(100000000)
#define RETRY_MAX_NS   UINT64_C(5000000000)
#define BLOCKED_MIN_NS UINT64_C(2000000000)
#define BLOCKED_MAX_NS UINT64_C(60000000000)

struct entry {
    struct settle_item item;
    struct entry *next; /* in its bucket */
    uint64_t quiet_since_ns;
    uint64_t not_before_ns; /* of the next try, after one that failed */
    uint64_t blocked_ns;    /* interval of tries while blocked, else 0 */
    uint64_t due_ns;
    bool marked;
    bool unapproved;    /* not to be tried before its approvals change, or a scan comes */
    bool approval_came; /* while out */
    bool out;           /* being tried */
    bool touched;       /* while out */
    bool renewed;       /* while out another item of that name appeared, ... */
    enum settle_how renewed_how;
    bool renewed_tree;
    bool seen; /* by the scan under way */
    char *message;
};

struct settle {
    uint64_t settle_ns, settle_tree_ns;
    bool frozen;
    size_t count, bucket_count;
    struct entry **buckets;
};

struct settle *settle_create(uint64_t settle_ns, uint64_t settle_tree_ns)
{
    struct settle *settle = calloc(1, sizeof *settle);
    assert(settle != NULL);
    *settle = (struct settle){.settle_ns = settle_ns, .settle_tree_ns = settle_tree_ns, .bucket_count = BUCKETS_MIN};
    settle->buckets = calloc(settle->bucket_count, sizeof *settle->buckets);
    assert(settle->buckets != NULL);
    return settle;
}

static void destroy_entry(struct entry *entry)
{
    free(entry->message);
    free(entry);
}

void settle_destroy(struct settle *settle)
{
    if (settle == NULL)
        return;
    for (size_t i = 0; i < settle->bucket_count; i++) {
        while (settle->buckets[i] != NULL) {
            struct entry *next = settle->buckets[i]->next;
            destroy_entry(settle->buckets[i]);
            settle->buckets[i] = next;
        }
    }
    free(settle->buckets);
    free(settle);
}

void settle_freeze(struct settle *settle)
{
    settle->frozen = true;
}

static size_t bucket_of(const struct settle *settle, const char *channel, const char *name)
{
    uint64_t hash = checksum64(name, strlen(name)) + 31 * checksum64(channel, strlen(channel));
    return (size_t)(hash % settle->bucket_count);
}

/* Where the link to the entry is, or to where it would go. */
static struct entry **find(const struct settle *settle, const char *channel, const char *name)
{
    struct entry **link = &settle->buckets[bucket_of(settle, channel, name)];
    while (*link != NULL && (strcmp((*link)->item.name, name) != 0 || strcmp((*link)->item.channel, channel) != 0))
        link = &(*link)->next;
    return link;
}

static void grow(struct settle *settle)
{
    struct entry **old = settle->buckets;
    size_t old_count = settle->bucket_count;
    settle->bucket_count *= 4;
    settle->buckets = calloc(settle->bucket_count, sizeof *settle->buckets);
    assert(settle->buckets != NULL);
    for (size_t i = 0; i < old_count; i++) {
        for (struct entry *entry = old[i], *next; entry != NULL; entry = next) {
            next = entry->next;
            struct entry **head = &settle->buckets[bucket_of(settle, entry->item.channel, entry->item.name)];
            entry->next = *head;
            *head = entry;
        }
    }
    free(old);
}

static struct entry *insert(struct settle *settle, const struct settle_item *item)
{
    if (settle->count == settle->bucket_count)
        grow(settle);
    struct entry *entry = calloc(1, sizeof *entry);
    assert(entry != NULL);
    entry->item = *item;
    struct entry **head = &settle->buckets[bucket_of(settle, item->channel, item->name)];
    entry->next = *head;
    *head = entry;
    settle->count++;
    return entry;
}

static void unlink_entry(struct settle *settle, struct entry **link)
{
    struct entry *entry = *link;
    *link = entry->next;
    destroy_entry(entry);
    settle->count--;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* When the entry may be tried, by its channel's rule. */
static uint64_t due_ns(const struct settle *settle, const struct entry *entry)
{
    const struct settle_item *item = &entry->item;
    uint64_t quiet_ns = item->tree ? settle->settle_tree_ns : settle->settle_ns;
    if (entry->out || entry->unapproved)
        return NEVER;
    if (item->how != SETTLE_RETURNED) {
        if (item->rule->complete == CONFIG_COMPLETE_MARKER)
            return entry->marked ? entry->not_before_ns : NEVER;
        if (item->rule->complete == CONFIG_COMPLETE_RENAME && item->how == SETTLE_CREATED)
            return NEVER;
        if (item->how == SETTLE_MOVED)
            return later(entry->quiet_since_ns, entry->not_before_ns);
    }
    return later(entry->quiet_since_ns + quiet_ns, entry->not_before_ns);
}

static void reset(const struct settle *settle, struct entry *entry)
{
    entry->due_ns = due_ns(settle, entry);
}

static void unblock(struct entry *entry)
{
    entry->blocked_ns = 0;
    entry->unapproved = false;
    free(entry->message);
    entry->message = NULL;
}

/* The entry stands for a new item of the same name. */
static void renew(struct entry *entry, enum settle_how how, bool tree, uint64_t now_ns)
{
    unblock(entry);
    entry->item.how = how;
    entry->item.tree = tree;
    entry->item.has_fingerprint = false;
    entry->quiet_since_ns = now_ns;
    entry->not_before_ns = 0;
    entry->renewed = false;
    entry->touched = false;
}

static void see_again(struct settle *settle, struct entry *entry, const struct settle_item *seen, uint64_t now_ns)
{
    if (seen->how != SETTLE_FOUND) {
        if (entry->out) {
            entry->renewed = true;
            entry->renewed_how = seen->how;
            entry->renewed_tree = seen->tree;
            return;
        }
        renew(entry, seen->how, seen->tree, now_ns);
    }
    if (entry->out)
        return;
    entry->unapproved = false;
    entry->item.watched = seen->watched;
    entry->item.bytes = seen->bytes;
    if (seen->has_fingerprint) {
        if (entry->item.has_fingerprint && entry->item.fingerprint != seen->fingerprint)
            entry->quiet_since_ns = now_ns;
        entry->item.has_fingerprint = true;
        entry->item.fingerprint = seen->fingerprint;
    }
    reset(settle, entry);
}

void settle_see(struct settle *settle, const struct settle_item *seen, uint64_t age_ns, uint64_t now_ns)
{
    struct entry *entry = *find(settle, seen->channel, seen->name);
    if (entry == NULL) {
        if (settle->frozen)
            return;
        entry = insert(settle, seen);
        entry->quiet_since_ns = now_ns > age_ns ? now_ns - age_ns : 0;
        reset(settle, entry);
    } else {
        see_again(settle, entry, seen, now_ns);
    }
    entry->seen = true;
}

bool settle_touch(struct settle *settle, const char *channel, const char *name, bool closed, uint64_t now_ns)
{
    struct entry *entry = *find(settle, channel, name);
    if (entry == NULL)
        return false;
    if (entry->out) {
        entry->touched = true;
        return true;
    }
    entry->quiet_since_ns = now_ns;
    if (entry->item.watched)
        entry->item.has_fingerprint = false; /* events are what counts, and the next look makes a new one */
    if (closed && entry->blocked_ns == 0)
        entry->not_before_ns = 0;
    reset(settle, entry);
    return true;
}

void settle_forget(struct settle *settle, const char *channel, const char *name)
{
    struct entry **link = find(settle, channel, name);
    if (*link == NULL)
        return;
    if ((*link)->out)
        (*link)->renewed = false;
    else
        unlink_entry(settle, link);
}

/* Drops entries of `channel` (NULL: of all) that are not out, or, with `unseen`, only those the scan did not see. */
static void sweep(struct settle *settle, const char *channel, bool unseen)
{
    for (size_t i = 0; i < settle->bucket_count; i++) {
        for (struct entry **link = &settle->buckets[i]; *link != NULL;) {
            struct entry *entry = *link;
            bool drop = !entry->out && (channel == NULL || strcmp(entry->item.channel, channel) == 0) &&
                        !(unseen && entry->seen);
            if (drop)
                unlink_entry(settle, link);
            else
                link = &entry->next;
        }
    }
}

void settle_forget_channel(struct settle *settle, const char *channel)
{
    sweep(settle, channel, false);
}

void settle_scan_begin(struct settle *settle)
{
    for (size_t i = 0; i < settle->bucket_count; i++)
        for (struct entry *entry = settle->buckets[i]; entry != NULL; entry = entry->next)
            entry->seen = false;
}

void settle_scan_end(struct settle *settle)
{
    sweep(settle, NULL, true);
}

void settle_mark(struct settle *settle, const char *channel, const char *name, bool present, uint64_t now_ns)
{
    struct entry *entry = *find(settle, channel, name);
    if (entry == NULL)
        return;
    if (present && entry->blocked_ns == 0)
        entry->not_before_ns = now_ns;
    entry->marked = present;
    reset(settle, entry);
}

void settle_approval(struct settle *settle, const char *channel, const char *name, uint64_t now_ns)
{
    struct entry *entry = *find(settle, channel, name);
    if (entry == NULL)
        return;
    entry->approval_came = entry->out;
    entry->unapproved = false;
    entry->not_before_ns = now_ns; /* also of one that is blocked: by approvals that were not whole yet, perhaps */
    reset(settle, entry);
}

/* The later an entry is due, the nearer to the root: what is replaced first is on top. */
static void sift_down(struct entry **heap, size_t count)
{
    for (size_t i = 0;;) {
        size_t latest = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < count; child++)
            if (heap[child]->due_ns > heap[latest]->due_ns)
                latest = child;
        if (latest == i)
            return;
        struct entry *moved = heap[i];
        heap[i] = heap[latest];
        heap[latest] = moved;
        i = latest;
    }
}

static void sift_up(struct entry **heap, size_t i)
{
    while (i > 0 && heap[(i - 1) / 2]->due_ns < heap[i]->due_ns) {
        struct entry *moved = heap[i];
        heap[i] = heap[(i - 1) / 2];
        heap[(i - 1) / 2] = moved;
        i = (i - 1) / 2;
    }
}

/* Up to `capacity` entries of one priority that may be tried, those that are due longest; in no order. */
static size_t find_due(const struct settle *settle, enum config_priority priority, uint64_t now_ns, struct entry **heap,
                       size_t capacity)
{
    size_t count = 0;
    for (size_t i = 0; i < settle->bucket_count && capacity > 0; i++) {
        for (struct entry *entry = settle->buckets[i]; entry != NULL; entry = entry->next) {
            if (entry->item.rule->priority != priority || entry->due_ns > now_ns)
                continue;
            if (count < capacity) {
                heap[count] = entry;
                sift_up(heap, count++);
            } else if (entry->due_ns < heap[0]->due_ns) {
                heap[0] = entry;
                sift_down(heap, count);
            }
        }
    }
    return count;
}

static int compare_due(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;
    return (x->due_ns > y->due_ns) - (x->due_ns < y->due_ns);
}

size_t settle_take(struct settle *settle, uint64_t now_ns, const size_t room[static CONFIG_PRIORITY_COUNT],
                   struct settle_item *items, size_t capacity)
{
    size_t count = 0;
    struct entry **due = calloc(capacity, sizeof(struct entry *));
    assert(due != NULL);
    for (int priority = 0; priority < CONFIG_PRIORITY_COUNT; priority++) {
        size_t left = capacity - count;
        size_t taken = find_due(settle, (enum config_priority)priority, now_ns, due,
                                room[priority] < left ? room[priority] : left);
        if (taken > 0)
            qsort(due, taken, sizeof(struct entry *), compare_due);
        for (size_t i = 0; i < taken; i++) {
            due[i]->out = true;
            due[i]->touched = false;
            due[i]->renewed = false;
            due[i]->approval_came = false;
            due[i]->due_ns = NEVER;
            items[count++] = due[i]->item;
        }
    }
    free(due);
    return count;
}

uint64_t settle_next_ns(const struct settle *settle)
{
    uint64_t next_ns = NEVER;
    for (size_t i = 0; i < settle->bucket_count; i++)
        for (const struct entry *entry = settle->buckets[i]; entry != NULL; entry = entry->next)
            if (entry->due_ns < next_ns)
                next_ns = entry->due_ns;
    return next_ns;
}

enum settle_verdict settle_judge(const struct settle_item *item, const struct probe *probe, int64_t marker_ctime_ns)
{
    bool by_quiet =
        item->how == SETTLE_RETURNED || (item->rule->complete != CONFIG_COMPLETE_MARKER && item->how != SETTLE_MOVED);
    if (probe->tree != item->tree)
        return SETTLE_CHANGED;
    if (probe->writers == PROBE_WRITER)
        return SETTLE_BUSY;
    if (by_quiet) {
        if (item->has_fingerprint ? item->fingerprint != probe->fingerprint : !item->watched)
            return SETTLE_CHANGED;
        return SETTLE_TAKE;
    }
    if (item->rule->complete == CONFIG_COMPLETE_MARKER) {
        if (marker_ctime_ns == INT64_MIN)
            return SETTLE_UNMARKED;
        /* A marker left from an earlier item of that name does not speak for this one. */
        return marker_ctime_ns < probe->root_ctime_ns ? SETTLE_UNMARKED : SETTLE_TAKE;
    }
    return probe->writers == PROBE_UNKNOWN ? SETTLE_UNSURE : SETTLE_TAKE;
}

/* How long until a busy or refused item is looked at again. */
static uint64_t retry_ns(const struct settle *settle, const struct entry *entry)
{
    uint64_t quiet_ns = entry->item.tree ? settle->settle_tree_ns : settle->settle_ns;
    return quiet_ns < RETRY_MIN_NS ? RETRY_MIN_NS : quiet_ns > RETRY_MAX_NS ? RETRY_MAX_NS : quiet_ns;
}

static void set_message(struct entry *entry, const char *message)
{
    entry->message = strndup(message, MESSAGE_SIZE);
    assert(entry->message != NULL);
}

static void block(struct entry *entry, const char *message, uint64_t now_ns)
{
    uint64_t interval_ns = entry->blocked_ns == 0 ? BLOCKED_MIN_NS : 2 * entry->blocked_ns;
    unblock(entry);
    entry->blocked_ns = interval_ns > BLOCKED_MAX_NS ? BLOCKED_MAX_NS : interval_ns;
    entry->not_before_ns = entry->approval_came ? now_ns : now_ns + entry->blocked_ns;
    set_message(entry, message);
}

/* The item stays: says when it is tried next. */
static void put_back(const struct settle *settle, struct entry *entry, enum settle_verdict verdict,
                     const struct probe *probe, const char *message, uint64_t now_ns)
{
    if (verdict != SETTLE_BLOCKED)
        unblock(entry);
    if (entry->touched)
        entry->quiet_since_ns = now_ns;
    if (probe != NULL)
        entry->item.bytes = probe->bytes;
    switch (verdict) {
    case SETTLE_CHANGED:
        assert(probe != NULL);
        entry->item.tree = probe->tree;
        entry->item.has_fingerprint = true;
        entry->item.fingerprint = probe->fingerprint;
        entry->quiet_since_ns = now_ns;
        break;
    case SETTLE_UNSURE:
        assert(probe != NULL);
        entry->item.how = SETTLE_FOUND;
        entry->item.has_fingerprint = true;
        entry->item.fingerprint = probe->fingerprint;
        entry->quiet_since_ns = now_ns;
        break;
    case SETTLE_UNMARKED:
        entry->marked = false;
        break;
    case SETTLE_UNAPPROVED:
        entry->unapproved = !entry->approval_came;
        set_message(entry, message);
        break;
    case SETTLE_BLOCKED:
        block(entry, message, now_ns);
        break;
    default:
        entry->not_before_ns = now_ns + retry_ns(settle, entry);
        break;
    }
}

bool settle_done(struct settle *settle, const struct settle_item *item, enum settle_verdict verdict,
                 const struct probe *probe, const char *message, uint64_t now_ns)
{
    struct entry **link = find(settle, item->channel, item->name);
    struct entry *entry = *link;
    assert(entry != NULL && entry->out);
    bool blocked = entry->blocked_ns != 0;
    entry->out = false;
    if (entry->renewed) {
        renew(entry, entry->renewed_how, entry->renewed_tree, now_ns);
    } else if (verdict == SETTLE_TAKE || verdict == SETTLE_GONE) {
        unlink_entry(settle, link);
        return false;
    } else {
        put_back(settle, entry, verdict, probe, message, now_ns);
    }
    reset(settle, entry);
    return !blocked && entry->blocked_ns != 0;
}

bool settle_expect(struct settle *settle, const struct settle_item *item)
{
    if (*find(settle, item->channel, item->name) != NULL)
        return false;
    struct entry *entry = insert(settle, item);
    entry->out = true;
    entry->seen = true;
    reset(settle, entry);
    return true;
}

void settle_returned(struct settle *settle, const struct settle_item *item, uint64_t now_ns)
{
    struct entry *entry = *find(settle, item->channel, item->name);
    assert(entry != NULL && entry->out);
    entry->out = false;
    renew(entry, SETTLE_RETURNED, item->tree, now_ns);
    entry->item.watched = item->watched;
    reset(settle, entry);
}

/* What an item waits for that time alone does not bring; NULL when it is only time. */
static const char *waits_for(const struct entry *entry)
{
    const struct settle_item *item = &entry->item;
    if (entry->blocked_ns != 0 || entry->unapproved)
        return entry->message;
    if (entry->out || item->how == SETTLE_RETURNED)
        return NULL;
    if (item->rule->complete == CONFIG_COMPLETE_MARKER && !entry->marked)
        return "waits for its marker: create or touch the file of its name with \".ready\" behind";
    if (item->rule->complete == CONFIG_COMPLETE_RENAME && item->how == SETTLE_CREATED)
        return "was written in place, and the channel has \"complete = rename\": rename it to a hidden name and back";
    return NULL;
}

void settle_totals(const struct settle *settle, struct settle_totals *totals)
{
    *totals = (struct settle_totals){0};
    for (size_t i = 0; i < settle->bucket_count; i++) {
        for (const struct entry *entry = settle->buckets[i]; entry != NULL; entry = entry->next) {
            totals->count++;
            totals->bytes += entry->item.bytes;
            totals->blocked += entry->blocked_ns != 0;
            totals->pending += waits_for(entry) == NULL;
        }
    }
}

void settle_each_waiting(const struct settle *settle,
                         void (*visit)(const struct settle_item *item, bool blocked, const char *message,
                                       void *context),
                         void *context)
{
    for (size_t i = 0; i < settle->bucket_count; i++) {
        for (const struct entry *entry = settle->buckets[i]; entry != NULL; entry = entry->next) {
            const char *message = waits_for(entry);
            if (message != NULL)
                visit(&entry->item, entry->blocked_ns != 0, message, context);
        }
    }
}
