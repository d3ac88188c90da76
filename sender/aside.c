// SPDX-License-Identifier: Apache-2.0
#include "sender/aside.h"

#include <assert.h>
#include <stdlib.h>

enum {
    READS = 2,            /* under way */
    READ_SIZE = 256 << 10 /* of one that is only hashed */
};

struct aside {
    unsigned count, next;             /* under way; place of the next one that is only hashed */
    uint8_t places[READS][READ_SIZE]; /* taken in order, so that one of two is free when a read may start */
    uint8_t scratch[SCHEDULE_CLASS_COUNT][CHUNK_SIZE]; /* takes memory only where a class has been in use */
};

struct aside *aside_create(void)
{
    struct aside *aside = calloc(1, sizeof *aside);
    assert(aside != NULL);
    return aside;
}

void aside_destroy(struct aside *aside)
{
    free(aside);
}

uint8_t *aside_scratch(struct aside *aside, enum schedule_class class)
{
    return aside->scratch[class];
}

static bool has_room(const struct aside *aside, const struct fetch *fetch)
{
    return aside->count < READS && fetch_has_room(fetch, false);
}

static void start(struct aside *aside, struct fetch *fetch, const struct fetch_piece *piece)
{
    aside->count++;
    fetch_start(fetch, piece);
}

static bool catch_up(struct aside *aside, struct fetch *fetch, struct reading *reading, bool *is_short)
{
    bool progress = false;
    struct frame_data data;
    while (reading_catches_up(reading)) {
        struct fetch_piece piece = {.owner = reading};
        if (!has_room(aside, fetch))
            return progress;
        enum reading_result result = reading_next(reading, &data, &piece.fd);
        if (result == READING_LATER) {
            *is_short = true;
            return progress;
        }
        if (result == READING_ENDED)
            break;
        piece.place = aside->places[aside->next++ % READS];
        piece.size = reading_catch_up_size(reading, READ_SIZE);
        piece.offset = data.offset;
        piece.last = reading_planned(reading, piece.size);
        start(aside, fetch, &piece);
        progress = true;
    }
    reading->item.state = SCHEDULE_READY;
    return true;
}

/* Goes on reading the chunk that is to be checked next. */
static bool check(struct aside *aside, struct fetch *fetch, struct reading *reading, bool *is_short)
{
    struct resend_read read;
    enum schedule_state before = reading->item.state;
    bool progress = false;
    for (;;) {
        switch (resend_next(reading->resend, &read)) {
        case RESEND_READ:
            reading->item.state = SCHEDULE_SOON;
            if (!has_room(aside, fetch))
                return progress;
            start(aside, fetch,
                  &(struct fetch_piece){
                      .owner = reading, .place = read.place, .offset = read.offset, .size = read.size, .fd = read.fd});
            resend_planned(reading->resend, read.size);
            progress = true;
            continue;
        case RESEND_WAIT:
            reading->item.state = SCHEDULE_SOON;
            return progress;
        case RESEND_LATER:
            *is_short = true;
            reading->item.state = SCHEDULE_LATER;
            return progress;
        case RESEND_DATA:
        case RESEND_ENDED:
            reading->item.state = SCHEDULE_READY;
            return progress || before != SCHEDULE_READY;
        }
    }
}

bool aside_read(struct aside *aside, struct fetch *fetch, struct reading *reading, bool *is_short)
{
    if (reading->resend != NULL)
        return check(aside, fetch, reading, is_short);
    return reading->item.state == SCHEDULE_LATER && catch_up(aside, fetch, reading, is_short);
}

bool aside_take(struct aside *aside, const struct fetch_piece *piece)
{
    struct reading *reading = piece->owner;
    if (piece->block != NULL)
        return false;
    assert(aside->count > 0);
    aside->count--;
    if (reading->resend != NULL)
        resend_take(reading->resend, piece->size, piece->error);
    return true;
}
