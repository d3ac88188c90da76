// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_PROTO_LIMITS_H
#define DIODECAST_PROTO_LIMITS_H

#include <stdint.h>

/*
 * Every bound of the wire format. Both sides use this file, so that what the low side accepts the high
 * side accepts too. proto/README.md gives the reasons; a change here is a change of the wire format.
 */
enum {
    LIMIT_SOURCE_SYMBOLS = 200, /* k: largest number of source symbols in a block */
    LIMIT_REPAIR_SYMBOLS = 55,  /* r: largest number of repair symbols in a block */
    LIMIT_REPAIR_SYMBOLS_MIN = 4,
    LIMIT_SYMBOL_SIZE_MIN = 64,
    LIMIT_SYMBOL_SIZE = 9216,
    LIMIT_SYMBOL_ALIGNMENT = 16, /* a symbol size is a multiple of this */
    LIMIT_DEPTH = 4096,          /* blocks in one interleave group */
    LIMIT_LANES = 16,
    LIMIT_PATH_LENGTH = 4000,          /* bytes of a relative path inside a transfer */
    LIMIT_COMPONENT_LENGTH = 255,      /* bytes of one path component (NAME_MAX) */
    LIMIT_PATH_DEPTH = 128,            /* components in a path */
    LIMIT_CHANNEL_LENGTH = 64,         /* bytes of a channel name */
    LIMIT_DELIVERED_NAME_LENGTH = 200, /* bytes of NAME in intake/CHANNEL/SEQUENCE-SENDERID-NAME */
    LIMIT_USER_LENGTH = 64,            /* bytes of the origin user's name */
    LIMIT_REASON_LENGTH = 400,         /* bytes of the reason in an ABORT */
    LIMIT_LABELS = 64,
    LIMIT_LABEL_KEY_LENGTH = 64,     /* bytes */
    LIMIT_LABEL_VALUE_LENGTH = 1024, /* bytes */
    LIMIT_APPROVALS = 16,
    LIMIT_ANNOUNCED = 16,           /* transfers that one announce tells of */
    LIMIT_IN_FLIGHT = 16,           /* transfers listed in a heartbeat */
    LIMIT_HEALING_RANGES = 64,      /* sequence ranges listed in a heartbeat */
    LIMIT_ARTIFACTS = 1 << 20,      /* artifacts in one transfer */
    LIMIT_MANIFEST_SIZE = 64 << 20, /* bytes of a manifest's body */
    LIMIT_SIGNED_OVERHEAD = 1024,   /* bytes that the Signed envelope may add */
    LIMIT_ENTRIES = 1 << 21,        /* files, directories and symlinks in one statement */
    LIMIT_ENTRY_SIZE = 16384,       /* bytes of one encoded entry: path, target and room for fields to come */
    LIMIT_UNKNOWN_FIELDS = 64,      /* fields that a protobuf message may have beside those of diodecast.proto */
    LIMIT_COMMENT_LENGTH = 255,     /* bytes of a trusted comment */
    LIMIT_MESSAGE_SIZE = 9216,      /* bytes of an announce, abort or heartbeat body; a padded beat fills a symbol */
    CHUNK_SIZE = 4 << 20,           /* unit of hashing in the manifest and of replay */
    TRANSFER_ID_SIZE = 16,
    CHAIN_ID_SIZE = 16,
    SHA256_SIZE = 32,
    CHUNK_HASH_SIZE = 16,
};

#define LIMIT_SEQUENCE      UINT64_C(9999999999999999) /* 16 decimal digits, as in the names of delivered transfers */
#define LIMIT_TRANSFER_SIZE (UINT64_C(1) << 43) /* 8 TiB in one transfer: its chunk hashes fill half of a manifest */
#define LIMIT_ARTIFACT_SIZE LIMIT_TRANSFER_SIZE

_Static_assert(LIMIT_SOURCE_SYMBOLS + LIMIT_REPAIR_SYMBOLS <= 255,
               "an ESI is one byte and GF(2^8) has 255 non-zero elements");
_Static_assert(LIMIT_SYMBOL_SIZE % LIMIT_SYMBOL_ALIGNMENT == 0, "symbol sizes are aligned");
_Static_assert(LIMIT_SYMBOL_SIZE + 80 <= 9300, "a datagram fits a jumbo frame of the largest common MTU");
_Static_assert(LIMIT_TRANSFER_SIZE / CHUNK_SIZE * CHUNK_HASH_SIZE <= LIMIT_MANIFEST_SIZE / 2,
               "chunk hashes fit the manifest");
_Static_assert((int)LIMIT_MESSAGE_SIZE >= (int)LIMIT_SYMBOL_SIZE, "a heartbeat can be padded to fill any symbol");
_Static_assert(LIMIT_ENTRY_SIZE >= 2 * LIMIT_PATH_LENGTH + 256, "the longest legal symlink fits an entry");
_Static_assert((CHUNK_SIZE & (CHUNK_SIZE - 1)) == 0, "chunk arithmetic uses shifts");

#endif
