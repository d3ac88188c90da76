// SPDX-License-Identifier: Apache-2.0
#include "common/sandbox.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/log.h"
#include "common/sandbox_private.h"
#include "common/sanitized.h"

static atomic_bool entered, limit_failed;

/* What libraries load at their first use, from places that are out of reach afterwards. */
static void warm_up(void)
{
    uint8_t digest[DIGEST_SIZE];
    digest_once("", 0, digest);
    (void)getpwuid(geteuid());
    (void)getgrgid(getegid());
}

static enum status fail(const char *what)
{
    int error = errno;
    log_error("sandbox: %s: %s; set sandbox = off to run without", what, strerror(error));
    return status_from_errno(error);
}

enum status sandbox_enter(enum sandbox_role role, const struct sandbox_path paths[], size_t count)
{
    assert(!atomic_load(&entered));
    warm_up();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) != 0)
        return fail("new privileges can't be ruled out");
    sandbox_capabilities_choose(role);
    if (!SANITIZED) {
        if (prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L) != 0)
            return fail("dumps can't be ruled out");
        enum status status = sandbox_landlock_confine(paths, count);
        if (status != STATUS_OK)
            return status;
    }
    atomic_store(&entered, true);
    return STATUS_OK;
}

static void limit(bool starter)
{
    if (atomic_load(&entered) && !sandbox_capabilities_limit(starter))
        atomic_store(&limit_failed, true);
}

void sandbox_limit_thread(void)
{
    limit(false);
}

void sandbox_limit_starter(void)
{
    limit(true);
}

enum status sandbox_seal(enum sandbox_role role)
{
    assert(atomic_load(&entered));
    sandbox_limit_thread();
    if (atomic_load(&limit_failed))
        return fail("capabilities can't be given up");
    if (SANITIZED) {
        log_notice("sandbox: a build with sanitizers has neither Landlock nor seccomp");
        return STATUS_OK;
    }
    enum status status = sandbox_seccomp_load(role);
    if (status != STATUS_OK)
        return status;
    const char *works = sandbox_proof_find();
    if (works == NULL)
        return STATUS_OK;
    log_error(
        "sandbox: %s is forbidden, and works nevertheless; refusing to run: set sandbox = off only after you know "
        "why",
        works);
    return STATUS_DENIED;
}

bool sandbox_is_on(void)
{
    return atomic_load(&entered);
}

void sandbox_tell_off(void)
{
    log_warning("sandbox = off: whoever takes this process over can do whatever its user may; leave that key out");
}
