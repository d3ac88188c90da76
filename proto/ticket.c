// SPDX-License-Identifier: Apache-2.0
#include "proto/ticket.h"

#include <assert.h>
#include <string.h>

/*
 * Layout, a character being five bits: version and kind (1), chain tag (6), numbers, checksum (6). A number has four
 * bits a character, most significant first, and a fifth that says whether another character follows. The checksum is
 * Bech32m's (BIP 173 for alphabet and polynomial, BIP 350 for the constant) with a human-readable part of our own, so
 * that no ticket is an address of something else.
 */
enum {
    VERSION = 1,
    KIND_BITS = 3, /* the other two bits of the first character are the version */
    TAG_CHARACTERS = TICKET_CHAIN_BITS / 5,
    CHECKSUM_CHARACTERS = 6,
    HEAD_CHARACTERS = 1 + TAG_CHARACTERS,
    CHARACTERS_MIN = HEAD_CHARACTERS + 1 + CHECKSUM_CHARACTERS,
    NUMBER_BITS = 4,
    NUMBER_MORE = 1 << NUMBER_BITS,
    SEQUENCE_CHARACTERS = 14, /* of LIMIT_SEQUENCE */
    CHUNK_CHARACTERS = 6,     /* of the highest number of a chunk */
    CHARACTERS_MAX = HEAD_CHARACTERS + SEQUENCE_CHARACTERS + 2 * TICKET_RANGES * CHUNK_CHARACTERS + CHECKSUM_CHARACTERS,
    GROUP = 4, /* characters between dashes */
};

/* The kinds as they are written: a single transfer is one of its own, so that it needs no second number. */
enum written_kind { WRITTEN_ONE, WRITTEN_SEQUENCES, WRITTEN_MANIFEST, WRITTEN_CHUNKS, WRITTEN_COUNT };

#define CHUNKS_LIMIT (LIMIT_TRANSFER_SIZE / CHUNK_SIZE + LIMIT_ARTIFACTS)

_Static_assert(TICKET_CHAIN_BITS % 5 == 0, "the chain tag fills its characters");
_Static_assert(LIMIT_SEQUENCE >> (NUMBER_BITS * SEQUENCE_CHARACTERS) == 0, "a sequence fits its characters");
_Static_assert((CHUNKS_LIMIT - 1) >> (NUMBER_BITS * CHUNK_CHARACTERS) == 0, "a chunk number fits its characters");
_Static_assert(CHARACTERS_MAX >= HEAD_CHARACTERS + 2 * SEQUENCE_CHARACTERS + CHECKSUM_CHARACTERS,
               "chunks make the longest ticket");
_Static_assert(CHARACTERS_MAX + (CHARACTERS_MAX - 1) / GROUP + 1 <= TICKET_TEXT_SIZE, "the longest text has its place");

static const char alphabet[] = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";

/* Values of 0 to 31, one a character. */
struct characters {
    uint8_t values[CHARACTERS_MAX];
    unsigned count;
};

static void put(struct characters *characters, unsigned value)
{
    assert(characters->count < CHARACTERS_MAX && value < 32);
    characters->values[characters->count++] = (uint8_t)value;
}

static void put_number(struct characters *characters, uint64_t number)
{
    unsigned shift = 0;
    while (number >> shift >= NUMBER_MORE)
        shift += NUMBER_BITS;
    for (; shift > 0; shift -= NUMBER_BITS)
        put(characters, NUMBER_MORE | (unsigned)(number >> shift & (NUMBER_MORE - 1)));
    put(characters, (unsigned)(number & (NUMBER_MORE - 1)));
}

/* One number at *next of those before `end`, in its shortest form and at most `limit`. */
static bool take_number(const uint8_t **next, const uint8_t *end, uint64_t limit, uint64_t *number)
{
    uint64_t value = 0;
    bool more = true;

    if (*next < end && **next == NUMBER_MORE)
        return false; /* a leading zero */
    while (more) {
        if (*next == end || value > limit >> NUMBER_BITS)
            return false;
        more = (**next & NUMBER_MORE) != 0;
        value = value << NUMBER_BITS | (**next & (NUMBER_MORE - 1));
        ++*next;
    }
    *number = value;
    return value <= limit;
}

static uint32_t polymod(uint32_t checksum, unsigned value)
{
    static const uint32_t generator[] = {0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3};
    uint32_t top = checksum >> 25;

    checksum = (checksum & 0x1ffffff) << 5 ^ value;
    for (unsigned bit = 0; bit < 5; bit++)
        if ((top >> bit & 1) != 0)
            checksum ^= generator[bit];
    return checksum;
}

/* The checksum of the first `count` values as 30 bits, which are appended five at a time. */
static uint32_t checksum_of(const uint8_t *values, unsigned count)
{
    static const char human_readable_part[] = "diodecast";
    const size_t length = sizeof human_readable_part - 1;
    uint32_t checksum = 1;

    for (size_t i = 0; i < length; i++)
        checksum = polymod(checksum, (unsigned)human_readable_part[i] >> 5);
    checksum = polymod(checksum, 0);
    for (size_t i = 0; i < length; i++)
        checksum = polymod(checksum, (unsigned)human_readable_part[i] & 31);
    for (unsigned i = 0; i < count; i++)
        checksum = polymod(checksum, values[i]);
    for (unsigned i = 0; i < CHECKSUM_CHARACTERS; i++)
        checksum = polymod(checksum, 0);
    return checksum ^ 0x2bc830a3;
}

static uint32_t chain_tag(const uint8_t chain_id[static CHAIN_ID_SIZE])
{
    uint32_t first =
        (uint32_t)chain_id[0] << 24 | (uint32_t)chain_id[1] << 16 | (uint32_t)chain_id[2] << 8 | chain_id[3];
    return first >> (32 - TICKET_CHAIN_BITS);
}

void ticket_init(struct ticket *ticket, enum ticket_kind kind, const uint8_t chain_id[static CHAIN_ID_SIZE],
                 uint64_t first_sequence, uint64_t last_sequence)
{
    assert(first_sequence >= 1 && first_sequence <= last_sequence && last_sequence <= LIMIT_SEQUENCE);
    assert(kind == TICKET_WHOLE || first_sequence == last_sequence);
    *ticket = (struct ticket){
        .kind = kind,
        .chain_tag = chain_tag(chain_id),
        .first_sequence = first_sequence,
        .last_sequence = last_sequence,
    };
}

void ticket_add_chunks(struct ticket *ticket, uint64_t first, uint64_t last)
{
    assert(ticket->kind == TICKET_CHUNKS && first <= last && last < CHUNKS_LIMIT);
    struct ticket_range *ranges = ticket->ranges;
    unsigned count = ticket->range_count;

    if (count > 0) {
        assert(first > ranges[count - 1].last);
        if (first == ranges[count - 1].last + 1) {
            ranges[count - 1].last = last;
            return;
        }
    }
    if (count < TICKET_RANGES) {
        ranges[ticket->range_count++] = (struct ticket_range){first, last};
        return;
    }
    uint64_t least = first - ranges[count - 1].last;
    unsigned left = count - 1; /* of the two that become one */
    for (unsigned i = 0; i + 1 < count; i++) {
        uint64_t distance = ranges[i + 1].first - ranges[i].last;
        if (distance < least) {
            least = distance;
            left = i;
        }
    }
    if (left == count - 1) {
        ranges[left].last = last;
        return;
    }
    ranges[left].last = ranges[left + 1].last;
    memmove(&ranges[left + 1], &ranges[left + 2], (count - left - 2) * sizeof ranges[0]);
    ranges[count - 1] = (struct ticket_range){first, last};
}

bool ticket_is_of_chain(const struct ticket *ticket, const uint8_t chain_id[static CHAIN_ID_SIZE])
{
    return ticket->chain_tag == chain_tag(chain_id);
}

static enum written_kind written_kind(const struct ticket *ticket)
{
    switch (ticket->kind) {
    case TICKET_WHOLE:
        return ticket->first_sequence == ticket->last_sequence ? WRITTEN_ONE : WRITTEN_SEQUENCES;
    case TICKET_MANIFEST:
        return WRITTEN_MANIFEST;
    case TICKET_CHUNKS:
        return WRITTEN_CHUNKS;
    }
    assert(!"a kind of ticket");
    return WRITTEN_COUNT;
}

/* All but the checksum. */
static void encode(const struct ticket *ticket, struct characters *characters)
{
    enum written_kind kind = written_kind(ticket);

    characters->count = 0;
    put(characters, VERSION << KIND_BITS | kind);
    for (unsigned shift = TICKET_CHAIN_BITS; shift > 0; shift -= 5)
        put(characters, ticket->chain_tag >> (shift - 5) & 31);
    put_number(characters, ticket->first_sequence);
    if (kind == WRITTEN_SEQUENCES)
        put_number(characters, ticket->last_sequence - ticket->first_sequence - 1);
    if (kind != WRITTEN_CHUNKS)
        return;
    assert(ticket->range_count >= 1 && ticket->range_count <= TICKET_RANGES);
    uint64_t lowest = 0; /* that the next range may begin with: one chunk at least lies between two */
    for (unsigned i = 0; i < ticket->range_count; i++) {
        put_number(characters, ticket->ranges[i].first - lowest);
        put_number(characters, ticket->ranges[i].last - ticket->ranges[i].first);
        lowest = ticket->ranges[i].last + 2;
    }
}

char *ticket_format(const struct ticket *ticket, char text[static TICKET_TEXT_SIZE])
{
    struct characters characters;
    char *out = text;

    encode(ticket, &characters);
    uint32_t checksum = checksum_of(characters.values, characters.count);
    for (unsigned i = 0; i < CHECKSUM_CHARACTERS; i++)
        put(&characters, checksum >> 5 * (CHECKSUM_CHARACTERS - 1 - i) & 31);
    for (unsigned i = 0; i < characters.count; i++) {
        if (i > 0 && i % GROUP == 0)
            *out++ = '-';
        *out++ = alphabet[characters.values[i]];
    }
    *out = '\0';
    return text;
}

/* The values of the text's characters. TICKET_CHARACTER also when it is written partly in lower case, or has a dash
 * where no group ends, or at some ends only. */
static enum ticket_problem read_characters(const char *text, struct characters *characters)
{
    const bool dashes = strchr(text, '-') != NULL;
    bool upper = false, lower = false;

    characters->count = 0;
    for (const char *next = text; *next != '\0'; next++) {
        if (characters->count == CHARACTERS_MAX)
            return TICKET_LENGTH;
        if (dashes && characters->count > 0 && characters->count % GROUP == 0) {
            if (*next != '-')
                return TICKET_CHARACTER;
            next++;
        }
        char character = *next;
        if (character >= 'a' && character <= 'z') {
            lower = true;
            character = (char)(character - 'a' + 'A');
        } else if (character >= 'A' && character <= 'Z') {
            upper = true;
        }
        const char *found = character == '\0' ? NULL : strchr(alphabet, character);
        if (found == NULL || (upper && lower))
            return TICKET_CHARACTER;
        put(characters, (unsigned)(found - alphabet));
    }
    return characters->count < CHARACTERS_MIN ? TICKET_LENGTH : TICKET_GOOD;
}

static bool take_ranges(const uint8_t **next, const uint8_t *end, struct ticket *ticket)
{
    uint64_t lowest = 0;

    do {
        uint64_t gap, extra;
        if (ticket->range_count == TICKET_RANGES || lowest >= CHUNKS_LIMIT ||
            !take_number(next, end, CHUNKS_LIMIT - 1 - lowest, &gap) ||
            !take_number(next, end, CHUNKS_LIMIT - 1 - lowest - gap, &extra))
            return false;
        ticket->ranges[ticket->range_count++] = (struct ticket_range){lowest + gap, lowest + gap + extra};
        lowest += gap + extra + 2;
    } while (*next < end);
    return true;
}

/* What stands between the first character and the checksum. */
static bool take_body(const uint8_t *next, const uint8_t *end, enum written_kind kind, struct ticket *ticket)
{
    static const enum ticket_kind kinds[WRITTEN_COUNT] = {TICKET_WHOLE, TICKET_WHOLE, TICKET_MANIFEST, TICKET_CHUNKS};

    if (kind >= WRITTEN_COUNT)
        return false;
    ticket->kind = kinds[kind];
    for (unsigned i = 0; i < TAG_CHARACTERS; i++)
        ticket->chain_tag = ticket->chain_tag << 5 | *next++;
    if (!take_number(&next, end, LIMIT_SEQUENCE, &ticket->first_sequence) || ticket->first_sequence == 0)
        return false;
    ticket->last_sequence = ticket->first_sequence;
    if (kind == WRITTEN_SEQUENCES) {
        uint64_t further;
        if (ticket->first_sequence == LIMIT_SEQUENCE ||
            !take_number(&next, end, LIMIT_SEQUENCE - ticket->first_sequence - 1, &further))
            return false;
        ticket->last_sequence = ticket->first_sequence + 1 + further;
    }
    return (kind != WRITTEN_CHUNKS || take_ranges(&next, end, ticket)) && next == end;
}

enum ticket_problem ticket_parse(const char *text, struct ticket *ticket)
{
    struct characters characters, again;
    *ticket = (struct ticket){0};

    enum ticket_problem problem = read_characters(text, &characters);
    if (problem != TICKET_GOOD)
        return problem;
    unsigned count = characters.count - CHECKSUM_CHARACTERS;
    uint32_t checksum = 0;
    for (unsigned i = count; i < characters.count; i++)
        checksum = checksum << 5 | characters.values[i];
    if (checksum != checksum_of(characters.values, count))
        return TICKET_CHECKSUM;
    if (characters.values[0] >> KIND_BITS != VERSION)
        return TICKET_VERSION;
    enum written_kind kind = characters.values[0] & ((1U << KIND_BITS) - 1);
    if (!take_body(characters.values + 1, characters.values + count, kind, ticket))
        return TICKET_MALFORMED;
    /* The reader above takes nothing but what the writer makes; that no bit is free shall not hang on the two alone. */
    encode(ticket, &again);
    return again.count == count && memcmp(again.values, characters.values, count) == 0 ? TICKET_GOOD : TICKET_MALFORMED;
}

const char *ticket_problem_text(enum ticket_problem problem)
{
    switch (problem) {
    case TICKET_GOOD:
        return "is right";
    case TICKET_CHARACTER:
        return "has a character that does not belong there: tickets have no B, I, O and 1, one dash after each four "
               "characters or none at all, and are all in upper or all in lower case";
    case TICKET_LENGTH:
        return "is too short or too long for a ticket; is a part of it missing?";
    case TICKET_CHECKSUM:
        return "is mistyped: its checksum does not match";
    case TICKET_VERSION:
        return "was made by another version of diodecast than this one can read; upgrade this side";
    case TICKET_MALFORMED:
        return "is no ticket that diodecast makes, though its checksum is right; where does it come from?";
    }
    assert(!"a problem of a ticket");
    return "";
}

unsigned ticket_payload_bits(const struct ticket *ticket)
{
    struct characters characters;

    encode(ticket, &characters);
    return 5 * (characters.count - 1);
}
