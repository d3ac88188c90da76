// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_PUBLISH_H
#define DIODECAST_RECEIVER_PUBLISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/audit.h"
#include "common/mailbox.h"
#include "common/status.h"
#include "receiver/assembly.h"
#include "receiver/held.h"
#include "receiver/intake.h"
#include "receiver/knowledge.h"
#include "receiver/ledger.h"
#include "receiver/ledger_held.h"
#include "receiver/verify.h"
#include "receiver/vigil.h"

/*
 * The publish stage: whatever takes long on the disk, off the hot path. A transfer with nothing missing is verified,
 * built as a tree, flushed, recorded as an intent, renamed into its channel, and recorded as delivered; a crash between
 * any two of these ends in exactly one delivery (recover.h). Transfers that are ready at the same time share system
 * calls and transactions. One thread, and a second one for transfers of which much has to be read again, so that a
 * large model does not hold up a small wheel.
 */
struct publish;
struct acceptance;
struct inspection;

enum publish_kind {
    PUBLISH_TRANSFER,
    PUBLISH_INTERRUPTED, /* the stage's own: a delivery of an earlier run that the start could not finish */
    PUBLISH_REMOVE,      /* .staging/TRASH */
    PUBLISH_CHAIN,       /* ledger_store_chain() */
    PUBLISH_RECORD,      /* whatever else is to be made durable: job->record() */
    PUBLISH_QUARANTINE,  /* quarantine_keep() */
    PUBLISH_INSPECTION,  /* inspection_run() */
};

enum publish_outcome {
    PUBLISH_DELIVERED,
    PUBLISH_HELD,    /* as delivered, but into the quarantine; held->kept says what of it */
    PUBLISH_DAMAGED, /* report.ranges are missing again */
    PUBLISH_FAILED,  /* the staged bytes are of no use any more */
    PUBLISH_STOPPED, /* the program ends */
};

/* Malloc'ed. A transfer's job (of one that was interrupted in an earlier run and is delivered now too: without
 * assembly), and one with `acceptance` or `inspection`, goes back to the poster's mailbox; the others are freed once
 * done. */
struct publish_job {
    struct mailbox_entry entry; /* first member */
    enum publish_kind kind;
    uint32_t sender_id;
    uint8_t id[TRANSFER_ID_SIZE];

    struct assembly *assembly;            /* TRANSFER: the stage's until the job is back */
    struct ledger_held *held;             /* malloc'ed when the policy holds it back, freed with the job; else NULL */
    char trash[INTAKE_STAGING_NAME_SIZE]; /* REMOVE */
    struct ledger_chain chain;            /* CHAIN */
    /* RECORD: called by the publish thread; a failure without `acceptance` is tried again later. */
    enum status (*record)(struct publish_job *job, struct ledger *ledger);
    struct knowledge_alarm alarm;
    struct vigil_beat beat;
    struct acceptance *acceptance; /* acceptance.h; the poster's again when the job is back */
    enum status recorded;          /* what the call returned */
    struct inspection *inspection; /* INSPECTION: inspection.h; likewise the poster's again */
    char reason[256];              /* QUARANTINE */
    uint8_t *bytes;                /* malloc'ed, freed with the job */
    size_t size;

    /* What became of a transfer. */
    enum publish_outcome outcome;
    int error; /* FAILED: errno of the disk, which is to be told; 0: it was not the disk's */
    struct ledger_delivery delivery;
    struct verify_report report; /* ranges are freed with the job */

    /* The stage's own. */
    bool checked;  /* report is filled */
    bool judged;   /* by the policy: `held` tells */
    bool intended; /* the ledger may hold the intent: after a crash the tree in .staging would be delivered as it is */
    bool renamed;  /* only the record of the delivery is left to do */
    bool attested; /* the audit log says VERIFIED */
    bool audited;  /* and DELIVERED */
    bool told;     /* why it waits was logged */
    struct publish_job *next;
};

struct publish_job *publish_job_create(enum publish_kind kind, uint32_t sender_id,
                                       const uint8_t id[static TRANSFER_ID_SIZE]);
void publish_job_destroy(struct publish_job *job);

/* What the status file tells of this stage. */
struct publish_facts {
    uint64_t free_bytes; /* of the intake's file system */
    uint64_t backlog_count, backlog_bytes;
    unsigned waiting; /* verified transfers that could not be published yet */
    bool waiting_for_space;
    bool ledger_failed;
    bool audit_failed;
    char problem[512]; /* why the last of them waits */
    struct held_facts held;
};

/* `intake`, `ledger`, `audit` (NULL: nothing is recorded) and `results` are borrowed; intake->quarantine_fd too. `hold`
 * says which transfers are held back (NULL: none), and is borrowed for the call. */
MUST_CHECK enum status publish_start(const struct intake *intake, struct ledger *ledger, struct audit *audit,
                                     const struct held_setup *hold, struct mailbox *results, struct publish **publish);
/* Rate of long verifications, in bytes a second; 0: no limit. Before the first post. */
void publish_set_recheck(struct publish *publish, uint64_t bytes_per_s);
void publish_post(struct publish *publish, struct publish_job *job);
void publish_facts(struct publish *publish, struct publish_facts *facts); /* any thread */
/* Bytes of refused manifests that were posted and are not yet kept: the poster's bound. Any thread. */
size_t publish_quarantine_bytes(const struct publish *publish);
/* Finishes what was posted, except for long verifications, and ends the threads; all results are in the mailbox then.
 * Frees; NULL allowed. */
void publish_stop(struct publish *publish);

#endif
