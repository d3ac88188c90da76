// SPDX-License-Identifier: Apache-2.0
#include "sender/train.h"

#include <assert.h>
#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/ring.h"

enum {
    SLOTS = 6,
    SLOT_SHIFT = 8, /* user data: slot, then message */
    BACK_OFF_MIN_MS = 1,
    BACK_OFF_MAX_MS = 100,
    TOO_LONG_BACK_OFF_MS = 1000,
    LOG_INTERVAL_S = 10,
    SEGMENT_AGAIN_MIN_S = 10, /* until segmentation is tried again; doubles up to: */
    SEGMENT_AGAIN_MAX_S = 640,
    DATAGRAM_MAX = DATAGRAM_HEADER_SIZE + LIMIT_SYMBOL_SIZE,
};

_Static_assert(SLOTS << SLOT_SHIFT <= TRAIN_USER_DATA_LIMIT, "slots and messages fit the user data");
_Static_assert(TRAIN_DATAGRAMS <= 1 << SLOT_SHIFT, "messages fit the user data");

struct slot {
    bool busy;
    bool lossy;
    bool segmented;
    uint16_t symbol_size;
    unsigned count;         /* datagrams */
    unsigned message_count; /* 1 when segmented, else count */
    unsigned unsent;        /* messages that have not left */
    uint64_t failed;        /* set of messages to be tried again at retry_ns */
    uint64_t retry_ns;
    unsigned *under_way;
    uint8_t headers[TRAIN_DATAGRAMS][DATAGRAM_HEADER_SIZE];
    uint8_t *sealed; /* TRAIN_BYTES for encrypted symbols, or NULL */
    struct iovec parts[2 * TRAIN_DATAGRAMS];
    struct msghdr messages[TRAIN_DATAGRAMS];
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
};

struct train_yard {
    struct io_uring *ring;
    int fd;
    const struct socket_address *to;
    struct linkkey *key;
    bool segmentation;
    uint64_t segment_again_ns; /* when it is off: when to try it again */
    unsigned segment_again_s;  /* 0: it has worked since it was last refused */
    unsigned submitted;        /* calls that the kernel has */
    struct slot *filling;
    unsigned back_off_ms;
    bool failing; /* the newest call was refused, and said so */
    struct log_limit error_limit, too_long_limit;
    struct train_counters counters;
    struct slot slots[SLOTS];
};

struct train_yard *train_create(struct io_uring *ring, int fd, const struct socket_address *to, struct linkkey *key)
{
    struct train_yard *yard = calloc(1, sizeof *yard);
    assert(yard != NULL);
    yard->ring = ring;
    yard->fd = fd;
    yard->to = to;
    yard->key = key;
    yard->segmentation = true;
    yard->error_limit.interval_ns = yard->too_long_limit.interval_ns = LOG_INTERVAL_S * CLOCK_SECOND_NS;
    for (unsigned i = 0; key != NULL && i < SLOTS; i++) {
        yard->slots[i].sealed = malloc(TRAIN_BYTES);
        assert(yard->slots[i].sealed != NULL);
    }
    return yard;
}

void train_destroy(struct train_yard *yard)
{
    if (yard == NULL)
        return;
    for (unsigned i = 0; i < SLOTS; i++)
        free(yard->slots[i].sealed);
    free(yard);
}

unsigned train_limit(uint16_t symbol_size)
{
    unsigned limit = TRAIN_BYTES / (DATAGRAM_HEADER_SIZE + (unsigned)symbol_size);
    return limit < TRAIN_DATAGRAMS ? limit : TRAIN_DATAGRAMS;
}

bool train_begin(struct train_yard *yard, uint16_t symbol_size, bool lossy, unsigned *under_way)
{
    assert(yard->filling == NULL);
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *slot = &yard->slots[i];
        if (slot->busy)
            continue;
        slot->busy = true;
        slot->lossy = lossy;
        slot->symbol_size = symbol_size;
        slot->count = 0;
        slot->under_way = under_way;
        ++*under_way;
        yard->filling = slot;
        return true;
    }
    return false;
}

void train_add(struct train_yard *yard, const struct datagram *datagram, const uint8_t *symbol)
{
    struct slot *slot = yard->filling;
    assert(slot != NULL && slot->count < train_limit(slot->symbol_size) && datagram->symbol_size == slot->symbol_size);
    uint8_t *header = slot->headers[slot->count];
    uint8_t *sealed = NULL;
    if (yard->key != NULL)
        sealed = slot->sealed + (size_t)slot->count * slot->symbol_size;
    datagram_write(header, datagram);
    if (sealed == NULL)
        datagram_tag(header, datagram->symbol_hash);
    else
        datagram_seal(header, symbol, sealed, slot->symbol_size, yard->key);
    slot->parts[2 * slot->count] = (struct iovec){.iov_base = header, .iov_len = DATAGRAM_HEADER_SIZE};
    slot->parts[2 * slot->count + 1] = (struct iovec){
        .iov_base = sealed != NULL ? sealed : (uint8_t *)(uintptr_t)symbol, .iov_len = slot->symbol_size};
    slot->count++;
}

static void fill_message(const struct train_yard *yard, struct slot *slot, unsigned first, unsigned count,
                         struct msghdr *message)
{
    *message = (struct msghdr){.msg_name = (void *)(uintptr_t)&yard->to->storage,
                               .msg_namelen = yard->to->size,
                               .msg_iov = &slot->parts[2 * first],
                               .msg_iovlen = 2 * (size_t)count};
    if (count == 1)
        return;
    uint16_t segment = (uint16_t)(DATAGRAM_HEADER_SIZE + slot->symbol_size);
    message->msg_control = slot->control;
    message->msg_controllen = sizeof slot->control;
    struct cmsghdr *control = CMSG_FIRSTHDR(message);
    control->cmsg_level = SOL_UDP;
    control->cmsg_type = UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(control), &segment, sizeof segment);
}

static void submit(struct train_yard *yard, struct slot *slot, unsigned message)
{
    struct io_uring_sqe *sqe = ring_sqe(yard->ring);
    io_uring_prep_sendmsg(sqe, yard->fd, &slot->messages[message], 0);
    io_uring_sqe_set_data64(sqe, (uint64_t)(slot - yard->slots) << SLOT_SHIFT | message);
    yard->submitted++;
}

static void launch(struct train_yard *yard, struct slot *slot)
{
    slot->segmented = yard->segmentation && slot->count > 1;
    slot->message_count = slot->segmented ? 1 : slot->count;
    slot->unsent = slot->message_count;
    slot->failed = 0;
    for (unsigned i = 0; i < slot->message_count; i++) {
        fill_message(yard, slot, i, slot->segmented ? slot->count : 1, &slot->messages[i]);
        submit(yard, slot, i);
    }
}

void train_go(struct train_yard *yard)
{
    struct slot *slot = yard->filling;
    assert(slot != NULL && slot->count > 0);
    yard->filling = NULL;
    launch(yard, slot);
    io_uring_submit(yard->ring);
}

static void one_is_out(struct slot *slot)
{
    assert(slot->unsent > 0);
    if (--slot->unsent > 0)
        return;
    slot->busy = false;
    --*slot->under_way;
}

static void log_refusal(struct train_yard *yard, const struct slot *slot, int error, uint64_t now_ns)
{
    char address[SOCKET_TEXT_SIZE];
    uint64_t suppressed;
    struct log_limit *limit = error == EMSGSIZE ? &yard->too_long_limit : &yard->error_limit;
    if (!log_limit_pass(limit, now_ns, &suppressed))
        return;
    yard->failing = true;
    socket_address_text(yard->to, address);
    if (error == EMSGSIZE)
        log_error("to %s: a datagram of %d bytes (and IP and UDP headers) is larger than the MTU of the route; set mtu "
                  "in [link] to the interface's, or raise the interface's",
                  address, DATAGRAM_HEADER_SIZE + slot->symbol_size);
    else
        log_warning("to %s: sending fails, trying again: %s (%llu more of such)", address, strerror(error),
                    (unsigned long long)suppressed);
}

/* The path has no checksum offload or no room for segments (EIO, and EINVAL in older kernels). */
static bool is_about_segmentation(const struct slot *slot, int error)
{
    return slot->segmented && (error == EINVAL || error == EIO || error == EOPNOTSUPP);
}

/* An interface that changes may refuse a train that was made for what it was before, so that it is tried again. */
static void stop_segmentation(struct train_yard *yard, int error, uint64_t now_ns)
{
    if (yard->segment_again_s == 0)
        log_notice("this path can't segment UDP (%s): sending datagrams one by one, at a higher cost; trying again "
                   "from time to time",
                   strerror(error));
    yard->segment_again_s = yard->segment_again_s == 0 ? SEGMENT_AGAIN_MIN_S : 2 * yard->segment_again_s;
    if (yard->segment_again_s > SEGMENT_AGAIN_MAX_S)
        yard->segment_again_s = SEGMENT_AGAIN_MAX_S;
    yard->segment_again_ns = now_ns + yard->segment_again_s * CLOCK_SECOND_NS;
    yard->segmentation = false;
    yard->counters.segmentation_refused++;
}

static void refused(struct train_yard *yard, struct slot *slot, unsigned message, int error, uint64_t now_ns)
{
    if (is_about_segmentation(slot, error)) {
        if (yard->segmentation)
            stop_segmentation(yard, error, now_ns);
        launch(yard, slot);
        return;
    }
    unsigned back_off_ms = TOO_LONG_BACK_OFF_MS;
    if (error == EMSGSIZE) {
        yard->counters.message_too_long += slot->segmented ? slot->count : 1;
    } else {
        yard->counters.errors++;
        if (slot->failed == 0)
            yard->back_off_ms = yard->back_off_ms == 0 ? BACK_OFF_MIN_MS : 2 * yard->back_off_ms;
        if (yard->back_off_ms > BACK_OFF_MAX_MS)
            yard->back_off_ms = BACK_OFF_MAX_MS;
        back_off_ms = yard->back_off_ms;
    }
    yard->counters.last_errno = error;
    yard->counters.last_error_ns = now_ns;
    log_refusal(yard, slot, error, now_ns);
    if (slot->lossy) {
        one_is_out(slot);
        return;
    }
    slot->failed |= UINT64_C(1) << message;
    slot->retry_ns = now_ns + back_off_ms * CLOCK_MILLISECOND_NS;
}

void train_completed(struct train_yard *yard, uint64_t user_data, int result, uint64_t now_ns)
{
    struct slot *slot = &yard->slots[user_data >> SLOT_SHIFT];
    unsigned message = user_data & ((1u << SLOT_SHIFT) - 1);
    assert(slot->busy && message < slot->message_count);
    yard->submitted--;
    if (result == -ECANCELED) {
        one_is_out(slot);
        return;
    }
    if (result < 0) {
        refused(yard, slot, message, -result, now_ns);
        return;
    }
    unsigned datagrams = slot->segmented ? slot->count : 1;
    assert((size_t)result == (size_t)datagrams * (DATAGRAM_HEADER_SIZE + (size_t)slot->symbol_size));
    yard->back_off_ms = 0;
    if (yard->failing)
        log_notice("sending works again");
    yard->failing = false;
    if (slot->segmented && yard->segmentation && yard->segment_again_s != 0) {
        log_notice("this path segments UDP again");
        yard->segment_again_s = 0;
    }
    yard->counters.datagrams += datagrams;
    yard->counters.wire_bytes +=
        datagrams * (datagram_wire_bits(slot->symbol_size, socket_address_is_ipv6(yard->to)) / 8);
    one_is_out(slot);
}

void train_retry(struct train_yard *yard, uint64_t now_ns)
{
    bool any = false;
    if (!yard->segmentation && now_ns >= yard->segment_again_ns)
        yard->segmentation = true;
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *slot = &yard->slots[i];
        if (!slot->busy || slot->failed == 0 || slot->retry_ns > now_ns)
            continue;
        uint64_t failed = slot->failed;
        slot->failed = 0;
        for (unsigned message = 0; message < slot->message_count; message++)
            if ((failed >> message & 1) != 0)
                submit(yard, slot, message);
        any = true;
    }
    if (any)
        io_uring_submit(yard->ring);
}

uint64_t train_retry_ns(const struct train_yard *yard)
{
    uint64_t earliest_ns = UINT64_MAX;
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct slot *slot = &yard->slots[i];
        if (slot->busy && slot->failed != 0 && slot->retry_ns < earliest_ns)
            earliest_ns = slot->retry_ns;
    }
    return earliest_ns;
}

unsigned train_submitted(const struct train_yard *yard)
{
    return yard->submitted;
}

void train_counters(const struct train_yard *yard, struct train_counters *counters)
{
    *counters = yard->counters;
}
